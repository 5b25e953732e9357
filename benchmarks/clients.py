"""What tracing adds to a call of a model client and to each chunk of its stream, beside the peers."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers import PROGRAMS, SOURCE, Peer, environment, interpreter
from benchmarks.report import table, verdict
from benchmarks.sink import sink

ROUNDS = 3
_OTEL = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
PEERS = (
    Peer("OpenInference", "openinference", "", ("openai", "openinference-instrumentation-openai", *_OTEL)),
    Peer("OpenLLMetry", "openllmetry", "", ("openai", "opentelemetry-instrumentation-openai", *_OTEL)),
    Peer("Langfuse's wrapper", "langfuse", "", ("openai", "langfuse")),
)


@contextmanager
def wire() -> Iterator[str]:
    """The local server that speaks the providers' formats, in a process of its own."""
    command = [sys.executable, "-m", "tests.support.wire"]
    home = Path(__file__).parents[1]
    server = subprocess.Popen(command, cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.communicate(timeout=20)


def measured(python: str, library: str, tracer: str, **more: str) -> dict[str, float] | None:
    """Medians of one run of the program, in µs of CPU; ``None`` when it fails (said on stderr)."""
    command = [python, str(PROGRAMS / "clients_.py"), library, tracer]
    done = subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        print(f"{tracer} on {library} did not run: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def median(runs: list[dict[str, float]], name: str) -> float:
    """The middle one of the runs' figures."""
    values = sorted(run[name] for run in runs)
    return values[len(values) // 2]


def main() -> None:
    """Tracekeeper on each client, the peers on OpenAI's; runs of all take turns."""
    chosen = [
        (f"Tracekeeper on {name}", sys.executable, name, "tracekeeper") for name in ("openai", "anthropic", "litellm")
    ]
    chosen += [
        (f"{peer.name} on openai", str(python), "openai", peer.program)
        for peer in PEERS
        if (python := interpreter(peer)) is not None
    ]
    runs: dict[str, list[dict[str, float]]] = {}
    with sink() as address, wire() as url, tempfile.TemporaryDirectory() as directory:
        more = {"SINK": address, "WIRE": url, "TRACEKEEPER_DIRECTORY": directory}
        for _ in range(ROUNDS):
            for title, python, library, tracer in chosen:
                found = measured(python, library, tracer, **more, **_path(tracer))
                if found is not None:
                    runs.setdefault(title, []).append(found)
    bare = runs.get("Tracekeeper on openai", [])
    rows = []
    for title, found in runs.items():
        base = found if "bare call" in found[0] else bare  # a tracer that cannot be switched off again
        if not base:
            continue
        call = median(found, "call") - median(base, "bare call")
        chunk = median(found, "chunk") - median(base, "bare chunk")
        met = verdict(chunk, 3) if title.startswith("Tracekeeper") else ""
        rows.append((title, median(base, "bare call"), call, median(base, "bare chunk"), chunk, met))
    columns = ("tracer", "bare call", "added a call", "bare chunk", "added a chunk", "target 3 a chunk")
    table("A client's call and a streamed chunk, µs of the caller's CPU", columns, rows)


def _path(tracer: str) -> dict[str, str]:
    return {"PYTHONPATH": f"{PROGRAMS}:{SOURCE}"} if tracer == "tracekeeper" else {}
