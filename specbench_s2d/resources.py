"""Where the package's data lies: inside an installed wheel, or at the top of a source checkout."""

from __future__ import annotations

import os
from pathlib import Path

SUITES = ("mt_bench", "translation", "summarization", "qa", "math_reasoning", "rag")
"""The suites that ship with the package, in the order of Spec-Bench's tables; `suites/NAME.toml` defines each."""

_PACKAGE = Path(__file__).resolve().parent
_BUNDLED = _PACKAGE / "_data"


def data_folder(name: str) -> Path:
    """The folder `suites` or `results/published`, wherever this installation keeps it."""
    bundled = _BUNDLED / name
    return bundled if bundled.is_dir() else _PACKAGE.parent / name


def run_files() -> dict[str, Path]:
    """The run files that ship with the package, by short name: `demo/s2d` is `suites/demo/s2d.toml`."""
    folder = data_folder("suites")
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.glob("*/*.toml"))}


def demo_folder() -> Path:
    """The folder of the embedded model family (one Hugging Face folder per member)."""
    return _PACKAGE / "demo"


def drafts_folder() -> Path:
    """The folder of drafts that ship for named models (one folder per draft)."""
    return _PACKAGE / "drafts"


def cache_folder() -> Path:
    """Where downloads are kept: SPECBENCH_CACHE, else the user's cache folder."""
    chosen = os.environ.get("SPECBENCH_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "specbench-s2d"
