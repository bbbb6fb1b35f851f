"""Damages of a model's folder, for `damaged_folders.py`: each changes one thing of one file, drawn by a seed."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

NAN, INF = float("nan"), float("inf")
HUGE = "x" * 10**6
VALUES: tuple[Any, ...] = (None, "many", 0, -1, 10**9, 9999, HUGE, [1, 2], {"a": {}}, NAN, INF, 2.5, True, [], "", "2")
GONE = object()
FIELDS_BESIDE = (
    "quantization_config", "sliding_window", "specbench_exits", "text_config", "auto_map", "rope_scaling",
    "layer_types", "attention_bias", "head_dim", "torch_dtype", "some_field",
)  # fmt: skip
TOKENIZER_FIELDS = (
    "bos_token", "eos_token", "pad_token", "unk_token", "chat_template", "model_max_length", "tokenizer_class",
    "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens", "add_prefix_space", "padding_side",
)  # fmt: skip
TOKENIZER_PARTS = ("model", "added_tokens", "pre_tokenizer", "normalizer", "decoder", "post_processor", "version")
EOS: tuple[Any, ...] = (
    2.5,
    [[1]],
    -1,
    "2",
    True,
    10**6,
    10**30,
    [],
    {},
    None,
    [1, "a"],
    NAN,
    [1, None],
    ["1"],
    [1, 10**6],
    False,
)
EXITS: tuple[Any, ...] = (
    0,
    3,
    "2",
    [2, 1],
    [0, 2],
    [1, 1, 2],
    [1.5],
    [1, 99],
    ["1"],
    {"a": 1},
    True,
    [[1]],
    [None],
    NAN,
    -1,
    [],
)
TEXTS: dict[str, bytes] = {
    "a list": b"[1, 2]", "a number": b"3", "null": b"null", "a text": b'"text"', "empty": b"", "an empty object": b"{}",
    "nested lists": b"[" * 100_000, "nested objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "no UTF-8": b'{"a": "\xff\xfe"}', "binary": bytes(range(256)) * 4, "a lone surrogate": b'{"a": "\\ud800"}',
    "zeros": b"\0" * 4096, "an object of lists": b'{"a": [], "weight_map": [], "model": []}', "BOM": b"\xef\xbb\xbf{}",
}  # fmt: skip
TEMPLATES = (
    "{% for m in messages %}", "{{ messages + 1 }}", "{{ raise_exception('no') }}", "{{ nothing.at.all }}", "", 5,
    "{{ 1 / 0 }}", "{{ messages[99].content }}", "{% include 'x' %}", "{{ messages | nofilter }}", [{"name": "a"}],
    "\ud800", {"default": "x"}, [{"name": "default", "template": 3}], "{{ 'a' * 10 ** 5 }}", "{{ bos_token * 2.5 }}",
)  # fmt: skip
DTYPES = (
    torch.int8, torch.uint8, torch.bool, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64,
    torch.float16, torch.bfloat16,
)  # fmt: skip
PLACES = ("nowhere", "pipe", "folder", "removed", "forbidden", "device", "loop", "empty")


@dataclass(frozen=True)
class Damage:
    """What is done to which folder, and how; `apply` changes the folder that it is given."""

    folder: str
    what: str
    apply: Callable[[Path], None]

    @property
    def name(self) -> str:
        return f"{self.folder}: {self.what}"


def all_damages(sound: Path, seed: int) -> dict[str, list[Damage]]:
    """Every damage by its kind, of every folder in `sound`; where a choice is open, `seed` draws it."""
    found: dict[str, list[Damage]] = {}
    for folder in sorted(path for path in sound.iterdir() if path.is_dir()):
        for kind, damages in KINDS.items():
            coin = random.Random(f"{seed}/{folder.name}/{kind}")
            made = [Damage(folder.name, what, apply) for what, apply in damages(folder, coin)]
            found.setdefault(kind, []).extend(made)
    return found


Damages = Iterator[tuple[str, Callable[[Path], None]]]


def _field(file: str, *path: str, value: Any) -> Callable[[Path], None]:
    """Set, or take out, a field of a JSON file."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        inner = content
        for name in path[:-1]:
            inner = inner[name]
        if value is GONE:
            inner.pop(path[-1], None)
        else:
            inner[path[-1]] = value
        (folder / file).write_text(json.dumps(content), encoding="utf-8")

    return apply


def _said(value: Any) -> str:
    return "missing" if value is GONE else f"a text of {len(value):,}" if value is HUGE else json.dumps(value)


def _fields(file: str, fields: Iterator[str], values: tuple[Any, ...] = (*VALUES, GONE)) -> Damages:
    for field in fields:
        for value in values:
            yield f"{file}: {field} {_said(value)}", _field(file, field, value=value)


