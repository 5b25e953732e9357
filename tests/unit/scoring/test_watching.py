"""Who watches is told of every final score, and cannot break or hold up the engine."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support import programs

import tracekeeper as tk
from tracekeeper.scoring import watching
from tracekeeper.tracing.keeper import Keeper

Told = queue.SimpleQueue[tuple[Any, tk.Score]]


@pytest.fixture(autouse=True)
def _nobody_listens_afterwards(keeper: Keeper) -> Iterator[None]:
    yield
    for one in watching._subscriptions:
        one.cancel()


def short(output: str) -> bool:
    return len(output) < 40


def fails(output: str) -> float:
    raise ValueError("no model")


async def hangs(output: str) -> float:
    await asyncio.Event().wait()
    return 1.0


@pytest.fixture
def ask() -> Any:
    slow = tk.metric(hangs, timeout=0.2)
    inline = tk.metric(lambda output: 1, name="inline", mode="inline")

    @tk.app(name="rag", metrics=[short, fails, slow, inline])
    def ask(question: str) -> str:
        return "mild"

    return ask


def take(told: Told, count: int) -> dict[str, tuple[Any, tk.Score]]:
    found = {}
    for _ in range(count):
        record, score = told.get(timeout=20)
        assert score.name not in found, f"{score.name} was told twice"
        found[score.name] = (record, score)
    return found


def test_every_final_score_is_told_with_its_record(ask: Any) -> None:
    told: Told = queue.SimpleQueue()
    subscription = tk.on_score(lambda record, score: told.put((record, score)))
    with tk.recording() as recording:
        ask("?")
    found = take(told, 4)
    assert {name: str(score.status) for name, (_, score) in found.items()} == {
        "short": "scored",
        "fails": "failed",
        "hangs": "timed_out",
        "inline": "scored",
    }
    assert all(record is recording.get() for record, _ in found.values())
    subscription.cancel()
    ask("?")
    ask.app.wait_for_scores(timeout=20)
    assert told.empty()


def test_names_and_statuses_choose(ask: Any) -> None:
    named: Told = queue.SimpleQueue()
    errors: Told = queue.SimpleQueue()
    with (
        tk.on_score(lambda record, score: named.put((record, score)), names=["short"]),
        tk.on_score(lambda record, score: errors.put((record, score)), statuses=["failed", tk.ScoreStatus.TIMED_OUT]),
    ):
        ask("?")
        assert set(take(named, 1)) == {"short"}
        assert set(take(errors, 2)) == {"fails", "hangs"}
    assert named.empty()


def test_it_decorates_sync_and_async_functions(ask: Any) -> None:
    told: Told = queue.SimpleQueue()

    @tk.on_score
    def watch(record: Any, score: tk.Score) -> str:
        told.put(("sync", score))
        return "called"

    @tk.on_score(names=["short"])
    async def later(record: Any, score: tk.Score) -> None:
        await asyncio.sleep(0)
        told.put(("async", score))

    assert watch("record", tk.Score(1.0, name="by hand")) == "called"
    assert told.get(timeout=5)[1].name == "by hand"
    ask("?")
    seen = [told.get(timeout=20) for _ in range(5)]
    assert sorted((kind, score.name) for kind, score in seen) == [
        ("async", "short"),
        ("sync", "fails"),
        ("sync", "hangs"),
        ("sync", "inline"),
        ("sync", "short"),
    ]
    assert isinstance(later, watching.Subscription)


def test_scores_of_stored_records_are_told_with_a_record_that_reads_itself(keeper: Keeper) -> None:
    tk.log_record(input="weather?", output="mild", app="rag")
    tk.flush(timeout=10)
    told: Told = queue.SimpleQueue()
    with tk.on_score(lambda record, score: told.put((record, score))):
        tk.rescore(metrics=[short])
        record, score = told.get(timeout=20)
    tk.flush(timeout=10)
    assert (score.value, record.output, record.app, record.scores["short"].value) == (True, "mild", "rag", True)


def test_what_a_callback_raises_is_logged_and_counted(ask: Any, caplog: pytest.LogCaptureFixture) -> None:
    told: Told = queue.SimpleQueue()

    def breaks(record: Any, score: tk.Score) -> None:
        raise SystemExit("no")

    broken = tk.on_score(breaks)
    tk.on_score(lambda record, score: told.put((record, score)))
    with caplog.at_level(logging.ERROR, "tracekeeper"):
        ask("?")
        take(told, 4)
        wait_until_idle(broken)
    assert (broken.failed, broken.delivered) == (4, 0)
    assert "raised; scoring goes on" in caplog.text
    assert watching.status()["failed"] >= 4


def wait_until_idle(subscription: watching.Subscription) -> None:
    while subscription.waiting:
        watching._callbacks().drain(20)


def test_a_callback_that_does_not_come_back_holds_up_nobody(
    ask: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watching, "PATIENCE", 0.2)
    release = threading.Event()
    seen: Told = queue.SimpleQueue()
    told: Told = queue.SimpleQueue()

    def hangs_once(record: Any, score: tk.Score) -> None:
        seen.put((record, score))
        if seen.qsize() == 1:
            release.wait()

    stuck = tk.on_score(hangs_once)
    tk.on_score(lambda record, score: told.put((record, score)))
    ask("?")
    take(told, 4)
    wait_until_idle(stuck)
    assert (stuck.timed_out, stuck.delivered) == (1, 3)
    release.set()


def test_what_does_not_fit_is_counted_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watching, "LIMIT", 3)
    begun, release = threading.Event(), threading.Event()

    def slow(record: Any, score: tk.Score) -> None:
        begun.set()
        assert release.wait(20)

    subscription = tk.on_score(slow)

    @tk.app(name="rag", metrics=[short])
    def ask(question: str) -> str:
        return "mild"

    ask("0")
    assert begun.wait(20)
    with caplog.at_level(logging.WARNING, "tracekeeper"):
        for _ in range(8):
            ask("?")
        results = ask.app.wait_for_scores(timeout=20)
        assert tk.flush(timeout=20).complete
    assert all(scores["short"].value is True for _, scores in results)
    assert subscription.dropped + subscription.waiting == 9
    assert subscription.dropped >= 5
    assert caplog.text.count("does not keep up") == 1
    release.set()
    wait_until_idle(subscription)
    assert subscription.delivered == 9 - subscription.dropped


def test_scores_are_told_in_the_order_in_which_they_settle() -> None:
    told: Told = queue.SimpleQueue()
    with tk.on_score(lambda record, score: told.put((record, score))):
        for number in range(200):
            record = tk.log_record(output=str(number), metrics=[short], app="rag")
            record.wait_for_scores(timeout=20)
        seen = [told.get(timeout=20)[0].output for _ in range(200)]
    assert seen == [str(number) for number in range(200)]


def test_on_error_is_told_of_failures_only_and_an_apps_own_of_that_app(ask: Any) -> None:
    everywhere: Told = queue.SimpleQueue()
    mine: Told = queue.SimpleQueue()
    tk.on_error(lambda record, score: everywhere.put((record, score)))

    @tk.app(name="mine", metrics=[short, fails], on_error=lambda record, score: mine.put((record, score)))
    def own(question: str) -> str:
        return "mild"

    ask("?")
    assert set(take(everywhere, 2)) == {"fails", "hangs"}
    own("?")
    assert set(take(everywhere, 1)) == {"fails"}
    record, score = mine.get(timeout=20)
    assert (record.app, score.name, score.error) == ("mine", "fails", "ValueError: no model")
    assert mine.empty()

    @tk.on_error(names=["other"])
    def other(record: Any, score: tk.Score) -> None: ...

    assert other.statuses == {"failed", "timed_out"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"names": "short"}, "names='short': expected a list of names"),
        ({"statuses": "failed"}, "statuses='failed': expected a list of statuses"),
        ({"statuses": ["fialed"]}, "'fialed' is no final status; did you mean 'failed'?"),
        ({"statuses": ["running"]}, "'running' is no final status"),
    ],
)
def test_bad_input_is_said_at_once(arguments: Any, said: str) -> None:
    with pytest.raises(tk.ConfigurationError) as caught:
        tk.on_score(print, **arguments)
    assert said in str(caught.value)


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(tk.ConfigurationError, match="expected a function that takes a record and a score"):
        tk.on_score("print")  # type: ignore[call-overload]
    with pytest.raises(tk.ConfigurationError, match="expected a function"):
        tk.App(lambda question: "mild", on_error=3)  # type: ignore[arg-type]


def test_of_a_score_on_a_span_or_a_session_its_key_is_told(keeper: Keeper) -> None:
    told: Told = queue.SimpleQueue()
    span = SimpleNamespace(target="span", trace_id=b"\1" * 16, span_id=b"\2" * 8, session_id="")
    session = SimpleNamespace(target="session", trace_id=b"", span_id=b"", session_id="s-1")
    with tk.on_score(lambda target, score: told.put((target, score))):
        for source in (span, session):
            watching.settled(keeper, SimpleNamespace(source=source, handle=None), tk.Score(1.0, name="m"))  # type: ignore[arg-type]
        assert told.get(timeout=20)[0] == ("span", "01" * 16, "02" * 8, "")
        assert told.get(timeout=20)[0] == ("session", "", "", "s-1")


def test_a_mistake_in_the_telling_breaks_nothing(
    ask: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(job: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(watching, "_target", broken)
    tk.on_score(lambda record, score: None)
    ask("?")
    assert all(score.final for _, scores in ask.app.wait_for_scores(timeout=20) for score in scores.values())
    assert "whoever watches could not be told" in caplog.text


def test_nobody_listening_costs_the_engine_nothing() -> None:
    class Untouchable:
        handle = None

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} was looked at")

    watching.settled(Untouchable(), Untouchable(), tk.Score(1.0))  # type: ignore[arg-type]


@pytest.mark.slow
def test_at_exit_what_waits_is_delivered_and_a_hanging_callback_does_not_hold_the_process(tmp_path: Path) -> None:
    program = """
        import threading
        import tracekeeper as tk
        tk.configure(exit_timeout=2)
        def short(output): return True
        @tk.on_score
        def told(record, score): print("told", record.output, flush=True)
        @tk.on_score
        def hangs(record, score): threading.Event().wait()
        @tk.app(name="a", metrics=[short])
        def ask(q): return q
        for q in "abc": ask(q)
    """
    shown = programs.run(program, tmp_path, timeout=60)
    assert shown.code == 0
    assert shown.out.split("\n")[:3] == ["told a", "told b", "told c"]
    assert shown.seconds < 2 * 3 + 5
    assert "3 scores were not delivered to callbacks before the process exited" in shown.err


@pytest.mark.slow
def test_a_forked_child_tells_of_its_own_scores_only(tmp_path: Path) -> None:
    program = """
        import os, queue, threading
        import tracekeeper as tk
        told = queue.SimpleQueue()
        tk.on_score(lambda record, score: told.put(record.output))
        def short(output): return True
        @tk.app(name="a", metrics=[short])
        def ask(q): return q
        ask("parent")
        assert told.get(timeout=20) == "parent"
        child = os.fork()
        ask("child" if child == 0 else "parent again")
        print(told.get(timeout=20), told.empty(), flush=True)
        if child: os.waitpid(child, 0)
    """
    shown = programs.run(program, tmp_path, timeout=60)
    assert sorted(shown.out.split("\n")) == ["", "child True", "parent again True"], shown.err
