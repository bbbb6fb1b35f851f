"""Which passes share a captured graph: each is rounded up to one of a few shapes, in rows and in what it attends to."""

from __future__ import annotations

from dataclasses import dataclass

from specbench_s2d.models.passes.base import Request

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
"""Rows that graphs are captured for: exact where drafts are short, coarser where trees are wide."""
MOST_ROWS = ROWS[-1]
AHEAD_ROWS = 8
"""A kind of pass that is met is captured at once for up to so many rows, for drafts end early."""
MASK_COLUMNS = (64, 128, 256, 512)
"""Widths of the static mask; a mask over more positions runs eagerly."""
_FIRST_BUCKET = 128


@dataclass(frozen=True, slots=True)
class Kind:
    """What a pass does, whatever its rows and its place: from hidden states or ids, through which layers, with the head
    or not, and under a mask of so many columns (0: causal)."""

    hidden: bool
    from_layer: int
    to_layer: int
    head: bool
    mask_columns: int = 0

    @property
    def layers(self) -> range:
        return range(self.from_layer, self.to_layer)

    @classmethod
    def of(cls, request: Request, head: bool) -> Kind:
        columns = 0
        if request.mask is not None or request.positions is not None:
            columns = round_up(request.new if request.mask is None else request.mask.shape[1], MASK_COLUMNS)
        return cls(request.inputs.is_floating_point(), request.from_layer, request.to_layer, head, columns)


@dataclass(frozen=True, slots=True)
class Shape:
    """One graph: a kind of pass over `rows` positions that attends to the first `bucket` positions of the cache."""

    kind: Kind
    rows: int
    bucket: int


def fits(request: Request) -> bool:
    """Whether a pass is one that repeats: narrow, its mask no wider than the widest, and not the start of a prompt."""
    masked = 0 if request.mask is None else request.mask.shape[1]
    prompt = request.start == 0 and request.new > 1
    return request.new <= MOST_ROWS and masked <= MASK_COLUMNS[-1] and not prompt


def round_up(wanted: int, sizes: tuple[int, ...]) -> int:
    """The smallest of ascending `sizes` that is at least `wanted`, which the last one is."""
    return next(size for size in sizes if size >= wanted)


def buckets(capacity: int) -> tuple[int, ...]:
    """Lengths that attention is captured for: 128, 192, 256, 384, … below `capacity`, and `capacity` itself."""
    sizes, size = [], _FIRST_BUCKET
    while size < capacity:
        sizes += [part for part in (size, size * 3 // 2) if part < capacity]
        size *= 2
    return (*sizes, capacity)
