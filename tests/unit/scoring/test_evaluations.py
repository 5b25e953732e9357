"""An evaluation is a trace: the judge's prompt and answer are there, what it cost is known, and it is no record."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import opentelemetry.trace
import pytest
from tests.support import garbage

import tracekeeper as tk
from tracekeeper.cli.program import main
from tracekeeper.journal.frames import SpanEnd, SpanStart
from tracekeeper.tracing import capture
from tracekeeper.tracing import context as tracing_context
from tracekeeper.types import ScoreStatus


@tk.trace(kind="llm")
def judge(prompt: str) -> str:
    tk.current_span().set(usage={"input_tokens": 5, "output_tokens": 2, "cost": 0.25}, model="judge-1")
    return "yes"


@tk.trace(kind="llm")
async def ajudge(prompt: str) -> str:
    await asyncio.sleep(0)
    return "yes"


def judged(output: str) -> tuple[bool, str]:
    return judge(f"is {output} good?") == "yes", "the judge said so"


async def ajudged(output: str) -> bool:
    return await ajudge(f"is {output} good?") == "yes"


def returns_awaitable(output: str) -> Any:
    return ajudged(output)


def trivial(output: str) -> float:
    return 1.0


def record_of(metric: Any, question: str = "why?", answer: Any = "mild") -> tk.Record:
    @tk.app(name="asked", version="1", metrics=[metric])
    def ask(question: str) -> Any:
        return answer

    with tk.recording() as recording:
        ask(question)
    record = recording.get()
    record.wait_for_scores(timeout=20)
    return record


def only(record: tk.Record) -> tk.Score:
    [score] = record.scores.values()
    return score


class Seen(SimpleNamespace):
    """A stored span with its texts."""


def spans(keeper: Any, trace_id: str | None) -> list[Any]:
    assert trace_id is not None
    assert keeper.ship(30) is None
    rows = keeper.store().spans_of(trace_id)
    payloads = keeper.store().payloads([row.id for row in rows])
    return [Seen(**row._asdict(), payload=payloads.get(row.id)) for row in rows]


def evaluators(keeper: Any) -> int:
    assert keeper.ship(30) is None
    with keeper.store().read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM span WHERE kind = 'evaluator'").scalar_one())


@pytest.fixture
def forever() -> Iterator[threading.Event]:
    release = threading.Event()
    yield release
    release.set()


@pytest.mark.parametrize("metric", [judged, ajudged, returns_awaitable], ids=lambda metric: metric.__name__)
@pytest.mark.parametrize("mode", ["background", "inline"])
def test_the_judges_prompt_and_answer_are_below_the_evaluators_span(
    keeper: Any, metric: Callable[..., Any], mode: Any
) -> None:
    record = record_of(tk.metric(metric, mode=mode))
    score = only(record)
    assert score.value is True, score
    evaluator, asked = spans(keeper, score.evaluation)
    assert (evaluator.kind, evaluator.status, evaluator.parent_id) == ("evaluator", "ok", None)
    assert (asked.kind, asked.parent_id) == ("llm", evaluator.span_id)
    assert capture.decode(evaluator.payload.input) == {"output": "mild"}
    assert capture.decode(evaluator.payload.output)["value"] is True
    assert capture.decode(asked.payload.input) == {"prompt": "is mild good?"}
    assert capture.decode(asked.payload.output) == "yes"
    [link] = capture.decode(evaluator.payload.links)
    assert (link["trace_id"], link["span_id"]) == (record.trace_id, record.span_id)
    attributes = capture.decode(evaluator.payload.attributes)
    said = (attributes["score.name"], attributes["score.metric_version"], attributes["score.attempt"])
    assert said == (score.name, score.metric_version, 1)


def test_an_evaluation_is_no_record_and_is_in_no_list_or_sum_of_records(keeper: Any) -> None:
    record = record_of(judged)
    evaluation = spans(keeper, only(record).evaluation)
    assert {span.record_span_id for span in evaluation} == {""}
    [seen] = tk.records(limit=None)
    assert seen == record
    [row] = tk.leaderboard()
    assert row.records == 1
    [stored] = keeper.store().records(None)
    assert stored.cost is None, "what judging cost is the score's, not the call's"
    assert only(record).cost == 0.25


def test_a_trivial_metric_leaves_no_trace_unless_it_is_asked_for_or_asks_a_model(keeper: Any) -> None:
    assert only(record_of(trivial)).evaluation is None
    assert evaluators(keeper) == 0
    for metric in (tk.metric(trivial, traced=True), tk.metric(trivial, source="llm")):
        [evaluator] = spans(keeper, only(record_of(metric)).evaluation)
        assert capture.decode(evaluator.payload.input) == {"output": "mild"}
        assert capture.decode(evaluator.payload.output) == {"value": 1.0, "reason": None}


def test_what_a_metric_says_of_its_own_span_is_kept(keeper: Any) -> None:
    def speaks(output: str) -> float:
        tk.current_span().set(temperature=0.5, usage={"input_tokens": 3, "cost": 1.5})
        return 1.0

    score = only(record_of(speaks))
    [evaluator] = spans(keeper, score.evaluation)
    assert capture.decode(evaluator.payload.attributes)["temperature"] == 0.5
    assert (score.cost, evaluator.input_tokens) == (1.5, 3)


def test_a_span_of_another_opentelemetry_library_belongs_to_the_evaluation(keeper: Any) -> None:
    def foreign(output: str) -> float:
        around = opentelemetry.trace.get_current_span().get_span_context()
        assert around.is_valid
        other = opentelemetry.trace.NonRecordingSpan(
            opentelemetry.trace.SpanContext(around.trace_id, 77, is_remote=False)
        )
        with opentelemetry.trace.use_span(other):
            judge("below a foreign span")
        return 1.0

    evaluator, asked = spans(keeper, only(record_of(foreign)).evaluation)
    assert evaluator.kind == "evaluator"
    assert (asked.record_span_id, asked.parent_id) == ("", f"{77:016x}")
    assert len(tk.records(limit=None)) == 1


def test_a_score_costs_what_its_metric_says_else_what_its_spans_reported(keeper: Any) -> None:
    def twice(output: str) -> float:
        judge("one")
        judge("two")
        return 1.0

    def says(output: str) -> tk.Score:
        judge("one")
        return tk.Score(1.0, cost=9.0)

    def several(output: str) -> dict[str, float]:
        judge("one")
        return {"a": 1.0, "b": 0.0}

    assert only(record_of(twice)).cost == 0.5
    assert only(record_of(says)).cost == 9.0
    assert only(record_of(trivial)).cost is None
    scores = record_of(tk.metric(several, names=["a", "b"])).scores
    assert sum(score.cost or 0 for score in scores.values()) == 0.25, "it adds up to what was spent"
    [evaluator, _] = spans(keeper, scores["several.a"].evaluation)
    assert capture.decode(evaluator.payload.attributes)["evaluation.input_tokens"] == 5
    assert set(capture.decode(evaluator.payload.output)) == {"several.a", "several.b"}


def test_an_attempt_that_failed_leaves_its_trace_with_the_error_and_each_retry_its_own(keeper: Any) -> None:
    tries: list[None] = []

    def fails_once(output: str) -> float:
        tries.append(None)
        judge("is it?")
        if len(tries) == 1:
            raise ValueError("no opinion")
        return 1.0

    record = record_of(tk.metric(fails_once, retries=1))
    first, second = record.history("fails_once")
    assert (first.status, second.status) == (ScoreStatus.FAILED, ScoreStatus.SCORED)
    assert first.evaluation != second.evaluation == record.scores["fails_once"].evaluation
    evaluator, _ = spans(keeper, first.evaluation)
    assert (evaluator.status, evaluator.error_type) == ("error", "ValueError")
    assert evaluator.payload.error_message == "no opinion"
    assert "fails_once" in evaluator.payload.error_traceback
    assert capture.decode(spans(keeper, second.evaluation)[0].payload.attributes)["score.attempt"] == 2
    assert (first.cost, second.cost) == (0.25, 0.25)


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_an_attempt_that_timed_out_ends_its_span_once_and_what_is_traced_later_does_no_harm(
    keeper: Any, forever: threading.Event, kind: str
) -> None:
    late: list[Any] = []
    done = threading.Event()

    def hangs(output: str) -> float:
        judge("in time")
        forever.wait(30)
        judge("too late")
        late.append(tk.current_span())
        done.set()
        return 1.0

    async def awaits(output: str) -> float:
        judge("in time")
        try:
            await asyncio.sleep(30)
        finally:
            judge("too late")
            done.set()
        return 1.0

    score = only(record_of(tk.metric(hangs if kind == "thread" else awaits, timeout=0.3)))
    assert score.status is ScoreStatus.TIMED_OUT
    # What a cancelled coroutine still spends on its way out may be in time to be counted.
    assert score.cost == 0.25 or (kind == "loop" and score.cost == 0.5)
    forever.set()
    assert done.wait(20)
    evaluator, *below = spans(keeper, score.evaluation)
    assert (evaluator.kind, evaluator.status) == ("evaluator", "error")
    assert evaluator.payload.error_message == score.reason
    assert [span.parent_id for span in below] == [evaluator.span_id] * len(below)
    assert evaluators(keeper) == 1
    assert len(tk.records(limit=None)) == 1
    assert keeper.store().counts().running == 0


def test_what_is_first_traced_after_the_deadline_finds_a_span_that_has_ended(
    keeper: Any, forever: threading.Event
) -> None:
    done = threading.Event()

    def hangs(output: str) -> float:
        forever.wait(30)
        judge("too late")
        done.set()
        return 1.0

    score = only(record_of(tk.metric(hangs, timeout=0.2)))
    assert (score.status, score.evaluation) == (ScoreStatus.TIMED_OUT, None)
    forever.set()
    assert done.wait(20)
    assert keeper.ship(30) is None
    assert evaluators(keeper) == 1
    assert keeper.store().counts().running == 0
    assert len(tk.records(limit=None)) == 1


def test_several_threads_that_trace_at_once_share_one_evaluators_span(keeper: Any) -> None:
    def fans_out(output: str) -> float:
        gate = threading.Barrier(8)

        def ask(context: contextvars.Context) -> None:
            gate.wait(10)
            context.run(judge, "at once")

        threads = [threading.Thread(target=ask, args=(contextvars.copy_context(),)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return 1.0

    score = only(record_of(fans_out))
    found = spans(keeper, score.evaluation)
    assert sorted(span.kind for span in found) == ["evaluator", *["llm"] * 8]
    assert evaluators(keeper) == 1
    assert score.cost == 2.0


@pytest.mark.slow
def test_a_context_that_outlives_the_evaluation_keeps_nothing_of_what_was_judged(bench: Any) -> None:
    contexts: list[contextvars.Context] = []

    def keeps_its_context(output: str) -> float:
        contexts.append(contextvars.copy_context())
        return 1.0

    def traces_too(output: str) -> float:
        judge("is it?")
        contexts.append(contextvars.copy_context())
        return 1.0

    garbage.collect()
    gc.disable()
    try:
        state = bench.record()
        gone = weakref.ref(state)
        handle = state.handle
        bench.engine.submit(state, [tk.metric(keeps_its_context), tk.metric(traces_too)])
        assert len(handle.final(2)) == 2
        assert bench.engine.wait(20)
        state.handle = None
        del state
        deadline = time.monotonic() + 20
        while gone() is not None and time.monotonic() < deadline:
            time.sleep(0.01)  # the thread that made the attempt is about to let go of it
        assert gone() is None, gc.get_referrers(gone())
    finally:
        gc.enable()
    for context in contexts:
        context.run(judge, "too late")
    assert all(span.over for span in (context.run(around) for context in contexts))


def around() -> Any:
    return tracing_context.VAR.get().get(tracing_context.OWN_KEY)


def test_an_app_inside_a_metric_is_a_plain_span_and_its_metrics_do_not_run(keeper: Any) -> None:
    runs: list[str] = []

    def asks_the_app(output: str) -> float:
        runs.append(output)
        assert ask("and this?") == "mild"  # its metric is this very one: without a rule it would have no end
        return 1.0

    @tk.app(name="asked", version="1", metrics=[asks_the_app])
    def ask(question: str) -> str:
        return "mild"

    ask("why?")
    [(record, scores)] = ask.app.wait_for_scores(timeout=20)
    assert scores["asks_the_app"].value == 1.0
    assert runs == ["mild"]
    assert [span.name for span in spans(keeper, scores["asks_the_app"].evaluation)] == ["asks_the_app", "asked"]
    assert list(tk.records(limit=None)) == [record]


def test_a_record_that_a_metric_logs_is_kept_and_not_judged(keeper: Any) -> None:
    def logs(output: str) -> float:
        tk.log_record(input="again", output="mild", app=ask)
        return 1.0

    @tk.app(name="asked", version="1", metrics=[logs])
    def ask(question: str) -> str:
        return "mild"

    ask("why?")
    ask.app.wait_for_scores(timeout=20)
    logged, first = tk.records(limit=None)
    assert first.scores["logs"].value == 1.0
    assert logged.scores["logs"].status is ScoreStatus.SKIPPED
    assert logged.scores["logs"].reason == "it was logged inside an evaluation"


def test_nothing_is_written_where_tracing_is_off_inside(keeper: Any) -> None:
    def turns_it_off(output: str) -> float:
        with tk.context(enabled=False):
            judge("unseen")
        return 1.0

    assert only(record_of(turns_it_off)).evaluation is None
    assert evaluators(keeper) == 0


def test_masks_and_limits_hold_for_the_arguments_of_a_metric_that_gets_live_objects(keeper: Any) -> None:
    tk.configure(mask_keys=("password",), capture_limit=1_000)
    seen: list[Any] = []

    def looks(password: str, output: str) -> float:
        seen.append((password, len(output)))
        return 1.0

    metric = tk.metric(looks, mode="inline", needs_live=True, traced=True, accept_cut=True)

    @tk.app(name="asked", version="1", metrics=[metric], mask=lambda value: value)
    def ask(password: str) -> str:
        return "x" * 5_000

    with tk.recording() as recording:
        ask("secret")
    assert seen == [("secret", 5_000)]
    [evaluator] = spans(keeper, recording.get().scores["looks"].evaluation)
    assert "secret" not in evaluator.payload.input
    assert len(evaluator.payload.input) < 2_000


def test_an_apps_own_mask_holds_for_the_arguments_of_its_inline_metrics(keeper: Any) -> None:
    def looks(question: str) -> float:
        return float(question == "secret")

    metric = tk.metric(looks, mode="inline", needs_live=True, traced=True)

    @tk.app(name="asked", version="1", metrics=[metric], mask=lambda value: "hidden")
    def ask(question: str) -> str:
        return "mild"

    with tk.recording() as recording:
        ask("secret")
    score = recording.get().scores["looks"]
    assert score.value == 1.0
    [evaluator] = spans(keeper, score.evaluation)
    assert "secret" not in (evaluator.payload.input or "")


def test_show_names_evaluations_and_shows_what_was_asked_and_all_attempts(
    keeper: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    record = record_of(judged)
    evaluation = only(record).evaluation
    assert keeper.ship(30) is None
    tk.rescore(metrics=[judged], again=True)
    assert main(["show", record.trace_id]) == 0
    shown = capsys.readouterr().out
    again = tk.records()[0].scores["judged"].evaluation
    assert evaluation is not None
    assert again is not None
    assert again != evaluation
    assert evaluation in shown, "of the attempt before"
    assert f"evaluation of judged  {again}" in shown
    assert "attempts, oldest first" in shown
    assert main(["show", evaluation]) == 0
    shown = capsys.readouterr().out
    assert "is mild good?" in shown
    assert "yes" in shown
    assert f"{record.trace_id}:{record.span_id}" in shown
    rows = tk.records_and_scores().to_dicts()
    assert rows[0]["judged.evaluation"] == again


@pytest.mark.slow
def test_an_attempt_that_was_begun_again_elsewhere_leaves_a_trace_of_its_own(keeper: Any) -> None:
    begun, blocked, release = threading.Event(), threading.Event(), threading.Event()

    async def neighbour(output: str) -> float:
        first = not begun.is_set()
        judge("first" if first else "second")
        begun.set()
        if first:
            await asyncio.Event().wait()
        return 1.0

    async def the_blocker(output: str) -> float:
        blocked.set()
        release.wait(20)
        return 1.0

    @tk.app(name="asked", version="1", metrics=[tk.metric(neighbour, timeout=20)])
    def ask(question: str) -> str:
        return "mild"

    @tk.app(name="other", version="1", metrics=[tk.metric(the_blocker, timeout=10)])
    def other(question: str) -> str:
        return "mild"

    ask("why?")
    assert begun.wait(20)
    other("why?")
    assert blocked.wait(20)
    [(record, _)] = ask.app.wait_for_scores(timeout=20)
    release.set()
    first, second = record.history("neighbour")
    assert (first.status, second.status) == (ScoreStatus.CANCELLED, ScoreStatus.SCORED)
    for score, asked, status in ((first, "first", "cancelled"), (second, "second", "ok")):
        evaluator, below = spans(keeper, score.evaluation)
        assert evaluator.status == status
        assert capture.decode(below.payload.input) == {"prompt": asked}
        assert capture.decode(evaluator.payload.attributes)["score.attempt"] == score.attempt


def test_the_span_is_on_disk_while_the_evaluation_goes_on_and_its_end_before_the_score(bench: Any) -> None:
    seen: list[list[Any]] = []

    def looks(output: str) -> float:
        judge("is it?")
        seen.append(list(bench.keeper.frames))
        return 1.0

    score = bench.judge(tk.metric(looks)).one()
    [before] = seen
    assert [frame.kind for frame in before if isinstance(frame, SpanStart)] == ["evaluator", "llm"]
    after = bench.keeper.frames
    [end] = [
        place for place, frame in enumerate(after) if isinstance(frame, SpanEnd) and frame.span_id == before[0].span_id
    ]
    [said] = [place for place, frame in enumerate(after) if getattr(frame, "status", "") == "scored"]
    assert end < said
    assert score.evaluation == before[0].trace_id.hex()


def test_a_metric_that_ends_the_current_span_ends_only_what_it_began(keeper: Any) -> None:
    def ends_it(output: str) -> float:
        opentelemetry.trace.get_current_span().end()
        judge("afterwards")
        return 1.0

    evaluator, asked = spans(keeper, only(record_of(ends_it)).evaluation)
    assert (evaluator.status, asked.parent_id) == ("ok", evaluator.span_id)
    assert capture.decode(evaluator.payload.output) == {"value": 1.0, "reason": None}
