"""Waiting for scores: from a thread, from a task, or by callback.

One rule for all three (``_Wait``): a wait knows which names of which records it still lacks. It registers with each
record *before* it looks, and a record pokes its waits *after* it has stored a score, so no settling is missed; the poke
is one ``SimpleQueue.put``, which is reentrant, because a record may end in a finaliser. Every wait has one deadline
for everything, and ends with what there is.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heappop, heappush
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, overload

from tracekeeper.concurrency.waits import get
from tracekeeper.tracing import runtime
from tracekeeper.types import ConfigurationError, MetricError, Score
from tracekeeper.types.single import Single

if TYPE_CHECKING:
    from tracekeeper.scoring.record import Record

log = logging.getLogger("tracekeeper")

Callback = Callable[[Mapping[str, Score]], object]
OnScore = Callable[..., object]
"""Called with the score on a record's wait, with (record, score) on a recording's or an app's."""
Result = list[tuple["Record", dict[str, Score]]]

LONGEST = threading.TIMEOUT_MAX / 2
"""Seconds beyond which the system's own waits raise (some 146 years)."""
_FOREIGN_POLL = 0.05
"""Seconds between looks at the store for records of another process, with which we share no condition; doubles to 1."""


class _Wait:
    """What is still lacking, and the queue on which records poke.

    A poke costs the same however many records are waited for: those of other processes, which are looked up, are kept
    apart from those that poke.
    """

    def __init__(self, records: Iterable[Record], names: Sequence[str] | None, timeout: float | None) -> None:
        self.records = list(records)
        if isinstance(names, str):
            raise MetricError(f"names={names!r}: expected a list of names, such as [{names!r}]")
        self.names = None if names is None else tuple(names)
        if timeout is None:
            timeout = sum(record.allowance(self.names) for record in self.records)
        elif not isinstance(timeout, int | float) or not 0 <= timeout <= LONGEST:
            raise ConfigurationError(f"timeout={timeout!r}: expected a number of seconds, 0 or more")
        self.deadline = time.monotonic() + timeout
        self.pokes: SimpleQueue[Record | None] = SimpleQueue()
        self.poke: Callable[[Record | None], None] = self.pokes.put
        self.lacking: set[Record] = set()
        self.foreign: set[Record] = set()
        """Of these, records whose scores another process settles."""
        self.pause = _FOREIGN_POLL

    def begin(self) -> bool:
        """Register and look; whether there is anything to wait for."""
        for record in self.records:
            record.check_names(self.names)
            record.waits.append(self)
            self._consider(record)
        return bool(self.lacking)

    def look(self, record: Record | None) -> bool:
        """After a poke (``None``: nothing heard, look at records of other processes); whether anything is lacking."""
        if record is None:
            for one in tuple(self.foreign):
                self._consider(one)
            self.pause = min(1.0, self.pause * 2)
        elif record in self.lacking:
            self._consider(record)
        return bool(self.lacking)

    def _consider(self, record: Record) -> None:
        if record.settled(self.names):
            self.lacking.discard(record)
            self.foreign.discard(record)
        else:
            self.lacking.add(record)
            if not record.local:
                self.foreign.add(record)

    def patience(self) -> float:
        """Seconds to listen before looking again; 0 or less when the deadline is over."""
        left = self.deadline - time.monotonic()
        return min(left, self.pause) if self.foreign else left

    def finish(self) -> Result:
        for record in self.records:
            record.forget(self)
        return [(record, record.scores_named(self.names)) for record in self.records]


def wait_for_records(records: Iterable[Record], names: Sequence[str] | None, timeout: float | None) -> Result:
    """Block this thread until all is final or the deadline is over. Never raises for what a metric did."""
    wait = _Wait(records, names, timeout)
    try:
        lacking = wait.begin()
        while lacking and (patience := wait.patience()) > 0:
            try:
                poked = get(wait.pokes, patience)
            except Empty:
                poked = None
            lacking = wait.look(poked)
    finally:
        result = wait.finish()
    return result


async def await_records(records: Iterable[Record], names: Sequence[str] | None, timeout: float | None) -> Result:
    """The same without blocking the running loop; records of other processes are looked up off the loop."""
    import asyncio

    wait = _Wait(records, names, timeout)
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()

    def poke(record: Record | None) -> None:
        wait.pokes.put(record)
        try:
            loop.call_soon_threadsafe(heard.set)
        except RuntimeError:  # the loop was closed while we waited: nobody listens any more
            log.debug("a score settled after the loop that waited for it was closed")

    wait.poke = poke
    try:
        lacking = await asyncio.to_thread(wait.begin) if any(not r.local for r in wait.records) else wait.begin()
        while lacking and (patience := wait.patience()) > 0:
            try:
                async with asyncio.timeout(patience):
                    await heard.wait()
            except TimeoutError:
                lacking = await asyncio.to_thread(wait.look, None)
                continue
            heard.clear()
            while lacking:
                try:
                    lacking = wait.look(wait.pokes.get_nowait())
                except Empty:
                    break
    finally:
        result = wait.finish()
    return result


