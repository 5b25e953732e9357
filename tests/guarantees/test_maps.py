"""Ctrl-C and the end of the process, with real signals: maps give what is finished and never hold the exit."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support import programs

EXIT = 2.0
"""Seconds that a process may take to end beside calls that hang."""
START = 30.0

PRELUDE = """
import asyncio, os, signal, sys, threading, time
import tracekeeper as tk

gate = threading.Event()
lock = threading.Lock()
begun = []

def say(*words):
    with lock:
        print(*words, flush=True)

def item(number):  # ten are quick, the others hang
    with lock:
        begun.append(number)
    if number >= 10:
        if number == 10:
            say("ready")
        gate.wait()
    return number

async def aitem(number):
    begun.append(number)
    if number >= 10:
        if number == 10:
            say("ready")
        await asyncio.sleep(3600)
    return number

def show(outcomes):
    counts = {}
    for outcome in outcomes:
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    ok, cancelled = counts.get("ok", 0), counts.get("cancelled", 0)
    say("got", ok, "ok", cancelled, "cancelled of", len(outcomes), "begun", len(begun))
"""


@contextmanager
def program(code: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that says ``ready`` when ten items are done and others hang."""
    file = programs.write(PRELUDE + textwrap.dedent(code), folder)
    process = subprocess.Popen(
        [sys.executable, str(file)],
        cwd=folder,
        env=programs.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str], seconds: float) -> tuple[int, str]:
    begun = time.monotonic()
    _, err = process.communicate(timeout=START)
    assert time.monotonic() - begun < seconds
    return process.returncode, err


MAPS = {
    "sync": "outcomes = tk.parallel_map(item, range(1000), concurrency=4, timeout=None)",
    "sync, async items": "outcomes = tk.parallel_map(aitem, range(1000), concurrency=4, timeout=None)",
    "async": "outcomes = asyncio.run(tk.aparallel_map(aitem, range(1000), concurrency=4, timeout=None))",
    "async, sync items": "outcomes = asyncio.run(tk.aparallel_map(item, range(1000), concurrency=4, timeout=None))",
    "in a loop": """
        async def main():
            return tk.parallel_map(item, range(1000), concurrency=4, timeout=None)
        outcomes = asyncio.run(main())
        """,
    "async under a loop without asyncio.run": """
        loop = asyncio.new_event_loop()
        outcomes = loop.run_until_complete(tk.aparallel_map(item, range(1000), concurrency=4, timeout=None))
        loop.close()
        """,
}


@pytest.mark.parametrize("how", MAPS)
def test_the_first_ctrl_c_gives_what_is_finished_and_the_process_exits(how: str, tmp_path: Path) -> None:
    with program(textwrap.dedent(MAPS[how]) + "\nshow(outcomes)", tmp_path) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGINT)
        said = line(process)
        code, err = end(process, EXIT)
    assert said.startswith("got 10 ok 990 cancelled of 1000 begun 1"), said
    assert code == 0
    assert "Ctrl-C: no more items begin, " in err


@pytest.mark.parametrize("how", [how for how in MAPS if how != "in a loop"])
def test_the_second_ctrl_c_aborts(how: str, tmp_path: Path) -> None:
    code = f"""
import tracekeeper.concurrency.mapping as mapping
mapping.GRACE = 3600
{textwrap.dedent(MAPS[how])}
say("came through")
"""
    with program(code, tmp_path) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "again to give up waiting" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        code_, err = end(process, EXIT)
    assert code_ == -signal.SIGINT
    assert "KeyboardInterrupt" in err


