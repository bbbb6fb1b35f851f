"""The inputs of `fuzz.py`: sound files, made once, and the domains, each of which changes one of them for a command."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutations import changed_bytes, changed_cells, changed_value, changed_words, to_json

SHARED = ["--target", "demo-tiny", "--draft", "demo-draft", "--decoder", "ar,s2d,lookup", "--max-new-tokens", "6",
          "--device", "cpu", "--energy", "off"]  # fmt: skip
RUN = ["run", *SHARED, "--suite", "qa", "--suite", "mt_bench", "--limit", "2"]
DRY = "--dry-run"
PUBLISHED = Path(__file__).parents[1] / "results" / "published"
EMPTY = '""'
SPEC: dict[str, Any] = {
    "target": ["demo-tiny"], "draft": ["demo-draft"], "decoder": ["ar", "s2d:gamma=3,thresholds=0.5+0.5+0", "lookup"],
    "suite": ["qa", "mt_bench"], "questions": "embedded", "limit": 1, "max_new_tokens": 4, "ignore_eos": False,
    "temperature": 0.5, "top_k": 5, "top_p": 0.9, "repeats": 1, "launches": 1, "shard": "1/1", "seed": 0,
    "device": "cpu", "devices": "1", "dtype": "float32", "engine": "eager", "template": "plain",
    "template_args": ["a=1"], "long_prompts": "fail", "replay_turns": "own", "energy": "off", "energy_blocks": False,
}  # fmt: skip
QUESTIONS: list[dict[str, Any]] = [
    {"question_id": 1, "category": "qa", "turns": ["Who wrote it?"], "reference": ["nobody"], "metric": "f1"},
    {"question_id": "two", "category": "mine", "turns": ["Say one.", "Say two."], "system_prompt": "Be brief."},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "And?"}]},
    {"conversations": [{"from": "human", "value": "Hello."}, {"from": "gpt", "value": "Hello."}]},
]
CHATS = [{"source": "qa", "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "He."}]}]
BLOCK: dict[str, Any] = {
    "meter": "nvml", "covers": ["GPU 0"], "rounds": 2, "new_tokens": 12, "block_s": 5.5, "energy_j": 60.0,
    "trace_j": 61.0,     "disagreement": 0.016, "idle_power_w": 5.0, "energy_net_j": 32.5, "energy_j_per_token": 5.0,
    "energy_net_j_per_token": 2.7, "power_limit_w": 300.0, "clocks_mhz": {"sm": [1000, 1200]},
    "temperature_max_c": 60.0,     "throttled": [], "target": "demo-tiny", "label": "ar", "suite": "qa", "repeat": 0,
}  # fmt: skip


def make_sound(folder: Path, run_cli: Callable[[list[str]], int]) -> None:
    """Write the sound files: two runs of shards, `a` and `b`, with metered blocks; the whole run `c`; its answers."""
    folder.mkdir(parents=True)
    for name, shard in (("a", ["--shard", "1/2"]), ("b", ["--shard", "2/2"]), ("c", [])):
        assert run_cli([*RUN, *shard, "--out", str(folder / name)]) == 0, "the sound run failed"
        blocks = [{**BLOCK, "label": label} for label in ("ar", "lookup")]
        (folder / name / "energy.jsonl").write_text("".join(json.dumps(block) + "\n" for block in blocks))
    assert run_cli(["export", str(folder / "c"), "--format", "spec-bench", "--out", str(folder / "answers")]) == 0
    for name, rows in (("questions.jsonl", QUESTIONS), ("chats.jsonl", CHATS * 4)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "questions.json").write_text(json.dumps(QUESTIONS))
    (folder / "questions.csv").write_text('question_id,category,turns\n1,mine,Who?\n2,mine,"[""One?"", ""Two?""]"\n')


@dataclass(frozen=True)
class Case:
    """One input: the words of a command, and the files of the folder that it runs in, by their paths there."""

    domain: str
    number: int
    words: list[str]
    files: dict[str, bytes]

    def json(self) -> str:
        """The case as `--replay` reads it."""
        files = {name: base64.b64encode(content).decode() for name, content in self.files.items()}
        return json.dumps({"domain": self.domain, "number": self.number, "words": self.words, "files": files})

    @classmethod
    def read(cls, path: Path) -> Case:
        row = json.loads(path.read_text(encoding="utf-8"))
        files = {name: base64.b64decode(content) for name, content in row["files"].items()}
        return cls(row["domain"], row["number"], row["words"], files)


class Sound:
    """The sound files, read once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._read = folder, dict[str, bytes]()
        self.answers = {
            f"answers/{i}.jsonl": path.read_bytes() for i, path in enumerate(sorted(folder.glob("answers/*")))
        }
        self.tables = {f"{TABLES}/{path.name}": path.read_bytes() for path in sorted(PUBLISHED.glob("*.csv"))}

    def run(self, name: str, to: str = "") -> dict[str, bytes]:
        """A run's folder."""
        files = ("records.jsonl", "manifest.json", "energy.jsonl")
        return {f"{to or name}/{file}": self.file(f"{name}/{file}") for file in files}

    def file(self, name: str) -> bytes:
        if name not in self._read:
            self._read[name] = (self._folder / name).read_bytes()
        return self._read[name]


