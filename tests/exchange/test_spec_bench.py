"""Spec-Bench's answer files: what is written, what is left out, how their lists part, and what is refused."""

from __future__ import annotations

import codecs
import json
import os
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.errors import UserError
from specbench_s2d.exchange.spec_bench import Choice, answer_files, read_answers
from specbench_s2d.runs.record import Record
from tests.analysis.factory import ar, decoded, paper_run
from tests.refusals import refused

TWO_TURNS = [
    decoded("sd", 7, [(5, 1, 2), (5, 0, 1)], decode_s=2, turn=0, output_text="one", suite="mt_bench", category="stem"),
    decoded("sd", 7, [(5, 3, 4)], decode_s=0.5, turn=1, output_text="two", suite="mt_bench", category="stem"),
]


def texted(records: list[Record]) -> list[Record]:
    return [r.model_copy(update={"output_text": f"answer {r.question_id}"}) for r in records]


def answer(**fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "turns": ["a"], "decoding_steps": [2], "new_tokens": [5], "wall_time": [1.5],
              "accept_lengths": [2, 3]}  # fmt: skip
    whole = {"question_id": 81, "category": "writing", "answer_id": "x", "model_id": "m-sd", "tstamp": 1.5}
    choice |= {name: fields.pop(name) for name in list(fields) if name in choice}
    return {**whole, "choices": [choice], **fields}


def written(path: Path, *answers: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(a) + "\n" for a in answers))
    return path


def test_a_question_is_one_line_with_its_turns_side_by_side() -> None:
    (file,), notes = answer_files(TWO_TURNS, 12.5)
    line = json.loads(file.text())
    assert line["choices"] == [
        {
            "index": 0,
            "turns": ["one", "two"],
            "decoding_steps": [2, 1],
            "new_tokens": [4, 5],
            "wall_time": [3.0, 1.5],
            "accept_lengths": [2, 1, 4],
        }
    ]
    assert (line["question_id"], line["category"], line["model_id"], line["tstamp"]) == (7, "stem", "t-sd", 12.5)
    assert len(line["answer_id"]) == 22 and json.loads(answer_files(TWO_TURNS)[0][0].text())["tstamp"] is None
    assert answer_files(TWO_TURNS, 12.5)[0][0].text() == file.text()
    assert notes == []


def test_there_is_a_file_per_target_label_and_repeat() -> None:
    again = [r.model_copy(update={"repeat": 1}) for r in paper_run()]
    other = [r.model_copy(update={"target": "u"}) for r in paper_run()]
    files, _ = answer_files(texted([*paper_run(), *again, *other]))
    assert {(f.target, f.label, f.repeat) for f in files} == {
        ("t", "ar", 0), ("t", "sd", 0), ("t", "ar", 1), ("t", "sd", 1), ("u", "ar", 0), ("u", "sd", 0),
    }  # fmt: skip
    assert [a.choices[0].index for f in files if f.repeat == 1 for a in f.answers] == [1] * 4


def test_questions_that_did_not_finish_are_left_out_whole_and_counted() -> None:
    failed = TWO_TURNS[1].model_copy(update={"status": "failed"})
    skipped = ar(8, 3, decode_s=1, output_text="x").model_copy(update={"status": "skipped"})
    half = decoded("ar", 7, [(0, 0, 1)], decode_s=1, turn=0, output_text="one", suite="mt_bench", category="stem")
    whole = decoded("sd", 9, [(5, 1, 2)], decode_s=1, output_text="three")
    files, notes = answer_files([TWO_TURNS[0], failed, whole, skipped, half])
    assert [(f.label, [a.question_id for a in f.answers]) for f in files] == [("sd", [9])]
    assert notes == [
        "t, sd, repeat 0: 1 of 2 questions left out: 1 failed",
        "t, ar, repeat 0: 2 of 2 questions left out: 1 skipped, 1 without one of its turns",
    ]


def test_a_record_without_what_the_format_needs_is_left_out_with_the_field() -> None:
    _, notes = answer_files(paper_run())
    assert notes[0] == "t, ar, repeat 0: 2 of 2 questions left out: 2 without output_text"


CUTS = {
    # steps, new tokens, accept lengths: each turn's own part
    "our own: no entry for the first token": ([2, 1], [4, 5], [2, 1, 4], [[2, 1], [4]]),
    "a turn of one token has no step": ([0, 2], [1, 4], [2, 1], [[], [2, 1]]),
    "their baseline: an entry per token": ([3, 2], [3, 2], [1, 1, 1, 1, 1], [[1, 1, 1], [1, 1]]),
    "steps that count from 0": ([1, 0], [9, 9], [2, 3, 4], [[2, 3], [4]]),
    "no telling steps, but whole tokens": ([9, 9], [5, 4], [2, 3, 4], [[2, 3], [4]]),
    "nothing tells": ([9, 9], [6, 4], [2, 3, 4], None),
    "one turn needs no telling": ([9], [6], [2, 3], [[2, 3]]),
}


