"""`specbench-s2d train …`: the commands that train tokenizers, targets and drafts."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specbench_s2d.cli import screen
from specbench_s2d.cli.flags import flags_from
from specbench_s2d.cli.help import App
from specbench_s2d.cli.train_progress import AnswerWatch, Watch
from specbench_s2d.errors import UserError
from specbench_s2d.training.distributed import is_main
from specbench_s2d.training.spec import TrainSpec, make_train_spec

if TYPE_CHECKING:
    from specbench_s2d.training.heads import HeadKind
    from specbench_s2d.training.init_model import ModelSource

app = App(help="Train tokenizers, targets and drafts.", no_args_is_help=True)

Data = Annotated[
    list[str], typer.Option("--data", help="Chat JSONL (file or folder) or hub:owner/name[:split]; repeatable.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write; a killed run goes on from what OUT.work holds.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 …")]
Source = Annotated[str, typer.Option("--source", help="Model to start from: folder, demo name or hub id.")]
HeadTarget = Annotated[str, typer.Option("--target", help="Model whose states the head reads: folder, name or hub id.")]
Bits = Annotated[int, typer.Option("--bits", help="Bits of the stored matrices: 16, or 8 for half the room.")]
Licence = Annotated[
    str | None,
    typer.Option(
        "--licence",
        help="The card's sentence about licences, such as 'Apache-2.0: …'; default: those of the data hold.",
    ),
]
Template = Annotated[
    str | None,
    typer.Option("--template", help="Chat template to train with; default: the tokenizer's own, else vicuna."),
]


def train_flags(*hidden: str, **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one flag per field of `TrainSpec`, checked and passed as its argument `spec`.

    `hidden` fields get no flag here, `defaults` replace the fields' own. Of several processes that a launcher started,
    the first alone complains.
    """

    fields = {name: field for name, field in TrainSpec.model_fields.items() if name not in hidden}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        flagged = flags_from(fields, "spec", make_train_spec, defaults)(command)

        @functools.wraps(flagged)
        def wrapper(**given: Any) -> None:
            try:
                flagged(**given)
            except UserError:
                if is_main():
                    raise
                raise typer.Exit(2) from None

        return wrapper

    return decorate


def command_text(arguments: Sequence[str] | None = None) -> str:
    """The command line (by default this process's) for the model card, with folders shortened to their names."""
    words = []
    for word in sys.argv[1:] if arguments is None else arguments:
        flag, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
        local = value.startswith(("/", ".", "~")) or ("/" in value and Path(value).exists())
        words.append(flag + equals + (Path(value).resolve().name if local else value))
    return shlex.join(["specbench-s2d", *words])


def _console() -> screen.Screen:
    """Standard error, in the main process alone."""
    return screen.stderr(quiet=not is_main())


@contextmanager
def _stoppable(out: Path) -> Iterator[None]:
    """Turn Ctrl-C into one line that says what is kept and how to resume; exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        kept = [*out.parent.glob(f"{out.name}.work/checkpoint.pt"), *out.glob("*.work/checkpoint.pt")]
        state = "The last checkpoint is intact" if kept else "No checkpoint was written yet"
        then = "goes on from it" if kept else "starts again"
        _console().print()
        _console().say(f"stopped. {state}; the same command {then}.")
        raise typer.Exit(130) from None


@app.command()
def tokenizer(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    vocabulary: Annotated[int, typer.Option("--vocabulary", help="Entries, special tokens included.")] = 2048,
    context: Annotated[int, typer.Option("--context", min=1, help="Longest sequence the models will take.")] = 4096,
) -> None:
    """Train a byte-level BPE tokenizer with one token per chat role."""
    from specbench_s2d.training.jobs import Corpus, check_out
    from specbench_s2d.training.tokenizer import save_tokenizer, train_tokenizer

    with _stoppable(out):
        check_out(out)
        made = train_tokenizer(Corpus(data).training, vocabulary, context)
        save_tokenizer(made, out)
    screen.stdout().say(f"{out}: {len(made):,} entries")


@app.command()
@train_flags("exits", "lora_rank", "lora_alpha", "draft_vocabulary")
def lm(
    data: Data,
    out: Out,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="Tokenizer: folder, demo name or hub id; default: the source's.")
    ] = None,
    template: Template = None,
    grow_from: Annotated[
        str | None,
        typer.Option("--grow-from", help="Deepen this model to --layers, without changing what it computes."),
    ] = None,
    continue_from: Annotated[str | None, typer.Option("--continue-from", help="Train this model on.")] = None,
    layers: Annotated[int | None, typer.Option(min=1, max=10**4, help="Depth; 8 for a new model.")] = None,
    width: Annotated[int | None, typer.Option(min=1, max=10**6, help="Hidden width of a new model; 192.")] = None,
    heads: Annotated[
        int | None, typer.Option(min=1, max=10**4, help="Attention heads of a new model; width / 64.")
    ] = None,
    kv_heads: Annotated[int | None, typer.Option(min=1, max=10**4, help="Key-value heads of a new model; 1.")] = None,
    feed_forward: Annotated[
        int | None, typer.Option(min=1, max=10**7, help="Feed-forward width of a new model; 512.")
    ] = None,
    context: Annotated[int | None, typer.Option(min=1, max=10**8, help="Positions of a new model; 4096.")] = None,
    *,
    spec: TrainSpec,
) -> None:
    """Train a language model on chats: a new one, or one grown or continued from a trained one."""
    from specbench_s2d.training.init_model import lm_source

    size = {"layers": layers, "width": width, "heads": heads, "kv_heads": kv_heads}
    size |= {"feed_forward": feed_forward, "context": context}
    start = lm_source(size, grow_from, continue_from)
    tokenizer_name = tokenizer or start.source
    if not tokenizer_name:
        raise UserError("a new model needs --tokenizer; `specbench-s2d train tokenizer` makes one.")
    _train(start, tokenizer_name, data, spec, out, template)


@app.command()
@train_flags("exits", loss_on="answers")
def sft(
    data: Data,
    out: Out,
    source: Source,
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, help="Keep this many first layers; all by default.")
    ] = None,
    template: Template = None,
    *,
    spec: TrainSpec,
) -> None:
    """Fine-tune a model, or a draft made of its first layers, on the answers of chats."""
    from specbench_s2d.training.init_model import ModelSource

    start = ModelSource("cut", source, layers) if layers else ModelSource("continue", source)
    _train(start, source, data, spec, out, template)


@app.command()
@train_flags(loss_on="answers")
def soft(
    data: Data,
    out: Out,
    source: Source,
    layers: Annotated[int, typer.Option("--layers", min=1, help="Keep this many first layers of the source.")],
    template: Template = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="With --lora-rank: write the adapter alone; the rest is the source's.")
    ] = False,
    licence: Licence = None,
    *,
    spec: TrainSpec,
) -> None:
    """Sorted fine-tuning: a draft made of a model's first layers, each exit of which learns to answer."""
    from specbench_s2d.training.exits import nested_spec
    from specbench_s2d.training.init_model import ModelSource

    _train(ModelSource("cut", source, layers), source, data, nested_spec(spec, layers), out, template, adapter, licence)


