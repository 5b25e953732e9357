"""G2: a call that returned is in the store, whatever kills the process; the call in flight is ``interrupted``."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import FULL
from tests.failures.test_trulens import tk_in
from tests.support import programs

import tracekeeper as tk

ROUNDS = 200 if FULL else 12
LOCKED = 30 if FULL else 3

EIGHT_THREADS = """
    import sys, threading, tracekeeper as tk
    from pathlib import Path

    @tk.trace
    def child(n): return n
    @tk.app(name="eight", version="1")
    def call(thread, n):
        child(n)
        return n

    def work(thread):
        # One line after each call that returned, unbuffered: the test's own account, kept by the kernel.
        with open(f"returned_{thread}", "wb", buffering=0) as account:
            n = 0
            while True:
                call(thread, n)
                account.write(b"%d\\n" % n)
                n += 1

    for thread in range(8):
        threading.Thread(target=work, args=(thread,), daemon=True).start()
    print("running", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_kill_9_at_a_random_moment_loses_no_call_that_returned(tmp_path: Path, seed: int) -> None:
    process = programs.start(EIGHT_THREADS, tmp_path)
    programs.ready(process)
    time.sleep(random.Random(seed).uniform(0.0, 0.6))  # the moment of the kill, not a synchronisation
    programs.kill(process)
    returned = {
        thread: len((tmp_path / f"returned_{thread}").read_bytes().split(b"\n")) - 1
        for thread in range(8)
        if (tmp_path / f"returned_{thread}").exists()
    }
    with tk_in(tmp_path):
        assert "not everything" not in (tk.records(limit=1, timeout=60).note or "")  # adopts what the dead one left
    database = sqlite3.connect(tmp_path / ".tracekeeper" / "tracekeeper.db")
    stored: dict[int, list[int]] = {}
    for thread, number, status in database.execute(
        "SELECT json_extract(p.input, '$.thread'), json_extract(p.input, '$.n'), r.status "
        "FROM record r JOIN payload p ON p.id = r.id"
    ):
        if status == "ok":
            stored.setdefault(thread, []).append(number)
        else:
            assert status == "interrupted"
    for thread, calls in returned.items():
        kept = sorted(stored.get(thread, []))
        # Every call that returned, once; at most one more that ended while its account was not written yet.
        assert kept[:calls] == list(range(calls))
        assert len(kept) <= calls + 1
    in_flight = database.execute("SELECT count(*) FROM record WHERE status = 'interrupted'").fetchone()[0]
    assert in_flight <= 8
    assert database.execute("SELECT count(*) FROM span WHERE status = 'running'").fetchone()[0] == 0
    twice = "SELECT count(*) FROM (SELECT 1 FROM span GROUP BY trace_id, span_id HAVING count(*) > 1)"
    assert database.execute(twice).fetchone()[0] == 0
    database.close()
    assert not list((tmp_path / ".tracekeeper" / "journal").glob("*.journal")), "an adopted journal is removed"


@pytest.mark.parametrize("chained", [False, True])
def test_sigterm_loses_nothing_and_a_chained_handler_still_runs(tmp_path: Path, chained: bool) -> None:
    process = programs.start(
        f"""
        import signal, sys, time, tracekeeper as tk
        if {chained}:
            signal.signal(signal.SIGTERM, lambda *_: (print("theirs", flush=True), sys.exit(7)))
            tk.configure(sigterm=True)
        @tk.trace
        def call(n): return n
        for n in range(100): call(n)
        print("called", flush=True)
        while True: time.sleep(0.1)  # Python overlooks a signal that comes as a wait begins, until it ends
        """,
        tmp_path,
    )
    programs.ready(process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == ((7, "theirs\n") if chained else (-signal.SIGTERM, ""))
    with tk_in(tmp_path):
        assert sorted(record.output for record in tk.records(limit=200)) == list(range(100))


def test_process_pool_children_keep_their_calls_and_their_scores_settle(tmp_path: Path) -> None:
    done = programs.run(
        """
        from concurrent.futures import ProcessPoolExecutor
        import multiprocessing, tracekeeper as tk
        def judged(output): return 1.0
        @tk.app(name="pool", version="1", metrics=[judged])
        def call(n): return n
        if __name__ == "__main__":
            call(-1)
            with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as pool:
                assert sorted(pool.map(call, range(30))) == list(range(30))
        """,
        tmp_path,
    )
    assert done.code == 0, done.err
    with tk_in(tmp_path):
        rows = tk.records_and_scores(limit=100).to_dicts()
    assert len(rows) == 31
    assert {row["judged.status"] for row in rows} <= {"scored", "failed", "cancelled"}


@pytest.mark.slow
def test_a_database_locked_for_long_by_another_process_loses_nothing_and_calls_go_on(tmp_path: Path) -> None:
    (tmp_path / ".tracekeeper").mkdir()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sqlite3, sys; d = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "d.execute('PRAGMA journal_mode=WAL'); d.execute('BEGIN IMMEDIATE'); print('locked', flush=True);"
            "sys.stdin.read(); d.execute('ROLLBACK')",
            str(tmp_path / ".tracekeeper" / "tracekeeper.db"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    with tk_in(tmp_path):

        @tk.trace
        def call(n: int) -> int:
            return n

        until = time.monotonic() + LOCKED
        slowest, calls = 0.0, 0
        while time.monotonic() < until:
            begun = time.monotonic()
            call(calls)
            slowest = max(slowest, time.monotonic() - begun)
            calls += 1
            time.sleep(0.001)
        assert slowest < 1.0
        assert not tk.flush(timeout=0.2).complete
        holder.communicate(timeout=30)
        receipt = tk.flush(timeout=60)
        assert (receipt.complete, receipt.stored) == (True, calls)


def test_a_stopped_process_is_alive_and_its_journal_is_its_own(tmp_path: Path) -> None:
    process = programs.start(
        """
        import sys, tracekeeper as tk
        @tk.trace
        def call(n): return n
        call(0)
        print(tk.flush(timeout=20).complete, flush=True)
        sys.stdin.readline()
        call(1)
        print(tk.flush(timeout=20).complete, flush=True)
        """,
        tmp_path,
    )
    assert programs.ready(process) == "True"
    process.send_signal(signal.SIGSTOP)
    with tk_in(tmp_path):
        assert [record.output for record in tk.records()] == [0]
        process.send_signal(signal.SIGCONT)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert programs.ready(process) == "True"
        assert sorted(record.output for record in tk.records()) == [0, 1]
    process.communicate(timeout=30)


def test_two_writers_and_a_reader_share_a_directory(tmp_path: Path) -> None:
    code = """
        import sys, tracekeeper as tk
        @tk.trace
        def call(who, n): return n
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(500): call(sys.argv[0], n)
    """
    writers = [programs.start(code, tmp_path) for _ in range(2)]
    for writer in writers:
        programs.ready(writer)
    with tk_in(tmp_path):
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
        while any(writer.poll() is None for writer in writers):
            tk.records(limit=1000)
        for writer in writers:
            _, err = writer.communicate(timeout=30)
            assert (writer.returncode, programs.said(err)) == (0, "")
        assert len(tk.records(limit=2000)) == 1000


def test_an_unwritable_directory_is_said_once_and_the_program_goes_on(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("drops its privileges, so it must have some")
    done = programs.run(
        f"""
        import os, tempfile
        import tracekeeper as tk
        @tk.trace
        def call(n): return n
        # Import while we may still read the installation: only the data directory is to be out of reach.
        tk.configure(directory=tempfile.mkdtemp())
        call(0)
        tk.records()
        tk.shutdown()
        tk.configure(directory={str(tmp_path / ".tracekeeper")!r})
        os.setuid(65534)
        assert [call(n) for n in range(100)] == list(range(100))
        receipt = tk.flush(timeout=5)
        print(receipt.complete, sum(receipt.dropped.values()) > 0)
        """,
        tmp_path,
    )
    assert done.code == 0, done.err
    assert done.out.split() == ["False", "True"]
    assert done.err.count("tracekeeper") >= 1
    assert ".tracekeeper" in done.err
    assert "Traceback" not in done.err


def test_a_full_disk_drops_what_it_must_counts_it_and_recovers(tmp_path: Path) -> None:
    done = programs.run(
        """
        import resource, tracekeeper as tk
        @tk.trace
        def call(text): return len(text)
        call("before")
        assert tk.flush(timeout=20).complete
        size = 1_500_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        for n in range(60): assert call("x" * 100_000) == 100_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        for n in range(10): call("after")
        receipt = tk.flush(timeout=30)
        print(receipt.complete, sum(receipt.dropped.values()) > 0, receipt.journaled == receipt.stored)
        """,
        tmp_path,
    )
    assert done.code == 0, done.err
    assert done.out.split() == ["True", "True", "True"], done.err
    with tk_in(tmp_path):
        outputs = [record.output for record in tk.records(limit=200)]
    assert outputs[:10] == [len("after")] * 10
