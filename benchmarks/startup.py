"""What an import and a first traced call cost, in processes of their own."""

from __future__ import annotations

import importlib.metadata
import json
import re
import statistics
import subprocess
import sys
import tempfile

from benchmarks.peers import PEERS, SOURCE, environment, interpreter
from benchmarks.report import table, verdict

ROUNDS = 7

IMPORT = """
import json, time
def peak():  # of this program: ru_maxrss would count the parent's memory from before exec
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
begun = time.perf_counter()
import {module}
took = time.perf_counter() - begun
print(json.dumps({{"ms": took * 1000, "mb": (peak() - before) / 1024}}))
"""

FIRST = """
import json, time
import tracekeeper as tk
@tk.trace
def ask(question): return "mild"
begun = time.perf_counter()
ask("first")
first = (time.perf_counter() - begun) * 1000
time.sleep(1)
rss = int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
print(json.dumps({"first_ms": first, "rss_mb": rss}))
"""


def measure(python: str, code: str, **more: str) -> dict[str, float]:
    """The medians of what ``code`` prints."""
    got = []
    for _ in range(ROUNDS + 1):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [python, "-c", code], env=environment(**more), cwd=folder, capture_output=True, text=True, check=True
            )
        got.append(json.loads(done.stdout.splitlines()[-1]))
    return {key: statistics.median(one[key] for one in got[1:]) for key in got[0]}


def missing() -> list[str]:
    """What the extras ask for and this environment lacks: the import is measured with everything installed."""
    lacks = []
    for line in importlib.metadata.requires("tracekeeper") or ():
        name = re.match(r"[\w.-]+", line)
        if name is None or "extra ==" not in line or name[0] == "tracekeeper":
            continue
        try:
            importlib.metadata.version(name[0])
        except importlib.metadata.PackageNotFoundError:
            lacks.append(name[0])
    return sorted({*lacks})


def main() -> None:
    """Ours against the targets, then the peers' imports."""
    path = {"PYTHONPATH": str(SOURCE)}
    rows: list[tuple[object, ...]] = []
    ours = measure(sys.executable, IMPORT.format(module="tracekeeper"), **path)
    used = measure(sys.executable, IMPORT.format(module="tracekeeper as tk; tk.trace; tk.app"), **path)
    extras = f"without {', '.join(lacks)}" if (lacks := missing()) else "all extras installed"
    rows.append(
        (f"import tracekeeper ({extras})", ours["ms"], ours["mb"], verdict(ours["ms"], 60), verdict(ours["mb"], 15))
    )
    rows.append(("… and tk.trace, tk.app", used["ms"], used["mb"], verdict(used["ms"], 60), verdict(used["mb"], 15)))
    # What the two libraries below cost alone: 27 ms on the machine for which the targets were set.
    floor = measure(sys.executable, IMPORT.format(module="msgspec, opentelemetry.trace"), **path)
    rows.append(("of that: msgspec and OpenTelemetry's API", floor["ms"], floor["mb"], "", ""))
    first = measure(sys.executable, FIRST, **path)
    rows.append(
        (
            "first traced call (ms), RSS 1 s later",
            first["first_ms"],
            first["rss_mb"],
            verdict(first["first_ms"], 5),
            verdict(first["rss_mb"], 60),
        )
    )
    for peer in PEERS:
        python = interpreter(peer)
        if python is not None:
            got = measure(str(python), IMPORT.format(module=peer.module))
            rows.append((f"import {peer.module}", got["ms"], got["mb"], "", ""))
    table("Import and first call (median of processes)", ("what", "ms", "MB", "time target", "memory target"), rows)
