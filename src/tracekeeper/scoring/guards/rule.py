"""What a guard asks for, and what passes: pure, no waiting.

A rule is checked when it is made, so that what can never work is an error at the decorated function and not a call
that is blocked, or let through, in production.
"""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import msgspec

from tracekeeper.judging import Metric, as_metrics, return_annotation
from tracekeeper.types import ConfigurationError, Score, ScoreStatus

Kind = Literal["input", "output", "context"]
OnFailure = Literal["block", "allow"]
Returns = Literal["number", "bool", "label"]

NOT_GIVEN: Any = type("_NotGiven", (), {"__repr__": lambda self: "not given"})()
"""Of ``on_block``, where ``None`` is a value; of ``on_failure``, which has no default on purpose."""
OPTIONS = ("threshold", "allow", "on_failure", "timeout", "on_block", "name")
CONTEXT_OPTIONS = tuple(option for option in OPTIONS if option != "on_block")


class Finding(msgspec.Struct, frozen=True):
    """One score of one metric, and what it means for the guard.

    ``verdict``: ``passed``, ``refused`` (judged, and not good enough) or ``failed`` (no judgement: ``on_failure``
    decides). ``why`` is a clause for people.
    """

    metric: str
    score: Score
    verdict: Literal["passed", "refused", "failed"]
    why: str

    def as_dict(self) -> dict[str, Any]:
        """What the guard's span says of it."""
        score = self.score
        return {
            "name": score.name,
            "value": score.value,
            "status": str(score.status),
            "verdict": self.verdict,
            "reason": score.reason,
            "seconds": None if score.seconds is None else round(score.seconds, 6),
        }


@dataclass(frozen=True)
class Rule:
    """A guard's options, checked."""

    kind: Kind
    name: str
    metrics: tuple[Metric, ...]
    thresholds: Mapping[str, float]
    """By full name of the score."""
    labels: frozenset[str] | None
    on_failure: OnFailure
    timeout: float
    on_block: Any

    def finding(self, metric: Metric, score: Score) -> Finding:
        """What a score means."""
        verdict, why = self._judged(metric, score)
        return Finding(metric.name, score, verdict, why)

    def passes(self, finding: Finding) -> bool:
        """Whether a finding lets the call go on."""
        return finding.verdict == "passed" or (finding.verdict == "failed" and self.on_failure == "allow")

    def _judged(self, metric: Metric, score: Score) -> tuple[Literal["passed", "refused", "failed"], str]:
        name, value = score.name, score.value
        if score.status is not ScoreStatus.SCORED or value is None:
            return "failed", f"{name!r} is {score.status}: {score.reason or 'no reason was given'}"
        if isinstance(value, bool):
            good = value is not (metric.direction == "minimize")
            return ("passed" if good else "refused"), f"{name!r} is {value}{_because(score)}"
        if isinstance(value, str):
            if self.labels is None:
                return "failed", f"{name!r} is the label {value!r}, and the guard has no allow="
            said = f"{name!r} is {value!r}; allowed: {', '.join(map(repr, sorted(self.labels)))}{_because(score)}"
            return ("passed" if value in self.labels else "refused"), said
        threshold = self.thresholds.get(name)
        if threshold is None:
            return "failed", f"{name!r} is the number {value:g}, and the guard has no threshold= for it"
        if metric.direction == "minimize":
            return (
                ("passed" if value <= threshold else "refused"),
                f"{name!r} is {value:g}, allowed is at most {threshold:g}{_because(score)}",
            )
        return (
            ("passed" if value >= threshold else "refused"),
            f"{name!r} is {value:g}, wanted is at least {threshold:g}{_because(score)}",
        )


def _because(score: Score) -> str:
    return f" ({score.reason})" if score.reason else ""


