"""What a rule may spend: a number of evaluations and an amount of money, each per day (UTC).

Pure: it is told what is spent, and decides. Money is known only after an evaluation, so every open one is counted with
the mean cost of those that are known; as long as none is known, only a few may be open at a time.
"""

from __future__ import annotations

from typing import Protocol

UNKNOWN_OPEN = 10
"""Scores of a rule with a budget of money that may be open as long as no cost is known (or those of one target)."""


class OnHold(Exception):
    """Nothing can be decided now: what is open has to tell its cost first. Not an error."""


class Money(Protocol):
    """What a rule has spent on the day."""

    @property
    def cost(self) -> float:
        """Of what has settled, earlier attempts included; US dollars."""

    @property
    def mean(self) -> float | None:
        """Of one score; ``None`` as long as no cost is known."""

    @property
    def open(self) -> int:
        """Scores that have not settled."""


class Budget:
    """What is left for one round of decisions.

    Parameters
    ----------
    evaluations, cost:
        The limits for a day; ``None``: no limit.
    used:
        Evaluations of the day so far.
    money:
        What was spent, for a limit in money.

    Example
    -------
    >>> budget = Budget(evaluations=1, cost=None, used=0, money=None)
    >>> budget.ask(), budget.ask()
    (None, 'daily budget of 1 evaluation used up')
    """

    def __init__(self, *, evaluations: int | None, cost: float | None, used: int, money: Money | None) -> None:
        self._evaluations = evaluations
        self._used = used
        self._cost = cost if money is not None else None
        self._spent = 0.0 if money is None else money.cost
        self._mean = None if money is None else money.mean
        self._open = 0 if money is None else money.open

    def on_hold(self, scores: int = 1) -> bool:
        """Whether what is open has to tell its cost before a target that takes so many scores can be begun."""
        unknown = self._cost is not None and self._mean is None
        return unknown and self._open > 0 and self._open + scores > UNKNOWN_OPEN

    def check(self, scores: int = 1) -> None:
        """Go on only when there is something to decide by.

        Raises
        ------
        OnHold
            As many are open as may be while no cost is known.
        """
        if self.on_hold(scores):
            raise OnHold

    def ask(self, scores: int = 1) -> str | None:
        """Reserve one evaluation, which gives so many scores; the reason when the budget does not allow it."""
        if self._evaluations is not None and self._used >= self._evaluations:
            noun = "evaluation" if self._evaluations == 1 else "evaluations"
            return f"daily budget of {self._evaluations:,} {noun} used up"
        if self._cost is not None:
            expected = self._spent + (self._mean or 0.0) * (self._open + scores)
            if self._spent >= self._cost or expected > self._cost:
                return f"daily budget of ${self._cost:g} used up"
        self._used += 1
        self._open += scores
        return None
