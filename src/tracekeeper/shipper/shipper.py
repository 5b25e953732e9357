"""What the shipper's thread does in a turn: ship its own journal, answer who asks, adopt the dead, and keep going.

Nothing that goes wrong ends it. A locked database is tried again for ever, with growing pauses and one line a minute in
the log; the calls go on and the journal buffers. A database that cannot be used (foreign, damaged, newer than this
version) is named once and tried again slowly. Anything else is logged with its traceback, and the feed begins again
from what is really stored.

Invariants
----------
- A request is answered without a reason only after everything that was in the journal when it was asked is in the
  store; with a reason as soon as it is clear that waiting does not help; else by its own deadline, in its own thread.
- The own journal goes first: a long adoption gives way after each batch.
- While scores of this process are open in the store, the store hears of it three times in a lease, however quiet it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tracekeeper.configuration.settings import base_settings
from tracekeeper.shipper.account import Ledger
from tracekeeper.shipper.adoption import Adopter
from tracekeeper.shipper.destination import Destination
from tracekeeper.shipper.feed import Feed
from tracekeeper.shipper.troubles import Troubles
from tracekeeper.shipper.worker import Request
from tracekeeper.store.errors import StaleCursor, StoreLocked
from tracekeeper.store.store import Store
from tracekeeper.types import JournalError, StoreError

if TYPE_CHECKING:
    from tracekeeper.journal.writer import Journal

log = logging.getLogger("tracekeeper")

ADOPT_EVERY = 5.0
"""Seconds between two looks for dead processes' journals."""

STALE_AT_ONCE = 3
"""So often in a row the feed begins again at once from what is stored; then it is trouble, with pauses."""

BATCHES = 8
"""Batches of the own journal in one turn that nobody asked for."""


RENEWALS = 3
"""Signs of life in the length of a lease."""


class Source(Protocol):
    """Whose journal it is: the keeper."""

    directory: Path
    destination: Destination
    journal: Journal | None
    sync: float | None

    def store_of(self, url: str) -> Store:
        """The open store of a URL."""

    def storing(self) -> None:
        """Something is about to be stored."""

    def stored(self) -> None:
        """A turn is over, in which something may have been stored. Must not block."""

    def detach(self) -> Journal | None:
        """Take the journal away from the writers: later writes open another."""

    def retire(self, journal: Journal, spans: int) -> None:
        """A journal of this process was stored whole, with so many spans, and removed."""


