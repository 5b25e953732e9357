"""What the processes of a data directory are at this moment, and what waits for whom.

What a process says of itself is in a file beside its journal (``scoring.snapshot``) and can be read whatever state the
database is in; the rest comes from the store.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracekeeper.configuration.settings import base_settings
from tracekeeper.reading.accounts import status
from tracekeeper.reading.fresh import TIMEOUT
from tracekeeper.scoring import snapshot
from tracekeeper.scoring.alerts.alert import all_alerts
from tracekeeper.tracing import runtime
from tracekeeper.types import StoreError

if TYPE_CHECKING:
    from tracekeeper.store.claims.claims import WaitingRow, WorkerRow
    from tracekeeper.store.rules.definitions import RuleRow, Spent
    from tracekeeper.store.store import Store

WAITING_SHOWN = 50
"""Metrics that wait and are named one by one."""


def live_status(*, timeout: float = TIMEOUT) -> dict[str, Any]:
    """``status()`` with who is at work, what runs and where, what waits and for whom, rules and alerts.

    ``processes`` are there whatever state the database is in; ``waiting``, ``leases``, ``rules``, ``alerts`` and
    ``copies`` only when it can be read (else ``store_error`` says why not).

    Parameters
    ----------
    timeout:
        Seconds for bringing into the store what is journaled.
    """
    found = status(timeout=timeout)
    keeper = runtime.keeper()
    says = {each["journal"]: each for each in snapshot.read(keeper.directory)}
    workers: list[WorkerRow] = []
    leases: dict[str, dict[str, int]] = {}
    if not found["store_error"]:
        try:
            store, now = keeper.store(), time.time_ns()
            workers = store.workers()
            leases = {row.owner: {"held": row.held, "lapsed": row.lapsed} for row in store.lease_counts(now)}
            found["leases"] = leases
            found["waiting"] = _waiting(store, workers, says, now)
            found["rules"] = [_rule(row, store.rules.spent(row.id, now)) for row in store.rules.all()]
            found["alerts"] = [_alert(alert) for alert in all_alerts()]
            found["copies"] = [account._asdict() for account in store.copies.accounts()]
        except StoreError as error:
            found["store_error"] = str(error)
    found["processes"] = _processes(says, workers, found["journals"], leases)
    return found


def _processes(
    says: Mapping[str, dict[str, Any]],
    workers: Sequence[WorkerRow],
    journals: Sequence[Mapping[str, Any]],
    leases: Mapping[str, Mapping[str, int]],
) -> list[dict[str, Any]]:
    """Every process that is known to live, once: by what it says, by the store's list of workers, by its journal."""
    now, alive = time.time(), {entry["name"]: entry for entry in journals if entry["alive"]}
    here = {Path(entry["path"]).stem for entry in journals}
    rows = {
        row.journal: row for row in workers if row.journal in alive or (row.journal not in here and _heard(row, now))
    }
    found = []
    for name in dict.fromkeys([*says, *rows, *alive]):
        said, row, entry = says.get(name), rows.get(name), alive.get(name)
        process: dict[str, Any] = {"journal": name, "kind": "app", "pid": None, "host": None, "started": None}
        if entry is not None:
            process.update(pid=entry.get("pid"), host=entry.get("host"), started=entry.get("started", 0) / 1e9 or None)
        if row is not None:
            process.update(kind=row.kind, pid=row.pid, host=row.host, started=row.started_at / 1e9)
            process["seen"] = max(0.0, now - row.seen_at / 1e9)
            process["worker"] = _json(row.data)
        if said is not None:
            kind = (said.get("claims") or {}).get("kind") or process["kind"]
            process.update(pid=said["pid"], host=said["host"], started=process["started"] or said["started"], kind=kind)
            process["says"] = said
        process["leases"] = dict(leases.get(name, {}))
        found.append(process)
    return found


def _heard(row: WorkerRow, now: float) -> bool:
    """Whether a worker elsewhere has said lately that it is there (it does so three times in a lease)."""
    return now - row.seen_at / 1e9 <= base_settings().lease


def _waiting(
    store: Store, workers: Sequence[WorkerRow], says: Mapping[str, dict[str, Any]], now: int
) -> list[dict[str, Any]]:
    rows = store.waiting(WAITING_SHOWN)
    if not rows:
        return []
    needs = _needs(store)
    said = {row.journal: (row, _json(row.data)) for row in workers if _heard(row, now / 1e9)}
    found = []
    for row in rows:
        key = [row.name, row.metric_version]
        by = [
            f"worker {worker.pid} on {worker.host}" for worker, data in said.values() if key in data.get("computes", ())
        ]
        by += [f"app {app['pid']}" for app in says.values() if key in app.get("computes", ())]
        why = Counter(
            each[2]
            for _, data in said.values()
            for each in data.get("cannot", ())
            if isinstance(each, list) and len(each) == 3 and each[:2] == key
        )
        found.append(_waits(row, by, needs.get((row.name, row.metric_version), {}), list(why), now))
    return found


def _waits(row: WaitingRow, by: list[str], definition: Mapping[str, Any], why: list[str], now: int) -> dict[str, Any]:
    return {
        "name": row.name,
        "version": row.metric_version,
        "count": row.count,
        "held": row.held,
        "oldest": max(0.0, (now - row.oldest) / 1e9),
        "by": by,
        "import_path": definition.get("import_path"),
        "requires": definition.get("requires") or [],
        "why_not": why,
    }


def _needs(store: Store) -> dict[tuple[str, str], Mapping[str, Any]]:
    """What each metric was described as, by the names of its scores and its version."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in store.metric_definitions():
        data = _json(row.data)
        for name in data.get("scores") or [row.name]:
            found[str(name), row.version] = data
    return found


def _rule(row: RuleRow, spent: Spent) -> dict[str, Any]:
    return {
        "name": row.name,
        "enabled": bool(row.enabled),
        "target": row.target,
        "matched": row.matched,
        "judged": row.judged,
        "not_sampled": row.not_sampled,
        "over_budget": row.over_budget,
        "evaluations_today": spent.evaluations,
        "daily_evaluations": row.daily_evaluations,
        "cost_today": spent.cost,
        "daily_cost": row.daily_cost,
        "open": spent.open,
        "error": row.error,
    }


def _alert(alert: Any) -> dict[str, Any]:
    names = ("name", "enabled", "state", "since", "value", "n", "measure", "threshold", "error", "delivery")
    return {name: getattr(alert, name) for name in names}


def _json(text: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
