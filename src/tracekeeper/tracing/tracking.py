"""``tk.track_usage``: what the model calls inside a block took, counted once each, at the outermost ``llm`` span.

A tracker is one object that follows the context: into tasks, into threads that carry it, into batches. Counting is one
``append``, which a finaliser may do; the sums are made when they are read.
"""

from __future__ import annotations

from contextlib import ContextDecorator, suppress
from contextvars import ContextVar
from typing import NamedTuple

from tracekeeper.types import Usage


class _Counted(NamedTuple):
    model: str
    usage: Usage | None
    cached: bool
    failed: bool


class UsageTotal:
    """What was used so far. Every number may be read at any time, from any thread.

    Attributes
    ----------
    calls:
        Calls of models that were answered, those from the cache included.
    cached, failed:
        Answers from the cache, which took nothing; calls that raised.
    unreported:
        Calls whose tokens the provider did not report: not in the sums.
    unpriced:
        Calls whose price is unknown: not in ``cost``.

    Example
    -------
    >>> import tracekeeper as tk
    >>> lm = tk.LM(lambda prompt: tk.Answer(text="Mild.", usage=tk.Usage(input_tokens=7, output_tokens=2)))
    >>> with track_usage() as usage:
    ...     _ = lm("What is the weather like?"), lm("And tomorrow?")
    >>> usage.calls, usage.input_tokens, usage.output_tokens, usage.cost, usage.unpriced
    (2, 14, 4, None, 2)
    """

    __slots__ = ("_counted",)

    def __init__(self, counted: list[_Counted] | None = None) -> None:
        self._counted = [] if counted is None else counted

    def add(self, model: str, usage: Usage | None, *, cached: bool = False, failed: bool = False) -> None:
        """Count one call. Lock-free."""
        self._counted.append(_Counted(model, usage, cached, failed))

    def include(self, other: UsageTotal) -> None:
        """Count what another one counted (in another process) as well. Lock-free."""
        self._counted.extend(other._all())

    @property
    def empty(self) -> bool:
        """Whether no call was counted yet."""
        return not self._counted

    @property
    def calls(self) -> int:
        """Calls that were answered."""
        return sum(not one.failed for one in self._all())

    @property
    def cached(self) -> int:
        """Answers from the cache."""
        return sum(one.cached for one in self._all())

    @property
    def failed(self) -> int:
        """Calls that raised."""
        return sum(one.failed for one in self._all())

    @property
    def unreported(self) -> int:
        """Calls that were asked and whose tokens are not known, failed ones included."""
        return sum(not one.cached and (one.usage is None or one.usage.total_tokens is None) for one in self._all())

    @property
    def unpriced(self) -> int:
        """Calls that were asked and whose cost is not known, failed ones included."""
        return sum(not one.cached and (one.usage is None or one.usage.cost is None) for one in self._all())

    @property
    def input_tokens(self) -> int:
        """As reported."""
        return sum(one.usage.input_tokens or 0 for one in self._all() if one.usage is not None)

    @property
    def output_tokens(self) -> int:
        """As reported."""
        return sum(one.usage.output_tokens or 0 for one in self._all() if one.usage is not None)

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    @property
    def cost(self) -> float | None:
        """US dollars of the calls whose cost is known (see ``unpriced``); ``None`` where it is known of none."""
        known = [one.usage.cost for one in self._all() if one.usage is not None and one.usage.cost is not None]
        return sum(known) if known else None

    def by_model(self) -> dict[str, UsageTotal]:
        """The same for each model."""
        found: dict[str, UsageTotal] = {}
        for one in self._all():
            found.setdefault(one.model, UsageTotal())._counted.append(one)
        return found

    def _all(self) -> list[_Counted]:
        return self._counted.copy()

    def __repr__(self) -> str:
        cost = "unknown" if self.cost is None else f"{self.cost:.6g}"
        return f"<{self.calls} calls, {self.input_tokens} + {self.output_tokens} tokens, cost {cost}>"


_active: ContextVar[tuple[UsageTotal, ...]] = ContextVar("tracekeeper_trackers", default=())
active = _active.get
"""``active()``: the trackers in force here."""


class Tracking(ContextDecorator):
    """What ``track_usage`` makes: a block. An object and no generator, since every item of an evaluation has one."""

    __slots__ = ("_made", "_token")

    def __enter__(self) -> UsageTotal:
        self._made = UsageTotal()
        self._token = _active.set((*_active.get(), self._made))
        return self._made

    def __exit__(self, *raised: object) -> None:
        token = self._token
        del self._token  # it has the context, which may have us
        with suppress(ValueError):  # left in another context than it was entered in: there it was never in force
            _active.reset(token)

    def _recreate_cm(self) -> Tracking:  # as a decorator: one for each call
        return Tracking()


def track_usage() -> Tracking:
    """Count what the model calls made inside take: ``with tk.track_usage() as usage: …``, then ``usage.cost``.

    Blocks may lie within each other, and each counts. Calls that begin inside count although they end later. A thread
    or pool that does not carry the context (``tk.instrument("threads")`` makes it) is not inside.
    """
    return Tracking()


def count(
    trackers: tuple[UsageTotal, ...],
    model: str | None,
    usage: Usage | None,
    *,
    cached: bool = False,
    failed: bool = False,
) -> None:
    """Count one call for each of the trackers."""
    for tracker in trackers:
        tracker.add(model or "", usage, cached=cached, failed=failed)