def _changed_lines(content: bytes, coin: random.Random) -> bytes:
    """JSON Lines with one or two lines changed as values, or any bytes."""
    if coin.random() < 0.25:
        return changed_bytes(content, coin)
    lines = content.split(b"\n")[:-1]
    for _ in range(coin.choice((1, 1, 2))):
        at = coin.randrange(len(lines))
        try:
            lines[at] = to_json(changed_value(json.loads(lines[at]), coin)).encode()
        except (ValueError, RecursionError):  # changed before
            lines[at] = changed_bytes(lines[at], coin)
    return b"".join(line + b"\n" for line in lines)


def _changed_json(content: bytes, coin: random.Random) -> bytes:
    if coin.random() < 0.2:
        return changed_bytes(content, coin)
    return to_json(changed_value(json.loads(content), coin)).encode()


OF_A_RUN: tuple[tuple[str, ...], ...] = (
    ("report", "c"), ("report", "c"), ("report", "c", "b", "--out", "both.html"), ("check", "c", "--baseline", "sound"),
    ("check", "sound", "--baseline", "c", "--speed", "judge", "--junit", "junit.xml", "--markdown", "check.md"),
    ("check", "sound", "--baseline", "sound", "--baseline", "c", "--json"), ("compare", "c", "sound", "--out", "x.csv"),
    ("compare", "sound", "c", "--json"), ("compare", "c", "--against", "ar", "--out", "x.md"),
    ("compare", "c", "published:s2d", "--as", "demo-tiny=vicuna-7b"),
    ("merge", "a", "b", "--out", "merged"), ("merge", "a", "b", "--out", "merged", "--allow-mixed"),
    ("export", "c", "--format", "spec-bench", "--out", "out"), ("export", "c", "--format", "csv", "--out", "out"),
    ("export", "c", "--format", "parquet", "--out", "out"), ("export", "c", "--format", "latex", "--out", "out"),
    ("export", "c", "--format", "markdown", "--out", "out"), (*RUN, "--out", "c"), (*RUN, "--out", "c"),
    (*RUN, "--decoder", "sorted-scripted:acceptance=c", "--out", "new", DRY),
    ("project", "--target", "demo-tiny", "--draft", "demo-draft", "--acceptance", "c", "--context", "8"),
)  # fmt: skip


def of_run(file: str, change: Callable[[bytes, random.Random], bytes]) -> Callable[[Sound, random.Random], Case]:
    """Cases of one damaged file of a run, read by any command that reads runs."""

    def draw(sound: Sound, coin: random.Random) -> Case:
        words = list(coin.choice(OF_A_RUN))
        damaged = "a" if words[0] == "merge" else "c"
        files = {**sound.run("b"), **sound.run("c", "sound"), **sound.run("a"), **sound.run("c")}
        files = {name: content for name, content in files.items() if name.split("/")[0] in words}
        files[f"{damaged}/{file}"] = change(files.get(f"{damaged}/{file}") or sound.run("c")[f"c/{file}"], coin)
        return Case("", 0, words, files)

    return draw


def of_spec(sound: Sound, coin: random.Random) -> Case:
    """A run file, of all fields or of some."""
    spec = {name: value for name, value in SPEC.items() if name in ("target", "energy") or coin.random() < 0.6}
    text = "".join(f"{name} = {to_json(value)}\n" for name, value in spec.items()).encode()
    if coin.random() < 0.3:
        return Case("", 0, ["run", "run.toml", DRY], {"run.toml": changed_bytes(text, coin)})
    changed = changed_value(spec, coin)
    lines = changed.items() if isinstance(changed, dict) else [("x", changed)]
    text = "".join(f"{name or EMPTY} = {to_json(value)}\n" for name, value in lines).encode("utf-8", "replace")
    return Case("", 0, ["run", "run.toml", DRY], {"run.toml": text})


def of_questions(sound: Sound, coin: random.Random) -> Case:
    """A question file in one of its forms."""
    name = coin.choice(("questions.jsonl", "questions.jsonl", "questions.json", "questions.csv"))
    change = {".jsonl": _changed_lines, ".json": _changed_json, ".csv": changed_bytes}[Path(name).suffix]
    words = ["run", *SHARED, "--questions", name, DRY, *(["--json"] if coin.random() < 0.3 else [])]
    return Case("", 0, words, {name: change(sound.file(name), coin)})


