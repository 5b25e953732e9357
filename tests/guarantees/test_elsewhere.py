"""Calls of a run that are made in other processes: what a run promises holds there, whatever engine starts them.

With an engine over plain processes and pipes (``tests.support.engines``); ``test_ray`` has the same with a real Ray.
"""

from __future__ import annotations

import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
from tests.support import far_tasks
from tests.support.elsewhere import (
    assert_ended_at_its_deadline,
    assert_lost_calls_were_made_again,
    assert_refused,
    assert_spans_of_a_local_run,
    items,
    right,
    seen,
)
from tests.support.engines import Pipes
from tests.support.spans import stored

import tracekeeper as tk
from tracekeeper.evaluation.executors.elsewhere.remote import RemoteExecutor

pytestmark = pytest.mark.slow


def executor(concurrency: int = 3, timeout: float | None = 10, retries: int = 0) -> RemoteExecutor:
    return RemoteExecutor(Pipes(), concurrency=concurrency, timeout=timeout, retries=retries)


@pytest.mark.parametrize("kind", ["sync", "asynchronous", "wrapped", "stream", "astream"])
def test_outcomes_and_spans_are_those_of_a_local_run(kind: str, keeper: Any) -> None:
    task = getattr(far_tasks, kind)
    local = tk.evaluate(items(6), task, metrics=[right], name="local", concurrency=3, timeout=0.6)
    there = tk.evaluate(items(6), task, metrics=[right], name="there", executor=executor(timeout=0.6))
    assert seen(there) == seen(local)
    assert [one.status for one in there] == ["ok", "ok", "error", "error", "timed_out", "ok"]
    assert_spans_of_a_local_run(keeper, there, local)


def test_a_result_that_cannot_be_sent_is_what_a_record_shows_of_it(keeper: Any) -> None:
    local = tk.evaluate(items(1), far_tasks.closed, name="local")
    there = tk.evaluate(items(1), far_tasks.closed, name="there", executor=executor())
    assert there.items[0].output == local.items[0].output
    assert "<closed>" in str(there.items[0].output)


def test_the_traceback_of_an_error_is_that_of_where_it_was_raised(keeper: Any) -> None:
    [one] = tk.evaluate([{"n": 3}], far_tasks.sync, executor=executor(), name="raised")
    [record] = tk.records('app = "sync"', limit=1)
    assert record.error == "ValueError: no three"
    [(text,)] = stored(keeper.directory, "SELECT error_traceback FROM payload WHERE error_traceback IS NOT NULL")
    assert "far_tasks.py" in text
    assert text.rstrip().endswith("ValueError: no three")
    assert one.error == "ValueError: no three"


def test_calls_of_killed_workers_are_made_again_and_each_item_is_there_once(keeper: Any, tmp_path: Path) -> None:
    there = executor(concurrency=4)
    experiment = tk.evaluate(
        items(12, place=str(tmp_path)), far_tasks.fatal, metrics=[right], executor=there, name="lost"
    )
    assert_lost_calls_were_made_again(keeper, experiment)


def test_code_that_holds_the_interpreter_is_ended_at_its_deadline(keeper: Any) -> None:
    experiment = tk.evaluate(items(4), far_tasks.holding, executor=executor(4, timeout=1), name="held")
    assert_ended_at_its_deadline(experiment)


def test_what_failed_is_tried_again_as_often_as_was_asked_for(keeper: Any, tmp_path: Path) -> None:
    there = executor(retries=2)
    experiment = tk.evaluate(items(3, place=str(tmp_path)), far_tasks.flaky, executor=there, name="flaky")
    assert [(one.status, one.output, one.attempts) for one in experiment] == [("ok", str(n), 3) for n in range(3)]


def test_a_task_that_workers_cannot_load_leaves_everything_to_a_resume(
    keeper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = types.ModuleType("only_here")
    exec("def task(n):\n    return str(n)", here.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", here)
    experiment = tk.evaluate(items(3), here.task, metrics=[right], executor=executor(), name="unloaded")
    assert [one.status for one in experiment] == ["pending"] * 3
    why = "the task cannot be loaded on a worker: ModuleNotFoundError: No module named 'only_here'"
    assert experiment.notes == [why]
    whole = tk.resume(experiment.id, task=here.task, metrics=[right], data=items(3))
    assert [one.output for one in whole] == ["0", "1", "2"]


def test_workers_that_always_end_as_they_begin_stop_the_run(keeper: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.engines.ROOT", Path("/nowhere-with-tests").parent)
    began = time.monotonic()
    experiment = tk.evaluate(items(3), far_tasks.sync, executor=executor(), name="startless")
    assert [one.status for one in experiment] == ["pending"] * 3
    [note] = experiment.notes
    assert note.startswith("3 pipe workers in a row ended as they began: its process ended with 1")
    assert time.monotonic() - began < 30


def test_no_process_is_left(keeper: Any) -> None:
    engine = Pipes()
    there = RemoteExecutor(engine, concurrency=3, timeout=10, retries=0)
    tk.evaluate(items(2), far_tasks.sync, executor=there, name="left")
    assert engine.started
    assert all(worker.process.poll() is not None for worker in engine.started)


def test_a_resume_without_a_rest_starts_no_process(keeper: Any) -> None:
    first = tk.evaluate(items(2), far_tasks.sync, name="whole")
    engine = Pipes()
    there = RemoteExecutor(engine, concurrency=3, timeout=10, retries=0)
    again = tk.resume(first.id, task=far_tasks.sync, data=items(2), executor=there)
    assert [one.output for one in again] == ["0", "1"]
    assert engine.started == []


def test_a_task_that_cannot_be_sent_is_said_before_anything_is_written(keeper: Any) -> None:
    assert_refused("cannot be sent to pipe workers", "unsent", task=lambda n: n, executor=executor())


def test_a_ray_that_is_not_installed_is_said_in_one_sentence(keeper: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(tk.TracekeeperError) as caught:
        tk.evaluate(items(2), far_tasks.sync, executor="ray", name="rayless")
    assert str(caught.value) == "executor='ray' needs Ray: pip install 'tracekeeper[ray]'"


class Full(Pipes):
    """A cluster that has no room: what is asked for is never there."""

    def wait(self, workers: Any, timeout: float) -> Any:
        time.sleep(timeout)  # as an engine waits for an answer
        return []


def test_a_cluster_without_room_ends_the_run_in_bounded_time_and_a_resume_does_it(keeper: Any) -> None:
    engine = Full()
    there = RemoteExecutor(engine, concurrency=3, timeout=10, retries=0, start_within=0.6)
    began = time.monotonic()
    experiment = tk.evaluate(items(4), far_tasks.sync, metrics=[right], name="full", executor=there)
    assert 0.6 <= time.monotonic() - began < 10
    assert [one.status for one in experiment] == ["pending"] * 4
    assert not experiment.complete
    assert experiment.notes == ["no pipe worker was ready within 0.6 s"]
    for one in engine.started:
        assert one.process.wait(timeout=10) is not None, "no worker is left behind"
    done = tk.resume("full", task=lambda n: str(n), metrics=[right], data=items(4))
    assert [one.output for one in done] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("seconds", [0, -1, True, "3", float("nan")])
def test_a_time_for_starting_that_cannot_be_meant_is_refused(seconds: Any) -> None:
    with pytest.raises(tk.ConfigurationError, match=r"start_within=.*: expected a number of seconds, or None"):
        RemoteExecutor(Pipes(), concurrency=3, timeout=10, retries=0, start_within=seconds)
