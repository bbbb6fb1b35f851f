"""Write the generated parts of README.md and docs/: the tables and lists that the program itself knows.

    python docs/generate.py            # write all of them anew; `make docs` does
    python docs/generate.py --check    # write nothing; exit 1 and name the documents that are out of date

A generated part stands between `<!-- begin:NAME -->` and `<!-- end:NAME -->`; NAME is one of `PARTS`, or
`modules:FOLDER` for the modules of one folder of the package.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer.main

from generated import benchmarks, runs
from generated.text import ROOT, table
from specbench_s2d import suites
from specbench_s2d.analysis.tables.summary_text import definition_list
from specbench_s2d.cli.help import plain_record, usage
from specbench_s2d.cli.main import app
from specbench_s2d.config import RunSpec
from specbench_s2d.decoding.spec import describe_decoders
from specbench_s2d.models.demo import demo_models
from specbench_s2d.models.shapes import shape_rows
from specbench_s2d.suites import load_suite

PACKAGE = ROOT / "specbench_s2d"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLUGIN = ROOT / "docs" / "plugin"


def commands() -> dict[str, Any]:
    """Every command by what a person types, `train sft` included."""
    root: Any = typer.main.get_command(app)
    found: dict[str, Any] = {}
    for name, command in root.commands.items():
        own = {"": command} if getattr(command, "invoke_without_command", True) else {}
        for inner, sub in {**own, **getattr(command, "commands", {})}.items():
            found[f"{name} {inner}".strip()] = sub
    return found


def command_list() -> str:
    """One line a command."""
    return table(["command", "what it does"], ([f"`{name}`", _first_line(c.help)] for name, c in commands().items()))


def command_pages() -> str:
    """Every command with its help and its flags, as `--help` has them."""
    return "\n\n".join(_command_page(name, command) for name, command in commands().items())


def _command_page(name: str, command: Any) -> str:
    context = command.make_context(f"specbench-s2d {name}", [], resilient_parsing=True)
    line = f"{context.info_name} {usage(command, context)}"
    records = [parameter.get_help_record(context) for parameter in command.params if parameter.name != "help"]
    flags = [[f"`{flag}`", " ".join(meaning.split())] for flag, meaning in map(plain_record, filter(None, records))]
    paragraphs = [" ".join(part.split()) for part in (command.help or "").split("\n\n")]
    return "\n\n".join([f"## {name}", f"`{line}`", *paragraphs, table(["flag", "meaning"], flags)])


def run_fields() -> str:
    """The fields of a run file."""
    fields = RunSpec.model_fields.items()
    rows = ([f"`{name}`", _default(field.default), field.description or ""] for name, field in fields)
    return table(["field", "default", "meaning"], rows)


def _default(value: Any) -> str:
    if value in (None, [], ()):
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def decoder_table(kind: str) -> str:
    """Decoders, drafters or verifiers with their options."""
    rows = [row for row in describe_decoders() if row["kind"] == kind]
    shown = [name for name in ("output", "draft") if any(row[name] for row in rows)]
    body = ([f"`{r['name']}`", r["what"], *(r[n] or "–" for n in shown), f"`{r['options']}`"] for r in rows)
    return table([kind, "what it does", *shown, "options=defaults, a name alone where there is none"], body)


def suite_table() -> str:
    """The suites: whose questions, in which categories, scored how."""
    rows = []
    for name in suites.definitions.paths():
        suite = load_suite(name)
        about = suite.definition
        categories = ", ".join(f"`{category}`" for category in about.categories)
        counts = f"{len(suite.questions)} + {about.spec_bench_questions}"
        rows.append([f"`{name}`", categories, ", ".join(about.quality.metrics) or "none", counts, about.source])
    return table(["suite", "categories", "scored by", "questions, embedded + Spec-Bench's", "source"], rows)


def model_table() -> str:
    """The demo family, by its own training logs."""
    rows = (
        [
            f"`{m['name']}`",
            str(m["layers"]),
            str(m["width"]),
            f"{m['parameters'] / 1e6:.2f} M",
            f"{m['tokens'] / 1e6:.1f} M",
            f"{m['held_out_perplexity']:.2f}",
            m["base"],
        ]
        for m in demo_models()
    )
    header = ["model", "layers", "width", "parameters", "tokens seen", "held-out perplexity of answers", "made from"]
    return table(header, rows)


def shape_table() -> str:
    """The architectures that can be timed with random weights."""
    rows = (
        [
            f"`{s['name']}`",
            str(s["layers"]),
            f"{s['width']:,}",
            f"{s['vocab']:,}",
            f"{s['context']:,}",
            f"{s['parameters_m']:,.1f} M",
            ", ".join(map(str, s["exits"] or ())) or "–",
        ]
        for s in shape_rows()
    )
    return table(["name", "layers", "width", "vocabulary", "context", "parameters", "exits"], rows)


def plugin_file(name: str) -> str:
    """A file of the plug-in package, as a code block."""
    text = (PLUGIN / name).read_text(encoding="utf-8")
    return f"```{'py' if name.endswith('.py') else 'toml'}\n{text}```"


def layers() -> str:
    """The layers of the package, from the top down, as the import contract has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    contract = next(one for one in settings["contracts"] if one["type"] == "layers")
    listed = (", ".join(f"`{part.strip()}`" for part in re.split(r"[|:]", layer)) for layer in contract["layers"])
    return "\n".join(f"{number}. {names}" for number, names in enumerate(listed, start=1))


