"""`specbench-s2d import FILES… --out RUN`: answer files of Spec-Bench become a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbench_s2d.cli import screen
from specbench_s2d.errors import UserError


def import_run(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILES…", help="Answer files (JSONL), baseline's included.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder to write the run into.", show_default=False)],
    target: Annotated[
        list[str] | None,
        typer.Option(help="What model_ids begin with, in files that `export` did not write: the target; repeatable."),
    ] = None,
    baseline: Annotated[
        list[str] | None, typer.Option(metavar="MODEL_ID", help="Which model_id decoded autoregressively; repeatable.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL_ID=LABEL", help="A model_id's label in tables: a decoder's, or any text; repeatable."
        ),
    ] = None,
    lossy: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="A label of yours whose decoder may change the output; repeatable."),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Suite of answers without a category, as EAGLE's and Medusa's are; default: MT-bench, where all "
            "question_ids are 81 to 160.",
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, max=1000, help="Sampling temperature of the answers, which the files do not say."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(metavar="NAME|FOLDER", help="Tokenizer to count output tokens with, for Spec-Bench's speed-up."),
    ] = None,
) -> None:
    """Read answer files of Spec-Bench, EAGLE or Medusa, or our own, into a run for report, compare and export."""
    from specbench_s2d.exchange.answer_import import Naming, import_files

    count = None
    if tokenizer is not None:
        from specbench_s2d.models.resolve import load_tokenizer

        encode = load_tokenizer(tokenizer).encode

        def count(text: str) -> int:
            return len(encode(text)) - 1

    naming = Naming(target or (), _labels(baseline or [], label or []), lossy or (), suite)
    records = import_files(files, out, naming, temperature, count)
    lanes = len({(r.target, r.label) for r in records})
    screen.stderr().say(f"wrote {out}: {len(records)} turns of {lanes} decoders; next: specbench-s2d report {out}")


def _labels(baselines: list[str], given: list[str]) -> dict[str, str]:
    """model_id to label: the first `=` parts them, for labels hold such marks too."""
    found = dict.fromkeys(baselines, "ar")
    for text in given:
        model_id, equals, label = text.partition("=")
        if not (model_id and equals and label):
            raise UserError(f"--label {text}: give MODEL_ID=LABEL.")
        if model_id in found:
            raise UserError(f"--label {text}: {model_id} has the label {found[model_id]!r} already; give one.")
        found[model_id] = label
    return found
