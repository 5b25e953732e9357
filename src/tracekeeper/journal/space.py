"""The chunks of a journal: growing the file ahead of need, handing chunks out, taking them back.

Objects: a ``Chunk`` is a part of the file that exactly one writer holds while it writes a frame. ``Space`` owns the
file's layout. All hand-overs are single ``append`` and ``pop`` calls on deques, which are atomic; there is no lock.

Invariants:

- A chunk is at any time in exactly one place: with one writer, in the journal's pool, among the full ones, or spare.
- Everything in a chunk after its last frame is zero, so the word after the newest frame reads "nothing here yet".
- A spare chunk bears a valid mark; its generation was never used before.
- A range of the file is drawn by one thread only; a range whose growth failed goes back to ``_ranges`` and is tried
  again. So growing takes no lock either, at the price that two threads at once may grow twice.
"""

from __future__ import annotations

import errno
import itertools
import logging
import mmap
from collections import deque
from typing import Any

from tracekeeper.journal.counters import peek
from tracekeeper.journal.files import File, is_from_disk, reserve
from tracekeeper.journal.layout import CHUNKS, MARK_SIZE, SEALED, WORD, Mark, encode_mark, seed_of
from tracekeeper.types import faults

_log = logging.getLogger("tracekeeper")

_GROWTH = (4, 4, 8, 16, 32)
STEP = 64
"""Chunks per step of growth: 1 MiB at first (the first traced call waits for it), 16 MiB later (each mapping costs a
file descriptor, so there must not be many)."""
_PAGE = 4096


class _Void:
    """Takes every store and keeps none: what a forked child's chunks point to instead of its parent's memory."""

    def __setitem__(self, key: Any, value: Any) -> None:
        return None

    def __getitem__(self, key: Any) -> int:
        return 0


VOID = _Void()


class Chunk:
    """A part of the file. Only its holder touches ``used``; ``side`` is appended to by the holder, consumed by release.

    ``used``, ``room`` and ``end`` count from the start of ``map`` (a segment of the file) or, when the journal is not
    mapped, from the start of the file. ``end`` is 0 when not mapped: the fast path then finds no room and leaves.
    """

    __slots__ = (
        "end",
        "generation",
        "index",
        "kept",
        "map",
        "mixed",
        "origin",
        "place",
        "room",
        "seed",
        "side",
        "touched",
        "used",
        "words",
    )

    def __init__(self, index: int, origin: int, size: int, place: int) -> None:
        self.index = index
        self.origin = origin
        self.place = place
        """Offset in the file."""
        self.generation = 0
        self.seed = 0
        self.mixed = 0
        """The seed with the chunk's origin, so that the fast path can mix in an offset as it is in ``map``."""
        self.room = origin + size - MARK_SIZE
        self.used = self.end = origin + MARK_SIZE
        self.map: Any = None
        self.words: Any = None
        self.touched = False
        self.side: deque[tuple[int, tuple[int, ...]]] = deque()
        """Offset in the chunk and side blocks of its large frames, oldest first."""
        self.kept: list[tuple[int, tuple[int, ...]]] = []
        """Those of them that were read but are still held."""

    @property
    def filled(self) -> int:
        """Bytes from the chunk's start to the end of its last frame."""
        return self.used - self.origin

    @property
    def blank(self) -> bool:
        """Whether it has no frame."""
        return self.filled <= MARK_SIZE


