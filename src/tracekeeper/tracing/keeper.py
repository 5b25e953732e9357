"""The keeper: owns a data directory, this process's journal in it, and the way into its store.

Invariants
----------
- Making a keeper creates no file, opens no connection and starts no thread; switched off, nothing ever does.
- Whoever waits for the store waits on a request of its own, with its own deadline: the shipper may hang, they do not.
- A forked child inherits no open connection. If one could not be closed in time, the child stays away from the
  database and keeps to its journal.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracekeeper.configuration.settings import Settings
from tracekeeper.journal import directory as journal_directory
from tracekeeper.shipper.destination import path_of
from tracekeeper.shipper.worker import IMPORT_PATIENCE, Request, Worker
from tracekeeper.tracing.copying import Copying
from tracekeeper.types import Receipt, StoreError

if TYPE_CHECKING:
    from tracekeeper.shipper.account import Ledger
    from tracekeeper.shipper.shipper import Shipper
    from tracekeeper.store.store import Store

log = logging.getLogger("tracekeeper")

SHIP_TIMEOUT = 10.0
"""Seconds ``ship`` waits when it is given no timeout."""

ADOPT_TIMEOUT = 2.0
"""Seconds ``adopt_dead`` waits when it is given no timeout."""

COPY_PATIENCE = 2.0
"""Seconds for which whoever asks for a receipt waits for copies, at most: an endpoint may hang."""

BUSY_TIMEOUT = 1.0
"""Seconds SQLite waits for a lock at a time. The shipper tries for ever, but comes up for air in between: to answer who
waits, to look after the journal, to let go of the database before a fork."""


class Halt(NamedTuple):
    """How far the database was brought to rest for a fork."""

    paused: bool
    """The shipper is between two turns."""
    barred: bool
    """Nobody opens a store."""
    quiet: bool
    """Both, and no connection is open."""


class Keeper(Copying):
    """A data directory, its journal and its store, as this process uses them. Get the current one from ``keeper()``.

    Parameters
    ----------
    settings:
        The base settings.
    directory:
        The data directory; need not exist.
    """

    def __init__(self, settings: Settings, directory: Path) -> None:
        super().__init__(settings, directory)
        self.project = settings.project
        self.store_url = self.destination.url
        self._tainted: list[Any] = []
        self.otlp = (settings.otlp_endpoint, settings.otlp_headers)
        self._begin()

    def _begin(self) -> None:
        self.before_close: list[Callable[[float], None]] = []
        """Called with a deadline (``time.monotonic()``) before the store is closed: whoever works on it stops."""
        self._store_lock = threading.Lock()
        self._stores: dict[str, Store] = {}
        self._shipper: Shipper | None = None
        self.begin_copies()
        self._worker = Worker(self._make_shipper, name="tracekeeper-shipper")
        self._begin_anew(self._worker.wake)

    def __repr__(self) -> str:
        return f"<Keeper {self.directory} -> {self.store_url} (project {self.project!r})>"

    # Storing

    @property
    def ships(self) -> bool:
        """Whether anything of this process was brought into the store, so that the database layer is loaded."""
        shipper = self._shipper
        return shipper is not None and shipper.feed is not None

    def ship(self, timeout: float | None = None) -> str | None:
        """Bring everything that was journaled before the call into the store, and what dead processes left.

        Parameters
        ----------
        timeout:
            Seconds, also when the database is locked or hangs; ``None``: 10.

        Returns
        -------
        str | None
            ``None`` when it is stored, else the reason in one sentence (nothing is lost: it stays in the journal).
        """
        return None if self._off() else self._ask("ship", timeout)[0]

    def adopt_dead(self, timeout: float | None = None) -> int:
        """Store what dead processes left in this directory, which ``ship`` does as well; how many journals it were.

        Parameters
        ----------
        timeout:
            Seconds; ``None``: 2. What is not through by then goes on behind the scenes.
        """
        before = self._shipper.adopter.adopted if self._shipper is not None else 0
        self.ship(ADOPT_TIMEOUT if timeout is None else timeout)
        return (self._shipper.adopter.adopted if self._shipper is not None else 0) - before

    def store(self) -> Store:
        """The store, opened at the first call; shared by all threads.

        Raises
        ------
        StoreError
            The database cannot be used.
        """
        return self.store_of(self.store_url)

    def store_of(self, url: str) -> Store:
        """The open store of a URL (this keeper's, or that of a journal that it adopts)."""
        if self._tainted:
            raise StoreError(
                "this process was forked while its parent was using the database; its spans are kept in its journal "
                "and stored after it ends"
            )
        with self._store_lock:
            store = self._stores.get(url)
            if store is None:
                from tracekeeper.store.store import Store

                if path_of(url) is not None and url == self.store_url and self.destination.default:
                    journal_directory.prepare(self.directory)
                store = self._stores[url] = Store.open(url, busy_timeout=BUSY_TIMEOUT)
            return store

    def receipt(self, timeout: float | None = None) -> Receipt:
        """Ship, then the account of what this process traced into this directory. Never raises."""
        began = time.monotonic()
        try:
            if not self.used:
                return Receipt()
            from tracekeeper.shipper.account import receipt

            reason, request = self._ask("receipt", timeout)
            left = began + (SHIP_TIMEOUT if timeout is None else timeout) - time.monotonic()
            self.copy(min(COPY_PATIENCE, left / 2))  # at exit the other half is for closing the journal
            return receipt(
                request.ledger or self._ledger(),
                retired=self._retired_spans,
                dropped=self.dropped(),
                reason=self._trouble or reason,
                began=began,
                copies=self.copies,
            )
        except Exception as error:
            log.exception("the receipt could not be made")
            return Receipt(complete=False, error=f"{type(error).__name__}: {error}", seconds=time.monotonic() - began)

    def status(self) -> dict[str, Any]:
        """What ``tracekeeper status`` shows of this directory: its journals, what is pending, what is in the way."""
        from tracekeeper.shipper import status

        shipper = self._shipper
        trouble = shipper.troubles.reason if shipper is not None else self._trouble
        return {
            "directory": str(self.directory),
            "store": self.store_url,
            "project": self.project,
            "enabled": self.enabled,
            "journals": status.journals(self.directory, shipper.adopter.unreachable if shipper is not None else {}),
            "set_aside": status.set_aside(self.directory),
            "dropped": self.dropped(),
            "shipping": status.shipping(trouble or self._trouble, self._worker.since),
        }

    def close(self, timeout: float = 2.0) -> str | None:
        """Store everything, remove the journal, close the database; the reason if that did not work in time.

        A write that comes later opens another journal, and a read the database.
        """
        deadline = time.monotonic() + timeout
        for stop in list(self.before_close):
            stop(deadline)
        if self.journal is not None:
            reason, _ = self._ask("close", timeout)
            if reason is not None:
                return reason
        self.stop_copies(max(0.0, deadline - time.monotonic()) / 2)
        self._worker.stop()
        if self._stores:
            self.disconnect(max(0.1, deadline - time.monotonic()))
        return None

    def disconnect(self, timeout: float) -> None:
        """Close the database's connections, when the shipper lets go of them in time; they open again when needed."""
        if self._worker.pause(timeout):
            try:
                with self._store_lock:
                    for store in self._stores.values():
                        store.close()
                    self._stores.clear()
                    self._worker.forget()
            finally:
                self._worker.resume()
        else:
            self._worker.give_up_pause()

    def _ask(self, kind: str, timeout: float | None) -> tuple[str | None, Request]:
        seconds = SHIP_TIMEOUT if timeout is None else max(0.0, timeout)
        journal = self.journal
        target = 0 if journal is None else journal.frames_written()
        request = Request(kind, target=target, deadline=time.monotonic() + seconds)
        self._worker.ask(request)
        request.wait()
        if request.done:
            return request.reason, request
        if request.shipped and kind != "close":
            return None, request  # only what dead processes left is not through yet
        return request.reason or f"the database did not answer within {seconds:g} s", request

    def _ledger(self) -> Ledger:
        """The account as the shipper last knew it, for when the database does not answer."""
        from tracekeeper.shipper.account import Ledger, unstored

        journal = self.journal
        if journal is None:
            return Ledger()
        # Between two turns nothing moves; in a turn that hangs inside the database nothing does either.
        quiet = self._worker.pause(0.25)
        try:
            feed = self._shipper.feed if self._shipper is not None else None
            if feed is None:
                return Ledger(0, unstored(journal))
            return Ledger(feed.stored_spans, unstored(journal, *feed.at), damaged=feed.damaged)
        finally:
            if quiet:
                self._worker.resume()
            else:
                self._worker.give_up_pause()

    def _make_shipper(self) -> Shipper:
        # In the shipper's own thread: the database layer takes 200 ms to import, which no traced call must wait for.
        from tracekeeper.shipper.shipper import Shipper

        self._shipper = Shipper(self, self._worker.urgent)
        return self._shipper

    def _off(self) -> bool:
        return not self.enabled and self.journal is None

    # Forking

    def before_fork(self, timeout: float) -> Halt:
        """Bring the shipper to a halt and close the database: SQLite must not be carried into a child.

        Also nobody may be importing the database layer: the child would inherit the locks of that import for ever.
        """
        paused = self._worker.pause(timeout, importing=IMPORT_PATIENCE)
        # Held until after the fork: no thread begins to open (and import) in between.
        held = self.hold_copies(timeout)
        barred = self._store_lock.acquire(timeout=timeout)
        quiet = paused and barred and held
        if quiet:
            for store in self._stores.values():
                store.close()
            quiet = not any(store.in_use for store in self._stores.values())
        return Halt(paused, barred, quiet)

    def after_fork_in_parent(self, halt: Halt) -> None:
        """Go on."""
        self.let_copies_go()
        if halt.barred:
            self._store_lock.release()
        if halt.paused:
            self._worker.resume()
        else:
            self._worker.give_up_pause()

    def after_fork_in_child(self, halt: Halt) -> None:
        """Forget what belongs to the parent, without touching its files."""
        journal = self.journal
        inherited = (self._stores, self._shipper, self._worker)
        self._begin()
        if journal is not None:
            journal.forget()
        if not halt.quiet and inherited[0]:
            # Connections that were in use cannot be closed here (their locks may be held by threads that do not exist
            # in this process) and make SQLite misjudge every lock on that file: keep them alive and stay away.
            self._tainted.append(inherited)
