"""Each statement of docs/concurrency.md, by its number, and the page's program as it is written."""

from __future__ import annotations

import asyncio
import contextvars
import os
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs
from tests.support.servers import serving

import tracekeeper as tk

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "concurrency.md").read_text(encoding="utf-8")
own: contextvars.ContextVar[str] = contextvars.ContextVar("own", default="unset")
USER = "mine"


def user(number: int = 0) -> str | None:
    return tk.settings().user_id


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


def test_the_program_of_the_page_shows_what_it_should(tmp_path: Path) -> None:
    [program] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    finished = programs.run(program, tmp_path)
    assert finished.out.splitlines() == [
        "ok page 0",
        "ok page 1",
        "ok page 2",
        "error LookupError('no such page')",
        "ok page 4",
    ]


def test_each_statement_has_a_test() -> None:
    statements = re.findall(r"^(\d+)\. ", PAGE, re.MULTILINE)
    assert statements == [str(number) for number in range(1, len(statements) + 1)]
    tested = {name[5:7] for name in globals() if re.match(r"test_\d\d_", name)}
    assert tested == {number.zfill(2) for number in statements}


# -- threads and pools -----------------------------------------------------------------------------------------


def test_01_plain_threads_do_not_know_the_context_and_the_three_remedies_do(keeper: object) -> None:
    def in_a_thread() -> str | None:
        seen: list[str | None] = []
        thread = threading.Thread(target=lambda: seen.append(user()))
        thread.start()
        thread.join()
        return seen[0]

    with tk.context(user_id=USER):
        with ThreadPoolExecutor(2) as pool:
            assert (pool.submit(user).result(), in_a_thread()) == (None, None)
        with tk.ThreadPoolExecutor(2) as ours:
            assert ours.submit(user).result() == USER
        assert tk.parallel_map(user, [1])[0].value == USER
        tk.instrument("threads")
        try:
            with ThreadPoolExecutor(2) as pool:
                assert (pool.submit(user).result(), in_a_thread()) == (USER, USER)
        finally:
            tk.uninstrument("threads")


def test_01_in_a_plain_pool_records_are_calls_of_their_own(keeper: object) -> None:
    inner = tk.trace(user)

    @tk.trace
    def outer(pool: Any) -> None:
        pool.submit(inner).result()

    with ThreadPoolExecutor(1) as plain, tk.ThreadPoolExecutor(1) as ours:
        outer(plain)
        assert len(tk.records()) == 2
        outer(ours)
        assert len(tk.records()) == 3


def test_02_to_thread_carries_it_and_run_in_executor_only_with_ours() -> None:
    async def main() -> list[str | None]:
        loop = asyncio.get_running_loop()
        with tk.context(user_id=USER), tk.ThreadPoolExecutor(1) as ours:
            return [
                await asyncio.to_thread(user),
                await loop.run_in_executor(None, user),
                await loop.run_in_executor(ours, user),
            ]

    assert asyncio.run(main()) == [USER, None, USER]


def test_03_a_context_inside_the_function_is_right_everywhere() -> None:
    def inside(number: int) -> str | None:
        with tk.context(user_id=f"user {number}"):
            return user()

    expected = [f"user {number}" for number in range(20)]
    with ThreadPoolExecutor(4) as plain, tk.ThreadPoolExecutor(4) as ours:
        assert [*plain.map(inside, range(20))] == [*ours.map(inside, range(20))] == expected
    assert [outcome.value for outcome in tk.parallel_map(inside, range(20))] == expected


def test_04_a_pool_inside_a_map_sees_its_own_items_context() -> None:
    def item(number: int) -> list[str | None]:
        with tk.context(user_id=f"user {number}"), tk.ThreadPoolExecutor(2) as pool:
            return [*pool.map(user, range(4))]

    outcomes = tk.parallel_map(item, range(10))
    assert [outcome.value for outcome in outcomes] == [[f"user {number}"] * 4 for number in range(10)]


def test_05_changes_go_in_and_do_not_come_back() -> None:
    def change(number: int = 0) -> str:
        before = own.get()
        own.set("changed")
        return before

    async def main() -> list[str | None]:
        own.set("before")
        with tk.ThreadPoolExecutor(1) as pool:
            seen = [await tk.asyncify(change)(), pool.submit(change).result(), tk.parallel_map(change, [1])[0].value]
        return [*seen, own.get()]

    assert asyncio.run(main()) == ["before"] * 4


