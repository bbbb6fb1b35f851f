"""The model card, from the facts of one run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from specbench_s2d.resources import drafts_folder
from specbench_s2d.training.card import FACTS, render_card

from .factory import tiny_spec


def facts(**spec: Any) -> dict[str, Any]:
    return {
        "name": "it",
        "base": "the first 4 layers of m",
        "command": "specbench-s2d train soft",
        "machine": "2 CPU threads (x86_64)",
        "spec": tiny_spec(**spec).model_dump(),
        "shape": {"layers": 4},
        "data": {"qa": {"chats": 1, "tokens": 2, "answer_tokens": 1}},
        "steps": 12,
        "tokens": 384,
        "tokens_inherited": 0,
        "train_s": 1.0,
        "validation_nll": {"all": 0.0},
        "exit_perplexity": {"2": 9.0, "3": 4.5, "4": 1.0},
        "validation_perplexity": {"all": 1.0},
        "loss_curve": [{"tokens": 384, "loss": 1.0, "validation_nll": 0.0}],
    }


TABLE = """
## Held-out perplexity of answers by exit
| exit after layer | perplexity |
|---|---|
| 2 | 9.00 |
| 3 | 4.50 |
| 4 | 1.00 |

## Loss curve
"""


def test_a_nested_drafts_card_tells_its_exits() -> None:
    card = render_card(facts(exits=(2, 3, 4), loss_on="answers"))
    assert "loss on answers alone, the mean of exits 2, 3, 4; sequences" in card
    assert TABLE in card


def test_other_cards_tell_nothing_of_exits() -> None:
    card = render_card(facts())
    assert "loss on all tokens; sequences" in card and " exit" not in card
    assert "| all | 0.000 | 1.00 |\n\n## Loss curve" in card


def test_adapters_are_told() -> None:
    assert "loss on all tokens, by LoRA of rank 4 and alpha 8; seq" in render_card(facts(lora_rank=4, lora_alpha=8.0))


def test_facts_older_than_the_exits_give_the_card_they_gave() -> None:
    old = facts()
    expected = render_card(old)
    del old["exit_perplexity"], old["spec"]["exits"], old["spec"]["lora_rank"], old["spec"]["lora_alpha"]
    assert render_card(old) == expected


def test_exits_without_held_out_chats_have_no_table() -> None:
    silent = facts(exits=(2, 3, 4)) | {"exit_perplexity": {}, "validation_nll": {}, "validation_perplexity": {}}
    assert "by exit" not in render_card(silent)


@pytest.mark.parametrize(
    ("sentence", "named"),
    [("Apache-2.0: trained on its own answers.", "apache-2.0"), ("Its data: Apache-2.0.", "other"), ("", "other")],
)
def test_the_front_matter_names_the_licence_that_the_sentence_begins_with(sentence: str, named: str) -> None:
    assert f"\nlicense: {named}\n---\n" in render_card(facts() | {"licence": sentence})
    assert "\nlicense: other\n---\n" in render_card(facts())


def test_the_cards_of_drafts_that_ship_are_what_their_facts_give() -> None:
    cards = [path for path in sorted(drafts_folder().iterdir()) if (path / FACTS).is_file()]
    assert cards
    for folder in cards:
        told = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        assert (folder / "README.md").read_text(encoding="utf-8") == render_card(told), folder.name
