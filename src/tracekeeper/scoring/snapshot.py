"""What a process is at, in a file beside its journal: for ``tracekeeper status``, also when the database is locked.

``<data directory>/processes/<journal>.json``, written by the engine's thread at most once a second and only while
something is open, held up or different from what it says; removed at exit. Whoever reads drops those of dead processes.

Invariants
----------
- A reader finds a whole file or none: it is renamed into place.
- Nothing of it is needed for anything: a disk that is full costs the view, never a score.
- Stacks are taken only of what has run for longer than a second: looking into a thread costs microseconds, and what
  ends by itself needs no looking at.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tracekeeper.concurrency import stacks
from tracekeeper.journal import directory as journal_directory
from tracekeeper.journal import liveness, processes
from tracekeeper.scoring import watching
from tracekeeper.scoring.runners import inline_runner, scoring_runner
from tracekeeper.scoring.worker.registered import AppAbilities
from tracekeeper.tracing import runtime

if TYPE_CHECKING:
    from tracekeeper.concurrency import Task
    from tracekeeper.scoring.engine import Engine
    from tracekeeper.scoring.jobs import Job

log = logging.getLogger("tracekeeper")

FOLDER = "processes"
EVERY = 1.0
"""Seconds between two files, at least."""
AGAIN = 5.0
"""Seconds after which a process that has only held-up threads left says so again."""
WAKE_EVERY, TRIES = 0.2, 25
"""Seconds between two attempts to have the engine's thread look, and how many before it is left in peace."""
STACK_AFTER = 1.0
"""Seconds that something has run before it is said where it is."""
_OURS = str(Path(__file__).parent) + os.sep
SHOWN = 200
"""Calls that are named one by one, the oldest first."""


class _Written:
    """What an engine's file says."""

    __slots__ = ("asked", "at", "due", "path", "says", "waking")

    def __init__(self) -> None:
        self.at = float("-inf")
        self.asked = float("-inf")
        """When it was last asked whether the file is up to date."""
        self.due = float("-inf")
        """When that is to be asked again, whether or not anything is open by then."""
        self.path: Path | None = None
        self.says: tuple[Any, ...] = ()
        self.waking = False


_written: weakref.WeakKeyDictionary[Engine, _Written] = weakref.WeakKeyDictionary()


def write(engine: Engine) -> None:
    """Bring the file up to date, if it is time to. On the engine's thread; raises nothing."""
    journal = engine.keeper.journal
    if journal is None:  # nothing was ever written, so nothing was ever judged
        return
    state = _written.get(engine)
    if state is None:
        state = _written.setdefault(engine, _Written())
    now = state.asked = time.monotonic()
    if now - state.at < EVERY:
        _wake_at(engine, state, state.at + EVERY)
        return
    held_up = sum(sum(runner.abandoned()) for runner in (scoring_runner(), inline_runner()))
    said_open = len(engine.open)
    says = (journal.name, said_open, sum(engine.settled.values()), engine.errors, held_up)
    if says == state.says and not engine.open and not held_up:
        return
    path = folder(engine.keeper.directory) / f"{journal.name}.json"
    try:
        _put(path, msgspec.json.encode(account(engine), enc_hook=str))
        if state.path is not None and state.path != path:  # of a journal that was closed meanwhile
            state.path.unlink(missing_ok=True)
    except Exception as error:  # noqa: BLE001  a full disk, a call that ended while it was looked at: only a view is lost
        log.debug("tracekeeper cannot say what this process is at: %r", error)
    state.at, state.path, state.says = time.monotonic(), path, says
    # By what was said, not by what is open now: its end must be said too, and nobody else makes the thread look then.
    if said_open or held_up:
        _wake_at(engine, state, state.at + (EVERY if said_open else AGAIN))


def folder(directory: Path) -> Path:
    """Where the files of a data directory lie."""
    return directory / FOLDER


def account(engine: Engine) -> dict[str, Any]:
    """What the file says: plain data."""
    now = time.time()
    keeper, journal = engine.keeper, engine.keeper.journal
    status = engine.status(stacks_after=STACK_AFTER)
    held_up = [call for call in status.pop("running") if call["settled"]]
    begun = status.pop("started")
    begun_at = [(job.began, job) for job in engine.flying.copy().values()]
    jobs = sorted(((began, job) for began, job in begun_at if began is not None), key=lambda each: each[0])
    return {
        "version": 1,
        "journal": None if journal is None else journal.name,
        "pid": os.getpid(),
        "host": processes.host(),
        "started": _PROCESS_STARTED,
        "at": now,
        **status,
        "begun": begun,
        "oldest_waiting": _oldest_waiting(engine.open.values()),
        "running": [_running(job, max(0.0, now - began / 1e9)) for began, job in jobs[:SHOWN]],
        "running_count": len(jobs),
        "held_up": held_up[:SHOWN],
        "dropped": keeper.dropped(),
        "callbacks": watching.status(),
        "computes": _computes(engine),
    }


