"""Which scores on stored records are still to be computed, and claiming them.

A score is left out when this version of its metric came to a result, whatever that is. One that was cancelled, or that
nobody began, came to none.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tracekeeper.configuration.settings import base_settings
from tracekeeper.store.errors import StoreLocked
from tracekeeper.types import MetricMode, ScoreStatus

if TYPE_CHECKING:
    from tracekeeper.judging import Metric
    from tracekeeper.store.claims.claims import Claim, Wanted
    from tracekeeper.tracing.keeper import Keeper

T = TypeVar("T")

LOCKED_PATIENCE = 60.0
"""Seconds for which a database that others write to is tried again."""

_Key = tuple[str, str, str, str]
"""Trace id, span id, score name, metric version."""


class Todo(NamedTuple):
    """Scores of one metric on one record."""

    row: Any
    """Of the record table."""
    metric: Metric
    names: Sequence[str]


class Taker:
    """Claims for one run, and counts what it need not claim.

    Parameters
    ----------
    owner:
        Name of this process's journal.
    """

    def __init__(self, keeper: Keeper, owner: str) -> None:
        self.keeper = keeper
        self.owner = owner
        self.before = 0
        """Scores that had come to a result before."""
        self.elsewhere: Counter[str] = Counter()
        """By status: scores that somebody else has computed since."""
        self._began = time.time_ns()

    def take(
        self, todo: Sequence[Todo], *, again: bool, priority: int | None, mode: MetricMode | None = None
    ) -> tuple[list[tuple[Todo, list[Claim]]], list[Todo]]:
        """What of this is now ours to compute, and what somebody else is about to.

        Raises
        ------
        StoreError
            Nothing was claimed.
        """
        lacking = self._lacking(todo, again)
        store = self.keeper.store()
        apps = store.apps_of([each.row.id for each in lacking])
        wanted = [_wanted(each, name, apps.get(each.row.id), priority, mode) for each in lacking for name in each.names]
        taken: dict[_Key, Claim] = {}
        for claim in patiently(partial(store.take, self.owner, wanted, lease=base_settings().lease, again=again)):
            taken[(claim.trace_id, claim.span_id, claim.name, claim.metric_version)] = claim
        claimed, others = [], []
        for each in lacking:
            ours = {name: taken[key] for name in each.names if (key := _key(each, name)) in taken}
            if ours:
                claimed.append((each._replace(names=list(ours)), list(ours.values())))
            if len(ours) < len(each.names):
                others.append(each._replace(names=[name for name in each.names if name not in ours]))
        return claimed, others

    def _lacking(self, todo: Sequence[Todo], again: bool) -> list[Todo]:
        """What has no result, so far as reading tells: most of the time nothing needs to be claimed."""
        from tracekeeper.store.claims.claims import never_came_to_a_result

        known: dict[_Key, Any] = {}
        for row in self.keeper.store().scores_by_key([(each.row.trace_id, each.row.span_id) for each in todo]):
            if row.target == "record" and not row.author:
                known[(row.trace_id, row.span_id, row.name, row.metric_version)] = row
        lacking = []
        for each in todo:
            names = []
            for name in each.names:
                found = known.get(_key(each, name))
                if found is None or not ScoreStatus(found.status).final:
                    names.append(name)
                elif (found.settled_at or 0) >= self._began:
                    self.elsewhere[found.status] += 1
                elif again or never_came_to_a_result(found):
                    names.append(name)
                else:
                    self.before += 1
            if names:
                lacking.append(each._replace(names=names))
        return lacking


def _key(each: Todo, name: str) -> _Key:
    return each.row.trace_id, each.row.span_id, name, each.metric.version


def _wanted(each: Todo, name: str, app_id: int | None, priority: int | None, mode: MetricMode | None) -> Wanted:
    from tracekeeper.store.claims.claims import Wanted

    metric = each.metric
    default = MetricMode.DEFERRED if metric.mode is MetricMode.DEFERRED else MetricMode.BACKGROUND
    return Wanted(
        target="record",
        trace_id=each.row.trace_id,
        span_id=each.row.span_id,
        session_id="",
        name=name,
        metric_version=metric.version,
        source=str(metric.source),
        mode=str(mode or default),
        local=metric.local,
        priority=metric.priority if priority is None else priority,
        record_id=each.row.id,
        app_id=app_id,
    )


def patiently(work: Callable[[], T]) -> T:
    """What ``work`` returns; while others hold the database's write lock, for a minute, it is tried again.

    Raises
    ------
    StoreError
        What it raises otherwise.
    """
    deadline = time.monotonic() + LOCKED_PATIENCE
    while True:
        try:
            return work()
        except StoreLocked:
            if time.monotonic() >= deadline:
                raise
