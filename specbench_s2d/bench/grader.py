"""What is said of an answer outside the timed window: its likelihood, the divergence audit, and its quality."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from specbench_s2d.bench.faults import give_back, told
from specbench_s2d.bench.prompts import Prompt
from specbench_s2d.errors import UnknownNameError, is_stop
from specbench_s2d.measure.divergence import Divergence, TokenScores, classify, classify_alone
from specbench_s2d.measure.quality import METRICS, score_answer, signatures
from specbench_s2d.measure.teacher_forcing import DraftView, score
from specbench_s2d.models import LanguageModel
from specbench_s2d.models.finite import first_not_finite, not_finite_at
from specbench_s2d.runs.record import BASELINE, Record
from specbench_s2d.suites import Question, load_suite

K = TypeVar("K")
T = TypeVar("T")
_LIKELIHOODS = ("nll_sum", "perplexity", "divergence", "tie_positions")
_LARGEST_EXPONENT = math.log(sys.float_info.max)
_KEPT = 64  # answers: identical ones of a question's decoders are scored once


@dataclass(frozen=True)
class AnswerScores:
    """A record's `quality` and `quality_counts`, None where `reasons` (by field name) says why."""

    values: dict[str, float | None] | None = None
    counts: dict[str, list[int]] | None = None
    reasons: dict[str, str] = field(default_factory=dict)


class AnswerScorer:
    """Scores answers as the file says of each of `questions`, else as their suites' definitions say; raises
    `UnknownNameError` for a metric that there is not."""

    def __init__(self, suites: Iterable[str], questions: Iterable[Question] = ()) -> None:
        self._quality = {name: load_suite(name).definition.quality for name in suites}
        for suite, quality in self._quality.items():
            for metric in quality.metrics:
                if metric not in METRICS:
                    raise UnknownNameError.of("metric", metric, METRICS, f"In the definition of suite {suite!r}.")
        self._asked = dict.fromkeys(metric for question in questions for metric in question.metrics)
        for metric in self._asked:
            if metric not in METRICS:
                raise UnknownNameError.of("metric", metric, METRICS, "In a row of the question file.")
        self._known: dict[tuple[int | str, int, str], AnswerScores] = {}

    def signatures(self) -> dict[str, str]:
        """Library, version and settings of every metric in use, for the manifest."""
        of_suites = dict.fromkeys(metric for quality in self._quality.values() for metric in quality.metrics)
        return signatures(of_suites | self._asked)

    def score(self, question: Question, turn: int, text: str) -> AnswerScores:
        """The scores of one answer; the same answer of several decoders is scored once."""
        return _kept(self._known, (question.id, turn, text), lambda: self._scored(question, turn, text))

    def _scored(self, question: Question, turn: int, text: str) -> AnswerScores:
        quality, references = self._quality[question.suite], question.answers(turn)
        metrics = question.metrics or quality.metrics
        if not metrics:
            return AnswerScores(reasons={"quality": f"suite {question.suite} is not scored: {_lower(quality.note)}"})
        if not references:
            return AnswerScores(reasons={"quality": f"the question file gives {_nothing(question, turn)}"})
        scored = score_answer(metrics, text, references)
        missing = [name for name, value in scored.values.items() if value is None and name not in scored.faults]
        whys = [f"the reference gives nothing to score by: {', '.join(missing)}"] if missing else []
        why = "; ".join([*whys, *scored.faults.values()])
        return AnswerScores(scored.values, scored.counts or None, {"quality": why} if why else {})


def _nothing(question: Question, turn: int) -> str:
    """What there is in place of a reference."""
    if question.reference is None:
        return "no reference answer"
    if len(question.turns) > 1 and turn >= len(question.reference):
        return "no reference answer for this turn"
    return "an empty reference"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


