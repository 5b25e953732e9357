"""What is done to apps, workers, their database, disk and clocks. Drawn from the seed, and taken back again."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.chaos.children import EXIT_TIMEOUT, LEASE, Child, Children

LEAVE_WITHIN = EXIT_TIMEOUT + 10.0
"""Seconds within which a process must be gone that was asked to leave: what it is allowed, the storing, and slack."""
YOUNG = 1.0
"""Seconds for which a process is left alone."""


class Harm:
    """Does it.

    Parameters
    ----------
    children:
        To whom.
    draw:
        What, to whom of them, and for how long.
    clocks:
        Whether clocks can be stepped here.
    """

    def __init__(self, children: Children, draw: random.Random, *, clocks: bool) -> None:
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        """Who did not leave although it was asked to."""
        self.disk_is_full = False
        self._children = children
        self._draw = draw
        self._clocks = clocks
        self._later: list[tuple[float, str, Callable[[], None]]] = []
        self._lock: threading.Thread | None = None

    def act(self) -> None:
        """One thing, or nothing."""
        what = self._draw.choices(list(ACTIONS), [weight for weight, _ in ACTIONS.values()])[0]
        now = time.monotonic()
        going = [child for child in self._children.all if child.going and now - child.began > YOUNG]
        kind = self._draw.choice(("app", "worker"))
        victims = [child for child in going if child.kind == kind] or going
        if victims and ACTIONS[what][1](self, self._draw.choice(victims)):
            self.done[what] += 1

    def take_back(self) -> None:
        """What is due by now."""
        now = time.monotonic()
        for each in [each for each in self._later if each[0] <= now]:
            self._later.remove(each)
            self._children.tell(each[1])
            each[2]()

    def take_everything_back(self) -> None:
        """All of it, now."""
        for child in self._children.all:
            child.go_on()
            if child.clock.offset:
                child.clock.step(0.0)
        if self._lock is not None:
            self._lock.join(30)
        self._free_disk()
        self._later.clear()

    def ask_to_leave(self, child: Child, how: signal.Signals) -> bool:
        """With a signal, SIGKILL among them; whoever is asked politely must be gone after a while."""
        child.send(how)
        child.told = how.name
        self._children.tell(f"{how.name} to {child.name}")
        if how != signal.SIGKILL:
            self._after(LEAVE_WITHIN, f"{child.name} should be gone", lambda: self.must_be_gone(child))
        return True

    def must_be_gone(self, child: Child) -> None:
        """It had its time. If it is there, its stacks go into its log."""
        if child.alive:
            child.send(signal.SIGUSR2)
            time.sleep(0.5)
            self.problems.append(f"{child.name} did not leave within {LEAVE_WITHIN:g} s after {child.told}")
            child.send(signal.SIGKILL)

    # -- the actions: whether anything was done ----------------------------------------------------------------------

    def _nothing(self, _: Child) -> bool:
        return False

    def _kill(self, child: Child) -> bool:
        return self.ask_to_leave(child, signal.SIGKILL)

    def _terminate(self, child: Child) -> bool:
        return self.ask_to_leave(child, signal.SIGTERM)

    def _ask(self, child: Child) -> bool:
        return child.kind == "app" and self.ask_to_leave(child, signal.SIGUSR1)

    def _stop(self, child: Child) -> bool:
        child.stop()
        pause = LEASE * self._draw.uniform(1.1, 3.0)
        self._children.tell(f"SIGSTOP to {child.name} for {pause:.1f} s")
        self._after(pause, f"SIGCONT to {child.name}", child.go_on)
        return True

    def _step_clock(self, child: Child) -> bool:
        if not self._clocks:
            return False
        size = self._draw.choice((0.5, LEASE, 2 * LEASE, 60.0, 3600.0)) * self._draw.uniform(0.8, 1.2)
        offset = 0.0 if child.clock.offset and self._draw.random() < 0.5 else size * self._draw.choice((-1, 1))
        child.clock.step(offset)
        child.stepped = True
        self._children.tell(f"the clock of {child.name} is {offset:+.1f} s beside the others")
        return True

    def _fill_disk(self, _: Child) -> bool:
        staying = [child for child in self._children.all if child.alive and child.told is None]
        if self.disk_is_full or not all(map(self._children.has_a_journal, staying)):
            return False
        self.disk_is_full = True
        self._children.disk.fill()
        pause = self._draw.uniform(0.5, 6.0)
        self._children.tell(f"the disk is full for {pause:.1f} s")
        self._after(pause, "the disk has room again", self._free_disk)
        return True

    def _free_disk(self) -> None:
        self._children.disk.free()
        self.disk_is_full = False

    def _lock_database(self, _: Child) -> bool:
        held = self._lock is not None and self._lock.is_alive()
        if held or not (self._children.directory / "tracekeeper.db").exists():
            return False
        pause = self._draw.uniform(0.5, 4.0)
        self._children.tell(f"the database is locked for {pause:.1f} s")
        self._lock = threading.Thread(target=self._hold_database, args=(pause,), daemon=True)
        self._lock.start()
        return True

    def _hold_database(self, pause: float) -> None:
        database = self._children.directory / "tracekeeper.db"
        until = time.monotonic() + pause + 10.0  # somebody who stands still may hold it
        try:
            with contextlib.closing(sqlite3.connect(database, isolation_level=None, timeout=0.1)) as connection:
                while time.monotonic() < until:
                    try:
                        connection.execute("BEGIN EXCLUSIVE")
                    except sqlite3.OperationalError:
                        continue  # it has waited for a tenth of a second
                    time.sleep(pause)
                    connection.execute("ROLLBACK")
                    return
        except sqlite3.Error as error:  # the disk is full at the same time
            self._children.tell(f"the database could not be locked: {error}")

    def _after(self, seconds: float, what: str, action: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, what, action))


ACTIONS: dict[str, tuple[float, Callable[[Harm, Child], bool]]] = {
    "nothing": (8, Harm._nothing),
    "killed": (3, Harm._kill),
    "terminated": (1.5, Harm._terminate),
    "asked to leave": (1.5, Harm._ask),
    "stopped": (3, Harm._stop),
    "clock steps": (2, Harm._step_clock),
    "disk full": (1, Harm._fill_disk),
    "database locked": (1.5, Harm._lock_database),
}
"""What is done, and how often in relation to the others."""
