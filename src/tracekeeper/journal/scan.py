"""Reading one chunk from an offset on: which frames are whole, where reading must stop, what is damaged.

A scan tells four things apart:

- a frame whose checksum agrees: it is taken;
- a zero word: nothing was written here yet (or a kill cut the write short): *dry*, look again later;
- the seal: *done*;
- anything else, or a zero word with good frames behind it: damage, counted once per place, and skipped.

Reading races with the writer, so a verdict of damage is only reached after the same place was read again: the first
word of a frame is stored last, and a fresh read that sees it sees the frame.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from tracekeeper.journal.cursor import Position
from tracekeeper.journal.files import File
from tracekeeper.journal.layout import (
    CHUNKS,
    FRAME_SIZE,
    MARK_SIZE,
    SEALED,
    SIDE,
    SIDE_SEED,
    WORD,
    WORDS,
    Header,
    Mark,
    decode_mark,
    nonce_of,
    seed_of,
)
from tracekeeper.journal.side import load

_STEP = 16384
"""Bytes read first; a chunk that has more to give is then read whole. Most looks find little that is new."""
_COUNTED = 1
"""Set in an offset: the damage here has been counted."""


class Found(NamedTuple):
    """A frame whose checksum agrees."""

    sequence: int
    position: Position
    payload: bytes | None
    """``None``: the side file does not have it."""
    end: int
    """Offset of what follows it."""
    skipped: int = 0
    """Damaged places between the frame before and this one."""


Taken = tuple[int, Position, bytes]
"""A frame that was read: its sequence number, place and payload."""


class Source:
    """One journal's files, as the scans of its chunks see them."""

    __slots__ = ("_zeros", "chunk_size", "finished", "journal", "nonce", "quiet", "side")

    def __init__(self, journal: File, side: File | None, header: Header) -> None:
        self.journal = journal
        self.side = side
        self.chunk_size = header.chunk_size
        self.nonce = nonce_of(header.name)
        self._zeros = bytes(header.chunk_size)
        self.quiet: dict[int, tuple[int, int]] = {}
        """Generation and offset of the zero word behind which a chunk was searched for frames last."""
        self.finished: dict[int, tuple[int, int]] = {}
        """Generation and offset of chunks that were read to their end: nothing comes until they are recycled."""

    def chunks(self) -> int:
        """How many chunks the file has, the last one perhaps cut short."""
        return max(0, -(-(self.journal.size() - CHUNKS) // self.chunk_size))

    def is_blank(self, data: bytes) -> bool:
        """Whether ``data``, at most a chunk of it, is all zeros. (A hundred times as fast as stripping them.)"""
        return self._zeros.startswith(data)

    def mark(self, index: int) -> Mark | None:
        """A chunk's mark, from either of its copies."""
        place = CHUNKS + index * self.chunk_size
        first = decode_mark(self.journal.read_at(MARK_SIZE, place), index, self.nonce)
        if first is not None:
            return first
        return decode_mark(self.journal.read_at(MARK_SIZE, place + self.chunk_size - MARK_SIZE), index, self.nonce)

    def read(self, index: int, start: int, stop: int) -> bytes:
        """Bytes of a chunk; what lies beyond a file that was cut short reads as zeros."""
        data = self.journal.read_at(stop - start, CHUNKS + index * self.chunk_size + start)
        return data.ljust(stop - start, b"\0")


class Scan:
    """One chunk, read from an offset on.

    ``pending`` is the next good frame once ``advance`` found one; ``take`` consumes it. ``offset`` is where a later
    scan of this chunk should begin (as it stands in a cursor).
    """

    __slots__ = (
        "_at",
        "_counted",
        "_data",
        "_last",
        "_seed",
        "_source",
        "_start",
        "damaged",
        "generation",
        "index",
        "mark",
        "offset",
        "pending",
    )

    def __init__(self, source: Source, index: int, generation: int, offset: int) -> None:
        self._source = source
        self.index = index
        self.generation = generation
        self.offset = offset
        self.mark: Mark | None = None
        self.pending: Found | None = None
        self.damaged = 0
        """Damaged places that were passed; those before a pending frame count when it is taken."""
        self._at = offset & -8
        self._counted = bool(offset & _COUNTED)
        self._last = 0
        self.look()

    @property
    def bound(self) -> int:
        """Every unread frame has a larger sequence number."""
        return self._last

    def look(self) -> None:
        """Read the mark (again), and forget what was read of the frames. A recycled chunk begins anew."""
        self._data, self._start = b"", 0
        self.mark = self._source.mark(self.index)
        if self.mark is None:
            self._without_mark()
            return
        if self.mark.generation != self.generation:
            self.generation = self.mark.generation
            self.offset = self._at = MARK_SIZE
            self._counted = False
            self.pending = None
            self._last = 0
        self._last = max(self._last, self.mark.base)
        self._seed = seed_of(self._source.nonce, self.index, self.generation)

    def advance(self) -> bool:
        """Find the next good frame; ``False`` when there is none (yet)."""
        if self.mark is None or self.pending is not None:
            return self.pending is not None
        at, counted, skipped = self._at, self._counted, 0
        room = self._source.chunk_size - MARK_SIZE
        while at + FRAME_SIZE <= room:
            found = self._frame(at)
            if found is not None and found.payload is not None:
                self.pending = found._replace(skipped=skipped) if skipped else found
                return True
            if found is not None:  # the frame is whole, its payload in the side file is not
                behind: int | None = found.end
            else:
                word = self._word(at)
                if word == SEALED:
                    self._source.finished[self.index] = (self.generation, at)
                    break
                if word == 0:
                    behind = self._behind_hole(at, room)
                    if behind is None:
                        break
                else:
                    behind = self._behind_damage(at, room)
            if self._recycled():
                return self.advance()
            if behind == at:  # a fresh read shows a frame
                continue
            skipped += 0 if counted else 1
            counted = False
            if behind is None:
                self.damaged += skipped
                self._at, self._counted, self.offset = at, True, at | _COUNTED
                return False
            at = behind
        else:
            self._source.finished[self.index] = (self.generation, at)
        self.damaged += skipped
        self._at, self._counted, self.offset = at, False, at
        return False

    def gather(self, taken: list[Taken], limit: int, budget: int) -> int:
        """Take the good frames that are in the buffer already; returns the bytes of their payloads.

        The short way for the common case. It stops at the first frame beyond ``limit`` (a sequence number) or
        ``budget`` (bytes), and at anything that is not a plain good frame: ``advance`` then looks closely.
        """
        if self.mark is None or self.pending is not None or self._counted:
            return 0
        data, start, seed, last = self._data, self._start, self._seed, self._last
        index, generation = self.index, self.generation
        at = self._at - start
        end = min(len(data), self._source.chunk_size - MARK_SIZE - start)
        size = 0
        while at >= 0 and at + FRAME_SIZE <= end and size < budget:
            word, sequence = WORDS.unpack_from(data, at)
            length = word & 0xFFFFFFFF
            stop = at + length
            if length < FRAME_SIZE or stop > end or not last < sequence <= limit:
                break
            payload = data[at + FRAME_SIZE : stop]
            place = start + at
            if zlib.crc32(payload, (sequence ^ place ^ seed) & 0xFFFFFFFF) != word >> 32:
                break
            at = (stop + 7) & -8
            taken.append((sequence, Position(index, generation, place), payload))
            size += length
            last = sequence
        if size:
            self._at = self.offset = start + at
            self._last = last
        return size

    def take(self) -> Taken:
        """Consume the pending frame."""
        found = self.pending
        assert found is not None
        assert found.payload is not None
        self.pending = None
        self.damaged += found.skipped
        self.offset = self._at = found.end
        self._counted = False
        self._last = found.sequence
        return found.sequence, found.position, found.payload

    def at(self, offset: int) -> Found | None:
        """The frame at a known place, whatever lies before it."""
        if self.mark is None or offset + FRAME_SIZE > self._source.chunk_size - MARK_SIZE:
            return None
        found = self._frame(offset)
        if found is None or found.payload is None:
            self._load(offset)
            found = self._frame(offset)
        return found

    def _frame(self, at: int) -> Found | None:
        """The frame at ``at``, if its checksum agrees."""
        raw = self._raw(at)
        if raw is None:
            return None
        sequence, flags, payload = raw
        end = (at + (flags & ~SIDE) + 7) & -8
        whole = load(self._source.side, payload) if flags & SIDE else payload
        return Found(sequence, Position(self.index, self.generation, at), whole, end)

    def _raw(self, at: int) -> tuple[int, int, bytes] | None:
        room = self._source.chunk_size - MARK_SIZE
        data = self._have(at, FRAME_SIZE)
        word, sequence = WORDS.unpack_from(data, at - self._start)
        flags = word & 0xFFFFFFFF
        length = flags & ~SIDE
        if length < FRAME_SIZE or at + length > room or sequence <= self._last:
            return None
        data = self._have(at, length)
        begin = at - self._start
        payload = data[begin + FRAME_SIZE : begin + length]
        seed = self._seed ^ SIDE_SEED if flags & SIDE else self._seed
        if zlib.crc32(payload, (sequence ^ at ^ seed) & 0xFFFFFFFF) != word >> 32:
            return None
        return sequence, flags, payload

    def _word(self, at: int) -> int:
        word: int = WORD.unpack_from(self._have(at, WORD.size), at - self._start)[0]
        return word

    def _have(self, at: int, size: int) -> bytes:
        """The buffer, after making sure that it holds ``size`` bytes at ``at``."""
        if at < self._start or at + size > self._start + len(self._data):
            first = not self._data
            stop = min(at + max(_STEP, size), self._source.chunk_size) if first else self._source.chunk_size
            self._data, self._start = self._source.read(self.index, at, stop), at
        return self._data

    def _load(self, at: int) -> None:
        """Read the rest of the chunk afresh."""
        self._data, self._start = self._source.read(self.index, at, self._source.chunk_size), at

    def _behind_hole(self, at: int, room: int) -> int | None:
        """Where reading goes on if the zero word at ``at`` is a hole and not the end. ``None``: it is the end.

        Looked for once per place: a hole is rare, and the end of a chunk that has gone quiet is looked at often.
        """
        place = (self.generation, at)
        if self._source.quiet.get(self.index) == place:
            return None
        self._source.quiet[self.index] = place
        self._load(at)
        behind = self._search(at + 8, room)
        if behind is None:
            return None
        # Frames are written in order: with a good frame behind it, this word was stored, and a fresh read shows it.
        self._load(at)
        return behind if self._word(at) == 0 else at

    def _behind_damage(self, at: int, room: int) -> int | None:
        """Where the next good frame (or the seal) is, ``at`` itself if a fresh read shows one; ``None``: nowhere."""
        self._load(at)
        if self._raw(at) is not None:
            return at
        length = self._word(at) & 0xFFFFFFFF & ~SIDE
        end = (at + length + 7) & -8
        if length >= FRAME_SIZE and end + FRAME_SIZE <= room and (self._raw(end) or self._word(end) == SEALED):
            return end
        return self._search(at + 8, room)

    def _search(self, at: int, room: int) -> int | None:
        """The first place from ``at`` on that holds a good frame."""
        if at + FRAME_SIZE > room:
            return None
        data = self._have(at, room - at)
        begin = at - self._start
        if self._source.is_blank(data[begin : begin + room - at]):
            return None
        words = memoryview(data)[begin : begin + room - at].cast("Q")
        for number in range(len(words) - 1):
            length = words[number] & 0x7FFFFFFF
            if FRAME_SIZE <= length <= room - at and words[number + 1] > self._last and self._raw(at + number * 8):
                return at + number * 8
        return None

    def _recycled(self) -> bool:
        """Whether the chunk was recycled while it was read: then what looked like damage was not."""
        mark = self._source.mark(self.index)
        if mark is None or mark.generation == self.generation:
            return False
        self.look()
        return True

    def _without_mark(self) -> None:
        """Both copies of the mark are gone. A blank chunk is one that is just being laid out; else count it, once."""
        if self.offset & _COUNTED:
            return
        start = self._source.read(self.index, 0, self._source.chunk_size)
        if self.generation or not self._source.is_blank(start):
            mark = self._source.mark(self.index)
            if mark is not None:  # it was laid out in between
                self.look()
                return
            self.damaged += 1
            self.offset |= _COUNTED
