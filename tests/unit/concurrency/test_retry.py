"""Trying again: only what can succeed, after a wait that is drawn, asked for, and bounded in total."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from types import SimpleNamespace

import httpx
import pytest
from tests.support.loops import in_a_loop

from tracekeeper.concurrency.retry import Retry, Verdict, retry_after, verdict


class Refused(Exception):
    def __init__(self, status: int, code: str | None = None, **headers: str) -> None:
        super().__init__(f"status {status}")
        self.status_code = status
        self.code = code
        self.response = SimpleNamespace(headers=httpx.Headers({k.replace("_", "-"): v for k, v in headers.items()}))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422])
def test_what_cannot_succeed_is_tried_once(status: int) -> None:
    calls = []

    def attempt() -> None:
        calls.append(1)
        raise Refused(status)

    with pytest.raises(Refused):
        Retry(retries=5).call(attempt, sleep=Clock().sleep)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "error", [ValueError("no such model"), TypeError(), KeyError("x"), Refused(429, "insufficient_quota")]
)
def test_a_validation_error_and_an_empty_account_are_tried_once(error: Exception) -> None:
    assert verdict(error) is Verdict.NEVER


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_what_may_succeed_is_tried_as_often_as_allowed(status: int) -> None:
    clock, calls = Clock(), []

    def attempt() -> str:
        calls.append(1)
        if len(calls) < 4:
            raise Refused(status)
        return "answer"

    assert Retry(retries=3).call(attempt, sleep=clock.sleep, clock=clock) == "answer"
    assert len(clock.slept) == 3
    assert verdict(Refused(status)) is (Verdict.TOO_MUCH if status in (429, 529) else Verdict.AGAIN)


def test_lost_connections_of_every_client_may_succeed() -> None:
    for error in (ConnectionResetError(), TimeoutError(), httpx.ReadError(""), httpx.ConnectTimeout("")):
        assert verdict(error) is Verdict.AGAIN


def test_waits_are_drawn_below_a_bound_that_doubles_up_to_the_longest() -> None:
    retry = Retry(retries=10, first=1.0, longest=8.0, within=1000)
    bounds: list[float] = []

    def draw(low: float, high: float) -> float:
        assert low == 0.0
        bounds.append(high)
        return high

    for failures in range(1, 7):
        retry.wait(ConnectionError(), failures=failures, elapsed=0.0, draw=draw)
    assert bounds == [1, 2, 4, 8, 8, 8]
    drawn = {retry.wait(ConnectionError(), failures=1, elapsed=0.0) for _ in range(50)}
    assert len(drawn) > 10
    assert all(one is not None and 0 <= one <= 1 for one in drawn)


def test_a_server_that_asks_for_time_gets_at_least_that() -> None:
    wait = Retry().wait(Refused(429, retry_after="7"), failures=1, elapsed=0.0)
    assert wait is not None
    assert 7 <= wait <= 7.5


def test_no_wait_is_begun_that_would_pass_the_ceiling() -> None:
    clock, calls = Clock(), []

    def attempt() -> None:
        calls.append(1)
        clock.now += 10
        raise Refused(503, retry_after="15")

    with pytest.raises(Refused):
        Retry(retries=100, within=60).call(attempt, sleep=clock.sleep, clock=clock)
    assert clock.now - 10 <= 60, "the last attempt began within the ceiling; how long it takes is for its own deadline"
    assert len(calls) == 3  # at 0, 25.x and 50.x: the next would begin after 75


def test_every_form_of_retry_after_is_read() -> None:
    assert retry_after(Refused(429, retry_after="2.5")) == 2.5
    assert retry_after(Refused(429, retry_after_ms="250", retry_after="9")) == 0.25
    assert retry_after(Refused(429, retry_after=formatdate(1_000_010, usegmt=True)), now=lambda: 1_000_000.0) == 10
    assert retry_after(Refused(429, retry_after=formatdate(999_990, usegmt=True)), now=lambda: 1_000_000.0) == 0
    for nonsense in ("soon", "-3", "nan", "inf", ""):
        assert retry_after(Refused(429, retry_after=nonsense)) is None
    assert retry_after(ValueError()) is None


@in_a_loop
async def test_the_async_door_decides_as_the_sync_one_and_a_cancelled_wait_ends() -> None:
    calls = []

    async def attempt() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionResetError
        return "answer"

    async def no_sleep(seconds: float) -> None:
        assert seconds >= 0

    assert await Retry(retries=2).acall(attempt, sleep=no_sleep) == "answer"

    async def always() -> None:
        raise Refused(503, retry_after="50")

    waiting = asyncio.ensure_future(Retry().acall(always))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
