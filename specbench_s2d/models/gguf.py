"""GGUF files (llama.cpp's format): checked by their header, converted once to a Hugging Face folder in the cache."""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections import Counter
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from specbench_s2d.errors import ModelError, in_one_line
from specbench_s2d.models.config_check import check_fields
from specbench_s2d.models.devices import HOST, Free, free_bytes
from specbench_s2d.models.file_hash import file_sha256
from specbench_s2d.models.hub import fetch_file
from specbench_s2d.models.model_files import check_file, read_tokenizer
from specbench_s2d.models.named import HUB, Pulled, WeightsSource, size
from specbench_s2d.resources import cache_folder

SUFFIX = ".gguf"
DTYPE = "float32"
INSTALL = "pip install 'specbench-s2d[gguf]'"
_FORMAT = "v2"  # of the converted folders; a change of the conversion gets a new one
_DIGITS_ALONE, _LIKE_GPT2 = ("smollm",), ("gpt-2",)
"""Kinds of splitting text (`tokenizer.ggml.pre`) beside those that transformers knows: every digit alone and the rest
as GPT-2's, which is llama.cpp's own rule for `smollm`; and GPT-2's, as which transformers splits every other kind."""
_ON_HUB = re.compile(r"([\w.-]+/[\w.-]+)(?:@([^:]+))?:(.+\.gguf)")
_SPLIT_NAME = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
_UNSUPPORTED_TYPE = re.compile(r"of ggml type (\d+)")
_ADVISED = "Q4_K_M, Q8_0"
_UNQUANTISED = ("F32", "F16", "BF16")
_SIZES = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "context_length": "max_position_embeddings",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "vocab_size": "vocab_size",
}
"""Sizes in a header, and the fields of config.json that they become."""
_COPIES = 2.2
"""Copies of the float32 weights that transformers holds while it converts a file, measured on SmolLM2-135M: 1.2 GB."""


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file by its header. `name`: what messages call it. `tensors`: name to (type, elements, bytes)."""

    path: Path
    name: str
    metadata: dict[str, Any]
    tensors: dict[str, tuple[str, int, int]]
    end: int

    @property
    def architecture(self) -> str:
        return str(self.metadata["general.architecture"])

    @property
    def quantisation(self) -> str:
        """The type that most bytes have."""
        held = Counter[str]()
        for kind, _, stored in self.tensors.values():
            held[kind] += stored
        return held.most_common(1)[0][0]

    @property
    def loading_bytes(self) -> int:
        """What converting it takes of the host's memory, the mapped file included."""
        elements = sum(count for _, count, _ in self.tensors.values())
        return int(_COPIES * 4 * elements) + self.end


def is_gguf(name: str) -> bool:
    """Whether a model's name is that of a GGUF file."""
    return name.lower().endswith(SUFFIX)


def resolve_gguf(name: str, revision: str | None = None) -> tuple[str, Pulled]:
    """The file's name for records, and the folder that it was converted to; `name` is a path, or
    `owner/name[@revision]:file.gguf`.

    Raises `ModelError` where the file is not there, cannot be used, or does not fit in memory while it is converted.
    """
    check_file(Path(name), Path(name).name)
    if Path(name).is_file():
        return Path(name).name, converted(Path(name), WeightsSource("file", Path(name).name))
    on_hub = _ON_HUB.fullmatch(name)
    if not on_hub:
        raise ModelError(f"{name}: no such file; give the path of a GGUF file, or owner/name:file.gguf of the hub.")
    hub_id, given, file = on_hub.groups()
    _refuse_split(name, {})  # before gigabytes are fetched
    path, commit = fetch_file(hub_id, file, revision or given)
    return f"{hub_id}:{file}", converted(path, WeightsSource(HUB, hub_id, commit), name=file)