@pytest.mark.parametrize("case", CUTS)
def test_accept_lengths_are_parted_by_turn(case: str) -> None:
    steps, tokens, lengths, parts = CUTS[case]
    n = len(steps)
    choice = Choice(index=0, turns=["x"] * n, decoding_steps=steps, new_tokens=tokens, wall_time=[1.0] * n,
                    accept_lengths=lengths)  # fmt: skip
    assert choice.accept_lengths_by_turn() == parts


def test_older_files_say_idxs(tmp_path: Path) -> None:
    old = answer()
    old["choices"][0]["idxs"] = old["choices"][0].pop("decoding_steps")
    assert read_answers(written(tmp_path / "a.jsonl", old))[0].choices[0].idxs == [2]


WRONG = {
    "no list": ({"accept_lengths": 3}, "choices.0.accept_lengths: Input should be a valid array"),
    "text for a number": ({"new_tokens": ["5"]}, "choices.0.new_tokens.0: Input should be a valid integer"),
    "no time": ({"wall_time": [0.0]}, "choices.0.wall_time.0: Input should be greater than 0"),
    "not a time": ({"wall_time": [float("nan")]}, "choices.0.wall_time.0: Input should be a finite number"),
    "other turns": ({"new_tokens": [1, 2]}, "choices.0: new_tokens has 2 entries for 1 turns"),
    "no number of seconds": ({"wall_time": [1e308]}, "choices.0.wall_time.0: Input should be less than or equal to"),
    "no number of tokens": ({"new_tokens": [10**30]}, "choices.0.new_tokens.0: Input should be less than or equal to"),
    "no length": ({"accept_lengths": [10**30]}, "choices.0.accept_lengths.0: Input should be less than or equal to"),
    "no id": ({"question_id": 10**30}, "(question_id: Input should be less than"),
    "no choice": ({"choices": []}, "choices: List should have at least 1 item"),
    "no name": ({"model_id": ""}, "model_id: String should have at least 1 character"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_line_is_named_with_its_field(case: str, tmp_path: Path) -> None:
    fields, message = WRONG[case]
    path = written(tmp_path / "a.jsonl", answer(question_id=1), answer(**fields))
    with refused(UserError, "a.jsonl:2: not an answer of Spec-Bench (", message):
        read_answers(path)


def test_a_torn_last_line_says_so_but_one_that_only_lacks_its_end_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", answer(question_id=1), answer(question_id=2))
    path.write_text(path.read_text()[:-1])
    assert len(read_answers(path)) == 2
    path.write_text(path.read_text()[:-9])
    with refused(UserError, "a.jsonl:2: not an answer", "The file may have been cut off"):
        read_answers(path)


@pytest.mark.parametrize("content", ['{"model_id": "m-sd"}', "[]", "\ufeff{}"])
def test_a_last_line_that_is_whole_but_no_answer_was_not_cut_off(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"a.jsonl:1: not an answer of Spec-Bench \([^)]*\)\.$"):
        read_answers(path)


def test_a_byte_order_mark_is_no_part_of_a_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", answer(), answer(question_id=2))
    expected = read_answers(path)
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert read_answers(path) == expected


def test_what_is_no_file_of_answers_is_one_line(tmp_path: Path) -> None:
    with refused(UserError, "none.jsonl: cannot be read (No such file or directory)"):
        read_answers(tmp_path / "none.jsonl")
    os.mkfifo(tmp_path / "pipe")
    with refused(UserError, "pipe: is a pipe; give an answer file"):
        read_answers(tmp_path / "pipe")
    with refused(UserError, "empty; expected an answer"):
        read_answers(written(tmp_path / "a.jsonl"))
    with refused(UserError, "a.jsonl:2: question_id 81 is answered in line 1 already"):
        read_answers(written(tmp_path / "a.jsonl", answer(), answer()))
    with refused(UserError, "answers of 'm-sd' and of 'm-ar'"):
        read_answers(written(tmp_path / "a.jsonl", answer(), answer(question_id=2, model_id="m-ar")))
    twice = answer()
    twice["choices"] *= 2
    with refused(UserError, "two choices of one index"):
        read_answers(written(tmp_path / "a.jsonl", twice))


def test_iterations_of_files_without_accept_lengths_are_one_more_than_their_last_index() -> None:
    """EAGLE's and Medusa's `idxs` are the last index of a loop that counts from 0."""
    theirs = {"index": 0, "turns": ["a", "b"], "new_tokens": [16, 4], "wall_time": [1.0, 1.0]}
    assert Choice.model_validate({**theirs, "idxs": [7, 0]}).iterations == [8, 1]
    assert Choice.model_validate({**theirs, "decoding_steps": [7, 1]}).iterations == [7, 1]


@pytest.mark.parametrize("tstamp", ["1e18", "NaN", "-1", "Infinity"])
def test_a_time_stamp_that_is_none_is_refused(tstamp: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(answer(tstamp="T")).replace('"T"', tstamp))
    with refused(UserError, "a.jsonl:1: not an answer of Spec-Bench (tstamp:"):
        read_answers(file)


def test_an_answer_needs_its_iterations(tmp_path: Path) -> None:
    whole = answer()
    del whole["choices"][0]["decoding_steps"]
    with refused(UserError, "neither decoding_steps nor idxs"):
        read_answers(written(tmp_path / "a.jsonl", whole))
