"""The exits of a nested draft: the depths at which its sub-models end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from specbench_s2d.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from specbench_s2d.models.token_ranking import Ranking

CONFIG_KEY = "specbench_exits"


class HasExits(Protocol):
    """What a draft is, its depth and exits: of a loaded model, or of one that is resolved."""

    @property
    def name(self) -> str: ...
    @property
    def depth(self) -> int: ...
    @property
    def exits(self) -> tuple[int, ...]: ...
    @property
    def has_layer_ranges(self) -> bool: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    @property
    def ranking(self) -> Ranking | None: ...


def check_exits(exits: Sequence[int], depth: int, who: str) -> tuple[int, ...]:
    """`exits` as ascending depths from 1 to `depth`; otherwise raises a `ModelError` that starts with `who`."""
    shown = ", ".join(str(exit_depth) for exit_depth in exits)
    if not exits or not all(isinstance(exit_depth, int) and 1 <= exit_depth <= depth for exit_depth in exits):
        said = f"exits {shown}" if exits else "no exits"
        raise ModelError(f"{who}: {said}: an exit is a depth from 1 to {depth}, the draft's layers.")
    if any(later <= earlier for earlier, later in pairwise(exits)):
        raise ModelError(f"{who}: exits {shown}: give each depth once, shallow to deep.")
    return tuple(exits)


def config_exits(name: str, config: Any) -> tuple[int, ...]:
    """The exits that a config declares, `()` for a plain model; raises `ModelError` for impossible ones."""
    declared = getattr(config, CONFIG_KEY, None)
    if not declared:
        return ()
    listed = list(declared) if isinstance(declared, (list, tuple)) else [declared]
    return check_exits(listed, config.num_hidden_layers, name)


def check_layer_ranges(draft: HasExits) -> None:
    """Raise `ModelError` for a draft whose layers cannot be run in ranges."""
    if not draft.has_layer_ranges:
        raise ModelError(
            f"draft {draft.name} runs through transformers' own forward, which has no layer ranges; "
            "a draft with exits must be a Llama-family checkpoint."
        )


def resolve_exits(draft: HasExits, asked: Sequence[int] | None) -> tuple[int, ...]:
    """The exits to draft with: those `asked` for, else those that the checkpoint declares.

    Raises `ModelError` for impossible exits, for a plain draft where none are asked for, and for a draft whose layers
    cannot be run in ranges.
    """
    check_layer_ranges(draft)
    if asked is not None:
        return check_exits(asked, draft.depth, f"draft {draft.name}")
    if not draft.exits:
        raise ModelError(
            f"draft {draft.name} is plain: its config declares no exits; give a draft made by "
            f"`specbench-s2d train soft`, or exits=… (depths from 1 to {draft.depth})."
        )
    return draft.exits
