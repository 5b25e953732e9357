"""Applying rules: from stored records to stored decisions. Whoever has an engine or is a worker does it, all at once.

For each rule: *look* at what came behind its cursor (a read), then write what was decided in one transaction which
begins by comparing and moving the rule's cursor version. So any number of processes may apply the same rules: each
decision is made by one of them, and a process that dies has either written all of a round or nothing. See
``docs/design/rules.md``.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tracekeeper.scoring.rules.budgets import Budget, OnHold
from tracekeeper.scoring.rules.decisions import Decisions
from tracekeeper.scoring.rules.plans import Plan, before, plan_of
from tracekeeper.store.errors import StoreLocked
from tracekeeper.types import TracekeeperError, faults

if TYPE_CHECKING:
    from tracekeeper.store.rules.definitions import RuleRow
    from tracekeeper.store.rules.looks import Due, Look
    from tracekeeper.store.store import Store
    from tracekeeper.tracing.keeper import Keeper

log = logging.getLogger("tracekeeper")

AT_ONCE = 500
"""Records that a rule looks at in one round."""
SECONDS = 0.25
"""How long one call goes on while there is more to do."""
SHARE = 20
"""Looks that come to nothing may take one in so many parts of the time."""
LONGEST_PAUSE = 10.0
"""Seconds for which a rule is left alone at most."""
INDEX_SECONDS = 0.25
"""How long the full-text index is brought forward before a rule whose filter searches."""


class Applied(NamedTuple):
    """What one call did."""

    rounds: int = 0
    matched: int = 0
    judged: int = 0
    not_sampled: int = 0
    over_budget: int = 0
    more: bool = False
    """There was more to do when the time was up."""

    def plus(self, other: Applied) -> Applied:
        """The sum of both."""
        return Applied(*map(sum, zip(self, other, strict=True)))  # type: ignore[arg-type]


def apply_rules(keeper: Keeper, *, seconds: float = SECONDS, now_ns: int | None = None) -> Applied:
    """Let every rule decide on what has arrived since. One small read when there is nothing new.

    Parameters
    ----------
    keeper:
        Whose store it is.
    seconds:
        How long to go on while there is more to do; each rule gets one round at least.
    now_ns:
        Nanoseconds since the epoch; default: the time of each round.

    Raises
    ------
    StoreError
        The database cannot be used now. Nothing is lost: the next call goes on where this one stopped.
    """
    store = keeper.store()
    deadline = time.monotonic() + seconds
    total = Applied()
    while True:
        more = False
        now = time.time_ns() if now_ns is None else now_ns
        due = store.rules.due(now)
        for each in due:
            done = _apply(keeper, store, each, [other.rule for other in due], now)
            more = more or done.more
            total = total.plus(done)
        if not more or time.monotonic() >= deadline:
            return total._replace(more=more)


def _apply(keeper: Keeper, store: Store, due: Due, rules: Sequence[RuleRow], now: int) -> Applied:
    patience = _patience(keeper)
    waiting = due.waiting and patience.allows(due.rule.id, "what was put off")
    if not (due.new or due.idle or waiting) or not patience.allows(due.rule.id, "all"):
        return Applied()
    began = time.monotonic()
    try:
        done = _round(keeper, store, due.rule, rules, waiting, now)
        patience.took(due.rule.id, "all", began, in_vain=not done.rounds)
        return done
    except StoreLocked:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, it is this rule's, and the other rules go on
        _cannot(store, due.rule, error)
        return Applied()


def _cannot(store: Store, row: RuleRow, error: Exception) -> None:
    """Keep why a rule cannot be applied; said in the log once, by whichever process is first.

    Raises
    ------
    StoreError
        It is the database that cannot be used.
    """
    text = f"{error}" if isinstance(error, TracekeeperError) else f"{type(error).__name__}: {error}"
    if text != row.error and store.rules.set_error(row.id, text):
        log.error("tracekeeper cannot apply the rule %r: %s", row.name, text, exc_info=error)


def _round(keeper: Keeper, store: Store, row: RuleRow, rules: Sequence[RuleRow], waiting: bool, now: int) -> Applied:
    plan = plan_of(row)
    if plan.searches:
        store.index_search(limit=AT_ONCE * 4, seconds=INDEX_SECONDS)
    began = time.monotonic()
    look = store.rules.look(
        row,
        plan.node,
        score_names=plan.score_names,
        searches=plan.searches,
        after=before(row, plan, rules),
        waiting=waiting,
        limit=AT_ONCE,
        now=now,
    )
    if waiting:
        _patience(keeper).took(row.id, "what was put off", began, in_vain=not look.again)
    if not (look.passed or look.again or look.sessions) or _nothing_to_begin(row, plan, look):
        return Applied()
    faults.point("rules.looked")
    with store.rules.round(row, now) as opened:
        if opened is None:  # another process was first, or the rule was changed: the next call sees
            return Applied()
        faults.point("rules.begun")
        budget = Budget(
            evaluations=row.daily_evaluations,
            cost=row.daily_cost,
            used=opened.evaluations_today() if row.daily_evaluations is not None else 0,
            money=look.spent,
        )
        decisions = Decisions(opened, plan, budget)
        held, cursor = False, row.cursor
        done: list[int] = []
        put_off: list[int] = []
        try:
            for record in look.again:
                decisions.record(record, matches=record.id in look.matching)
                done.append(record.id)
            for record in look.passed:
                if record.id in look.undecided:
                    put_off.append(record.id)
                else:
                    decisions.record(record, matches=record.id in look.matching)
                cursor = record.id
            for session in look.sessions:
                decisions.session(session)
        except OnHold:
            held = True
        opened.decided(done)
        opened.put_off(put_off)
        faults.point("rules.asked")
        opened.finish(cursor, decisions.counts)
        faults.point("rules.commit")
    faults.point("rules.committed")
    # A session may be due by what has just been learned of it.
    more = look.more or (row.target == "session" and bool(look.passed))
    return Applied(1, *decisions.counts, more=more and not held)


def _nothing_to_begin(row: RuleRow, plan: Plan, look: Look) -> bool:
    """Whether the first thing to decide is on hold, so that the round would only move nothing."""
    if look.spent is None:
        return False
    money = Budget(evaluations=None, cost=row.daily_cost, used=0, money=look.spent)
    first = next(iter((*look.again, *look.passed)), None)
    held = money.on_hold(plan.scores)
    return held and row.target != "session" and first is not None and first.id in look.matching


class _Patience:
    """How often this process looks where there was nothing to decide: so often that it takes a small part of the time.

    What was put off may be much, and a rule may be held up by what is open; neither is worth a processor.
    """

    def __init__(self) -> None:
        self._next: dict[tuple[int, str], float] = {}

    def allows(self, rule_id: int, what: str) -> bool:
        return time.monotonic() >= self._next.get((rule_id, what), 0.0)

    def took(self, rule_id: int, what: str, began: float, *, in_vain: bool) -> None:
        now = time.monotonic()
        self._next[rule_id, what] = now + min(LONGEST_PAUSE, (now - began) * SHARE) if in_vain else 0.0


_patiences: weakref.WeakKeyDictionary[Keeper, _Patience] = weakref.WeakKeyDictionary()


def _patience(keeper: Keeper) -> _Patience:
    return _patiences.setdefault(keeper, _Patience())