def test_what_ends_shortly_after_ctrl_c_still_counts(tmp_path: Path) -> None:
    code = """
        import tracekeeper.concurrency.mapping as mapping
        mapping.GRACE = 20
        def until_told(number):
            if number == 10:
                say("ready")
            if number >= 10:
                gate.wait()
            return number
        real = mapping.Map._interrupt
        def told(self):
            real(self)
            gate.set()
        mapping.Map._interrupt = told
        show(tk.parallel_map(until_told, range(1000), concurrency=1, timeout=None))
        """
    with program(code, tmp_path) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGINT)
        assert line(process).startswith("got 11 ok 989 cancelled of 1000")
        assert end(process, EXIT)[0] == 0


def test_the_handlers_are_the_programs_own_again_afterwards(tmp_path: Path) -> None:
    code = """
        tk.parallel_map(abs, range(10))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        own = lambda number, frame: say("own handler")
        signal.signal(signal.SIGINT, own)
        tk.parallel_map(lambda n: os.kill(os.getpid(), signal.SIGINT) if n == 5 else None, range(10))
        assert signal.getsignal(signal.SIGINT) is own
        """
    with program(code, tmp_path) as process:
        assert line(process) == "own handler"
        assert end(process, EXIT) == (0, "")


def test_a_handler_of_the_programs_own_that_raises_stops_the_map_as_well(tmp_path: Path) -> None:
    code = """
        def raises(number, frame):
            raise KeyboardInterrupt
        signal.signal(signal.SIGINT, raises)
        show(tk.parallel_map(item, range(1000), concurrency=4, timeout=None))
        """
    with program(code, tmp_path) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGINT)
        assert line(process).startswith("got 10 ok 990 cancelled")
        assert end(process, EXIT)[0] == 0


@pytest.mark.parametrize("maps", ["parallel_map", "aparallel_map"])
def test_a_map_in_another_thread_stops_when_ctrl_c_ends_the_main_thread(maps: str, tmp_path: Path) -> None:
    call = "tk.parallel_map(item" if maps == "parallel_map" else "asyncio.run(tk.aparallel_map(item"
    code = f"""
        def work():
            show({call}, range(1000), concurrency=4, timeout=None){")" if maps == "aparallel_map" else ""})
            show(tk.parallel_map(item, range(3), concurrency=1, timeout=None))
        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            thread.join(0.2)  # CPython overlooks a signal that comes as a wait begins, until it ends
        """
    with program(code, tmp_path) as process:
        assert line(process) == "ready"
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert line(process).startswith("got 10 ok 990 cancelled of 1000")
        assert " of 3 begun " in line(process), "and none begins after that"
        code_, err = end(process, EXIT)
        assert time.monotonic() - begun < 2 * EXIT
    assert code_ == -signal.SIGINT
    assert "KeyboardInterrupt" in err


def test_one_ctrl_c_stops_the_maps_of_all_threads(tmp_path: Path) -> None:
    code = """
        def other():
            show(tk.parallel_map(gate.wait, [60] * 9, concurrency=2, timeout=None))
        thread = threading.Thread(target=other)
        thread.start()
        outcomes = tk.parallel_map(item, range(1000), concurrency=4, timeout=None)
        thread.join()
        show(outcomes)
        """
    with program(code, tmp_path) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGINT)
        assert line(process).startswith("got 0 ok 9 cancelled of 9")
        assert line(process).startswith("got 10 ok 990 cancelled of 1000")
        assert end(process, EXIT)[0] == 0


def test_an_endless_iterable_is_ended_by_ctrl_c(tmp_path: Path) -> None:
    code = """
        import itertools
        def quick(number):
            if number == 2000:
                say("ready")
            return number
        outcomes = tk.parallel_map(quick, itertools.count(), concurrency=8, timeout=None)
        assert [outcome.value for outcome in outcomes[:2000]] == [*range(2000)]
        say("got", len(outcomes) > 2000)
        """
    with program(code, tmp_path) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGINT)
        assert line(process) == "got True"
        assert end(process, EXIT)[0] == 0


