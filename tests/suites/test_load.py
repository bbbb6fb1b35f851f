"""Question files: what is read, in which order, which suite a question goes to, and what each bad input is told."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.errors import UserError
from specbench_s2d.resources import SUITES
from specbench_s2d.suites import Question, QuestionSet, load_questions, load_suite, questions_hash
from tests.suites.files import GOOD, refusal, write

HASH_OF_GOOD = "e65e0d9e24eb764193a03881589f25d2fdd3dd7e43cf38893ddd6f147ebd0930"


# Question files that can be used


def test_questions_come_by_suite_in_the_order_asked_and_in_file_order_inside(tmp_path: Path) -> None:
    rows = [("b", "qa"), ("a", "qa"), (7, "rag"), (3, "writing"), ("c", "qa"), (1, "coding")]
    source = write(tmp_path / "q.jsonl", *({**GOOD, "question_id": i, "category": c} for i, c in rows))
    found = load_questions(source, ["rag", "qa", "mt_bench", "qa"])
    assert [q.id for q in found] == [7, "b", "a", "c", 3, 1]
    assert [q.id for q in load_questions(source, ["qa", "mt_bench"], limit=2)] == ["b", "a", 3, 1]
    assert found.source == "q.jsonl"
    assert len(found) == 6


def counts(found: QuestionSet) -> dict[str, int]:
    return {name: len(part) for name, part in found.by_suite.items()}


def test_without_suites_those_of_the_file_are_asked_the_six_first(tmp_path: Path) -> None:
    rows = [("b", "code"), ("a", "rag"), (7, "qa"), (3, "code"), (1, "a b/c")]
    source = write(tmp_path / "q.jsonl", *({**GOOD, "question_id": i, "category": c} for i, c in rows))
    found = load_questions(source)
    assert list(counts(found).items()) == [("qa", 1), ("rag", 1), ("custom/code", 2), ("custom/a_b_c", 1)]
    assert found.said == ["q.jsonl: questions by suite: 1 qa, 1 rag, 2 custom/code, 1 custom/a_b_c"]
    assert [q.category for q in found] == ["qa", "rag", "code", "code", "a b/c"]
    some = load_questions(source, ["custom/code"], limit=1)
    assert [q.id for q in some] == ["b"]
    assert some.said == ["q.jsonl: questions by suite: 1 custom/code; not asked for: 1 qa, 1 rag, 1 custom/a_b_c"]
    assert load_questions(source, list(found.by_suite)).by_suite == found.by_suite
    assert load_questions("embedded", ["qa"]).said == []


# EAGLE's and DeepSpec's files


def test_a_row_without_a_category_belongs_to_a_suite_named_after_the_file(tmp_path: Path) -> None:
    rows = [{"turns": ["What is best?"]}, {"turns": ["And then?"], "category": " "}]
    first, second = load_questions(write(tmp_path / "alpaca.v2.jsonl", *rows))
    assert first == Question(1, "custom/alpaca.v2", "alpaca.v2", ("What is best?",))
    assert (second.id, second.suite) == (2, "custom/alpaca.v2")


def test_a_files_name_is_no_claim_to_a_suite_unless_that_is_asked_for(tmp_path: Path) -> None:
    source = write(tmp_path / "qa.jsonl", {"turns": ["Who?"], "reference": "Ada"})
    assert counts(load_questions(source)) == {"custom/qa": 1}
    assert counts(load_questions(source, ["qa"])) == {"qa": 1}
    mixed = write(tmp_path / "rag.jsonl", {"turns": ["Who?"]}, {**GOOD, "question_id": "x", "category": "rag"})
    assert counts(load_questions(mixed)) == {"rag": 2}


@pytest.mark.parametrize(
    ("turns", "suites"),
    [
        ({"math": 1}, {"custom/math": 1}),  # EAGLE's gsm8k
        ({"math": 2, "writing": 2}, {"mt_bench": 2}),
        ({"math": 2, "writing": 1, "qa": 1}, {"qa": 1, "custom/math": 1, "custom/writing": 1}),
    ],
)
def test_mt_bench_has_the_questions_of_two_turns_and_no_others(
    tmp_path: Path, turns: dict[str, int], suites: dict[str, int]
) -> None:
    rows = [{"question_id": c, "category": c, "turns": ["Who?"] * n} for c, n in turns.items()]
    source = write(tmp_path / "q.jsonl", *rows)
    assert counts(load_questions(source)) == suites
    assert load_questions(source, list(suites)).by_suite == load_questions(source).by_suite
    assert counts(load_questions(source, ["mt_bench"])) == {"mt_bench": sum(c != "qa" for c in turns)}
    with pytest.raises(UserError, match="'custom/math' and 'mt_bench' both take category 'math'"):
        load_questions(source, ["custom/math", "mt_bench"])


def test_a_system_prompt_or_a_metric_changes_the_hash_and_nothing_else_does(tmp_path: Path) -> None:
    """The first hash was computed by release 0.1.0."""
    plain = load_questions(write(tmp_path / "q.jsonl", GOOD))
    assert plain.hashes["qa"] == HASH_OF_GOOD
    hashes = {plain.hashes["qa"]}
    for change in ({"system_prompt": "Be brief."}, {"metric": "rouge_l"}, {"metric": ["f1"], "system_prompt": "x"}):
        changed = load_questions(write(tmp_path / "q.jsonl", {**GOOD, **change}))
        hashes.add(changed.hashes["qa"])
        assert (changed.questions[0].system_prompt, changed.questions[0].metrics) == (
            change.get("system_prompt"),
            ("rouge_l",) if change.get("metric") == "rouge_l" else tuple(change.get("metric", ())),
        )
    assert len(hashes) == 4


def test_given_answers_are_said_not_to_be_replayed(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert "are not replayed" in load_questions(write(tmp_path / "q.jsonl", {"messages": talk})).said[1]
    assert len(load_questions(write(tmp_path / "q.jsonl", {"messages": talk[:1]})).said) == 1


def test_a_question_keeps_what_the_file_gives(tmp_path: Path) -> None:
    rows = [
        {**GOOD, "turns": [" Wer?\r\n", "Ä\u2028B"], "reference": None, "model": "x"},
        {**GOOD, "question_id": 2, "turns": ["One?", "Two?"], "reference": [["a", "b"], ["c"]]},
    ]
    first, second = load_questions(write(tmp_path / "q.jsonl", *rows), ["qa"])
    assert first == Question(1, "qa", "qa", (" Wer?\r\n", "Ä\u2028B"), None)
    assert second.reference == (("a", "b"), ("c",))


def test_windows_line_ends_and_blank_lines_are_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(b"\r\n" + json.dumps(GOOD).encode() + b"\r\n\r\n")
    assert [q.id for q in load_questions(str(path), ["qa"])] == [1]


@pytest.mark.parametrize(
    ("turns", "reference", "answers"),
    [
        (1, None, [()]),
        (1, ("a", "b"), [("a", "b")]),
        (1, (("a", "b"),), [("a", "b")]),
        (2, ("a", "b"), [("a",), ("b",)]),
        (2, ("a", ""), [("a",), ()]),
        (2, (("a", "b"),), [("a", "b"), ()]),
        (2, None, [(), ()]),
    ],
)
def test_reference_answers_belong_to_turns(turns: int, reference: Any, answers: list[tuple[str, ...]]) -> None:
    question = Question(1, "qa", "qa", ("Who?",) * turns, reference)
    assert [question.answers(turn) for turn in range(turns)] == answers


def test_the_hash_of_questions_sees_content_and_order_not_layout(tmp_path: Path) -> None:
    second = {**GOOD, "question_id": 2}
    spaced = tmp_path / "spaced.jsonl"
    spaced.write_text("\n" + json.dumps(GOOD, indent=None, separators=(" , ", " : ")) + "\n" + json.dumps(second))
    plain = load_questions(write(tmp_path / "a.jsonl", GOOD, second), ["qa"])
    assert plain.hashes == load_questions(str(spaced), ["qa"]).hashes
    assert plain.hashes["qa"] == questions_hash(plain) != questions_hash(reversed(plain.questions))
    assert plain.hashes != load_questions(str(spaced), ["qa"], limit=1).hashes
    for key, value in {"question_id": 9, "turns": ["What?"], "reference": ["Eve"]}.items():
        changed = load_questions(write(tmp_path / "b.jsonl", {**GOOD, key: value}, second), ["qa"])
        assert changed.hashes != plain.hashes, key


# Spec-Bench's own file


@pytest.mark.data
def test_spec_bench_is_recognised_and_maps_to_eighty_questions_per_suite(spec_bench_file: Path) -> None:
    found = load_questions(str(spec_bench_file), SUITES)
    assert found.source == "spec-bench"
    assert {name: len(part) for name, part in found.by_suite.items()} == dict.fromkeys(SUITES, 80)
    assert len({q.id for q in found}) == 480
    assert Counter(q.category for q in found.by_suite["mt_bench"]) == dict.fromkeys(
        load_suite("mt_bench").definition.categories, 10
    )
    assert all(len(q.turns) == (2 if q.suite == "mt_bench" else 1) for q in found)
    scored = {name for name in SUITES if any(q.answers() for q in found.by_suite[name])}
    assert scored == set(SUITES) - {"qa"}
    assert found.by_suite["rag"][1].answers() == ("James Ray", "George Harrison")


@pytest.mark.data
def test_a_changed_spec_bench_file_is_no_longer_called_so(spec_bench_file: Path, tmp_path: Path) -> None:
    changed = tmp_path / "question.jsonl"
    changed.write_bytes(spec_bench_file.read_bytes() + b"\n")
    assert load_questions(str(changed), ["qa"]).source == "question.jsonl"


@pytest.mark.data
def test_no_embedded_question_is_one_of_spec_benchs(spec_bench_file: Path) -> None:
    theirs = {turn for q in load_questions(str(spec_bench_file), SUITES) for turn in q.turns}
    assert not theirs & {turn for q in load_questions("embedded", SUITES) for turn in q.turns}


# Question files that cannot be used


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"question_id": 1', "not a JSON object (Expecting"),
        (b"hello\rthere", r"not a JSON object (Expecting value: line 1 column 1 (char 0)), got 'hello\rthere'."),
        (b"[1, 2]", "expected one JSON object per line, got '[1, 2]'."),
        (b"null", "expected one JSON object per line, got 'null'."),
        (b"[" * 100_000, "not a JSON object (maximum recursion depth"),
        (b'{"question_id": ' + b"1" * 5000 + b"}", "not a JSON object (Exceeds the limit"),
        ('{"turns": ["Größe"]}'.encode("latin-1"), "not UTF-8 text (invalid"),
        (b'{"question_id": 1, "category": "qa", "turns": ["\\ud83d"]}', "not UTF-8 text (surrogates not allowed)"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(json.dumps({**GOOD, "question_id": 0}).encode() + b"\n\n" + line + b"\n")
    assert refusal(str(path)).startswith(f"{path}:3: {said}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"question_id": True}, "'question_id' must be a whole number or a text of 1 to 200 characters, got 'true'."),
        ({"question_id": 1.5}, "'question_id' must be a whole number or a text of 1 to 200 characters, got '1.5'."),
        ({"question_id": ""}, "'question_id' must be a whole number or a text"),
        ({"question_id": "x" * 201}, "'question_id' must be a whole number or a text"),
        ({"question_id": [1]}, "'question_id' must be a whole number or a text"),
        ({"category": 3}, "'category' must be a text of at most 200 characters, got '3'."),
        ({"category": ["qa"]}, "'category' must be a text"),
        ({"category": "x" * 10**6}, "'category' must be a text of at most 200 characters"),
        ({"system_prompt": ["Be brief."]}, "'system_prompt' must be a text"),
        ({"metric": 3}, "'metric' must be the name of a metric, or a list of names, got '3'."),
        ({"turns": "Who?"}, "'turns' must be a list of one or more texts, none of them empty, got '\"Who?\"'."),
        ({"turns": []}, "'turns' must be a list of one or more texts, none of them empty, got '[]'."),
        ({"turns": ["Who?", 2]}, "'turns' must be a list of one or more texts"),
        ({"turns": ["Who?", " \n"]}, "'turns' must be a list of one or more texts"),
        ({"turns": {"0": "Who?"}}, "'turns' must be a list of one or more texts"),
        ({"reference": 4}, "'reference' must be a text, a list of texts, or a list of such lists, got '4'."),
        ({"reference": ["Ada", 4]}, "'reference' must be a text, a list of texts"),
        ({"reference": [["Ada"], ["Eve"]]}, "'reference' must be one list of answers per turn (1)"),
        ({"reference": ["Ada", ["Eve"]]}, "'reference' must be a text, a list of texts"),
        ({"reference": [[["Ada"]]]}, "'reference' must be a text, a list of texts"),
        ({"turns": ["y" * 5_000_001]}, "'turns' holds a text of 5,000,001 characters; at most 5,000,000 can be asked."),
        ({"question_id": "x" * 99, "turns": ["y" * 999, None]}, "'turns' must be a list of one or more texts"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    source = write(tmp_path / "q.jsonl", {**GOOD, "question_id": 0}, {**GOOD, **change})
    message = refusal(source)
    assert message.startswith(f"{source}:2: {said}")
    assert len(message) < len(source) + 400


def test_missing_keys_are_named(tmp_path: Path) -> None:
    source = write(tmp_path / "q.jsonl", {"category": "qa", "question": "Who?"})
    assert refusal(source) == (
        f"{source}:1: no 'turns', 'messages' or 'conversations'; name the column that holds the prompt with --column "
        "NAME. There are 'category', 'question'."
    )


@pytest.mark.parametrize("second", [1, "1"])
def test_a_question_id_is_used_once(tmp_path: Path, second: int | str) -> None:
    source = write(tmp_path / "q.jsonl", GOOD, {**GOOD, "question_id": second, "category": "rag"})
    assert refusal(source) == f"{source}:2: question_id {second!r} is already used in line 1."


def test_a_mistake_counts_even_in_a_suite_that_was_not_asked_for(tmp_path: Path) -> None:
    source = write(tmp_path / "q.jsonl", GOOD, {**GOOD, "question_id": 2, "category": "rag", "turns": []})
    assert refusal(source).startswith(f"{source}:2: 'turns'")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", ": empty; expected questions, one a row."),
        (b"\n \r\n", ": empty; expected questions, one a row."),
        (json.dumps(GOOD).encode("utf-16"), ": UTF-16 text; save the file as UTF-8. Question files are JSON Lines"),
        (b"\x80" + json.dumps(GOOD).encode(), ":1: not UTF-8 text (invalid start byte)"),
        (b"\x1f\x8b\x08\x00" + bytes(range(128, 200)), ": a damaged gzip file ("),
        (b"PK\x03\x04" + bytes(26) + b"xl/workbook.xml", ": an Excel workbook; save the sheet as CSV UTF-8."),
        (b"PK\x03\x04" + bytes(26) + b"q.jsonl", ": a ZIP archive; give the file inside it."),
        (b"BZh91AY", ": compressed by bzip2; unpack it with bunzip2."),
        (b"%PDF-1.7", ": a PDF; give the questions as JSON Lines or CSV."),
    ],
)
def test_a_file_that_holds_no_questions(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(content)
    assert refusal(str(path)).startswith(f"{path}{said}")


@pytest.mark.parametrize("name", ["q.jsonl", "q.csv"])
def test_a_file_compressed_by_gzip_is_read_as_what_is_inside(tmp_path: Path, name: str) -> None:
    content = json.dumps(GOOD) if name == "q.jsonl" else "question_id,turns\n1,Who?\n"
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(content.encode()))
    (plain := tmp_path / name).write_text(content)
    assert load_questions(str(packed)).questions == load_questions(str(plain)).questions


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    missing = str(tmp_path / "spec_bench.jsonl")
    assert refusal(missing) == (
        f"{missing}: no such file; give a question file (JSON Lines, JSON array, CSV, Parquet), hub:OWNER/NAME, "
        "'embedded' or 'spec-bench'."
    )
    assert refusal(str(tmp_path)) == f"{tmp_path}: a folder; give the question file inside it."
    assert "cannot be read (File name too long); give a shorter name." in refusal(str(tmp_path / ("x" * 300)))
    assert "the question file cannot be read" in refusal("a\0b")


def test_a_file_that_cannot_be_read_is_refused() -> None:
    memory = "/proc/self/mem"  # a file to the system, whose first byte nobody may read
    assert refusal(memory).startswith(f"{memory}: the question file cannot be read (Input/output error); look at")


def test_a_suite_that_the_file_lacks_is_an_error_not_an_empty_run(tmp_path: Path) -> None:
    source = write(tmp_path / "q.jsonl", GOOD)
    assert refusal(source, "rag").startswith(f"{source}: no questions of suite 'rag'; it has qa.")
    assert refusal(source, "custom/code").startswith(f"{source}: no questions of suite 'custom/code'; it has qa.")


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_at_least_one(limit: int) -> None:
    with pytest.raises(UserError, match=f"limit {limit}: give a whole number"):
        load_questions("embedded", ["qa"], limit=limit)
