"""1,000 calls of 50 ms at 16, 64 and 256 at a time, on threads and as tasks, against the ideal and beside others.

Each program runs in a process of its own and says how long its map took, the best of its rounds.
"""

from __future__ import annotations

import math
import subprocess
import sys

from benchmarks.peers import PROGRAMS, SOURCE, Peer, environment, interpreter, version
from benchmarks.report import table, verdict

CALLS, SECONDS = 1000, 0.05
AT_ONCE = (16, 64, 256)
TARGETS = {"sync": {16: 1.1, 64: 1.25, 256: 2.0}, "async": {16: 1.05, 64: 1.15, 256: 1.5}}
OURS = Peer("tracekeeper", "maps_tracekeeper.py", "tracekeeper", ())
STANDARD = Peer("ThreadPoolExecutor, asyncio", "maps_standard.py", "concurrent.futures", ())
OTHERS = (
    Peer("anyio", "maps_anyio.py", "anyio", ("anyio",)),
    Peer("dspy.Parallel", "maps_dspy.py", "dspy", ("dspy",)),
)
NOTHING = 100_000


def main() -> None:
    """Print how much longer than the ideal each takes, and what an item that does nothing costs."""
    programs = [(OURS, sys.executable), (STANDARD, sys.executable)]
    for peer in OTHERS:
        python = interpreter(peer)
        if python is not None:
            programs.append((peer._replace(name=f"{peer.name} {version(peer)}"), str(python)))
    for kind, what in (("sync", "threads"), ("async", "tasks")):
        rows = []
        for peer, python in programs:
            ratios = [_ratio(peer, python, kind, at_once) for at_once in AT_ONCE]
            if all(ratio is None for ratio in ratios):
                continue
            cells = ["–" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
            rows.append((peer.name, *cells, _verdict(kind, ratios) if peer is OURS else ""))
        targets = " / ".join(str(TARGETS[kind][at_once]) for at_once in AT_ONCE)
        columns = (what, *(f"{at_once} at once" for at_once in AT_ONCE), f"target {targets}")
        table(f"{CALLS:,} calls of {SECONDS * 1000:.0f} ms, as a multiple of the ideal ({what})", columns, rows)
    rows = []
    for peer, python in programs[:2]:
        for kind in ("sync", "async"):
            took = _seconds(peer, python, kind, 32, NOTHING, 0.0, 1)
            if took is not None:
                rows.append((f"{peer.name}, {kind}", took, took / NOTHING * 1e6))
    table(f"{NOTHING:,} items that do nothing, 32 at once", ("map", "s", "µs an item"), rows)


def _ratio(peer: Peer, python: str, kind: str, at_once: int) -> float | None:
    took = _seconds(peer, python, kind, at_once, CALLS, SECONDS, 3)
    return None if took is None else took / (math.ceil(CALLS / at_once) * SECONDS)


def _seconds(peer: Peer, python: str, kind: str, at_once: int, calls: int, pause: float, rounds: int) -> float | None:
    """``None``: it has nothing of this kind, or failed (said on stderr)."""
    arguments = [kind, str(at_once), str(calls), str(pause), str(rounds)]
    more = {"PYTHONPATH": f"{PROGRAMS}:{SOURCE}"} if peer is OURS else {}
    done = subprocess.run(
        [python, str(PROGRAMS / peer.program), *arguments],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout.split()
    if done.returncode or not said:
        print(f"{peer.name} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return None if said[-1] == "none" else float(said[-1])


def _verdict(kind: str, ratios: list[float | None]) -> str:
    missed = [
        verdict(ratio, TARGETS[kind][at_once])
        for at_once, ratio in zip(AT_ONCE, ratios, strict=True)
        if ratio is not None and ratio > TARGETS[kind][at_once]
    ]
    return ", ".join(missed) or "met"
