"""What somebody has to do for the store now and then: lapsed leases, online rules, alerts, saying that one is there.

Whoever claims does it, in a thread of its own; each chore is exactly-once by itself (one statement, or a compare-and-
set), so any number of processes may do it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tracekeeper.configuration.settings import base_settings
from tracekeeper.journal import processes
from tracekeeper.scoring.runners import scoring_runner
from tracekeeper.scoring.worker.beat import Beat

if TYPE_CHECKING:
    from tracekeeper.scoring.worker.claimer import Claimer
    from tracekeeper.scoring.worker.registered import Key
    from tracekeeper.store.store import Store

ALERTS_EVERY = 5.0
"""Seconds between two looks at the alerts."""
WAITING = 200
"""Metrics that wait and are looked at, the longest waiting first."""


class Chores:
    """Of one claimer."""

    def __init__(self, claimer: Claimer) -> None:
        self.claimer = claimer
        self.beat = Beat("tracekeeper-chores", "looking after the store", self._turn)
        self.reaped = 0
        """Scores that were freed, or failed because they were lost too often."""
        self.on_cannot: Callable[[str, str, str], object] | None = None
        """Called once for each metric that waits and cannot be computed here: score name, version, reason."""
        self._told: set[Key] = set()
        self.more = False
        """Whether the online rules had more to decide on when their time was up."""
        self._due: dict[str, float] = {}
        self.registered: str | None = None
        """Under which name the store knows it as a worker."""

    def _turn(self) -> float:
        if self.claimer.ready():
            self._work()
        return 0.0 if self.more else self.claimer.manner.chores_every

    def _work(self) -> None:
        lease = base_settings().lease
        chores: list[tuple[str, float, Callable[[Store], object]]] = [
            ("reap", lease / 3, self._reap),
            ("rules", 0.0, self._rules),
            ("alerts", ALERTS_EVERY, self._alerts),
        ]
        if self.claimer.manner.kind == "worker":
            chores.insert(0, ("seen", lease / 3, self._say_here))
        store, failed = self.claimer.keeper.store(), None
        for name, every, chore in chores:
            now = time.monotonic()
            if now < self._due.get(name, 0.0):
                continue
            try:
                chore(store)
                self._due[name] = now + every
            except Exception as error:  # noqa: BLE001  one that fails must not keep the others from being done
                failed = failed or error
        if failed is not None:
            raise failed

    def _reap(self, store: Store) -> None:
        if not self.claimer.leases.current():  # one's own leases are renewed before others' are looked at
            return
        lease, owner = base_settings().lease, self.claimer.owner()
        reaped = store.reap(time.time_ns(), lease, owner=owner or "")
        self.reaped += reaped.freed + reaped.failed

    # Rules and alerts are imported in this thread: they stand on the database layer, which must not cost a program's
    # first call.

    def _rules(self, store: Store) -> None:
        from tracekeeper.scoring.rules.application import apply_rules

        ruled = apply_rules(self.claimer.keeper)
        self.more = ruled.more and not self.claimer.closing
        if ruled.judged and self.claimer.manner.deferred:
            self.claimer.wake()

    def _alerts(self, store: Store) -> None:
        from tracekeeper.scoring.alerts.checks import check_alerts

        check_alerts(self.claimer.keeper)

    def say_again(self) -> None:
        """Let the store know what has changed about what can be computed here."""
        self._due.pop("seen", None)
        self.beat.wake()

    def _say_here(self, store: Store) -> None:
        journal = self.claimer.keeper.journal
        if journal is None:
            return
        data = json.dumps(self._account(store)).encode()
        if self.registered == journal.name:
            store.worker_seen(journal.name, data)
        else:
            store.register_worker(
                journal.name,
                kind=self.claimer.manner.kind,
                host=processes.host(),
                pid=os.getpid(),
                started_at=time.time_ns(),
                data=data,
            )
            self.registered = journal.name

    def _account(self, store: Store) -> dict[str, Any]:
        waiting = [(row.name, row.metric_version) for row in store.waiting(WAITING)]
        account = self.claimer.abilities.account(waiting)
        self._tell({(name, version): reason for name, version, reason in account.get("cannot", ())})
        return {"concurrency": scoring_runner().concurrency, **self.claimer.status(), **account}

    def _tell(self, cannot: dict[Key, str]) -> None:
        for key in cannot.keys() - self._told:
            self._told.add(key)
            if self.on_cannot is not None:
                self.on_cannot(*key, cannot[key])
