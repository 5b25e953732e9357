"""The peers: what to install, in cached environments of their own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

PROGRAMS = Path(__file__).parent / "programs"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "tracekeeper-bench"
SOURCE = Path(__file__).parents[1] / "src"


class Peer(NamedTuple):
    name: str
    program: str
    module: str
    """What its import costs."""
    packages: tuple[str, ...]


PEERS = (
    Peer(
        "raw OpenTelemetry SDK",
        "otel.py",
        "opentelemetry.sdk.trace",
        ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
    ),
    Peer(
        "OpenInference",
        "openinference_.py",
        "phoenix.otel",
        ("arize-phoenix-otel", "openinference-instrumentation", "opentelemetry-exporter-otlp-proto-http"),
    ),
    Peer("Logfire", "logfire_.py", "logfire", ("logfire",)),
    Peer("TruLens", "trulens_.py", "trulens.apps.app", ("trulens-core", "trulens-feedback")),
    Peer("Langfuse", "langfuse_.py", "langfuse", ("langfuse",)),
    Peer("LangSmith", "langsmith_.py", "langsmith", ("langsmith",)),
    Peer("Opik", "opik_.py", "opik", ("opik",)),
    Peer("MLflow", "mlflow_.py", "mlflow", ("mlflow-tracing", "opentelemetry-exporter-otlp-proto-http")),
)


def interpreter(peer: Peer) -> Path | None:
    """The Python of the peer's environment, made on first use; ``None`` when it does not install (said on stderr)."""
    mark = hashlib.sha256(" ".join(peer.packages).encode()).hexdigest()[:8]
    home = CACHE / f"{peer.program.removesuffix('.py')}-{sys.version_info.major}{sys.version_info.minor}-{mark}"
    python = home / "bin" / "python"
    if (home / ".ready").exists():
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, capture_output=True, timeout=120)
        uv = Path(sys.executable).parent / "uv"
        install = (
            [str(uv), "pip", "install", "-q", "-p", str(python)]
            if uv.exists()
            else [str(python), "-m", "pip", "install", "-q"]
        )
        subprocess.run([*install, *peer.packages], check=True, capture_output=True, text=True, timeout=900)
    except (subprocess.SubprocessError, OSError) as error:
        detail = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        print(f"{peer.name} does not install here: {detail[-1] if detail else error}", file=sys.stderr)
        return None
    (home / ".ready").touch()
    return python


def version(peer: Peer) -> str:
    """The installed version of its first package."""
    python = interpreter(peer)
    code = f"import importlib.metadata as m; print(m.version({peer.packages[0]!r}))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def environment(**more: str) -> dict[str, str]:
    # Compiled modules are cached, as they are for users: the first, uncounted run of each program warms the cache.
    off = ("TRACEKEEPER_", "OTEL_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(off)}
    return {**kept, "PYTHONPATH": f"{PROGRAMS}", "PYTHONWARNINGS": "ignore", **more}
