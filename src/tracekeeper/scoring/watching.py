"""Being told of scores: ``tk.on_score``, ``tk.on_error`` and an app's ``on_error=``.

The engine calls ``settled`` for every final score of this process, whoever asked for it (background, inline, worker,
re-scoring), after the score's frame is in the journal and its record was told. That must cost the engine nothing and
can never break it: a score is put into the queue of each subscription that wants it, and that is all. A queue is
bounded; what does not fit is counted and said.

A subscription's callback is called for one score at a time, in the order in which they settled, on the deadline runner:
a sync one on a thread, an async one on an event loop. One that does not come back within ``PATIENCE`` is counted and
left behind, and the next score is delivered: neither the engine nor another subscription waits for it.
"""

from __future__ import annotations

import difflib
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from tracekeeper.concurrency import Outcome, is_async
from tracekeeper.concurrency.runner import Runner
from tracekeeper.configuration.settings import bare_context
from tracekeeper.tracing import runtime
from tracekeeper.types import ConfigurationError, Score, ScoreStatus
from tracekeeper.types.single import Single

if TYPE_CHECKING:
    from tracekeeper.scoring.jobs import Job
    from tracekeeper.scoring.record import Record
    from tracekeeper.tracing.keeper import Keeper

log = logging.getLogger("tracekeeper")

LIMIT = 10_000
"""Scores that wait for one subscription's callback."""
PATIENCE = 60.0
"""Seconds that a callback may take."""
AT_ONCE = 1_000
"""Callbacks that run at the same time, one for each subscription."""
ERRORS = frozenset({ScoreStatus.FAILED, ScoreStatus.TIMED_OUT})
_STATUSES = tuple(status for status in ScoreStatus if status.final)

OnScore = Callable[[Any, Score], object]
"""Called with a ``Record`` and the score; of a score on a span or a session with a :class:`Target`."""


class Target(NamedTuple):
    """What was judged, where that is no record: a span, or a session."""

    target: str
    """``span`` or ``session``."""
    trace_id: str
    """Hex text; empty for a session."""
    span_id: str
    session_id: str


