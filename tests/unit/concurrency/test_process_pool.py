"""Calls in processes of their own: whatever a call does, its caller gets an outcome and the pool goes on."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support import hazards, programs

from tracekeeper.concurrency import ProcessCall, ProcessOutcome, ProcessPool
from tracekeeper.concurrency.processes import pool as processes
from tracekeeper.concurrency.processes import start as processes_start
from tracekeeper.types import faults

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and process groups")

SLACK = 3.0


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    with hazards.no_process_left():
        made = ProcessPool(limit=lambda: 4)
        yield made
        made.close(5)
        assert made.alive() == []


def run(pool: ProcessPool, function: Callable[..., Any], *arguments: Any, timeout: float = 20, **more: Any) -> Any:
    call = ProcessCall(target=pickle.dumps(function), arguments=pickle.dumps(arguments), timeout=timeout, **more)
    return pool.run(call)


def works(pool: ProcessPool) -> bool:
    return run(pool, hazards.add, 1, 2).value == 3  # type: ignore[no-any-return]


def test_a_call_gives_its_result_and_the_process_is_used_again(pool: ProcessPool) -> None:
    first, second = run(pool, hazards.pid), run(pool, hazards.pid)
    assert first.status == second.status == "ok"
    assert first.value == second.value != os.getpid()
    assert pool.started == 1


def test_what_raises_is_told_with_its_traceback(pool: ProcessPool) -> None:
    outcome = run(pool, hazards.fail)
    assert (outcome.status, outcome.error, outcome.message) == ("raised", "ValueError", "on purpose")
    assert 'raise ValueError("on purpose")' in outcome.traceback
    assert outcome.retriable
    assert not run(pool, hazards.ask_to_leave).retriable
    assert pool.started == 1


def test_a_result_that_cannot_be_sent_is_told(pool: ProcessPool) -> None:
    outcome = run(pool, hazards.give_a_lock)
    assert outcome.status == "raised"
    assert outcome.reason.startswith("its result cannot be sent between processes: TypeError: cannot pickle")
    assert works(pool)
    assert pool.started == 1


@pytest.mark.slow
def test_a_call_that_holds_the_interpreter_lock_is_killed_at_its_deadline_and_named(pool: ProcessPool) -> None:
    began = time.monotonic()
    outcome = run(pool, hazards.hold_the_interpreter, timeout=0.5)
    assert 0.5 <= time.monotonic() - began < 0.5 + SLACK
    assert outcome.status == "timed_out"
    assert outcome.reason.startswith("timed out after 0.5 s in hold_the_interpreter (hazards.py:")
    assert works(pool)


@pytest.mark.parametrize(
    ("hazard", "ending"),
    [
        (hazards.segfault, "its process was killed by SIGSEGV in segfault (hazards.py:"),
        (hazards.leave, "its process exited with code 3"),
        (hazards.close_everything, "its process exited with code 0"),
    ],
)
def test_a_process_that_dies_is_told_with_how_it_ended(pool: ProcessPool, hazard: Any, ending: str) -> None:
    began = time.monotonic()
    outcome = run(pool, hazard)
    assert outcome.status == "died"
    assert outcome.reason.startswith(ending)
    assert time.monotonic() - began < SLACK
    assert works(pool)


@pytest.mark.slow
def test_a_process_that_closes_its_connection_and_stays_does_not_keep_its_caller(pool: ProcessPool) -> None:
    outcome = run(pool, hazards.close_everything_and_stay)
    assert outcome.reason == "its process closed its connection and went on"
    assert works(pool)


@pytest.mark.slow
def test_signals_that_are_ignored_or_blocked_change_nothing(pool: ProcessPool) -> None:
    assert run(pool, hazards.ignore_signals, timeout=0.3).status == "timed_out"
    assert run(pool, hazards.block_all_signals).value == 1
    assert run(pool, hazards.hang, timeout=0.3).status == "timed_out"
    assert works(pool)


def test_what_is_printed_does_not_disturb_and_input_is_empty(pool: ProcessPool, capfd: Any) -> None:
    assert run(pool, hazards.print_garbage).value == 1
    assert run(pool, hazards.read_input).value == 0
    assert "garbage" in capfd.readouterr().out


def test_a_call_that_forks_and_returns_twice_answers_once(pool: ProcessPool) -> None:
    assert [run(pool, hazards.fork_and_return_twice).value for _ in range(3)] == [1, 1, 1]
    assert works(pool)


@pytest.mark.slow
def test_what_a_call_forked_dies_with_it(pool: ProcessPool, tmp_path: Path) -> None:
    forked = tmp_path / "forked"
    assert run(pool, hazards.fork_and_hang, str(forked), timeout=1).status == "timed_out"
    assert hazards.gone(int(forked.read_text()))
    started = tmp_path / "started"
    assert run(pool, hazards.leave_a_child, str(started)).reason == "its process exited with code 5"
    assert hazards.gone(int(started.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="address space is counted on Linux only")
def test_a_memory_limit_holds_for_its_call_only(pool: ProcessPool) -> None:
    outcome = run(pool, hazards.allocate, 256 << 20, memory_limit=64 << 20)
    assert (outcome.status, outcome.error, outcome.memory) == ("raised", "MemoryError", True)
    assert run(pool, hazards.allocate, 32 << 20, memory_limit=64 << 20).value == 32 << 20
    assert run(pool, hazards.allocate, 256 << 20).value == 256 << 20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_process_that_grew_is_replaced_and_a_first_call_may_load_its_model(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.limit = lambda: 1
    assert works(pool)
    same = [run(pool, hazards.keep, size).value for size in (300 << 20, 1, 1)]
    assert works(pool)
    same.append(run(pool, hazards.keep, 1).value)
    assert len(set(same)) == 1
    assert run(pool, hazards.keep, 300 << 20).value == same[0]
    assert run(pool, hazards.pid).value != same[0]


def test_a_process_is_replaced_after_so_many_calls(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "CALLS", 3)
    assert len({run(pool, hazards.pid).value for _ in range(6)}) == 2


def test_there_are_never_more_processes_than_the_limit_and_none_waits_for_nothing(pool: ProcessPool) -> None:
    with ThreadPoolExecutor(12) as threads:
        outcomes = list(threads.map(lambda _: run(pool, hazards.sleep, 0.05), range(20)))
    assert {outcome.value for outcome in outcomes} == {0.05}
    assert pool.started <= 4
    assert len(pool.alive()) <= 4


@pytest.mark.slow
def test_a_process_that_starts_slowly_holds_up_nobody_else(pool: ProcessPool) -> None:
    assert works(pool)
    starting, go_on, begun = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        starting.set()
        assert go_on.wait(20)

    with ThreadPoolExecutor(2) as threads, faults.armed("processes.starting", wait):
        busy = threads.submit(run, pool, hazards.sleep, 0.5, began=begun.set)
        assert begun.wait(20)
        slow = threads.submit(run, pool, hazards.pid)
        assert starting.wait(20)
        assert busy.result(20).value == 0.5
        assert works(pool)  # by the one that is ready, while the other one starts
        go_on.set()
        assert slow.result(20).status == "ok"


def test_a_start_that_fails_is_told_with_what_was_printed(pool: ProcessPool) -> None:
    pool.preload = ("no_such_module",)
    outcome = run(pool, hazards.pid)
    assert outcome.status == "not_started"
    assert outcome.reason.startswith("its process did not start: it exited with code 1, and said: ")
    assert outcome.reason.endswith("No module named 'no_such_module'")
    pool.preload = ()
    assert works(pool)


@pytest.mark.slow
def test_a_start_that_takes_too_long_is_ended(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "endless.py").write_text("import time\nprint('loading')\ntime.sleep(3600)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(processes, "START_WITHIN", 0.5)
    pool.preload = ("endless",)
    outcome = run(pool, hazards.pid)
    assert (outcome.status, outcome.reason) == ("not_started", "its process did not start within 0.5 s")


def test_a_system_that_starts_no_process_is_told(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any, **__: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuses)
        outcome = run(pool, hazards.pid)
    assert outcome.status == "not_started"
    assert "could not be started: BlockingIOError" in outcome.reason
    assert works(pool)


@pytest.mark.slow
def test_loading_has_an_allowance_of_its_own(
    pool: ProcessPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_to_load.py").write_text("import time\ntime.sleep(0.7)\ndef answer():\n    return 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    target = b"cslow_to_load\nanswer\n."  # the pickle of a function of a module that this process does not import
    arguments = pickle.dumps(())
    assert pool.run(ProcessCall(target=target, arguments=arguments, timeout=0.3)).value == 42
    pool.close(5)
    late = pool.run(ProcessCall(target=target, arguments=arguments, timeout=0.3, load_within=0.2))
    assert late.status == "not_started"
    assert late.reason.startswith("could not be loaded in its process within 0.2 s in <module> (slow_to_load.py:2)")
    broken = pool.run(ProcessCall(target=b"cno_such_module\nanswer\n.", arguments=arguments, timeout=5))
    assert broken.status == "not_started"
    assert broken.reason == (
        "could not be loaded in its process: ModuleNotFoundError: No module named 'no_such_module'"
    )
    assert works(pool)


@pytest.mark.slow
def test_an_idle_process_that_somebody_killed_is_replaced_without_a_word(pool: ProcessPool) -> None:
    for _ in range(5):
        number = run(pool, hazards.pid).value
        os.kill(number, 9)
        assert run(pool, hazards.pid).value not in (None, number)


@pytest.mark.slow
def test_a_process_that_does_not_read_keeps_no_caller(pool: ProcessPool) -> None:
    os.kill(run(pool, hazards.pid).value, signal.SIGSTOP)
    outcome = run(pool, hazards.fail, b"x" * (32 << 20), load_within=0.5)
    assert outcome.reason == "could not be loaded in its process within 0.5 s"
    assert works(pool)


IGNORES = """
    import pickle, signal
    from tests.support import hazards
    from tracekeeper.concurrency import ProcessCall, ProcessPool
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    pool = ProcessPool()
    for function in (hazards.pid, hazards.leave, hazards.hang, hazards.pid):
        call = ProcessCall(target=pickle.dumps(function), arguments=pickle.dumps(()), timeout=0.5)
        print(pool.run(call).status)
    pool.close(5)
