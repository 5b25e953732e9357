"""Settings: one base that swaps atomically, overrides that follow the context and never leak."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tracekeeper.configuration import configure, context, environment, reset, settings
from tracekeeper.types import ConfigurationError


def test_overrides_nest_and_unset_keys_fall_through_live() -> None:
    configure(project="before")
    with context(tags=["a"]):
        with context(session_id="s"):
            assert (settings().tags, settings().session_id) == (("a",), "s")
            configure(project="after")
            assert settings().project == "after"
        assert settings().session_id is None
    assert settings().tags == ()


def test_configure_works_from_any_thread_task_and_loop() -> None:
    thread = threading.Thread(target=lambda: configure(project="from a thread"))
    thread.start()
    thread.join()
    assert settings().project == "from a thread"

    async def task() -> None:
        configure(project="from a task")

    for _ in range(2):
        asyncio.run(task())
    assert settings().project == "from a task"


def test_a_context_does_not_leak_into_another_thread_or_task() -> None:
    both_inside = threading.Barrier(2, timeout=10)

    def work(tag: str) -> tuple[str, ...]:
        with context(tags=[tag]):
            both_inside.wait()
            return settings().tags

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, "ab")) == [("a",), ("b",)]

    async def request(tag: str, inside: asyncio.Event, other: asyncio.Event) -> tuple[str, ...]:
        async with context(tags=[tag]):
            inside.set()
            await other.wait()
            return settings().tags

    async def main() -> list[tuple[str, ...]]:
        first, second = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(request("a", first, second), request("b", second, first))

    assert asyncio.run(main()) == [("a",), ("b",)]


def test_one_context_object_may_be_entered_by_many_tasks_at_once() -> None:
    shared = context(tags=["shared"])

    async def request(number: int) -> None:
        async with shared:
            await asyncio.sleep(0)
            assert settings().tags == ("shared",)
            with context(session_id=str(number)):
                await asyncio.sleep(0)
                assert settings().session_id == str(number)
        assert settings().tags == ()

    async def main() -> None:
        await asyncio.gather(*(request(number) for number in range(50)))

    asyncio.run(main())
    assert settings().tags == ()


def test_a_context_left_in_another_context_does_not_raise() -> None:
    def generator() -> Iterator[int]:
        with context(tags=["inside"]):
            yield 1
            yield 2

    started = generator()
    contextvars.copy_context().run(next, started)
    started.close()
    assert settings().tags == ()


def test_a_context_decorates_functions_and_coroutines_and_refuses_generators() -> None:
    @context(tags=["a"])
    def plain() -> tuple[str, ...]:
        return settings().tags

    @context(tags=["b"])
    async def asynchronous() -> tuple[str, ...]:
        return settings().tags

    assert plain() == ("a",)
    assert asyncio.run(asynchronous()) == ("b",)
    with pytest.raises(ConfigurationError, match="inside it"):

        @context(tags=["c"])
        async def stream() -> AsyncIterator[int]:
            yield 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stroe": "x"}, "did you mean store"),
        ({"sample": 1.5}, "between 0 and 1"),
        ({"sample": float("nan")}, "between 0 and 1"),
        ({"exit_timeout": -1}, "at least 0"),
        ({"scoring_concurrency": 0}, "at least 1"),
        ({"tags": "abc"}, "a list of names"),
        ({"store": "tracekeeper.db"}, "expected a URL"),
        ({"store": "sqllite:///x.db"}, "did you mean sqlite"),
        ({"store": "sqlite:///:memory:"}, "name a file"),
        ({"store": "postgresql://me:hunter2@db/x"}, "sqlite:///path.db only"),
        ({"store": "http://server:4380"}, "sqlite:///path.db only"),
        ({"mask": 3}, "a callable"),
        ({"project": ""}, "a name"),
    ],
)
def test_a_value_that_cannot_work_is_refused_at_once_and_changes_nothing(changes: dict[str, Any], says: str) -> None:
    before = settings()
    with pytest.raises(ConfigurationError, match=says) as refused:
        configure(**changes)
    assert "hunter2" not in str(refused.value)
    assert settings() == before


def test_a_context_refuses_what_belongs_to_the_process() -> None:
    with pytest.raises(ConfigurationError, match=r"tk\.configure\(store="):
        context(store="sqlite:///x.db")


def test_the_environment_is_read_and_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEKEEPER_PROJECT", "bot")
    monkeypatch.setenv("TRACEKEEPER_SAMPLE", "0.25")
    monkeypatch.setenv("TRACEKEEPER_TAGS", "a, b")
    monkeypatch.setenv("TRACEKEEPER_ENABLED", "no")
    reset()
    assert (settings().project, settings().sample, settings().tags, settings().enabled) == (
        "bot",
        0.25,
        ("a", "b"),
        False,
    )
    monkeypatch.setenv("TRACEKEEPER_EXIT_TIMEOUT", "soon")
    reset()
    with pytest.raises(ConfigurationError, match="TRACEKEEPER_EXIT_TIMEOUT='soon'"):
        settings()


def test_secrets_are_not_in_the_repr() -> None:
    configure(api_key="hunter2")
    assert "hunter2" not in repr(settings())


def test_the_data_directory_is_the_nearest_one_above(tmp_path: Path) -> None:
    (tmp_path / ".tracekeeper").mkdir()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert environment.find_directory(deep) == tmp_path / ".tracekeeper"


def test_a_block_may_be_left_in_another_copy_of_its_context_or_by_another_thread() -> None:
    """What frameworks do with the halves of a generator. Nothing raises, nothing stays, and nobody else's is undone."""
    from contextvars import copy_context

    block = context(tags=["a"])
    here = copy_context()
    here.run(block.__enter__)
    assert here.run(lambda: settings().tags) == ("a",)
    copy = here.copy()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(copy.run, block.__exit__, None, None, None).result()
        pool.submit(block.__exit__, None, None, None).result()  # where it was never entered
    assert copy.run(lambda: settings().tags) == ()
    assert here.run(lambda: settings().tags) == ("a",), "the first context is as it was"
    here.run(block.__exit__, None, None, None)
    assert here.run(lambda: settings().tags) == ()
    with block, context(user_id="u"), block:
        assert (settings().tags, settings().user_id) == (("a",), "u")
    assert (settings().tags, settings().user_id) == ((), None)
