"""``tk.evaluate``, ``tk.aevaluate`` and ``tk.resume``: call a task with every item, and have every call judged.

All three make a plan, which says what is wrong, then a run, which goes on whatever goes wrong, then an experiment,
which has a state for everything. What happens is in the journal when it happens; the experiment is only a look at it.
"""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Unpack

import msgspec

from tracekeeper.configuration import settings
from tracekeeper.evaluation import stored
from tracekeeper.evaluation.datasets.dataset import Dataset
from tracekeeper.evaluation.executors.executor import Executor
from tracekeeper.evaluation.executors.local import LocalExecutor
from tracekeeper.evaluation.experiment import Experiment
from tracekeeper.evaluation.facts import metric_facts
from tracekeeper.evaluation.item import Item
from tracekeeper.evaluation.options import KEPT, EvaluateOptions, checked, signature_of
from tracekeeper.evaluation.plan import GivenMetric, Plan, make_plan
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.running.progress import RunProgress
from tracekeeper.evaluation.running.run import Run
from tracekeeper.evaluation.running.task_app import PREFIX, TaskApp, json_of
from tracekeeper.evaluation.stored import Defined
from tracekeeper.evaluation.whole import run_metrics, scores_of_run
from tracekeeper.journal.frames import Definition, ItemFrame
from tracekeeper.judging import Metric
from tracekeeper.reading.rescoring import rescore
from tracekeeper.scoring.record import Record
from tracekeeper.tracing import ids, runtime
from tracekeeper.types import ExperimentError, ItemStatus, ScoreStatus

LOST = "its process ended"
"""How the reason of a score begins that was lost with the process that was to compute it."""


def evaluate(data: Any, task: Callable[..., Any], **options: Unpack[EvaluateOptions]) -> Experiment:
    """Call ``task`` with every item of ``data``, many at a time, and have every call judged by the metrics.

    It may be called from any thread and inside a running event loop (which it then blocks; ``aevaluate`` does not).
    Each call is a record of an app, kept and judged like one in production, and every outcome is in the journal when
    it happens. Ctrl-C gives an experiment with what is finished, and ``tk.resume`` does the rest, as it does after a
    crash; a second Ctrl-C raises ``KeyboardInterrupt``.

    Parameters
    ----------
    data:
        A ``tk.Dataset``, a list of dictionaries or models, a data frame, or any iterable of them.
    task:
        What is evaluated: any callable, sync or async, an app too. Fields of the item are passed to the parameters of
        their names; a single other parameter gets the whole input.
    metrics:
        ``tk.metric`` objects, functions, or names of built-in metrics (``"exact_match"``). They find the item's fields,
        the task's arguments, ``output`` and its fields, ``expected``, ``context`` by their names.
    name:
        Of the experiment; default: the task's. It need not be new: ``Experiment.load(name)`` gives the newest.
    version:
        Of the task, for leaderboards and comparisons; default: that of an app, else ``1``.
    concurrency:
        Calls at a time (default 32). Metrics have the setting ``scoring_concurrency``.
    timeout:
        Seconds for each attempt of a call (default 60); ``None``: no deadline. Metrics have their own.
    retries:
        How often a call that raised or timed out is tried again (default 0).
    repeats:
        Calls for each item (default 1).
    max_failures:
        Once more calls than that have failed, nothing more begins.
    budget:
        US dollars: once the costs that calls report add up to it, nothing more begins.
    mapping:
        Where metrics find an argument: ``{"reference": "gold_answer"}``, ``{"answer": "output.text"}``.
    filter, sample, seed:
        Which items: a function of an ``Item``; that many of them, or a share below 1, drawn by ``seed``.
    experiment_metrics:
        Functions of all results that judge the run as a whole; their scores are ``experiment.scores``.
    executor:
        ``"local"``, this process, or an ``Executor`` of your own (see ``evaluation.executors.executor``).
    progress:
        Show on stderr how far it is.
    on_result:
        Called with each ``ItemResult`` as it comes.

    Raises
    ------
    ConfigurationError, DatasetError, MetricError
        Something cannot work: no items, ids that are not distinct, a coroutine instead of a function, an argument that
        nothing provides. Nothing was called.
    KeyboardInterrupt
        The second Ctrl-C. Whatever is raised once the run has begun has its ``experiment_id``.

    Example
    -------
    >>> def capital(country):
    ...     return {"Ireland": "Dublin", "France": "Lyon"}[country]
    >>> items = [{"country": "Ireland", "expected": "Dublin"}, {"country": "France", "expected": "Paris"}]
    >>> experiment = evaluate(items, capital, metrics=["exact_match"], name="doc-capitals")
    >>> [(item.output, item.scores["exact_match"].value) for item in experiment.items]
    [('Dublin', True), ('Lyon', False)]
    """
    return _begun(data, task, options).done()


