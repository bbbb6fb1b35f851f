"""How suites and decoders are called in tables and plots, in one place."""

from __future__ import annotations

LOSSY_MARK = "†"
LOSSY_NOTE = f"{LOSSY_MARK} lossy: may change the output; read beside perplexity and quality."

_SUITES = {
    "mt_bench": "MT",
    "translation": "Transl",
    "summarization": "Summ",
    "qa": "QA",
    "math_reasoning": "Math",
    "rag": "RAG",
    "overall": "All",
}


def suite_title(suite: str) -> str:
    """A short heading for a suite; one that is not Spec-Bench's keeps its name."""
    return _SUITES.get(suite, suite)


def decoder_title(label: str, lossy: bool) -> str:
    """The label, with the mark of a lossy decoder."""
    return f"{label} {LOSSY_MARK}" if lossy else label
