"""Which callables are asynchronous."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable
from typing import Any
from unittest import mock

import pytest

from tracekeeper.concurrency import describe, is_async, is_awaitable


async def coroutine() -> None: ...


def plain() -> None: ...


def promises() -> Awaitable[int]:
    raise NotImplementedError


class Async:
    async def __call__(self) -> None: ...

    async def method(self) -> None: ...

    @staticmethod
    async def static() -> None: ...

    @classmethod
    async def classy(cls) -> None: ...

    part = functools.partialmethod(method)


class Sync:
    def __call__(self) -> None: ...

    def method(self) -> None: ...


@pytest.mark.parametrize(
    "fn",
    [
        coroutine,
        functools.partial(functools.partial(coroutine)),
        Async(),
        functools.partial(Async()),
        Async().method,
        Async.static,
        Async.classy,
        Async().part,
        functools.partial(Async().method),
        promises,
        mock.AsyncMock(),
    ],
)
def test_asynchronous(fn: Any) -> None:
    assert is_async(fn)


@pytest.mark.parametrize(
    "fn", [plain, lambda: coroutine(), Sync(), Sync().method, Sync, Async, len, dict.get, "".join, mock.Mock(), 3]
)
def test_synchronous_as_far_as_can_be_told(fn: Any) -> None:
    assert not is_async(fn)


def test_results_that_must_be_awaited() -> None:
    waits = coroutine()
    assert is_awaitable(waits)
    waits.close()
    loop = asyncio.new_event_loop()
    assert is_awaitable(loop.create_future())
    loop.close()
    assert not any(map(is_awaitable, [None, 1, "x", [], {}, object(), plain, coroutine]))


def test_names_for_people() -> None:
    assert describe(functools.partial(coroutine)) == "coroutine"
    assert describe(Sync()) == "Sync"
    assert describe(Async().method) == "Async.method"
