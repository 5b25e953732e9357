"""What a hostile program does on purpose and an ordinary one by accident: copies, forks, half-made imports, Ctrl-C."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from tests.failures.test_trulens import tk_in
from tests.support import programs
from tests.support.fake_keeper import FakeKeeper

import tracekeeper as tk
from tracekeeper.tracing import current_span, failures, plan, runtime, trace

# G1: nothing of ours takes the place of what the program did.


def test_a_module_that_another_thread_is_importing_replaces_no_exception_and_no_result(
    kept: FakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("asyncio", "asyncio.events", "concurrent.futures", "concurrent.futures._base"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))  # there, and without its names yet

    def fails() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        trace(fails)()
    given = object()
    assert trace(lambda: given)() is given
    assert kept.statuses == ["error", "ok"]


def test_cancellation_is_told_by_what_the_exception_is_derived_from(kept: FakeKeeper) -> None:
    class Stopped(asyncio.CancelledError):
        pass

    def stopped() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        trace(stopped)()
    assert kept.statuses == ["cancelled"]


def test_of_a_deep_failure_the_frames_nearest_to_it_are_formatted() -> None:
    def sink(depth: int) -> None:
        if depth == 0:
            raise ValueError("at the bottom")
        sink(depth - 1)

    with pytest.raises(ValueError, match="at the bottom") as caught:
        sink(300)
    frames = failures._nearest(caught.value.__traceback__)
    count = 0
    while frames is not None:
        count, frames = count + 1, frames.tb_next
    assert count == failures._FRAMES
    assert failures.info(caught.value).traceback.rstrip().endswith("ValueError: at the bottom")


@pytest.mark.parametrize("place", ["announce", "containing"])
def test_ctrl_c_while_a_span_begins_passes_and_leaves_no_span_behind(
    kept: FakeKeeper, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    real = getattr(plan, place)

    def interrupted(*args: Any) -> Any:
        real(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, place, interrupted)
    called: list[None] = []
    with pytest.raises(KeyboardInterrupt):
        trace(lambda: called.append(None))()
    assert called == []
    assert not current_span().is_recording()
    assert runtime.open_spans == {}


COPIES = """
    import copy, dataclasses, tracekeeper as tk
    @tk.app(name="a", version="1", metrics=[lambda output: 1.0])
    def ask(q): return q
    @dataclasses.dataclass
    class State:
        span: object
        records: list
    with tk.recording() as recording:
        for n in range(3): ask(n)
    with tk.span("work") as span:
        state = dataclasses.asdict(State(span, recording.records))
        assert state["span"] is span and state["records"][0] is recording.records[0]
        for handle in (span, ask, ask.app, recording, recording.records[0], span.keeper, span.keeper.journal._file):
            assert copy.deepcopy(handle) is handle and copy.copy(handle) is handle
    for n in range(50): ask(n)
    assert len(ask.app.wait_for_scores(timeout=20)) == 53
    receipt = tk.flush(timeout=20)
    print(receipt.stored, receipt.complete)
"""


def test_copying_a_structure_with_a_span_in_it_copies_no_open_file(tmp_path: Path) -> None:
    done = programs.run(COPIES, tmp_path)
    assert (done.code, done.out.strip(), done.err) == (0, "54 True", "")


def test_a_metric_may_hold_what_cannot_be_looked_at() -> None:
    class Unbound:
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            raise RuntimeError("working outside of request context")

    def made(holds: Any) -> tk.Metric:
        return tk.metric(lambda output: holds is not None, name="m")

    assert made(Unbound()).version == made(Unbound()).version != made([1]).version


GONE = """
    import os, tempfile
    place = tempfile.mkdtemp()
    os.chdir(place)
    os.rmdir(place)
    import tracekeeper as tk
    @tk.trace
    def ask(q): return q
    assert ask(1) == 1
    try: tk.flush()
    except tk.ConfigurationError as error: print("directory=" in str(error))
