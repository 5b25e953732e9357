"""Maps: an outcome for each item, in order, in bounded time; nothing twice; nothing held up."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.concurrency import mapping, maps

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
SLACK = 5.0


def awaited(fn: Any, items: Any, **settings: Any) -> list[tk.Outcome[Any]]:
    async def main() -> list[tk.Outcome[Any]]:
        return await tk.aparallel_map(fn, items, **settings)

    return asyncio.run(main())


def in_a_loop(fn: Any, items: Any, **settings: Any) -> list[tk.Outcome[Any]]:
    async def main() -> list[tk.Outcome[Any]]:
        return tk.parallel_map(fn, items, **settings)

    return asyncio.run(main())


def in_a_thread(fn: Any, items: Any, **settings: Any) -> list[tk.Outcome[Any]]:
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, tk.parallel_map, fn, items, **settings).result()


@pytest.fixture(params=[tk.parallel_map, awaited, in_a_loop, in_a_thread], ids=["sync", "async", "in a loop", "thread"])
def door(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


async def adouble(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


class Doubling:
    async def __call__(self, number: int) -> int:
        return 2 * number

    def method(self, number: int) -> int:
        return 2 * number


@pytest.mark.parametrize(
    "fn",
    [
        lambda number: 2 * number,
        adouble,
        lambda number: adouble(number),
        functools.partial(adouble),
        Doubling(),
        Doubling().method,
    ],
)
def test_each_item_has_an_outcome_in_the_order_of_the_items(door: Any, fn: Any) -> None:
    outcomes = door(fn, range(50), concurrency=7)
    assert [outcome.value for outcome in outcomes] == [2 * number for number in range(50)]
    assert [outcome.index for outcome in outcomes] == list(range(50))
    assert {(outcome.status, outcome.attempts) for outcome in outcomes} == {("ok", 1)}


def test_no_items_give_no_outcomes(door: Any) -> None:
    assert door(abs, []) == []


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), StopIteration(1)])
def test_whatever_an_item_raises_is_its_outcome_with_the_traceback(door: Any, error: BaseException) -> None:
    def raises(number: int) -> int:
        if number == 1:
            raise error
        return number

    outcomes = door(raises, range(3))
    assert [outcome.status for outcome in outcomes] == ["ok", "error", "ok"]
    assert outcomes[1].error is error
    assert error.__traceback__ is not None
    frames = [frame for frame, _ in _frames(error)]
    assert "raises" in frames


def _frames(error: BaseException) -> Iterator[tuple[str, int]]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame.f_code.co_name, traceback.tb_lineno
        traceback = traceback.tb_next


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["thread", "coroutine", "ignores its cancellation"])
def test_a_hanging_item_times_out_and_delays_no_other(door: Any, gate: threading.Event, kind: str) -> None:
    async def hangs(number: int) -> int:
        while number == 3 and not gate.is_set():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if kind == "coroutine":
                    raise
        return number

    def blocks(number: int) -> int:
        if number == 3:
            gate.wait()
        return number

    seen: list[int] = []
    begun = time.monotonic()
    outcomes = door(
        blocks if kind == "thread" else hangs,
        range(40),
        concurrency=2,
        timeout=0.5,
        on_result=lambda outcome: seen.append(outcome.index),
    )
    assert time.monotonic() - begun < 0.5 + SLACK
    assert outcomes[3].status == "timed_out"
    assert "timed out after 0.5 s" in outcomes[3].reason
    assert [outcome.value for outcome in outcomes if outcome.index != 3] == [n for n in range(40) if n != 3]
    assert seen[-1] == 3, "all others were there before"


@pytest.mark.slow
def test_a_coroutine_that_blocks_its_loop_is_named_and_its_neighbours_are_not_run_twice(gate: threading.Event) -> None:
    began: list[int] = []
    others = threading.Event()

    async def item(number: int) -> int:
        began.append(number)
        if number == 0:
            while len(began) < 2:
                await asyncio.sleep(0)
            gate.wait()
        await asyncio.sleep(60 if number == 1 else 0)
        return number

    def when(outcome: tk.Outcome[int]) -> None:
        if outcome.index == 5:
            others.set()

    outcomes = tk.parallel_map(item, range(6), concurrency=2, timeout=3, on_result=when)
    assert outcomes[0].status == outcomes[1].status == "timed_out"
    assert "blocked by" in (outcomes[1].reason or "")
    assert [outcome.value for outcome in outcomes[2:]] == [2, 3, 4, 5]
    assert others.is_set()
    assert sorted(began) == [0, 1, 2, 3, 4, 5], "nothing ran twice"


def test_no_more_run_than_asked_and_no_more_are_taken_than_there_is_room_for(door: Any) -> None:
    taken, running, most, ahead = 0, 0, 0, 0
    lock = threading.Lock()

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    def item(number: int) -> int:
        nonlocal running, most, ahead
        with lock:
            running += 1
            most = max(most, running)
            ahead = max(ahead, taken - number)
        time.sleep(0.001)
        with lock:
            running -= 1
        return number

    assert len(door(item, items(), concurrency=4)) == 100
    assert most <= 4
    assert ahead <= 4 + 4 + 4, "places, as many again, and those that end meanwhile"


def test_items_are_iterated_over_in_the_calling_thread() -> None:
    threads = set()

    def items() -> Iterator[int]:
        for number in range(50):
            threads.add(threading.get_ident())
            yield number

    tk.parallel_map(abs, items(), concurrency=3)
    assert threads == {threading.get_ident()}


def test_an_iterable_that_raises_raises_here_and_lets_go_of_what_runs(door: Any, gate: threading.Event) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        door(lambda number: gate.wait(), items(), timeout=None)


def test_each_item_has_its_own_copy_of_the_context(door: Any) -> None:
    def item(number: int) -> str:
        before = variable.get()
        variable.set(f"item {number}")
        return before

    async def aitem(number: int) -> str:
        return item(number)

    for fn in (item, aitem):
        token = variable.set("the caller's")
        try:
            assert {outcome.value for outcome in door(fn, range(30), concurrency=1)} == {"the caller's"}
            assert variable.get() == "the caller's"
        finally:
            variable.reset(token)


def test_what_the_items_iterator_sets_reaches_no_item() -> None:
    def items() -> Iterator[int]:
        for number in range(5):
            variable.set(f"iterator {number}")
            yield number

    def check() -> None:
        outcomes = tk.parallel_map(lambda number: variable.get(), items(), concurrency=1)
        assert {outcome.value for outcome in outcomes} == {"unset"}

    contextvars.copy_context().run(check)


# -- retries ---------------------------------------------------------------------------------------------------


def test_nothing_runs_twice_without_retries(door: Any, gate: threading.Event) -> None:
    runs: dict[int, int] = {}
    lock = threading.Lock()

    def item(number: int) -> int:
        with lock:
            runs[number] = runs.get(number, 0) + 1
        if number % 3 == 0:
            raise ValueError(number)
        if number % 3 == 1:
            gate.wait(0.3)  # longer than its deadline, as a slow call is
        return number

    outcomes = door(item, range(12), concurrency=4, timeout=0.1)
    assert {outcome.status for outcome in outcomes} == {"error", "timed_out", "ok"}
    assert runs == dict.fromkeys(range(12), 1)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raises", "hangs"])
def test_retries_try_again_what_raised_or_timed_out_and_say_why(door: Any, gate: threading.Event, how: str) -> None:
    runs: list[int] = []

    def item(number: int) -> int:
        runs.append(number)
        if number == 1 and runs.count(1) < 3:
            if how == "raises":
                raise ValueError("not yet")
            gate.wait()
        return number

    outcomes = door(item, range(3), retries=2, timeout=0.5)
    assert [outcome.status for outcome in outcomes] == ["ok"] * 3
    assert [outcome.attempts for outcome in outcomes] == [1, 3, 1]
    assert len(outcomes[1].interruptions) == 2
    assert ("ValueError: not yet" if how == "raises" else "timed out") in outcomes[1].interruptions[0]
    assert sorted(runs) == [0, 1, 1, 1, 2]


def test_when_retries_are_used_up_the_last_failure_stands() -> None:
    def item(number: int) -> int:
        raise ValueError(number)

    [outcome] = tk.parallel_map(item, [7], retries=1)
    assert (outcome.status, outcome.attempts, len(outcome.interruptions)) == ("error", 2, 1)
    assert isinstance(outcome.error, ValueError)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_asks_the_program_to_end_is_not_tried_again(error: type[BaseException]) -> None:
    def item(number: int) -> int:
        raise error

    [outcome] = tk.parallel_map(item, [7], retries=5)
    assert (outcome.status, outcome.attempts) == ("error", 1)


# -- on_result and progress ------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_on_result_is_called_in_the_calling_thread_as_results_come(door: Any, asynchronous: bool) -> None:
    seen: list[tuple[int | None, int]] = []
    first = threading.Event()

    def on_result(outcome: tk.Outcome[int]) -> None:
        seen.append((outcome.index, threading.get_ident()))
        if outcome.index == 1:
            first.set()

    async def aon_result(outcome: tk.Outcome[int]) -> None:
        await asyncio.sleep(0)
        on_result(outcome)

    def item(number: int) -> int:
        if number == 0:
            assert first.wait(20), "told of the second while the first runs"
        return number

    door(item, range(2), on_result=aon_result if asynchronous else on_result, timeout=20)
    assert [index for index, _ in seen] == [1, 0]
    if not asynchronous or door is awaited:
        assert (seen[0][1] == threading.get_ident()) == (door is not in_a_thread)


def test_an_on_result_that_raises_is_logged_once_counted_and_breaks_nothing(
    door: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def on_result(outcome: tk.Outcome[int]) -> None:
        raise ValueError("no")

    with caplog.at_level(logging.WARNING, "tracekeeper"):
        assert all(outcome.ok for outcome in door(abs, range(5), on_result=on_result))
    assert [record.getMessage() for record in caplog.records] == [
        "tracekeeper: on_result of a map raised; the map goes on",
        "tracekeeper: on_result of a map raised 5 times",
    ]
    assert caplog.records[0].exc_info is not None


def test_progress_is_silent_unless_asked_and_counts_what_is_not_ok(capsys: pytest.CaptureFixture[str]) -> None:
    tk.parallel_map(abs, range(3))
    assert capsys.readouterr() == ("", "")
    tk.parallel_map(lambda number: 1 / number, range(3), progress="dividing")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dividing 3/3, 1 error, ")
    tk.parallel_map(abs, iter(range(3)), progress=True)
    assert capsys.readouterr().err.startswith("parallel 3, ")


def test_a_stderr_that_is_closed_or_missing_breaks_no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def isatty(self) -> bool:
            raise ValueError("closed")

        def write(self, text: str) -> None:
            raise ValueError("closed")

    for stream in (None, Closed()):
        monkeypatch.setattr("sys.stderr", stream)
        assert len(tk.parallel_map(abs, range(3), progress=True)) == 3


# -- Parallel --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("awaits", [False, True])
def test_parallel_takes_pairs_of_any_callables_and_arguments(awaits: bool) -> None:
    pairs = [(pow, (2, 10)), (adouble, 4), (dict, {"a": 1}), (sorted, [3, 1]), (lambda: "none", ()), (int, "x")]
    parallel = tk.Parallel(concurrency=3, timeout=10)
    outcomes = asyncio.run(parallel.acall(pairs)) if awaits else parallel(pairs)
    assert [outcome.value for outcome in outcomes] == [1024, 8, {"a": 1}, [1, 3], "none", None]
    assert isinstance(outcomes[5].error, ValueError)


@pytest.mark.parametrize("pair", [abs, (abs,), (1, 2), (abs, 1, 2), "ab"])
def test_what_is_no_pair_is_refused(pair: Any) -> None:
    with pytest.raises(TypeError, match="pairs of a callable and its arguments"):
        tk.Parallel()([pair])


# -- bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"concurrency": 0}, ValueError, "concurrency must be at least 1, not 0"),
        ({"concurrency": 2.5}, TypeError, "concurrency must be a whole number, not 2.5"),
        ({"concurrency": True}, TypeError, "concurrency must be a whole number"),
        ({"retries": -1}, ValueError, "retries must be at least 0"),
        ({"timeout": 0}, ValueError, "timeout must be more than 0 seconds, or None"),
        ({"timeout": float("nan")}, ValueError, "timeout must be more than 0"),
        ({"timeout": "1"}, TypeError, "timeout must be a number of seconds or None"),
        ({"on_result": 3}, TypeError, "on_result must be callable"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_called(door: Any, settings: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        door(pytest.fail, [1], **settings)


def test_wrong_functions_and_items_are_refused() -> None:
    async def stream() -> Any:
        yield 1

    with pytest.raises(TypeError, match="must be callable"):
        tk.parallel_map("abs", [1])  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not iterable"):
        tk.parallel_map(abs, 3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="collect an async one first"):
        tk.parallel_map(abs, stream())  # type: ignore[call-overload]


# -- maps in maps, many maps, cost -----------------------------------------------------------------------------


def test_maps_may_be_nested_to_any_depth() -> None:
    def tree(depth: int) -> int:
        if not depth:
            return 1
        return sum(outcome.unwrap() for outcome in tk.parallel_map(tree, [depth - 1] * 2, concurrency=1))

    async def atree(depth: int) -> int:
        if not depth:
            return 1
        return sum(outcome.unwrap() for outcome in await tk.aparallel_map(atree, [depth - 1] * 2, concurrency=1))

    assert tree(5) == 32
    assert asyncio.run(atree(5)) == 32


def test_maps_in_many_threads_and_loops_at_once_keep_apart() -> None:
    async def several(base: int) -> list[int]:
        both = await asyncio.gather(
            tk.aparallel_map(adouble, range(base, base + 20)), tk.aparallel_map(abs, range(base, base + 20))
        )
        return [outcome.unwrap() for outcomes in both for outcome in outcomes]

    outcomes = tk.parallel_map(lambda base: asyncio.run(several(base)), range(0, 300, 20), concurrency=15)
    for base, outcome in zip(range(0, 300, 20), outcomes, strict=True):
        numbers = range(base, base + 20)
        assert outcome.unwrap() == [2 * number for number in numbers] + list(numbers)


def test_a_cancelled_map_cancels_what_runs_and_begins_nothing_more() -> None:
    began: list[int] = []
    cancelled: list[int] = []

    async def item(number: int) -> None:
        began.append(number)
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.append(number)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await tk.aparallel_map(item, range(1000), concurrency=5)

    asyncio.run(main())
    _until(lambda: len(cancelled) == 5)
    assert began == [0, 1, 2, 3, 4]


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


@pytest.mark.slow
def test_threads_that_never_come_back_are_capped_and_the_rest_says_so(
    monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    monkeypatch.setattr(mapping, "HELD_LIMIT", 3)
    begun = time.monotonic()
    outcomes = tk.parallel_map(lambda number: gate.wait(), range(100), concurrency=3, timeout=0.2)
    assert time.monotonic() - begun < 10
    statuses = [outcome.status for outcome in outcomes]
    hung = statuses.count("timed_out")
    assert 3 <= hung <= 5, "those that had begun when the limit was reached"
    assert statuses[hung:] == ["error"] * (100 - hung)
    reason = outcomes[-1].reason or ""
    assert {outcome.reason for outcome in outcomes[hung:]} == {reason}
    assert f"{hung} threads and 0 event loops are held by calls that do not return (the limit is 3)" in reason
    [late] = tk.parallel_map(abs, [1], concurrency=3, timeout=0.2)
    assert late.status == "error", "the limit is the process's, not the map's"
    gate.set()
    _until(lambda: tk.parallel_map(abs, [1], concurrency=3, timeout=1)[0].ok)


@pytest.mark.slow
def test_items_and_results_are_let_go() -> None:
    class Item:
        pass

    held: list[weakref.ref[Item]] = []

    def items() -> Iterator[Item]:
        for _ in range(20):
            item = Item()
            held.append(weakref.ref(item))
            yield item

    outcomes = tk.parallel_map(lambda item: None, items(), concurrency=2)
    gc.collect()
    assert len(outcomes) == 20
    _until(lambda: (gc.collect(), sum(each() is not None for each in held))[1] <= 1)


@pytest.mark.slow
def test_the_cost_of_a_map_is_linear() -> None:
    def seconds(count: int) -> float:
        begun = time.perf_counter()
        assert len(tk.parallel_map(abs, range(count))) == count
        return time.perf_counter() - begun

    seconds(1000)
    small = min(seconds(4000) for _ in range(3))
    large = seconds(40_000)
    assert large < 25 * small, f"{small:.3f} s for 4,000 and {large:.3f} s for 40,000"


def test_no_runner_of_a_map_is_watched_after_it() -> None:
    from tracekeeper.concurrency.watchdog import watchdog

    maps.parallel_map(abs, itertools.repeat(1, 10))
    _until(lambda: not any(isinstance(each, mapping.MapRunner) for each in watchdog()._watched.copy()))
