"""The runner in real processes: exit, fork, stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).parents[3] / "src")

HANGS = """
import asyncio, queue, threading
from tracekeeper.concurrency import Runner
runner, begun = Runner(name="exit", concurrency=64), threading.Semaphore(0)
async def awaits():
    begun.release()
    try: await asyncio.sleep(3600)
    finally: await asyncio.sleep(3600)
async def blocks_its_loop():
    begun.release(); threading.Event().wait()
def blocks():
    begun.release(); threading.Event().wait()
for call in (awaits, blocks, blocks, blocks_its_loop):
    runner.start(call, timeout=3600, done=print)
for _ in range(4): assert begun.acquire(timeout=20)
print("leaving", flush=True)
"""


def run(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )


def test_a_process_exits_at_once_with_calls_that_hang() -> None:
    process = run(HANGS)
    assert process.stdout is not None
    assert process.stdout.readline() == "leaving\n"
    began = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 3
    assert (process.returncode, out, err) == (0, "", "")


FORKS = """
import os, queue, threading
from tracekeeper.concurrency import Runner
runner, outcomes, leave = Runner(name="fork", concurrency=1), queue.SimpleQueue(), threading.Event()
async def answer(): return 42
def both():
    runner.start(lambda: 1, timeout=10, done=outcomes.put)
    runner.start(answer, timeout=10, done=outcomes.put)
    return sorted(outcomes.get(timeout=10).value for _ in range(2))
assert both() == [1, 42]
runner.start(lambda: leave.wait(60), timeout=60, done=outcomes.put)
runner.start(lambda: "waiting", timeout=60, done=outcomes.put)
if (child := os.fork()) == 0:
    ok = both() == [1, 42] and runner.drain(10) and outcomes.empty()
    import gc; gc.collect()
    os._exit(0 if ok else 1)
assert os.waitpid(child, 0)[1] == 0
leave.set()
assert [outcomes.get(timeout=10).value for _ in range(2)] == [True, "waiting"]
assert both() == [1, 42]
print("good", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_begins_anew_and_the_parent_goes_on() -> None:
    process = run(FORKS)
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("good\n", 0), err


STOPPED = """
import asyncio, queue, threading, time
from tracekeeper.concurrency import Runner
runner, outcomes, begun = Runner(name="stop", concurrency=8), queue.SimpleQueue(), threading.Semaphore(0)
async def awaits():
    begun.release()
    for _ in range(5): await asyncio.sleep(0.1)
    return "healthy"
def sleeps():
    begun.release()
    for _ in range(5): time.sleep(0.1)
    return "healthy"
def hangs():
    begun.release(); threading.Event().wait()
for call in (awaits, sleeps, hangs):
    runner.start(call, timeout=2.5, done=outcomes.put)
for _ in range(3): assert begun.acquire(timeout=20)
print("running", flush=True)
print(sorted(o.value or o.reason.split(" after")[0] for o in (outcomes.get(timeout=30) for _ in range(3))), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["at once", "later"])
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no job control here")
def test_calls_of_a_process_that_was_stopped_are_not_failed_for_it(moment: str) -> None:
    process = run(STOPPED)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    if moment == "later":  # the watchdog sleeps by now; at once it may not even have got the interpreter
        time.sleep(0.25)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(4)  # longer than the deadline: the pause itself is what is tested
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("['healthy', 'healthy', 'timed out']\n", 0), err
