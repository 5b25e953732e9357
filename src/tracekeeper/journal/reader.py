"""Reading a journal, one's own or another process's, living or dead, while its threads go on writing.

Frames come in sequence order, and *causality* holds: if a frame is returned, then so is, in this or an earlier read,
every frame that was complete before it was begun. A span's end never comes without its start.

Algorithm: every chunk's frames are in sequence order, so the chunks are merged by sequence number until ``max_bytes``
are gathered; let M be the last number taken. A chunk that gave out before may have received frames below M since; so
every such chunk, and every new one, is looked at once more and what it holds up to M is taken too. That suffices: a
frame up to M was visible before the second look began, so whatever was complete before that frame was begun is visible
in the second look.

The file is read with ``pread`` and never mapped, since somebody may cut it short, which kills whoever touches mapped
pages beyond the end.
"""

from __future__ import annotations

import heapq
from pathlib import Path

from tracekeeper.journal.counters import GAPS
from tracekeeper.journal.cursor import Cursor, Position
from tracekeeper.journal.directory import side_file
from tracekeeper.journal.files import File, error_name
from tracekeeper.journal.layout import (
    COUNTER,
    COUNTER_SLOTS,
    COUNTERS,
    MARK_SIZE,
    Header,
    decode_counters,
    decode_header,
)
from tracekeeper.journal.scan import Scan, Source, Taken
from tracekeeper.types import JournalError

__all__ = ["Header", "JournalReader"]

DEFAULT_BYTES = 8 << 20
_NO_LIMIT = 1 << 64
Frames = list[tuple[Position, bytes]]


class JournalReader:
    """Reads the frames of one journal.

    Parameters
    ----------
    path:
        The ``.journal`` file; its side file is looked for beside it.

    Raises
    ------
    JournalError
        The file cannot be opened, is no journal, comes from a newer version, or has a damaged header.
    """

    def __init__(self, path: Path) -> None:
        try:
            journal = File(path, write=False)
        except OSError as error:
            raise JournalError(f"{path} cannot be read ({error_name(error)}: {error.strerror})") from error
        try:
            side: File | None = File(side_file(path), write=False)
        except OSError:
            side = None  # its frames are then damaged, and counted when they are met
        self._set_up(path, journal, side)

    @classmethod
    def of(cls, path: Path, journal: File, side: File | None) -> JournalReader:
        """A reader over files that are open already."""
        made = cls.__new__(cls)
        made._set_up(path, journal, side)
        return made

    def _set_up(self, path: Path, journal: File, side: File | None) -> None:
        self.path = path
        try:
            self.header: Header = decode_header(journal.read_at(COUNTERS, 0), path)
        except OSError as error:
            if isinstance(error, JournalError):
                raise
            raise JournalError(f"{path} cannot be read ({error_name(error)}: {error.strerror})") from error
        self._source: Source | None = Source(journal, side, self.header)

    def read(self, cursor: Cursor, *, max_bytes: int = DEFAULT_BYTES) -> tuple[Frames, Cursor, int]:
        """The frames after ``cursor``.

        Parameters
        ----------
        cursor:
            Where the last read ended; ``Cursor()`` for the beginning.
        max_bytes:
            Stop after this many bytes of payload (at least one frame is returned when there is one).

        Returns
        -------
        tuple
            Frames in sequence order, the cursor after them, and how many damaged frames were skipped on the way.
            Nothing more is there (yet) when both the list is empty and nothing was skipped.

        Raises
        ------
        JournalError
            The file cannot be read (EIO), or the reader is closed.
        """
        source = self._open()
        try:
            return self._read(source, cursor, max_bytes)
        except OSError as error:
            if isinstance(error, JournalError):
                raise
            raise JournalError(f"{self.path} cannot be read ({error_name(error)}: {error.strerror})") from error

    def frame_at(self, position: Position) -> bytes | None:
        """The payload of the frame at ``position``; ``None`` when it is damaged or its chunk was recycled since."""
        source = self._open()
        if position.offset < MARK_SIZE or position.offset % 8 or position.chunk < 0:
            return None
        try:
            scan = Scan(source, position.chunk, position.generation, position.offset)
            if scan.generation != position.generation:
                return None
            found = scan.at(position.offset)
        except OSError as error:
            raise JournalError(f"{self.path} cannot be read ({error_name(error)}: {error.strerror})") from error
        return found.payload if found is not None else None

    def dropped(self) -> dict[str, int]:
        """What the writer could not keep, by reason, as far as it could still note it."""
        return {reason: count for reason, count in self._counters().items() if reason != GAPS}

    def frames_written(self) -> int:
        """How many frames the writer has written in all, recycled ones included. Reads the whole file."""
        source = self._open()
        last = 0
        for index in range(source.chunks()):
            scan = Scan(source, index, 0, 0)
            while scan.advance():
                scan.take()
            last = max(last, scan.bound)
        return max(0, last - self._counters().get(GAPS, 0))

    def close(self) -> None:
        """Let go of the files."""
        self._source = None

    def _counters(self) -> dict[str, int]:
        return decode_counters(self._open().journal.read_at(COUNTER_SLOTS * COUNTER.size, COUNTERS))

    def _open(self) -> Source:
        if self._source is None:
            raise JournalError(f"the reader of {self.path} is closed")
        return self._source

    def _read(self, source: Source, cursor: Cursor, max_bytes: int) -> tuple[list[tuple[Position, bytes]], Cursor, int]:
        scans: dict[int, Scan] = {}
        taken: list[Taken] = []
        heap: list[tuple[int, int]] = []

        def begin(index: int) -> Scan | None:
            known = cursor.chunks.get(index, (0, 0))
            if source.finished.get(index) == known:
                mark = source.mark(index)
                if mark is not None and mark.generation == known[0]:
                    return None
            scans[index] = scan = Scan(source, index, *known)
            return scan

        for index in range(source.chunks()):
            begun = begin(index)
            if begun is not None:
                heap.append((begun.bound, index))
        heapq.heapify(heap)
        size = 0
        while heap and size < max_bytes:
            _, index = heapq.heappop(heap)
            scan = scans[index]
            limit = heap[0][0] if heap else _NO_LIMIT
            while size < max_bytes:
                size += scan.gather(taken, limit, max_bytes - size)
                if size >= max_bytes or not scan.advance() or scan.pending is None:
                    break
                if scan.pending.sequence > limit:
                    heapq.heappush(heap, (scan.pending.sequence, index))
                    break
                taken.append(scan.take())
                size += len(taken[-1][2]) + 1
        if taken:
            last, _, _ = taken[-1]
            for index in range(source.chunks()):
                again = scans.get(index)
                if again is None:
                    again = begin(index)
                elif again.pending is None:
                    if again.mark is not None and again.bound >= last:
                        continue  # its frames come after these, and those of its next generation later still
                    again.look()
                while again is not None and again.advance() and again.pending and again.pending.sequence <= last:
                    taken.append(again.take())
                    again.gather(taken, last, _NO_LIMIT)
            taken.sort()
        frames = [(position, payload) for _, position, payload in taken]
        damaged = sum(scan.damaged for scan in scans.values())
        chunks = dict(cursor.chunks)
        for index, scan in scans.items():
            if scan.offset:
                chunks[index] = (scan.generation, scan.offset)
        return frames, Cursor(chunks, cursor.held), damaged
