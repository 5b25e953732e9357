"""The claims' part of ``Store``: see ``Claiming``."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from tracekeeper.configuration.settings import base_settings
from tracekeeper.store.claims import claims
from tracekeeper.store.claims import losses as claims_lost
from tracekeeper.store.claims import statements as sql
from tracekeeper.store.claims.claims import Claim, Moment, WaitingRow, Wanted, WorkerRow
from tracekeeper.store.claims.losses import MAX_PAUSE, Reaped
from tracekeeper.store.connections import driver_of
from tracekeeper.types import faults


class Claiming:
    """Who computes what waits in a store. Mixed into ``Store``, which gives the transactions.

    Times are nanoseconds since the epoch, lengths of leases seconds. ``now_ns`` is the present unless it is given.
    """

    if TYPE_CHECKING:

        def read(self) -> AbstractContextManager[Connection]:
            """A connection in a read transaction."""

        def write(self) -> AbstractContextManager[Connection]:
            """A connection in a write transaction."""

    def claim(
        self,
        owner: str,
        metrics: Collection[tuple[str, str]],
        *,
        limit: int,
        lease: float,
        now_ns: int | None = None,
        deferred: bool = True,
        turn: int = 0,
    ) -> list[Claim]:
        """Claim scores that wait and that nobody else is about to compute.

        Apps take turns, and within an app the smaller priority and then the older goes first. All scores of a metric on
        one target are claimed together. Takes no write lock when there is nothing.

        Parameters
        ----------
        owner:
            Name of the claimer's journal: only its frames about these scores are accepted from now on.
        metrics:
            (score name, metric version) of everything that the claimer can compute, with all names of each metric.
        limit:
            How many metrics on a target at most.
        lease:
            Seconds for which they are the owner's unless it renews.
        deferred:
            Whether to claim scores of deferred metrics, rules' included, too.
        turn:
            Which app goes first: increase it with each call.
        """
        at = _moment(now_ns, lease)
        if limit <= 0:
            return []
        with self.read() as connection:
            if not claims.is_waiting(driver_of(connection), owner, metrics, at, deferred):
                return []
        with self.write() as connection:
            found = claims.claim(driver_of(connection), owner, metrics, at, limit=limit, deferred=deferred, turn=turn)
            faults.point("store.claim.commit")
        return found

    def take(
        self,
        owner: str,
        wanted: Sequence[Wanted],
        *,
        lease: float,
        again: bool = False,
        now_ns: int | None = None,
    ) -> list[Claim]:
        """Claim these very scores, also of local metrics: make what is missing, claim what is open and free.

        What is final is claimed for a further attempt when it never came to a result (cancelled, nobody began in time),
        or when ``again`` says so. What somebody else is about to compute is left. The pause after a lost owner is
        ignored: somebody wants it now.

        Returns
        -------
        list[Claim]
            What was claimed, and nothing else.
        """
        if not wanted:
            return []
        with self.write() as connection:
            found = claims.take(driver_of(connection), owner, wanted, _moment(now_ns, lease), again=again)
            faults.point("store.claim.commit")
        return found

    def renew_claims(self, owner: str, *, lease: float, now_ns: int | None = None) -> set[int]:
        """Prolong the lease of everything that an owner has claimed and not finished.

        Returns
        -------
        set[int]
            Ids of the scores that are still its own; what it computes besides was taken from it.
        """
        with self.read() as connection:
            if not driver_of(connection).execute(sql.OWNS.text, (owner,)).fetchone():
                return set()
        until = _moment(now_ns, lease).until
        with self.write() as connection:
            return {row for (row,) in driver_of(connection).execute(sql.RENEW.text, (until, owner)).fetchall()}

    def release(
        self,
        owner: str,
        score_ids: Collection[int],
        *,
        available_at: int | None = None,
        now_ns: int | None = None,
    ) -> int:
        """Give claimed scores back, for anybody to claim.

        Parameters
        ----------
        available_at:
            When they may be claimed again, at most 60 s from now; by default at once.

        Returns
        -------
        int
            How many were the owner's.
        """
        if not score_ids:
            return 0
        now = _moment(now_ns, 0).now
        if available_at is not None:
            available_at = min(available_at, now + MAX_PAUSE)
        with self.write() as connection:
            driver = driver_of(connection)
            return sum(claims_lost.release(driver, owner, each, available_at, now) for each in score_ids)

    def reap(self, now_ns: int, lease: float, *, owner: str = "") -> Reaped:
        """Free what silent owners hold: claims whose lease lapsed, and what silent producers had begun.

        Each such attempt stays visible as cancelled; what its owner says of it later is refused and counted. The score
        can be claimed again after a pause, and is failed when it was lost three times. Renew one's own first.

        Parameters
        ----------
        lease:
            Seconds after which a producer that was not heard of has lost what it began.
        owner:
            Name of the caller's own journal, which is alive whatever the store says.
        """
        length = _moment(now_ns, lease).lease
        with self.read() as connection:
            if not claims_lost.has_lapsed(driver_of(connection), owner, now_ns, length):
                return Reaped(0, 0)
        with self.write() as connection:
            return claims_lost.reap(driver_of(connection), owner, now_ns, length)

    def has_open_scores(self, journal_id: int) -> bool:
        """Whether scores of this journal are not final."""
        with self.read() as connection:
            return bool(driver_of(connection).execute(sql.HAS_OPEN.text, (journal_id,)).fetchone()[0])

    def renew_producer(self, journal_id: int, now_ns: int | None = None) -> None:
        """Say that a journal's process lives, so that its open scores are left to it for another lease."""
        with self.write() as connection:
            driver_of(connection).execute(sql.RENEW_PRODUCER.text, (_moment(now_ns, 0).now, journal_id))

    def waiting(self, limit: int = 100, *, lease: float | None = None, now_ns: int | None = None) -> list[WaitingRow]:
        """What waits to be computed, by metric version, the one with the oldest score first."""
        at = _moment(now_ns, base_settings().lease if lease is None else lease)
        with self.read() as connection:
            rows = driver_of(connection).execute(sql.COUNT_WAITING.text, at.heard).fetchmany(limit)
            return [WaitingRow._make(row) for row in rows]

    # -- who claims ---------------------------------------------------------------------------------------------------

    def register_worker(
        self, journal: str, *, kind: str, host: str, pid: int, started_at: int, data: bytes = b"{}"
    ) -> None:
        """Name a process that claims scores, by its journal.

        Parameters
        ----------
        kind:
            ``worker`` or ``app``.
        data:
            JSON object: its concurrency, what it can and cannot compute.
        """
        row = (journal, kind, host, pid, started_at, time.time_ns(), data.decode())
        with self.write() as connection:
            driver_of(connection).execute(sql.REGISTER_WORKER.text, row)

    def worker_seen(self, journal: str, data: bytes = b"{}", *, now_ns: int | None = None) -> None:
        """Say that a worker lives, and what it says of itself now."""
        with self.write() as connection:
            driver_of(connection).execute(sql.WORKER_SEEN.text, (_moment(now_ns, 0).now, data.decode(), journal))

    def workers(self) -> list[WorkerRow]:
        """Who claims scores, in the order in which they came."""
        with self.read() as connection:
            return [WorkerRow._make(row) for row in driver_of(connection).execute(sql.WORKERS.text).fetchall()]

    def remove_worker(self, journal: str) -> None:
        """Forget a worker that has ended."""
        with self.write() as connection:
            driver_of(connection).execute(sql.REMOVE_WORKER.text, (journal,))


def _moment(now_ns: int | None, lease: float) -> Moment:
    return Moment(time.time_ns() if now_ns is None else now_ns, round(lease * 1e9))
