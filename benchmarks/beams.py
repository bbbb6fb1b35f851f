"""What the beams of MJSD cost beside one chain of the same length, timed as the loop takes them.

    python benchmarks/beams.py [--draft demo-draft-sft] [--target demo-s --target demo-m --target demo-l] [--gamma 4]
        [--beams 8] [--threads 1 --threads 2] [--out FILE]

Each proposal follows a target pass over gamma + 1 positions, as in a generation: what the target leaves of the draft in
the caches is part of the price. Chain and beams take turns. Milliseconds per proposal (medians), and the
ratio of beams to chain: median and quartiles over rounds. On a CPU, where nothing is left running when a call returns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Annotated, Any

import torch
import typer
from figures import TARGETS, Targets, load, measured, show, with_ends, write

from specbench_s2d.decoding.drafters.beam import BeamDrafter
from specbench_s2d.decoding.drafters.chain import ChainDrafter
from specbench_s2d.decoding.sampling import Sampler
from specbench_s2d.decoding.types import Drafter, Verdict
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.engines.threads import torch_threads

PROMPT, ROUNDS, PROPOSALS, ROOM = 150, 30, 6, 1_000
PROMPT_IDS = [1 + i % 500 for i in range(PROMPT)]


def measure(target: LanguageModel, draft: LanguageModel, gamma: int, beams: int) -> dict[str, Any]:
    """Medians of a proposal in milliseconds, and the ratio of beams to chain: median and quartiles over rounds."""
    contenders: dict[str, Drafter] = {
        "chain": ChainDrafter(draft, ChainDrafter.Options(gamma=gamma)),
        "one_beam": BeamDrafter(draft, BeamDrafter.Options(gamma=gamma, beams=1)),
        "beams": BeamDrafter(draft, BeamDrafter.Options(gamma=gamma, beams=beams)),
    }
    target.reset()
    target.extend(torch.tensor([PROMPT_IDS]), last_only=True)
    rounds: dict[str, list[float]] = defaultdict(list)
    for number in range(ROUNDS):
        names = list(contenders) if number % 2 else list(contenders)[::-1]
        for name in names:
            rounds[name].append(median(_proposals(contenders[name], target, draft, gamma)))
    ratios = [b / c for b, c in zip(rounds["beams"], rounds["chain"], strict=True)]
    low, middle, high = quantiles(ratios, n=4)
    milliseconds = {f"{name}_ms": round(1e3 * median(seconds), 4) for name, seconds in rounds.items()}
    return {**milliseconds, "ratio": round(middle, 3), "ratio_quartiles": [round(low, 3), round(high, 3)]}


def _proposals(drafter: Drafter, target: LanguageModel, draft: LanguageModel, gamma: int) -> Sequence[float]:
    """Seconds of each proposal, all of them rejected."""
    drafter.start(PROMPT_IDS, Sampler(0.0, 0, 1.0, seed=0))
    context, seconds = [*PROMPT_IDS, 7], []
    with torch_threads(draft.torch_threads):  # as in a generation's steps
        for _ in range(PROPOSALS):
            target.extend(torch.tensor([context[-1:] + [1] * gamma]))[0].argmax(-1).tolist()
            target.rollback(PROMPT)
            started = perf_counter()
            drafter.propose(context, ROOM).ids_G.tolist()
            seconds.append(perf_counter() - started)
            drafter.commit(len(context), Verdict(0, 7))
            draft.rollback(PROMPT)
    return seconds[1:]


def main(
    draft: Annotated[str, typer.Option(help="The draft model.")] = "demo-draft-sft",
    target: Targets = None,
    gamma: Annotated[int, typer.Option(min=1, help="Tokens per proposal.")] = 4,
    beams: Annotated[int, typer.Option(min=1, help="Width of the beam search.")] = 8,
    threads: Annotated[list[int] | None, typer.Option(help="Thread counts; 1 and 2 by default.")] = None,
    out: Annotated[Path, typer.Option(help="Write the figures as JSON.")] = Path("results/benchmarks/beams.json"),
) -> None:
    """Print and write what a beam proposal costs beside a chain of the same length."""
    model, *loaded = load(draft, *(target or TARGETS))
    rows: list[dict[str, Any]] = []
    for count in threads or (1, 2):
        torch.set_num_threads(count)
        rows += [{"threads": count, "target": each.name, **measure(each, model, gamma, beams)} for each in loaded]
    show(
        "one proposal, ms",
        ["target", "threads", "chain", "one beam", "beams", "ratio"],
        (
            [row["target"], row["threads"], row["chain_ms"], row["one_beam_ms"], row["beams_ms"],
             with_ends(row["ratio"], *row["ratio_quartiles"])]
            for row in rows
        ),
    )  # fmt: skip
    facts = measured("milliseconds per proposal; see benchmarks/beams.py")
    write(out, {**facts, "draft": model.name, "gamma": gamma, "beams": beams, "rows": rows})


if __name__ == "__main__":
    typer.run(main)
