"""``tk.evaluate`` against the ideal and beside others: 50 ms a call, many at a time; items that do nothing.

Each program runs in a process of its own and says how long its evaluation took, the best of its rounds. Every program
has one metric that compares the output with what was expected. Memory is anonymous memory (what the process has of its
own), so the mapped journal and database do not count.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile

from benchmarks.peers import PROGRAMS, SOURCE, Peer, environment, interpreter, version
from benchmarks.report import table, verdict

ITEMS = int(os.environ.get("BENCH_ITEMS", "1000"))
SECONDS, ROUNDS = 0.05, 3
AT_ONCE = (16, 64, 256)
TARGETS = {"sync": {16: 1.1, 64: 1.25, 256: 2.0}, "async": {16: 1.05, 64: 1.15, 256: 1.5}}
STORED = 2.0
MANY, MANY_AT_ONCE = ITEMS * 10, 1000
NOTHING = tuple(ITEMS * times for times in (10, 30, 100))
LINEAR = 1.5
OURS = Peer("tracekeeper", "evaluate_tracekeeper.py", "tracekeeper", ())
OTHERS = (
    Peer("pydantic_evals", "evaluate_pydantic_evals.py", "pydantic_evals", ("pydantic-evals",)),
    Peer("dspy.Evaluate", "evaluate_dspy.py", "dspy", ("dspy",)),
    Peer("Inspect", "evaluate_inspect.py", "inspect_ai", ("inspect-ai",)),
    Peer("Opik, into a backend that keeps nothing", "evaluate_opik.py", "opik", ("opik",)),
    Peer("MLflow", "evaluate_mlflow.py", "mlflow", ("mlflow",)),
)
FEW = {"inspect_ai": (ITEMS, 1), "mlflow": (min(50, ITEMS), 1)}
"""Items and rounds of those that would take minutes: up to a second an item."""

RAY = Peer(
    "Ray",
    "evaluate_ray.py",
    "ray",
    ("ray>=2.40", "msgspec", "orjson", "opentelemetry-api", "sqlalchemy>=2.0.30", "alembic", "wrapt"),
)


def main() -> None:
    """Print multiples of the ideal, when all is stored, and what an item costs as their number grows."""
    programs = [(OURS, sys.executable)]
    for peer in OTHERS:
        python = interpreter(peer)
        if python is not None:
            items, _ = FEW.get(peer.module, (ITEMS, ROUNDS))
            name = f"{peer.name} {version(peer)}" + ("" if items == ITEMS else f", {items} calls")
            programs.append((peer._replace(name=name), str(python)))
    for kind, targets in TARGETS.items():
        rows: list[tuple[object, ...]] = []
        for peer, python in programs:
            items, rounds = FEW.get(peer.module, (ITEMS, ROUNDS))
            said = [_said(peer.program, python, kind, at_once, items, SECONDS, rounds) for at_once in AT_ONCE]
            if not any(said):
                continue
            ratios = [
                one[0] / _ideal(items, at_once) if one else None for at_once, one in zip(AT_ONCE, said, strict=True)
            ]
            cells = ["–" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
            ours = peer is OURS
            stored = max((one[1] for one in said if one), default=math.inf) if ours else None
            rows.append(
                (
                    peer.name,
                    *cells,
                    _verdict(kind, ratios) if ours else "",
                    "not measured" if stored is None else f"{stored:.2f} s later, {verdict(stored, STORED)}",
                )
            )
        target = " / ".join(map(str, targets.values()))
        columns = ("evaluation", *(f"{at_once} at once" for at_once in AT_ONCE), f"target {target}", "stored")
        table(f"{ITEMS:,} calls of {SECONDS * 1000:.0f} ms, as a multiple of the ideal ({kind})", columns, rows)
    table("Killed (SIGKILL) the moment evaluate returns", ("task", "items found", "scores found", ""), _killed())
    rows = []
    for kind in TARGETS:
        said_many = _said(OURS.program, sys.executable, kind, MANY_AT_ONCE, MANY, SECONDS, 1)
        if said_many:
            rows.append((kind, said_many[0], said_many[0] / _ideal(MANY, MANY_AT_ONCE), said_many[1]))
    table(f"{MANY:,} calls, {MANY_AT_ONCE:,} at once", ("task", "s", "of the ideal", "stored, s later"), rows)
    _on_ray()
    for kind in TARGETS:
        rows, first = [], None
        for items in NOTHING:
            said_none = _said(OURS.program, sys.executable, kind, 32, items, 0.0, 1)
            if said_none:
                each = said_none[0] / items * 1e6
                first = first or each
                rows.append((f"{items:,}", each, verdict(each / first, LINEAR), said_none[2]))
        columns = ("items", "µs an item", f"at most {LINEAR} x the first", "bytes an item (RssAnon)")
        table(f"Items that do nothing, 32 at once ({kind})", columns, rows)


def _on_ray() -> None:
    python = interpreter(RAY)
    if python is None:
        print("Ray is not here, so a run on it is not measured", file=sys.stderr)
        return
    rows: list[tuple[object, ...]] = []
    for kind in TARGETS:
        said = _said(RAY.program, str(python), kind, 64, ITEMS, SECONDS, 1)
        if said:
            local, there, first = said
            rows.append((kind, local, there, first, (there - first) / local))
    columns = ("task", "local, s", "Ray, s", "until its first result, s", "from there on, of local")
    table(f"Ray, 2 workers against local: {ITEMS:,} calls, 64 at once", columns, rows)


def _ideal(items: int, at_once: int) -> float:
    return math.ceil(items / at_once) * SECONDS


def _killed() -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for kind in TARGETS:
        with tempfile.TemporaryDirectory() as place:
            _run("evaluate_killed.py", sys.executable, [kind, "256", str(ITEMS), str(SECONDS), "1"], place)
            found = _run("evaluate_found.py", sys.executable, [], place).stdout.split()
        met = found == [str(ITEMS)] * 2
        rows.append((kind, *(found or ("?", "?")), "met" if met else f"MISSED ({ITEMS} wanted)"))
    return rows


def _run(program: str, python: str, arguments: list[str], place: str) -> subprocess.CompletedProcess[str]:
    ours = python == sys.executable or program == RAY.program
    return subprocess.run(
        [python, str(PROGRAMS / program), *arguments],
        cwd=place,
        env=environment(**({"PYTHONPATH": f"{PROGRAMS}:{SOURCE}"} if ours else {})),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def _said(
    program: str, python: str, kind: str, at_once: int, items: int, pause: float, rounds: int
) -> list[float] | None:
    """The numbers it printed. ``None``: it has nothing of this kind, or failed (said on stderr)."""
    with tempfile.TemporaryDirectory() as place:
        done = _run(program, python, [kind, str(at_once), str(items), str(pause), str(rounds)], place)
    said = done.stdout.strip().splitlines()
    if done.returncode or not said:
        print(f"{program} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return None if said[-1] == "none" else [float(word) for word in said[-1].split()]


def _verdict(kind: str, ratios: list[float | None]) -> str:
    missed = [
        verdict(ratio, target)
        for target, ratio in zip(TARGETS[kind].values(), ratios, strict=True)
        if ratio is not None and ratio > target
    ]
    return ", ".join(missed) or "met"
