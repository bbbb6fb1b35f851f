"""Which passes share a captured graph: each is rounded up to one of a few shapes, in rows and in what it attends to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from specbench_s2d.models.base import PassKind
from specbench_s2d.models.passes.base import Request

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
"""Rows that graphs are captured for: exact where drafts are short, coarser where trees are wide."""
MOST_ROWS = ROWS[-1]
MOST_BEST = 64
"""Likeliest tokens that a graph reads at most."""
AHEAD_ROWS = 8
"""A kind of pass that nobody announced is captured for up to so many rows when it is met; wider ones run eagerly."""
MASK_COLUMNS = (64, 128, 256, 512)
"""Widths of the static mask; a mask over more positions runs eagerly."""
_FIRST_BUCKET = 128


@dataclass(frozen=True, slots=True)
class Kind:
    """What a pass does, whatever its rows and its place: from hidden states or ids, through which layers; whether it
    gives `states` and `logits`; how many of the likeliest tokens (`best`, 0: none); under a mask of so many columns (0:
    causal)."""

    hidden: bool
    from_layer: int
    to_layer: int
    states: bool
    logits: bool
    best: int = 0
    mask_columns: int = 0

    @property
    def layers(self) -> range:
        return range(self.from_layer, self.to_layer)

    @property
    def head(self) -> bool:
        """Whether it runs the head at all."""
        return self.logits or self.best > 0

    @classmethod
    def of(cls, request: Request) -> Kind:
        columns = 0 if request.mask is None else round_up(request.mask.shape[1], MASK_COLUMNS)
        hidden, logits = request.inputs.is_floating_point(), request.head and not request.best
        return cls(
            hidden, request.from_layer, request.to_layer, not request.head, logits, request.best, mask_columns=columns
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """One graph: a kind of pass over `rows` positions that attends to the first `bucket` positions of the cache."""

    kind: Kind
    rows: int
    bucket: int


def shape_of(request: Request, kind: Kind, lengths: tuple[int, ...]) -> Shape:
    """The graph that runs a request of this kind, over a cache of these lengths."""
    bucket = round_up(request.end, lengths) if kind.layers else 0
    return Shape(kind, round_up(request.new, ROWS), bucket)


def kinds_of(asked: PassKind, depth: int) -> list[Kind]:
    """The kinds of graphs that an announced kind of pass needs: under a mask, one for every width it grows through;
    none where it reads more tokens than a graph does."""
    if asked.best > MOST_BEST:
        return []
    to_layer, head = depth if asked.to_layer is None else asked.to_layer, asked.to_layer is None
    widest = round_up(min(asked.seen, MASK_COLUMNS[-1]), (0, *MASK_COLUMNS))
    columns = [c for c in MASK_COLUMNS if c <= widest] or [0]
    logits, best = head and not asked.best, asked.best
    return [Kind(asked.from_layer > 0, asked.from_layer, to_layer, not head, logits, best, c) for c in columns]


def announced_kinds(passes: Iterable[PassKind], depth: int) -> dict[Kind, int]:
    """The kinds of graphs that announced passes need of a model of `depth` layers, and the most rows of each."""
    most: dict[Kind, int] = {}
    for asked in passes:
        for kind in kinds_of(asked, depth):
            most[kind] = max(min(asked.rows, MOST_ROWS), most.get(kind, 0))
    return most


def shapes_of(kind: Kind, most_rows: int, lengths: Iterable[int]) -> list[Shape]:
    """The graphs of a kind up to `most_rows`, for every length of the cache; the longest first."""
    buckets_of = sorted(lengths, reverse=True) if kind.layers else [0]
    widest = round_up(most_rows, ROWS)
    return [Shape(kind, rows, length) for rows in ROWS if rows <= widest for length in buckets_of]


def fits(request: Request) -> bool:
    """Whether a pass is one that repeats: narrow, its mask no wider than the widest, at positions that its order or its
    mask tells, and not the start of a prompt, which may be a token long."""
    masked = 0 if request.mask is None else request.mask.shape[1]
    prompt = request.start == 0 and request.from_layer < request.to_layer
    narrow = request.new <= MOST_ROWS and masked <= MASK_COLUMNS[-1] and request.best <= MOST_BEST
    return narrow and request.positions is None and not prompt


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
