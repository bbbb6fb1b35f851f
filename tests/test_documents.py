"""The documents tell the truth: tables, links, named files, commands and examples are the program's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from specbench_s2d.cli.main import main
from specbench_s2d.resources import demo_folder, run_files
from specbench_s2d.runs.energy_block import EnergyBlock
from specbench_s2d.runs.record import Record
from tests.documents import DEMO_RUN, PAGES, ROOT, blocks, check_words, command_lines, commands, generator

QUESTIONS = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
MOST_README_BYTES = 8192
# Flags of other programs that the pages name.
OTHERS = {
    "--extra-index-url",
    "--find-links",
    "--no-index",
    "--merge",
    "--num_processes",
    "--multi_gpu",
    "--row",
    "--runs",
}
QUICK = {"suites", "models", "decoders"}
"""Commands that load no model."""


def documented() -> list[tuple[str, list[str]]]:
    """(page, words) of every `specbench-s2d` command in a code block."""
    return [
        (page, words)
        for page, text in TEXTS.items()
        for script in blocks(text, "bash")
        for words in command_lines(script)
    ]


@pytest.mark.parametrize("page", generator().DOCUMENTS, ids=lambda page: page.name)
def test_generated_parts_are_up_to_date(page: Path) -> None:
    """Out of date? `make docs` writes all of them anew."""
    text = page.read_text(encoding="utf-8")
    assert generator().fill(text) == text


def test_every_generated_part_stands_in_a_document() -> None:
    found = [name for page in generator().DOCUMENTS for name in generator().parts_in(page.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(generator().PARTS)


def test_a_part_that_is_not_known_is_named() -> None:
    with pytest.raises(ValueError, match="no generated part modules:gone"):
        generator().fill("<!-- begin:modules:gone -->\n<!-- end:modules:gone -->")


def test_the_architecture_lists_every_module_and_nothing_else() -> None:
    package = ROOT / "specbench_s2d"
    modules = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if path.name != "__init__.py" or path.read_text(encoding="utf-8").strip()
    }
    assert len(modules) > 100
    assert set(re.findall(r"^- `(\S+\.py)`: \S", TEXTS["docs/architecture.md"], re.MULTILINE)) == modules


def test_the_readme_fits_its_size() -> None:
    assert len(README.encode()) <= MOST_README_BYTES


def test_every_documented_command_parses() -> None:
    assert len(documented()) > 40
    for page, words in documented():
        try:
            check_words(words)
        except Exception as error:
            raise AssertionError(f"{page}: specbench-s2d {' '.join(words)}: {error}") from error


def test_a_command_that_the_program_does_not_know_is_found() -> None:
    [words] = command_lines("specbench-s2d check run --baseline base --require-sped || exit 1  # a typing error")
    with pytest.raises(Exception, match="--require-sped"):
        check_words(words)


def test_every_flag_that_a_page_names_exists() -> None:
    parameters = [parameter for command in commands().values() for parameter in command.params]
    flags = {flag for parameter in parameters for flag in (*parameter.opts, *parameter.secondary_opts)}
    flags |= {"--help", "--version", "--check"} | OTHERS
    for page, text in TEXTS.items():
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]*[a-z]", re.sub(r"<!--.*?-->", "", text)))
        assert named <= flags, f"{page}: {named - flags}"


@pytest.fixture
def folder_of_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the README's question file and run file, the CSV file of docs/questions.md, a checkpoint, and the
    committed runs."""
    [questions], [grid], [prompts] = blocks(README, "json"), blocks(README, "toml"), blocks(QUESTIONS, "csv")
    (tmp_path / "prompts.csv").write_text(prompts, encoding="utf-8")
    (tmp_path / "checkpoint").symlink_to(demo_folder() / "demo-s")
    (tmp_path / "my.jsonl").write_text(questions, encoding="utf-8")
    (tmp_path / "grid.toml").write_text(grid, encoding="utf-8")
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def quick_commands() -> list[list[str]]:
    """Every documented command that is quick: listings, and runs of models at hand on a CPU, as dry runs."""
    found = dict[str, list[str]]()
    for _, words in documented():
        elsewhere = r"papers/\w+|[\w-]+/[\w.-]+\d[\w.-]*|smollm2\S*|cuda|--ray|hub:\S+"
        at_hand = not any(re.fullmatch(elsewhere, word) for word in words)
        if words[0] == "run" and at_hand:
            out = words.index("--out") if "--out" in words else len(words)
            dry = [] if "--print-slurm" in words else ["--dry-run"]
            words = [*(word for word in (*words[:out], *words[out + 2 :]) if word != "--dry-run"), *dry]
        if (words[0] in QUICK and "pull" not in words) or (words[0] == "run" and at_hand):
            found.setdefault(" ".join(words), words)
    return list(found.values())


