"""How many calls may go to one provider's model at once and per minute, over all threads and event loops.

One :class:`Limiter` for each key (provider and model), whoever calls: programs, metrics, batches. Three things hold a
call back, in the order of its arrival: requests and tokens per minute, a pause that the provider asked for
(``Retry-After``), and a number of calls in flight that finds itself. It doubles with each round of answers until the
provider says "too much" for the first time; from then on it grows by one a round and is halved by each round in which
that is said (additive increase, multiplicative decrease: Chiu and Jain, 1989; RFC 5681 for the two phases). See
``docs/design/limits.md``.

Invariants
----------
- First come, first served: nobody is let through before the one at the head of the queue.
- Who leaves the queue (cancelled, timed out, its loop closed, collected as garbage) leaves no hole: a place that was
  given to it meanwhile goes to the next.
- No primitive of asyncio is shared between loops, and no lock is waited for: whoever changes something leaves a note,
  and one of them, who got the gate without waiting, acts on all notes. A finaliser may do so.
- In any sixty seconds at most ``requests_per_minute`` calls begin.
"""

from __future__ import annotations

import _thread
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from tracekeeper.concurrency.budget import Budget
from tracekeeper.concurrency.waits import wait
from tracekeeper.concurrency.watchdog import watchdog

logger = logging.getLogger("tracekeeper")

FIRST = 16
"""Calls in flight before anything is known of a provider."""
MOST = 256
"""Calls in flight that a provider without complaints gets at most, unless ``max_concurrency`` says otherwise."""


