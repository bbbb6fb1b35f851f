"""The grid as cells: which (target, decoder, question, repeat) a run consists of, checked before anything is loaded."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from specbench_s2d.bench import keys
from specbench_s2d.bench.devices import torch_devices
from specbench_s2d.bench.drafts import draft_for, passed_over, split_pair, with_full_names
from specbench_s2d.bench.grader import AnswerScorer
from specbench_s2d.config import RunSpec
from specbench_s2d.decoding.spec import DecoderSpec, parse_decoders
from specbench_s2d.errors import UserError
from specbench_s2d.models.devices import (
    SPREAD,
    DtypeChoice,
    check_device,
    default_device,
    dtype_by_default,
    find_dtype,
    first_device,
)
from specbench_s2d.models.engines.choose import check_engine
from specbench_s2d.models.load import check_spread
from specbench_s2d.models.resolve import ResolvedModel, ResolvedModels
from specbench_s2d.runs.folder import schema_of
from specbench_s2d.runs.manifest import new_manifest
from specbench_s2d.runs.record import BASELINE, RESERVED, SCHEMA_VERSION
from specbench_s2d.shards import Shard
from specbench_s2d.suites import Question, QuestionSet, load_questions


@dataclass(frozen=True)
class Lane:
    """One decoder on one target, with the draft it will use (None for a decoder without one)."""

    decoder: DecoderSpec
    draft: str | None

    @cached_property
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
    launch: int
    key: str
    seed: int

    @property
    def label(self) -> str:
        """The decoder's label."""
        return self.lane.label


@dataclass(frozen=True)
class Round:
    """One question put to every decoder of a target, once: the unit of interleaving.

    `conversations`: for each lane, in the order of decoding, its cells turn by turn.
    """

    question: Question
    conversations: list[list[Cell]]

    @property
    def labels(self) -> list[str]:
        """The decoders in the order of decoding."""
        return [cells[0].label for cells in self.conversations]


