"""`RunSpec`: everything that defines a run, the same fields from the command line and from a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from specbench_s2d.errors import UnknownNameError, UserError, near_names
from specbench_s2d.resources import run_files

DEMO_TARGETS = ("demo-s", "demo-m", "demo-l")
DEMO_DRAFTS = ("demo-draft-sft", "demo-draft")
DEMO_DECODERS = (
    "ar", "sd", "s2d", "s2d-tree", "s2d-auto", "mjgd", "mjsd", "mjsd:candidates=4", "s2d+joint", "beam+token",
)  # fmt: skip
DECODERS = ("ar", "sd")
DEMO_LIMIT = 2
DEMO_MAX_NEW_TOKENS = 48
SPEC_BENCH_MAX_NEW_TOKENS = 1024
SUITES = ("mt_bench", "translation", "summarization", "qa", "math_reasoning", "rag")


class RunSpec(BaseModel):
    """A run as asked for. Field names are the long flags of `specbench-s2d run`, with underscores.

    Lists left empty and numbers left None take the defaults of `resolved`: the demo grid where every target is
    of the demo family, Spec-Bench's settings for other models; shapes take the embedded questions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: list[str] = Field(
        default=[],
        description="Models to speed up: demo name, folder, hub id, or shape:NAME (random weights; give --ignore-eos "
        "with it); repeatable.",
    )
    draft: list[str] = Field(
        default=[],
        description="Draft models, in order of preference, or TARGET=DRAFT for one target alone; repeatable.",
    )
    decoder: list[str] = Field(
        default=[], description="Decoders: NAME, NAME,NAME or NAME:option=value,option=value; repeatable."
    )
    suite: list[str] = Field(default=[], description="Suites to run; repeatable; all six by default.")
    questions: str | None = Field(
        None,
        description="Question file; 'spec-bench' for the 480 of Spec-Bench (cache or download); default: embedded.",
    )
    limit: int | None = Field(None, ge=1, description="Questions per suite.")
    max_new_tokens: int | None = Field(None, ge=1, description="New tokens per turn, the first included.")
    ignore_eos: bool = Field(False, description="Decode on to max-new-tokens past the end of the answer.")
    temperature: float = Field(0.0, ge=0, description="0 is greedy.")
    top_k: int = Field(0, ge=0, description="Sample among the k best tokens; 0: no limit.")
    top_p: float = Field(1.0, gt=0, le=1, description="Sample among the best tokens of this total probability.")
    repeats: int = Field(1, ge=1, description="Times that every cell is measured.")
    seed: int = Field(0, ge=0, description="Seed of sampling and of the order of decoders.")
    device: str | None = Field(
        None,
        description="cpu, cuda, cuda:1 …, or auto for targets spread over all GPUs; default: cuda if there is one.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="float32 on a CPU, bfloat16 on a GPU by default."
    )
    engine: Literal["eager", "graphs", "native", "cuda-graphs"] | None = Field(
        None,
        description="How passes are run: eager, as torch calls one by one; native, by a C kernel (CPU, float32); "
        "cuda-graphs, as captured graphs (GPU); graphs, the device's own of these two; default: graphs for the models "
        "that allow it.",
    )
    template: str | None = Field(
        None,
        description="Chat template: tokenizer, vicuna, llama-2, plain, or a Jinja file; default: the tokenizer's own, "
        "else vicuna for a Vicuna, else plain.",
    )
    long_prompts: Literal["fail", "skip", "truncate"] = Field(
        "fail", description="What to do with a prompt that does not fit the context."
    )
    replay_turns: Literal["own", "ar"] = Field("own", description="Whose turn 1 a second turn continues from.")

    energy: Literal["auto", "nvml", "rapl", "off"] | None = Field(
        None,
        description="Meter of the energy pass, blocks of 5 s or more after the timing: nvml, rapl, auto for the one "
        "that the device has, or off; default: auto, but off where all targets are demo models.",
    )

    def resolved(self) -> RunSpec:
        """The same run with every default filled in."""
        targets = self.target or list(DEMO_TARGETS)
        demo = all(name.startswith("demo-") for name in targets)
        embedded = self.questions is None
        at_hand = all(name.startswith(("demo-", "shape:")) for name in targets)  # nothing needs a network
        return self.model_copy(
            update={
                "target": targets,
                "draft": self.draft or (list(DEMO_DRAFTS) if demo else []),
                "decoder": self.decoder or list(DEMO_DECODERS if demo and not self.draft else DECODERS),
                "suite": self.suite or list(SUITES),
                "questions": self.questions or ("embedded" if at_hand else "spec-bench"),
                "limit": self.limit or (DEMO_LIMIT if demo and embedded else None),
                "energy": self.energy or ("off" if demo else "auto"),
                "max_new_tokens": self.max_new_tokens or (DEMO_MAX_NEW_TOKENS if demo else SPEC_BENCH_MAX_NEW_TOKENS),
            }
        )


def find_run_file(given: Path) -> Path:
    """A run file by its path, else by the short name of one that ships with the package, with or without `.toml`.

    Raises `UserError` with the nearest names for neither.
    """
    if given.is_file():
        return given
    shipped, name = run_files(), given.as_posix().removesuffix(".toml")
    if name in shipped:
        return shipped[name]
    hint = near_names(name, shipped)
    raise UserError(f"{given}: no such run file.{hint} Give a path, or one of {', '.join(shipped)}.")


def load_spec(path: Path) -> dict[str, Any]:
    """The fields that a TOML run file sets; raises `UserError` for anything that is not a run file."""
    path = find_run_file(path)
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: not a readable TOML run file ({error}).") from error
    for name, value in fields.items():
        if name in ("target", "draft", "decoder", "suite") and isinstance(value, str):
            fields[name] = [value]
    return fields


def make_spec(file: Path | None, flags: dict[str, Any]) -> RunSpec:
    """One run from a file and the flags given with it (flags win); raises `UserError` naming a bad field."""
    fields = {**(load_spec(file) if file else {}), **flags}
    where = f"{file}: " if file else ""
    for name in fields:
        if name not in RunSpec.model_fields:
            raise UnknownNameError.of("option", name, RunSpec.model_fields, f"In {file}." if file else "")
    try:
        return RunSpec(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise UserError(f"{where}{name.replace('_', '-')}: {first['msg']}, got {first['input']!r}.") from error
