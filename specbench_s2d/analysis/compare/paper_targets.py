"""Which of a paper's targets each of ours is compared with, and which of its methods each decoder: by its tables, or as
`--as` says."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from specbench_s2d.errors import UnknownNameError, UserError, find_name
from specbench_s2d.paper_names import ModelFacts, model_facts, other_versions, paper_target, target_models
from specbench_s2d.spelling import near_names


@dataclass(frozen=True)
class Given:
    """What `--as` said: our targets to the paper's, and our labels to its methods (several may be given)."""

    targets: dict[str, str] = field(default_factory=dict)
    methods: dict[str, list[str]] = field(default_factory=dict)


def read_given(
    pairs: Iterable[str], targets: Sequence[str], theirs: Sequence[str], labels: Sequence[str], methods: Sequence[str]
) -> Given:
    """`TARGET=PAPER_TARGET` and `LABEL=METHOD`, told apart by what stands left of the last equals sign.

    Raises `UserError` for a pair without one or a target given twice, `UnknownNameError` for a name that the run, or
    the paper, does not have.
    """
    given = Given()
    for pair in pairs:
        ours, equals, other = pair.rpartition("=")
        if not equals:
            raise UserError(f"--as {pair}: give TARGET=PAPER_TARGET, or LABEL=METHOD for a decoder.")
        if ours in targets:
            other = find_name("target of the paper", other, theirs, f"Given as --as {pair}.")
            if given.targets.setdefault(ours, other) != other:
                raise UserError(f"--as {pair}: {ours} was given as {given.targets[ours]} already; keep one of them.")
        elif ours in labels:
            if other not in methods:
                known = "; ".join(methods)
                near = near_names(other, methods)
                raise UnknownNameError(f"--as {pair}: unknown method of the paper {other!r}.{near} Known: {known}.")
            given.methods.setdefault(ours, []).append(other)
        else:
            both = [*targets, *labels]
            raise UnknownNameError.of("target or decoder of the run", ours, both, f"Given as --as {pair}.")
    return given


def match_targets(
    paper: str, ours: Iterable[str], theirs: Sequence[str], given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Our targets to the paper's: as given, else to the one that is the same model; ours that fit none stay out."""
    found = {name: (given or {}).get(name) or paper_target(paper, name, theirs) for name in ours}
    return {name: other for name, other in found.items() if other is not None}


def as_flags(paper: str, ours: Iterable[str], theirs: Sequence[str]) -> str:
    """The `--as` flags, as a shell takes them, that would set these targets beside the paper's: each beside the nearest
    in size, or, where its size is not known, one after the other."""
    pairs = ((name, _nearest(paper, name, theirs) or theirs[min(i, len(theirs) - 1)]) for i, name in enumerate(ours))
    return " ".join(f"--as {shlex.quote(f'{name}={other}')}" for name, other in pairs)


def _nearest(paper: str, name: str, theirs: Sequence[str]) -> str | None:
    facts = model_facts(name)
    if facts is None:
        return None
    apart = {
        target: min(abs(math.log(model.billions / facts.billions)) for model in target_models(paper, target))
        for target in theirs
    }
    return min(theirs, key=lambda target: apart[target])


def unfit(paper: str, ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Why these targets of ours are set beside none of the paper's, and what to give to do it all the same."""
    versions = [
        f"{name} is version {version_of(name)}, {other} is {model.version}"
        for name in ours
        for other, model in other_versions(paper, name, theirs)
    ]
    said = f" ({'; '.join(versions)})" if versions else ""
    which = f"{', '.join(ours)} {'is no model' if len(ours) == 1 else 'are no models'} of published:{paper}"
    return (
        f"{which}, which has {_listed(paper, theirs)}{said}. To set them side by side all the same: "
        f"{as_flags(paper, ours, theirs)}."
    )


def version_of(name: str) -> str:
    """The version that `models.csv` gives a model."""
    facts = model_facts(name)
    return facts.version if facts else ""


def pairing_notes(paper: str, matched: Mapping[str, str], given: Mapping[str, str]) -> list[str]:
    """How targets were paired: as one model, by family and size alone where a version is not stated, or as given."""
    pairs: dict[str, list[str]] = {"same": [], "open": [], "given": []}
    for ours, theirs in matched.items():
        how = "given" if ours in given else "same" if _one_version(paper, ours, theirs) else "open"
        pairs[how].append(f"{ours} – {theirs}")
    said = {
        "same": "The same models as the paper's: {}.",
        "open": "Of the paper's family and size, the version not stated on both sides: {}.",
        "given": "Set side by side by --as; the tables do not say that they are the same models: {}.",
    }
    return [said[how].format(", ".join(listed)) for how, listed in pairs.items() if listed]


def mean_notes(paper: str, mean: str, ours: Iterable[str]) -> list[str]:
    """What a paper's mean over targets is of, and which of those models the run lacks."""
    facts = [found for name in ours if (found := model_facts(name))]
    models = target_models(paper, mean)
    absent = [model for model in models if not any(model.is_same(mine) for mine in facts)]
    lacks = "has none of them" if len(absent) == len(models) else f"lacks {_models(absent)}"
    return [f"The paper's mean is over {_models(models)}{f'; the run {lacks}' if absent else ''}."]


def _one_version(paper: str, ours: str, theirs: str) -> bool:
    mine = version_of(ours)
    models = target_models(paper, theirs)
    return ours.lower() == theirs.lower() or any(mine == model.version for model in models)


def _listed(paper: str, theirs: Iterable[str]) -> str:
    return ", ".join(
        f"{target} ({_models(models)})" if len(models := target_models(paper, target)) > 1 else target
        for target in theirs
    )


def _models(models: Iterable[ModelFacts]) -> str:
    return ", ".join(" ".join(filter(None, (f"{m.family} {m.billions:g}B", m.version))) for m in models)
