"""Compute scores that wait in the store: those of deferred metrics and online rules, and what ended processes left.

Any number of workers may run, on any machine that reaches the store. A worker computes metrics of the modules named
with --import (looked for in the working directory too) and of those below them, and the ones that come with
Tracekeeper. It runs until it gets SIGTERM or Ctrl-C: then it finishes what runs, gives back the rest, and exits with 0.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

from tracekeeper.cli.output import count, require_tracing, seconds
from tracekeeper.configuration import configure
from tracekeeper.configuration.settings import base_settings
from tracekeeper.scoring.worker.importing import import_modules
from tracekeeper.scoring.worker.worker import Worker
from tracekeeper.tracing import runtime
from tracekeeper.types import Score, ScoreStatus

if TYPE_CHECKING:
    from tracekeeper.scoring.jobs import Source

EXAMPLES = """\
tracekeeper worker --import my_app.metrics --concurrency 32
tracekeeper worker --import my_app.metrics --once
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--import",
        metavar="MODULE",
        dest="modules",
        action="append",
        default=[],
        help="module or package whose metrics may be run here; it is imported (repeatable)",
    )
    parser.add_argument(
        "--concurrency", metavar="N", type=count, help="metrics that run at the same time (default: 32)"
    )
    parser.add_argument(
        "--lease",
        metavar="SECONDS",
        type=seconds,
        help="for how long a claimed score is this worker's unless it says that it lives (default: 30)",
    )
    parser.add_argument(
        "--have",
        metavar="NAME",
        action="append",
        default=[],
        help="something that metrics require and that is here, beyond installed packages (repeatable)",
    )
    parser.add_argument("--once", action="store_true", help="settle what there is, and exit")
    parser.add_argument("-v", "--verbose", action="store_true", help="print each score")


class _Stop(BaseException):
    """A signal asked the worker to leave."""


class _Signals:
    """The first SIGTERM or Ctrl-C lets it leave properly, the second one without waiting, the third one at once."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.seen += 1
        if self.seen == 1:
            raise _Stop
        if self.seen == 2:
            raise KeyboardInterrupt  # ends the waiting; what was claimed is given back all the same
        os._exit(130)


def run(parsed: argparse.Namespace) -> int:
    """Claim and compute until a signal comes, or with --once until nothing is left."""
    require_tracing()
    modules = import_modules(parsed.modules)
    changes = {"scoring_concurrency": parsed.concurrency, "lease": parsed.lease}
    configure(**{name: value for name, value in changes.items() if value is not None})
    worker = Worker(
        runtime.keeper(),
        modules,
        have=parsed.have,
        on_score=_print_score if parsed.verbose else None,
        on_cannot=_print_cannot,
    )
    signals = _Signals()
    before = {number: signal.signal(number, signals) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        try:
            worker.start()
            print(_begins(modules), flush=True)
            if parsed.once:
                worker.settle_all()
            else:
                _wait_for_a_signal()
        except _Stop:
            pass  # that is how it is to end
        receipt = runtime.shutdown()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    print(_ends(worker), flush=True)
    if receipt.error:
        print(f"tracekeeper: {receipt.error}", file=sys.stderr)
    return 0 if signals.seen < 2 else 130


def _wait_for_a_signal() -> None:
    # Not signal.pause: the system may deliver a signal to another thread, and that does not wake this one.
    while True:
        time.sleep(0.5)


def _begins(modules: list[str]) -> str:
    base = base_settings()
    whose = ", ".join(["tracekeeper.metrics", *modules])
    return (
        f"worker {os.getpid()} on {runtime.keeper().store_url}: metrics of {whose}; "
        f"{base.scoring_concurrency} at a time, lease {base.lease:g} s"
    )


def _ends(worker: Worker) -> str:
    counts = worker.counts()
    said = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number or name == "claimed")
    return f"worker {os.getpid()} ends: {said}"


def _print_score(source: Source, score: Score) -> None:
    value: Any = "" if score.status is not ScoreStatus.SCORED else f" {score.value}"
    what = source.session_id or f"{source.trace_id.hex()}:{source.span_id.hex()}"
    why = f": {score.reason}" if score.reason and score.status is not ScoreStatus.SCORED else ""
    # One write: several threads say something, and print writes the end of a line by itself.
    sys.stdout.write(f"{score.status}{value} {score.name} on {source.target} {what}{why}\n")
    sys.stdout.flush()


def _print_cannot(name: str, version: str, reason: str) -> None:
    print(f"tracekeeper: scores {name!r} (version {version}) wait, but not for this worker: {reason}", file=sys.stderr)
