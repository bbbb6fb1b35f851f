"""Files of rows: JSON arrays, CSV and Parquet as people have them, and as they are broken."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specbench_s2d.suites import Question, load_questions
from tests.suites.files import GOOD, refusal


def save(tmp_path: Path, name: str, content: bytes | str) -> str:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(path)


def parquet(tmp_path: Path, columns: dict[str, Any]) -> str:
    path = tmp_path / "q.parquet"
    pq.write_table(pa.table(columns), path)
    return str(path)


# Files that can be used


def test_a_json_array_holds_rows_or_prompts(tmp_path: Path) -> None:
    rows = [GOOD, "What year is it?", {"turns": ["One?", "Two?"]}]
    found = load_questions(save(tmp_path, "bench.json", json.dumps(rows, indent=1)))
    assert [(q.id, q.suite, q.turns) for q in found] == [
        (1, "qa", ("Who?",)),
        (2, "custom/bench", ("What year is it?",)),
        (3, "custom/bench", ("One?", "Two?")),
    ]


@pytest.mark.parametrize(
    "content",
    [
        "prompt,note\nWho?,x\n\"Line\u2028one,\nline \"\"two\"\"\x85\",\n",
        "\ufeffprompt,note\r\nWho?,x\r\n\"Line\u2028one,\nline \"\"two\"\"\x85\",\r\n,\r\n",
        "note;prompt\nx;Who?\n;\"Line\u2028one,\nline \"\"two\"\"\x85\"",
        "prompt\tnote\nWho?\tx\n\"Line\u2028one,\nline \"\"two\"\"\x85\"\t\n",
        ",prompt\n0,Who?\n1,\"Line\u2028one,\nline \"\"two\"\"\x85\"\n",
    ],
    ids=["commas", "as a spreadsheet saves it", "semicolons", "tabs", "with an unnamed index"],
)  # fmt: skip
def test_a_csv_column_of_prompts(tmp_path: Path, content: str) -> None:
    found = load_questions(save(tmp_path, "prompts.csv", content), column="prompt")
    assert found.questions == [
        Question(1, "custom/prompts", "prompts", ("Who?",)),
        Question(2, "custom/prompts", "prompts", ('Line\u2028one,\nline "two"\x85',)),
    ]


def test_csv_cells_of_lists_are_json_and_empty_cells_are_missing(tmp_path: Path) -> None:
    lines = [
        "question_id,category,turns,reference,system_prompt,metric",
        'a,qa,"[""One?"", ""Two?""]","[""1"", ""2""]",Be brief.,"f1, rouge_l"',
        ",,Just one?,Yes,,",
    ]
    first, second = load_questions(save(tmp_path, "q.csv", "\n".join(lines)))
    assert first == Question("a", "qa", "qa", ("One?", "Two?"), ("1", "2"), "Be brief.", ("f1", "rouge_l"))
    assert second == Question(2, "custom/q", "q", ("Just one?",), ("Yes",))


def test_a_cell_may_be_longer_than_the_csv_modules_own_limit(tmp_path: Path) -> None:
    [question] = load_questions(save(tmp_path, "q.csv", f"turns\n{'x' * 200_000}\n"))
    assert len(question.turns[0]) == 200_000


def test_parquet_rows_may_be_nested(tmp_path: Path) -> None:
    columns = {
        "question_id": [7, 8],
        "category": ["math", "qa"],
        "turns": [["One?", "Two?"], ["Who?"]],
        "difficulty": [None, 3.5],
    }
    found = load_questions(parquet(tmp_path, columns))
    assert [(q.id, q.suite, q.turns) for q in found] == [(7, "mt_bench", ("One?", "Two?")), (8, "qa", ("Who?",))]
    talks = {"messages": [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]]}
    assert load_questions(parquet(tmp_path, talks)).questions[0].system_prompt == "Be brief."
    column = {"prompt": ["Hi", "Ho"], "n": [1, 2]}
    assert [q.turns[0] for q in load_questions(parquet(tmp_path, column), column="prompt")] == ["Hi", "Ho"]


def test_a_parquet_file_is_known_by_its_first_bytes_too(tmp_path: Path) -> None:
    Path(parquet(tmp_path, {"turns": [["Hi"]]})).rename(tmp_path / "q")
    assert load_questions(str(tmp_path / "q")).questions[0].turns == ("Hi",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.jsonl", '\ufeff{"prompt": "Hi"}\n\ufeff{"prompt": "Ho"}\n'),  # two files, joined
        ("q.json", '\ufeff["Hi", "Ho"]'),
        ("q.csv", "\ufeffprompt\nHi\nHo\n"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path, name: str, content: str) -> None:
    column = None if name == "q.json" else "prompt"
    assert [q.turns[0] for q in load_questions(save(tmp_path, name, content), column=column).questions] == ["Hi", "Ho"]


# Files that cannot be used


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("q.csv", "", ": empty; expected questions, one a row."),
        ("q.csv", "\ufeff\r\n", ": empty; expected questions, one a row."),
        ("q.csv", "prompt,note\n", ": no row below its first line, which names the columns: 'prompt', 'note'."),
        ("q.csv", "a,b\nWho?,1\n", ":2: no column 'prompt'. There are 'a', 'b' (of a CSV file, the first line names"),
        ("q.csv", "promt\nWho?\n", ":2: no column 'prompt'. Did you mean 'promt'?"),
        ("q.csv", "Tell me a story.\nAnd another.\n", ":2: no column 'prompt'. There are 'Tell me a story.'"),
        ("q.csv", "x" * 10**6 + "\nWho?\n", ":2: no column 'prompt'. There are 'xxx"),
        ("q.csv", "prompt,note\nWho?,1\nWhat, then?,2\n", ":3: 3 values, where the first line names 2 columns"),
        ("q.csv", "prompt,note\nWho?\n", ":2: 1 values, where the first line names 2 columns"),
        ("q.csv", "prompt,prompt\nWho?,1\n", ":1: column 'prompt' stands there twice"),
        ("q.csv", 'prompt,note\n"Who?,1\n', ":2: not CSV (unexpected end of data)"),
        ("q.csv", 'prompt,note\n"Who"?,1\n', ":2: not CSV ("),
        ("q.csv", "prompt,note\n,1\n", ":2: 'prompt' must be a text, or a list of texts, none of them empty, got 'n"),
        ("q.csv", "prompt\nGrüße\n".encode("latin-1"), ": not UTF-8 text (invalid"),
        ("q.csv", "prompt\nWho?\n".encode("utf-16"), ": UTF-16 text; save the file as UTF-8. Question files"),
        ("q.json", "[", ": not a JSON array (Expecting value"),
        ("q.json", "[]", ": empty; expected questions, one a row."),
        ("q.json", "[" * 100_000, ": not a JSON array (maximum recursion depth"),
        ("q.json", '["Who?", 3]', ": row 2: expected a JSON object or a text, got '3'."),
        ("q.json", '["Who?"]', ": row 1: no column 'prompt'. There are 'turns'"),
        ("q.jsonl", '{"a": 1}\n', ":1: no column 'prompt'. There are 'a'"),
        ("q.jsonl", '{"prompt": ["Who?", 2]}\n', ":1: 'prompt' must be a text, or a list of texts"),
        ("q.jsonl", "{}\n", ":1: no column 'prompt'. There are none"),
        ("q.parquet", "", ": not a whole Parquet file ("),
        ("q.parquet", "PAR1 and then nothing", ": not a whole Parquet file ("),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, content: bytes | str, said: str) -> None:
    source = save(tmp_path, name, content)
    message = refusal(source, None, "prompt")
    assert message.startswith(source + said)
    assert len(message) < len(source) + 400


def test_a_parquet_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = Path(parquet(tmp_path, {"turns": [["Hi", "Ho"]] * 50})).read_bytes()
    for length in (1, 4, len(whole) // 2, len(whole) - 1):
        assert ": not a whole Parquet file (" in refusal(save(tmp_path, "cut.parquet", whole[:length]), None)


def test_without_a_column_the_columns_are_listed(tmp_path: Path) -> None:
    said = (
        ": row 1: no 'turns', 'messages' or 'conversations'; name the column that holds the prompt with --column NAME. "
        "There are 'prompt', 'n'."
    )
    source = parquet(tmp_path, {"prompt": ["Hi"], "n": [1]})
    assert refusal(source, None) == source + said
    many = save(tmp_path, "q.csv", ",".join(f"c{i}" for i in range(99)) + "\n" + "," * 97 + "x,\n")
    assert refusal(many, None).endswith("'c18', 'c19', ….")


def test_wrong_values_in_tables_are_named(tmp_path: Path) -> None:
    source = parquet(tmp_path, {"turns": [[1, 2]]})
    assert refusal(source, None) == (
        f"{source}: row 1: 'turns' must be a list of one or more texts, none of them empty, got '[1, 2]'."
    )
    source = parquet(tmp_path, {"turns": [["a"], ["b"]], "question_id": [1, 1]})
    assert refusal(source, None) == f"{source}: row 2: question_id 1 is already used in row 1."
    source = parquet(tmp_path, {"prompt": [b"raw"]})
    assert "'prompt' must be a text, or a list of texts" in refusal(source, None, "prompt")
    source = save(tmp_path, "q.csv", 'turns\n"[""Who?"""\n')
    assert refusal(source, None).startswith(f"{source}:2: 'turns': not JSON (")


def test_a_line_of_ten_megabytes_is_one_short_line(tmp_path: Path) -> None:
    source = save(tmp_path, "q.jsonl", json.dumps({"turns": ["y" * 10**7]}))
    assert refusal(source, None) == (
        f"{source}:1: 'turns' holds a text of 10,000,000 characters; at most 5,000,000 can be asked."
    )
    assert len(refusal(save(tmp_path, "q.jsonl", json.dumps({"y" * 10**7: 1})), None)) < len(source) + 300


def test_a_date_that_python_has_none_for_is_one_line(tmp_path: Path) -> None:
    file = parquet(tmp_path, {"prompt": ["a"], "made": pa.array([2**62], pa.timestamp("us"))})
    assert refusal(file, None, "prompt").endswith(
        "a value cannot be read (date value out of range); leave its column out."
    )


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "q.jsonl")
    assert refusal(str(tmp_path / "q.jsonl"), None).endswith("q.jsonl: is a pipe; give a question file.")
