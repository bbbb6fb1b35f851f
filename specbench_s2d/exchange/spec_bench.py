"""The answer files of Spec-Bench: one JSON object per question, as its evaluation scripts write and read them.

    {"question_id": 81, "category": "writing", "answer_id": "…", "model_id": "…", "tstamp": 1700000000.0, "choices": [
        {"index": 0, "turns": ["…", "…"], "decoding_steps": [9, 4], "new_tokens": [30, 11], "wall_time": [1.5, 0.6],
         "accept_lengths": [3, 4, …]}]}

| theirs | ours |
| --- | --- |
| `turns`: the text of each turn's answer | `output_text`, as decoded (they also strip white space at both ends) |
| `new_tokens`, by turn: ids generated, the EOS included | `new_tokens` |
| `wall_time`, by turn: seconds of the whole call, prefill included | `total_s` |
| `decoding_steps`, by turn (`idxs` in older files, some counting from 0): iterations of the method's loop | Steps |
| `accept_lengths`: tokens that each iteration added, the turns' lists one after the other | `emitted_per_step` |

The files of EAGLE and of Medusa have neither `category` nor `accept_lengths`; their `idxs` are the loop's last index,
one less than its iterations.

Ours hold no entry for the first token, which the prefill gives, so that their mean is our MAT. In Spec-Bench's own
files it counts as accepted in the first iteration, or, in its baseline, as an iteration of its own: there the entries
of a turn add up to `new_tokens`, in ours to one less.
Sources: https://github.com/hemingkx/Spec-Bench, evaluation/eval.py and evaluation/speed.py;
https://github.com/SafeAILab/EAGLE, eagle/evaluation/gen_ea_answer_vicuna.py; https://github.com/FasterDecoding/Medusa,
llm_judge/gen_model_answer_medusa.py.
"""

from __future__ import annotations

import codecs
import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from specbench_s2d.errors import UserError
from specbench_s2d.files import remedy, why_no_file
from specbench_s2d.runs.record import Record

FAILED_TURN = "ERROR"
"""What Spec-Bench writes as the text of a turn that raised; the turn's other fields are the turn's before it."""
_NEEDED = ("output_text", "new_tokens", "total_s", "emitted_per_step")
_MOST = 1_000_000_000
_Count = Annotated[int, Field(ge=0, le=_MOST)]
_Seconds = Annotated[float, Field(gt=0, le=_MOST, allow_inf_nan=False)]
_Stamp = Annotated[float, Field(ge=0, le=253_402_300_799, allow_inf_nan=False)]  # the end of the year 9999


class Choice(BaseModel):
    """One answer to every turn of a question; lists are by turn, but for `accept_lengths`.

    Either `decoding_steps` or `idxs` is there.
    """

    model_config = ConfigDict(strict=True)

    index: _Count
    turns: list[str] = Field(min_length=1)
    decoding_steps: list[_Count] | None = None
    idxs: list[_Count] | None = Field(None, exclude=True)
    new_tokens: list[_Count]
    wall_time: list[_Seconds]
    accept_lengths: list[_Count] | None = None

    @model_validator(mode="after")
    def _as_long_as_the_turns(self) -> Choice:
        if self.decoding_steps is None and self.idxs is None:
            raise ValueError("neither decoding_steps nor idxs")
        for name in ("decoding_steps", "idxs", "new_tokens", "wall_time"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.turns):
                raise ValueError(f"{name} has {len(values)} entries for {len(self.turns)} turns")
        return self

    @property
    def iterations(self) -> list[int]:
        """Iterations of the method's loop, by turn, in a file without `accept_lengths`: there `idxs` count from 0."""
        return self.decoding_steps or [index + 1 for index in self.idxs or ()]

    def accept_lengths_by_turn(self) -> list[list[int]] | None:
        """Each turn's own part of `accept_lengths`; None where neither the steps nor the tokens say where it ends."""
        added = self.accept_lengths or []
        steps = self.decoding_steps or self.idxs or []
        for lengths in (steps, [count + 1 for count in steps]):
            if sum(lengths) == len(added):
                return _cut(added, list(accumulate(lengths)))
        if len(self.turns) == 1:
            return [added]
        sums = list(accumulate(added))
        ends = list(accumulate(self.new_tokens))
        if sums and all(end in sums for end in ends) and sums[-1] == ends[-1]:
            return _cut(added, [sums.index(end) + 1 for end in ends])
        return None


def _cut(values: Sequence[int], ends: Sequence[int]) -> list[list[int]]:
    return [list(values[start:end]) for start, end in pairwise([0, *ends])]


class Answer(BaseModel):
    """One line of an answer file. `category`: None where the file has none, or an empty one. `tstamp`: when it was
    written, in seconds since 1970."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    question_id: Annotated[int, Field(ge=-(2**63), lt=2**63)] | str
    category: Annotated[str | None, AfterValidator(lambda text: text if text and text.strip() else None)] = None
    answer_id: str = ""
    model_id: str = Field(min_length=1)
    choices: list[Choice] = Field(min_length=1)
    tstamp: _Stamp | None = None

    @model_validator(mode="after")
    def _choices_apart(self) -> Answer:
        if len({choice.index for choice in self.choices}) < len(self.choices):
            raise ValueError("two choices of one index")
        return self


@dataclass(frozen=True)
class AnswerFile:
    """All answers of one target, label and repeat."""

    target: str
    label: str
    repeat: int
    answers: list[Answer]

    @property
    def model_id(self) -> str:
        """The target's name and the label."""
        return f"{self.target}-{self.label}"

    def text(self) -> str:
        """The file: one line per question."""
        return "".join(answer.model_dump_json() + "\n" for answer in self.answers)


