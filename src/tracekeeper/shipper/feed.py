"""One journal on its way into one store: read, plan, apply, advance.

The same code ships this process's own journal and one that a dead process left: whoever begins reads the journal's row
(the cursor, its version), re-reads the starts that the cursor holds, asks the store which spans are ``running``, and
goes on from there.

Invariants
----------
- The position in memory only moves when the transaction that says so has committed, or when nothing had to be stored
  (then the stored cursor lags behind, and reading again from it comes out the same).
- The compare-and-set of the cursor makes storing exactly-once: if a commit's answer was lost, the next batch finds a
  newer cursor (``StaleCursor``) and the feed begins again from what is really stored.
- The journal may recycle only what the *stored* cursor has passed.
- A frame that the store cannot take (and it can take others) is set aside, counted and logged; it never blocks the
  ones behind it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping

import msgspec

from tracekeeper.journal.cursor import Cursor, Position
from tracekeeper.journal.frames import SpanStart, decode
from tracekeeper.journal.reader import JournalReader
from tracekeeper.shipper.account import Ledger, count
from tracekeeper.shipper.plan import Held, Planner, empty
from tracekeeper.store.errors import StaleCursor, StoreLocked
from tracekeeper.store.rows import Batch
from tracekeeper.store.store import JournalRow, Store
from tracekeeper.types import StoreError
from tracekeeper.types.faults import point

log = logging.getLogger("tracekeeper")

BYTES = 2 << 20
"""Bytes of frames read for one batch: bounds memory, the length of a transaction and the time between two turns."""

Frames = list[tuple[Position, bytes]]


class Feed:
    """One journal's way into one store.

    Parameters
    ----------
    reader:
        Of the journal; the feed is its only user.
    store:
        Open.
    dropped:
        What the journal's writer could not keep, by reason; by default the reader finds it in the file.
    maximum:
        Bytes of frames in one batch.

    Raises
    ------
    StoreError
        When the store cannot be used; nothing is changed then.
    """

    def __init__(
        self,
        reader: JournalReader,
        store: Store,
        *,
        dropped: Callable[[], dict[str, int]] | None = None,
        maximum: int = BYTES,
    ) -> None:
        self.reader = reader
        self._drops = dropped or reader.dropped
        self.store = store
        self._maximum = maximum
        header = reader.header
        self.name = header.name
        self._project = header.destination.get("project", "default")
        self.consumed = 0
        """Frames read and dealt with by this feed."""
        self._load(store.register_journal(name=header.name, host=header.host, pid=header.pid, started=header.started))

    def _load(self, row: JournalRow) -> None:
        now = time.time_ns()
        self.journal_id = row.id
        self.finished = False
        """Whether a final batch was stored: nothing of this journal is open any more."""
        self.damaged = row.damaged
        self.stored_spans = row.spans_stored
        self.stored_cursor = self._cursor = Cursor.decode(row.cursor)
        self._version = row.cursor_version
        self._dropped: Mapping[str, int] = row.dropped
        self._lost = 0
        self._touched = -math.inf
        self._has_open = True  # as far as is known
        held: list[Held] = []
        for position in self._cursor.held:
            start = self._start_at(position)
            if start is None:
                self._lost += 1
            else:
                held.append(Held(position, start, now))
        self._planner = Planner(running=self.store.running_spans(row.id), held=held, project=self._project)

    def reload(self) -> None:
        """Begin again from what is stored (after ``StaleCursor``)."""
        row = self.store.journal_row(self.name)
        if row is None:
            header = self.reader.header
            row = self.store.register_journal(
                name=header.name, host=header.host, pid=header.pid, started=header.started
            )
        self._load(row)

    def step(self, *, eager: bool = False, finish: bool = False) -> int:
        """Store one batch.

        Parameters
        ----------
        eager:
            Hold no start back.
        finish:
            The process is dead (or leaves): when this batch is the last one, what is open is ``interrupted``.

        Returns
        -------
        int
            Frames read; 0 when the journal is stored up to its end.

        Raises
        ------
        StaleCursor, StoreLocked, StoreError
        """
        frames, after, damaged = self.reader.read(self._cursor, max_bytes=self._maximum)
        final = False
        if finish:
            following, _, more_damaged = self.reader.read(after, max_bytes=1)
            final = not following and not more_damaged
        self._send(frames, after, damaged, eager=eager, final=final)
        return len(frames) + damaged

    def close(self) -> None:
        """Store the rest of a journal whose process writes no more into it, and say that it is closed.

        Raises
        ------
        StaleCursor, StoreLocked, StoreError
        """
        while self.step(eager=True):
            pass
        if self._planner.running or self.store.has_open_scores(self.journal_id):
            while not self.finished:
                self.step(finish=True)
        else:
            self.store.close_journal(self.journal_id)

    def due(self) -> float | None:
        """Seconds until a held start must be stored, or ``None``."""
        return self._planner.due(time.time_ns())

    def renew(self, every: float) -> None:
        """Say that the process lives, if that is due and scores depend on it: see ``renewal_due``.

        Raises
        ------
        StoreLocked, StoreError
        """
        if (due := self.renewal_due(every)) is None or due > 0:
            return
        self._has_open = self.store.has_open_scores(self.journal_id)
        if self._has_open:
            self.store.renew_producer(self.journal_id)
            self._touched = time.monotonic()

    def renewal_due(self, every: float) -> float | None:
        """Seconds until the store must hear of this process again; ``None`` when none of its scores are open.

        A batch says that it lives as well, and only a batch brings open scores: so after one that left none open there
        is nothing to do until the next.

        Parameters
        ----------
        every:
            Seconds between two signs of life.
        """
        return max(0.0, self._touched + every - time.monotonic()) if self._has_open else None

    @property
    def at(self) -> tuple[Planner, Cursor]:
        """Where it stands, for whoever counts on from here while the feed rests."""
        return self._planner, self._cursor

    def ledger(self) -> Ledger:
        """All figures at one moment (nobody else moves this journal's cursor)."""
        return Ledger(
            self.stored_spans,
            count(self.reader, self._planner, self._cursor),
            self.store.score_counts(self.journal_id),
            self.damaged,
        )

    def _send(self, frames: Frames, after: Cursor, damaged: int, *, eager: bool, final: bool) -> None:
        batch = self._planner.take(frames, time.time_ns(), eager=eager, final=final)
        batch.damaged += damaged + self._lost
        batch.dropped = self._drops()
        if empty(batch) and batch.dropped == self._dropped:
            self._planner.commit()
            self._advance(after, len(frames) + damaged)
            return
        cursor = Cursor(chunks=after.chunks, held=self._planner.held)
        batch.cursor = cursor.encode()
        batch.cursor_version = self._version
        point("shipper.planned")
        try:
            applied = self.store.apply(self.journal_id, batch)
        except (StaleCursor, StoreLocked):
            raise
        except StoreError as error:
            if not _of_the_data(error.__cause__):
                raise
            self._send_apart(frames, after, damaged, error, eager=eager, final=final)
            return
        except Exception as error:
            if not _of_the_data(error):
                raise
            self._send_apart(frames, after, damaged, error, eager=eager, final=final)
            return
        point("shipper.stored")
        self._planner.commit()
        self._version = applied.cursor_version
        self.stored_spans += applied.spans
        self.stored_cursor = cursor
        self._dropped = batch.dropped
        self._lost = 0
        self.damaged += batch.damaged
        self.finished = final
        self._touched = time.monotonic()
        self._has_open = True
        self._report(batch, frames)
        self._advance(after, len(frames) + damaged)

    def _send_apart(
        self, frames: Frames, after: Cursor, damaged: int, error: Exception, *, eager: bool, final: bool
    ) -> None:
        """Halve a batch that the store refuses until the one frame is found, and go on without it."""
        if not frames:
            raise error
        if len(frames) > 1:
            middle = len(frames) // 2
            rest = frames[middle:]
            self._send(frames[:middle], _before(after, rest), 0, eager=eager, final=False)
            self._send(rest, after, damaged, eager=eager, final=final)
            return
        self._send([], after, damaged + 1, eager=eager, final=final)
        log.error(
            "a frame of the journal %s cannot be stored and is left out (counted as damaged): %s: %.500s",
            self.name,
            error,
            _shown(frames[0][1]),
        )

    def _advance(self, after: Cursor, consumed: int) -> None:
        self._cursor = after
        self.consumed += consumed

    def _start_at(self, position: Position) -> SpanStart | None:
        payload = self.reader.frame_at(position)
        if payload is None:
            return None
        try:
            frame = decode(payload)
        except msgspec.MsgspecError:
            return None
        return frame if isinstance(frame, SpanStart) else None

    def _report(self, batch: Batch, frames: Frames) -> None:
        if batch.damaged:
            damage = "1 damaged frame" if batch.damaged == 1 else f"{batch.damaged} damaged frames"
            log.warning("the journal %s has %s; the good ones are kept", self.name, damage)
        log.debug(
            "stored from %s: %d frames, %d new spans, %d ends, %d scores",
            self.name,
            len(frames),
            len(batch.inserts),
            len(batch.ends),
            len(batch.scores),
        )


def _before(after: Cursor, rest: Frames) -> Cursor:
    """The cursor in front of the first frames of ``rest``, given the one behind all of them."""
    chunks = dict(after.chunks)
    for position, _ in reversed(rest):
        chunks[position.chunk] = (position.generation, position.offset)
    return Cursor(chunks=chunks, held=after.held)


def _of_the_data(error: BaseException | None) -> bool:
    """Whether an error says that a value cannot be stored, rather than that the database cannot be used."""
    while error is not None:
        if isinstance(error, ValueError | TypeError | OverflowError | UnicodeError):
            return True
        if type(error).__name__ in ("DataError", "IntegrityError", "InterfaceError", "ProgrammingError"):
            return True
        error = error.__cause__ or getattr(error, "orig", None)
    return False


def _shown(payload: bytes) -> str:
    try:
        return repr(decode(payload))
    except msgspec.MsgspecError:
        return repr(payload)
