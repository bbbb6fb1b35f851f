"""How often each token occurs in the answers of a corpus: the ranking that a draft's small vocabulary is cut by.

Answers alone are counted, whatever the loss was over: they are what a draft proposes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from specbench_s2d.errors import UserError
from specbench_s2d.models.chat import ChatTemplate
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.models.token_ranking import write_ranking
from specbench_s2d.training.card import data_summary
from specbench_s2d.training.checkpoint import writing
from specbench_s2d.training.data import answer_counts
from specbench_s2d.training.jobs import Corpus


def rank_tokens(draft: Path, data: Sequence[str], template: str | None = None) -> dict[str, int]:
    """Count chats with a draft's tokenizer, and store the counts in its folder; returns how many answer tokens there
    were (`tokens`), and how many different ids (`seen`).

    Raises `UserError` for what is no model's folder, `DataError` for what are no chats.
    """
    if not draft.is_dir():
        raise UserError(f"--draft {draft}: no such folder; give the folder of a model.")
    model, corpus = resolve_model(str(draft)), Corpus(data)
    training, _ = corpus.encode(ChatTemplate.choose(model.tokenizer, template))
    counts = answer_counts(training, model.vocabulary)
    with writing(draft):
        write_ranking(draft, counts, data_summary(corpus.training, training))
    return {"tokens": sum(counts), "seen": sum(count > 0 for count in counts)}
