"""What becomes of each target of a rule, in one round: judged, skipped for a reason, or left as it is.

Every decision is stored as a score: ``pending``, or ``skipped`` with its reason. What has a score by that key already
(the same metric in the same version judged it for the app) is left as it is and costs the rule nothing. A target that
one rule skipped may still be chosen by another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracekeeper.scoring.rules.sampling import is_sampled, key_of
from tracekeeper.types import ScoreStatus

if TYPE_CHECKING:
    from tracekeeper.scoring.rules.budgets import Budget
    from tracekeeper.scoring.rules.plans import Plan, PlannedMetric
    from tracekeeper.store.rules.looks import Candidate, IdleSession
    from tracekeeper.store.rules.rounds import Counts, Known, Round, Wish

NOT_SAMPLED = "not sampled"
BUSY_AGAIN = 30 * 10**9
"""Nanoseconds until a session is looked at again that is being judged at this moment."""


class _Target(NamedTuple):
    """What is judged. Keys as in the store; ``record_id`` is of a record only."""

    trace_id: str = ""
    span_id: str = ""
    session_id: str = ""
    record_id: int | None = None
    app_id: int | None = None


class Decisions:
    """The decisions of one round, written as they are made; ``counts`` adds them up."""

    def __init__(self, round: Round, plan: Plan, budget: Budget) -> None:
        self._round = round
        self._rule = round.rule
        self._plan = plan
        self._budget = budget
        self.counts: Counts = round.counts()

    def record(self, record: Candidate, *, matches: bool) -> None:
        """Decide on a record.

        Raises
        ------
        OnHold
            Not all of it was decided on: it has to be shown again, and then the rest is decided.
        """
        if self._rule.target == "session":
            if record.session_id:
                # A clock that was ahead must not put a session off for years.
                due_at = min(record.ended_at, self._round.now) + self._rule.idle_after
                self._round.session_active(record.session_id, record.id, due_at, matches=matches)
            return
        if not matches:
            return
        if self._rule.target == "record":
            self._decide(_Target(record.trace_id, record.span_id, "", record.id, record.app_id))
            self._count(matched=1)
            return
        wanted = self._plan.spans
        found = [
            span_id
            for span_id, kind, name in self._round.spans(record.trace_id, record.span_id)
            if wanted.get("kind", kind) == kind and wanted.get("name", name) == name
        ]
        for span_id in found:
            self._decide(_Target(record.trace_id, span_id, "", None, record.app_id))
        self._count(matched=len(found))

    def session(self, session: IdleSession) -> None:
        """Decide on a session that is due: judge it, or wait on because it is not idle after all.

        Raises
        ------
        OnHold
            Nothing was decided; it stays due.
        """
        round, now, idle_after = self._round, self._round.now, self._rule.idle_after
        last, ended = session.last_record_id, session.last_ended_at
        target = _Target(session_id=session.session_id, app_id=session.app_id)
        if session.running:
            round.session_active(session.session_id, last, now + idle_after, matches=False)
        elif ended <= now < ended + idle_after:
            round.session_active(session.session_id, last, ended + idle_after, matches=False)
        elif any(self._is_ours(score) and _is_begun(score) for score in self._known(target)):
            round.session_active(session.session_id, last, now + min(idle_after, BUSY_AGAIN), matches=False)
        else:
            if last:
                self._decide(target)
                self._count(matched=1)
            round.session_judged(session.session_id, last)

    def _decide(self, target: _Target) -> None:
        self._budget.check(self._plan.scores)
        rule = self._rule
        known = {(score.name, score.metric_version, score.source): score for score in self._known(target)}
        key = key_of(rule.target, target.trace_id, target.span_id, target.session_id)
        chosen = is_sampled(rule.name, key, rule.sample)
        wishes: list[Wish] = []
        again: list[tuple[int, int]] = []
        for metric in self._plan.metrics:
            rows = [(name, known.get((name, metric.version, metric.source))) for name in metric.scores]
            missing = [name for name, row in rows if row is None]
            anew = [(row.id, metric.priority) for _, row in rows if row is not None and self._may_ask_again(row)]
            reason: str | None = NOT_SAMPLED
            if not missing and not (anew and chosen):
                continue
            if not chosen:
                self._count(not_sampled=1)
            else:
                reason = self._budget.ask(len(missing) + len(anew))
                if reason is None:
                    self._count(judged=1)
                    again += anew
                else:
                    self._count(over_budget=1)
            wishes += [self._wish(target, metric, name, reason) for name in missing]
        self._round.ask(wishes)
        self._round.ask_again(again, target.app_id)

    def _wish(self, target: _Target, metric: PlannedMetric, name: str, reason: str | None) -> Wish:
        return self._round.wish(
            target=self._rule.target,
            trace_id=target.trace_id,
            span_id=target.span_id,
            session_id=target.session_id,
            name=name,
            metric_version=metric.version,
            source=metric.source,
            record_id=target.record_id,
            app_id=target.app_id,
            priority=metric.priority,
            skipped=reason,
        )

    def _known(self, target: _Target) -> list[Known]:
        return self._round.known(self._rule.target, *target[:3])

    def _is_ours(self, score: Known) -> bool:
        return score.rule_id == self._rule.id

    def _may_ask_again(self, score: Known) -> bool:
        if score.rule_id is None or not ScoreStatus(score.status).final:
            return False
        if self._is_ours(score):
            return self._rule.target == "session"  # it has gone on since
        return score.status == ScoreStatus.SKIPPED and score.attempt == 0  # another rule's decision not to

    def _count(self, **more: int) -> None:
        self.counts = self.counts._replace(**{name: getattr(self.counts, name) + n for name, n in more.items()})


def _is_begun(score: Known) -> bool:
    """Whether somebody is judging it at this moment, by what there was before."""
    return score.status == ScoreStatus.RUNNING or (score.status == ScoreStatus.PENDING and bool(score.owner))
