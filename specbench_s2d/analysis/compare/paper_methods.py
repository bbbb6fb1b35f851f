"""Which of a paper's rows each of our decoders stands beside, told by the part that its draft plays in the run.

Drafts are told apart by what the records say:
- *sorted* (the papers' SoFT draft): drafts for an `s2d…` decoder, is named "…soft…", or is read at a fixed exit
  without being named in the decoder's options;
- *plain* (their SFT draft): is named "…sft…", or is read at a fixed exit though named in the options;
- any other is the unrelated small model.

Exits go by their place: ours, in rising order, stand for the paper's 6, 9 and 12 of 12 layers.

| ours | paper `s2d` |
| --- | --- |
| `sd` with the plain draft, full depth | SD SFT L12 |
| `sd` with the plain draft, exit of place i | SD SFT early-exit L6, L9 |
| `sd` with the sorted draft, exit of place i | SD SoFT L6, L9, L12 |
| `sd` with any other draft | SD vicuna-160m |
| `s2d` at 0.5, 0.5, 0 | S2D SoFT 6,9,12, and its row in the ablation of thresholds |
| `s2d` at other thresholds | S2D SoFT 6,9,12 thresholds …, where the paper tried them |

Paper `sd2`: `s2d-tree` with depth 4, top 10, 60 tokens. Paper `spec-bench`: `sd` at full depth is SpS, whose own
schedule is gamma=heuristic; an imported run's label that is a method's name, as EAGLE2, is that method.
Papers `mjsd` and `mtad` (its later name): `mjsd` with one candidate and no exit, at any tau, gamma and number of beams;
where their row says "vs vanilla SD", over the run's `sd` of the same draft and gamma, else over its nearest (`sd_for`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from specbench_s2d.published import published
from specbench_s2d.runs.record import Record

DraftPart = Literal["none", "sorted", "plain", "other"]
PAPER_EXITS = (6, 9, 12)
_DEFAULT_THRESHOLDS = "0.5,0.5,0"
_S2D = "S2D SoFT 6,9,12"
_TREE = "S2D adaptive tree depth 4, top-k 10, 60 tokens"
SPS = "SpS"
_OVER_SD = "vs vanilla SD"


@dataclass(frozen=True)
class MethodPart:
    """What a decoder does in its run: its name, the part of its draft, and the paper's exit at its own exit's place.

    `exit` is None where the decoder names none; `placed` is False where it names one that has no counterpart.
    """

    decoder: str
    draft: DraftPart
    exit: int | None
    placed: bool
    options: dict[str, Any]
    draft_name: str | None = None


def parts(records: Sequence[Record]) -> dict[str, MethodPart]:
    """The part of every label of a run."""
    first = {r.label: r for r in records}
    places = _places(records)
    found = {}
    for label, r in first.items():
        depth = r.decoder_options.get("exit")
        draft = _draft_part(r.draft, list(first.values()))
        found[label] = MethodPart(
            r.decoder, draft, places.get(depth), depth is None or depth in places, r.decoder_options, r.draft
        )
    return found


def wanted(paper: str) -> str:
    """The decoders that a run needs to stand beside a paper's rows."""
    return _WANTED.get(paper, "")


def methods_of(paper: str, part: MethodPart) -> list[str]:
    """The names, in that paper, of the rows that a decoder stands beside; none where it has no counterpart."""
    find = _METHODS.get(paper)
    return find(part) if find else []


def sd_for(label: str, found: Mapping[str, MethodPart]) -> str | None:
    """The label of the run's plain `sd` that `label` is best compared with: of the same draft, then of the same gamma,
    then the first; None where the run has none at full depth."""
    own = found[label]
    others = [other for other, part in found.items() if part.decoder == "sd" and part.options.get("exit") is None]

    def differs(other: str) -> tuple[bool, bool]:
        its = found[other]
        return its.draft_name != own.draft_name, its.options.get("gamma") != own.options.get("gamma")

    return min(others, key=differs, default=None)


