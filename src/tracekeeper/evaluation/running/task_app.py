"""The app whose calls are the items of a run, and what is said of each call when it begins.

An item's call is a record like any other. Which item it is, its fields and its ``expected`` are set on the record's
span as it begins, so they are on disk with it, and every metric finds them there: at once, in a worker, or in a year.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from tracekeeper.configuration import settings
from tracekeeper.evaluation.item import Item
from tracekeeper.evaluation.result import EarlierCall
from tracekeeper.journal.frames import ItemFrame, ScoreBirth
from tracekeeper.judging import Metric
from tracekeeper.scoring.app import App
from tracekeeper.scoring.record import Record
from tracekeeper.scoring.views import ITEM
from tracekeeper.tracing import capture
from tracekeeper.tracing.recordings import active
from tracekeeper.tracing.state import RecordState
from tracekeeper.tracing.tracking import UsageTotal, track_usage
from tracekeeper.types import ItemStatus, SpanStatus

LIMIT = 1 << 20
"""Bytes of JSON that are kept of an item's fields."""
_LEFT = {
    SpanStatus.CANCELLED: "the task was cancelled before its end",
    SpanStatus.ABANDONED: "the task's stream was left before its end",
    SpanStatus.INTERRUPTED: "the worker of the task was lost",
}
"""Why a record that ended so is not judged, although there may be some output."""
PREFIX = "experiment:"
"""Of the tag that every record of an experiment has: ``tk.records('tag = "experiment:0123456789abcdef"')``."""


class TaskApp(App[..., Any]):
    """A task with the metrics of a run. It says when all scores of a call are final."""

    def __init__(
        self,
        task: Callable[..., Any],
        *,
        name: str,
        version: str,
        metrics: Sequence[Metric],
    ) -> None:
        super().__init__(task, name=name, version=version, metrics=metrics)
        self.tell: Callable[[Record], object] = lambda record: None
        """Told of each record whose scores are final, in whatever thread. Must be lock-free and raise nothing."""
        self._attempts: dict[bytes, Attempt] = {}
        """By the keys of their records, as long as these are open."""

    def _check(self, metrics: Sequence[Metric]) -> None:
        """Not here: the plan knows the items' fields."""

    def begins(self, record: Record, attempt: Attempt) -> None:
        """This record is an attempt's. Lock-free."""
        self._attempts[record.key] = attempt

    def decide(self, state: RecordState) -> tuple[ScoreBirth, ...]:
        """What each metric will do; nothing with the record of an attempt that came to no end. Lock-free."""
        attempt = self._attempts.pop(state.trace_id + state.span_id, None)
        reason = None if attempt is None or state.end is None else attempt.ends(state.end.status)
        return super().decide(state) if reason is None else self.decline(state, reason)

    def settled(self, record: Record) -> None:
        """All scores that this process computes are final. Lock-free.

        The app remembers none of them, unlike others: a run is told, and lets go of each as soon as it is a result.
        """
        self._unsettled.pop(record.key, None)
        self.tell(record)


class Before(NamedTuple):
    """What is known of an item whose call is not the first."""

    calls: tuple[EarlierCall, ...] = ()
    at: int = 0
    """When the store heard of it last, in nanoseconds: what is said from now on is younger, whatever the clock says."""


FIRST = Before()
"""Of an item that was not called before."""


