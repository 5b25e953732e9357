"""The thread that sends copies. It is nobody's way: whoever waits for it does so with a deadline of their own.

Invariants
----------
- The shipper's thread only wakes it. A hanging endpoint holds back nothing but copies.
- ``busy`` is held while the database is used or a module imported, and never during a request: so a fork waits for the
  former at most, and carries neither into the child.
"""

from __future__ import annotations

import logging
import threading
import time

from tracekeeper.shipper.copies import wire
from tracekeeper.shipper.copies.copier import LEASE, Copier
from tracekeeper.types import Copies, StoreError

log = logging.getLogger("tracekeeper")

LOOK_EVERY = 5.0
"""Seconds between two looks while nobody says that something was stored."""


class CopyWorker:
    """A daemon thread for one copier, started by the first ``wake``."""

    def __init__(self, copier: Copier) -> None:
        self.copier = copier
        self.busy = threading.Lock()
        self._changed = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._stopping = False
        self._gone = False
        """The time to stop is over: an answer that comes now finds the store closed, and its batch is sent again."""
        self._thread: threading.Thread | None = None
        self._loaded = False
        self._trouble: str | None = None
        self.account: Copies | None = None
        """As it was last known; read by whoever writes a receipt."""

    def wake(self) -> int:
        """Something was stored. Waits for nothing; a number to ``wait`` for."""
        with self._changed:
            self._asked += 1
            asked = self._asked
            self._changed.notify_all()
            if self._thread is None or not self._thread.is_alive():
                self._start()
        return asked

    def wait(self, timeout: float) -> bool:
        """Wait until what is stored by now was sent, or cannot be at present; whether it came to that in time."""
        asked = self.wake()
        with self._changed:
            return self._changed.wait_for(lambda: self._answered >= asked or self._thread is None, max(0.0, timeout))

    def stop(self, timeout: float) -> None:
        """Let the thread end and the lease go, if both is done in time."""
        deadline = time.monotonic() + timeout
        with self._changed:
            thread, self._stopping = self._thread, True
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
        held = self.busy.acquire(timeout=max(0.0, deadline - time.monotonic()))
        self._gone = True
        if held:
            try:
                self.copier.release()
            except StoreError as error:  # it lapses by itself
                log.debug("the lease of the copies was not given back: %s", error)
            finally:
                self.busy.release()

    def _start(self) -> None:
        self._stopping = self._gone = False
        self._thread = threading.Thread(target=self._run, name="tracekeeper-copies", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is on its way out: the next process goes on
            self._thread = None

    def _run(self) -> None:
        try:
            while not self._stopping:
                with self._changed:
                    asked = self._asked
                wait = self._turn()
                with self._changed:
                    self._answered = max(self._answered, asked)
                    self._changed.notify_all()
                    if not self._stopping and self._asked == asked:
                        self._changed.wait(wait)
        finally:
            with self._changed:
                self._thread = None
                self._answered = self._asked
                self._changed.notify_all()

    def _turn(self) -> float:
        """Send what there is; seconds until the next look."""
        try:
            while not self._stopping:
                with self.busy:
                    if not self._loaded:
                        wire.load()
                        self._loaded = True
                    batch = self.copier.prepare()
                    self.account = self.copier.account()
                if batch is None:
                    break
                answer = self.copier.send(batch)
                with self.busy:
                    if self._gone:
                        break
                    if not self.copier.settle(batch, answer):
                        self.account = self.copier.account()
                        break
            self._trouble = None
        except StoreError as error:  # the shipper says so as well, and tries for ever
            log.debug("copies wait for the database: %s", error)
        except Exception as error:  # a batch that cannot be made must not end the thread
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.exception("copies to %s failed; it is tried again", self.copier.endpoint.url)
            self.copier.rest(LEASE)
        return min(self.copier.pause or LOOK_EVERY, 60.0)
