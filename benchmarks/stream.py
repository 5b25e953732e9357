"""What a streamed chunk costs under ``@tk.trace``, sync and async."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator

import tracekeeper as tk
from benchmarks.report import table, verdict
from tracekeeper.testing import temporary_keeper

CHUNKS, ROUNDS = 20_000, 7


def plain() -> Iterator[str]:
    for _ in range(CHUNKS):
        yield "word "


async def aplain() -> AsyncIterator[str]:
    for _ in range(CHUNKS):
        yield "word "


def consume(stream: Callable[[], Iterator[str]]) -> float:
    begun = time.perf_counter()
    for _ in stream():
        pass
    return (time.perf_counter() - begun) / CHUNKS * 1e6


async def aconsume(stream: Callable[[], AsyncIterator[str]]) -> float:
    begun = time.perf_counter()
    async for _ in stream():
        pass
    return (time.perf_counter() - begun) / CHUNKS * 1e6


def main() -> None:
    """Traced minus plain, interleaved."""
    with temporary_keeper():
        sync, asynchronous = tk.trace(plain), tk.trace(aplain)
        net = [consume(sync) - consume(plain) for _ in range(ROUNDS)]
        anet = [asyncio.run(aconsume(asynchronous)) - asyncio.run(aconsume(aplain)) for _ in range(ROUNDS)]
    rows = [
        (name, statistics.median(values), verdict(statistics.median(values), 3))
        for name, values in (("generator", net), ("async generator", anet))
    ]
    table("A streamed chunk, µs net of the plain generator", ("stream", "µs", "target 3"), rows)
