"""The run files that ship with the package: found from anywhere by short name, and fit to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from specbench_s2d.analysis.compare.paper_methods import DecoderFacts, methods_of, other_settings
from specbench_s2d.bench.drafts import drafts_of, narrowed
from specbench_s2d.config import find_run_file, make_spec
from specbench_s2d.decoding.spec import parse_decoders
from specbench_s2d.errors import UserError
from specbench_s2d.resources import run_files
from tests.refusals import refused


def test_the_papers_and_the_demo_grid_are_there() -> None:
    names = ("s2d", "mjsd", "spec_bench")
    assert {f"{folder}/{name}" for folder in ("demo", "papers") for name in names} <= run_files().keys()


@pytest.mark.parametrize("given", ["demo/s2d", "demo/s2d.toml"])
def test_a_short_name_works_from_any_folder(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo" / "s2d").mkdir(parents=True)  # a folder of that name is in nobody's way
    assert find_run_file(Path(given)) == run_files()["demo/s2d"]
    assert make_spec(Path(given), {}).target == ["demo-s", "demo-m", "demo-l"]


def test_a_file_that_is_there_wins_over_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "s2d.toml").write_text('target = "demo-m"\n')
    assert make_spec(Path("demo/s2d.toml"), {}).target == ["demo-m"]


def test_a_folder_is_left_out_where_no_other_has_that_name() -> None:
    assert find_run_file(Path("smollm2")) == find_run_file(Path("smollm2.toml")) == run_files()["real/smollm2"]
    with refused(UserError, "s2d: no such run file.", "demo/s2d", "papers/s2d"):
        find_run_file(Path("s2d"))


def test_a_name_that_is_none_brings_the_nearest() -> None:
    with refused(UserError, "demo/sd2: no such run file.", "Did you mean 'demo/s2d'", "papers/s2d"):
        find_run_file(Path("demo/sd2"))


@pytest.mark.parametrize(
    ("given", "name"),
    [("Demo/S2D", "demo/s2d"), ("smollm2 s2d", "real/smollm2_s2d"), ("papers/spec-bench.toml", "papers/spec_bench")],
)
def test_a_name_is_taken_as_people_write_it(given: str, name: str) -> None:
    assert find_run_file(Path(given)) == run_files()[name]


@pytest.mark.parametrize("name", sorted(run_files()))
def test_a_shipped_file_is_a_run(name: str) -> None:
    spec = make_spec(Path(name), {}).resolved()
    assert spec.decoder[0] == "ar"
    assert len(spec.decoder) == len(set(spec.decoder))
    assert len(spec.suite) == 6


def test_the_demo_grid_is_the_one_that_the_paper_ran() -> None:
    spec = make_spec(Path("demo/s2d"), {}).resolved()
    assert (spec.questions, spec.limit, spec.max_new_tokens, spec.launches) == ("embedded", 5, 48, 3)
    assert len(spec.decoder) == 13


def test_the_joint_demo_grid_sweeps_k_and_tau_at_the_papers_gamma() -> None:
    specs = parse_decoders(make_spec(Path("demo/mjsd"), {}).resolved().decoder)
    options = [{"name": spec.name, **spec.options.model_dump()} for spec in specs]
    plain = [
        o
        for o in options
        if o["name"] == "mjsd" and (o["candidates"], o["draft_temperature"], o["exit"]) == (1, 0, None)
    ]
    assert [o["tau"] for o in plain] == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert [o["k"] for o in options if o["name"] == "mjgd"] == [1, 2, 3, 4]
    assert {o["gamma"] for o in options if "gamma" in o} == {4}


def test_the_papers_grid_has_the_papers_settings() -> None:
    spec = make_spec(Path("papers/s2d"), {}).resolved()
    assert (spec.questions, spec.max_new_tokens, len(spec.target)) == ("spec-bench", 1024, 3)
    chains = [text for text in spec.decoder if text.startswith(("sd:", "s2d:"))]
    assert len(chains) == 7 and all("gamma=heuristic" in text for text in chains)


def test_the_joint_papers_grid_has_its_pairs_its_settings_and_its_sweeps() -> None:
    spec = make_spec(Path("papers/mjsd"), {}).resolved()
    drafts = {target: drafts_of(target, spec) for target in spec.target}
    assert drafts == {
        "facebook/opt-13b": ["facebook/opt-125m"],
        "meta-llama/Llama-2-13b-hf": ["JackFram/llama-68m"],
        "meta-llama/Llama-3.1-8B": ["meta-llama/Llama-3.2-1B"],
        "meta-llama/Llama-3.1-8B-Instruct": ["meta-llama/Llama-3.2-1B-Instruct"],
    }
    assert (spec.questions, spec.max_new_tokens, spec.long_prompts) == ("spec-bench", 128, "truncate")
    options = [{"name": s.name, **s.options.model_dump()} for s in parse_decoders(spec.decoder)]
    assert [o["tau"] for o in options if o["name"] == "mjsd" and o["candidates"] == 1] == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert [o["k"] for o in options if o["name"] == "mjgd"] == [1, 2, 3, 4]
    assert {o["gamma"] for o in options if "gamma" in o} == {4}


@pytest.mark.parametrize("target", make_spec(Path("papers/mjsd"), {}).target)
def test_one_target_of_the_joint_papers_grid_at_a_time(target: str) -> None:
    file = Path("papers/mjsd")
    spec = make_spec(file, narrowed(file, {"target": [target]}))
    assert len(spec.draft) == len(drafts_of(target, spec)) == 1


def test_the_leaderboard_s_grid_has_the_settings_of_its_rows() -> None:
    spec = make_spec(Path("papers/spec_bench"), {}).resolved()
    sizes = ("7b", "13b", "33b")
    assert spec.target == [f"lmsys/vicuna-{size}-v1.3" for size in sizes]
    named = list(zip(spec.target, sizes, strict=True))
    eagle = [f"{target}=yuhuili/EAGLE-Vicuna-{size.upper()}-v1.3" for target, size in named]
    medusa = [f"{target}=FasterDecoding/medusa-vicuna-{size}-v1.3" for target, size in named]
    assert spec.draft == ["double7/vicuna-68m", *eagle, *medusa]
    assert (spec.questions, spec.max_new_tokens, spec.dtype, spec.temperature) == ("spec-bench", 1024, "float16", 0.0)
    facts = {
        s.label: DecoderFacts(
            s.name, "none", None, True, s.options.model_dump(), s.draft or s.kind.draft_kind, s.kind.draft_kind
        )
        for s in parse_decoders(spec.decoder)
    }
    methods = {label: methods_of("spec-bench", found) for label, found in facts.items()}
    assert sorted(m for listed in methods.values() for m in listed) == [
        "EAGLE", "EAGLE2", "Medusa", "PLD", "Recycling", "SAMD[EAGLE2]", "SpS",
    ]  # fmt: skip
    assert not any(other_settings("spec-bench", facts[label], m) for label, listed in methods.items() for m in listed)


def test_the_leaderboard_s_demo_grid_has_its_methods_and_s2d() -> None:
    spec = make_spec(Path("demo/spec_bench"), {}).resolved()
    assert (spec.questions, spec.limit, spec.max_new_tokens, spec.launches) == ("embedded", 5, 48, 3)
    assert {"lookup", "suffix", "recycling:scope=run", "s2d", "s2d-tree"} <= {
        s.label for s in parse_decoders(spec.decoder)
    }


@pytest.mark.parametrize("name", ["smollm2", "smollm2_s2d", "smollm2_mjsd"])
def test_the_real_grids_take_the_draft_that_ships_and_the_embedded_questions(name: str) -> None:
    spec = make_spec(Path(name), {}).resolved()
    assert (spec.target, spec.draft, spec.questions) == (["smollm2-135m"], [], "embedded")
    assert (spec.limit, spec.max_new_tokens, spec.launches) == (3 if name == "smollm2" else 8, 64, 3)
    assert not any("draft=" in text for text in spec.decoder)


def test_the_real_grid_has_every_family_and_the_small_vocabulary() -> None:
    specs = parse_decoders(make_spec(Path("smollm2"), {}).resolved().decoder)
    families = {"ar", "lookup", "suffix", "recycling", "sd", "s2d", "s2d-auto", "s2d-tree", "mjsd", "mjgd"}
    assert families <= {spec.name for spec in specs}
    assert {spec.options.tau for spec in specs if spec.name == "mjsd"} == {0.1, 0.5, 0.9}  # type: ignore[attr-defined]
    assert {"sd", "s2d-auto", "s2d-tree", "mjsd"} <= {spec.name for spec in specs if "=4096" in spec.label}


def test_the_papers_grids_on_real_text_have_their_sweeps() -> None:
    sweeps = {
        name: parse_decoders(make_spec(Path(name), {}).resolved().decoder) for name in ("smollm2_s2d", "smollm2_mjsd")
    }
    ours = [spec.options.model_dump() | {"name": spec.name} for spec in sweeps["smollm2_s2d"]]
    assert [o["thresholds"] for o in ours if o["name"] == "s2d" and o["gamma"] == 5 and not o["draft_vocabulary"]] == [
        (0.5, 0.5, 0.0), (0.75, 0.7, 0.0), (0.9, 0.85, 0.0)
    ]  # fmt: skip
    assert {o["exit"] for o in ours if o["name"] == "sd"} == {None, 1, 2}
    joint = [spec.options.model_dump() | {"name": spec.name} for spec in sweeps["smollm2_mjsd"]]
    plain = [o for o in joint if o["name"] == "mjsd" and (o["candidates"], o["draft_temperature"]) == (1, 0)]
    assert [o["gamma"] for o in plain if o["gamma"] != 4] == [2, 6]
    plain = [o for o in plain if o["gamma"] == 4]
    assert [o["tau"] for o in plain] == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert [o["k"] for o in joint if o["name"] == "mjgd"] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", sorted(run_files()))
def test_every_decoder_of_a_shipped_file_parses_to_a_label_of_its_own(name: str) -> None:
    given = make_spec(Path(name), {}).resolved().decoder
    specs = parse_decoders(given)
    assert len({spec.label for spec in specs}) == len(given)