@app.command()
@train_flags("exits", "lora_rank", "lora_alpha", "gradient_checkpointing", loss_on="answers", weight_decay=0.0)
def eagle(
    data: Data,
    out: Out,
    target: HeadTarget,
    steps: Annotated[
        int,
        typer.Option("--steps", min=1, max=63, help="Tokens that the head drafts on its own states while it learns."),
    ] = 3,
    bits: Bits = 16,
    version: Annotated[
        int, typer.Option("--version", help="1: EAGLE-1's head (EAGLE-2's too). 3: EAGLE-3's, on three layers' states.")
    ] = 1,
    template: Template = None,
    licence: Licence = None,
    *,
    spec: TrainSpec,
) -> None:
    """EAGLE's draft head on a target's hidden states, from chats; the target stays as it is."""
    from specbench_s2d.training.heads import eagle_head

    if version not in (1, 3):
        raise UserError(f"--version {version}: give 1 or 3; EAGLE-2 is EAGLE-1's head with a tree of its own.")
    _check_bits(bits)
    kind = eagle_head(target, spec.seed, steps, version, bits)
    _train_head(f"EAGLE-{version}'s head", kind, target, data, spec, out, template, licence)


@app.command()
@train_flags("exits", "lora_rank", "lora_alpha", "gradient_checkpointing", "optimizer", loss_on="answers",
             weight_decay=0.0)  # fmt: skip
def medusa(
    data: Data,
    out: Out,
    target: HeadTarget,
    heads: Annotated[int, typer.Option("--heads", min=1, max=63, help="Heads; each drafts one token.")] = 4,
    blocks: Annotated[int, typer.Option("--blocks", min=1, max=64, help="Residual blocks of a head.")] = 1,
    share_head: Annotated[
        bool, typer.Option("--share-head", help="No LM heads of their own: the target's, in a far smaller folder.")
    ] = False,
    bits: Bits = 16,
    template: Template = None,
    licence: Licence = None,
    *,
    spec: TrainSpec,
) -> None:
    """Medusa's heads on a target's hidden states, from chats; the target stays as it is."""
    from specbench_s2d.training.heads import medusa_heads

    _check_bits(bits)
    kind = medusa_heads(heads, blocks, share_head, bits)
    _train_head("Medusa's heads", kind, target, data, spec, out, template, licence)


def _check_bits(bits: int) -> None:
    from specbench_s2d.models.heads.eight_bits import BITS

    if bits not in BITS:
        raise UserError(f"--bits {bits}: a head is stored in 8 or 16 bits.")


