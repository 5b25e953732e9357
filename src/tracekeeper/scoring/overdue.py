"""Scores that nobody will settle any more: whoever looks first fails those that are past ``settle_within``."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from tracekeeper.concurrency import Outcome
from tracekeeper.configuration.settings import base_settings
from tracekeeper.journal import directory, liveness

if TYPE_CHECKING:
    from tracekeeper.concurrency import Runner
    from tracekeeper.store.store import Store
    from tracekeeper.tracing.keeper import Keeper

log = logging.getLogger("tracekeeper")

EVERY = 30.0
"""Seconds between two sweeps of an engine."""
PATIENCE = 30.0
"""Seconds that a sweep may take; the database may be locked."""


def settle_overdue(keeper: Keeper, runner: Runner) -> None:
    """Sweep in the background, once more in a while; what goes wrong is for the next sweep."""

    def said(outcome: Outcome[int]) -> None:
        if not outcome.ok:
            log.debug("tracekeeper could not settle overdue scores: %s", outcome.reason or repr(outcome.error))

    if keeper.journal is not None:
        runner.start(lambda: settle_overdue_now(keeper), timeout=PATIENCE, done=said, name="settle overdue scores")


def settle_overdue_now(keeper: Keeper) -> int:
    """Fail the stored scores that are past ``settle_within`` and that nobody holds; how many.

    Raises
    ------
    StoreError
        The database cannot be used now.
    """
    store, now, within = keeper.store(), time.time_ns(), round(base_settings().settle_within * 1e9)
    if not store.open_scores(limit=1, born_before=now - within):
        return 0
    return store.settle_overdue(now, within, _live(keeper, store))


def _live(keeper: Keeper, store: Store) -> list[int]:
    """Ids of the journals whose processes live: what they run has deadlines of its own."""
    mine = keeper.journal.name if keeper.journal is not None else None
    paths = {path.stem: path for path in directory.journals(keeper.directory)}
    return [
        row.id
        for row in store.journal_rows()
        if row.name == mine or (row.name in paths and liveness.is_alive(paths[row.name]))
    ]
