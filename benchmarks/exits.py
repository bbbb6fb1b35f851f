"""How well each exit of a draft answers held-out chats: the nested demo draft beside the plain one read early.

    python benchmarks/exits.py --data CORPUS [--model demo-draft --model demo-draft-sft] [--exits 2,3,4] [--out FILE]

CORPUS is the chat JSONL (file, folder or hub:owner/name) that the models were trained on: the prompts held out of
training are held out here, and the same chats, cut to the same length, are read as in the models' own validation.
Figures are perplexities of answer tokens, float32, every exit read through the model's own final norm and head.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer
from figures import show, write

from specbench_s2d.models.chat import ChatTemplate
from specbench_s2d.models.load import hide_progress_bars
from specbench_s2d.training.card import FACTS
from specbench_s2d.training.data import encode_chats, held_out_by_suite
from specbench_s2d.training.exits import check_exit_flags
from specbench_s2d.training.init_model import ModelSource, init_model, load_tokenizer, resolve_source
from specbench_s2d.training.jobs import HELD_OUT_PER_SUITE, Corpus
from specbench_s2d.training.spec import make_train_spec
from specbench_s2d.training.trainer import validation_loss

MODELS = ("demo-draft", "demo-draft-sft")
Perplexities = dict[int, dict[str, float]]


def perplexities(name: str, exits: tuple[int, ...], corpus: Corpus) -> Perplexities:
    """By exit depth and suite (`all` pools them): perplexity of the held-out answers that the model's card used."""
    tokenizer = load_tokenizer(name)
    model = init_model(ModelSource("continue", name), tokenizer, 0)
    check_exit_flags(exits, model.config.num_hidden_layers)
    length = json.loads((Path(resolve_source(name)) / FACTS).read_text(encoding="utf-8"))["spec"]["length"]
    encoded = encode_chats(corpus.held_out, ChatTemplate.choose(tokenizer))
    chosen = held_out_by_suite(encoded, HELD_OUT_PER_SUITE, length)
    nll = validation_loss(model, chosen, autocast=False, exits=exits)
    return {depth: {suite: math.exp(value) for suite, value in row.items()} for depth, row in nll.items()}


def main(
    data: Annotated[list[str], typer.Option(help="The corpus: chat JSONL (file or folder) or hub:owner/name.")],
    model: Annotated[list[str] | None, typer.Option(help="Demo names or folders; default: both demo drafts.")] = None,
    exits: Annotated[str, typer.Option(help="Depths to read each model at, the last layer included.")] = "2,3,4",
    out: Annotated[Path, typer.Option(help="Write the figures as JSON.")] = Path("results/benchmarks/exits.json"),
) -> None:
    """Print the perplexity of held-out answers at each exit of each model, and write it as JSON."""
    hide_progress_bars()
    depths, corpus = make_train_spec({"tokens": 1, "exits": exits}).exits, Corpus(data)
    measured = {Path(name).name: perplexities(name, depths, corpus) for name in model or MODELS}
    suites = list(next(iter(next(iter(measured.values())).values())))
    rows = ([name, at, *(row[s] for s in suites)] for name, by_exit in measured.items() for at, row in by_exit.items())
    show("Held-out perplexity of answers by exit", ["model", "exit", *suites], rows)
    what = "perplexity of held-out answer tokens by model, exit depth and suite; all pools the suites"
    facts = {"what": what, "held_out_chats_per_suite": HELD_OUT_PER_SUITE, "dtype": "float32", "perplexity": measured}
    write(out, facts)


if __name__ == "__main__":
    typer.run(main)
