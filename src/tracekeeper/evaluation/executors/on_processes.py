"""Processes of this machine as an engine: each hosts a ``Workplace``. It is what ``isolation="process"`` of a run is.

A process is started, bound to this program's life and killed as those of isolated metrics are
(``concurrency.processes``). Two threads belong to each: one hears it, one says to it what is to be said, since a
process whose interpreter is held by C code reads nothing, and nobody here may wait for it.
"""

from __future__ import annotations

import os
import pickle
import queue
from collections.abc import Callable, Sequence
from typing import Any

from tracekeeper.concurrency.processes import start as processes_start
from tracekeeper.concurrency.processes.outcome import place_in
from tracekeeper.concurrency.processes.start import Started
from tracekeeper.concurrency.processes.worker import WorkerProcess
from tracekeeper.concurrency.threads import start_daemon
from tracekeeper.evaluation.executors.elsewhere.engine import Gone
from tracekeeper.evaluation.executors.elsewhere.messages import Message, Order, Setup
from tracekeeper.evaluation.executors.elsewhere.remote import RemoteExecutor
from tracekeeper.judging.isolation import certainly_local

START_WITHIN = 60.0
"""Seconds that a process has until it can be told what to do."""
LOOK = 0.5
"""Seconds between two looks whether a process is there: one that it forked may hold its connection open."""
SERVED = "tracekeeper.evaluation.executors.elsewhere.served:main"

Told = tuple["HostedProcess", list[Message] | Gone]


class ProcessEngine:
    """Workers that are processes of this machine."""

    name = "local"

    def __init__(self) -> None:
        self._told: queue.SimpleQueue[Told] = queue.SimpleQueue()

    @staticmethod
    def dumps(task: Any) -> bytes:
        """With pickle: a process imports what it calls.

        Raises
        ------
        ValueError
            No other process can import it; says what to do.
        """
        why = certainly_local(task)
        if why is not None:
            raise ValueError(f"another process cannot import {why}")
        return pickle.dumps(task)

    def room(self) -> int:
        """One for each processor."""
        return os.cpu_count() or 1

    def start(self, setup: Setup) -> HostedProcess:
        """A process, started by a thread of its own."""
        return HostedProcess(self._told.put, setup)

    def wait(self, workers: Sequence[HostedProcess], timeout: float) -> list[Told]:
        """See ``Engine``."""
        found: list[Told] = []
        try:
            found.append(self._told.get(timeout=timeout))
            while len(found) < len(workers):
                found.append(self._told.get_nowait())
        except queue.Empty:
            pass  # that is all for now
        there = set(map(id, workers))
        return [told for told in found if id(told[0]) in there]


class HostedProcess:
    """One of them."""

    def __init__(self, told: Callable[[Told], None], setup: Setup) -> None:
        self._told = told
        self._setup = setup
        self._process: WorkerProcess | None = None
        self._unwanted = False
        self._to_say: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        self._last_words: queue.SimpleQueue[list[Message]] = queue.SimpleQueue()
        start_daemon(self._run, "tracekeeper-hosted")

    def begin(self, orders: list[Order]) -> None:
        """See ``Hosted``."""
        self._to_say.put(("begin", orders))

    def cancel(self, number: int) -> None:
        """See ``Hosted``."""
        self._to_say.put(("cancel", number))

    def leave(self, seconds: float) -> list[Message]:
        """See ``Hosted``."""
        self._to_say.put(("leave", seconds))
        return self._last_words.get(timeout=seconds + 1)

    def kill(self) -> None:
        """With SIGKILL, and what it forked."""
        self._unwanted = True
        if self._process is not None:
            self._process.kill("it is not needed any more")

    # -- the thread that hears it ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            processes_start.start((), self._known, main=SERVED)
        except OSError as error:
            self._told((self, Gone(f"no process could be started: {error}")))
            return
        process = self._process
        assert process is not None
        refused = process.wait_ready(START_WITHIN)
        if refused is not None:
            self._told((self, Gone(refused.reason)))
            return
        self._to_say.put(("setup", self._setup))
        start_daemon(self._say, "tracekeeper-hosted")
        try:
            while True:
                self._hear(process)
        except EOFError:
            ended = process.how_it_ended()
        finally:
            self._to_say.put(None)
        where = place_in(process.end())
        self._told((self, Gone(f"its process {ended}{f' in {where}' if where else ''}")))

    def _known(self, started: Started) -> None:
        self._process = WorkerProcess(started)
        if self._unwanted:
            self.kill()

    def _hear(self, process: WorkerProcess) -> None:
        assert process.channel is not None
        message = process.channel.receive()
        assert message is not None
        kind, said = pickle.loads(message)
        if kind == "left":
            self._last_words.put(said)
        else:
            self._told((self, said))

    # -- the thread that says to it ----------------------------------------------------------------------------

    def _say(self) -> None:
        process = self._process
        assert process is not None
        assert process.channel is not None
        while True:
            try:
                what = self._to_say.get(timeout=LOOK)
            except queue.Empty:
                if process.exit_status() is not None:
                    process.channel.shut()
                continue
            if what is None:
                return
            try:
                process.channel.send(pickle.dumps(what))
            except OSError:
                continue  # it is gone, which the other thread says


def process_executor(
    *, concurrency: int, timeout: float | None, retries: int, workers: int | None = None
) -> RemoteExecutor:
    """What ``isolation="process"`` is; call it yourself to say how many processes there are.

    Parameters
    ----------
    concurrency, timeout, retries:
        As of ``tk.evaluate``: calls at a time, seconds for each, how often one that failed is tried again.
    workers:
        Processes; default: one for each processor, at most ``concurrency``. Each makes its share of the calls that are
        made at a time, in threads or on an event loop; with ``workers=concurrency`` each call has one to itself.
    """
    return RemoteExecutor(ProcessEngine(), concurrency=concurrency, timeout=timeout, retries=retries, workers=workers)
