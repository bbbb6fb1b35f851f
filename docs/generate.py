"""Write the generated parts of README.md and docs/: the tables and lists that the program itself knows.

    python docs/generate.py            # write all of them anew; `make docs` does
    python docs/generate.py --check    # write nothing; exit 1 and name the documents that are out of date

A generated part stands between `<!-- begin:NAME -->` and `<!-- end:NAME -->`; NAME is one of `PARTS`, or
`modules:FOLDER` for the modules of one folder of the package.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import typer.main

from specbench_s2d import suites
from specbench_s2d.analysis.compare.decoders import compare_decoders
from specbench_s2d.analysis.compare.rank_correlation import rank_correlation
from specbench_s2d.analysis.metrics.breakdown import breakdown
from specbench_s2d.analysis.metrics.columns import QUALITY, REPETITION, Column, columns_of
from specbench_s2d.analysis.metrics.pairs import pair
from specbench_s2d.analysis.report.write import read_run
from specbench_s2d.analysis.tables.summary import MEAN_TARGET, OVERALL, summary_table
from specbench_s2d.analysis.tables.summary_text import definition_list
from specbench_s2d.analysis.tables.text import number
from specbench_s2d.cli.help import plain_record, usage
from specbench_s2d.cli.main import app
from specbench_s2d.config import RunSpec
from specbench_s2d.decoding.spec import describe_decoders
from specbench_s2d.models.demo import demo_models
from specbench_s2d.models.shapes import shape_rows
from specbench_s2d.paper_names import ANY, paper_methods
from specbench_s2d.published import published
from specbench_s2d.runs.record import BASELINE, Record
from specbench_s2d.suites import load_suite

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "specbench_s2d"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLUGIN = ROOT / "docs" / "plugin"
SMOLLM2_RUN = ROOT / "results" / "benchmarks" / "smollm2"
DEMO_RUN = ROOT / "results" / "baselines" / "demo"
JOINT_RUNS = [ROOT / "results" / "benchmarks" / name for name in ("smollm2_mjsd", "smollm2_mjsd_64")]
METHODS = {
    "ar": "AR, the reference",
    "sd": "vanilla speculative decoding",
    "lookup": "prompt lookup",
    "suffix": "suffix lookup",
    "s2d": "S2D",
    "mjgd": "MJGD",
    "mjsd": "MJSD",
}
NOT_IN_README = ("s2d-tree", "sd:gamma=2", "first(suffix|eagle", "mjsd:tau=0.9", "mjsd:draft")
"""How those of the run's labels begin that have no room there: the run's own page has them."""
TITLES = METHODS | {
    "recycling": "token recycling",
    "s2d-auto": "S2D by measured costs",
    "s2d-tree": "S2D, trees",
    "eagle": "EAGLE's head",
    "first": "suffix, else draft",
}


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    header = list(header)
    cells = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


def smollm2_table() -> str:
    """The committed run of SmolLM2 over all suites, but for `NOT_IN_README`, and how near AR was to the bound."""
    rows = [row for row in summary_table(read_run(SMOLLM2_RUN)).to_dict("records") if row["suite"] == OVERALL]
    [ar] = [row for row in rows if row["label"] == "ar"]
    said = (
        f"AR decoded {ar['tokens_per_s']:.0f} tokens/s, {ar['percent_of_bound']:.0f} % of the speed that memory allows."
    )
    shown = [row for row in rows if not row["label"].startswith(NOT_IN_README)]
    titled = (_demo_row(TITLES[re.split("[:(]", row["label"])[0]], row) for row in shown)
    return table(["method", "speed-up over AR [95 %]", "accepted", "output"], titled) + "\n\n" + said


def demo_table() -> str:
    """The committed demo run: the four methods, mean over its targets, and how near AR was to the bound."""
    overall = [row for row in summary_table(read_run(DEMO_RUN)).to_dict("records") if row["suite"] == OVERALL]
    mean = {row["label"]: row for row in overall if row["target"] == MEAN_TARGET}
    shares = [r["percent_of_bound"] for r in overall if r["label"] == "ar" and r["target"] != MEAN_TARGET]
    said = (
        f"AR reached {min(shares):.0f} to {max(shares):.0f} % of the speed that memory allows; the target pass in "
        f"which `sd` checks five tokens took {mean['sd']['verify_ratio']:.1f} times as long as an AR step."
    )
    header = ["method", "speed-up over AR [95 %]", "accepted tokens per step", "output"]
    return (
        table(header, (_demo_row(title, mean[label]) for label, title in METHODS.items() if label in mean))
        + "\n\n"
        + said
    )


def _demo_row(title: str, row: dict[Any, Any]) -> list[str]:
    speed = f"{row['speedup']:.2f}"
    if row["label"] != "ar":
        speed += f" [{row['speedup_low']:.2f}–{row['speedup_high']:.2f}]"
    return [f"{title} (`{row['label']}`)", speed, f"{row['mat']:.2f}", "lossy" if row["lossy"] else "lossless"]


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


def _measured(name: str) -> dict[str, Any]:
    """What a script of `benchmarks/` measured."""
    facts: dict[str, Any] = json.loads((ROOT / "results" / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))
    return facts


def coverage_table() -> str:
    """How many of the simulated intervals hold the true value, before and now."""
    header = ["lengths", "launches", "questions", "before", "now"]
    rows = _measured("coverage")["rows"]
    return table(header, ([r["lengths"], str(r["launches"]), str(r["questions"]), f"{r['percentile']:.3f}",
                           f"{r['jackknife']:.3f}"] for r in rows))  # fmt: skip


def gate_power_table() -> str:
    """What the gate does with simulated launches, three on each side, by tails and number of decoders."""
    header = ["decoders", "tails", "false alarms", "without its margin", "finds 10 %", "15 %", "20 %",
              "says it finds", "simulated"]  # fmt: skip
    rows = (r for r in _measured("gate_power")["rows"] if r["correlation"] == 0.8 and r["base"] == r["run"] == 3)
    return table(
        header,
        (
            [str(r["decoders"]), r["tails"], f"{r['false_alarms']:.3f}", f"{r['false_alarms_without_margin']:.3f}",
             *(f"{r[f'power_{by}_percent']:.2f}" for by in (10, 15, 20)),
             *(", ".join(f"{value:g}" for value in r[name]) + " %" for name in ("said_percent", "simulated_percent"))]
            for r in rows
        ),
    )  # fmt: skip


def gate_real_table() -> str:
    """What the gate does with launches of real runs."""
    found = _measured("gate")["unchanged"]
    said = (
        f"Of {found['pairs']} drawn from {found['runs']} runs of three launches, {found['false_alarms']} were called "
        f"regressed ({found['speedups_not_judged']} speed-ups in all were not judged, AR being at another pace). How "
        "often a slower decoder was found:"
    )
    shares = list(next(iter(found["power"].values())))
    rows = ([where, *(f"{of[by]:.2f}" for by in shares), f"{found['said_detectable_percent'][where]:g} %"]
            for where, of in found["power"].items())  # fmt: skip
    return f"{said}\n\n{table(['target, decoder', *(f'{by} slower' for by in shares), 'says it finds'], rows)}"


def leaderboard_methods() -> str:
    """The leaderboard's methods that a decoder of ours stands for, their settings, and what differs all the same."""
    rows = []
    for m in paper_methods("spec-bench"):
        must = ", ".join(f"`{name}`" if value == ANY else f"`{name}={value}`" for name, value in m.options.items())
        draft = f"a draft head (`{m.draft[5:]}`)" if m.draft.startswith("head:") else m.draft and f"draft `{m.draft}`"
        decoder = " with ".join(filter(None, (f"`{m.decoder}`", draft, must)))
        settings = ", ".join(f"`{name}={value}`" for name, value in m.settings.items())
        rows.append([m.method, decoder, settings, m.differs or "–"])
    header = ["leaderboard", "decoder", "settings of its row", "what its code does besides"]
    return f"{table(header, rows)}\n\n{_between_devices([row[0] for row in rows])}"


