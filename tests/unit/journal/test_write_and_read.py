"""What is written comes back: once, in order, whole, whatever its size and however the journal is written."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from tracekeeper.journal import directory, files
from tracekeeper.journal.cursor import Cursor, Position
from tracekeeper.journal.layout import MARK_SIZE
from tracekeeper.journal.reader import JournalReader
from tracekeeper.journal.writer import Journal
from tracekeeper.types import JournalError

Open = Callable[..., Journal]


@pytest.fixture(params=["mmap", "write", "seek"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens journals in each way of writing; ``seek`` is a system without pwrite and pread."""
    mode = request.param
    if mode == "seek":
        monkeypatch.setattr(files, "_pwrite", None)
        monkeypatch.setattr(files, "_pread", None)
        mode = "write"

    def make(limit: int = 1 << 24) -> Journal:
        return Journal.open(tmp_path, destination={"store": "sqlite:///x.db"}, limit=limit, mode=mode)

    return make


def read_all(reader: JournalReader, cursor: Cursor, max_bytes: int = 1 << 20) -> tuple[list[bytes], Cursor]:
    payloads: list[bytes] = []
    while True:
        frames, cursor, damaged = reader.read(cursor, max_bytes=max_bytes)
        assert damaged == 0
        if not frames:
            return payloads, cursor
        payloads += [payload for _, payload in frames]


def test_frames_of_every_size_come_back_in_order(opened: Open) -> None:
    journal = opened()
    sizes = [0, 1, 7, 8, 9, 150, 4096, 65535, 65536, 65537, 131072, 131073, 1_000_000]
    written = [os.urandom(size) for size in sizes]
    assert all(journal.write(payload) for payload in written)
    assert read_all(journal.reader(), Cursor())[0] == written
    assert journal.frames_written() == len(written)
    assert journal.dropped() == {}


def test_a_read_goes_on_where_the_last_one_ended(opened: Open) -> None:
    journal, cursor = opened(), Cursor()
    reader = journal.reader()
    for number in range(300):
        journal.write(b"%d" % number)
        if number % 7 == 0:
            frames, cursor, _ = reader.read(cursor, max_bytes=1)
            assert len(frames) == 1
    rest, cursor = read_all(reader, Cursor.decode(cursor.encode()))
    assert rest[-1] == b"299"
    assert read_all(reader, cursor)[0] == []
    assert read_all(reader, Cursor(), 20)[0] == [b"%d" % number for number in range(300)]


def test_a_frame_is_found_again_by_its_position(opened: Open) -> None:
    journal = opened()
    for number in range(50):
        journal.write(b"x" * number)
    journal.write(b"y" * 200_000)
    reader = journal.reader()
    for position, payload in reader.read(Cursor())[0]:
        assert reader.frame_at(position) == payload
    position = reader.read(Cursor())[0][3][0]
    assert reader.frame_at(msgspec.structs.replace(position, generation=9)) is None
    assert reader.frame_at(msgspec.structs.replace(position, offset=position.offset + 8)) is None
    assert reader.frame_at(Position(999, 1, MARK_SIZE)) is None


def test_the_space_of_what_was_stored_is_used_again(opened: Open) -> None:
    journal, cursor = opened(limit=1 << 21), Cursor()
    reader, numbers = journal.reader(), itertools.count()
    expected = 0
    for _ in range(60):
        for _ in range(10):
            assert journal.write(b"%d " % next(numbers) + b"." * 20_000)
        assert journal.write(b"%d " % next(numbers) + b"." * 300_000)
        payloads, cursor = read_all(reader, cursor)
        for payload in payloads:
            assert payload.startswith(b"%d " % expected)
            expected += 1
        journal.release(cursor)
        journal.maintain()
    assert expected == 660
    assert journal.path.stat().st_size + journal.path.with_suffix(".side").stat().st_size <= 1 << 21
    assert journal.reader().frames_written() == journal.frames_written() == 660


def test_a_held_frame_is_not_recycled(opened: Open) -> None:
    journal = opened(limit=1 << 20)
    reader = journal.reader()
    journal.write(b"small and still needed")
    journal.write(b"large and still needed" * 10_000)
    frames, cursor, _ = reader.read(Cursor())
    held = tuple(position for position, _ in frames)
    for _ in range(200):
        assert journal.write(os.urandom(9_000))
        _, cursor = read_all(reader, cursor)
        cursor = Cursor(cursor.chunks, held)
        journal.release(cursor)
    assert reader.frame_at(held[0]) == b"small and still needed"
    assert reader.frame_at(held[1]) == b"large and still needed" * 10_000
    journal.release(Cursor(cursor.chunks))
    assert reader.frame_at(held[0]) is None


