"""G4: every score reaches a final state in bounded time, whichever function, thread or process dies or hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import FULL
from tests.failures.test_trulens import tk_in
from tests.support import programs

import tracekeeper as tk
from tracekeeper.scoring.engine import engine_for
from tracekeeper.scoring.overdue import settle_overdue_now
from tracekeeper.scoring.rescoring import score_stored
from tracekeeper.tracing import runtime

RECORDS = 10_000 if FULL else 1_000
SLACK = 3.0


@pytest.fixture
def forever() -> Iterator[threading.Event]:
    release = threading.Event()
    yield release
    release.set()


async def waits_for_ever(output: str) -> None:
    await asyncio.Event().wait()


def length(output: str) -> int:
    return len(output)


HANGS = """
    import asyncio, sys, threading, time
    import tracekeeper as tk
    tk.configure(exit_timeout=2)
    begun = threading.Semaphore(0)
    def quick(output): return 1.0
    def sync(output):
        begun.release(); threading.Event().wait()
    async def awaits(output):
        begun.release(); await asyncio.Event().wait()
    async def swallows(output):
        begun.release()
        while True:
            try: await asyncio.sleep(3600)
            except asyncio.CancelledError: pass
    async def blocks(output):
        begun.release(); threading.Event().wait()
    @tk.app(name="a", version="1", metrics=[quick, sync, awaits, swallows, blocks])
    def ask(q): return "mild"
    ask("q")
    for _ in range(4): assert begun.acquire(timeout=20)
    ask.app.wait_for_scores(names=["quick"], timeout=20)
    print("leaving", flush=True)