def converted(path: Path, source: WeightsSource, name: str | None = None, free: Free = free_bytes) -> Pulled:
    """The Hugging Face folder (float32 safetensors and a tokenizer) of a GGUF file, made where it is not there yet.

    `source`: where the file came from. The folder is known by the file's SHA-256, and is moved into place whole.
    Raises `ModelError` in one line for a file that cannot be converted.
    """
    from filelock import FileLock

    file = read_header(path, name or path.name)
    digest = (_blob_sha256(path) or file_sha256(path).hex()).lower()
    made_of = replace(
        source,
        file=file.name,
        file_sha256=digest,
        quantisation=file.quantisation,
        dequantised=None if file.quantisation in _UNQUANTISED else DTYPE,
        caution=_caution(file),
    )
    folder = cache_folder() / "gguf" / f"{digest}-{_FORMAT}"
    if not folder.is_dir():
        _check_memory(file, free)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as work:
                    out = Path(work) / "model"
                    _convert(file, out)
                    out.rename(folder)
    return Pulled(folder, made_of)


def read_header(path: Path, name: str) -> GgufFile:
    """A file's header, checked: raises `ModelError` for what could not be loaded, or would be loaded wrongly."""
    try:
        from gguf import GGMLQuantizationType
    except ImportError:
        raise ModelError(f"{name}: reading GGUF files needs the package gguf: {INSTALL}.") from None
    from transformers.integrations.gguf.reader import GgufHeader, read_gguf_metadata

    try:
        metadata, _ = read_gguf_metadata(str(path))
        _refuse_split(name, metadata)
        header = GgufHeader.from_file(str(path))
        kinds = {int(kind): kind.name for kind in GGMLQuantizationType}
        tensors = {t.name: (kinds[t.ggml_type], prod(t.shape), t.nbytes) for t in header.tensors}
        end = header.data_start + max(t.offset + t.nbytes for t in header.tensors)
        file = GgufFile(path, name, {"general.architecture": header.architecture, **metadata}, tensors, end)
    except (ModelError, OSError):
        raise
    except Exception as error:  # a header that ends early surfaces as struct, value, index and decoding errors
        if of_type := _UNSUPPORTED_TYPE.search(str(error)):
            kinds = {int(kind): kind.name for kind in GGMLQuantizationType}
            kind = kinds.get(int(of_type[1]), f"type {of_type[1]}")
            raise ModelError(f"{name}: quantisation {kind} is not supported; take {_ADVISED} or F16 of it.") from error
        raise ModelError(f"{name}: not a whole GGUF file ({_reason(error, path)}); fetch it again.") from error
    _check(file)
    return file


def _check(file: GgufFile) -> None:
    """Raise `ModelError` for a file that is cut short, or that transformers cannot load, or would load wrongly."""
    from transformers.integrations.gguf.gguf_conversion_mapping import GGUF_ARCHS
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_TOKENIZER_TYPES
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    there = file.path.stat().st_size
    if there < file.end:
        raise ModelError(f"{file.name}: cut short: {there:,} bytes, and its header lists {file.end:,}; fetch it again.")
    known = {*GGUF_ARCHS, *GGUF_SUPPORTED_ARCHITECTURES} - {"general", "tokenizer"}
    if _bare(file.architecture) not in map(_bare, known):
        raise ModelError(
            f"{file.name}: architecture {file.architecture!r} is not one that transformers reads from GGUF; give its "
            f"safetensors instead. Read are: {', '.join(sorted(known))}."
        )
    tokenizer = file.metadata.get("tokenizer.ggml.model")
    if tokenizer not in GGUF_TOKENIZER_TYPES or "tokenizer.ggml.tokens" not in file.metadata:
        found = f"its tokenizer ({tokenizer}) cannot be rebuilt" if tokenizer else "it has no tokenizer"
        raise ModelError(
            f"{file.name}: {found}; those of type {', '.join(sorted(GGUF_TOKENIZER_TYPES))} can be rebuilt. Give its "
            "safetensors with a tokenizer instead."
        )
    sizes = {field: file.metadata.get(f"{file.architecture}.{key}") for key, field in _SIZES.items()}
    if sizes["num_hidden_layers"] is None or sizes["hidden_size"] is None:  # transformers would take its defaults
        raise ModelError(f"{file.name}: its header has no block_count or no embedding_length; fetch it again.")
    check_fields(sizes, file.name, "its header")
    scaling = file.metadata.get(f"{file.architecture}.rope.scaling.type", "none")
    if "rope_freqs.weight" in file.tensors or (scaling != "none" and _bare(file.architecture) != "gptoss"):
        raise ModelError(
            f"{file.name}: transformers does not read its rotary scaling from GGUF, and would compute another model; "
            "give its safetensors instead."
        )