class RecordsWait(Single):
    """The waits of whatever has several records: a recording, an app."""

    @property
    def records(self) -> list[Record]:
        """The records that are waited for."""
        raise NotImplementedError

    @overload
    def wait_for_scores(self, names: Sequence[str] | None = None, *, timeout: float | None = None) -> Result: ...
    @overload
    def wait_for_scores(
        self,
        names: Sequence[str] | None = None,
        *,
        timeout: float | None = None,
        callback: Callable[[Result], object],
        on_score: OnScore | None = None,
    ) -> None: ...
    @overload
    def wait_for_scores(
        self, names: Sequence[str] | None = None, *, timeout: float | None = None, on_score: OnScore
    ) -> None: ...
    def wait_for_scores(
        self,
        names: Sequence[str] | None = None,
        *,
        timeout: float | None = None,
        callback: Callable[[Result], object] | None = None,
        on_score: OnScore | None = None,
    ) -> Result | None:
        """Wait until every score of every record is final, or ``timeout`` seconds are over; then what there is.

        Parameters
        ----------
        names:
            Only these scores. Default: all but deferred ones, which workers settle.
        timeout:
            Seconds, for everything together. Default: the sum of what the metrics allow themselves.
        callback, on_score:
            With either, return ``None`` at once; ``on_score(record, score)`` is called for each final score and
            ``callback([(record, scores), …])`` once at the end, from a thread of Tracekeeper.

        Raises
        ------
        MetricError
            A name that no metric of a record has; the nearest one is named.
        """
        if callback is not None or on_score is not None:
            notify(self.records, names, timeout, callback, on_score)
            return None
        return wait_for_records(self.records, names, timeout)

    async def await_scores(self, names: Sequence[str] | None = None, *, timeout: float | None = None) -> Result:
        """The same without blocking the running loop."""
        return await await_records(self.records, names, timeout)


def notify(
    records: Iterable[Record],
    names: Sequence[str] | None,
    timeout: float | None,
    callback: Callable[[Any], object] | None,
    on_score: OnScore | None,
    single: bool = False,
) -> None:
    """Call ``on_score`` for each final score and ``callback`` once with everything, from the dispatcher's thread."""
    _dispatcher.add(_Callbacks(records, names, timeout, callback, on_score, single))


class _Callbacks(_Wait):
    def __init__(
        self,
        records: Iterable[Record],
        names: Sequence[str] | None,
        timeout: float | None,
        callback: Callable[[Any], object] | None,
        on_score: OnScore | None,
        single: bool,
    ) -> None:
        super().__init__(records, names, timeout)
        for record in self.records:
            record.check_names(self.names)  # a mistyped name is the caller's to hear, not the dispatcher's log
        self.callback = callback
        self.on_score = on_score
        self.single = single
        self.told: set[tuple[int, str]] = set()

    def tell(self, record: Record) -> None:
        if self.on_score is None:
            return
        for name, score in record.scores_named(self.names).items():
            if score.final and (id(record), name) not in self.told:
                self.told.add((id(record), name))
                _call(self.on_score, *(() if self.single else (record,)), score)

    def tell_all(self) -> None:
        result = self.finish()
        for record, _ in result:
            self.tell(record)
        if self.callback is not None:
            _call(self.callback, result[0][1] if self.single else result)


def _call(function: Callable[..., object], *arguments: object) -> None:
    try:
        function(*arguments)
    except BaseException:  # a user's callback may raise anything; the dispatcher goes on, and the log has it
        log.exception("a callback of wait_for_scores raised")
        _dispatcher.failed += 1


class _Dispatcher:
    """The one thread that calls users' callbacks, so that a slow one never delays the scoring of others."""

    def __init__(self) -> None:
        self.reset()
        runtime.after_fork_in_child(self.reset)
        runtime.at_exit(self.drain, order=15)

    def reset(self) -> None:
        self.failed = 0
        self._inbox: SimpleQueue[tuple[_Callbacks, Record | None] | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._open: set[_Callbacks] = set()
        self._due: list[tuple[float, int, _Callbacks]] = []  # one entry for each open wait
        self._order = itertools.count()

    def add(self, callbacks: _Callbacks) -> None:
        callbacks.poke = lambda record: self._inbox.put((callbacks, record))
        self._inbox.put((callbacks, None))
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="tracekeeper-callbacks", daemon=True)
                self._thread.start()

    def drain(self, deadline: float) -> None:
        """At exit the scores are final; what is left is to call. Waits for the calls, up to the deadline."""
        thread = self._thread
        if thread is not None:
            self._inbox.put(None)
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while True:
            patience = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            try:
                got = self._inbox.get(timeout=patience)
            except Empty:
                self._overdue()
                continue
            if got is not None:
                self._take(*got)
            elif self._leave():
                return

    def _leave(self) -> bool:
        """Call what is left to call. False when something came meanwhile: a shutdown is not the end of the program."""
        with contextlib.suppress(Empty):
            while True:
                got = self._inbox.get_nowait()
                if got is not None:
                    self._take(*got)
        for callbacks in list(self._open):
            self._close(callbacks)
        with self._starting:
            if self._inbox.qsize():
                self._inbox.put(None)
                return False
            self._thread = None  # whoever adds something from here on starts another
            return True

    def _take(self, callbacks: _Callbacks, record: Record | None) -> None:
        if record is None:
            self._open.add(callbacks)
            callbacks.begin()
            for one in callbacks.records:
                callbacks.tell(one)
            heappush(self._due, (time.monotonic() + callbacks.patience(), next(self._order), callbacks))
        elif callbacks in self._open:
            callbacks.tell(record)
            callbacks.look(record)
        if callbacks in self._open and not callbacks.lacking:
            self._close(callbacks)

    def _overdue(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            callbacks = heappop(self._due)[2]
            if callbacks not in self._open:
                continue
            if callbacks.look(None) and now < callbacks.deadline:
                heappush(self._due, (now + max(0.0, callbacks.patience()), next(self._order), callbacks))
            else:
                self._close(callbacks)

    def _close(self, callbacks: _Callbacks) -> None:
        self._open.discard(callbacks)
        callbacks.tell_all()


_dispatcher = _Dispatcher()
