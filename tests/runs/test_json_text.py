"""JSON of a run's files: what it may not hold, each said in one line."""

from __future__ import annotations

import pytest

from specbench_s2d.runs.json_text import JsonError, parse_json, parse_object, parse_typed_object, shown

REFUSED = {
    b"": "not JSON: Expecting value, column 1",
    b'{"a": 1,}': "not JSON: ",
    b'{"a": 1} {}': "not JSON: Extra data, column 10",
    b'{"a": NaN}': "NaN is no number",
    b"[-Infinity]": "-Infinity is no number",
    b"[1e999]": "the number 1e999 is beyond 64 bits",
    b"[-1.5E+400]": "the number -1.5E+400 is beyond 64 bits",
    b"[9223372036854775808]": "the whole number 9223372036854775808 is beyond 64 bits",
    b"[" + b"9" * 5000 + b"]": f"the whole number {'9' * 40}… is beyond 64 bits",
    b'{"a": {"b": 1, "c": 2, "b": 3}}': "b is named twice",
    b'["\\ud800"]': "half of a surrogate pair",
    b'{"\\udc00x": 1}': "half of a surrogate pair",
    b'["\xff"]': "not UTF-8 text: invalid start byte",
    b"[" * 100_000 + b"]" * 100_000: "lists or objects more than 64 deep",
    b"[" * 65 + b"]" * 65: "lists or objects more than 64 deep",
    b'{"a":' * 70 + b"1" + b"}" * 70: "lists or objects more than 64 deep",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:20].decode("ascii", "replace"))
def test_what_no_file_of_a_run_holds_is_refused_in_one_line(text: bytes) -> None:
    with pytest.raises(JsonError) as caught:
        parse_json(text)
    assert str(caught.value).startswith(REFUSED[text]) and "\n" not in str(caught.value)


def test_the_line_of_a_fault_is_told_where_it_is_known() -> None:
    for text, line in ((b'{\n"a": 1,\n]', 3), (b'{"a":\n\n"\xff"}', 3), (b"[NaN]", None)):
        with pytest.raises(JsonError) as caught:
            parse_json(text)
        assert caught.value.line == line


def test_everything_else_is_as_python_reads_it() -> None:
    text = '{"a": [9223372036854775807, -9223372036854775808, 1e308, 0.1234567890123456789], "é": "\\ud83d\\ude00"}'
    assert parse_json(text.encode()) == {"a": [2**63 - 1, -(2**63), 1e308, 0.1234567890123456789], "é": "😀"}
    assert parse_json(b"[" * 64 + b"]" * 64)


def test_an_object_is_no_other_value() -> None:
    assert parse_object(b'{"a": 1}') == {"a": 1}
    for text in (b"[1]", b"null", b'"text"', b"1"):
        with pytest.raises(JsonError, match="it is no JSON object"):
            parse_object(text)


def test_an_object_of_typed_values_is_read_faster() -> None:
    """What types refuse is let through, what they do not see is refused, and what is wrong is told alike."""
    assert parse_typed_object(b'{"a": {"b": 1}, "c": {"x": [1, "\\":"]}}', "c") == {
        "a": {"b": 1},
        "c": {"x": [1, '":']},
    }
    for text in (b'{"a": 1, "c": {"x": 1e999}}', b'{"c": ["\\ud800"]}', b'{"c": [9223372036854775808]}', *REFUSED):
        with pytest.raises(JsonError) as caught:
            parse_typed_object(text, "c")
        if text in REFUSED and text.startswith(b"{"):
            assert str(caught.value).startswith(REFUSED[text])
    assert parse_typed_object(b'{"a": 9223372036854775808}', "c") == {"a": 2**63}


def test_a_text_is_quoted_in_one_line_without_control_characters() -> None:
    assert shown("é\n\x1b[2J\ud800") == "é\\n\\x1b[2J\\ud800"
    assert shown("x" * 100) == "x" * 40 + "…"
