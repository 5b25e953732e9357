"""Exact and partial matches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekeeper import metrics
from tracekeeper.types import MetricError


@pytest.mark.parametrize(
    ("output", "expected", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (1, "1", False),
        ("a", "a", True),
        ("a", "A", False),
        (None, None, True),
        ([1, [2]], [1, [2]], True),
        ((1, 2), [1, 2], True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ([1], [1, 2], False),
        ({}, [], False),
        (float("nan"), float("nan"), False),
    ],
)
def test_equals(output: Any, expected: Any, same: bool) -> None:
    value, reason = metrics.Equals()(output, expected)
    assert value is same
    assert (reason is None) is same


def test_equals_says_where() -> None:
    assert metrics.Equals()({"a": {"b": [1, 2]}}, {"a": {"b": [1, "2"]}}) == (False, "at a.b[1]: 2 is not '2'")
    assert metrics.Equals()({"a": 1}, {"a": 1, "b": 2}) == (False, "'b' is missing")


def test_equals_with_a_tolerance() -> None:
    assert metrics.Equals(tolerance=0.1)([1.05], [1])[0]
    assert not metrics.Equals(tolerance=0.1)([1.2], [1])[0]
    for wrong in (-1, float("nan"), float("inf"), True, "1"):
        with pytest.raises(MetricError, match="tolerance"):
            metrics.Equals(tolerance=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("output", "expected", "same"),
    [
        ("The  Eiffel\nTower!", "eiffel tower", True),
        ("an e-mail", "email", True),
        ("3.14", "314", False),
        ("-5", "5", False),
        ("1,000", "1,000.", True),
        ("Ｐａｒｉｓ", "paris", True),
        ("都柏林。", "都柏林", True),
        ("हिन्दी", "हनद", False),
        ("Paris", ["London", "Paris"], True),
        ("Paris", ["London", "Rome"], False),
        ({"answer": "Paris", "sources": []}, "paris", True),
        (42, "42", True),
        ("", "the", True),
    ],
)
def test_exact_match(output: Any, expected: Any, same: bool) -> None:
    assert metrics.ExactMatch()(output, expected)[0] is same


def test_exact_match_ignores_only_what_it_is_told() -> None:
    strict = metrics.ExactMatch(ignore_case=False, ignore_punctuation=False, ignore_articles=False)
    assert strict("A b", "A  b")[0]
    for other in ("a b", "A b.", "b"):
        assert not strict(other, "A b")[0]
    assert strict.version != metrics.ExactMatch().version


def test_contains() -> None:
    assert metrics.Contains()("Trains run from DUBLIN.", "dublin") == (True, None)
    assert metrics.Contains()("都柏林很温和", ["都柏林", "科克"]) == (False, "not found: '科克'")
    assert metrics.Contains(every=False)("都柏林很温和", ["都柏林", "科克"])[0]
    assert metrics.Contains("Dublin", ignore_case=False)("dublin") == (False, "not found: 'Dublin'")
    for wrong in ([], "", [""], [1]):
        with pytest.raises(MetricError, match="expected a text"):
            metrics.Contains(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("output", "expected", "value"),
    [
        ("mild and wet", "mild", 0.5),
        ("the cat", "cat", 1.0),
        ("b a a b", "b b a c", 2 * 2 / (2 + 3)),
        ("x", "y", 0.0),
        ("", "", 1.0),
        ("?", "", 1.0),
        ("x", "", 0.0),
        ("天气好", "天气坏", 2 / 3),
        ("x", ["y", "x"], 1.0),
        ("x", [], 0.0),
    ],
)
def test_token_f1(output: str, expected: Any, value: float) -> None:
    assert metrics.TokenF1()(output, expected)[0] == pytest.approx(value)


@settings(deadline=None)
@given(left=st.text(), right=st.text())
def test_f1_and_exact_match_are_symmetric_and_within_their_range(left: str, right: str) -> None:
    f1, exact, equal = metrics.TokenF1(), metrics.ExactMatch(), metrics.Equals()
    assert f1(left, right)[0] == f1(right, left)[0]
    assert 0 <= f1(left, right)[0] <= 1
    assert f1(left, left)[0] == 1
    assert exact(left, right)[0] == exact(right, left)[0]
    assert exact(left, left)[0]
    assert equal(left, right)[0] is (left == right)
    assert metrics.Contains()(left + right, right)[0] or "\u0307" in (left + right).lower() or left or right
