"""Which model a paper's target is, and which decoder its method: read from the tables of `results/published`.

`models.csv` has family, size and version of checkpoints and shapes by their exact names; `targets.csv` those of each
paper's targets (of a mean over targets, those of each model in it); `methods.csv` decoder, draft, exit and options of
each paper's methods, and the settings behind its values. Nothing is told by what a name looks like.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from specbench_s2d.errors import UserError
from specbench_s2d.paper_tables import POSITIVE, TEXT, TEXT_OR_NONE, Column, read_package_table

MODELS, TARGETS, METHODS = "models.csv", "targets.csv", "methods.csv"
_FACTS = {"family": TEXT, "billions": POSITIVE, "version": TEXT_OR_NONE, "source": TEXT}
_OPTIONS = Column("name=value, several with commas between", r"([^=,]+=[^=,]+(,[^=,]+=[^=,]+)*)?")
_METHOD = {
    "paper": TEXT, "method": TEXT, "decoder": TEXT, "draft": TEXT_OR_NONE, "options": _OPTIONS, "settings": _OPTIONS,
    "exit": Column("a layer", r"([1-9]\d{0,3})?"), "differs": TEXT_OR_NONE, "source": TEXT,
}  # fmt: skip
ANY = "*"
"""In `methods.csv`: an option that has a value, whichever."""


@dataclass(frozen=True)
class ModelFacts:
    """A model by family, billions of parameters, and version; "" for a version that the source does not name, and for
    shapes, whose random weights are of none."""

    family: str
    billions: float
    version: str

    def is_same(self, other: ModelFacts) -> bool:
        """Whether the two are one model, as far as both sides say; versions that differ are different models."""
        return self.is_as_large(other) and (self.version == other.version or not (self.version and other.version))

    def is_as_large(self, other: ModelFacts) -> bool:
        """Whether family and size are the same, whatever the version."""
        return (self.family, self.billions) == (other.family, other.billions)


@dataclass(frozen=True)
class PaperMethod:
    """What a method of a paper is: a decoder, its draft (`sorted`, `plain`, `head:KIND`, a model's name, or "" for
    any), the exit of 12 layers that it names, and the options that make it this method and no other (`ANY`: any value
    but none).

    `settings`: further options, with the values behind the paper's own figures. `differs`: what the paper's code does
    besides, which no option of ours does; "" for nothing known.
    """

    method: str
    decoder: str
    draft: str
    exit: int | None
    options: dict[str, str]
    settings: dict[str, str]
    differs: str


def model_facts(name: str) -> ModelFacts | None:
    """What `models.csv` says of a hub id (a revision left aside) or of `shape:NAME`; None for any other name."""
    return _models().get(name.partition("@")[0].lower())


def same_model(name: str, known: Iterable[str]) -> str | None:
    """Which of the known models is this one: of the same name (owner, `shape:` and upper case left aside), else the
    only one that `models.csv` gives the same family, size and version."""
    others = list(known)
    by_name = [other for other in others if _bare(other) == _bare(name)]
    facts = model_facts(name)
    by_facts = [o for o in others if facts and (its := model_facts(o)) and facts.is_same(its)]
    return next(iter(by_name or (by_facts if len(by_facts) == 1 else [])), None)


def target_models(paper: str, target: str) -> list[ModelFacts]:
    """The models behind a paper's target: one, or those that a mean over targets is of.

    Raises `UserError` for a target that the table lacks.
    """
    if (paper, target) not in _targets():
        raise UserError(f"{TARGETS} of the published figures has no row for the target {target} of {paper}; add one.")
    return _targets()[paper, target]


def paper_target(paper: str, name: str, theirs: Iterable[str]) -> str | None:
    """Which of a paper's targets a model is: the one of its very name, else the one of its family, size and version;
    None where nothing fits."""
    there = list(theirs)
    facts = model_facts(name)
    fitting = [t for t in there if facts and any(facts.is_same(model) for model in target_models(paper, t))]
    return next((t for t in there if t.lower() == name.lower()), next(iter(fitting), None))


def other_versions(paper: str, name: str, theirs: Iterable[str]) -> list[tuple[str, ModelFacts]]:
    """The paper's targets that are of a model's family and size, but of another version, with what they are."""
    facts = model_facts(name)
    if facts is None:
        return []
    models = [(target, model) for target in theirs for model in target_models(paper, target)]
    return [(t, model) for t, model in models if facts.is_as_large(model) and not facts.is_same(model)]


def paper_methods(paper: str) -> list[PaperMethod]:
    """The methods of a paper that a decoder can stand for."""
    return list(_methods().get(paper, ()))


def _bare(name: str) -> str:
    return name.partition("@")[0].rpartition("/")[2].removeprefix("shape:").lower()


def _facts(row: dict[str, str]) -> ModelFacts:
    return ModelFacts(row["family"], float(row["billions"]), row["version"])


@cache
def _models() -> dict[str, ModelFacts]:
    rows = read_package_table(MODELS, {"model": TEXT, **_FACTS}, ["model"])
    return {row["model"].lower(): _facts(row) for row in rows}


@cache
def _targets() -> dict[tuple[str, str], list[ModelFacts]]:
    found: dict[tuple[str, str], list[ModelFacts]] = {}
    columns = {"paper": TEXT, "target": TEXT, **_FACTS}
    for row in read_package_table(TARGETS, columns, [*columns][:-1]):
        found.setdefault((row["paper"], row["target"]), []).append(_facts(row))
    return found


@cache
def _methods() -> dict[str, list[PaperMethod]]:
    found: dict[str, list[PaperMethod]] = {}
    for row in read_package_table(METHODS, _METHOD, ["paper", "method"]):
        exit_depth = int(row["exit"]) if row["exit"] else None
        options, settings = _options(row["options"]), _options(row["settings"])
        method = PaperMethod(row["method"], row["decoder"], row["draft"], exit_depth, options, settings, row["differs"])
        found.setdefault(row["paper"], []).append(method)
    return found


def _options(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(",") if part)