"""


@pytest.mark.slow
def test_a_program_that_lets_the_system_reap_is_served_as_well(tmp_path: Path) -> None:
    done = programs.run(IGNORES, tmp_path, PYTHONPATH=f"{programs.SOURCE}:{Path(__file__).parents[3]}")
    assert (done.out.split(), done.err) == (["ok", "died", "timed_out", "ok"], "")


def test_idle_processes_end_after_a_while(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "IDLE_SECONDS", 0.2)
    number = run(pool, hazards.pid).value
    assert hazards.gone(number)
    assert works(pool)


@pytest.mark.slow
def test_what_nobody_wants_is_killed(pool: ProcessPool) -> None:
    began = time.monotonic()
    outcome = run(pool, hazards.hang, timeout=60, unwanted=lambda: time.monotonic() - began > 0.1)
    assert outcome.status == "cancelled"
    assert time.monotonic() - began < SLACK


def test_closing_ends_busy_and_idle_processes_and_the_pool_can_be_used_again(pool: ProcessPool) -> None:
    begun = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(run, pool, hazards.hang, timeout=60, began=begun.set)
        assert begun.wait(20)
        assert works(pool)
        assert len(pool.alive()) == 2
        pool.close(5)
        assert waiting.result(20).status == "cancelled"
    assert pool.alive() == []
    assert works(pool)


def test_a_call_that_waits_for_a_process_is_told_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "WAIT_WITHIN", 0.2)
    small, begun = ProcessPool(limit=lambda: 1), threading.Event()
    with hazards.no_process_left(), ThreadPoolExecutor(1) as threads:
        busy = threads.submit(run, small, hazards.hang, timeout=60, began=begun.set)
        assert begun.wait(20)
        assert run(small, hazards.pid).reason == "no process was free within 0.2 s: all 1 were busy"
        small.close()
        assert busy.result(20).status == "cancelled"


@pytest.mark.slow
def test_calls_get_processes_in_the_order_in_which_they_came() -> None:
    small, begun, order = ProcessPool(limit=lambda: 1), threading.Event(), []
    with hazards.no_process_left(), ThreadPoolExecutor(6) as threads:
        unwanted = threading.Event()
        busy = threads.submit(run, small, hazards.hang, timeout=60, began=begun.set, unwanted=unwanted.is_set)
        assert begun.wait(20)
        waiting = []
        for number in range(5):
            came = partial(order.append, number)
            waiting.append(threads.submit(run, small, hazards.add, number, 0, began=came))
            while len(small._waiting) <= number:
                time.sleep(0.001)
        unwanted.set()
        assert busy.result(20).status == "cancelled"
        assert [call.result(20).value for call in waiting] == [0, 1, 2, 3, 4]
        assert order == [0, 1, 2, 3, 4]
        small.close(5)


def test_where_no_socket_can_be_inherited_a_child_connects_and_shows_its_secret(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.create_server
    strangers: list[socket.socket] = []

    def visited(address: Any, **more: Any) -> socket.socket:
        server = real(address, **more)
        strangers.append(socket.create_connection(server.getsockname()))  # first in the queue, and knows nothing
        strangers[-1].sendall(b"\x00" * 32)
        return server

    monkeypatch.setattr(processes_start, "INHERIT", False)
    monkeypatch.setattr(socket, "create_server", visited)
    assert works(pool)
    assert run(pool, hazards.segfault).reason.startswith("its process was killed by SIGSEGV")
    with strangers[0] as stranger:
        stranger.settimeout(10)
        assert stranger.recv(1) == b""
    for other in strangers:
        other.close()


@pytest.mark.slow
def test_the_other_ways_leave_nothing_behind_when_a_child_dies_before_it_connects(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes_start, "INHERIT", False)
    monkeypatch.setattr(processes_start, "_BOOT", "raise SystemExit('no')")
    assert run(pool, hazards.pid).reason == "its process did not start: it exited with code 1, and said: no"


@pytest.mark.slow
def test_nothing_is_left_open(tmp_path: Path) -> None:
    code = """
        import gc, os, pickle
        from tests.support import hazards
        from tracekeeper.concurrency import ProcessCall, ProcessPool
        pool = ProcessPool(limit=lambda: 2)
        def run(function, *arguments):
            return pool.run(ProcessCall(target=pickle.dumps(function), arguments=pickle.dumps(arguments), timeout=20))
        assert run(hazards.add, 1, 2).value == 3
        pool.close(5)
        before = sorted(os.listdir("/proc/self/fd"))
        for hazard in (hazards.add, hazards.segfault, hazards.leave, hazards.fail):
            run(hazard, *((1, 2) if hazard is hazards.add else ()))
        pool.close(5)
        gc.collect()
        print(sorted(os.listdir("/proc/self/fd")) == before)
    """
    done = programs.run(code, tmp_path, PYTHONPATH=f"{programs.SOURCE}:{Path(__file__).parents[3]}")
    assert (done.code, done.out) == (0, "True\n"), done.err


# -- the life of the program -------------------------------------------------------------------------------------------

PROGRAM = """
    import os, pickle, sys, threading
    from tests.support import hazards
    from tracekeeper.concurrency import ProcessCall, ProcessPool
    from tracekeeper.concurrency.processes import start as processes_start
    changes = {{"refused": "_SETSIG = 9999", "backstop": "_SETSIG, child.BACKSTOP = 9999, 0.5"}}
    processes_start.LIFELINE = "thread" if {lifeline!r} == "thread" else "signal"
    if change := changes.get({lifeline!r}):
        boot = "import tracekeeper.concurrency.processes.child as child; child." + change + "\\n"
        processes_start._BOOT = processes_start._BOOT.replace("getattr(", boot + "getattr(")
    pool, numbers = ProcessPool(limit=lambda: 8), []
    def run(function, *arguments, timeout=600.0):
        begun = threading.Event()
        target, arguments = pickle.dumps(function), pickle.dumps(arguments)
        call = ProcessCall(target=target, arguments=arguments, timeout=timeout, began=begun.set)
        threading.Thread(target=pool.run, args=(call,), daemon=True).start()
        assert begun.wait(30)
    for function in ({hazards}):
        run(function)
    pool.run(ProcessCall(target=pickle.dumps(hazards.pid), arguments=pickle.dumps(()), timeout=20))
    print(*pool.alive(), flush=True)
    sys.stdin.readline()
    {end}
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "os._exit(0)", "sys.exit(0)", "os.kill(os.getpid(), 15)"])
@pytest.mark.parametrize("lifeline", ["signal", "thread", "refused"])
def test_no_process_outlives_its_program(tmp_path: Path, end: str, lifeline: str) -> None:
    if lifeline != "thread" and sys.platform != "linux":
        pytest.skip("the signal of a pipe is Linux's")
    # Where only a thread watches, one that holds the interpreter lock ends at its own deadline (see the next test).
    holding = ", hazards.hold_the_interpreter" if lifeline == "signal" else ""
    code = PROGRAM.format(
        hazards=f"hazards.hang, hazards.ignore_signals{holding},", end="" if end == "killed" else end, lifeline=lifeline
    )
    process = programs.start(code, tmp_path, PYTHONPATH=f"{programs.SOURCE}:{Path(__file__).parents[3]}")
    numbers = [int(number) for number in programs.ready(process).split()]
    assert len(numbers) == (4 if holding else 3)
    if end == "killed":
        process.kill()
    process.communicate("\n", timeout=30)
    assert all(hazards.gone(number) for number in numbers)


