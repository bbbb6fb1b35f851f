"""The rows of `gpu.py`: each measures one figure of the table, alone, and returns it with what it was made of."""

from __future__ import annotations

import csv
import random
import resource
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from gpu_setting import Figures, Setting

from specbench_s2d import build_decoder, load_model
from specbench_s2d.decoding.clock import clock_for
from specbench_s2d.decoding.types import Generation
from specbench_s2d.models.base import LanguageModel, PassKind
from specbench_s2d.models.pass_timer import PassTimer

ROOT = Path(__file__).resolve().parent.parent
ENGINES = ("eager", "graphs")
METHODS = (
    ("ar", None),
    ("sd", "demo-draft-sft"),
    ("s2d", "demo-draft"),
    ("s2d-tree", "demo-draft"),
    ("mjgd", None),
    ("mjsd", "demo-draft-sft"),
)


def ar_of_bound(s: Setting) -> Figures:
    """AR on the target: % of the time that reading what it must would take at the streaming read rate."""
    decoder = build_decoder("ar", s.target)
    rate = s.read_rate_bytes_per_s
    runs = [s.generate(decoder) for _ in range(s.rounds + 2)][2:]
    shares = [100 * g.decode_bytes / rate / g.decode_s for g in runs]
    tokens_per_s = median((len(g.ids) - 1) / g.decode_s for g in runs)
    return {
        "value": median(shares),
        "tokens_per_s": tokens_per_s,
        "read_rate_bytes_per_s": rate,
        "bytes_per_token": runs[0].decode_bytes / (len(runs[0].ids) - 1),
    }


def verify_over_ar(s: Setting) -> Figures:
    """A target pass of 6 tokens over one of 1, both read back, one after the other in turn."""
    one, six = (_pass(s, s.target, width) for width in (1, 6))
    seconds = in_turn([one, six], s.rounds * 20)
    return {"value": median(b / a for a, b in zip(*seconds, strict=True)), **_ms(["pass_1_ms", "pass_6_ms"], seconds)}


def draft_pass(s: Setting) -> Figures:
    """One pass of the small draft in a chain of 5, each token chosen on the device; milliseconds, host included."""
    model, clock = s.draft, clock_for(torch.device(s.device))
    model.prepare([PassKind(1)])
    model.reset()
    model.extend(row_of(s, s.prompt()), last_only=True)
    start = model.length

    def chain() -> None:
        ids_BT = row_of(s, [7])
        for _ in range(5):
            ids_BT = model.extend(ids_BT, last_only=True)[:, -1].argmax(-1, keepdim=True)
        clock.wait()
        model.rollback(start)

    (seconds,) = in_turn([chain], s.rounds * 20)
    return {"value": 1e3 * median(seconds) / 5, "fastest_ms": 1e3 * min(seconds) / 5}


def s2d_over_cost_model(s: Setting) -> Figures:
    """S2D with published acceptances: the speed-up over AR, over what acceptances and cost ratio predict."""
    decoder, mat = published_s2d(s), published_mat()
    ar = build_decoder("ar", s.target)
    pairs = [(s.generate(ar), s.generate(decoder)) for _ in range(s.rounds + 2)][2:]
    ratios = [_measured_over_predicted(*pair) for pair in pairs]
    return {
        "value": median(ratio["value"] for ratio in ratios),
        "published_mat": mat,
        **{name: median(ratio[name] for ratio in ratios) for name in ("speedup", "predicted", "mat", "cost_ratio")},
        "projected": "random weights, scripted acceptances",
    }


def published_s2d(s: Setting) -> Any:
    """S2D whose acceptances are drawn at the published rate, and whose exits are drawn evenly."""
    from specbench_s2d.decoding.acceptance_trace import AcceptanceTrace
    from specbench_s2d.decoding.geometric import drawn, rate_of

    generator = random.Random(0)
    decoder: Any = build_decoder("sorted-scripted+scripted", s.target, s.nested)
    stages = [generator.randrange(len(s.nested.exits)) for _ in range(512)]
    decoder.follow(AcceptanceTrace(drawn(rate_of(published_mat()), 512, 0), stages))
    return decoder


