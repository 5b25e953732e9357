"""What a run is going to do, checked before its first item begins: whatever is wrong is said here, in one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tracekeeper.concurrency.shapes import is_awaitable
from tracekeeper.evaluation.datasets.dataset import Dataset
from tracekeeper.evaluation.datasets.filtering import ItemFilter, item_filter
from tracekeeper.evaluation.datasets.items import items_of
from tracekeeper.evaluation.datasets.sampling import checked_sample, drawn
from tracekeeper.evaluation.datasets.view import View
from tracekeeper.evaluation.item import Item
from tracekeeper.judging import Metric, as_metrics, return_annotation, select
from tracekeeper.judging.checks import name_of
from tracekeeper.judging.making import check_listed
from tracekeeper.judging.picking import Selector, nearest
from tracekeeper.judging.tasks import check_task
from tracekeeper.metrics.resolving import resolve
from tracekeeper.scoring.app import App
from tracekeeper.tracing.opening import enabled
from tracekeeper.types import ConfigurationError, DatasetError, MetricMode

GivenMetric = Metric | Callable[..., Any] | str
LOOKED_AT = 1_000
"""Items whose fields are taken together to tell which names there are."""


class Task(NamedTuple):
    """What is called with each item."""

    target: Callable[..., Any]
    name: str
    version: str
    metrics: tuple[Metric, ...]
    """Its own, of a task that is an app."""


class Plan(NamedTuple):
    """A run that can begin."""

    items: Sequence[Item]
    task: Task
    metrics: tuple[Metric, ...]
    dataset: str
    dataset_version: str
    chosen: bool
    """Whether the items are some of the dataset's only, or of one version: what it gets later is not meant."""


def make_plan(
    data: Any,
    task: Callable[..., Any],
    metrics: Iterable[GivenMetric],
    *,
    version: str | None = None,
    mapping: Mapping[str, str] | None = None,
    filter: ItemFilter | None = None,
    sample: float | None = None,
    seed: int = 0,
) -> Plan:
    """Look at everything.

    Raises
    ------
    ConfigurationError
        No items, a task that is none, something out of range, tracing that is off.
    FilterError
        A filter that does not parse.
    MetricError
        A task or a metric with an argument that nothing provides.
    """
    if enabled() is None:
        raise ConfigurationError(
            "evaluate keeps what happens in the journal, and tracing is off (TRACEKEEPER_DISABLED or enabled=False); "
            "tracekeeper.testing.temporary_keeper() keeps it in a folder that is removed afterwards"
        )
    known = checked_task(task, version)
    wanted = _checked_sample(sample)
    some = filter is not None or sample is not None or (isinstance(data, View) and not isinstance(data, Dataset))
    if isinstance(data, Dataset) and data.version:
        some = some or data.pinned
        data = data.pin()  # it may be changed meanwhile: these are the items of one version
    items = sampled(matching(items_of(data), filter), wanted, seed)
    fields = dict.fromkeys(name for item in items[:LOOKED_AT] for name in item.fields)
    check_task(known.target, fields)
    judged = _metrics(known, metrics, mapping or {}, fields)
    return Plan(
        items=items,
        task=known,
        metrics=judged,
        dataset=data.name if isinstance(data, View) else "",
        dataset_version=data.version if isinstance(data, View) else "",
        chosen=some,
    )


def checked_task(task: Any, version: str | None) -> Task:
    """The task as it is called. An app's own target: its calls are recorded as items, once."""
    if is_awaitable(task):
        close = getattr(task, "close", None)
        if close is not None:
            close()
        raise ConfigurationError(
            f"the task is {type(task).__name__}, the result of a call: give the function itself, without parentheses"
        )
    app = task if isinstance(task, App) else getattr(task, "app", None)
    if isinstance(app, App):
        guarded = inspect.unwrap(app.call) is not inspect.unwrap(app.target)
        target = app.call if guarded else app.target
        return Task(target, app.name, app.version if version is None else str(version), app.metrics)
    if not callable(task):
        raise ConfigurationError(f"the task must be callable, not {type(task).__name__}: {task!r}")
    return Task(task, name_of(task), "1" if version is None else str(version), ())


