"""What became of a call that ran under a deadline, and what is known of one that still runs."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

import msgspec

T = TypeVar("T")

OutcomeStatus = Literal["ok", "error", "timed_out", "cancelled"]


class Outcome(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A call's result, or why there is none. Every call that was started gets exactly one.

    Parameters
    ----------
    status:
        ``ok``, ``error`` (it raised, or could not be started), ``timed_out`` or ``cancelled``.
    value:
        What it returned; ``None`` unless ``ok``.
    error:
        The exception it raised, with its traceback.
    reason:
        Why it is not ``ok``, in one sentence, when there is more to say than ``error`` does.
    seconds:
        Duration of its last attempt; 0.0 when it never began.
    attempts:
        How often it began: more than 1 only where retries were asked for, and for a restartable call whose event loop
        was blocked by another one.
    interruptions:
        One sentence for each attempt before the last: why it was started again.
    index:
        Its position among the items of a map, where there is one.

    Example
    -------
    >>> Outcome(status="ok", value=3).unwrap()
    3
    """

    status: OutcomeStatus
    value: T | None = None
    error: BaseException | None = None
    reason: str | None = None
    seconds: float = 0.0
    attempts: int = 0
    interruptions: tuple[str, ...] = ()
    index: int | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.status == "ok"

    def unwrap(self) -> T:
        """The value, or the call's own exception; ``TimeoutError`` or ``RuntimeError`` where it raised none."""
        if self.status == "ok":
            return self.value  # type: ignore[return-value]
        if self.error is not None:
            raise self.error
        if self.status == "timed_out":
            raise TimeoutError(self.reason)
        raise RuntimeError(self.reason or self.status)


class RunningCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call in flight, for people who ask what a process is doing.

    Parameters
    ----------
    name:
        As given to ``Runner.start``.
    since:
        Unix time in seconds at which this attempt began.
    age:
        Seconds since then.
    attempt:
        1 for the first.
    timeout:
        Its deadline in seconds from ``since``; ``None`` when it has none.
    settled:
        Its outcome was already given (it timed out), yet it goes on.
    where:
        ``thread`` or ``loop``.
    stack:
        Where it is, innermost frame first: ``function (file:line)``.
    telling:
        The line of ``stack`` that tells most: the innermost that is not in the standard library.
    """

    name: str
    since: float
    age: float
    attempt: int
    timeout: float | None = None
    settled: bool = False
    where: str = "thread"
    stack: tuple[str, ...] = ()
    telling: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for a status page."""
        return msgspec.structs.asdict(self)
