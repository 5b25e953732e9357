"""An allowance per minute that fills up again as time passes (a token bucket)."""

from __future__ import annotations

_BURST = 0.1
"""Share of a minute's allowance that may go at once."""


class Budget:
    """What is left of so many units a minute. Not thread-safe: its owner is.

    A tenth of the allowance may go at once, and the rest is spread so that *any* sixty seconds see no more than the
    allowance. One request that is larger than what may go at once goes when the budget is full, and is paid off.

    Example
    -------
    >>> budget = Budget(60, now=0.0)
    >>> for _ in range(6):
    ...     budget.take(1, now=0.0)
    >>> round(budget.wait(1, now=0.0), 2)
    1.09
    """

    __slots__ = ("_at", "_full", "_left", "_rate", "per_minute")

    def __init__(self, per_minute: float, now: float) -> None:
        self.per_minute = per_minute
        self._full = max(1.0, per_minute * _BURST)
        # In sixty seconds that do not include their end, less than `_full + 60 * rate` go: one more than the allowance.
        self._rate = (per_minute - self._full + 1.0 if self._full > 1.0 else per_minute) / 60.0
        self._left = self._full
        self._at = now

    def changed(self, per_minute: float, now: float) -> Budget:
        """Another allowance; what was used of this one stays used."""
        self._fill(now)
        made = Budget(per_minute, now)
        made._left = min(made._full, made._full - (self._full - self._left))
        return made

    def wait(self, amount: float, now: float) -> float:
        """Seconds until that much may be taken; 0.0: now."""
        self._fill(now)
        missing = min(amount, self._full) - self._left
        # Less than a billionth is rounding of the clock: waiting for it would take a wake-up for nothing.
        return missing / self._rate if missing > 1e-9 else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take it, into debt if need be; a negative amount gives back."""
        self._fill(now)
        self._left = min(self._full, self._left - amount)

    def give(self, amount: float, now: float) -> None:
        """Give back what was taken and not used."""
        self.take(-amount, now)

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._left = min(self._full, self._left + (now - self._at) * self._rate)
            self._at = now
