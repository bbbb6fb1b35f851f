"""What becomes of damaged model folders: a line that says what is wrong, or something that nobody can act on.

    python benchmarks/damaged_folders.py [--cases 400] [--seed 0] [--kind KIND …] [--workers 2] [--out FILE]

Small random models (Llama, Qwen2, OPT, GPT-2, a nested draft, an adapter, `.bin` weights, shards) are written once. A
case is a copy of one with one damage (`damages.py`), drawn by the seed. What reads a tokenizer alone reads it, then
`run --dry-run` as the target and as a draft, and a short `run` of each that the dry run lets pass: each in a fresh
process that is stopped after 5 s of processor time, or after 30 s.

Every outcome is one of: `ok`, the damage changes nothing that is read; `refused`, in one line; `failed`, cells fail;
`unnamed`, cells fail with an error that names no model; `lines`, the error has more than one line; `unexpected`, the
CLI did not know it; `crash`, the process died; `hang`. The last five are faults of this package.
"""

from __future__ import annotations

import importlib
import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

import torch
import typer
from damages import Damage, all_damages
from figures import show, write

LIMIT_S, WALL_S = 5, 30.0
FAULTS = ("unnamed", "lines", "unexpected", "crash", "hang")
OUTCOMES = ("ok", "refused", "failed", *FAULTS)
SHARES = {
    "config": 120, "eos": 20, "exits": 12, "tokenizer": 50, "template": 16, "text": 50, "place": 40, "bytes": 30,
    "tensors": 40, "pickle": 8, "index": 14,
}  # fmt: skip
"""Cases of each kind in 400; the rest are damages of adapters."""
NESTED = ("nested", "adapter")
SENTENCES = ["The old bridge over the river was built of stone.", "What is the capital of France? Paris."] * 4


@dataclass(frozen=True)
class Seen:
    """What one case did in one role: the outcome, the line or error that was printed, and how long it took."""

    case: str
    role: str
    outcome: str
    said: str
    seconds: float


def write_sound(folder: Path) -> None:
    """One small random model of each kind, all with one tokenizer; weights in float32, width 32, 2 layers."""
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        OPTConfig,
        OPTForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )  # fmt: skip

    from specbench_s2d.training.data import Chat
    from specbench_s2d.training.tokenizer import train_tokenizer

    chats = [Chat("qa", [{"role": "user", "content": text}]) for text in SENTENCES]
    tokenizer = train_tokenizer(chats, 280, 1024)
    torch.manual_seed(0)
    size: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    size |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    llama = size | {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 1024}
    exits: dict[str, Any] = {"specbench_exits": [1, 2]}
    models: dict[str, Any] = {
        "llama": LlamaForCausalLM(LlamaConfig(**llama)),
        "nested": LlamaForCausalLM(LlamaConfig(**llama, **exits)),
        "qwen2": Qwen2ForCausalLM(Qwen2Config(**llama)),
        "opt": OPTForCausalLM(OPTConfig(**size, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=1024)),
        "gpt2": GPT2LMHeadModel(GPT2Config(vocab_size=280, n_embd=32, n_layer=2, n_head=4, n_positions=1024)),
        "sharded": LlamaForCausalLM(LlamaConfig(**llama)),
    }
    for name, model in models.items():
        model.save_pretrained(str(folder / name), **({"max_shard_size": "30KB"} if name == "sharded" else {}))
        tokenizer.save_pretrained(str(folder / name))
    shutil.copytree(folder / "llama", folder / "bin")
    (folder / "bin" / "model.safetensors").unlink()
    torch.save(models["llama"].state_dict(), folder / "bin" / "pytorch_model.bin")
    _write_adapter(folder / "adapter", folder / "llama", models["nested"].config)


