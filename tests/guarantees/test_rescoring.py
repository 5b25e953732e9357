"""Judging again with real processes: killed in the middle, several at once, stopped. Each score is computed once."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs

JUDGES = """
import os
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def note(what):
    handle = os.open(os.path.join(HERE, "runs.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, (what + "\\n").encode())
    os.close(handle)


def length(input, output):
    note(f"{input}")
    return len(output)


def slow(input, output):
    note(f"{input}")
    time.sleep(0.02)
    return len(output)


def hangs_where_told(input, output):
    note(f"{input}")
    if os.environ.get("HANG") and input == "question 0":
        print("hangs", flush=True)
        time.sleep(600)
    return len(output)
"""

RECORDS = """
import tracekeeper as tk
for number in range({count}):
    tk.log_record(input=f"question {{number}}", output="mild", app="imported", version="1")
print(tk.flush(timeout=60).complete)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / ".tracekeeper").mkdir(mode=0o700)
    (tmp_path / "judges.py").write_text(JUDGES)
    return tmp_path


def records(place: Path, count: int) -> None:
    done = programs.run(RECORDS.format(count=count), place)
    assert done.out.strip() == "True", done


def runs(place: Path) -> Counter[str]:
    path = place / "runs.log"
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def rows(place: Path, query: str) -> list[Any]:
    database = sqlite3.connect(place / ".tracekeeper" / "tracekeeper.db")
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def rescore(place: Path, metric: str, *, more: str = "", **environment: str) -> programs.Finished:
    code = f"""
import tracekeeper as tk
print(tk.rescore(metrics=["judges:{metric}"]{more}))
"""
    done = programs.run(code, place, timeout=120, **environment)
    assert done.code == 0, done
    return done


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def test_a_run_that_is_killed_is_finished_by_the_next_one_which_does_exactly_the_rest(place: Path) -> None:
    count = 300
    records(place, count)
    code = """
import os, signal
import tracekeeper as tk

def progress(done, counts):
    if done == 100:
        tk.flush(timeout=30)
        os.kill(os.getpid(), signal.SIGKILL)

tk.rescore(metrics=["judges:slow"], on_progress=progress, concurrency=8)
"""
    killed = programs.run(code, place)
    assert killed.code == -signal.SIGKILL, killed
    before = runs(place)
    done = rescore(place, "slow")
    settled = rows(place, "SELECT status, count(*) FROM score GROUP BY status")
    assert settled == [("scored", count)], (settled, done.out)
    after = runs(place)
    assert set(after) == {f"question {number}" for number in range(count)}
    again = {name for name, times in after.items() if times > 1}
    assert len(again) <= 32, "only what was being computed when it was killed is computed again"
    assert sum(after.values()) - sum(before.values()) <= count - 100 + 32
    assert rescore(place, "slow").out.startswith(f"{count} records, nothing judged here; {count} were judged before")
    assert runs(place) == after


def test_two_that_judge_the_same_records_at_once_compute_each_score_once(place: Path) -> None:
    count = 200
    records(place, count)
    code = """
import sys
import tracekeeper as tk
tk.records(limit=1)
print("ready", flush=True)
sys.stdin.readline()
result = tk.rescore(metrics=["judges:slow"])
print(sum(result.scores.values()), sum(result.elsewhere.values()), result.before, flush=True)
"""
    both = [programs.start(code, place) for _ in range(2)]
    try:
        for process in both:
            assert programs.ready(process) == "ready"
        for process in both:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [[int(word) for word in programs.ready(process).split()] for process in both]
        for process in both:
            out, error = process.communicate(timeout=60)
            assert process.returncode == 0, (out, error)
    finally:
        for process in both:
            if process.poll() is None:
                programs.kill(process)
    assert runs(place) == Counter({f"question {number}": 1 for number in range(count)})
    assert [sum(words) for words in said] == [count, count], "each accounts for all of them"
    assert sum(words[0] for words in said) == count
    assert rows(place, "SELECT status, attempt, count(*) FROM score GROUP BY 1, 2") == [("scored", 1, count)]
    assert rows(place, "SELECT count(*) FROM score_attempt") == [(0,)]
    assert rows(place, "SELECT sum(refused) FROM journal") == [(0,)]


def test_one_that_is_stopped_blocks_nobody_for_longer_than_its_lease_and_its_late_result_is_refused(
    place: Path,
) -> None:
    records(place, 3)
    code = """
import tracekeeper as tk
print(tk.rescore(metrics=["judges:hangs_where_told"]), flush=True)
"""
    stopped = programs.start(code, place, HANG="1", TRACEKEEPER_LEASE="2", TRACEKEEPER_EXIT_TIMEOUT="1")
    try:
        assert programs.ready(stopped) == "hangs"
        # Once it is said to run, whatever the process came to before is stored.
        wait_for(lambda: rows(place, "SELECT count(*) FROM score WHERE status = 'running'") == [(1,)])
        stopped.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        done = rescore(place, "hangs_where_told", TRACEKEEPER_LEASE="2")
        assert time.monotonic() - begun < 30
        assert "1 = 1 scored" in done.out, done
        assert rows(place, "SELECT status, count(*) FROM score GROUP BY 1") == [("scored", 3)]
        assert rows(place, "SELECT status, lapsed FROM score_attempt") == [("cancelled", 1)]
    finally:
        stopped.send_signal(signal.SIGCONT)
        programs.kill(stopped)
    rescore(place, "hangs_where_told")  # stores what the killed one had still to say
    assert rows(place, "SELECT status, attempt, count(*) FROM score GROUP BY 1, 2") in (
        [("scored", 1, 2), ("scored", 2, 1)],
    )


def test_ctrl_c_leaves_the_rest_for_the_next_time_at_once(place: Path) -> None:
    count = 200
    records(place, count)
    code = """
import tracekeeper as tk

def progress(done, counts):
    if done == 50:
        raise KeyboardInterrupt

try:
    tk.rescore(metrics=["judges:slow"], on_progress=progress, concurrency=8)
except KeyboardInterrupt:
    print("interrupted", flush=True)
import sys
sys.stdin.readline()
"""
    interrupted = programs.start(code, place)
    try:
        assert programs.ready(interrupted) == "interrupted"
        # It lives, and holds nothing.
        done = rescore(place, "slow")
        assert rows(place, "SELECT status, count(*) FROM score GROUP BY status") == [("scored", count)], done
        assert interrupted.poll() is None
    finally:
        programs.kill(interrupted)
    assert sum(runs(place).values()) <= count + 32


def test_what_is_left_to_workers_waits_behind_everything_else_and_is_not_owned(place: Path) -> None:
    records(place, 5)
    done = rescore(place, "length", more=", wait=False")
    assert done.out == "5 records, nothing judged here; 5 were left to workers\n"
    assert rows(place, "SELECT DISTINCT status, mode, local, priority, owner FROM score") == [
        ("pending", "deferred", 0, 100, "")
    ]
    assert rows(place, "SELECT count(*) FROM score WHERE record_id IS NULL OR app_id IS NULL") == [(0,)]
    assert runs(place) == Counter()
    assert "5 = 5 scored" in rescore(place, "length").out


def test_a_metric_of_the_program_itself_is_judged_again_after_its_process_was_killed(place: Path) -> None:
    records(place, 40)
    code = """
import os, signal
import tracekeeper as tk

def mine(output):
    return len(output)

def progress(done, counts):
    if done == 10 and os.environ.get("KILL"):
        os.kill(os.getpid(), signal.SIGKILL)

print(tk.rescore(metrics=[mine], on_progress=progress, concurrency=4))
"""
    assert programs.run(code, place, KILL="1").code == -signal.SIGKILL
    done = programs.run(code, place)
    assert done.code == 0, done
    assert rows(place, "SELECT status, count(*) FROM score GROUP BY status") == [("scored", 40)], done


def test_a_process_that_is_killed_while_it_judges_leaves_what_the_judge_was_asked(place: Path) -> None:
    code = """
import threading
import tracekeeper as tk

@tk.trace(kind="llm")
def ask_the_judge(prompt):
    print("asked", flush=True)
    threading.Event().wait(60)

def judged(output):
    return ask_the_judge(f"is {output} good?")

@tk.app(name="a", version="1", metrics=[judged])
def ask(question):
    return "mild"

ask("why?")
threading.Event().wait(60)
"""
    judging = programs.start(code, place)
    try:
        assert programs.ready(judging) == "asked"
    finally:
        programs.kill(judging)
    assert programs.run("import tracekeeper as tk; print(len(tk.records()))", place).out.strip() == "1"
    spans = rows(place, "SELECT kind, status, record_span_id FROM span WHERE kind <> 'chain' ORDER BY kind")
    assert spans == [("evaluator", "interrupted", ""), ("llm", "interrupted", "")]
    [(asked,)] = rows(place, "SELECT input FROM payload JOIN span USING (id) WHERE kind = 'llm'")
    assert asked == '{"prompt":"is mild good?"}'
    [(attributes,)] = rows(place, "SELECT attributes FROM payload JOIN span USING (id) WHERE kind = 'evaluator'")
    [(trace_id,)] = rows(place, "SELECT trace_id FROM record")
    assert f'"judged.trace_id":"{trace_id}"' in attributes
