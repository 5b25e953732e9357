"""Deadlines, cancellation, Ctrl-C and streams that end in every way: nothing hangs, every span ends as it should."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import socket
import threading
import time
from typing import Any

import pytest
from tests.support.loops import in_a_loop
from tests.support.wire import SO_FAR, TEXT, WireServer
from tests.unit.lm.conftest import LITELLM, Making

import tracekeeper as tk
from tracekeeper.lm import feed

PROVIDERS = ["openai", "anthropic", LITELLM]
SOON = 10.0
"""Far more than any deadline here, far less than the server's patience."""


def statuses() -> list[str]:
    tk.flush(timeout=20)
    return [record.status for record in tk.records()]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["hang", "drip"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_server_that_never_answers_or_sends_a_byte_a_second_is_given_up(
    provider: str, model: str, lm: Making, server: WireServer, keeper: object
) -> None:
    asked = lm(f"{provider}/{model}", timeout=tk.Timeouts(total=0.5), retries=0)
    asked._source.adapter.prepare()
    began = time.monotonic()
    with pytest.raises(tk.LMTimeoutError, match=rf"{model}: no answer within 0.5 s") as late:
        asked("Hello")
    with pytest.raises(tk.LMTimeoutError):
        asyncio.run(asked.acall("Hello"))
    assert time.monotonic() - began < SOON
    assert late.value.phase == "total"
    assert statuses() == ["error", "error"]
    if model == "drip" and provider != "litellm/openai":
        assert server.gone.acquire(timeout=SOON), "the connection is closed"


@pytest.mark.parametrize("model", ["hang", "drip"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_first_token_has_a_deadline(provider: str, model: str, lm: Making, server: WireServer) -> None:
    asked = lm(f"{provider}/{model}", timeout=tk.Timeouts(first_token=0.3), retries=0)
    with pytest.raises(tk.LMTimeoutError, match=r"no first token within 0.3 s") as late:
        next(asked.stream("Hello"))
    assert late.value.phase == "first_token"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream_that_stalls_is_given_up_and_keeps_its_text(
    provider: str, lm: Making, server: WireServer, keeper: object
) -> None:
    asked = lm(f"{provider}/stall", timeout=tk.Timeouts(between_tokens=0.3), retries=0)
    stream = asked.stream("Hello")
    came: list[str] = []
    with pytest.raises(tk.LMTimeoutError, match=r"no further token within 0.3 s") as late:
        came.extend(map(str, stream))
    assert late.value.phase == "between_tokens"
    assert "".join(came) == SO_FAR == stream.answer.text
    tk.flush(timeout=20)
    [record] = tk.records()
    assert (record.status, record.output) == ("error", SO_FAR)


@pytest.mark.slow
def test_the_total_deadline_of_a_stream_counts_the_waiting_alone(lm: Making, server: WireServer) -> None:
    stream = lm("openai/paced", timeout=tk.Timeouts(total=2.0), retries=0).stream("Hello")
    next(stream)
    time.sleep(2.1)  # a slow reader: what is measured is the clock
    next(stream)
    with pytest.raises(tk.LMTimeoutError, match=r"no end of the answer within 2 s"):
        list(stream)


def test_nobody_listening_and_nobody_accepting_end_in_time() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(tk.LMError, match="openai/x: "):
            tk.LM("openai/x", api_base=f"http://127.0.0.1:{port}/v1", api_key="k", retries=0)("Hello")
        unused.listen(0)
        full = [socket.socket() for _ in range(4)]
        for one in full:  # the queue of connections is full: further ones are not answered at all
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        deaf = tk.LM(
            "openai/x", api_base=f"http://127.0.0.1:{port}/v1", api_key="k", timeout={"connect": 0.3}, retries=0
        )
        with pytest.raises(tk.LMTimeoutError, match=r"openai/x: no connection within 0.3 s") as late:
            deaf("Hello")
        for one in full:
            one.close()
    assert late.value.phase == "connect"
    assert time.monotonic() - began < SOON


def test_a_callable_that_does_not_come_back_is_given_up() -> None:
    done = threading.Event()
    with pytest.raises(tk.LMTimeoutError):
        tk.LM(lambda prompt: done.wait(60) and prompt, timeout=0.2, retries=0)("Hello")
    done.set()


@in_a_loop
async def _cancelled(model: tk.LM, server: WireServer) -> None:
    task = asyncio.ensure_future(model.acall("Hello"))
    while not server.requests:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.slow
def test_cancelling_a_call_closes_its_connection(lm: Making, server: WireServer, keeper: object) -> None:
    _cancelled(lm("openai/drip"), server)
    assert server.gone.acquire(timeout=SOON)
    assert statuses() == ["cancelled"]


@pytest.mark.slow
def test_ctrl_c_ends_a_call_at_once_and_closes_its_connection(lm: Making, server: WireServer, keeper: object) -> None:
    model = lm("openai/drip")
    model._source.adapter.prepare()

    def interrupt() -> None:
        while not server.requests:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        model("Hello")
    assert server.gone.acquire(timeout=SOON)
    assert statuses() == ["error"]


@pytest.mark.slow
@pytest.mark.parametrize("provider", [*PROVIDERS, "function"])
def test_a_stream_ends_as_it_ends(provider: str, lm: Making, server: WireServer, keeper: object) -> None:
    def words(prompt: str) -> Any:
        yield from TEXT.split(" ")

    model = tk.LM(words) if provider == "function" else lm(f"{provider}/full")
    assert len(list(model.stream("whole"))) == 10
    for _ in model.stream("break"):
        break
    with model.stream("with") as stream:
        next(stream)
    closed = model.stream("close")
    next(closed)
    closed.close()
    closed.close()
    assert list(closed) == []
    model.stream("never iterated")
    gc.collect()
    tk.flush(timeout=20)
    ended = {record.input[0]["content"]: record for record in tk.records()}
    assert {name: record.status for name, record in ended.items()} == {
        "whole": "ok",
        "break": "abandoned",
        "with": "abandoned",
        "close": "abandoned",
        "never iterated": "abandoned",
    }
    first = "The" if provider == "function" else "The "
    assert [ended[name].output for name in ("break", "with", "close")] == [first] * 3


@pytest.mark.slow
@pytest.mark.parametrize("provider", [*PROVIDERS, "function"])
def test_an_async_stream_ends_as_it_ends(provider: str, lm: Making, server: WireServer, keeper: object) -> None:
    async def words(prompt: str) -> Any:
        for word in TEXT.split(" "):
            yield word

    model = tk.LM(words) if provider == "function" else lm(f"{provider}/full")

    async def streams() -> None:
        assert len([chunk async for chunk in model.astream("whole")]) == 10
        async for _ in model.astream("break"):
            break
        async with model.astream("with") as stream:
            await anext(stream)
        cancelled = lm("openai/stall").astream("cancelled")

        async def consume() -> None:
            async for _ in cancelled:
                pass

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(consume(), 0.5)

    asyncio.run(streams())
    gc.collect()
    tk.flush(timeout=20)
    assert {record.input[0]["content"]: record.status for record in tk.records()} == {
        "whole": "ok",
        "break": "abandoned",
        "with": "abandoned",
        "cancelled": "cancelled",
    }


def test_a_function_that_streams_is_closed_where_it_is_left() -> None:
    closed = [threading.Event(), threading.Event()]

    def words(prompt: str) -> Any:
        try:
            yield from TEXT.split()
        finally:
            closed[0].set()

    async def awords(prompt: str) -> Any:
        try:
            for word in TEXT.split():
                yield word
        finally:
            closed[1].set()

    with tk.LM(words).stream("Hello") as stream:
        next(stream)
    for _ in tk.LM(awords).stream("Hello"):
        break
    assert all(one.wait(SOON) for one in closed)


def test_a_stream_that_the_server_cuts_says_so(lm: Making, server: WireServer, keeper: object) -> None:
    stream = lm("openai/cut").stream("Hello")
    assert "".join(map(str, stream)) == SO_FAR
    assert not stream.answer.complete
    assert statuses() == ["truncated"]


def test_a_stream_is_asked_again_only_before_its_first_token(lm: Making, server: WireServer) -> None:
    server.script.append({"status": 503, "headers": {"retry-after-ms": "1"}})
    stream = lm("openai/full").stream("Hello")
    assert "".join(map(str, stream)) == TEXT
    assert (stream.answer.attempts, stream.answer.usage.output_tokens) == (2, 10)
    with pytest.raises(tk.LMError):
        list(lm("openai/error").stream("Hello"))
    assert len(server.requests) == 3


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("provider", PROVIDERS[:2])
def test_no_generator_of_a_library_is_left_to_the_collector(
    provider: str, whole: bool, lm: Making, server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []
    look = feed._generators_in
    monkeypatch.setattr(feed, "_generators_in", lambda *outer: found.extend(look(*outer)) or list(found))
    with lm(f"{provider}/full").stream("left or read") as stream:
        assert next(stream)
        assert [each for each in found if each.ag_frame is not None], "they are suspended"
        if whole:
            list(stream)
    assert len(found) > 5, "down to the connection's own"
    assert [each for each in found if each.ag_frame is not None] == []


@pytest.mark.slow
def test_a_place_is_given_back_however_a_stream_ends(lm: Making, server: WireServer) -> None:
    model = lm("openai/full", max_concurrency=1)
    for _ in model.stream("left"):
        break
    gc.collect()
    assert "".join(map(str, model.stream("whole"))) == TEXT
    with pytest.raises(tk.LMError):
        list(lm("openai/error").stream("broken"))
    for _ in range(3):
        assert contextvars.copy_context().run(model, "Hello").text == TEXT
    assert model.limiter.state()["in_flight"] == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_asks_on_a_loop_of_its_own(lm: Making, server: WireServer) -> None:
    model = lm("openai/full")
    assert model("Hello").text == TEXT
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if model("Hello").text == TEXT else 1
        finally:  # whatever happens, it does not go on with the parent's tests
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert model("Hello").text == TEXT
