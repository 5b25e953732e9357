"""``tk.rule``: metrics that judge what is stored as it arrives, whoever traced it.

A rule is stored, not a part of a program: it applies to every record that reaches the store, from any process, until it
is removed. Workers (``tracekeeper worker``) and the engines of apps apply rules; workers compute their scores.
"""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from tracekeeper.configuration import environment, settings
from tracekeeper.scoring.rules import checks
from tracekeeper.scoring.rules.plans import EVERYTHING, held_up_by, node_of
from tracekeeper.scoring.rules.preview import Matching, preview
from tracekeeper.store.filter import parse
from tracekeeper.tracing import runtime
from tracekeeper.types import ConfigurationError, FilterError

if TYPE_CHECKING:
    from tracekeeper.store.rules.definitions import RuleRow
    from tracekeeper.tracing.keeper import Keeper

log = logging.getLogger("tracekeeper")

SHIP_TIMEOUT = 5.0
"""Seconds that making a rule waits for what this process has traced before it."""


class Today(NamedTuple):
    """What a rule has spent on the present day (UTC), and what it holds open."""

    evaluations: int
    cost: float
    """US dollars, of what has settled."""
    open: int
    """Scores that have not settled."""


class Rule:
    """A stored rule, as it was when it was read. Get one from ``tk.rule`` or ``tk.rules``.

    Attributes
    ----------
    name, filter, target, spans, sample, daily_evaluations, daily_cost, idle_after, enabled:
        As given to ``tk.rule``; ``idle_after`` in seconds.
    metrics:
        For each metric a mapping with its ``name``, ``version``, ``import_path``, ``parameters`` and more.
    matched, judged, not_sampled, over_budget:
        Targets that its filter matched so far, and what was decided for their metrics.
    today:
        What it has spent today; see :class:`Today`.
    error:
        Why it cannot be applied at present; ``None`` when it can.
    note:
        What its maker should know, e.g. that it judges everything; ``None`` when there is nothing to say.
    created, changed:
        When.
    """

    def __init__(self, keeper: Keeper, row: RuleRow, today: Today | None = None, note: str | None = None) -> None:
        self._keeper = keeper
        self.note = note
        self._fill(row, today)

    def _fill(self, row: RuleRow, today: Today | None = None) -> None:
        self._row = row
        self.name = row.name
        self.enabled = bool(row.enabled)
        self.target = row.target
        self.filter = row.filter
        self.spans: dict[str, str] = msgspec.json.decode(row.spans)
        self.metrics: list[dict[str, Any]] = msgspec.json.decode(row.metrics)
        self.sample = row.sample
        self.daily_evaluations = row.daily_evaluations
        self.daily_cost = row.daily_cost
        self.idle_after = row.idle_after / 1e9
        self.matched, self.judged = row.matched, row.judged
        self.not_sampled, self.over_budget = row.not_sampled, row.over_budget
        self.error = row.error
        self.created = datetime.fromtimestamp(row.created_at / 1e9, UTC)
        self.changed = datetime.fromtimestamp(row.changed_at / 1e9, UTC)
        self.today = today if today is not None else _today(self._keeper, row)

    def __repr__(self) -> str:
        names = ", ".join(metric["name"] for metric in self.metrics)
        return f"<Rule {self.name!r} {names} on {self.target}s: {self.filter}{'' if self.enabled else ' (paused)'}>"

    @property
    def held_up_by(self) -> list[str]:
        """Names of rules whose scores its filter speaks about, and that are paused or cannot be applied: it waits."""
        return held_up_by(self._row, self._keeper.store().rules.all()) if self._row.id else []

    def pause(self) -> None:
        """Decide on nothing until ``resume``, which goes on from here. What it has asked for already is computed.

        Raises
        ------
        StoreError
            The database cannot be used.
        ConfigurationError
            There is no rule of that name any more.
        """
        self._enable(False)

    def resume(self) -> None:
        """Go on where it was paused: what arrived meanwhile is decided on now, within the budget.

        Raises as ``pause``.
        """
        self._enable(True)

    def _enable(self, enabled: bool) -> None:
        if not self._row.id:  # made while tracing is turned off
            return
        store = self._keeper.store()
        if not store.rules.enable(self.name, enabled):
            raise gone(self.name, [row.name for row in store.rules.all()])
        self.refresh()

    def remove(self) -> None:
        """Remove the rule. Its scores stay; what nobody has begun of them is ``cancelled``. Raises as ``pause``."""
        if not self._row.id:
            return
        store = self._keeper.store()
        if not store.rules.remove(self.name):
            raise gone(self.name, [row.name for row in store.rules.all()])

    def refresh(self) -> None:
        """Read it anew: counters, budget, error. Raises as ``pause``."""
        if not self._row.id:
            return
        store = self._keeper.store()
        row = store.rules.get(self.name)
        if row is None:
            raise gone(self.name, [each.name for each in store.rules.all()])
        self._fill(row)

    def matching(self) -> Matching:
        """What it would make of everything that is stored. Nothing is judged or written.

        Raises
        ------
        StoreError
            The database cannot be read.
        """
        return preview(self._keeper, self._row)


