"""Waits and launches of a step, held to the table of docs/gpu.md; and memory moved between host and device."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from specbench_s2d import build_decoder
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.resources import demo_folder
from tests.models.heads.made import write_eagle3
from tests.rehearsal.counts import Counts
from tests.slow import slow_but

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gpu.md"
ROW = re.compile(r"\| `([^`]+)` \| (?:`([^`]+)`|–) \| ([\d.]+) \| (\d+) \|")
ROWS = ROW.findall(PAGE.read_text(encoding="utf-8"))
TABLE = {row[0].replace("\\|", "|"): (row[1] or None, float(row[2]), int(row[3])) for row in ROWS}
LIMITS = {  # waits and launches of a step at most, by decoder
    "ar": (1, 12),
    "sd": (1.1, 40),
    "sd:draft_vocabulary=256": (1.1, 50),
    "s2d": (11, 130),
    "s2d:draft_vocabulary=256": (11, 130),
    "s2d-tree": (9, 200),
    "s2d-auto": (5, 70),
    "mjsd": (2, 100),
    "mjsd:candidates=4": (2, 140),
    "mjgd": (1.2, 100),
    "lookup": (1, 12),
    "lookup:gamma=auto": (1, 12),
    "suffix": (1, 12),
    "recycling": (1, 20),
    "first(suffix|sd)": (1, 40),
    "eagle:gamma=4": (1.1, 55),
    "eagle": (1.1, 220),
}
QUICK = ("ar", "sd", "s2d", "mjsd:candidates=4", "recycling", "eagle:gamma=4", "eagle")
Load = Callable[..., LanguageModel]
PROMPT, TOKENS = list(range(20, 60)), 40


def per_step(counts: Counts, load: Load, decoder_spec: str, draft: str | None) -> tuple[float, float, float]:
    """(waits, launches, bytes) of a step on the graph engine: a generation's less its prefill's, over its steps."""
    target, own = (load(name, "cuda", "float32") if name else None for name in ("demo-s", draft))
    assert target is not None
    decoder = build_decoder(decoder_spec, target, own)
    decoder.make_ready(len(PROMPT) + TOKENS)
    if "auto" in decoder_spec or "recycling" in decoder_spec:
        decoder.generate(PROMPT, TOKENS, ignore_eos=True)  # it measures, or learns, once
    seen = []
    for tokens in (1, TOKENS):
        counts.clear()
        steps = decoder.generate(PROMPT, tokens, ignore_eos=True).steps
        seen.append((counts.waits, counts.launches, counts.copied_bytes))
    assert counts.captures == 0
    waits, launches, copied = (long - short for short, long in zip(*seen, strict=True))
    return waits / len(steps), launches / len(steps), copied / len(steps)


def test_the_table_has_every_decoder() -> None:
    assert set(TABLE) == set(LIMITS)


@pytest.mark.parametrize("decoder", slow_but(QUICK, LIMITS))
def test_a_step_waits_and_launches_what_the_table_says(shared_counts: Counts, load: Load, decoder: str) -> None:
    draft, waits, launches = TABLE[decoder]
    seen_waits, seen_launches, copied_bytes = per_step(shared_counts, load, decoder, draft)
    most_waits, most_launches = LIMITS[decoder]
    assert seen_waits <= most_waits and seen_launches <= most_launches
    if "auto" not in decoder:  # how much it drafts depends on clocks
        assert (round(seen_waits, 1), round(seen_launches)) == (waits, launches)
    assert copied_bytes < 20_000, "no logits, states or caches cross over"


@pytest.fixture(scope="module")
def eagle_3(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("heads") / "eagle3"
    write_eagle3(demo_folder() / "demo-s", folder)
    return str(folder)


@pytest.mark.parametrize("decoder", slow_but(["eagle:gamma=4"], ["eagle:gamma=4", "eagle"]))
def test_a_step_of_eagle_3_waits_and_launches_what_is_written_under_the_table(
    shared_counts: Counts, load: Load, eagle_3: str, decoder: str
) -> None:
    written = re.search(rf"`{decoder}` with EAGLE-3's head: ([\d.]+) waits and (\d+) launches", PAGE.read_text("utf-8"))
    assert written
    waits, launches, copied_bytes = per_step(shared_counts, load, decoder, eagle_3)
    assert (str(round(waits, 1)), str(round(launches))) == written.groups()
    assert copied_bytes < 20_000
