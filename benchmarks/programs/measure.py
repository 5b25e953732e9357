"""Time a traced call against the bare one; runs in a peer's own environment, so standard library only."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

ROUNDS, CALLS = 7, 500


def bare(question: str) -> str:
    return "mild"


def per_call(function: Callable[[str], Any], argument: str) -> float:
    """Microseconds a call: the median over rounds."""
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter_ns()
        for _ in range(CALLS):
            function(argument)
        took.append((time.perf_counter_ns() - begun) / CALLS / 1000)
    return statistics.median(took)


def report(traced: Callable[[str], Any], finish: Callable[[], Any] = lambda: None) -> None:
    """Print one JSON line: µs a call net of the bare function, with a short and a 1 KB argument."""
    for _ in range(200):
        traced("warm-up")
    net = {}
    for name, argument in (("short", "What is the weather?"), ("1 KB", "What is the weather? " * 50)):
        net[name] = per_call(traced, argument) - per_call(bare, argument)
    cpu = time.process_time()
    finish()
    print(json.dumps({"us": net, "cpu_s": time.process_time(), "finish_cpu_s": time.process_time() - cpu}), flush=True)
    sys.stdout.flush()
