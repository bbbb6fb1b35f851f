"""Which draft serves which target. An entry of `draft` is a name, or `TARGET=DRAFT` for one target of the run alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from specbench_s2d.config import RunSpec, make_spec
from specbench_s2d.decoding.spec import DecoderSpec, without_draft
from specbench_s2d.errors import UserError
from specbench_s2d.models.chat import template_name
from specbench_s2d.models.heads.shape import EAGLE, HEADS, MEDUSA, ONE_CHECKPOINT
from specbench_s2d.models.named import draft_that_ships, full_name, shipped_drafts
from specbench_s2d.models.resolve import ResolvedModel, ResolvedModels
from specbench_s2d.spelling import near_names


def drafts_of(target: str, spec: RunSpec) -> list[str]:
    """The drafts that may serve a target, in order of preference: its own pairs, then the entries for all targets;
    where the run names none at all, the draft that ships for it.

    Raises `UserError` for a pair whose target the run does not have, and for one that names no draft.
    """
    if not spec.draft:
        shipped = draft_that_ships(target)
        return [shipped] if shipped else []
    pairs = [split_pair(entry, spec.target) for entry in spec.draft]
    own = [draft for owner, draft in pairs if owner in (target, _without_revision(target))]
    return own + [draft for owner, draft in pairs if owner is None]


def split_pair(entry: str, targets: Sequence[str]) -> tuple[str | None, str]:
    """An entry as (target, draft), or (None, draft) where it names no target.

    It is a pair where what stands before an equals sign is one of `targets`, with or without its `@revision`; a
    folder's name may hold such a sign too. Raises `UserError` for any other text with an equals sign, and for a pair
    that names no draft.
    """
    for place in (i for i, sign in enumerate(entry) if sign == "="):
        if entry[:place] in (*targets, *map(_without_revision, targets)):
            if not entry[place + 1 :]:
                raise UserError(f"--draft {entry}: no draft after the equals sign; write {entry}NAME.")
            return entry[:place], entry[place + 1 :]
    left, equals, _ = entry.partition("=")
    if equals and not Path(entry).is_dir():
        raise UserError(
            f"--draft {entry}: {left!r} is no target of this run.{near_names(left, targets)} Its targets: "
            f"{', '.join(targets)}; write TARGET=DRAFT with one of them as given, or a draft alone."
        )
    return None, entry


def with_full_names(spec: RunSpec) -> RunSpec:
    """The run with its models and its template by their full names (`named.full_name`, `chat.template_name`)."""
    targets = [full_name(target) for target in spec.target]
    draft = [_full_entry(entry, targets) for entry in spec.draft]
    template = spec.template and template_name(spec.template)
    return spec.model_copy(update={"target": targets, "draft": draft, "template": template})


def _full_entry(entry: str, targets: Sequence[str]) -> str:
    """An entry of `draft`, its models by their full names."""
    left, equals, right = entry.partition("=")
    if equals and full_name(left) in targets:
        return f"{full_name(left)}={full_name(right)}"
    return full_name(entry)


def narrowed(file: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """The flags, and where their targets replace a run file's, the file's drafts less the pairs of targets left out."""
    if file is None or "target" not in flags or "draft" in flags:
        return flags
    of_file = make_spec(file, {})
    asked = [full_name(target) for target in make_spec(None, {"target": flags["target"]}).target]
    known = {name for t in of_file.target for name in (t, _without_revision(t))}
    left_out = tuple(f"{name}=" for name in known - {*asked, *map(_without_revision, asked)})
    return {**flags, "draft": [entry for entry in of_file.draft if not entry.startswith(left_out)]}


def _without_revision(target: str) -> str:
    """`owner/name` of `owner/name@revision`."""
    return target.partition("@")[0]


def draft_for(decoder: DecoderSpec, target: str, spec: RunSpec, models: ResolvedModels) -> str | None:
    """The draft that a decoder names, else the target's first suitable one; None for a decoder that needs none.

    A plain decoder takes a plain draft first, a nested one read at its full depth otherwise; one read at an exit takes
    a nested draft first. Raises `UserError` where there is none.
    """
    if decoder.kind.draft_kind == "none":
        return None
    if decoder.draft:
        return decoder.draft
    wanted, given = decoder.kind.draft_kind, drafts_of(target, spec)
    drafts = [name for name in given if _kind_of_head(models[name]) == (wanted if wanted in HEADS else None)]
    nested_first = wanted == "nested" or getattr(decoder.options, "exit", None) is not None
    ranked = sorted(drafts, key=lambda name: models[name].is_nested != nested_first)
    if ranked and (wanted != "nested" or models[ranked[0]].is_nested):
        return ranked[0]
    if wanted in HEADS and (shipped := f"{models[target].name}-{wanted}") in shipped_drafts():
        return shipped
    in_one = [name for name in given if wanted == MEDUSA and "medusa_num_heads" in models[name].fields]
    if in_one:
        raise UserError(f"decoder {decoder.label!r}: {in_one[0]} is read as a model. {ONE_CHECKPOINT}")
    there = f"only {', '.join(given)}" if given else "none"
    of_which, pair = (f" for {target}", f"{target}=") if len(spec.target) > 1 else ("", "")
    article = "an" if wanted == EAGLE else "a"
    raise UserError(
        f"decoder {decoder.label!r} needs {article} {wanted} draft, and the run has {there}{of_which}; "
        f"give --draft {pair}NAME or {decoder.name}:draft=NAME (`specbench-s2d models` lists those that ship), or "
        f"decoders that need none: --decoder {','.join(without_draft())}."
    )


def passed_over(spec: RunSpec, taken: Sequence[tuple[DecoderSpec, str | None]], models: ResolvedModels) -> list[str]:
    """A line for each draft that the run names and no decoder uses, while one takes a head that ships in its place.

    `taken`: the decoders and their drafts, of all targets.
    """
    named = {entry: split_pair(entry, spec.target)[1] for entry in spec.draft}
    shipped = {
        decoder.label: draft for decoder, draft in taken if draft and not decoder.draft and draft not in named.values()
    }
    used = {draft for _, draft in taken}
    return [
        f"--draft {entry}: no decoder of this run uses it, for it is {_what(models[draft])}; "
        f"{', '.join(f'{label} takes {head}' for label, head in shipped.items())}, which ships."
        for entry, draft in named.items()
        if shipped and draft not in used
    ]


def _what(model: ResolvedModel) -> str:
    kind = _kind_of_head(model)
    return "a model" if kind is None else f"{'an' if kind == EAGLE else 'a'} {kind} head"


def _kind_of_head(model: ResolvedModel) -> str | None:
    return model.head_shape.decoder if model.head_shape else None
