"""Threads and pools that carry the context, and that are as they were in everything else."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from tests.conftest import FULL

import tracekeeper as tk
from tracekeeper.integrations import threads

var: ContextVar[Any] = ContextVar("var", default="nothing")
ROUNDS = 200 if FULL else 20


@pytest.fixture
def carrying() -> Iterator[None]:
    undo = threads.install()
    yield
    undo()


@tk.trace
def inner(x: Any) -> Any:
    return x


def in_thread(make: Any) -> list[Any]:
    """What a thread made by ``make(target)`` sees of the variable."""
    seen: list[Any] = []
    thread = make(lambda: seen.append(var.get()))
    thread.start()
    thread.join()
    return seen


class Shouting(threading.Thread):
    """A subclass with a ``run`` of its own."""

    def __init__(self, work: Any) -> None:
        super().__init__()
        self.work = work

    def run(self) -> None:
        self.work()


KINDS = [
    pytest.param(lambda work: threading.Thread(target=work), id="thread"),
    pytest.param(Shouting, id="subclass"),
    pytest.param(lambda work: threading.Timer(0, work), id="timer"),
    pytest.param(lambda work: threading.Thread(target=work, daemon=True), id="daemon"),
]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.usefixtures("carrying")
def test_a_thread_has_the_context_of_who_started_it(make: Any) -> None:
    thread_of_another_context = copy_context().run(make, lambda: None)
    assert thread_of_another_context is not None
    token = var.set("mine")
    try:
        assert in_thread(make) == ["mine"]
    finally:
        var.reset(token)


@pytest.mark.parametrize("make", KINDS)
def test_without_it_nothing_is_carried(make: Any) -> None:
    token = var.set("mine")
    try:
        inherits = getattr(sys.flags, "thread_inherit_context", False)
        assert in_thread(make) == (["mine"] if inherits else ["nothing"])
    finally:
        var.reset(token)


def test_what_was_made_before_carries_too_and_after_undoing_nothing_does() -> None:
    seen: list[Any] = []
    early = threading.Thread(target=lambda: seen.append(var.get()))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # its thread is there already
        undo = threads.install()
        token = var.set("mine")
        try:
            early.start()
            early.join()
            assert pool.submit(var.get).result() == "mine"
            assert list(pool.map(lambda _: var.get(), range(3))) == ["mine"] * 3
            undo()
            assert pool.submit(var.get).result() == "nothing"
        finally:
            var.reset(token)
    assert seen == ["mine"]


def test_by_name_it_is_one_of_the_integrations() -> None:
    [row] = tk.instrument("threads")
    token = var.set("mine")
    try:
        assert row.state == "active"
        assert in_thread(lambda work: threading.Thread(target=work)) == ["mine"]
        tk.uninstrument("threads")
        assert in_thread(lambda work: threading.Thread(target=work)) == ["nothing"]
    finally:
        var.reset(token)
        tk.uninstrument("threads")


def test_installing_twice_is_installing_once_and_undoing_restores_the_very_functions() -> None:
    before = (threading.Thread.start, threading.Thread._bootstrap_inner, ThreadPoolExecutor.submit)  # type: ignore[attr-defined]
    first, second = threads.install(), threads.install()
    token = var.set("mine")
    try:
        assert in_thread(lambda work: threading.Thread(target=work)) == ["mine"]
    finally:
        var.reset(token)
    assert threading.Thread.start.__name__ == "start"
    assert ThreadPoolExecutor.submit.__doc__ == before[2].__doc__
    first()
    second()
    assert (threading.Thread.start, threading.Thread._bootstrap_inner, ThreadPoolExecutor.submit) == before  # type: ignore[attr-defined]


def test_under_somebody_elses_wrapper_it_stops_and_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    original = threading.Thread.start
    threads.install()
    ours = threading.Thread.start

    def theirs(self: threading.Thread) -> None:
        ours(self)

    threading.Thread.start = theirs  # type: ignore[method-assign]
    token = var.set("mine")
    try:
        assert in_thread(lambda work: threading.Thread(target=work)) == ["mine"]
        threads.uninstall()
        assert threading.Thread.start is theirs, "not ours to take away"
        assert in_thread(lambda work: threading.Thread(target=work)) == ["nothing"]
        threads.install()
        assert in_thread(lambda work: threading.Thread(target=work)) == ["mine"], "carried once, below theirs"
        threading.Thread.start = original  # type: ignore[method-assign]
        threads.install()
        assert in_thread(lambda work: threading.Thread(target=work)) == ["mine"], "they took ours away with theirs"
    finally:
        var.reset(token)
        threads.uninstall()
    assert threading.Thread.start is original


@pytest.mark.usefixtures("carrying")
def test_run_in_executor_carries_the_context_of_the_task() -> None:
    async def one(number: int) -> Any:
        var.set(number)
        await asyncio.sleep(0)
        return await asyncio.get_running_loop().run_in_executor(None, var.get)

    async def main() -> list[Any]:
        return await asyncio.gather(*(one(number) for number in range(50)))

    assert asyncio.run(main()) == list(range(50))


@pytest.mark.usefixtures("carrying")
def test_no_two_threads_are_in_one_context() -> None:
    """Entering a context that another thread is in raises RuntimeError; a change in one is seen in no other."""
    together = threading.Barrier(8, timeout=30)

    def work(number: int) -> Any:
        together.wait()
        var.set(number)
        together.wait()
        return var.get()

    token = var.set("mine")
    try:
        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(work, range(8))) == list(range(8))
        assert var.get() == "mine"
    finally:
        var.reset(token)


def test_an_exceptions_traceback_is_the_same_with_and_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise StopIteration("from the work")

    def initialized() -> None:
        var.set("worker's")

    def shapes() -> list[list[str]]:
        found = []
        caught: list[Any] = []
        monkeypatch.setattr(threading, "excepthook", caught.append)
        for thread in (threading.Thread(target=fails), Shouting(fails)):
            thread.start()
            thread.join()
        found += [[frame.name for frame in traceback.extract_tb(each.exc_traceback)] for each in caught]
        for options in ({}, {"initializer": initialized}):
            with ThreadPoolExecutor(1, **options) as pool:
                error = pool.submit(fails).exception()
            assert type(error) is StopIteration
            found.append([frame.name for frame in traceback.extract_tb(error.__traceback__)])
        return found

    plain = shapes()
    undo = threads.install()
    carried = shapes()
    undo()
    assert carried == plain
    assert [names[-1] for names in plain] == ["fails"] * 4


@pytest.mark.usefixtures("carrying")
def test_what_a_pools_initializer_set_is_seen_beside_what_the_caller_has() -> None:
    connection: ContextVar[str] = ContextVar("connection")

    def initialize() -> None:
        connection.set(threading.current_thread().name)

    def work() -> tuple[str, Any, Any]:
        return connection.get(), var.get(), tk.settings().session_id

    connection.set("the caller's, of no use in another thread")
    token = var.set("mine")
    try:
        with (
            ThreadPoolExecutor(2, thread_name_prefix="pool", initializer=initialize) as pool,
            tk.context(session_id="s"),
        ):
            for future in [pool.submit(work) for _ in range(8)]:
                name, seen, session = future.result()
                assert name.startswith("pool_")
                assert (seen, session) == ("mine", "s")
    finally:
        var.reset(token)


@pytest.mark.usefixtures("carrying")
def test_a_failing_initializer_and_a_pool_that_is_shut_down_say_what_they_always_said() -> None:
    from concurrent.futures.thread import BrokenThreadPool

    def fails() -> None:
        raise ValueError("no")

    pool = ThreadPoolExecutor(1, initializer=fails)
    future = pool.submit(int)
    with pytest.raises(BrokenThreadPool):
        future.result()
    pool.shutdown()
    with ThreadPoolExecutor(1) as closed:
        pass
    with pytest.raises(RuntimeError, match="after shutdown"):
        closed.submit(int)
    thread = threading.Thread(target=int)
    thread.start()
    with pytest.raises(RuntimeError, match="once"):
        thread.start()
    thread.join()


class Big:
    """Something whose end can be observed."""


@pytest.mark.usefixtures("carrying")
def test_nothing_of_the_caller_is_kept_when_the_work_is_done() -> None:
    gc.disable()  # what is dropped must not wait for a collection
    try:
        with ThreadPoolExecutor(1) as pool:
            big = Big()
            gone = weakref.ref(big)
            token = var.set(big)
            thread = threading.Thread(target=var.get)
            thread.start()
            future: Future[Any] = pool.submit(lambda: None)
            thread.join()
            future.result()
            var.reset(token)
            del token
            del big
            pool.submit(int).result()  # its thread has let go of the work before
            assert gone() is None, "neither the finished thread nor the idle thread of the pool holds the context"
            assert thread.name
    finally:
        gc.enable()


@pytest.mark.usefixtures("carrying")
def test_a_thread_that_cannot_be_started_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("can't start new thread")

    name = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
    thread = threading.Thread(target=int)
    with monkeypatch.context() as patched:
        patched.setattr(threading, name, refuses)
        with pytest.raises(RuntimeError, match="can't start"):
            thread.start()
    assert not any(isinstance(value, contextvars.Context) for value in vars(thread).values())
    token = var.set("later")
    try:
        assert in_thread(lambda work: threading.Thread(target=work)) == ["later"]
    finally:
        var.reset(token)


class Thread314(threading.Thread):
    """How Python 3.14's threads treat contexts: an attribute, entered around ``run`` inside ``_bootstrap_inner``."""

    def __init__(self, *, target: Any, context: contextvars.Context | None = None) -> None:
        super().__init__(target=target)
        self._context = context

    def run(self) -> None:
        context = self._context or contextvars.Context()
        context.run(super().run)


