"""Which of a paper's rows each of our decoders stands beside."""

from __future__ import annotations

from typing import Any

import pytest

from specbench_s2d.analysis.compare.paper_methods import (
    decoders_of,
    exits_by_place,
    is_over_sd,
    methods_of,
    other_settings,
    sd_for,
    wanted,
    why_no_method,
)
from specbench_s2d.paper_names import paper_methods
from specbench_s2d.published import published
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded
from tests.analysis.report.grid import grid_run

DEMO = decoders_of(grid_run(1, targets=["demo-s"]))
S2D = "S2D SoFT 6,9,12"


def lane(label: str, model: str, depths: list[int] | None = None, **options: Any) -> Record:
    return decoded(label, 1, [(1, 1, 2)], decode_s=1, draft=model, exit_depths=depths or [], decoder_options=options)


@pytest.mark.parametrize(
    ("label", "methods"),
    [
        ("sd", ["SD SFT L12"]),
        ("sd:draft=demo-draft-sft,exit=2", ["SD SFT early-exit L6"]),
        ("sd:draft=demo-draft-sft,exit=3", ["SD SFT early-exit L9"]),
        ("sd:exit=2", ["SD SoFT L6"]),
        ("sd:exit=3", ["SD SoFT L9"]),
        ("sd:exit=4", ["SD SoFT L12"]),
        ("sd:draft=demo-tiny", []),
        ("s2d", [S2D, f"{S2D} thresholds 0.5,0.5,0"]),
        ("s2d:thresholds=0.75+0.7+0", [f"{S2D} thresholds 0.75,0.7,0"]),
        ("s2d:thresholds=0.9+0.85+0", [f"{S2D} thresholds 0.9,0.85,0"]),
        ("s2d-tree", []),
        ("s2d-auto", []),
        ("ar", []),
    ],
)
def test_the_demo_grid_stands_beside_the_paper_s_grid(label: str, methods: list[str]) -> None:
    assert methods_of("s2d", DEMO[label]) == methods
    assert set(methods) <= set(published("s2d")["method"])


def test_the_papers_own_models_keep_their_exits() -> None:
    soft = "parsakaveh/SD2-SoFT-Draft"
    records = [
        ar(1, 3, decode_s=1),
        lane("sd:a", soft, draft=soft, exit=6, gamma="heuristic"),
        lane("sd:b", "double7/vicuna-160m", draft="double7/vicuna-160m", gamma="heuristic"),
        lane("s2d:c", soft, [6, 9, 12], draft=soft, exits=[6, 9, 12], thresholds=[0.5, 0.5, 0.0]),
    ]
    found = {label: methods_of("s2d", part) for label, part in decoders_of(records).items()}
    assert found["sd:a"] == ["SD SoFT L6"]
    assert found["sd:b"] == ["SD vicuna-160m"]
    assert found["s2d:c"][0] == S2D


@pytest.mark.parametrize("draft", ["double7/vicuna-160m", "shape:vicuna-160m"])
def test_the_unrelated_draft_is_the_paper_s_own_and_no_other_small_model(draft: str) -> None:
    assert methods_of("s2d", decoders_of([lane("sd", draft)])["sd"]) == ["SD vicuna-160m"]
    for other in ("demo-tiny", "double7/vicuna-68m", "double7/vicuna-160m-v2"):
        assert methods_of("s2d", decoders_of([lane("sd", other)])["sd"]) == []


def test_an_exit_without_a_counterpart_has_no_row() -> None:
    """Two exits are not three: which of the paper's the first stands for cannot be told."""
    records = [lane("sd:exit=2", "demo-draft", exit=2), lane("sd:exit=4", "demo-draft", exit=4)]
    assert [methods_of("s2d", part) for part in decoders_of(records).values()] == [[], []]


def test_other_papers() -> None:
    tree = lane("s2d-tree", "demo-draft", depth=4, topk=10, tokens=60)
    small = lane("s2d-tree", "demo-draft", depth=3, topk=10, tokens=60)
    assert methods_of("sd2", decoders_of([tree])["s2d-tree"])[0] in set(published("sd2")["method"])
    assert methods_of("sd2", decoders_of([small])["s2d-tree"]) == []
    sps = lane("sd:gamma=heuristic", "double7/vicuna-68m", gamma="heuristic")
    assert methods_of("spec-bench", decoders_of([sps])["sd:gamma=heuristic"]) == ["SpS"]
    assert other_settings("spec-bench", decoders_of([sps])["sd:gamma=heuristic"], "SpS") == {}
    assert methods_of("mjsd", decoders_of([sps])["sd:gamma=heuristic"]) == []