def test_06_processes_carry_nothing_and_arguments_do(tmp_path: Path) -> None:
    with tk.context(user_id=USER), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(_user_in_a_process, None).result(timeout=60) is None
        assert pool.submit(_user_in_a_process, USER).result(timeout=60) == USER


def _user_in_a_process(name: str | None) -> str | None:
    if name is None:
        return tk.settings().user_id
    with tk.context(user_id=name):
        return tk.settings().user_id


# -- locks -----------------------------------------------------------------------------------------------------


def test_07_a_lock_around_a_call_makes_a_map_run_one_after_another() -> None:
    lock, lines, most, running = threading.Lock(), threading.Lock(), 0, 0

    def model(number: int) -> None:
        nonlocal most, running
        with lines:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)
        with lines:
            running -= 1

    def held(number: int) -> None:
        with lock:
            model(number)

    tk.parallel_map(held, range(8), concurrency=8)
    assert most == 1
    tk.parallel_map(model, range(8), concurrency=8)
    assert most > 1


def test_08_appending_needs_no_lock_and_on_result_is_one_at_a_time_in_the_calling_thread() -> None:
    appended: list[int] = []
    keys: dict[int, int] = {}
    total, threads = 0, set()

    def item(number: int) -> int:
        for each in range(100):
            appended.append(each)
            keys[number * 100 + each] = each
        return 1

    def add(outcome: tk.Outcome[int]) -> None:
        nonlocal total
        threads.add(threading.get_ident())
        here = total
        time.sleep(0)  # lets others run, as any line may
        total = here + outcome.unwrap()

    tk.parallel_map(item, range(100), on_result=add)
    assert (len(appended), len(keys), total) == (10_000, 10_000, 100)
    assert threads == {threading.get_ident()}


def test_08_adding_in_threads_loses_what_was_added_in_between() -> None:
    total, both = 0, threading.Barrier(2, timeout=20)

    def item(number: int) -> None:
        nonlocal total
        here = total
        both.wait()  # two threads are between reading and writing, as may happen in `total += 1`
        total = here + 1

    tk.parallel_map(item, range(2), concurrency=2)
    assert total == 1


def test_09_a_thread_lock_across_an_await_stops_the_loop_and_an_asyncio_lock_does_not() -> None:
    lock = threading.Lock()

    async def holds(held: asyncio.Event, ended: asyncio.Event) -> None:
        with lock:
            held.set()
            await ended.wait()

    async def main() -> bool:
        held, ended = asyncio.Event(), asyncio.Event()
        holder = asyncio.create_task(holds(held, ended))
        await held.wait()
        ended.set()
        got = lock.acquire(timeout=0.2)  # without the timeout: for ever, since the holder cannot go on meanwhile
        await holder
        return got

    assert asyncio.run(main()) is False

    async def right() -> int:
        shared = asyncio.Lock()

        async def one() -> None:
            async with shared:
                await asyncio.sleep(0)

        await asyncio.gather(*(one() for _ in range(10)))
        return 10

    assert asyncio.run(right()) == 10


def test_10_an_asyncio_lock_that_is_waited_for_belongs_to_one_loop() -> None:
    lock = asyncio.Lock()

    async def item(number: int) -> None:
        async with lock:
            await asyncio.sleep(0.001)

    assert all(outcome.ok for outcome in tk.parallel_map(item, range(4)))
    outcomes = tk.parallel_map(item, range(4))
    assert any(isinstance(outcome.error, RuntimeError) for outcome in outcomes), "another map is another loop"


# -- how many --------------------------------------------------------------------------------------------------


def test_11_the_time_of_calls_that_wait_is_items_times_seconds_over_concurrency() -> None:
    def seconds(concurrency: int) -> float:
        begun = time.monotonic()
        tk.parallel_map(lambda number: time.sleep(0.05), range(128), concurrency=concurrency)
        return time.monotonic() - begun

    seconds(64)
    few, many = seconds(16), seconds(64)
    assert few >= 8 * 0.05
    assert 2 * 0.05 <= many < few, f"{os.cpu_count()} processors"


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="this interpreter runs threads at once")
def test_12_threads_do_not_make_computing_faster() -> None:
    def compute(number: int) -> int:
        return sum(range(1_500_000))

    def used(run: Any) -> tuple[float, float]:
        wall, cpu = time.monotonic(), time.process_time()
        run()
        return time.monotonic() - wall, time.process_time() - cpu

    wall, cpu = used(lambda: tk.parallel_map(compute, range(8), concurrency=8))
    assert cpu < 1.3 * wall + 0.1, "no more than one processor's worth at a time"


