"""What TruLens 2.16 does wrong in its failing scenarios, done right. The ids are those of the failure catalogue."""

from __future__ import annotations

import asyncio
import math
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs

import tracekeeper as tk

SLACK = 3.0


def relevance(output: str) -> float:
    return 0.5


def crashes(output: str) -> float:
    raise ValueError("no judge today")


@pytest.fixture
def forever() -> Iterator[threading.Event]:
    release = threading.Event()
    yield release
    release.set()


def cells(table: tk.Table) -> list[dict[str, Any]]:
    return table.to_dicts()


def test_o01_right_after_the_call_the_record_is_there_and_each_score_has_a_state(keeper: object) -> None:
    gate = threading.Event()

    def waits(output: str) -> float:
        assert gate.wait(30)
        return 0.5

    @tk.app(name="a", version="1", metrics=[waits])
    def ask(q: str) -> str:
        return "mild"

    ask("one")
    ask("two")
    rows = cells(tk.records_and_scores())
    assert len(rows) == 2
    assert {row["waits.status"] for row in rows} <= {"pending", "running"}
    gate.set()
    ask.app.wait_for_scores(timeout=30)
    assert [(row["waits"], row["waits.status"]) for row in cells(tk.records_and_scores())] == [(0.5, "scored")] * 2


def test_o02_a_metric_that_raises_is_failed_with_its_error_and_traceback(keeper: object) -> None:
    @tk.app(name="a", version="1", metrics=[crashes])
    def ask(q: str) -> str:
        return "mild"

    with tk.recording() as recording:
        ask("q")
    score = recording.get().wait_for_scores(timeout=30)["crashes"]
    assert (score.status, score.value) == ("failed", None)
    assert "ValueError: no judge today" in (score.error or "")
    assert "crashes" in (score.traceback or "")
    [row] = cells(tk.records_and_scores())
    assert row["crashes.status"] == "failed"
    assert "no judge today" in row["crashes.reason"]


def test_o03_a_metric_that_never_returns_neither_holds_the_wait_nor_its_neighbours(
    keeper: object, forever: threading.Event
) -> None:
    def never_returns(output: str) -> float:
        forever.wait()
        return 1.0

    @tk.app(name="a", version="1", metrics=[relevance, tk.metric(never_returns, timeout=1)])
    def ask(q: str) -> str:
        return "mild"

    ask("q")
    begun = time.monotonic()
    [(_, scores)] = ask.app.wait_for_scores(timeout=10)
    assert time.monotonic() - begun < 1 * SLACK
    assert {name: str(score.status) for name, score in scores.items()} == {
        "relevance": "scored",
        "never_returns": "timed_out",
    }


def test_o03_the_process_exits_while_a_metric_hangs(tmp_path: Path) -> None:
    done = programs.run(
        """
        import threading, tracekeeper as tk
        tk.configure(exit_timeout=1)
        def never_returns(output): threading.Event().wait()
        @tk.app(name="a", version="1", metrics=[never_returns])
        def ask(q): return "mild"
        ask("q")
        """,
        tmp_path,
        timeout=60,
    )
    assert done.code == 0
    assert done.seconds < (1 + 2) * SLACK
    with tk_in(tmp_path):
        [row] = cells(tk.records_and_scores())
    assert (row["never_returns.status"], row["never_returns.reason"]) == ("cancelled", "process exited")


def test_o04_scores_pending_at_exit_are_finished_within_the_exit_timeout(tmp_path: Path) -> None:
    done = programs.run(
        """
        import time, tracekeeper as tk
        tk.configure(exit_timeout=20)
        def slow(output): time.sleep(0.5); return 1.0
        @tk.app(name="a", version="1", metrics=[slow])
        def ask(q): return "mild"
        for n in range(4): ask(n)
        """,
        tmp_path,
    )
    assert (done.code, programs.said(done.err)) == (0, "")
    with tk_in(tmp_path):
        assert [row["slow.status"] for row in cells(tk.records_and_scores())] == ["scored"] * 4


def test_o05_kill_9_right_after_the_calls_loses_none_and_restarts_score_nothing_again(tmp_path: Path) -> None:
    code = """
        import sys, tracekeeper as tk
        def judged(output): return 1.0
        @tk.app(name="a", version="1", metrics=[judged])
        def ask(q): return "mild"
        for n in range(5): ask(n)
        print("called", flush=True)
        sys.stdin.read()
    """
    process = programs.start(code, tmp_path)
    programs.ready(process)
    programs.kill(process)
    for _ in range(2):  # restarts
        with tk_in(tmp_path):
            rows = cells(tk.records_and_scores())
            assert len(rows) == 5
            assert {row["judged.status"] for row in rows} <= {"scored", "failed"}
            assert all(row["judged.reason"] for row in rows if row["judged.status"] == "failed")
    database = sqlite3.connect(tmp_path / ".tracekeeper" / "tracekeeper.db")
    assert database.execute("SELECT count(*), count(DISTINCT span_id) FROM score").fetchone() == (5, 5)
    database.close()