def make_rule(kind: Kind, metrics: tuple[Any, ...], options: dict[str, Any]) -> Rule:
    """A rule of what was passed to ``tk.guard``.

    Raises
    ------
    ConfigurationError
        An option that is unknown, missing or cannot work.
    MetricError
        Something that is no metric.
    """
    where = f"@tk.guard.{kind}"
    known = CONTEXT_OPTIONS if kind == "context" else OPTIONS
    for option in options:
        if option not in known:
            if option == "on_block":
                raise ConfigurationError(f"{where}: on_block= has no meaning here, since documents are only left out")
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"; did you mean {near[0]}=?" if near else f"; known: {', '.join(known)}"
            raise ConfigurationError(f"{where} has no option {option!r}{hint}")
    on_failure = options.get("on_failure", NOT_GIVEN)
    if on_failure is NOT_GIVEN:
        raise ConfigurationError(
            f"{where}: say on_failure='block' or on_failure='allow': what happens when a metric fails or times out"
        )
    if on_failure not in ("block", "allow"):
        raise ConfigurationError(f"{where}: on_failure={on_failure!r}: expected 'block' or 'allow'")
    if not metrics:
        raise ConfigurationError(f"{where}: no metric is given; pass at least one, as in {where}(metric, …)")
    made = as_metrics(metrics, where=where)
    labels = _labels(where, options.get("allow"))
    thresholds = _thresholds(where, made, options.get("threshold"))
    for metric in made:
        _check_fits(where, metric, thresholds, labels)
    name = options.get("name")
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise ConfigurationError(f"{where}: name={name!r}: expected the guard's name as text")
    timeout = options.get("timeout")
    if timeout is None:
        timeout = max(metric.timeout for metric in made)
    elif not _is_number(timeout) or not 0 < timeout <= 1e9:
        raise ConfigurationError(f"{where}: timeout={timeout!r}: expected a positive number of seconds")
    return Rule(
        kind=kind,
        name=name or ", ".join(metric.name for metric in made),
        metrics=made,
        thresholds=thresholds,
        labels=labels,
        on_failure=on_failure,
        timeout=float(timeout),
        on_block=options.get("on_block", NOT_GIVEN),
    )


def _labels(where: str, allow: Any) -> frozenset[str] | None:
    if allow is None:
        return None
    if isinstance(allow, str | Mapping) or not isinstance(allow, Iterable):
        raise ConfigurationError(f"{where}: allow={allow!r}: expected the labels that pass, such as {{'safe'}}")
    labels = frozenset(str(label.value) if isinstance(label, Enum) else label for label in allow)
    if not labels or not all(isinstance(label, str) for label in labels):
        raise ConfigurationError(f"{where}: allow={allow!r}: expected at least one label, each a text")
    return labels


def _thresholds(where: str, metrics: tuple[Metric, ...], threshold: Any) -> dict[str, float]:
    if threshold is None:
        return {}
    if not isinstance(threshold, Mapping):
        number = _threshold(where, f"threshold={threshold!r}", threshold)
        return {name: number for metric in metrics for name in metric.names}
    found: dict[str, float] = {}
    by_name = {name: (name,) for metric in metrics for name in metric.names} | {
        metric.name: metric.names for metric in metrics
    }
    for name, value in threshold.items():
        if name not in by_name:
            near = difflib.get_close_matches(str(name), by_name, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has: {', '.join(by_name)}"
            raise ConfigurationError(f"{where}: threshold={{{name!r}: …}}: the guard has no metric of that name{hint}")
        number = _threshold(where, f"threshold={{{name!r}: {value!r}}}", value)
        found.update((full, number) for full in by_name[name])
    return found


def _threshold(where: str, said: str, value: Any) -> float:
    if not _is_number(value) or not math.isfinite(value):
        hint = "; for labels say allow={…}" if isinstance(value, str) else ""
        raise ConfigurationError(f"{where}: {said}: expected a finite number{hint}")
    return float(value)


def _check_fits(where: str, metric: Metric, thresholds: Mapping[str, float], labels: frozenset[str] | None) -> None:
    """Refuse a threshold or its absence as far as the metric says what it returns."""
    bounded = any(name in thresholds for name in metric.names)
    match "number" if metric.range is not None and metric.parts is None else returned(metric.function):
        case "label" if labels is None:
            instead = "a threshold compares numbers, so " if bounded else ""
            raise ConfigurationError(f"{where}: metric {metric.name!r} returns a label; {instead}say allow={{…}}")
        case "number" if not bounded:
            raise ConfigurationError(f"{where}: metric {metric.name!r} returns a number; say threshold=…")
        case _:
            return


def returned(function: Callable[..., Any]) -> Returns | None:
    """What a metric's return annotation says that it gives; ``None`` when it says nothing, or several things.

    Example
    -------
    >>> def tone(output) -> str: ...
    >>> returned(tone), returned(lambda output: 1)
    ('label', None)
    """
    annotation = return_annotation(function)
    if isinstance(annotation, str):
        annotation = {"str": str, "int": int, "float": float, "bool": bool}.get(annotation)
    if typing.get_origin(annotation) is tuple and len(typing.get_args(annotation)) == 2:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) is Literal:
        kinds = {type(value) for value in typing.get_args(annotation)}
        annotation = kinds.pop() if len(kinds) == 1 else None
    if annotation is bool:
        return "bool"
    if annotation is str:
        return "label"
    return "number" if annotation in (int, float) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
