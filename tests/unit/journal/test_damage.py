"""A damaged journal gives back its good frames, never a wrong one, and says how many were lost."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from tracekeeper.journal.cursor import Cursor
from tracekeeper.journal.layout import BYTE_ORDER, CHUNKS, MAGIC, MARK_SIZE, Header, encode_header
from tracekeeper.journal.reader import JournalReader
from tracekeeper.journal.writer import Journal
from tracekeeper.types import JournalError

LIMIT = 31 * 65536  # makes chunks of 64 KiB, and frames of more than 16 KiB go to the side file
FIRST = CHUNKS + MARK_SIZE


def dead(directory: Path, payloads: list[bytes]) -> Path:
    """A journal whose process is gone."""
    journal = Journal.open(directory, destination={"store": "x"}, limit=LIMIT)
    for payload in payloads:
        assert journal.write(payload)
    journal.close(remove=True)
    return journal.path


def all_of(path: Path, max_bytes: int = 5_000) -> tuple[list[bytes], int]:
    reader, cursor = JournalReader(path), Cursor()
    frames: list[bytes] = []
    lost = 0
    while True:
        found, after, damaged = reader.read(cursor, max_bytes=max_bytes)
        frames += [payload for _, payload in found]
        lost += damaged
        if not found and not damaged:
            assert after == cursor or after.chunks
            return frames, lost
        cursor = Cursor.decode(after.encode())


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: Path, offset: int, bits: int = 0xFF) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ bits]))


def numbered(count: int, size: int = 100) -> list[bytes]:
    return [b"%04d" % number + os.urandom(size) for number in range(count)]


@pytest.mark.parametrize("part", [0, 4, 8, 16, 60])
def test_a_flipped_byte_costs_one_frame(tmp_path: Path, part: int) -> None:
    written = numbered(20)
    path = dead(tmp_path, written)
    flip(path, FIRST + 120 * 7 + part)
    assert all_of(path) == (written[:7] + written[8:], 1)


def test_a_flipped_byte_in_the_last_frame_is_counted_once(tmp_path: Path) -> None:
    written = numbered(20)
    path = dead(tmp_path, written)
    flip(path, FIRST + 120 * 19 + 50)
    assert all_of(path) == (written[:19], 1)


def test_a_hole_of_zeros_costs_what_lay_in_it(tmp_path: Path) -> None:
    written = numbered(200)
    path = dead(tmp_path, written)
    overwrite(path, FIRST + 120 * 50, bytes(120 * 50))
    assert all_of(path) == (written[:50] + written[100:], 1)


def test_a_zeroed_first_page_costs_what_lay_in_it(tmp_path: Path) -> None:
    written = numbered(200)
    path = dead(tmp_path, written)
    overwrite(path, CHUNKS, bytes(4096))
    lost = (4096 - MARK_SIZE + 119) // 120
    assert all_of(path) == (written[lost:], 1)


def test_a_chunk_without_any_mark_is_counted(tmp_path: Path) -> None:
    path = dead(tmp_path, numbered(20))
    overwrite(path, CHUNKS, bytes(MARK_SIZE))
    overwrite(path, CHUNKS + 65536 - MARK_SIZE, bytes(MARK_SIZE))
    assert all_of(path) == ([], 1)


def test_a_frame_cut_short_by_a_kill_is_no_damage(tmp_path: Path) -> None:
    written = numbered(20)
    path = dead(tmp_path, written)
    # Sequence number and half of the payload are there, the first word, which is stored last, is not.
    overwrite(path, FIRST + 120 * 20 + 8, struct.pack("=Q", 21) + os.urandom(50))
    assert all_of(path) == (written, 0)


def test_a_file_cut_short_gives_what_is_left(tmp_path: Path) -> None:
    written = numbered(1500)
    path = dead(tmp_path, written)
    os.truncate(path, FIRST + 120 * 100 + 60)
    frames, lost = all_of(path)
    assert frames == written[:100]
    assert lost == 1


def test_a_missing_side_file_costs_the_large_payloads_only(tmp_path: Path) -> None:
    written = [b"small", b"large" * 20_000, b"small too", b"large" * 20_000]
    path = dead(tmp_path, written)
    path.with_suffix(".side").unlink()
    assert all_of(path) == ([b"small", b"small too"], 2)


def test_a_flipped_byte_in_the_side_file_costs_its_payload(tmp_path: Path) -> None:
    written = [b"small", b"large" * 20_000, b"small too", b"other" * 20_000]
    path = dead(tmp_path, written)
    flip(path.with_suffix(".side"), 70_000)
    assert all_of(path) == ([b"small", b"small too", b"other" * 20_000], 1)


def test_one_damaged_copy_of_the_header_does_not_matter(tmp_path: Path) -> None:
    path = dead(tmp_path, [b"kept"])
    overwrite(path, 0, bytes(512))
    assert JournalReader(path).header.destination == {"store": "x"}
    assert all_of(path) == ([b"kept"], 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a Tracekeeper journal"),
        (b"SQLite format 3\0" + bytes(8192), "not a Tracekeeper journal"),
        (bytes(100_000), "not a Tracekeeper journal"),
        (MAGIC + struct.pack("=IIIII", 9, BYTE_ORDER, 65536, 0, 0) + bytes(8192), "newer Tracekeeper"),
        (MAGIC + struct.pack("=IIIII", 1, BYTE_ORDER, 65536, 50, 7) + bytes(8192), "damaged header"),
        (MAGIC + struct.pack(">IIIII", 1, BYTE_ORDER, 65536, 50, 7) + bytes(8192), "another byte order"),
    ],
)
def test_a_file_that_is_no_journal_is_named_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.journal"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=message) as caught:
        JournalReader(path)
    assert str(path) in str(caught.value)
    with pytest.raises(JournalError, match="ENOENT"):
        JournalReader(tmp_path / "missing.journal")


def test_a_destination_too_long_for_the_header_is_refused() -> None:
    header = Header(
        name="x", pid=1, host="h", boot_id="b", started=0, chunk_size=65536, destination={"store": "x" * 3000}
    )
    with pytest.raises(JournalError, match="at most"):
        encode_header(header)


def test_frames_behind_damage_in_a_journal_that_is_still_written_are_not_lost(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, destination={})
    written = numbered(10)
    for payload in written:
        journal.write(payload)
    flip(journal.path, FIRST + 120 * 9 + 40)
    reader = journal.reader()
    frames, cursor, damaged = reader.read(Cursor())
    assert ([payload for _, payload in frames], damaged) == (written[:9], 1)
    assert reader.read(cursor)[0::2] == ([], 0)
    journal.write(b"behind")
    frames, cursor, damaged = reader.read(cursor)
    assert ([payload for _, payload in frames], damaged) == ([b"behind"], 0)


@pytest.mark.slow
def test_random_damage_never_raises_and_never_invents_a_frame(tmp_path: Path) -> None:
    chance = random.Random(4)
    written = [b"%06d" % number + chance.randbytes(chance.choice([0, 10, 500, 3_000, 20_000])) for number in range(80)]
    path = dead(tmp_path, written)
    side = path.with_suffix(".side")
    good = {file: file.read_bytes() for file in (path, side)}
    known = set(written)
    for _ in range(120):
        for file in (path, side):
            data = bytearray(good[file])
            for _ in range(chance.choice([1, 3, 30, 300])):
                where = chance.choice([chance.randrange(len(data)), chance.randrange(min(len(data), 70_000))])
                kind = chance.randrange(4)
                if kind == 0:
                    data[where] ^= 1 << chance.randrange(8)
                elif kind == 1:
                    data[where : where + 8] = chance.randbytes(8)
                elif kind == 2:
                    data[where : where + 4096] = bytes(len(data[where : where + 4096]))
                else:
                    source = chance.randrange(len(data))
                    piece = data[source : source + 256]
                    data[where : where + len(piece)] = piece
            if chance.randrange(5) == 0:
                del data[chance.randrange(len(data)) :]
            file.write_bytes(data)
        try:
            frames, _ = all_of(path, max_bytes=chance.choice([1, 5_000, 1 << 20]))
            JournalReader(path).dropped()
            JournalReader(path).frames_written()
        except JournalError:
            continue
        assert known.issuperset(frames)
        assert len(frames) == len(set(frames))
        assert frames == sorted(frames)
