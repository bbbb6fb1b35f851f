"""Questions from a dataset of the Hugging Face hub, by the `datasets` library."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from specbench_s2d.errors import QuestionFileError, UserError, in_one_line
from specbench_s2d.suites.rows import Row, numbered

HUB = "hub:"
_FORM = "hub:OWNER/NAME[@REVISION][:CONFIG[:SPLIT]]"
_SOURCE = re.compile(r"hub:(\w[\w.-]*/\w[\w.-]*)(?:@([^\s:]+))?(?::([^\s:]*))?(?::([^\s:]+))?")
_USUAL_SPLIT = "test"


def hub_rows(source: str) -> tuple[list[Row], str]:
    """The rows of a dataset, and its name without its owner. Without a configuration or a split: the only one there is,
    of splits also `test`.

    Raises `QuestionFileError` for a dataset that cannot be had, and where there are several to choose from.
    """
    parts = _SOURCE.fullmatch(source)
    if parts is None:
        raise QuestionFileError(f"{source}: write {_FORM}.")
    name, revision, config, split = parts.groups()
    if _lies_here(name):
        raise QuestionFileError(
            f"{source}: {name} lies in the current folder too, and would be read in place of the hub's; give the file "
            "in it by its path, or run from another folder."
        )
    from huggingface_hub.utils import logging as hub_logging

    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)  # a network that is away is one line, not one for each try
    try:
        rows = _load(name, revision, config or None, split)
    except UserError:
        raise
    except Exception as error:  # the library, its clients and its readers raise errors of many kinds
        raise QuestionFileError(
            f"{source}: cannot be read ({in_one_line(error, kind=True).rstrip('.')}); "
            "check the name and the network, or give the data as a Parquet, CSV or JSON file."
        ) from error
    finally:
        hub_logging.set_verbosity(verbosity)
    if not rows:
        raise QuestionFileError(f"{source}: empty; expected questions, one a row.")
    return numbered(rows, source), name.partition("/")[2]


def _lies_here(name: str) -> bool:
    """Whether the library would take a folder or a file below the current folder for the dataset."""
    return Path(name).exists()


def _load(name: str, revision: str | None, config: str | None, split: str | None) -> list[dict[str, Any]]:
    import datasets

    datasets.disable_progress_bars()
    configs = datasets.get_dataset_config_names(name, revision=revision)
    config = _only(configs, config, f"{HUB}{name}", "configuration", "CONFIG")
    splits = datasets.get_dataset_split_names(name, config, revision=revision)
    if split is None and _USUAL_SPLIT in splits:
        split = _USUAL_SPLIT
    split = _only(splits, split, f"{HUB}{name}", "split", f"{config}:SPLIT")
    return [dict(row) for row in datasets.load_dataset(name, config, split=split, revision=revision)]


def _only(there: list[str], chosen: str | None, source: str, what: str, form: str) -> str:
    """The one chosen, else the only one; refused where it is not there or several are."""
    if chosen in there:
        return chosen
    if chosen is None and len(there) == 1:
        return there[0]
    given = f"no {what} {chosen!r}" if chosen else f"several {what}s"
    raise QuestionFileError(f"{source}: {given}; write {source}:{form} with one of {', '.join(there)}.")
