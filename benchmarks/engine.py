"""How near the engine is to the hardware's limit: the table of what speed was to be reached, on a CPU.

    python benchmarks/engine.py [--target demo-l] [--row NAME …] [--rounds 30] [--out FILE]

Every figure is a ratio of things timed in this one process, in turns. Rows: `step` (an AR step over its matrix products
alone), `products` (those products in every way at hand), `peers` (over transformers), `verify` (6 tokens over one),
`model` (measured speed-up over what the cost model predicts), `growth` (a question asked again after 480 others). The
GPU's rows are those of benchmarks/gpu.sh.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import peers
import psutil
import torch
import typer
from figures import measured, show, write
from products import Run, interleaved, linear, matrices, products_table, ratio, weights_of

from specbench_s2d import build_decoder, load_model
from specbench_s2d.analysis.tables.summary import OVERALL, summary_table
from specbench_s2d.bench.plan import make_plan
from specbench_s2d.bench.runner import Event, execute
from specbench_s2d.config import RunSpec
from specbench_s2d.measure.bandwidth import read_rate
from specbench_s2d.models.base import LanguageModel
from specbench_s2d.models.load import hide_progress_bars
from specbench_s2d.runs.record import Record
from specbench_s2d.suites import load_questions

PROMPT, TOKENS, DRAFT, GAMMA = 150, 32, "demo-draft-sft", 5
OTHERS, ASKED = 480, 5  # questions between, and how often the fixed one is asked on either side


@dataclass(frozen=True)
class Row:
    """One figure: what was measured, what was to be reached (`least` or `most`), median and quartiles."""

    row: str
    measure: str
    value: float
    low: float | None = None
    high: float | None = None
    least: float | None = None
    most: float | None = None

    @property
    def reached(self) -> bool | None:
        if self.least is None and self.most is None:
            return None
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)


def _load(name: str, engine: str | None = None) -> LanguageModel:
    return load_model(name, device="cpu", dtype="float32", engine=engine)


def _ids() -> torch.Tensor:
    return torch.arange(2, 2 + PROMPT)[None]


def step_rows(target: str, rounds: int) -> list[Row]:
    """An AR step (decode time over tokens, loop included) over F.linear with the same weights, per engine."""
    products: Run = linear(matrices(weights_of(target)), 1)
    decodes = {engine: _TimedDecode(build_decoder("ar", _load(target, engine))) for engine in ("native", "eager")}
    contenders: dict[str, Run] = {"products": lambda: [products() for _ in range(TOKENS - 1)], **decodes}
    seconds = interleaved(contenders, rounds)
    rows = []
    for engine, decode in decodes.items():
        found = ratio([decode.decode_s(n) for n in range(rounds)], seconds["products"])
        asked = 1.35 if engine == "native" else None
        rows.append(Row("step", f"AR step on {target}, {engine}, over F.linear of its matrices", **found, most=asked))
    return rows


class _TimedDecode:
    """A decoder's generation of TOKENS; remembers the decode seconds of every second call, the timed one."""

    def __init__(self, decoder: Any) -> None:
        self._decoder, self._seconds = decoder, list[float]()

    def __call__(self) -> None:
        generation = self._decoder.generate(_ids()[0].tolist(), max_new_tokens=TOKENS, ignore_eos=True)
        self._seconds.append(generation.decode_s)

    def decode_s(self, number: int) -> float:
        return self._seconds[2 * number + 2]


def verify_rows(target: str, rounds: int) -> list[Row]:
    """A pass over GAMMA + 1 tokens and its argmax over a pass over one, at a cache of PROMPT tokens."""
    rows = []
    for engine in ("native", "eager"):
        model = _load(target, engine)
        model.extend(_ids())
        seconds = interleaved({str(width): _pass(model, width) for width in (1, 2, 3, 4, GAMMA + 1, 9)}, rounds)
        for width in (GAMMA + 1, 2, 4, 9):
            found = ratio(seconds[str(width)], seconds["1"])
            asked = 1.25 if engine == "native" and width == GAMMA + 1 else None
            rows.append(Row("verify", f"pass of {width} over a pass of 1, {target}, {engine}", **found, most=asked))
    return rows


def _pass(model: LanguageModel, width: int) -> Run:
    ids_BT = _ids()[:, :width]

    def run() -> None:
        model.extend(ids_BT)[0].argmax(-1).tolist()
        model.rollback(PROMPT)

    return run


