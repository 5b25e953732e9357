"""What became of one item of an experiment: plain data, from a run that has just ended or from the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tracekeeper.types import ItemStatus, Score


class EarlierCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call with an item whose place another one has taken: the item was called again, in the same experiment.

    Attributes
    ----------
    status, error, reason, seconds, attempts, cost:
        As of an ``ItemResult``; ``cancelled`` when it never came to its end.
    trace_id, span_id:
        Key of its record, which stays in the store with its scores; ``""`` when there is none.
    """

    status: ItemStatus
    error: str | None = None
    reason: str | None = None
    seconds: float | None = None
    attempts: int = 0
    cost: float | None = None
    trace_id: str = ""
    span_id: str = ""


class ItemResult(msgspec.Struct, kw_only=True):
    """One call of the task with one item.

    Attributes
    ----------
    item_id, repeat:
        Which item, and its which of its calls, 0 for the first.
    status:
        ``ok``, ``error``, ``timed_out``, ``cancelled``, ``skipped``; ``pending`` or ``running`` until then.
    fields, expected, tags, split:
        The item's.
    output:
        What the task returned, as it was captured; ``None`` unless ``ok``.
    error, reason:
        The exception as text (``ValueError: …``), and why it did not run or end, in one sentence.
    seconds:
        How long the last attempt took; ``None`` while it has not ended.
    attempts:
        How often it was tried in this run.
    cost, input_tokens, output_tokens:
        Of the record, where spans reported them; else ``None``.
    trace_id, span_id:
        Key of its record (lower-case hex), ``""`` when there is none.
    scores:
        By name; each has a status.
    earlier:
        Calls with this item that came before this one and were made again, the first one first.

    Example
    -------
    >>> ItemResult(item_id="a", status=ItemStatus.OK, fields={"question": "?"}, output="!").ok
    True
    """

    item_id: str
    repeat: int = 0
    status: ItemStatus
    fields: Mapping[str, Any] = {}
    expected: Any = None
    tags: tuple[str, ...] = ()
    split: str = ""
    output: Any = None
    error: str | None = None
    reason: str | None = None
    seconds: float | None = None
    attempts: int = 0
    cost: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    trace_id: str = ""
    span_id: str = ""
    scores: dict[str, Score] = {}
    earlier: tuple[EarlierCall, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the task returned."""
        return self.status is ItemStatus.OK

    @property
    def called(self) -> int:
        """How often the task was called with it in all: attempts of this call, and of those that it took the place of.

        >>> before = EarlierCall(status=ItemStatus.TIMED_OUT, attempts=2)
        >>> ItemResult(item_id="a", status=ItemStatus.OK, attempts=1, earlier=(before,)).called
        3
        """
        return _begun(self) + sum(map(_begun, self.earlier))

    def as_earlier(self) -> EarlierCall:
        """What is kept of it when the item is called again."""
        ended = self.status not in (ItemStatus.PENDING, ItemStatus.RUNNING)
        return EarlierCall(
            status=self.status if ended else ItemStatus.CANCELLED,
            error=self.error,
            reason=self.reason,
            seconds=self.seconds,
            attempts=self.attempts,
            cost=self.cost,
            trace_id=self.trace_id,
            span_id=self.span_id,
        )


def _begun(call: ItemResult | EarlierCall) -> int:
    """Attempts of a call; at least one where there is a record: it may have ended with its process, uncounted."""
    return max(call.attempts, 1 if call.trace_id else 0)
