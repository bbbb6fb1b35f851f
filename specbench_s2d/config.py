"""`RunSpec`: everything that defines a run, the same fields from the command line and from a TOML file."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from specbench_s2d import registry
from specbench_s2d.errors import UnknownNameError, UserError, find_name, in_one_line
from specbench_s2d.resources import SUITES as SUITES
from specbench_s2d.resources import run_files
from specbench_s2d.shards import Shard, is_number, numbers_in
from specbench_s2d.spelling import DTYPES, choice, meant, near_names, small_enough, whole_number

DEMO_TARGETS = ("demo-s", "demo-m", "demo-l")
DEMO_DRAFTS = ("demo-draft-sft", "demo-draft")
DEMO_DECODERS = (
    "ar", "sd", "lookup", "suffix", "s2d", "s2d-tree", "s2d-auto", "mjgd", "mjsd", "mjsd:candidates=4", "s2d+joint",
    "beam+token",
)  # fmt: skip
DECODERS = ("ar", "sd")
DEMO_LIMIT = 5
DEMO_MAX_NEW_TOKENS = 48
SPEC_BENCH_MAX_NEW_TOKENS = 1024


class RunSpec(BaseModel):
    """A run as asked for. Field names are the long flags of `specbench-s2d run`, with underscores.

    Lists left empty and numbers left None take the defaults of `resolved`: the demo grid where every target is
    of the demo family, Spec-Bench's settings for other models; shapes take the embedded questions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: list[str] = Field(
        default=[],
        description="Models to speed up: demo name, named model (`specbench-s2d models pull`), folder, GGUF file, hub "
        "id, or shape:NAME (random weights; give --ignore-eos with it); listed by comma or repeatable; default: the "
        "three demo models.",
    )
    draft: list[str] = Field(
        default=[],
        description="Draft models, in order of preference, or TARGET=DRAFT for one target alone; repeatable; "
        "default: the two demo drafts for demo models, for a named model the draft that ships for it, else none.",
    )
    decoder: list[str] = Field(
        default=[],
        description="Decoders: NAME, NAME,NAME or NAME:option=value,option=value (`specbench-s2d decoders` lists "
        f"them); repeatable; default: one or more of every method for demo models, else {','.join(DECODERS)}.",
    )
    suite: list[str] = Field(
        default=[],
        description="Suites to run: those that `specbench-s2d suites` lists, or custom/NAME for a category of the "
        "question file's own; repeatable; default: those that the question file has, else Spec-Bench's six.",
    )
    questions: str | None = Field(
        None,
        description="Question file (JSON Lines, JSON array, CSV, Parquet) or dataset (hub:OWNER/NAME); spec-bench: the "
        "480 of Spec-Bench (cache or download); embedded: the package's own; default: embedded for demo models and "
        "shapes, else spec-bench.",
    )
    column: str | None = Field(
        None,
        description="The column of the question file that holds the prompts, where its rows have no turns, messages or "
        "conversations.",
    )
    limit: int | None = Field(
        None,
        ge=1,
        description=f"Questions per suite; default: {DEMO_LIMIT} for demo models with embedded questions, else all.",
    )
    max_new_tokens: int | None = Field(
        None,
        ge=1,
        description="New tokens per turn, the first included; default: "
        f"{DEMO_MAX_NEW_TOKENS} for demo models, else {SPEC_BENCH_MAX_NEW_TOKENS}.",
    )
    ignore_eos: bool = Field(
        False, description="Decode on to --max-new-tokens, past the end-of-sequence token (EOS) that ends an answer."
    )
    temperature: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Sampling temperature; 0 is greedy: always the likeliest token."
    )
    top_k: int = Field(0, ge=0, description="Sample among the k likeliest tokens; 0: among all.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Sample among the likeliest tokens that together have this probability; 1: all."
    )
    repeats: int = Field(1, ge=1, le=10**6, description="Times that every cell is measured, in one process.")
    launches: int = Field(
        1,
        ge=1,
        le=10**6,
        description="Fresh processes that each load, warm up and measure the whole grid, into one folder; the gate "
        "needs several, for runs differ by more than their questions do.",
    )
    shard: str | None = Field(
        None,
        description="I/N: run part I of N of the grid, whole targets or blocks of whole questions, for a device or a "
        "machine of its own; `specbench-s2d merge` joins the parts.",
    )
    seed: int = Field(0, ge=0, description="Seed of sampling and of the order of decoders.")
    device: str | None = Field(
        None,
        description="cpu, cuda, cuda:1 …, or auto for targets spread over all GPUs; default: cuda if there is one, "
        "else cpu.",
    )
    devices: str | None = Field(
        None,
        description="One worker on each of several devices of this machine, which share the grid's blocks: all, the "
        "numbers of some (0,1,3, or 1, for one), or how many. On a CPU: how many workers share the cores, or cores "
        "(all, or numbers), each a worker's own.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None,
        description="Number format of the weights; default: float32 on a CPU, bfloat16 on a GPU, float16 on one older "
        "than Ampere.",
    )
    engine: Literal["eager", "graphs", "native", "cuda-graphs"] | None = Field(
        None,
        description="How passes are run: eager, as torch calls one by one; native, by a C kernel (CPU, float32); "
        "cuda-graphs, as captured graphs (GPU); graphs, the device's own of these two; default: graphs for the models "
        "that allow it.",
    )
    verify_forward: bool = Field(
        False,
        description="Hold the lean forward of every model to transformers' own at load, on 16 positions, and refuse a "
        "model whose logits differ by more than rounding; takes a second copy of its weights meanwhile; by default "
        "models of up to 50 million parameters are held to it.",
    )
    template: str | None = Field(
        None,
        description="Chat template: tokenizer, vicuna, llama-2, plain, or a Jinja file; default: the tokenizer's own, "
        "else vicuna for a Vicuna, else plain.",
    )
    template_args: list[str] = Field(
        default=[],
        description="Arguments of the chat template, NAME=VALUE or NAME=VALUE,NAME=VALUE (enable_thinking=false); "
        "true, false, null, numbers and quoted texts as in JSON, any other value is a text; repeatable.",
    )
    long_prompts: Literal["fail", "skip", "truncate"] = Field(
        "fail",
        description="What to do with a prompt that may not fit the context: fail before the run, skip its cell, or "
        "truncate it in the middle.",
    )
    replay_turns: Literal["own", "ar"] = Field(
        "own",
        description="Whose answer to turn 1 a second turn continues from: the decoder's own, or that of "
        "autoregressive decoding (ar).",
    )
    energy: Literal["auto", "nvml", "rapl", "off"] | str | None = Field(
        None,
        description="Energy meter, read beside the timed windows: nvml (NVIDIA's management library, for GPUs), rapl "
        "(running average power limit: a CPU's own counters), auto (the one that the device has), the name of one that "
        "a package registers, or off; default: off for demo models on a CPU, else auto.",
    )
    energy_blocks: bool = Field(
        False,
        description="Meter energy in a pass of its own after the timing instead: everything is decoded again in "
        "contiguous blocks of at least 5 s. Finer, and longer: --dry-run shows how much.",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _as_it_is_meant(cls, given: Any, info: ValidationInfo) -> Any:
        """Values as they are stored, of those that people write in several ways: bf16, 10k, `AR`."""
        if given == "":
            raise ValueError("Input should not be empty")
        annotation = cls.model_fields[str(info.field_name)].annotation
        if annotation in (int, int | None):
            return whole_number(given)
        return choice(annotation, given, DTYPES)

    _kept = field_validator("*")(small_enough)

    @field_validator("suite", mode="before")
    @classmethod
    def _one_by_one(cls, given: Any) -> Any:
        """Suites listed by comma, too: no suite has one in its name."""
        if not (isinstance(given, list) and all(isinstance(text, str) for text in given)):
            return given
        return [name for text in given for name in _names_in(text)]

    @field_validator("shard")
    @classmethod
    def _is_a_shard(cls, given: str | None) -> str | None:
        return None if given is None else str(Shard.parse(given))

    @field_validator("devices", mode="before")
    @classmethod
    def _are_devices(cls, given: Any) -> str | None:
        if given is None:
            return None
        text = str(given).replace(" ", "")
        if text != "all" and not is_number(text):
            numbers_in(text)
        return text

    @field_validator("template_args", mode="before")
    @classmethod
    def _written_alike(cls, given: Any) -> Any:
        """Each argument as NAME=JSON, in the order of names; a table of a run file is taken too."""
        if isinstance(given, dict):
            given = [f"{name}={json.dumps(value)}" for name, value in given.items()]
        if not (isinstance(given, list) and all(isinstance(text, str) for text in given)):
            return given
        parts = [part for text in given for part in re.split(r",(?=\s*\w+=)", text)]
        values: dict[str, str] = {}
        for part in parts:
            name, equals, value = part.strip().partition("=")
            if not (equals and name.isidentifier()) or name in values:
                reason = f"{name!r} is given twice" if name in values else f"{part!r} is not NAME=VALUE"
                raise ValueError(reason)
            values[name] = json.dumps(_json_or_text(value), ensure_ascii=False)
        return [f"{name}={values[name]}" for name in sorted(values)]

    @property
    def template_values(self) -> dict[str, Any]:
        """The arguments of the chat template, by name."""
        return {name: json.loads(value) for name, _, value in (arg.partition("=") for arg in self.template_args)}

    def _meter(self) -> str | None:
        """The energy meter by its name; raises `UserError` for one that is not known or cannot be imported."""
        if self.energy is None:
            return None
        known = ["auto", "off", *registry.meters.names()]
        others = {"none": "off", "gpu": "nvml", "cpu": "rapl"}
        name = find_name("meter", self.energy, known, "Give one to --energy.", others)
        if name not in ("auto", "off"):
            registry.meters.load(name)
        return name

    def resolved(self) -> RunSpec:
        """The same run with every default filled in, but for those that depend on the device.

        Raises `UserError` for a meter that is not known, and where energy is to be metered in blocks and not at all.
        """
        energy = self._meter()
        if self.energy_blocks and energy == "off":
            raise UserError("--energy-blocks: --energy off meters nothing; give --energy auto, nvml or rapl with it.")
        targets = self.target or list(DEMO_TARGETS)
        demo = all(name.startswith("demo-") for name in targets)
        embedded = self.questions is None
        at_hand = all(name.startswith(("demo-", "shape:")) for name in targets)  # nothing needs a network
        return self.model_copy(
            update={
                "target": targets,
                "draft": self.draft or (list(DEMO_DRAFTS) if demo else []),
                "decoder": self.decoder or list(DEMO_DECODERS if demo and not self.draft else DECODERS),
                "suite": self.suite or ([] if _is_file(self.questions) else list(SUITES)),
                "questions": self.questions or ("embedded" if at_hand else "spec-bench"),
                "limit": self.limit or (DEMO_LIMIT if demo and embedded else None),
                "energy": energy or ("auto" if not demo or self.energy_blocks else None),
                "max_new_tokens": self.max_new_tokens or (DEMO_MAX_NEW_TOKENS if demo else SPEC_BENCH_MAX_NEW_TOKENS),
            }
        )


def _is_file(questions: str | None) -> bool:
    return questions not in (None, "embedded", "spec-bench")


def _names_in(text: str) -> list[str]:
    """Names listed by comma; a text without any stays, to be refused."""
    return [name.strip() for name in text.split(",") if name.strip()] or [text]


def _is_there(text: str) -> bool:
    """Whether an entry of models, or a side of its equals sign, is a folder or file: its name may have commas."""
    return any(os.path.exists(part) for part in (text, *text.split("=")))


def _json_or_text(value: str) -> Any:
    """A value as JSON writes it (`False` and `True` too), else the text as it stands."""
    try:
        return json.loads(value.lower() if value in ("True", "False") else value)
    except ValueError:
        return value


def find_run_file(given: Path) -> Path:
    """A run file by its path, else by the short name of one that ships with the package, with or without `.toml`;
    its folder may be left out where no other has a file of that name.

    Raises `UserError` with the nearest names for neither.
    """
    if given.is_file():
        return given
    shipped, name = run_files(), given.as_posix().removesuffix(".toml")
    stems = [short.rpartition("/")[2] for short in shipped]
    alone = {stem: short for stem, short in zip(stems, shipped, strict=True) if stems.count(stem) == 1}
    if found := meant(name, shipped, alone):
        return shipped[found]
    hint = near_names(name, shipped, alone)
    what = "a folder, and no run file" if given.is_dir() else "no such run file"
    raise UserError(f"{given}: {what}.{hint} Give a path, or one of {', '.join(shipped)}.")


def load_spec(path: Path) -> dict[str, Any]:
    """The fields that a TOML run file sets; raises `UserError` for anything that is not a run file."""
    path = find_run_file(path)
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number of thousands of digits
        raise UserError(f"{path}: not a readable TOML run file ({in_one_line(error)}).") from error
    for name, value in fields.items():
        if name in ("target", "draft", "decoder", "suite", "template_args") and isinstance(value, str):
            fields[name] = [value]
    return fields


def make_spec(file: Path | None, flags: dict[str, Any]) -> RunSpec:
    """One run from a file and the flags given with it (flags win); raises `UserError` naming a bad field."""
    fields = {**(load_spec(file) if file else {}), **flags}
    for name in ("target", "draft"):
        if isinstance(given := fields.get(name), list) and all(isinstance(text, str) for text in given):
            fields[name] = [one for text in given for one in ([text] if _is_there(text) else _names_in(text))]
    for name in fields:
        if name not in RunSpec.model_fields:
            raise UnknownNameError.of("option", name, RunSpec.model_fields, f"In {file}." if file else "")
    try:
        return RunSpec(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        where = f"--{name.replace('_', '-')}" if name in flags else f"{file}: {name}"
        raise UserError(
            f"{where}: {first['msg'].removeprefix('Value error, ')}, got {fields.get(name, first['input'])!r}."
        ) from error