def answer_files(records: Sequence[Record], tstamp: float | None = None) -> tuple[list[AnswerFile], list[str]]:
    """A file per target, label and repeat, and a line for each that leaves questions out, with how many and why.

    The format has no launches: the repeats of later ones are numbered on.
    `records`: one per cell. A question is left out whole where one of its turns (of those that any decoder of the run
    was asked) did not finish, or lacks what the format needs. A file without any answer is not made.
    """
    turns: dict[tuple[str, int | str], set[int]] = defaultdict(set)
    cells: dict[tuple[str, str, int], dict[tuple[str, int | str], dict[int, Record]]] = {}
    repeats = 1 + max((r.repeat for r in records), default=0)
    for r in (r.model_copy(update={"repeat": r.launch * repeats + r.repeat}) for r in records):
        turns[r.suite, r.question_id].add(r.turn)
        cells.setdefault((r.target, r.label, r.repeat), {}).setdefault((r.suite, r.question_id), {})[r.turn] = r
    files, notes = [], []
    for (target, label, repeat), questions in cells.items():
        missing = {question: _missing(found, turns[question]) for question, found in questions.items()}
        whole = [sorted(found.items()) for question, found in questions.items() if not missing[question]]
        answers = [_answer([r for _, r in found], tstamp) for found in whole]
        if answers:
            files.append(AnswerFile(target, label, repeat, answers))
        reasons = Counter(why for why in missing.values() if why)
        if reasons:
            why = ", ".join(f"{n} {reason}" for reason, n in reasons.items())
            notes.append(
                f"{target}, {label}, repeat {repeat}: {reasons.total()} of {len(questions)} questions left out: {why}"
            )
    return files, notes


def _missing(found: dict[int, Record], asked: set[int]) -> str | None:
    """Why a question cannot be written; None where it can."""
    for status in ("failed", "skipped"):
        if any(r.status == status for r in found.values()):
            return status
    if set(found) != asked:
        return "without one of its turns"
    lacking = [field for field in _NEEDED for r in found.values() if getattr(r, field) is None]
    lacking += ["total_s" for r in found.values() if not r.total_s]
    return f"without {lacking[0]}" if lacking else None


def _answer(turns: Sequence[Record], tstamp: float | None) -> Answer:
    first = turns[0]
    model_id = f"{first.target}-{first.label}"
    steps = [r.emitted_per_step or [] for r in turns]
    choice = Choice(
        index=first.repeat,
        turns=[r.output_text or "" for r in turns],
        decoding_steps=[len(emitted) for emitted in steps],
        new_tokens=[r.new_tokens or 0 for r in turns],
        wall_time=[r.total_s or 0.0 for r in turns],
        accept_lengths=[n for emitted in steps for n in emitted],
    )
    named = "/".join(map(str, (first.run_id, model_id, first.suite, first.question_id, first.repeat)))
    return Answer(
        question_id=first.question_id,
        category=first.category,
        answer_id=hashlib.sha256(named.encode()).hexdigest()[:22],  # as long as theirs, which are drawn at random
        model_id=model_id,
        choices=[choice],
        tstamp=tstamp,
    )


def read_answers(path: Path) -> list[Answer]:
    """The answers of one file, all of one model_id; raises `UserError` naming the first line that is none, and why."""
    give = "give an answer file of Spec-Bench"
    if why := why_no_file(path):  # reading a pipe may never end
        raise UserError(f"{path}: is {why}; {give}.")
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        advice = give if isinstance(error, FileNotFoundError) else remedy(error, give)
        raise UserError(f"{path}: cannot be read ({error.strerror}); {advice}.") from error
    answers: list[Answer] = []
    line_of: dict[int | str, int] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            torn = number == len(lines)  # every whole line ends in a newline, after which nothing is left
            answers.append(answer := _parse(line, f"{path}:{number}", torn))
            first = line_of.setdefault(answer.question_id, number)
            if first != number:
                given = f"question_id {answer.question_id!r} is answered in line {first} already"
                raise UserError(f"{path}:{number}: {given}; keep one of them.")
    if not answers:
        raise UserError(f"{path}: empty; expected an answer of Spec-Bench per line.")
    names = list(dict.fromkeys(answer.model_id for answer in answers))
    if len(names) > 1:
        raise UserError(f"{path}: answers of {names[0]!r} and of {names[1]!r}; give a file for each model_id.")
    return answers


def _parse(line: bytes, where: str, torn: bool) -> Answer:
    try:
        return Answer.model_validate_json(line.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"] if part not in ("int", "constrained-int", "str"))
        message = problem["msg"].removeprefix("Value error, ")
        what = f"{field}: {message}" if field else message
        cut = torn and problem["type"] == "json_invalid" and "EOF" in problem["msg"]
        advice = " The file may have been cut off: fetch it again." if cut else ""
        raise UserError(f"{where}: not an answer of Spec-Bench ({what}).{advice}") from error
