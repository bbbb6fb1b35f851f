"""Spec-Bench's answer files: what its own scripts write and read, from our records and back.

One JSON line per question: question_id, category, answer_id, model_id, choices, tstamp. A choice has index; per turn
turns (texts), decoding_steps, new_tokens, wall_time (seconds, prefill included); and accept_lengths over all turns.
Ours to theirs: wall_time is total_s; decoding_steps the Steps; accept_lengths what each Step emitted, the bonus token
included, so that their mean is MAT; new_tokens counts the prefill's token, which stands in no step. (Spec-Bench's own
baseline lists that token, too.) Source of the format: hemingkx/Spec-Bench, evaluation/eval.py and speed.py.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from specbench_s2d.bench.records import Record
from specbench_s2d.errors import UserError

Run = tuple[str, str, int]
"""What one file holds: target, label, repeat."""


class Choice(BaseModel):
    """One conversation. Older files of Spec-Bench call the steps `idxs`."""

    index: int
    turns: list[str]
    decoding_steps: list[int] = Field(validation_alias=AliasChoices("decoding_steps", "idxs"))
    new_tokens: list[int]
    wall_time: list[float]
    accept_lengths: list[int]


class Answer(BaseModel):
    """One question as one model answered it."""

    question_id: int | str
    category: str
    answer_id: str = ""
    model_id: str
    choices: list[Choice] = Field(min_length=1)
    tstamp: float = 0.0


def answers(records: Iterable[Record], tstamp: float) -> tuple[dict[Run, list[Answer]], list[str]]:
    """Every finished question by run, in the records' order, and a line for each run that lost some.

    A question whose turns are not all there is left out whole. `tstamp`: seconds since 1970, the same for all, for
    records keep no time of day.
    """
    runs: dict[Run, dict[tuple[str, int | str], list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        runs[record.target, record.label, record.repeat][record.suite, record.question_id].append(record)
    found: dict[Run, list[Answer]] = {}
    lost: list[str] = []
    for run, questions in runs.items():
        whole = [sorted(turns, key=lambda r: r.turn) for turns in questions.values() if all(map(_carried, turns))]
        found[run] = [_answer(turns, tstamp) for turns in whole]
        if len(whole) < len(questions):
            left = len(questions) - len(whole)
            lost.append(f"{_model_id(*run[:2])}: {left} of {len(questions)} questions left out (failed or skipped).")
    return found, lost


def file_name(target: str, label: str) -> str:
    """A name that every file system takes; which run it is says the `model_id` inside."""
    return re.sub(r"[^A-Za-z0-9._+=,-]", "_", _model_id(target, label)) + ".jsonl"


def _model_id(target: str, label: str) -> str:
    return f"{target}-{label}"


def _carried(record: Record) -> bool:
    needed = (record.output_text, record.new_tokens, record.total_s, record.emitted_per_step)
    return record.status == "ok" and all(value is not None for value in needed)


def _answer(turns: Sequence[Record], tstamp: float) -> Answer:
    first = turns[0]
    emitted = [record.emitted_per_step or [] for record in turns]
    return Answer.model_validate(
        {
            "question_id": first.question_id,
            "category": first.category,
            "answer_id": hashlib.sha256("/".join(record.key for record in turns).encode()).hexdigest()[:22],
            "model_id": _model_id(first.target, first.label),
            "choices": [
                {
                    "index": 0,
                    "turns": [record.output_text for record in turns],
                    "decoding_steps": [len(steps) for steps in emitted],
                    "new_tokens": [record.new_tokens for record in turns],
                    "wall_time": [record.total_s for record in turns],
                    "accept_lengths": [length for steps in emitted for length in steps],
                }
            ],
            "tstamp": tstamp,
        }
    )


def read_answers(path: Path) -> list[Answer]:
    """The answers in one file; raises `UserError` that names the line and what is wrong with it."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give Spec-Bench's answer files.") from error
    found = [_parsed(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise UserError(f"{path}: no answer in it; give a file that Spec-Bench or `export` wrote.")
    names = list(dict.fromkeys(answer.model_id for answer in found))
    if len(names) > 1:
        raise UserError(f"{path}: answers of several models ({', '.join(names[:3])}); one file holds one model_id.")
    twice = [str(question) for question, n in Counter(answer.question_id for answer in found).items() if n > 1]
    if twice:
        raise UserError(f"{path}: question {twice[0]} stands there twice; one line per question.")
    return found


def _parsed(line: bytes, where: str) -> Answer:
    try:
        answer = Answer.model_validate_json(line)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"{where}: not an answer of Spec-Bench ({place or 'JSON'}: {problem['msg']}).") from error
    for choice in answer.choices:
        lengths = {len(choice.turns), len(choice.new_tokens), len(choice.wall_time), len(choice.decoding_steps)}
        if len(lengths) > 1:
            raise UserError(f"{where}: turns, decoding_steps, new_tokens and wall_time differ in length.")
    return answer


def turn_records(answer: Answer, shared: Mapping[str, Any], repeat: int) -> list[Record]:
    """The records of one question's turns. `shared`: fields that all records of the file have.

    Accept lengths are given to the turns by their decoding steps; where these do not add up, which happens in files of
    methods that count steps otherwise, the first turn takes all of them.
    """
    return [
        record
        for number, choice in enumerate(answer.choices)
        for record in _choice_records(answer, choice, shared, repeat + number)
    ]


def _choice_records(answer: Answer, choice: Choice, shared: Mapping[str, Any], repeat: int) -> list[Record]:
    steps = _by_turn(choice)
    made = []
    for turn, text in enumerate(choice.turns):
        where = [answer.model_id, answer.question_id, turn, repeat]
        made.append(
            Record.model_validate(
                {
                    **shared,
                    "key": hashlib.sha256(json.dumps(where).encode()).hexdigest()[:32],
                    "status": "ok",
                    "category": answer.category,
                    "question_id": answer.question_id,
                    "turn": turn,
                    "repeat": repeat,
                    "seed": 0,
                    "output_text": text,
                    "new_tokens": choice.new_tokens[turn],
                    "total_s": choice.wall_time[turn],
                    "emitted_per_step": steps[turn],
                }
            )
        )
    return made


def _by_turn(choice: Choice) -> list[list[int]]:
    lengths = choice.accept_lengths
    if sum(choice.decoding_steps) != len(lengths):
        return [lengths, *([] for _ in choice.turns[1:])]
    ends = [sum(choice.decoding_steps[: i + 1]) for i in range(len(choice.turns))]
    return [lengths[end - count : end] for end, count in zip(ends, choice.decoding_steps, strict=True)]