def _refuse_split(name: str, metadata: dict[str, Any]) -> None:
    by_name = _SPLIT_NAME.search(name)
    parts = int(metadata.get("split.count") or (by_name[1] if by_name else 1))
    if parts > 1:
        raise ModelError(
            f"{name}: one of {parts} parts of a split GGUF file; join them with llama.cpp's `llama-gguf-split --merge`."
        )


def _check_memory(file: GgufFile, free: Free) -> None:
    needed, there = file.loading_bytes, free(HOST)
    if needed > there:
        raise ModelError(
            f"{file.name}: converting it takes {size(needed)} of memory, and {size(there)} are free; convert it on a "
            "larger machine, or give a smaller model."
        )


def _convert(file: GgufFile, out: Path) -> None:
    """Write the file's model, in float32, and its tokenizer to `out`; raises `ModelError`."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM

    of_file: dict[str, Any] = {"gguf_file": file.path.name}
    folder = str(file.path.parent)
    with redirect_stderr(io.StringIO()):  # progress bars
        try:
            tokenizer = read_tokenizer(folder, **of_file)
        except Exception as error:  # tables of tokens and merges that do not fit surface as many types
            raise ModelError(
                f"{file.name}: its tokenizer cannot be rebuilt ({in_one_line(error, whole=True)})."
            ) from error
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True, **of_file
            )
            model, info = loaded
            if info["missing_keys"]:  # transformers would go on with random numbers in their place
                raise ModelError(f"{file.name}: the file lacks {sorted(info['missing_keys'])[0]!r}; fetch it again.")
            if file.metadata.get("tokenizer.ggml.pre") in _DIGITS_ALONE:
                words = ByteLevel(add_prefix_space=False, use_regex=True)
                tokenizer.backend_tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), words])
            model.hf_quantizer, model.is_quantized = None, False  # else save_pretrained refuses
            if hasattr(model.config, "quantization_config"):
                del model.config.quantization_config
            model.save_pretrained(str(out))
            tokenizer.save_pretrained(str(out))
        except (ModelError, OSError):
            raise
        except Exception as error:  # damaged weights surface as many types
            raise ModelError(f"{file.name}: transformers cannot load it ({in_one_line(error, whole=True)}).") from error
    _drop_tokens_beyond(out / "tokenizer.json", model.config.get_text_config().vocab_size)


def _caution(file: GgufFile) -> str | None:
    """What to know of a byte-level tokenizer whose way of splitting text is not known; None where it is."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    pre = file.metadata.get("tokenizer.ggml.pre", "default")
    known = {*GGUF_PRE_TOKENIZER_SPLITS, *_DIGITS_ALONE, *_LIKE_GPT2}
    if file.metadata.get("tokenizer.ggml.model") != "gpt2" or pre in known:
        return None
    return f"its text is split into tokens as GPT-2's, for the file's own way ({pre!r}) is not known"


def _drop_tokens_beyond(file: Path, rows: int) -> None:
    """Take out the tokens that transformers adds to what the file has (GPT-2's end of text): the model has no row of
    the embedding for them."""
    content = json.loads(file.read_text(encoding="utf-8-sig"))
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < rows]
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _blob_sha256(path: Path) -> str | None:
    """The SHA-256 that a file of the hub's cache is named by, so that gigabytes need not be read."""
    blob = path.resolve().name
    return blob if re.fullmatch(r"[0-9a-f]{64}", blob) else None


def _reason(error: Exception, path: Path) -> str:
    return in_one_line(error).replace(str(path), "it")[:160].rstrip(".")


def _bare(architecture: str) -> str:
    return re.sub("[-_]", "", architecture)
