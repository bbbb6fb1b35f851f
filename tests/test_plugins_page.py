"""docs/plugins.md: its package is built, installed and run with the page's own commands, and its recipes work."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.decoding.spec import build_decoder, parse_decoder
from specbench_s2d.errors import UserError
from specbench_s2d.measure.energy.choose import choose_meter
from specbench_s2d.suites import load_questions
from tests.documents import ROOT, blocks
from tests.fakes import FakeModel
from tests.plugins import Plugins
from tests.refusals import refused

PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "docs" / "plugin"
ENTRY = re.compile(r'# \[project\.entry-points\."specbench_s2d\.(\w+)"\]\s+(\S+) = "((\w+):\w+)"')
PROMPT, TOKENS = [1, 2, 3, 4], 12


@pytest.mark.slow
def test_the_package_is_built_installed_and_run_by_the_page_s_commands(tmp_path: Path) -> None:
    [script] = blocks(PAGE, "sh")
    install, *commands = script.splitlines()
    assert install == f"pip install ./{PACKAGE.relative_to(ROOT)}"
    shutil.copytree(PACKAGE, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    packages, elsewhere = tmp_path / "packages", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    called([*pip, "--target", str(packages), str(tmp_path / "copy")], elsewhere)
    outputs = []
    for words in map(shlex.split, commands):
        assert words[0] == "specbench-s2d"
        paths = os.pathsep.join(map(str, (packages, ROOT)))
        outputs.append(called([sys.executable, "-m", "specbench_s2d", *words[1:]], elsewhere, PYTHONPATH=paths))
    assert re.search(r"bigram +specbench-bigram", outputs[0])
    [file] = elsewhere.glob("results/runs/*/records.jsonl")
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert {record["label"] for record in records} == {"ar", "bigram+token"}
    assert {record["status"] for record in records} == {"ok"}
    ids: dict[Any, list[list[int]]] = {}
    for record in records:
        ids.setdefault((record["question_id"], record["turn"]), []).append(record["output_ids"])
    assert all(first == second for first, second in ids.values()) and len(ids) == 2
    assert sum(record["accepted"] for record in records if record["label"] == "bigram+token") > 0


def called(command: list[str], folder: Path, **environment: str) -> str:
    """What a program prints; it must exit with 0."""
    settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "80"}
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **settings, **environment}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_drafter_is_about_thirty_lines_and_proposes_the_likeliest_followers() -> None:
    code = (PACKAGE / "specbench_bigram.py").read_text(encoding="utf-8")
    assert len([line for line in code.splitlines() if line.strip()]) <= 32
    names: dict[str, Any] = {}
    exec(compile(code, "specbench_bigram.py", "exec"), names)
    drafter = names["BigramDrafter"](None, names["BigramDrafter"].Options())
    for _ in range(2):  # a generation knows nothing of the one before it
        drafter.start([5, 6], build_sampler())
        assert drafter.propose([5, 6, 5, 7, 5, 6, 5], 9).host_ids == [6, 5, 6, 5]
        longer = [5, 6, 5, 7, 5, 6, 5, *[7, 5] * 6]
        assert drafter.propose(longer, 2).host_ids == [7, 5]
        assert len(drafter.propose([*longer, 8], 9).ids_G) == 0


def build_sampler() -> Any:
    from specbench_s2d.decoding.sampling import Sampler

    return Sampler(0.0, 0, 1.0, 0)


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    """Every recipe as the module that its entry point names."""
    plugins = Plugins(tmp_path / "site", monkeypatch)
    found = [(code, ENTRY.match(code)) for code in blocks(PAGE, "py") if code.startswith("# [project")]
    for code, entry in found:
        assert entry is not None
        group, name, path, module = entry.groups()
        (plugins.folder / f"{module}.py").write_text(code, encoding="utf-8")
        plugins.register(group, name, path)
        monkeypatch.delitem(sys.modules, module, raising=False)
    assert [entry[1] for _, entry in found if entry] == ["verifiers", "decoders", "suites", "meters"]
    return plugins


def test_the_verifier_accepts_what_is_among_the_two_likeliest(recipes: Plugins) -> None:
    target, draft = FakeModel(vocabulary=12), FakeModel(vocabulary=12, seed=1)
    assert parse_decoder("chain+top-two").kind.lossy
    generation = build_decoder("chain+top-two:gamma=3", target, draft).generate(PROMPT, 40)
    context, seconds = [*PROMPT, generation.ids[0]], 0
    for step in generation.steps:
        for number, token in enumerate(step.drafted):
            best = target.logits_after((*context, *step.drafted[:number])).topk(2).indices.tolist()
            assert (token in best) == (number < step.accepted)
            seconds += token == best[1]
            if token not in best:
                break
        context += step.emitted
    assert seconds > 0


def test_the_decoder_drafts_two_tokens_and_equals_ar(recipes: Plugins) -> None:
    generation = build_decoder("pairs", FakeModel(), FakeModel(seed=1)).generate(PROMPT, TOKENS)
    assert generation.ids == build_decoder("ar", FakeModel()).generate(PROMPT, TOKENS).ids
    assert {len(step.drafted) for step in generation.steps} == {2}
    assert parse_decoder("pairs:gamma=3").label == "pairs:gamma=3"


def test_the_suite_is_read_from_beside_its_module(recipes: Plugins) -> None:
    recipes.add_suite("riddles", ["riddle"], registered_as="same-file")
    assert [question.category for question in load_questions("embedded", ["riddles"])] == ["riddle"]


def test_the_meter_counts_what_the_battery_lost(
    recipes: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    my_meter = __import__("my_meter")

    charge = tmp_path / "energy_now"
    monkeypatch.setattr(my_meter, "CHARGE", charge)
    with refused(UserError, "--energy battery", "energy_now: no battery"):
        choose_meter("battery", "cpu")
    charge.write_text("1000000\n")
    meter = choose_meter("battery", "cpu").meter
    assert meter is not None
    meter.start()
    charge.write_text("999000\n")
    assert meter.stop().counter_j == pytest.approx(3.6)
    meter.close()
