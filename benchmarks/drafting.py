"""Drafters without weights: prompt lookup beside transformers' own, and what drafting costs and keeps in memory.

    python benchmarks/drafting.py [--target demo-s …] [--limit 5] [--new-tokens 64] [--out FILE]

1. Step by step: after the same prompts, what `lookup` drafts at every step and what transformers' prompt lookup drafts
   (`prompt_lookup_num_tokens=10`, `max_matching_ngram_size=3`), and the mean accepted tokens of both. Both begin after
   the first token, which transformers is given with the prompt. Every difference is counted by its cause.
2. Seconds of drafting a step (`propose` and `commit`) at 2,000 and 32,768 tokens of context, of the text of the
   embedded questions, which grows by two tokens a step; beside an AR step of each target, at 2,000 tokens and at its
   whole context.
3. Bytes that the suffix index keeps per token, and its seconds per token, at 32,768 tokens of several kinds of text.
"""

from __future__ import annotations

import json
import random
import statistics
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from figures import TARGETS, Targets, write
from transformers import AutoModelForCausalLM
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from specbench_s2d import build_decoder, load_model
from specbench_s2d.config import SUITES
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.spec import parse_decoder
from specbench_s2d.decoding.suffix_index import SuffixIndex
from specbench_s2d.decoding.types import Verdict
from specbench_s2d.measure.machine import cpu_model
from specbench_s2d.models import LanguageModel
from specbench_s2d.models.chat import ChatTemplate
from specbench_s2d.models.load import hide_progress_bars
from specbench_s2d.models.resolve import resolve_model
from specbench_s2d.suites import load_questions

CONTEXTS = (2_000, 32_768)
STEPS = 400
Draft = tuple[list[int], int]
"""What a step drafted, and how many of the drafted tokens were accepted."""


def our_steps(target: LanguageModel, ids: list[int], new_tokens: int) -> tuple[list[int], list[Draft]]:
    """The answer of `lookup`, and its steps."""
    generation = build_decoder("lookup", target).generate(ids, max_new_tokens=new_tokens)
    return generation.ids, [(step.drafted, len(step.emitted) - 1) for step in generation.steps]


def their_steps(model: Any, ids: list[int], new_tokens: int) -> tuple[list[int], list[Draft]]:
    """The same of transformers' prompt lookup: what it drafted at every length, and how far it then came."""
    drafted: list[tuple[int, list[int]]] = []
    find = PromptLookupCandidateGenerator.get_candidates

    def recorded(self: Any, input_ids: Any, **more: Any) -> Any:
        candidates, logits = find(self, input_ids, **more)
        drafted.append((input_ids.shape[1], candidates[0, input_ids.shape[1] :].tolist()))
        return candidates, logits

    PromptLookupCandidateGenerator.get_candidates = recorded  # type: ignore[method-assign]
    try:
        ids_BT = torch.tensor([ids])
        with torch.inference_mode():
            out = model.generate(
                ids_BT, attention_mask=torch.ones_like(ids_BT), do_sample=False, max_new_tokens=new_tokens,
                prompt_lookup_num_tokens=10, max_matching_ngram_size=3,
            )[0].tolist()  # fmt: skip
    finally:
        PromptLookupCandidateGenerator.get_candidates = find  # type: ignore[method-assign]
    ends = [length for length, _ in drafted[1:]] + [len(out)]
    steps = [(found, end - length - 1) for (length, found), end in zip(drafted, ends, strict=True)]
    return out[len(ids) :], steps


def cause(ours: Draft, theirs: Draft, eos_ids: frozenset[int], left: int) -> str:
    """Why two drafts at one place differ: `same`, `EOS`, `limit`, or `unexplained`."""
    mine, other = ours[0], theirs[0]
    if mine == other:
        return "same"
    if mine[: len(other)] == other and mine[len(other)] in eos_ids:
        return "EOS: transformers cuts a draft before it"
    if not other and left == 1:
        return "limit: transformers drafts nothing for the last token"
    return "unexplained"


def beside_transformers(name: str, limit: int, new_tokens: int) -> dict[str, Any]:
    """Section 1 for one target."""
    target = load_model(name, "cpu")
    model = AutoModelForCausalLM.from_pretrained(str(resolve_model(name).folder), dtype=torch.float32).eval()
    template, causes, tokens, steps, differing = (
        ChatTemplate.choose(target.tokenizer),
        Counter[str](),
        [0, 0],
        [0, 0],
        0,
    )
    questions = load_questions("embedded", list(SUITES), limit)
    for question in questions:
        ids = template.encode([{"role": "user", "content": question.turns[0]}])
        answer, mine = our_steps(target, ids, new_tokens)
        if len(answer) < 2:
            continue
        others, theirs = their_steps(model, [*ids, answer[0]], new_tokens - 1)
        differing += others != answer[1:]
        position = 1
        for own, other in zip(mine, theirs, strict=False):
            causes[cause(own, other, target.eos_ids, new_tokens - position)] += 1
            if own[1] != other[1]:
                break
            position += own[1] + 1
        for side, (ids_of, of_side) in enumerate(((answer[1:], mine), (others, theirs))):
            tokens[side] += len(ids_of)
            steps[side] += len(of_side)
    return {
        "target": name, "questions": len(questions), "answers_that_differ": differing, "drafts": dict(causes),
        "mat": tokens[0] / steps[0], "mat_transformers": tokens[1] / steps[1],
        "steps": steps[0], "steps_transformers": steps[1],
    }  # fmt: skip


