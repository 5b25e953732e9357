"""Scores one after the other, in the order in which they settle."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs

import tracekeeper as tk
from tracekeeper.tracing.keeper import Keeper

pytestmark = pytest.mark.usefixtures("keeper")


class Doors:
    """Metrics that settle when their door is opened."""

    def __init__(self, *names: str) -> None:
        self.doors = {name: threading.Event() for name in names}
        self.metrics = [tk.metric(self._through(name), name=name, timeout=30) for name in names]

    def _through(self, name: str) -> Any:
        def metric(output: str) -> bool:
            return self.doors[name].wait(30)

        return metric

    def open(self, *names: str) -> None:
        for name in names or self.doors:
            self.doors[name].set()


@pytest.fixture
def doors() -> Iterator[Doors]:
    made = Doors("a", "b", "c")
    yield made
    made.open()


def test_scores_come_as_they_settle_each_once(doors: Doors) -> None:
    record = tk.log_record(input="?", output="mild", metrics=doors.metrics, app="demo")
    doors.open("b")
    seen = []
    for score in tk.as_completed([record, record], timeout=20):
        assert (score.record, score.status, score.final) == (record, "scored", True)
        seen.append(score.name)
        doors.open("a" if score.name == "b" else "c")
    assert seen == ["b", "a", "c"]


def test_it_iterates_asynchronously_too(doors: Doors) -> None:
    records = [tk.log_record(input="?", output=str(number), metrics=doors.metrics, app="demo") for number in range(3)]

    async def main() -> list[str]:
        doors.open("b")
        seen = []
        async for score in tk.as_completed(records, timeout=20):
            seen.append(score.name)
            if len(seen) == 3:
                doors.open("c")
            if len(seen) == 6:
                doors.open("a")
        return seen

    assert asyncio.run(main()) == ["b"] * 3 + ["c"] * 3 + ["a"] * 3


@pytest.mark.slow
def test_at_the_deadline_the_others_come_with_the_state_they_have(doors: Doors) -> None:
    record = tk.log_record(input="?", output="mild", metrics=doors.metrics, app="demo")
    doors.open("a")

    async def later() -> list[tuple[str, bool]]:
        return [(score.name, score.final) async for score in tk.as_completed([record], timeout=0.5)]

    began = time.monotonic()
    assert [(score.name, score.final) for score in tk.as_completed([record], timeout=0.5)] == [
        ("a", True),
        ("b", False),
        ("c", False),
    ]
    assert asyncio.run(later()) == [("a", True), ("b", False), ("c", False)]
    assert time.monotonic() - began < 2 * 0.5 * 3
    (score,) = tk.as_completed([record], names=["b"], timeout=0)
    assert (score.value, score.status in ("pending", "running"), score.record) == (None, True, record)


def test_names_choose_and_a_mistyped_one_is_refused(doors: Doors) -> None:
    doors.open()
    record = tk.log_record(input="?", output="mild", metrics=doors.metrics, app="demo")
    assert {score.name for score in tk.as_completed([record], names=["a", "c"])} == {"a", "c"}
    with pytest.raises(tk.MetricError, match="did you mean"):
        list(tk.as_completed([record], names=["aa"]))
    assert record.waits == []


def test_a_recording_and_an_app_give_theirs() -> None:
    @tk.app(name="rag", metrics=[tk.metric(lambda output: len(output), name="length")])
    def ask(question: str) -> str:
        return question

    with tk.recording() as recording:
        for question in ("a", "bb", "ccc"):
            ask(question)
    for source in (recording, ask, ask.app, recording.records):
        found = list(tk.as_completed(source, timeout=20))
        assert {score.value for score in found} == {1.0, 2.0, 3.0}
        assert len(found) == 3
    assert [score.value for score in tk.as_completed(recording.records[0])] == [1.0]  # type: ignore[arg-type]
    assert list(tk.as_completed([])) == []


def test_skipped_and_failed_ones_come_too() -> None:
    @tk.app(
        name="rag",
        metrics=[
            tk.metric(lambda output: 1 / 0, name="fails"),
            tk.metric(lambda output: 1, name="unsampled", sample=0.0),
            tk.metric(lambda output: 1, name="deferred", mode="deferred"),
        ],
    )
    def ask(question: str) -> str:
        return question

    ask("?")
    found = {score.name: str(score.status) for score in tk.as_completed(ask, timeout=20)}
    assert found == {"fails": "failed", "unsampled": "skipped"}
    deferred = list(tk.as_completed(ask, names=["deferred"], timeout=0.2))
    assert [(score.name, str(score.status)) for score in deferred] == [("deferred", "pending")]


def test_a_stream_that_is_still_open_gives_its_scores_when_it_ends() -> None:
    @tk.app(name="rag", metrics=[tk.metric(lambda output: output, name="text")])
    def stream(question: str) -> Iterator[str]:
        yield "mi"
        yield "ld"

    with tk.recording() as recording:
        chunks = stream("?")
        next(chunks)
    (open_one,) = tk.as_completed(recording, timeout=0.1)
    assert (open_one.name, str(open_one.status), open_one.reason) == ("text", "pending", "the call has not ended")
    threading.Timer(0.1, lambda: list(chunks)).start()
    assert [score.value for score in tk.as_completed(recording, timeout=20)] == ["mild"]


def test_whoever_breaks_off_leaves_nothing_behind(doors: Doors) -> None:
    record = tk.log_record(input="?", output="mild", metrics=doors.metrics, app="demo")
    doors.open("a")
    for score in tk.as_completed([record], timeout=20):
        assert score.name == "a"
        break
    assert record.waits == []

    async def main() -> None:
        async for _ in tk.as_completed([record], timeout=20):
            break

    asyncio.run(main())
    assert record.waits == []


def test_the_loop_goes_on_meanwhile(doors: Doors) -> None:
    record = tk.log_record(input="?", output="mild", metrics=doors.metrics, app="demo")

    async def main() -> int:
        async def opens() -> None:
            await asyncio.sleep(0.05)
            doors.open()

        opening = asyncio.ensure_future(opens())
        count = len([score async for score in tk.as_completed([record], timeout=20)])
        await opening
        return count

    assert asyncio.run(main()) == 3


@pytest.mark.slow
def test_stored_records_and_those_of_another_process_are_looked_up(tmp_path: Path, keeper: Keeper) -> None:
    program = f"""
        import sys, threading, time
        import tracekeeper as tk
        tk.configure(directory={str(keeper.directory)!r})
        opened = threading.Event()
        def quick(output): return 1
        def slow(output): return opened.wait(30)
        @tk.app(name="other", metrics=[quick, slow])
        def ask(q): return q
        ask("?")
        ask.app.wait_for_scores(names=["quick"], timeout=20)
        tk.flush(timeout=20)
        print("ready", flush=True)
        sys.stdin.readline()
        opened.set()
        ask.app.wait_for_scores(timeout=20)
        tk.flush(timeout=20)
        print("done", flush=True)
        sys.stdin.readline()
    """
    process = programs.start(program, tmp_path)
    try:
        assert programs.ready(process) == "ready"
        records = list(tk.records(filter='app = "other"'))
        assert len(records) == 1
        seen = []
        assert process.stdin is not None
        for score in tk.as_completed(records, timeout=30):
            seen.append((score.name, str(score.status)))
            if score.name == "quick":
                process.stdin.write("\n")
                process.stdin.flush()
        assert seen == [("quick", "scored"), ("slow", "scored")]
        # Stored ones, which are final.
        again = [score.name for score in tk.as_completed(tk.records(filter='app = "other"'))]
        assert sorted(again) == ["quick", "slow"]
    finally:
        programs.kill(process)


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("records", {}, "expected records, a recording or an app"),
        (3, {}, "expected records, a recording or an app"),
        ([3], {}, "expected records, got int: 3"),
        ([], {"timeout": -1}, "timeout=-1: expected a number of seconds"),
        ([], {"names": "a"}, "names='a': expected a list of names"),
    ],
)
def test_bad_input_is_said_at_once(source: Any, options: Any, said: str) -> None:
    with pytest.raises(tk.TracekeeperError) as caught:
        tk.as_completed(source, **options)
    assert said in str(caught.value)


@pytest.mark.slow
def test_many_records_cost_the_same_each() -> None:
    records = [
        tk.log_record(input="?", output="mild", metrics=[tk.metric(lambda output: True, name="fine")], app="many")
        for _ in range(1_000)
    ]
    assert len(list(tk.as_completed(records, timeout=60))) == 1_000