def _between_devices(methods: list[str]) -> str:
    """How alike the leaderboard's two devices order its methods: what another device alone may do."""
    values = published("spec-bench").query("target == 'vicuna-7b-v1.3' and suite == 'overall' and metric == 'speedup'")
    sides = values.pivot(index="method", columns="device", values="value")
    known = sides[sides.index.isin(methods)]
    every, ours = (rank_correlation(*(list(part[device]) for device in part)) for part in (sides, known))
    return (
        f"For scale: the leaderboard's own {' and '.join(sides)} order its {every.methods} methods on Vicuna 7B, over "
        f"all suites, with ρ = {every.rho:.2f}, and these {ours.methods} with ρ = {ours.rho:.2f} (p = {ours.p:.2f})."
    )


def drafting_table() -> str:
    """Prompt lookup beside transformers' own, and what drafting without a model costs."""
    found, in_loop = _measured("drafting"), _drafting_in_the_loop()
    peers, drafting, shares = found["peers"], found["costs"]["drafting"], found["costs"]["share_of_an_ar_step_at_2000"]
    steps, same = sum(peer["steps"] for peer in peers), sum(peer["drafts"]["same"] for peer in peers)
    others = sorted({why for peer in peers for why in peer["drafts"]} - {"same"})
    mats = ", ".join(f"{peer['mat']:.3f} and {peer['mat_transformers']:.3f} on {peer['target']}" for peer in peers)
    said = (
        f"`lookup` beside transformers' prompt lookup, after the same {peers[0]['questions']} prompts: {same:,} of "
        f"{steps:,} drafts are the same to the token; the others: {'; '.join(others) or 'none'}. Mean accepted tokens, "
        f"ours and theirs: {mats}. Drafting a step, alone (median, and mean with the index of new tokens) and in the "
        "loop of the demo run, on two CPU cores (`benchmarks/drafting.py`, `results/baselines/demo`):"
    )
    alone = {
        name: [f"{1e6 * s['median_s']:.0f} ({1e6 * s['mean_s']:.0f}) µs" for s in by_length.values()]
        for name, by_length in drafting.items()
    }
    rows = (
        [f"`{name}`", target, *alone[name], f"{100 * share:.1f} %", f"{100 * in_loop[target, name]:.1f} %"]
        for name, by_target in shares.items()
        for target, share in by_target.items()
    )
    lengths = (f"alone, {int(n):,} tokens" for n in drafting["lookup"])
    header = ["drafter", "target", *lengths, "of an AR step at 2,000 tokens", "in the loop, of an AR step"]
    index = found["suffix_index"]["questions"]
    kept = (
        f"The suffix index of {index['tokens']:,} tokens of questions keeps {index['bytes_per_token']:.0f} bytes a "
        f"token and takes {1e6 * index['s_per_token']:.1f} µs a token to build."
    )
    return f"{said}\n\n{table(header, rows)}\n\n{kept}"


