"""``tk.evaluate`` and ``tk.aevaluate``: call a task with every item, and have every call judged.

Both (and those of ``resuming``) make a plan, which says what is wrong, then a run, which goes on whatever goes wrong,
then an experiment, which has a state for everything. What happens is in the journal when it happens; the experiment is
only a look at it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Unpack

import msgspec

from tracekeeper.configuration import settings
from tracekeeper.evaluation import stored
from tracekeeper.evaluation.contents import contents_of
from tracekeeper.evaluation.executors.executor import Elsewhere, Executor
from tracekeeper.evaluation.executors.local import LocalExecutor
from tracekeeper.evaluation.executors.on_processes import process_executor
from tracekeeper.evaluation.executors.on_ray import ray_executor
from tracekeeper.evaluation.experiment import Experiment
from tracekeeper.evaluation.facts import metric_facts
from tracekeeper.evaluation.item import Item
from tracekeeper.evaluation.options import KEPT, EvaluateOptions, checked, signature_of
from tracekeeper.evaluation.plan import Plan, make_plan
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.running.progress import RunProgress
from tracekeeper.evaluation.running.run import Run
from tracekeeper.evaluation.running.task_app import Before, TaskApp
from tracekeeper.evaluation.stored import Defined, Key, whole_frame
from tracekeeper.evaluation.whole import names_of, run_metrics, scores_of_run
from tracekeeper.journal.frames import Definition
from tracekeeper.judging import Metric
from tracekeeper.tracing import failures, ids, runtime
from tracekeeper.types import ItemStatus

log = logging.getLogger("tracekeeper")


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
        Which items: a filter (``'tag = hard and input.topic = "weather"'``) or a function of an ``Item``; of what it
        leaves so many (``5``), or each with this chance (``0.1``), drawn by ``seed`` as ``Dataset.select`` draws them.
    experiment_metrics:
        Functions of all results that judge the run as a whole; their scores are ``experiment.scores``.
    executor:
        ``"local"``, this process; ``"ray"``, the workers of a Ray cluster (extra ``[ray]``), over which
        ``concurrency`` is spread; or an ``Executor`` of your own (see ``evaluation.executors.executor``).
    isolation:
        Of the local executor. ``"thread"``: calls on threads and an event loop of this process. ``"process"``: in
        processes that are killed at the deadline of a call that holds their interpreter, and may crash; the task must
        be importable. A resume does the same.
    progress:
        Show how far it is: below the cell of a notebook, else on stderr.
    on_result:
        Called with each ``ItemResult`` as it comes.

    Raises
    ------
    ConfigurationError, DatasetError, FilterError, MetricError
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


evaluate.__signature__ = signature_of(evaluate)  # type: ignore[attr-defined]
aevaluate.__signature__ = signature_of(aevaluate)  # type: ignore[attr-defined]


class Begun(NamedTuple):
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
    again: Mapping[Key, int] = {}
    """What the re-run was to call that this is, or the rest of."""

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

    def experiment(self, results: Sequence[ItemResult] | None = None) -> Experiment:
        """What became of it; of ``results``, when they are better known."""
        if results is None:
            found = {**self.before, **self.run.results}
            results = [found.get(place) or self.run.unknown(place) for place in range(self.places)]
        scores = scores_of_run(self.whole, results)
        missing = sum(not stored.ended(one) for one in results)
        seconds = time.monotonic() - self.since
        run = self.run
        whole = {
            "seconds": round(seconds, 6),
            "scores": msgspec.to_builtins(scores),
            "interrupted": run.interrupted,
            "notes": run.notes,
        }
        status = ItemStatus.OK if not missing else ItemStatus.CANCELLED
        ended = {(one.item_id, one.repeat) for one in results if stored.ended(one)}
        again = {key: at for key, at in self.again.items() if key not in ended}
        runtime.keeper().write(whole_frame(self.defined.id, status, whole, again))
        facts = self.defined.facts(missing=missing, seconds=seconds, interrupted=run.interrupted, notes=run.notes)
        return Experiment(results, facts, metrics=self.metrics, scores=scores, notes=run.notes)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Whatever is raised inside says which experiment it was."""
        try:
            yield
        except BaseException as error:
            self._broken_off(error)
            name = self.defined.id
            with suppress(AttributeError):  # a class with slots
                error.experiment_id = name  # type: ignore[attr-defined]
            error.add_note(f"experiment {name}: what has ended is kept; tracekeeper.resume({name!r}, …) does the rest")
            raise

    def _broken_off(self, error: BaseException) -> None:
        """Write down that the run was not through. What it had done is written down already."""
        notes = [*self.run.notes, f"it was ended by {failures.text_of(error)}"]
        whole = {"seconds": round(time.monotonic() - self.since, 6), "interrupted": True, "notes": notes}
        try:
            runtime.keeper().write(whole_frame(self.defined.id, ItemStatus.CANCELLED, whole, self.again))
        except Exception as trouble:  # what is on its way to the caller says more
            log.warning("tracekeeper: experiment %s: that it was ended is not kept", self.defined.id, exc_info=trouble)