@pytest.mark.parametrize("words", quick_commands(), ids=" ".join)
def test_a_quick_documented_command_works(
    words: list[str], folder_of_examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0, capsys.readouterr().err


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in commands():
        assert main([*name.split(), "--help"]) == 0
        assert "Usage:" in capsys.readouterr().out


@pytest.mark.parametrize("page", [page for page, text in TEXTS.items() if blocks(text, "json")])
def test_json_examples_are_json(page: str) -> None:
    for block in blocks(TEXTS[page], "json"):
        try:
            json.loads(block)
        except json.JSONDecodeError:  # then one object a line
            for line in block.splitlines():
                json.loads(line)


@pytest.mark.parametrize("page", [page for page, text in TEXTS.items() if blocks(text, "python")])
def test_python_examples_run(page: str) -> None:
    for code in blocks(TEXTS[page], "python"):
        names: dict[str, object] = {}
        exec(compile(code, page, "exec"), names)
        generation = names["generation"]
        assert generation.ids and generation.steps  # type: ignore[attr-defined]


def test_links_lead_somewhere() -> None:
    others = [ROOT / folder / "README.md" for folder in ("plots", "results", "suites")]
    found = 0
    for page in [*PAGES, *others]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://")):
                found += 1
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"
    assert found > 30


def test_files_that_are_named_exist() -> None:
    """A path in code marks that begins with a folder of the repository or of the package. Runs are yet to be made, and
    a run file that ships goes by short name."""
    package, unmade = ROOT / "specbench_s2d", ("results/runs", "results/baselines/gpu", *run_files())
    missing, found = [], 0
    for page, text in TEXTS.items():
        for path in re.findall(r"`([\w.-]+(?:/[\w.-]+)+/?)`", text):
            roots = [root for root in (ROOT, package) if (root / path.partition("/")[0]).is_dir()]
            if roots and not path.startswith(unmade):
                found += 1
                missing += [] if any((root / path).exists() for root in roots) else [f"{page}: {path}"]
    assert found > 100 and not missing


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page, text in TEXTS.items():
        named = set(re.findall(r"(?:^|`)make ([a-z0-9]+)", text, re.MULTILINE))
        assert named <= targets, f"{page}: {named - targets}"


def first_cells(section: str) -> set[str]:
    """The names in the first column of the tables of a section of docs/formats.md."""
    text = TEXTS["docs/formats.md"].split(f"\n## {section}\n")[1].split("\n## ")[0]
    return {name for cell in re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)}


OLDER_FACTS = ("read_rate_bytes_per_s", "copy_rate_bytes_per_s", "rate_buffer_bytes")
"""Of manifests that are read still and no longer written."""


def test_the_formats_page_names_every_field() -> None:
    assert first_cells("records.jsonl") == set(Record.model_fields)
    manifest = json.loads((DEMO_RUN / "manifest.json").read_text(encoding="utf-8"))
    assert first_cells("manifest.json") == set(manifest) | {"idle_power_w", "idle_power", "dtype", *OLDER_FACTS}
    [block] = re.findall(r"\nOne block: (.*?\.)\n\n", TEXTS["docs/formats.md"], re.DOTALL)
    assert set(re.findall(r"`(\w+)`", block)) == set(EnergyBlock.model_fields)


def test_the_readme_says_who_is_faster() -> None:
    """The sentences below its table hold for the committed run, by their intervals."""
    assert "**Speculation pays, and what costs nothing to draft pays most**" in README
    rows = re.findall(r"^\| .*?\(`(.+?)`\) \| ([\d.]+) \[([\d.]+)–([\d.]+)\]", README, re.MULTILINE)
    speeds = {label.replace("\\|", "|"): tuple(map(float, row)) for label, *row in rows}
    low = {label: low for label, (_, low, _) in speeds.items()}
    high = {label: high for label, (_, _, high) in speeds.items()}
    best = max(speeds, key=lambda label: speeds[label][0])
    assert best.startswith("first(suffix|sd")
    assert all(low[label] > 1 for label in ("lookup", "suffix", "recycling:tokens=8", best))
    even = ("s2d-auto:draft_vocabulary=4096", "eagle:gamma=2,draft_vocabulary=4096")
    assert all(low[label] < 1 < high[label] for label in even)
    papers = [label for label in speeds if label.startswith(("s2d:", "sd:draft_vocabulary"))]
    assert len(papers) == 2 and all(high[label] < 1 for label in papers)
