"""Apps and workers as processes of their own, on one data directory, and what the store says of their scores."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import programs

from tracekeeper.store.store import Store

JUDGES = """
import os, signal, sys, time
from pathlib import Path
import tracekeeper as tk

def _wait_while(name):
    "As long as the test keeps the file there."
    Path(f"begun-{os.getpid()}").touch()
    while Path(name).exists():
        time.sleep(0.01)

def quick(output):
    return len(output)

def held(output):
    _wait_while("hold")
    return 1.0

def deadly(output):
    os.kill(os.getpid(), signal.SIGKILL)

@tk.metric(mode="deferred")
def later(output):
    with open(f"ran-{os.getpid()}", "a") as account:
        account.write(output + "\\n")
    return 1.0

@tk.metric(mode="deferred", retries=2)
def third_time(output):
    with open("tries", "a") as account:
        account.write("x")
    if len(Path("tries").read_text()) < 3:
        raise ValueError("not yet")
    return 1.0

@tk.metric(mode="deferred", timeout=30)
def waits(output):
    _wait_while("hold")
    return 1.0

@tk.metric(mode="deferred", concurrency=2, timeout=30)
def narrow(output):
    with open("narrow", "a") as account:
        account.write("+")
    time.sleep(0.05)
    with open("narrow", "a") as account:
        account.write("-")
    return 1.0

@tk.metric(mode="deferred", names=["a", "b"])
def pair(output):
    return {"a": 1, "b": 2}
"""

APP = """
import os, signal, sys
import tracekeeper as tk
import judges
from judges import *

def app(name, metrics):
    @tk.app(name=name, version="1", metrics=metrics)
    def ask(question):
        return question
    return ask
"""


class Said(NamedTuple):
    """What a worker printed, and how it ended."""

    code: int
    out: str
    err: str


def directory(path: Path) -> Path:
    """Put the metrics there."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "judges.py").write_text(JUDGES)
    return path


def app(path: Path, code: str, **more: str) -> programs.Finished:
    """Run an app to its end."""
    return programs.run(APP + textwrap.dedent(code), directory(path), **more)


def start_app(path: Path, code: str, **more: str) -> subprocess.Popen[str]:
    """Start an app; it prints a line when it is ready, and then waits for its standard input to be closed."""
    return programs.start(
        APP + textwrap.dedent(code) + "\nprint('ready', flush=True)\nsys.stdin.read()\n", directory(path), **more
    )


def start(path: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    """Start a worker; it is claiming when this returns."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "tracekeeper", "worker", "--import", "judges", *words],
        cwd=directory(path),
        env=programs.environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert programs.ready(worker).startswith("worker ")
    return worker


def finish(worker: subprocess.Popen[str], timeout: float = 60) -> Said:
    """Wait for a worker's end."""
    out, err = worker.communicate(timeout=timeout)
    return Said(worker.returncode, out, err)


def once(path: Path, *words: str, timeout: float = 60) -> Said:
    """Let a worker settle what there is."""
    return finish(start(path, "--once", *words), timeout)


class Scores:
    """What the store of a directory says."""

    def __init__(self, path: Path) -> None:
        self.store = Store.open(f"sqlite:///{path / '.tracekeeper' / 'tracekeeper.db'}")

    def rows(self, name: str | None = None) -> list[Any]:
        """The score rows."""
        with self.store.read() as connection:
            rows = connection.exec_driver_sql("SELECT * FROM score ORDER BY id").fetchall()
        return [row for row in rows if name is None or row.name == name]

    def attempts(self) -> list[Any]:
        """Earlier attempts."""
        with self.store.read() as connection:
            return list(connection.exec_driver_sql("SELECT * FROM score_attempt ORDER BY score_id, attempt").fetchall())

    def statuses(self, name: str | None = None) -> Counter[str]:
        """How many there are of each status."""
        return Counter(row.status for row in self.rows(name))

    def apps(self) -> dict[int, str]:
        """Name of each app by row id."""
        with self.store.read() as connection:
            return dict(connection.exec_driver_sql("SELECT id, name FROM app").fetchall())  # type: ignore[arg-type]

    def refused(self) -> int:
        """Frames that came from somebody who had lost the score."""
        with self.store.read() as connection:
            return int(connection.exec_driver_sql("SELECT sum(refused) FROM journal").scalar() or 0)

    def until(self, what: Callable[[Scores], Any], timeout: float = 60) -> Any:
        """Wait until something is true of it. (Another process writes it: there is nothing to wait on but a look.)"""
        deadline = time.monotonic() + timeout
        while not (found := what(self)):
            assert time.monotonic() < deadline, [tuple(row) for row in self.rows()]
            time.sleep(0.02)
        return found

    def close(self) -> None:
        """Let go of the database."""
        self.store.close()