def _write_adapter(folder: Path, base: Path, config: Any) -> None:
    """A LoRA adapter of rank 2 over all matrices of `base`."""
    from safetensors.torch import load_file, save_file

    from specbench_s2d.models.adapter import CONFIG, WEIGHTS, factor_name

    config.save_pretrained(str(folder))
    factors = {}
    for name, weight in load_file(base / "model.safetensors").items():
        if "_proj" in name:
            matrix = name.removesuffix(".weight")
            factors[factor_name(matrix, "A")] = torch.randn(2, weight.shape[1]) * 0.1
            factors[factor_name(matrix, "B")] = torch.randn(weight.shape[0], 2) * 0.1
    save_file(factors, folder / WEIGHTS, metadata={"format": "pt"})
    fields = {"base_model_name_or_path": str(base), "peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}
    (folder / CONFIG).write_text(json.dumps(fields), encoding="utf-8")


def drawn(sound: Path, cases: int, seed: int, kinds: list[str]) -> list[Damage]:
    """`cases` damages, of each kind its share; of `kinds` alone where any are given."""
    found = {kind: damages for kind, damages in all_damages(sound, seed).items() if not kinds or kind in kinds}
    shares = {kind: SHARES.get(kind, 400 - sum(SHARES.values()) or 10) for kind in found}
    whole, chosen = sum(shares.values()), list[Damage]()
    for kind, damages in found.items():
        count = min(len(damages), max(1, round(cases * shares[kind] / whole)))
        chosen += random.Random(f"{seed}/{kind}").sample(damages, count)
    return chosen[:cases]


def seen(damage: Damage, sound: Path, work: Path) -> list[Seen]:
    """A damaged copy in every role, each in a process of its own; nothing is run that a dry run refuses."""
    folder, rows = work / "damaged", list[Seen]()
    work.mkdir(parents=True)
    shutil.copytree(sound / damage.folder, folder)
    try:
        damage.apply(folder)
        for number, role in enumerate(_ROLES):
            if not (rows and rows[-1].role == f"{role}, dry" and rows[-1].outcome == "refused"):
                rows.append(in_process(damage, role, sound, folder, work / str(number)))
        return rows
    finally:
        for path in work.rglob("*"):
            if not path.is_symlink() and path.is_file():
                path.chmod(0o600)
        shutil.rmtree(work)


def in_process(damage: Damage, role: str, sound: Path, folder: Path, out: Path) -> Seen:
    """What `folder` does in a role, in a forked process that gets `LIMIT_S`."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(role, sound, folder, damage.folder, out, theirs))
    began = time.monotonic()
    process.start()
    theirs.close()
    outcome, said = "hang", f"more than {WALL_S:g} s"
    if ours.poll(WALL_S):
        try:
            outcome, said = ours.recv()
        except EOFError:
            process.join()
            if process.exitcode == -signal.SIGXCPU:
                said = f"more than {LIMIT_S:g} s of processor time"
            else:
                outcome, said = "crash", f"exit code {process.exitcode}"
    took = time.monotonic() - began
    process.kill()
    process.join()
    return Seen(damage.name, role, outcome, said.replace(str(folder), folder.name)[:400], round(took, 2))


def _child(role: str, sound: Path, folder: Path, kind: str, out: Path, theirs: Connection) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(LIMIT_S + used.ru_utime + used.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    out.mkdir()
    log = out / "stderr"
    with log.open("wb") as errors, Path(os.devnull).open("wb") as nothing:
        os.dup2(errors.fileno(), 2)
        os.dup2(nothing.fileno(), 1)
    torch.set_num_threads(1)
    _be_quick()
    try:
        code = _ROLES[role](sound, folder, kind, out)
    except BaseException as error:  # the CLI lets none through but what asks to exit
        theirs.send(("unexpected", f"{type(error).__name__}: {error}"))
        os._exit(0)
    theirs.send(_outcome(code, log.read_text(encoding="utf-8", errors="replace"), out / "run"))
    os._exit(0)


def _be_quick() -> None:
    """Warm up once, look at the machine for a moment, and draw nothing: neither is asked here."""
    from specbench_s2d.analysis.report import write
    from specbench_s2d.bench import forecast, session
    from specbench_s2d.bench.warm_up import WarmUp
    from specbench_s2d.measure import bandwidth, conditions

    def one_run(run: Callable[[], float]) -> WarmUp:
        run()
        return WarmUp(1, 0.0, 0.0, stable=True)

    session.warm_up = one_run  # type: ignore[attr-defined]
    bandwidth.CPU_BUFFER_BYTES = bandwidth.CPU_ROUND_BYTES = forecast._PROBE_BYTES = 2**20
    conditions.WINDOW_S = 0.01
    write.draw_all = write.write_page = lambda *_: None  # type: ignore[attr-defined,assignment]


def _run(*words: str) -> int:
    from specbench_s2d.cli.main import main

    shared = ["--suite", "qa", "--limit", "1", "--max-new-tokens", "4", "--device", "cpu", "--energy", "off"]
    return main(["run", *shared, *words])


def _as_target(sound: Path, folder: Path, kind: str, out: Path) -> int:
    return _run("--target", str(folder), "--decoder", "ar", "--out", str(out / "run"))


def _as_draft(sound: Path, folder: Path, kind: str, out: Path) -> int:
    decoders, target = "ar,sd,s2d" if kind in NESTED else "ar,sd", str(sound / "llama")
    return _run("--target", target, "--draft", str(folder), "--decoder", decoders, "--out", str(out / "run"))


def _dry(sound: Path, folder: Path, kind: str, out: Path) -> int:
    return _run("--target", str(folder), "--decoder", "ar", "--dry-run")


def _dry_draft(sound: Path, folder: Path, kind: str, out: Path) -> int:
    return _run("--target", str(sound / "llama"), "--draft", str(folder), "--decoder", "sd", "--dry-run")


def _tokenizer(sound: Path, folder: Path, kind: str, out: Path) -> int:
    """What `import --tokenizer` and `train` read of it."""
    from specbench_s2d.errors import UserError
    from specbench_s2d.models.resolve import load_tokenizer
    from specbench_s2d.training import init_model

    refusals = []
    for load in (load_tokenizer, init_model.load_tokenizer):
        try:
            load(str(folder)).encode("Some text, 12 words.")
        except UserError as error:
            refusals.append(str(error))
    if refusals:
        os.write(2, f"error: {refusals[0]}\n".encode(errors="replace"))
    return 2 if refusals else 0


_ROLES: dict[str, Callable[[Path, Path, str, Path], int]] = {
    "tokenizer": _tokenizer, "target, dry": _dry, "target": _as_target, "draft, dry": _dry_draft, "draft": _as_draft,
}  # fmt: skip


def _outcome(code: int, log: str, run: Path) -> tuple[str, str]:
    """The outcome by the exit code, what was printed, and the records' errors."""
    lines = [line for line in log.splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("error: ")), "")
    if "unexpected " in told:
        return "unexpected", told
    if code == 2:
        return ("refused", told) if lines[-1] == told else ("lines", " | ".join(lines))
    if code == 1:
        records = [json.loads(line) for line in (run / "records.jsonl").read_text(encoding="utf-8").splitlines()]
        errors = sorted({record["error"] for record in records if record["status"] == "failed"})
        named = all(error.startswith(("target ", "draft ", "decoder ")) for error in errors)
        return ("failed" if named else "unnamed"), " | ".join(errors)
    return ("ok" if code == 0 else "unexpected"), told or (f"exit code {code}" if code else "")


