"""May two runs be compared at all? By their manifests: settings, questions, models, decoders, metrics, machine.

A setting or an option that one of the runs is too old to record counts as its default there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from specbench_s2d.analysis.gate.verdict import Check
from specbench_s2d.runs.columns import Records
from specbench_s2d.runs.conditions import is_transient, kinds
from specbench_s2d.runs.identity import engine_name, identity, is_greedy_run
from specbench_s2d.runs.record import Record

_FREE = frozenset({"device", "engine", "seed"})
"""Settings that are judged on their own: where a run ran, how, and the seed, which greedy decoding does not see."""
NOT_AT_REST = ("the machine was not at rest", "the baseline's machine was not at rest")
Manifest = Mapping[str, Any]


def comparability(ours: Manifest, base: Manifest, records: Iterable[Record], others: Iterable[Record]) -> list[Check]:
    """One check per kind of thing that must be equal; `incomparable` says which and how."""
    one, other = identity(ours), identity(base)
    return [
        _equal("settings", _settings(one), _settings(other)),
        _equal("questions", one["questions"], other["questions"], needed=other["questions"]),
        _equal("models", one["weights"], other["weights"], needed=other["weights"]),
        _same_decoders(_decoders(ours, records), _decoders(base, others)),
        _equal("metrics", _metrics(ours), _metrics(base), needed=_metrics(base)),
        *_projections(records, others),
    ]


def other_machine(ours: Manifest, base: Manifest) -> str | None:
    """Why times of the two runs cannot be compared: the first fact of the machine that differs or that one of the runs
    does not record; None for the same machine."""
    for name, (mine, theirs) in _machine(ours, base).items():
        if mine != theirs:
            return f"other {name} ({mine}; the baseline had {theirs})"
        if mine is None and name != "GPU":  # that a run on a CPU has no GPU is known
            return f"neither run records its {name}"
    return None


def unstable_reason(ours: Manifest, base: Manifest) -> str | None:
    """Why times of the two runs say nothing though the machine was one: what came over it during either; None where
    nothing did."""
    for whose, manifest in zip(NOT_AT_REST, (ours, base), strict=True):
        if found := disturbances(c for c in manifest.get("conditions", []) if is_transient(c)):
            return f"{whose} ({'; '.join(found)})"
    return None


def disturbances(conditions: Iterable[Manifest]) -> list[str]:
    """A phrase for each kind of condition, and how many more are like it."""
    return [
        f"{first['about']} {first['what']}" + (f" and {len(others)} more like it" if others else "")
        for first, *others in kinds(conditions)
    ]


def measured_at_run_time(*manifests: Manifest) -> set[tuple[str, str]]:
    """(target, label) of decoders that decide by what they measure, whose steps may differ from run to run: those that
    left such measurements in a manifest."""
    return {
        (target, label)
        for manifest in manifests
        for target, facts in manifest.get("targets", {}).items()
        for label in facts.get("decoders", {})
    }


def _settings(of_run: Mapping[str, Any]) -> dict[str, Any]:
    settings = of_run["settings"]
    kept = {name: value for name, value in settings.items() if name not in _FREE}
    exact_anywhere = settings.get("dtype") == "float32"  # elsewhere rounding is the device's own
    kept |= {} if exact_anywhere else {"device": str(settings.get("device")).partition(":")[0]}
    sampled = settings.get("temperature") is not None and not is_greedy_run(settings)
    return kept | ({"seed": settings.get("seed")} if sampled else {})


def _decoders(manifest: Manifest, records: Iterable[Record]) -> dict[tuple[str, str], dict[str, Any]]:
    """What each label stands for, by target and label: the draft used, versions of the code, and options."""
    versions = identity(manifest)["versions"]
    return {
        (r.value("target"), r.value("label")): {
            "draft used": r.value("draft", -1),
            **{f"{part} version": 1 for part in ("decoder", "drafter", "verifier")},
            **{f"{part} version": version for part, version in versions.get(r.value("label"), {}).items()},
            **r.value("decoder_options", -1),
        }
        for r in Records.of(records).groups("target", "label")
    }


def _same_decoders(
    ours: Mapping[tuple[str, str], dict[str, Any]], base: Mapping[tuple[str, str], dict[str, Any]]
) -> Check:
    """Whether each label of the baseline stands for the same in both runs.

    A label names the options that differ from their defaults, so one that a side does not record is at its default in
    both.
    """
    shared = {lane: ours[lane].keys() & base[lane].keys() for lane in base if lane in ours}
    mine, theirs = (
        {f"{', '.join(lane)}, {name}": side[lane][name] for lane, names in shared.items() for name in sorted(names)}
        for side in (ours, base)
    )
    missing: dict[str, list[str]] = {}
    for target, label in base.keys() - ours.keys():
        missing.setdefault(target, []).append(label)
    known = {target for target, _ in ours}
    named = {f"{t} ({', '.join(sorted(labels)) if t in known else 'all'})": None for t, labels in missing.items()}
    return _equal("decoders", mine, {**dict(sorted(named.items())), **theirs})


def _projections(records: Iterable[Record], others: Iterable[Record]) -> list[Check]:
    """A projection can be held to one of its own kind alone; nothing to say of two measured runs."""
    mine, theirs = (
        {f"{r.value('target')}, {r.value('label')}": r.value("projected", -1) or "measured" for r in groups}
        for groups in (Records.of(side).finished.groups("target", "label") for side in (records, others))
    )
    if set(mine.values()) | set(theirs.values()) <= {"measured"}:
        return []
    shared = mine.keys() & theirs.keys()
    return [_equal("projected", *({name: side[name] for name in sorted(shared)} for side in (mine, theirs)))]


def _metrics(manifest: Manifest) -> dict[str, Any]:
    return dict(manifest.get("quality_metrics", {}))


def _equal(
    rule: str, ours: Mapping[str, Any], base: Mapping[str, Any], needed: Mapping[str, Any] | None = None
) -> Check:
    """Whether the runs agree on everything, or on all that is `needed`."""
    different = list(_differences(ours, base, needed))
    return Check(rule, "incomparable" if different else "holds", why="; ".join(different))


def _differences(ours: Mapping[str, Any], base: Mapping[str, Any], needed: Mapping[str, Any] | None) -> Iterator[str]:
    names = list({**ours, **base} if needed is None else needed)
    for where, side in (("here", ours), ("in the baseline", base)):
        if missing := [name for name in names if name not in side]:
            yield f"{', '.join(missing)}: missing {where}"
    for name in names:
        if name in ours and name in base and ours[name] != base[name]:
            yield f"{name}: {_short(ours[name])}, the baseline has {_short(base[name])}"


def _short(value: Any) -> str:
    """A hash by its first digits, anything else as it is."""
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 and text.isalnum() else text


def _machine(ours: Manifest, base: Manifest) -> dict[str, tuple[Any, Any]]:
    def both(*path: str) -> tuple[Any, Any]:
        return _at(ours, path), _at(base, path)

    return {
        "device": both("identity", "settings", "device"),
        "processor": both("environment", "cpu", "model"),
        "thread count": both("environment", "cpu", "threads"),
        "GPU": both("environment", "gpu", "name"),
        "torch": both("environment", "libraries", "torch"),
        "engines": (_engines(ours), _engines(base)),
    }


def _engines(manifest: Manifest) -> str:
    """Every model with the engine that ran its passes; all eager in runs that do not say."""
    device = _at(manifest, ("identity", "settings", "device"))
    used = {
        model: engine_name(facts.get("engine", "eager"), device)
        for target in manifest.get("targets", {}).values()
        for model, facts in target.get("engines", {}).items()
    }
    return ", ".join(f"{model} {engine}" for model, engine in sorted(used.items())) or "eager"


def _at(manifest: Manifest, path: Sequence[str]) -> Any:
    value: Any = manifest
    for name in path:
        value = (value or {}).get(name)
    return value