class Space:
    """The chunks of one journal file.

    Parameters
    ----------
    file:
        The journal.
    chunk_size:
        Bytes of a chunk.
    nonce:
        The journal's own number, see ``layout.nonce_of``.
    mapped:
        Reserve and map the chunks; otherwise they are written with ``pwrite``.
    sequence:
        The journal's sequence numbers; a new generation's base is where they stand.
    """

    def __init__(
        self, file: File, *, chunk_size: int, nonce: int, mapped: bool, sequence: itertools.count[int]
    ) -> None:
        self.chunk_size = chunk_size
        self.mapped = mapped
        self.chunks: list[Chunk] = []
        self.spare: deque[Chunk] = deque()
        self._file = file
        self._nonce = nonce
        self._sequence = sequence
        self._steps = itertools.count()
        self._ranges: deque[tuple[int, int]] = deque()
        self._forgotten = False

    def grow(self, at_most: int) -> bool:
        """Add one step of chunks to ``spare``, at most ``at_most``; ``False`` when that is none.

        Raises
        ------
        OSError
            The disk is full, a limit is reached, the device fails. Nothing has changed then.
        """
        if at_most <= 0:
            return False
        first, count = self._draw()
        taken = min(count, at_most)
        try:
            faults.point("journal.grow")
            added = self._lay_out(first, taken)
        except BaseException:
            self._ranges.append((first, count))
            raise
        if self._forgotten:
            return False
        if taken < count:
            self._ranges.append((first + taken, count - taken))
        self.chunks.extend(added)
        self.spare.extendleft(added)  # chunks that were used before are warm: they stay in front
        return True

    def recycle(self, chunk: Chunk) -> None:
        """Make a full chunk spare again. The caller holds it and knows that nobody needs its frames.

        First the frames are wiped, then the mark of the next generation is set: a reader that looks in between sees an
        empty chunk, and one that remembers the old mark finds no frame whose checksum starts from the new seed.
        """
        size = self.chunk_size - 2 * MARK_SIZE
        if chunk.map is not None:
            start = chunk.origin + MARK_SIZE
            chunk.map[start : chunk.room] = bytes(size)
        else:
            self._file.write_at(bytes(size), chunk.place + MARK_SIZE)
        self._stamp(chunk, chunk.generation + 1)
        self.spare.append(chunk)

    def seal(self, chunk: Chunk) -> None:
        """Say in a chunk that no more frames will come. The caller holds it."""
        if chunk.used + WORD.size > chunk.room:
            return
        if chunk.map is not None:
            chunk.words[chunk.used >> 3] = SEALED
            return
        try:
            self._file.write_at(WORD.pack(SEALED), chunk.place + chunk.filled)
        except OSError as error:
            if not is_from_disk(error):
                raise
            # Only a hint to readers: without it they look once more.
            _log.debug("a chunk could not be sealed: %s", error)

    def touch(self, count: int) -> None:
        """Make sure that the next ``count`` spare chunks are in memory, so that no writer pays for a page fault."""
        if not self.mapped:
            return
        warm: list[Chunk] = []
        try:
            while len(warm) < count:
                try:
                    warm.append(self.spare.pop())
                except IndexError:
                    break
                chunk = warm[-1]
                if not chunk.touched:
                    # A store of zero into each page of a blank chunk (not into its mark) changes nothing but that.
                    start = chunk.origin + MARK_SIZE
                    chunk.map[start : chunk.room : _PAGE] = bytes(len(range(start, chunk.room, _PAGE)))
                    chunk.touched = True
        finally:
            self.spare.extend(reversed(warm))

    def restore(self) -> bool:
        """Set space aside again where somebody truncated the mapped file; ``True`` if that was so.

        Frames that were cut off are gone, but a store to the missing pages would have killed the process.
        """
        if not self.mapped or not self.chunks:
            return False
        chunks = list(self.chunks)  # before the file's size: a writer may grow both at this moment
        size = self._file.size()
        end = max(chunk.place for chunk in chunks) + self.chunk_size
        if size >= end:
            return False
        reserve(self._file, CHUNKS, end - CHUNKS)
        for chunk in chunks:
            if chunk.place + self.chunk_size > size:
                self._stamp(chunk, chunk.generation, blank=False)
        return True

    def forget(self) -> None:
        """In a forked child: let go of the parent's memory, even where a write was interrupted by the fork."""
        for chunk in self.chunks:
            chunk.words = VOID
            chunk.map = VOID
            chunk.end = 0
        self._forgotten = True
        self._file.abandon()
        self.detach()

    def detach(self) -> None:
        """Let go of the file; a writer in the middle of a frame keeps its chunk until it is through."""
        self.spare.clear()
        self.chunks = []

    def _draw(self) -> tuple[int, int]:
        try:
            return self._ranges.pop()
        except IndexError:
            return _step(next(self._steps))

    def _lay_out(self, first: int, count: int) -> list[Chunk]:
        place, size = CHUNKS + first * self.chunk_size, self.chunk_size
        memory = words = None
        if self.mapped:
            reserve(self._file, place, count * size)
            faults.point("journal.map")
            try:
                memory = mmap.mmap(self._file.fd, count * size, offset=place)
            except ValueError as error:  # the file was cut short in between
                raise OSError(errno.EIO, str(error)) from error
            words = memoryview(memory).cast("Q")
        added: list[Chunk] = []
        for number in range(count):
            origin = number * size if memory is not None else place + number * size
            chunk = Chunk(first + number, origin, size, place + number * size)
            chunk.map, chunk.words = memory, words
            self._stamp(chunk, 1)
            added.append(chunk)
        return added

    def _stamp(self, chunk: Chunk, generation: int, *, blank: bool = True) -> None:
        base = peek(self._sequence) - 1 if blank else 0
        mark = encode_mark(Mark(generation, base), chunk.index, self._nonce)
        if self._forgotten:  # a signal handler forked: this chunk is the parent's
            raise OSError(errno.EBADF, "the journal is the parent process's")
        if chunk.map is not None:
            chunk.map[chunk.origin : chunk.origin + MARK_SIZE] = mark
            chunk.map[chunk.room : chunk.room + MARK_SIZE] = mark
        else:
            self._file.write_at(mark, chunk.place)
            self._file.write_at(mark, chunk.place + self.chunk_size - MARK_SIZE)
        if blank:
            chunk.generation = generation
            chunk.seed = seed_of(self._nonce, chunk.index, generation)
            chunk.mixed = chunk.seed ^ chunk.origin
            chunk.side.clear()
            chunk.kept.clear()
            chunk.used = chunk.origin + MARK_SIZE
            chunk.end = chunk.room if chunk.map is not None else 0


def _step(number: int) -> tuple[int, int]:
    """First chunk and count of a step of growth; a function of its number, so that drawing one is atomic."""
    if number < len(_GROWTH):
        return sum(_GROWTH[:number]), _GROWTH[number]
    return sum(_GROWTH) + (number - len(_GROWTH)) * STEP, STEP
