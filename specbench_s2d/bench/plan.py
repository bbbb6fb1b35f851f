"""The grid as cells: which (target, decoder, question, repeat) a run consists of, checked before anything is loaded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from specbench_s2d.bench import keys
from specbench_s2d.bench.drafts import draft_for, split_pair
from specbench_s2d.bench.grader import Grader
from specbench_s2d.config import RunSpec
from specbench_s2d.decoding.spec import DecoderSpec, parse_decoders
from specbench_s2d.errors import UserError
from specbench_s2d.models.checkpoint import Checkpoint, find_checkpoint
from specbench_s2d.models.devices import SPREAD, check_device, default_device, default_dtype, first_device
from specbench_s2d.models.load import check_spread
from specbench_s2d.runs.record import BASELINE, SCHEMA_VERSION
from specbench_s2d.suites import Question, QuestionSet, load_questions


@dataclass(frozen=True)
class Lane:
    """One decoder on one target, with the draft it will use (None for a decoder without one)."""

    decoder: DecoderSpec
    draft: str | None

    @property
    def label(self) -> str:
        return self.decoder.label


@dataclass(frozen=True)
class Cell:
    """One turn to decode. `key` hashes everything that defines it; `target` and `draft` are names, not paths."""

    target: str
    draft: str | None
    lane: Lane
    question: Question
    turn: int
    repeat: int
    key: str
    seed: int


@dataclass(frozen=True)
class Plan:
    """Everything a run will do, in order: targets, then repeats, then questions, then decoders in a drawn order.

    `lanes`, `checkpoints` and `weights` (hashes) are keyed by what the person called each model. Every target has the
    same decoders in the same order; their drafts may differ. `grader` knows how each suite's answers are scored.
    `key_schema`: how cells are named, which for a folder that exists is its schema.
    """

    spec: RunSpec
    lanes: dict[str, tuple[Lane, ...]]
    questions: QuestionSet
    checkpoints: dict[str, Checkpoint]
    weights: dict[str, str]
    settings: dict[str, Any]
    grader: Grader
    key_schema: int = SCHEMA_VERSION

    @property
    def device(self) -> str:
        """Where the run's clock, its probes and its drafts are: of several GPUs the first."""
        return first_device(self.spec.device or default_device())

    @property
    def labels(self) -> list[str]:
        """The decoders' labels, in order; the same for every target."""
        return [lane.label for lane in self.lanes[self.spec.target[0]]]

    @property
    def cells(self) -> int:
        turns = sum(len(question.turns) for question in self.questions)
        return sum(map(len, self.lanes.values())) * turns * self.spec.repeats

    def drafts(self, target: str) -> list[str]:
        """What the person called the drafts of a target's lanes, each once."""
        return list(dict.fromkeys(lane.draft for lane in self.lanes[target] if lane.draft))

    def identity(self) -> dict[str, Any]:
        """What must be equal for two commands to be the same run."""
        decoders = [lane.decoder for lane in self.lanes[self.spec.target[0]]]
        return {
            **keys.identity(self.settings, decoders, self.key_schema),
            "targets": [self.checkpoints[target].name for target in self.spec.target],
            "decoders": self.labels,
            "drafts": self._draft_names(),
            "repeats": self.spec.repeats,
            "questions": self.questions.hashes,
            "weights": {found.name: self.weights[given] for given, found in self.checkpoints.items()},
        }

    def rounds(self, target: str) -> Iterator[tuple[int, Question, list[Lane]]]:
        """(repeat, question, lanes in this round's order): the unit of interleaving.

        Drift of the machine falls on all decoders alike, and so does the place in a round: in as many rounds as there
        are decoders each of them stands once at every place (the rows of a Latin square, from an order drawn anew from
        the run's seed). Where turns replay AR's answers, AR comes first.
        """
        lanes = self.lanes[target]
        rounds = ((repeat, question) for repeat in range(self.spec.repeats) for question in self.questions)
        for number, (repeat, question) in enumerate(rounds):
            square, row = divmod(number, len(lanes))
            drawn = random.Random(f"{self.spec.seed}/{target}/{square}").sample(lanes, len(lanes))
            order = [*drawn[row:], *drawn[:row]]
            if self.spec.replay_turns == "ar":
                order.sort(key=lambda lane: lane.label != BASELINE)
            yield repeat, question, order

    def cell(self, target: str, lane: Lane, question: Question, turn: int, repeat: int) -> Cell:
        weights = {
            "target": self.weights[target],
            "draft": self.weights[lane.draft] if lane.draft else None,
        }
        key = keys.cell_key(self.settings, weights, lane.decoder, question, turn, repeat, self.key_schema)
        name = self.checkpoints[target].name
        return Cell(name, self._draft_name(lane), lane, question, turn, repeat, key, keys.cell_seed(key))

    def _draft_names(self) -> list[str | None] | dict[str, list[str | None]]:
        """The draft of each lane; by target where targets have drafts of their own."""
        names = {
            self.checkpoints[t].name: [self._draft_name(lane) for lane in lanes] for t, lanes in self.lanes.items()
        }
        first, *others = names.values()
        return first if all(other == first for other in others) else names

    def _draft_name(self, lane: Lane) -> str | None:
        return self.checkpoints[lane.draft].name if lane.draft else None


def make_plan(spec: RunSpec) -> Plan:
    """Check a run's every name and file, and lay out its cells; raises `UserError` before anything is loaded.

    The run's defaults, its device and its number format are filled in first.
    """
    spec = _on_device(spec.resolved())
    if len(set(spec.target)) < len(spec.target):
        raise UserError(f"--target {' '.join(spec.target)}: a target is given twice; give each once.")
    checkpoints = {name: find_checkpoint(name) for name in spec.target}
    for found in checkpoints.values():
        check_spread(found, spec.device or "")
    for entry in spec.draft:
        split_pair(entry, spec.target)
    decoders = parse_decoders(spec.decoder)
    lanes = {t: tuple(Lane(decoder, draft_for(decoder, t, spec)) for decoder in decoders) for t in spec.target}
    if spec.replay_turns == BASELINE and BASELINE not in [decoder.label for decoder in decoders]:
        raise UserError(
            "--replay-turns ar: the run has no decoder 'ar' whose turns could be replayed; add --decoder ar."
        )
    questions = load_questions(spec.questions or "embedded", spec.suite, spec.limit)
    drafts = [lane.draft for of_target in lanes.values() for lane in of_target if lane.draft]
    checkpoints |= {name: find_checkpoint(name) for name in drafts}
    _refuse_namesakes(checkpoints)
    weights = {given: found.sha256() for given, found in checkpoints.items()}
    return Plan(spec, lanes, questions, checkpoints, weights, keys.settings_of(spec), Grader(questions.by_suite))


def _refuse_namesakes(checkpoints: dict[str, Checkpoint]) -> None:
    """Records know models by name, so two different folders of one name cannot be told apart."""
    owners: dict[str, str] = {}
    for given, found in checkpoints.items():
        other = owners.setdefault(found.name, given)
        if other != given:
            raise UserError(
                f"{other} and {given} are both called {found.name!r}, which records could not tell apart; rename one."
            )


def _on_device(spec: RunSpec) -> RunSpec:
    asked = spec.device or default_device()
    place = check_device(asked)
    device = asked if asked == SPREAD else str(place)
    return spec.model_copy(update={"device": device, "dtype": spec.dtype or default_dtype(place.type)})