class Shipper:
    """The work of one keeper's thread."""

    def __init__(self, source: Source, urgent: Callable[[], bool]) -> None:
        self._source = source
        self._urgent = urgent
        self._journal: Journal | None = None
        self.feed: Feed | None = None
        """The present journal's; stays readable as an account when it has to be made anew (``_fresh``)."""
        self._fresh = False
        self.adopter = Adopter(source.directory, source.destination, source.store_of)
        self.troubles = Troubles()
        self._adopt_at = 0.0
        self._stale = 0
        self._waiting: list[Request] = []

    def turn(self, requests: list[Request]) -> float:
        """See ``worker.Crew``."""
        now = time.monotonic()
        self._waiting = [each for each in (*self._waiting, *requests) if each.deadline > now and not each.done]
        journal = self._source.journal
        if journal is not None:
            journal.maintain()  # also while the database is away: writers need room, and `sync` is a promise
        if not requests and now < self.troubles.retry_at:
            return self._at_most(self.troubles.retry_at - now)
        try:
            self._source.storing()
            more = self._ship()
            self._renew()
            more = self._adopt() or more
            self._close()
        except StaleCursor as error:
            # A commit whose answer was lost, or another shipper: begin again from what is stored.
            self._forget_feed()
            self._stale += 1
            if self._stale <= STALE_AT_ONCE:
                return 0.0
            self._excuse(self.troubles.unexpected(error), answer=True)
        except StoreLocked as error:
            self._excuse(self.troubles.locked(error), answer=False)
        except (StoreError, JournalError) as error:
            self._excuse(self.troubles.unusable(error), answer=True)
        except Exception as error:  # noqa: BLE001  the thread must live; a fresh feed re-reads everything
            self._forget_feed()
            self.adopter.abandon()
            self._excuse(self.troubles.unexpected(error), answer=True)
        else:
            self._stale = 0
            self.troubles.over()
            self._source.stored()
            return 0.0 if more else self._rest()
        return self._at_most(self.troubles.pause)

    def _ship(self) -> bool:
        """Store what the own journal has; whether there is more."""
        journal = self._source.journal
        if journal is not self._journal:
            self._forget_feed()
            self.feed = None
            self._journal = journal
        if journal is None:
            self._shipped()
            return False
        eager = bool(self._waiting)
        target = max((each.target for each in self._waiting), default=0)
        feed = self._own_feed(journal)
        more = True
        batches = 0
        while more and (batches < BATCHES or eager) and not (batches and self._urgent()):
            read = feed.step(eager=eager)
            journal.release(feed.stored_cursor)
            batches += 1
            more = read > 0 and not (eager and feed.consumed >= target)
        if eager and not more:
            self._shipped()
        return more

    def _renew(self) -> None:
        """Keep the scores that this process is about to settle from being claimed by others."""
        if self.feed is not None and not self._fresh:
            self.feed.renew(_renew_every())

    def _must_give_way(self) -> bool:
        """Whether a long adoption must wait: somebody asks, or the own scores' lease is at stake."""
        return self._urgent() or (self.feed is not None and self.feed.renewal_due(_renew_every()) == 0.0)

    def _shipped(self) -> None:
        for request in self._waiting:
            if request.kind == "receipt" and not request.shipped:
                request.ledger = Ledger() if self.feed is None else self.feed.ledger()
            request.shipped = True

    def _adopt(self) -> bool:
        """Adopt what dead processes left, if it is time or somebody waits for it; whether there is more."""
        asked = any(each.kind != "close" for each in self._waiting)
        now = time.monotonic()
        if not asked and now < self._adopt_at:
            return False
        # A round that was left half-way may have passed a journal whose process died since: who asks gets a new one.
        resumed = self.adopter.under_way
        if not self.adopter.round(urgent=self._must_give_way):
            return True
        if asked and resumed and not self.adopter.round(urgent=self._must_give_way):
            return True
        self._adopt_at = now + ADOPT_EVERY
        for request in self._waiting:
            if request.kind != "close" and request.shipped:
                request.answer()
        self._waiting = [each for each in self._waiting if not each.done]
        return False

    def _close(self) -> None:
        """Store what is left of the own journal for good and remove it, when that was asked for."""
        asked = [each for each in self._waiting if each.kind == "close"]
        if not asked:
            return
        journal = self._source.detach()
        if journal is not None:
            self._journal = journal
            feed = self._own_feed(journal)
            closed = False
            try:
                feed.close()
                journal.release(feed.stored_cursor)
                closed = True
            finally:
                # It removes its files if everything in them is stored. What a thread wrote at the last moment, or what
                # the store would not take now, be it only that the journal is closed, keeps them: they are adopted like
                # a dead process's.
                journal.close(remove=closed)
                self._source.retire(journal, feed.stored_spans)
                feed.reader.close()
                self._journal = self.feed = None
        for request in asked:
            request.shipped = True
            request.answer()
        self._waiting = [each for each in self._waiting if not each.done]

    def _own_feed(self, journal: Journal) -> Feed:
        if self.feed is None or self._fresh:
            store = self._source.store_of(self._source.destination.url)
            self.feed = Feed(journal.reader(), store, dropped=journal.dropped)
            self._fresh = False
        return self.feed

    def _rest(self) -> float:
        """Seconds until something is due by itself."""
        rest = max(0.0, self._adopt_at - time.monotonic())
        if self.feed is not None and (due := self.feed.due()) is not None:
            rest = min(rest, due)
        if self.feed is not None and (due := self.feed.renewal_due(_renew_every())) is not None:
            rest = min(rest, due)
        return self._at_most(rest)

    def _at_most(self, seconds: float) -> float:
        return seconds if self._source.sync is None else min(seconds, self._source.sync)

    def _excuse(self, reason: str, *, answer: bool) -> None:
        for request in self._waiting:
            request.reason = reason
            if answer:
                request.answer(None if request.shipped else reason)
        self._waiting = [each for each in self._waiting if not each.done]

    def _forget_feed(self) -> None:
        if self.feed is not None and not self._fresh:
            self.feed.reader.close()
            self._fresh = True


def _renew_every() -> float:
    return base_settings().lease / RENEWALS
