"""Copies to an OTLP endpoint: complete, counted, and in nobody's way, whatever the endpoint does."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import opentelemetry.trace as otel
import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.support import programs
from tests.support.otel import fresh_opentelemetry
from tests.support.otlp import OtlpServer, Reply, otlp_server
from tests.support.spans import stored

import tracekeeper as tk
from tracekeeper.journal.frames import SpanCheckpoint
from tracekeeper.shipper.copies import copier
from tracekeeper.testing import temporary_keeper
from tracekeeper.tracing import bridge


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with otlp_server() as made:
        yield made


@pytest.fixture
def keeper(tmp_path: Path, server: OtlpServer) -> Iterator[Any]:
    with temporary_keeper(tmp_path / "data", otlp_endpoint=server.url, otlp_headers={"x-key": "k"}) as made:
        yield made


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copier, "FIRST_PAUSE", 0.05)


@tk.trace
def call(number: int) -> int:
    return number


def copies(timeout: float = 10) -> Any:
    receipt = tk.flush(timeout=timeout)
    assert receipt.complete
    assert receipt.copies is not None
    return receipt.copies


def test_every_span_arrives_in_the_newest_conventions_with_its_ids(keeper: Any, server: OtlpServer) -> None:
    tk.configure(project="support-bot", environment="prod", release="abc")

    @tk.app(name="rag", version="1.2")
    def ask(question: str) -> str:
        with tk.span("retrieve", kind="retriever", input={"query": question}) as retrieval:
            retrieval.set(output=["mild", "wet"], context=["mild", "wet"])
        with tk.span("chat", kind="llm", input=[{"role": "user", "content": question}]) as chat:
            chat.set(
                output="Mild.", model="gpt-4.1", provider="openai", usage={"prompt_tokens": 7, "completion_tokens": 3}
            )
            chat.add_event("noted", {"n": 1})
        return "Mild."

    with tk.context(session_id="s-1", user_id="u-1", tags=["a"]):
        ask("Weather?")
    with pytest.raises(ValueError, match="no luck"), tk.span("fails", kind="tool"):
        raise ValueError("no luck")
    assert copies().pending == 0
    [rag, retrieve, chat, fails] = sorted(server.taken, key=lambda span: span.proto.start_time_unix_nano)
    records = {record.name: record for record in tk.records()}
    assert rag.proto.trace_id.hex() == records["rag"].trace_id
    assert chat.proto.trace_id == rag.proto.trace_id
    assert chat.proto.parent_span_id == retrieve.proto.parent_span_id == rag.proto.span_id
    assert rag.resource == {
        "service.name": "support-bot",
        "deployment.environment.name": "prod",
        "service.version": "abc",
        "telemetry.distro.name": "tracekeeper",
        "telemetry.distro.version": tk.__version__,
    }
    assert (rag.attributes["tracekeeper.app.name"], rag.attributes["tracekeeper.tags"]) == ("rag", ["a"])
    assert chat.attributes["gen_ai.operation.name"] == "chat"
    assert chat.attributes["gen_ai.request.model"] == "gpt-4.1"
    assert chat.attributes["gen_ai.provider.name"] == "openai"
    assert chat.attributes["gen_ai.usage.input_tokens"] == 7
    assert chat.attributes["gen_ai.conversation.id"] == "s-1"
    assert chat.attributes["user.id"] == "u-1"
    asked = '[{"role":"user","parts":[{"type":"text","content":"Weather?"}]}]'
    assert chat.attributes["gen_ai.input.messages"] == asked
    assert [event.name for event in chat.proto.events] == ["noted"]
    assert retrieve.attributes["gen_ai.retrieval.query.text"] == "Weather?"
    assert retrieve.attributes["gen_ai.retrieval.documents"] == '[{"content":"mild"},{"content":"wet"}]'
    assert (fails.proto.status.code, fails.proto.status.message) == (2, "no luck")
    assert fails.attributes["error.type"] == "ValueError"
    assert fails.proto.events[0].name == "exception"
    path, headers, _ = server.requests[0]
    assert path == "/v1/traces"
    assert (headers["content-type"], headers["x-key"]) == ("application/x-protobuf", "k")


def test_the_account_adds_up(keeper: Any, server: OtlpServer) -> None:
    for number in range(1000):
        call(number)
    account = copies()
    assert (account.copied, account.pending, account.dropped, account.error) == (1000, 0, {}, None)
    assert len(server.taken) == len({span.proto.span_id for span in server.taken}) == 1000
    assert max(len(request.SerializeToString()) for _, _, request in server.requests) < 8 << 20


def test_receipt_and_status_show_the_same_account(
    keeper: Any, server: OtlpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    from tracekeeper.cli import main
    from tracekeeper.reading.receipts import receipt_text

    server.replies = [Reply(rejected=1, message="too old")]
    for number in range(3):
        call(number)
    tk.flush(timeout=10)
    line = f"to {server.url}/v1/traces: 2 copied, 0 pending, 1 dropped (1: the endpoint rejected them: too old)"
    assert f"copies: {line}" in receipt_text(tk.flush(timeout=10))
    assert main(["status"]) == 0
    assert line in capsys.readouterr().out


def test_a_running_span_comes_when_it_has_ended_and_those_behind_it_do_not_wait(
    keeper: Any, server: OtlpServer
) -> None:
    with tk.span("long") as long:
        at, start = time.time_ns(), long.start  # type: ignore[union-attr]
        keeper.write(SpanCheckpoint(start.trace_id, start.span_id, at, b'"so far"'))  # makes a row of it at once
        tk.flush(timeout=10)
        call(1)
        account = copies()
        assert server.names == ["call"]
        assert (account.copied, account.pending) == (1, 1)
    account = copies()
    assert server.names == ["call", "long"]
    assert (account.copied, account.pending) == (2, 0)


def test_what_was_stored_before_an_endpoint_was_named_stays_where_it_is(tmp_path: Path, server: OtlpServer) -> None:
    with temporary_keeper(tmp_path / "data"):
        call(1)
        assert tk.flush(timeout=10).copies is None
        tk.configure(otlp_endpoint=server.url)
        call(2)
        assert copies().copied == 1
    assert [span.attributes["tracekeeper.input"] for span in server.taken] == ['{"number":2}']


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_endpoint_that_is_overloaded_is_asked_again_after_the_time_it_names(
    keeper: Any, server: OtlpServer, status: int
) -> None:
    server.replies = [Reply(status, {"Retry-After": "1"})]
    call(1)
    account = copies()
    assert (account.copied, account.pending, account.dropped) == (0, 1, {})
    assert account.error.startswith(f"HTTP {status}")
    began = time.monotonic()
    server.wait(1)
    assert time.monotonic() - began > 0.5
    account = copies()
    assert (account.copied, account.pending, account.error) == (1, 0, None)
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 500, 302])
def test_any_other_refusal_is_final_and_counted_with_its_reason(keeper: Any, server: OtlpServer, status: int) -> None:
    server.replies = [Reply(status, {"Location": "/elsewhere"})]
    call(1)
    call(2)
    account = copies()
    assert (account.copied, account.pending) == (0, 0)
    [(reason, count)] = account.dropped.items()
    assert (count, f"HTTP {status}" in reason) == (2, True)
    call(3)
    account = copies()
    assert (account.copied, sum(account.dropped.values())) == (1, 2)


def test_a_partial_success_is_read_and_counted(keeper: Any, server: OtlpServer) -> None:
    server.replies = [Reply(rejected=2, message="too old")]
    for number in range(5):
        call(number)
    account = copies()
    assert (account.copied, account.dropped) == (3, {"the endpoint rejected them: too old": 2})


def test_an_answer_that_is_no_protobuf_is_an_answer(keeper: Any, server: OtlpServer) -> None:
    server.replies = [Reply(body=b"<html>ok</html>")]
    call(1)
    assert copies().copied == 1


def test_a_request_that_is_too_large_is_made_smaller(keeper: Any, server: OtlpServer) -> None:
    server.replies = [Reply(413), Reply(413)]
    for number in range(8):
        call(number)
    account = copies()
    assert (account.copied, account.dropped) == (8, {})
    assert len(server.taken) == 8


def test_large_texts_are_spread_over_requests(keeper: Any, server: OtlpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copier.wire.request_of, "__kwdefaults__", {"limit": 10_000})
    for number in range(6):
        with tk.span(f"large {number}", input="x" * 8_000):
            pass
    assert copies().copied == 6
    assert len(server.requests) == 6
    assert sorted(server.names) == [f"large {number}" for number in range(6)]


def test_a_hanging_endpoint_blocks_nobody(keeper: Any, server: OtlpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copier, "TIMEOUT", 1.0)
    hang = threading.Event()
    server.replies = [Reply(hang=hang)] * 100
    began = time.monotonic()
    for number in range(200):
        call(number)
    assert time.monotonic() - began < 1
    began = time.monotonic()
    receipt = tk.flush(timeout=10)
    assert time.monotonic() - began < 4
    assert (receipt.complete, receipt.stored) == (True, 200)
    assert receipt.copies is not None
    assert (receipt.copies.copied, receipt.copies.pending) == (0, 200)
    assert len(tk.records(limit=300)) == 200
    server.wait_for_requests(2)
    assert "did not answer within 1 s" in copies().error
    server.replies = []
    hang.set()
    server.wait(200)


def test_an_endpoint_that_answers_a_byte_at_a_time_is_given_up_in_time() -> None:
    import socket

    from tracekeeper.shipper.copies.endpoint import Endpoint, post

    listening = socket.create_server(("127.0.0.1", 0))

    def trickle() -> None:
        taken, _ = listening.accept()
        with taken:
            try:
                while True:
                    taken.sendall(b"H")
                    time.sleep(0.05)  # the endpoint's slowness, not a synchronisation
            except OSError:
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    began = time.monotonic()
    answer = post(Endpoint.of(f"http://127.0.0.1:{listening.getsockname()[1]}"), b"x", timeout=0.5)
    assert time.monotonic() - began < 2
    assert (answer.status, answer.retryable) == (None, True)
    thread.join(10)
    listening.close()


def test_an_endpoint_that_goes_away_and_comes_back_misses_nothing(tmp_path: Path) -> None:
    with otlp_server() as first:
        port = first.server_address[1]
        with temporary_keeper(tmp_path / "data", otlp_endpoint=first.url):
            call(1)
            assert copies().copied == 1
            first.shutdown()
            first.server_close()
            for number in range(50):
                call(number)
            account = copies()
            assert (account.copied, account.pending) == (1, 50)
            assert "cannot be reached" in account.error
            with otlp_server(port) as second:
                assert len(second.wait(50)) == 50
                assert copies().copied == 51
            first.serve_forever = lambda **_: None  # type: ignore[method-assign]
            first.shutdown = lambda: None  # type: ignore[method-assign]


def test_beyond_the_cap_the_oldest_are_left_out_and_counted(
    keeper: Any, server: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copier, "CAP", 10)
    server.replies = [Reply(503, {"Retry-After": "1"})]
    call(0)
    copies()
    for number in range(30):
        call(number)
    tk.flush(timeout=10)
    server.wait(10)
    account = copies()
    assert account.copied + sum(account.dropped.values()) == 31
    assert account.dropped == {copier.TOO_MANY: account.dropped[copier.TOO_MANY]}
    inputs = [span.attributes["tracekeeper.input"] for span in server.taken]
    assert inputs[-10:] == [f'{{"number":{number}}}' for number in range(20, 30)]


def test_a_row_that_cannot_be_sent_holds_back_no_other(
    keeper: Any, server: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = copier.wire._span

    def picky(row: Any) -> Any:
        if row["name"] == "bad":
            raise RuntimeError("unexpected")
        return real(row)

    monkeypatch.setattr(copier.wire, "_span", picky)
    for name in ("one", "bad", "two"):
        with tk.span(name):
            pass
    account = copies()
    assert sorted(server.names) == ["one", "two"]
    assert (account.copied, account.dropped) == (2, {copier.UNMADE: 1})


def test_a_bridged_span_is_copied_with_its_scope_kind_and_attributes(keeper: Any, server: OtlpServer) -> None:
    with fresh_opentelemetry():
        otel.set_tracer_provider(TracerProvider())
        bridge.join()
        tracer = otel.get_tracer("some.instrumentation")
        with tracer.start_as_current_span("chat", kind=otel.SpanKind.CLIENT) as theirs:
            theirs.set_attribute("gen_ai.operation.name", "chat")
            theirs.set_attribute("custom", [1, 2])
        assert copies().copied == 1
    [span] = server.taken
    assert span.proto.span_id == theirs.get_span_context().span_id.to_bytes(8, "big")
    assert (span.scope, span.proto.kind) == ("some.instrumentation", 3)
    assert (span.attributes["gen_ai.operation.name"], span.attributes["custom"]) == ("chat", [1, 2])
    assert "otel.scope.name" not in span.attributes


def test_two_processes_copy_by_turns_and_nothing_twice(tmp_path: Path, server: OtlpServer) -> None:
    code = f"""
    import tracekeeper as tk
    tk.configure(otlp_endpoint={server.url!r})
    for number in range(300):
        with tk.span(f"{{__file__}} {{number}}"): pass
    while tk.flush(timeout=20).copies.pending: pass  # leaving in the middle of a batch has a second, then it goes again
    """
    running = [programs.start(code, tmp_path) for _ in range(3)]
    for process in running:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    with temporary_keeper(tmp_path / ".tracekeeper", otlp_endpoint=server.url):
        call(1)
        server.wait(901, timeout=30)
        assert copies().copied == 901
    assert len({span.proto.span_id for span in server.taken}) == len(server.taken) == 901


def test_a_batch_whose_answer_comes_while_the_program_leaves_is_not_sent_again(
    tmp_path: Path, server: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    server.replies = [Reply(hang=answered)]
    with temporary_keeper(tmp_path, otlp_endpoint=server.url) as keeper:
        call(1)
        tk.flush(timeout=0.1)
        server.wait_for_requests(1)
        worker = keeper._copies  # type: ignore[attr-defined]
        stop = worker.stop

        def answers() -> None:
            while not worker._stopping:
                time.sleep(0.001)
            answered.set()

        def stops(timeout: float) -> None:
            threading.Thread(target=answers).start()
            stop(30)

        monkeypatch.setattr(worker, "stop", stops)
    with temporary_keeper(tmp_path, otlp_endpoint=server.url):
        call(2)
        assert copies().copied == 2
    assert len(server.taken) == 2


def test_a_killed_process_leaves_its_copies_to_the_next(
    tmp_path: Path, server: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = threading.Event()
    server.replies = [Reply(503, hang=hang)]
    process = programs.start(
        f"""
        import sys, tracekeeper as tk
        from tracekeeper.shipper.copies import copier
        copier.LEASE = 0.5
        tk.configure(otlp_endpoint={server.url!r})
        for number in range(20):
            with tk.span(f"call {{number}}"): pass
        held = tk.span("in flight").__enter__()
        assert tk.flush(timeout=20).complete
        print("stored", flush=True)
        sys.stdin.read()
        """,
        tmp_path,
    )
    programs.ready(process)
    programs.kill(process, signal.SIGKILL)
    hang.set()
    with temporary_keeper(tmp_path / ".tracekeeper", otlp_endpoint=server.url):
        assert tk.records(timeout=20)
        server.wait(21)
    spans = {span.name: span for span in server.taken}
    assert sorted(spans) == sorted([*(f"call {number}" for number in range(20)), "in flight"])
    assert spans["in flight"].proto.status.code == 2
    assert "interrupted" in spans["in flight"].proto.status.message


LOADED = """
import tracekeeper as tk
with tk.span("first"): pass
tk.flush(timeout=60)  # the database layer is loaded: what is left for the exit is its own work
"""


def test_a_short_program_sends_its_copies_before_it_ends(tmp_path: Path, server: OtlpServer) -> None:
    done = programs.run(
        f"{LOADED}with tk.span('it'): pass\n",
        tmp_path,
        TRACEKEEPER_OTLP_ENDPOINT=server.url,
        TRACEKEEPER_OTLP_HEADERS="x-key=a%20b,other=c",
    )
    assert (done.code, done.err) == (0, "")
    assert server.names == ["first", "it"]
    _, headers, _ = server.requests[0]
    assert (headers["x-key"], headers["other"]) == ("a b", "c")


def test_a_hanging_endpoint_keeps_no_process_from_ending(tmp_path: Path, server: OtlpServer) -> None:
    server.replies = [Reply(hang=threading.Event())] * 10
    done = programs.run(f"{LOADED}tk.configure(otlp_endpoint={server.url!r})\nwith tk.span('it'): pass\n", tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.seconds < 20
    assert stored(tmp_path / ".tracekeeper") == [("first", "ok"), ("it", "ok")]
    assert not list((tmp_path / ".tracekeeper" / "journal").glob("*.journal")), "everything was stored"
    server.replies[-1].hang.set()  # type: ignore[union-attr]


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_a_fork_during_a_request_harms_neither_process(tmp_path: Path, server: OtlpServer) -> None:
    hang = threading.Event()
    server.replies = [Reply(hang=hang)]
    process = programs.start(
        f"""
        import os, sys, tracekeeper as tk
        tk.configure(otlp_endpoint={server.url!r})
        with tk.span("before"): pass
        tk.flush(timeout=10)
        print("asked", flush=True)
        child = os.fork()
        with tk.span("child" if child == 0 else "parent"): pass
        assert tk.flush(timeout=20).complete
        if child == 0:
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print("ended", status, flush=True)
        sys.stdin.readline()
        """,
        tmp_path,
    )
    programs.ready(process)
    server.wait_for_requests(1)
    assert programs.ready(process) == "ended 0"
    hang.set()
    server.wait(3)
    _, err = process.communicate("\n", timeout=30)
    assert (process.returncode, err) == (0, "")
    assert sorted(server.names) == ["before", "child", "parent"]


def test_the_cost_is_not_the_callers(keeper: Any, server: OtlpServer) -> None:
    call(1)
    assert copies().copied == 1
    assert "tracekeeper-copies" in {thread.name for thread in threading.enumerate()}
    before = len(server.requests)
    began = time.monotonic()
    for number in range(2_000):
        call(number)
    assert time.monotonic() - began < 2
    assert copies().copied == 2_001
    assert len(server.requests) - before >= 2_000 // copier.BATCH