class Limiter:
    """The places at one provider's model.

    Parameters
    ----------
    key:
        For messages: ``openai/gpt-4.1-mini``.
    requests_per_minute, tokens_per_minute:
        ``None``: no such limit is known. A tenth of a minute's worth may go at once.
    max_concurrency, min_concurrency:
        Bounds of the calls in flight.
    clock, alarm:
        ``time.monotonic`` and what calls a function at such a time; tests give their own.

    Example
    -------
    >>> limiter = Limiter("openai/gpt-4.1-mini", requests_per_minute=500)
    >>> with limiter.place(tokens=200, timeout=5) as place:
    ...     place.used(tokens=180)
    """

    def __init__(
        self,
        key: str = "",
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_concurrency: int = MOST,
        min_concurrency: int = 1,
        clock: Callable[[], float] = time.monotonic,
        alarm: Callable[[float, Callable[[], None]], None] | None = None,
    ) -> None:
        self.key = key
        self._clock = clock
        self._alarm = alarm or _alarm
        self._given = (requests_per_minute, tokens_per_minute, min_concurrency, max_concurrency)
        self._reset()
        _limiters.add(self)

    def _reset(self) -> None:
        requests, tokens, low, high = self._given
        self._gate = threading.Lock()
        self._life = object()  # places of the parent process are none of a forked child's
        self._dirty = False
        self._notes: deque[Callable[[], None]] = deque()
        self._queue: deque[_Ticket] = deque()
        self._in_flight = 0
        self._low, self._high = low, high
        self._width = float(min(max(FIRST, low), high))
        self._probing = True
        self._epoch = 0
        self._paused_until = 0.0
        self._throttled = 0
        self._alarmed = float("inf")
        now = self._clock()
        self._requests = Budget(requests, now) if requests else None
        self._tokens = Budget(tokens, now) if tokens else None

    # -- the public face ---------------------------------------------------------------------------------------

    @contextmanager
    def place(self, tokens: float = 0, timeout: float | None = None) -> Iterator[Place]:
        """A place for one call, for a thread.

        ``tokens``: what the call is expected to take of ``tokens_per_minute``; :meth:`Place.used` corrects it.

        Raises
        ------
        TimeoutError
            There was no place within ``timeout`` seconds; the message says what it waited for.
        """
        place = self.take(tokens, timeout)
        try:
            yield place
        except BaseException:
            place.release(answered=False)
            raise
        place.release()

    @asynccontextmanager
    async def aplace(self, tokens: float = 0, timeout: float | None = None) -> AsyncIterator[Place]:
        """The same for a task of any loop."""
        place = await self.atake(tokens, timeout)
        try:
            yield place
        except BaseException:
            place.release(answered=False)
            raise
        place.release()

    def allow(
        self,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_concurrency: int | None = None,
        min_concurrency: int | None = None,
    ) -> None:
        """Set what is named; it holds from the next call on."""
        self._note(partial(self._allow, requests_per_minute, tokens_per_minute, max_concurrency, min_concurrency))

    @property
    def counts_tokens(self) -> bool:
        """Whether there is a limit of tokens."""
        return self._tokens is not None

    def pause(self, seconds: float) -> None:
        """Let nobody through for that long: the provider asked for it."""
        self._note(partial(self._pause, self._clock() + seconds))

    def state(self) -> dict[str, Any]:
        """Plain data: how many are in flight, may be, wait, and how often the provider said "too much"."""
        return {
            "key": self.key,
            "in_flight": self._in_flight,
            "concurrency": int(self._width),
            "waiting": len(self._queue),
            "paused_for": max(0.0, self._paused_until - self._clock()),
            "throttled": self._throttled,
        }

    # -- waiting: two doors to one queue -----------------------------------------------------------------------

    def take(self, tokens: float = 0, timeout: float | None = None) -> Place:
        """A place that the caller gives back by ``Place.release``. Raises as ``place`` does."""
        bell = _thread.allocate_lock()
        bell.acquire()
        ticket = _Ticket(tokens, bell.release)
        self._note(partial(self._arrive, ticket))
        try:
            if ticket.granted or wait(lambda seconds: bell.acquire(timeout=seconds), timeout):
                return Place(self, ticket)
        except BaseException:
            self._note(partial(self._leave, ticket))
            raise
        why = self._holding(ticket)
        self._note(partial(self._leave, ticket))
        raise TimeoutError(f"no place at {self.key or 'the model'} within {timeout:g} s: {why}")

    async def atake(self, tokens: float = 0, timeout: float | None = None) -> Place:
        """The same for a task."""
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        ticket = _Ticket(tokens, partial(loop.call_soon_threadsafe, _ring, future))
        # A loop that is dropped with this waiting in it runs no finally block if the task stays referenced for ever;
        # a closed one refuses the bell, and a collected one closes this coroutine: both give the place back.
        try:
            self._note(partial(self._arrive, ticket))
            if not ticket.granted:
                async with asyncio.timeout(timeout):
                    await future
        except TimeoutError:
            why = self._holding(ticket)
            self._note(partial(self._leave, ticket))
            raise TimeoutError(f"no place at {self.key or 'the model'} within {timeout:g} s: {why}") from None
        except BaseException:
            self._note(partial(self._leave, ticket))
            raise
        return Place(self, ticket)

    # -- notes: whoever gets the gate acts on all of them ------------------------------------------------------

    def _note(self, change: Callable[[], None]) -> None:
        self._notes.append(change)
        self._work()

    def _work(self) -> None:
        self._dirty = True
        while self._dirty and self._gate.acquire(blocking=False):
            try:
                self._dirty = False
                while self._notes:
                    self._notes.popleft()()
                self._let_through()
            finally:
                self._gate.release()

    def _let_through(self) -> None:
        now = self._clock()
        while self._queue:
            ticket = self._queue[0]
            if self._in_flight >= int(self._width):
                return  # whoever comes back lets the next one through
            wait = max(self._paused_until - now, self._wait(ticket, now))
            if wait > 0:
                self._look_again(now + wait)
                return
            self._queue.popleft()
            self._grant(ticket, now)

    def _wait(self, ticket: _Ticket, now: float) -> float:
        requests = self._requests.wait(1, now) if self._requests is not None else 0.0
        tokens = self._tokens.wait(ticket.tokens, now) if self._tokens is not None else 0.0
        return max(requests, tokens)

    def _grant(self, ticket: _Ticket, now: float) -> None:
        ticket.granted, ticket.epoch = True, self._epoch
        try:
            ticket.bell()
        except RuntimeError:  # its loop is closed: nobody waits there
            return
        ticket.counted, ticket.life = True, self._life
        self._in_flight += 1
        ticket.filled = self._in_flight >= int(self._width)
        if self._requests is not None:
            self._requests.take(1, now)
        if self._tokens is not None:
            self._tokens.take(ticket.tokens, now)

    def _look_again(self, when: float) -> None:
        if when >= self._alarmed and self._alarmed > self._clock():
            return
        try:
            self._alarm(when, self._rung)
        except RuntimeError as error:  # no thread to be had: the next call that comes or goes looks again
            logger.warning("tracekeeper cannot wait for %s: %s", self.key or "a limit", error)
        else:
            self._alarmed = when

    def _rung(self) -> None:
        self._alarmed = float("inf")
        self._work()

    def _arrive(self, ticket: _Ticket) -> None:
        self._queue.append(ticket)

    def _leave(self, ticket: _Ticket) -> None:
        if not ticket.granted:
            self._queue.remove(ticket)
        elif self._holds(ticket):  # it was given its place at the very moment: nothing was sent
            ticket.counted = False
            self._in_flight -= 1
            if self._requests is not None:
                self._requests.give(1, self._clock())
            if self._tokens is not None:
                self._tokens.give(ticket.tokens, self._clock())

    def _holds(self, ticket: _Ticket) -> bool:
        return ticket.counted and ticket.life is self._life

    def _come_back(self, ticket: _Ticket, answered: bool) -> None:
        if not self._holds(ticket):
            return
        ticket.counted = False
        self._in_flight -= 1
        if answered and ticket.filled and ticket.epoch == self._epoch:  # the places were all needed
            self._width = min(self._high, self._width + (1.0 if self._probing else 1.0 / self._width))

    def _too_much(self, ticket: _Ticket) -> None:
        self._throttled += 1
        if ticket.epoch == self._epoch:  # those that began before the last cut say nothing new
            self._epoch += 1
            self._probing = False
            self._width = max(float(self._low), self._width / 2)

    def _pause(self, until: float) -> None:
        self._paused_until = max(self._paused_until, until)

    def _correct(self, difference: float) -> None:
        if self._tokens is not None:
            self._tokens.take(difference, self._clock())

    def _allow(self, requests: float | None, tokens: float | None, high: int | None, low: int | None) -> None:
        now = self._clock()
        if requests is not None:
            self._requests = self._requests.changed(requests, now) if self._requests else Budget(requests, now)
        if tokens is not None:
            self._tokens = self._tokens.changed(tokens, now) if self._tokens else Budget(tokens, now)
        self._high = self._high if high is None else high
        self._low = min(self._low if low is None else low, self._high)
        self._width = min(max(self._width, float(self._low)), float(self._high))
        self._given = (requests or self._given[0], tokens or self._given[1], self._low, self._high)

    def _holding(self, ticket: _Ticket) -> str:
        now = self._clock()
        if self._paused_until > now:
            return f"the provider asked to wait {self._paused_until - now:.1f} s longer"
        if self._in_flight >= int(self._width):
            return f"{self._in_flight} calls are in flight, and {int(self._width)} may be"
        return "its requests or tokens per minute are used up"