def _train_head(
    what: str,
    kind: HeadKind,
    target: str,
    data: list[str],
    spec: TrainSpec,
    out: Path,
    template: str | None,
    licence: str | None,
) -> None:
    """Train a draft head; `what` it is, for the line that says so."""
    from specbench_s2d.training.card import DATA_LICENCES
    from specbench_s2d.training.heads import train_head
    from specbench_s2d.training.jobs import Corpus, check_out

    command = command_text()
    check_out(out)
    with _stoppable(out), Watch(_console()) as watch:
        watch.announce(f"{out.name}: {what} for {Path(target).name}, {spec.tokens:,} tokens")
        licences = licence or DATA_LICENCES
        facts = train_head(kind, target, Corpus(data), spec, out, command, watch, template, licences)
    _report(out, facts)


@app.command()
def answers(
    data: Data,
    out: Annotated[
        Path, typer.Option("--out", help="Chat JSONL to write; the same command goes on with a part of it.")
    ],
    source: Annotated[str, typer.Option("--source", help="Model that answers: folder, name or hub id.")],
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Take rows whose source starts so; repeatable; default: all.")
    ] = None,
    own_prompts: Annotated[int, typer.Option(min=0, help="Prompts that the model writes itself, besides.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Prompts of the data, suites in turn; default: all.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 96,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Leave out longer prompts.")] = 512,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest token.")] = 0.0,
    batch: Annotated[int, typer.Option(min=1, help="Prompts answered at once.")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="Order of the prompts, and sampling.")] = 0,
    template: Template = None,
    device: Device = "cpu",
) -> None:
    """A model's own answers to prompts of chats, for its draft to learn from; resumable."""
    from specbench_s2d.training.answers import AnswerSpec, answer_chats

    spec = AnswerSpec(max_new_tokens, temperature, batch, prompt_tokens, own_prompts, limit, seed)
    with _stoppable(out), AnswerWatch(_console()) as watch:
        watch.announce(f"{out.name}: answers of {Path(source).name}")
        rows = answer_chats(source, data, only or [], spec, out, template, device, watch)
    screen.stdout().say(f"{out}: {rows:,} answers")


@app.command()
def ranking(
    data: Data,
    draft: Annotated[Path, typer.Option("--draft", help="Folder of the model; token_ranking.json is written there.")],
    template: Template = None,
) -> None:
    """Count the tokens of the answers of chats, for a draft's small vocabulary (draft_vocabulary=N)."""
    from specbench_s2d.training.ranking import rank_tokens

    counted = rank_tokens(draft, data, template)
    screen.stdout().say(f"{draft}: {counted['tokens']:,} answer tokens counted, {counted['seen']:,} different ones")


def _train(
    start: ModelSource,
    tokenizer_name: str,
    data: list[str],
    spec: TrainSpec,
    out: Path,
    template: str | None,
    adapter: bool = False,
    licence: str | None = None,
) -> None:
    from specbench_s2d.training.card import DATA_LICENCES
    from specbench_s2d.training.init_model import load_tokenizer
    from specbench_s2d.training.jobs import Corpus, check_out, train_model

    if adapter and not spec.lora_rank:
        raise UserError("--adapter: there is an adapter only with --lora-rank N.")
    command = command_text()
    check_out(out)
    with _stoppable(out), Watch(_console()) as watch:
        tokenizer = load_tokenizer(tokenizer_name)
        watch.announce(f"{out.name}: {start.describe()}, {spec.tokens:,} tokens")
        facts = train_model(
            out.name, start, tokenizer, Corpus(data), spec, out, command, watch,
            template=template, licence=licence or DATA_LICENCES, adapter=adapter,
        )  # fmt: skip
    _report(out, facts)


@app.command()
def demo(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder of the family; finished members are kept.")] = Path("demo"),
    only: Annotated[list[str] | None, typer.Option("--only", help="Train just this member; repeatable.")] = None,
    scale: Annotated[float, typer.Option("--scale", min=1e-4, help="Multiply every member's tokens.")] = 1.0,
    device: Device = "cpu",
) -> None:
    """Train the whole demo family: tokenizer, three targets, drafts."""
    from specbench_s2d.training.demo import train_family

    command = command_text()
    with _stoppable(out), Watch(_console()) as watch:
        trained = train_family(data, out, only or [], scale, device, command, watch.announce, watch)
    for name, facts in trained.items():
        _report(out / name, facts)
    if not trained:
        screen.stdout().say(f"{out}: nothing to do, every member asked for is there")


def _report(out: Path, facts: dict[str, Any]) -> None:
    if not facts:
        return  # not the main one of several processes
    perplexity = facts["validation_perplexity"].get("all")
    held_out = "not measured (no prompt held out)" if perplexity is None else f"{perplexity:.2f}"
    by_exit = facts.get("exit_perplexity", {})
    if len(by_exit) > 1:
        held_out += f" ({', '.join(f'exit {depth}: {value:.2f}' for depth, value in by_exit.items())})"
    if shares := [by_suite["all"] for by_suite in facts.get("acceptance_by_position", {}).values() if by_suite]:
        held_out += f", acceptance by position {', '.join(f'{share:.2f}' for share in shares)}"
    screen.stdout().say(
        f"{out}: {facts['tokens']:,} tokens in {facts['train_s']:,.1f} s, held-out perplexity {held_out}"
    )
