"""Which metrics an answer is scored by, against which references, or why it is not scored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from specbench_s2d.errors import UnknownNameError
from specbench_s2d.measure.quality import METRICS, score_answer, signatures
from specbench_s2d.suites import Question, load_suite


@dataclass(frozen=True)
class AnswerScores:
    """A record's `quality` and `quality_counts`, None where `reasons` (by field name) says why."""

    values: dict[str, float | None] | None = None
    counts: dict[str, list[int]] | None = None
    reasons: dict[str, str] = field(default_factory=dict)


class AnswerScorer:
    """Scores answers as their suites' definitions say; raises `UnknownNameError` for a metric that there is not."""

    def __init__(self, suites: Iterable[str]) -> None:
        self._quality = {name: load_suite(name).definition.quality for name in suites}
        for suite, quality in self._quality.items():
            for metric in quality.metrics:
                if metric not in METRICS:
                    raise UnknownNameError.of("metric", metric, METRICS, f"In the definition of suite {suite!r}.")
        self._known: dict[tuple[int | str, int, str], AnswerScores] = {}

    def signatures(self) -> dict[str, str]:
        """Library, version and settings of every metric in use, for the manifest."""
        return signatures(dict.fromkeys(metric for quality in self._quality.values() for metric in quality.metrics))

    def score(self, question: Question, turn: int, text: str) -> AnswerScores:
        """The scores of one answer; the same answer of several decoders is scored once."""
        key = (question.id, turn, text)
        if key not in self._known:
            self._known[key] = self._scored(question, turn, text)
        return self._known[key]

    def _scored(self, question: Question, turn: int, text: str) -> AnswerScores:
        quality, references = self._quality[question.suite], question.answers(turn)
        if not quality.metrics:
            return AnswerScores(reasons={"quality": f"suite {question.suite} is not scored: {_lower(quality.note)}"})
        if not references:
            return AnswerScores(reasons={"quality": f"the question file gives {_nothing(question, turn)}"})
        scored = score_answer(quality.metrics, text, references)
        missing = [metric for metric, value in scored.values.items() if value is None]
        why = f"the reference gives nothing to score by: {', '.join(missing)}"
        return AnswerScores(scored.values, scored.counts or None, {"quality": why} if missing else {})


def _nothing(question: Question, turn: int) -> str:
    """What there is in place of a reference."""
    if question.reference is None:
        return "no reference answer"
    if len(question.turns) > 1 and turn >= len(question.reference):
        return "no reference answer for this turn"
    return "an empty reference"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")
