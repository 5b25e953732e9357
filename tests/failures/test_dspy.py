"""What DSPy 3.4 does wrong with pools, loops and contexts, done right. The ids are those of the failure catalogue."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.guarantees.test_maps import EXIT, end, line, program

import tracekeeper as tk
from tracekeeper.concurrency import bridges


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.fixture
def threads() -> Iterator[None]:
    tk.instrument("threads")
    yield
    tk.uninstrument("threads")


def who(number: int = 0) -> str | None:
    """What a call sees: the user who is set where it was made."""
    time.sleep(0.001)
    return tk.settings().user_id


# -- contexts and pools ----------------------------------------------------------------------------------------


def test_s1b_a_plain_pool_under_a_context_sees_no_context_unless_threads_carry_it(keeper: object) -> None:
    with tk.context(user_id="mine"), ThreadPoolExecutor(8) as pool:
        assert {*pool.map(who, range(64))} == {None}


def test_s1c_with_threads_that_carry_it_64_of_64_calls_see_it_and_not_the_global_setting(
    keeper: object, threads: None
) -> None:
    tk.configure(user_id="everybody's")
    with tk.context(user_id="mine"), ThreadPoolExecutor(8) as pool:
        assert [*pool.map(who, range(64))] == ["mine"] * 64


def test_s1c_without_it_the_loss_is_said(
    keeper: object, caplog: pytest.LogCaptureFixture, gate: threading.Event
) -> None:
    from tracekeeper.tracing import lost_context

    lost_context.forget()

    @tk.trace
    def answer(number: int) -> str | None:
        gate.wait(lost_context.INTERVAL * 1.5)  # a call that takes its time: the next begins while it is waited for
        return who()

    @tk.app(name="outer", version="1")
    def outer() -> list[str | None]:
        with ThreadPoolExecutor(1) as pool:
            return [*pool.map(answer, range(5))]

    tk.configure(user_id="everybody's")
    with tk.context(user_id="mine"):
        outer()
    assert "lost its context" in caplog.text
    assert 'tk.instrument("threads")' in caplog.text


def test_s1c_our_pool_carries_it_with_nothing_installed(keeper: object) -> None:
    tk.configure(user_id="everybody's")
    with tk.context(user_id="mine"), tk.ThreadPoolExecutor(8) as pool:
        assert [*pool.map(who, range(64))] == ["mine"] * 64


def test_s1e_a_map_in_a_context_sees_it(keeper: object) -> None:
    with tk.context(user_id="mine"):
        assert [outcome.value for outcome in tk.parallel_map(who, range(64))] == ["mine"] * 64


@pytest.mark.parametrize("pool", ["ours", "a plain one under instrumented threads"])
def test_s1f_a_function_with_a_pool_of_its_own_inside_a_map_sees_each_items_context(keeper: object, pool: str) -> None:
    def item(number: int) -> list[str | None]:
        kind: Any = tk.ThreadPoolExecutor if pool == "ours" else ThreadPoolExecutor
        with tk.context(user_id=f"user {number}"), kind(4) as executor:
            return [*executor.map(who, range(4))]

    if pool != "ours":
        tk.instrument("threads")
    try:
        outcomes = tk.parallel_map(item, range(16), concurrency=8)
    finally:
        tk.uninstrument("threads")
    assert [outcome.value for outcome in outcomes] == [[f"user {number}"] * 4 for number in range(16)]


# -- configure from anywhere -----------------------------------------------------------------------------------


def test_s2_configure_works_from_a_second_thread_task_and_run() -> None:
    def configure(project: str) -> str:
        tk.configure(project=project)
        return tk.settings().project

    async def aconfigure(project: str) -> str:
        return configure(project)

    async def main(project: str) -> list[str]:
        return [await aconfigure(f"{project} 1"), await asyncio.create_task(aconfigure(f"{project} 2"))]

    assert configure("main") == "main"
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(configure, "thread").result() == "thread"
    assert tk.settings().project == "thread", "one base for the whole process"
    assert asyncio.run(main("run")) == ["run 1", "run 2"]
    assert asyncio.run(main("again")) == ["again 1", "again 2"]
    assert tk.settings().project == "again 2"


def test_s2_a_worker_that_configures_first_shuts_nobody_out() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(tk.configure, project="worker").result()
    tk.configure(project="main")
    seen = tk.parallel_map(lambda number: tk.configure(project=f"p{number}"), range(200), concurrency=16)
    assert {outcome.status for outcome in seen} == {"ok"}
    assert tk.settings().project.startswith("p")


# -- asyncify --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("threads", "calls"), [(8, 8), (2, 20), (2, 8)])
def test_s3_s11_asyncify_in_many_loops_at_once_ends_in_each(threads: int, calls: int) -> None:
    work = tk.asyncify(who)
    asyncio.run(work())  # what DSPy's limiter needed to break: it exists already

    async def main() -> int:
        return len(await asyncio.gather(*(work(number) for number in range(calls))))

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(asyncio.run, main()) for _ in range(threads)]
        assert [future.result(timeout=30) for future in futures] == [calls] * threads


def test_s3_nested_asyncify_never_waits_for_itself() -> None:
    @tk.asyncify
    def outer(number: int) -> int:
        async def inside() -> int:
            return sum(await asyncio.gather(*(tk.asyncify(abs)(-number) for _ in range(4))))

        return asyncio.run(inside())

    async def main() -> list[int]:
        return list(await asyncio.gather(*(outer(number) for number in range(64))))

    assert asyncio.run(main()) == [4 * number for number in range(64)]


def test_s3_a_cancelled_asyncify_is_accounted_for_and_a_map_ends_what_it_can(gate: threading.Event) -> None:
    before = bridges.abandoned()[0]

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(tk.asyncify(gate.wait)(), 0.1)
        while bridges.abandoned()[0] != before + 1:
            await asyncio.sleep(0.01)

    asyncio.run(main())


# -- maps ------------------------------------------------------------------------------------------------------


def test_s5_one_of_ten_that_raises_keeps_its_exception_at_its_place() -> None:
    outcomes = tk.Parallel(concurrency=4)([(int, text) for text in "012x456789"])
    assert [outcome.value for outcome in outcomes] == [0, 1, 2, None, 4, 5, 6, 7, 8, 9]
    assert (outcomes[3].status, type(outcomes[3].error)) == ("error", ValueError)


def test_s5_one_item_that_hangs_ends_timed_out_and_the_others_are_there(gate: threading.Event) -> None:
    begun = time.monotonic()
    outcomes = tk.parallel_map(lambda number: gate.wait() if number == 3 else number, range(10), timeout=0.5)
    assert time.monotonic() - begun < 5
    assert [outcome.status for outcome in outcomes] == ["ok"] * 3 + ["timed_out"] + ["ok"] * 6


def test_s5_a_slow_item_runs_once(gate: threading.Event) -> None:
    runs: list[int] = []

    def slow(number: int) -> None:
        runs.append(number)
        gate.wait(1.0 if number == 0 else 0)

    outcomes = tk.parallel_map(slow, range(3), timeout=0.2, concurrency=3)
    assert outcomes[0].status == "timed_out"
    assert sorted(runs) == [0, 1, 2]


def test_s5_any_number_of_errors_costs_no_good_result() -> None:
    outcomes = tk.parallel_map(lambda number: 1 / (number % 7), range(100))
    assert sum(outcome.ok for outcome in outcomes) == 85
    assert {type(outcome.error) for outcome in outcomes if not outcome.ok} == {ZeroDivisionError}


def test_s6_ctrl_c_gives_partial_results_and_hung_calls_do_not_hold_the_process(tmp_path: Path) -> None:
    code = "show(tk.parallel_map(item, range(40), concurrency=4, timeout=None))"
    with program(code, tmp_path) as process:
        assert line(process) == "ready"
        process.send_signal(2)
        assert line(process).startswith("got 10 ok 30 cancelled of 40")
        assert end(process, EXIT)[0] == 0


def test_s6_ctrl_c_ends_a_map_in_another_thread(tmp_path: Path) -> None:
    code = """
        thread = threading.Thread(target=lambda: show(tk.parallel_map(item, range(40), concurrency=4, timeout=None)))
        thread.start()
        while thread.is_alive():
            thread.join(0.2)
        """
    with program(code, tmp_path) as process:
        assert line(process) == "ready"
        process.send_signal(2)
        assert line(process).startswith("got 10 ok 30 cancelled of 40")
        assert end(process, EXIT)[0] == -2


# -- generators ------------------------------------------------------------------------------------------------


def test_s7_interleaved_async_generators_that_hold_contexts_leak_neither_into_each_other_nor_out() -> None:
    @tk.trace
    async def stream(user: str) -> AsyncIterator[tuple[str, str | None]]:
        with tk.context(user_id=user):
            for _ in range(3):
                yield user, tk.settings().user_id
                await asyncio.sleep(0)

    async def main() -> None:
        left, right = stream("left"), stream("right")
        for _ in range(2):
            for each in (left, right):
                user, seen = await anext(each)
                assert seen == user
                assert tk.settings().user_id is None, "nothing leaks into the consumer"
        await left.aclose()  # type: ignore[attr-defined]
        assert await anext(right) == ("right", "right")
        assert tk.settings().user_id is None
        await right.aclose()  # type: ignore[attr-defined]
        assert tk.settings().user_id is None

    asyncio.run(main())


def test_s7_500_calls_over_ten_contexts_are_all_right() -> None:
    async def call(user: str) -> bool:
        with tk.context(user_id=user):
            await asyncio.sleep(0)
            return tk.settings().user_id == user and await tk.asyncify(who)() == user

    async def main() -> list[bool]:
        return list(await asyncio.gather(*(call(f"user {number % 10}") for number in range(500))))

    assert asyncio.run(main()) == [True] * 500


def test_syncify_works_in_a_running_loop_with_nothing_else_installed() -> None:
    code = """
import asyncio, sys
sys.modules["nest_asyncio"] = None
import tracekeeper as tk
async def double(number):
    await asyncio.sleep(0)
    return 2 * number
async def main():
    return tk.syncify(double)(21)
print(asyncio.run(main()))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.strip() == "42"
