"""Decoder specifications such as `sd`, `sd:draft=demo-tiny,gamma=3` or `chain+token`: parsing, labels, building."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from specbench_s2d import registry
from specbench_s2d.decoding.decoder import Decoder, PairDecoder
from specbench_s2d.decoding.drafters.first import FirstDrafter, Part, first_of
from specbench_s2d.decoding.labels import cut_outside, split_outside, value_text
from specbench_s2d.decoding.types import Options
from specbench_s2d.errors import UnknownNameError, UserError, as_parameters, in_one_line, is_stop, reworded
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.exits import HasExits
from specbench_s2d.models.named import full_name
from specbench_s2d.spelling import meant

_FIRST = "first("


@dataclass(frozen=True)
class DecoderSpec:
    """A decoder as specified: its name, class and options."""

    name: str
    kind: type[Decoder]
    options: Options

    @property
    def label(self) -> str:
        """The name, with the options that differ from the defaults in the order the class declares them."""
        return _labelled(self.name, self.options)

    @property
    def versions(self) -> dict[str, int]:
        """The versions of the decoder, its drafter and its verifier, of those that are not the first.

        A class says `version: ClassVar[int] = 2` when its output, its steps or its defaults are no longer those of
        version 1: its cells then have other keys, and older runs of it are no baseline.
        """
        parts = {"decoder": self.kind, **{n: getattr(self.kind, f"{n}_class", None) for n in ("drafter", "verifier")}}
        versions = {name: getattr(part, "version", 1) for name, part in parts.items()}
        return {name: version for name, version in versions.items() if version != 1}

    @property
    def draft(self) -> str | None:
        """The draft named by the options, if any."""
        return getattr(self.options, "draft", None)

    def data_hashes(self, draft: HasExits | None) -> dict[str, str]:
        """Hashes of the data, beside weights, that decide what is drafted; raises `UserError` where the class cannot
        say."""
        try:
            hashes = self.kind.data_hashes(self.options, draft)
            if not isinstance(hashes, dict) or not all(isinstance(one, str) for pair in hashes.items() for one in pair):
                raise TypeError(f"{hashes!r} is no dict of str")
            return hashes
        except UserError:
            raise
        except BaseException as error:
            if is_stop(error):
                raise
            said = in_one_line(error, kind=True)
            raise UserError(
                f"decoder {self.label!r}: the hashes of its data are not known, for that raised {said}."
            ) from error

    def build(self, target: LanguageModel, draft: LanguageModel | None) -> Decoder:
        return self.kind(target, draft, self.options, self.label)


def decoder_class(name: str) -> type[Decoder]:
    """The class of a registered decoder, or of any `DRAFTER+VERIFIER` pair; either half may be a decoder's name.

    `first(A|B)`, which takes drafters, is a drafter too; alone it is paired with the token rule. Raises `UserError` for
    a verifier that weighs a draft's likelihoods with a drafter that has none.
    """
    left, plus, right = cut_outside(name, "+")
    if not plus and not left.startswith(_FIRST):
        if name.startswith(("first", "First")) and name not in registry.decoders.names():
            raise UserError(f"decoder {name!r}: write first(A|B), such as first(lookup|sd).")
        loaded: type[Decoder] = registry.decoders.load(name)
        return loaded
    right = right if plus else "token"
    drafter, verifier = _drafter(left), _half(right, registry.verifiers, "verifier_class")
    if getattr(verifier, "needs_likelihoods", False) and not getattr(drafter, "has_likelihoods", False):
        raise UserError(
            f"decoder {name!r}: {right} weighs the draft's likelihoods, and {left} has none; pair it with token, or "
            f"{right} with a draft model (sd, s2d, mjsd)."
        )
    halves = {"drafter_class": drafter, "verifier_class": verifier}
    return type(name, (PairDecoder,), {**halves, "__doc__": f"{left} drafter with {right} verifier."})


def _drafter(name: str) -> Any:
    """The drafter class of a drafter's or a decoder's name, or of `first(A|B)`."""
    return _first(name) if name.startswith(_FIRST) else _half(name, registry.drafters, "drafter_class")


def _first(name: str) -> Any:
    """The drafter class of `first(A|B)`; each of them is a drafter or a decoder, with its options."""
    inside = name.removeprefix(_FIRST).removesuffix(")")
    if not name.endswith(")"):
        raise UserError(f"{name!r}: the bracket is not closed; write first(A|B), such as first(lookup|sd).")
    if inside.count("(") != inside.count(")"):
        raise UserError(f"{name!r}: brackets do not match; write first(A|B), such as first(lookup|sd).")
    return first_of(name, [_part(text.strip(), name) for text in split_outside(inside, "|")] if inside.strip() else [])


def _part(text: str, whole: str) -> Part:
    name, _, listed = cut_outside(text, ":")
    drafter = _drafter(name)
    if "draft" in (given := _options(text, name, listed)):
        raise UserError(f"{whole}: the draft is given once, after the bracket: first(A|B):draft={given['draft']}.")
    options = _validated(name, drafter, given)
    return Part(_labelled(name, options), drafter, options)


def _half(name: str, parts: registry.Registry, attribute: str) -> Any:
    if name in parts.names():
        return parts.load(name)
    if name in registry.decoders.names():
        half = getattr(registry.decoders.load(name), attribute, None)
        if half is not None:
            return half
    raise UnknownNameError.of(parts.kind, name, sorted({*parts.names(), *registry.decoders.names()}))


def parse_decoder(text: str) -> DecoderSpec:
    """One decoder from `NAME` or `NAME:option=value,option=value`; raises `UserError` in one line."""
    name, colon, listed = cut_outside(text, ":")
    if not colon and (hint := _with_a_colon(text)):
        raise UserError(f"decoder {text!r}: options stand after a colon; write {hint}.")
    if len(names := split_outside(name, ",")) > 1 and not colon:
        raise UserError(f"decoder {text!r}: lists {len(names)} decoders; give one.")
    if len(names) > 1:
        options, others = ([one for one in listed.split(",") if ("=" in one) is given] for given in (True, False))
        raise UserError(
            f"decoder {text!r}: a decoder with options stands alone; write "
            f"--decoder {','.join([*names[:-1], *others])} --decoder {names[-1]}:{','.join(options)}."
        )
    return make_spec(name.strip(), _options(text, name, listed))


def _with_a_colon(text: str) -> str | None:
    """How `sd,gamma=3` or `sd gamma=3` is to be written; None where no option is given outside of brackets."""
    parts = [part for one in split_outside(text, ",") for part in split_outside(one, " ") if part]
    names, options = ([part for part in parts if bool(cut_outside(part, "=")[1]) is given] for given in (False, True))
    if not options:
        return None
    *others, last = names or ["NAME"]
    written = f"{last}:{','.join(options)}"
    return f"--decoder {','.join(others)} --decoder {written}" if others else written


def _options(text: str, name: str, listed: str) -> dict[str, Any]:
    """The options of a decoder as written: option=value, option=value."""
    options: dict[str, Any] = {}
    for item in filter(None, listed.split(",")):
        key, equals, value = item.partition("=")
        if not equals or not value:
            raise UserError(f"decoder {text!r}: {item!r} is not option=value; write {name}:option=value,option=value.")
        if key.strip() in options:
            raise UserError(f"decoder {text!r}: option {key.strip()!r} is given twice; give it once.")
        options[key.strip()] = value.strip()
    return options


def make_spec(name: str, options: dict[str, Any]) -> DecoderSpec:
    """A decoder by its name and options; raises `UserError` naming the option that is wrong, and what is allowed."""
    name = _registered(name)
    kind = decoder_class(name)
    if isinstance(options.get("draft"), str):
        options = {**options, "draft": full_name(options["draft"])}
    drafter: Any = getattr(kind, "drafter_class", object)
    if issubclass(drafter, FirstDrafter):
        name = name.replace(cut_outside(name, "+")[0], f"first({'|'.join(part.label for part in drafter.parts)})")
        name = name.removesuffix("+token")  # the rule that it has without one
    return DecoderSpec(name, kind, _validated(name, kind, options))


def _registered(name: str) -> str:
    """A decoder's name, or both of a pair, as they are registered; what is not known stays as it is."""
    if name.startswith(_FIRST):
        return name
    if "+" not in name:
        return meant(name, registry.decoders.names(), registry.decoders.others) or name
    parts = (registry.decoders, registry.drafters, registry.verifiers)
    known = [one for part in parts for one in part.names()]
    return "+".join(meant(half, known, registry.decoders.others) or half for half in name.split("+"))


