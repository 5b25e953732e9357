"""The programs of the documentation, run as they are written."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import tracekeeper as tk

SLACK = 3.0


@pytest.fixture
def forever() -> Iterator[threading.Event]:
    release = threading.Event()
    yield release
    release.set()


def relevance(question: str, answer: str) -> float:
    return 0.75


def crashes(answer: str) -> float:
    raise RuntimeError("crashed")


def test_a_crashing_and_a_hanging_metric_do_not_freeze_the_caller(keeper: object, forever: threading.Event) -> None:
    def never_returns(answer: str) -> None:
        forever.wait()

    @tk.app(name="a", version="1", metrics=[relevance, crashes, tk.metric(never_returns, timeout=2)])
    def ask(q: str) -> str:
        return "mild"

    ask("q")
    begun = time.monotonic()
    [(_, scores)] = ask.app.wait_for_scores(timeout=10)
    assert time.monotonic() - begun < 2 * SLACK
    assert [(name, str(score.status)) for name, score in scores.items()] == [
        ("relevance", "scored"),
        ("crashes", "failed"),
        ("never_returns", "timed_out"),
    ]
    assert "RuntimeError" in (scores["crashes"].traceback or "")


def test_first_run_first_read_wait_and_callback(keeper: object, capsys: pytest.CaptureFixture[str]) -> None:
    @tk.app(name="a", version="1", metrics=[relevance])
    def ask(question: str) -> str:
        return "mild"

    with tk.recording() as recording:
        ask("What is the typical weather in Ireland?")
    tk.records_and_scores().print()
    shown = capsys.readouterr().out
    assert any(word in shown for word in ("pending", "running", "0.75"))
    assert "nan" not in shown.lower()
    for name, score in recording.get().wait_for_scores(timeout=10).items():
        print(name, score.status, score.value)
    assert capsys.readouterr().out == "relevance scored 0.75\n"
    told = threading.Event()
    got: list[tuple[str, object]] = []

    def on_all(scores: dict[str, tk.Score]) -> None:
        got.extend((name, score.value) for name, score in scores.items())
        told.set()

    assert recording.get().wait_for_scores(callback=on_all) is None
    assert told.wait(10)
    assert got == [("relevance", 0.75)]


def test_threads_with_their_own_settings(keeper: object) -> None:
    @tk.app(name="a", version="1")
    def ask(question: str) -> str:
        return question

    def work(question: str) -> str:
        with tk.context(tags=[question]):
            return ask(question)

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(work, ["Paris", "London", "Tokyo"])) == ["Paris", "London", "Tokyo"]
    assert {(record.output, record.tags) for record in tk.records()} == {
        ("Paris", ("Paris",)),
        ("London", ("London",)),
        ("Tokyo", ("Tokyo",)),
    }


def test_an_async_generator_left_early_is_abandoned_with_the_text_so_far(keeper: object) -> None:
    @tk.trace
    async def stream() -> AsyncIterator[str]:
        for piece in ("The ", "weather ", "", "is ", "mild"):
            yield piece

    async def main() -> None:
        async for piece in stream():
            if not piece:
                break

    asyncio.run(main())
    [record] = tk.records()
    assert (record.status, record.output) == ("abandoned", "The weather ")


def test_100_threads_and_1000_tasks_record_at_once(keeper: object) -> None:
    @tk.app(name="a", version="1", metrics=[relevance])
    def ask(question: str) -> str:
        return f"answer to {question}"

    def one(question: str) -> bool:
        with tk.recording() as recording:
            ask(question)
        record = recording.get()
        scores = record.wait_for_scores(timeout=60)
        return record.output == f"answer to {question}" and scores["relevance"].value == 0.75

    threads_right: list[bool] = []
    threads = [threading.Thread(target=lambda n=n: threads_right.append(one(f"thread {n}"))) for n in range(100)]

    async def task(question: str) -> bool:
        async with tk.recording() as recording:
            await asyncio.sleep(0)
            ask(question)
        record = recording.get()
        scores = await record.await_scores(timeout=60)
        return record.output == f"answer to {question}" and scores["relevance"].value == 0.75

    async def main() -> list[bool]:
        return await asyncio.gather(*(task(f"task {n}") for n in range(1000)))

    for thread in threads:
        thread.start()
    tasks_right = asyncio.run(main())
    for thread in threads:
        thread.join()
    assert (sum(threads_right), sum(tasks_right)) == (100, 1000)
    [row] = tk.leaderboard().to_dicts()
    assert row["records"] == 1100


def test_settings_carried_into_a_plain_thread_by_its_context(keeper: object) -> None:
    @tk.trace
    def inner() -> str:
        return "inner"

    @tk.trace
    def outer() -> str:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(contextvars.copy_context().run, inner).result()

    outer()
    assert [record.name.rsplit(".")[-1] for record in tk.records()] == ["outer"]
