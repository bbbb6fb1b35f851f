"""`specbench-s2d train …`: the commands that made the demo family, for anyone's data and sizes."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

app = typer.Typer(help="Train tokenizers, targets and drafts.", no_args_is_help=True)
console = Console(stderr=True)

Data = Annotated[
    list[str], typer.Option("--data", help="Chat JSONL (file or folder) or hub:owner/name[:split]; repeatable.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write; a killed run goes on from what it holds.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 …")]


def _command() -> str:
    """The command as typed, with folders cut to their names: a card must not tell where it was made."""
    words = [Path(word).name if "/" in word and Path(word).exists() else word for word in sys.argv[1:]]
    return shlex.join(["specbench-s2d", *words])


class _Watch:
    """Live progress: a line that rewrites itself on a terminal, one line per validation elsewhere."""

    def __call__(self, progress: Any) -> None:
        line = (
            f"step {progress.step}/{progress.steps}  {progress.tokens / 1e6:.2f}M tokens  "
            f"loss {progress.loss:.3f}  {progress.tokens_per_s:,.0f} tokens/s"
        )
        if progress.validation is not None:
            by_suite = "  ".join(f"{suite} {nll:.2f}" for suite, nll in progress.validation.items())
            console.print(f"{line}  held-out nats/token: {by_suite}", soft_wrap=True)
        elif console.is_terminal:
            console.print(line, end="\r", soft_wrap=True)


@app.command()
def demo(
    data: Data,
    out: Out = Path("demo"),
    only: Annotated[list[str] | None, typer.Option("--only", help="Train just this member; repeatable.")] = None,
    scale: Annotated[float, typer.Option("--scale", min=1e-4, help="Multiply every member's tokens.")] = 1.0,
    device: Device = "cpu",
) -> None:
    """Train the whole demo family: tokenizer, three targets, drafts."""
    from specbench_s2d.training.demo import train_family

    trained = train_family(
        data, out, only or [], scale, device, _command(), lambda text: console.print(text, style="bold"), _Watch()
    )
    for name, facts in trained.items():
        console.print(f"{name}: held-out perplexity {facts['validation_perplexity']['all']:.2f}")
