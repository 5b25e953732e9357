"""A run: calls that begin and end, scores that become final, and what is journaled of each as it happens.

Two streams of events come together here for each item: the outcome of its call, from the executor, and the word of its
app that all scores of its record are final. When both are there the item is a result, and what was held for it is let
go. The journal learns of a call's end before anything else does.
"""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tracekeeper.concurrency import Outcome, waits
from tracekeeper.concurrency.mapping import GRACE
from tracekeeper.concurrency.mapping import Call as MapCall
from tracekeeper.concurrency.shapes import describe, is_async
from tracekeeper.evaluation.accounts import because, without
from tracekeeper.evaluation.executors.executor import Elsewhere, Executor, Paced
from tracekeeper.evaluation.item import Item
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.running.bound import Bound
from tracekeeper.evaluation.running.progress import RunProgress
from tracekeeper.evaluation.running.task_app import FIRST, Before, Call, TaskApp
from tracekeeper.judging.binding import parameters_of
from tracekeeper.scoring.record import Record
from tracekeeper.tracing import failures, runtime
from tracekeeper.tracing.tracking import UsageTotal
from tracekeeper.types import ItemStatus, Score, faults

log = logging.getLogger("tracekeeper")

OnResult = Callable[[ItemResult], object]
_STATUS = {
    "ok": ItemStatus.OK,
    "error": ItemStatus.ERROR,
    "timed_out": ItemStatus.TIMED_OUT,
    "cancelled": ItemStatus.CANCELLED,
}
UNENDED = 5.0
"""Seconds without any score after which records are looked at that should have ended."""
AHEAD = 1_000
"""Calls that may have ended and wait for their scores before no more begin; at least four for each place."""
FINAL = frozenset({ItemStatus.OK, ItemStatus.ERROR, ItemStatus.TIMED_OUT, ItemStatus.SKIPPED})
"""An item with one of these is not run again. (``cancelled``: it is the rest of a run that was interrupted.)"""


