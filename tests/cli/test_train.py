"""The `train` commands as a person types them: flags, progress, messages, exit codes, and a kill."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from specbench_s2d.cli import train as train_cli
from specbench_s2d.cli.main import main
from specbench_s2d.cli.train import command_text
from specbench_s2d.cli.train_progress import Watch
from specbench_s2d.training import init_model, jobs
from specbench_s2d.training.init_model import ModelSize, ModelSource
from specbench_s2d.training.spec import TrainSpec
from specbench_s2d.training.trainer import Progress
from tests.training.factory import sums, tiny_model, tiny_tokenizer, write_chats

SMALL = ["--layers", "1", "--width", "16", "--heads", "1", "--feed-forward", "24", "--context", "64"]
SHORT = ["--length", "40", "--batch", "2", "--no-autocast", "--checkpoint-every", "5"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own folder to work in, with a corpus and a tokenizer."""
    monkeypatch.chdir(tmp_path)
    write_chats(tmp_path / "chat.jsonl", sums(200))
    tiny_tokenizer().save_pretrained(str(tmp_path / "tok"))
    return tmp_path


def lm(*words: str, steps: int = 4) -> list[str]:
    given = [*SMALL, *SHORT, "--tokens", str(80 * steps), *words]
    return ["train", "lm", "--data", "chat.jsonl", "--tokenizer", "tok", *given]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a command hands to the training job, which is not run."""
    seen: dict[str, Any] = {}

    def remember(
        name: str, start: ModelSource, tokenizer: Any, corpus: Any, spec: TrainSpec, *_: Any, **given: Any
    ) -> Any:
        seen.update(name=name, start=start, spec=spec, **given)
        return {"validation_perplexity": {}, "tokens": 1, "train_s": 0.0}

    monkeypatch.setattr(jobs, "train_model", remember)
    return seen


# Every command


def test_tokenizer_then_lm_then_growth_then_a_draft(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--vocabulary", "290", "--context", "48"]
    assert main(["train", "tokenizer", "--data", "chat.jsonl", *sizes, "--out", "words"]) == 0
    words = AutoTokenizer.from_pretrained("words")
    assert len(words) <= 290 and words.model_max_length == 48
    assert main([*lm("--validate-every", "2"), "--out", "m"]) == 0
    base = ["--data", "chat.jsonl", "--tokens", "80", *SHORT]
    assert main(["train", "lm", "--grow-from", "m", "--layers", "2", *base, "--out", "deep"]) == 0
    assert main(["train", "lm", "--continue-from", "deep", *base, "--out", "on"]) == 0
    assert main(["train", "sft", "--source", "deep", "--layers", "1", *base, "--out", "draft"]) == 0
    depths = {n: json.loads(Path(n, "config.json").read_text())["num_hidden_layers"] for n in ("deep", "on", "draft")}
    assert depths == {"deep": 2, "on": 2, "draft": 1}
    said = capsys.readouterr()
    assert "m: step 2/4, 160 tokens, loss " in said.err
    assert "held-out nats/token: math " in said.err and ", qa " in said.err and ", all " in said.err
    assert "draft: the first layer of deep, 80 tokens" in said.err
    assert "m: 320 tokens in " in said.out and "held-out perplexity " in said.out


def test_ranking_counts_the_answers_for_a_draft(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*lm(), "--out", "m"]) == 0
    stored = Path("m/token_ranking.json").read_bytes()
    Path("m/token_ranking.json").write_text("{}")
    assert main(["train", "ranking", "--draft", "m", "--data", "chat.jsonl"]) == 0
    assert Path("m/token_ranking.json").read_bytes() == stored
    assert re.search(r"m: [\d,]+ answer tokens counted, \d+ different ones\n$", capsys.readouterr().out)
    assert main(["train", "ranking", "--draft", "none", "--data", "chat.jsonl"]) == 2
    assert "--draft none: no such folder; give the folder of a model." in capsys.readouterr().err


def test_demo_trains_members_of_the_family_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "demo", "--data", "chat.jsonl", "--out", "family", "--scale", "1e-4", "--only", "demo-tiny"]
    assert main(command) == 0
    assert "family/demo-tiny: 6,144 tokens in " in capsys.readouterr().out
    assert main(command) == 0
    assert capsys.readouterr().out == "family: nothing to do, every member asked for is there\n"


def test_a_nested_draft_by_the_command_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*lm("--layers", "4"), "--out", "m"]) == 0
    base = ["--data", "chat.jsonl", "--source", "m", "--tokens", "160", *SHORT]
    assert main(["train", "soft", *base, "--layers", "3", "--out", "nested"]) == 0
    assert main(["train", "soft", *base, "--layers", "4", "--exits", "1,4", "--lora-rank", "2", "--out", "lora"]) == 0
    assert main(["train", "sft", *base, "--source", "nested", "--lora-rank", "2", "--out", "plain"]) == 0
    configs = {name: json.loads(Path(name, "config.json").read_text()) for name in ("nested", "lora", "plain")}
    assert {name: c.get("specbench_exits") for name, c in configs.items()} == {
        "nested": [2, 3],
        "lora": [1, 4],
        "plain": None,
    }
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"nested: 160 tokens in .* s, held-out perplexity (\S+) \(exit 2: \S+, exit 3: \1\)", said[1])
    assert "(exit" not in said[0] + said[3]


SOFT = ["train", "soft", "--data", "chat.jsonl", "--source", "m", "--tokens", "160", *SHORT, "--out", "x"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layers", "4", "--exits", "3,2,4"], "--exits 3,2,4: an exit is repeated or out of order; give depths"),
        (["--layers", "4", "--exits", "2,2,4"], "--exits 2,2,4: an exit is repeated or out of order; give depths"),
        (["--layers", "4", "--exits", "2,3,6"], "--exits 2,3,6: an exit at 6 is above the model's depth; give depths"),
        (["--layers", "4", "--exits", "0,4"], "--exits 0,4: an exit at 0 is below the first layer; give depths"),
        (["--layers", "4", "--exits", "2,3"], "--exits 2,3: the last exit, 3, is not the model's last layer; give"),
        (["--layers", "4", "--exits", "2,half"], "--exits 2,half: input should be a valid integer"),
        (["--layers", "4", "--exits", "2,,4"], "--exits 2,,4: input should be a valid integer"),
        (["--layers", "3"], "--layers 3: the source has 2 layers; give 1 to 2."),
        (["--layers", "2", "--lora-alpha", "4"], "--lora-alpha 4: it scales LoRA adapters; give their rank too"),
        (["--layers", "2", "--source", "gpt2"], "gpt2: training takes Llama-family checkpoints, and this is GPT2"),
        ([], "Missing option '--layers'."),
    ],
)
def test_drafts_that_cannot_be_made_are_one_line(
    words: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, model in (
        ("m", tiny_model(400)),
        ("gpt2", GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=8, n_layer=1, n_head=1))),
    ):
        model.save_pretrained(name)
        tiny_tokenizer().save_pretrained(name)
    capsys.readouterr()  # the progress of saving
    assert main([*SOFT, *words]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("x: ")]
    assert len(errors) == 1 and errors[0].startswith(f"error: {message}")
    assert not Path("x").exists() and not Path("x.work").exists()


def test_of_several_processes_the_first_alone_complains(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    said = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert main([*lm(), "--out", "m"]) == 2
        assert main([*lm(), "--length", "1", "--out", "m"]) == 2
        said.append(capsys.readouterr().err.splitlines())
    complaints = [line[:17] for line in said[0] if line.startswith("error")]
    assert said[1] == [] and complaints == ["error: --batch 2:", "error: --length 1"]


# Flags

EVERY_FLAG: dict[str, tuple[str, Any]] = {
    "tokens": ("77", 77),
    "length": ("12", 12),
    "batch": ("6", 6),
    "micro_batch": ("3", 3),
    "loss_on": ("answers", "answers"),
    "optimizer": ("muon", "muon"),
    "learning_rate": ("1e-4", 1e-4),
    "warmup": ("0.5", 0.5),
    "final_lr": ("0.25", 0.25),
    "weight_decay": ("0", 0.0),
    "clip": ("2", 2.0),
    "seed": ("9", 9),
    "validate_every": ("7", 7),
    "checkpoint_every": ("8", 8),
    "device": ("cpu", "cpu"),
}
# Not every command trains exits, or adapters.
OWN_FLAGS: dict[str, dict[str, tuple[str, Any]]] = {
    "lm": {},
    "sft": {"lora_rank": ("2", 2), "lora_alpha": ("8", 8.0), "draft_vocabulary": ("30", 30)},
    "soft": {
        "lora_rank": ("2", 2),
        "lora_alpha": ("8", 8.0),
        "draft_vocabulary": ("30", 30),
        "exits": ("1,3,4", (1, 3, 4)),
    },
}


@pytest.mark.parametrize("command", ["lm", "sft", "soft"])
def test_every_field_of_the_specification_is_a_flag(command: str, here: Path, asked: dict[str, Any]) -> None:
    fields = EVERY_FLAG | OWN_FLAGS[command]
    words = [word for name, (text, _) in fields.items() for word in ("--" + name.replace("_", "-"), text)]
    words += ["--no-autocast", "--gradient-checkpointing", *(["--layers", "4"] if command == "soft" else [])]
    source = ["--tokenizer", "tok"] if command == "lm" else ["--source", "tok"]
    assert main(["train", command, "--data", "chat.jsonl", *source, *words, "--out", "x"]) == 0
    given = {name: value for name, (_, value) in fields.items()} | {"autocast": False, "gradient_checkpointing": True}
    assert (
        asked["spec"].model_dump() == {"exits": (), "lora_rank": 0, "lora_alpha": 16.0, "draft_vocabulary": 0} | given
    )
    asked.clear()
    for own in OWN_FLAGS["soft"].keys() - OWN_FLAGS[command].keys():
        foreign = ["--" + own.replace("_", "-"), "1"]
        assert main(["train", command, "--data", "chat.jsonl", *source, *words, *foreign, "--out", "x"]) == 2
    assert not asked


def test_the_defaults_are_those_of_the_specification_and_of_the_command(here: Path, asked: dict[str, Any]) -> None:
    base = ["--data", "chat.jsonl", "--tokens", "5", "--out", "x"]
    assert main(["train", "lm", "--tokenizer", "tok", *base]) == 0
    assert asked["spec"] == TrainSpec(tokens=5) and asked["start"] == ModelSource("new", size=ModelSize())
    assert main(["train", "sft", "--source", "tok", *base]) == 0
    assert asked["spec"] == TrainSpec(tokens=5, loss_on="answers") and asked["start"] == ModelSource("continue", "tok")


def test_the_template_and_the_shape_reach_the_job(here: Path, asked: dict[str, Any]) -> None:
    shape = ["--layers", "3", "--width", "32", "--heads", "4", "--kv-heads", "2"]
    shape += ["--feed-forward", "40", "--context", "50"]
    base = ["--data", "chat.jsonl", "--tokenizer", "tok", "--tokens", "5", "--out", "x"]
    assert main(["train", "lm", *base, *shape, "--template", "vicuna"]) == 0
    assert asked["start"].size == ModelSize(3, 32, 4, 2, 40, 50) and asked["template"] == "vicuna"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tokens", "0"], "error: --tokens 0: input should be greater than 0."),
        (["--loss-on", "prompts"], "error: --loss-on prompts: input should be 'all' or 'answers'."),
        (["--optimizer", "sgd"], "error: --optimizer sgd: input should be 'adamw' or 'muon'."),
        (["--learning-rate", "nan"], "error: --learning-rate nan: input should be"),
        (["--warmup", "1"], "error: --warmup 1: input should be less than 1."),
        (["--micro-batch", "0"], "error: --micro-batch 0: input should be greater than 0."),
        (["--seed", "-1"], "error: --seed -1: input should be greater than or equal to 0."),
        (["--device", "warp"], "error: --device warp: not usable here"),
        (["--tokenizer", "./no"], "error: ./no: no such folder"),
        (["--data", "no.jsonl"], "error: no.jsonl: no such file or folder"),
        (["--out", "chat.jsonl/x"], "error: chat.jsonl/x: "),
        (["--out", "tok"], "error: tok is not an empty folder"),
    ],
)
def test_bad_flags_are_one_line_and_train_nothing(
    words: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name for path in here.iterdir()}
    assert main([*lm(), "--out", "m", *words]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("m: ")]
    assert len(errors) == 1 and errors[0].startswith(message)
    assert {path.name for path in here.iterdir()} == before


def test_a_new_model_needs_a_tokenizer(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "lm", "--data", "chat.jsonl", "--tokens", "5", "--out", "x"]) == 2
    assert capsys.readouterr().err == (
        "error: a new model needs --tokenizer; `specbench-s2d train tokenizer` makes one.\n"
    )


def test_the_card_tells_the_command_and_not_where_it_was_typed(tmp_path: Path) -> None:
    words = ["train", "sft", "--data", str(tmp_path / "c"), "--data=../up/d.jsonl", "--source", "owner/name"]
    assert command_text([*words, "--out", "/not/there/yet"]) == (
        "specbench-s2d train sft --data c --data=d.jsonl --source owner/name --out yet"
    )


@pytest.mark.parametrize("given", ["80", "8e1", "0.08k"])
def test_counts_may_be_written_short(given: str, here: Path, asked: dict[str, Any]) -> None:
    assert main([*lm("--out", "x"), "--tokens", given]) == 0
    assert asked["spec"].tokens == 80


# Stopping


@pytest.fixture
def listening() -> Iterator[None]:
    """Ctrl-C is heard, even where the tests were started in the background, which makes Python ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize(
    ("at", "message"),
    [(3, "No checkpoint was written yet; the same command starts"), (7, "The last checkpoint is intact; the same")],
)
def test_ctrl_c_is_one_line_and_exit_code_130(
    at: int, message: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(self: Watch, progress: Progress) -> None:
        if progress.step == at:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Watch, "__call__", interrupt)
    assert main([*lm(steps=10), "--out", "m"]) == 130
    assert f"stopped. {message}" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert main([*lm(steps=10), "--out", "m"]) == 0


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "train_log.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "train_s"} for line in lines]


