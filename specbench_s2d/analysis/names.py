"""How suites and decoders are called in tables and plots, in one place."""

from __future__ import annotations

LOSSY_MARK = "†"
LOSSY_NOTE = f"{LOSSY_MARK} lossy: may change the output; read beside perplexity and quality."

# suite: (full name, short name for narrow columns)
_SUITES = {
    "mt_bench": ("MT-bench", "MT"),
    "translation": ("Translation", "Transl"),
    "summarization": ("Summarization", "Summ"),
    "qa": ("QA", "QA"),
    "math_reasoning": ("Math", "Math"),
    "rag": ("RAG", "RAG"),
    "overall": ("Overall", "All"),
}


def suite_title(suite: str, short: bool = False) -> str:
    """A heading for a suite; one that is not Spec-Bench's keeps its name."""
    return _SUITES.get(suite, (suite, suite))[short]


def decoder_title(label: str, lossy: bool) -> str:
    """The label, with the mark of a lossy decoder."""
    return f"{label} {LOSSY_MARK}" if lossy else label