@pytest.mark.parametrize(
    ("label", "options", "methods"),
    [
        ("sd", {"gamma": 5, "exit": None}, ["SpS"]),
        ("sd:exit=2", {"gamma": 5, "exit": 2}, []),
        ("eagle2", {}, ["EAGLE2"]),
        ("eagle-float16", {}, []),
        ("mjsd", {"gamma": 4}, []),
    ],
    ids=["at any gamma", "not at an exit", "imported under the method's name", "or not", "another"],
)
def test_what_stands_beside_the_leaderboard(label: str, options: dict[str, Any], methods: list[str]) -> None:
    part = decoders_of([lane(label, "double7/vicuna-68m", **options)])[label]
    assert methods_of("spec-bench", part) == methods
    assert other_settings("spec-bench", part, "SpS") == ({"gamma": "heuristic"} if label.startswith("sd") else {})


PLD = {"max_ngram": 3, "match": "first", "gamma": 10}
SUFFIX = {"min_match": 2, "max_match": 16, "min_share": 0.3, "factor": 2.0, "gamma": 16}


@pytest.mark.parametrize(
    ("label", "options", "method", "other"),
    [
        ("lookup", PLD, "PLD", {}),
        (
            "lookup:gamma=auto,match=last",
            {**PLD, "gamma": "auto", "match": "last"},
            "PLD",
            {"match": "first", "gamma": "10"},
        ),
        ("lookup", {}, "PLD", {}),
        ("recycling:scope=run", {"scope": "run", "tokens": 80}, "Recycling", {}),
        ("recycling", {"scope": "question", "tokens": 80}, "Recycling", {"scope": "run"}),
        ("suffix", {**SUFFIX, "datastore": None}, None, {}),
        ("suffix:datastore=a.txt", {**SUFFIX, "datastore": "a.txt"}, "REST", {}),
        (
            "suffix:datastore=a.txt,max_match=64",
            {**SUFFIX, "datastore": "a", "max_match": 64},
            "REST",
            {"max_match": "16"},
        ),
    ],
)
def test_what_needs_no_weights_stands_beside_the_leaderboard(
    label: str, options: dict[str, Any], method: str | None, other: dict[str, str]
) -> None:
    facts = decoders_of([decoded(label, 1, [(1, 1, 2)], decode_s=1, decoder_options=options)])[label]
    assert methods_of("spec-bench", facts) == ([method] if method else [])
    assert [other_settings("spec-bench", facts, name) for name in ([method] if method else [])] == (
        [other] if method else []
    )


TREE = {"gamma": None, "depth": 6, "topk": 10, "tokens": 60}


@pytest.mark.parametrize(
    ("label", "kind", "options", "method", "other"),
    [
        ("eagle:gamma=4", "eagle", {**TREE, "gamma": 4}, "EAGLE", {}),
        ("eagle", "eagle", TREE, "EAGLE2", {"tokens": "59"}),
        ("eagle:tokens=59", "eagle", {**TREE, "tokens": 59}, "EAGLE2", {}),
        ("eagle:tokens=59", "eagle3", {**TREE, "tokens": 59}, "EAGLE3", {}),
        ("eagle:gamma=4", "eagle3", {**TREE, "gamma": 4}, "EAGLE3", {"gamma": "None", "tokens": "59"}),
        ("medusa", "medusa", {"any": 1}, "Medusa", {}),
        ("first(suffix|eagle)", "eagle", {"draft": None}, "SAMD[EAGLE2]", {}),
    ],
)
def test_draft_heads_stand_beside_the_leaderboard_by_their_kind(
    label: str, kind: str, options: dict[str, Any], method: str, other: dict[str, str]
) -> None:
    facts = decoders_of([lane(label, "head", **options)], {"head": kind})[label]
    assert methods_of("spec-bench", facts) == [method]
    assert other_settings("spec-bench", facts, method) == other
    assert method in set(published("spec-bench")["method"])