def matching(items: Iterator[Item], filter: ItemFilter | None) -> list[Item]:
    """The items that a filter takes; the others are let go as they come."""
    try:
        takes = None if filter is None else item_filter(filter)
    except DatasetError as error:
        raise ConfigurationError(str(error)) from error
    first = next(items, None)
    if first is None:
        raise ConfigurationError("there are no items to evaluate: the dataset is empty")
    found = [item for item in (first,) if takes is None or takes(item)]
    found += items if takes is None else (item for item in items if takes(item))
    if not found:
        raise ConfigurationError("filter= leaves no item to evaluate")
    return found


def _checked_sample(sample: float | None) -> float | None:
    try:
        return checked_sample(sample)
    except DatasetError as error:
        raise ConfigurationError(str(error)) from error


def sampled(items: list[Item], sample: float | None, seed: int) -> list[Item]:
    """The items that are run: a sample means what it means of a dataset (``datasets.sampling``)."""
    if sample is None:
        return items
    among = drawn((item.id for item in items), sample, seed)
    if not among:
        raise ConfigurationError(
            f"sample={sample!r} leaves none of {len(items):,} items to evaluate: each has this chance; "
            "a whole number takes so many"
        )
    return [item for item in items if item.id in among]


def _metrics(
    task: Task,
    metrics: Iterable[GivenMetric],
    mapping: Mapping[str, str],
    fields: Mapping[str, Any],
) -> tuple[Metric, ...]:
    own = {name for one in task.metrics for name in one.names}
    check_listed(metrics, "evaluate: metrics")
    known = [resolve(one) if isinstance(one, str) else one for one in metrics]
    given = as_metrics(known, where="evaluate: metrics")
    replaced = {name for one in given for name in one.names} & own
    # A metric that is given replaces the app's own of that name.
    every = [*(one for one in task.metrics if not replaced & set(one.names)), *given]
    judged = as_metrics([_here(_mapped(one, mapping, fields)) for one in every], where="evaluate: metrics")
    used = {name for one in judged for name in one.selectors}
    unused = [name for name in mapping if name not in used]
    if unused:
        arguments = {name: None for one in judged for name in inspect.signature(one.function).parameters}
        raise ConfigurationError(
            f"mapping={{{unused[0]!r}: …}}: no metric has an argument {unused[0]!r}{nearest(unused[0], arguments)}"
        )
    parameters = [*fields, *_parameters(task.target)]
    for one in judged:
        one.check(parameters, return_annotation(task.target))
    return judged


def _here(metric: Metric) -> Metric:
    """A metric that would wait for a worker is run by the run itself: it waits for all of its scores."""
    return metric.replace(mode=MetricMode.BACKGROUND) if metric.mode == MetricMode.DEFERRED else metric


def _mapped(metric: Metric, mapping: Mapping[str, str], fields: Mapping[str, Any]) -> Metric:
    wanted = inspect.signature(metric.function).parameters
    selectors = {name: _selector(name, path, fields) for name, path in mapping.items() if name in wanted}
    return metric.on(**selectors) if selectors else metric


def _selector(name: str, path: Any, fields: Mapping[str, Any]) -> Selector:
    if not isinstance(path, str) or not path:
        raise ConfigurationError(
            f"mapping={{{name!r}: {path!r}}}: expected the name of an item's field, or a place such as 'output.text'"
        )
    place, _, within = path.partition(".")
    if path in fields or place in fields:
        return select.item(path)
    if place in ("input", "output", "expected"):
        return getattr(select, place)(within or None)  # type: ignore[no-any-return]
    if path == "context":
        return select.context()
    return select.output(path)


def _parameters(task: Callable[..., Any]) -> list[str]:
    try:
        return [*inspect.signature(task).parameters]
    except (TypeError, ValueError):
        return []