def _drafting_in_the_loop() -> dict[tuple[str, str], float]:
    """Seconds of drafting a step in AR steps, by target and label, in the committed demo run."""
    by_lane: dict[tuple[str, str], list[Record]] = {}
    for record in read_run(DEMO_RUN):
        by_lane.setdefault((record.target, record.label), []).append(record)
    found = {lane: breakdown(pair(records, by_lane[lane[0], BASELINE]))[0] for lane, records in by_lane.items()}
    return {lane: parts.costs["draft"] for lane, parts in found.items() if parts}


def draft_vocabulary_table() -> str:
    """Exit checks, and S2D beside the best fixed exit, by the size of the draft's vocabulary."""
    found = _measured("draft_vocabulary")
    checks = {(check["ids"], check["cut"]): check["check_per_layer"] for check in found["checks"]}
    said = (
        f"S2D at the thresholds 0.5, 0.5, 0 with `{found['draft']}`, {found['questions']} questions, launches: "
        f"{found['launches']} (`benchmarks/draft_vocabulary.py`). An exit check is beside one layer; `inside` is the "
        "share of the target's own greedy tokens among the N ids; the best fixed exit is that of the full vocabulary, "
        "then that of the same N. With `all` the likeliest id is found outside the kernel."
    )
    header = ["target", "N", "check / layer", "inside", "MAT", "over AR", "over the best fixed exit", "of the same N"]
    rows = (
        [r["target"], f"{r['ids']:,}" if r["cut"] else "all", f"{checks[r['ids'], r['cut']]:.2f}",
         f"{100 * r['inside']:.1f} %", f"{r['mat']:.2f}",
         *(_with_interval(r[name]) for name in
           ("over_ar", "over_best_fixed_exit", "over_best_fixed_exit_same_ids"))]
        for r in found["rows"]
    )  # fmt: skip
    return f"{said}\n\n{table(header, rows)}"