_LOADED_ONCE = (
    "specbench_s2d.cli.main", "specbench_s2d.bench.launches", "specbench_s2d.bench.forecast", "specbench_s2d.cli.live",
    "specbench_s2d.analysis.report.write", "specbench_s2d.analysis.tables.remarks", "specbench_s2d.training.init_model",
    "transformers.models.llama.modeling_llama", "transformers.models.opt.modeling_opt",
    "transformers.models.gpt2.modeling_gpt2", "transformers.models.qwen2.modeling_qwen2",
)  # fmt: skip
"""What every case imports, before processes are forked."""


def run_cases(damages: list[Damage], sound: Path, work: Path, workers: int = 1) -> list[Seen]:
    """All cases in all roles, `workers` at a time."""
    for module in _LOADED_ONCE:
        importlib.import_module(module)
    context = multiprocessing.get_context("fork")  # processes and not threads, which a fork does not take along
    logs = [work / f"{number}.jsonl" for number in range(workers)]
    parts = [
        context.Process(target=_part, args=(damages[number::workers], sound, work / str(number), log))
        for number, log in enumerate(logs)
    ]
    for part in parts:
        part.start()
    for part in parts:
        part.join()
    return [Seen(**json.loads(line)) for log in logs for line in log.read_text(encoding="utf-8").splitlines()]


def _part(damages: list[Damage], sound: Path, work: Path, log: Path) -> None:
    with log.open("a", encoding="utf-8", buffering=1) as lines:
        for damage in damages:
            lines.writelines(json.dumps(asdict(row)) + "\n" for row in seen(damage, sound, work))


def facts(rows: list[Seen], seed: int) -> dict[str, Any]:
    """Counts of outcomes by role, of cases with a fault, and the faults themselves."""
    by_role = {role: Counter(row.outcome for row in rows if row.role == role) for role in _ROLES}
    faults = [row for row in rows if row.outcome in FAULTS]
    return {
        "seed": seed,
        "limit_s": LIMIT_S,
        "cases": len({row.case for row in rows}),
        "cases_with_a_fault": len({row.case for row in faults}),
        "longest_s": max((row.seconds for row in rows), default=0.0),
        "outcomes": {role: {o: counts[o] for o in OUTCOMES} for role, counts in by_role.items()},
        "faults": [asdict(row) for row in faults],
    }


def main(
    cases: Annotated[int, typer.Option(min=1)] = 400,
    seed: int = 0,
    kind: Annotated[list[str] | None, typer.Option(help="Only damages of this kind; repeatable.")] = None,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    out: Annotated[Path | None, typer.Option(help="JSON file of the counts.")] = None,
    log: Annotated[Path | None, typer.Option(help="JSON lines of every case and role.")] = None,
) -> None:
    with TemporaryDirectory() as scratch:
        sound, work = Path(scratch) / "sound", Path(scratch) / "work"
        work.mkdir()
        writer = multiprocessing.get_context("fork").Process(target=write_sound, args=(sound,))
        writer.start()  # in a process of its own, for a fork takes no threads along
        writer.join()
        rows = run_cases(drawn(sound, cases, seed, kind or []), sound, work, workers)
    counted = facts(rows, seed)
    show(
        f"{counted['cases']} damaged folders, {counted['cases_with_a_fault']} with a fault",
        ["role", *OUTCOMES],
        ([role, *outcomes.values()] for role, outcomes in counted["outcomes"].items()),
    )
    for row in counted["faults"]:
        print(f"{row['outcome']:10} {row['role']:9} {row['seconds']:5.1f} s  {row['case']}\n           {row['said']}")
    if out:
        write(out, counted)
    if log:
        log.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
