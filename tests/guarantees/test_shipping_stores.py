"""G2 and G10, below the span: whatever the database does, calls go on, waits end, and every span is stored once."""

from __future__ import annotations

import errno
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import FULL
from tests.support import programs, spans

from tracekeeper.testing import temporary_keeper
from tracekeeper.types import faults

LOCKED = 30.0 if FULL else 3.0


@contextmanager
def locked(database: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the write lock until its input ends."""
    database.parent.mkdir(parents=True, exist_ok=True)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sqlite3, sys; d = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "d.execute('PRAGMA journal_mode=WAL'); d.execute('BEGIN IMMEDIATE'); print('locked', flush=True);"
            "sys.stdin.read(); d.execute('ROLLBACK'); d.close()",
            str(database),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    try:
        yield holder
    finally:
        holder.communicate(timeout=30)


@pytest.mark.parametrize("known", [False, True], ids=["not made yet", "in use"])
def test_a_locked_database_loses_nothing_and_stops_nobody(
    tmp_path: Path, known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    with temporary_keeper(data) as keeper:
        count = 0
        if known:
            count += spans.call(keeper)
            assert keeper.ship(30) is None
        with locked(data / "tracekeeper.db"):
            until = time.monotonic() + LOCKED
            slowest = 0.0
            while time.monotonic() < until:
                began = time.monotonic()
                count += spans.call(keeper)
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.0005)  # a program that does something else, too
            began = time.monotonic()
            reason = keeper.ship(0.3)
            assert time.monotonic() - began < 2
            assert reason is not None
            receipt = keeper.receipt(0.3)
            assert not receipt.complete
            assert receipt.journaled == receipt.stored + receipt.pending == count
            assert receipt.error
        assert keeper.ship(30) is None
        receipt = keeper.receipt(30)
        assert (receipt.journaled, receipt.stored, receipt.pending) == (count, count, 0)
        assert receipt.complete
        assert receipt.dropped == {}
    assert slowest < 1.0
    assert spans.statuses(data) == {"ok": count}
    assert caplog.text.count("locked by another process") <= 2


def test_a_database_that_hangs_keeps_nobody_waiting(tmp_path: Path) -> None:
    release = threading.Event()
    with temporary_keeper(tmp_path / "data") as keeper:
        spans.call(keeper)
        assert keeper.ship(30) is None
        with faults.armed("store.apply.commit", lambda: release.wait(30)):
            spans.call(keeper)
            began = time.monotonic()
            reason = keeper.ship(0.3)
            receipt = keeper.receipt(0.3)
            assert time.monotonic() - began < 3
            assert reason is not None
            assert "0.3 s" in reason
            assert (receipt.journaled, receipt.stored, receipt.pending) == (2, 1, 1)
            release.set()
        assert keeper.ship(30) is None
    assert spans.statuses(tmp_path / "data") == {"ok": 2}


@pytest.mark.parametrize(
    ("point", "stored_by_the_victim"),
    [
        ("shipper.planned", False),
        ("store.apply.begun", False),
        ("store.apply.spans", False),
        ("store.apply.commit", False),
        ("store.apply.committed", True),
        ("shipper.stored", True),
    ],
)
def test_killed_anywhere_in_a_batch_every_span_is_stored_once(
    tmp_path: Path, point: str, stored_by_the_victim: bool
) -> None:
    done = programs.run(
        spans.PRELUDE
        + f"""
from tracekeeper.types import faults
k = keeper()
call(k, "first")
running = begin(k, "running, then ended")
begin(k, "running for ever")
assert k.ship(30) is None
faults.arm({point!r}, faults.killing())
end(k, running)
for n in range(50): call(k, str(n))
begin(k, "open")
k.ship(30)
""",
        tmp_path,
    )
    assert done.code == -9, done.err
    data = tmp_path / ".tracekeeper"
    assert (len(spans.stored(data)) > 3) == stored_by_the_victim
    with temporary_keeper(data) as keeper:
        assert keeper.adopt_dead(30) == 1
    assert spans.doubled(data) == []
    assert spans.statuses(data) == {"ok": 52, "interrupted": 2}
    assert spans.journals(data) == []


@pytest.mark.parametrize(
    "point", ["store.apply.spans", "store.apply.commit", "store.apply.committed", "shipper.stored"]
)
def test_a_batch_that_fails_anywhere_is_stored_once(tmp_path: Path, point: str) -> None:
    data = tmp_path / "data"
    with temporary_keeper(data) as keeper:
        spans.call(keeper)
        still_open = spans.begin(keeper)
        assert keeper.ship(30) is None
        with faults.armed(point, faults.failing(errno.EIO, times=3)):
            for _ in range(20):
                spans.call(keeper)
            spans.end(keeper, still_open)
            keeper.ship(5)
        assert keeper.ship(30) is None
        receipt = keeper.receipt(30)
        assert (receipt.journaled, receipt.stored, receipt.complete) == (22, 22, True)
    assert spans.doubled(data) == []
    assert spans.statuses(data) == {"ok": 22}


def test_a_frame_the_store_refuses_does_not_block_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tracekeeper.store.store import Store

    apply = Store.apply

    def refusing(self: Store, journal_id: int, batch: object) -> object:
        if any(write.start.name == "poison" for write in batch.inserts):  # type: ignore[attr-defined]
            raise ValueError("no column takes this")
        return apply(self, journal_id, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "apply", refusing)
    data = tmp_path / "data"
    with temporary_keeper(data) as keeper:
        for number in range(40):
            spans.call(keeper, "poison" if number == 17 else str(number))
        assert keeper.ship(30) is None
    # Its end is good and is kept, as the end of a span whose start is lost.
    others = {str(number) for number in range(40) if number != 17}
    assert {name for name, _ in spans.stored(data)} == {*others, "(unknown)"}
    assert spans.doubled(data) == []
    assert "cannot be stored and is left out" in caplog.text


@pytest.mark.parametrize("content", [b"this is no database at all, but it was here first" * 100, None])
def test_a_database_that_cannot_be_used_is_said_once_and_used_when_it_can_be(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    database = data / "tracekeeper.db"
    if content is not None:
        database.write_bytes(content)
    else:
        foreign = sqlite3.connect(database)
        foreign.execute("CREATE TABLE theirs (id INTEGER)")
        foreign.commit()
        foreign.close()
    with temporary_keeper(data) as keeper:
        for _ in range(5):
            assert spans.call(keeper)
        began = time.monotonic()
        reason = keeper.ship(20)
        assert time.monotonic() - began < 10, "waiting does not help, so nobody waits"
        assert reason is not None
        assert str(database) in reason
        receipt = keeper.receipt(1)
        assert (receipt.journaled, receipt.stored, receipt.pending) == (5, 0, 5)
        assert keeper.ship(1) is not None
        warnings = [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert len(warnings) == 1
        database.unlink()
        assert keeper.ship(20) is None
        assert keeper.receipt(20).stored == 5


def test_a_database_deleted_under_us_is_made_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with temporary_keeper(data) as keeper:
        spans.call(keeper, "before")
        assert keeper.ship(30) is None
        for file in data.glob("tracekeeper.db*"):
            file.unlink()
        spans.call(keeper, "after")
        assert keeper.ship(30) is None
    assert ("after", "ok") in spans.stored(data)


def test_the_receipt_adds_up_at_every_moment(tmp_path: Path) -> None:
    data = tmp_path / "data"
    counts = [0, 0, 0, 0]
    with temporary_keeper(data) as keeper:

        def work(number: int) -> None:
            for _ in range(2000):
                counts[number] += spans.call(keeper)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            before = sum(counts)
            receipt = keeper.receipt(30)
            assert receipt.complete
            assert receipt.journaled == receipt.stored + receipt.pending
            assert receipt.stored >= before, "everything journaled before the call is stored"
        for thread in threads:
            thread.join()
        still_open = spans.begin(keeper)
        receipt = keeper.receipt(30)
        assert (receipt.journaled, receipt.stored, receipt.pending) == (8001, 8001, 0)
        assert spans.statuses(data) == {"ok": 8000, "running": 1}
        spans.end(keeper, still_open)
        assert keeper.receipt(30).stored == 8001
    assert spans.statuses(data) == {"ok": 8001}


def test_the_receipt_goes_on_counting_across_journals(tmp_path: Path) -> None:
    from tracekeeper.tracing import runtime

    data = tmp_path / "data"
    with temporary_keeper(data) as keeper:
        spans.call(keeper)
        first = runtime.shutdown(1)
        assert (first.journaled, first.stored, first.complete) == (1, 1, True)
        assert spans.journals(data) == []
        spans.call(keeper)
        receipt = keeper.receipt(30)
        assert (receipt.journaled, receipt.stored, receipt.pending) == (2, 2, 0)


def test_exit_is_bounded_and_says_what_is_left(tmp_path: Path) -> None:
    data = tmp_path / ".tracekeeper"
    with locked(data / "tracekeeper.db"):
        done = programs.run(
            spans.PRELUDE
            + """
k = keeper()
for n in range(3): call(k)
""",
            tmp_path,
            timeout=30,
        )
    assert done.code == 0
    assert done.seconds < 10
    assert done.err.count("\n") <= 2, done.err
    assert "tracekeeper: 3 spans are still only in the journal" in done.err
    with temporary_keeper(data) as keeper:
        assert keeper.adopt_dead(30) == 1
    assert spans.statuses(data) == {"ok": 3}


def test_a_step_of_leaving_that_raises_keeps_the_others_from_nothing(tmp_path: Path) -> None:
    done = programs.run(
        spans.PRELUDE
        + """
def broken(deadline): raise RuntimeError("unforeseen")
runtime.at_exit(broken, order=10)
runtime.at_exit(broken, order=25)
class Open:
    def sweep(self, status): end(k, self.start)
k = keeper()
swept = Open()
swept.start = begin(k, "swept")
runtime.open_spans[swept.start.span_id] = swept
bad = Open()
bad.start = None
runtime.open_spans[b"12345678"] = bad
""",
        tmp_path,
    )
    assert done.code == 0
    assert "unforeseen" in done.err
    if programs.said(done.err) != done.err:  # too little time to store it, and said so: it is in the journal
        with temporary_keeper(tmp_path / ".tracekeeper") as keeper:
            assert keeper.ship(30) is None
    assert spans.stored(tmp_path / ".tracekeeper") == [("swept", "ok")]
