"""What a small draft vocabulary does to exit checks, and to S2D at the paper's thresholds.

    python benchmarks/draft_vocabulary.py [--ids 256 --ids 512 …] [--limit 5] [--launches 3] [--folder DIR] [--out FILE]

Checks: milliseconds of the nested draft's one-layer stage with and without its exit check (final norm, head, likeliest
token), in turns for all sizes; the check is the median of the paired differences. Decoding: one run of AR, S2D at the
thresholds 0.5, 0.5, 0, and SD at each fixed exit, all with every size, interleaved question by question; ratios of
summed decode rates with 95 % intervals. The best fixed exit is that of the highest decode rate on the target. `inside`:
the share of AR's own tokens, which are the target's greedy ones, among the N ids. The native engine finds the likeliest
id of a small vocabulary in its kernel, that of the whole one with torch; so all ids are measured as a small vocabulary
as well (`cut`), which tells the two gains apart.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from figures import TARGETS, Targets, load, measured, show, with_ends, write

from specbench_s2d.analysis.metrics.pairs import pair
from specbench_s2d.analysis.metrics.speed import SPEEDUP, speedup
from specbench_s2d.bench.launches import run_launches
from specbench_s2d.bench.plan import make_plan
from specbench_s2d.config import RunSpec
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.engines.threads import torch_threads
from specbench_s2d.models.nested import NestedDraft
from specbench_s2d.models.pass_timer import PassTimer
from specbench_s2d.models.token_ranking import small_vocabulary
from specbench_s2d.runs.record import Record

PROMPT, STAGE, WARM_UP = 150, 1, 5
Size = int | None
"""Ids of the draft's vocabulary; None for all."""


def checks(draft: LanguageModel, sizes: Sequence[Size], rounds: int) -> list[dict[str, Any]]:
    """For each size, a layer and an exit check in milliseconds, and their ratio; the stage after the first exit."""
    nested = {size: NestedDraft(draft, None, small_vocabulary(draft, size, None)) for size in sizes}  # of one cache
    layers = draft.exits[STAGE] - draft.exits[STAGE - 1]
    timer, prompt = PassTimer(draft.device), [1 + i % 500 for i in range(PROMPT)]
    nested[sizes[0]].prefill(prompt)

    def one_round() -> None:
        for size, reader in nested.items():
            for name in ("stage", "layers"):
                reader.read(0, prompt[-1:])
                work = reader.run if name == "layers" else reader.read
                timer.time((name, size), partial(_done, work, STAGE))
                reader.rollback(PROMPT)

    with torch_threads(draft.torch_threads):  # as in a generation's steps
        timer.rounds(one_round, rounds, WARM_UP)
    return [_check(timer, size, draft.vocabulary, layers) for size in sizes]


def _done(work: Any, stage: int) -> None:
    """A stage, with what the host reads of it."""
    out = work(stage, [])
    if hasattr(out, "packed_2RK"):
        out.packed_2RK.tolist()


def _check(timer: PassTimer, size: Size, vocabulary: int, layers: int) -> dict[str, Any]:
    stage_s, layers_s = timer.rounds_s(("stage", size)), timer.rounds_s(("layers", size))
    layer_ms = 1e3 * median(layers_s) / layers
    check_ms = 1e3 * median(stage - own for stage, own in zip(stage_s, layers_s, strict=True))
    return {
        "ids": size or vocabulary,
        "cut": size is not None,
        "layer_ms": layer_ms,
        "check_ms": check_ms,
        "check_per_layer": check_ms / layer_ms,
    }


def s2d_label(size: Size) -> str:
    """S2D's label with a size."""
    return f"s2d:draft_vocabulary={size}" if size else "s2d"


def fixed_label(exit_depth: int, size: Size) -> str:
    """SD's label at an exit, with a size."""
    return f"sd:exit={exit_depth}" + (f",draft_vocabulary={size}" if size else "")


def rows(records: Sequence[Record], sizes: Sequence[Size], draft: LanguageModel) -> list[dict[str, Any]]:
    """For each target and size, S2D over AR and over the best fixed exits, mean accepted tokens, and `inside`."""
    found = []
    for target in dict.fromkeys(record.target for record in records):
        of_target = [r for r in records if r.target == target and r.status == "ok"]
        by_label = {label: [r for r in of_target if r.label == label] for label in {r.label for r in of_target}}
        for size in sizes:
            ours = by_label[s2d_label(size)]
            best = _best([fixed_label(depth, None) for depth in draft.exits], by_label)
            best_too = _best([fixed_label(depth, size) for depth in draft.exits], by_label)
            vocabulary = small_vocabulary(draft, size or draft.vocabulary, None)
            assert vocabulary is not None
            found.append(
                {
                    "target": target,
                    "ids": size or draft.vocabulary,
                    "cut": size is not None,
                    "mat": _mat(ours),
                    "inside": _inside(by_label["ar"], set(vocabulary.ids)),
                    "over_ar": _ratio(ours, by_label["ar"]),
                    "best_fixed_exit": best,
                    "over_best_fixed_exit": _ratio(ours, by_label[best]),
                    "best_fixed_exit_same_ids": best_too,
                    "over_best_fixed_exit_same_ids": _ratio(ours, by_label[best_too]),
                    "best_fixed_exit_same_ids_over_ar": _ratio(by_label[best_too], by_label["ar"]),
                }
            )
    return found


