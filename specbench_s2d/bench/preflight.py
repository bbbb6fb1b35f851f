"""Before anything is loaded: do models, templates, prompts and memory fit together?"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from specbench_s2d.bench.memory import index_plans, memory_plans
from specbench_s2d.bench.plan import Lane, Plan
from specbench_s2d.bench.prompts import Prompts, conversation
from specbench_s2d.bench.traces import source_for
from specbench_s2d.decoding.decoder import PairDecoder, check_kind
from specbench_s2d.decoding.faults import PartError, declared_passes, in_decoder, named
from specbench_s2d.decoding.loop import PROPOSED
from specbench_s2d.errors import ModelError, UserError
from specbench_s2d.models import check_pair
from specbench_s2d.models.base import PassKind
from specbench_s2d.models.chat import ChatTemplate, default_template
from specbench_s2d.models.devices import HOST, SPREAD, Free, find_dtype, free_by_device, free_bytes
from specbench_s2d.models.load import check_loads
from specbench_s2d.models.memory import MemoryPlan
from specbench_s2d.models.placement import check_fits, max_memory
from specbench_s2d.models.resolve import ResolvedModel
from specbench_s2d.runs.folder import MANIFEST, RECORDS, check_place, check_same_run, new_run_id, read_records
from specbench_s2d.suites import Question


@dataclass(frozen=True)
class TargetSetup:
    """One target of a run and its drafts, checked: how prompts are laid out, and what each model takes of its device.

    `target`: what the person called it. `positions`: of the longest sequence that the run's questions can lead to.
    `memory`: the target's plan, then each draft's; `indexes`: those of what drafters keep in the host's memory. `free`:
    a device's free bytes. `faults`: by label, what is wrong with a decoder that cannot say which passes it runs, which
    drafts it takes or how much memory: it is not built, and its cells fail.
    """

    target: str
    prompts: Prompts
    positions: int
    memory: Sequence[MemoryPlan]
    indexes: Sequence[MemoryPlan] = ()
    free: Free = free_bytes
    faults: Mapping[str, str] = field(default_factory=dict)

    def check_fits(self, device: str) -> None:
        """Raise `ModelError` where target and drafts do not fit in what the run's devices have free, or indexes in what
        the host has."""
        check_fits(self.plans_on(device), device, free_by_device(device, self.free))
        if self.indexes and device != HOST:
            check_fits(self.indexes, HOST, free_by_device(HOST, self.free))

    def plans_on(self, device: str) -> Sequence[MemoryPlan]:
        """What the run's device holds: the models, and on a CPU the indexes too."""
        return [*self.memory, *self.indexes] if device == HOST else self.memory

    def weight_limits(self, device: str) -> dict[int, int] | None:
        """Bytes of the target's weights by GPU, where it is spread: its drafts find room on the first. Else None."""
        return max_memory(self.memory, free_by_device(SPREAD, self.free)) if device == SPREAD else None

    def warm_up_prompts(self, questions: Sequence[Question], new_tokens: int) -> tuple[list[int], list[int]]:
        """Ids of the shortest first turn of the run and of the longest, cut to what leaves room for `new_tokens`."""
        by_length = sorted(questions, key=lambda question: len(question.turns[0]) + len(question.system_prompt or ""))
        room = max(1, self.prompts.context - new_tokens)
        encode = self.prompts.template.encode
        shortest, longest = (encode(conversation(question))[:room] for question in (by_length[0], by_length[-1]))
        return shortest, longest


def set_up(plan: Plan, target: str, free: Free = free_bytes) -> TargetSetup:
    """How the run uses `target`: its template, the context of its prompts, and its memory.

    Raises `ModelError` for a draft that numbers its tokens differently or has not the exits asked for, `UserError` for
    a template or an acceptance trace that is not there.
    """
    spec, model = plan.spec, plan.models[target]
    faults: dict[str, str] = {}
    for lane in plan.lanes[target]:
        draft = plan.models[lane.draft] if lane.draft else None
        if draft:
            check_pair(model, draft)
            check_kind(lane.decoder.kind.draft_kind, draft, lane.label)
        try:
            _check_declared(lane, model, draft, plan.new_tokens)
        except PartError as error:
            faults[lane.label] = str(error)
        source_for(lane.decoder, model.name, draft)
    context, whose = _context(plan, target)
    template = ChatTemplate.choose(model.tokenizer, spec.template, default_template(model.name))
    template = template.with_args(spec.template_values, model.name)
    prompts = Prompts(template, context, plan.new_tokens, spec.long_prompts, whose)
    questions = plan.asked(target)
    for question in questions:
        prompts.check_system(question, model.name)
    _check_ids(template, questions, model)
    positions = prompts.longest(questions)
    memory, indexes = (plans(plan, target, positions, without=faults) for plans in (memory_plans, index_plans))
    return TargetSetup(target, prompts, positions, memory, indexes, free, faults)


