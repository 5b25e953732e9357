"""The side file: payloads too large for a chunk, in blocks of 64 KiB that anyone may take and write.

A block's number is drawn by one ``pop`` or one ``next``, so no lock is needed; two writers never hold the same block.
The payload is written before the frame that lists its blocks, hence a frame that can be read has its payload behind
it. A block comes back when its frame has been shipped; should a reader still follow the old frame, the CRC of the whole
payload no longer agrees.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections import deque
from collections.abc import Iterable

from tracekeeper.journal.counters import peek
from tracekeeper.journal.files import File
from tracekeeper.journal.layout import BLOCK, SIDE_HEAD
from tracekeeper.types import faults


class Side:
    """The blocks of one side file.

    Parameters
    ----------
    file:
        The side file, open for writing.
    """

    __slots__ = ("_file", "_free", "_numbers")

    def __init__(self, file: File) -> None:
        self._file = file
        self._free: deque[int] = deque()
        self._numbers = itertools.count()

    @property
    def allocated(self) -> int:
        """Blocks that the file has room for."""
        return peek(self._numbers)

    @property
    def used(self) -> int:
        """Blocks that hold a payload still needed."""
        return peek(self._numbers) - len(self._free)

    @property
    def file(self) -> File:
        return self._file

    def take(self, count: int, blocks: list[int], at_most: int) -> bool:
        """Add blocks to ``blocks`` until it has ``count``; ``False`` when ``at_most`` new ones do not suffice."""
        while len(blocks) < count:
            try:
                blocks.append(self._free.popleft())
            except IndexError:
                if at_most <= 0:
                    return False
                at_most -= 1
                blocks.append(next(self._numbers))
        return True

    def give_back(self, blocks: Iterable[int]) -> None:
        """Let others have these blocks."""
        self._free.extend(blocks)

    def store(self, payload: bytes, blocks: list[int]) -> bytes:
        """Write ``payload`` into ``blocks`` and return what its frame holds: length, CRC-32, block numbers.

        Raises
        ------
        OSError
        """
        faults.point("journal.side")
        view = memoryview(payload)
        start = 0
        for first, count in runs(blocks):
            self._file.write_at(view[start * BLOCK : (start + count) * BLOCK], first * BLOCK)
            start += count
        return SIDE_HEAD.pack(len(payload), zlib.crc32(payload)) + struct.pack(f"={len(blocks)}I", *blocks)


def load(file: File | None, listing: bytes) -> bytes | None:
    """The payload that a side frame's ``listing`` describes; ``None`` when it is not there, or not what was written."""
    if file is None or len(listing) < SIDE_HEAD.size or (len(listing) - SIDE_HEAD.size) % 4:
        return None
    size, checksum = SIDE_HEAD.unpack_from(listing)
    blocks = list(struct.unpack_from(f"={(len(listing) - SIDE_HEAD.size) // 4}I", listing, SIDE_HEAD.size))
    if len(blocks) != blocks_for(size):
        return None
    parts = [file.read_at(count * BLOCK, first * BLOCK) for first, count in runs(blocks)]
    payload = b"".join(parts)[:size]
    return payload if len(payload) == size and zlib.crc32(payload) == checksum else None


def blocks_for(size: int) -> int:
    """How many blocks ``size`` bytes take."""
    return -(-size // BLOCK)


def runs(blocks: Iterable[int]) -> list[tuple[int, int]]:
    """Neighbouring block numbers joined: ``[4, 5, 6, 9] -> [(4, 3), (9, 1)]``."""
    joined: list[tuple[int, int]] = []
    for block in blocks:
        if joined and joined[-1][0] + joined[-1][1] == block:
            joined[-1] = (joined[-1][0], joined[-1][1] + 1)
        else:
            joined.append((block, 1))
    return joined
