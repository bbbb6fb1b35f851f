"""The definitions of every reported column, and the two forms a figure takes: a number, or an interval, or neither
with the reason."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])

DEFINITIONS: dict[str, str] = {
    "run": "the run folder, where several are reported together",
    "target": (
        "the model that is sped up; in rows called `mean over targets`, figures of merit are the arithmetic mean of "
        "the targets' own, counts and seconds their sums"
    ),
    "decoder": "the decoder's name",
    "label": "the decoder's name with the options that differ from its defaults",
    "draft": "the draft model, where the decoder has one",
    "options": "every option that the decoder ran with, defaults included",
    "lossy": "whether the decoder may change the target's output; read its speed-up beside perplexity and quality",
    "projected": (
        "why the row is a projection and no measured run (random weights, scripted acceptances or exits); empty "
        "where it was measured"
    ),
    "suite": "the suite of questions; `overall` pools all of a target's suites",
    "records": "cells of this row: questions x turns x repeats, whatever became of them",
    "questions": "questions with at least one cell that finished",
    "steps": "commits after the prefill, all cells together",
    "speedup_low": (
        "lower end of the 95 % interval of `speedup`: paired bootstrap over questions, each draw applied to every "
        "target alike"
    ),
    "speedup_high": "upper end of the 95 % interval of `speedup`, likewise",
    "speedup_e2e_low": "lower end of the 95 % interval of `speedup_e2e`: paired bootstrap over questions",
    "speedup_e2e_high": "upper end of the 95 % interval of `speedup_e2e`, likewise",
    "speedup_specbench_low": "lower end of the 95 % interval of `speedup_specbench`: paired bootstrap over questions",
    "speedup_specbench_high": "upper end of the 95 % interval of `speedup_specbench`, likewise",
    "mat_low": "lower end of the 95 % interval of `mat`: bootstrap over questions",
    "mat_high": "upper end of the 95 % interval of `mat`, likewise",
    "perplexity_low": "lower end of the 95 % interval of `perplexity`: bootstrap over questions",
    "perplexity_high": "upper end of the 95 % interval of `perplexity`, likewise",
    "cost_ratio_low": "lower end of the 95 % interval of `cost_ratio`: paired bootstrap over questions",
    "cost_ratio_high": "upper end of the 95 % interval of `cost_ratio`, likewise",
    "pairs": "cells that AR finished too, on the same target, question, turn and repeat: what the speed-ups stand on",
    "unpaired": "cells of this row outside the speed-ups, because they or AR's failed, were skipped or carry no times",
    "draft_s": "seconds spent drafting, summed over the row",
    "verify_s": "seconds spent in target passes that verify, summed over the row",
    "other_s": "seconds of decoding outside drafting and verifying, summed over the row",
    "mismatches": "audited outputs that differ from AR's by more than rounding explains",
    "near_ties": "audited outputs that leave AR's where the two best logits differ by less than the noise bound",
    "failed": "cells that failed",
    "skipped": "cells skipped, their prompt being too long",
    "truncated": "cells whose prompt was cut to fit the context",
    "quality_*": (
        "task quality by the suite's metric over the cells that were scored: their mean, but BLEU and chrF those of "
        "all answers as one corpus; `_low` and `_high`: 95 % interval, bootstrap over questions"
    ),
    "position": "draft position, from 1",
    "reached": "proposals in which a token stood at this position and all before it were accepted",
    "accepted": "of those, the proposals whose token at this position was accepted",
    "rate": "acceptance rate by position: of the proposals that reached draft position i, the share accepted there",
    "exit_depth": "layers of the draft that a drafted token went through before it was picked",
    "tokens": "drafted tokens that left at this depth",
    "share": "those tokens as a share of all that the decoder drafted",
    "variant": "the label without the option that was varied",
    "thresholds": "the confidence at each exit above which a token leaves there",
    "notes": "why a figure of this row is missing or partial",
}


def defines(column: str) -> Callable[[F], F]:
    """Make a function's first paragraph the definition of a column."""

    def register(function: F) -> F:
        text = (inspect.getdoc(function) or "").split("\n\n")[0]
        DEFINITIONS[column] = " ".join(text.split()).rstrip(".")
        return function

    return register


@dataclass(frozen=True)
class Measure:
    """A number, or None; `note` says why it is missing, or what it leaves out."""

    value: float | None
    note: str | None = None


@dataclass(frozen=True)
class Interval:
    """Both ends of an interval, or None with the reason."""

    low: float | None
    high: float | None
    note: str | None = None