def _of_config(folder: Path, coin: random.Random) -> Damages:
    known = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    yield from _fields("config.json", iter((*known, *FIELDS_BESIDE)))
    for field in known.get("rope_parameters") or ():
        for value in (*VALUES, GONE):
            yield (
                f"rope_parameters: {field} {_said(value)}",
                _field("config.json", "rope_parameters", field, value=value),
            )
    for rope in ("linear", "llama3", "yarn", "dynamic", "longrope", "nothing"):
        given = {"rope_type": rope, "rope_theta": 10_000.0}
        yield f"rope_parameters: only {rope}", _field("config.json", "rope_parameters", value=given)


def _of_eos(folder: Path, coin: random.Random) -> Damages:
    for file in ("config.json", "generation_config.json"):
        if (folder / file).is_file():
            yield from _fields(file, iter(("eos_token_id",)), EOS)


def _of_exits(folder: Path, coin: random.Random) -> Damages:
    yield from _fields("config.json", iter(("specbench_exits",)), EXITS)


def _of_tokenizer(folder: Path, coin: random.Random) -> Damages:
    if (folder / "tokenizer_config.json").is_file():
        yield from _fields("tokenizer_config.json", iter(TOKENIZER_FIELDS))
    if (folder / "tokenizer.json").is_file():
        yield from _fields("tokenizer.json", iter(TOKENIZER_PARTS))
        for part in ("vocab", "merges", "type"):
            for value in (*VALUES, GONE):
                yield (
                    f"tokenizer.json: model.{part} {_said(value)}",
                    _field("tokenizer.json", "model", part, value=value),
                )


def _of_file(file: str, change: Callable[..., Any], *given: Any) -> Callable[[Path], None]:
    """The change of one file of a folder: `change(folder / file, *given)`."""

    def apply(folder: Path) -> None:
        change(folder / file, *given)

    return apply


def _of_template(folder: Path, coin: random.Random) -> Damages:
    for template in TEMPLATES if (folder / "tokenizer_config.json").is_file() else ():
        yield f"chat template {_said(template)[:60]}", partial(_write_template, template=template)


def _write_template(folder: Path, template: Any) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    _field("tokenizer_config.json", "chat_template", value=template)(folder)


def _of_text(folder: Path, coin: random.Random) -> Damages:
    present = [f.name for f in folder.iterdir() if f.suffix in (".json", ".jinja", ".txt")]
    for file in sorted({*present, "special_tokens_map.json", "added_tokens.json", "token_ranking.json"}):
        for what, content in TEXTS.items():
            yield f"{file} is {what}", _of_file(file, Path.write_bytes, content)
        if file in present:
            size = (folder / file).stat().st_size
            for cut in sorted(coin.randrange(size) for _ in range(2)):
                yield f"{file} cut at {cut}", _of_file(file, os.truncate, cut)


def _of_place(folder: Path, coin: random.Random) -> Damages:
    for file in sorted(path.name for path in folder.iterdir()):
        for place in PLACES:
            yield f"{file}: {place}", _of_file(file, _put, place)


def _put(file: Path, place: str) -> None:
    """Something else in place of a file."""
    if place == "forbidden":
        file.chmod(0)
        return
    if place == "empty":
        file.write_bytes(b"")
        return
    file.unlink()
    if place == "nowhere":
        file.symlink_to("/nowhere/at/all")
    elif place == "loop":
        file.symlink_to(file)
    elif place == "device":
        file.symlink_to("/dev/zero")
    elif place == "folder":
        file.mkdir()
    elif place == "pipe":
        os.mkfifo(file)


def _of_bytes(folder: Path, coin: random.Random) -> Damages:
    """Weight files cut, or with other bytes in them."""
    for file in sorted(f.name for f in folder.iterdir() if f.suffix in (".safetensors", ".bin")):
        size = (folder / file).stat().st_size
        for cut in (1, 7, 8, 9, 100, size - 1, *(coin.randrange(size) for _ in range(4))):
            yield f"{file} cut at {cut}", _of_file(file, os.truncate, cut)
        for length in (0, 1, 2**31, 2**40, 2**63 - 1, 2**64 - 1):
            head = struct.pack("<Q", length)
            yield f"{file}: header of {length}", _of_file(file, _overwrite, 0, head)
        for _ in range(6):
            place, byte = coin.randrange(min(size, 2000)), bytes([coin.randrange(256)])
            yield f"{file}: byte {place}", _of_file(file, _overwrite, place, byte)


