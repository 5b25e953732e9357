"""A producer's lease: the store hears of a process three times in a lease while its scores are open, and only then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.rows import SECOND, Writer, birth, record, score

from tracekeeper.journal.frames import SpanEnd, SpanStart
from tracekeeper.shipper import feed as feeds
from tracekeeper.shipper.feed import Feed
from tracekeeper.store.store import Store
from tracekeeper.testing import temporary_keeper

PATIENCE = 30.0


class Quiet:
    """The reader of a journal without news."""

    header = SimpleNamespace(name="j", host="here", pid=1, started=1, destination={})

    def read(self, cursor: Any, *, max_bytes: int) -> Any:
        return [], cursor, 0

    def dropped(self) -> dict[str, int]:
        return {}

    def frame_at(self, position: Any) -> None:
        return None


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return round(self.now * SECOND)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(feeds, "time", clock)
    return clock


@pytest.fixture
def renewals(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> list[float]:
    """When the store heard of the process."""
    made: list[float] = []
    monkeypatch.setattr(Store, "renew_producer", lambda *_: made.append(clock.now))
    return made


def test_open_scores_are_kept_by_a_sign_of_life(store: Store, clock: Clock, renewals: list[float]) -> None:
    writer = Writer(store)
    write = record(birth(local=False))
    writer.apply(write)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE journal SET cursor = x''")  # the writer of these tests has none
    feed = Feed(Quiet(), store)  # type: ignore[arg-type]
    feed.renew(10.0)
    assert (renewals, feed.renewal_due(10.0)) == ([1000.0], 10.0), "at once, if another process shipped it before"
    clock.now += 9
    feed.renew(10.0)
    assert (renewals, feed.renewal_due(10.0)) == ([1000.0], 1.0)
    clock.now += 1
    feed.renew(10.0)
    assert (renewals, feed.renewal_due(10.0)) == ([1000.0, 1010.0], 10.0)
    writer.apply(scores=[score(write, local=False)])
    clock.now += 10
    feed.renew(10.0)
    assert (renewals, feed.renewal_due(10.0)) == ([1000.0, 1010.0], None), "nothing depends on it any more"


def test_a_journal_without_open_scores_costs_nothing(store: Store, clock: Clock, renewals: list[float]) -> None:
    feed = Feed(Quiet(), store)  # type: ignore[arg-type]
    feed.renew(10.0)
    assert (renewals, feed.renewal_due(10.0)) == ([], None)
    with store.write() as connection:
        connection.exec_driver_sql("DELETE FROM journal")
    feed.renew(10.0)
    assert renewals == []


@pytest.mark.slow
def test_an_idle_process_keeps_its_scores_and_a_silent_one_does_not(tmp_path: Path) -> None:
    with temporary_keeper(tmp_path / ".tracekeeper", lease=0.6) as keeper:
        begun = SpanStart(b"t" * 16, b"s" * 8, None, b"s" * 8, "ask", "task", time.time_ns())
        keeper.write(begun)
        births = (birth(local=False),)
        keeper.write(SpanEnd(b"t" * 16, b"s" * 8, b"s" * 8, time.time_ns(), "ok", scores=births))
        assert keeper.ship(PATIENCE) is None
        store = keeper.store()
        assert keeper.journal is not None
        seen: set[int] = set()
        deadline = time.monotonic() + PATIENCE
        while len(seen) < 4:
            assert time.monotonic() < deadline, "its shipper rests although a lease is at stake"
            row = store.journal_row(keeper.journal.name)
            assert row is not None
            seen.add(row.seen_at)
            time.sleep(0.01)
        late = max(seen) + 10 * SECOND
        assert len(store.claim("worker", [("m", "v")], limit=1, lease=0.6, now_ns=late)) == 1


def test_leaving_frees_what_others_can_compute(tmp_path: Path) -> None:
    with temporary_keeper(tmp_path / ".tracekeeper") as keeper:
        begun = SpanStart(b"t" * 16, b"s" * 8, None, b"s" * 8, "ask", "task", time.time_ns())
        keeper.write(begun)
        births = (birth(local=False), birth("n"))
        keeper.write(SpanEnd(b"t" * 16, b"s" * 8, b"s" * 8, time.time_ns(), "ok", scores=births))
        url = keeper.store().url
    store = Store.open(url)
    assert len(store.claim("worker", [("m", "v"), ("n", "v")], limit=9, lease=30.0)) == 1
    (local,) = (row for row in store.scores_by_key([(begun.trace_id.hex(), begun.span_id.hex())]) if row.name == "n")
    assert (local.status, local.reason) == ("failed", "its process ended before it ran")
    store.close()
