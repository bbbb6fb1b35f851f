"""Suites: what the definitions say, whose questions they embed, and what other packages add."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from specbench_s2d.errors import UnknownNameError, UserError
from specbench_s2d.resources import SUITES, data_folder
from specbench_s2d.suites import (
    HEADINGS,
    load_questions,
    load_suite,
    read_definition,
    read_suite,
    sound_suites,
    suite_headings,
)
from tests.plugins import Plugins
from tests.refusals import refused
from tests.suites.files import GOOD, refusal, write

QA = data_folder("suites") / "qa.toml"


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
    with refused(UnknownNameError, "unknown suite 'mt_bnch'. Did you mean 'mt_bench'?", "Or custom/NAME"):
        load_questions("embedded", ["mt_bnch"])


@pytest.mark.parametrize(
    ("name", "suite"),
    [
        ("MT-bench", "mt_bench"),
        ("mtbench", "mt_bench"),
        ("math", "math_reasoning"),
        ("GSM8K", "math_reasoning"),
        ("sum", "summarization"),
        ("summarisation", "summarization"),
        ("trans", "translation"),
        ("nq", "qa"),
        ("RAG", "rag"),
    ],
)
def test_a_suite_has_other_names(name: str, suite: str) -> None:
    assert load_suite(name).name == suite
    assert list(load_questions("embedded", [name, suite]).by_suite) == [suite]


def test_no_two_suites_share_another_name_and_none_is_part_of_a_hash() -> None:
    others = [other for suite in sound_suites() for other in suite.definition.also]
    assert len(set(others)) == len(others) and not set(others) & set(SUITES)
    assert "also" in HEADINGS


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


# A question file's own categories


def test_a_category_of_the_six_keeps_its_metric_where_it_has_a_suite_of_its_own() -> None:
    metrics = {name: load_suite(f"custom/{name}").definition.quality.metrics for name in ("qa", "math", "code")}
    assert metrics == {"qa": ("exact_match", "f1"), "math": (), "code": ()}
    assert suite_headings("custom/code") == ("custom/code", "code")
    assert [len(heading) for heading in suite_headings(f"custom/{'x' * 200}")] == [40, 20]


@pytest.mark.parametrize("name", ["custom/", "custom/a b", "custom/a/b"])
def test_a_name_that_no_category_can_have_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"suite '{name}': write custom/"):
        load_suite(name)