def test_near_the_limit_payloads_are_refused_and_at_it_frames_and_both_recover(opened: Open) -> None:
    journal = opened(limit=1 << 20)
    written = refused_at = 0
    while journal.write(b"." * 3_000):
        written += 1
        if not journal.accepts_payloads and not refused_at:
            refused_at = written
    assert 0.7 * written < refused_at < written
    assert journal.dropped() == {"journal full": 1}
    assert journal.path.stat().st_size <= 1 << 20
    reader = journal.reader()
    payloads, cursor = read_all(reader, Cursor())
    assert len(payloads) == written
    journal.release(cursor)
    assert journal.accepts_payloads
    assert journal.write(b"again")
    assert read_all(reader, cursor)[0] == [b"again"]
    assert reader.dropped() == {"journal full": 1}


def test_large_payloads_count_against_the_limit(opened: Open) -> None:
    journal = opened(limit=1 << 20)
    written = 0
    while journal.write(b"." * 100_000):
        written += 1
    assert written
    assert not journal.accepts_payloads
    assert journal.dropped() == {"journal full": 1}
    payloads, cursor = read_all(journal.reader(), Cursor())
    assert len(payloads) == written
    journal.release(cursor)
    assert journal.accepts_payloads
    assert journal.write(b"." * 100_000)


def test_a_frame_that_could_never_fit_is_dropped_by_name(opened: Open) -> None:
    journal = opened(limit=1 << 20)
    assert not journal.write(b"." * 2_000_000)
    assert not journal.write("text")  # type: ignore[arg-type]
    assert journal.dropped() == {"journal full": 1, "frame is not bytes": 1}
    assert journal.write(b"fine")


def test_counted_drops_are_seen_by_other_readers(opened: Open) -> None:
    journal = opened()
    journal.count_drop("payload cut: journal nearly full", 3)
    journal.count_drop("payload cut: journal nearly full")
    journal.count_drop("é" * 100, 2)
    other = JournalReader(journal.path)
    assert other.dropped() == {"payload cut: journal nearly full": 4, "é" * 24: 2}
    assert journal.dropped() == {"payload cut: journal nearly full": 4, "é" * 100: 2}


def test_the_header_tells_a_stranger_where_the_frames_belong(opened: Open) -> None:
    journal = opened()
    header = JournalReader(journal.path).header
    assert (header.name, header.pid, header.destination) == (journal.name, os.getpid(), {"store": "sqlite:///x.db"})
    assert journal.path.parent.name == "journal"
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.with_suffix(".side").stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.with_suffix(".lock").stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700
    assert directory.journals(journal.path.parent.parent) == [journal.path]


def test_on_write_is_called_after_each_frame(opened: Open) -> None:
    journal, calls = opened(), []
    journal.on_write = lambda: calls.append(journal.frames_written())
    journal.write(b"a")
    journal.write(b"b" * 70_000)
    assert calls == [1, 2]


def test_closing_removes_the_files_only_when_everything_was_stored(opened: Open) -> None:
    stored, unread, empty = opened(), opened(), opened()
    stored.write(b"a")
    _, cursor = read_all(stored.reader(), Cursor())
    stored.release(cursor)
    unread.write(b"a")
    for journal in (stored, unread, empty):
        journal.close(remove=True)
        journal.close(remove=True)
        assert not journal.write(b"late")
        assert journal.dropped() == {"journal closed": 1}
    left = sorted(path.name for path in unread.path.parent.iterdir())
    assert left == [f"{unread.name}.{suffix}" for suffix in ("journal", "lock", "side")]
    assert read_all(JournalReader(unread.path), Cursor())[0] == [b"a"]
    with pytest.raises(JournalError):
        unread.reader()


@pytest.mark.parametrize("mode", ["mmap", "write"])
def test_a_deleted_journal_still_serves_its_own_process(
    mode: Literal["mmap", "write"], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal.open(tmp_path, destination={}, mode=mode)
    journal.write(b"before")
    directory.remove(journal.path)
    journal.write(b"after")
    journal.maintain()
    journal.maintain()
    assert read_all(journal.reader(), Cursor())[0] == [b"before", b"after"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_cursors_that_are_none_are_refused() -> None:
    with pytest.raises(JournalError):
        Cursor.decode(b"\xc1nonsense")


def test_sync_brings_the_journal_to_the_disk_when_it_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files.File, "sync", lambda self: synced.append(self.path))
    journal = Journal.open(tmp_path, destination={}, sync=0.0)
    journal.maintain()
    assert synced == [journal.path.with_suffix(".side"), journal.path]
    lazy = Journal.open(tmp_path, destination={}, sync=3600.0)
    lazy.maintain()
    assert len(synced) == 2
