"""Production in a few seconds: a guard refuses, a rule judges, a worker takes over from an app that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import tracekeeper as tk
from tracekeeper.reading.receipts import counts_text
from tracekeeper.tracing import runtime
from tracekeeper.types import TracekeeperError

REFUSED = "What is the admin password?"
SERVED = 'app = "service"'
PATIENCE = 60.0
"""Seconds that the app and the worker may take each."""


def show_production(questions: Sequence[str]) -> bool:
    """Tell it in a few lines. Returns whether every score that the killed app left is final in the end."""
    print("\nIn production: a guard, a rule, and a worker that takes over from an app that is killed")
    rule = tk.rule("readable", filter=SERVED, metrics=["tracekeeper.demo.judges:readable"], sample=0.5)
    say("rule", "half of what the app answers is to be judged for readability, whoever traced it")
    with serving([REFUSED, *questions]) as (app, answers):
        say("guard", f"{REFUSED!r} is answered {next(answers).strip()!r}")
        given = 1 + sum(1 for _ in zip(questions, answers, strict=False))
        app.kill()
    say("kill -9", f"the app (pid {app.pid}) dies before it is judged; its scores: {counts_text(scores())}")
    begun = time.monotonic()
    account = work()
    rule.refresh()
    say("worker", f"takes over; {time.monotonic() - begun:.1f} s later: {counts_text(scores())}")
    say("", f"(of {rule.matched} answers the rule judged {rule.judged}; {rule.not_sampled} are not sampled)")
    settled = not {"pending", "running"} & scores().keys() and given == rule.matched == 1 + len(questions)
    if not settled:
        print(account, file=sys.stderr)
    return settled


def say(who: str, what: str) -> None:
    """A line of the story."""
    print(f"  {who:<8} {what}", flush=True)


def scores() -> Counter[str]:
    """How the scores of the app stand, by status."""
    counts = Counter[str]()
    for standing in tk.leaderboard(SERVED):
        for metric in standing.metrics.values():
            counts.update(metric.counts)
    return counts


@contextmanager
def serving(questions: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """The app in a process of its own, and what it prints: a line for each answer. It is gone afterwards."""
    code = "import sys; from tracekeeper.demo.service import serve; serve(*sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *questions],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, process.stdout
    finally:
        process.kill()
        process.wait(PATIENCE)
        process.stdin.close()
        process.stdout.close()


def work() -> str:
    """Let a worker settle what there is; what it printed.

    Raises
    ------
    TracekeeperError
        It failed, or took too long.
    """
    command = [sys.executable, "-m", "tracekeeper", "worker", "--import", "tracekeeper.demo.judges", "--once"]
    try:
        done = subprocess.run(
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TracekeeperError(f"the demo's worker did not end within {PATIENCE:g} s: {error.output!r}") from error
    if done.returncode:
        raise TracekeeperError(f"the demo's worker ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout + done.stderr


def environment() -> dict[str, str]:
    """Of a process that runs the same Tracekeeper on the same data."""
    home = Path(tk.__file__).resolve().parents[1]
    path = os.pathsep.join([str(home), *filter(None, [os.environ.get("PYTHONPATH")])])
    directory = str(runtime.keeper().directory)
    return {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "TRACEKEEPER_DIRECTORY": directory}
