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


def test_a_name_that_is_none_brings_the_nearest() -> None:
    with refused(UserError, "demo/s2: no such run file.", "Did you mean 'demo/s2d'", "papers/s2d"):
        find_run_file(Path("demo/s2"))


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
    assert spec.target == [f"lmsys/vicuna-{size}-v1.3" for size in sizes] and spec.draft == ["double7/vicuna-68m"]
    assert (spec.questions, spec.max_new_tokens, spec.dtype, spec.temperature) == ("spec-bench", 1024, "float16", 0.0)
    facts = {
        s.label: DecoderFacts(s.name, "none", None, True, s.options.model_dump(), s.draft)
        for s in parse_decoders(spec.decoder)
    }
    methods = {label: methods_of("spec-bench", found) for label, found in facts.items()}
    assert sorted(m for listed in methods.values() for m in listed) == ["PLD", "Recycling", "SpS"]
    assert not any(other_settings("spec-bench", facts[label], m) for label, listed in methods.items() for m in listed)


def test_the_leaderboard_s_demo_grid_has_its_methods_and_s2d() -> None:
    spec = make_spec(Path("demo/spec_bench"), {}).resolved()
    assert (spec.questions, spec.limit, spec.max_new_tokens, spec.launches) == ("embedded", 5, 48, 3)
    assert {"lookup", "suffix", "recycling:scope=run", "s2d", "s2d-tree"} <= {
        s.label for s in parse_decoders(spec.decoder)
    }


@pytest.mark.parametrize("name", sorted(run_files()))
def test_every_decoder_of_a_shipped_file_parses_to_a_label_of_its_own(name: str) -> None:
    given = make_spec(Path(name), {}).resolved().decoder
    specs = parse_decoders(given)
    assert len({spec.label for spec in specs}) == len(given)