TABLES = "_data/results/published"
_PROJECT = ("project", "--target", "demo-tiny", "--draft", "demo-draft", "--context", "8")
OF_PAPERS: tuple[tuple[str, ...], ...] = (
    ("compare", "c", "published:s2d", "--as", "demo-tiny=vicuna-7b"), ("compare", "c", "published:s2d"),
    ("compare", "c", "published:s2d", "--as", "demo-tiny=vicuna-7b", "--as", "lookup=SD SoFT L6", "--out", "x.csv"),
    ("compare", "c", "published:spec-bench", "--as", "demo-tiny=vicuna-7b-v1.3", "--json"),
    ("compare", "c", "published:spec-bench"), ("compare", "c", "published:mtad"),
    ("compare", "c", "published:mjsd", "--as", "demo-tiny=mean over targets", "--as", "lookup=MJSD vs vanilla SD"),
    (*_PROJECT, "--acceptance", "published:s2d", "--as", "demo-tiny=vicuna-7b", "--out", "out"),
    (*_PROJECT, "--acceptance", "published:s2d", "--as", "demo-tiny=llama-2-70b-chat", "--json"),
    (*_PROJECT, "--acceptance", "published:s2d"), (*_PROJECT, "--acceptance", "c"),
    ("run", *SHARED, "--decoder", "sorted-scripted:acceptance=published:s2d", "--suite", "qa", DRY),
)  # fmt: skip


def of_tables(sound: Sound, coin: random.Random) -> Case:
    """The tables of published figures, one of them damaged, in the place of the package's own."""
    tables = dict(sound.tables)
    name = coin.choice(list(tables))
    tables[name] = changed_cells(tables[name], coin)
    return Case("", 0, list(coin.choice(OF_PAPERS)), {**sound.run("c"), **tables})


def of_answers(sound: Sound, coin: random.Random) -> Case:
    """Answer files, one of them damaged."""
    files = dict(sound.answers)
    name = coin.choice(list(files))
    files[name] = _changed_lines(files[name], coin)
    then = coin.choice(([], [], ["--temperature", "0"], ["--tokenizer", "demo-tiny"], ["--target", "demo-tiny"]))
    return Case("", 0, ["import", *files, "--out", "out", *then], files)


def of_arguments(commands: Sequence[tuple[str, list[str]]]) -> Callable[[Sound, random.Random], Case]:
    """Command lines; `commands`: each as it is typed, with the flags that it has."""
    lines = [list(words) for words in OF_A_RUN if DRY not in words and words[0] != "run"]
    lines += [["run", *SHARED, "--suite", "qa", "--limit", "1"], ["run", "run.toml"], ["run"], ["env"], ["suites"],
              ["import", "answers/0.jsonl", "answers/1.jsonl", "--out", "out", "--temperature", "0"], ["decoders"],
              ["models"], ["models", "pull", "smollm2-135m"], ["--version"]]  # fmt: skip
    data = ["--data", "chats.jsonl", "--out", "out"]
    small = [*data, "--tokens", "100", "--batch", "1", "--length", "64"]
    lines += [
        ["train", "tokenizer", *data, "--vocabulary", "300"], ["train", "lm", *small, "--tokenizer", "demo-tiny"],
        ["train", "sft", *small, "--source", "demo-tiny"], ["train", "eagle", *small, "--target", "demo-tiny"],
        ["train", "soft", *small, "--source", "demo-tiny", "--layers", "2", "--exits", "1,2"],
        ["train", "medusa", *small, "--target", "demo-tiny"], ["train", "answers", *data, "--source", "demo-tiny"],
        ["train", "ranking", "--data", "chats.jsonl", "--draft", "draft"], ["train", "demo", *data, "--scale", "0.001"],
    ]  # fmt: skip
    known = dict(commands)

    def draw(sound: Sound, coin: random.Random) -> Case:
        words = list(coin.choice(lines))
        flags = known.get(" ".join(words[:2]), known.get(words[0], [])) or ["--help"]
        words = changed_words(words, flags, coin)
        words = [word for word in words if not word.startswith("--ray")]
        spec = "".join(f"{name} = {to_json(value)}\n" for name, value in SPEC.items())
        files = {**sound.run("a"), **sound.run("b"), **sound.run("c"), **sound.run("c", "sound"), **sound.answers}
        files |= {name: sound.file(name) for name in ("questions.jsonl", "chats.jsonl")} | {"run.toml": spec.encode()}
        return Case("", 0, [*words, *([DRY] if "run" in words else [])], files)

    return draw


def domains(commands: Sequence[tuple[str, list[str]]]) -> dict[str, Callable[[Sound, random.Random], Case]]:
    """Every kind of input by its name."""
    return {
        "run files": of_spec,
        "questions": of_questions,
        "records": of_run("records.jsonl", _changed_lines),
        "manifests": of_run("manifest.json", _changed_json),
        "energy": of_run("energy.jsonl", _changed_lines),
        "answers": of_answers,
        "published": of_tables,
        "arguments": of_arguments(commands),
    }
