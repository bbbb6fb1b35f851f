"""Answer files become a run: whose they are, what is null and why, repeats, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.errors import RunFolderError, UnknownNameError, UserError
from specbench_s2d.exchange.answer_import import NOT_THERE, Naming, import_files, lane_of
from specbench_s2d.runs.folder import read_manifest, read_records
from tests.exchange.test_spec_bench import answer, written
from tests.refusals import refused

VANILLA = "vicuna-7b-v1.3-vanilla-float16-temp-0.0"
EAGLE = "vicuna-7b-v1.3-eagle-float16-temp-0.0"


@pytest.mark.parametrize(
    ("model_id", "target", "label"),
    [
        ("demo-s-ar", "demo-s", "ar"),
        ("demo-s-s2d-tree", "demo-s", "s2d-tree"),
        ("demo-s-s2d:thresholds=0.75+0.7+0,gamma=3", "demo-s", "s2d:thresholds=0.75+0.7+0,gamma=3"),
        ("lmsys/vicuna-7b-v1.3-sd:draft=double7/vicuna-68m", "lmsys/vicuna-7b-v1.3", "sd:draft=double7/vicuna-68m"),
        ("t-beam+token", "t", "beam+token"),
    ],
)
def test_a_model_id_of_ours_ends_with_a_decoder_s_label(model_id: str, target: str, label: str) -> None:
    lane = lane_of(model_id, Naming())
    assert (lane.target, lane.label) == (target, label)


@pytest.mark.parametrize("model_id", [VANILLA, "s2d", "demo-s-s2d:gamma=3,thresholds=0.75+0.7+0"])
def test_any_other_model_id_asks_for_the_target(model_id: str) -> None:
    """The last holds options in another order than labels do: not a label of ours."""
    with refused(UserError, repr(model_id), "pass --target NAME", "--baseline MODEL_ID"):
        lane_of(model_id, Naming())


def test_what_a_decoder_of_ours_is_follows_from_its_label() -> None:
    assert lane_of("t-mjsd", Naming()).lossy and not lane_of("t-sd", Naming()).lossy


def test_a_foreign_model_id_is_parted_by_the_target_named() -> None:
    naming = Naming(["vicuna-7b", "vicuna-7b-v1.3"], {VANILLA: "ar"}, lossy=["eagle-float16-temp-0.0"])
    assert (lane_of(VANILLA, naming).target, lane_of(VANILLA, naming).label) == ("vicuna-7b-v1.3", "ar")
    eagle = lane_of(EAGLE, naming)
    assert (eagle.label, eagle.decoder, eagle.lossy) == ("eagle-float16-temp-0.0", None, True)
    assert lane_of("demo-s-sd", naming).target == "demo-s"
    assert lane_of("ess-70b", Naming(["vicuna-7b"])).label == "ess-70b"
    with refused(UserError, "'ess-70b': begins with none of the targets vicuna-7b, vicuna-7b-v1.3"):
        lane_of("ess-70b", naming)


def foreign(folder: Path, name: str, model_id: str, **fields: Any) -> Path:
    two = answer(model_id=model_id, turns=["a b", "c"], decoding_steps=[1, 0], new_tokens=[5, 3], wall_time=[2.0, 0.5],
                 accept_lengths=[2, 3, 3], **fields)  # fmt: skip
    return written(folder / name, two, answer(question_id=240, category="qa", model_id=model_id))


def test_a_turn_has_what_the_file_says_and_a_reason_for_the_rest(tmp_path: Path) -> None:
    file = foreign(tmp_path, "e.jsonl", EAGLE)
    import_files([file], tmp_path / "run", Naming(["vicuna-7b-v1.3"]), 0.0, lambda text: len(text.split()))
    first, second, last = read_records(tmp_path / "run")
    assert (first.suite, first.category, first.question_id, first.turn, first.repeat) == (
        "mt_bench",
        "writing",
        81,
        0,
        0,
    )
    assert (first.new_tokens, first.total_s, first.output_text, first.retokenized_tokens) == (5, 2.0, "a b", 2)
    assert (first.emitted_per_step, second.emitted_per_step) == ([2, 3], [3])
    assert (second.turn, last.suite, last.decoder) == (1, "qa", "eagle-float16-temp-0.0")
    null = {name for name, value in first.model_dump().items() if value is None}
    null -= {"error", "draft", "projected", "quality_counts"}
    assert null == set(first.reasons) and set(first.reasons.values()) == {NOT_THERE}


def test_without_a_tokenizer_the_count_is_null_with_the_reason(tmp_path: Path) -> None:
    (record, *_) = import_files([foreign(tmp_path, "e.jsonl", "t-sd")], tmp_path / "run", Naming())
    assert record.retokenized_tokens is None
    assert record.reasons["retokenized_tokens"] == "import again with --tokenizer NAME"


def test_the_manifest_says_that_it_was_imported_and_from_what(tmp_path: Path) -> None:
    file = foreign(tmp_path, "e.jsonl", "t-sd")
    import_files([file], tmp_path / "run", Naming(), 0.5)
    manifest = read_manifest(tmp_path / "run")
    (said,) = manifest["imported"]["files"]
    assert said.keys() == {"name", "sha256", "model_id", "target", "label"} and len(said["sha256"]) == 64
    assert (said["name"], said["model_id"], said["target"], said["label"]) == ("e.jsonl", "t-sd", "t", "sd")
    assert manifest["environment"] is None and manifest["reasons"]["environment"] == NOT_THERE
    assert manifest["identity"]["settings"] == {"temperature": 0.5}
    assert manifest["started"] == "1970-01-01T00:00:01+00:00"
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["run"]


def test_choices_and_files_of_one_model_id_are_repeats(tmp_path: Path) -> None:
    several = answer(model_id="t-sd")
    several["choices"] = [{**several["choices"][0], "index": i} for i in (0, 1)]
    files = [written(tmp_path / "a", several), written(tmp_path / "b", answer(model_id="t-sd", wall_time=[9.0]))]
    records = import_files(files, tmp_path / "run", Naming())
    assert [(r.repeat, r.total_s) for r in records] == [(0, 1.5), (1, 1.5), (2, 9.0)]
    assert read_manifest(tmp_path / "run")["identity"]["repeats"] == 3


def test_a_turn_that_raised_in_spec_bench_failed(tmp_path: Path) -> None:
    """Its figures are those of the turn before."""
    file = written(tmp_path / "a", answer(model_id="t-sd", turns=["ERROR"]))
    (record,) = import_files([file], tmp_path / "run", Naming())
    assert (record.status, record.new_tokens, record.total_s) == ("failed", None, None)
    assert record.error == "Spec-Bench wrote ERROR for this turn"


def without_category(**fields: Any) -> dict[str, Any]:
    """An answer as EAGLE and Medusa write it."""
    theirs = answer(**fields)
    del theirs["category"], theirs["choices"][0]["accept_lengths"], theirs["choices"][0]["decoding_steps"]
    theirs["choices"][0]["idxs"] = [3]
    return theirs


def test_answers_without_a_category_are_mt_bench_s_by_their_ids(tmp_path: Path) -> None:
    """Ten ids to a category, from 81 on."""
    file = written(tmp_path / "a", *(without_category(question_id=i, model_id="t-sd") for i in (81, 90, 91, 160)))
    records = import_files([file], tmp_path / "run", Naming())
    assert [(r.suite, r.category) for r in records] == [
        ("mt_bench", "writing"), ("mt_bench", "writing"), ("mt_bench", "roleplay"), ("mt_bench", "humanities"),
    ]  # fmt: skip


@pytest.mark.parametrize(("given", "suite"), [("humaneval", "custom/humaneval"), ("qa", "qa")])
def test_answers_without_a_category_belong_to_the_suite_named(given: str, suite: str, tmp_path: Path) -> None:
    file = written(tmp_path / "a", without_category(question_id=0, model_id="t-sd"))
    (record,) = import_files([file], tmp_path / "run", Naming(suite=given))
    assert (record.suite, record.category) == (suite, given)


def test_a_category_of_nobody_s_is_a_suite_of_its_own(tmp_path: Path) -> None:
    file = written(tmp_path / "a", answer(category="poetry", model_id="t-sd"))
    (record,) = import_files([file], tmp_path / "run", Naming())
    assert (record.suite, record.category) == ("custom/poetry", "poetry")


@pytest.mark.parametrize("given", ["mt_bench", "custom/x", "x"])
def test_the_suite_named_is_the_same_after_an_export(given: str, tmp_path: Path) -> None:
    file = written(tmp_path / "a", without_category(question_id=0, model_id="t-sd", new_tokens=[4]))
    (record,) = import_files([file], tmp_path / "run", Naming(suite=given))
    again = written(tmp_path / "b", answer(question_id=0, model_id="t-sd", category=record.category))
    (other,) = import_files([again], tmp_path / "again", Naming())
    assert (other.suite, other.category) == (record.suite, record.category)


@pytest.mark.parametrize(("turns", "suite"), [(1, "custom/math"), (2, "mt_bench")])
def test_answers_go_where_their_questions_go(turns: int, suite: str, tmp_path: Path) -> None:
    """GSM8K's questions of category `math` have one turn, MT-bench's two."""
    lists = {
        "turns": ["a"] * turns,
        "decoding_steps": [1] * turns,
        "new_tokens": [2] * turns,
        "wall_time": [1.0] * turns,
    }
    file = written(tmp_path / "a", answer(question_id=0, category="math", model_id="t-sd", **lists, accept_lengths=[2]))
    assert {r.suite for r in import_files([file], tmp_path / "run", Naming())} == {suite}


def test_an_empty_category_is_none(tmp_path: Path) -> None:
    """EAGLE's questions of Alpaca have one."""
    file = written(tmp_path / "a", answer(question_id=0, category="", model_id="t-sd"))
    with refused(UserError, "question_id 0 has no category", "--suite NAME"):
        import_files([file], tmp_path / "run", Naming())
    (record,) = import_files([file], tmp_path / "run", Naming(suite="alpaca"))
    assert (record.suite, record.category) == ("custom/alpaca", "alpaca")


