"""A program may end right after its last call. Python 3.12 and newer start no thread then: what is at hand must do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs

import tracekeeper as tk
from tracekeeper.concurrency import threads
from tracekeeper.scoring import draining, engine
from tracekeeper.testing import temporary_keeper

ENDS_AT_ONCE = """
    import tracekeeper as tk
    def short(output): return True
    async def polite(output): return "please" in output
    @tk.on_score
    def told(record, score): print(record.output, score.name, score.status, flush=True)
    @tk.app(name="a", metrics=[short, polite])
    def ask(q): return q
    for q in "abc": ask(q)
"""
REFUSED = "can't create new thread at interpreter shutdown"


@pytest.mark.slow
def test_what_was_called_in_the_last_moment_is_judged_and_told(tmp_path: Path) -> None:
    # Several at once: the fewer processors, the later a thread that was started comes to begin.
    running = [programs.start(ENDS_AT_ONCE, tmp_path / str(number)) for number in range(4)]
    said = [(*process.communicate(timeout=60), process.returncode) for process in running]
    for out, err, code in said:
        assert code == 0, err
        assert sorted(out.split("\n")[:-1]) == [f"{q} {name} scored" for q in "abc" for name in ("polite", "short")]
        assert not err or "the next program that uses it stores" in err, "the machine may be too busy to store in time"


def test_a_thread_that_may_not_be_started_any_more_does_its_work_without_a_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(self: Any) -> None:
        raise RuntimeError(REFUSED)

    monkeypatch.setattr(threads.threading.Thread, "start", refused)
    done: list[str] = []
    threads._bootstrap(lambda: done.append("work"), "any", lambda: done.append("failed"))
    assert done == ["work"]


def test_the_exit_waits_for_nobody_when_no_thread_takes_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(target: Callable[[], None], name: str, failed: Callable[[], None] | None = None) -> None:
        raise RuntimeError(REFUSED)

    with temporary_keeper(tmp_path / ".tracekeeper") as keeper:
        monkeypatch.setattr(engine, "start_daemon", refused)
        record = tk.log_record(input="q", output="a", app="rag", metrics=[tk.metric(lambda output: 1.0, name="late")])
        began = time.monotonic()
        assert not draining.wait(engine.engine_for(keeper), began + 30)
        assert time.monotonic() - began < 10
        draining.leave([engine.engine_for(keeper)], time.monotonic())
        assert record.scores["late"].reason == "process exited"
        draining.begin_anew([engine.engine_for(keeper)])
