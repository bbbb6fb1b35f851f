"""The rows of `gpu.py` that need a process of their own: transformers' generation, and the tests.

Compiled generation clears the workspaces that captured graphs hold, so nothing of ours may be alive beside it.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from xml.etree import ElementTree as xml

import torch
from gpu_rows import ROOT, in_turn, row_of
from gpu_setting import Figures, Setting

from specbench_s2d import build_decoder
from specbench_s2d.decoding.clock import clock_for
from specbench_s2d.models.shapes import Shape

MARK = "mark." + "gpu"
_COUNTS = ("tests", "failures", "errors", "skipped")


def over_eager(s: Setting) -> Figures:
    """AR over transformers' plain `generate` on the same shape and lengths: tokens/s, prefill included, in turn."""
    ours, theirs = in_turn([_ours(s), _theirs(s, None)], s.rounds)
    ratio = median(b / a for a, b in zip(ours, theirs, strict=True))
    return {"value": ratio, "in_turn": True, **_rates(s, ours, theirs)}


def over_static(s: Setting) -> Figures:
    """The same over its compiled `generate` with a static cache: ours first, then, when ours is gone, theirs."""
    (ours,) = in_turn([_ours(s)], s.rounds)
    engines = s.engines
    s.forget_models()
    gc.collect()
    if s.device != "cpu":
        torch.cuda.empty_cache()
    (theirs,) = in_turn([_theirs(s, "static")], s.rounds)
    return {"value": median(theirs) / median(ours), "in_turn": False, "engines": engines, **_rates(s, ours, theirs)}


def _ours(s: Setting) -> Callable[[], Any]:
    decoder = build_decoder("ar", s.target)
    return lambda: s.generate(decoder)


def _theirs(s: Setting, cache: str | None) -> Callable[[], None]:
    from transformers import AutoModelForCausalLM

    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[s.dtype]
    with torch.device(s.device):
        model = AutoModelForCausalLM.from_config(Shape.find(s.target_name).config(), dtype=dtype).eval()
    ids_BT, clock = row_of(s, s.prompt()), clock_for(torch.device(s.device))
    options: dict[str, Any] = {"max_new_tokens": s.new_tokens, "min_new_tokens": s.new_tokens, "do_sample": False}
    options |= {"pad_token_id": 0, "cache_implementation": cache}

    def generate() -> None:
        with torch.inference_mode(cache is None), torch.no_grad():
            model.generate(ids_BT, attention_mask=torch.ones_like(ids_BT), **options)
        clock.wait()

    return generate


def _rates(s: Setting, ours: list[float], theirs: list[float]) -> Figures:
    return {
        "ours_tokens_per_s": s.new_tokens / median(ours),
        "theirs_tokens_per_s": s.new_tokens / median(theirs),
    }


def gpu_tests(s: Setting) -> Figures:
    """How many of the tests that want a GPU fail, pass and skip; only the files that have any are collected."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "tests.xml"
        options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "--continue-on-collection-errors", f"--junitxml={page}"]
        options += [
            "-c",
            "pyproject.toml",
            "-o",
            "addopts=--strict-markers",
        ]  # without pytest-timeout its setting is unknown, and no error
        files = [os.path.relpath(path, ROOT) for path in gpu_test_files()]
        command = [sys.executable, "-m", "pytest", *options, *files]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        counts, failed = read_junit(page) if page.exists() else (dict.fromkeys(("passed", "failed"), 0), [])
    if counts["passed"] + counts["failed"] == 0:
        said = [line.strip("= ") for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise RuntimeError(f"no test ran: pytest exited with {done.returncode}: {' '.join(said[-1:])}")
    return {"value": counts["failed"], **counts, "failing": failed, "files": files}


def gpu_test_files() -> list[Path]:
    """The test files with a test that wants a GPU."""
    return [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text(encoding="utf-8")]


def read_junit(page: Path) -> tuple[dict[str, int], list[str]]:
    """How many tests there were, passed, failed (errors too) and were skipped; and the names of the failing ones."""
    suites = xml.parse(page).getroot().findall("testsuite")
    tests, failures, errors, skipped = (sum(int(suite.get(name, 0)) for suite in suites) for name in _COUNTS)
    cases = [case for suite in suites for case in suite.findall("testcase")]
    broken = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    failed = failures + errors
    counts = {"tests": tests, "passed": tests - failed - skipped, "failed": failed, "skipped": skipped}
    return counts, [f"{case.get('classname')}::{case.get('name')}" for case in broken]