class Place:
    """One call's place; given back at the end of the block."""

    __slots__ = ("_expected", "_limiter", "_ticket")

    def __init__(self, limiter: Limiter, ticket: _Ticket) -> None:
        self._limiter = limiter
        self._ticket = ticket
        self._expected = ticket.tokens

    def used(self, tokens: float) -> None:
        """What the call really took of the tokens per minute."""
        limiter, difference = self._limiter, tokens - self._expected
        self._expected = tokens
        limiter._note(partial(limiter._correct, difference))

    def too_much(self, retry_after: float | None = None) -> None:
        """The provider refused the call because of too many (status 429 or 529); it may have said for how long."""
        limiter = self._limiter
        if retry_after is not None:
            limiter.pause(retry_after)
        limiter._note(partial(limiter._too_much, self._ticket))
        self.release(answered=False)

    def release(self, *, answered: bool = True) -> None:
        """The call is over; ``answered`` unless it failed. Once; a second time does nothing."""
        limiter = self._limiter
        limiter._note(partial(limiter._come_back, self._ticket, answered))


class _Ticket:
    """Who waits. Everything but ``tokens`` and ``bell`` is changed by the holder of the gate alone."""

    __slots__ = ("bell", "counted", "epoch", "filled", "granted", "life", "tokens")

    def __init__(self, tokens: float, bell: Callable[[], object]) -> None:
        self.tokens = tokens
        self.bell = bell
        self.granted = False
        self.counted = False
        self.filled = False
        self.epoch = 0
        self.life: object = None


def _alarm(when: float, callback: Callable[[], None]) -> None:
    # The watchdog's clock stands still while the process does: what was set before a pause comes later, never sooner.
    dog = watchdog()
    dog.at(dog.now() + (when - time.monotonic()), callback)


def _ring(future: Any) -> None:
    if not future.done():
        future.set_result(None)


_limiters: weakref.WeakSet[Limiter] = weakref.WeakSet()
_by_key: dict[str, Limiter] = {}


def limiter_for(key: str) -> Limiter:
    """The one limiter of a key in this process, made at the first question.

    Example
    -------
    >>> limiter_for("openai/gpt-4.1-mini") is limiter_for("openai/gpt-4.1-mini")
    True
    """
    found = _by_key.get(key)
    return _by_key.setdefault(key, Limiter(key)) if found is None else found


def _after_fork_in_child() -> None:
    for limiter in list(_limiters):  # those in flight and those that wait are the parent's
        limiter._reset()


if hasattr(os, "register_at_fork"):  # absent on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