def _validated(name: str, kind: Any, options: dict[str, Any]) -> Options:
    """The options of a decoder or a drafter class, checked."""
    for key in options:
        if key not in kind.Options.model_fields:
            known = kind.Options.model_fields
            hint = "" if known else "It has no options."
            if name.startswith(_FIRST):
                hint = f"Options stand with their drafter, inside the bracket: first(A:{key}=…|B)."
            raise UnknownNameError.of(f"option of decoder {name!r}:", key, known, hint)
    try:
        checked: Options = kind.Options(**options)
        return checked
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0])
        reasons = " or ".join(_reason(e["msg"]) for e in error.errors() if e["loc"][0] == key)
        raise UserError(f"decoder {name!r}: {key}={problem['input']}: {reasons}.") from error


def _labelled(name: str, options: Options) -> str:
    """A name with the options that differ from the defaults, in the order the class declares them."""
    changed = options.model_dump(exclude_defaults=True)
    shown = ",".join(f"{option}={value_text(value)}" for option, value in changed.items())
    return f"{name}:{shown}" if shown else name


def _reason(message: str) -> str:
    """A message of pydantic as the end of a sentence."""
    plain = message.removeprefix("Value error, ")
    return plain[0].lower() + plain[1:]


def parse_decoders(texts: Iterable[str]) -> list[DecoderSpec]:
    """All decoders of a run in order, each label once; a text without a colon may list names by comma."""
    found: dict[str, DecoderSpec] = {}
    for text in texts:
        whole = cut_outside(text, ":")[1] or _with_a_colon(text)
        names = [text] if whole else [part for part in split_outside(text, ",") if part.strip()]
        for name in names:
            spec = parse_decoder(name)
            found.setdefault(spec.label, spec)
    if not found:
        raise UserError(f"no decoder given; known: {', '.join(registry.decoders.names())}.")
    return list(found.values())


