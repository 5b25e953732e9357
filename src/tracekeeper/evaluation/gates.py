"""Whether a run is good enough for a build to pass: pure decisions on results, with reasons and an exit code.

A build that fails by chance is soon ignored, one that passes because its judge was down is worse. So a regression
fails a build only when it is larger than allowed *and* more than noise, and scores that are missing are never taken
for good ones.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from tracekeeper.evaluation.comparison import Comparison
from tracekeeper.evaluation.differences import ALPHA, MetricComparison
from tracekeeper.evaluation.reports.difference import p_text
from tracekeeper.evaluation.summary import MetricSummary
from tracekeeper.evaluation.tables import interval_text, value_text
from tracekeeper.render import plural
from tracekeeper.types import ScoreStatus

if TYPE_CHECKING:
    from tracekeeper.evaluation.results import Results

PASSED = 0
"""Exit code: every gate is passed."""

FAILED = 1
"""Exit code: at least one gate is not passed."""

USAGE = 2
"""Exit code of commands for arguments that cannot work; no decision gives it."""

INCOMPLETE = 3
"""Exit code: no gate is failed, but calls or scores are missing, more than allowed."""

Kind = Literal["fail_under", "max_regression", "complete", "failures"]

_LOST = (ScoreStatus.FAILED, ScoreStatus.TIMED_OUT, ScoreStatus.CANCELLED)


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One gate.

    Attributes
    ----------
    kind:
        ``fail_under``, ``max_regression``, ``complete`` (every call has ended), ``failures`` (not too many went wrong).
    metric:
        ``""``: the run as a whole.
    passed:
        Whether the build may go on.
    text:
        Why, in one sentence with its figures.
    """

    kind: Kind
    metric: str = ""
    passed: bool
    text: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """All gates of a run, and what a command exits with."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate is passed."""
        return self.exit_code == PASSED

    @property
    def exit_code(self) -> int:
        """0: passed. 1: a threshold is missed or a regression is too large. 3: neither, but too much is missing."""
        failed = {check.kind for check in self.checks if not check.passed}
        if failed & {"fail_under", "max_regression"}:
            return FAILED
        return INCOMPLETE if failed else PASSED

    @property
    def text(self) -> str:
        """A line for each gate, those that are not passed first."""
        ordered = sorted(self.checks, key=lambda check: check.passed)
        return "\n".join(f"{'passed' if check.passed else 'FAILED'}: {check.text}" for check in ordered)


def decide(
    results: Results,
    *,
    fail_under: Mapping[str, float] | None = None,
    baseline: Results | None = None,
    max_regression: float | Mapping[str, float] | None = None,
    max_failures: float = 0,
) -> Decision:
    """Whether a run passes.

    Parameters
    ----------
    results:
        The run.
    fail_under:
        By metric: the worst mean that passes; of a metric to be minimized the highest one.
    baseline:
        The run to compare with; ``None``: there is none yet, and nothing can have become worse.
    max_regression:
        By how much a metric may become worse, in its own units (0.02 of yes or no: two points of a hundred); one
        number for all metrics, or by metric. A larger regression fails only when it is more than noise as well (p <
        0.05).
    max_failures:
        How many calls may have failed, or have a score that failed; below 1 a share of the calls. Default: none.

    Raises
    ------
    ValueError
        A metric that is not there (the nearest is named), a metric of labels, or a limit that is negative or no number.

    Example
    -------
    >>> from tracekeeper.evaluation.result import ItemResult
    >>> from tracekeeper.evaluation.results import Results
    >>> from tracekeeper.types import ItemStatus, Score
    >>> run = Results(
    ...     ItemResult(item_id=f"{n}", status=ItemStatus.OK, scores={"exact": Score(n % 4 != 0)}) for n in range(40)
    ... )
    >>> found = decide(run, fail_under={"exact": 0.8})
    >>> print(found.exit_code, found.text)
    1 FAILED: exact is 75.0 % (59.8 % to 85.8 %), below 80.0 %
    passed: all 40 calls have ended
    passed: no call failed
    """
    compared = None if baseline is None else results.compare(baseline)
    checks = [
        *_thresholds(results, fail_under or {}),
        *([] if max_regression is None else _regressions(results, compared, max_regression)),
        _complete(results),
        _failures(results, max_failures),
    ]
    return Decision(checks=tuple(checks))