async def aevaluate(data: Any, task: Callable[..., Any], **options: Unpack[EvaluateOptions]) -> Experiment:
    """``evaluate`` to be awaited. The event loop goes on meanwhile, whatever the calls do.

    Parameters, result and errors are those of ``evaluate``. Async tasks run on a loop of the run's own: what belongs to
    the caller's loop cannot be awaited there. When the awaiting task is cancelled, what runs is cancelled too, and
    ``tk.resume`` does the rest.

    Example
    -------
    >>> import asyncio
    >>> async def shout(text):
    ...     return text.upper()
    >>> experiment = asyncio.run(aevaluate([{"text": "hello"}], shout, name="doc-shout"))
    >>> experiment.items[0].output
    'HELLO'
    """
    begun = await asyncio.to_thread(_begun, data, task, options)
    return await begun.adone()


def resume(
    experiment: str | Experiment,
    *,
    task: Callable[..., Any],
    metrics: Iterable[GivenMetric] = (),
    data: Any = None,
    mapping: Mapping[str, str] | None = None,
    progress: bool = False,
) -> Experiment:
    """Do the rest of an experiment that was interrupted, by an exception, Ctrl-C or the death of its process.

    Calls that have ended (``ok``, ``error``, ``timed_out``) are not made again; what had begun and not ended, and what
    had not begun, is. Scores that were lost with the process are computed. Twice does no more than once.

    Parameters
    ----------
    experiment:
        Its id, its name (the newest of that name), or an ``Experiment``.
    task, metrics, mapping:
        As for ``evaluate``: functions are not stored.
    data:
        The items again, unless they were a stored ``tk.Dataset``. There may be more of them than there were.
    progress:
        Show on stderr how far it is.

    Raises
    ------
    ExperimentError
        There is no such experiment, or it had other items or metrics. Nothing was called.

    Example
    -------
    >>> items = [{"text": "hello"}, {"text": "world"}]
    >>> first = evaluate(items, lambda text: text.upper(), name="doc-resume")
    >>> [item.output for item in resume(first.id, task=lambda text: 1 / 0, data=items)]
    ['HELLO', 'WORLD']
    """
    wanted = experiment.id if isinstance(experiment, Experiment) else experiment
    return _resumed(wanted, task, metrics, data, mapping or {}, progress)


evaluate.__signature__ = signature_of(evaluate)  # type: ignore[attr-defined]
aevaluate.__signature__ = signature_of(aevaluate)  # type: ignore[attr-defined]