def test_a_run_killed_at_a_random_moment_goes_on_bit_for_bit(here: Path) -> None:
    """A real process and a real `kill -9`; the same command then ends as an undisturbed run does."""
    steps = 100
    assert main([*lm(steps=steps), "--out", "whole"]) == 0
    command = [sys.executable, "-m", "specbench_s2d", *lm(steps=steps), "--out", "cut"]
    package = Path(train_cli.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    moment = random.randint(1, steps - 30)
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        log = here / "cut.work" / "train_log.jsonl"
        while process.poll() is None and not (log.is_file() and log.read_bytes().count(b"\n") >= moment):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, f"was to be killed after step {moment}"
    assert not (here / "cut").exists()
    assert main([*lm(steps=steps), "--out", "cut"]) == 0
    weights = [(here / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1], f"killed after step {moment}"
    assert rows(here / "whole") == rows(here / "cut"), f"killed after step {moment}"


def test_an_adapter_wants_a_rank_and_reaches_the_job_with_the_licence(
    here: Path, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "soft", "--data", "chat.jsonl", "--source", "tok", "--layers", "2", "--tokens", "5", "--out", "x"]
    assert main([*words, "--adapter"]) == 2
    assert "--adapter: there is an adapter only with --lora-rank N." in capsys.readouterr().err
    assert main([*words, "--adapter", "--lora-rank", "2", "--licence", "Free."]) == 0
    assert asked["adapter"] is True and asked["licence"] == "Free."


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["eagle", "--steps", "64"], "'--steps': Input should be less than or equal to 63"),
        (
            ["eagle", "--tokens", "200000000000000"],
            "--tokens 200000000000000: input should be less than or equal to",
        ),
        (["eagle", "--seed", str(2**63)], f"--seed {2**63}: input should be less than {2**63}"),
        (["eagle", "--learning-rate", "11"], "--learning-rate 11: input should be less than or equal to 10"),
        (["medusa", "--heads", "64"], "'--heads': Input should be less than or equal to 63"),
        (["medusa", "--blocks", "65"], "'--blocks': Input should be less than or equal to 64"),
    ],
)
def test_numbers_that_no_training_has_are_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--target", "no-such", "--data", "no-such", "--out", "no-such", "--tokens", "80"]
    assert main(["train", words[0], *given, *words[1:]]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err


@pytest.mark.parametrize("command", [["eagle", "--target"], ["medusa", "--target"], ["sft", "--source"]])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--draft-vocabulary", "9999"], "--draft-vocabulary 9999: the model has 2048 ids; give at most that."),
        (["--length", "4097"], "--length 4097: the model's context is 4096; lower it."),
    ],
)
def test_sizes_beyond_the_model_are_said_before_its_weights_load(
    command: list[str], words: list[str], said: str, here: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(init_model, "read_module", None)
    out = ["--data", "chat.jsonl", "--out", "x", "--tokens", "80"]
    assert main(["train", *command, "demo-s", *out, *words]) == 2
    assert said in capsys.readouterr().err
