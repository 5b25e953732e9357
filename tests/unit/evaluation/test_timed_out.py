"""A call that timed out has no scores, and a reason for each: the same in the result and in the store, for good."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.support import far_tasks
from tests.support.engines import Pipes

import tracekeeper as tk
from tracekeeper.evaluation.executors.elsewhere.remote import RemoteExecutor
from tracekeeper.evaluation.item import Item
from tracekeeper.evaluation.running.task_app import Attempt, Call, TaskApp
from tracekeeper.tracing.state import RecordState
from tracekeeper.types import SpanStatus

ITEM = [{"id": "one", "question": "?"}]
release = threading.Event()
"""What a task waits for that goes on after its deadline."""


def judge(output: Any) -> float:
    return 1.0


def late(question: str) -> str:
    release.wait(30)
    return "late"


def late_stream(question: str) -> Iterator[str]:
    release.wait(30)
    yield "late"


def begun_stream(question: str) -> Iterator[str]:
    yield "early"
    release.wait(30)


async def never(question: str) -> str:
    await asyncio.sleep(30)
    return "never"


async def never_stream(question: str) -> AsyncIterator[str]:
    await asyncio.sleep(30)
    yield "never"


async def begun_never_stream(question: str) -> AsyncIterator[str]:
    yield "early"
    await asyncio.sleep(30)


async def stubborn(question: str) -> str:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        return "all the same"
    return "never"


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set when a record of an item has ended and is in the journal."""
    release.clear()
    seen = threading.Event()
    known = TaskApp.ended

    def ends(self: TaskApp, state: RecordState) -> None:
        known(self, state)
        seen.set()

    monkeypatch.setattr(TaskApp, "ended", ends)
    yield seen
    release.set()


def states(experiment: tk.Experiment) -> list[Any]:
    return [
        (
            one.status,
            one.output,
            {name: (score.status, score.value, score.reason) for name, score in one.scores.items()},
        )
        for one in experiment
    ]


@pytest.mark.parametrize(
    "task",
    [late, late_stream, begun_stream, never, never_stream, begun_never_stream, stubborn],
    ids=lambda f: f.__name__,
)
def test_result_and_store_say_the_same(keeper: Any, ended: threading.Event, task: Callable[..., Any]) -> None:
    made = tk.evaluate(ITEM, task, metrics=[judge], timeout=0.1, name="slow")
    [(status, output, scores)] = states(made)
    assert (status, output) == ("timed_out", None)
    assert scores["judge"][:2] == ("skipped", None)
    assert scores["judge"][2] in (f"the task: {made.items[0].reason}", "the task was cancelled before its end")
    assert states(tk.Experiment.load(made.id)) == states(made), "while it may still run"
    release.set()
    assert ended.wait(20)
    assert keeper.ship() is None
    assert states(tk.Experiment.load(made.id)) == states(made), "when it has returned too late"
    [record] = tk.records(f'tag = "experiment:{made.id}"')
    assert [(score.status, score.value) for score in record.wait_for_scores().values()] == [("skipped", None)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sync", "asynchronous", "stream", "astream"])
def test_they_do_where_calls_are_made_elsewhere(keeper: Any, kind: str) -> None:
    executor = RemoteExecutor(Pipes(), concurrency=1, timeout=0.5, retries=0)
    made = tk.evaluate([{"n": 4}], getattr(far_tasks, kind), metrics=[judge], executor=executor, name="far")
    assert keeper.ship() is None
    assert states(tk.Experiment.load(made.id)) == states(made)
    [(status, output, scores)] = states(made)
    assert (status, output, scores["judge"][:2]) == ("timed_out", None, ("skipped", None))


def test_an_attempt_that_was_made_again_is_not_judged_when_it_returns_at_last(
    keeper: Any, ended: threading.Event
) -> None:
    tries = 0

    def second(question: str) -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            release.wait(30)
            return "too late"
        return "in time"

    made = tk.evaluate(ITEM, second, metrics=[judge], timeout=0.2, retries=1, name="again")
    assert [(one.output, one.attempts, one.scores["judge"].value) for one in made] == [("in time", 2, 1.0)]
    ended.clear()
    release.set()
    assert ended.wait(20)
    assert keeper.ship() is None
    found = {record.output: record.scores["judge"] for record in tk.records(f'tag = "experiment:{made.id}"')}
    assert (found["in time"].status, found["in time"].value) == ("scored", 1.0)
    assert found["too late"].status == "skipped"
    assert (found["too late"].reason or "").startswith("the task: timed out after 0.2 s")


def test_a_record_that_ended_before_its_deadline_was_told_keeps_its_scores(
    keeper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Attempt.give_up

    def meanwhile(self: Attempt, reason: str) -> bool:
        release.set()
        assert returned.wait(20)  # the record ends between the deadline and the word of it
        return known(self, reason)

    returned = threading.Event()
    release.clear()
    monkeypatch.setattr(Attempt, "give_up", meanwhile)
    ends = TaskApp.ended

    def end(self: TaskApp, state: RecordState) -> None:
        ends(self, state)
        returned.set()

    monkeypatch.setattr(TaskApp, "ended", end)
    made = tk.evaluate(ITEM, late, metrics=[judge], timeout=0.1, name="photo finish")
    assert states(made) == [("timed_out", None, {"judge": ("scored", 1.0, None)})]
    assert keeper.ship() is None
    assert states(tk.Experiment.load(made.id)) == states(made)


def test_whoever_comes_first_decides_whether_an_attempt_is_judged() -> None:
    call = Call("e", Item(id="a", fields={}), 0, 0)
    given, ends = Attempt(call), Attempt(call)
    assert given.give_up("timed out")
    assert given.ends(SpanStatus.OK) == "timed out"
    assert ends.ends(SpanStatus.OK) is None
    assert not ends.give_up("timed out")
