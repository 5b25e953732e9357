"""G4 where threads cannot keep it: what a metric does in a process of its own reaches nobody else."""

from __future__ import annotations

import itertools
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.failures.test_trulens import tk_in
from tests.support import hazards, programs

import tracekeeper as tk
from tracekeeper.scoring import draining, isolated
from tracekeeper.scoring.engine import engine_for
from tracekeeper.scoring.jobs import Job, Source
from tracekeeper.scoring.runners import isolated_runner
from tracekeeper.tracing import runtime

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and process groups")

SLACK = 3.0


@pytest.fixture(autouse=True)
def _no_process_left() -> Iterator[None]:
    with hazards.no_process_left():
        yield
        isolated.pool().close(5)
        assert isolated_runner().drain(10)
        until = time.monotonic() + 10
        while isolated_runner().abandoned() != (0, 0):  # the thread of a call that was cancelled comes back at once
            assert time.monotonic() < until
            time.sleep(0.01)


def apart(function: Any, **options: Any) -> tk.Metric:
    return tk.metric(function, isolation="process", **options)


def scores_of(*metrics: tk.Metric, output: Any = "mild", timeout: float = 60) -> dict[str, tk.Score]:
    @tk.app(name="a", version="1", metrics=metrics)
    def ask(q: str) -> Any:
        return output

    with tk.recording() as recording:
        ask("weather?")
    return recording.get().wait_for_scores(timeout=timeout)  # type: ignore[no-any-return]


def test_scores_are_what_they_are_in_threads(keeper: Any) -> None:
    def all_of(**options: Any) -> dict[str, Any]:
        made = [
            tk.metric(function, **options)
            for function in (hazards.length, hazards.length_async, hazards.fail, hazards.ask_to_leave)
        ]
        made += [
            tk.metric(hazards.several, names=["a", "b", "c"], **options),
            tk.metric(hazards.give_a_lock, **options),
            tk.metric(hazards.cancels_itself, **options),
            tk.metric(hazards.allocate, **options),  # `size` is nowhere in the record
            tk.metric(hazards.Needs(0.5), **options),
        ]
        return {
            name: (score.status, score.value, score.reason, score.error, score.attempt)
            for name, score in scores_of(*made).items()
        }

    in_threads, in_processes = all_of(), all_of(isolation="process")
    assert in_threads == in_processes
    assert in_processes["length"][:2] == ("scored", 4.0)
    assert in_processes["length_async"][:3] == ("scored", 4.0, "1 spans of a")
    assert in_processes["fail"][:3] == ("failed", None, "the metric raised ValueError: on purpose")
    assert in_processes["several.c"][0] == "skipped"
    assert in_processes["cancels_itself"][0] == "cancelled"
    assert in_processes["allocate"][0] == "skipped"


def test_async_metrics_share_a_loop_in_their_process(keeper: Any) -> None:
    tk.configure(isolated_concurrency=1)
    scores = scores_of(*(apart(hazards.same_loop, name=f"loop_{number}") for number in range(3)))
    assert [score.value for score in scores.values()] == [1.0, 1.0, 1.0]


def test_it_runs_in_the_main_thread_of_another_process(keeper: Any) -> None:
    score = scores_of(apart(hazards.where))["where"]
    assert (score.value != os.getpid(), score.reason) == (True, "True")


def test_a_metric_that_holds_the_interpreter_lock_times_out_and_nobody_else_notices(keeper: Any) -> None:
    ticks, stop = [], threading.Event()

    def tick() -> None:
        while not stop.wait(0.02):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.monotonic()
    scores = scores_of(
        apart(hazards.hold_the_interpreter, timeout=1.0),
        apart(hazards.hold_the_interpreter, name="again", timeout=1.0, retries=1),
        tk.metric(hazards.length, timeout=5),
        tk.metric(hazards.length_async, timeout=5),
        apart(hazards.where, timeout=5),
    )
    seconds = time.monotonic() - began
    stop.set()
    thread.join()
    stuck, again = scores["hold_the_interpreter"], scores["again"]
    assert stuck.status == again.status == "timed_out"
    assert stuck.reason is not None
    assert stuck.reason.startswith("timed out after 1 s in hold_the_interpreter (hazards.py:")
    assert stuck.traceback is not None
    assert "re/__init__.py" in stuck.traceback
    assert "tracekeeper" not in stuck.traceback
    assert again.attempt == 2
    assert seconds < 2 * 1.0 + 0.25 + SLACK
    for name in ("length", "length_async", "where"):
        score = scores[name]
        assert score.status == "scored"
        assert score.settled_at is not None
        assert stuck.settled_at is not None
        assert score.settled_at <= stuck.settled_at  # they did not wait for it
    gaps = [later - earlier for earlier, later in itertools.pairwise(ticks)]
    assert max(gaps) < 0.8  # the program went on all the time


