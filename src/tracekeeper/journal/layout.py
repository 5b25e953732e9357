"""The bytes of a journal file: what lies where, and how each part proves that it is what it claims to be.

::

    0        file header: prefix + msgpack of Header, twice (at 0 and at 2048): one damaged copy is survived
    4096     counters: 960 slots of 64 bytes, one per reason for a drop
    65536    chunk 0, chunk 1, … each of ``chunk_size`` bytes

    chunk    mark (32 bytes) · frames, each aligned to 8 · the same mark again in the last 32 bytes
    frame    word 0: checksum << 32 | side flag | length     stored last, in one 8-byte store
             word 1: sequence number
             payload, ``length - 16`` bytes
    end      word 0 is zero: nothing was written here yet;  all ones: the chunk was sealed

A frame's checksum is a CRC-32 that starts from its sequence number, its offset in the chunk, and a seed that only this
chunk of this journal in this generation has (the three combined by XOR). So neither an old frame of a recycled chunk
nor a frame copied from elsewhere can pass.
Numbers are in the byte order of the machine: a journal is read on the machine that wrote it.

The payload of a frame with the side flag says where the real payload is: its length, its CRC-32, and the numbers of
its 64 KiB blocks in the side file.
"""

from __future__ import annotations

import struct
import zlib

import msgspec

from tracekeeper.types import JournalError

MAGIC = b"TKJRNL\r\n"
VERSION = 1
BYTE_ORDER = 0x0A0B0C0D

HEADER_COPY = 2048
COUNTERS = 4096
COUNTER = struct.Struct("=IHHQ48s")
"""Checksum of the rest, length of the reason, unused, count, reason in UTF-8."""
COUNTER_SLOTS = 960
CHUNKS = 65536
"""Where chunk 0 begins; a multiple of every page size, because segments of chunks are mapped from there."""
CHUNK_UNIT = 65536
"""Chunk sizes are multiples of it."""

MARK = struct.Struct("=4sIQIII4x")
"""Magic, generation, base sequence number (every frame of the generation has a larger one), chunk index, nonce,
checksum."""
MARK_MAGIC = b"TKCH"
MARK_SIZE = MARK.size

FRAME_SIZE = 16
SIDE = 1 << 31
SEALED = (1 << 64) - 1
WORD = struct.Struct("=Q")
WORDS = struct.Struct("=QQ")

BLOCK = 65536
"""Bytes of one block of the side file."""
SIDE_HEAD = struct.Struct("=QI")
SIDE_SEED = 0x5A5A5A5A
"""Mixed into the checksum of a frame with the side flag, so that a flipped flag is noticed."""

_PREFIX = struct.Struct("=8sIIIII")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Who writes a journal, and where its frames are to go.

    ``started`` is in nanoseconds since the epoch; ``process_started`` is the operating system's own word for when the
    process began (empty where unknown), which tells a process from a later one with the same number.
    """

    name: str
    pid: int
    host: str
    boot_id: str
    started: int
    version: int = VERSION
    chunk_size: int
    destination: dict[str, str] = {}
    process_started: str = ""


class Mark(msgspec.Struct, frozen=True):
    """A chunk's header."""

    generation: int
    base: int


def encode_header(header: Header) -> bytes:
    """The first 4096 bytes of a journal.

    Raises
    ------
    JournalError
        The destination is longer than a header can hold (about 2000 bytes).
    """
    body = msgspec.msgpack.encode(header)
    prefix = _PREFIX.pack(MAGIC, header.version, BYTE_ORDER, header.chunk_size, len(body), zlib.crc32(body))
    copy = prefix + body
    if len(copy) > HEADER_COPY:
        raise JournalError(f"the journal's destination takes {len(body)} bytes; at most {HEADER_COPY - _PREFIX.size}")
    return copy.ljust(HEADER_COPY, b"\0") + copy.ljust(HEADER_COPY, b"\0")


