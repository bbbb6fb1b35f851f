"""Task quality of one answer against its references, by the field's own libraries, and the pooled value of many.

`METRICS` is the registry: a suite names its metrics in its definition. Scores of sacrebleu go from 0 to 100, all others
from 0 to 1. Of several references the best counts, except for BLEU, which counts n-grams of all of them together.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, partial
from importlib.metadata import version
from typing import Any

from specbench_s2d.errors import in_one_line, is_stop

Value = Callable[[str, Sequence[str]], float | None]


@dataclass(frozen=True)
class Metric:
    """`title`: its column heading. `what`: its definition. `highest`: the top of its scale. `value`: of one answer and
    its references, None where they cannot be scored. `signature`: version and settings. `pool`: for a metric of whole
    corpora, the library's own, whose counts are summed over sentences."""

    title: str
    what: str
    highest: int
    value: Value
    signature: Callable[[], str]
    pool: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Quality:
    """`values`: each metric of one answer. `counts`: what the pooled metrics sum over answers. `faults`: what a metric
    raised, or gave in place of a number; its value is None."""

    values: dict[str, float | None] = field(default_factory=dict)
    counts: dict[str, list[int]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


def score_answer(metrics: Iterable[str], answer: str, references: Sequence[str]) -> Quality:
    """`answer` by each of `metrics` (names in `METRICS`) against one or more references; an empty answer scores 0."""
    assert references
    quality = Quality()
    for name in metrics:
        metric = METRICS[name]
        quality.values[name] = None
        try:
            value = metric.value(answer, references)
            counts = None if metric.pool is None else _counts(metric.pool(), answer, references)
        except BaseException as error:
            if is_stop(error):
                raise
            quality.faults[name] = f"metric {name} raised {in_one_line(error, kind=True)}"
            continue
        if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
            quality.faults[name] = f"metric {name} gave {value!r}, which is no finite number"
            continue
        quality.values[name] = None if value is None else float(value)
        if counts is not None:
            quality.counts[name] = counts
    return quality


def pooled(metric: str, counts: Sequence[Sequence[int]]) -> float:
    """The corpus value of a pooled metric from each answer's counts: sacrebleu's own aggregation."""
    pool = METRICS[metric].pool
    assert pool is not None, f"{metric} is a mean over answers"
    return float(pool()._aggregate_and_compute([list(row) for row in counts]).score)


def signatures(metrics: Iterable[str]) -> dict[str, str]:
    """Library, version and settings of each metric: what a quoted score needs beside it."""
    return {name: METRICS[name].signature() for name in metrics}


def _counts(metric: Any, answer: str, references: Sequence[str]) -> list[int]:
    """The sufficient statistics of one answer, as sacrebleu sums them: each reference is a stream of its own."""
    [row] = metric._extract_corpus_statistics([answer], [[reference] for reference in references])
    return [int(count) for count in row]


@cache
def _bleu(effective_order: bool = False) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=effective_order)


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


@cache
def _rouge(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], use_stemmer=True)


def _sentence_bleu(answer: str, references: Sequence[str]) -> float:
    """One answer's own BLEU, with effective order; the corpus's goes without."""
    return float(_bleu(True).sentence_score(answer, list(references)).score)


def _sentence_chrf(answer: str, references: Sequence[str]) -> float:
    return float(_chrf().sentence_score(answer, list(references)).score)


def _sacrebleu_signature(metric: Callable[[], Any]) -> str:
    metric().corpus_score(["a"], [["a"]])  # a signature wants to know the number of references, which here varies
    return "sacrebleu " + re.sub(r"nrefs:\d+\|", "", str(metric().get_signature()))


def _rouge_f(kind: str, answer: str, references: Sequence[str]) -> float:
    return max(float(_rouge(kind).score(reference, answer)[kind].fmeasure) for reference in references)


def _rouge_signature() -> str:
    return f"rouge-score {version('rouge-score')}, F-measure, Porter stemmer"


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_words(text: str) -> list[str]:
    """Lower case, no punctuation, no articles, split at white space (SQuAD's evaluation, Rajpurkar et al. 2016)."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 where the answer's words are those of a reference, else 0; an empty answer is never right."""
    return float(bool(answer.strip()) and any(squad_words(answer) == squad_words(ref) for ref in references))


def f1(answer: str, references: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the words that answer and reference share; the best reference counts."""
    if not answer.strip():
        return 0.0
    return max(_f1(squad_words(answer), squad_words(reference)) for reference in references)


def _f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    if not answer or not reference:  # only articles and punctuation: "A" beside "A" is right, as in SQuAD 2.0's rules
        return float(answer == reference)
    shared = (Counter(answer) & Counter(reference)).total()
    return 2 * shared / (len(answer) + len(reference))


# After a word or a bracket a minus subtracts and is no sign; a comma parts thousands, or ends a clause or an item.
_SIGN = r"(?:(?<![\w)])[-−])?\$?"
_NUMBER = re.compile(_SIGN + r"(?:(?:\d{1,3}(?:,\d{3})+(?!,?\d)|\d+)(?:\.\d+)?|(?<![\d,])\.\d+)")
_READ = str.maketrans("−", "-", ",$")


def last_number(text: str) -> Decimal | None:
    """The last number of a text, thousands separators read; None where there is none.

    GSM8K (Cobbe et al. 2021) ends its references with `#### 1000`, so the last number is the answer there too.
    """
    found = _NUMBER.findall(text)
    return Decimal(found[-1].translate(_READ)) if found else None


def final_number(answer: str, references: Sequence[str]) -> float | None:
    """1 where the answer's last number equals a reference's last number, else 0; None where no reference has one."""
    wanted = {number for number in map(last_number, references) if number is not None}
    return float(last_number(answer) in wanted) if wanted else None


def _own(rules: str) -> Callable[[], str]:
    return lambda: rules


_SQUAD = "SQuAD v1.1 rules: lower case, no punctuation, no articles, white space; best reference"

METRICS: dict[str, Metric] = {
    "chrf": Metric(
        "chrF", "character n-gram F-score (chrF2, sacrebleu), 0 to 100, pooled over the row's answers", 100,
        _sentence_chrf, partial(_sacrebleu_signature, _chrf), _chrf,
    ),
    "bleu": Metric(
        "BLEU", "BLEU (sacrebleu), 0 to 100, of the row's answers as one corpus", 100,
        _sentence_bleu, partial(_sacrebleu_signature, _bleu), _bleu,
    ),
    "rouge_1": Metric(
        "R-1", "ROUGE-1, F-measure, 0 to 1, mean over answers", 1, partial(_rouge_f, "rouge1"), _rouge_signature
    ),
    "rouge_2": Metric(
        "R-2", "ROUGE-2, F-measure, 0 to 1, mean over answers", 1, partial(_rouge_f, "rouge2"), _rouge_signature
    ),
    "rouge_l": Metric(
        "R-L", "ROUGE-L, F-measure, 0 to 1, mean over answers", 1, partial(_rouge_f, "rougeL"), _rouge_signature
    ),
    "exact_match": Metric(
        "EM", "share of answers that are a reference word for word by SQuAD's rules", 1, exact_match, _own(_SQUAD)
    ),
    "f1": Metric("F1", "word overlap with the best reference by SQuAD's rules, 0 to 1, mean over answers", 1, f1,
                 _own(_SQUAD)),
    "final_number": Metric(
        "acc", "share of answers whose last number equals the reference's last number", 1, final_number,
        _own("last number of the answer equals the last number of a reference, as decimals"),
    ),
}  # fmt: skip
