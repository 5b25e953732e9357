"""Writing a frame step by step: when the fast path found no room, a large payload, no mapping, or an exception.

Every step notes on the ``Job`` what it did before anything else can happen, so an interrupted write is finished by
calling the same function again with the same job: nothing is written twice, drawn twice or given back twice.
"""

from __future__ import annotations

from zlib import crc32

from tracekeeper.journal.counters import GAPS
from tracekeeper.journal.files import error_name, is_from_disk
from tracekeeper.journal.layout import FRAME_SIZE, SIDE, SIDE_SEED, WORD
from tracekeeper.journal.side import blocks_for
from tracekeeper.journal.space import Chunk
from tracekeeper.journal.stock import FULL, Holder, Stock

CLOSED = "journal closed"
FORKED = "journal of the parent process"
TOO_LARGE = "frame too large"
NOT_BYTES = "frame is not bytes"


class Job(Holder):
    """One frame on the careful path. Every step notes here what it did, so that an interrupted one can be repeated."""

    __slots__ = ("blocks", "body", "flag", "kept", "payload", "sequence", "settled", "start")

    def __init__(self, payload: object, chunk: Chunk | None = None, start: int = -1, sequence: int = 0) -> None:
        super().__init__(chunk)
        self.payload: object = payload
        self.start = start
        self.sequence = sequence
        self.body: bytes | None = None
        self.flag = 0
        self.blocks: list[int] = []
        self.settled = False
        self.kept = False


class Placer(Stock):
    """The careful path of ``Journal``."""

    def _write_carefully(self, job: Job) -> bool:
        """Write a frame step by step. Called again for the same job, it does what is left of it."""
        try:
            return self._work(job)
        except BaseException:  # a signal handler's: finish first; a second one may come meanwhile
            try:
                self._work(job)
            finally:
                self._work(job)
            raise

    def _work(self, job: Job) -> bool:
        if not job.settled:
            reason = self._place(job)
            if reason:
                side = self._side
                if side is not None:
                    blocks, job.blocks = job.blocks, []
                    side.give_back(blocks)
                self.count_drop(reason)
            job.kept = not reason
            job.settled = True
        chunk = job.chunk
        if chunk is not None:
            job.chunk = None
            if self._shut:
                chunk.end = 0  # it was not there yet when `close` went through the chunks
            self._give_back(chunk)
        return job.kept

    def _place(self, job: Job) -> str:
        """Put the frame in place; an empty text, or the reason why that cannot be."""
        chunk = job.chunk
        if chunk is not None and job.start >= 0:
            if chunk.used != job.start:
                return ""
            if chunk.map is not None and (word := chunk.words[job.start >> 3]):
                chunk.used = (job.start + (word & 0xFFFFFFFF & ~SIDE) + 7) & -8
                return ""
        if self._shut:
            return self._shut
        if not isinstance(job.payload, bytes):
            return NOT_BYTES
        if job.body is None:
            if len(job.payload) <= self._inline:
                job.body = job.payload
            elif reason := self._place_aside(job, job.payload):
                return reason
        return self._find_room(job, FRAME_SIZE + len(job.body or b"")) or self._commit(job)

    def _place_aside(self, job: Job, payload: bytes) -> str:
        side = self._side
        if side is None:
            return CLOSED
        count = blocks_for(len(payload))
        if count * 4 + FRAME_SIZE > self._inline:
            return TOO_LARGE
        if not side.take(count, job.blocks, self._most_blocks() - side.allocated):
            return FULL
        try:
            body = side.store(payload, job.blocks)
        except OSError as error:
            if not is_from_disk(error):
                raise
            return f"side file: {error_name(error)}"
        job.flag = SIDE
        job.body = body
        self._refresh()
        return ""

    def _commit(self, job: Job) -> str:
        chunk, body = job.chunk, job.body
        if chunk is None or body is None:
            return CLOSED
        if not job.sequence:
            for job.sequence in self._sequence:
                break
        sequence = job.sequence
        start = job.start = chunk.used
        length = FRAME_SIZE + len(body)
        mixed = sequence ^ (start - chunk.origin) ^ (chunk.seed ^ SIDE_SEED if job.flag else chunk.seed)
        word = crc32(body, mixed & 0xFFFFFFFF) << 32 | job.flag | length
        after = (start + length + 7) & -8
        if self._shut:  # looked at last: a signal handler may have forked in the middle of all this
            return self._shut
        if chunk.map is not None:
            index = start >> 3
            chunk.words[index + 1] = sequence
            chunk.map[start + FRAME_SIZE : start + length] = body
            chunk.words[index] = word
            chunk.used = after
        else:
            file = self._file
            if file is None:
                return CLOSED
            # Zeros up to the next word and over it: an attempt that failed may have left something there.
            zeros = bytes(min(after + WORD.size, chunk.room) - start - length)
            try:
                file.write_at(WORD.pack(sequence) + body + zeros, start + WORD.size)
                file.write_at(WORD.pack(word), start)
            except OSError as error:
                if not is_from_disk(error):
                    raise
                job.start, job.sequence = -1, 0
                self._counters.add(GAPS, 1, file)
                return f"journal write: {error_name(error)}"
            chunk.used = after
        if job.blocks:
            blocks, job.blocks = tuple(job.blocks), []
            chunk.side.append((start - chunk.origin, blocks))
        return ""
