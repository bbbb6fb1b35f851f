"""A model as seen at one depth: its last layer, or an exit. Shapes: see `models/base.py`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from specbench_s2d.models.base import LanguageModel, Likeliest, PassKind
from specbench_s2d.models.draft_vocabulary import DraftVocabulary
from specbench_s2d.models.exits import HasExits, check_exits, check_layer_ranges
from specbench_s2d.models.transfer import to_device


class ExitView:
    """Next-token predictions of `model` at the depth `exit`, by default its last layer; `layers` is that depth.

    `vocabulary`: the ids that it predicts, None for all; views of one model may have different ones.
    """

    def __init__(
        self,
        model: LanguageModel,
        exit: int | None = None,  # noqa: A002 - the field's term
        vocabulary: DraftVocabulary | None = None,
    ) -> None:
        check_exit(model, exit)
        self.model, self.layers, self._vocabulary = model, exit or model.depth, vocabulary
        self._exit = exit
        # A draft does not need logits of the prompt, so the head is left out where it can be.
        self._prefill_to = exit or (model.depth if model.has_layer_ranges else None)

    @property
    def length(self) -> int:
        """Positions in the cache at this depth."""
        return self.model.layer_length(0)

    def prefill(self, prompt_ids: Sequence[int]) -> None:
        """Empty the cache and run a prompt."""
        self.model.reset()
        ids_BT = to_device([list(prompt_ids)], self.model.device)
        self.model.extend(ids_BT, to_layer=self._prefill_to, last_only=True)

    def next_logits(self, ids_BT: Tensor) -> Tensor:
        """Logits (1, V) after the last of T new ids."""
        return self._logits(ids_BT, None, True)

    def logits(self, ids_BT: Tensor, mask: Tensor) -> Tensor:
        """Logits (T, V) after each of T new ids; `mask` as in `LanguageModel.extend`."""
        return self._logits(ids_BT, mask, False)

    def likeliest(self, ids_BT: Tensor, mask: Tensor | None, best: int) -> Likeliest:
        """The `best` likeliest tokens after each of T new ids under a mask, or after the last without one."""
        rows = 1 if mask is None else ids_BT.shape[1]
        return self.model.read(ids_BT, 0, self._exit, mask, rows, best, self._vocabulary)[1]

    def _logits(self, ids_BT: Tensor, mask: Tensor | None, last_only: bool) -> Tensor:
        vocabulary = self._vocabulary
        top_BTX = self.model.extend(ids_BT, 0, self._exit, mask, last_only=last_only, vocabulary=vocabulary)
        return top_BTX[0] if self._exit is None else self.model.head(top_BTX, vocabulary)[0]


def reader_passes(
    exit: int | None,  # noqa: A002 - the field's term
    depth: int,
    rows: int,
    best: int = 0,
    seen: int = 0,
    least: int = 1,
    vocabulary: DraftVocabulary | None = None,
) -> list[PassKind]:
    """The passes of a view of a `depth`-layer model at `exit`, over `least` to `rows` new ids.

    Those of `logits` where `best` is 0, which at an exit run the head as a pass of its own; else those of `likeliest`.
    """
    passes = [PassKind(rows, to_layer=exit, seen=seen, best=best, least=least, vocabulary=vocabulary)]
    head = PassKind(rows, from_layer=depth, vocabulary=vocabulary)
    return [*passes, head] if exit is not None and not best else passes


def check_exit(draft: HasExits, exit: int | None) -> None:  # noqa: A002 - the field's term
    """Raise `ModelError` for an exit that a draft does not have."""
    if exit is not None:
        check_exits([exit], draft.depth, f"draft {draft.name}")
        check_layer_ranges(draft)