@pytest.mark.slow
def test_without_the_signal_the_kernel_ends_a_call_after_its_deadline(tmp_path: Path) -> None:
    code = PROGRAM.format(hazards="hazards.pid,", end="", lifeline="backstop").replace(
        "sys.stdin.readline()",
        "run(hazards.hold_the_interpreter, timeout=1.0); print('holding', flush=True); sys.stdin.readline()",
    )
    path = f"{programs.SOURCE}:{Path(__file__).parents[3]}"
    process = programs.start(code, tmp_path, PYTHONPATH=path)
    numbers = [int(number) for number in programs.ready(process).split()]
    assert programs.ready(process) == "holding"
    process.kill()
    process.communicate(timeout=30)
    assert all(hazards.gone(number, within=1.5 + SLACK) for number in numbers)


FORKS = """
    import os, pickle, sys, time
    from tests.support import hazards
    from tracekeeper.concurrency import ProcessCall, ProcessPool
    pool = ProcessPool(limit=lambda: 2)
    def number():
        return pool.run(ProcessCall(target=pickle.dumps(hazards.pid), arguments=pickle.dumps(()), timeout=20)).value
    mine = number()
    if (child := os.fork()) == 0:
        assert pool.alive() == []
        its = number()
        assert its != mine
        print(its, flush=True)
        time.sleep(3600)
    assert number() == mine
    print(mine, child, flush=True)
    sys.stdin.readline()
    os._exit(0)
"""


