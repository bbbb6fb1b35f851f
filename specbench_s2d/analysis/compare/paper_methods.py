"""Which rows of a paper each of our decoders stands for: those that `results/published/methods.csv` states.

A decoder stands for a method of the same decoder name, the same exit, the options that make it that method, and the
draft that the table asks for: by its role (`draft_roles`), by the kind of a draft head, or by its name. Exits go by
their place: ours, in rising order, stand for the paper's 6, 9 and 12 of 12 layers, where there are three. An imported
run's label that is a method's name, as EAGLE2, is that method. MJSD and MTAD, its later name, have `mjsd` with one
candidate and no exit, at any tau, gamma and number of beams; where their row says "vs vanilla SD", over the run's `sd`
of the same draft and gamma, else over its nearest (`sd_for`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from specbench_s2d.analysis.compare.draft_roles import DraftRole, draft_role
from specbench_s2d.decoding.labels import value_text
from specbench_s2d.paper_names import ANY, PaperMethod, paper_methods, same_model
from specbench_s2d.published import published
from specbench_s2d.runs.columns import Records
from specbench_s2d.runs.record import Record

PAPER_EXITS = (6, 9, 12)
_ROLES = ("sorted", "plain")
_HEAD = "head:"
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
    head: str | None = None


def decoders_of(records: Iterable[Record], heads: Mapping[str, str] | None = None) -> dict[str, DecoderFacts]:
    """The facts of every label of a run; `heads`: the kinds of its draft heads, by their names."""
    places = _places(records)
    found = {}
    for label, mine in sorted(Records.of(records).by_value("label").items()):
        r = mine[len(mine) - 1]
        depth = r.decoder_options.get("exit")
        draft = draft_role(r.draft)
        found[label] = DecoderFacts(
            r.decoder, draft, places.get(depth), depth is None or depth in places, r.decoder_options, r.draft,
            (heads or {}).get(r.draft or ""),
        )  # fmt: skip
    return found


def wanted(paper: str) -> str:
    """The decoders that a run needs to be compared with a paper."""
    return ", ".join(
        dict.fromkeys(f"{m.decoder}{_with_draft(m.draft)}{_with_any(m.options)}" for m in paper_methods(paper))
    )


def _with_any(options: Mapping[str, str]) -> str:
    return "".join(f" with a {name}" for name, value in options.items() if value == ANY)


def _with_draft(draft: str) -> str:
    if draft.startswith(_HEAD):
        return f" with a draft head ({draft.removeprefix(_HEAD)})"
    return f" with a {draft} draft" if draft in _ROLES else f" with {draft}" if draft else ""


def methods_of(paper: str, facts: DecoderFacts) -> list[str]:
    """The names, in that paper, of the rows that a decoder stands for; none where it has no counterpart."""
    stated = paper_methods(paper)
    found = [m.method for m in stated if _stands_for(facts, m)]
    alike = [m for m in stated if m.decoder == facts.decoder]
    imported = facts.draft_name is None and any(m.draft for m in alike)  # a run names the draft that it had
    if found or (facts.options and alike and not imported):
        return found
    return [name for name in dict.fromkeys(published(paper)["method"]) if name.lower() == facts.decoder.lower()]


def why_no_method(paper: str, facts: DecoderFacts) -> str:
    """Why a decoder stands for none of a paper's methods: what those of the same decoder are."""
    alike = [m for m in paper_methods(paper) if m.decoder == facts.decoder]
    if not alike:
        return "the paper has no such method"
    rows = [m for m in alike if _same_draft(facts, m.draft)] or alike
    if facts.head is None and any(m.draft.startswith(_HEAD) for m in alike) and facts.options:
        return f"the run's manifest does not say what kind of draft head {facts.draft_name} is"
    return "; ".join(dict.fromkeys(f"{m.method} is {_described(m)}" for m in rows))


def _described(method: PaperMethod) -> str:
    fixed = ",".join(f"{name}={value}" for name, value in method.options.items() if value != ANY)
    exit_depth = f" at exit {method.exit} of {PAPER_EXITS[-1]}" if method.exit else ""
    name = f"{method.decoder}:{fixed}" if fixed else method.decoder
    return f"{name}{_with_draft(method.draft)}{exit_depth}{_with_any(method.options)}"


def _stands_for(facts: DecoderFacts, method: PaperMethod) -> bool:
    same = all(_has(facts.options.get(name), value) for name, value in method.options.items())
    return facts.decoder == method.decoder and same and _same_exit(facts, method) and _same_draft(facts, method.draft)


def _has(own: Any, stated: str) -> bool:
    return own is not None if stated == ANY else value_text(own) == stated


def _same_exit(facts: DecoderFacts, method: PaperMethod) -> bool:
    """Whether the draft is read at the paper's exit; one that is read at its last layer need not name it."""
    if method.exit is None:
        return facts.options.get("exit") is None
    return facts.placed and (facts.exit or PAPER_EXITS[-1]) == method.exit


def _same_draft(facts: DecoderFacts, draft: str) -> bool:
    if not draft:
        return True
    if draft in _ROLES:
        return facts.draft == draft
    if draft.startswith(_HEAD):
        return facts.head == draft.removeprefix(_HEAD)
    return facts.draft_name is not None and same_model(facts.draft_name, [draft]) is not None


def exits_by_place(records: Iterable[Record]) -> dict[int, int]:
    """Our exits that stand for one of the paper's of another depth."""
    return {ours: theirs for ours, theirs in _places(records).items() if ours is not None and ours != theirs}


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
    for decoder, mine in Records.of(records).by_value("decoder").items():
        for options in mine.distinct("decoder_options"):
            named = options.get("exit")
            exits |= {named} if named is not None else set(options.get("exits") or ())
        exits |= set(np.unique(mine.entries("exit_depths")[0]).tolist()) if decoder.startswith("s2d") else set()
    if exits <= set(PAPER_EXITS):
        return {depth: depth for depth in exits}
    return dict(zip(sorted(exits), PAPER_EXITS, strict=True)) if len(exits) == len(PAPER_EXITS) else {}


def other_settings(paper: str, facts: DecoderFacts, method: str) -> dict[str, str]:
    """The settings behind the paper's values of a method that are not the decoder's own; none to compare where it is
    another decoder, or an imported one whose options are not known."""
    stated = [m.settings for m in paper_methods(paper) if (m.method, m.decoder) == (method, facts.decoder)]
    own = {name: value_text(value) for name, value in facts.options.items()}
    return {name: value for settings in stated for name, value in settings.items() if own.get(name, value) != value}
