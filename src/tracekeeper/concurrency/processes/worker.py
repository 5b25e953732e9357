"""One worker process, as the program that started it sees it: start, one call at a time, how it ended.

A thread that talks to the process never waits without end: whoever gives the process up (a deadline on the watchdog's
thread, the exit, a caller who lost interest) calls ``kill``, which wakes that thread too. Why it was killed is kept, so
that a death of our own making is not taken for a crash.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from tracekeeper.concurrency.processes import start as processes_start
from tracekeeper.concurrency.processes.child import ASK_WHERE
from tracekeeper.concurrency.processes.outcome import ProcessCall, ProcessOutcome, ending, outcome_of, place_in
from tracekeeper.concurrency.processes.start import Started
from tracekeeper.concurrency.watchdog import watchdog
from tracekeeper.types import faults

LOOK = 0.5
"""Seconds between two looks whether a process that says nothing is still there, and still wanted."""
MOMENT = 0.05
"""Seconds that a process has at its deadline to say where it is."""
EXIT_WITHIN = 1.0
"""Seconds that a process whose connection ended has until it is counted as one that lives on without it."""
REPORT = 65_536
"""Bytes read of what a process left in its log."""
DEADLINE = "its deadline has come"
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


class WorkerProcess:
    """A process that takes calls. One thread at a time talks to it, any may ``kill`` it."""

    def __init__(self, started: Started) -> None:
        self.process = started.process
        self.channel = started.channel
        self.calls = 0
        self.idle_since = 0.0
        self.doom: str | None = None
        """Why this program killed it."""
        self.spent = False
        """It takes no more calls."""
        self.ended = False
        """It is gone and nothing of it is left open."""
        self._loaded: set[bytes] = set()
        self._started = started
        self._log = started.log
        self._reaping = threading.Lock()

    # -- start -------------------------------------------------------------------------------------------------

    def wait_ready(self, within: float) -> ProcessOutcome | None:
        """Wait until it takes calls; the reason why it never will, else ``None``."""
        deadline = _Deadline(self, within)
        try:
            faults.point("processes.starting")
            server = self._started.server
            if server is not None:
                self.channel = processes_start.accept(server, self._started.token, self._gone)
            self._receive()
            if not deadline.met():
                raise EOFError
            with contextlib.suppress(OSError):  # what was printed while it started is none of its crash report
                self._log.seek(0)
                self._log.truncate()
        except EOFError:
            deadline.met()
            return self._not_started(within)
        return None

    def _gone(self) -> bool:
        return self.doom is not None or self.exit_status() is not None

    def _not_started(self, within: float) -> ProcessOutcome:
        ended = self.how_it_ended()
        said = self.end()
        if self.doom not in (None, DEADLINE):
            return ProcessOutcome(status="cancelled", reason=str(self.doom), retriable=False)
        late = self.doom is not None
        how = f"did not start within {within:g} s" if late else f"did not start: it {ended}"
        last = " / ".join(line.strip() for line in said.strip().splitlines()[-3:])
        reason = f"its process {how}" + (f", and said: {last}" if last else "")
        return ProcessOutcome(status="not_started", reason=reason, traceback=said or None)

    # -- one call ----------------------------------------------------------------------------------------------

    def call(self, call: ProcessCall) -> ProcessOutcome | None:
        """Make a call; ``None`` when the process was gone before it was asked, so that another one can be."""
        assert self.channel is not None
        self.calls += 1
        loading = True
        deadline = _Deadline(self, call.load_within)
        try:
            try:
                request = (call.target, call.arguments, call.timeout, call.memory_limit, call.load_within)
                self.channel.send(pickle.dumps(request))
            except OSError:
                if self.doom is None:
                    self.end()
                    return None
                raise EOFError from None
            answer = self._receive(call.unwanted, call.told)
            if answer[0] == "began" and deadline.met():
                loading = False
                self._loaded.add(call.target)
                deadline = _Deadline(self, call.timeout)
                if call.began is not None:
                    call.began()
                answer = self._receive(call.unwanted, call.told)
            if answer[0] == "began":
                raise EOFError
            self.spent = bool(answer[1])
            if not deadline.met():
                raise EOFError  # being asked where it is woke it up: what it says now comes too late
        except EOFError:
            if loading and self.doom is None and call.target in self._loaded:
                self.end()  # it has nothing to load: somebody killed it while it was idle
                return None
            return self._lost(call, loading)
        finally:
            self.spent = not deadline.met() or self.spent
        return outcome_of(answer)

    def _receive(
        self, unwanted: Callable[[], bool] | None = None, told: Callable[[Any], None] | None = None
    ) -> tuple[Any, ...]:
        """The next message. Raises ``EOFError`` when there will be none."""
        assert self.channel is not None
        while True:
            message = self.channel.receive(LOOK)
            if message is None and self.exit_status() is not None:  # something it forked may hold the connection
                message = self.channel.receive(0)
                if message is None:
                    raise EOFError
            if message is not None:
                said: tuple[Any, ...] = pickle.loads(message)
                if said[0] != "told":
                    return said
                if told is not None:
                    told(said[1])
            elif unwanted is not None and unwanted():
                self.kill("nobody waits for the result any more")

    def _lost(self, call: ProcessCall, loading: bool) -> ProcessOutcome:
        """The process ended, or was ended, before it answered."""
        ended = self.how_it_ended()
        report = self.end()
        where = place_in(report)
        place = f" in {where}" if where else ""
        if self.doom == DEADLINE or (self.doom is None and ended == "was killed by SIGALRM"):
            if loading:
                reason = f"could not be loaded in its process within {call.load_within:g} s{place}"
                return ProcessOutcome(status="not_started", reason=reason, traceback=report or None)
            reason = f"timed out after {call.timeout:g} s{place}"
            return ProcessOutcome(status="timed_out", reason=reason, traceback=report or None)
        if self.doom is not None:
            return ProcessOutcome(status="cancelled", reason=self.doom, retriable=False)
        reason = f"its process {ended}{' while it was loaded' if loading else ''}{place}"
        return ProcessOutcome(status="died", reason=reason, traceback=report or None)

    # -- the end -----------------------------------------------------------------------------------------------

    def exit_status(self) -> int | None:
        """Its return code, negative for a signal; ``None`` while it lives. What it forked goes with it."""
        with self._reaping:
            process = self.process
            if process.returncode is None and hasattr(os, "waitid"):
                try:
                    # The zombie keeps its number from being given to another process while its group is killed.
                    if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                        return None
                except ChildProcessError:  # somebody else has waited for it
                    return process.poll()
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
            return process.poll()

    def kill(self, why: str) -> None:
        """End it and what it forked at once, and wake whoever waits for it. From any thread; waits for nothing."""
        if self.doom is None:
            self.doom = why
        self._signal(_KILL, group=True)
        if self.channel is not None:
            self.channel.shut()

    def ask_where(self) -> bool:
        """Have it write where it is; false where that is not possible."""
        if ASK_WHERE is not None:
            self._signal(ASK_WHERE, group=False)
        return ASK_WHERE is not None

    def _signal(self, number: int, *, group: bool) -> None:
        with self._reaping:
            if self.process.returncode is None:
                with contextlib.suppress(OSError):
                    if not group:
                        os.kill(self.process.pid, number)
                    elif hasattr(os, "killpg"):
                        os.killpg(self.process.pid, number)
                    else:
                        self.process.kill()

    def leave(self) -> None:
        """Let it exit as a program does: it finds its connection at an end."""
        if self.channel is not None:
            self.channel.shut()

    def wait(self, seconds: float) -> bool:
        """Wait for its exit; false when it lives on."""
        until = time.monotonic() + seconds
        pause = 0.001
        while self.exit_status() is None:
            if time.monotonic() >= until:
                return False
            time.sleep(pause)
            pause = min(0.05, pause * 2)
        return True

    def end(self) -> str:
        """Kill it if it lives, reap it, close everything; what was in its log."""
        self.spent = True
        self._signal(_KILL, group=True)
        self.wait(10)
        said = ""
        with contextlib.suppress(OSError, ValueError):
            self._log.seek(0)
            said = self._log.read(REPORT).decode("utf-8", "replace")
        self._close()
        return said

    def _close(self) -> None:
        self.ended = True
        self._log.close()
        for opened in (self.channel, self._started.server):
            if opened is not None:
                opened.close()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def disown(self) -> None:
        """In a forked child: it is the parent's process. Let go of the files, say nothing to it."""
        self.process.returncode = 0  # nobody here may wait for it
        self._close()

    def how_it_ended(self) -> str:
        """In words, once its connection is at an end."""
        if not self.wait(EXIT_WITHIN):
            return "closed its connection and went on"
        return ending(self.process.returncode)


class _Deadline:
    """Of one phase of a call. Either it is met, or the process is doomed: one of the two, whoever comes first."""

    def __init__(self, worker: WorkerProcess, seconds: float) -> None:
        self._worker = worker
        self._open: list[None] = [None]
        self._met = False
        clock = watchdog()
        self._timer = clock.at(clock.now() + seconds, self._passed)

    def met(self) -> bool:
        """The phase is over; false when its deadline came before."""
        if not self._met:
            self._timer.cancel()
            try:
                self._open.pop()
            except IndexError:
                return False
            self._met = True
        return True

    def _passed(self) -> None:
        """On the watchdog's thread: ask the process where it is, and kill it a moment later."""
        try:
            self._open.pop()
        except IndexError:
            return
        worker = self._worker
        worker.doom = worker.doom or DEADLINE
        if worker.ask_where():
            clock = watchdog()
            clock.at(clock.now() + MOMENT, partial(worker.kill, DEADLINE))
        else:
            worker.kill(DEADLINE)