def test_a_forked_child_has_processes_of_its_own_and_keeps_none_alive(tmp_path: Path) -> None:
    path = f"{programs.SOURCE}:{Path(__file__).parents[3]}"
    process = programs.start(FORKS, tmp_path, PYTHONPATH=path)
    lines = sorted([programs.ready(process).split(), programs.ready(process).split()], key=len)
    (its,), (mine, child) = ([int(number) for number in line] for line in lines)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    process.wait(timeout=30)
    assert hazards.gone(mine)  # although the forked child lives on
    assert hazards.alive(its)
    os.kill(child, 9)
    assert hazards.gone(its)
    process.communicate(timeout=30)


@pytest.mark.slow
def test_a_late_deadline_does_not_reach_the_next_call(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that ends at its very deadline: it counts or its process is given up; the next one never suffers."""
    statuses = set()
    for _ in range(15):
        outcome: ProcessOutcome = run(pool, hazards.sleep, 0.05, timeout=0.05)
        statuses.add(outcome.status)
        assert works(pool)
    assert statuses <= {"ok", "timed_out"}


def test_a_call_tells_before_it_is_over(pool: ProcessPool) -> None:
    from tracekeeper.concurrency.processes.child import tell

    told: list[Any] = []
    tell("nobody listens in this process")
    assert run(pool, tell, "news", told=told.append).value is None
    assert told == ["news"]