class Subscription(Single):
    """A callback and the scores it wants. ``cancel`` ends it; so does leaving it as a context manager.

    Attributes
    ----------
    delivered, failed, timed_out, dropped:
        Calls that returned, raised, or did not come back in 60 s; and scores that did not fit into the queue.
    """

    def __init__(
        self, callback: OnScore, names: Iterable[str] | None = None, statuses: Iterable[str] | None = None
    ) -> None:
        if not callable(callback):
            raise ConfigurationError(f"on_score({callback!r}): expected a function that takes a record and a score")
        self.callback = callback
        self.names = _names(names)
        self.statuses = _checked_statuses(statuses)
        self.asynchronous = is_async(callback)
        self._context = bare_context()
        _callbacks()  # here, where a lock may be taken: scores settle anywhere
        self._counting = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """As new: at first, and in a forked child, whose parent calls for what it has."""
        self.delivered = self.failed = self.timed_out = self.dropped = 0
        self.cancelled = False
        self._queue: deque[tuple[Record | Target, Score]] = deque()
        self._idle: list[None] = [None]  # popped by whoever starts the next call: there is one at a time

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, as before it was subscribed."""
        return self.callback(*args, **kwargs)

    def cancel(self) -> None:
        """Be told of nothing more. What waits is let go; a call that runs goes on."""
        self.cancelled = True
        _forget(self)
        self._queue.clear()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()

    @property
    def waiting(self) -> int:
        """Scores whose call has not ended."""
        return len(self._queue) + (not self._idle)

    def wants(self, score: Score) -> bool:
        """Whether it is to be told of a score."""
        return (self.names is None or score.name in self.names) and score.status in self.statuses

    def offer(self, record: Record | Target, score: Score) -> None:
        """Tell it later. Never waits and never raises an ``Exception``."""
        if len(self._queue) >= LIMIT:
            with self._counting:
                self.dropped += 1
                first = self.dropped == 1
            if first:
                log.warning(
                    "tracekeeper: %s does not keep up: %d scores wait for it, and further ones are not delivered; "
                    "they are stored (said once, counted in .dropped)",
                    self,
                    LIMIT,
                )
            return
        self._queue.append((record, score))
        self._next()

    def _next(self) -> None:
        # The queue was appended to before this looks at the token, and the token is put back before this looks at the
        # queue again: whichever of two threads comes second sees the other's.
        while self._queue and not self.cancelled:
            try:
                self._idle.pop()
            except IndexError:
                return
            try:
                record, score = self._queue.popleft()
            except IndexError:  # taken, or let go, meanwhile
                self._idle.append(None)
                continue
            try:
                _callbacks().start(
                    partial(self.callback, record, score),
                    timeout=PATIENCE,
                    done=self._called,
                    name=f"{self}",
                    context=self._context.copy(),
                    asynchronous=self.asynchronous,
                )
            except RuntimeError as error:  # no thread to be had, or the interpreter is going down
                with self._counting:
                    self.dropped += 1
                log.warning("tracekeeper cannot call %s: %s", self, error)
                self._idle.append(None)
            return

    def _called(self, outcome: Outcome[Any]) -> None:
        with self._counting:
            if outcome.ok:
                self.delivered += 1
            elif outcome.status == "timed_out":
                self.timed_out += 1
            else:
                self.failed += 1
        try:
            if outcome.error is not None:
                log.error("tracekeeper: %s raised; scoring goes on", self, exc_info=outcome.error)
            elif not outcome.ok:
                log.error("tracekeeper: %s: %s; scoring goes on", self, outcome.reason)
        finally:
            self._idle.append(None)
            self._next()

    def __repr__(self) -> str:
        name = getattr(self.callback, "__qualname__", None) or type(self.callback).__qualname__
        return f"<Subscription of {name}>"


_subscriptions: tuple[Subscription, ...] = ()
_changing = threading.Lock()
_runners: list[Runner] = []
_apps: weakref.WeakSet[Subscription] = weakref.WeakSet()


@overload
def on_score(
    callback: OnScore, /, *, names: Iterable[str] | None = None, statuses: Iterable[str] | None = None
) -> Subscription: ...
@overload
def on_score(
    callback: None = None, /, *, names: Iterable[str] | None = None, statuses: Iterable[str] | None = None
) -> Callable[[OnScore], Subscription]: ...
def on_score(
    callback: OnScore | None = None,
    /,
    *,
    names: Iterable[str] | None = None,
    statuses: Iterable[str] | None = None,
) -> Subscription | Callable[[OnScore], Subscription]:
    """Call ``callback(record, score)`` for every score that becomes final in this process, until it is cancelled.

    Parameters
    ----------
    callback:
        Sync or async. One call at a time, in the order of settling, on a thread or loop of Tracekeeper. What it raises
        is logged and counted; after 60 s it is left behind. ``record`` is a ``tk.Record`` (of a score on a span or a
        session a tuple ``(target, trace_id, span_id, session_id)``).
    names:
        Only scores of these names.
    statuses:
        Only these, of ``scored failed timed_out cancelled skipped``.

    Returns
    -------
    Subscription
        With ``cancel()``; also a context manager. Without a callback: a decorator.

    Raises
    ------
    ConfigurationError
        Something that cannot be called, or an unknown status; the nearest is named.

    Example
    -------
    >>> import tracekeeper as tk
    >>> import queue
    >>> def short(output):
    ...     return len(output) < 40
    >>> seen = queue.SimpleQueue()
    >>> with on_score(lambda record, score: seen.put((score.name, score.value)), names=["short"]):
    ...     record = tk.log_record(input="weather?", output="mild", metrics=[short])
    ...     print(seen.get(timeout=10))
    ('short', True)
    """
    if callback is None:
        return lambda function: on_score(function, names=names, statuses=statuses)
    made = Subscription(callback, names, statuses)
    global _subscriptions
    with _changing:
        _subscriptions = (*_subscriptions, made)
    return made


@overload
def on_error(callback: OnScore, /, *, names: Iterable[str] | None = None) -> Subscription: ...
@overload
def on_error(callback: None = None, /, *, names: Iterable[str] | None = None) -> Callable[[OnScore], Subscription]: ...
def on_error(
    callback: OnScore | None = None, /, *, names: Iterable[str] | None = None
) -> Subscription | Callable[[OnScore], Subscription]:
    """Call ``callback(record, score)`` for every score that ends ``failed`` or ``timed_out`` in this process.

    As ``tk.on_score`` with these two statuses. For the scores of one app: ``tk.app(on_error=callback)``.
    """
    statuses = [str(status) for status in sorted(ERRORS)]
    if callback is None:
        return on_score(names=names, statuses=statuses)
    return on_score(callback, names=names, statuses=statuses)


def of_app(callback: OnScore | None) -> Subscription | None:
    """The subscription behind an app's ``on_error=``: the app keeps it, and it is told of that app's scores only."""
    if callback is None:
        return None
    made = Subscription(callback, statuses=ERRORS)
    _apps.add(made)
    return made


def settled(keeper: Keeper, job: Job, score: Score) -> None:
    """A score became final. Called by the engine, from any of its threads; costs nothing when nobody listens."""
    own = None
    if score.status in ERRORS:
        own = getattr(getattr(job.handle, "_app", None), "errors", None)
    if own is None and not _subscriptions:
        return
    try:
        _tell(_subscriptions if own is None else (*_subscriptions, own), job, score)
    except Exception:  # the other scores are to be said all the same
        log.exception("tracekeeper: whoever watches could not be told of score %s", score.name)


def warm() -> None:
    """Have threads at hand before scores settle: see ``Runner.warm``. Costs nothing when nobody listens. Lock-free."""
    if _runners and (listeners := len(_subscriptions) + len(_apps)):
        _runners[0].warm(min(listeners, AT_ONCE), asynchronous=any(one.asynchronous for one in _subscriptions))


def _tell(subscriptions: Iterable[Subscription], job: Job, score: Score) -> None:
    record: Record | Target | None = None
    for one in subscriptions:
        if one.wants(score):
            if record is None:
                record = _target(job)
            one.offer(record, score)


def status() -> dict[str, int]:
    """What ``tracekeeper status`` shows of the callbacks of this process."""
    every = (*_subscriptions, *_apps)
    counted = {
        name: sum(getattr(one, name) for one in every) for name in ("delivered", "failed", "timed_out", "dropped")
    }
    return {"subscriptions": len(every), "waiting": sum(one.waiting for one in every), **counted}


def _target(job: Job) -> Record | Target:
    from tracekeeper.scoring.record import Record

    source = job.source
    kind = getattr(source, "target", "record")
    if kind != "record":
        return Target(kind, source.trace_id.hex(), source.span_id.hex(), getattr(source, "session_id", ""))
    return job.handle if isinstance(job.handle, Record) else Record.of_key(source.trace_id, source.span_id)


def _forget(one: Subscription) -> None:
    global _subscriptions
    with _changing:
        _subscriptions = tuple(other for other in _subscriptions if other is not one)


def _callbacks() -> Runner:
    """The runner of callbacks, apart from the metrics': a callback that hangs holds none of their threads."""
    if not _runners:
        with _changing:
            if not _runners:
                _runners.append(Runner(name="callbacks", concurrency=AT_ONCE))
    return _runners[0]