def test_13_a_nested_map_multiplies_and_waits_for_no_place_of_its_own() -> None:
    all_there = threading.Barrier(64, timeout=60)

    def inner(number: int) -> int:
        return all_there.wait()

    def outer(number: int) -> list[int]:
        return [outcome.unwrap() for outcome in tk.parallel_map(inner, range(8), concurrency=8)]

    outcomes = tk.parallel_map(outer, range(8), concurrency=8)
    assert sorted(place for outcome in outcomes for place in outcome.unwrap()) == [*range(64)]


def test_14_asyncify_has_no_limit_and_a_semaphore_or_a_map_gives_it_one() -> None:
    running, most, lines = 0, 0, threading.Lock()

    def call(number: int) -> None:
        nonlocal running, most
        with lines:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lines:
            running -= 1

    async def limited(semaphore: asyncio.Semaphore, number: int) -> None:
        async with semaphore:
            await tk.asyncify(call)(number)

    async def main() -> list[int]:
        nonlocal most
        semaphore, seen = asyncio.Semaphore(5), []
        await asyncio.gather(*(limited(semaphore, number) for number in range(50)))
        seen.append(most)
        most = 0
        await tk.aparallel_map(call, range(50), concurrency=5)
        return [*seen, most]

    assert asyncio.run(main()) == [5, 5]
    all_there = threading.Barrier(100, timeout=60)

    async def unlimited() -> int:
        return len(await asyncio.gather(*(tk.asyncify(all_there.wait)() for _ in range(100))))

    assert asyncio.run(unlimited()) == 100


def test_15_a_timed_out_item_gives_its_place_away_and_its_thread_goes_on(gate: threading.Event) -> None:
    went_on = threading.Event()

    def item(number: int) -> int:
        if number == 0:
            gate.wait()
            went_on.set()
        return number

    outcomes = tk.parallel_map(item, range(10), concurrency=1, timeout=0.2)
    assert [outcome.status for outcome in outcomes] == ["timed_out"] + ["ok"] * 9
    assert not went_on.is_set()
    gate.set()
    assert went_on.wait(20)


# -- loops -----------------------------------------------------------------------------------------------------


async def ticks_during(call: Any) -> int:
    """How often another task of the loop had its turn meanwhile."""
    count, done = 0, asyncio.Event()

    async def ticking() -> None:
        nonlocal count
        while not done.is_set():
            count += 1
            await asyncio.sleep(0.005)

    task = asyncio.create_task(ticking())
    await asyncio.sleep(0)
    await call()
    done.set()
    await task
    return count


def test_16_blocking_code_stops_the_loop_and_asyncify_does_not() -> None:
    async def blocking() -> None:
        time.sleep(0.2)

    assert asyncio.run(ticks_during(blocking)) <= 2
    assert asyncio.run(ticks_during(lambda: tk.asyncify(time.sleep)(0.2))) > 5


def test_17_aparallel_map_leaves_the_loop_free_and_parallel_map_blocks_it() -> None:
    async def blocking() -> None:
        assert len(tk.parallel_map(time.sleep, [0.1, 0.1])) == 2

    assert asyncio.run(ticks_during(blocking)) <= 2
    assert asyncio.run(ticks_during(lambda: tk.aparallel_map(time.sleep, [0.2]))) > 5


def test_18_run_sync_works_in_a_running_loop_and_refuses_to_wait_for_its_tasks() -> None:
    async def answer() -> int:
        await asyncio.sleep(0.001)
        return 42

    async def main() -> int:
        assert type(asyncio.get_running_loop()).__module__.startswith(("asyncio.", "uvloop")), "nothing patched"
        task = asyncio.create_task(answer())
        with pytest.raises(RuntimeError, match="await it instead"):
            tk.run_sync(task)
        return tk.run_sync(answer()) - await task

    assert asyncio.run(main()) == 0


