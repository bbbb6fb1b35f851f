"""The leaderboard's shape, its marks, and LaTeX that prints any label."""

from __future__ import annotations

import re

import pandas as pd

from specbench_s2d.analysis.tables.summary import summary_table
from specbench_s2d.exchange.leaderboard import boards, latex, markdown
from specbench_s2d.runs.record import Record
from tests.analysis.factory import decoded, paper_run

# On the paper run (sd at 5 times AR's decode rate, MAT 2.4): a lossy one at 10 times, and a slow lossless one.
RUN = [
    *paper_run(),
    *(decoded("mjsd:tau=0.5", i, [(5, 4, n - 1)], decode_s=s) for i, n, s in ((1, 5, 0.4), (2, 9, 1.6))),
    *(decoded("s2d_x", i, [(5, 4, n - 1)], decode_s=s) for i, n, s in ((1, 5, 8), (2, 9, 32))),
]
MANIFEST = {
    "identity": {"settings": {"temperature": 0.0, "dtype": "float32"}},
    "environment": {"gpu": {"name": None}, "cpu": {"model": "EPYC"}},
}


def table(records: list[Record] = RUN) -> str:
    return markdown(boards(summary_table(records), MANIFEST))


def test_the_columns_are_spec_benchs() -> None:
    assert table().splitlines()[2] == (
        "| Decoder | MT-bench | Translation | Summarization | QA | Math | RAG | #Mean Accepted Tokens | Overall |"
    )


def test_the_best_lossless_value_of_each_column_is_bold_and_no_lossy_one_is() -> None:
    assert "| ar | – | – | – | 1.00× | – | – | 1.00 | 1.00× |" in table()
    assert "| sd | – | – | – | **5.00×** | – | – | 2.40 | **5.00×** |" in table()
    assert "| s2d_x | – | – | – | 0.50× | – | – | **6.00** | 0.50× |" in table()
    assert "| mjsd:tau=0.5 † | – | – | – | 10.00× | – | – | 6.00 | 10.00× |" in table()


def test_nothing_is_bold_where_nothing_is_above_ar_and_ar_never_is() -> None:
    text = table([r for r in RUN if r.label in ("ar", "s2d_x")])
    assert "| ar | – | – | – | 1.00× | – | – | 1.00 | 1.00× |" in text
    assert "| s2d_x | – | – | – | 0.50× | – | – | **6.00** | 0.50× |" in text


def test_the_caption_says_on_what_and_how() -> None:
    assert (
        "t: speed-up, decode tokens/s over ar's on the same questions; device EPYC, dtype float32, temperature 0."
        in (table())
    )
    assert "† lossy" in table() and "† lossy" not in table(paper_run())
    bare = markdown(boards(summary_table(RUN), {}))
    assert "device not known, dtype not known, temperature not known" in bare


def test_a_step_of_several_passes_is_said_to_accept_nothing() -> None:
    block = decoded("mjgd", 1, [(0, 0, 3)], decode_s=1, target_passes=3)
    assert "Accepted by mjgd: nothing; the value is the length of a step" in table([*RUN, block])
    assert "Accepted by" not in table()


def test_a_run_without_decode_times_shows_the_speed_up_with_the_prefill() -> None:
    """14 tokens in 7 s beside 14 in 23 s."""
    text = table([r.model_copy(update={"decode_s": None}) for r in paper_run()])
    assert "| sd | – | – | – | **3.29×** | – | – | **2.40** | **3.29×** |" in text
    assert "with the prefill included over ar's" in text


def test_there_is_a_block_per_target() -> None:
    both = [*RUN, *(r.model_copy(update={"target": "u"}) for r in RUN)]
    assert [b.title for b in boards(summary_table(both), MANIFEST)] == ["t", "u", "mean over targets"]


def test_latex_has_booktabs_rules_and_nothing_raw() -> None:
    text = latex(boards(without_intervals(), MANIFEST, paper=True))
    assert r"s2d\_x & 0.50$\times$ & \textbf{6.00} & 0.50$\times$ \\" in text
    assert r"mjsd:tau=0.5 $^\dagger$ &" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\end{table*}") == 1
    assert "interval" not in text


def test_latex_leaves_out_columns_without_data() -> None:
    text = latex(boards(without_intervals(), MANIFEST, paper=True))
    assert r"Decoder & QA & \#Mean Accepted Tokens & Overall \\" in text
    assert r"\begin{tabular}{lrrr}" in text


def test_latex_sets_intervals_below_their_values_and_none_where_there_is_none() -> None:
    of_sd = without_intervals()["label"] == "sd"
    given = without_intervals().assign(speedup_low=3.0, speedup_high=7.25, mat_low=2.0, mat_high=2.5)
    given.loc[of_sd & (given["suite"] == "qa"), "speedup_low"] = None
    text = latex(boards(given, MANIFEST, paper=True))
    stacked = r"\shortstack[r]{\textbf{5.00$\times$} \\ {\scriptsize 3.00--7.25}}"
    mat = r"\shortstack[r]{2.40 \\ {\scriptsize 2.00--2.50}}"
    assert rf"sd & \textbf{{5.00$\times$}} & {mat} & {stacked} \\" in text
    assert r"ar & 1.00$\times$ & 1.00 & 1.00$\times$ \\" in text
    assert r"Below a value: its 95 \% interval, where it has one." in text
    balanced(text)


def test_each_latex_table_has_a_label_of_its_own() -> None:
    both = [*RUN, *(r.model_copy(update={"target": target}) for r in RUN for target in ("org/T", "org-T"))]
    text = latex(boards(summary_table(both), MANIFEST, paper=True))
    assert re.findall(r"\\label{(.*)}", text) == ["tab:t", "tab:org-t-2", "tab:org-t-3", "tab:mean-over-targets"]
    balanced(text)


def balanced(text: str) -> None:
    """Braces and environments close, dollars are paired, and nothing special stands unescaped."""
    bare = re.sub(r"\\[\\{}$%&#_]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert sorted(re.findall(r"\\begin{([a-z*]+)}", text)) == sorted(re.findall(r"\\end{([a-z*]+)}", text))
    body = "\n".join(line for line in bare.splitlines() if not line.startswith("%"))
    assert not re.search(r"[#~]|(?<!\$)\^|_", body)
    widths = {line.count("&") for line in bare.splitlines() if line.endswith(r"\\") or " & " in line}
    assert len(widths) == 1


def without_intervals() -> pd.DataFrame:
    found = summary_table(RUN)
    return found.assign(**{c: float("nan") for c in found if c.endswith(("_low", "_high"))})
