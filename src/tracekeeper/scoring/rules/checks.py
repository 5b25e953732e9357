"""What is wrong with a rule is said when it is made, in one sentence: not by scores that never come."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from tracekeeper.judging import Metric, as_metrics, restore
from tracekeeper.judging.binding import ALIASES, parameters_of
from tracekeeper.metrics import resolve
from tracekeeper.types import ConfigurationError, MetricError, SpanKind

TARGETS = ("record", "span", "session")
SINCE = ("now", "beginning")
IDLE_AFTER = 600.0
"""Seconds without a record after which a session is judged."""
LONGEST = 366 * 86_400.0
OF_A_SESSION = ("turns", "session_id", "input", "output", "record", "item")
_OTHER_NAMES = {
    "messages": "turns",
    "conversation": "turns",
    "history": "turns",
    "chat": "turns",
    "dialogue": "turns",
    "session": "session_id",
}
_NOT_OF_A_SESSION = {"context": "retrieved documents", "expected": "an expected output", "trace": "spans"}


def name_of(name: Any) -> str:
    """The name of a rule."""
    if not isinstance(name, str) or not name.strip() or name != name.strip():
        raise ConfigurationError(f"rule {name!r}: expected a name, e.g. 'polite-in-production'")
    if len(name) > 200 or not name.isprintable():
        raise ConfigurationError(f"rule {name[:60]!r}: expected a name of at most 200 printable characters")
    return name


def one_of(rule: str, option: str, value: Any, known: tuple[str, ...]) -> str:
    """One of some words."""
    if value in known:
        return str(value)
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigurationError(f"rule {rule!r}: {option}={value!r}: expected {' or '.join(map(repr, known))}{hint}")


def share(rule: str, value: Any) -> float:
    """A share of the targets: above 0, at most 1."""
    if not _is_number(value) or not 0 < value <= 1:
        raise ConfigurationError(f"rule {rule!r}: sample={value!r}: expected a share above 0 and at most 1")
    return float(value)


def budgets(rule: str, evaluations: Any, cost: Any) -> tuple[int | None, float | None]:
    """The limits for a day; ``None`` where there is none."""
    if evaluations is not None and (
        not isinstance(evaluations, int) or isinstance(evaluations, bool) or not 0 < evaluations < 2**63
    ):
        raise ConfigurationError(
            f"rule {rule!r}: daily_evaluations={evaluations!r}: expected a whole number above 0, or None for no limit "
            "(to judge nothing, pause the rule)"
        )
    if cost is not None and (not _is_number(cost) or not 0 < cost < math.inf):
        raise ConfigurationError(
            f"rule {rule!r}: daily_cost={cost!r}: expected an amount of US dollars above 0, or None for no limit "
            "(to judge nothing, pause the rule)"
        )
    return evaluations, None if cost is None else float(cost)


def idle_seconds(rule: str, target: str, value: Any) -> float:
    """Seconds without a record after which a session is judged; 0 for other targets, which have no such thing."""
    if target != "session":
        if value is not None:
            raise ConfigurationError(f"rule {rule!r}: idle_after={value!r} is for target='session', not {target!r}")
        return 0.0
    value = IDLE_AFTER if value is None else value
    if not _is_number(value) or not 0 < value <= LONGEST:
        raise ConfigurationError(f"rule {rule!r}: idle_after={value!r}: expected a positive number of seconds")
    return float(value)


def spans_of(rule: str, target: str, value: Any) -> dict[str, str]:
    """Which spans of a record: by ``kind``, by ``name``, or all."""
    if value is None:
        return {}
    if target != "span":
        raise ConfigurationError(f"rule {rule!r}: spans= is for target='span', not {target!r}")
    if not isinstance(value, Mapping) or not value or not set(value) <= {"kind", "name"}:
        raise ConfigurationError(
            f"rule {rule!r}: spans={value!r}: expected kind or name or both, e.g. {{'kind': 'retriever'}}"
        )
    if "kind" in value:
        one_of(rule, "spans: kind", value["kind"], tuple(str(kind) for kind in SpanKind))
    if not isinstance(value.get("name", ""), str):
        raise ConfigurationError(f"rule {rule!r}: spans: name={value['name']!r}: expected the name of a span")
    return {key: str(value[key]) for key in ("kind", "name") if key in value}


def metrics_of(rule: str, target: str, values: Any) -> tuple[Metric, ...]:
    """The metrics of a rule: all importable, all of use on its target.

    Raises
    ------
    MetricError
        A name that nothing has (the nearest is given), or something that is no metric.
    ConfigurationError
        None at all, a local one, or one that needs what the target does not have.
    """
    if not isinstance(values, str) and isinstance(values, Iterable):
        values = [resolve(each) if isinstance(each, str) else each for each in values]
    found = as_metrics(values, where=f"rule {rule!r}: metrics")
    if not found:
        raise ConfigurationError(f"rule {rule!r}: metrics=[]: expected at least one metric")
    for metric in found:
        if metric.local:
            raise ConfigurationError(
                f"rule {rule!r}: metric {metric.name!r} is local (a lambda, defined in a function, a notebook or the "
                "script itself), so no worker could import it; move it into a module"
            )
        if metric.needs_live:
            raise ConfigurationError(
                f"rule {rule!r}: metric {metric.name!r} has needs_live=True, but a rule judges what was stored"
            )
        _check_restorable(rule, metric)
        if target == "session":
            _check_session(rule, metric)
    return found


def _check_restorable(rule: str, metric: Metric) -> None:
    """A worker makes the metric again from its description: it must be the same one."""
    try:
        version = restore(metric.description()).version
    except MetricError as error:
        raise ConfigurationError(
            f"rule {rule!r}: no worker could make metric {metric.name!r} again: {error}"
        ) from error
    if version != metric.version:
        raise ConfigurationError(
            f"rule {rule!r}: metric {metric.name!r} made again from {metric.import_path!r} is another version; "
            "declare all of it in its module"
        )


def _check_session(rule: str, metric: Metric) -> None:
    """A session has turns, and no retrieved documents, expected output or spans of its own."""
    for name, selector in metric.selectors.items():
        what = "spans" if selector.kind in ("spans", "attribute") else selector.kind
        if what in ("spans", "context", "expected"):
            raise ConfigurationError(
                f"rule {rule!r}: metric {metric.name!r} takes {name!r} from select.{selector.kind}, which a session "
                "does not have; take it from 'turns', or let the rule judge records"
            )
    wanted = parameters_of(metric.function)
    for name in wanted.names:
        meant = ALIASES.get(name, name)
        if name not in wanted.required or name in metric.selectors or meant in OF_A_SESSION:
            continue
        lacks = _NOT_OF_A_SESSION.get(meant)
        near = _OTHER_NAMES.get(name) or next(iter(difflib.get_close_matches(name, OF_A_SESSION, n=1)), None)
        hint = f" ({lacks})" if lacks else f"; did you mean {near!r}?" if near else ""
        raise ConfigurationError(
            f"rule {rule!r}: metric {metric.name!r} needs {name!r}, which a session does not have{hint}; it has: "
            f"{', '.join(OF_A_SESSION)}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
