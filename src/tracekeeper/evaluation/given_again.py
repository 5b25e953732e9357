"""What is given again to go on with an experiment, since functions and lists are not stored: it must be the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tracekeeper.evaluation import stored
from tracekeeper.evaluation.contents import changed
from tracekeeper.evaluation.datasets.dataset import Dataset
from tracekeeper.evaluation.executors.executor import Executor
from tracekeeper.evaluation.experiment import Experiment
from tracekeeper.evaluation.facts import metric_facts
from tracekeeper.evaluation.item import Item
from tracekeeper.evaluation.options import ExecutorName
from tracekeeper.evaluation.plan import GivenMetric, Plan, make_plan
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.stored import Defined, Found
from tracekeeper.evaluation.whole import names_of
from tracekeeper.judging import Metric
from tracekeeper.types import ExperimentError


class Given(NamedTuple):
    """What cannot be stored with an experiment, and is given again."""

    task: Callable[..., Any]
    metrics: Iterable[GivenMetric]
    data: Any
    mapping: Mapping[str, str] | None
    whole: tuple[Metric, ...]
    progress: bool
    executor: ExecutorName | Executor


def same(experiment: str | Experiment, given: Given) -> tuple[Found, Plan, Sequence[Item]]:
    """The experiment as the store has it, and its items, metrics and task as they were given again.

    Raises
    ------
    ExperimentError
        They are others.
    """
    found = stored.found(experiment.id if isinstance(experiment, Experiment) else experiment)
    defined = found.defined
    plan = make_plan(
        _data_of(defined, given.data),
        given.task,
        given.metrics,
        version=defined.data["task_version"],
        mapping=given.mapping or {},
    )
    items = _same_items(defined, found.results, plan)
    _same_metrics(defined, plan, given.whole)
    return found, plan, items


def _data_of(defined: Defined, data: Any) -> Any:
    if data is not None:
        return data
    name = defined.data["dataset"]
    if name:
        had = Dataset(name, version=defined.data["dataset_version"])
        now = Dataset(name)
        if defined.data["chosen"] or now.version == had.version:
            return had
        known = set(had.ids())
        return [*had, *(item for item in now if item.id not in known)]  # what it has got since
    raise ExperimentError(
        f"experiment {defined.name!r} ({defined.id}) was run over a list that is not stored: "
        "give its items again, as data="
    )


def _same_items(defined: Defined, results: Sequence[ItemResult], plan: Plan) -> Sequence[Item]:
    """The items of a resume: those that the experiment had, and what the dataset has got since.

    Raises
    ------
    ExperimentError
        An item that it had is not there, or holds something else.
    """
    there = {item.id: item for item in plan.items}
    had = dict.fromkeys([*defined.ids, *(one.item_id for one in results)])
    lacking = [item for item in had if item not in there]
    if lacking:
        raise ExperimentError(
            f"experiment {defined.name!r} ({defined.id}) had {len(had):,} items, and {len(lacking):,} of them are not "
            f"among these (the first is {lacking[0]!r}): it was run over another dataset"
        )
    others = changed(defined.ids, defined.contents, there)
    if others:
        raise ExperimentError(
            f"experiment {defined.name!r} ({defined.id}): {len(others):,} of its {len(had):,} items had other fields "
            f"then (the first is {others[0]!r}): give them as they were, or evaluate anew"
        )
    return [item for item in plan.items if item.id in had] if defined.data["chosen"] else plan.items


def _same_metrics(defined: Defined, plan: Plan, whole: Sequence[Metric]) -> None:
    given, had = set(metric_facts(plan.metrics)), set(defined.metrics)
    if given != had:
        lacking, more = sorted(had - given), sorted(given - had)
        said = [f"lacks {', '.join(lacking)}"] if lacking else []
        said += [f"has {', '.join(more)} besides"] if more else []
        raise ExperimentError(
            f"experiment {defined.name!r} ({defined.id}) had other metrics: this {' and '.join(said)}; "
            "judge what there is by other metrics with Experiment.rescore"
        )
    given, had = set(names_of(whole)), set(defined.run_metrics)
    if given != had:
        these = ", ".join(sorted(had)) or "nothing"
        raise ExperimentError(
            f"experiment {defined.name!r} ({defined.id}) was judged as a whole by {these}, not by "
            f"{', '.join(sorted(given)) or 'nothing'}: give the same, as experiment_metrics="
        )
