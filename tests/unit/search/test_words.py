"""Words and terms of a text, in any language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeeper.types.text import query_terms, terms, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Hello, World!", ["hello", "world"]),
        ("snake_case isn't", ["snake", "case", "isn", "t"]),
        ("ＦＵＬＬ ｗｉｄｔｈ", ["full", "width"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("naïve", ["naïve"]),
        ("我爱Python编程", ["我", "爱", "python", "编", "程"]),
        ("3.5 mm²", ["3", "5", "mm2"]),
        ("\ud800 odd \x00", ["odd"]),
        ("\u33e0\U0001da3b", ["1", "日"]),
        ("日\U0001da3bab", ["日", "ab"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_terms_pair_the_characters_of_a_run() -> None:
    assert terms("东京 x 都") == ["东京", "京", "x", "都"]
    assert query_terms("x 东京都") == ["x", "东京", "京都"]
    assert query_terms("东京 都") == ["东京", "京", "都"]
    assert query_terms("东京 x") == ["东京", "京", "x"]


@given(st.text())
def test_terms_hold_nothing_that_a_search_syntax_knows(text: str) -> None:
    for term in terms(text):
        assert term
        assert not set(term) & set(" \t\n\"'*:()^+-{}|&!<>_\x00")


@given(st.text())
def test_words_are_stable(text: str) -> None:
    once = words(text)
    assert words(" ".join(once)) == once