@pytest.mark.parametrize(
    ("hazard", "reason"),
    [
        (hazards.segfault, "its process was killed by SIGSEGV in segfault (hazards.py:"),
        (hazards.leave, "its process exited with code 3"),
        (hazards.close_everything, "its process exited with code 0"),
        (hazards.close_everything_and_stay, "its process closed its connection and went on"),
    ],
)
def test_a_crash_fails_its_score_and_names_how(keeper: Any, hazard: Any, reason: str) -> None:
    scores = scores_of(apart(hazard), apart(hazards.where))
    assert scores["where"].status == "scored"
    [crashed] = [score for name, score in scores.items() if name != "where"]
    assert crashed.status == "failed"
    assert crashed.reason is not None
    assert crashed.reason.startswith(reason)


def test_a_score_whose_worker_was_lost_runs_apart_and_is_named_with_its_signal(keeper: Any) -> None:
    record = _stored(keeper)
    told: queue.SimpleQueue[tk.Score] = queue.SimpleQueue()
    handle = SimpleNamespace(settle=told.put)
    jobs = [
        Job(Source(keeper, record.trace, record.span), tk.metric(function), handle, isolated=True)
        for function in (hazards.segfault, hazards.where, lambda output: 1.0)
    ]
    engine_for(keeper).submit_jobs(jobs)
    found = {score.name: score for score in (told.get(timeout=30) for _ in jobs)}
    crashed, ran, local = found["segfault"], found["where"], found["lambda"]
    assert (crashed.status, ran.status, local.status) == ("failed", "scored", "failed")
    assert (crashed.reason or "").startswith("its process was killed by SIGSEGV in segfault (hazards.py:")
    assert (local.reason or "").startswith("it cannot be sent to a process of its own: ")


def _stored(keeper: Any) -> Any:
    @tk.app(name="stored", version="1")
    def ask(q: str) -> str:
        return "mild"

    with tk.recording() as recording:
        ask("weather?")
    record = recording.get()
    keeper.ship(timeout=20)
    return SimpleNamespace(trace=bytes.fromhex(record.trace_id), span=bytes.fromhex(record.span_id))


def test_a_crash_is_tried_again_when_the_metric_says_so(keeper: Any) -> None:
    score = scores_of(apart(hazards.leave, retries=2))["leave"]
    assert (score.status, score.attempt) == ("failed", 3)


@pytest.mark.parametrize("hazard", [hazards.ignore_signals, hazards.hang, hazards.hang_async])
def test_what_hangs_is_killed_at_its_deadline(keeper: Any, hazard: Any) -> None:
    [score] = scores_of(apart(hazard, timeout=0.5)).values()
    assert score.status == "timed_out"
    assert score.seconds is not None
    assert 0.4 < score.seconds < 0.5 + SLACK


@pytest.mark.skipif(sys.platform != "linux", reason="address space is counted on Linux only")
def test_a_memory_limit_is_named(keeper: Any) -> None:
    scores = scores_of(apart(hazards.allocate_much, memory_limit=64 << 20), apart(hazards.where, memory_limit=64 << 20))
    assert scores["where"].status == "scored"
    assert scores["allocate_much"].status == "failed"
    assert scores["allocate_much"].reason == "it needed more memory than its memory_limit of 64 MB"


def test_what_is_printed_and_forked_and_left_behind_does_no_harm(keeper: Any, capfd: Any) -> None:
    scores = scores_of(
        apart(hazards.print_garbage), apart(hazards.fork_and_return_twice), apart(hazards.block_all_signals)
    )
    assert {score.status for score in scores.values()} == {"scored"}
    assert "garbage" in capfd.readouterr().out