def is_over_sd(method: str) -> bool:
    """Whether a paper's row is a figure over vanilla speculative decoding, and not over AR."""
    return method.endswith(_OVER_SD)


def _draft_part(draft: str | None, records: Sequence[Record]) -> DraftPart:
    if draft is None:
        return "none"
    users = [r for r in records if r.draft == draft]
    early = [r for r in users if r.decoder_options.get("exit") is not None]
    name = draft.lower()
    if "soft" in name or any(r.decoder.startswith("s2d") for r in users):
        return "sorted"
    if "sft" in name or any(r.decoder_options.get("draft") is not None for r in early):
        return "plain"
    return "sorted" if early else "other"


def _places(records: Iterable[Record]) -> dict[int | None, int]:
    """Our exits to the paper's, by place; empty where there are not as many."""
    exits: set[int] = set()
    for r in records:
        named = r.decoder_options.get("exit")
        exits |= {named} if named is not None else set(r.decoder_options.get("exits") or ())
        exits |= set(r.exit_depths or ()) if r.decoder.startswith("s2d") else set()
    if exits <= set(PAPER_EXITS):
        return {depth: depth for depth in exits}
    return dict(zip(sorted(exits), PAPER_EXITS, strict=True)) if len(exits) == len(PAPER_EXITS) else {}


def _s2d(part: MethodPart) -> list[str]:
    if part.decoder == "sd" and part.placed and part.draft != "none":
        depth = part.exit or PAPER_EXITS[-1]
        plain = "SD SFT L12" if depth == PAPER_EXITS[-1] else f"SD SFT early-exit L{depth}"
        return [{"plain": plain, "sorted": f"SD SoFT L{depth}", "other": "SD vicuna-160m"}[part.draft]]
    if part.decoder == "s2d":
        thresholds = ",".join(f"{t:g}" for t in part.options.get("thresholds") or ())
        return [*([_S2D] if thresholds == _DEFAULT_THRESHOLDS else []), f"{_S2D} thresholds {thresholds}"]
    return []


def _sd2(part: MethodPart) -> list[str]:
    size = tuple(part.options.get(name) for name in ("depth", "topk", "tokens"))
    return [_TREE] if part.decoder == "s2d-tree" and size == (4, 10, 60) else []


def is_sps_schedule(part: MethodPart) -> bool:
    """Whether an `sd` drafts as many tokens as Spec-Bench's SpS would."""
    return part.options.get("gamma") == "heuristic"


def _spec_bench(part: MethodPart) -> list[str]:
    if part.decoder == "sd":
        return [SPS] if part.options.get("exit") is None else []
    return [name for name in _leaderboard() if name.lower() == part.decoder.lower()]


@cache
def _leaderboard() -> tuple[str, ...]:
    return tuple(dict.fromkeys(published("spec-bench")["method"]))


def _is_mjsd(part: MethodPart) -> bool:
    single = part.options.get("candidates", 1) == 1
    return part.decoder == "mjsd" and single and part.options.get("exit") is None


def _mjsd(part: MethodPart) -> list[str]:
    return ["MJSD vs greedy autoregressive", f"MJSD {_OVER_SD}"] if _is_mjsd(part) else []


def _mtad(part: MethodPart) -> list[str]:
    return ["MTAD vs single-token sampling", f"MTAD {_OVER_SD}"] if _is_mjsd(part) else []


_METHODS: dict[str, Callable[[MethodPart], list[str]]] = {
    "s2d": _s2d,
    "sd2": _sd2,
    "spec-bench": _spec_bench,
    "mjsd": _mjsd,
    "mtad": _mtad,
}
_WANTED = {
    "s2d": "sd and s2d",
    "sd2": "s2d-tree",
    "spec-bench": "sd:gamma=heuristic",
    "mjsd": "mjsd",
    "mtad": "mjsd",
}
