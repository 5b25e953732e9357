"""The programs of the page on OpenTelemetry, run as they are written."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support import programs
from tests.support.otlp import otlp_server

PAGE = Path(__file__).resolve().parents[2] / "docs" / "opentelemetry.md"
TAKEN, COPIED, ACROSS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
SDK = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
"""


def test_third_parties_spans_are_kept_without_a_provider_and_with_one(tmp_path: Path) -> None:
    for place, code in (("without", TAKEN), ("with", SDK + TAKEN)):
        done = programs.run(code, tmp_path / place)
        assert (done.code, programs.said(done.err), done.out) == (0, "", "rag Mild.\n")


def test_spans_are_copied(tmp_path: Path) -> None:
    with otlp_server() as server:
        done = programs.run(COPIED.replace("http://127.0.0.1:4318", server.url), tmp_path)
        assert (done.code, programs.said(done.err)) == (0, "")
        assert "copied=1, pending=0" in done.out
        assert server.names == ["chat"]
        assert server.requests[0][1]["api-key"] == "a-secret"


def test_without_an_endpoint_that_answers_the_program_goes_on_and_its_spans_wait(tmp_path: Path) -> None:
    done = programs.run(COPIED.replace("4318", "1"), tmp_path)
    assert done.code == 0
    assert "copied=0, pending=1" in done.out
    assert "takes nothing at present" in done.err


def test_a_trace_crosses_services(tmp_path: Path) -> None:
    done = programs.run(ACROSS, tmp_path)
    assert (done.code, programs.said(done.err), done.out) == (0, "", "True\n")