def decode_header(data: bytes, path: object) -> Header:
    """The header from a journal's first 4096 bytes.

    Raises
    ------
    JournalError
        The file is no journal, is from a newer version or another machine, or both copies are damaged.
    """
    fault = f"{path} is not a Tracekeeper journal"
    for start in (0, HEADER_COPY):
        copy = data[start : start + HEADER_COPY]
        if len(copy) < _PREFIX.size:
            continue
        magic, version, order, chunk_size, size, checksum = _PREFIX.unpack_from(copy)
        if magic != MAGIC:
            continue
        if order == BYTE_ORDER and version > VERSION:
            fault = f"{path} was written by a newer Tracekeeper (journal version {version}, known: {VERSION}); upgrade"
            continue
        if order != BYTE_ORDER:
            fault = f"{path} was written on a machine with another byte order, or its header is damaged"
            continue
        body = copy[_PREFIX.size : _PREFIX.size + size]
        if len(body) != size or zlib.crc32(body) != checksum:
            fault = f"{path} has a damaged header"
            continue
        try:
            header = msgspec.msgpack.decode(body, type=Header)
        except msgspec.DecodeError as error:
            fault = f"{path} has a damaged header ({error})"
            continue
        if header.chunk_size != chunk_size or chunk_size <= 0 or chunk_size % CHUNK_UNIT:
            fault = f"{path} has a damaged header (chunks of {chunk_size} bytes)"
            continue
        return header
    raise JournalError(fault)


def nonce_of(name: str) -> int:
    """A number that belongs to one journal."""
    return zlib.crc32(name.encode())


def encode_mark(mark: Mark, index: int, nonce: int) -> bytes:
    """A chunk's 32-byte header."""
    head = MARK.pack(MARK_MAGIC, mark.generation, mark.base, index, nonce, 0)[:24]
    return MARK.pack(MARK_MAGIC, mark.generation, mark.base, index, nonce, zlib.crc32(head))


def decode_mark(data: bytes, index: int, nonce: int) -> Mark | None:
    """The chunk header in ``data``; ``None`` when it is blank, damaged, or of another chunk or journal."""
    if len(data) < MARK_SIZE:
        return None
    magic, generation, base, where, whose, checksum = MARK.unpack_from(data)
    if magic != MARK_MAGIC or where != index or whose != nonce or zlib.crc32(data[:24]) != checksum:
        return None
    return Mark(generation, base)


def seed_of(nonce: int, index: int, generation: int) -> int:
    """What only this generation of this chunk mixes into its checksums."""
    return zlib.crc32(struct.pack("=III", nonce, index, generation & 0xFFFFFFFF))


def encode_counter(reason: str, count: int) -> bytes:
    """One slot of the counters."""
    text = reason.encode("utf-8", "replace")[:48].decode("utf-8", "ignore").encode()
    slot = COUNTER.pack(0, len(text), 0, count, text)
    return COUNTER.pack(zlib.crc32(slot[4:]), len(text), 0, count, text)


def decode_counters(data: bytes) -> dict[str, int]:
    """The counters in ``data``, by reason; blank and damaged slots are left out."""
    found: dict[str, int] = {}
    for start in range(0, len(data) - COUNTER.size + 1, COUNTER.size):
        checksum, size, _, count, text = COUNTER.unpack_from(data, start)
        if not size or size > 48 or zlib.crc32(data[start + 4 : start + COUNTER.size]) != checksum:
            continue
        reason = text[:size].decode("utf-8", "replace")
        found[reason] = found.get(reason, 0) + count
    return found


def chunk_size_for(limit: int) -> int:
    """Bytes of a chunk in a journal of at most ``limit`` bytes: 256 KiB, less when the journal is small.

    Always a power of two: in a mapped segment an offset then is the chunk's origin XOR the offset in the chunk.
    """
    size = 4 * CHUNK_UNIT
    while size > CHUNK_UNIT and size > limit // 16:
        size //= 2
    return size


def inline_limit(chunk_size: int) -> int:
    """The largest payload that is written into a chunk; larger ones go to the side file."""
    return min(BLOCK, chunk_size // 4)
