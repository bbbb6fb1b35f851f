"""Pictures of all methods at once: what stands in them is what stands in the tables."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from specbench_s2d.analysis.report.plots import tradeoffs as plots_methods
from specbench_s2d.analysis.report.plots.style import METHOD_COLOURS
from specbench_s2d.analysis.tables.series import PlotTables
from specbench_s2d.analysis.tables.summary import OVERALL, summary_table
from tests.analysis.factory import paper_run
from tests.analysis.report.joint import TAUS, joint_run, with_intervals

TARGETS = ("demo-s", "demo-l")
RUN = joint_run(1, targets=TARGETS)
TABLE = with_intervals(summary_table(RUN))
TABLES = PlotTables.of(RUN, TABLE)
SWEEPS = {"k": TABLES.by_k, "tau": TABLES.by_tau}
SMALL = TABLE[(TABLE["target"] == "demo-s") & (TABLE["suite"] == OVERALL)]


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    figure.draw_without_rendering()
    return figure


def test_equal_gamma_has_a_line_per_decoder_under_its_length() -> None:
    figure = drawn(plots_methods.mat_gamma(TABLES.equal_gamma))
    axes = figure.axes[0]
    assert [panel.get_title("left") for panel in figure.axes] == list(TARGETS)
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names[:2] == ["γ = 4", "beam+token"] and "mjsd:tau=0.1 †" in names
    assert set(names[names.index("γ = 5") + 1 :]) == {"sd", "s2d", "sd+joint †", "s2d+joint †"}
    rows = SMALL[SMALL["label"].isin(TABLES.equal_gamma["label"])].set_index("label")
    marked = [line for line in axes.lines if line.get_marker() not in ("", "None")]
    spots = {names[int(line.get_ydata()[0])].removesuffix(" †"): line.get_xdata()[0] for line in marked}
    assert spots == dict(rows["mat"])
    ends = {tuple(bar.get_segments()[0][:, 0]) for bar in axes.collections}
    assert ends == set(zip(rows["mat_low"], rows["mat_high"], strict=True))


def test_the_plane_has_a_cross_per_decoder_and_sweeps_joined_in_order() -> None:
    figure = drawn(plots_methods.speed_ppl(TABLE, SWEEPS))
    axes = figure.axes[0]
    marked = [line for line in axes.lines if line.get_marker() not in ("", "None")]
    assert {tuple(line.get_xydata()[0]) for line in marked} == set(
        zip(SMALL["speedup"], SMALL["perplexity"], strict=True)
    )
    assert len(axes.collections) == 2 * len(SMALL), "both intervals of every decoder"
    swept = TABLES.by_tau[(TABLES.by_tau["target"] == "demo-s") & (TABLES.by_tau["suite"] == OVERALL)]
    joined = [line.get_xydata().tolist() for line in axes.lines if len(line.get_xdata()) == len(TAUS)]
    assert joined == [swept[["speedup", "perplexity"]].to_numpy().tolist()]
    texts = [text.get_text() for text in axes.texts]
    assert {"k = 1", "k = 4", "τ = 0.1", "τ = 0.9", "better: faster →, lower perplexity ↓"} == set(texts)


def test_in_the_plane_a_sweep_is_one_entry_of_the_legend_and_ar_is_a_line() -> None:
    figure = drawn(plots_methods.speed_ppl(TABLE, SWEEPS))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names.count("mjsd †") == 1 and "mjsd:candidates=4 †" in names and "mjsd:tau=0.1 †" not in names
    looks = {(handle.get_color(), handle.get_marker()) for handle in figure.legends[0].legend_handles}
    assert len(looks) == len(names)
    alone = SMALL[SMALL["label"] == "ar"]["perplexity"].item()
    assert any(list(line.get_ydata()) == [alone, alone] for line in figure.axes[0].lines)


def test_methods_keep_their_colours() -> None:
    figure = drawn(plots_methods.speed_ppl(TABLE, SWEEPS))
    shown = dict(
        zip((t.get_text() for t in figure.legends[0].get_texts()), figure.legends[0].legend_handles, strict=True)
    )
    assert shown["sd"].get_color() == METHOD_COLOURS["sd"]
    assert shown["s2d-auto"].get_color() == METHOD_COLOURS["s2d"]
    assert shown["mjsd †"].get_markerfacecolor() == "white"


def test_energy_is_a_bar_per_decoder_with_ar_as_the_line() -> None:
    metered = TABLE.assign(energy_j_per_token=3 / TABLE["speedup"])
    axes = drawn(plots_methods.energy(metered)).axes[0]
    rows = SMALL.assign(energy_j_per_token=3 / SMALL["speedup"])
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(list(rows["energy_j_per_token"]))
    assert [bool(bar.get_hatch()) for bar in axes.patches] == list(rows["lossy"])
    assert axes.lines[0].get_xdata()[0] == 3
    assert axes.patches[0].get_facecolor()[:3] == to_rgba("black")[:3]


def test_nothing_metered_compared_or_shared_is_no_picture() -> None:
    table = summary_table(paper_run())
    assert plots_methods.energy(TABLE) is None
    assert plots_methods.mat_gamma(PlotTables.of(paper_run(), table).equal_gamma) is None
    assert plots_methods.speed_ppl(TABLE[~TABLE["lossy"]], {}) is None
    assert plots_methods.speed_ppl(TABLE.assign(perplexity=float("nan")), SWEEPS) is None


@pytest.mark.parametrize("end", ["_low", "_high"])
def test_what_has_no_interval_has_no_bar_and_no_cross(end: str) -> None:
    columns = [f"{column}{end}" for column in ("speedup", "perplexity", "mat")]
    plane = drawn(plots_methods.speed_ppl(TABLE.assign(**dict.fromkeys(columns)), SWEEPS))
    gamma = drawn(plots_methods.mat_gamma(TABLES.equal_gamma.assign(**dict.fromkeys(columns))))
    assert not any(axes.collections for figure in (plane, gamma) for axes in figure.axes)
    assert all("no intervals: too few questions" in figure.get_supxlabel() for figure in (plane, gamma))
