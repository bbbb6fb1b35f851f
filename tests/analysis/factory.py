"""A run small enough to work out on paper: one target, one suite, two questions (or copies of them), AR and SD.

        new  retokenized  prefill_s  decode_s  total_s  nll_sum   steps: drafted / accepted / emitted
ar  q1    5            4          1         4        5        3   4 steps of 0 / 0 / 1
ar  q2    9            9          2        16       18        4   8 steps of 0 / 0 / 1
sd  q1    5            5          1         2        3        4   5 5 1 / 1 0 0 / 2 1 1
sd  q2    9            9          2         2        4       10   5 5   / 5 3   / 6 2 (cut at the limit)
"""

from __future__ import annotations

from typing import Any

from specbench_s2d.runs.record import Record


def make_record(label: str = "ar", question_id: int | str = 1, **fields: Any) -> Record:
    """A finished record; every field may be set."""
    suite, target = fields.get("suite", "qa"), fields.get("target", "t")
    where = (target, label, suite, question_id, fields.get("turn", 1), fields.get("repeat", 0))
    base: dict[str, Any] = {
        "run_id": "r",
        "key": "/".join(map(str, where)),
        "status": "ok",
        "target": target,
        "decoder": label.partition(":")[0],
        "label": label,
        "decoder_options": {},
        "lossy": label.startswith("mj"),
        "suite": suite,
        "category": suite,
        "question_id": question_id,
        "turn": 1,
        "repeat": 0,
        "seed": 0,
    }
    return Record.model_validate({**base, **fields})


def decoded(
    label: str,
    question_id: int | str,
    steps: list[tuple[int, int, int]],
    *,
    decode_s: float,
    prefill_s: float = 1.0,
    **fields: Any,
) -> Record:
    """A finished record of Steps (drafted, accepted, emitted); token counts and totals follow from them."""
    drafted, accepted, emitted = ([step[i] for step in steps] for i in range(3))
    return make_record(
        label,
        question_id,
        **{
            "prompt_tokens": 10,
            "new_tokens": 1 + sum(emitted),
            "retokenized_tokens": 1 + sum(emitted),
            "stop": "length",
            "prefill_s": prefill_s,
            "decode_s": decode_s,
            "total_s": prefill_s + decode_s,
            "target_passes": len(steps),
            "drafted": sum(drafted),
            "accepted": sum(accepted),
            "drafted_per_step": drafted,
            "accepted_per_step": accepted,
            "emitted_per_step": emitted,
            **fields,
        },
    )


def ar(question_id: int | str, tokens: int, *, decode_s: float, **fields: Any) -> Record:
    """AR's record of `tokens` new tokens: the prefill's, then one a Step."""
    return decoded("ar", question_id, [(0, 0, 1)] * (tokens - 1), decode_s=decode_s, **fields)


def paper_run(copies: int = 1) -> list[Record]:
    """The run of the table above: two questions, too few for an interval. Of three copies, questions 3 and 5 are like
    question 1, and 4 and 6 like question 2: values stay, and have intervals."""
    return [
        record
        for odd, even in ((2 * i + 1, 2 * i + 2) for i in range(copies))
        for record in (
            ar(odd, 5, decode_s=4, prefill_s=1, retokenized_tokens=4, nll_sum=3),
            decoded("sd", odd, [(5, 1, 2), (5, 0, 1), (1, 0, 1)], decode_s=2, prefill_s=1, nll_sum=4),
            decoded("sd", even, [(5, 5, 6), (5, 3, 2)], decode_s=2, prefill_s=2, nll_sum=10),
            ar(even, 9, decode_s=16, prefill_s=2, nll_sum=4),
        )
    ]


def of(label: str, records: list[Record]) -> list[Record]:
    return [r for r in records if r.label == label]
