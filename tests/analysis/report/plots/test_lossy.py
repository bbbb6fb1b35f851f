"""What lossy decoders do to the text, over the tokens that they accept: what is drawn stands in the tables."""

from __future__ import annotations

from matplotlib.figure import Figure

from specbench_s2d.analysis.report.plots.lossy import lossy
from specbench_s2d.analysis.tables.series import PlotTables
from specbench_s2d.analysis.tables.summary import OVERALL, summary_table
from tests.analysis.report.joint import TAUS, joint_run, with_intervals

TARGETS = ("demo-s", "demo-l")
RUN = joint_run(1, targets=TARGETS)
TABLE = with_intervals(summary_table(RUN)).assign(distinct_2=lambda table: 1 / table["perplexity"])
TABLES = PlotTables.of(RUN, TABLE)
SWEEPS = {"k": TABLES.by_k, "tau": TABLES.by_tau}


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    figure.draw_without_rendering()
    return figure


def test_each_lossy_decoder_stands_at_its_accepted_length_in_every_panel() -> None:
    figure = drawn(lossy(TABLE, SWEEPS))
    titles = [axes.get_ylabel() for axes in figure.axes]
    assert titles == ["Perplexity", "ROUGE-L, summaries", "distinct-2"] * 2, "no answer has F1 here"
    rows = TABLE[(TABLE["target"] == "demo-s") & TABLE["lossy"]]
    overall = rows[rows["suite"] == OVERALL].set_index("label")
    summaries = rows[rows["suite"] == "summarization"].set_index("label")
    wanted = (overall["perplexity"], summaries["quality_rouge_l"], overall["distinct_2"])
    for axes, values in zip(figure.axes[:3], wanted, strict=True):
        marked = [line for line in axes.lines if line.get_marker() not in ("", "None")]
        assert {tuple(line.get_xydata()[0]) for line in marked} == {
            (overall["mat"][label], value) for label, value in values.items()
        }


def test_settings_of_one_decoder_are_joined_and_ar_is_a_line() -> None:
    axes = drawn(lossy(TABLE, SWEEPS)).axes[0]
    swept = TABLES.by_tau[(TABLES.by_tau["target"] == "demo-s") & (TABLES.by_tau["suite"] == OVERALL)]
    joined = [line.get_xydata().tolist() for line in axes.lines if len(line.get_xdata()) == len(TAUS)]
    assert joined == [swept[["mat", "perplexity"]].to_numpy().tolist()]
    alone = TABLE[(TABLE["label"] == "ar") & (TABLE["target"] == "demo-s") & (TABLE["suite"] == OVERALL)]
    assert any(list(line.get_ydata()) == [alone["perplexity"].item()] * 2 for line in axes.lines)


def test_fewer_than_two_lossy_decoders_are_no_picture() -> None:
    assert lossy(TABLE[~TABLE["lossy"]], {}) is None
    assert lossy(TABLE[~TABLE["lossy"] | (TABLE["label"] == "mjsd")], {}) is None
