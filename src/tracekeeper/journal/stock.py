"""What the writers of a journal share: its chunks, its side blocks, its limit; taking them, giving them back, closing.

Every chunk is at any time in one of four places: with one writer, in ``_pool`` (begun, somebody may go on in it), in
``_full`` (waiting until its frames are stored), or spare. The pool is a stack, so one busy thread fills one chunk after
the other, and it has as many begun chunks as there ever were writers at the same moment, not as many as there
are threads; a thread that ends leaves nothing behind.
"""

from __future__ import annotations

import errno
import itertools
import logging
import time
from collections import deque

from tracekeeper.journal.counters import Counters
from tracekeeper.journal.cursor import Cursor
from tracekeeper.journal.files import File, error_name, is_from_disk
from tracekeeper.journal.layout import BLOCK, CHUNKS, Header, inline_limit, nonce_of
from tracekeeper.journal.side import Side
from tracekeeper.journal.space import Chunk, Space

_log = logging.getLogger("tracekeeper")

FULL = "journal full"

_FULLNESS = 0.9
"""Share of the limit beyond which spans are written without payloads."""
_SHARE = 3
"""Quarters of the limit that chunks, or side blocks, may take at most. Neither ever shrinks, so without this a burst of
the one kind would leave no room for the other for good."""
_BY_WRITERS = 16
"""Chunks that a writer which finds none adds at once: it has to wait for that (below a millisecond)."""
_RETRY = 0.1
"""Seconds that writers leave a disk alone after it refused to grow; ``maintain`` tries at once."""
_PATIENCE = 0.1
"""Seconds that ``close`` gives to writers in the middle of a frame."""


class Holder:
    """Whoever may have a chunk: the chunk is noted here in the moment it is taken, so that it cannot be lost."""

    __slots__ = ("chunk",)

    def __init__(self, chunk: Chunk | None) -> None:
        self.chunk = chunk


