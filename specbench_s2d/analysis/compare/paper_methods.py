"""Which rows of a paper each of our decoders stands for, told by the role of its draft (`draft_roles`).

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
from typing import Any

from specbench_s2d.analysis.compare.draft_roles import DraftRole, draft_role
from specbench_s2d.published import published
from specbench_s2d.runs.record import Record

PAPER_EXITS = (6, 9, 12)
_DEFAULT_THRESHOLDS = "0.5,0.5,0"
_S2D = "S2D SoFT 6,9,12"
_TREE = "S2D adaptive tree depth 4, top-k 10, 60 tokens"
SPS = "SpS"
_OVER_SD = "vs vanilla SD"


@dataclass(frozen=True)
class DecoderFacts:
    """What a decoder does in its run: its name, the role of its draft, and the paper's exit at its own exit's place.

    `exit` is None where the decoder names none; `placed` is False where it names one that has no counterpart.
    """

    decoder: str
    draft: DraftRole
    exit: int | None
    placed: bool
    options: dict[str, Any]
    draft_name: str | None = None


def decoders_of(records: Sequence[Record]) -> dict[str, DecoderFacts]:
    """The facts of every label of a run."""
    first = {r.label: r for r in records}
    places = _places(records)
    found = {}
    for label, r in first.items():
        depth = r.decoder_options.get("exit")
        draft = draft_role(r.draft, list(first.values()))
        found[label] = DecoderFacts(
            r.decoder, draft, places.get(depth), depth is None or depth in places, r.decoder_options, r.draft
        )
    return found


def wanted(paper: str) -> str:
    """The decoders that a run needs to be compared with a paper."""
    return _PAPERS[paper][1] if paper in _PAPERS else ""


def methods_of(paper: str, facts: DecoderFacts) -> list[str]:
    """The names, in that paper, of the rows that a decoder stands for; none where it has no counterpart."""
    return _PAPERS[paper][0](facts) if paper in _PAPERS else []


def sd_for(label: str, found: Mapping[str, DecoderFacts]) -> str | None:
    """The label of the run's plain `sd` that `label` is best compared with: of the same draft, then of the same gamma,
    then the first; None where the run has none at full depth."""
    own = found[label]
    others = [other for other, facts in found.items() if facts.decoder == "sd" and facts.options.get("exit") is None]

    def differs(other: str) -> tuple[bool, bool]:
        its = found[other]
        return its.draft_name != own.draft_name, its.options.get("gamma") != own.options.get("gamma")

    return min(others, key=differs, default=None)


def is_over_sd(method: str) -> bool:
    """Whether a paper's row is over vanilla speculative decoding, and not over AR."""
    return method.endswith(_OVER_SD)


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


def _s2d(facts: DecoderFacts) -> list[str]:
    if facts.decoder == "sd" and facts.placed and facts.draft != "none":
        depth = facts.exit or PAPER_EXITS[-1]
        plain = "SD SFT L12" if depth == PAPER_EXITS[-1] else f"SD SFT early-exit L{depth}"
        return [{"plain": plain, "sorted": f"SD SoFT L{depth}", "other": "SD vicuna-160m"}[facts.draft]]
    if facts.decoder == "s2d":
        thresholds = ",".join(f"{t:g}" for t in facts.options.get("thresholds") or ())
        return [*([_S2D] if thresholds == _DEFAULT_THRESHOLDS else []), f"{_S2D} thresholds {thresholds}"]
    return []


def _sd2(facts: DecoderFacts) -> list[str]:
    size = tuple(facts.options.get(name) for name in ("depth", "topk", "tokens"))
    return [_TREE] if facts.decoder == "s2d-tree" and size == (4, 10, 60) else []


def is_sps_schedule(facts: DecoderFacts) -> bool:
    """Whether an `sd` drafts as many tokens as Spec-Bench's SpS would."""
    return facts.options.get("gamma") == "heuristic"


def _spec_bench(facts: DecoderFacts) -> list[str]:
    if facts.decoder == "sd":
        return [SPS] if facts.options.get("exit") is None else []
    return [name for name in _leaderboard() if name.lower() == facts.decoder.lower()]


@cache
def _leaderboard() -> tuple[str, ...]:
    return tuple(dict.fromkeys(published("spec-bench")["method"]))


def _is_mjsd(facts: DecoderFacts) -> bool:
    single = facts.options.get("candidates", 1) == 1
    return facts.decoder == "mjsd" and single and facts.options.get("exit") is None


def _mjsd(facts: DecoderFacts) -> list[str]:
    return ["MJSD vs greedy autoregressive", f"MJSD {_OVER_SD}"] if _is_mjsd(facts) else []


def _mtad(facts: DecoderFacts) -> list[str]:
    return ["MTAD vs single-token sampling", f"MTAD {_OVER_SD}"] if _is_mjsd(facts) else []


_PAPERS: dict[str, tuple[Callable[[DecoderFacts], list[str]], str]] = {
    "s2d": (_s2d, "sd and s2d"),
    "sd2": (_sd2, "s2d-tree"),
    "spec-bench": (_spec_bench, "sd:gamma=heuristic"),
    "mjsd": (_mjsd, "mjsd"),
    "mtad": (_mtad, "mjsd"),
}
"""By paper: which of its rows a decoder stands for, and the decoders that a run needs for any."""