class Grader:
    """Grades the answers of one target.

    `noise`: the bound of `logit_noise`; `sampled`: the settings are not greedy; `drafts`: how each decoder reads its
    draft, by label.
    """

    def __init__(
        self,
        target: LanguageModel,
        noise: float,
        scorer: AnswerScorer,
        sampled: bool,
        drafts: Mapping[str, DraftView] | None = None,
    ) -> None:
        self._target, self._noise, self._scorer, self._sampled = target, noise, scorer, sampled
        self._drafts = drafts or {}
        self._known: dict[tuple[DraftView | None, str, tuple[int, ...]], Any] = {}

    def grade(self, record: Record, prompt: Prompt, question: Question, baseline: Record | None) -> Record:
        """The record with nll, perplexity, quality, and divergence from `baseline` (AR's record of the same turn and
        repeat). What cannot be scored, for want of memory say, is null with the reason: the answer stands. A record
        whose target or draft gave logits that are not finite numbers has failed; its error says which, and where."""
        if record.projected:
            why = f"projected: {record.projected}"
            return _with_reasons(record, dict.fromkeys((*_LIKELIHOODS, "quality"), why))
        output_ids = record.output_ids
        assert output_ids and record.output_text is not None, "a decoded record has both"
        quality = self._scorer.score(question, record.turn, record.output_text)
        record = _with_reasons(record, quality.reasons, quality=quality.values, quality_counts=quality.counts)
        try:
            return self._with_likelihood(record, prompt, output_ids, baseline)
        except BaseException as error:
            if is_stop(error):
                raise
            why = f"its teacher-forced pass failed: {told(error)}"
            give_back(error)
            return _with_reasons(record, dict.fromkeys(_LIKELIHOODS, why))

    def _with_likelihood(
        self, record: Record, prompt: Prompt, output_ids: list[int], baseline: Record | None
    ) -> Record:
        scores: TokenScores = self._once(None, prompt, output_ids)
        if fault := self._not_finite(record.label, prompt, output_ids, scores):
            return record.updated(status="failed", error=fault)
        reasons: dict[str, str] = {}
        divergence, why_none = self._audit(record, baseline, scores)
        if why_none:
            reasons["divergence"] = why_none
        fields: dict[str, Any] = {"divergence": divergence, "tie_positions": scores.ties(self._noise)}
        mean = scores.nll_sum / len(output_ids)
        if math.isfinite(scores.nll_sum):
            fields["nll_sum"] = scores.nll_sum
        else:
            reasons |= dict.fromkeys(("nll_sum", "perplexity"), "a token of the output has the logit -inf")
        if mean < _LARGEST_EXPONENT:
            fields["perplexity"] = math.exp(mean)
        elif math.isfinite(mean):
            reasons["perplexity"] = f"exp of {mean:.4g} nats a token is beyond what a number holds"
        return _with_reasons(record, reasons, **fields)

    def _not_finite(self, label: str, prompt: Prompt, output_ids: list[int], scores: TokenScores) -> str | None:
        """Which model's logits are not finite numbers, and at which new token first; None where all are."""
        if (position := scores.first_not_finite) is not None:
            exactly = first_not_finite(self._target, prompt.ids, output_ids)
            return not_finite_at(f"target {self._target.name}", position if exactly is None else exactly)
        view = self._drafts.get(label)
        if view and (position := self._once(view, prompt, output_ids)) is not None:
            return not_finite_at(f"draft {view.model.name}", position)
        return None

    def _once(self, view: DraftView | None, prompt: Prompt, output_ids: list[int]) -> Any:
        """The target's scores of an output, or where a draft's logits are first not finite."""
        key = (view, prompt.hash, tuple(output_ids))
        read = view.first_not_finite if view else partial(score, self._target)
        return _kept(self._known, key, lambda: read(prompt.ids, output_ids))

    def _audit(
        self, record: Record, baseline: Record | None, scores: TokenScores
    ) -> tuple[Divergence | None, str | None]:
        """The verdict on an output, or why there is none. Without AR's output its own tokens are still checked."""
        ids = record.output_ids or []
        if record.lossy:
            return None, "a lossy method is not meant to equal AR"
        if self._sampled:
            return None, "sampled outputs are not compared token by token"
        if baseline is None or baseline.output_ids is None:
            why = f"no {BASELINE} record of this turn"
            if baseline and baseline.error:
                why = f"{BASELINE} has no answer to this turn: {baseline.error}"
        elif baseline.prompt_hash != record.prompt_hash:
            why = "the prompt differs from AR's: an earlier turn parted from it"
        else:
            return classify(ids, baseline.output_ids, scores, self._noise), None
        alone = classify_alone(ids, scores, self._noise)
        return alone, None if alone else why


def _kept(known: dict[K, T], key: K, make: Callable[[], T]) -> T:
    """What `make` gives for a key; `known` keeps that of the last `_KEPT` keys."""
    if key not in known:
        known[key] = make()
        if len(known) > _KEPT:
            known.pop(next(iter(known)))
    return known[key]


def _with_reasons(record: Record, reasons: dict[str, str], **fields: Any) -> Record:
    return record.updated(**fields, reasons={**record.reasons, **reasons})
