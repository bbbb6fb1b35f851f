"""The files of a model's folder: looked at before they are opened, and read as JSON objects."""

from __future__ import annotations

import codecs
import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from specbench_s2d.errors import ModelError, in_one_line, no_panic
from specbench_s2d.files import why_no_file

# What config and tokenizer are read from, by transformers or here; weights are found by `weight_files`.
_READ = (
    "config.json", "generation_config.json", "adapter_config.json", "token_ranking.json", "tokenizer*", "vocab*",
    "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template*", "*.model", "*.tiktoken",
)  # fmt: skip
_OBJECTS = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# What transformers notes when it has warned of a text beyond the context; this package checks lengths itself.
_SAID_OF_LENGTH = "sequence-length-is-longer-than-the-specified-maximum"
_TEXTS = (".json", ".txt", ".jinja", ".tiktoken")


def check_file(file: Path, name: str) -> None:
    """Raise `ModelError` for what lies there and cannot be read as a file, and for a text with a byte order mark, which
    transformers does not take. `name`: the model's."""
    if why := why_no_file(file):
        raise ModelError(f"{name}: {file.name} is {why}; put the file itself there.")
    if file.suffix in _TEXTS and file.is_file() and _begins_with_a_mark(file):
        raise ModelError(
            f"{name}: {file.name} begins with a byte order mark, which transformers does not take; save it as UTF-8 "
            "without one."
        )


def _begins_with_a_mark(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8


def check_folder(folder: Path, name: str) -> None:
    """Raise `ModelError` for files of config or tokenizer that cannot be read, or are no JSON objects and must be."""
    for file in sorted(folder.iterdir()):
        if any(fnmatch(file.name, pattern) for pattern in _READ) and (file.suffix or not file.is_dir()):
            check_file(file, name)
    for file_name in _OBJECTS:
        if (folder / file_name).is_file():
            read_object(folder / file_name, name)


def read_tokenizer(folder: str, **options: Any) -> Any:
    """transformers' tokenizer, tried on a text: settings of wrong types show when it is used. Raises whatever
    transformers and tokenizers raise for files that they cannot parse."""
    from transformers import AutoTokenizer

    with no_panic():
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        tokenizer.deprecation_warnings[_SAID_OF_LENGTH] = True
        tokenizer.decode(tokenizer.encode("a b é"))
    return tokenizer


def read_object(file: Path, name: str) -> dict[str, Any]:
    """The fields of a JSON object in a file; raises `ModelError` for anything else. `name`: the model's."""
    check_file(file, name)
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{name}: {file.name} is not JSON ({in_one_line(error, whole=True)}); fetch it again."
        ) from error
    if not isinstance(content, dict):
        kind = {list: "a list", str: "a text", type(None): "null"}.get(type(content), f"the value {content}")
        raise ModelError(f"{name}: {file.name} holds {kind}, and no JSON object of named fields; fetch it again.")
    return content