def _begun(data: Any, task: Callable[..., Any], given: Mapping[str, Any]) -> Begun:
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
    made = made_for(plan, options)
    defined = _define(plan, options, whole)
    repeats = options["repeats"]
    work = [
        (item, repeat, place * repeats + repeat) for place, item in enumerate(plan.items) for repeat in range(repeats)
    ]
    run = run_of(defined, plan, work, options, made)
    return Begun(defined, run, len(work), {}, plan.metrics, whole, time.monotonic())


def _define(plan: Plan, options: Mapping[str, Any], whole: Sequence[Metric]) -> Defined:
    """Give it an id, and write down what it is asked to do."""
    started = time.time()
    data = {
        "items": [item.id for item in plan.items],
        "contents": contents_of(plan.items),
        "dataset": plan.dataset,
        "dataset_version": plan.dataset_version,
        "chosen": plan.chosen,
        "task": plan.task.name,
        "task_version": plan.task.version,
        "metrics": [msgspec.to_builtins(one) for one in metric_facts(plan.metrics).values()],
        "run_metrics": names_of(whole),
        "options": {name: options[name] for name in KEPT},
        "project": settings().project,
        "started": started,
    }
    made = Defined(ids.span_id().hex(), options["name"] or plan.task.name, started, data)
    runtime.keeper().define(Definition("experiment", made.id, made.name, msgspec.json.encode(data)))
    return made


class Made(NamedTuple):
    """Who makes the calls, and what is called so that they are made there."""

    executor: Executor
    target: Callable[..., Any]


def made_for(plan: Plan, options: Mapping[str, Any]) -> Made:
    """Before anything is written: what cannot be sent is said now."""
    executor: Executor = options["executor"]
    how = {name: options[name] for name in ("concurrency", "timeout", "retries")}
    if options["executor"] == "local":
        executor = process_executor(**how) if options["isolation"] == "process" else LocalExecutor(**how)
    elif options["executor"] == "ray":
        executor = ray_executor(**how)
    target = plan.task.target
    return Made(executor, executor.sent(target) if isinstance(executor, Elsewhere) else target)


def run_of(
    defined: Defined,
    plan: Plan,
    work: Sequence[tuple[Item, int, int]],
    options: Mapping[str, Any],
    made: Made,
    before: Mapping[int, Before] | None = None,
) -> Run:
    """A run that has not begun. ``before``: by place, what is known of items that were called before."""
    task = plan.task
    app = TaskApp(made.target, name=task.name, version=task.version, metrics=plan.metrics)
    progress = RunProgress(defined.name, len(work)) if options["progress"] else None
    return Run(
        defined.id,
        app,
        work,
        made.executor,
        max_failures=options["max_failures"],
        budget=options["budget"],
        progress=progress,
        on_result=options["on_result"],
        before=before,
    )
