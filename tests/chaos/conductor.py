"""Runs apps and workers on one data directory, does harm to them, and puts everything in order afterwards.

In order means: everything that was taken away is given back, whoever is left is asked to leave, and one healthy worker
gets the time to do what is left to do. What Tracekeeper stored is looked at elsewhere, in ``checks``.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import chaos_metrics as metrics
from tests.chaos.children import Children
from tests.chaos.harm import LEAVE_WITHIN, Harm
from tests.chaos.places import Clock, Disk

KEPT = {"app": 2, "worker": 2}
"""How many are kept running; for moments there are fewer."""
DISK = 640
"""Megabytes."""
RESTARTS = 10
"""How often a metric may kill the last worker."""
SAY_EVERY = 10.0

OPEN = f"SELECT count(*) FROM score WHERE status IN ('pending', 'running') AND name <> '{metrics.NOBODYS}'"
UNDECIDED = f"""
SELECT count(*) FROM record JOIN app ON app.id = record.app_id
WHERE app.name = '{metrics.RULED_APP}' AND record.status IN ('ok', 'error') AND NOT EXISTS
(SELECT 1 FROM score WHERE score.record_id = record.id AND score.name = '{metrics.RULED}')
"""
"""Records that the online rule has not seen to."""


class Conductor:
    """One run.

    Parameters
    ----------
    folder:
        An empty directory for everything that the run leaves.
    seed:
        Of everything that is drawn.
    calm:
        Do no harm.
    """

    def __init__(self, folder: Path, seed: int, *, calm: bool = False) -> None:
        self.folder = folder
        self.seed = seed
        self.calm = calm
        self.draw = random.Random(seed)
        self.disk = Disk(folder / "disk", DISK)
        self.clocks = Clock.prepare(folder)
        self.children = Children(folder, self.disk, self.draw)
        self.harm = Harm(self.children, self.draw, clocks=self.clocks)
        self.done = self.harm.done
        self.problems = self.harm.problems
        """What went wrong that no table shows: who did not leave, what is left behind."""
        self.kept = folder / "kept" / "data"
        """The data directory, once the run is over."""
        self._begun = time.monotonic()

    def run(self, seconds: float, *, settle: float, say: Callable[[str], None] = lambda _: None) -> None:
        """All of it: chaos for ``seconds``, then order, at most ``settle`` seconds. Leaves nothing behind."""
        try:
            self.children.start("app")
            self.children.start("worker")
            self._chaos(seconds, say)
            self._order()
            say(self.line("order"))
            self._settle(settle)
            say(self.line("settled"))
        finally:
            self.problems += self.children.end()
            self.disk.close(self.kept.parent)

    def line(self, phase: str) -> str:
        """What happened so far, in one line."""
        did = ", ".join(f"{count} {what}" for what, count in sorted(self.done.items()))
        apps, workers = (self.children.alive(kind) for kind in KEPT)
        return f"{time.monotonic() - self._begun:6.1f} s  {phase}: {apps} apps, {workers} workers; {did}"

    def _chaos(self, seconds: float, say: Callable[[str], None]) -> None:
        begun = spoken = time.monotonic()
        while time.monotonic() < begun + seconds:
            self.harm.take_back()
            self._keep_up()
            if not self.calm:
                self.harm.act()
            if time.monotonic() - spoken >= SAY_EVERY:
                spoken += SAY_EVERY
                say(self.line("chaos"))
            time.sleep(self.draw.uniform(0.2, 0.8))

    def _keep_up(self) -> None:
        for child in self.children.all:
            if child.told is None and not child.alive:
                child.told = f"ended by itself with {child.code}"
                self.children.tell(f"{child.name} {child.told}")
                self.done["ended by itself"] += 1
        if self.harm.disk_is_full:
            return  # a journal that cannot be made at all is a count in the memory of a process that may be killed
        for kind, wanted in KEPT.items():
            if self.children.alive(kind) < wanted and self.draw.random() < 0.7:
                self.children.start(kind)

    def _order(self) -> None:
        """Give everything back, and ask everybody to leave."""
        self.harm.take_everything_back()
        for child in self.children.all:
            if child.alive and child.told is None:
                self.harm.ask_to_leave(child, signal.SIGUSR1 if child.kind == "app" else signal.SIGTERM)
        until = time.monotonic() + LEAVE_WITHIN
        for child in self.children.all:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, until - time.monotonic()))
            self.harm.must_be_gone(child)
            child.code = child.process.wait(10)

    def _settle(self, at_most: float) -> None:
        """One healthy worker, until nothing is open that it can do; then somebody reads."""
        self.children.tell("only a healthy worker now")
        worker = self.children.start("worker", healthy=True)
        until = time.monotonic() + at_most
        quiet = restarts = 0
        while time.monotonic() < until and quiet < 3:
            time.sleep(0.5)
            quiet = quiet + 1 if self._open() == 0 else 0
            if not worker.alive and restarts < RESTARTS:
                restarts += 1
                worker.told = f"ended by itself with {worker.code}"
                self.children.tell(f"{worker.name} {worker.told}")
                worker = self.children.start("worker", healthy=True)
        if quiet < 3:
            self.problems.append(f"{self._open()} scores are open after {at_most:g} s of a healthy worker")
            worker.send(signal.SIGUSR2)
        self.harm.ask_to_leave(worker, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(LEAVE_WITHIN)
        self.harm.must_be_gone(worker)
        worker.code = worker.process.wait(10)
        self._read()

    def _open(self) -> int:
        """Scores that somebody could still do, records that the rule has not seen, journals that nobody has stored."""
        database = self.children.directory / "tracekeeper.db"
        if not database.exists():
            return 1
        journals = len(list((self.children.directory / "journal").glob("*.journal")))
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
            counts = [int(reader.execute(query).fetchone()[0]) for query in (OPEN, UNDECIDED)]
        return sum(counts) + max(0, journals - 1)

    def _read(self) -> None:
        """A reader comes: it takes away what dead processes left, and must be able to read."""
        done = subprocess.run(
            [sys.executable, "-m", "tracekeeper", "status", "--json"],
            cwd=self.folder,
            env=self.children.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        (self.folder / "status.json").write_text(done.stdout)
        if done.returncode:
            self.problems.append(f"tracekeeper status ended with {done.returncode}: {done.stderr.strip()[-500:]}")
