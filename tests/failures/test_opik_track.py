"""What Opik 2.2's ``@track`` loses or misattributes, kept and attributed right."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.failures.test_trulens import tk_in
from tests.support import garbage, programs

import tracekeeper as tk

SLACK = 3.0


@tk.trace
def innocent(number: int) -> int:
    return number


def test_a_stream_left_early_says_so_and_does_not_look_finished(keeper: object) -> None:
    @tk.trace
    def stream() -> Iterator[str]:
        yield "a"
        yield "b"

    for _ in stream():
        break
    assert "".join(stream()) == "ab"
    assert [(r.status, r.output) for r in tk.records()] == [("ok", "ab"), ("abandoned", "a")]


def test_a_generator_that_is_never_iterated_is_recorded(keeper: object) -> None:
    @tk.trace
    def stream() -> Iterator[str]:
        yield "a"

    @tk.trace
    async def astream() -> AsyncIterator[str]:
        yield "a"

    stream()
    astream()
    garbage.collect()
    assert [(r.name.rsplit(".")[-1], r.status) for r in tk.records()] == [
        ("astream", "abandoned"),
        ("stream", "abandoned"),
    ]


def test_a_coroutine_that_times_out_is_ended_and_cancelled(keeper: object) -> None:
    @tk.trace
    async def slow() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow(), timeout=0.05)

    asyncio.run(main())
    [record] = tk.records()
    assert record.status == "cancelled"
    assert record.latency is not None


def test_a_cancelled_consumer_ends_the_stream_as_cancelled(keeper: object) -> None:
    @tk.trace
    async def stream() -> AsyncIterator[str]:
        yield "a"
        await asyncio.Event().wait()

    async def main() -> None:
        got_one = asyncio.Event()

        async def consume() -> None:
            async for _ in stream():
                got_one.set()

        task = asyncio.create_task(consume())
        await got_one.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [(r.status, r.output) for r in tk.records()] == [("cancelled", "a")]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, asyncio.CancelledError])
def test_calls_after_an_interrupted_one_are_records_of_their_own(keeper: object, kind: type[BaseException]) -> None:
    @tk.trace
    def interrupted() -> None:
        raise kind

    with pytest.raises(kind):
        interrupted()
    innocent(1)
    innocent(2)
    records = tk.records()
    assert len({record.trace_id for record in records}) == 3
    assert [record.output for record in records] == [2, 1, None]


def test_one_input_that_cannot_be_expressed_costs_no_other_call(keeper: object) -> None:
    @tk.trace
    def call(value: Any) -> str:
        return "ok"

    cyclic: dict[str, Any] = {}
    cyclic["self"] = cyclic
    for number in range(100):
        call(cyclic if number == 50 else number)
    assert tk.flush(timeout=30).complete
    records = tk.records(limit=200)
    assert [record.output for record in records] == ["ok"] * 100
    assert len({record.trace_id for record in records}) == 100


@pytest.mark.parametrize(
    "end", ["os.kill(os.getpid(), signal.SIGKILL)", "os.kill(os.getpid(), signal.SIGTERM)", "os._exit(0)"]
)
def test_500_calls_survive_the_process_that_ends_right_after_them(tmp_path: Path, end: str) -> None:
    programs.run(
        f"""
        import os, signal, tracekeeper as tk
        @tk.trace
        def call(n): return n
        for n in range(500): call(n)
        {end}
        """,
        tmp_path,
    )
    with tk_in(tmp_path):
        assert sorted(record.output for record in tk.records(limit=1000)) == list(range(500))


def test_a_forked_childs_calls_are_kept_and_its_flush_returns(tmp_path: Path) -> None:
    done = programs.run(
        """
        import os, tracekeeper as tk
        @tk.trace
        def call(n): return n
        call(0)
        child = os.fork()
        call(1 if child else 2)
        receipt = tk.flush(timeout=20)
        if not child:
            os._exit(0 if receipt.complete else 1)
        _, status = os.waitpid(child, 0)
        print(receipt.complete, os.waitstatus_to_exitcode(status))
        """,
        tmp_path,
    )
    assert done.out.split() == ["True", "0"], done.err
    with tk_in(tmp_path):
        assert sorted(record.output for record in tk.records()) == [0, 1, 2]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_calls_of_a_multiprocessing_pool_are_kept(tmp_path: Path, method: str) -> None:
    done = programs.run(
        f"""
        import multiprocessing, tracekeeper as tk
        @tk.trace
        def call(n): return n
        if __name__ == "__main__":
            call(-1)
            with multiprocessing.get_context({method!r}).Pool(2) as pool:
                pool.map(call, range(6))
        """,
        tmp_path,
        timeout=120,
    )
    assert done.code == 0, done.err
    with tk_in(tmp_path):
        assert sorted(record.output for record in tk.records()) == list(range(-1, 6))


def test_exit_is_bounded_when_the_database_never_answers(tmp_path: Path) -> None:
    (tmp_path / ".tracekeeper").mkdir()
    holder = sqlite3.connect(tmp_path / ".tracekeeper" / "tracekeeper.db", isolation_level=None)
    holder.execute("PRAGMA journal_mode=WAL")
    holder.execute("BEGIN IMMEDIATE")
    done = programs.run(
        """
        import tracekeeper as tk
        @tk.trace
        def call(n): return n
        for n in range(100): call(n)
        """,
        tmp_path,
    )
    assert done.code == 0
    assert done.seconds < 5 * SLACK
    assert "100 spans" in done.err
    assert "tracekeeper status" in done.err
    holder.execute("ROLLBACK")
    holder.close()
    with tk_in(tmp_path):
        assert len(tk.records(limit=200)) == 100


def test_flush_never_says_complete_while_records_are_not_stored(keeper: Any) -> None:
    innocent(0)
    assert tk.flush(timeout=30).complete
    holder = sqlite3.connect(keeper.directory / "tracekeeper.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    innocent(1)
    begun = time.monotonic()
    receipt = tk.flush(timeout=1)
    assert time.monotonic() - begun < 1 * SLACK
    assert (receipt.complete, receipt.journaled, receipt.stored, receipt.pending) == (False, 2, 1, 1)
    holder.execute("ROLLBACK")
    holder.close()


def test_a_call_in_flight_at_kill_9_is_interrupted_with_its_children(tmp_path: Path) -> None:
    process = programs.start(
        """
        import sys, tracekeeper as tk
        @tk.trace
        def child(n): return n
        @tk.trace
        def parent(question):
            child(1)
            print("inside", flush=True)
            sys.stdin.read()
        parent("why?")
        """,
        tmp_path,
    )
    programs.ready(process)
    programs.kill(process)
    with tk_in(tmp_path):
        [record] = tk.records()
        assert (record.status, record.input) == ("interrupted", {"question": "why?"})
        assert record.latency is None


def test_a_25_mb_argument_is_cut_and_says_how_long_it_was(keeper: object) -> None:
    @tk.trace
    def call(text: str) -> int:
        return len(text)

    assert call("x" * 25_000_000) == 25_000_000
    [record] = tk.records()
    assert len(record.input["text"]) < 1_100_000
    assert "25000000" in record.input["text"][-100:].replace(",", "").replace("_", "")
