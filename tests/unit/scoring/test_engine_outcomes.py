"""Whatever a metric does, its scores become final: results of every shape, exceptions of every class, hangs."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from typing import Any

import pytest

from tracekeeper.judging import CannotBind, metric
from tracekeeper.scoring.engine import scoring_runner
from tracekeeper.types import Score, ScoreStatus


class Gate:
    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def block(self, output: Any) -> float:
        self.entered.release()
        self.open.wait(60)
        return 1.0


@pytest.fixture
def gate() -> Any:
    made = Gate()
    yield made
    made.open.set()


def length(output: str) -> int:
    return len(output)


async def alength(output: str) -> int:
    await asyncio.sleep(0)
    return len(output)


class Length:
    async def __call__(self, output: str) -> int:
        return len(output)


@pytest.mark.parametrize(
    "function",
    [length, alength, lambda output: alength(output), Length(), functools.partial(alength), Length().__call__],
)
def test_sync_and_async_metrics_are_scored(bench: Any, function: Any) -> None:
    score = bench.judge(metric(function, name="length")).one()
    assert (score.name, score.status, score.value, score.attempt) == ("length", "scored", 4, 1)
    assert score.settled_at >= score.started_at
    assert score.seconds is not None


@pytest.mark.parametrize(
    ("result", "status", "value"),
    [
        (0.5, "scored", 0.5),
        (True, "scored", True),
        ("good", "scored", "good"),
        ((0.5, "because"), "scored", 0.5),
        (Score(0.5, reason="because"), "scored", 0.5),
        (Score(status=ScoreStatus.SKIPPED, reason="no"), "skipped", None),
        (None, "skipped", None),
        (float("nan"), "failed", None),
        (float("inf"), "failed", None),
        (object(), "failed", None),
        ([1, 2], "failed", None),
        ({"a": 1}, "failed", None),
        ("\ud800", "scored", "?"),
        (10**400, "failed", None),
    ],
)
def test_every_shape_of_result_is_a_state_and_can_be_written(bench: Any, result: Any, status: str, value: Any) -> None:
    score = bench.judge(metric(lambda output: result, name="m")).one()
    assert (score.status, score.value) == (status, value)
    assert score.value is not None or score.reason


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, Unprintable])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_every_exception_is_failed_with_its_traceback(bench: Any, kind: Any, asynchronous: bool) -> None:
    def fails(output: Any) -> None:
        raise kind

    async def afails(output: Any) -> None:
        raise kind

    score = bench.judge(metric(afails if asynchronous else fails, name="m")).one()
    assert score.status == "failed"
    expected = "RuntimeError" if asynchronous and kind is StopIteration else kind.__name__
    assert expected in score.error
    assert "fails" in score.traceback
    assert "attempts.py" not in score.traceback
    assert bench.judge(metric(length)).one().value == 4


def test_a_metric_that_cancels_itself_is_cancelled(bench: Any) -> None:
    async def cancels(output: Any) -> None:
        raise asyncio.CancelledError

    score = bench.judge(metric(cancels, retries=3)).one()
    assert (score.status, score.attempt) == ("cancelled", 1)


async def waits_for_ever(output: Any) -> None:
    await asyncio.Event().wait()


async def swallows(output: Any) -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


@pytest.mark.parametrize("function", [waits_for_ever, swallows])
def test_an_async_metric_that_never_returns_times_out(bench: Any, function: Any) -> None:
    began = time.monotonic()
    score = bench.judge(metric(function, name="m", timeout=0.3)).one()
    assert score.status == "timed_out"
    assert "timed out after 0.3 s" in score.reason
    assert 0.3 <= time.monotonic() - began < 0.9 + 1


def test_a_sync_metric_that_never_returns_times_out_and_says_where(bench: Any, gate: Gate) -> None:
    score = bench.judge(metric(gate.block, name="m", timeout=0.3)).one()
    assert score.status == "timed_out"
    assert "in Gate.block (test_engine_outcomes.py" in score.reason


@pytest.mark.slow
def test_an_async_metric_that_blocks_its_loop_harms_no_other(bench: Any, gate: Gate) -> None:
    async def blocks(output: Any) -> None:
        gate.block(output)

    ready = threading.Event()
    runs: list[int] = []

    async def neighbour(output: Any) -> float:
        runs.append(1)
        ready.set()
        if len(runs) == 1:
            await asyncio.Event().wait()
        return 1.0

    beside = bench.judge(metric(neighbour, timeout=20))
    assert ready.wait(10)
    blocked = bench.judge(metric(blocks, timeout=3))
    assert gate.entered.acquire(timeout=10)
    score = beside.one()
    assert (score.value, score.attempt, len(runs)) == (1.0, 2, 2)
    assert blocked.one().status == "timed_out"
    assert "timed_out" not in [score.status for score in beside.all]


@pytest.mark.slow
def test_the_earlier_attempt_of_a_restarted_metric_stays_visible(bench: Any, gate: Gate) -> None:
    async def blocks(output: Any) -> None:
        gate.block(output)

    begun = threading.Event()

    async def neighbour(output: Any) -> float:
        first = not begun.is_set()
        begun.set()
        if first:
            await asyncio.Event().wait()
        return 1.0

    state = bench.record()
    bench.engine.submit(state, [metric(neighbour, timeout=20)])
    assert begun.wait(10)
    bench.judge(metric(blocks, name="the_blocker", timeout=2))
    state.handle.one()
    frames = bench.keeper.scores_of(state, "neighbour")
    final = [(frame.attempt, frame.status) for frame in frames if frame.status != "running"]
    assert final == [(1, "cancelled"), (2, "scored")]
    assert any("blocked by metric 'the_blocker'" in (frame.reason or "") for frame in frames)


def test_a_record_that_lacks_what_a_metric_needs_is_skipped_with_the_reason(bench: Any) -> None:
    def grounded(output: str, context: list[str]) -> float:
        return 1.0

    def raises(output: str) -> float:
        raise CannotBind("nothing to judge here")

    assert bench.judge(metric(grounded)).one().status == "skipped"
    assert bench.judge(metric(grounded), context=["rain"]).one().value == 1.0
    assert bench.judge(metric(raises)).one().reason == "nothing to judge here"


def test_a_field_that_was_cut_is_skipped_unless_the_metric_accepts_it(bench: Any) -> None:
    score = bench.judge(metric(length), output_size=5000).one()
    assert score.status == "skipped"
    assert "truncated" in score.reason
    assert bench.judge(metric(length, accept_cut=True), output_size=5000).one().value == 4


def test_a_metric_with_several_names_settles_them_all(bench: Any) -> None:
    parts = metric(lambda output: {"a": 1, "b": float("nan")}, name="m", names=["a", "b", "c"])
    scores = bench.judge(parts).final(3)
    assert {name: str(score.status) for name, score in scores.items()} == {
        "m.a": "scored",
        "m.b": "failed",
        "m.c": "skipped",
    }
    hangs = metric(waits_for_ever, name="h", names=["a", "b"], timeout=0.2)
    assert {str(score.status) for score in bench.judge(hangs).final(2).values()} == {"timed_out"}


@pytest.mark.slow
def test_retries_stop_at_success_and_earlier_attempts_are_written(bench: Any) -> None:
    runs: list[int] = []

    def flaky(output: str) -> float:
        runs.append(1)
        if len(runs) < 3:
            raise ConnectionError("try again")
        return 1.0

    state = bench.record()
    bench.engine.submit(state, [metric(flaky, retries=5)])
    score = state.handle.one()
    assert (score.value, score.attempt, len(runs)) == (1.0, 3, 3)
    written = [(frame.attempt, frame.status) for frame in bench.keeper.scores_of(state, "flaky")]
    assert written == [(1, "failed"), (2, "pending"), (2, "failed"), (3, "pending"), (3, "scored")]
    assert [str(told.status) for told in state.handle.all] == ["pending", "pending", "scored"]
    assert "retry 1 of 5" in state.handle.all[0].reason


@pytest.mark.slow
def test_retries_are_bounded_in_time(bench: Any, gate: Gate) -> None:
    chosen = metric(gate.block, name="m", timeout=0.2, retries=2)
    began = time.monotonic()
    score = bench.judge(chosen).one()
    assert (score.status, score.attempt) == ("timed_out", 3)
    assert time.monotonic() - began < 3 * chosen.allowance


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt()])
def test_what_asks_to_leave_is_not_retried(bench: Any, error: BaseException) -> None:
    def leaves(output: str) -> float:
        raise error

    assert bench.judge(metric(leaves, retries=3)).one().attempt == 1


def test_an_exception_may_say_that_it_is_not_worth_a_retry(bench: Any) -> None:
    class Refused(Exception):
        retriable = False

    def refuses(output: str) -> float:
        raise Refused("bad key")

    score = bench.judge(metric(refuses, retries=3)).one()
    assert (score.attempt, score.reason) == (1, score.reason)
    assert "bad key" in score.reason


@pytest.mark.slow
def test_a_hanging_metric_is_announced_once_and_never_after_its_result(bench: Any, gate: Gate) -> None:
    state = bench.record()
    bench.engine.submit(state, [metric(gate.block, name="m", timeout=1.0)])
    score = state.handle.one()
    assert [str(told.status) for told in state.handle.all] == ["running", "timed_out"]
    frames = bench.keeper.scores_of(state, "m")
    assert [(frame.status, frame.attempt) for frame in frames] == [("running", 1), ("timed_out", 1)]
    assert score.started_at == pytest.approx(state.handle.all[0].started_at)


def test_a_quick_metric_writes_one_frame(bench: Any) -> None:
    state = bench.record()
    bench.engine.submit(state, [metric(length)])
    state.handle.one()
    assert len(bench.keeper.scores_of(state, "length")) == 1


def test_its_frame_is_written_before_the_record_is_told(bench: Any) -> None:
    seen: list[int] = []
    state = bench.record()
    tell = state.handle.settle

    def settle(score: Score) -> None:
        seen.append(len(bench.keeper.scores_of(state, "length")))
        tell(score)

    state.handle.settle = settle
    bench.engine.submit(state, [metric(length)])
    state.handle.one()
    assert seen == [1]


def test_a_metric_sees_nothing_of_the_callers_context(bench: Any) -> None:
    from tracekeeper.configuration import context, settings

    def tags(output: str) -> str:
        return ",".join(settings().tags) or "none"

    with context(tags=["caller"]):
        assert bench.judge(metric(tags)).one().value == "none"


def test_a_metric_that_changes_its_input_changes_it_for_itself_only(bench: Any) -> None:
    def pops(output: list[str]) -> int:
        output.pop()
        return len(output)

    scores = bench.judge(metric(pops, name="a"), metric(pops, name="b"), output=["x", "y"]).final(2)
    assert {score.value for score in scores.values()} == {1}


@pytest.mark.slow
def test_a_thousand_records_with_hanging_metrics_settle_in_bounded_time(bench: Any, gate: Gate) -> None:
    quick, hangs = metric(alength, name="m"), metric(waits_for_ever, name="m", timeout=0.5)
    blocks = metric(gate.block, name="m", timeout=0.5)
    held_before = scoring_runner().abandoned()[0]
    began = time.monotonic()
    told = [bench.judge(hangs if n % 40 == 0 else blocks if n % 40 == 20 else quick) for n in range(1000)]
    statuses = [str(one.one(60).status) for one in told]
    # 50 hang for 0.5 s each, 32 at a time: a second if nothing else is held up.
    assert time.monotonic() - began < 6
    assert (statuses.count("timed_out"), statuses.count("scored")) == (50, 950)
    assert scoring_runner().abandoned()[0] <= held_before + 25
    gate.open.set()
    assert scoring_runner().drain(20)
