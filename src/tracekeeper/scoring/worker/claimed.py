"""From claimed rows to jobs: which rows belong together, and the data of their records, read in one go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tracekeeper.scoring import stored
from tracekeeper.scoring.jobs import Job, Source
from tracekeeper.scoring.worker.leases import Claimed
from tracekeeper.types import Score

if TYPE_CHECKING:
    from tracekeeper.judging import Metric
    from tracekeeper.scoring.stored import StoredRecord
    from tracekeeper.scoring.worker.claimer import Claimer
    from tracekeeper.scoring.worker.registered import Key
    from tracekeeper.store.claims.claims import Claim
    from tracekeeper.store.store import Store

OnScore = Callable[[Source, Score], object]
_Target = tuple[str, str, str, str]


class Teller:
    """The handle of a claimed job: says what became of it."""

    def __init__(self, source: Source, tell: OnScore) -> None:
        self._source = source
        self._tell = tell

    def settle(self, score: Score) -> None:
        """See ``jobs.Handle``."""
        if score.final:
            self._tell(self._source, score)


def jobs_of(
    claimer: Claimer,
    store: Store,
    owner: str,
    claims: Sequence[Claim],
    metrics: Mapping[Key, Metric],
    lease: float,
) -> list[tuple[Job, Claimed]]:
    """A job for each metric on each target; the scores of one metric that has several are settled by one job.

    Raises
    ------
    StoreError
        The records cannot be read now.
    """
    targets: dict[_Target, dict[int, tuple[Metric, list[Claim]]]] = {}
    for claim in claims:
        metric = metrics[claim.name, claim.metric_version]
        key = (claim.target, claim.trace_id, claim.span_id, claim.session_id)
        targets.setdefault(key, {}).setdefault(id(metric), (metric, []))[1].append(claim)
    rows = _records(store, [(key[1], key[2]) for key in targets if key[0] == "record"])
    jobs: list[tuple[Job, Claimed]] = []
    for key, wanted in targets.items():
        target, trace_id, span_id, session_id = key
        row = rows.get((trace_id, span_id)) if target == "record" else None
        source = Source(
            claimer.keeper,
            bytes.fromhex(trace_id),
            bytes.fromhex(span_id),
            row=row,
            jobs=len(wanted),
            target=target,
            session_id=session_id,
            app=None if row is not None else str(next(iter(wanted.values()))[1][0].app_id or ""),
        )
        jobs.extend(_job(claimer, owner, source, metric, some, lease) for metric, some in wanted.values())
    return jobs


def _job(
    claimer: Claimer, owner: str, source: Source, metric: Metric, claims: Sequence[Claim], lease: float
) -> tuple[Job, Claimed]:
    claimed = Claimed(
        claimer.leases,
        owner,
        ids=frozenset(claim.score_id for claim in claims),
        names=frozenset(claim.name for claim in claims),
        mode=claims[0].mode,
        seconds=lease,
    )
    job = Job(
        source,
        metric,
        None if claimer.on_score is None else Teller(source, claimer.on_score),
        attempts=max(claim.attempt for claim in claims) - 1,
        # It may be the metric that ended the process which had it before.
        isolated=True if any(claim.lost for claim in claims) else None,
        lease=claimed,
        priority=min(claim.priority for claim in claims),
        done=claimer.settled,
    )
    return job, claimed


def _records(store: Store, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredRecord]:
    if not keys:
        return {}
    rows = store.records_by_key(keys)
    found = stored.from_rows(rows, store.payloads([row.id for row in rows]))
    return {(record.trace_id, record.span_id): record for record in found}