def test_a_module_that_does_not_import_there_fails_its_score(
    keeper: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "once_only.py").write_text(
        f"import os\nif os.getpid() != {os.getpid()}: raise RuntimeError('not twice')\ndef judge(output): return 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import once_only  # type: ignore[import-not-found]

    score = scores_of(apart(once_only.judge))["judge"]
    assert score.status == "failed"
    assert score.reason is not None
    assert score.reason.startswith("could not be loaded in its process: ")
    assert "not twice" in score.reason
    assert scores_of(apart(hazards.length))["length"].status == "scored"


def test_loading_a_slow_module_is_not_the_metrics_time(
    keeper: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loads_slowly.py").write_text(
        f"import os, time\nif os.getpid() != {os.getpid()}: time.sleep(1.0)\ndef judge(output): return 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import loads_slowly  # type: ignore[import-not-found]

    score = scores_of(apart(loads_slowly.judge, timeout=0.5))["judge"]
    assert score.status == "scored"
    assert score.seconds is not None
    assert score.seconds < 0.5


def test_many_at_once_settle_and_share_the_processes(keeper: Any) -> None:
    tk.configure(isolated_concurrency=3)
    metrics = [apart(hazards.length, name=f"length_{number}") for number in range(20)]
    scores = scores_of(*metrics, apart(hazards.leave), apart(hazards.hang, timeout=0.5), tk.metric(hazards.length))
    assert sum(score.status == "scored" for score in scores.values()) == 21
    assert len(isolated.pool().alive()) <= 3


def test_hanging_ones_hold_back_no_metric_in_a_thread(keeper: Any) -> None:
    tk.configure(isolated_concurrency=1, scoring_concurrency=2)
    hanging = [apart(hazards.hang, name=f"hang_{number}", timeout=5.0) for number in range(8)]

    @tk.app(name="slow", version="1", metrics=hanging)
    def slow(q: str) -> str:
        return "mild"

    for _ in range(3):
        slow("q")
    began = time.monotonic()
    assert scores_of(tk.metric(hazards.length))["length"].status == "scored"
    assert time.monotonic() - began < SLACK  # the hanging ones take 120 s in all
    for job in list(engine_for(keeper).open.values()):
        draining.leave_undone(engine_for(keeper), job)


def test_settings_reach_the_process_and_follow_changes(keeper: Any) -> None:
    tk.configure(project="apart", environment="test")
    expected = f"apart test {runtime.keeper().directory} True"
    assert scores_of(apart(hazards.settings_there))["settings_there"].reason == expected
    tk.configure(environment="other")
    assert scores_of(apart(hazards.settings_there))["settings_there"].reason == expected.replace(" test ", " other ")


def test_a_module_that_configures_itself_does_not_change_them(
    keeper: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configures.py").write_text(
        "import os, tracekeeper as tk\n"
        f"if os.getpid() != {os.getpid()}: tk.configure(project='elsewhere', directory='/nowhere')\n"
        "def judge(output): return True, tk.settings().project\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import configures  # type: ignore[import-not-found]

    tk.configure(project="apart", isolated_concurrency=1)
    assert scores_of(apart(hazards.length))["length"].status == "scored"
    assert scores_of(apart(configures.judge))["judge"].reason == "apart"


def test_a_mask_that_cannot_be_sent_means_that_nothing_is_captured_there(keeper: Any) -> None:
    tk.configure(mask=lambda value: "***")
    reason = scores_of(apart(hazards.settings_there))["settings_there"].reason
    assert reason is not None
    assert reason.endswith(" False")


def test_what_a_metric_traces_there_is_kept_below_its_evaluation(keeper: Any) -> None:
    scores = scores_of(apart(hazards.judge), apart(hazards.judge_and_die), apart(hazards.length))
    assert (scores["judge"].value, scores["judge"].cost) == (0.5, 0.25)
    assert scores["length"].evaluation is None
    isolated.pool().close(5)  # they ship what they wrote when they end
    keeper.ship(timeout=20)
    for name in ("judge", "judge_and_die"):
        trace_id = scores[name].evaluation
        assert trace_id is not None
        spans = {span.kind: span for span in keeper.store().spans_of(trace_id)}
        assert set(spans) == {"evaluator", "llm"}
        assert spans["evaluator"].name == name
        assert spans["llm"].parent_id == spans["evaluator"].span_id
    assert len(list(tk.records())) == 1


EXITS = """
    import sys, threading, time
    import tracekeeper as tk
    from tests.support import hazards
    from tracekeeper.scoring import isolated
    from tracekeeper.scoring.engine import engine_for
    from tracekeeper.tracing import runtime
    tk.configure(exit_timeout=1)
    apart = lambda f, **o: tk.metric(f, isolation="process", **o)
    @tk.app(name="a", version="1", metrics=[apart(hazards.length), apart(hazards.hold_the_interpreter)])
    def ask(q): return "mild"
    ask("q")
    ask.app.wait_for_scores(names=["length"], timeout=30)
    engine = engine_for(runtime.keeper())
    while not any(job.began for job in engine.flying.values()): time.sleep(0.01)
    print(*isolated.pool().alive(), flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_a_program_that_ends_takes_its_processes_along(tmp_path: Path, killed: bool) -> None:
    path = f"{programs.SOURCE}:{Path(__file__).parents[2]}"
    process = programs.start(EXITS, tmp_path, PYTHONPATH=path)
    numbers = [int(number) for number in programs.ready(process).split()]
    assert numbers
    began = time.monotonic()
    if killed:
        process.kill()
    _, err = process.communicate("\n", timeout=60)
    assert time.monotonic() - began < 1 + 2 + SLACK
    assert all(hazards.gone(number) for number in numbers)
    if not killed:
        assert "Traceback" not in err
        with tk_in(tmp_path):
            [row] = tk.records_and_scores().to_dicts()
        assert row["length.status"] == "scored"
        assert (row["hold_the_interpreter.status"], row["hold_the_interpreter.reason"]) == (
            "pending",
            "process exited before it ran",
        )
