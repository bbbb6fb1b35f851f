"""Text as it can be shown: control characters as escapes, what an encoding lacks as ASCII, words and numbers whole."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from specbench_s2d.display import code_span, cut, encodable, markdown_text, shown, visible, wrap


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("bell\x07, back\x08, CR\r, CSI\x9b", r"bell\x07, back\x08, CR\r, CSI\x9b"),
        ("txt\u202efdp.exe", r"txt\u202efdp.exe"),
        ("a\nb\tc\u2028d\ud800\ufffe", r"a\nb\tc\u2028d\ud800\ufffe"),
        ("é × γ 中 👩\u200d🔬 [red]x[/b]", "é × γ 中 👩\u200d🔬 [red]x[/b]"),
    ],
)
def test_what_would_act_is_an_escape_and_all_else_stays(text: str, escaped: str) -> None:
    assert visible(text) == escaped
    assert visible(escaped) == escaped


def test_line_breaks_stay_where_they_are_asked_for() -> None:
    assert visible("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_every_control_and_format_character_of_unicode_is_an_escape() -> None:
    acting = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    expected = {chr(i) for i in range(sys.maxunicode + 1) if unicodedata.category(chr(i)) in acting}
    escaped = {chr(i) for i in range(sys.maxunicode + 1) if visible(chr(i)) != chr(i)}
    assert expected - escaped <= {"\u200c", "\u200d"}, "joiners show in the letters that they join"
    assert {c for c in escaped - expected if unicodedata.category(c) != "Cn"} == set()


def test_an_encoding_that_is_not_utf_gets_our_symbols_as_ascii_and_escapes_for_what_it_lacks() -> None:
    text = "1.5 × [1.2–1.8], γ = 5 † … é 中"
    assert encodable(text, "utf-8") == text
    assert encodable(text, "ascii") == r"1.5 x [1.2-1.8], gamma = 5 + ... \xe9 \u4e2d"
    assert encodable(text, "latin-1") == r"1.5 x [1.2-1.8], gamma = 5 + ... é \u4e2d"
    assert shown("×\x1b\n", "ascii") == "x\\x1b\n"


def test_lines_break_between_words_and_never_in_one() -> None:
    path = "/a/very/long/path/to/a-folder-of-runs"
    assert wrap(f"wrote {path} and more", 12) == ["wrote", path, "and more"]
    assert wrap("at 41.5 % of it", 9) == ["at 41.5 %", "of it"]
    assert wrap("(about 138.0 GB) of 12 M in 3 s.", 9) == ["(about", "138.0 GB)", "of 12 M", "in 3 s."]
    assert wrap("at γ = 4, n = 30 %", 6) == ["at", "γ = 4,", "n = 30 %"]
    assert wrap("8 of 2 mice", 4) == ["8 of", "2", "mice"], "no unit"
    assert wrap("one\ntwo", 80) == ["one", "two"]
    assert wrap("中中 中中", 5) == ["中中", "中中"], "wide characters take two columns"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("max_new_tokens", "max_new_tokens"),
        ("_x_", r"\_x\_"),
        ("1 | <b>", r"1 \| \<b\>"),
        ("a\nb", "a / b"),
        ("[95 %] a & b", "[95 %] a & b"),
        ("[a](http://x) [a]: b", r"[a\](http://x) [a\]: b"),
        ("&amp; ~$", r"\&amp; \~\$"),
        ("# a - b", r"\# a - b"),
        ("\x1b[1m", r"\\x1b[1m"),
    ],
)
def test_markdown_shows_any_text(text: str, escaped: str) -> None:
    assert markdown_text(text) == escaped


@pytest.mark.parametrize(("text", "code"), [("sd", "`sd`"), ("a`b``c", "``` a`b``c ```"), ("`a", "`` `a ``")])
def test_code_holds_any_text(text: str, code: str) -> None:
    assert code_span(text) == code


def test_a_long_text_is_cut_with_an_ellipsis() -> None:
    assert [cut(text, 5) for text in ("", "seven", "eleven")] == ["", "seven", "elev…"]
