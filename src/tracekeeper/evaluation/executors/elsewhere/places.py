"""The workers of a run and the calls that are on them: who gets the next call, who is late, who was lost.

One daemon thread hears what workers say. Frames it journals at once; what belongs to a call goes to that call's inbox,
on the loop where its coroutine waits.

Invariants
----------
- A call that was given to a worker hears its end: from the worker, or ``Lost`` when that is gone. A worker that has
  fallen silent (C code holds the interpreter lock, the machine hangs) is killed ``OVERDUE`` after the deadline of a
  call. If that call was alone there, it timed out. Of several nobody knows which held the others up: each is lost, and
  made again alone.
- A call that was lost before is alone on its worker, so a call that kills its workers costs its neighbours one attempt.
- Workers that end before they are ready are replaced ``STARTS`` times in a row, then the run is told to stop.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from tracekeeper.concurrency.threads import start_daemon
from tracekeeper.evaluation.executors.elsewhere.engine import Engine, Gone
from tracekeeper.evaluation.executors.elsewhere.flights import Flight, Place, Stopped
from tracekeeper.evaluation.executors.elsewhere.messages import Chunk, Ended, Frame, Lost, Message, Order, Ready, Setup
from tracekeeper.tracing.elsewhere import Arriving
from tracekeeper.tracing.keeper import Keeper
from tracekeeper.tracing.state import RecordState
from tracekeeper.tracing.tracking import UsageTotal

log = logging.getLogger("tracekeeper")

LOOK = 0.2
"""Seconds between two looks at deadlines."""
OVERDUE = 1.0
"""Seconds that a worker has to say that a call is beyond its deadline: it enforces the deadline itself."""
STARTS = 3
HELD = 16
"""Threads and loops of calls that never came back, from which on a worker is replaced when it has nothing to do."""
ANSWERING = 30.0
"""Seconds after that for a worker that answers, and still does not say that a call is over."""
SILENT = "its worker did not answer any more and was ended"
LEAVE = 2.0
"""Seconds that workers have at the end for scores that are computed there."""
AT_EXIT = 10.0
"""Seconds that the end of the interpreter waits for all of that, where nobody has waited for it before."""
SAY_AFTER = 10.0
"""Seconds without any worker after which that is said."""
START_WITHIN = 300.0
"""Seconds without any worker after which the run is told to stop, unless an executor says otherwise."""


class Places:
    """The workers of one run.

    Parameters
    ----------
    failed:
        Called, from another thread, with a sentence when there will be no workers.
    start_within:
        Seconds without any worker after which that is so; ``None``: never.
    """

    def __init__(
        self,
        engine: Engine,
        setup: Setup,
        *,
        count: int,
        keeper: Keeper,
        failed: Callable[[str], None],
        start_within: float | None = START_WITHIN,
    ) -> None:
        self._engine = engine
        self._setup = setup
        self._count = count
        self._keeper = keeper
        self._failed = failed
        self._start_within = start_within
        self._lock = threading.Lock()
        self._places: list[Place] = []
        self._waiting: deque[Flight] = deque()
        self._stopped = ""
        self._closing = threading.Event()
        self._at_once = False
        self._ended = threading.Event()
        self._starts_failed = 0
        self._late = 0.0
        """Seconds by which this process itself was held up: nobody's deadline pays for them."""
        self._alone_since = time.monotonic()
        self._said = False

    # -- from calls --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to start workers. Returns at once."""
        atexit.register(self._at_exit)  # before what the engine registered, which is there already
        start_daemon(self._run, "tracekeeper-elsewhere")

    def ask(self, flight: Flight) -> None:
        """Give it a place: it hears the ``Place`` when there is one, or ``Stopped``."""
        with self._lock:
            stopped = self._stopped
            if not stopped:
                self._waiting.append(flight)
        if stopped:
            flight.hear(Stopped(stopped))
        else:
            self._assign()

    def send(self, flight: Flight, order: Order, state: RecordState | None) -> None:
        """Have its place make the call."""
        place = flight.place
        assert place is not None
        with self._lock:
            if flight.number not in place.flights:  # it was lost meanwhile, and has heard so
                return
            flight.state = state
            if state is not None:
                place.arriving.expect(state)
            if self._setup.timeout is not None:
                flight.overdue_at = self._now() + self._setup.timeout + OVERDUE
            flight.sent = True
            place.unsent[flight.number] = order
            first = len(place.unsent) == 1
        if first:
            flight.later(partial(self._send, place))

    def _send(self, place: Place) -> None:
        with self._lock:
            orders, place.unsent = [*place.unsent.values()], {}
        if orders:
            place.hosted.begin(orders)

    def over(self, flight: Flight) -> None:
        """Its place is free. One that had not ended is cancelled there."""
        with self._lock:
            place = flight.place
            if flight.over or place is None:
                flight.over = True
                return
            flight.over = True
            there = place.flights.pop(flight.number, None)
            unsent = place.unsent.pop(flight.number, None)
            if flight.state is not None:
                place.arriving.forget(flight.state)
        if there is not None and flight.sent and unsent is None:
            place.hosted.cancel(flight.number)
        self._assign()

    def stop(self, reason: str) -> None:
        """Give no more places. From any thread."""
        with self._lock:
            self._stopped = self._stopped or reason
            waiting, self._waiting = [*self._waiting], deque()
        for flight in waiting:
            flight.hear(Stopped(reason))

    @property
    def stopped(self) -> str:
        """Why no more calls begin; empty when they do."""
        return self._stopped

    def close(self, *, at_once: bool = False) -> None:
        """End the workers. Waits for their last words, ``LEAVE`` and a second at most; ``at_once``, for none."""
        self.stop("the run is over")
        self._at_once = self._at_once or at_once
        self._closing.set()
        self._ended.wait(LEAVE + 2 * LOOK + 1)

    def _at_exit(self) -> None:
        """The interpreter ends before the workers have: an engine does not bear to be used after its own end."""
        self._closing.set()
        self._ended.wait(AT_EXIT)

    # -- who gets what -----------------------------------------------------------------------------------------

    def _assign(self) -> None:
        with self._lock:
            given: list[Flight] = []
            for flight in [*self._waiting]:
                if flight.over:  # it was cancelled while it waited
                    self._waiting.remove(flight)
                    continue
                place = self._free(flight)
                if place is None:
                    if flight.alone:
                        continue  # others need not wait for it
                    break
                self._waiting.remove(flight)
                flight.place = place
                place.flights[flight.number] = flight
                given.append(flight)
        for flight in given:
            flight.hear(flight.place)

    def _free(self, flight: Flight) -> Place | None:
        able = sorted(
            (one for one in self._places if one.ready and not one.retiring and not one.alone),
            key=lambda one: len(one.flights),
        )
        if flight.alone:
            return able[0] if able and not able[0].flights else None
        if any(one.alone and not one.over for one in self._waiting):
            able = able[1:]  # the one with the least to do is let run empty
        return able[0] if able and len(able[0].flights) < self._setup.places else None

    # -- the thread that hears ---------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            looked = time.monotonic()
            while not self._closing.is_set():
                self._replace()
                if not self._places:  # and there will be none
                    self._closing.wait(LOOK)
                for place, said in self._engine.wait([one.hosted for one in self._places], LOOK):
                    self._heard(self._of(place), said)
                now = time.monotonic()
                if now - looked > LOOK:
                    self._late += max(0.0, now - looked - 3 * LOOK)
                    looked = now
                    self._look()
            if not self._at_once:
                self._leave()
        except Exception as error:
            log.exception("tracekeeper: the workers of a run cannot be heard any more")
            self._give_up(f"{self._engine.name} failed: {type(error).__name__}: {error}")
        finally:
            self._end()

    def _of(self, hosted: Any) -> Place:
        return next(one for one in self._places if one.hosted is hosted)

    def _replace(self) -> None:
        for place in [one for one in self._places if one.retiring and not one.flights]:
            place.hosted.kill()
            self._drop(place, "it was replaced")
        if self._stopped:
            return
        while len(self._places) < self._count:
            place = Place(self._engine.start(self._setup), Arriving(self._keeper))
            with self._lock:
                self._places.append(place)

    def _heard(self, place: Place, said: list[Message] | Gone) -> None:
        if isinstance(said, Gone):
            self._gone(place, said.reason)
            return
        place.heard_at = self._now()
        for message in said:
            self._take(place, message)

    def _take(self, place: Place, message: Message) -> None:
        match message:
            case Frame(payload):
                place.arriving.take(payload)
            case Chunk(number):
                if (flight := place.flights.get(number)) is not None:
                    flight.hear(message)
            case Ended(number):
                with self._lock:
                    flight = place.flights.pop(number, None)
                place.retiring = place.retiring or message.held >= HELD
                if flight is not None:
                    flight.hear(message)
                    self._assign()
            case Ready(refused, host, pid):
                if refused is not None:
                    self._give_up(refused)
                    return
                place.ready, place.where = True, f"{host}, process {pid}"
                self._starts_failed = 0
                self._assign()

    def _gone(self, place: Place, reason: str) -> None:
        if not place.ready:
            self._starts_failed += 1
            if self._starts_failed >= STARTS:
                self._give_up(
                    f"{self._starts_failed} {self._engine.name} workers in a row ended as they began: {reason}"
                )
        elif not place.retiring:
            log.warning("tracekeeper: a %s worker is gone (%s): %s", self._engine.name, place.where, reason)
        place.hosted.kill()  # it may only be out of reach, or have failed in a way that the engine survives
        self._drop(place, reason)

    def _drop(self, place: Place, reason: str) -> None:
        with self._lock:
            if place in self._places:
                self._places.remove(place)
            flights, place.flights = [*place.flights.values()], {}
        where = f" ({place.where})" if place.where else ""
        for flight in flights:
            flight.hear(Lost(flight.number, f"its {self._engine.name} worker{where} was lost: {reason}"))
        place.arriving.gone()
        if not any(one.ready for one in self._places):
            self._alone_since = time.monotonic()

    def _look(self) -> None:
        """At deadlines, and whether there are workers at all."""
        now = self._now()
        for place in [*self._places]:
            late = max(
                (now - one.overdue_at for one in [*place.flights.values()] if one.overdue_at is not None), default=-1
            )
            if late < 0 or (now - place.heard_at < OVERDUE and late < ANSWERING):
                continue
            with self._lock:
                flights = [*place.flights.values()]
                if len(flights) == 1:  # no other one can have held it up
                    place.flights.clear()
            if len(flights) == 1:
                timeout = self._setup.timeout or 0.0
                reason = f"timed out after {timeout:g} s; {SILENT} ({place.where})"
                flights[0].hear(_timed_out(flights[0], reason, timeout))
            self._gone(place, SILENT)
        if any(one.ready for one in self._places) or self._stopped:
            self._alone_since = time.monotonic()
            return
        alone = time.monotonic() - self._alone_since
        if self._start_within is not None and alone > self._start_within:
            self._give_up(f"no {self._engine.name} worker was ready within {self._start_within:g} s")
        elif alone > SAY_AFTER and not self._said:
            self._said = True
            log.warning("tracekeeper: still waiting for %s to start workers: is all of it in use?", self._engine.name)

    def _give_up(self, reason: str) -> None:
        if not self._stopped:
            log.warning("tracekeeper: the run cannot go on: %s", reason)
            self.stop(reason)
            self._failed(reason)

    def _leave(self) -> None:
        deadline = time.monotonic() + LEAVE
        threads = []
        for place in [one for one in self._places if one.ready]:
            thread = threading.Thread(target=self._last_words, args=(place,), daemon=True)
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join(max(0.0, deadline + 1.5 - time.monotonic()))  # each has given up by then

    def _last_words(self, place: Place) -> None:
        try:
            said = place.hosted.leave(LEAVE)
        except Exception as error:  # noqa: BLE001  it is gone, or too late: what it traced last is ended below
            log.debug("tracekeeper: a worker did not say its last words: %s", error)
            return
        for message in said:
            if isinstance(message, Frame):
                place.arriving.take(message.payload)

    def _end(self) -> None:
        for place in [*self._places]:
            try:
                place.hosted.kill()
            except Exception as error:  # noqa: BLE001  the engine itself is gone
                log.debug("tracekeeper: a worker could not be ended: %s", error)
            self._drop(place, "the run is over")
        self._ended.set()
        atexit.unregister(self._at_exit)

    def _now(self) -> float:
        return time.monotonic() - self._late


def _timed_out(flight: Flight, reason: str, seconds: float) -> Ended:
    return Ended(flight.number, "timed_out", b"", b"", "", reason, seconds, None, UsageTotal(), 0)