"""


def test_a_process_with_hanging_metrics_exits_within_its_exit_timeout(tmp_path: Path) -> None:
    process = programs.start(HANGS, tmp_path)
    assert programs.ready(process) == "leaving"
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    seconds = time.monotonic() - began
    assert process.returncode == 0
    assert 1.5 <= seconds < 2 + 2 + SLACK  # its exit_timeout, the seconds for storing, and slack
    assert err.startswith("tracekeeper: waiting up to 2 s for 4 scores (")
    assert err.count("\n") == 1
    with tk_in(tmp_path):
        [row] = tk.records_and_scores().to_dicts()
    assert row["quick.status"] == "scored"
    for name in ("sync", "awaits", "swallows", "blocks"):
        assert (row[f"{name}.status"], row[f"{name}.reason"]) == ("cancelled", "process exited")


def test_what_only_this_process_can_compute_fails_when_it_is_killed_and_the_rest_stays_pending(tmp_path: Path) -> None:
    (tmp_path / "judges.py").write_text("import time\ndef importable(output):\n    time.sleep(3600)\n")
    code = """
        import sys, time, tracekeeper as tk
        sys.path.insert(0, "")
        from judges import importable
        def local(output): time.sleep(3600)
        @tk.app(name="a", version="1", metrics=[local, importable])
        def ask(q): return "mild"
        ask("q")
        print("called", flush=True)
        sys.stdin.read()
    """
    process = programs.start(code, tmp_path)
    programs.ready(process)
    programs.kill(process)
    with tk_in(tmp_path):
        [row] = tk.records_and_scores().to_dicts()
        assert row["local.status"] == "failed"
        assert "its process ended" in row["local.reason"]
        assert row["importable.status"] == "pending"
        # Nobody claims it: after settle_within any engine or reader fails it.
        tk.configure(settle_within=0)
        assert settle_overdue_now(runtime.keeper()) == 1
        [row] = tk.records_and_scores().to_dicts()
        assert row["importable.status"] == "failed"
        assert "did not start within" in row["importable.reason"]


STOPPED = """
    import asyncio, sys, threading, time, tracekeeper as tk
    begun = threading.Semaphore(0)
    def steady(output):
        begun.release()
        for _ in range(5): time.sleep(0.1)
        return 1.0
    async def asteady(output):
        begun.release()
        for _ in range(5): await asyncio.sleep(0.1)
        return 1.0
    def hangs(output):
        begun.release(); threading.Event().wait()
    @tk.app(name="a", version="1", metrics=[tk.metric(m, timeout=2.5) for m in (steady, asteady, hangs)])
    def ask(q): return "mild"
    ask("q")
    for _ in range(3): assert begun.acquire(timeout=20)
    print("running", flush=True)
    [(record, scores)] = ask.app.wait_for_scores(timeout=30)
    print(*(f"{name}={score.status}" for name, score in scores.items()), flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no job control here")
def test_a_process_that_was_stopped_fails_no_healthy_metric(tmp_path: Path) -> None:
    process = programs.start(STOPPED, tmp_path)
    assert programs.ready(process) == "running"
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(4)  # longer than the metrics' timeout: the pause itself is what is tested
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert (out.strip(), process.returncode) == ("steady=scored asteady=scored hangs=timed_out", 0), err


def test_a_share_of_hanging_metrics_holds_nobody_up(keeper: Any, forever: threading.Event) -> None:
    calls = Counter[str]()

    async def sometimes_hangs(question: int, output: str) -> float:
        calls["async"] += 1
        if question % 40 == 0:
            await asyncio.Event().wait()
        return 1.0

    def sometimes_blocks(question: int, output: str) -> float:
        calls["sync"] += 1
        if question % (RECORDS // 10) == 1:
            forever.wait(120)
        return 1.0

    @tk.app(name="a", version="1", metrics=[tk.metric(m, timeout=1) for m in (sometimes_hangs, sometimes_blocks)])
    def ask(question: int) -> str:
        return "mild"

    began = time.monotonic()
    with tk.recording() as recording:
        for number in range(RECORDS):
            ask(number)
    settled = recording.wait_for_scores(timeout=120)
    seconds = time.monotonic() - began
    assert settled is not None
    statuses = Counter(str(score.status) for _, scores in settled for score in scores.values())
    hanging = RECORDS // 40 + 10
    assert statuses == {"scored": 2 * RECORDS - hanging, "timed_out": hanging}
    assert calls == {"async": RECORDS, "sync": RECORDS}  # each metric ran once for each record
    # Hanging calls take a second each, 32 at a time; everything else is a matter of milliseconds.
    assert seconds < SLACK * (hanging / 32 + 2 + RECORDS / 1000)
    assert keeper.receipt(timeout=60).scores == dict(statuses)


def test_waiting_again_and_from_several_places_runs_a_metric_once(keeper: Any) -> None:
    runs: list[int] = []
    leave = threading.Event()

    def counted(output: str) -> float:
        runs.append(1)
        leave.wait(30)
        return 1.0

    @tk.app(name="a", version="1", metrics=[counted])
    def ask(q: str) -> str:
        return "mild"

    with tk.recording() as recording:
        ask("q")
    record = recording.get()
    waits = [threading.Thread(target=record.wait_for_scores, kwargs={"timeout": 20}) for _ in range(3)]
    for wait in waits:
        wait.start()
    record.wait_for_scores(timeout=0)
    leave.set()
    for wait in waits:
        wait.join(20)
    record.wait_for_scores(timeout=20)
    assert (len(runs), record.scores["counted"].value) == (1, 1.0)


def test_a_wait_ends_at_its_deadline_with_what_there_is(keeper: Any, forever: threading.Event) -> None:
    @tk.app(name="a", version="1", metrics=[length, tk.metric(lambda output: forever.wait(60), name="hangs")])
    def ask(q: str) -> str:
        return "mild"

    ask("q")
    ask.app.wait_for_scores(names=["length"], timeout=20)
    began = time.monotonic()
    [(_, scores)] = ask.app.wait_for_scores(timeout=0.5)
    assert 0.5 <= time.monotonic() - began < 0.5 * SLACK + 1
    assert scores["length"].value == 4
    assert scores["hangs"].status in ("pending", "running")

    async def main() -> Any:
        return await ask.app.await_scores(timeout=0.5)

    began = time.monotonic()
    [(_, scores)] = asyncio.run(main())
    assert 0.5 <= time.monotonic() - began < 0.5 * SLACK + 1
    assert scores["hangs"].status in ("pending", "running")


def test_a_long_run_is_running_for_everybody(keeper: Any, forever: threading.Event) -> None:
    entered = threading.Event()

    def slow(output: str) -> bool:
        entered.set()
        return forever.wait(60)

    @tk.app(name="a", version="1", metrics=[slow])
    def ask(q: str) -> str:
        return "mild"

    told = threading.Event()
    ask("q")
    [record] = ask.app.records
    real = record.settle

    def settle(score: tk.Score) -> None:
        real(score)
        if score.status == "running":
            told.set()

    engine = engine_for(keeper)
    assert entered.wait(20)
    for job in list(engine.open.values()):
        job.handle = type("Handle", (), {"settle": staticmethod(settle)})()
    assert told.wait(20)
    assert keeper.ship(20) is None
    [row] = keeper.store().scores_by_key([(record.trace_id, record.span_id)])
    assert (row.status, row.attempt) == ("running", 1)
    forever.set()
    assert engine.wait(20)
    assert keeper.ship(20) is None
    [row] = keeper.store().scores_by_key([(record.trace_id, record.span_id)])
    assert (row.status, row.attempt, row.value) == ("scored", 1, 1.0)


def test_stored_records_are_judged_once_and_an_interrupted_run_goes_on_with_the_rest(keeper: Any) -> None:
    runs: Counter[str] = Counter()

    def counted(input: str, output: str) -> int:
        runs[input] += 1
        return len(output)

    judge = tk.metric(counted)
    for number in range(300):
        tk.log_record(input=f"question {number}", output="mild", app="imported", version="1")
    assert keeper.ship(30) is None
    rows = keeper.store().records(None, limit=None)

    def interrupts(done: int, counts: Any) -> None:
        if done == 150:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_stored(keeper, rows, [judge], interrupts)
    assert engine_for(keeper).wait(20)
    assert keeper.ship(30) is None
    first = keeper.store().score_counts()
    assert sum(first.values()) < 300 or set(first) == {"scored", "cancelled"}
    finished = first["scored"]
    assert finished >= 150
    rest = score_stored(keeper, iter(rows), [judge])
    assert rest.scores == {"scored": 300 - finished}
    assert keeper.ship(30) is None
    assert keeper.store().score_counts() == {"scored": 300}
    assert score_stored(keeper, rows, [judge]).scores == {}
    assert sum(runs.values()) <= 300 + 64  # what was running when it was interrupted may run again
    assert score_stored(keeper, rows[:10], [judge], again=True).scores == {"scored": 10}


def test_a_stored_record_gives_a_metric_what_the_call_gave_it(keeper: Any) -> None:
    @tk.trace(kind="retriever")
    def retrieve(question: str) -> list[str]:
        return [f"{question} is mild", "rain"]

    def sees(question: str, output: dict[str, Any], context: list[str], record: Any) -> str:
        kinds = [span.kind for span in record.spans]
        return repr((question, output, context, kinds, record.app, record.version, record.status))

    judge = tk.metric(sees)

    @tk.app(name="a", version="1", metrics=[judge])
    def ask(question: str) -> dict[str, Any]:
        return {"answer": len(retrieve(question))}

    ask("weather")
    [(_, scores)] = ask.app.wait_for_scores(timeout=20)
    live = scores["sees"].value
    assert live is not None, scores["sees"]
    assert keeper.ship(20) is None
    assert score_stored(keeper, keeper.store().records(None), [judge], again=True).scores == {"scored": 1}
    assert keeper.ship(20) is None
    database = sqlite3.connect(keeper.directory / "tracekeeper.db")
    assert database.execute("SELECT label, attempt FROM score").fetchall() == [(live, 2)]
    assert database.execute("SELECT label, attempt FROM score_attempt").fetchall() == [(live, 1)]
    database.close()


def test_a_forked_child_judges_its_own_calls_and_leaves_the_parents_to_the_parent(tmp_path: Path) -> None:
    done = programs.run(
        """
        import os, threading, time, tracekeeper as tk
        leave = threading.Event()
        def judged(q, output):
            if q == "before": leave.wait(30)
            return float(os.getpid() == owner)
        async def ajudged(output): return 1.0
        @tk.app(name="a", version="1", metrics=[judged, ajudged])
        def ask(q):
            return "mild"
        owner = os.getpid()
        ask("before")
        ask.app.wait_for_scores(names=["ajudged"], timeout=20)
        if (child := os.fork()) == 0:
            owner = os.getpid()
            with tk.recording() as recording: ask("child")
            scores = recording.get().wait_for_scores(timeout=20)
            good = {str(s.status) for s in scores.values()} == {"scored"} and scores["judged"].value == 1.0
            tk.shutdown()
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
        leave.set()
        [(record, scores)] = ask.app.wait_for_scores(timeout=20)
        assert scores["judged"].value == 1.0
        """,
        tmp_path,
    )
    assert (done.code, programs.said(done.err)) == (0, "")
    with tk_in(tmp_path):
        rows = tk.records_and_scores().to_dicts()
        assert [(row["judged.status"], row["ajudged.status"]) for row in rows] == [("scored", "scored")] * 2


def test_a_callback_is_called_after_any_number_of_shutdowns(keeper: object) -> None:
    @tk.app(name="a", version="1", metrics=[tk.metric(lambda output: 1.0, name="one")])
    def ask(q: str) -> str:
        return "mild"

    for _ in range(3):
        with tk.recording() as recording:
            ask("q")
        told = threading.Event()
        recording.get().wait_for_scores(callback=lambda scores, told=told: told.set())
        assert told.wait(20)
        tk.shutdown()
        tk.shutdown()
