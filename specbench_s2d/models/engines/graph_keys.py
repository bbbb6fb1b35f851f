"""Which passes share a captured graph: rows and attention length are rounded up to a few sizes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from specbench_s2d.models.base import PassKind
from specbench_s2d.models.engines.base import Request

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 96)
"""Rows of graphs: every number where drafts are short, few where passes are wide, to keep the number of graphs low."""
MOST_ROWS = ROWS[-1]
NARROW_ROWS = 64
"""Decoders declare every pass of up to this many rows; a wider one that none declared is a stray and runs eagerly."""
MOST_BEST = 64
"""The most likeliest tokens that a graph reads."""
UNDECLARED_ROWS = 8
"""Where no decoder declares passes, graphs of up to this many rows are captured when first needed; wider passes run
eagerly."""
MASK_COLUMNS = (64, 128, 256, 512)
"""Widths of the static mask; passes under a wider mask run eagerly."""
_BUCKETS = (128, 256, 512)


@dataclass(frozen=True, slots=True)
class GraphKind:
    """What a pass computes, apart from its rows and position.

    `hidden`: its input is hidden states, not ids. `states`, `logits`: whether it returns these. `best`: how many of the
    likeliest tokens it returns, 0 for none. `mask_columns`: the width of its mask, 0 for causal attention.
    """

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
        """Whether it runs the head."""
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
    """Identifies a graph: a kind of pass over `rows` positions, which attends to the cache's first `bucket`
    positions."""

    kind: GraphKind
    rows: int
    bucket: int


def rounded_rows(rows: int) -> int:
    """The rows of the graph for a pass over `rows` positions."""
    return round_up(rows, ROWS)


def key_of(request: Request, kind: GraphKind, lengths: tuple[int, ...]) -> GraphKey:
    """The graph of a request of this kind; `lengths`: the cache's buckets."""
    bucket = round_up(request.end, lengths) if kind.layers else 0
    return GraphKey(kind, rounded_rows(request.new), bucket)


def graph_kind(declared: PassKind, depth: int) -> GraphKind:
    """The kind of the graphs of a declared pass; its mask is the widest that the pass can have."""
    head = declared.to_layer is None
    to_layer = depth if declared.to_layer is None else declared.to_layer
    columns = round_up(min(declared.seen, MASK_COLUMNS[-1]), (0, *MASK_COLUMNS))
    first, best = declared.from_layer, declared.best
    return GraphKind(first > 0, first, to_layer, not head, head and not best, best, columns)


def declared_rows(passes: Iterable[PassKind], depth: int) -> dict[GraphKind, set[int]]:
    """The rows of the graphs that declared passes need, by kind, for a model of `depth` layers."""
    rows: dict[GraphKind, set[int]] = {}
    for declared in passes:
        if declared.best > MOST_BEST:
            continue
        least, most = (round_up(min(limit, MOST_ROWS), ROWS) for limit in (declared.least, declared.rows))
        rows.setdefault(graph_kind(declared, depth), set()).update(size for size in ROWS if least <= size <= most)
    return rows


def keys_of(kind: GraphKind, rows: Iterable[int], lengths: Iterable[int]) -> list[GraphKey]:
    """The graphs of a kind for every bucket of the cache, the longest first."""
    longest_first = sorted(lengths, reverse=True) if kind.layers else [0]
    return [GraphKey(kind, size, length) for size in sorted(rows) for length in longest_first]


def fits(request: Request) -> bool:
    """Whether a graph can hold the pass: it is narrow, its mask is not too wide, and it is not a prompt, which may be
    one token long."""
    masked = 0 if request.mask is None else request.mask.shape[1]
    prompt = request.start == 0 and request.from_layer < request.to_layer
    narrow = request.new <= MOST_ROWS and masked <= MASK_COLUMNS[-1] and request.best <= MOST_BEST
    return narrow and not prompt


def round_up(wanted: int, sizes: tuple[int, ...]) -> int:
    """The smallest of ascending `sizes` that is at least `wanted`; the last one must be."""
    return next(size for size in sizes if size >= wanted)


def buckets(capacity: int) -> tuple[int, ...]:
    """Attention lengths of graphs: 128, 256, 512, 768, 1024, 1536, … below `capacity`, and `capacity` itself."""
    sizes, size = [part for part in _BUCKETS if part < capacity], _BUCKETS[-1]
    while size < capacity:
        sizes += [part for part in (size * 3 // 2, size * 2) if part < capacity]
        size *= 2
    return (*sizes, capacity)
