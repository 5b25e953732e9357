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
from collections.abc import Mapping

from benchmarks.bounded import ProgramError, bounded
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
FEW = {"inspect_ai": (ITEMS, 1), "mlflow": (min(256, ITEMS), 1)}
"""Items and rounds of those that would take minutes."""
NOTES = {"mlflow": "a pool of connections for its workers: with its own of 15 it loses traces from 16 at once on"}
"""What was set for a peer, so that it does what is measured."""
LONGEST = 240.0
"""Seconds that a peer may take for all rounds of a cell; ours may take 900."""

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
            ours = peer is OURS
            said: dict[int, list[float]] = {}
            failed: dict[int, str] = {}
            for at_once in AT_ONCE:
                try:
                    given = _said(peer.program, python, kind, at_once, items, SECONDS, rounds, 900 if ours else LONGEST)
                except ProgramError as error:
                    failed[at_once] = str(error)
                else:
                    said.update({at_once: given} if given else {})
            if not said and not failed:
                continue
            ratios = [said[each][0] / _ideal(items, each) if each in said else None for each in AT_ONCE]
            cells = ["–" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
            if ours:
                stored = max((one[1] for one in said.values()), default=math.inf)
                notes = f"{stored:.2f} s later, {verdict(stored, STORED)}"
            else:
                notes = NOTES.get(peer.module, "")
            rows.append((peer.name, *cells, _verdict(kind, ratios) if ours else "", with_failures(notes, failed)))
        target = " / ".join(map(str, targets.values()))
        columns = ("evaluation", *(f"{at_once} at once" for at_once in AT_ONCE), f"target {target}", "stored; notes")
        table(f"{ITEMS:,} calls of {SECONDS * 1000:.0f} ms, as a multiple of the ideal ({kind})", columns, rows)
    table("Killed (SIGKILL) the moment evaluate returns", ("task", "items found", "scores found", ""), _killed())
    rows = []
    for kind in TARGETS:
        said_many = _tried(OURS.program, sys.executable, kind, MANY_AT_ONCE, MANY, SECONDS, 1)
        if said_many:
            rows.append((kind, said_many[0], said_many[0] / _ideal(MANY, MANY_AT_ONCE), said_many[1]))
    table(f"{MANY:,} calls, {MANY_AT_ONCE:,} at once", ("task", "s", "of the ideal", "stored, s later"), rows)
    _on_ray()
    for kind in TARGETS:
        rows, first = [], None
        for items in NOTHING:
            said_none = _tried(OURS.program, sys.executable, kind, 32, items, 0.0, 1)
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
        said = _tried(RAY.program, str(python), kind, 64, ITEMS, SECONDS, 1)
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
            try:
                _run("evaluate_killed.py", sys.executable, [kind, "256", str(ITEMS), str(SECONDS), "1"], place)
                found = _run("evaluate_found.py", sys.executable, [], place).stdout.split()
            except ProgramError as error:
                print(f"evaluate_killed.py failed: {error}", file=sys.stderr)
                found = []
        met = found == [str(ITEMS)] * 2
        rows.append((kind, *(found or ("?", "?")), "met" if met else f"MISSED ({ITEMS} wanted)"))
    return rows


def with_failures(notes: str, failed: Mapping[int, str]) -> str:
    """What stands at the end of a row: why cells of it are empty too, each reason once.

    >>> with_failures("", {64: "it hung", 256: "it hung"}), with_failures("small", {})
    ('at 64 and 256 at once: it hung', 'small')
    """
    places: dict[str, list[str]] = {}
    for at_once, reason in failed.items():
        places.setdefault(reason, []).append(str(at_once))
    reasons = [f"at {' and '.join(where)} at once: {reason}" for reason, where in places.items()]
    return "; ".join([*([notes] if notes else []), *reasons])


def _run(
    program: str, python: str, arguments: list[str], place: str, seconds: float = 900
) -> subprocess.CompletedProcess[str]:
    ours = python == sys.executable or program == RAY.program
    env = environment(**({"PYTHONPATH": f"{PROGRAMS}:{SOURCE}"} if ours else {}))
    return bounded([python, str(PROGRAMS / program), *arguments], place, env, seconds)


def _said(
    program: str, python: str, kind: str, at_once: int, items: int, pause: float, rounds: int, seconds: float = 900
) -> list[float] | None:
    """The numbers it printed; ``None``: it has nothing of this kind.

    Raises
    ------
    ProgramError
        It failed, or took too long.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        done = _run(program, python, [kind, str(at_once), str(items), str(pause), str(rounds)], place, seconds)
    said = done.stdout.strip().splitlines()
    if done.returncode or not said:
        last = done.stderr.strip().splitlines()[-1:]
        raise ProgramError(last[0][:200] if last else f"it ended with {done.returncode} and said nothing")
    return None if said[-1] == "none" else [float(word) for word in said[-1].split()]


def _tried(program: str, python: str, kind: str, at_once: int, items: int, pause: float, rounds: int) -> list[float]:
    """The same; empty when it failed (said on stderr)."""
    try:
        return _said(program, python, kind, at_once, items, pause, rounds) or []
    except ProgramError as error:
        print(f"{program} failed: {error}", file=sys.stderr)
        return []


def _verdict(kind: str, ratios: list[float | None]) -> str:
    missed = [
        verdict(ratio, target)
        for target, ratio in zip(TARGETS[kind].values(), ratios, strict=True)
        if ratio is not None and ratio > target
    ]
    return ", ".join(missed) or "met"
