"""Which passes share a captured graph: each is rounded up to one of a few shapes, in rows and in what it attends to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from specbench_s2d.models.base import PassKind
from specbench_s2d.models.engines.base import Request

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64)
"""Rows that graphs are captured for: exact where drafts are short, coarse where passes are wide, to keep graphs few."""
MOST_ROWS = ROWS[-1]
MOST_BEST = 64
"""Likeliest tokens that a graph reads at most."""
UNDECLARED_ROWS = 8
"""A kind of pass that nobody announced is captured for up to so many rows when it is met; wider ones run eagerly."""
MASK_COLUMNS = (64, 128, 256, 512)
"""Widths of the static mask; a mask over more positions runs eagerly."""
_BUCKETS = (128, 256, 512)


@dataclass(frozen=True, slots=True)
class GraphKind:
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
    def of(cls, request: Request) -> GraphKind:
        columns = 0 if request.mask is None else round_up(request.mask.shape[1], MASK_COLUMNS)
        hidden, logits = request.inputs.is_floating_point(), request.head and not request.best
        return cls(
            hidden, request.from_layer, request.to_layer, not request.head, logits, request.best, mask_columns=columns
        )


@dataclass(frozen=True, slots=True)
class GraphKey:
    """One graph: a kind of pass over `rows` positions that attends to the first `bucket` positions of the cache."""

    kind: GraphKind
    rows: int
    bucket: int


def rounded_rows(rows: int) -> int:
    """The rows of the graph that a pass over so many runs as."""
    return round_up(rows, ROWS)


def key_of(request: Request, kind: GraphKind, lengths: tuple[int, ...]) -> GraphKey:
    """The graph that runs a request of this kind, over a cache of these lengths."""
    bucket = round_up(request.end, lengths) if kind.layers else 0
    return GraphKey(kind, rounded_rows(request.new), bucket)


def graph_kind(asked: PassKind, depth: int) -> GraphKind:
    """The kind of graphs that an announced kind of pass needs: under a mask, of the widest it grows to."""
    to_layer, head = depth if asked.to_layer is None else asked.to_layer, asked.to_layer is None
    columns = round_up(min(asked.seen, MASK_COLUMNS[-1]), (0, *MASK_COLUMNS))
    logits = head and not asked.best
    return GraphKind(asked.from_layer > 0, asked.from_layer, to_layer, not head, logits, asked.best, columns)


def declared_rows(passes: Iterable[PassKind], depth: int) -> dict[GraphKind, set[int]]:
    """Rows of the graphs that announced passes need of a model of `depth` layers, by kind."""
    rows: dict[GraphKind, set[int]] = {}
    for asked in passes:
        if asked.best > MOST_BEST:  # reads more tokens than a graph does
            continue
        least, most = (round_up(min(limit, MOST_ROWS), ROWS) for limit in (asked.least, asked.rows))
        rows.setdefault(graph_kind(asked, depth), set()).update(size for size in ROWS if least <= size <= most)
    return rows


def keys_of(kind: GraphKind, rows: Iterable[int], lengths: Iterable[int]) -> list[GraphKey]:
    """The graphs of a kind, for every length of the cache; the longest first."""
    buckets_of = sorted(lengths, reverse=True) if kind.layers else [0]
    return [GraphKey(kind, size, length) for size in sorted(rows) for length in buckets_of]


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
    """Lengths that attention is captured for: 128, 256, 512, 768, 1024, 1536, … below `capacity`, and `capacity`."""
    sizes, size = [part for part in _BUCKETS if part < capacity], _BUCKETS[-1]
    while size < capacity:
        sizes += [part for part in (size * 3 // 2, size * 2) if part < capacity]
        size *= 2
    return (*sizes, capacity)
