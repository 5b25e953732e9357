"""The engine itself: memory, inline runs, errors of its surroundings, exit, status, finalisers."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any

import pytest
from tests.support import garbage

from tracekeeper.configuration import configure
from tracekeeper.judging import metric
from tracekeeper.scoring import draining, jobs, memory
from tracekeeper.scoring.stored import StoredRecord
from tracekeeper.types import Score


def length(output: str) -> int:
    return len(output)


def local(function: Any, **options: Any) -> Any:
    """A metric that only this process can compute."""
    return metric(lambda output: function(output), **options)


@pytest.mark.slow
def test_a_finaliser_may_submit_at_any_moment(bench: Any) -> None:
    chosen = metric(length)
    told = []

    class Cycle:
        def __init__(self, state: Any) -> None:
            self.me = self
            self.state = state

        def __del__(self) -> None:
            bench.engine.submit(self.state, [chosen])

    threshold = gc.get_threshold()
    gc.set_threshold(11)
    try:
        for _ in range(200):
            state = bench.record()
            told.append(state.handle)
            Cycle(state)
    finally:
        gc.set_threshold(*threshold)
    garbage.collect()
    assert {one.one().value for one in told} == {4}


def test_a_record_that_cannot_be_told_does_not_stop_the_engine(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    state = bench.record()

    def refuses(score: Score) -> None:
        raise SystemExit

    state.handle.settle = refuses
    bench.engine.submit(state, [metric(length)])
    assert bench.judge(metric(length)).one().value == 4
    assert bench.engine.wait(10)
    assert "could not be told" in caplog.text
    assert bench.engine.status()["errors"] >= 1


def test_a_mistake_in_the_engine_is_caught_and_the_engine_goes_on(
    bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = bench.engine._accept
    monkeypatch.setattr(bench.engine, "_accept", lambda jobs: (_ for _ in ()).throw(SystemExit()))
    bench.judge(metric(length))
    marker = threading.Event()
    bench.engine.inbox.put(marker)
    assert marker.wait(10)
    monkeypatch.setattr(bench.engine, "_accept", real)
    assert bench.judge(metric(length)).one().value == 4
    assert bench.engine.errors == 1


def test_waiting_jobs_let_go_of_their_texts_beyond_a_limit_and_read_them_back(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "HELD_BYTES", 30)
    read_back: list[str] = []

    def load(keeper: Any, trace_id: str, span_id: str) -> StoredRecord:
        read_back.append(span_id)
        fields = dict.fromkeys(StoredRecord._fields)
        fields |= {"id": 1, "trace_id": trace_id, "span_id": span_id, "name": "ask", "status": "ok", "tags": ()}
        fields |= {"input": '{"question": "q"}', "output": '"from the store"', "input_size": 0, "output_size": 0}
        return StoredRecord(**fields)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs.stored, "load", load)
    leave, entered = threading.Event(), threading.Event()

    def holds(output: str) -> int:
        entered.set()
        leave.wait(30)
        return len(output)

    async def alength(output: str) -> int:
        return len(output)

    first = bench.judge(metric(holds), metric(length, name="second"))
    assert entered.wait(10)
    spilled = bench.judge(metric(length), metric(alength))
    assert {score.value for score in spilled.final(2).values()} == {len("from the store")}
    assert len(read_back) == 2
    leave.set()
    assert {score.value for score in first.final(2).values()} == {4}
    assert bench.engine.wait(10)
    assert bench.engine.memory.held == 0


def test_inline_metrics_are_final_when_the_call_returns_and_see_the_live_objects(bench: Any) -> None:
    class Live:
        pass

    state = bench.record()
    state.live_input, state.live_output = {"question": "weather?"}, Live()
    seen: list[Any] = []

    def looks(output: Any) -> bool:
        seen.append(output)
        return True

    async def alooks(output: Any) -> bool:
        return looks(output)

    bench.engine.settle_inline(state, [metric(looks, mode="inline"), metric(alooks, mode="inline")])
    assert {score.name for score in state.handle.all if score.final} == {"looks", "alooks"}
    assert seen == [state.live_output] * 2


def test_inline_metrics_keep_their_deadline(bench: Any) -> None:
    leave = threading.Event()
    state = bench.record()
    began = time.monotonic()
    bench.engine.settle_inline(state, [metric(lambda output: leave.wait(30), name="m", mode="inline", timeout=0.3)])
    assert time.monotonic() - began < 0.9 + 1
    assert state.handle.all[-1].status == "timed_out"
    leave.set()


def test_async_inline_metrics_do_not_block_the_callers_loop(bench: Any) -> None:
    leave = threading.Event()
    state = bench.record()

    async def main() -> None:
        chosen = metric(lambda output: leave.wait(30), name="m", mode="inline", timeout=20)
        settling = asyncio.create_task(bench.engine.asettle_inline(state, [chosen]))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not settling.done()
        leave.set()
        await settling

    asyncio.run(main())
    assert state.handle.one().value is True


def test_inline_metrics_see_the_settings_of_the_call(bench: Any) -> None:
    from tracekeeper.configuration import context, settings

    state = bench.record()
    with context(tags=["caller"]):
        bench.engine.settle_inline(state, [metric(lambda output: settings().tags[0], name="m", mode="inline")])
    assert state.handle.one().value == "caller"


def test_what_cannot_start_within_settle_within_fails_with_that_reason(bench: Any) -> None:
    leave = threading.Event()
    configure(settle_within=0.4, scoring_concurrency=1)
    blocks = metric(lambda output: leave.wait(30), name="m", timeout=60)
    bench.judge(blocks)
    waiting = [bench.judge(metric(length)) for _ in range(5)]  # beyond what the runner is given: two queues
    scores = [one.one() for one in waiting]
    assert {str(score.status) for score in scores} == {"failed"}
    assert all("could not start within" in score.reason for score in scores)
    leave.set()


def test_status_tells_what_waits_what_runs_and_where(bench: Any) -> None:
    leave, entered = threading.Event(), threading.Event()

    def stuck(output: str) -> bool:
        entered.set()
        return leave.wait(30)

    told = bench.judge(metric(stuck))
    assert entered.wait(10)
    status = bench.engine.status()
    [running] = [call for call in status["running"] if call["name"] == "metric 'stuck'"]
    assert any("stuck (test_engine_machinery.py" in line for line in running["stack"])
    assert status["started"] == 1
    leave.set()
    assert told.one().value is True
    assert bench.engine.wait(10)
    assert bench.engine.status()["settled"] == {"scored": 1}


@pytest.mark.slow
def test_leaving_settles_local_scores_and_leaves_importable_ones(
    bench: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "SAY_AFTER", 0.1)
    leave, entered = threading.Event(), threading.Event()

    def hang(output: str) -> bool:
        entered.set()
        return leave.wait(30)

    hangs = local(hang, name="hangs")
    importable = metric(length, name="importable", requires=["something"])
    monkeypatch.setitem(importable.__dict__, "_import_path", "module:length")
    configure(scoring_concurrency=1)
    first, second, third = bench.record(), bench.record(), bench.record()
    bench.engine.submit(first, [hangs])
    assert entered.wait(10)
    bench.engine.submit(second, [importable, local(length, name="queued")])
    began = time.monotonic()
    draining.leave([bench.engine], began + 0.5)
    assert 0.5 <= time.monotonic() - began < 0.5 * 3 + 1
    score = first.handle.one()
    assert (score.status, score.reason, score.attempt) == ("cancelled", "process exited", 1)
    assert second.handle.one().status == "cancelled"
    [left] = [score for score in second.handle.all if score.name == "importable"]
    assert (left.status, left.reason) == ("pending", "process exited before it ran; it needs something")
    assert capfd.readouterr().err.startswith("tracekeeper: waiting up to 0.5 s for 3 scores (")
    bench.engine.submit(third, [local(length, name="late")])  # a stream that the exit itself closed
    assert third.handle.one().reason == "process exited"
    leave.set()
    draining.begin_anew([bench.engine])
    assert bench.judge(metric(length)).one().value == 4
    assert [str(score.status) for score in first.handle.all if score.final] == ["cancelled"]


def test_leaving_waits_for_what_is_about_to_finish(bench: Any) -> None:
    leave = threading.Event()
    told = [bench.judge(metric(lambda output: leave.wait(30), name="m")) for _ in range(3)]
    threading.Timer(0.2, leave.set).start()
    draining.leave([bench.engine], time.monotonic() + 20)
    assert all(one.all[-1].value is True for one in told)


def test_the_data_of_a_record_come_as_they_were_captured(bench: Any) -> None:
    def looks(record: Any) -> str:
        parts = (record.app, record.version, record.output, record.context, record.expected, len(record.spans))
        return repr((*parts, record.latency, record.status, dict(record.metadata), sorted(record.missing)))

    told = bench.judge(
        metric(looks), output={"a": 1}, context=["rain"], expected=b'"dry"', metadata=b'{"k": 1}', usage=None
    )
    assert told.one().value == "('demo', '1', {'a': 1}, ['rain'], 'dry', 1, 0.005, 'ok', {'k': 1}, [])"
    assert bench.judge(metric(looks), output=None).one().value.startswith("('demo', '1', None, None, None")
