"""G4, beyond the process: whichever process dies, stops or hangs, its scores are settled by another one, once."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import FULL
from tests.support import programs, workers

MANY = 10_000 if FULL else 1_000


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return workers.directory(tmp_path)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Whatever a test leaves running is ended."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate(timeout=30)


@pytest.fixture
def scores(place: Path) -> Iterator[Any]:
    opened: list[workers.Scores] = []

    def read() -> workers.Scores:
        if not opened:
            opened.append(workers.Scores(place))
        return opened[0]

    yield read
    for each in opened:
        each.close()


def begun(place: Path, process: subprocess.Popen[str], timeout: float = 30) -> None:
    """Wait until a metric of that process has begun."""
    deadline = time.monotonic() + timeout
    while not (place / f"begun-{process.pid}").exists():
        assert time.monotonic() < deadline, "the metric did not begin"
        time.sleep(0.01)


def test_a_worker_settles_what_a_killed_app_left(place: Path, scores: Any, processes: Any) -> None:
    (place / "hold").touch()
    app = workers.start_app(
        place,
        """
        ask = app("demo", [quick, held])
        for n in range(40): ask(str(n))
        tk.flush()
        """,
    )
    processes.append(app)
    programs.ready(app)
    begun(place, app)
    scores().until(lambda s: s.statuses("held")["running"])
    programs.kill(app)
    assert set(scores().statuses("held")) == {"pending", "running"}
    (place / "hold").unlink()
    said = workers.once(place)
    assert said.code == 0, said
    assert scores().statuses() == {"scored": 80}
    assert {row.value for row in scores().rows("held")} == {1.0}


WHILE_IT_LOOKS = """
import subprocess, sys, threading
from tracekeeper.types import faults

claimed, looked = threading.Event(), threading.Event()

def claims():
    claimed.set()
    looked.wait(10)

def look():
    if not claimed.is_set():
        subprocess.run([sys.executable, "asks.py"], check=True)
        claimed.wait(10)