def test_iterations_stand_for_steps_where_no_accept_lengths_are(tmp_path: Path) -> None:
    file = written(tmp_path / "a", without_category(model_id="t-sd", new_tokens=[10]))
    (record,) = import_files([file], tmp_path / "run", Naming())
    assert (record.target_passes, record.emitted_per_step) == (4, None)
    assert record.reasons["emitted_per_step"] == "the files hold no accept_lengths"
    assert "target_passes" not in record.reasons


def test_what_cannot_be_imported_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    good = written(tmp_path / "good", answer(model_id="t-sd"))
    torn = tmp_path / "torn"
    torn.write_bytes(good.read_bytes()[:-20])
    twin = tmp_path / "twin"
    twin.write_bytes(good.read_bytes())
    odd = written(tmp_path / "odd", without_category(question_id=7, model_id="t-sd"))
    same = written(tmp_path / "same", answer(model_id="t-x"))
    with refused(UserError, "torn:1"):
        import_files([good, torn], out, Naming())
    with refused(UserError, "twin: holds the same as", "good"):
        import_files([good, twin], out, Naming())
    with refused(UserError, "odd: question_id 7 has no category", "--suite NAME"):
        import_files([odd], out, Naming())
    with refused(UserError, "'t-sd' and 't-x' are both 'sd' on t", "--label MODEL_ID=LABEL"):
        import_files([good, same], out, Naming(["t"], {"t-x": "sd"}))
    with refused(UnknownNameError, "unknown model_id 't-sb'", "t-sd"):
        import_files([good], out, Naming(labels={"t-sb": "ar"}))
    with refused(UnknownNameError, "unknown label 'x'"):
        import_files([good], out, Naming(lossy=["x"]))
    with refused(UnknownNameError, "unknown target 'vicuna'. Known: t", "No file that was given is of it"):
        import_files([good], out, Naming(["vicuna"]))
    with refused(UserError, "--suite rag: no answer belongs to it, for all have a category (they go to "):
        import_files([good], out, Naming(suite="rag"))
    with refused(UserError, "suite 'custom/': write custom/NAME"):
        import_files([odd], out, Naming(suite=""))
    assert not out.exists() and not list(tmp_path.glob(".*"))


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    good = written(tmp_path / "good", answer(model_id="t-sd"))
    out = tmp_path / "run"
    out.mkdir()
    import_files([good], out, Naming())
    before = (out / "records.jsonl").read_text()
    with refused(RunFolderError, "is there already and not empty"):
        import_files([good], out, Naming())
    assert (out / "records.jsonl").read_text() == before and json.loads(before)["label"] == "sd"


def test_a_full_disk_is_told_with_the_folder_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    path = foreign(tmp_path, "a.jsonl", "demo-s-ar")
    monkeypatch.setattr("specbench_s2d.runs.folder._write_all", full)
    with pytest.raises(RunFolderError, match=r"--out \S+/out: cannot be written \((\S+: )?No space left on device\); "):
        import_files([path], tmp_path / "out", Naming())
    assert not list(tmp_path.glob("out*"))