def _measured_over_predicted(ar: Generation, ours: Generation) -> dict[str, float]:
    tokens, steps = len(ours.ids) - 1, len(ours.steps)
    ar_step_s = ar.decode_s / (len(ar.ids) - 1)
    drafted = sum(len(step.drafted) for step in ours.steps)
    cost_ratio = sum(step.draft_s for step in ours.steps) / drafted / ar_step_s
    predicted = tokens / steps / (1 + drafted / steps * cost_ratio)
    speedup = ar_step_s * tokens / ours.decode_s
    return {
        "value": speedup / predicted,
        "speedup": speedup,
        "predicted": predicted,
        "mat": tokens / steps,
        "cost_ratio": cost_ratio,
    }


def published_mat() -> float:
    """Mean accepted tokens of S2D for Vicuna 7B at temperature 0 on MT-bench, as its authors gave it."""
    with (ROOT / "results" / "published" / "papers.csv").open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["metric"] == "mean_accepted_tokens"]
    wanted = {"paper": "s2d", "target": "vicuna-7b", "temperature": "0.0", "method": "S2D SoFT 6,9,12"}
    (found,) = (row for row in rows if all(row[name] == value for name, value in wanted.items()))
    return float(found["value"])


def same_ids(s: Setting) -> Figures:
    """Methods that write other ids under one engine than under the other: demo models in float32, on this device."""
    loaded = {
        engine: {name: load_model(name, s.device, "float32", engine=engine) for name in _demo_names()}
        for engine in ENGINES
    }
    different = {}
    for spec, draft in METHODS:
        ids = []
        for models in loaded.values():
            decoder = build_decoder(spec, models["demo-m"], models[draft] if draft else None)
            answers = [decoder.generate(s.prompt(seed, 40), 96, ignore_eos=True).ids for seed in range(3)]
            ids.append(answers)
        parted = [i for i, (a, b) in enumerate(zip(*ids, strict=True)) if a != b]
        if parted:
            different[spec] = parted
    engines = {f"{name} {engine}": m.engine_facts for engine, models in loaded.items() for name, m in models.items()}
    return {"value": len(different), "methods": len(METHODS), "different_prompts": different, "engines": engines}


def _demo_names() -> set[str]:
    return {"demo-m", *(draft for _, draft in METHODS if draft)}


def growth(s: Setting) -> Figures:
    """A fixed question after others over the same at first: time per token; and memory in use, late over early."""
    decoder = build_decoder("sd", s.target, s.draft)
    tokens = min(16, s.new_tokens)

    def question() -> float:
        return median(s.generate(decoder, new_tokens=tokens).decode_s for _ in range(5))

    question()
    first_s = question()
    early = late = 0
    for seed in range(1, s.others + 1):
        s.generate(decoder, seed, 4)
        early = _memory_bytes(s.device) if seed == min(10, s.others) else early
    late = _memory_bytes(s.device)
    last_s = question()
    return {"value": last_s / first_s, "memory_ratio": late / early, "others": s.others, "memory_bytes": late}


def _memory_bytes(device: str) -> int:
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return torch.cuda.memory_allocated(device)


def row_of(s: Setting, ids: list[int]) -> torch.Tensor:
    """The ids as a batch of one, on the device."""
    return torch.tensor([ids], device=s.device)


def _pass(s: Setting, model: LanguageModel, width: int) -> Callable[[], None]:
    """A pass over `width` tokens after the prompt, its argmaxes read back."""
    model.prepare([PassKind(width, least=width)])
    model.reset()
    model.extend(row_of(s, s.prompt()), last_only=True)
    start, ids_BT = model.length, row_of(s, s.prompt(1, width))

    def run() -> None:
        model.extend(ids_BT)[0].argmax(-1).tolist()
        model.rollback(start)

    return run


def in_turn(works: list[Callable[[], Any]], rounds: int) -> list[list[float]]:
    """Seconds of each work in each round, after two rounds untimed; each work waits for its device itself."""
    timer = PassTimer(torch.device("cpu"))

    def one_round() -> None:
        for number, work in enumerate(works):
            timer.time(number, work)

    timer.rounds(one_round, rounds, warm_up=2)
    return [list(timer.rounds_s(number)) for number in range(len(works))]


def _ms(names: list[str], seconds: list[list[float]]) -> Figures:
    return {name: 1e3 * median(own) for name, own in zip(names, seconds, strict=True)}