def text_ids(target: LanguageModel, length: int) -> list[int]:
    """The embedded questions and their references as one text."""
    parts = [part for q in load_questions("embedded", list(SUITES), None) for part in (*q.turns, *(q.reference or ()))]
    ids: list[int] = target.tokenizer.encode("\n".join(map(str, parts)), verbose=False)
    return (ids * (1 + length // len(ids)))[:length]


def drafting_s(decoder: str, context: list[int], length: int) -> dict[str, float]:
    """Seconds to index a context, and of a step's drafting from there."""
    spec, sampler = parse_decoder(decoder), Sampler(0.0, 0, 1.0, 0)
    kind: Any = spec.kind
    drafter = kind.drafter_class(None, spec.options)
    growing, taken, found = context[:length], list[float](), 0
    began = time.perf_counter()
    drafter.start(growing, sampler)
    indexed_s = time.perf_counter() - began
    for step in range(STEPS):
        at = length + 2 * step
        growing += context[at : at + 2]
        began = time.perf_counter()
        proposal = drafter.propose(growing, 1_000)
        drafter.commit(len(growing), Verdict(0, 0))
        taken.append(time.perf_counter() - began)
        found += bool(len(proposal.ids_G))
    median, mean = statistics.median(taken), statistics.fmean(taken)
    return {"index_prompt_s": indexed_s, "median_s": median, "mean_s": mean, "steps_with_a_draft": found / STEPS}


def step_s(target: LanguageModel, context: list[int], length: int) -> float:
    """Seconds of an AR step after `length` tokens, the median of 60."""
    generation = build_decoder("ar", target).generate(context[:length], max_new_tokens=61, ignore_eos=True)
    return statistics.median(step.seconds for step in generation.steps)


def costs(targets: list[str]) -> dict[str, Any]:
    """Section 2."""
    models = {name: load_model(name, "cpu") for name in targets}
    context = text_ids(next(iter(models.values())), CONTEXTS[-1] + 2 * STEPS)
    drafting = {
        decoder: {length: drafting_s(decoder, context, length) for length in CONTEXTS}
        for decoder in ("lookup", "suffix")
    }
    at = {
        name: {n: step_s(model, context, n) for n in (CONTEXTS[0], model.context - 64)}
        for name, model in models.items()
    }
    shares = {
        decoder: {name: by_length[CONTEXTS[0]]["mean_s"] / at[name][CONTEXTS[0]] for name in models}
        for decoder, by_length in drafting.items()
    }
    return {"drafting": drafting, "ar_step_s": at, "share_of_an_ar_step_at_2000": shares}


def memory(target: LanguageModel) -> dict[str, dict[str, float]]:
    """Section 3."""
    drawn, length = random.Random(0), CONTEXTS[-1]
    texts = {
        "questions": text_ids(target, length),
        "random over 49,152 ids": [drawn.randrange(49_152) for _ in range(length)],
        "random over 2 ids": [drawn.randrange(2) for _ in range(length)],
        "one id": [0] * length,
    }
    measured = {}
    for name, ids in texts.items():
        began = time.perf_counter()
        SuffixIndex(64).extend(ids)
        seconds = time.perf_counter() - began
        tracemalloc.start()
        index = SuffixIndex(64)
        index.extend(ids)
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        measured[name] = {"bytes_per_token": taken / length, "s_per_token": seconds / length, "tokens": length}
        del index
    return measured


def main(
    target: Targets = None,
    limit: Annotated[int, typer.Option(help="Questions per suite of section 1.")] = 5,
    new_tokens: Annotated[int, typer.Option(help="New tokens per answer of section 1.")] = 64,
    out: Annotated[Path, typer.Option(help="Write the figures as JSON.")] = Path("results/benchmarks/drafting.json"),
) -> None:
    """Measure, print and write all three sections."""
    hide_progress_bars()
    targets = target or TARGETS
    facts = {
        "cpu": cpu_model(),
        "torch": torch.__version__,
        "peers": [beside_transformers(name, limit, new_tokens) for name in targets],
        "costs": costs(targets),
        "suffix_index": memory(load_model(targets[0], "cpu")),
    }
    typer.echo(json.dumps(facts, indent=1))
    write(out, facts)


if __name__ == "__main__":
    typer.run(main)