def _overwrite(file: Path, place: int, content: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(place)
        opened.write(content)


def _of_tensors(folder: Path, coin: random.Random) -> Damages:
    """One tensor of another type, shape or value, or a table with one more or one less."""
    for file in sorted(f.name for f in folder.iterdir() if f.suffix in (".safetensors", ".bin")):
        names = sorted(_load(folder / file))
        for what, change in _changes().items():
            for name in coin.sample(names, min(2, len(names))):
                yield f"{file}: {name} {what}", _of_file(file, _edit, name, change)


def _changes() -> dict[str, Callable[[dict[str, Any], str], None]]:
    """What is done to a table of tensors and one name in it."""

    def put(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, Any], str], None]:
        return lambda table, name: table.__setitem__(name, make(table[name]).contiguous())

    def of_type(kind: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda tensor: tensor.to(kind)

    def planted(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda tensor: tensor.index_put(
            (torch.zeros(1, dtype=torch.long),), torch.tensor(value, dtype=tensor.dtype)
        )

    return {
        **{f"as {str(kind).removeprefix('torch.')}": put(of_type(kind)) for kind in DTYPES},
        "transposed": put(lambda t: t.t() if t.dim() == 2 else t[None]),
        "of no rows": put(lambda t: t[:0]),
        "of fewer rows": put(lambda t: t[: max(1, len(t) // 2)]),
        "of more dimensions": put(lambda t: t[None]),
        "flat": put(lambda t: t.flatten()),
        "with NaN": put(planted(NAN)),
        "with inf": put(planted(INF)),
        "with -inf": put(planted(-INF)),
        "all NaN": put(lambda t: torch.full_like(t, NAN)),
        "missing": lambda table, name: table.pop(name),
        "under another name": lambda table, name: table.__setitem__(name + "_", table.pop(name)),
        "beside another": lambda table, name: table.__setitem__("extra.weight", torch.ones(3, dtype=torch.int8)),
    }


def _save_pickle(file: Path, content: Any) -> None:
    torch.save(content, file)


def _load(file: Path) -> dict[str, Any]:
    return load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)


def _edit(file: Path, name: str, change: Callable[[dict[str, Any], str], None]) -> None:
    table = {held: tensor.clone() for held, tensor in _load(file).items()}
    change(table, name)
    if file.suffix == ".safetensors":
        save_file(table, file, metadata={"format": "pt"})
    else:
        torch.save(table, file)


def _of_pickle(folder: Path, coin: random.Random) -> Damages:
    """`.bin` files of other things than named tensors."""
    others: dict[str, Any] = {
        "a list": [1, 2], "numbers": {"a": 1}, "nested": {"model": {"a": torch.ones(2)}}, "a tensor": torch.ones(2),
        "keys that are numbers": {1: torch.ones(2)}, "nothing": {}, "sparse": {"a": torch.ones(2, 2).to_sparse()},
    }  # fmt: skip
    for file in sorted(f.name for f in folder.iterdir() if f.suffix == ".bin"):
        for what, content in others.items():
            yield f"{file} holds {what}", _of_file(file, _save_pickle, content)
        yield f"{file} runs code", _of_file(file, Path.write_bytes, b"cposix\nsystem\n(S'true'\ntR.")


def _of_index(folder: Path, coin: random.Random) -> Damages:
    """An index of shards that names odd things, and weights that are there twice."""
    for file in sorted(f.name for f in folder.iterdir() if f.name.endswith(".index.json")):
        table = json.loads((folder / file).read_text(encoding="utf-8"))["weight_map"]
        for value in ("../x.safetensors", "", "..", 3, None, ["a"], "a\0b", "y" * 300, "nowhere.safetensors", "\ud800"):
            for name in coin.sample(sorted(table), 1):
                yield f"{file}: {name} in {_said(value)[:40]}", _field(file, "weight_map", name, value=value)
        for name in coin.sample(sorted(table), min(2, len(table))):
            yield f"{file}: without {name}", _field(file, "weight_map", name, value=GONE)
    for file in ("pytorch_model.bin", "consolidated.safetensors", "model.safetensors", "adapter_config.json"):
        if not (folder / file).exists():
            yield f"and {file}, which is damaged", _of_file(file, Path.write_bytes, b"\0" * 100)


def _of_adapter(folder: Path, coin: random.Random) -> Damages:
    if (folder / "adapter_config.json").is_file():
        known = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        read = ("base_model_name_or_path", "r", "lora_alpha", "peft_type", "use_rslora", "use_dora", "bias")
        yield from _fields("adapter_config.json", iter((*read, coin.choice(sorted(known)))))
        itself = lambda at: _field("adapter_config.json", "base_model_name_or_path", value=str(at))(at)  # noqa: E731
        yield "adapter_config.json: its base is itself", itself


KINDS: dict[str, Callable[[Path, random.Random], Damages]] = {
    "config": _of_config,
    "eos": _of_eos,
    "exits": _of_exits,
    "tokenizer": _of_tokenizer,
    "template": _of_template,
    "text": _of_text,
    "place": _of_place,
    "bytes": _of_bytes,
    "tensors": _of_tensors,
    "pickle": _of_pickle,
    "index": _of_index,
    "adapter": _of_adapter,
}