class Run:
    """The state of one run. It is driven by one thread or task; only scores come from elsewhere.

    Parameters
    ----------
    experiment:
        Its id.
    app:
        The task with its metrics.
    work:
        What is to be called: item, which repeat, and its place among the results.
    executor:
        Where.
    max_failures:
        Calls that may fail (raise or time out) before nothing more begins; ``None``: any number.
    budget:
        US dollars that reported costs may add up to before nothing more begins; ``None``: any.
    before:
        By place: what is known of items that were called before.
    """

    def __init__(
        self,
        experiment: str,
        app: TaskApp,
        work: Sequence[tuple[Item, int, int]],
        executor: Executor,
        *,
        max_failures: int | None = None,
        budget: float | None = None,
        progress: RunProgress | None = None,
        on_result: OnResult | None = None,
        before: Mapping[int, Before] | None = None,
    ) -> None:
        self.results: dict[int, ItemResult] = {}
        """By place. Complete when the run is over: also what never began is here."""
        self.notes: list[str] = []
        """Why it ended early, in sentences."""
        self.interrupted = False
        """Whether Ctrl-C ended it."""
        self._experiment = experiment
        self._app = app
        self._versions = {name: one.version for one in app.metrics for name in one.names}
        self._settled: queue.SimpleQueue[Record] = queue.SimpleQueue()
        """Records whose scores are final and that were not looked at yet."""
        self._heard = time.monotonic()
        self._held = False
        self._most = AHEAD
        app.tell = self._judged
        self._work = work
        self._executor = executor
        self._max_failures = max_failures
        self._budget = budget
        self._progress = progress
        self._on_result = on_result
        self._before = before or {}
        self._keeper = runtime.keeper()
        self._calls: dict[int, Call] = {}
        """Begun, by index into ``work``."""
        self._ended: dict[bytes, tuple[Call, Outcome[Any]]] = {}
        """Calls whose outcome is there and whose scores are not, by their record."""
        self._early: dict[bytes, Record] = {}
        """Records whose scores are there and whose outcome is not."""
        self._given_up: set[bytes] = set()
        """Records of calls that timed out: what still comes of them is too late."""
        self._failed = 0
        self._spent = 0.0
        self._complaints = 0

    # -- the two doors -----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Make the calls and wait for their scores. Blocks; Ctrl-C ends it early, with what there is.

        Raises
        ------
        KeyboardInterrupt
            The second Ctrl-C.
        """
        try:
            self._pace()
            self._executor.run(self._to_call(), len(self._work), self._outcome)
            self._calls_are_over()
            self._wait_for_scores()
        finally:
            self._close()

    async def arun(self) -> None:
        """The same without blocking the running loop."""
        try:
            self._pace()
            await self._executor.arun(self._to_call(), len(self._work), self._outcome)
            self._calls_are_over()
            await asyncio.to_thread(self._wait_for_scores)
        finally:
            self._close()

    def _pace(self) -> None:
        if isinstance(self._executor, Paced):
            self._most = max(AHEAD, 4 * self._executor.concurrency)
            self._executor.hold = self._behind

    # -- calls -------------------------------------------------------------------------------------------------

    def _to_call(self) -> Iterator[MapCall]:
        call, name = self._app.call, describe(self._app.target)
        wanted = parameters_of(call)
        asynchronous = is_async(self._app.target)
        for index, (item, repeat, place) in enumerate(self._work):
            one = self._calls[index] = self._call(item, repeat, place)
            yield MapCall(Bound(one, call, wanted, asynchronous=asynchronous), name, asynchronous, Bound.settled)

    def _call(self, item: Item, repeat: int, place: int) -> Call:
        return Call(self._experiment, item, repeat, place, self._before.get(place, FIRST))

    def _outcome(self, outcome: Outcome[Any]) -> None:
        """A call has ended, or will not begin."""
        faults.point("evaluation.outcome")
        assert outcome.index is not None
        call = self._calls.pop(outcome.index, None)
        if call is None:  # never taken: there was no room before the run was stopped
            call = self._call(*self._work[outcome.index])
        status = _STATUS[outcome.status]
        if status in FINAL:
            self._keeper.write(call.frame(status, outcome.reason, _kept(call, outcome)))
        elif call.attempt is not None:
            self._keeper.write(call.frame(status, outcome.reason))
        if self._progress is not None:
            self._progress.add(outcome)
        self._count(call, status)
        record = call.record
        if record is None or not self._has_scores(call, status, outcome.reason):
            if record is not None:
                self._given_up.add(record.key)
                self._early.pop(record.key, None)
            self._result(call, outcome, None)
        elif record.key in self._early:
            del self._early[record.key]
            self._result(call, outcome, record)
        else:
            self._ended[record.key] = call, outcome
        self._take_settled()

    @staticmethod
    def _has_scores(call: Call, status: ItemStatus, reason: str | None) -> bool:
        """Whether the scores of its record are the item's. Those of a call that is given up are not, and are not made;
        unless its record had ended as its deadline came: then they are there, whatever they say."""
        if status in (ItemStatus.OK, ItemStatus.ERROR) or call.attempt is None:
            return True
        decided = not call.attempt.give_up(because(reason))
        return decided and status is ItemStatus.TIMED_OUT

    def _count(self, call: Call, status: ItemStatus) -> None:
        if status in (ItemStatus.ERROR, ItemStatus.TIMED_OUT):
            self._failed += 1
            if self._max_failures is not None and self._failed > self._max_failures:
                self._stop(f"more than {self._max_failures:,} calls failed")
        cost = None if call.usage is None else call.usage.cost
        if cost is not None:
            self._spent += cost
            if self._budget is not None and self._spent >= self._budget:
                self._stop(f"the budget of {self._budget:g} US dollars is spent")

    def _stop(self, reason: str) -> None:
        if reason not in self.notes:
            self.notes.append(reason)
            self._executor.stop(reason)

    def _calls_are_over(self) -> None:
        if self._executor.interrupted:
            self.interrupted = True
            self.notes.append("it was interrupted by Ctrl-C")
        if isinstance(self._executor, Elsewhere) and self._executor.trouble is not None:
            self.notes.append(self._executor.trouble)

    # -- scores ------------------------------------------------------------------------------------------------

    def _take_settled(self) -> None:
        while self._settled.qsize():  # nobody else takes
            self._scored(self._settled.get_nowait())

    def _judged(self, record: Record) -> None:
        """All scores of a record are final. From any thread, lock-free."""
        self._settled.put(record)
        self._heard = time.monotonic()
        if self._held and self._unjudged() <= self._most:
            self._held = False
            assert isinstance(self._executor, Paced)
            self._executor.look()

    def _unjudged(self) -> int:
        return len(self._ended) - self._settled.qsize()

    def _behind(self) -> bool:
        """Whether scores lag so far behind that no call is begun for now: what waits for them is in memory.

        When none has come for long, calls go on all the same: then it is not the number of them that scores wait for.
        """
        self._take_settled()
        self._held = self._unjudged() > self._most and time.monotonic() - self._heard < UNENDED
        return self._held and self._unjudged() > self._most  # one may have come before it could see that we are held

    def _scored(self, record: Record) -> None:
        if record.key in self._given_up:
            return
        ended = self._ended.pop(record.key, None)
        if ended is None:
            self._early[record.key] = record
        else:
            self._result(*ended, record)

    def _wait_for_scores(self) -> None:
        """Until all are final: each metric has a deadline, and the engine settles every score in bounded time.

        After Ctrl-C only for a moment: what ends in it is shown with its scores.
        """
        interrupted = self._executor.interrupted
        until = time.monotonic() + GRACE if interrupted else math.inf
        try:
            while self._ended and (left := until - time.monotonic()) > 0:
                try:
                    self._scored(waits.get(self._settled, min(left, UNENDED)))
                except queue.Empty:
                    if left > UNENDED:
                        self._let_go()
            self._take_settled()
        except KeyboardInterrupt:
            if interrupted:
                raise
            log.warning(
                "tracekeeper: Ctrl-C: %d items are still being judged; they are shown as they stand", len(self._ended)
            )
            self.interrupted = True
            self.notes.append("it was interrupted by Ctrl-C while items were being judged")

    def _let_go(self) -> None:
        """Nothing has come for long. Records that have not ended although their calls have will never be judged."""
        for key, (call, outcome) in [*self._ended.items()]:
            record = call.record
            if record is None or record.status == "running":
                log.warning("tracekeeper: the record of item %r has not ended; it is not judged", call.item.id)
                del self._ended[key]
                self._result(call, outcome, record)

    def _close(self) -> None:
        """What is not judged yet is shown as it stands."""
        for call, outcome in [*self._ended.values()]:
            self._result(call, outcome, call.record)
        self._ended.clear()
        self._early.clear()
        self._app.tell = _to_nobody  # what comes from now on is too late, and neither has the other any more
        if isinstance(self._executor, Paced):
            self._executor.hold = None
        if self._progress is not None:
            self._progress.close()
        if self._complaints > 1:
            log.warning("tracekeeper: on_result of an evaluation raised %d times", self._complaints)

    # -- results -----------------------------------------------------------------------------------------------

    def _result(self, call: Call, outcome: Outcome[Any], record: Record | None) -> None:
        status = _STATUS[outcome.status]
        if status is ItemStatus.CANCELLED and call.attempt is None:
            status = ItemStatus.PENDING  # it never began: a resume begins it
        usage = call.usage
        tokens = _tokens(usage) or (None, None)
        result = ItemResult(
            item_id=call.item.id,
            repeat=call.repeat,
            status=status,
            fields=call.item.fields,
            expected=call.item.expected,
            tags=call.item.tags,
            split=call.item.split,
            output=record.output if record is not None and status is ItemStatus.OK else None,
            error=None if outcome.error is None else failures.text_of(outcome.error),
            reason=outcome.reason,
            seconds=outcome.seconds if outcome.attempts else None,
            attempts=outcome.attempts,
            cost=None if usage is None else usage.cost,
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            trace_id="" if call.record is None else call.record.trace_id,
            span_id="" if call.record is None else call.record.span_id,
            scores=self._scores(outcome, record),
            earlier=call.before.calls,
        )
        call.attempt = None  # each has the other: only the collector would find them
        self.results[call.position] = result
        if self._progress is not None:
            self._progress.judged(result)
        if self._on_result is not None:
            try:
                self._on_result(result)
            except Exception as error:
                self._complaints += 1
                if self._complaints == 1:
                    log.warning("tracekeeper: on_result of an evaluation raised; it goes on", exc_info=error)

    def unknown(self, place: int) -> ItemResult:
        """Of a call whose outcome was lost on its way: a mistake of an executor or of ours, which the log names."""
        call = self._call(*next(one for one in self._work if one[2] == place))
        item = call.item
        reason = "its outcome is not known: see the log"
        return ItemResult(
            item_id=item.id,
            repeat=call.repeat,
            status=ItemStatus.PENDING,
            fields=item.fields,
            expected=item.expected,
            tags=item.tags,
            split=item.split,
            reason=reason,
            earlier=call.before.calls,
        )

    def _scores(self, outcome: Outcome[Any], record: Record | None) -> dict[str, Score]:
        """One of each metric, whatever became of the record."""
        scores = {} if record is None else record.scores
        if scores or not self._app.metrics:
            return scores
        why = "the call has no record" if record is None else "its record has not ended"
        return without(_STATUS[outcome.status], outcome.reason or why, self._versions)


def _to_nobody(record: Record) -> None:
    """Where a record's scores are told of when the run is over."""


def _tokens(usage: UsageTotal | None) -> tuple[int, int] | None:
    """In and out, where any call reported them."""
    return None if usage is None or usage.calls <= usage.unreported else (usage.input_tokens, usage.output_tokens)


def _kept(call: Call, outcome: Outcome[Any]) -> dict[str, Any]:
    """What the store keeps of an item besides its record."""
    usage = call.usage
    known = {
        **call.known(),
        "error": None if outcome.error is None else failures.text_of(outcome.error),
        "seconds": round(outcome.seconds, 6) if outcome.attempts else None,
        "attempts": outcome.attempts,
        "cost": None if usage is None else usage.cost,
        "tokens": _tokens(usage),
    }
    return {name: value for name, value in known.items() if value not in (None, "", [])}
