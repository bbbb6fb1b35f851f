"""What ran on what, from a run's manifest, and how to run it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from specbench_s2d.analysis.report.html.table import (
    Heading,
    HtmlCell,
    HtmlTable,
    missing_cell,
    text_cell,
    text_headings,
)

Manifest = Mapping[str, Any]
_SHORT = 12  # digits of a hash that tell it apart
_LISTS = ("target", "draft", "decoder", "suite")
_MEASURED = ("read_rate_bytes_per_s", "copy_rate_bytes_per_s", "rate_buffer_bytes", "idle_power_w", "energy", "harness")


@dataclass(frozen=True)
class Fact:
    """A name and what it is; None has a reason."""

    name: str
    text: str | None
    reason: str = ""


def device(manifest: Manifest) -> str:
    """The processor that decoded, by its name."""
    environment = manifest.get("environment") or {}
    gpu, cpu = environment.get("gpu", {}).get("name"), environment.get("cpu", {})
    return str(gpu or cpu.get("model") or "a device of unknown name")


def summary(manifest: Manifest) -> list[str]:
    """The settings that say most, and when the run started, in a few words each."""
    spec, started = (manifest.get("spec") or {}), str(manifest.get("started") or "")
    parts = [
        spec.get("dtype"),
        f"temperature {spec['temperature']:g}" if "temperature" in spec else None,
        f"{spec['max_new_tokens']:,} new tokens" if spec.get("max_new_tokens") else None,
        f"{started[:16].replace('T', ' ')} UTC" if started else None,
    ]
    return [part for part in parts if part]


def groups(manifest: Manifest) -> list[tuple[str, list[Fact]]]:
    """Facts under headings: the run, the machine, libraries, settings, and what was measured of the machine."""
    environment = dict(manifest.get("environment") or {})
    python = environment.pop("python", None)
    code, libraries = dict(environment.pop("code", {})), environment.pop("libraries", {})
    code["commit"] = str(code["commit"])[:_SHORT] if code.get("commit") else None
    reasons = manifest.get("reasons", {})
    run = {name: manifest.get(name) for name in ("run_id", "started", "ended", "cells")}
    settings = {name: value for name, value in (manifest.get("spec") or {}).items() if name not in _LISTS}
    measured = {name: manifest[name] for name in _MEASURED if name in manifest}
    return [
        ("Run", list(_flat({**run, "code": code}, reasons))),
        ("Machine", list(_flat(environment, reasons))),
        ("Settings", list(_flat(settings, dict.fromkeys(settings, "not set")))),
        ("Measured", list(_flat(measured, reasons))),
        ("Libraries", list(_flat({"python": python, **libraries}, {}))),
    ]


def _flat(values: Mapping[str, Any], reasons: Mapping[str, str], above: str = "") -> Iterator[Fact]:
    """Facts of a nested mapping, outer names first; a `reason` next to a missing value explains it."""
    for name, value in values.items():
        if name == "reason" or name.endswith("_reason"):
            continue
        full = f"{above}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, reasons, f"{full} · ")
        elif value is None or value == []:
            yield Fact(full, None, str(reasons.get(name) or values.get(f"{name}_reason") or values.get("reason") or ""))
        else:
            yield Fact(full, _text(value))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,.4g}" if isinstance(value, float) and value < 1e6 else f"{value:,.0f}"
    return ", ".join(map(_text, value)) if isinstance(value, list) else str(value)


def models(manifest: Manifest) -> HtmlTable:
    """One row per target: which weights, which prompt template, how it was run, and what was measured of it."""
    columns = (
        ("revision", "the hub's own, or none for a folder"), ("weights_sha256", ""), ("forward", ""),
        ("engines", "what runs each model's passes"), ("template", ""), ("context", ""), ("parameter_bytes", ""),
        ("logit_noise", "the largest difference that pass widths make"),
    )  # fmt: skip
    body = []
    for target, facts in manifest.get("targets", {}).items():
        cells = [_model_cell(name, facts.get(name)) for name, _ in columns]
        measured = _read_rate(facts.get("read_rate")), _warm_up(facts.get("warm_up"))
        body.append([text_cell(target, "name"), *cells, *measured])
    head = [Heading(name.replace("_", " "), what, numeric=name in _COUNTED) for name, what in columns]
    rate = Heading("read rate", "what bounds an AR step; in brackets: a tenth of the rounds was slower; the fastest")
    return HtmlTable("Targets", [*text_headings(["target"]), *head, rate, *text_headings(["warm-up"])], body)


_COUNTED = ("context", "parameter_bytes", "logit_noise")


def _model_cell(name: str, value: Any) -> HtmlCell:
    if value is None:
        return missing_cell("none: the weights are those of the hash" if name == "revision" else "")
    if name == "engines":
        return text_cell(", ".join(f"{model}: {_engine(facts)}" for model, facts in value.items()))
    if name in _COUNTED:
        return HtmlCell(f"{value:,}" if isinstance(value, int) else f"{value:.2g}", float(value))
    return HtmlCell(value[:_SHORT], value) if name.endswith("sha256") else text_cell(value)


def _engine(facts: Mapping[str, Any]) -> str:
    """An engine by its name, with its threads where it chose them, and the small pages that slow it."""
    threads, pages = facts.get("threads"), "" if facts.get("large_pages", True) else ", small pages"
    return (
        str(facts.get("engine", "eager"))
        + (f", {threads} thread{'s' if threads > 1 else ''}" if threads else "")
        + pages
    )


def _read_rate(rate: Mapping[str, Any] | None) -> HtmlCell:
    """The rate with its interval, and the buffer it was measured over."""
    if not rate:
        return missing_cell("one rate for all targets, under Measured, in runs of older releases")
    value, low, high = (rate[f"{name}bytes_per_s"] / 1e9 for name in ("", "low_", "high_"))
    over = f"over {rate['buffer_bytes'] / 1e6:,.1f} MB, {rate['rounds']} rounds"
    return HtmlCell(f"{value:.1f} GB/s [{low:.1f}–{high:.1f}]", value, over)


def _warm_up(warm_up: Mapping[str, Mapping[str, Any]] | None) -> HtmlCell:
    """Whether every decoder's last warm-up runs agreed; those that did not are named, with their spread."""
    if not warm_up:
        return missing_cell("not recorded by the release that wrote the run")
    unstable = [f"{label} (spread {_text(w['spread'])})" for label, w in warm_up.items() if not w["stable"]]
    text = f"not stable: {', '.join(unstable)}" if unstable else "stable"
    return HtmlCell(text, text, tone="bad" if unstable else "")


def suites(manifest: Manifest) -> list[Fact]:
    """Each suite with the hash of the questions that were asked."""
    hashes = manifest.get("identity", {}).get("questions", {})
    return [Fact(suite, str(digest)[:_SHORT]) for suite, digest in hashes.items()]


def run_file(manifest: Manifest) -> str:
    """The resolved spec as a TOML run file, which `specbench-s2d run` takes; what was left unset is left out."""
    spec = manifest.get("spec") or {}
    return "".join(f"{name} = {_toml(value)}\n" for name, value in spec.items() if value is not None)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    # A basic string of TOML and a string of JSON are written alike, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