def test_o06_async_apps_and_async_metrics_work_and_so_does_async_with(keeper: object) -> None:
    async def judged(output: str) -> float:
        await asyncio.sleep(0)
        return 0.25

    @tk.app(name="a", version="1", metrics=[judged])
    async def ask(q: str) -> str:
        await asyncio.sleep(0)
        return "mild"

    async def main() -> tk.Score:
        async with tk.recording() as recording:
            assert await ask("q") == "mild"
        return (await recording.get().await_scores(timeout=30))["judged"]

    assert asyncio.run(main()).value == 0.25


def test_o07_generators_keep_send_and_their_return_value(keeper: object) -> None:
    @tk.trace
    def talk() -> Generator[str, str, str]:
        heard = yield "hello"
        yield f"you said {heard}"
        return "bye"

    def outer() -> Generator[str, str, str]:
        return (yield from talk())

    speaking = outer()
    assert next(speaking) == "hello"
    assert speaking.send("moin") == "you said moin"
    with pytest.raises(StopIteration) as stopped:
        next(speaking)
    assert stopped.value.value == "bye"


def test_o07_a_generator_held_until_exit_is_recorded_without_noise(tmp_path: Path) -> None:
    done = programs.run(
        """
        import tracekeeper as tk
        @tk.trace
        def stream():
            yield "The "
            yield "weather"
        held = stream()
        next(held)
        """,
        tmp_path,
    )
    assert (done.code, programs.said(done.err)) == (0, "")
    with tk_in(tmp_path):
        [record] = tk.records()
        assert (record.status, record.output) == ("abandoned", "The ")


def test_o08_a_recording_of_ones_own_in_each_thread_and_each_task(keeper: object) -> None:
    @tk.app(name="a", version="1", metrics=[relevance])
    def ask(q: str) -> str:
        return f"answer to {q}"

    def work(q: str) -> tuple[str, Any]:
        with tk.recording() as recording:
            ask(q)
        return q, recording.get().output

    with ThreadPoolExecutor(8) as pool:
        assert all(output == f"answer to {q}" for q, output in pool.map(work, map(str, range(40))))

    async def task(q: str) -> tuple[str, Any]:
        async with tk.recording() as recording:
            await asyncio.sleep(0)
            ask(q)
            await asyncio.sleep(0)
        return q, recording.get().output

    async def main() -> list[tuple[str, Any]]:
        return await asyncio.gather(*(task(str(number)) for number in range(20)))

    assert all(output == f"answer to {q}" for q, output in asyncio.run(main()))
    assert len(tk.records(limit=100)) == 60


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, StopIteration, GeneratorExit, asyncio.CancelledError])
def test_o09_every_exception_comes_out_as_itself_and_is_on_the_record(
    keeper: object, kind: type[BaseException]
) -> None:
    @tk.trace
    def ask(q: str) -> str:
        raise kind("as it was")

    with pytest.raises(kind, match="as it was") as raised:
        ask("q")
    assert type(raised.value) is kind
    [record] = tk.records()
    assert record.status == {asyncio.CancelledError: "cancelled", GeneratorExit: "abandoned"}.get(kind, "error")
    if kind is not GeneratorExit:  # which says that somebody closed it, not that it failed
        assert kind.__name__ in (record.error or "")


def test_o10_a_database_locked_by_another_process_costs_no_record(keeper: Any) -> None:
    @tk.trace
    def ask(q: int) -> int:
        return q

    ask(-1)
    assert tk.flush(timeout=30).complete
    holder = sqlite3.connect(keeper.directory / "tracekeeper.db", isolation_level=None, timeout=30)
    holder.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    for number in range(50):
        ask(number)
    assert time.monotonic() - begun < 1 * SLACK
    receipt = tk.flush(timeout=0.5)
    assert (receipt.complete, receipt.journaled, receipt.pending) == (False, 51, 50)
    assert receipt.error
    holder.execute("ROLLBACK")
    holder.close()
    receipt = tk.flush(timeout=30)
    assert (receipt.complete, receipt.stored, receipt.pending) == (True, 51, 0)
    assert len(tk.records(limit=100)) == 51


def test_o11_a_selector_that_matches_nothing_is_skipped_at_once_with_what_there_is(keeper: object) -> None:
    judged = tk.metric(lambda text: 1.0, name="judged").on(text=tk.select.spans(name="retreive"))

    @tk.trace(kind="retriever")
    def retrieve(q: str) -> list[str]:
        return ["a document"]

    @tk.app(name="a", version="1", metrics=[judged])
    def ask(q: str) -> str:
        return retrieve(q)[0]

    ask("q")
    begun = time.monotonic()
    [(_, scores)] = ask.app.wait_for_scores(timeout=60)
    assert time.monotonic() - begun < 1 * SLACK
    assert scores["judged"].status == "skipped"
    assert "retrieve" in (scores["judged"].reason or "")


