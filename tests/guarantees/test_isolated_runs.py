"""``tk.evaluate(isolation="process")``: the task in processes of this machine, and what it may do there.

What a run promises of calls that are made elsewhere holds as with any engine (``test_elsewhere``); here it is broken
with real processes: killed, holding their interpreter, left by a program that was killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.failures.test_trulens import tk_in
from tests.support import far_tasks, programs
from tests.support.elsewhere import (
    assert_ended_at_its_deadline,
    assert_lost_calls_were_made_again,
    assert_refused,
    assert_spans_of_a_local_run,
    items,
    right,
    seen,
)

import tracekeeper as tk

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes as POSIX does"),
]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", ["sync", "asynchronous", "wrapped", "stream", "astream"])
def test_outcomes_and_spans_are_those_of_threads(kind: str, keeper: Any) -> None:
    task = getattr(far_tasks, kind)
    local = tk.evaluate(items(6), task, metrics=[right], name="local", concurrency=3, timeout=0.6)
    apart = tk.evaluate(items(6), task, metrics=[right], name="apart", concurrency=3, timeout=0.6, isolation="process")
    assert seen(apart) == seen(local)
    assert [one.status for one in apart] == ["ok", "ok", "error", "error", "timed_out", "ok"]
    assert_spans_of_a_local_run(keeper, apart, local)


def test_it_is_awaited_beside_a_running_loop(keeper: Any) -> None:
    experiment = asyncio.run(tk.aevaluate(items(4), far_tasks.asynchronous, name="awaited", isolation="process"))
    assert [one.output for one in experiment][:2] == ["0", "1"]
    assert experiment.complete


def test_a_call_that_kills_its_process_costs_itself_and_no_other(keeper: Any, tmp_path: Path) -> None:
    there = items(12, place=str(tmp_path))
    experiment = tk.evaluate(
        there, far_tasks.fatal, metrics=[right], name="lost", concurrency=4, timeout=10, isolation="process"
    )
    assert_lost_calls_were_made_again(keeper, experiment)


def test_code_that_holds_the_interpreter_is_ended_at_its_deadline(keeper: Any) -> None:
    began = time.monotonic()
    experiment = tk.evaluate(items(4), far_tasks.holding, name="held", concurrency=4, timeout=1, isolation="process")
    assert_ended_at_its_deadline(experiment)
    assert time.monotonic() - began < 60


def test_a_resume_goes_the_same_way(keeper: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tk.evaluate(items(4), far_tasks.whose, name="whose", isolation="process")
    assert os.getpid() not in {int(str(one.output)) for one in first}
    more = tk.resume("whose", task=far_tasks.whose, data=items(6))
    assert len({one.output for one in more}) >= 2
    assert os.getpid() not in {int(str(one.output)) for one in more}
    assert [one.output for one in more][:4] == [one.output for one in first]


@pytest.mark.parametrize(
    ("said", "run"),
    [
        ("another process cannot import a lambda", {"task": lambda n: n, "isolation": "process"}),
        (
            "isolation='process' goes with executor='local'",
            {"task": far_tasks.sync, "isolation": "process", "executor": "ray"},
        ),
        ("isolation='processes': expected 'thread' or 'process'", {"task": far_tasks.sync, "isolation": "processes"}),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(keeper: Any, said: str, run: dict[str, Any]) -> None:
    assert_refused(said, "refused", **run)


PROGRAM = """
    import json, os
    from tests.support import far_tasks
    import tracekeeper as tk
    def told(item):
        if item.ok:
            print(item.output, flush=True)
    data = [{"id": f"i{n}", "n": n, "place": os.getcwd()} for n in range(6)]
    how = {"concurrency": 2, "timeout": 900, "isolation": "process"}
    made = tk.evaluate(data, far_tasks.waits, name="run", on_result=told, **how)
    print(json.dumps([item.status for item in made]), flush=True)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: set[int]) -> bool:
    until = time.monotonic() + 30
    while any(alive(pid) for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def begun(tmp_path: Path) -> tuple[Any, set[int]]:
    """A program two of whose calls have ended and two of which will not, and the processes that make them."""
    process = programs.start(PROGRAM, tmp_path, PYTHONPATH=f"{programs.SOURCE}:{ROOT}")
    workers = {int(programs.ready(process)) for _ in range(2)}
    assert os.getpid() not in workers
    assert process.pid not in workers
    return process, workers


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them")
@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_no_process_outlives_its_program_and_a_resume_does_the_rest(end: str, tmp_path: Path) -> None:
    process, workers = begun(tmp_path)
    process.send_signal(getattr(signal, end))
    out, err = process.communicate(timeout=60)
    if end == "SIGINT":
        statuses = json.loads(out.splitlines()[-1])
        assert statuses[:2] == ["ok", "ok"], err
        assert {*statuses[2:]} <= {"cancelled", "pending"}, err
    assert gone(workers)
    with tk_in(tmp_path):
        (tmp_path / "go").touch()
        data = [{"id": f"i{n}", "n": n, "place": str(tmp_path)} for n in range(6)]
        before = tk.Experiment.load("run")
        assert [one.status for one in before][:2] == ["ok", "ok"]
        made = tk.resume("run", task=far_tasks.waits, data=data)
        assert [one.status for one in made] == ["ok"] * 6
        assert [one.output for one in made][:2] == [one.output for one in before][:2], "what had ended is not run again"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them")
def test_a_second_ctrl_c_aborts_and_leaves_no_process(tmp_path: Path) -> None:
    process, workers = begun(tmp_path)
    process.send_signal(signal.SIGINT)
    while "Ctrl-C" not in (line := process.stderr.readline()):
        assert line, "it ended"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in err or process.returncode == 0, "unless the first one was through before it came"
    assert gone(workers)
