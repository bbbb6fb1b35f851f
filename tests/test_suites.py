"""Suites and question files: what is read, in which order, and what each bad input is told."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from specbench_s2d.errors import QuestionFileError, UnknownNameError, UserError
from specbench_s2d.resources import SUITES, data_folder
from specbench_s2d.suites import (
    Question,
    load_questions,
    load_suite,
    questions_hash,
    read_definition,
    read_suite,
    suite_headings,
)
from tests.plugins import Plugins

QA = data_folder("suites") / "qa.toml"
GOOD = {"question_id": 1, "category": "qa", "turns": ["Who?"], "reference": ["Ada"]}


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def refusal(source: str, suite: str = "qa") -> str:
    """The message that a question file is refused with; always one line."""
    with pytest.raises(QuestionFileError) as caught:
        load_questions(source, [suite])
    message = str(caught.value)
    assert "\n" not in message
    return message


# Definitions and embedded questions


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_says_what_it_is_and_carries_eight_questions(name: str) -> None:
    suite = load_suite(name)
    about = suite.definition
    assert about.name == name
    assert about.version >= 1
    assert about.spec_bench_questions == 80
    assert "Spec-Bench" in about.source
    assert about.license
    assert about.quality.note
    assert bool(about.quality.metrics) == (name != "mt_bench")
    assert len(suite.questions) == 8
    assert [q.id for q in suite.questions] == [f"embedded-{name}-{i}" for i in range(1, 9)]
    assert {q.suite for q in suite.questions} == {name}
    assert {q.category for q in suite.questions} == set(about.categories)


def test_embedded_questions_are_in_the_manner_of_their_task() -> None:
    by_suite = load_questions("embedded", SUITES).by_suite
    assert all(len(q.turns) == 2 for q in by_suite["mt_bench"])
    assert all(len(q.turns) == 1 and q.answers() for name in SUITES[1:] for q in by_suite[name])
    assert all(q.turns[0].startswith("Translate German to English: ") for q in by_suite["translation"])
    articles = [q.turns[0].removeprefix("Summarize: ").split() for q in by_suite["summarization"]]
    assert all(60 <= len(article) <= 120 for article in articles)
    assert all(re.fullmatch(r"\d+", q.answers()[0]) for q in by_suite["math_reasoning"])


def test_every_embedded_rag_answer_follows_from_its_passages() -> None:
    follows = {"embedded-rag-8": "1987"}  # "a year later"
    for question in load_suite("rag").questions:
        *passages, asked = question.turns[0].split("\n")
        assert 2 <= len(passages) <= 3
        assert asked.endswith("?")
        stated = follows.get(str(question.id))
        wanted = [stated] if stated else question.answers()
        assert any(answer in passage for answer in wanted for passage in passages)


def test_the_embedded_arithmetic_is_right() -> None:
    right = [(4 * 12 - 9) // 3, (23 - 8 + 5) // 2, (4 * 6 + 3) * 14 - 78, 18 // 3 * 25, 18, 6 * 4]
    right += [160 - 15 - (15 + 20) - 2 * (15 + 20), 250 - 250 * 40 // 100 - 30]
    assert 18 + 6 == 2 * (18 // 3 + 6)
    assert [int(q.answers()[0]) for q in load_suite("math_reasoning").questions] == right


def test_an_unknown_suite_is_told_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown suite 'mtbench'\. Did you mean 'mt_bench'"):
        load_questions("embedded", ["mtbench"])


def test_the_hash_of_a_suite_follows_its_definition_and_its_questions(tmp_path: Path) -> None:
    original = QA.read_text(encoding="utf-8").replace("questions/qa.jsonl", "own.jsonl")

    def hash_of(name: str, change: tuple[str, str], question: str = "Who?") -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "qa.toml").write_text(original.replace(*change), encoding="utf-8")
        write(folder / "own.jsonl", {**GOOD, "turns": [question]})
        return read_suite(folder / "qa.toml").hash

    first = hash_of("first", ("", ""))
    assert first == hash_of("again", ("", ""))
    assert first == hash_of("heading", ('heading = "QA"', 'heading = "Questions"')), "a heading is no part of it"
    assert first != hash_of("version", ("version = 1", "version = 2"))
    assert first != hash_of("question", ("", ""), question="Whom?")


def test_tables_head_suites_as_their_definitions_say_and_others_by_name() -> None:
    found = {name: suite_headings(name) for name in (*SUITES, "poetry")}
    assert found["mt_bench"] == ("MT-bench", "MT")
    assert found["math_reasoning"] == ("Math", "Math")
    assert found["poetry"] == ("poetry", "poetry")
    assert len({short for _, short in found.values()}) == len(found)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version = 1", 'version = "one"', "version: "),
        ("version = 1", "version = 1\ncolour = 2", "colour: Extra inputs"),
        ('prompt = "turns"', 'prompt = "chat"', "prompt: "),
        ('title = "Question answering"', "", "title: Field required"),
        ("version = 1", "version =", "not a readable suite definition"),
    ],
)
def test_a_broken_definition_names_the_file_and_the_field(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "qa.toml"
    path.write_text(QA.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(f"{path}: {said}")):
        read_definition(path)


# Suites of other packages


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    return Plugins(tmp_path / "site", monkeypatch)


def test_another_package_adds_a_suite(plugins: Plugins, tmp_path: Path) -> None:
    plugins.add_suite("poetry", ["sonnet"])
    assert [q.suite for q in load_questions("embedded", ["poetry"])] == ["poetry"]
    source = write(tmp_path / "q.jsonl", GOOD, {**GOOD, "question_id": 2, "category": "sonnet"})
    assert [q.suite for q in load_questions(source, ["poetry", "qa"])] == ["poetry", "qa"]
    assert len(load_questions(source, ["qa"])) == 1  # its categories are known even where it is not asked for


def test_a_suite_may_carry_no_questions_of_its_own(plugins: Plugins, tmp_path: Path) -> None:
    plugins.add_suite("bare", ["bare"], questions=False)
    assert "no questions of suite 'bare'" in refusal("embedded", "bare")
    assert len(load_questions(write(tmp_path / "q.jsonl", {**GOOD, "category": "bare"}), ["bare"])) == 1


def test_two_suites_asked_for_cannot_share_a_category(plugins: Plugins, tmp_path: Path) -> None:
    plugins.add_suite("algebra", ["math"])
    source = write(tmp_path / "q.jsonl", {**GOOD, "category": "math"})
    assert [q.suite for q in load_questions(source, ["algebra"])] == ["algebra"]
    assert [q.suite for q in load_questions(source, ["mt_bench"])] == ["mt_bench"]
    with pytest.raises(UserError, match="'mt_bench' and 'algebra' both take category 'math'"):
        load_questions(source, ["mt_bench", "algebra"])


def test_a_wrongly_registered_suite_is_refused(plugins: Plugins) -> None:
    plugins.add_suite("verse", ["verse"], registered_as="poems")
    with pytest.raises(UserError, match=r"defines suite 'verse' but is registered as 'poems'"):
        load_suite("poems")
    plugins.register("suites", "odd", "specbench_s2d.suites:Question")
    with pytest.raises(UserError, match="expected the path of its TOML definition"):
        load_suite("odd")


# Question files that can be used


def test_questions_come_by_suite_in_the_order_asked_and_in_file_order_inside(tmp_path: Path) -> None:
    rows = [("b", "qa"), ("a", "qa"), (7, "rag"), (3, "writing"), ("c", "qa"), (1, "coding")]
    source = write(tmp_path / "q.jsonl", *({**GOOD, "question_id": i, "category": c} for i, c in rows))
    found = load_questions(source, ["rag", "qa", "mt_bench", "qa"])
    assert [q.id for q in found] == [7, "b", "a", "c", 3, 1]
    assert [q.id for q in load_questions(source, ["qa", "mt_bench"], limit=2)] == ["b", "a", 3, 1]
    assert found.source == "q.jsonl"
    assert len(found) == 6


def test_without_suites_every_suite_is_listed_even_with_no_questions(tmp_path: Path) -> None:
    found = load_questions(write(tmp_path / "q.jsonl", GOOD))
    assert {name: len(part) for name, part in found.by_suite.items()} == {name: int(name == "qa") for name in SUITES}


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
        ({"question_id": True}, "'question_id' must be a whole number or a text, got 'true'."),
        ({"question_id": 1.5}, "'question_id' must be a whole number or a text, got '1.5'."),
        ({"question_id": None}, "'question_id' must be a whole number or a text, got 'null'."),
        ({"question_id": ""}, "'question_id' must be a whole number or a text"),
        ({"category": 3}, "'category' must be a text, got '3'."),
        ({"category": ["qa"]}, "'category' must be a text"),
        ({"category": "codign"}, "unknown category 'codign'. Did you mean 'coding'"),
        ({"turns": "Who?"}, "'turns' must be a list of one or more texts, none of them empty, got '\"Who?\"'."),
        ({"turns": []}, "'turns' must be a list of one or more texts, none of them empty, got '[]'."),
        ({"turns": ["Who?", 2]}, "'turns' must be a list of one or more texts"),
        ({"turns": ["Who?", " \n"]}, "'turns' must be a list of one or more texts"),
        ({"turns": {"0": "Who?"}}, "'turns' must be a list of one or more texts"),
        ({"reference": "Ada"}, "'reference' must be a list of texts, or a list of such lists, got '\"Ada\"'."),
        ({"reference": ["Ada", 4]}, "'reference' must be a list of texts"),
        ({"reference": [["Ada"], ["Eve"]]}, "'reference' must be one list of answers per turn (1)"),
        ({"reference": ["Ada", ["Eve"]]}, "'reference' must be a list of texts"),
        ({"reference": [[["Ada"]]]}, "'reference' must be a list of texts"),
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
    assert refusal(source).startswith(f"{source}:1: no 'question_id' and no 'turns'; expected question_id, category")


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
        (b"", ": empty; expected one JSON question per line."),
        (b"\n \r\n", ": empty; expected one JSON question per line."),
        (b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), ":1: starts with a byte order mark"),
        (json.dumps(GOOD).encode("utf-16"), ":1: not UTF-8 text (invalid start byte)"),
        (b"\x1f\x8b\x08\x00" + bytes(range(128, 200)), ":1: not UTF-8 text"),
    ],
)
def test_a_file_that_holds_no_questions(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(content)
    assert refusal(str(path)).startswith(f"{path}{said}")


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    missing = str(tmp_path / "spec_bench.jsonl")
    assert refusal(missing) == f"{missing}: no such file; give a JSONL question file, 'embedded' or 'spec-bench'."
    assert refusal(str(tmp_path)) == f"{tmp_path}: a folder; give the JSONL question file inside it."
    assert "the question file cannot be read" in refusal(str(tmp_path / ("x" * 300)))
    assert "the question file cannot be read" in refusal("a\0b")


def test_a_file_that_cannot_be_read_is_refused() -> None:
    memory = "/proc/self/mem"  # a file to the system, whose first byte nobody may read
    assert refusal(memory).startswith(f"{memory}: the question file cannot be read ([Errno 5] Input/output error")


def test_a_suite_that_the_file_lacks_is_an_error_not_an_empty_run(tmp_path: Path) -> None:
    source = write(tmp_path / "q.jsonl", GOOD)
    assert refusal(source, "rag").startswith(f"{source}: no questions of suite 'rag'")


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_at_least_one(limit: int) -> None:
    with pytest.raises(UserError, match=f"limit {limit}: give a whole number"):
        load_questions("embedded", ["qa"], limit=limit)