class Stock:
    """The shared part of ``Journal``.

    Parameters
    ----------
    header:
        The journal's header.
    file, side:
        Its files, open for writing.
    mapped:
        Whether chunks are reserved and mapped.
    limit:
        Bytes of disk that it may take. (Two threads that grow at the same moment may exceed it by one step of growth.)
    """

    accepts_payloads: bool

    def __init__(self, header: Header, file: File, side: File, *, mapped: bool, limit: int) -> None:
        self.accepts_payloads = True
        self._limit = max(limit, CHUNKS + header.chunk_size)
        self._chunk_size = header.chunk_size
        self._inline = inline_limit(header.chunk_size)
        self._shut = ""
        """Why nothing is written any more."""
        self._file: File | None = file
        self._side: Side | None = Side(side)
        self._counters = Counters()
        self._sequence = itertools.count(1)
        self._space = Space(
            file, chunk_size=header.chunk_size, nonce=nonce_of(header.name), mapped=mapped, sequence=self._sequence
        )
        self._pool: deque[Chunk] = deque()
        self._give_back = self._pool.append
        self._from_pool = iter(self._pool.pop, None)
        self._from_spare = iter(self._space.spare.pop, None)
        self._full: deque[Chunk] = deque()
        self._taken = itertools.count()
        """How many spare chunks were taken so far."""
        self._grow_after = 0.0
        self._grow_fault = ""
        self._released = Cursor()
        self._releasing = deque([True])
        """Its one element is the right to release; ``pop`` takes it or fails."""

    def count_drop(self, reason: str, n: int = 1) -> None:
        """Count something that could not be kept, in the journal itself as long as that can be written. Lock-free."""
        self._counters.add(reason, n, self._file)

    def release(self, cursor: Cursor) -> None:
        """Make room: everything before ``cursor`` is stored, so its chunks and side blocks may be used again.

        Chunks that hold a frame in ``cursor.held`` are left alone, and so are chunks that are not full yet.
        """
        self._released = cursor
        try:
            self._releasing.pop()
        except IndexError:  # another thread is at it
            return
        try:
            if not self._shut:
                self._release(cursor)
                self._refresh()
        finally:
            self._releasing.append(True)

    def _begin(self) -> None:
        if not self._space.grow(max(1, self._most_chunks())):
            raise OSError(errno.ENOSPC, "no room for a single chunk")
        self._space.touch(1)
        self._pool.append(self._space.spare.pop())

    def _most_chunks(self) -> int:
        """How many chunks the file may have."""
        side = self._side
        blocks = side.allocated * BLOCK if side is not None else 0
        return (min(self._limit * _SHARE // 4, self._limit - blocks) - CHUNKS) // self._chunk_size

    def _most_blocks(self) -> int:
        """How many blocks the side file may have."""
        chunks = CHUNKS + len(self._space.chunks) * self._chunk_size
        return min(self._limit * _SHARE // 4, self._limit - chunks) // BLOCK

    def _refresh(self) -> None:
        side = self._side
        if side is None:
            return
        chunks = len(self._space.chunks) - len(self._space.spare)
        used = CHUNKS + chunks * self._chunk_size + side.used * BLOCK
        self.accepts_payloads = (
            used < _FULLNESS * self._limit
            and chunks < _FULLNESS * self._most_chunks()
            and side.used < _FULLNESS * self._most_blocks()
        )

    def _release(self, cursor: Cursor) -> None:
        held: dict[tuple[int, int], set[int]] = {}
        for position in cursor.held:
            held.setdefault((position.chunk, position.generation), set()).add(position.offset)
        side = self._side
        for chunk in list(self._space.chunks):
            if (chunk.side or chunk.kept) and side is not None:
                side.give_back(_readable(chunk, cursor, held.get((chunk.index, chunk.generation), set())))
        for _ in range(len(self._full)):
            try:
                chunk = self._full.popleft()
            except IndexError:
                break
            done = (
                cursor.covers(chunk.index, chunk.generation, chunk.filled)
                and (chunk.index, chunk.generation) not in held
            )
            try:
                if done:
                    self._space.recycle(chunk)
            except OSError as error:
                if not is_from_disk(error):
                    raise
                _log.debug("a chunk could not be recycled: %s", error)
                done = False
            if not done:
                self._full.append(chunk)

    def _find_room(self, job: Holder, size: int) -> str:
        """Take a chunk with room for ``size`` bytes: from the pool, a spare one, or by growing."""
        while True:
            chunk = job.chunk
            if chunk is not None:
                if chunk.used + size <= chunk.room:
                    return ""
                self._space.seal(chunk)
                job.chunk = None
                self._full.append(chunk)
            try:
                for job.chunk in self._from_pool:
                    break
                continue
            except IndexError:
                pass
            try:
                for job.chunk in self._from_spare:
                    break
            except IndexError:
                if reason := self._grow():
                    return reason
                continue
            next(self._taken)
            self._refresh()

    def _grow(self, at_most: int = _BY_WRITERS) -> str:
        if time.monotonic() < self._grow_after:
            return self._grow_fault
        try:
            if self._space.grow(min(at_most, self._most_chunks() - len(self._space.chunks))):
                return ""
        except OSError as error:
            if not is_from_disk(error):
                raise
            self._grow_fault = f"journal cannot grow: {error_name(error)}"
            self._grow_after = time.monotonic() + _RETRY
            return self._grow_fault
        return FULL

    def _all_back(self) -> bool:
        """Collect every chunk, so that nobody can write any more; ``False`` if a writer does not come to an end."""
        back = len(self._full) + len(self._space.spare)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._pool.pop()
                back += 1
            except IndexError:
                if back >= len(self._space.chunks) or time.monotonic() > deadline:
                    return back >= len(self._space.chunks)
                time.sleep(0)  # writers signal nothing to anybody; let them have the processor

    def _all_stored(self) -> bool:
        cursor = self._released
        return not cursor.held and all(
            chunk.blank or cursor.covers(chunk.index, chunk.generation, chunk.filled) for chunk in self._space.chunks
        )

    def _drop_files(self) -> None:
        # Only references: whoever is in the middle of a write has one, and the last one closes the file.
        self._file = None
        self._side = None
        self._space.detach()


def _readable(chunk: Chunk, cursor: Cursor, held: set[int]) -> list[int]:
    """Take the side blocks of frames before the cursor off a chunk's lists, unless they are held."""
    free: list[int] = []
    passed, chunk.kept = chunk.kept, []
    while chunk.side and cursor.covers(chunk.index, chunk.generation, chunk.side[0][0] + 1):
        passed.append(chunk.side.popleft())
    for entry in passed:
        if entry[0] in held:
            chunk.kept.append(entry)
        else:
            free.extend(entry[1])
    return free