class Call:
    """One call of the task with one item, and the latest attempt at it."""

    __slots__ = ("attempt", "before", "experiment", "item", "position", "repeat")

    def __init__(self, experiment: str, item: Item, repeat: int, position: int, before: Before = FIRST) -> None:
        self.experiment = experiment
        self.item = item
        self.repeat = repeat
        self.position = position
        self.before = before
        self.attempt: Attempt | None = None

    @property
    def record(self) -> Record | None:
        """The handle of its record, once that has begun."""
        return None if self.attempt is None else self.attempt.record

    @property
    def usage(self) -> UsageTotal | None:
        """What its model calls took; ``None`` when there were none."""
        attempt = self.attempt
        return None if attempt is None or attempt.usage.empty else attempt.usage

    def frame(self, status: ItemStatus, reason: str | None = None, data: Mapping[str, Any] | None = None) -> ItemFrame:
        """What the journal is told of it. Earlier calls are named from the first word on, so that none is forgotten."""
        record = self.record
        least = self.before.at + (1 if status is ItemStatus.RUNNING else 2)
        if data is None and self.before.calls:
            data = self.known()
        return ItemFrame(
            experiment=self.experiment,
            item=self.item.id,
            repeat=self.repeat,
            status=status.value,
            at=max(time.time_ns(), least),
            trace_id=b"" if record is None else record.trace,
            span_id=b"" if record is None else record.span,
            reason=reason,
            data=None if data is None else json_with(data, "earlier", self.before.calls),
        )

    def known(self) -> dict[str, Any]:
        """What the store keeps of the item beside its record."""
        item = self.item
        known = {"fields": dict(item.fields), "tags": list(item.tags), "split": item.split}
        return {name: value for name, value in known.items() if value}


class Attempt:
    """A block in which the task is called: the first record that begins inside is the item's.

    Whether its record is judged is decided once, by whoever comes first: its end, or the word that it is given up. So
    what the store says of it is what the run says, also of a call that goes on after its deadline.
    """

    __slots__ = ("_call", "_fate", "_token", "_tracking", "record", "usage")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._fate: dict[None, tuple[str | None, bool]] = {}
        """Why it is not judged, and whether its record's end decided that. (``setdefault``: once, without a lock.)"""
        self.record: Record | None = None
        self._tracking = track_usage()

    def __enter__(self) -> Attempt:
        if self._call.attempt is not None:
            self._call.attempt.give_up("the task was tried again")
        self._call.attempt = self
        self.usage: UsageTotal = self._tracking.__enter__()
        self._token = active.set((*active.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        active.reset(self._token)
        del self._token  # it has the context
        self._tracking.__exit__(kind, error, traceback)

    def begun(self, state: RecordState) -> None:
        """A record begins. Lock-free (see ``recordings``)."""
        if self.record is not None or not isinstance(state.app, TaskApp):
            return
        self.record = Record.of(state)
        state.app.begins(self.record, self)
        call = self._call
        item = call.item
        if state.span is not None:
            known = {"experiment": call.experiment, "id": item.id, "repeat": call.repeat, **call.known()}
            state.span.set(
                expected=... if item.expected is None else item.expected,
                metadata={ITEM: known},
                tags=(f"{PREFIX}{call.experiment}", *item.tags),
            )
        if state.keeper is not None and call.attempt is self:
            state.keeper.write(call.frame(ItemStatus.RUNNING))

    def give_up(self, reason: str) -> bool:
        """Nothing of it is to be judged. False: its record has ended, and what becomes of its scores is decided."""
        return not self._fate.setdefault(None, (reason, False))[1]

    def ends(self, status: str) -> str | None:
        """Its record ends: why that is not judged, ``None`` when it is. Lock-free."""
        return self._fate.setdefault(None, (_LEFT.get(SpanStatus(status)), True))[0]


def json_with(data: Mapping[str, Any], name: str, more: Sequence[Any]) -> bytes:
    """``json_of`` some data, and beside it, where there are any, things of our own: neither masked again nor cut.

    >>> json_with({"seconds": 1.5}, "again", [("a", 0)]), json_with({}, "again", [1]), json_with({}, "again", [])
    (b'{"again":[["a",0]],"seconds":1.5}', b'{"again":[1]}', b'{}')
    """
    text = json_of(data)
    if not text.startswith(b"{"):  # a mask of the user's made something else of it
        text = b"{}"
    if not more:
        return text
    between = b"" if text == b"{}" else b","
    return b"".join((b"{", msgspec.json.encode(name), b":", msgspec.json.encode(more), between, text[1:]))


def json_of(data: Any) -> bytes:
    """As captured values are kept: masked, and what JSON cannot hold as text that says what it was."""
    now = settings()
    return capture.encode(data, limit=LIMIT, mask_keys=now.mask_keys, mask=now.mask)[0]
