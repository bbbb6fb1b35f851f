"""The recipe of the demo family, trained by one resumable command.

`demo-m` starts as a deepened `demo-s`, and `demo-l` as a deepened `demo-m`, so that training of a smaller model is used
by the larger ones. The drafts are the first layers of `demo-s`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.files import write_whole
from specbench_s2d.training.checkpoint import writing
from specbench_s2d.training.distributed import launcher_ranks
from specbench_s2d.training.init_model import ModelSize, ModelSource, load_tokenizer
from specbench_s2d.training.jobs import Corpus, check_usable_device, train_model, work_folder
from specbench_s2d.training.spec import TrainSpec
from specbench_s2d.training.tokenizer import save_tokenizer, train_tokenizer
from specbench_s2d.training.trainer import Watcher

VOCABULARY = 2048
CONTEXT = 4096
TOKENIZER = "tokenizer"


@dataclass(frozen=True)
class Member:
    """One model of the family: what it starts from, and how it is trained."""

    name: str
    kind: Literal["new", "cut", "grow"]
    tokens: int
    layers: int
    source: str = ""
    width: int = 192
    feed_forward: int = 512
    loss_on: Literal["all", "answers"] = "all"
    learning_rate: float = 1e-2
    seed: int = 0
    length: int = 1536
    batch: int = 4
    exits: tuple[int, ...] = ()

    def start(self, folder: Path) -> ModelSource:
        """What training starts from; `folder` holds the finished members."""
        if self.kind == "new":
            size = ModelSize(self.layers, self.width, self.width // 64, 1, self.feed_forward, CONTEXT)
            return ModelSource("new", size=size)
        return ModelSource(self.kind, str(folder / self.source), self.layers)

    def spec(self, tokens_scale: float, device: str) -> TrainSpec:
        """The training specification, with `tokens_scale` times the member's tokens."""
        return TrainSpec(
            tokens=max(1, round(self.tokens * tokens_scale)),
            length=self.length,
            batch=self.batch,
            micro_batch=self.batch,
            exits=self.exits,
            loss_on=self.loss_on,
            optimizer="muon",
            learning_rate=self.learning_rate,
            seed=self.seed,
            device=device,
        )


FAMILY = (
    Member("demo-s", "new", 6_000_000, 8),
    Member("demo-draft-sft", "cut", 5_000_000, 4, source="demo-s", loss_on="answers", learning_rate=6e-3, seed=3),
    Member("demo-draft", "cut", 5_000_000, 4, "demo-s", loss_on="answers", learning_rate=6e-3, seed=3, exits=(2, 3, 4)),
    Member("demo-m", "grow", 3_000_000, 12, source="demo-s", learning_rate=6e-3, seed=1),
    Member("demo-tiny", "new", 3_000_000, 2, width=128, feed_forward=352, seed=4),
    Member("demo-l", "grow", 1_500_000, 20, source="demo-m", learning_rate=6e-3, seed=2),
)

RESEARCH_ONLY = (
    "Some of its training data is for research use only, so the weights are too "
    "(see `LICENSE-NOTE.md` beside the family)."
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
    data: Sequence[str],
    out: Path,
    only: Sequence[str],
    tokens_scale: float,
    device: str,
    command: str,
    announce: Callable[[str], None],
    watch: Watcher,
    family: Sequence[Member] = FAMILY,
    vocabulary: int = VOCABULARY,
) -> dict[str, dict[str, Any]]:
    """Train every member of the family that `out` does not hold yet; returns the facts of those trained now.

    `only`: names of the members to train, all if empty. `announce`: called with a line when a part starts.
    `vocabulary`: entries of the tokenizer. Raises `UnknownNameError` for a name in `only` that is not in the family,
    `UserError` for a member whose source is neither in `out` nor to be trained, and for several processes.
    """
    if launcher_ranks()[1] > 1:
        raise UserError("train demo: its small models are trained by a single process; start it without a launcher.")
    missing = _missing(family, out, only)
    check_usable_device(device)
    if not missing:
        return {}
    corpus = Corpus(data)
    tokenizer = load_tokenizer(str(_ensure_tokenizer(corpus, out, family, vocabulary, announce)))
    trained: dict[str, dict[str, Any]] = {}
    for member in missing:
        start = member.start(out)
        announce(f"{member.name}: {start.describe()}, {member.tokens * tokens_scale:,.0f} tokens")
        trained[member.name] = train_model(
            member.name,
            start,
            tokenizer,
            corpus,
            member.spec(tokens_scale, device),
            out / member.name,
            command,
            watch,
            licence=RESEARCH_ONLY,
        )
    return trained


def _missing(family: Sequence[Member], out: Path, only: Sequence[str]) -> list[Member]:
    """The members still to train, in order; removes the work folders that a kill left beside finished members."""
    names = [member.name for member in family]
    for name in only:
        if name not in names:
            raise UnknownNameError.of("family member", name, names)
    held = {name for name in names if (out / name / "config.json").is_file()}
    for name in held:
        shutil.rmtree(work_folder(out / name), ignore_errors=True)
    missing = [m for m in family if m.name not in held and (not only or m.name in only)]
    there = held | {m.name for m in missing}
    for member in missing:
        if member.source and member.source not in there:
            raise UserError(
                f"--only {member.name}: it starts from {member.source}, which {out} does not hold; "
                f"add --only {member.source}."
            )
    return missing


def _ensure_tokenizer(
    corpus: Corpus, out: Path, family: Sequence[Member], vocabulary: int, announce: Callable[[str], None]
) -> Path:
    """A folder with the family's tokenizer: its own, else a finished member's; it is trained where there is none."""
    folder = out / TOKENIZER
    holders = (path for path in (folder, *(out / m.name for m in family)) if (path / "tokenizer_config.json").is_file())
    held = next(holders, None)
    if held is None:
        announce(f"tokenizer: {vocabulary:,} entries")
        save_tokenizer(train_tokenizer(corpus.training, vocabulary, CONTEXT), folder)
    with writing(out):
        write_whole(out / "LICENSE-NOTE.md", LICENSE_NOTE)
    return held or folder
