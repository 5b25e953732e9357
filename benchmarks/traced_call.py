"""What a traced call, safe from ``kill -9``, costs its caller: ours beside the OTel SDK and the peers."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile

from benchmarks.peers import PEERS, PROGRAMS, SOURCE, environment, interpreter, version
from benchmarks.report import table, verdict
from benchmarks.sink import sink

ROUNDS = 5


def main() -> None:
    """Round-robin over all programs; the median of each over the rounds."""
    programs: list[tuple[str, list[str], dict[str, str]]] = []
    for peer in PEERS:
        python = interpreter(peer)
        if python is not None:
            programs.append((f"{peer.name} {version(peer)}", [str(python), str(PROGRAMS / peer.program)], {}))
    path = {"PYTHONPATH": f"{PROGRAMS}:{SOURCE}"}
    programs.insert(0, ("Tracekeeper", [sys.executable, str(PROGRAMS / "tracekeeper_.py")], path))
    figures: dict[str, list[dict[str, float]]] = {}
    with sink() as address:
        for _ in range(ROUNDS):
            for name, command, more in programs:
                with tempfile.TemporaryDirectory() as folder:
                    done = subprocess.run(
                        command,
                        env=environment(SINK=address, **more),
                        cwd=folder,
                        capture_output=True,
                        text=True,
                        timeout=300,
                        check=False,
                    )
                lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
                if done.returncode or not lines:
                    print(f"{name} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                    continue
                figures.setdefault(name, []).append(json.loads(lines[-1])["us"])
    median = {
        name: {size: statistics.median(one[size] for one in got) for size in got[0]} for name, got in figures.items()
    }
    ours = median["Tracekeeper"]
    rows = []
    for name, got in median.items():
        ratio = got["short"] / ours["short"]
        if name == "Tracekeeper":
            said = ""
        elif name.startswith("raw"):
            said = verdict(ratio, 3, at_most=False)
        else:
            said = verdict(ratio, 12, at_most=False)
        rows.append((name, got["short"], got["1 KB"], ratio, got["1 KB"] / ours["1 KB"], said))
    table(
        f"A traced call, µs net of the bare function (median of {ROUNDS} interleaved processes)",
        (
            "tracer",
            "short argument",
            "1 KB argument",
            "times ours",
            "times ours, 1 KB",
            "target (raw SDK 3x, peers 12x)",
        ),
        rows,
    )
