"""The filter of everything that is shown."""

from __future__ import annotations

import json
import unicodedata

import pytest

from lando import plain_text

HARMFUL = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""The categories of Unicode whose characters do something, or are not seen."""


def test_no_character_that_does_something_is_left() -> None:
    everything = [chr(number) for number in range(0x110000)]
    harmful = [character for character in everything if unicodedata.category(character) in HARMFUL]
    shown = plain_text.one_line("".join(harmful))
    assert {unicodedata.category(character) for character in shown}.isdisjoint(HARMFUL)
    assert plain_text.lines("".join(harmful)).count("\n") == 1
    assert plain_text.lines("\t\n") == "\t\n"


def test_what_people_write_stays() -> None:
    for text in (
        "Ω ☕ naïve 日本語 \N{IDEOGRAPHIC SPACE}\N{NO-BREAK SPACE}",
        "step [red]x[/red]",
        "a\\nb",
        "\U0001f600",
    ):
        assert plain_text.one_line(text) == plain_text.lines(text) == plain_text.log_lines(text) == text
        assert plain_text.is_one_line(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\a", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\nINFO job deadbeef  running → done", "a\\nINFO job deadbeef  running → done"),
        ("a\r\vb\fc\x85d\u2028e\u2029f", "a\\r\\x0bb\\x0cc\\x85d\\u2028e\\u2029f"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("\u202egnp.exe\u202c \u2066x\u2069", "\\u202egnp.exe\\u202c \\u2066x\\u2069"),
        ("de\u200bad\u00adbeef\ufeff", "de\\u200bad\\xadbeef\\ufeff"),
        ("\udcff\U000e0041", "\\udcff\\U000e0041"),
    ],
)
def test_the_rest_is_seen(text: str, shown: str) -> None:
    assert plain_text.one_line(text) == shown
    assert plain_text.one_line(shown) == shown, "twice is as once"


def test_the_output_of_a_program_loses_its_colours_and_keeps_its_lines() -> None:
    drawn = "\x1b[1;31mred\x1b[0m\r\n 10%\r 20%\x1b[K\r\r\n\tend \x1b[?25l\x1b]8;;http://x\x1b\\link\x1b[12"
    assert plain_text.log_lines(drawn) == ("red\n 10%\n 20%\n\tend \\x1b]8;;http://x\\x1b\\link\\x1b[12")


def test_what_must_be_one_line() -> None:
    for text in ("a\nb", "a\tb", "a\x1b", "a\x9b", "a\x85", "a\u2028", "\u202ea", "\u2067a", "\x7f"):
        assert not plain_text.is_one_line(text)
    assert plain_text.is_one_line("\N{WOMAN}\u200d\N{MICROSCOPE} می\u200cخواهم")


def test_json_stays_json() -> None:
    value = {"a\x9b": "\x1b\n\u202e\x7f\u2028\U000e0041Ω"}
    shown = plain_text.json_text(json.dumps(value, ensure_ascii=False, indent=2))
    assert json.loads(shown) == value
    assert plain_text.lines(shown) == shown
    assert "Ω" in shown