def test_a_child_that_is_forked_in_a_map_has_ctrl_c_for_itself(tmp_path: Path) -> None:
    code = """
        def forks(number):
            child = os.fork()
            if not child:
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                    gate.wait(20)
                except KeyboardInterrupt:
                    os._exit(7)
                os._exit(0)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        say("child", tk.parallel_map(forks, [1])[0].value)
        """
    with program(code, tmp_path) as process:
        assert line(process) == "child 7"
        assert end(process, EXIT)[0] == 0


HANGING = {
    "a map": "say([o.status for o in tk.parallel_map(lambda n: gate.wait(), range(3), timeout=0.2)][0])",
    "an async map": "say([o.status for o in tk.parallel_map(aitem, range(10, 13), timeout=0.2)][0])",
    "a loop that is blocked": """
        async def blocks(number):
            gate.wait()
        say(tk.parallel_map(blocks, range(3), timeout=0.2)[0].status)
        """,
    "an asyncified call": """
        async def main():
            try:
                await asyncio.wait_for(tk.asyncify(gate.wait)(), 0.2)
            except TimeoutError:
                say("timed_out")
        asyncio.run(main())
        """,
    "run_sync": """
        async def blocks():
            gate.wait()
        try:
            tk.run_sync(blocks(), timeout=0.2)
        except TimeoutError:
            say("timed_out")
        """,
    "a pool": """
        pool = tk.ThreadPoolExecutor(2)
        futures = [pool.submit(gate.wait) for _ in range(4)]
        try:
            futures[0].result(timeout=0.2)
        except TimeoutError:
            say("timed_out")
        """,
    "a pool under a loop": """
        async def main():
            pool = tk.ThreadPoolExecutor(2)
            try:
                await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(pool, gate.wait), 0.2)
            except TimeoutError:
                say("timed_out")
        asyncio.run(main())
        """,
}


@pytest.mark.parametrize("what", HANGING)
def test_what_hangs_never_keeps_the_process_from_exiting(what: str, tmp_path: Path) -> None:
    with program(HANGING[what], tmp_path) as process:
        said = ""
        while said != "timed_out":
            said = line(process)
            assert said in ("ready", "timed_out")
        assert end(process, EXIT) == (0, "")


def test_ctrl_c_ends_a_run_sync_and_cancels_its_coroutine(tmp_path: Path) -> None:
    code = """
        async def waits():
            try:
                say("ready")
                await asyncio.sleep(3600)
            finally:
                say("cancelled")
                gate.set()
        try:
            tk.run_sync(waits())
        except KeyboardInterrupt:
            assert gate.wait(20)
            say("interrupted")
        """
    with program(code, tmp_path) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGINT)
        assert [line(process), line(process)] == ["cancelled", "interrupted"]
        assert end(process, EXIT) == (0, "")


@pytest.mark.parametrize("rich", [True, False])
def test_progress_on_a_terminal_is_one_line_that_is_rewritten(rich: bool, tmp_path: Path) -> None:
    code = f"""
        if not {rich}:
            import importlib.util
            find = importlib.util.find_spec
            importlib.util.find_spec = lambda name, package=None: None if name == "rich" else find(name, package)
        tk.parallel_map(lambda n: time.sleep(0.15), range(6), concurrency=1, progress="sleeping")
        assert ("rich" in sys.modules) == {rich}
        say("done")
        """
    if rich:
        pytest.importorskip("rich")
    file = programs.write(PRELUDE + textwrap.dedent(code), tmp_path)
    ours, theirs = pty.openpty()
    environment = programs.environment(TERM="xterm", COLUMNS="100")
    process = subprocess.Popen(
        [sys.executable, str(file)], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True
    )
    os.close(theirs)
    out, _ = process.communicate(timeout=START)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the other end is closed, and all was read
        os.close(ours)
    assert (process.returncode, out) == (0, "done\n")
    assert b"sleeping 6/6" in shown
    assert shown.count(b"sleeping") > 2
    if not rich:
        assert shown.count(b"\n") == 1
