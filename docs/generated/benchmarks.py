"""Parts that tell what the scripts of `benchmarks/` measured, and what the leaderboard published."""

from __future__ import annotations

import json
from typing import Any

from generated.runs import drafting_in_the_loop
from generated.text import ROOT, table
from specbench_s2d.analysis.compare.rank_correlation import rank_correlation
from specbench_s2d.paper_names import ANY, paper_methods
from specbench_s2d.published import published


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
    found, in_loop = _measured("drafting"), drafting_in_the_loop()
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
