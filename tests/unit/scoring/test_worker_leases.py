"""What is claimed is renewed, given back, or let go when somebody else has it; nothing begins on a lapsed lease."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tracekeeper.configuration import configure
from tracekeeper.judging import metric
from tracekeeper.scoring.jobs import Job, Source
from tracekeeper.scoring.worker.leases import Claimed
from tracekeeper.types import StoreError


class Store:
    """Says who owns what; remembers what it was told."""

    def __init__(self) -> None:
        self.owned: set[int] = set()
        self.renewed = 0
        self.released: list[int] = []
        self.broken = False

    def renew_claims(self, owner: str, *, lease: float) -> set[int]:
        if self.broken:
            raise StoreError("locked")
        self.renewed += 1
        return set(self.owned)

    def release(self, owner: str, ids: frozenset[int]) -> int:
        self.released.extend(ids)
        self.owned -= ids
        return len(ids)


def until(what: Callable[[], Any], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


@pytest.fixture
def claims(bench: Any) -> Iterator[Any]:
    """An engine with a heartbeat and a store; ``claims.hold(function)`` is a claimed job of that metric."""
    configure(lease=1.2)
    store = Store()
    bench.keeper.store = lambda: store
    leases = bench.engine.claimer.leases
    numbers = iter(range(1, 1_000))

    def hold(function: Callable[..., Any], *, submit: bool = True, **options: Any) -> Job:
        number = next(numbers)
        store.owned.add(number)
        judge = metric(function, **options)
        leases.claiming()
        claimed = Claimed(leases, "me", frozenset((number,)), frozenset(judge.names), "deferred", seconds=1.2)
        state = bench.record()
        source = Source(bench.keeper, state.trace_id, state.span_id, state=state)
        job = Job(source, judge, state.handle, attempts=4, lease=claimed, done=leases.done)
        leases.hold([(job, claimed)])
        if submit:
            bench.engine.submit_jobs([job])
        return job

    yield SimpleNamespace(hold=hold, store=store, leases=leases, engine=bench.engine, keeper=bench.keeper)
    leases.beat.stop()
    assert leases.beat.join(time.monotonic() + 10)


@pytest.mark.slow
def test_a_lease_is_renewed_until_its_result_is_stored(claims: Any) -> None:
    leave = threading.Event()

    def waits(output: str) -> bool:
        return leave.wait(20)

    job = claims.hold(waits)
    until(lambda: claims.store.renewed >= 3)
    leave.set()
    assert claims.engine.wait(10)
    assert claims.leases.held == {}
    before = claims.store.renewed
    until(lambda: claims.store.renewed > before)
    claims.store.owned.clear()
    until(lambda: claims.leases._unconfirmed == {})
    [frame] = claims.keeper.scores_of(job.source, "waits")[-1:]
    assert (frame.status, frame.attempt, frame.mode) == ("scored", 5, "deferred")


def test_what_was_lost_is_cancelled_and_said_under_its_own_attempt(claims: Any) -> None:
    entered, leave = threading.Event(), threading.Event()

    def waits(output: str) -> int:
        entered.set()
        leave.wait(20)
        return 1

    job = claims.hold(waits)
    assert entered.wait(10)
    claims.store.owned.clear()
    assert claims.engine.wait(10)
    frame = claims.keeper.scores_of(job.source, "waits")[-1]
    assert (frame.status, frame.attempt) == ("cancelled", 5)
    assert "lease lapsed" in frame.reason
    assert claims.leases.counts["lost"] == 1
    assert claims.store.released == []
    leave.set()


@pytest.mark.slow
def test_nothing_begins_on_a_lease_that_may_have_lapsed(claims: Any) -> None:
    ran: list[str] = []
    claims.store.broken = True
    job = claims.hold(ran.append, submit=False)
    until(lambda: not job.lease.holds())
    claims.engine.submit_jobs([job])
    assert claims.engine.wait(10)
    claims.store.broken = False
    until(lambda: claims.store.released == [1])
    assert ran == []
    assert claims.keeper.scores_of(job.source, "append") == []


@pytest.mark.slow
def test_a_result_that_never_arrives_is_left_to_others(claims: Any) -> None:
    claims.hold(lambda output: 1)
    assert claims.engine.wait(10)
    until(lambda: claims.store.released == [1])


def test_a_clock_that_is_set_forward_ends_a_lease(claims: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = claims.hold(lambda output: 1, submit=False)
    real = time.time
    assert job.lease.holds()
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    assert not job.lease.holds()


def test_only_the_names_that_were_claimed_are_written(claims: Any) -> None:
    job = claims.hold(lambda output: {"a": 1, "b": 2}, submit=False, name="pair", names=["a", "b"])
    job.lease.names = frozenset(("pair.b",))
    claims.engine.submit_jobs([job])
    assert claims.engine.wait(10)
    assert claims.keeper.scores_of(job.source, "pair.a") == []
    assert claims.keeper.scores_of(job.source, "pair.b")[-1].status == "scored"
