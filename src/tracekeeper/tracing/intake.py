"""The one door for everything that is traced: into the journal, and on disk when the call returns.

After the first call, writing is: encode, copy into the journal.

Invariants
----------
- ``write`` raises no ``Exception`` and, once the journal is open, takes no lock: a finaliser or a signal handler may
  run it anywhere, also inside another ``write``.
- The journal is opened by the first write, in the caller's thread, because a frame must be on disk when ``write``
  returns. Whoever else writes meanwhile waits for it at most ``PATIENCE``, and not at all when it interrupted the
  opening itself; what it wrote is in ``_early`` and goes into the journal before the opening ends.
- ``_early`` is emptied under ``_opening`` only, so nothing overtakes anything.
- Making one creates no file and starts no thread; switched off, nothing ever does.
"""

from __future__ import annotations

import _thread
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from tracekeeper.configuration import environment, settings
from tracekeeper.configuration.settings import Settings
from tracekeeper.journal.counters import Counters
from tracekeeper.journal.frames import Definition, Frame, encode
from tracekeeper.journal.placing import CLOSED, FORKED
from tracekeeper.journal.writer import Journal
from tracekeeper.shipper.destination import Destination
from tracekeeper.tracing.repair import repaired
from tracekeeper.types.single import Single

log = logging.getLogger("tracekeeper")

PATIENCE = 0.05
"""Seconds a thread waits for another one to open the journal."""

RETRY = 5.0
"""Seconds between two attempts to open a journal that could not be opened."""

UNOPENED = "the journal could not be opened"
UNENCODED = "it could not be encoded"
"""Reasons of drops that the journal itself cannot count."""


class Intake(Single):
    """Writes frames into this process's journal in one data directory.

    Parameters
    ----------
    settings:
        The base settings.
    directory:
        The data directory; need not exist.
    """

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.directory = directory
        self.destination = Destination.make(directory, settings.store, settings.project)
        self.limit = settings.journal_limit
        self.sync = settings.sync
        self.enabled = settings.enabled and not environment.disabled()
        self._definitions: dict[tuple[str, str, str], Definition] = {}
        self._begin_anew(lambda: None)

    def _begin_anew(self, wake: Callable[[], None]) -> None:
        """The state of a process that has not written yet: at first, and again in a forked child.

        ``wake`` is called after each frame and must be lock-free.
        """
        self.journal: Journal | None = None
        self._wake = wake
        self._opening = _thread.allocate_lock()
        self._opener = 0
        self._early: deque[bytes] = deque()
        self._retry_at = 0.0
        self._trouble: str | None = None
        self._defined: set[tuple[str, str, str]] = set()
        self._drops = Counters()
        self._retired_spans = 0
        self._retired_drops: dict[str, int] = {}

    def write(self, frame: Frame) -> bool:
        """Put a frame into the journal: it outlives this process from here on.

        Returns
        -------
        bool
            ``False`` when it was dropped (and counted) or when tracing is switched off.
        """
        try:
            payload = encode(frame)
        except Exception as error:  # noqa: BLE001  a value nobody expected must not reach the traced call
            mended = repaired(frame, error)
            if mended is None:
                self._drops.add(UNENCODED, 1, None)
                return False
            payload = mended
        journal = None if self._early else self.journal  # nothing overtakes the frames that waited for the journal
        if journal is not None and journal.write(payload):
            return True
        try:
            return self._write_slowly(payload, journal)
        except Exception as error:  # noqa: BLE001  nothing of ours may reach the traced call; a log handler may raise
            self._drops.add(f"{UNOPENED} ({type(error).__name__})", 1, None)
            return False

    def begin(self, timeout: float = 5.0) -> Journal | None:
        """Open the journal before there is anything to write: who claims scores does so in its name.

        ``None`` when it cannot be opened now (that is logged), when tracing is switched off, or when another thread is
        opening it and is not done in ``timeout`` seconds.
        """
        if self.journal is None and self.enabled and self._opening.acquire(timeout=timeout):
            self._opener = _thread.get_ident()
            try:
                self._drain()
            finally:
                self._opener = 0
                self._opening.release()
        return self.journal

    def define(self, definition: Definition) -> None:
        """Say what an app or a metric is, once per journal, before the first frame that names it."""
        key = (definition.kind, definition.name, definition.version)
        if key in self._defined:
            return
        self._definitions[key] = definition
        # Without a journal it waits here: each journal begins with all that is known by then.
        if self.journal is not None and self.write(definition):
            self._defined.add(key)

    def _write_slowly(self, payload: bytes, tried: Journal | None) -> bool:
        if tried is not None and tried is self.journal:
            return False  # it is full or its disk is: the journal has counted it
        if not self.enabled and (environment.disabled() or not settings().enabled):
            return False
        me = _thread.get_ident()
        self._early.append(payload)
        while self._early:
            mine = self._opener == me  # we interrupted ourselves: who opens below us takes it along
            if mine or not self._opening.acquire(timeout=PATIENCE):
                return True
            self._opener = me
            try:
                opened = self._drain()
            finally:
                self._opener = 0
                self._opening.release()
            if not opened:
                return False
        return True

    def _drain(self) -> bool:
        """With ``_opening`` held: open the journal if need be, write what waits.

        A frame leaves the queue when it is written: whoever waits for the queue to be empty returns to a call that is
        kept, and to a keeper whose account knows its journal.
        """
        journal = self.journal = self.journal or self._open()
        while self._early:
            try:
                if journal is None:
                    self._drops.add(UNOPENED, 1, None)
                else:
                    journal.write(self._early[0])
            finally:  # Ctrl-C comes out of a write that is done
                self._early.popleft()
        return journal is not None

    def _open(self) -> Journal | None:
        if time.monotonic() < self._retry_at:
            return None
        try:
            journal = Journal.open(
                self.directory, destination=self.destination.header(), limit=self.limit, sync=self.sync
            )
        except OSError as error:  # JournalError is one
            self._retry_at = time.monotonic() + RETRY
            if self._trouble != str(error):
                self._trouble = str(error)
                log.warning(
                    "nothing is kept at present: %s. The program goes on, it is tried again every %g s, and what is "
                    "lost is counted.",
                    error,
                    RETRY,
                )
            return None
        if self._trouble is not None:
            log.warning("the journal in %s could be opened again", self.directory)
        self._trouble = None
        for definition in list(self._definitions.values()):
            journal.write(encode(definition))
        self._defined = set(self._definitions)
        journal.on_write = self._wake
        self._wake()
        return journal

    def dropped(self) -> dict[str, int]:
        """What could not be kept, by reason."""
        total = dict(self._retired_drops)
        journal = self.journal
        for counts in (self._drops.totals(), {} if journal is None else journal.dropped()):
            _add(total, counts)
        return total

    @property
    def used(self) -> bool:
        """Whether this process has written anything, or tried to."""
        return self.journal is not None or self._retired_spans > 0 or bool(self._drops.totals())

    def detach(self) -> Journal | None:
        """See ``shipper.Source``."""
        journal, self.journal = self.journal, None
        return journal

    def retire(self, journal: Journal, spans: int) -> None:
        """See ``shipper.Source``."""
        self._retired_spans += spans
        _add(self._retired_drops, journal.dropped())


def _add(total: dict[str, int], counts: Mapping[str, int]) -> None:
    for reason, count in counts.items():
        if reason not in (CLOSED, FORKED):  # such a frame went into the next journal
            total[reason] = total.get(reason, 0) + count
