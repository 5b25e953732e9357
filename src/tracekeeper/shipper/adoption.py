"""What dead processes left: their journals are shipped to their own stores, closed and removed.

A journal belongs to a process as long as that process holds the lock on it, whether it runs, hangs or is stopped by a
signal; nobody else touches it then. Whoever finds a journal whose lock is free takes the lock, so of several adopters
one does the work, and an adopter that dies half-way leaves what any dead process leaves.

What becomes of a file:

- read to its end and stored: removed.
- some frames were damaged: the good ones are stored, then the file is moved aside (``*.damaged``) and named once.
- not readable at all (foreign, torn header): moved aside, so that it is looked at once, and named.
- a newer version's: left for that version, and named once.
- bound for a store that is not here: left where it is, and named in the status.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from pathlib import Path

from tracekeeper.journal import directory as journal_directory
from tracekeeper.journal.liveness import adopt, sweep
from tracekeeper.journal.reader import JournalReader
from tracekeeper.shipper.destination import Destination, path_of
from tracekeeper.shipper.feed import Feed
from tracekeeper.store.errors import StaleCursor
from tracekeeper.store.store import Store
from tracekeeper.types import JournalError, StoreError

log = logging.getLogger("tracekeeper")


class Adopter:
    """Adopts the journals of dead processes in one directory.

    Parameters
    ----------
    directory:
        The data directory.
    home:
        This process's own destination.
    store:
        Opens (or gives) the store of a URL.
    """

    def __init__(self, directory: Path, home: Destination, store: Callable[[str], Store]) -> None:
        self._directory = directory
        self._home = home
        self._store = store
        self._round: Generator[None, None, None] | None = None
        self._named: set[str] = set()
        self.adopted = 0
        """Journals stored and closed so far."""
        self.unreachable: dict[str, str] = {}
        """Journals that were left, and why."""

    @property
    def under_way(self) -> bool:
        """Whether a round was left half-way."""
        return self._round is not None

    def round(self, *, urgent: Callable[[], bool]) -> bool:
        """Go through the directory, in steps of one batch; go on where the last round was left.

        Parameters
        ----------
        urgent:
            Asked after each batch; when it says so the round is left, to be continued by the next call.

        Returns
        -------
        bool
            Whether the round is complete.
        """
        if self._round is None:
            self._round = self._go()
        going, self._round = self._round, None
        for _ in going:
            if urgent():
                self._round = going
                return False
        return True

    def abandon(self) -> None:
        """Forget a round that was left half-way; releases the journal it holds."""
        if self._round is not None:
            self._round.close()
            self._round = None

    def _go(self) -> Generator[None, None, None]:
        left: dict[str, str] = {}
        for path in journal_directory.journals(self._directory):
            try:
                hold = adopt(path)
            except JournalError as error:
                left[path.name] = str(error)
                continue
            if hold is None:
                continue
            try:
                # Adopted and removed by somebody else between the listing and the lock.
                if path.exists():
                    yield from self._adopt(path, left)
            except StoreError:
                raise  # our own store: nothing can be stored now, and the shipper tells
            except Exception as error:  # one journal must not keep the others from being adopted
                left[path.name] = f"{type(error).__name__}: {error}"
                if path.name not in self._named:
                    log.exception("the journal %s of a dead process cannot be stored and is left", path)
                self._named.add(path.name)
            finally:
                hold.release()
        sweep(self._directory)
        self.unreachable = left

    def _adopt(self, path: Path, left: dict[str, str]) -> Generator[None, None, None]:
        try:
            reader = JournalReader(path)
        except JournalError as error:
            self._unreadable(path, error, left)
            return
        try:
            feed = self._feed(path, reader, left)
            if feed is None:
                return
            finished = yield from self._ship(path, feed, left)
        finally:
            reader.close()
        if finished:
            self._close(path, feed)

    def _feed(self, path: Path, reader: JournalReader, left: dict[str, str]) -> Feed | None:
        destination = Destination.of(reader.header.destination)
        url = self._home.url if destination.default else destination.url
        if url != self._home.url:
            file = path_of(url)
            if file is None or not file.exists():
                left[path.name] = f"its store {url} is not here"
                return None
            try:
                return Feed(reader, self._store(url))
            except StoreError as error:
                left[path.name] = f"its store {url} cannot be used: {error}"
                return None
        # Our own store: if it cannot be used, the caller's own shipping says so and tries again.
        return Feed(reader, self._store(url))

    def _ship(self, path: Path, feed: Feed, left: dict[str, str]) -> Generator[None, None, bool]:
        try:
            while not feed.finished:
                feed.step(finish=True)
                yield
        except StaleCursor:
            # It was not as dead as its lock: whoever moved the cursor goes on with it.
            left[path.name] = "somebody else is storing it"
            return False
        except StoreError as error:
            if feed.store.url == self._home.url:
                raise
            left[path.name] = f"its store {feed.store.url} cannot be used: {error}"
            return False
        return True

    def _close(self, path: Path, feed: Feed) -> None:
        self.adopted += 1
        if feed.damaged:
            self._aside(path, f"damaged frames: {feed.damaged}; the good ones are stored")
        else:
            journal_directory.remove(path)
        log.debug("adopted %s: %d spans are stored", path.name, feed.stored_spans)

    def _unreadable(self, path: Path, error: JournalError, left: dict[str, str]) -> None:
        if "newer" in str(error):
            left[path.name] = str(error)
            self._name(path, f"a journal is left where it is: {error}")
        else:
            self._aside(path, str(error))

    def _aside(self, path: Path, why: str) -> None:
        moved = path.with_name(path.name + ".damaged")
        path.rename(moved)
        journal_directory.remove(path)  # its side and lock files
        self._name(path, f"a journal was moved aside to {moved}: {why}")

    def _name(self, path: Path, message: str) -> None:
        if path.name not in self._named:
            self._named.add(path.name)
            log.warning("%s", message)
