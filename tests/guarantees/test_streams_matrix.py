"""G3, for every client: exactly one span for a stream, with the right status, text and parent, however it ends.

The rows are those of "Every ending" in ``docs/design/streams.md``; the columns are the clients, against a local
server that speaks their wire formats. Endings that need a process of their own are in ``test_streams_processes.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.metadata
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support import garbage, wire
from tests.support.fake_keeper import FakeKeeper
from tests.support.streaming import CLIENTS
from tests.support.wire import SO_FAR, TEXT, WireServer

import tracekeeper as tk
from tracekeeper.integrations import registry
from tracekeeper.tracing import runtime

pytestmark = [
    # Their own: connections of a stream that was left are closed by whoever collects them.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Pydantic.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", params=CLIENTS, ids=lambda client: client.name)
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    chosen = request.param
    if chosen.library is not None:
        pytest.importorskip(chosen.library)
        importlib.import_module(chosen.library)
        [shown] = tk.instrument(chosen.library)
        assert shown.state == "active", shown
    yield chosen
    registry.forget()


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with wire.serving() as made:
        yield made


def only(kept: FakeKeeper, *, parent: str | None = "consumer") -> tuple[str, Any]:
    """Status and text of the one stream's span, which lies below the consumer's."""
    garbage.collect()
    streams = [start for start in kept.starts if start.kind == "llm"]
    assert len(streams) == 1, [start.name for start in streams]
    [end] = [end for end in kept.ends if end.span_id == streams[0].span_id]
    if parent is not None:
        assert streams[0].parent_id == kept.start(parent).span_id
    return end.status, kept.output(streams[0].name)


class Consumer:
    """Reads a stream and remembers the words."""

    def __init__(self, client: Any, server: WireServer) -> None:
        self.client = client
        self.server = server
        self.said: list[str] = []

    def read(self, chunk: Any) -> str:
        text = self.client.text(chunk)
        if text:
            self.said.append(text)
            if len(self.said) == 3:
                self.server.pace.release()
        return text

    @property
    def text(self) -> str:
        return "".join(self.said)


@pytest.fixture
def consumer(client: Any, server: WireServer) -> Iterator[Consumer]:
    yield Consumer(client, server)
    while server.pace.acquire(blocking=False):
        pass


def arun(consumer: Consumer, model: str, consume: Any, timeout: float = 20) -> None:
    """Open a stream inside a span, hand it to ``consume``, and close the client."""

    async def main() -> None:
        async with consumer.client.ausing(consumer.server, timeout) as opens:
            with tk.span("consumer"):
                await consume(await opens(model))

    asyncio.run(main())


# Endings that the consumer brings about.


def test_a_stream_is_read_to_its_end(consumer: Consumer, kept: FakeKeeper) -> None:
    async def consume(stream: Any) -> None:
        async for chunk in stream:
            consumer.read(chunk)

    arun(consumer, "full", consume)
    assert consumer.text == TEXT
    assert only(kept) == ("ok", TEXT)


def test_a_sync_stream_is_read_to_its_end(consumer: Consumer, kept: FakeKeeper) -> None:
    with consumer.client.using(consumer.server) as opens, tk.span("consumer"):
        for chunk in opens("full"):
            consumer.read(chunk)
    assert consumer.text == TEXT
    assert only(kept) == ("ok", TEXT)


@pytest.mark.parametrize("closes", [False, True], ids=["dropped", "closed"])
@pytest.mark.parametrize("where", ["empty", "third", "finish"])
def test_a_consumer_that_breaks_off(consumer: Consumer, kept: FakeKeeper, where: str, closes: bool) -> None:
    client = consumer.client
    finished = []

    async def consume(stream: Any) -> None:
        async for chunk in stream:
            text = consumer.read(chunk)
            if client.finished(chunk):
                finished.append(True)
            if (where == "empty" and not text and consumer.said) or (where == "third" and len(consumer.said) == 3):
                break
            if where == "finish" and finished:
                break
        if closes and (close := getattr(stream, "aclose", None) or getattr(stream, "close", None)):
            await close()  # LiteLLM's streams could not be closed before 1.81

    arun(consumer, "empty" if where == "empty" else "full", consume)
    # What the provider has finished is complete, although nobody read past the end.
    assert only(kept) == ("ok" if finished or consumer.text == TEXT else "abandoned", consumer.text)
    if where == "third":
        assert consumer.text == SO_FAR


@pytest.mark.parametrize("closes", [False, True], ids=["dropped", "closed"])
@pytest.mark.parametrize("where", ["empty", "third"])
def test_a_sync_consumer_that_breaks_off(consumer: Consumer, kept: FakeKeeper, where: str, closes: bool) -> None:
    with consumer.client.using(consumer.server) as opens, tk.span("consumer"):
        broke = False
        stream = opens("empty" if where == "empty" else "full")
        for chunk in stream:
            text = consumer.read(chunk)
            if len(consumer.said) == 3 and (where == "third" or not text):
                broke = True
                break
        if closes and hasattr(stream, "close"):
            stream.close()
            assert [end.status for end in kept.ends] == ["abandoned" if broke else "ok"]
        del stream, chunk
    # LiteLLM keeps empty chunks to itself here: its stream is then read to its end.
    assert broke or (where, consumer.client.library) == ("empty", "litellm")
    assert only(kept) == (("abandoned", SO_FAR) if broke else ("ok", TEXT))


def test_a_consumer_that_raises(consumer: Consumer, kept: FakeKeeper, caplog: pytest.LogCaptureFixture) -> None:
    # A log that keeps the exception keeps the frames of its traceback, and with them the stream.
    caplog.set_level(logging.CRITICAL + 1, "asyncio")

    async def consume(stream: Any) -> None:
        async for chunk in stream:
            consumer.read(chunk)
            if len(consumer.said) == 3:
                raise LookupError("the consumer's own")

    with pytest.raises(LookupError, match="own"):
        arun(consumer, "full", consume)
    assert only(kept) == ("abandoned", SO_FAR)


@pytest.mark.parametrize("how", ["cancel", "wait_for", "sibling"])
def test_a_consumer_that_is_cancelled_while_it_waits_for_a_chunk(
    consumer: Consumer, kept: FakeKeeper, how: str
) -> None:
    async def consume(stream: Any) -> None:
        third = asyncio.Event()

        async def reads() -> None:
            async for chunk in stream:
                consumer.read(chunk)
                if len(consumer.said) == 3:
                    third.set()

        async def fails() -> None:
            await third.wait()
            await asyncio.sleep(0.05)  # so that the next step is under way
            raise LookupError("a sibling's")

        if how == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reads(), 1.0)
            assert third.is_set()
        elif how == "sibling":
            with pytest.raises(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(reads())
                    group.create_task(fails())
        else:
            task = asyncio.create_task(reads())
            await third.wait()
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    arun(consumer, "stall", consume)
    assert only(kept) == ("cancelled", SO_FAR)


def test_a_consumer_that_is_cancelled_between_two_chunks(consumer: Consumer, kept: FakeKeeper) -> None:
    async def consume(stream: Any) -> None:
        third = asyncio.Event()

        async def reads(stream: Any) -> None:
            async for chunk in stream:
                consumer.read(chunk)
                if len(consumer.said) == 3:
                    third.set()
                    await asyncio.Event().wait()

        task = asyncio.create_task(reads(stream))
        await third.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    arun(consumer, "full", consume)
    assert only(kept) == ("abandoned", SO_FAR)


def test_a_stream_that_is_never_iterated(consumer: Consumer, kept: FakeKeeper) -> None:
    async def consume(stream: Any) -> None:
        pass

    arun(consumer, "full", consume)
    assert only(kept) == ("abandoned", "")


def test_a_stream_that_is_driven_by_hand(consumer: Consumer, kept: FakeKeeper) -> None:
    async def consume(stream: Any) -> None:
        while len(consumer.said) < 3:
            consumer.read(await stream.__anext__())

    arun(consumer, "full", consume)
    assert only(kept) == ("abandoned", SO_FAR)


# Endings that the server brings about.


SERVERS = {"reset": "error", "cut": "truncated", "malformed": "error", "error": "error"}
"""Models that break off, and the status that follows. LiteLLM's newest versions make an error of a stream that was cut;
where the consumer got an exception, that is what the span tells."""


@pytest.mark.parametrize("model", SERVERS)
@pytest.mark.parametrize("way", ["async", "sync"])
def test_a_server_that_breaks_off(consumer: Consumer, kept: FakeKeeper, model: str, way: str) -> None:
    if consumer.client.library is None:
        pytest.skip("has no server")

    async def consume(stream: Any) -> None:
        async for chunk in stream:
            consumer.read(chunk)

    raised = False
    try:
        if way == "async":
            arun(consumer, model, consume)
        else:
            with consumer.client.using(consumer.server) as opens, tk.span("consumer"):
                for chunk in opens(model):
                    consumer.read(chunk)
    except Exception:  # the client's own errors, each of another kind
        raised = True
    status, text = only(kept)
    assert (status, text) == ("error" if raised else "truncated", SO_FAR)
    swallows = consumer.client.library == "litellm" and importlib.metadata.version("litellm").startswith("1.80.")
    assert raised or swallows or SERVERS[model] == "truncated", "a client that swallows an error of its server"
    assert consumer.text == SO_FAR
    if status == "error":
        [failed] = [end for end in kept.ends if end.error is not None and end.chunks]
        assert failed.error.type
        assert failed.error.traceback


def test_a_server_that_says_nothing_more(consumer: Consumer, kept: FakeKeeper) -> None:
    if consumer.client.library is None:
        pytest.skip("has no server")

    async def consume(stream: Any) -> None:
        async for chunk in stream:
            consumer.read(chunk)

    with contextlib.suppress(Exception):
        arun(consumer, "stall", consume, timeout=1.0)
    assert only(kept) == ("error", SO_FAR)


@pytest.mark.parametrize("model", ["refused", "hang"])
def test_a_call_that_brings_no_stream(consumer: Consumer, kept: FakeKeeper, model: str) -> None:
    if consumer.client.library is None:
        pytest.skip("has no server")

    async def consume(stream: Any) -> None:
        raise AssertionError("there is no stream")

    with contextlib.suppress(Exception):
        arun(consumer, model, consume, timeout=1.0)
    garbage.collect()
    [(status, text)] = [
        (end.status, end.output)
        for end in kept.ends
        if end.span_id == kept.start("chat " + _said(consumer, model)).span_id
    ]
    assert (status, text) == ("error", None)


def _said(consumer: Consumer, model: str) -> str:
    return f"openai/{model}" if consumer.client.name == "litellm" else model


# Loops and threads.


def test_three_loops_in_a_row(consumer: Consumer, kept: FakeKeeper) -> None:
    async def consume(stream: Any) -> None:
        async for chunk in stream:
            consumer.read(chunk)

    for _ in range(3):
        arun(consumer, "full", consume)
    streams = [start for start in kept.starts if start.kind == "llm"]
    assert len(streams) == 3
    assert [end.status for end in kept.ends if end.chunks] == ["ok"] * 3


def test_ten_threads_with_loops_of_their_own(client: Any, server: WireServer, kept: FakeKeeper) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        consumer = Consumer(client, server)

        async def consume(stream: Any) -> None:
            async for chunk in stream:
                consumer.read(chunk)

        try:
            arun(consumer, "full", consume)
            assert consumer.text == TEXT
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    ends = [end for end in kept.ends if end.chunks]
    assert [end.status for end in ends] == ["ok"] * 10
    parents = {start.span_id for start in kept.starts if start.name == "consumer"}
    assert len({start.parent_id for start in kept.starts if start.kind == "llm"} & parents) == 10


def test_a_hundred_streams_that_are_broken_off_at_once(client: Any, server: WireServer, kept: FakeKeeper) -> None:
    async def main() -> None:
        async with client.ausing(server) as opens:

            async def one() -> str:
                consumer = Consumer(client, server)
                with tk.span("consumer"):
                    async for chunk in await opens("full"):
                        consumer.read(chunk)
                        if len(consumer.said) == 3:
                            break
                return consumer.text

            assert await asyncio.gather(*(one() for _ in range(100))) == [SO_FAR] * 100

    asyncio.run(main())
    garbage.collect()
    streams = {start.span_id: start for start in kept.starts if start.kind == "llm"}
    ends = [end for end in kept.ends if end.span_id in streams]
    assert len(streams) == len(ends) == 100
    assert {end.status for end in ends} == {"abandoned"}
    assert {end.output for end in ends} == {f'"{SO_FAR}"'.encode()}
    consumers = {start.span_id for start in kept.starts if start.name == "consumer"}
    assert {start.parent_id for start in streams.values()} == consumers


def test_what_the_consumer_traces_lies_below_the_consumers_span(consumer: Consumer, kept: FakeKeeper) -> None:
    @tk.trace(name="child")
    def child() -> None: ...

    async def consume(stream: Any) -> None:
        async for chunk in stream:
            consumer.read(chunk)
            child()

    arun(consumer, "full", consume)
    here = kept.start("consumer").span_id
    assert {start.parent_id for start in kept.starts if start.name == "child"} == {here}


# What the interpreter brings about.


def test_a_stream_in_a_reference_cycle_ends_when_gc_finds_it(consumer: Consumer, kept: FakeKeeper) -> None:
    async def consume(stream: Any) -> None:
        while len(consumer.said) < 3:
            consumer.read(await stream.__anext__())
        box: list[Any] = [stream]
        box.append(box)

    arun(consumer, "full", consume)
    assert only(kept) == ("abandoned", SO_FAR)


def test_gc_may_end_a_stream_while_locks_are_held(client: Any, server: WireServer, kept: FakeKeeper) -> None:
    consumer = Consumer(client, server)
    with client.using(server) as opens, tk.span("consumer"):
        stream = opens("full")
        while len(consumer.said) < 3:
            consumer.read(next(stream))
        box: list[Any] = [stream]
        box.append(box)
        del stream, box
        ended = threading.Event()

        def collects() -> None:
            handler = logging.lastResort
            assert handler is not None
            handler.acquire()  # whoever logs in a finaliser waits here for ever
            try:
                garbage.collect()
            finally:
                handler.release()
            ended.set()

        threading.Thread(target=collects, daemon=True).start()
        assert ended.wait(30), "a finaliser waits for a lock that its own thread holds"
    assert only(kept) == ("abandoned", SO_FAR)


def test_a_task_that_is_destroyed_while_it_waits_for_a_chunk(
    client: Any, server: WireServer, kept: FakeKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = Consumer(client, server)
    loop = asyncio.new_event_loop()

    async def main() -> None:
        third = asyncio.Event()

        async def reads() -> None:
            async with client.ausing(server) as opens:
                with tk.span("consumer"):
                    async for chunk in await opens("stall"):
                        consumer.read(chunk)
                        if len(consumer.said) == 3:
                            third.set()

        tasks.append(asyncio.ensure_future(reads()))
        await third.wait()

    tasks: list[Any] = []
    loop.run_until_complete(main())
    loop.close()
    tasks.clear()
    caplog.clear()  # its records hold the task
    garbage.collect()
    for span in list(runtime.open_spans.values()):  # the library may keep it; the exit finds it all the same
        span.sweep("interrupted")
    [end] = [end for end in kept.ends if end.chunks]
    assert end.status in ("abandoned", "cancelled")
    assert end.output == f'"{SO_FAR}"'.encode()
    assert not [record for record in caplog.records if record.name == "tracekeeper"]
