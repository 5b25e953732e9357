"""What tracing adds to a call of a model client and to each chunk of its stream, beside the peers.

A chunk is measured twice: through HTTP, where the difference of two noisy figures is the answer, and with chunks that
are there already ("ready"), where nothing but the wrapper is timed. The target holds for the latter. DSPy and MCP have
no stream of their own here (DSPy's goes through a thread that is not the caller, MCP has none), nor has CrewAI's
row, a crew with one agent and one task.
"""

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
OURS = ("openai", "anthropic", "litellm", "langchain", "dspy", "openai-agents", "pydantic-ai", "mcp", "ollama")
OURS += ("google-genai", "bedrock")
_ROOT = str(Path(__file__).parents[1])
APART = (
    Peer("llama-index", "llama-index", "", ("llama-index-core>=0.14", "llama-index-llms-openai>=0.8", _ROOT)),
    Peer("crewai", "crewai", "", ("crewai>=1.15", _ROOT)),
)
"""Clients that do not fit into the development environment."""


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
    """Tracekeeper on each client, the peers on OpenAI's, LiteLLM's own callback on its own; runs of all take turns."""
    chosen = [(f"Tracekeeper on {name}", sys.executable, name, "tracekeeper") for name in OURS]
    chosen += [
        (f"Tracekeeper on {client.name}", str(python), client.program, "tracekeeper")
        for client in APART
        if (python := interpreter(client)) is not None
    ]
    chosen += [
        (f"{peer.name} on openai", str(python), "openai", peer.program)
        for peer in PEERS
        if (python := interpreter(peer)) is not None
    ]
    chosen.append(("LiteLLM's own callback on litellm", sys.executable, "litellm", "litellm-callback"))
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
        rows.append((title, median(base, "bare call"), added(found, base, "call"), *_chunks(found, base)))
    columns = ("tracer", "bare call", "added a call", "bare chunk", "added a chunk", "added a ready chunk", "target 3")
    table("A client's call and a streamed chunk, µs of the caller's CPU", columns, rows)


def added(found: list[dict[str, float]], base: list[dict[str, float]], what: str) -> float:
    """The medians' difference."""
    return median(found, what) - median(base, f"bare {what}")


def _chunks(found: list[dict[str, float]], base: list[dict[str, float]]) -> tuple[object, ...]:
    if "chunk" not in found[0]:
        return ("none", "", "", "")
    bare, through = median(base, "bare chunk"), added(found, base, "chunk")
    if "ready chunk" not in found[0]:
        return (bare, through, "", "")
    ready = added(found, base, "ready chunk")
    return (bare, through, ready, verdict(ready, 3))


def _path(tracer: str) -> dict[str, str]:
    return {"PYTHONPATH": f"{PROGRAMS}:{SOURCE}"} if tracer == "tracekeeper" else {}