def test_19_a_client_goes_on_working_from_call_to_call() -> None:
    class Client:
        """Opens a connection at its first call, as clients with a pool do."""

        def __init__(self) -> None:
            self.connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

        async def ask(self, port: int) -> bytes:
            if self.connection is None:
                self.connection = await asyncio.open_connection("127.0.0.1", port)
            reader, writer = self.connection
            writer.write(b"ping\n")
            await writer.drain()
            return await reader.readline()

        async def close(self) -> None:
            assert self.connection is not None
            self.connection[1].close()
            await self.connection[1].wait_closed()

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    async def serve() -> asyncio.Server:
        return await asyncio.start_server(answering, "127.0.0.1", 0)

    async def end(server: asyncio.Server) -> None:
        server.close()
        await server.wait_closed()

    server = tk.run_sync(serve())
    port = server.sockets[0].getsockname()[1]
    client = Client()
    ask = tk.syncify(client.ask)
    assert [ask(port), ask(port), tk.run_sync(client.ask(port))] == [b"ping\n"] * 3
    assert client.connection is not None
    with pytest.raises(RuntimeError):
        asyncio.run(client.connection[0].readline())  # another loop, on which it waits: nothing is under way
    tk.run_sync(client.close())
    tk.run_sync(end(server))


def test_20_a_cancelled_call_returns_at_once_and_its_thread_goes_on(gate: threading.Event) -> None:
    went_on = threading.Event()

    def blocks() -> None:
        gate.wait()
        went_on.set()

    async def main() -> float:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(tk.asyncify(blocks)(), 0.1)
        return time.monotonic() - begun

    assert asyncio.run(main()) < 2
    assert not went_on.is_set()
    gate.set()
    assert went_on.wait(20)


def test_21_a_context_around_a_yield_leaks_unless_the_generator_is_traced(keeper: object) -> None:
    async def stream() -> AsyncIterator[str | None]:
        with tk.context(user_id="the stream's"):
            yield user()

    async def after_a_step(generator: Any) -> str | None:
        assert await anext(generator) == "the stream's"
        seen = user()
        await generator.aclose()
        return seen

    assert asyncio.run(after_a_step(stream())) == "the stream's"
    assert asyncio.run(after_a_step(tk.trace(stream)())) is None


# -- frameworks ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("default::ResourceWarning")
def test_22_fastapis_endpoints_run_in_threads_or_in_the_loop_and_carry_the_context(keeper: object) -> None:
    import httpx
    from fastapi import Depends, FastAPI

    app = FastAPI()
    loop_thread: list[int] = []

    async def tenant(name: str) -> AsyncIterator[None]:
        loop_thread.append(threading.get_ident())
        with tk.context(user_id=name):
            yield

    def seen() -> list[Any]:
        return [user(), threading.get_ident() == loop_thread[0]]

    @app.get("/def", dependencies=[Depends(tenant)])
    def plain() -> list[Any]:
        return seen()

    @app.get("/async", dependencies=[Depends(tenant)])
    async def in_the_loop() -> list[Any]:
        return seen()

    @app.get("/asyncified", dependencies=[Depends(tenant)])
    async def asyncified() -> list[Any]:
        return await tk.asyncify(seen)()

    with serving(app) as server:
        answers = [httpx.get(f"{server.url}/{path}?name=me").json() for path in ("def", "async", "asyncified")]
    assert answers == [["me", False], ["me", True], ["me", False]]


def test_23_configure_works_from_any_thread_and_task_and_context_concerns_one(keeper: object) -> None:
    async def task(number: int) -> str:
        tk.configure(release=f"r{number}")
        with tk.context(user_id=f"user {number}"):
            await asyncio.sleep(0)
            return str(user())

    async def main() -> list[str]:
        return list(await asyncio.gather(*(task(number) for number in range(5))))

    assert asyncio.run(main()) == [f"user {number}" for number in range(5)]
    assert [outcome.status for outcome in tk.parallel_map(lambda n: tk.configure(release="last"), range(5))] == [
        "ok"
    ] * 5
    assert (tk.settings().release, user()) == ("last", None)


def test_24_maps_and_bridges_begin_anew_in_a_forked_child(tmp_path: Path) -> None:
    finished = programs.run(
        """
        import asyncio, os, sys, warnings
        import tracekeeper as tk
        warnings.simplefilter("ignore", DeprecationWarning)  # that threads are there is the point

        async def double(number):
            await asyncio.sleep(0)
            return 2 * number

        def everything():
            assert [o.value for o in tk.parallel_map(double, range(3))] == [0, 2, 4]
            assert [o.value for o in tk.parallel_map(abs, range(3))] == [0, 1, 2]
            assert tk.run_sync(double(2)) == 4
            assert asyncio.run(tk.asyncify(abs)(-1)) == 1

        everything()
        child = os.fork()
        everything()
        if child:
            assert os.waitpid(child, 0)[1] == 0
            print("both")
        """,
        tmp_path,
    )
    assert (finished.code, finished.out) == (0, "both\n"), finished.err
