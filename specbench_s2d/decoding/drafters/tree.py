"""The adaptive tree of SD2, S2D's follow-up: the sorted draft grows a tree by cumulative probability.

The tree is grown on the device. The host waits only for the confidences that exits are chosen by, and learns the tokens
together with the verdict.
Shapes: `N` nodes of one level, `K` children of each, `E` expanded nodes, `C` candidates of all levels, `V` vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor

from specbench_s2d.decoding.draft_vocabulary import at_most_the_vocabulary, vocabulary_hashes, vocabulary_of
from specbench_s2d.decoding.drafters.sorted import ThresholdOptions, check_exits_and_thresholds
from specbench_s2d.decoding.growth import Candidates, Frontier, add_children, expand, proposal_of, tree_rows
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Proposal, Verdict
from specbench_s2d.models.base import LanguageModel, Likeliest, PassKind
from specbench_s2d.models.exits import HasExits, resolve_exits
from specbench_s2d.models.nested import MANY, NestedDraft, stage_passes


class TreeDrafter:
    """Grows a tree level by level from the draft's likeliest nodes, and proposes the likeliest nodes of all levels.

    A level leaves at the first exit where the mean confidence of its nodes, weighted by their probabilities, is above
    the threshold; on the first level, a single node, this is S2D's own rule. Near the end of the context window the
    tree is narrower.
    """

    draft_kind: ClassVar[Literal["none", "plain", "nested"]] = "nested"
    has_likelihoods: ClassVar[bool] = True

    class Options(ThresholdOptions):
        """`depth`: levels. `topk`: nodes expanded per level, and children of each. `tokens`: most nodes proposed."""

        depth: Annotated[int, Field(ge=1, description="Levels of the tree.")] = 4
        topk: Annotated[
            int,
            Field(ge=1, description="Nodes expanded per level, and children of each.", validate_default=True),
            AfterValidator(at_most_the_vocabulary),
        ] = 10
        tokens: Annotated[int, Field(ge=1, description="Most tokens of one proposal, by cumulative probability.")] = 60

    def __init__(self, draft: LanguageModel, options: TreeDrafter.Options) -> None:
        self.check_draft(options, draft)
        self._nested, self._options = NestedDraft(draft, options.exits, vocabulary_of(options, draft)), options
        self._device = draft.device

    check_draft = staticmethod(check_exits_and_thresholds)
    data_hashes = staticmethod(vocabulary_hashes)

    @staticmethod
    def draft_passes(options: TreeDrafter.Options, draft: HasExits) -> list[PassKind]:
        """The end of the context, then each level under a mask; later stages run over all waiting states as well."""
        exits, o, vocabulary = resolve_exits(draft, options.exits), options, vocabulary_of(options, draft)
        seen = o.topk * (o.depth - 1) + MANY
        levels = stage_passes(exits, o.topk, o.topk, seen, o.topk, vocabulary) if o.depth > 1 else []
        return [*stage_passes(exits, 2, o.topk, vocabulary=vocabulary), *levels]

    @staticmethod
    def target_passes(options: TreeDrafter.Options) -> list[PassKind]:
        """One pass over the context's last token and all tokens of the tree."""
        o = options
        rows = tree_rows(o.depth, o.topk, o.tokens)
        return [PassKind(rows, seen=rows, least=rows)]

    def start(self, prompt_ids: Sequence[int], sampler: Sampler) -> None:
        self._nested.prefill(prompt_ids)

    def propose(self, context: Sequence[int], room: int) -> Proposal:
        o, nested = self._options, self._nested
        before, levels, self._context = nested.layer_runs, min(o.depth, room), len(context)
        topk = max(1, min(o.topk, room // max(levels, 1)))
        found, frontier, exits = Candidates(), None, list[int]()
        unseen: Sequence[int] | Tensor = context[nested.length :]
        for level in range(1, levels + 1):
            likeliest, exit_depth = self._read(unseen, frontier)
            exits.append(exit_depth)
            add_children(found, likeliest, frontier, topk)
            if level < levels:
                frontier = expand(found, frontier, topk)
                unseen = frontier.ids_N[None]
        layers = nested.layer_runs - before
        if not levels:
            return Proposal(torch.empty(0, dtype=torch.long, device=self._device), draft_layers=layers)
        return proposal_of(found, min(o.tokens, room), layers, tuple(exits))

    def _read(self, unseen: Sequence[int] | Tensor, frontier: Frontier | None) -> tuple[Likeliest, int]:
        """(the K likeliest tokens after every node of a level, exit depth), at the first exit whose confidence is above
        its threshold, else the last."""
        nested, level = self._nested, _LevelConfidence(frontier)
        rows = 1 if frontier is None else len(frontier.ids_N)
        last = len(nested.exits) - 1
        for stage, threshold in enumerate(self._options.thresholds):
            new = nested.waiting(stage) if stage else rows
            mask_TM = None if frontier is None else _mask(frontier.mask_EE, new)
            likeliest = nested.read(stage, unseen, mask_TM, rows, self._options.topk)
            if stage == last or level.confidence(likeliest) > threshold:
                break
        return likeliest, nested.exits[stage]

    def commit(self, committed: int, verdict: Verdict) -> None:
        """Keep the accepted nodes that the draft has run in its cache: a prefix of the accepted path."""
        cached = verdict.drafted.cached_rows if verdict.drafted else None
        path = [cached[i] for i in verdict.accepted_path] if cached else []
        self._nested.keep_path([row for row in path if row >= 0], self._context)


class _LevelConfidence:
    """The confidence of a level: the mean of its nodes' confidences, weighted by the nodes' cumulative
    probabilities."""

    def __init__(self, frontier: Frontier | None) -> None:
        self._joint_N = None if frontier is None else frontier.joint_N
        self._weights: list[float] = [] if frontier else [1.0]

    def confidence(self, likeliest: Likeliest) -> float:
        """The weighted mean; the host waits for the device, the first time for the weights as well."""
        best_N = likeliest.logprobs_RK[:, 0]
        if not self._weights and self._joint_N is not None:
            values: list[float] = torch.cat((best_N, self._joint_N)).tolist()
            best, joint = values[: len(best_N)], values[len(best_N) :]
            self._weights = [math.exp(own - max(joint)) for own in joint]  # relative, as all deep nodes are unlikely
        else:
            best = best_N.tolist()
        weighed = sum(w * math.exp(p) for w, p in zip(self._weights, best, strict=True))
        return weighed / sum(self._weights)


def _mask(mask_EE: Tensor, new: int) -> Tensor:
    """The attention mask (T, M) of the last `new` positions of context and expanded nodes."""
    before = new - len(mask_EE)
    if before <= 0:
        return mask_EE[-new:]
    causal_TB = mask_EE.new_ones(new, before).tril()
    return torch.cat((causal_TB, F.pad(mask_EE, (0, 0, before, 0))), dim=1)
