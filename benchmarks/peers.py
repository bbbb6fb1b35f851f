"""AR and SD beside transformers' own `generate` and assisted generation: same weights, prompts, lengths, one process.

    python benchmarks/peers.py [--target demo-l] [--draft demo-draft-sft] [--prompts 16] [--new-tokens 64] [--out FILE]

Every contender decodes every prompt greedily, EOS honoured, in an order that changes from prompt to prompt; prefill is
inside every time. Only prompts whose AR answer reaches 24 tokens count. A row's figure is the median over the prompts
of the paired ratio of tokens/s, with the quartiles beside it. Ids are compared too: a faster wrong answer is no answer.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from figures import show, with_ends, write
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from specbench_s2d import build_decoder, load_model
from specbench_s2d.decoding.decoder import Decoder
from specbench_s2d.measure.machine import cpu_model
from specbench_s2d.models import LanguageModel
from specbench_s2d.models.chat import ChatTemplate
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.suites import load_questions

GAMMAS = (2, 3, 5)
FEWEST_TOKENS = 24
Contender = Callable[[list[int]], list[int]]


def ours(target: LanguageModel, draft: LanguageModel, new_tokens: int) -> dict[str, Contender]:
    """AR, and SD at each gamma, through this package."""
    decoders = {"ar": build_decoder("ar", target)}
    decoders |= {f"sd gamma {gamma}": build_decoder("sd", target, draft, gamma=gamma) for gamma in GAMMAS}

    def answered(decoder: Decoder) -> Contender:
        return lambda ids: decoder.generate(ids, max_new_tokens=new_tokens).ids

    return {name: answered(decoder) for name, decoder in decoders.items()}


def transformers_own(target: str, draft: str, new_tokens: int) -> dict[str, Contender]:
    """`generate`, and `generate(assistant_model=…)` with a constant number of draft tokens."""
    model, assistant = (
        AutoModelForCausalLM.from_pretrained(str(resolve_model(name).folder), dtype=torch.float32).eval()
        for name in (target, draft)
    )

    def generate(ids: list[int], gamma: int | None = None) -> list[int]:
        options: dict[str, Any] = {}
        if gamma is not None:
            assistant.generation_config.num_assistant_tokens = gamma
            assistant.generation_config.num_assistant_tokens_schedule = "constant"
            assistant.generation_config.assistant_confidence_threshold = 0.0
            options["assistant_model"] = assistant
        ids_BT = torch.tensor([ids])
        with torch.inference_mode():
            out = model.generate(
                ids_BT, attention_mask=torch.ones_like(ids_BT), do_sample=False, max_new_tokens=new_tokens, **options
            )
        new_ids: list[int] = out[0, len(ids) :].tolist()
        return new_ids

    contenders: dict[str, Contender] = {"transformers generate": generate}
    for gamma in GAMMAS:
        contenders[f"transformers assisted gamma {gamma}"] = partial(generate, gamma=gamma)
    return contenders


def choose_prompts(target: LanguageModel, wanted: int, new_tokens: int) -> list[list[int]]:
    """First turns of the embedded questions, suites in turn, whose greedy answer reaches 24 tokens."""
    template, ar = ChatTemplate.choose(target.tokenizer), build_decoder("ar", target)
    by_suite = [list(part) for part in load_questions("embedded").by_suite.values()]
    questions = [part[i] for i in range(max(map(len, by_suite))) for part in by_suite if i < len(part)]
    prompts = (template.encode([{"role": "user", "content": q.turns[0]}]) for q in questions)
    long_enough = (p for p in prompts if len(ar.generate(p, max_new_tokens=new_tokens).ids) >= FEWEST_TOKENS)
    return [prompt for prompt, _ in zip(long_enough, range(wanted), strict=False)]


def race(contenders: dict[str, Contender], prompts: list[list[int]], rounds: int) -> dict[str, list[float]]:
    """Tokens/s of every contender on every prompt (best of `rounds`), interleaved; and a check of the ids."""
    rates: dict[str, list[float]] = {name: [0.0] * len(prompts) for name in contenders}
    for run in contenders.values():  # warm up, untimed
        run(prompts[0])
    for r in range(rounds):
        for i, prompt in enumerate(prompts):
            order = list(contenders)
            random.Random(f"{r}/{i}").shuffle(order)
            for name in order:
                started = time.perf_counter()
                ids = contenders[name](prompt)
                rates[name][i] = max(rates[name][i], len(ids) / (time.perf_counter() - started))
    return rates


def differing(contenders: dict[str, Contender], prompts: list[list[int]]) -> dict[str, int]:
    """How many prompts each contender answers with other ids than AR's."""
    expected = [contenders["ar"](prompt) for prompt in prompts]
    return {name: sum(run(p) != e for p, e in zip(prompts, expected, strict=True)) for name, run in contenders.items()}


def ratios(rates: dict[str, list[float]]) -> list[dict[str, Any]]:
    """The table: who over whom, median and quartiles of the paired ratios."""
    pairs = [("ar", "transformers generate")]
    pairs += [(f"sd gamma {g}", f"transformers assisted gamma {g}") for g in GAMMAS]
    pairs += [(f"sd gamma {g}", "ar") for g in GAMMAS]
    rows = []
    for ahead, behind in pairs:
        paired = [a / b for a, b in zip(rates[ahead], rates[behind], strict=True)]
        low, median, high = statistics.quantiles(paired, n=4)
        rows.append({"ours": ahead, "over": behind, "median": median, "quartile_low": low, "quartile_high": high})
    return rows


def main(
    target: str = "demo-l",
    draft: str = "demo-draft-sft",
    prompts: Annotated[int, typer.Option(min=2)] = 16,
    new_tokens: int = 64,
    rounds: int = 3,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Print, for AR and SD, the ratio of tokens/s to transformers' own generation."""
    transformers_logging.set_verbosity_error()
    model, small = (load_model(name, device="cpu", dtype="float32") for name in (target, draft))
    chosen = choose_prompts(model, prompts, new_tokens)
    contenders = {**ours(model, small, new_tokens), **transformers_own(target, draft, new_tokens)}
    wrong = differing(contenders, chosen)
    rates = race(contenders, chosen, rounds)
    rows = ratios(rates)
    median_rates = {name: statistics.median(values) for name, values in rates.items()}
    show(
        f"{target} with {draft}: {len(chosen)} prompts, {new_tokens} new tokens, {rounds} rounds",
        ["ours", "over", "median ratio [quartiles]"],
        ([r["ours"], r["over"], with_ends(r["median"], r["quartile_low"], r["quartile_high"])] for r in rows),
        left=2,
        caption=f"median tokens/s: {', '.join(f'{n} {v:.0f}' for n, v in median_rates.items())}",
    )
    typer.echo(f"prompts answered with other ids than AR's: {wrong}")
    if out:
        machine = f"{cpu_model()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        facts = {"machine": machine, "target": target, "draft": draft, "prompts": len(chosen), "new_tokens": new_tokens}
        write(out, {**facts, "ratios": rows, "tokens_per_s": median_rates, "differing": wrong})


if __name__ == "__main__":
    typer.run(main)