def rule(
    name: str,
    *,
    filter: str,
    metrics: Iterable[Any],
    target: Literal["record", "span", "session"] = "record",
    spans: Mapping[str, str] | None = None,
    sample: float = 1.0,
    daily_evaluations: int | None = None,
    daily_cost: float | None = None,
    idle_after: float | None = None,
    enabled: bool = True,
    since: Literal["now", "beginning"] = "now",
) -> Rule:
    """Have every record that arrives, and matches a filter, judged by metrics. Makes or changes the rule of that name.

    Saying it again changes nothing, so a program may say it each time it starts. What a rule decides is decided once:
    when the record has ended and the scores that its filter speaks about are final. A worker computes the scores:
    ``tracekeeper worker``.

    Parameters
    ----------
    name:
        Of the rule; its sample depends on it.
    filter:
        Which records, in the filter language; ``"*"`` for all.
    metrics:
        Metrics or functions that can be imported, or their names: ``"module:name"``, or of a built-in metric. Their own
        ``mode`` and ``sample`` do not count here.
    target:
        What is judged: the ``record``, its ``span``s, or the ``session`` that it belongs to.
    spans:
        For ``span``: which ones of a matching record, ``{"kind": "retriever", "name": …}``; all by default.
    sample:
        Share of the matching targets that is judged, above 0; the same ones in every process, and a larger share
        contains every smaller one. The others are ``skipped: not sampled``.
    daily_evaluations, daily_cost:
        At most so many evaluations, so many US dollars a day (UTC). What is beyond is ``skipped`` with that reason.
    idle_after:
        For ``session``: seconds without a record after which it is judged (default 600); anew when it goes on.
    enabled:
        ``False``: stored, but paused.
    since:
        Of a new rule: from ``now`` on, or what is stored already as well (``beginning``).

    Raises
    ------
    FilterError
        The filter does not parse; the message shows where.
    ConfigurationError, MetricError
        Something that can never work, in one sentence: a metric that cannot be imported, a budget of 0…
    StoreError
        The database cannot be used.

    Example
    -------
    >>> import tracekeeper as tk
    >>> made = tk.rule("short-answers", filter='app = "doc-rules"', metrics=["Length"], sample=0.1)
    >>> made.enabled, made.judged, [metric["name"] for metric in made.metrics]
    (True, 0, ['length'])
    >>> made.remove()
    """
    checks.name_of(name)
    checks.one_of(name, "target", target, checks.TARGETS)
    checks.one_of(name, "since", since, checks.SINCE)
    if not isinstance(enabled, bool):
        raise ConfigurationError(f"rule {name!r}: enabled={enabled!r}: expected True or False")
    evaluations, cost = checks.budgets(name, daily_evaluations, daily_cost)
    values: dict[str, Any] = {
        "enabled": int(enabled),
        "target": target,
        "sample": checks.share(name, sample),
        "daily_evaluations": evaluations,
        "daily_cost": cost,
        "idle_after": round(checks.idle_seconds(name, target, idle_after) * 1e9),
        "spans": msgspec.json.encode(checks.spans_of(name, target, spans)).decode(),
        "filter": _filter(name, filter),
    }
    found = checks.metrics_of(name, target, metrics)
    values["metrics"] = msgspec.json.encode([metric.description() for metric in found]).decode()
    keeper = runtime.keeper()
    if not settings().enabled or environment.disabled():
        return Rule(keeper, _unstored(name, values), Today(0, 0.0, 0))
    if since == "now":
        keeper.ship(SHIP_TIMEOUT)  # what was traced before this call is not from now on
    store = keeper.store()
    before = store.rules.get(name)
    definitions = [metric.definition() for metric in found]
    row = store.rules.put(name, values, definitions, from_beginning=since == "beginning")
    note = None if before is not None and before.changed_at == row.changed_at else _note(keeper, row)
    if note:
        log.warning("tracekeeper: %s", note)
    return Rule(keeper, row, note=note)


def gone(name: str, known: Iterable[str]) -> ConfigurationError:
    """The error for a rule that is not there."""

    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = (
        f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}" if known else "; there is none"
    )
    return ConfigurationError(f"there is no rule {name!r}{hint}")


def _filter(name: str, given: Any) -> str:
    if not isinstance(given, str):
        raise FilterError(f"rule {name!r}: filter={given!r}: expected a text such as 'app = \"rag\" and latency > 2s'")
    filter = given.strip()
    if not filter:
        try:
            stored = runtime.keeper().store().rules.matches_all(None)
        except Exception:  # noqa: BLE001  the number is a courtesy; what is wrong is said either way
            stored = 0
        them = f", of which {stored:,} are stored now" if stored else ""
        raise ConfigurationError(
            f"rule {name!r}: the filter is empty; to judge every record{them}, say filter={EVERYTHING!r}"
        )
    if filter != EVERYTHING:
        parse(filter)
    return filter


def _note(keeper: Keeper, row: RuleRow) -> str | None:
    """That a rule judges everything, which is seldom meant: said when it is made, not by the bill."""
    if row.sample < 1 or row.daily_evaluations is not None or row.daily_cost is not None:
        return None
    records = keeper.store().rules.matches_all(node_of(row.filter))
    if not records:
        return None
    return (
        f"rule {row.name!r} matches all {records:,} stored records and has no sample= and no budget: "
        f"everything that arrives will be judged"
    )


def _today(keeper: Keeper, row: RuleRow) -> Today:
    spent = keeper.store().rules.spent(row.id, time.time_ns())
    return Today(spent.evaluations, spent.cost, spent.open)


def _unstored(name: str, values: Mapping[str, Any]) -> Any:
    """What a rule looks like that is not stored, because tracing is turned off."""
    now = time.time_ns()
    counters = dict.fromkeys(("matched", "judged", "not_sampled", "over_budget"), 0)
    return SimpleNamespace(id=0, name=name, **values, **counters, error=None, created_at=now, changed_at=now)
