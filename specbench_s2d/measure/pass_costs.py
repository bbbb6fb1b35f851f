"""Times of single passes on a device: of a target by width, of a draft by exit, in the order that decoding takes them.

Target and draft alternate over rounds, so that drift affects all passes equally and each finds the device's caches as
it will in the loop: the draft's first token comes right after a target pass (cold), the next ones after it (warm). The
passes go through the calls that decoding makes, and the clock stops when the device has finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from time import perf_counter

import torch

from specbench_s2d.errors import UserError
from specbench_s2d.models.base import LanguageModel, Likeliest, PassKind
from specbench_s2d.models.engines.threads import common_threads, torch_threads
from specbench_s2d.models.exit_view import ExitView, reader_passes
from specbench_s2d.models.nested import NestedDraft, stage_passes
from specbench_s2d.models.pass_timer import Now, PassTimer

ROUNDS, WARM_UP_ROUNDS = 20, 3
_CHAIN = 4  # further tokens of a chain, to tell what each costs: their kernels may queue
_AR_BEFORE = 2  # passes before AR's own: it follows others such


@dataclass(frozen=True)
class Cost:
    """Seconds of a pass, one per round."""

    rounds_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        return median(self.rounds_s)


@dataclass(frozen=True)
class StageCost:
    """One stage of a nested draft, down to the exit at `depth` layers, over one position.

    `cold`, `warm`: layers and exit check together, first after a target pass and later. `layers`, `check`: the parts,
    a wait for the device between them, warm.
    """

    depth: int
    cold: Cost
    warm: Cost
    layers: Cost
    check: Cost


@dataclass(frozen=True)
class ChainCost:
    """A drafted token of a draft read at one `depth`: the first after a target pass, and each that follows it."""

    depth: int
    cold: Cost
    warm: Cost


@dataclass(frozen=True)
class PassCosts:
    """All of a round, by what it is; `context`: positions in the caches. `verify`: by width, from 1.

    `ar_read_bytes`: what an AR pass must read at least. `chains`: the draft read at its last layer, or a nested one at
    each of its exits; `stages`: of a nested draft, else none.
    """

    context: int
    ar: Cost
    ar_read_bytes: int
    verify: dict[int, Cost]
    chains: tuple[ChainCost, ...]
    stages: tuple[StageCost, ...]


def pass_costs(
    target: LanguageModel,
    draft: LanguageModel,
    widths: Sequence[int],
    context: int,
    rounds: int = ROUNDS,
    now: Now = perf_counter,
) -> PassCosts:
    """Time every pass `rounds` times with `context` positions in the caches; leaves both caches empty.

    `now`: the clock, in seconds. Raises `UserError` where the context does not fit the models.
    """
    bench = _Bench(target, draft, widths, context, PassTimer(target.device, now))
    with torch_threads(common_threads((target.torch_threads, draft.torch_threads))):  # as in decoding
        bench.timer.rounds(bench.round, rounds, WARM_UP_ROUNDS)
    costs = bench.costs()
    target.reset()
    draft.reset()
    return costs


class _Bench:
    """The models with their caches filled, and the seconds of each kind of pass so far."""

    def __init__(
        self, target: LanguageModel, draft: LanguageModel, widths: Sequence[int], context: int, timer: PassTimer
    ) -> None:
        self._widths = widths
        room = min(target.context, draft.context) - max(*widths, 1 + _CHAIN)
        if not 1 <= context <= room:
            raise UserError(
                f"--context {context}: {target.name} and {draft.name} hold {min(target.context, draft.context)} "
                f"positions; give 1 to {room}."
            )
        self._target, self._draft, self._context = target, draft, context
        self.timer = timer
        ids = [1 + i % (target.vocabulary - 1) for i in range(context)]
        self._id = ids[-1]
        for model in (target, draft):
            model.reserve(context + max(*widths, 1 + _CHAIN))
        target.reset()
        target.extend(torch.tensor([ids], device=target.device), last_only=True)
        self._nested = NestedDraft(draft) if draft.exits else None
        self._readers = {d: ExitView(draft, d) for d in draft.exits} if draft.exits else {draft.depth: ExitView(draft)}
        if self._nested:
            self._nested.prefill(ids)
        else:
            self._readers[draft.depth].prefill(ids)
        self.ar_read_bytes = 0
        target.prepare([PassKind(max(widths))])
        stages = stage_passes(self._nested.exits, rows=1) if self._nested else []
        layers = [replace(stage, best=0) for stage in stages]
        exits = self._nested.exits if self._nested else (None,)
        chains = [kind for depth in exits for kind in reader_passes(depth, draft.depth, rows=1)]
        draft.prepare([*stages, *layers, PassKind(1, from_layer=draft.depth), *chains])

    def round(self) -> None:
        """Every target pass once, each followed by one of the ways to draft, until each of those had its turn."""
        works = self._draft_works()
        widths = list(self._widths)
        self._ar()
        for turn in range(max(len(widths), len(works))):
            self._verify(widths[turn % len(widths)], keep=turn < len(widths))
            if turn < len(works):
                works[turn]()
                self._forget(self._draft)

    def _draft_works(self) -> list[Callable[[], None]]:
        chains = [partial(self._chain, depth, reader) for depth, reader in self._readers.items()]
        return [*chains, *([self._stages, self._parts] if self._nested else [])]

    def _forget(self, model: LanguageModel) -> None:
        if self._nested and model is self._draft:
            self._nested.rollback(self._context)
        model.rollback(self._context)

    def _ar(self) -> None:
        for _ in range(_AR_BEFORE):
            self._verify(1, keep=False)
        before = self._target.read_bytes
        self._verify(1, keep=True, name="ar")
        self.ar_read_bytes = self._target.read_bytes - before

    def _verify(self, width: int, keep: bool, name: str = "verify") -> None:
        ids_BT = torch.tensor([[self._id] * width], device=self._target.device)

        def work() -> None:
            self._target.extend(ids_BT)[0].argmax(-1).tolist()

        if keep:
            self.timer.time((name, width), work)
        else:
            work()
        self._forget(self._target)

    def _chain(self, depth: int, reader: ExitView) -> None:
        """The first token, then several more in one go."""
        id_BT = torch.tensor([[self._id]], device=self._draft.device)

        def draft(tokens: int) -> None:
            ids_BT = id_BT
            for _ in range(tokens):
                ids_BT = reader.next_logits(ids_BT).argmax(-1)[None]

        self.timer.time(("chain_cold", depth), partial(draft, 1))
        self.timer.time(("chain_warm", depth), partial(draft, _CHAIN), parts=_CHAIN)

    def _stages(self) -> None:
        """Two tokens, each through all stages."""
        assert self._nested is not None
        for name in ("stage_cold", "stage_warm"):
            for stage, depth in enumerate(self._nested.exits):
                self.timer.time((name, depth), partial(self._stage, stage))

    def _stage(self, stage: int) -> None:
        assert self._nested is not None
        self._nested.read(stage, [self._id]).packed_2RK.tolist()

    def _parts(self) -> None:
        """Two tokens through all stages, the second's layers and checks apart."""
        nested = self._nested
        assert nested is not None
        for stage in range(len(nested.exits)):
            self._stage(stage)
        for stage, depth in enumerate(nested.exits):
            self.timer.time(("layers", depth), partial(self._layers, stage))
            self.timer.time(("check", depth), self._check)

    def _layers(self, stage: int) -> None:
        assert self._nested is not None
        self._top_BTD = self._nested.run(stage, [self._id])

    def _check(self) -> None:
        """Norm, head and maximum over the states that a stage has just given, read by the host."""
        Likeliest.of(self._draft.head(self._top_BTD)[0], 1).packed_2RK.tolist()

    def costs(self) -> PassCosts:
        def cost(name: str, key: int) -> Cost:
            return Cost(self.timer.rounds_s((name, key)))

        depths = self._nested.exits if self._nested else ()
        return PassCosts(
            self._context,
            cost("ar", 1),
            self.ar_read_bytes,
            {width: cost("verify", width) for width in self._widths},
            tuple(ChainCost(d, cost("chain_cold", d), cost("chain_warm", d)) for d in self._readers),
            tuple(
                StageCost(d, cost("stage_cold", d), cost("stage_warm", d), cost("layers", d), cost("check", d))
                for d in depths
            ),
        )
