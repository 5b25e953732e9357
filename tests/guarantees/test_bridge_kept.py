"""G2 and G1 for third parties' spans: killed, forked, left open at exit, with and without the OpenTelemetry SDK."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.failures.test_trulens import tk_in
from tests.support import programs
from tests.support.spans import stored

import tracekeeper as tk

PROVIDER = {
    "joined": """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
from tracekeeper.tracing import bridge
bridge.join()
""",
    "none": """
from opentelemetry import trace
from tracekeeper.tracing import bridge
bridge.join()
""",
}
CALLS = """
import os, sys, threading
import tracekeeper as tk
tracer = trace.get_tracer("some.instrumentation")
asked = {"openinference.span.kind": "LLM", "input.value": "Why?", "llm.model_name": "m"}
def call(name, **more):
    with tracer.start_as_current_span(name, attributes={**asked, **more}) as span:
        span.set_attribute("output.value", "Because.")
"""


@pytest.fixture(params=["joined", "none"])
def setup(request: pytest.FixtureRequest) -> str:
    return PROVIDER[request.param] + CALLS


def test_kill_9_keeps_what_returned_and_the_call_in_flight(tmp_path: Path, setup: str) -> None:
    process = programs.start(
        setup
        + """
for number in range(20): call(f"call {number}")
held = tracer.start_span("in flight", attributes=asked)
with trace.use_span(held):
    with tk.span("below"):
        print("ready", flush=True)
        sys.stdin.read()
""",
        tmp_path,
    )
    programs.ready(process)
    programs.kill(process, signal.SIGKILL)
    with tk_in(tmp_path):
        found = {record.name: record for record in tk.records(limit=100, timeout=30)}
        assert sorted(found) == sorted([*(f"call {number}" for number in range(20)), "in flight"])
        assert {record.status for name, record in found.items() if name != "in flight"} == {"ok"}
        assert {record.output for name, record in found.items() if name != "in flight"} == {"Because."}
        assert (found["in flight"].status, found["in flight"].input) == ("interrupted", "Why?")
    assert set(stored(tmp_path / ".tracekeeper", "SELECT name, status FROM span WHERE status <> 'ok'")) == {
        ("in flight", "interrupted"),
        ("below", "interrupted"),
    }


def test_what_is_open_at_exit_is_swept(tmp_path: Path, setup: str) -> None:
    done = programs.run(
        setup
        + """
held = tracer.start_span("held", attributes=asked)
held.set_attribute("output.value", "Beca")
""",
        tmp_path,
    )
    assert (done.code, done.out, programs.said(done.err)) == (0, "", "")
    with tk_in(tmp_path):
        [record] = tk.records(timeout=30)
        assert (record.name, record.status, record.output) == ("held", "interrupted", "Beca")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_a_forked_childs_spans_are_its_own_and_the_parents_stay_the_parents(tmp_path: Path, setup: str) -> None:
    done = programs.run(
        setup
        + """
with tracer.start_as_current_span("around", attributes=asked):
    child = os.fork()
    if child == 0:
        call("in the child")
        os._exit(0)
    os.waitpid(child, 0)
call("after")
""",
        tmp_path,
    )
    assert done.code == 0, done.err
    with tk_in(tmp_path):
        assert {record.name: record.status for record in tk.records(timeout=30)} == {"around": "ok", "after": "ok"}
    [(status, child, around)] = stored(
        tmp_path / ".tracekeeper",
        "SELECT child.status, child.record_span_id, around.span_id FROM span child, span around "
        "WHERE child.name = 'in the child' AND around.name = 'around'",
    )
    assert (status, child) == ("ok", around), "as a span of ours that goes on in a child does"


def test_eight_threads_lose_nothing(tmp_path: Path, setup: str) -> None:
    done = programs.run(
        setup
        + """
def work(thread):
    for number in range(50):
        with tk.span(f"ours {thread} {number}"):
            call(f"theirs {thread} {number}")
threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
receipt = tk.flush(timeout=30)
assert receipt.complete and receipt.stored == 800, receipt
""",
        tmp_path,
    )
    assert done.code == 0, done.err
    pairs = "SELECT theirs.name FROM span theirs JOIN span ours ON ours.span_id = theirs.parent_id "
    pairs += "AND ours.span_id = theirs.record_span_id AND ours.trace_id = theirs.trace_id "
    pairs += "WHERE ours.name = replace(theirs.name, 'theirs', 'ours') AND ours.name <> theirs.name"
    assert len(stored(tmp_path / ".tracekeeper", pairs)) == 400
    assert len(stored(tmp_path / ".tracekeeper", "SELECT id FROM record")) == 400


def test_the_kill_switch_leaves_the_program_alone(tmp_path: Path, setup: str) -> None:
    done = programs.run(setup + "call('it')\nprint('done')", tmp_path, TRACEKEEPER_DISABLED="1")
    assert (done.code, done.out.strip(), done.err) == (0, "done", "")
    assert not (tmp_path / ".tracekeeper").exists()