faults.arm("claims.claimed", claims)
faults.arm("worker.look", look)
faults.arm("worker.looked", looked.set)
"""


def test_what_a_worker_claims_while_it_looks_for_more_is_settled_before_it_ends(place: Path, scores: Any) -> None:
    # Nothing was in hand before that look, and nothing is free any more at it: it was taken for the end once.
    (place / "asks.py").write_text(f"{workers.APP}\nask = app('demo', [later]); [ask(str(n)) for n in range(8)]\n")
    (place / "while_it_looks.py").write_text(WHILE_IT_LOOKS)
    said = workers.once(place, "--import", "while_it_looks")
    assert said.out.endswith("ends: 8 claimed, 8 scored\n"), said
    assert scores().statuses() == {"scored": 8}


def test_a_worker_that_is_killed_is_replaced_by_another(place: Path, scores: Any, processes: Any) -> None:
    (place / "hold").touch()
    workers.app(place, "ask = app('demo', [waits]); [ask(str(n)) for n in range(6)]")
    first = workers.start(place)
    processes.append(first)
    begun(place, first)
    second = workers.start(place)
    processes.append(second)
    scores().until(lambda s: s.statuses()["running"] == 6)
    programs.kill(first)
    (place / "hold").unlink()
    scores().until(lambda s: s.statuses() == {"scored": 6})
    rows = scores().rows()
    assert {(row.attempt, row.lost, bool(row.owner)) for row in rows} == {(2, 1, False)}
    assert {(row.status, row.lapsed) for row in scores().attempts()} == {("cancelled", 1)}
    second.terminate()
    said = workers.finish(second)
    assert (said.code, said.err) == (0, "")
    assert "6 claimed, 6 scored" in said.out


def test_a_worker_that_is_stopped_beyond_its_lease_loses_its_score_and_goes_on_when_it_is_continued(
    place: Path, scores: Any, processes: Any
) -> None:
    (place / "hold").touch()
    workers.app(place, "app('demo', [waits])('q')")
    first = workers.start(place, "--lease", "1.5")
    processes.append(first)
    begun(place, first)
    scores().until(lambda s: s.statuses()["running"] == 1)
    first.send_signal(signal.SIGSTOP)
    (place / "hold").unlink()
    second = workers.start(place, "--lease", "1.5")
    processes.append(second)
    [row] = scores().until(lambda s: [row for row in s.rows() if row.status == "scored"])
    assert (row.attempt, row.lost) == (2, 1)
    second.terminate()
    assert "1 scored" in workers.finish(second).out
    first.send_signal(signal.SIGCONT)
    scores().until(lambda s: s.refused() >= 1)
    [row] = scores().rows()
    assert (row.status, row.attempt) == ("scored", 2)
    workers.app(place, "app('demo', [later])('another')")
    scores().until(lambda s: s.statuses("later") == {"scored": 1})
    first.terminate()
    said = workers.finish(first)
    assert said.code == 0, said


def test_two_workers_share_the_work_and_nothing_is_done_twice_or_lost(place: Path, scores: Any, processes: Any) -> None:
    two = [workers.start(place, "--concurrency", "8") for _ in range(2)]
    processes.extend(two)
    workers.app(place, f"ask = app('demo', [later]); [ask(str(n)) for n in range({MANY})]")
    scores().until(lambda s: s.statuses() == {"scored": MANY})
    for worker in two:
        worker.terminate()
    said = [workers.finish(worker) for worker in two]
    assert [each.code for each in said] == [0, 0], said
    ran = Counter(line for account in place.glob("ran-*") for line in account.read_text().split())
    assert ran == {str(n): 1 for n in range(MANY)}
    assert len(list(place.glob("ran-*"))) == 2
    assert {row.attempt for row in scores().rows()} == {1}
    assert scores().attempts() == []
    assert scores().refused() == 0


def test_an_app_with_many_scores_does_not_hold_back_another_ones_few(place: Path, scores: Any, processes: Any) -> None:
    workers.app(
        place,
        f"""
        big, small = app("big", [narrow]), app("small", [later])
        for n in range({MANY}): big(str(n))
        tight = app("tight", [narrow])
        for n in range(10): small(str(n)); tight(str(n))
        """,
    )
    worker = workers.start(place, "--concurrency", "4")
    processes.append(worker)
    scores().until(lambda s: s.statuses("later") == {"scored": 10})
    # Not behind the many, although they are older and of the same limited metric.
    apps = scores().apps()

    def tight_done(s: workers.Scores) -> bool:
        return sum(row.status == "scored" for row in s.rows("narrow") if apps[row.app_id] == "tight") == 10

    scores().until(tight_done)
    done = Counter(apps[row.app_id] for row in scores().rows("narrow") if row.status == "scored")
    assert done["big"] <= 60
    running = most = 0
    for sign in (place / "narrow").read_text():
        running += 1 if sign == "+" else -1
        most = max(most, running)
    assert most <= 2
    worker.terminate()
    assert workers.finish(worker).code == 0


def test_a_worker_takes_no_more_than_about_twice_what_it_runs(place: Path, scores: Any, processes: Any) -> None:
    (place / "hold").touch()
    workers.app(place, "ask = app('demo', [waits]); [ask(str(n)) for n in range(100)]")
    worker = workers.start(place, "--concurrency", "4")
    processes.append(worker)
    begun(place, worker)
    scores().until(lambda s: s.statuses()["running"] == 4)
    assert sum(row.owner is not None for row in scores().rows()) <= 8
    (place / "hold").unlink()
    scores().until(lambda s: s.statuses() == {"scored": 100})


def test_a_worker_that_is_told_to_end_finishes_what_runs_and_gives_back_the_rest(
    place: Path, scores: Any, processes: Any
) -> None:
    (place / "hold").touch()
    workers.app(place, "ask = app('demo', [waits]); [ask(str(n)) for n in range(20)]")
    worker = workers.start(place, "--concurrency", "4")
    processes.append(worker)
    scores().until(lambda s: s.statuses()["running"] == 4)
    worker.send_signal(signal.SIGTERM)
    scores().until(lambda s: sum(bool(row.owner) for row in s.rows()) == 4)
    (place / "hold").unlink()
    said = workers.finish(worker)
    assert said.code == 0, said
    assert "4 scored" in said.out, said
    assert "4 released" in said.out, said
    rows = scores().rows()
    assert Counter((row.status, bool(row.owner), row.lost) for row in rows) == {
        ("scored", False, 0): 4,
        ("pending", False, 0): 16,
    }
    assert scores().store.workers() == []
    assert workers.once(place).code == 0
    assert scores().statuses() == {"scored": 20}


def test_what_does_not_end_in_time_is_given_back_and_nobody_is_lost(place: Path, scores: Any, processes: Any) -> None:
    (place / "hold").touch()
    workers.app(place, "app('demo', [waits])('q')")
    worker = workers.start(place, TRACEKEEPER_EXIT_TIMEOUT="0.2")
    processes.append(worker)
    scores().until(lambda s: s.statuses()["running"] == 1)
    begins = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    said = workers.finish(worker)
    assert (said.code, time.monotonic() - begins < 15) == (0, True), said
    [row] = scores().rows()
    assert (row.status, row.owner or None, row.lost) == ("pending", None, 0)
    (place / "hold").unlink()
    assert workers.once(place).code == 0
    [row] = scores().rows()
    assert (row.status, row.value) == ("scored", 1.0)


def test_a_second_ctrl_c_ends_the_waiting(place: Path, scores: Any, processes: Any) -> None:
    (place / "hold").touch()
    workers.app(place, "app('demo', [waits])('q')")
    worker = workers.start(place, TRACEKEEPER_EXIT_TIMEOUT="600")
    processes.append(worker)
    scores().until(lambda s: s.statuses()["running"] == 1)
    worker.send_signal(signal.SIGINT)
    assert worker.stderr is not None
    assert "waiting up to 600 s" in worker.stderr.readline()
    worker.send_signal(signal.SIGINT)
    assert workers.finish(worker, timeout=15).code == 130
    [row] = scores().rows()
    assert (row.status, row.lost) == ("pending", 0)


def test_retries_keep_the_score_and_its_attempts_are_counted_on(place: Path, scores: Any) -> None:
    workers.app(place, "app('demo', [third_time, pair])('q')")
    assert workers.once(place).code == 0
    [row] = scores().rows("third_time")
    assert (row.status, row.attempt, bool(row.owner)) == ("scored", 3, False)
    assert [(each.attempt, each.status, each.lapsed) for each in scores().attempts()] == [
        (1, "failed", 0),
        (2, "failed", 0),
    ]
    assert [(row.name, row.value) for row in scores().rows() if row.name != "third_time"] == [
        ("pair.a", 1.0),
        ("pair.b", 2.0),
    ]
    assert scores().refused() == 0


def test_a_restarted_app_finishes_what_its_predecessor_left_but_not_deferred_scores(
    place: Path, scores: Any, processes: Any
) -> None:
    (place / "hold").touch()
    app = workers.start_app(place, "ask = app('demo', [held, later]); [ask(str(n)) for n in range(5)]; tk.flush()")
    processes.append(app)
    programs.ready(app)
    begun(place, app)
    scores().until(lambda s: s.statuses("held")["running"] == 5)
    programs.kill(app)
    (place / "hold").unlink()
    again = workers.start_app(place, "ask = app('demo', [held, later]); ask('anew'); tk.flush()")
    processes.append(again)
    programs.ready(again)
    scores().until(lambda s: s.statuses("held") == {"scored": 6})
    assert scores().statuses("later") == {"pending": 6}


def test_a_metric_that_kills_its_process_is_named_and_kills_no_second_worker(
    place: Path, scores: Any, processes: Any
) -> None:
    app = workers.start_app(place, "app('demo', [quick])('q'); tk.flush(); app('demo', [deadly])('q')")
    processes.append(app)
    assert app.wait(30) == -signal.SIGKILL
    first = workers.start(place)
    processes.append(first)
    assert first.wait(30) == -signal.SIGKILL
    said = workers.once(place)
    assert said.code == 0, said
    [row] = scores().rows("deadly")
    assert (row.status, row.lost) == ("failed", 1)
    assert "SIGKILL" in row.reason


def test_a_locked_database_ends_no_worker_and_keeps_none_from_leaving(place: Path, scores: Any, processes: Any) -> None:
    workers.app(place, "ask = app('demo', [later]); [ask(str(n)) for n in range(3)]")
    lock = sqlite3.connect(place / ".tracekeeper" / "tracekeeper.db", isolation_level=None, timeout=30)
    lock.execute("BEGIN IMMEDIATE")
    worker = workers.start(place, "--lease", "3")
    processes.append(worker)
    assert worker.stderr is not None
    assert any("claiming scores failed (the database cannot be used now" in line for line in worker.stderr)
    lock.execute("ROLLBACK")
    scores().until(lambda s: s.statuses() == {"scored": 3})
    (place / "hold").touch()
    workers.app(place, "app('demo', [waits])('q')")
    scores().until(lambda s: s.statuses("waits")["running"] == 1)
    lock.execute("BEGIN IMMEDIATE")
    begins = time.monotonic()
    worker.send_signal(signal.SIGINT)
    worker.send_signal(signal.SIGINT)
    worker.wait(60)
    assert time.monotonic() - begins < 30
    lock.execute("ROLLBACK")
    lock.close()
    (place / "hold").unlink()
    processes.append(workers.start(place, "--lease", "3"))  # it could not be given back: the lease has to lapse
    scores().until(lambda s: s.statuses() == {"scored": 4})


def test_a_forked_child_of_an_app_gives_back_nothing_of_its_parents(place: Path, scores: Any, processes: Any) -> None:
    (place / "hold").touch()
    app = workers.start_app(place, "ask = app('demo', [held]); ask('q'); tk.flush()")
    processes.append(app)
    programs.ready(app)
    scores().until(lambda s: s.statuses()["running"] == 1)
    programs.kill(app)
    again = workers.start_app(
        place,
        """
        import time
        from tracekeeper.scoring.engine import engine_for
        from tracekeeper.tracing import runtime
        ask = app('demo', [held]); ask('anew'); tk.flush()
        engine = engine_for(runtime.keeper())
        while not engine.claimer.leases.held: time.sleep(0.02)
        child = os.fork()
        if not child:
            ask("from the child")
            tk.shutdown(0.1)
            os._exit(0)
        os.waitpid(child, 0)
        """,
    )
    processes.append(again)
    programs.ready(again)
    claimed = [row for row in scores().rows() if row.owner]
    assert len(claimed) == 1
    (place / "hold").unlink()
    scores().until(lambda s: s.statuses()["scored"] >= 2)
    [row] = [row for row in scores().rows() if row.id == claimed[0].id]
    assert (row.status, row.lost) == ("scored", 1)


def test_who_waits_for_a_deferred_score_by_name_gets_it_from_a_worker(place: Path, scores: Any, processes: Any) -> None:
    app = workers.start_app(
        place,
        """
        ask = app('demo', [later])
        with tk.recording() as recording: ask('q')
        tk.flush()
        record = recording.get()
        print(record.wait_for_scores(names=['later'], timeout=1)['later'].status, flush=True)
        print(record.wait_for_scores(names=['later'], timeout=60)['later'].value, flush=True)
        """,
    )
    processes.append(app)
    assert programs.ready(app) == "pending"
    processes.append(workers.start(place))
    assert programs.ready(app) == "1.0"
    assert not (place / f"ran-{app.pid}").exists()
