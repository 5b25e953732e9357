"""A disk that is full, broken or forbidden never raises into a write: that is counted, and over when it heals."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Literal

import pytest

from tracekeeper.journal import files
from tracekeeper.journal.cursor import Cursor
from tracekeeper.journal.writer import Journal
from tracekeeper.types import JournalError, faults

Mode = Literal["mmap", "write"]


def payloads(journal: Journal) -> list[bytes]:
    frames, _, damaged = journal.reader().read(Cursor(), max_bytes=1 << 30)
    assert damaged == 0
    return [payload for _, payload in frames]


def test_a_disk_that_fills_up_while_the_journal_grows_is_counted_and_recovers(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, destination={}, mode="mmap")
    written: list[bytes] = []
    with faults.armed("journal.reserve", faults.failing(errno.ENOSPC)):
        while journal.write(payload := b"%d" % len(written) + b"." * 30_000):
            written.append(payload)
        assert not journal.write(payload)
        assert journal.dropped() == {"journal cannot grow: ENOSPC": 2}
    journal.maintain()  # what the shipper's thread does every now and then
    assert journal.write(b"space is back")
    assert payloads(journal) == [*written, b"space is back"]
    assert journal.reader().dropped() == {"journal cannot grow: ENOSPC": 2}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG])
def test_a_failing_write_is_counted_by_its_errno_and_the_next_one_succeeds(tmp_path: Path, number: int) -> None:
    journal = Journal.open(tmp_path, destination={}, mode="write")
    assert journal.write(b"one" * 100)
    with faults.armed("file.write", faults.failing(number)):
        assert not journal.write(b"two" * 200)
        assert not journal.write(b"three" * 30_000)
    assert journal.write(b"four")
    assert journal.write(b"five" * 300)
    name = errno.errorcode[number]
    assert payloads(journal) == [b"one" * 100, b"four", b"five" * 300]
    assert journal.dropped() == {f"journal write: {name}": 1, f"side file: {name}": 1}
    journal.maintain()  # the counters could not be stored either
    assert journal.reader().dropped() == journal.dropped()
    assert journal.frames_written() == journal.reader().frames_written() == 3


def test_a_write_that_stops_half_way_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.open(tmp_path, destination={}, mode="write")
    real, broken = os.pwrite, [True]

    def half(fd: int, data: bytes, offset: int) -> int:
        if not broken[0] or len(data) < 500:
            return real(fd, data, offset)
        if len(data) < 1000:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, bytes(data)[:600], offset)  # the first part of a long write fits

    monkeypatch.setattr(files, "_pwrite", half)
    assert journal.write(b"before")
    assert not journal.write(b"\xff" * 1500)
    assert journal.write(b"short")  # ends inside what the failed write left
    broken[0] = False
    assert journal.write(b"long" * 500)
    assert payloads(journal) == [b"before", b"short", b"long" * 500]


@pytest.mark.parametrize("mode", ["mmap", "write"])
def test_a_full_side_file_gives_its_blocks_back(tmp_path: Path, mode: Mode) -> None:
    journal = Journal.open(tmp_path, destination={}, mode=mode)
    with faults.armed("journal.side", faults.failing(errno.ENOSPC, times=5)):
        for _ in range(5):
            assert not journal.write(b"." * 100_000)
        assert journal.write(b"." * 100_000)
    assert journal.dropped() == {"side file: ENOSPC": 5}
    assert journal._side is not None
    assert journal._side.used == 2


@pytest.mark.parametrize("point", ["journal.prepare", "journal.lock", "journal.grow", "file.write"])
def test_a_journal_that_cannot_be_made_says_where_and_why_and_leaves_no_files(tmp_path: Path, point: str) -> None:
    with (
        faults.armed(point, faults.failing(errno.ENOSPC)),
        pytest.raises(JournalError, match=r"(?s)journal.*ENOSPC") as caught,
    ):
        Journal.open(tmp_path, destination={})
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.rglob("*.*")) == []
    assert Journal.open(tmp_path, destination={}).write(b"fine")


def test_where_space_cannot_be_reserved_the_journal_is_written_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults.armed("journal.reserve", faults.failing(errno.EOPNOTSUPP)):
        assert Journal.open(tmp_path, destination={}).mode == "write"
    monkeypatch.setattr(files, "file_system", lambda directory: "btrfs")
    assert Journal.open(tmp_path, destination={}).mode == "write"
    monkeypatch.setattr(files, "_reserve", None)
    assert Journal.open(tmp_path, destination={}).mode == "write"
    with pytest.raises(JournalError, match="reserve"):
        Journal.open(tmp_path, destination={}, mode="mmap")


def test_a_file_in_the_way_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory")
    with pytest.raises(JournalError, match=r"data.journal cannot be written \(ENOTDIR"):
        Journal.open(tmp_path / "data", destination={})


def test_a_mapped_file_that_somebody_cut_short_is_made_whole_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal.open(tmp_path, destination={}, mode="mmap")
    journal.write(b"gone" * 100)
    journal.write(b"gone too")
    os.truncate(journal.path, 65536 + 100)
    journal.maintain()
    assert journal.write(b"after")
    assert "cut short" in caplog.text
    frames, _, damaged = journal.reader().read(Cursor())
    assert [payload for _, payload in frames] == [b"after"]
    assert damaged == 1


def test_a_file_that_grows_while_it_is_looked_at_was_not_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal.open(tmp_path, destination={}, mode="mmap")
    real, grown = files.File.size, []

    def size(file: files.File) -> int:
        found = real(file)
        if not grown:
            grown.append(journal._space.grow(8))
        return found

    monkeypatch.setattr(files.File, "size", size)
    journal.maintain()
    assert grown == [True]
    assert "cut short" not in caplog.text


def test_the_file_system_is_told_by_the_deepest_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = (
        "27 1 254:0 / / rw,relatime - btrfs /dev/vda rw\n"
        "28 27 0:25 / /mnt/a\\040b rw shared:1 - ext4 /dev/vdb rw\n"
        "29 27 0:26 / /mnt/a\\040b/c rw - tmpfs tmpfs rw\n"
        "30 27 0:27 / /mnt/a\\040b/c rw - nfs4 server:/ rw\n"
        "garbage\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda self, **_: table)
    assert files.file_system(Path("/home")) == "btrfs"
    assert files.file_system(Path("/mnt/a b/d")) == "ext4"
    assert files.file_system(Path("/mnt/a b/cc")) == "ext4"
    assert files.file_system(Path("/mnt/a b/c/d")) == "nfs4"


def test_a_point_does_nothing_until_it_is_armed() -> None:
    faults.point("nowhere")
    passed: list[str] = []
    faults.arm("a", lambda: passed.append("a"))
    faults.arm("b", lambda: passed.append("b"))
    faults.point("a")
    faults.point("b")
    faults.disarm("a")
    faults.point("a")
    faults.point("b")
    faults.disarm()
    faults.point("b")
    assert passed == ["a", "b", "b"]
