"""Whether a guard's metrics can ever be computed on a callable: said when it is decorated."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from tracekeeper.judging import Metric, return_annotation
from tracekeeper.judging.binding import ALIASES, CANONICAL, parameters_of
from tracekeeper.scoring.guards.rule import Kind, Rule
from tracekeeper.tracing.plan import names_of
from tracekeeper.types import ConfigurationError, MetricError

_PROVIDED: dict[Kind, frozenset[str]] = {
    "input": frozenset({"input", "record"}),
    "output": frozenset({"input", "output", "context", "record"}),
    "context": frozenset({"input", "output", "context", "record"}),
}
_WHY_NOT = {
    "output": "an input guard runs before there is one: take it from elsewhere with .on({name}=tk.select.input()), "
    "or use @tk.guard.output",
    "context": "nothing is retrieved before the call: use @tk.guard.output or @tk.guard.context",
    "expected": "a guarded call has no expected output",
    "item": "a guarded call is of no dataset",
    "trace": "a guard decides before the call's spans are complete",
    "spans": "a guard decides before the call's spans are complete",
    "attribute": "a guard decides before the call's spans are complete",
}


def check_fits(rule: Rule, function: Callable[..., Any], streams: bool) -> None:
    """Refuse what can never work on this callable.

    Raises
    ------
    ConfigurationError
        A guard of outputs on a generator.
    MetricError
        A metric that needs what this guard does not have; the message says why.
    """
    where = f"@tk.guard.{rule.kind} on {names_of(function)[0]}"
    if streams and rule.kind != "input":
        raise ConfigurationError(
            f"{where}: it is a generator, whose text would have left before it was judged; guard its input, "
            "or the function that joins the pieces"
        )
    names = parameter_names(function)
    for metric in rule.metrics:
        for name, canonical in _needed(metric, names or frozenset()):
            if canonical not in _PROVIDED[rule.kind]:
                why = _WHY_NOT[canonical].format(name=name)
                raise MetricError(f"{where}: metric {metric.name!r} needs {name!r}, and {why}")
        try:
            match rule.kind:
                case "input":
                    metric.check(names, type(None))
                case "output":
                    metric.check(names, return_annotation(function))
                case _:
                    metric.check(None if names is None else names | {"document"})
        except MetricError as error:
            raise MetricError(f"{where}: {error}") from None


def wants(metric: Metric, canonical: str) -> bool:
    """Whether a metric may look at ``context`` (or another of the names that are always known)."""
    names = parameters_of(metric.function).names
    by_name = any(ALIASES.get(name, name) == canonical and name not in metric.selectors for name in names)
    return by_name or any(selector.kind == canonical for selector in metric.selectors.values())


def parameter_names(function: Callable[..., Any]) -> frozenset[str] | None:
    """The names of a callable's parameters; ``None``: anything may come."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None
    if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters.values()):
        return None
    return frozenset(name for name in parameters if name not in ("self", "cls"))


def _needed(metric: Metric, given: frozenset[str]) -> list[tuple[str, str]]:
    """Parameters that only one of the known names can provide, with that name."""
    wanted = parameters_of(metric.function)
    by_name = [
        (name, ALIASES.get(name, name))
        for name in wanted.names
        if name in wanted.required and name not in metric.selectors and name not in given
    ]
    chosen = [(name, selector.kind) for name, selector in metric.selectors.items()]
    known = frozenset(CANONICAL) | _WHY_NOT.keys()
    return [(name, canonical) for name, canonical in (*by_name, *chosen) if canonical in known]
