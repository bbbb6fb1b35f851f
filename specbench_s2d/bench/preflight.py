"""Before anything is loaded: do models, templates, prompts and memory fit together?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbench_s2d.bench.memory import index_plans, memory_plans
from specbench_s2d.bench.plan import Plan
from specbench_s2d.bench.prompts import Prompts
from specbench_s2d.bench.traces import source_for
from specbench_s2d.models import check_pair
from specbench_s2d.models.chat import ChatTemplate, default_template
from specbench_s2d.models.devices import HOST, SPREAD, Free, free_by_device, free_bytes
from specbench_s2d.models.memory import MemoryPlan
from specbench_s2d.models.placement import check_fits, max_memory
from specbench_s2d.suites import QuestionSet


@dataclass(frozen=True)
class TargetSetup:
    """One target of a run and its drafts, checked: how prompts are laid out, and what each model takes of its device.

    `target`: what the person called it. `positions`: of the longest sequence that the run's questions can lead to.
    `memory`: the target's plan, then each draft's; `indexes`: those of what drafters keep in the host's memory. `free`:
    a device's free bytes.
    """

    target: str
    prompts: Prompts
    positions: int
    memory: Sequence[MemoryPlan]
    indexes: Sequence[MemoryPlan] = ()
    free: Free = free_bytes

    def check_fits(self, device: str) -> None:
        """Raise `ModelError` where target and drafts do not fit in what the run's devices have free, or indexes in what
        the host has."""
        check_fits(self.plans_on(device), device, free_by_device(device, self.free))
        if self.indexes and device != HOST:
            check_fits(self.indexes, HOST, free_by_device(HOST, self.free))

    def plans_on(self, device: str) -> Sequence[MemoryPlan]:
        """What the run's device holds: the models, and on a CPU the indexes too."""
        return [*self.memory, *self.indexes] if device == HOST else self.memory

    def weight_limits(self, device: str | None) -> dict[int, int] | None:
        """Bytes of the target's weights by GPU, where it is spread: its drafts find room on the first. Else None."""
        return max_memory(self.memory, free_by_device(SPREAD, self.free)) if device == SPREAD else None

    def warm_up_prompts(self, questions: QuestionSet, new_tokens: int) -> tuple[list[int], list[int]]:
        """Ids of the shortest first turn of the run and of the longest, cut to what leaves room for `new_tokens`."""
        turns = sorted((question.turns[0] for question in questions), key=len)
        room = max(1, self.prompts.context - new_tokens)
        encode = self.prompts.template.encode
        shortest, longest = (encode([{"role": "user", "content": turn}])[:room] for turn in (turns[0], turns[-1]))
        return shortest, longest


def set_up(plan: Plan, target: str, free: Free = free_bytes) -> TargetSetup:
    """How the run uses `target`: its template, the context that all its lanes share, and its memory.

    Raises `ModelError` for a draft that numbers its tokens differently or has not the exits asked for, `UserError` for
    a template or an acceptance trace that is not there.
    """
    spec, model = plan.spec, plan.models[target]
    drafts = [plan.models[name] for name in plan.drafts(target)]
    for lane in plan.lanes[target]:
        draft = plan.models[lane.draft] if lane.draft else None
        if draft:
            check_pair(model, draft)
            lane.decoder.kind.check_draft(lane.decoder.options, draft)
        source_for(lane.decoder, model.name, draft)
    context = min(one.context for one in (model, *drafts))
    template = ChatTemplate.choose(model.tokenizer, spec.template, default_template(model.name))
    prompts = Prompts(template, context, spec.max_new_tokens or 1, spec.long_prompts)
    positions = prompts.longest(plan.questions)
    memory, indexes = memory_plans(plan, target, positions), index_plans(plan, target, positions)
    return TargetSetup(target, prompts, positions, memory, indexes, free)


def check(plan: Plan, free: Free = free_bytes) -> dict[str, TargetSetup]:
    """Every target's setup; raises before anything is loaded where models do not go together or do not fit, and, with
    `--long-prompts fail`, where a prompt is too long."""
    setups = {target: set_up(plan, target, free) for target in plan.spec.target}
    for setup in setups.values():
        for question in plan.questions if plan.spec.long_prompts == "fail" else ():
            setup.prompts.check(question)
    for setup in setups.values():
        setup.check_fits(plan.spec.device or plan.device)
    return setups
