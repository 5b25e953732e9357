"""Budgets: whatever is asked for and settles in whatever order, the limits hold."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeeper.scoring.rules.budgets import UNKNOWN_OPEN, Budget, OnHold
from tracekeeper.scoring.rules.sampling import is_sampled


class Money(NamedTuple):
    cost: float = 0.0
    mean: float | None = None
    open: int = 0


def budget(limit: float, money: Money) -> Budget:
    return Budget(evaluations=None, cost=limit, used=0, money=money)


@given(limit=st.integers(1, 50), rounds=st.lists(st.integers(0, 20), max_size=10))
def test_evaluations_never_exceed_the_limit(limit: int, rounds: list[int]) -> None:
    used = 0
    for asked in rounds:
        this = Budget(evaluations=limit, cost=None, used=used, money=None)
        used += [this.ask() for _ in range(asked)].count(None)
    assert used == min(limit, sum(rounds))


@given(
    limit=st.integers(1, 100),
    costs=st.lists(st.integers(1, 5), min_size=1, max_size=60),
    settled_at_once=st.integers(1, 12),
)
def test_money_stays_within_the_limit_as_far_as_the_mean_can_tell(
    limit: int, costs: list[int], settled_at_once: int
) -> None:
    """What is spent never exceeds the limit by more than the open ones cost beyond what was expected of them."""
    waiting = list(costs)
    open_ones: list[int] = []
    settled: list[int] = []
    while waiting:
        mean = sum(settled) / len(settled) if settled else None
        this = budget(limit, Money(sum(settled), mean, len(open_ones)))
        decided = 0
        for cost in list(waiting):
            try:
                this.check()
            except OnHold:
                break
            waiting.pop(0)
            decided += 1
            if this.ask() is None:
                open_ones.append(cost)
                if mean is not None:
                    assert sum(settled) + mean * len(open_ones) <= limit + 1e-9
                else:
                    assert len(open_ones) <= UNKNOWN_OPEN
        done, open_ones = open_ones[:settled_at_once], open_ones[settled_at_once:]
        settled += done
        assert decided or done, "neither a decision nor a settled score: it would hang"
    assert sum(settled) + sum(open_ones) <= limit + 5 * max(UNKNOWN_OPEN, limit)


def test_with_equal_costs_the_limit_holds_exactly() -> None:
    this = budget(1.0, Money(cost=0.5, mean=0.125, open=2))
    assert [this.ask() for _ in range(4)] == [None, None, *["daily budget of $1 used up"] * 2]


def test_what_is_spent_is_enough_even_when_nothing_costs_anything_any_more() -> None:
    assert budget(0.5, Money(cost=0.5, mean=0.0)).ask() == "daily budget of $0.5 used up"


def test_as_long_as_no_cost_is_known_only_a_few_may_be_open() -> None:
    this = budget(100, Money(open=8))
    this.check(), this.ask(), this.ask()
    with pytest.raises(OnHold):
        this.check()


@given(st.text(), st.lists(st.text(), max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_contains_the_smaller(rule: str, keys: list[str], one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert all(is_sampled(rule, key, large) for key in keys if is_sampled(rule, key, small))
    assert all(is_sampled(rule, key, 1.0) for key in keys)


def test_a_share_is_about_that_share_and_rules_choose_independently() -> None:
    keys = [f"record:{n}" for n in range(20_000)]
    one = {key for key in keys if is_sampled("one", key, 0.1)}
    two = {key for key in keys if is_sampled("two", key, 0.1)}
    assert 1_800 < len(one) < 2_200
    assert 120 < len(one & two) < 280