@pytest.mark.usefixtures("carrying")
def test_a_context_that_the_program_gave_to_a_thread_is_the_one_it_runs_in() -> None:
    own = contextvars.Context()
    own.run(var.set, "given")
    token = var.set("mine")
    try:
        assert in_thread(lambda work: Thread314(target=work, context=own)) == ["given"]
        assert in_thread(lambda work: Thread314(target=work)) == ["mine"]
        if sys.version_info >= (3, 14):
            assert in_thread(lambda work: threading.Thread(target=work, context=own)) == ["given"]
    finally:
        var.reset(token)
    finished = Thread314(target=int)
    finished.start()
    finished.join()
    assert finished._context is None


@pytest.mark.usefixtures("carrying")
def test_a_traced_calls_threads_are_part_of_its_record(keeper: object) -> None:
    @tk.app(name="fan out", version="1")
    def ask(number: int) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(inner, range(4)))
        thread = threading.Thread(target=inner, args=(4,))
        thread.start()
        thread.join()

    def request(number: int) -> None:
        with tk.context(session_id=f"s{number}"):
            ask(number)

    requests = [threading.Thread(target=request, args=(number,)) for number in range(ROUNDS)]
    for each in requests:
        each.start()
    for each in requests:
        each.join()
    records = tk.records(limit=1000)
    assert {record.app for record in records} == {"fan out"}
    assert sorted(record.session_id or "" for record in records) == sorted(f"s{n}" for n in range(ROUNDS))
    for record in records:
        assert record.session_id == f"s{record.input['number']}"


@pytest.mark.usefixtures("carrying")
def test_tracekeepers_own_threads_carry_nothing(keeper: Any) -> None:
    def long_enough(output: Any) -> bool:
        assert var.get() != "mine", "the engine's threads are not the caller's"
        return True

    @tk.app(name="scored", version="1", metrics=[long_enough])
    def ask(x: int) -> int:
        return x

    token = var.set("mine")
    try:
        ask(1)
        [(_, scores)] = ask.app.wait_for_scores(timeout=20)
    finally:
        var.reset(token)
    assert scores["long_enough"].value is True