def build_decoder(decoder: str, target: LanguageModel, draft: LanguageModel | None = None, **options: Any) -> Decoder:
    """A decoder for `target`, by its name with keyword options or by the command line's string.

    Raises `UserError` for an unknown name or option, and for models that do not fit together.
    """
    with reworded(as_parameters):
        if not isinstance(decoder, str):
            raise UserError(f"build_decoder: decoder {decoder!r} is no text; give a name, such as 'sd', with options.")
        for what, model in {"target": target, "draft": draft}.items():
            if not isinstance(model, LanguageModel) and (model is not None or what == "target"):
                name = model if isinstance(model, str) else "NAME"
                raise UserError(f"build_decoder: {what} {model!r} is no loaded model; give load_model({name!r}).")
        if ":" in decoder and options:
            raise UserError(f"build_decoder({decoder!r}, …): give options in the string or as keywords, not both.")
        spec = make_spec(decoder, options) if options else parse_decoder(decoder)
        if spec.draft and draft is not None and not _names(spec.draft, draft):
            raise UserError(f"decoder {spec.label!r} names draft {spec.draft!r}, but {draft.name!r} was given.")
        built = spec.build(target, draft)
    built.in_python = True
    return built


def _names(given: str, model: LanguageModel) -> bool:
    """Whether `given` (a name, a folder, or a hub id with or without a revision) can mean `model`."""
    return model.name in (given, given.partition("@")[0], given.rstrip("/").rpartition("/")[2])


def without_draft() -> list[str]:
    """The decoders of this package that need no draft, by name."""
    entries = registry.decoders.entries().items()
    own = [name for name, entry in entries if entry.origin == registry.BUILT_IN and not entry.others]
    return [name for name in own if registry.decoders.load(name).draft_kind == "none"]


def describe_decoders() -> list[dict[str, Any]]:
    """One row per registered decoder, drafter and verifier: what it is, where it comes from, its options, and whether
    it is lossy. `what` says of one that cannot be loaded why, after "broken:"."""
    parts = (registry.decoders, registry.drafters, registry.verifiers)
    entries = [(of, name, entry.origin) for of in parts for name, entry in sorted(of.entries().items())]
    return [_describe(of, name, origin) for of, name, origin in entries]


def _describe(of: registry.Registry, name: str, origin: str) -> dict[str, Any]:
    """One row; drafters decide nothing about the output, and verifiers need no draft."""
    row: dict[str, Any] = {"name": name, "kind": of.kind, "from": origin, "output": None, "draft": None}
    try:
        return {**row, **_facts(of.kind, of.load(name))}
    except UserError as error:
        return {**row, "options": None, "what": f"broken: {error}"}


def _facts(kind: str, part: Any) -> dict[str, Any]:
    output = (
        "projected" if getattr(part, "projected", None) else "lossy" if getattr(part, "lossy", False) else "lossless"
    )
    fields = part.Options.model_fields.items()
    return {
        "output": None if kind == registry.drafters.kind else output,
        "draft": None if kind == registry.verifiers.kind else part.draft_kind,
        "options": ", ".join(_option(option, field.default) for option, field in fields) or "none",
        "what": ((part.__doc__ or "").strip() or f"{part.__name__}, which says nothing of itself.").splitlines()[0],
    }


def _option(name: str, default: Any) -> str:
    """An option with its default; the name alone where it has none."""
    return name if default in (None, "") else f"{name}={value_text(default)}"
