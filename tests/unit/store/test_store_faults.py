"""What goes wrong outside: locks, full disks, kills, forks, deleted files. All or nothing, and usable afterwards."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support import programs
from tests.support.rows import Writer, birth, record

from tracekeeper.store.errors import StaleCursor, StoreLocked
from tracekeeper.store.store import Store
from tracekeeper.types import StoreError, faults

HOLD = """
import sqlite3, sys
connection = sqlite3.connect("store.db", isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


def test_a_lock_held_by_another_process_delays_and_loses_nothing(store: Store, journal: Writer, tmp_path: Path) -> None:
    holder = programs.start(HOLD, tmp_path)
    assert programs.ready(holder) == "held"
    begun = time.monotonic()
    with pytest.raises(StoreLocked, match="locked by another process"):
        journal.apply(record())
    assert 0.15 < time.monotonic() - begun < 5
    assert store.records() == []
    holder.communicate("go\n", timeout=30)
    journal.apply(record())
    assert len(store.records()) == 1


def test_a_lock_held_by_another_thread(store: Store, journal: Writer) -> None:
    with store.write(), pytest.raises(StoreLocked, match="another thread"):
        journal.apply(record())
    journal.apply(record())


@pytest.mark.parametrize("place", ["store.apply.begun", "store.apply.spans", "store.apply.commit"])
def test_a_full_disk_stores_nothing_and_the_next_batch_works(store: Store, journal: Writer, place: str) -> None:
    with faults.armed(place, faults.failing(errno.ENOSPC)), pytest.raises(StoreError, match="No space left"):
        journal.apply(record(birth()))
    assert (store.records(), store.score_counts()) == ([], {})
    journal.apply(record(birth()))
    assert len(store.records()) == 1


def test_a_database_that_may_not_grow(store: Store, journal: Writer) -> None:
    with store.write() as connection:
        (pages,) = connection.exec_driver_sql("PRAGMA page_count").one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    writes = [record(birth(), input=b'"' + b"x" * 5000 + b'"') for _ in range(50)]
    with pytest.raises(StoreError, match=r"cannot grow.*Free some space"):
        journal.apply(*writes)
    assert store.counts().spans == 0
    with store.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    journal.apply(*writes)
    assert store.counts().spans == 50


LIMITED = """
import resource, signal, sys
sys.path.insert(0, {root!r})
from tests.support.rows import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store.open("sqlite:///limited.db")
journal = Writer(store)
journal.apply(record())
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
big = [record(input=b'"' + b"x" * 20_000 + b'"') for _ in range(100)]
try:
    journal.apply(*big)
except Exception as error:
    print(type(error).__name__, error)
print(len(store.records(limit=None)))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.apply(*big)
print(len(store.records(limit=None)))
"""


@pytest.mark.slow
def test_a_file_size_limit_stores_nothing_and_the_next_batch_works(tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parents[3])
    done = programs.run(LIMITED.format(root=root), tmp_path)
    lines = done.out.splitlines()
    assert lines[0].startswith("StoreError"), done.err
    assert lines[1:] == ["1", "101"]


def test_a_value_that_sqlite_cannot_take_is_an_error_with_its_cause(store: Store, journal: Writer) -> None:
    with pytest.raises(StoreError) as caught:
        journal.apply(record(), record(started=2**63))
    assert isinstance(caught.value.__cause__, OverflowError)
    assert store.records() == []


KILLED = """
import sys
sys.path.insert(0, {root!r})
from tests.support.rows import *
from tracekeeper.types import faults
store = Store.open("sqlite:///store.db")
journal = Writer(store, "killed")
journal.apply(record(birth()))
faults.arm({place!r}, faults.killing())
writes = [record(birth()) for _ in range(20)]
journal.apply(*writes, scores=[score(write) for write in writes])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "stored"),
    [("store.apply.begun", 1), ("store.apply.spans", 1), ("store.apply.commit", 1), ("store.apply.committed", 21)],
)
def test_a_kill_in_the_middle_leaves_all_or_nothing(tmp_path: Path, place: str, stored: int) -> None:
    root = str(Path(__file__).resolve().parents[3])
    done = programs.run(KILLED.format(root=root, place=place), tmp_path)
    assert done.code == -signal.SIGKILL, done.err
    store = Store.open(f"sqlite:///{tmp_path / 'store.db'}")
    row = store.journal_row("killed")
    assert row is not None
    assert (len(store.records(limit=None)), row.spans_stored, row.cursor_version) == (stored, stored, 1 + (stored > 1))
    assert sum(store.score_counts().values()) == stored
    store.close()


MAKING = """
import sys
from tracekeeper.store.store import Store
from tracekeeper.types import faults
faults.arm("store.schema.commit", faults.killing())
Store.open("sqlite:///store.db")
"""


def test_a_kill_while_a_store_is_made_leaves_one_that_is_made_next_time(tmp_path: Path) -> None:
    assert programs.run(MAKING, tmp_path).code == -signal.SIGKILL
    store = Store.open(f"sqlite:///{tmp_path / 'store.db'}")
    Writer(store).apply(record())
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_connects_anew_and_harms_nothing(store: Store, journal: Writer) -> None:
    journal.apply(record())
    with store.write() as connection:
        # The parent is in the middle of a transaction; the child must neither wait for it nor end it.
        connection.exec_driver_sql("UPDATE journal SET host = 'changed'")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if len(store.records()) == 1 else 2
                try:
                    Writer(store, "child")
                    code = 3
                except StoreLocked:
                    pass
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    row = store.journal_row("j")
    assert row is not None
    assert row.host == "changed"
    journal.apply(record())
    assert len(store.records()) == 2


def test_a_deleted_store_is_made_again(
    store: Store, journal: Writer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal.apply(record())
    for file in tmp_path.glob("store.db*"):
        file.unlink()
    with caplog.at_level(logging.WARNING, logger="tracekeeper"), pytest.raises(StaleCursor, match="register"):
        journal.apply(record())
    assert "deleted or replaced" in caplog.text
    again = Writer(store)
    again.apply(record())
    assert len(store.records()) == 1
    assert (tmp_path / "store.db").exists()


def test_a_closed_store_opens_again_at_the_next_use(store: Store, journal: Writer) -> None:
    journal.apply(record())
    store.close()
    store.close()
    assert len(store.records()) == 1


def test_readers_cannot_write_and_see_one_state(store: Store, journal: Writer) -> None:
    journal.apply(record())
    with store.read() as connection:
        before = connection.exec_driver_sql("SELECT count(*) FROM record").scalar()
        journal.apply(record())
        assert connection.exec_driver_sql("SELECT count(*) FROM record").scalar() == before == 1
    with pytest.raises(StoreError, match="readonly"), store.read() as connection:
        connection.exec_driver_sql("DELETE FROM record")
    assert len(store.records()) == 2


def test_errors_of_the_caller_pass_through_and_roll_back(store: Store, journal: Writer) -> None:
    with pytest.raises(ZeroDivisionError), store.write() as connection:
        connection.exec_driver_sql("UPDATE journal SET host = 'changed'")
        raise ZeroDivisionError
    row = store.journal_row("j")
    assert row is not None
    assert row.host == "here"


@pytest.mark.slow
def test_two_processes_write_and_one_reads(tmp_path: Path, store: Store) -> None:
    root = str(Path(__file__).resolve().parents[3])
    code = f"""
import sys
sys.path.insert(0, {root!r})
from tests.support.rows import *
journal = Writer(Store.open("sqlite:///store.db", busy_timeout=30), sys.argv[1])
for _ in range(20):
    write = record(birth())
    journal.apply(write, scores=[score(write)])
"""
    program = programs.write(code, tmp_path)
    writers = [
        subprocess.Popen(
            [sys.executable, str(program), name], cwd=tmp_path, env=programs.environment(), stderr=subprocess.PIPE
        )
        for name in ("one", "two")
    ]
    while any(writer.poll() is None for writer in writers):
        counts = store.counts()
        assert counts.records == counts.scores.get("scored", 0)
        for writer in writers:
            try:
                writer.wait(timeout=0.02)
            except subprocess.TimeoutExpired:
                continue
    for writer in writers:
        _, err = writer.communicate()
        assert writer.returncode == 0, err
    assert store.counts().records == 40
    assert [row.spans_stored for row in store.journal_rows()] == [20, 20]
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