def _names(names: Iterable[str] | None) -> frozenset[str] | None:
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ConfigurationError(f"names={names!r}: expected a list of names, such as [{names!r}]")
    return frozenset(names)


def _checked_statuses(statuses: Iterable[str] | None) -> frozenset[str]:
    if statuses is None:
        return frozenset(_STATUSES)
    if isinstance(statuses, str) or not isinstance(statuses, Iterable):
        raise ConfigurationError(f"statuses={statuses!r}: expected a list of statuses, such as ['failed']")
    chosen = frozenset(str(status) for status in statuses)
    for status in sorted(chosen):
        if status not in _STATUSES:
            near = difflib.get_close_matches(status, _STATUSES, n=1)
            hint = f"; did you mean {str(near[0])!r}?" if near else ""
            raise ConfigurationError(f"statuses: {status!r} is no final status{hint}; known: {', '.join(_STATUSES)}")
    return chosen


def _drain(deadline: float) -> None:
    """At exit the scores are final; what is left is to call, as far as the time allows."""
    every = (*_subscriptions, *_apps)
    if _runners and any(one.waiting for one in every):
        while any(one.waiting for one in every) and (left := deadline - time.monotonic()) > 0:
            _runners[0].drain(left)  # the end of a call lets the next one begin
    lost = sum(one.waiting for one in every)
    if lost:
        log.warning("tracekeeper: %d scores were not delivered to callbacks before the process exited", lost)


def _after_fork_in_child() -> None:
    for one in (*_subscriptions, *_apps):
        one.reset()


runtime.after_fork_in_child(_after_fork_in_child)
runtime.at_exit(_drain, order=15)
