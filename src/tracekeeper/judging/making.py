"""``tk.metric``: how a function becomes a metric, and lists of both become lists of metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Unpack, overload

from tracekeeper.judging.isolation import check_pickled
from tracekeeper.judging.metric import Metric
from tracekeeper.judging.options import MetricOptions
from tracekeeper.types import MetricError

_NOT_GIVEN: Any = object()
"""Not ``None``: that is what somebody passes who has called the function instead of naming it."""


@overload
def metric(fn: Callable[..., Any], /, **options: Unpack[MetricOptions]) -> Metric: ...
@overload
def metric(**options: Unpack[MetricOptions]) -> Callable[[Callable[..., Any]], Metric]: ...
def metric(
    fn: Any = _NOT_GIVEN, /, **options: Unpack[MetricOptions]
) -> Metric | Callable[[Callable[..., Any]], Metric]:
    """Make a metric of a function: ``tk.metric(f, timeout=5)``, ``@tk.metric``, ``@tk.metric(timeout=5)``.

    The function may be sync or async, a method, a partial, a lambda or an object with ``__call__``. Its parameters are
    bound by name (see ``Metric.on`` to say otherwise); it returns a number, a bool, a label, ``(value, reason)``, a
    ``Score``, or ``None`` when it has nothing to say.

    Parameters
    ----------
    name:
        Name of the score; the function's own name by default.
    names:
        For a function that returns a mapping: its keys. Each becomes a score ``name.key``.
    version:
        Your own version. By default a hash of the function's code and parameters, so that a changed metric does not
        mix its scores with the old ones.
    mode:
        ``background`` (default), ``inline`` (before the call returns), ``deferred`` (a worker does it), ``off``.
    timeout:
        Seconds for one attempt (default 60).
    retries:
        Further attempts after a failure (default 0).
    sample:
        Share of records that are judged, 0 to 1; the others are ``skipped`` with that reason.
    direction:
        ``maximize`` or ``minimize``: which end is better, for leaderboards.
    range:
        ``(low, high)``; ``None`` where there is no bound. A value outside is ``failed``, and the reason holds it.
    source:
        ``code`` (default), ``llm`` or ``human``: who judges.
    requires:
        Names of what a worker must have (packages, models); shown where a score waits.
    needs_live:
        For ``inline`` only: pass the call's own objects instead of the data that was captured from them.
    accept_cut:
        Judge fields although they were truncated at the capture limit, instead of skipping.
    traced:
        Keep every evaluation as a trace, with its arguments and its outcome. Without it only those that trace
        something themselves, and those of ``source="llm"``, are kept.
    priority:
        Of scores that wait, those of a smaller number are begun first (default 0; -1000 to 1000).
    concurrency:
        How many evaluations of this metric run at a time in one process, for a model or service that allows no more;
        ``None`` (default): only ``scoring_concurrency`` bounds them.
    isolation:
        ``thread`` (default), or ``process``: each evaluation runs in a process apart, which is killed at the deadline.
        For code that may hold the interpreter lock, crash, or take all memory; for functions that another process can
        import (no lambda, nothing of ``__main__``), and not for ``inline``.
    memory_limit:
        With ``isolation="process"``: bytes that one evaluation may allocate; beyond them it is ``failed``. Enforced on
        Linux, where address space can be counted.

    Raises
    ------
    MetricError
        When it can never work as it stands: not callable, a timeout that is not positive, an unknown option…

    Example
    -------
    >>> @metric(timeout=5, direction="maximize")
    ... def cites_source(output, context):
    ...     return any(document in output for document in context)
    >>> cites_source("see [a]", ["[a]"]), cites_source.names
    (True, ('cites_source',))
    """
    if fn is _NOT_GIVEN:
        return lambda function: metric(function, **options)
    if isinstance(fn, Metric):
        return fn.replace(**options) if options else fn
    return Metric(fn, **options)


def check_listed(values: Any, where: str) -> None:
    """Refuse one metric in the place of a list of them: text would be taken letter by letter.

    Raises
    ------
    MetricError
        It is no list.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        name = repr(values) if isinstance(values, str) else getattr(values, "__name__", "")
        hint = f": write [{name}]" if name and (callable(values) or isinstance(values, str)) else ""
        raise MetricError(f"{where}: expected a list of metrics, got {type(values).__name__}{hint}")


def as_metrics(values: Iterable[Any], *, where: str = "metrics") -> tuple[Metric, ...]:
    """A list of metrics and plain functions as metrics, each score name once.

    Raises
    ------
    MetricError
        Something that is no metric, or two that would write scores of the same name.
    """
    check_listed(values, where)
    made = tuple(value if isinstance(value, Metric) else metric(value) for value in values)
    seen: set[str] = set()
    for one in made:
        check_pickled(one)
        for name in one.names:
            if name in seen:
                raise MetricError(
                    f"{where}: two metrics are named {name!r}; give one another name with .replace(name=…)"
                )
            seen.add(name)
    return made