def modules(folder: str) -> str:
    """The modules of one folder of the package, each with the first sentence of its docstring."""
    return "\n".join(f"- `{path.relative_to(PACKAGE).as_posix()}`: {_summary(path)}" for path in _modules(folder))


def folders() -> list[str]:
    """Every folder of the package that holds modules; `.` is the package itself."""
    found = sorted({path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")})
    return [folder for folder in found if _modules(folder)]


def _modules(folder: str) -> list[Path]:
    """All but packages that say nothing."""
    files = sorted((PACKAGE / folder).glob("*.py"))
    return [path for path in files if path.name != "__init__.py" or path.stat().st_size]


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _summary(path: Path) -> str:
    """The first sentence of a module's docstring."""
    paragraph = _first_line(_docstring(path))
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`])", paragraph)[0]


def _first_line(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())


PARTS: dict[str, Callable[[], str]] = {
    "joint-decoding": runs.joint_tables,
    "coverage": benchmarks.coverage_table,
    "leaderboard-methods": benchmarks.leaderboard_methods,
    "gate-power": benchmarks.gate_power_table,
    "gate-real": benchmarks.gate_real_table,
    "draft-vocabulary": benchmarks.draft_vocabulary_table,
    "drafting": benchmarks.drafting_table,
    "demo-table": runs.demo_table,
    "smollm2-table": runs.smollm2_table,
    "command-list": command_list,
    "commands": command_pages,
    "run-fields": run_fields,
    "decoders": lambda: decoder_table("decoder"),
    "drafters": lambda: decoder_table("drafter"),
    "verifiers": lambda: decoder_table("verifier"),
    "suites": suite_table,
    "models": model_table,
    "shapes": shape_table,
    "definitions": definition_list,
    "layers": layers,
    **{f"plugin:{name}": lambda name=name: plugin_file(name) for name in ("pyproject.toml", "specbench_bigram.py")},
    **{f"modules:{folder}": lambda folder=folder: modules(folder) for folder in folders()},
}
_MARKED = re.compile(r"(<!-- begin:(\S+) -->\n).*?(<!-- end:\2 -->)", re.DOTALL)


def fill(text: str) -> str:
    """`text` with every generated part as it must be; raises `ValueError` for a part that there is not."""
    unknown = [name for name in parts_in(text) if name not in PARTS]
    if unknown:
        raise ValueError(f"no generated part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return _MARKED.sub(lambda match: f"{match[1]}\n{PARTS[match[2]]()}\n\n{match[3]}", text)


def parts_in(text: str) -> list[str]:
    """The names of the generated parts that a document has."""
    return [match[2] for match in _MARKED.finditer(text)]


def main(check: bool) -> int:
    """Write the documents, or with `check` only name those that are out of date; the exit code."""
    texts = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}
    stale = {path: new for path, text in texts.items() if (new := fill(text)) != text}
    for path, text in stale.items():
        sys.stdout.write(f"{path.relative_to(ROOT)}: {'out of date; run make docs' if check else 'written'}\n")
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
