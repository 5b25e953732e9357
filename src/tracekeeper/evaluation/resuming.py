"""``tk.resume`` and ``tk.rerun_failures``: go on with an experiment, over the same items, under the same id.

Both read what the store has, decide which calls are to be made, and hand them to a run like that of ``tk.evaluate``.
They differ in that decision alone: a resume makes the calls that have not ended, a re-run those that ended badly.
What a re-run has decided is one frame of the journal, written before its first call. So it is there whole or not at
all, and whoever comes after a crash does exactly the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from tracekeeper.evaluation import stored
from tracekeeper.evaluation.datasets.dataset import Dataset
from tracekeeper.evaluation.evaluate import Begun, made_for, run_of
from tracekeeper.evaluation.executors.executor import Executor
from tracekeeper.evaluation.experiment import Experiment
from tracekeeper.evaluation.facts import metric_facts
from tracekeeper.evaluation.item import Item
from tracekeeper.evaluation.options import ExecutorName, checked
from tracekeeper.evaluation.plan import GivenMetric, Plan, make_plan
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.running.task_app import PREFIX
from tracekeeper.evaluation.stored import Defined, Found, key_of, whole_frame
from tracekeeper.evaluation.whole import RunMetric, names_of, run_metrics
from tracekeeper.judging import Metric
from tracekeeper.reading.rescoring import rescore
from tracekeeper.tracing import runtime
from tracekeeper.types import ConfigurationError, ExperimentError, ItemStatus, ScoreStatus

LOST = "its process ended"
"""How the reason of a score begins that was lost with the process that was to compute it."""
CallOutcome = Literal["error", "timed_out", "interrupted", "pending"]
"""How a call went that did not end well; see ``rerun_failures``."""
OUTCOMES: tuple[CallOutcome, ...] = ("error", "timed_out", "interrupted", "pending")
FAILED: tuple[CallOutcome, ...] = ("error", "timed_out", "interrupted")


def resume(
    experiment: str | Experiment,
    *,
    task: Callable[..., Any],
    metrics: Iterable[GivenMetric] = (),
    data: Any = None,
    mapping: Mapping[str, str] | None = None,
    experiment_metrics: Iterable[RunMetric] = (),
    progress: bool = False,
    executor: ExecutorName | Executor = "local",
) -> Experiment:
    """Do the rest of an experiment that was interrupted, by an exception, Ctrl-C or the death of its process.

    Calls that have ended (``ok``, ``error``, ``timed_out``) are not made again; what had begun and not ended, and what
    had not begun, is. Scores that were lost with the process are computed. Twice does no more than once.

    Parameters
    ----------
    experiment:
        Its id, its name (the newest of that name), or an ``Experiment``.
    task, metrics, mapping, experiment_metrics:
        As for ``evaluate``: functions are not stored. The last ones judge all results, not only the new ones.
    data:
        The items again, unless they were a stored ``tk.Dataset``. There may be more of them than there were.
    progress:
        Show how far it is: below the cell of a notebook, else on stderr.
    executor:
        As for ``evaluate``; it may be another one than before.

    Raises
    ------
    ExperimentError
        There is no such experiment, or it had other items or metrics. Nothing was called.

    Example
    -------
    >>> import tracekeeper as tk
    >>> items = [{"text": "hello"}, {"text": "world"}]
    >>> first = tk.evaluate(items, lambda text: text.upper(), name="doc-resume")
    >>> [item.output for item in resume(first.id, task=lambda text: 1 / 0, data=items)]
    ['HELLO', 'WORLD']
    """
    return _resumed(
        experiment, _Given(task, metrics, data, mapping or {}, run_metrics(experiment_metrics), progress, executor)
    ).done()


async def aresume(
    experiment: str | Experiment,
    *,
    task: Callable[..., Any],
    metrics: Iterable[GivenMetric] = (),
    data: Any = None,
    mapping: Mapping[str, str] | None = None,
    experiment_metrics: Iterable[RunMetric] = (),
    progress: bool = False,
    executor: ExecutorName | Executor = "local",
) -> Experiment:
    """``resume`` to be awaited. The event loop goes on meanwhile, whatever the calls do.

    Parameters, result and errors are those of ``resume``; where async tasks run, ``aevaluate`` says.

    Example
    -------
    >>> import tracekeeper as tk
    >>> items = [{"text": "hello"}, {"text": "world"}]
    >>> first = tk.evaluate(items[:1], lambda text: text.upper(), name="doc-aresume")
    >>> [item.output for item in asyncio.run(aresume(first, task=lambda text: text.title(), data=items))]
    ['HELLO', 'World']
    """
    given = _Given(task, metrics, data, mapping or {}, run_metrics(experiment_metrics), progress, executor)
    begun = await asyncio.to_thread(_resumed, experiment, given)
    return await begun.adone()


def rerun_failures(
    experiment: str | Experiment,
    *,
    task: Callable[..., Any],
    metrics: Iterable[GivenMetric] = (),
    data: Any = None,
    mapping: Mapping[str, str] | None = None,
    experiment_metrics: Iterable[RunMetric] = (),
    outcomes: CallOutcome | Iterable[CallOutcome] = FAILED,
    progress: bool = False,
    executor: ExecutorName | Executor = "local",
) -> Experiment:
    """Call again the items of an experiment whose calls went wrong, and keep all others as they are.

    The new outcome takes the place of the old one. The old one is not lost: it stands in ``earlier`` of the item's
    result, and its record stays in the store. A score that failed needs no call: ``experiment.rescore`` computes it.

    When it is interrupted, by an exception, Ctrl-C or the death of its process, a second call does exactly the rest and
    begins no other re-run, whatever its ``outcomes`` are; so does ``tk.resume``. Once it is over, another call calls
    what failed again.

    Parameters
    ----------
    experiment:
        Its id, its name (the newest of that name), or an ``Experiment``.
    task, metrics, mapping, experiment_metrics:
        As for ``evaluate``: functions are not stored. The last ones judge all results, not only the new ones.
    data:
        The items again, all of them, unless they were a stored ``tk.Dataset``.
    outcomes:
        Which: ``error`` (the task raised), ``timed_out``, ``interrupted`` (it had begun and did not end: Ctrl-C, or its
        process died), ``pending`` (it never began). Default: all but ``pending``, which ``tk.resume`` does.
    progress:
        Show how far it is: below the cell of a notebook, else on stderr.
    executor:
        As for ``evaluate``; it may be another one than before.

    Raises
    ------
    ConfigurationError
        An outcome that there is not.
    ExperimentError
        There is no such experiment, or it had other items or metrics. Nothing was called.

    Example
    -------
    >>> import tracekeeper as tk
    >>> items = [{"n": 4}, {"n": 0}]
    >>> first = tk.evaluate(items, lambda n: 8 / n, name="doc-rerun")
    >>> again = rerun_failures(first, task=lambda n: 8 / n if n else 0.0, data=items)
    >>> [(item.output, [call.error for call in item.earlier]) for item in again]
    [(2.0, []), (0.0, ['ZeroDivisionError: division by zero'])]
    """
    return _rerun(
        experiment,
        _Given(task, metrics, data, mapping or {}, run_metrics(experiment_metrics), progress, executor),
        outcomes,
    ).done()


async def arerun_failures(
    experiment: str | Experiment,
    *,
    task: Callable[..., Any],
    metrics: Iterable[GivenMetric] = (),
    data: Any = None,
    mapping: Mapping[str, str] | None = None,
    experiment_metrics: Iterable[RunMetric] = (),
    outcomes: CallOutcome | Iterable[CallOutcome] = FAILED,
    progress: bool = False,
    executor: ExecutorName | Executor = "local",
) -> Experiment:
    """``rerun_failures`` to be awaited. The event loop goes on meanwhile, whatever the calls do.

    Parameters, result and errors are those of ``rerun_failures``; where async tasks run, ``aevaluate`` says.

    Example
    -------
    >>> import tracekeeper as tk
    >>> items = [{"n": 4}, {"n": 0}]
    >>> first = tk.evaluate(items, lambda n: 8 / n, name="doc-arerun")
    >>> async def careful(n):
    ...     return 8 / n if n else 0.0
    >>> [item.output for item in asyncio.run(arerun_failures(first, task=careful, data=items))]
    [2.0, 0.0]
    """
    given = _Given(task, metrics, data, mapping or {}, run_metrics(experiment_metrics), progress, executor)
    begun = await asyncio.to_thread(_rerun, experiment, given, outcomes)
    return await begun.adone()


class _Given(NamedTuple):
    """What cannot be stored with an experiment, and is given again."""

    task: Callable[..., Any]
    metrics: Iterable[GivenMetric]
    data: Any
    mapping: Mapping[str, str]
    whole: tuple[Metric, ...]
    progress: bool
    executor: ExecutorName | Executor


class _Again(NamedTuple):
    """A run that goes on with an experiment, and whether scores of calls that are kept were lost."""

    begun: Begun
    lost: bool

    def done(self) -> Experiment:
        """Go through with it."""
        experiment = self.begun.done()
        return self._judged(experiment) if self.lost else experiment

    async def adone(self) -> Experiment:
        """The same without blocking the running loop."""
        experiment = await self.begun.adone()
        return await asyncio.to_thread(self._judged, experiment) if self.lost else experiment

    def _judged(self, experiment: Experiment) -> Experiment:
        rescore(f'tag = "{PREFIX}{experiment.id}"', list(self.begun.metrics))
        fresh = {key_of(one): one for one in Experiment.load(experiment.id)}
        return self.begun.experiment([fresh.get(key_of(one), one) for one in experiment])


def _resumed(experiment: str | Experiment, given: _Given) -> _Again:
    found, plan, items = _same(experiment, given)
    return _again(found, plan, items, given, lambda one: not stored.ended(one))


def _rerun(experiment: str | Experiment, given: _Given, outcomes: CallOutcome | Iterable[CallOutcome]) -> _Again:
    wanted = _outcomes(outcomes)
    found, plan, items = _same(experiment, given)
    had = {one.item_id for one in found.results}
    items = [item for item in items if item.id in had]
    fresh = not found.again  # else a re-run was interrupted, and this is its rest
    if fresh:
        found = found.again_with(lambda one: _outcome_of(one) in wanted)
    made = _again(found, plan, items, given, lambda one: key_of(one) in found.again and not stored.ended(one))
    if fresh and found.again:
        _decided(found)
    return made


def _decided(found: Found) -> None:
    """Write down what is to be called again, all in one. The scores of the run as a whole hold no longer."""
    whole = {"seconds": found.seconds}
    runtime.keeper().write(whole_frame(found.defined.id, ItemStatus.RUNNING, whole, found.again))


def _same(experiment: str | Experiment, given: _Given) -> tuple[Found, Plan, Sequence[Item]]:
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
        mapping=given.mapping,
    )
    items = _same_items(defined, found.results, plan)
    _same_metrics(defined, plan, given.whole)
    return found, plan, items


def _again(
    found: Found,
    plan: Plan,
    items: Sequence[Item],
    given: _Given,
    wanted: Callable[[ItemResult], bool],
) -> _Again:
    """A run of the calls whose present result is ``wanted``, and of those that have none."""
    known = {key_of(one): one for one in found.results}
    repeats = found.defined.repeats
    kept: dict[int, ItemResult] = {}
    earlier = {}
    work = []
    for place, (item, repeat) in enumerate((item, repeat) for item in items for repeat in range(repeats)):
        one = known.get((item.id, repeat))
        if one is not None and not wanted(one):
            kept[place] = one if one.fields else _with_fields(one, item)
            continue
        work.append((item, repeat, place))
        if one is not None:
            earlier[place] = found.before(one)
    options = {**checked({"executor": given.executor}), **found.defined.data["options"], "progress": given.progress}
    run = run_of(found.defined, plan, work, options, made_for(plan, options), earlier)
    begun = Begun(
        found.defined, run, len(items) * repeats, kept, plan.metrics, given.whole, time.monotonic(), found.again
    )
    return _Again(begun, any(_lost(one, plan) for one in kept.values()))


def _with_fields(result: ItemResult, item: Item) -> ItemResult:
    """A result whose call never began, so that the store knows nothing of its item."""
    given = {"fields": item.fields, "expected": item.expected, "tags": item.tags, "split": item.split}
    return msgspec.structs.replace(result, **given)


def _outcome_of(result: ItemResult) -> CallOutcome | None:
    """How a call went that did not end well."""
    if result.status is ItemStatus.ERROR:
        return "error"
    if result.status is ItemStatus.TIMED_OUT:
        return "timed_out"
    if stored.ended(result):
        return None
    return "pending" if result.status is ItemStatus.PENDING and not result.trace_id else "interrupted"


def _outcomes(given: CallOutcome | Iterable[CallOutcome]) -> frozenset[str]:
    wanted = [given] if isinstance(given, str) else [*given]
    wrong = [one for one in wanted if one not in OUTCOMES]
    if wrong or not wanted:
        said = repr(wrong[0]) if wrong else "none"
        raise ConfigurationError(f"outcomes: expected some of {', '.join(OUTCOMES)}, not {said}")
    return frozenset(wanted)


def _lost(result: ItemResult, plan: Plan) -> bool:
    """Whether a score of an item that had ended went with its process."""
    if result.status is not ItemStatus.OK:
        return False
    for name in (name for one in plan.metrics for name in one.names):
        score = result.scores.get(name)
        if score is None or not score.final or score.status is ScoreStatus.CANCELLED:
            return True
        if score.status is ScoreStatus.FAILED and (score.reason or "").startswith(LOST):
            return True
    return False


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
        An item that it had is not there.
    """
    there = {item.id for item in plan.items}
    had = dict.fromkeys([*defined.ids, *(one.item_id for one in results)])
    lacking = [item for item in had if item not in there]
    if lacking:
        raise ExperimentError(
            f"experiment {defined.name!r} ({defined.id}) had {len(had):,} items, and {len(lacking):,} of them are not "
            f"among these (the first is {lacking[0]!r}): it was run over another dataset"
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