@dataclass(frozen=True)
class Plan:
    """Everything a run will do, in order: targets, then repeats, then questions, then decoders in a drawn order.

    `lanes` and `models` are keyed by what the person called each model. Every target has the same decoders in the same
    order; their drafts may differ. `scorer` knows how each suite's answers are scored. `key_schema`: how cells are
    named, which for a folder that exists is its schema. `launch`: the one, of the run's `--launches`, whose cells
    `rounds` lays out. `shard`: the part of the grid that is run, None for all of it. `passed_over`: a line for each
    draft that the run names and does not use. `dtype`: the number format that the run's devices have by default, and
    why.
    """

    spec: RunSpec
    lanes: dict[str, tuple[Lane, ...]]
    questions: QuestionSet
    models: Mapping[str, ResolvedModel]
    settings: dict[str, Any]
    scorer: AnswerScorer
    dtype: DtypeChoice
    key_schema: int = SCHEMA_VERSION
    launch: int = 0
    shard: Shard | None = None
    passed_over: tuple[str, ...] = ()

    @property
    def said(self) -> list[str]:
        """Lines for a person, before the run: a number format that the GPU imposes, drafts that are not used, and the
        suites that questions went to."""
        imposed = [f"float16 is {self.dtype.reason}."] if self.spec.dtype == self.dtype.name == "float16" else []
        return [*imposed, *self.passed_over, *self.questions.said]

    @property
    def target_device(self) -> str:
        """Where the targets are: a device, or `auto` for several GPUs together."""
        return self.spec.device or default_device()

    @property
    def device(self) -> str:
        """Where the run's clock, its probes and its drafts are: of several GPUs the first."""
        return first_device(self.target_device)

    @property
    def new_tokens(self) -> int:
        """The most new tokens of an answer."""
        return self.spec.max_new_tokens or 1

    def in_folder(self, folder: Path, launch: int | None = None) -> Plan:
        """This plan for a folder, whose schema says how its cells are named; `launch`: another one of the run's."""
        return replace(self, key_schema=schema_of(folder), launch=self.launch if launch is None else launch)

    @property
    def labels(self) -> list[str]:
        """The decoders' labels, in order; the same for every target."""
        return [lane.label for lane in self.lanes[self.spec.target[0]]]

    @cached_property
    def _places(self) -> dict[str, range]:
        """The questions, by place, that are asked of each target; targets of other shards are left out."""
        if self.shard is None:
            return dict.fromkeys(self.spec.target, range(len(self.questions)))
        places = self.shard.places(len(self.spec.target), len(self.questions))
        return {self.spec.target[target]: asked for target, asked in places.items()}

    def places(self, target: str) -> range:
        """The places, among all questions, of those that are asked of a target."""
        return self._places[target]

    @property
    def targets(self) -> list[str]:
        """Those that are run, as given: all, or those of the shard."""
        return list(self._places)

    def asked(self, target: str) -> list[Question]:
        """The questions that are asked of a target: all, or those of the shard."""
        places = self._places[target]
        return self.questions.questions[places.start : places.stop]

    def cells_of(self, target: str) -> int:
        """Turns x repeats x decoders x launches of a target."""
        turns = sum(len(question.turns) for question in self.asked(target))
        return len(self.lanes[target]) * turns * self.spec.repeats * self.spec.launches

    @property
    def cells(self) -> int:
        """Those of all launches and targets, in the shard."""
        return sum(map(self.cells_of, self.targets))

    @property
    def keys(self) -> set[str]:
        """The key of every cell of this launch."""
        rounds = (asked for target in self.targets for asked in self.rounds(target))
        return {cell.key for asked in rounds for cells in asked.conversations for cell in cells}

    def drafts(self, target: str) -> list[str]:
        """What the person called the drafts of a target's lanes, each once."""
        return list(dict.fromkeys(lane.draft for lane in self.lanes[target] if lane.draft))

    def identity(self) -> dict[str, Any]:
        """What must be equal for two commands to be the same run."""
        decoders = [lane.decoder for lane in self.lanes[self.spec.target[0]]]
        return {
            **keys.identity(self.settings, decoders, self.key_schema),
            "targets": [self.models[target].name for target in self.spec.target],
            "decoders": self.labels,
            "drafts": self._draft_names(),
            "repeats": self.spec.repeats,
            "questions": self.questions.hashes,
            "weights": {**{model.name: model.sha256 for model in self.models.values()}, **self._data_hashes()},
        }

    def manifest(self, run_id: str, environment: dict[str, Any]) -> dict[str, Any]:
        """The manifest of a run of this plan that begins now; `environment`: what it runs on."""
        spec, metrics = self.spec.model_dump(), self.scorer.signatures()
        shard = str(self.shard) if self.shard else None
        source, cells = self.questions.source, self.cells
        dtype = {"used": self.spec.dtype, "default": self.dtype._asdict()}
        return new_manifest(run_id, self.identity(), spec, source, cells, metrics, environment, shard, dtype)

    def rounds(self, target: str, within: range | None = None) -> Iterator[Round]:
        """Every cell of a target, in the order of decoding; of the questions at the places `within` alone, where that
        is given.

        Drift of the machine falls on all decoders alike, and so does the place in a round: in as many rounds as there
        are decoders each of them stands once at every place (the rows of a Latin square, from an order drawn anew from
        the run's seed, in each launch another one); shards change no order. Where turns replay AR's answers, AR comes
        first.
        """
        places, questions = self._places[target] if within is None else within, self.questions.questions
        lanes, launch = self.lanes[target], f"/launch {self.launch}" if self.launch else ""
        asked = ((repeat, place) for repeat in range(self.spec.repeats) for place in range(len(self.questions)))
        for number, (repeat, place) in enumerate(asked):
            if place not in places:
                continue
            square, row = divmod(number, len(lanes))
            drawn = random.Random(f"{self.spec.seed}/{target}/{square}{launch}").sample(lanes, len(lanes))
            order = [*drawn[row:], *drawn[:row]]
            if self.spec.replay_turns == "ar":
                order.sort(key=lambda lane: lane.label != BASELINE)
            question = questions[place]
            yield Round(question, [self.conversation(target, lane, question, repeat) for lane in order])

    def conversation(self, target: str, lane: Lane, question: Question, repeat: int) -> list[Cell]:
        """The cells of one question for one decoder, turn by turn."""
        defining = self._lane_identities[target, lane.label]
        name, draft = self.models[target].name, self._draft_name(lane)
        turns = range(len(question.turns))
        keyed = [(turn, keys.cell_key(defining, question, turn, repeat, self.launch)) for turn in turns]
        return [
            Cell(name, draft, lane, question, turn, repeat, self.launch, key, keys.cell_seed(key))
            for turn, key in keyed
        ]

    @cached_property
    def _lane_identities(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What defines the cells of each lane, by target as given and label."""

        def identity(target: str, lane: Lane) -> dict[str, Any]:
            weights = {
                "target": self.models[target].sha256,
                "draft": self.models[lane.draft].sha256 if lane.draft else None,
                **self._hashes_of(lane),
            }
            return keys.lane_identity(self.settings, weights, lane.decoder, self.key_schema)

        return {(t, lane.label): identity(t, lane) for t, lanes in self.lanes.items() for lane in lanes}

    def _hashes_of(self, lane: Lane) -> dict[str, str]:
        """Hashes of what a lane depends on beside its options and weights, by what it is; empty for most."""
        draft = self.models[lane.draft] if lane.draft else None
        return lane.decoder.data_hashes(draft)

    def _data_hashes(self) -> dict[str, str]:
        """Those of all lanes, by the draft and what it is; by the label where a lane has no draft."""
        lanes = [lane for of_target in self.lanes.values() for lane in of_target]
        found = ((self._draft_name(lane) or lane.label, self._hashes_of(lane)) for lane in lanes)
        return {f"{whose} {what}": sha256 for whose, hashes in found for what, sha256 in hashes.items()}

    def _draft_names(self) -> list[str | None] | dict[str, list[str | None]]:
        """The draft of each lane; by target where targets have drafts of their own."""
        names = {self.models[t].name: [self._draft_name(lane) for lane in lanes] for t, lanes in self.lanes.items()}
        first, *others = names.values()
        return first if all(other == first for other in others) else names

    def _draft_name(self, lane: Lane) -> str | None:
        return self.models[lane.draft].name if lane.draft else None


def make_plan(spec: RunSpec, elsewhere: Callable[[], DtypeChoice] | None = None) -> Plan:
    """Check a run's every name and file, and lay out its cells; raises `UserError` before anything is loaded.

    The run's defaults, its device and its number format are filled in first. `elsewhere`: the run's devices are those
    of other machines, so that this one need not have them; it asks those with GPUs for their default number format.
    """
    given = spec.draft
    spec, dtype = _on_device(with_full_names(spec).resolved(), elsewhere)
    if len(set(spec.target)) < len(spec.target):
        raise UserError(f"--target {' '.join(spec.target)}: a target is given twice; give each once.")
    models = ResolvedModels()
    for name in spec.target:
        check_spread(models[name], spec.device or "")
    for entry in spec.draft:
        split_pair(entry, spec.target)
    decoders = parse_decoders(spec.decoder)
    lanes = {t: tuple(Lane(decoder, draft_for(decoder, t, spec, models)) for decoder in decoders) for t in spec.target}
    if spec.replay_turns == BASELINE and BASELINE not in [decoder.label for decoder in decoders]:
        raise UserError(
            "--replay-turns ar: the run has no decoder 'ar' whose turns could be replayed; add --decoder ar."
        )
    questions = load_questions(spec.questions or "embedded", spec.suite or None, spec.limit, spec.column)
    spec = spec.model_copy(update={"suite": list(questions.by_suite)})
    drafts = [lane.draft for of_target in lanes.values() for lane in of_target if lane.draft]
    used = {name: models[name] for name in (*spec.target, *drafts)}
    _refuse_namesakes(used)
    shard = Shard.parse(spec.shard) if spec.shard else None
    if shard:
        shard.places(len(spec.target), len(questions))
    _check_cut(decoders, spec)
    scorer = AnswerScorer(questions.by_suite, questions)
    taken = [(lane.decoder, lane.draft) for of_target in lanes.values() for lane in of_target]
    said = tuple(passed_over(spec, taken, models)) if given else ()
    settings = keys.settings_of(spec)
    return Plan(spec, lanes, questions, used, settings, scorer, dtype, shard=shard, passed_over=said)


def _check_cut(decoders: Sequence[DecoderSpec], spec: RunSpec) -> None:
    """Raise `UserError` where a run is cut in parts, for what needs the whole grid in one place, or all devices."""
    given = f"--shard {spec.shard}" if spec.shard else f"--devices {spec.devices}" if spec.devices else None
    if given is None:
        return
    if spec.energy_blocks:
        raise UserError(
            f"{given}: --energy-blocks meters whole suites, which it cuts; meter beside the timed windows (--energy "
            "auto) instead."
        )
    if whole := [decoder.label for decoder in decoders if decoder.kind.learns_over_run(decoder.options)]:
        drafts, it = ("drafts", "it") if len(whole) == 1 else ("draft", "them")
        raise UserError(
            f"{given}: {', '.join(whole)} {drafts} from earlier questions of the run, which another part asks; leave "
            f"{it} out, or run the grid as a whole."
        )
    if spec.devices and spec.device not in ("cpu", "cuda"):
        raise UserError(
            f"--devices {spec.devices}: --device {spec.device} says which GPUs already; give --device cuda or cpu."
        )


def _refuse_namesakes(models: Mapping[str, ResolvedModel]) -> None:
    """Records know models by name, so two different folders of one name cannot be told apart."""
    owners: dict[str, str] = {}
    for given, model in models.items():
        other = owners.setdefault(model.name, given)
        if other != given:
            raise UserError(
                f"{other} and {given} are both called {model.name!r}, which records could not tell apart; rename one."
            )
        if model.name == RESERVED["target"]:
            raise UserError(
                f"{given}: {model.name!r} is what tables call their rows over all targets; rename the model."
            )


def _on_device(spec: RunSpec, elsewhere: Callable[[], DtypeChoice] | None) -> tuple[RunSpec, DtypeChoice]:
    """The run with its device, number format and meter, and the format that its devices have by default."""
    asked = spec.device or default_device()
    there = elsewhere if asked == "cuda" else None
    place = torch.device("cuda") if there else check_device(asked)
    default = there() if there and spec.dtype is None else dtype_by_default(*torch_devices(spec.devices, asked))
    dtype = spec.dtype or default.name
    check_engine(spec.engine, place, find_dtype(dtype, asked))
    device = asked if asked == SPREAD else str(place)
    energy = spec.energy or ("off" if place.type == "cpu" else "auto")  # of demo models: on a GPU it is the mission
    return spec.model_copy(update={"device": device, "dtype": dtype, "energy": energy}), default
