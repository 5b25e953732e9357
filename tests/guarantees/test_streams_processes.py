"""G2 and G3 for clients' streams where the process ends: one span each, with what it received so far.

Real programs against a local server; what they left is read by another process.
"""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import FULL
from tests.failures.test_trulens import tk_in
from tests.support import programs, wire
from tests.support.wire import SO_FAR, TEXT, WireServer

import tracekeeper as tk

OPENS = {
    "openai": """
        import openai
        tk.instrument("openai")
        client = openai.OpenAI(api_key="k", base_url=url + "/v1", max_retries=0)
        aclient = openai.AsyncOpenAI(api_key="k", base_url=url + "/v1", max_retries=0)
        said = [{"role": "user", "content": "weather?"}]
        def opens(model): return client.chat.completions.create(model=model, messages=said, stream=True)
        async def aopens(model): return await aclient.chat.completions.create(model=model, messages=said, stream=True)
        async def asks(model): return await aclient.chat.completions.create(model=model, messages=said)
        def text(chunk): return chunk.choices and chunk.choices[0].delta.content or ""
    """,
    "anthropic": """
        import anthropic
        tk.instrument("anthropic")
        client = anthropic.Anthropic(api_key="k", base_url=url, max_retries=0)
        aclient = anthropic.AsyncAnthropic(api_key="k", base_url=url, max_retries=0)
        more = dict(max_tokens=9, messages=[{"role": "user", "content": "weather?"}])
        def opens(model): return client.messages.create(model=model, stream=True, **more)
        async def aopens(model): return await aclient.messages.create(model=model, stream=True, **more)
        async def asks(model): return await aclient.messages.create(model=model, **more)
        def text(event): return getattr(getattr(event, "delta", None), "text", None) or ""
    """,
    "litellm": """
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        import litellm
        tk.instrument("litellm")
        more = dict(messages=[{"role": "user", "content": "weather?"}], api_base=url + "/v1", api_key="k")
        def opens(model): return litellm.completion(model="openai/" + model, stream=True, **more)
        async def aopens(model): return await litellm.acompletion(model="openai/" + model, stream=True, **more)
        async def asks(model): return await litellm.acompletion(model="openai/" + model, **more)
        def text(chunk): return chunk.choices and chunk.choices[0].delta.content or ""
    """,
}
BEGINS = """
import asyncio, os, sys, threading, time
import tracekeeper as tk
url = os.environ["WIRE"]
def three(stream):
    said = []
    while len(said) < 3:
        piece = text(next(stream))
        if piece: said.append(piece)
    return stream
async def athree(stream):
    said = []
    while len(said) < 3:
        piece = text(await stream.__anext__())
        if piece: said.append(piece)
    return stream
"""


IN_SHORT = ("test_calls_and_streams_of_an_asyncio_run_right_before_the_end", "test_ctrl_c_in_the_middle_of_a_step")


def program(client: str, body: str) -> str:
    return BEGINS + textwrap.dedent(OPENS[client]) + textwrap.dedent(body)


@pytest.fixture(params=list(OPENS))
def client(request: pytest.FixtureRequest) -> str:
    if request.param == "litellm" and request.node.originalname not in IN_SHORT and not FULL:
        pytest.skip("only at the stated counts: importing litellm takes seconds, once for each program")
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.fixture
def server() -> Iterator[WireServer]:
    with wire.serving() as made:
        yield made


def left(directory: Path) -> list[tuple[str, Any]]:
    """Status and output of every span of a model, whoever had to store it."""
    with tk_in(directory):
        return [(str(record.status), record.output) for record in tk.records('kind = "llm"', limit=200)]


def run(client: str, server: WireServer, body: str, directory: Path) -> list[tuple[str, Any]]:
    done = programs.run(program(client, body), directory, timeout=100, WIRE=server.url)
    assert done.code == 0, done.err
    assert "tracing failed" not in done.err
    return left(directory)


def test_a_stream_that_a_module_holds_until_the_end(client: str, server: WireServer, tmp_path: Path) -> None:
    assert run(client, server, "held = three(opens('stall'))", tmp_path) == [("abandoned", SO_FAR)]


def test_a_stream_in_a_daemon_thread_at_the_end(client: str, server: WireServer, tmp_path: Path) -> None:
    body = """
        third = threading.Event()
        def work():
            stream = three(opens("stall"))
            third.set()
            next(stream)
        threading.Thread(target=work, daemon=True).start()
        third.wait(60)
    """
    assert run(client, server, body, tmp_path) == [("abandoned", SO_FAR)]


def test_calls_and_streams_of_an_asyncio_run_right_before_the_end(
    client: str, server: WireServer, tmp_path: Path
) -> None:
    body = """
        async def whole():
            return [text(chunk) async for chunk in await aopens("full")]
        async def main():
            await asyncio.gather(*(asks("full") for _ in range(25)), *(whole() for _ in range(25)))
        asyncio.run(main())
    """
    assert run(client, server, body, tmp_path) == [("ok", TEXT)] * 50


def test_a_stream_that_outlives_its_loop(client: str, server: WireServer, tmp_path: Path) -> None:
    body = """
        held = []
        async def main():
            held.append(await athree(await aopens("stall")))
        asyncio.run(main())
    """
    assert run(client, server, body, tmp_path) == [("abandoned", SO_FAR)]


def test_ctrl_c_in_the_middle_of_a_step(client: str, server: WireServer, tmp_path: Path) -> None:
    body = """
        import signal  # Python overlooks a signal that comes as a wait begins, until another one ends the wait
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
        stream = three(opens("stall"))
        print("third", flush=True)
        next(stream)
    """
    process = programs.start(program(client, body), tmp_path, WIRE=server.url)
    assert programs.ready(process) == "third"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in err
    [(status, text)] = left(tmp_path)
    # In the middle of the step it is an error of the step, a moment before it the stream was merely left.
    assert status in ("error", "abandoned")
    assert text == SO_FAR


def test_kill_9_in_the_middle_keeps_the_text_so_far(client: str, server: WireServer, tmp_path: Path) -> None:
    body = """
        from tracekeeper.tracing import chunks
        chunks.EVERY_SECONDS = 0.0
        stream = three(opens("stall"))
        print("third", flush=True)
        next(stream)
    """
    process = programs.start(program(client, body), tmp_path, WIRE=server.url)
    assert programs.ready(process) == "third"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert left(tmp_path) == [("interrupted", SO_FAR)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_in_the_middle_of_a_stream(client: str, server: WireServer, tmp_path: Path) -> None:
    body = """
        stream = three(opens("stall"))
        if os.fork() == 0:
            mine = three(opens("full"))
            del stream, mine
            os._exit(0)
        os.wait()
        stream.close()
    """
    assert sorted(run(client, server, body, tmp_path)) == [("abandoned", SO_FAR)] * 2


def test_random_seed_makes_no_two_streams_the_same(client: str, server: WireServer, tmp_path: Path) -> None:
    body = """
        import random
        for _ in range(20):
            random.seed(42)
            for chunk in opens("full"): pass
    """
    assert run(client, server, body, tmp_path) == [("ok", TEXT)] * 20