def limit_of(text: str) -> tuple[str, float]:
    """A limit as it is written on a command line: ``NAME=NUMBER`` or ``NAME=NUMBER%``, or the number alone (name
    ``""``).

    Raises
    ------
    ValueError
        When it is neither.

    Example
    -------
    >>> limit_of("OverlapGroundedness=0.8"), limit_of("exact=80%"), limit_of("0.02")
    (('OverlapGroundedness', 0.8), ('exact', 0.8), ('', 0.02))
    """
    name, _, number = text.rpartition("=")
    percent = number.strip().endswith("%")
    try:
        value = float(number.strip().removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or ("=" in text and not name.strip()):
        raise ValueError(f"{text!r} is no limit; write NAME=NUMBER, e.g. exact=0.8 or exact=80%")
    return name.strip(), value


def _thresholds(results: Results, limits: Mapping[str, float]) -> list[Check]:
    found = results.summary().metrics
    _check_names(limits, found)
    return [_threshold(found[name], _number(name, limit)) for name, limit in limits.items()]


def _threshold(metric: MetricSummary, limit: float) -> Check:
    if metric.kind == "label":
        raise ValueError(f"{metric.name} gives labels, which have no mean that could be under {limit:g}")
    if metric.mean is None:
        text = f"{metric.name} has no value on any of {plural(metric.n, 'call')}, so it is not shown to reach {limit:g}"
        return Check(kind="fail_under", metric=metric.name, passed=False, text=text)
    lower = metric.direction == "minimize"
    passed = metric.mean <= limit if lower else metric.mean >= limit
    word = ("not above" if lower else "not below") if passed else ("above" if lower else "below")
    said = f"{metric.name} is {value_text(metric.mean, metric.kind)} ({interval_text(metric.interval, metric.kind)})"
    text = f"{said}, {word} {value_text(limit, metric.kind)}"
    return Check(kind="fail_under", metric=metric.name, passed=passed, text=text)


def _regressions(results: Results, compared: Comparison | None, limits: float | Mapping[str, float]) -> Iterable[Check]:
    if isinstance(limits, Mapping):
        chosen = {name: _allowance(name, limit) for name, limit in limits.items()}
        _check_names(chosen, results.metric_names)
    else:
        limit = _allowance("max_regression", limits)
        chosen = dict.fromkeys(results.metric_names, limit)
    if compared is None:
        return [
            Check(kind="max_regression", passed=True, text="there is no baseline yet: nothing can have become worse")
        ]
    named = isinstance(limits, Mapping)
    return [_regression(compared.metrics[name], limit, named) for name, limit in chosen.items()]


def _regression(metric: MetricComparison, limit: float, named: bool) -> Check:
    """``named``: the metric was asked for by name, so that it must have something to compare."""
    name, kind = metric.name, metric.kind
    if kind == "label" and named:
        raise ValueError(f"{name} gives labels, of which none is better than another: it has no regressions")
    if kind == "label":
        return Check(kind="max_regression", metric=name, passed=True, text=f"{name} gives labels: no better and worse")
    gain = metric.gain
    if gain is None:
        text = f"{name} has no item with a value in both runs: nothing to compare"
        return Check(kind="max_regression", metric=name, passed=not named, text=text)
    size = value_text(abs(gain), kind)
    allowed = value_text(limit, kind) if limit else "nothing"
    items = plural(metric.pairs, "item")
    evidence = items if metric.p is None else f"p {'' if metric.p < 0.001 else '= '}{p_text(metric.p)}, {items}"
    if gain >= 0:
        said = f"better by {size}" if gain > 0 else "as good as before"
        return Check(kind="max_regression", metric=name, passed=True, text=f"{name} is {said} ({evidence})")
    if -gain <= limit:
        text = f"{name} is worse by {size}, and {allowed} is allowed ({evidence})"
        return Check(kind="max_regression", metric=name, passed=True, text=text)
    if metric.p is None or metric.p >= ALPHA:
        text = f"{name} is worse by {size}, more than the allowed {allowed}, but within noise ({evidence})"
        return Check(kind="max_regression", metric=name, passed=True, text=text)
    text = f"{name} is worse by {size}, more than the allowed {allowed} and more than noise ({evidence})"
    return Check(kind="max_regression", metric=name, passed=False, text=text)


def _complete(results: Results) -> Check:
    if not results.complete:
        text = f"{results.missing:,} of {plural(max(len(results), results.missing), 'call')} have not ended"
        return Check(kind="complete", passed=False, text=text)
    return Check(kind="complete", passed=True, text=f"all {plural(len(results), 'call')} have ended")


def _failures(results: Results, allowed: float) -> Check:
    limit = _allowance("max_failures", allowed)
    most = limit * len(results) if 0 < limit < 1 else limit
    failed = len(results.failures)
    said = f"{failed:,} of {plural(len(results), 'call')} failed" if failed else "no call failed"
    lost = [
        f"{name} {sum(metric.counts.get(str(status), 0) for status in _LOST):,}"
        for name, metric in results.summary().metrics.items()
        if any(metric.counts.get(str(status)) for status in _LOST)
    ]
    scores = f" (scores: {', '.join(lost)})" if lost else ""
    allowance = f", and {limit:.0%} may" if 0 < limit < 1 else f", and {limit:,.0f} may" if limit else ""
    return Check(kind="failures", passed=failed <= most, text=f"{said}{scores}{allowance if failed else ''}")


def _check_names(wanted: Iterable[str], known: Iterable[str]) -> None:
    names = list(known)
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(names) or 'none'}"
            raise ValueError(f"no metric {name!r}{hint}")


def _number(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"the limit of {name} is {value!r}: expected a number")
    return value


def _allowance(name: str, value: float) -> float:
    if _number(name, value) < 0:
        raise ValueError(f"the limit of {name} is {value!r}: how much is allowed cannot be negative")
    return value