def _best(labels: Sequence[str], by_label: dict[str, list[Record]]) -> str:
    def rate(label: str) -> float:
        return sum(r.new_tokens or 0 for r in by_label[label]) / sum(r.decode_s or 0.0 for r in by_label[label])

    return max(labels, key=rate)


def _ratio(ours: Sequence[Record], base: Sequence[Record]) -> list[float | None]:
    """Summed decode rates over those of `base`: value, and both ends of the 95 % interval."""
    pairs = pair(ours, base)
    interval = SPEEDUP.interval([pairs])
    return [speedup([pairs]).value, interval.low, interval.high]


def _mat(records: Sequence[Record]) -> float:
    emitted = [tokens for record in records for tokens in record.emitted_per_step or ()]
    return sum(emitted) / len(emitted)


def _inside(records: Sequence[Record], ids: set[int]) -> float:
    """The share of the records' tokens that are among `ids`."""
    tokens = [token for record in records for token in record.output_ids or ()]
    return sum(token in ids for token in tokens) / len(tokens)


def show_both(facts: dict[str, Any]) -> None:
    """The checks, then one row per target and size."""
    show(
        f"{facts['draft']}: an exit check, ms",
        ["ids", "layer", "check", "check / layer"],
        (
            [_size_text(check), f"{check['layer_ms']:.4f}", f"{check['check_ms']:.4f}", check["check_per_layer"]]
            for check in facts["checks"]
        ),
    )
    ratios = ("over_ar", "over_best_fixed_exit", "over_best_fixed_exit_same_ids")
    show(
        "S2D at 0.5, 0.5, 0",
        ["target", "ids", "MAT", "inside", "over AR", "over the best fixed exit", "… with the same ids"],
        (
            [row["target"], _size_text(row), row["mat"], f"{100 * row['inside']:.1f} %",
             *(with_ends(*row[name]) for name in ratios)]
            for row in facts["rows"]
        ),
    )  # fmt: skip


def _size_text(row: dict[str, Any]) -> str:
    return f"{row['ids']:,}" if row["cut"] else f"all {row['ids']:,}"


def main(
    ids: Annotated[list[int] | None, typer.Option(help="Sizes; 256, 512, 1024 and all ids by default.")] = None,
    target: Targets = None,
    draft: Annotated[str, typer.Option(help="A nested draft with a ranking.")] = "demo-draft",
    limit: Annotated[int, typer.Option(min=1, help="Questions per suite.")] = 5,
    launches: Annotated[int, typer.Option(min=1, help="Fresh processes.")] = 3,
    rounds: Annotated[int, typer.Option(min=3, help="Rounds of the checks.")] = 400,
    folder: Annotated[Path | None, typer.Option(help="The run's folder; a new temporary one by default.")] = None,
    out: Annotated[Path, typer.Option(help="The figures as JSON.")] = Path("results/benchmarks/draft_vocabulary.json"),
) -> None:
    """Time the checks, run the grid, print and write."""
    [model] = load(draft)
    sizes: list[Size] = [None, *(ids or (256, 512, 1024, model.vocabulary))]
    timed = checks(model, sizes, rounds)
    labels = [label for size in sizes for label in (s2d_label(size), *(fixed_label(d, size) for d in model.exits))]
    targets = target or TARGETS
    spec = RunSpec(target=targets, draft=[draft], decoder=["ar", *labels], limit=limit, device="cpu", launches=launches)
    with tempfile.TemporaryDirectory() as temporary:
        records = run_launches(make_plan(spec), folder or Path(temporary) / "run").records
    facts = {
        **measured("small draft vocabularies; see benchmarks/draft_vocabulary.py"),
        "draft": draft,
        "vocabulary": model.vocabulary,
        "questions": len({(r.suite, r.question_id) for r in records}),
        "launches": launches,
        "rounds": rounds,
        "max_new_tokens": make_plan(spec).spec.max_new_tokens,
        "checks": timed,
        "rows": rows(records, sizes, model),
    }
    show_both(facts)
    write(out, facts)


if __name__ == "__main__":
    typer.run(main)