class _Begun(NamedTuple):
    """A run that is to go on, and what its experiment is made of."""

    defined: Defined
    run: Run
    places: int
    before: Mapping[int, ItemResult]
    """Results that are there already, by place."""
    metrics: tuple[Metric, ...]
    whole: tuple[Metric, ...]
    since: float
    """``time.monotonic()``."""

    def done(self) -> Experiment:
        """Go through with it."""
        with self._named():
            self.run.run()
            return self.experiment()

    async def adone(self) -> Experiment:
        """The same without blocking the running loop."""
        with self._named():
            await self.run.arun()
            return await asyncio.to_thread(self.experiment)

    def experiment(self) -> Experiment:
        """What became of it."""
        found = {**self.before, **self.run.results}
        results = [found.get(place) or self.run.unknown(place) for place in range(self.places)]
        scores = scores_of_run(self.whole, results)
        missing = sum(not stored.ended(one) for one in results)
        seconds = time.monotonic() - self.since
        whole = {"seconds": round(seconds, 6), "scores": msgspec.to_builtins(scores)}
        status = ItemStatus.OK if not missing else ItemStatus.CANCELLED
        now = time.time_ns()
        runtime.keeper().write(ItemFrame(self.defined.id, stored.WHOLE, 0, status.value, now, data=json_of(whole)))
        notes = self.run.notes
        facts = self.defined.facts(missing=missing, seconds=seconds, note="; ".join(notes) or None)
        return Experiment(results, facts, metrics=self.metrics, scores=scores, notes=notes)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Whatever is raised inside says which experiment it was."""
        try:
            yield
        except BaseException as error:
            name = self.defined.id
            with suppress(AttributeError):  # a class with slots
                error.experiment_id = name  # type: ignore[attr-defined]
            error.add_note(f"experiment {name}: what has ended is kept; tracekeeper.resume({name!r}, …) does the rest")
            raise


def _begun(data: Any, task: Callable[..., Any], given: Mapping[str, Any]) -> _Begun:
    options = checked(given)
    whole = run_metrics(options["experiment_metrics"])
    plan = make_plan(
        data,
        task,
        options["metrics"],
        version=options["version"],
        mapping=options["mapping"],
        filter=options["filter"],
        sample=options["sample"],
        seed=options["seed"],
    )
    defined = _define(plan, options)
    repeats = options["repeats"]
    work = [
        (item, repeat, place * repeats + repeat) for place, item in enumerate(plan.items) for repeat in range(repeats)
    ]
    run = _run(defined, plan, work, options)
    return _Begun(defined, run, len(work), {}, plan.metrics, whole, time.monotonic())


def _define(plan: Plan, options: Mapping[str, Any]) -> Defined:
    """Give it an id, and write down what it is asked to do."""
    started = time.time()
    data = {
        "items": [item.id for item in plan.items],
        "dataset": plan.dataset,
        "dataset_version": plan.dataset_version,
        "chosen": plan.chosen,
        "task": plan.task.name,
        "task_version": plan.task.version,
        "metrics": [msgspec.to_builtins(one) for one in metric_facts(plan.metrics).values()],
        "options": {name: options[name] for name in KEPT},
        "project": settings().project,
        "started": started,
    }
    made = Defined(ids.span_id().hex(), options["name"] or plan.task.name, started, data)
    runtime.keeper().define(Definition("experiment", made.id, made.name, msgspec.json.encode(data)))
    return made


def _run(defined: Defined, plan: Plan, work: Sequence[tuple[Item, int, int]], options: Mapping[str, Any]) -> Run:
    settled: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
    task = plan.task
    app = TaskApp(task.target, name=task.name, version=task.version, metrics=plan.metrics, settled=settled)
    progress = RunProgress(defined.name, len(work)) if options["progress"] else None
    executor: Executor = options["executor"]
    if isinstance(options["executor"], str):
        executor = LocalExecutor(
            concurrency=options["concurrency"], timeout=options["timeout"], retries=options["retries"]
        )
    return Run(
        defined.id,
        app,
        settled,
        work,
        executor,
        max_failures=options["max_failures"],
        budget=options["budget"],
        progress=progress,
        on_result=options["on_result"],
    )


def _resumed(
    wanted: str,
    task: Callable[..., Any],
    metrics: Iterable[GivenMetric],
    data: Any,
    mapping: Mapping[str, str],
    progress: bool,
) -> Experiment:
    found = stored.found(wanted)
    defined = found.defined
    plan = make_plan(_data_of(defined, data), task, metrics, version=defined.data["task_version"], mapping=mapping)
    items = _same_items(defined, found.results, plan)
    _same_metrics(defined, plan)
    ended = {(one.item_id, one.repeat): one for one in found.results if stored.ended(one)}
    repeats = defined.repeats
    before: dict[int, ItemResult] = {}
    work = []
    for place, item in enumerate(items):
        for repeat in range(repeats):
            known = ended.get((item.id, repeat))
            if known is None:
                work.append((item, repeat, place * repeats + repeat))
            else:
                before[place * repeats + repeat] = known
    options = {**checked({}), **defined.data["options"], "progress": progress}
    run = _run(defined, plan, work, options)
    begun = _Begun(defined, run, len(items) * repeats, before, plan.metrics, (), time.monotonic())
    experiment = begun.done() if work else begun.experiment()
    if any(_lost(one, plan) for one in before.values()):
        rescore(f'tag = "{PREFIX}{defined.id}"', list(plan.metrics))
        return Experiment.load(defined.id)
    return experiment


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


def _same_metrics(defined: Defined, plan: Plan) -> None:
    given, had = set(metric_facts(plan.metrics)), set(defined.metrics)
    if given != had:
        lacking, more = sorted(had - given), sorted(given - had)
        said = [f"lacks {', '.join(lacking)}"] if lacking else []
        said += [f"has {', '.join(more)} besides"] if more else []
        raise ExperimentError(
            f"experiment {defined.name!r} ({defined.id}) had other metrics: this {' and '.join(said)}; "
            "judge what there is by other metrics with Experiment.rescore"
        )
