"""Run the demo: ask every question of both versions at once, wait for the scores, and show what was kept.

Then what happens in production: see ``production``.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import tracekeeper as tk
from tracekeeper.demo import app
from tracekeeper.demo.app import ask, ask_better, index
from tracekeeper.demo.production import show_production
from tracekeeper.demo.questions import QUESTIONS
from tracekeeper.reading.progress import Progress
from tracekeeper.reading.receipts import receipt_text

THREADS = 8
KILLED = 8
"""Questions that the app answers which is killed."""
WAIT = 30.0
"""Seconds the demo gives the scores."""


def run(directory: str | Path | None = None, *, questions: tuple[str, ...] = QUESTIONS) -> int:
    """The demo. Returns 0 when every call is stored and every score is final, whoever was killed, else 1.

    Parameters
    ----------
    directory:
        Where the data goes. Default: ``.tracekeeper`` in the working directory (or the nearest one above it).
    """
    if directory is not None:
        tk.configure(directory=directory)
    print(f"{len(questions)} questions, {len(index())} passages of Tracekeeper's documentation, an app in two versions")
    print("three of its seven metrics misbehave on purpose: one raises, one never returns, one is slow", flush=True)

    with tk.recording() as recording:
        call_from_threads_and_tasks(questions)
    settled = wait(recording)

    show("tk.records_and_scores('app = \"docs\"', limit=3)", tk.records_and_scores('app = "docs"', limit=3))
    show("tk.leaderboard('app = \"docs\"')", tk.leaderboard('app = "docs"'))
    receipt = tk.flush()
    show("tk.flush()", receipt_text(receipt))
    taken_over = show_production(questions[:KILLED])
    where = tk.settings().directory
    option = f" --directory {shlex.quote(short(where))}" if where is not None else ""
    print("\nWhat to do next:")
    print(f"  {program()} records 'score.hanging_judge.status = timed_out' --scores{option}")
    print(f"  {program()} status{option}")
    print(f"  and read how little it takes: {short(app.__file__)}")
    return 0 if settled and receipt.complete and taken_over else 1


def call_from_threads_and_tasks(questions: tuple[str, ...]) -> None:
    """Version 1 from a pool of threads and version 2 from tasks of an event loop, both at the same time.

    A plain pool does not carry the context (settings, recording, current span) into its threads: ``copy_context().run``
    does. Tasks carry it by themselves.
    """

    async def call_from_tasks() -> None:
        with tk.context(tags=["task"]):
            await asyncio.gather(*(ask_better(question) for question in questions))

    with ThreadPoolExecutor(THREADS) as pool, Progress("calls", total=2 * len(questions)) as progress:
        with tk.context(tags=["thread"]):
            calls = [pool.submit(copy_context().run, ask, question) for question in questions]
        asyncio.run(call_from_tasks())
        for done, call in enumerate(calls, len(questions) + 1):
            call.result()
            progress.update(done)


def wait(recording: tk.Recording) -> bool:
    """Wait for the scores, saying how far they are. Returns whether all are final."""
    finished = threading.Event()
    statuses: list[str] = []  # appended to from Tracekeeper's thread, read from this one

    def on_score(record: tk.Record, score: tk.Score) -> None:
        statuses.append(score.status)

    recording.wait_for_scores(timeout=WAIT, on_score=on_score, callback=lambda scores: finished.set())
    total = sum(len(record.scores) for record in recording.records)
    with Progress("scores", total=total, every=1.0) as progress:
        while True:
            over = finished.wait(0.2)
            counts = Counter(statuses)
            progress.update(counts.total(), note=", ".join(f"{n} {status}" for status, n in sorted(counts.items())))
            if over:
                return counts.total() == total


def program() -> str:
    """The command as the user can type it: its name where the shell finds it, else where it is."""
    here = Path(sys.executable).parent / "tracekeeper"
    if shutil.which("tracekeeper") is not None:
        return "tracekeeper"
    return shlex.quote(short(here)) if here.is_file() else f"{shlex.quote(short(sys.executable))} -m tracekeeper"


def short(path: str | Path) -> str:
    """A path as one would type it here: relative where it lies below the working directory."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def show(call: str, result: Any) -> None:
    """What a user would type, and what comes back."""
    print(f"\n>>> {call}\n{result}")