def test_an_imported_run_of_heads_goes_by_the_method_s_name() -> None:
    for label, method in (("eagle", "EAGLE"), ("medusa", "Medusa"), ("eagle3", "EAGLE3")):
        facts = decoders_of([decoded(label, 1, [(1, 1, 2)], decode_s=1)])[label]
        assert methods_of("spec-bench", facts) == [method]


def test_what_stands_for_no_method_says_why() -> None:
    records = [lane("eagle", "old-head", **TREE), lane("sd", "mine", gamma=5), lane("s2d", "mine", gamma=5),
               lane("suffix", "none", datastore=None)]  # fmt: skip
    found = decoders_of(records, {})
    assert [methods_of("spec-bench", facts) for facts in found.values()] == [[], [], [], []]
    assert {label: why_no_method("spec-bench", facts) for label, facts in found.items()} == {
        "eagle": "the run's manifest does not say what kind of draft head old-head is",
        "sd": "SpS is sd with double7/vicuna-68m",
        "s2d": "the paper has no such method",
        "suffix": "REST is suffix with a datastore",
    }


@pytest.mark.parametrize(
    ("options", "stands"),
    [
        ({"tau": 0.1, "gamma": 4, "candidates": 1, "exit": None}, True),
        ({"tau": 0.9, "gamma": 7, "beams": 2, "candidates": 1}, True),
        ({"tau": 0.5, "gamma": 4, "candidates": 4}, False),
        ({"tau": 0.5, "gamma": 4, "candidates": 1, "exit": 2}, False),
    ],
    ids=["tau", "gamma and beams", "candidates", "an exit"],
)
def test_mjsd_at_any_tau_stands_for_the_papers(options: dict[str, Any], stands: bool) -> None:
    part = decoders_of([lane("mjsd", "d", **options)])["mjsd"]
    for paper in ("mjsd", "mtad"):
        assert set(methods_of(paper, part)) == (set(published(paper)["method"]) if stands else set())
    assert methods_of("s2d", part) == []


def test_mjsd_is_set_over_sd_of_its_draft_and_gamma() -> None:
    records = [
        lane("sd", "a", gamma=5, exit=None, draft=None),
        lane("sd:exit=2", "n", gamma=4, exit=2, draft=None),
        lane("sd:draft=b,gamma=4", "b", gamma=4, exit=None, draft="b"),
        lane("mjsd", "a", gamma=4, exit=None, draft=None),
        lane("mjsd:draft=b", "b", gamma=4, exit=None, draft="b"),
    ]
    found = decoders_of(records)
    assert sd_for("mjsd:draft=b", found) == "sd:draft=b,gamma=4"
    assert sd_for("mjsd", found) == "sd"
    four = {**found, **decoders_of([lane("sd:gamma=4", "a", gamma=4, exit=None, draft=None)])}
    assert sd_for("mjsd", four) == "sd:gamma=4"
    assert sd_for("mjsd", {"mjsd": found["mjsd"], "sd:exit=2": found["sd:exit=2"]}) is None
    assert [is_over_sd(name) for name in ("MJSD vs vanilla SD", "MJSD vs greedy autoregressive")] == [True, False]


def test_every_method_that_the_table_states_is_one_that_the_paper_prints() -> None:
    for paper in ("s2d", "sd2", "spec-bench", "mjsd", "mtad"):
        assert {m.method for m in paper_methods(paper)} <= set(published(paper)["method"])
    assert wanted("spec-bench").split(", ") == [
        "sd with double7/vicuna-68m", "lookup", "recycling", "suffix with a datastore",
        "eagle with a draft head (eagle) with a gamma", "eagle with a draft head (eagle)",
        "eagle with a draft head (eagle3)", "medusa with a draft head (medusa)",
        "first(suffix|eagle) with a draft head (eagle)",
    ]  # fmt: skip
    assert wanted("mtad") == "mjsd"


def test_exits_of_other_depths_are_named_with_those_they_stand_for() -> None:
    assert exits_by_place(grid_run(1, targets=["demo-s"])) == {2: 6, 3: 9, 4: 12}
    assert exits_by_place([lane("s2d", "d", [6, 9, 12])]) == {}
