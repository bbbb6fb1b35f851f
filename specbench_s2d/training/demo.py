"""The demo family: its recipe, and the one resumable command that trains it.

Depth is grown, not trained anew: `demo-m` starts as a deepened `demo-s`, `demo-l` as a deepened `demo-m`, so every
token that a smaller model has seen counts for the larger. The drafts are cut from `demo-s`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specbench_s2d.errors import UnknownNameError
from specbench_s2d.training.jobs import Corpus, Shape, Start, load_tokenizer, train_model
from specbench_s2d.training.tokenizer import save_tokenizer, train_tokenizer
from specbench_s2d.training.trainer import TrainSpec, Watcher

VOCABULARY = 2048
CONTEXT = 4096
TOKENIZER = "tokenizer"


@dataclass(frozen=True)
class Member:
    """One model of the family: where it starts and how long it trains."""

    name: str
    kind: str
    tokens: int
    layers: int
    source: str = ""
    width: int = 192
    feed_forward: int = 512
    loss_on: str = "all"
    learning_rate: float = 1e-2
    seed: int = 0

    def start(self, folder: Path) -> Start:
        if self.kind == "new":
            shape = Shape(self.layers, self.width, self.width // 64, 1, self.feed_forward, CONTEXT)
            return Start("new", shape=shape)
        assert self.kind in ("cut", "grow")
        return Start("cut" if self.kind == "cut" else "grow", str(folder / self.source), self.layers)

    def spec(self, tokens_scale: float, device: str) -> TrainSpec:
        return TrainSpec(
            tokens=max(1, round(self.tokens * tokens_scale)),
            length=1536,
            batch=4,
            micro_batch=4,
            loss_on="answers" if self.loss_on == "answers" else "all",
            optimizer="muon",
            learning_rate=self.learning_rate,
            seed=self.seed,
            device=device,
        )


FAMILY = (
    Member("demo-s", "new", 6_000_000, 8),
    Member("demo-draft-sft", "cut", 3_000_000, 4, source="demo-s", loss_on="answers", learning_rate=6e-3, seed=3),
    Member("demo-m", "grow", 3_000_000, 12, source="demo-s", learning_rate=6e-3, seed=1),
    Member("demo-tiny", "new", 3_000_000, 2, width=128, feed_forward=352, seed=4),
    Member("demo-l", "grow", 2_200_000, 20, source="demo-m", learning_rate=6e-3, seed=2),
)

LICENSE_NOTE = """# Licence note for the demo weights

The weights in this folder were trained by `specbench-s2d train demo` on openly published instruction data, part of
which is licensed for research or non-commercial use only: AlpacaEval answers (Apache-2.0 repository, evaluation set
for non-commercial use), Multi30k (captions of Flickr30k, research use), task templates packaged with Self-Instruct
(Apache-2.0 packaging of their sources), Natural Questions (CC BY-SA 3.0), GSM8K (MIT).

They are therefore for **research and benchmarking only**, and are not covered by the Apache-2.0 licence of the code.
No training text is shipped with them.
"""


def train_family(
    data: list[str],
    out: Path,
    only: list[str],
    tokens_scale: float,
    device: str,
    command: str,
    announce: Callable[[str], None],
    watch: Watcher,
) -> dict[str, dict[str, Any]]:
    """Train every member of the family that `out` does not hold yet; returns the facts of those trained now.

    Raises `UnknownNameError` for a name in `only` that is not in the family.
    """
    for name in only:
        if name not in {member.name for member in FAMILY}:
            raise UnknownNameError.of("family member", name, [member.name for member in FAMILY])
    corpus = Corpus(data)
    if not (out / TOKENIZER / "tokenizer.json").is_file():
        announce(f"tokenizer: {VOCABULARY} entries")
        save_tokenizer(train_tokenizer(corpus.training, VOCABULARY, CONTEXT), out / TOKENIZER)
    tokenizer = load_tokenizer(str(out / TOKENIZER))
    (out / "LICENSE-NOTE.md").write_text(LICENSE_NOTE, encoding="utf-8")
    trained: dict[str, dict[str, Any]] = {}
    for member in FAMILY:
        if (only and member.name not in only) or (out / member.name / "config.json").is_file():
            continue
        start = member.start(out)
        announce(f"{member.name}: {start.describe()}, {member.tokens * tokens_scale:,.0f} tokens")
        spec = member.spec(tokens_scale, device)
        trained[member.name] = train_model(
            member.name, start, tokenizer, corpus, spec, out / member.name, command, watch
        )
    return trained
