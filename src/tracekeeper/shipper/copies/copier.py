"""Copies to one endpoint, a batch at a time: what to send, and what an answer means for the cursor.

``prepare`` and ``settle`` use the database, ``send`` the network; between them nothing is held. What was sent and not
settled (a process that was killed, a lease that lapsed) is sent again: ids are the same, so the other side can tell.
"""

from __future__ import annotations

import logging
import random
import sys
import time
import uuid
from collections.abc import Callable
from typing import NamedTuple

from tracekeeper.concurrency.own_work import own_work
from tracekeeper.shipper.copies import wire
from tracekeeper.shipper.copies.endpoint import TIMEOUT, Answer, Endpoint, post
from tracekeeper.store.copies import CopyRow, Passed
from tracekeeper.store.store import Store
from tracekeeper.types import Copies, faults

log = logging.getLogger("tracekeeper")

BATCH = 256
"""Spans of one request at most."""

CAP = 100_000
"""Spans that may wait for an endpoint; beyond it the oldest are left out, and counted."""

LEASE = 20.0
"""Seconds for which a process copies before another may: a request takes at most half of that."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds until a failed request is tried again: twice as long each time."""

TOO_MANY = f"more than {CAP:,} spans were waiting for it"
"""The reason under which what is beyond the cap is counted."""

UNMADE = "they could not be put into a request"
TOO_LARGE = 413


class Batch(NamedTuple):
    """What is to be sent next."""

    row: CopyRow
    passed: Passed
    request: wire.Request


class Copier:
    """The copies of one store to one endpoint, by this process.

    Parameters
    ----------
    store:
        Gives the store; may raise ``StoreError``.
    """

    def __init__(self, store: Callable[[], Store], endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._store = store
        self._version = sys.modules["tracekeeper"].__version__  # told to the endpoint; the package is above all rooms
        self._owner = uuid.uuid4().hex
        self._limit = BATCH
        self._failures = 0
        self._retry_at = 0.0
        self._said: str | None = None
        self.holds = False
        """Whether this process has the lease."""

    def register(self) -> None:
        """Make the endpoint known before anything is stored that is to be copied."""
        self._store().copies.register(self.endpoint.url)

    @property
    def pause(self) -> float:
        """Seconds until the endpoint is to be tried again; 0: now."""
        return max(0.0, self._retry_at - time.monotonic())

    def prepare(self) -> Batch | None:
        """The next batch; ``None`` when nothing is due, or somebody else copies."""
        if self.pause:
            return None
        copies = self._store().copies
        row = copies.claim(self.endpoint.url, self._owner, int(LEASE * 1e9))
        if row is None:
            return None
        self.holds = True
        row = copies.skip(row, keep=CAP, reason=TOO_MANY)
        while True:
            passed = copies.next(row, limit=self._limit)
            if passed.rows:
                return self._fitted(row, passed)
            # Nothing but spans that run: the cursor passes them.
            settled = copies.settle(row, cursor=passed.cursor, put_off=passed.put_off, error=row.error)
            if settled is None or passed.cursor == row.cursor:
                return None
            row = settled

    def _fitted(self, row: CopyRow, passed: Passed) -> Batch:
        """Cut to what fits in a request."""
        request = wire.request_of(passed.rows, self._version)
        sent = passed.rows[: request.rows]
        if len(sent) < len(passed.rows):
            ids = {each["id"] for each in sent}
            awaited = [each for each in passed.awaited if each in ids]
            fresh = [each["id"] for each in sent if each["id"] > row.cursor and each["id"] not in passed.awaited]
            cursor = max(fresh, default=row.cursor)
            passed = Passed(sent, cursor, [each for each in passed.put_off if each <= cursor], awaited)
        return Batch(row, passed, request)

    def account(self) -> Copies | None:
        """What became of everything so far."""
        found = next(iter(self._store().copies.accounts(self.endpoint.url)), None)
        if found is None:
            return None
        return Copies(
            endpoint=found.endpoint,
            copied=found.copied,
            pending=found.pending,
            dropped=found.dropped,
            error=found.error,
        )

    def send(self, batch: Batch) -> Answer:
        """Ask the endpoint to take it. In the thread of the copies only; takes ``TIMEOUT`` seconds at most."""
        with own_work():
            return post(self.endpoint, batch.request.body, timeout=TIMEOUT)

    def settle(self, batch: Batch, answer: Answer) -> bool:
        """Write down what came of it; whether to go on at once."""
        faults.point("copies.answered")
        copies, (row, passed, request) = self._store().copies, batch
        if not answer.ok and answer.retryable:
            self._put_off(answer)
            copies.settle(row, error=answer.reason)
            return False
        if answer.status == TOO_LARGE and request.rows > 1:
            self._limit = max(1, request.rows // 2)
            return True
        copied, dropped = request.rows - request.failed, {}
        if answer.ok:
            refused, message = wire.rejected(answer.body)
            refused = min(refused, copied)
            if refused:
                dropped = {f"the endpoint rejected them: {message[:200] or 'it did not say why'}": refused}
                copied -= refused
            elif message:
                self._say(f"says: {message[:200]}")
        else:
            copied, dropped = 0, {f"the endpoint refused the request: {answer.reason}": copied}
        if dropped:
            self._say(f"did not take everything ({next(iter(dropped))})")
        elif answer.ok:
            self._over()
        if request.failed:
            dropped[UNMADE] = request.failed
        self._failures, self._retry_at, self._limit = 0, 0.0, min(BATCH, self._limit * 2)
        copies.settle(
            row,
            cursor=passed.cursor,
            put_off=passed.put_off,
            through=passed.awaited,
            copied=copied,
            dropped=dropped,
            error=None if answer.ok else answer.reason,
        )
        return True

    def release(self) -> None:
        """Let another process copy."""
        if self.holds:
            self.holds = False
            self._store().copies.release(self.endpoint.url, self._owner)

    def rest(self, seconds: float) -> None:
        """Try nothing for so long: something of ours failed."""
        self._retry_at = time.monotonic() + seconds

    def _put_off(self, answer: Answer) -> None:
        self._failures += 1
        backed_off = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 16))
        # Processes that were refused at the same moment come back at different ones.
        pause = backed_off * (1 + random.Random().random() / 4) if answer.retry_after is None else answer.retry_after
        self._retry_at = time.monotonic() + pause
        self._say(f"takes nothing at present: {answer.reason}; what it does not have yet stays pending")

    def _say(self, what: str) -> None:
        if self._said != what:
            self._said = what
            log.warning("%s %s", self.endpoint.url, what)

    def _over(self) -> None:
        if self._failures:
            log.warning("%s takes copies again", self.endpoint.url)
        self._said = None