def test_o11_metrics_run_side_by_side(keeper: object) -> None:
    both = threading.Barrier(2, timeout=30)  # passes only when two are inside at the same moment

    def one(output: str) -> float:
        both.wait()
        return 1.0

    def two(output: str) -> float:
        both.wait()
        return 1.0

    @tk.app(name="a", version="1", metrics=[one, two])
    def ask(q: str) -> str:
        return "mild"

    for number in range(4):
        ask(str(number))
    for _, scores in ask.app.wait_for_scores(timeout=60):
        assert {str(score.status) for score in scores.values()} == {"scored"}


def test_o12_a_nan_is_refused_and_poisons_no_read(keeper: object) -> None:
    def nan(output: str) -> float:
        return math.nan

    @tk.app(name="sick", version="1", metrics=[nan])
    def sick(q: float) -> float:
        tk.current_span().set_attribute("broken", math.nan)
        return math.nan

    @tk.app(name="healthy", version="1", metrics=[relevance])
    def healthy(q: str) -> str:
        return "mild"

    sick(math.inf)
    healthy("q")
    sick.app.wait_for_scores(timeout=30)
    healthy.app.wait_for_scores(timeout=30)
    rows = {row["app"]: row for row in cells(tk.records_and_scores())}
    assert rows["healthy"]["relevance"] == 0.5
    assert (rows["sick"]["nan"], rows["sick"]["nan.status"]) == (None, "failed")
    assert "nan" in rows["sick"]["nan.reason"]
    assert len(tk.leaderboard()) == 2


def test_o13_waiting_three_times_runs_a_metric_once(keeper: object) -> None:
    runs: list[str] = []

    def counted(output: str) -> int:
        runs.append(output)
        return len(runs)

    @tk.app(name="a", version="1", metrics=[counted])
    def ask(q: str) -> str:
        return "mild"

    with tk.recording() as recording:
        ask("q")
    record = recording.get()
    assert [record.wait_for_scores(timeout=30)["counted"].value for _ in range(3)] == [1, 1, 1]
    assert len(cells(tk.records_and_scores())) == 1
    assert runs == ["mild"]


def test_l01_the_apps_wait_really_waits(keeper: object) -> None:
    gate = threading.Event()

    def slow(output: str) -> float:
        assert gate.wait(30)
        return 0.5

    @tk.app(name="a", version="1", metrics=[slow])
    def ask(q: str) -> str:
        return "mild"

    ask("q")
    threading.Timer(0.3, gate.set).start()
    [(_, scores)] = ask.app.wait_for_scores(timeout=30)
    assert scores["slow"].value == 0.5


def test_l02_a_metric_that_exits_the_interpreter_is_a_failed_score(keeper: object) -> None:
    def leaves(output: str) -> float:
        raise SystemExit(3)

    @tk.app(name="a", version="1", metrics=[leaves, relevance])
    def ask(q: str) -> str:
        return "mild"

    for _ in range(2):
        ask("q")
    for _, scores in ask.app.wait_for_scores(timeout=30):
        assert scores["leaves"].status == "failed"
        assert "SystemExit" in (scores["leaves"].error or "")
        assert scores["relevance"].status == "scored"


def test_l03_a_killed_process_leaves_no_score_without_a_final_state(tmp_path: Path) -> None:
    process = programs.start(
        """
        import threading, sys, tracekeeper as tk
        def never_returns(output): threading.Event().wait()
        @tk.app(name="a", version="1", metrics=[never_returns])
        def ask(q): return "mild"
        for n in range(5): ask(n)
        print("called", flush=True)
        sys.stdin.read()
        """,
        tmp_path,
    )
    programs.ready(process)
    programs.kill(process, signal.SIGKILL)
    with tk_in(tmp_path):
        rows = cells(tk.records_and_scores())
    assert [row["never_returns.status"] for row in rows] == ["failed"] * 5
    assert {row["never_returns.reason"] for row in rows} == {"its process ended before it ran"}


def test_l04_streams_left_early_are_stored_with_the_text_so_far(keeper: object) -> None:
    @tk.app(name="sync", version="1")
    def stream(q: str) -> Iterator[str]:
        yield from ("The ", "weather ", "is ", "mild")

    @tk.app(name="async", version="1")
    async def astream(q: str) -> AsyncIterator[str]:
        for piece in ("The ", "weather ", "is ", "mild"):
            yield piece

    for piece in stream("q"):
        if piece == "weather ":
            break

    async def main() -> None:
        async for piece in astream("q"):
            if piece == "weather ":
                break

    asyncio.run(main())
    assert {(r.app, r.status, r.output) for r in tk.records()} == {
        ("sync", "abandoned", "The weather "),
        ("async", "abandoned", "The weather "),
    }


class tk_in:
    """Read, from this process, what another left in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / ".tracekeeper"

    def __enter__(self) -> None:
        tk.configure(directory=self.directory)

    def __exit__(self, *_: object) -> None:
        from tracekeeper import configuration

        tk.shutdown()
        configuration.reset()