def _with_interval(ratio: list[float | None]) -> str:
    """A value with its 95 % interval, if it has one."""
    value, low, high = ratio
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} [{low:.2f}–{high:.2f}]"


def joint_tables() -> str:
    """Text, task quality and repetition of the committed runs of joint decoding; nothing where there is none."""
    return "\n\n".join(joint_section(folder) for folder in JOINT_RUNS if folder.is_dir())


def joint_section(folder: Path) -> str:
    """Two tables of a run: AR's values, and the others' with their change (`compare --against ar`) and its 95 %
    interval."""
    records = read_run(folder)
    values, changes = (
        rows.query(f"suite == '{OVERALL}' and target != '{MEAN_TARGET}'")
        for rows in (summary_table(records), compare_decoders(records, BASELINE).table)
    )
    by_key = {(row["target"], row["label"]): row for row in changes.to_dict("records")}
    columns = [c for c in columns_of(values.columns) if values[c.name].notna().any()]
    text = [c for c in columns if c.name == "perplexity" or c in REPETITION]
    quality = [c for c in columns if c.name.startswith(QUALITY)]
    shown = [row for row in values.to_dict("records") if row["lossy"] or row["label"] == BASELINE]
    parts = [f"### {folder.name}"]
    for picked in filter(None, (text, quality)):
        rows = (
            [
                r["target"],
                f"`{r['label']}`",
                *(_changed(r, by_key.get((r["target"], r["label"]), {}), c) for c in picked),
            ]
            for r in shown
        )
        parts.append(table(["target", "decoder", *(c.heading for c in picked)], rows))
    return "\n\n".join(parts)


def _changed(row: dict[Any, Any], change: dict[Any, Any], column: Column) -> str:
    """A value, and in brackets the interval of its ratio (perplexity) or difference to AR's."""
    name, mark = (f"{column.name}_ratio", "×") if column.name == "perplexity" else (f"{column.name}_difference", "")
    moved, low, high = (change.get(f"{name}{end}") for end in ("", "_low", "_high"))
    text = number(row[column.name], column.digits)
    if moved is None or pd.isna(moved):
        return text
    digits = ".2f" if mark else f"+{column.digits}"
    ends = "" if pd.isna(low) else f" [{low:{digits}} to {high:{digits}}]"
    return f"{text} ({mark}{moved:{digits}}{ends})"


PARTS: dict[str, Callable[[], str]] = {
    "joint-decoding": joint_tables,
    "coverage": coverage_table,
    "leaderboard-methods": leaderboard_methods,
    "gate-power": gate_power_table,
    "gate-real": gate_real_table,
    "draft-vocabulary": draft_vocabulary_table,
    "drafting": drafting_table,
    "demo-table": demo_table,
    "smollm2-table": smollm2_table,
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