"""


def test_a_program_whose_working_directory_is_gone_goes_on_and_is_told_what_to_set(tmp_path: Path) -> None:
    done = programs.run(GONE, tmp_path)
    assert (done.code, done.out.strip()) == (0, "True")


# G4: every wait and every exit ends.


def test_a_forked_child_does_not_wait_for_its_parents_records(tmp_path: Path) -> None:
    code = """
        import os, threading, tracekeeper as tk
        leave = threading.Event()
        def judged(q): return leave.wait(30) if q == "parent" else True
        @tk.app(name="a", version="1", metrics=[judged])
        def ask(q): return q
        for _ in range(5): ask("parent")
        if (child := os.fork()) == 0:
            try:
                ask("child")
                waited = ask.app.wait_for_scores(timeout=20)
                print([(record.input["q"], scores["judged"].value) for record, scores in waited], flush=True)
                tk.shutdown()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        leave.set()
        print(len(ask.app.wait_for_scores(timeout=20)))
    """
    done = programs.run(code, tmp_path)
    assert (done.code, programs.said(done.err)) == (0, "")
    assert done.out.split("\n")[:2] == ["[('child', True)]", "5"]
    with tk_in(tmp_path):
        assert len(tk.records(limit=20)) == 6


def test_a_metric_that_bends_its_event_loop_harms_no_other(keeper: Any) -> None:
    async def refuses_tasks(output: str) -> float:
        asyncio.get_running_loop().set_task_factory(lambda loop, coroutine: 1 / 0)  # type: ignore[arg-type]
        return 1.0

    async def stops(output: str) -> float:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return 1.0

    async def sleeps(output: str) -> float:
        await asyncio.sleep(0.05)
        return 1.0

    @tk.app(name="a", version="1", metrics=[refuses_tasks, stops, sleeps])
    def ask(q: int) -> str:
        return "mild"

    for number in range(3):
        with tk.recording() as recording:
            ask(number)
        scores = recording.get().wait_for_scores(timeout=20)
        assert {name: str(score.status) for name, score in scores.items()} == dict.fromkeys(scores, "scored")


@pytest.mark.parametrize("timeout", [math.inf, math.nan, -1, 1e18, "1"])
def test_a_wait_without_an_end_is_refused_by_name(keeper: Any, timeout: Any) -> None:
    @tk.app(name="a", version="1", metrics=[lambda output: 1.0])
    def ask(q: str) -> str:
        return "mild"

    ask("q")
    for wait in (ask.app.wait_for_scores, tk.flush, tk.shutdown):
        with pytest.raises(tk.ConfigurationError, match="expected a number of seconds"):
            wait(timeout=timeout)
    assert len(ask.app.wait_for_scores(timeout=20)) == 1


LEAVES = """
    import sys, threading, tracekeeper as tk
    tk.configure(exit_timeout={seconds})
    begun = threading.Event()
    def hangs(output):
        begun.set()
        threading.Event().wait()
    @tk.app(name="a", version="1", metrics=[hangs])
    def ask(q): return q
    ask("q")
    held = tk.span("open").__enter__()
    assert begun.wait(20)
    {then}
    print("leaving", flush=True)
"""


def states(directory: Path) -> dict[str, str]:
    with tk_in(directory):
        [row] = tk.records_and_scores(filter='app = "a"').to_dicts()
        [span] = tk.records(filter='name = "open"')
        return {"hangs": f"{row['hangs.status']}: {row['hangs.reason']}", "open": str(span.status)}


SETTLED = {"hangs": "cancelled: process exited", "open": "interrupted"}


def test_ctrl_c_during_the_exit_ends_the_waiting_and_not_the_leaving(tmp_path: Path) -> None:
    process = programs.start(LEAVES.format(seconds=60, then=""), tmp_path)
    programs.ready(process)
    assert process.stderr is not None
    said = process.stderr.readline()  # after a second of waiting
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert said.startswith("tracekeeper: waiting up to 60 s for 1 score (hangs)")
    assert (process.returncode, programs.said(err)) == (0, "")
    assert states(tmp_path) == SETTLED


def test_a_stderr_that_raises_keeps_no_score_from_its_state(tmp_path: Path) -> None:
    broken = "sys.stderr = type('Broken', (), {'write': lambda self, text: 1 / 0, 'flush': lambda self: None})()"
    assert programs.run(LEAVES.format(seconds=2, then=broken), tmp_path).code == 0
    assert states(tmp_path) == SETTLED


# G10: the figures hold.


def test_the_receipt_counts_what_is_only_in_a_deleted_journal(tmp_path: Path) -> None:
    code = """
        import shutil, sqlite3, tracekeeper as tk
        @tk.trace
        def ask(q): return q
        for n in range(20): ask(n)
        first = tk.flush(timeout=20)
        shutil.rmtree(".tracekeeper/journal")
        database = sqlite3.connect(".tracekeeper/tracekeeper.db")
        database.execute("BEGIN EXCLUSIVE")
        for n in range(20): ask(n)
        second = tk.flush(timeout=0.5)
        database.rollback()
        database.close()
        third = tk.flush(timeout=20)
        for one in (first, second, third): print(one.journaled, one.stored, one.pending, one.complete)
    """
    done = programs.run(code, tmp_path)
    assert done.out.split("\n")[:3] == ["20 20 0 True", "40 20 20 False", "40 40 0 True"], done.err
