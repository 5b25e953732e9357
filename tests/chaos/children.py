"""The apps and workers of a run: started in sessions of their own, known by a mark, gone in the end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.places import HERE, SOURCE, Clock, Disk

LEASE = 1.5
EXIT_TIMEOUT = 2.0
SMALL = 1 << 20
"""Bytes of some journals, which are then full when the database is locked for seconds."""


class Child:
    """An app or a worker: its process, its clock, and what was done to it."""

    def __init__(self, kind: str, name: str, process: subprocess.Popen[bytes], clock: Clock, log: Path) -> None:
        self.kind = kind
        self.name = name
        self.process = process
        self.clock = clock
        self.log = log
        self.began = time.monotonic()
        self.stops: list[tuple[float, float]] = []
        """When it stood still, by the monotonic clock."""
        self.stopped_at: float | None = None
        self.stepped = False
        """Whether its clock was set."""
        self.told: str | None = None
        """The signal that it was sent to end it, or that it ended by itself."""
        self.code: int | None = None

    @property
    def alive(self) -> bool:
        """Whether its process runs or stands still."""
        if self.code is None:
            self.code = self.process.poll()
        return self.code is None

    @property
    def going(self) -> bool:
        """Alive, and not standing still nor on its way out."""
        return self.alive and self.stopped_at is None and self.told is None

    def send(self, which: signal.Signals) -> None:
        """A signal to the process alone, if it is there."""
        if self.alive:
            self.process.send_signal(which)

    def stop(self) -> None:
        """Let it stand still."""
        self.send(signal.SIGSTOP)
        self.stopped_at = time.monotonic()

    def go_on(self) -> None:
        """Let it go on, if it stands still."""
        if self.stopped_at is not None:
            self.send(signal.SIGCONT)
            self.stops.append((self.stopped_at, time.monotonic()))
            self.stopped_at = None


class Children:
    """All of one run.

    Parameters
    ----------
    folder:
        Where the run keeps its things.
    disk:
        With the data directory.
    draw:
        What differs between them is drawn from it.
    """

    def __init__(self, folder: Path, disk: Disk, draw: random.Random) -> None:
        for name in ("logs", "clocks", "tmp"):
            (folder / name).mkdir(parents=True)
        self.folder = folder
        self.disk = disk
        self.directory = disk.folder / "data"
        self.all: list[Child] = []
        self._draw = draw
        self._mark = f"{folder.name}-{os.getpid()}"
        self._begun = time.monotonic()

    def alive(self, kind: str) -> int:
        """How many of a kind are alive."""
        return sum(child.kind == kind and child.alive for child in self.all)

    def start(self, kind: str, *, healthy: bool = False) -> Child:
        """One more; a healthy one has a clock that nobody steps."""
        name = f"{kind}{sum(child.kind == kind for child in self.all)}"
        log = self.folder / "logs" / f"{name}.jsonl"
        clock = Clock(self.folder / "clocks" / name)
        if kind == "app":
            command = [str(HERE / "chaos_app.py"), name, str(log), str(self._draw.getrandbits(32))]
        else:
            command = ["-m", "tracekeeper", "worker", "--import", "chaos_metrics", "--concurrency", "16"]
        with log.with_suffix(".err").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=self.environment(None if healthy else clock),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # a Ctrl-C is for the conductor alone
            )
        child = Child(kind, name, process, clock, log)
        self.all.append(child)
        self.tell(f"start {name} (pid {process.pid})")
        return child

    def environment(self, clock: Clock | None = None) -> dict[str, str]:
        """Of an app, a worker, or a reader of the data directory."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRACEKEEPER_", "CHAOS_"))}
        return {
            **kept,
            "PYTHONPATH": f"{HERE / 'site'}{os.pathsep}{HERE}{os.pathsep}{SOURCE}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TRACEKEEPER_DIRECTORY": str(self.directory),
            "TRACEKEEPER_LEASE": str(LEASE),
            "TRACEKEEPER_EXIT_TIMEOUT": str(EXIT_TIMEOUT),
            "TRACEKEEPER_SIGTERM": str(int(self._draw.random() < 0.5)),
            **({"TRACEKEEPER_JOURNAL_LIMIT": str(SMALL)} if self._draw.random() < 0.3 else {}),
            "TMPDIR": str(self.folder / "tmp"),
            "CHAOS_RUN": self._mark,
            **(clock.environment() if clock is not None else {}),
            **self.disk.environment(),
        }

    def has_a_journal(self, child: Child) -> bool:
        """Whether it can say what it drops: what is dropped without a journal is counted in memory alone."""
        return any((self.directory / "journal").glob(f"*-{child.process.pid}-*.journal"))

    def tell(self, what: str) -> None:
        """A line of the run's own log."""
        with (self.folder / "events.log").open("a") as file:
            file.write(f"{time.monotonic() - self._begun:8.2f} {what}\n")

    def end(self) -> list[str]:
        """Kill whoever is still there; what was left behind: processes and temporary files."""
        for child in self.all:
            child.go_on()
            child.send(signal.SIGKILL)
            child.process.wait(10)
        problems = []
        left = dict(self._left_behind())
        until = time.monotonic() + 3  # a process that was told to go needs a moment
        while left and time.monotonic() < until:
            time.sleep(0.1)
            left = dict(self._left_behind())
        for pid, command in left.items():
            problems.append(f"a process is left: {pid} {command}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return problems + [f"a temporary file is left: {path.name}" for path in (self.folder / "tmp").iterdir()]

    def _left_behind(self) -> Iterator[tuple[int, str]]:
        """Processes of this run, by the mark in their environment."""
        mark = f"CHAOS_RUN={self._mark}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if command:  # a zombie has none
                        yield int(entry.name), command.strip()
            except OSError:  # gone meanwhile, or somebody else's
                continue