def peer_rows(target: str, rounds: int) -> list[Row]:
    """AR over transformers' generate, SD over its assisted generation with the same draft and gamma."""
    model, small = _load(target), _load(DRAFT)
    chosen = peers.choose_prompts(model, 16, 64)
    contenders = {**peers.ours(model, small, 64), **peers.transformers_own(target, DRAFT, 64)}
    differing = peers.differing(contenders, chosen)
    rates = peers.race(contenders, chosen, max(2, rounds // 10))
    asked = {"transformers generate": 1.5, f"transformers assisted gamma {GAMMA}": 2.0}
    rows = [
        Row(
            "peers", f"{pair['ours']} over {pair['over']}, {target}", pair["median"], pair["quartile_low"],
            pair["quartile_high"], least=asked.get(pair["over"]),
        )
        for pair in peers.ratios(rates)
    ]  # fmt: skip
    return [*rows, Row("peers", "prompts answered with other ids than AR's, all contenders", sum(differing.values()))]


def model_rows(target: str, rounds: int) -> list[Row]:
    """Measured speed-up over the cost model's prediction, from runs of the embedded questions on the demo targets."""
    with tempfile.TemporaryDirectory() as folder:
        spec = RunSpec(decoder=["ar", "sd", "s2d"], limit=4, repeats=max(1, rounds // 15), device="cpu")
        records = execute(make_plan(spec), Path(folder) / "run").records
    table = summary_table(records)
    table = table[(table["suite"] == OVERALL) & (table["label"] != "ar")]
    rows = []
    for row in table.to_dict("records"):
        over = row["speedup"] / row["speedup_predicted"]
        what = f"{row['label']} on {row['target']}: {row['speedup']:.2f} measured over {row['speedup_predicted']:.2f}"
        rows.append(Row("model", f"{what} predicted (verify ratio {row['verify_ratio']:.2f})", over, least=0.9))
    return rows


def growth_rows(target: str, rounds: int) -> list[Row]:
    """One run over a fixed question, 480 others, and the fixed one again: its time per token, and memory."""
    del rounds
    pool = [q for q in load_questions("embedded") if len(q.turns) == 1]
    fixed, others = pool[0], pool[1:]
    order = [fixed] * ASKED + [others[i % len(others)] for i in range(OTHERS)] + [fixed] * ASKED
    memory: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "questions.jsonl"
        lines = [
            json.dumps({"question_id": i, "category": "writing", "turns": list(question.turns)})
            for i, question in enumerate(order)
        ]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        decoders = ["ar", "sd", "s2d", "s2d-tree", "mjsd"]
        spec = RunSpec(target=[target], decoder=decoders, questions=str(file), suite=["mt_bench"], device="cpu",
                       draft=[DRAFT, "demo-draft"], max_new_tokens=TOKENS, energy="off")  # fmt: skip
        records = execute(make_plan(spec), Path(folder) / "run", _watching(memory)).records
    rows = []
    for label in decoders:
        own = sorted((r for r in records if r.label == label), key=lambda r: r.question_id)
        first, last = (median(map(_per_token_s, part)) for part in (own[:ASKED], own[-ASKED:]))
        rows.append(Row("growth", f"{label}: time per token of a question asked again after {OTHERS} others, {target}",
                        last / first, most=1.02))  # fmt: skip
    return [*rows, Row("growth", f"resident memory after {OTHERS} questions over after 10", memory[OTHERS] / memory[9],
                       most=1.05)]  # fmt: skip


def _watching(memory: list[int]) -> Callable[[Event], None]:
    """Notes the process's resident bytes after each question."""
    process = psutil.Process()

    def watch(event: Event) -> None:
        if event.records:
            memory.append(process.memory_info().rss)

    return watch


def _per_token_s(record: Record) -> float:
    assert record.decode_s is not None and record.new_tokens
    return record.decode_s / record.new_tokens


ROWS: dict[str, Callable[[str, int], list[Row]]] = {
    "step": step_rows,
    "verify": verify_rows,
    "peers": peer_rows,
    "model": model_rows,
    "growth": growth_rows,
}


def shown(row: Row) -> list[Any]:
    """A line of the table."""
    spread = f"{row.low:.3f} to {row.high:.3f}" if row.low is not None and row.high is not None else ""
    asked = f"at least {row.least:g}" if row.least else f"at most {row.most:g}" if row.most else ""
    return [row.row, row.measure, row.value, spread, asked, {None: "", True: "reached", False: "short"}[row.reached]]


def main(
    target: str = "demo-l",
    row: Annotated[list[str] | None, typer.Option(help="Rows to measure; all by default.")] = None,
    rounds: Annotated[int, typer.Option(min=4, help="Rounds of each comparison.")] = 30,
    out: Annotated[Path, typer.Option(help="Figures as JSON; rows not measured stay as they are there.")] = Path(
        "results/benchmarks/engine.json"
    ),
) -> None:
    """Measure, print and write the table of the engine's speed."""
    hide_progress_bars()
    asked = row or [*ROWS, "products"]
    facts: dict[str, Any] = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"rows": []}
    found = [row for name in ROWS if name in asked for row in ROWS[name](target, rounds)]
    kept = [Row(**{k: v for k, v in old.items() if k != "reached"}) for old in facts["rows"] if old["row"] not in asked]
    if "products" in asked:
        rate_of = {}
        most = torch.get_num_threads()
        for threads in sorted({1, most}):
            torch.set_num_threads(threads)
            rate_of[threads] = read_rate("cpu")
        torch.set_num_threads(most)
        facts["read_rate_bytes_per_s"] = rate_of
        facts["products"] = [r for width in (1, GAMMA + 1) for r in products_table(target, width, rounds, rate_of)]
    rows = [*kept, *found]
    show("", ["row", "measure", "median", "quartiles", "to reach", ""], map(shown, rows), left=2)
    if facts.get("products"):
        show("products", list(facts["products"][0]), (row.values() for row in facts["products"]))
    facts |= {**measured("see benchmarks/engine.py"), "target": target}
    facts["rows"] = [{**asdict(one), "reached": one.reached} for one in rows]
    write(out, facts)


if __name__ == "__main__":
    typer.run(main)