def _context(plan: Plan, target: str) -> tuple[int, str]:
    """The positions that prompts are laid out for, and the model that has no more: those of the lane with the most, for
    cells of a draft with fewer fail by themselves; where prompts are cut, of the lane with the fewest, so that all
    decoders get the same prompt."""
    own = plan.models[target].context, f"target {plan.models[target].name}"

    def of(lane: Lane) -> tuple[int, str]:
        draft = plan.models[lane.draft] if lane.draft else None
        return (draft.context, f"draft {draft.name}") if draft and draft.context < own[0] else own

    choose = min if plan.spec.long_prompts == "truncate" else max
    return choose(map(of, plan.lanes[target]), key=itemgetter(0))


def _check_ids(template: ChatTemplate, questions: Sequence[Question], model: ResolvedModel) -> None:
    """Raise `ModelError` where the tokenizer gives an id of a prompt that the model has no embedding of."""
    if max(model.tokenizer.get_vocab().values(), default=0) < model.rows:
        return
    for question in questions:
        answers = [""] * (len(question.turns) - 1)
        largest = max(template.encode(conversation(question, answers)), default=0)
        if largest >= model.rows:
            raise ModelError(
                f"{model.name}: its tokenizer encodes question {question.id} ({question.suite}) with id {largest:,}, "
                f"and its vocabulary has ids 0 to {model.rows - 1:,}; give the tokenizer of this checkpoint."
            )


def _check_declared(lane: Lane, target: ResolvedModel, draft: ResolvedModel | None, new_tokens: int) -> None:
    """Ask a decoder's class what it says before anything is loaded. Raises `UserError` for a draft that it refuses, for
    options beyond all use, and `PartError` where it raises anything else or declares what are no passes."""
    kind, options, label = lane.decoder.kind, lane.decoder.options, lane.label
    part = f"drafter {kind.drafter_class.__name__}" if issubclass(kind, PairDecoder) else f"class {kind.__name__}"
    with named(label, part, "in target_passes"):
        passes = kind.target_passes(options)
    check_useful(declared_passes(passes, label, f"{part}.target_passes"), label, target, new_tokens)
    with named(label, part, "in host_bytes"):
        size = kind.host_bytes(options, 1)
    if not isinstance(size, int | float) or not 0 <= size <= sys.maxsize:
        raise PartError(in_decoder(label, f"{part}.host_bytes gave {size!r}; it is a number of bytes"))
    if draft:
        with named(label, part, "in check_draft"):
            kind.check_draft(options, draft)
        with named(label, part, "in draft_passes"):
            passes = kind.draft_passes(options, draft)
        check_useful(declared_passes(passes, label, f"{part}.draft_passes"), label, draft, new_tokens)


def check_useful(passes: Sequence[PassKind], label: str, model: ResolvedModel, new_tokens: int) -> None:
    """Raise `UserError` where options ask for drafts longer than any answer, or for trees or beams beyond the cache."""
    most = max(PROPOSED, new_tokens)
    chain = max((kind.rows for kind in passes if not kind.seen), default=1) - 1
    if chain > most:
        raise UserError(
            f"decoder {label!r}: drafts of {chain:,} tokens; with --max-new-tokens {new_tokens:,} none above {most:,} "
            "is of use: give smaller options."
        )
    tree, room = max((max(kind.rows, kind.seen) for kind in passes if kind.seen), default=0), model.context + PROPOSED
    if tree > room:
        raise UserError(
            f"decoder {label!r}: its trees or beams take {tree:,} positions of {model.name}, whose cache has at most "
            f"{room:,}: give smaller options."
        )


def check_folder(plan: Plan, folder: Path, with_records: bool = False) -> None:
    """Raise `RunFolderError` for a folder that the plan cannot be run into, or go on in; nothing is written there.

    `with_records`: read them too, as the run does when it opens the folder.
    """
    check_place(folder)
    known = (folder / MANIFEST).exists()
    check_same_run(folder, plan.in_folder(folder).manifest(new_run_id(folder), {}) if known else {})
    if with_records and known and (folder / RECORDS).exists():
        read_records(folder)


def check_inputs(plan: Plan, free: Free = free_bytes) -> dict[str, TargetSetup]:
    """Every target's setup; raises where models do not go together, and where a prompt leaves no room for an answer or,
    with `--long-prompts fail`, is too long."""
    setups = {target: set_up(plan, target, free) for target in plan.targets}
    for setup in setups.values():
        setup.prompts.check_room()
        for question in plan.asked(setup.target) if plan.spec.long_prompts == "fail" else ():
            setup.prompts.check(question)
    return setups


def check_devices(plan: Plan, setups: Mapping[str, TargetSetup]) -> None:
    """Raise `ModelError` where the engine asked for cannot run a model, or models do not fit in a device's memory."""
    device, engine = plan.target_device, plan.spec.engine
    dtype = find_dtype(plan.spec.dtype, device)
    for target, setup in setups.items():
        check_loads(plan.models[target], device, dtype, engine)
        for draft in plan.drafts(target):
            check_loads(plan.models[draft], plan.device, dtype, engine)
        setup.check_fits(device)


def check(plan: Plan, free: Free = free_bytes, folder: Path | None = None) -> dict[str, TargetSetup]:
    """Every target's setup; raises before anything is loaded for whatever a run refuses: its `folder` where that is
    given, models that do not go together, prompts that are too long, memory. The dry run asks the same functions."""
    if folder is not None:
        check_folder(plan, folder)
    setups = check_inputs(plan, free)
    check_devices(plan, setups)
    return setups