def read(directory: Path) -> list[dict[str, Any]]:
    """What the living processes of a data directory say, by when they began; files of dead ones are removed.

    ``silent`` is the time in seconds since each said so: with something open it is about a second, unless the process
    is stopped or one call holds the whole interpreter.
    """
    found = []
    now = time.time()
    for path in sorted((*folder(directory).glob("*.json"), *folder(directory).glob("*.new"))):
        if not liveness.is_alive(journal_directory.folder(directory) / f"{path.stem}{journal_directory.SUFFIX}"):
            path.unlink(missing_ok=True)
            continue
        if path.suffix == ".new":
            continue  # being written
        try:
            says = msgspec.json.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError) as error:  # removed a moment ago; not ours
            log.debug("%s cannot be read: %s", path, error)
            continue
        if isinstance(says, dict) and says.get("version") == 1:
            found.append({**says, "silent": max(0.0, now - says["at"])})
    return sorted(found, key=lambda says: float(says["started"]))


def remove() -> None:
    """Remove the files of this process."""
    for state in list(_written.values()):
        if state.path is not None:
            try:
                state.path.unlink(missing_ok=True)
            except OSError as error:  # whoever reads it next finds that this process is gone
                log.debug("%s cannot be removed: %s", state.path, error)
        state.path, state.says = None, ()


def _put(path: Path, data: bytes) -> None:
    new = path.with_suffix(".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(new, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(new, flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    os.replace(new, path)


def _wake_at(engine: Engine, state: _Written, when: float) -> None:
    """The engine's thread sleeps when nothing is open: see to it that it looks once more at that time or later."""
    state.due = max(state.due, when)
    if state.waking:
        return
    state.waking = True
    clock, left = scoring_runner().clock, TRIES

    def wake() -> None:
        nonlocal left
        if state.asked >= state.due or left <= 0:
            state.waking = False
            return
        early = state.due - time.monotonic()
        if early <= 0:  # it may have looked a moment ago and not look again for that: hence several times
            left -= 1
            engine.wake(threading.Event())
        clock.at(clock.now() + max(early, WAKE_EVERY), wake)

    clock.at(clock.now() + max(0.0, when - time.monotonic()), wake)


def _computes(engine: Engine) -> list[list[str]]:
    """Which scores an app takes over from processes that are gone. What a worker computes is in the store."""
    abilities = engine.claimer.abilities
    return [list(key) for key in abilities.known()][:SHOWN] if isinstance(abilities, AppAbilities) else []


def _oldest_waiting(jobs: Iterable[Job]) -> float | None:
    """Seconds that the first job which has not begun has waited; they are in the order in which they came."""
    try:
        first = next((job for job in jobs if job.began is None and not job.settled), None)
    except RuntimeError:  # the jobs changed while they were looked through
        return None
    return None if first is None else time.monotonic() - first.submitted


def _running(job: Job, age: float) -> dict[str, Any]:
    task: Task | None = job.task
    places = _without_ours(_places(task)) if task is not None and age >= STACK_AFTER else []
    source = job.source
    return {
        "metric": job.metric.name,
        "target": source.target,
        "trace_id": source.trace_id.hex(),
        "span_id": source.span_id.hex(),
        "session_id": source.session_id,
        "attempt": job.attempts + 1,
        "age": age,
        "timeout": job.metric.timeout,
        "isolated": job.isolated,
        "claimed": job.lease is not None,
        "where": stacks.telling(places) or None,
        "stack": stacks.shown(places),
    }


def _places(task: Task) -> stacks.Places:
    """Where a call is, on its thread or its loop."""
    place = task.place
    if place is None:
        return []
    places = getattr(place, "places", None)
    if places is not None:
        found: stacks.Places = places(task.coroutine)
        return found
    return stacks.of_thread(place.ident) if task.runner.is_in(place, task) else []


def _without_ours(places: stacks.Places) -> stacks.Places:
    """What the metric itself does, without the frames that called it; all of it when there is nothing else."""
    return [place for place in places if not place[0].co_filename.startswith(_OURS)] or places


_PROCESS_STARTED = time.time()


def _after_fork_in_child() -> None:
    global _PROCESS_STARTED
    _PROCESS_STARTED = time.time()
    _written.clear()  # the parent's files


runtime.after_fork_in_child(_after_fork_in_child)
runtime.at_exit(lambda _: remove(), order=44)
