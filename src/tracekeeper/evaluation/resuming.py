"""``tk.resume`` and ``tk.rerun_failures``: go on with an experiment, over the same items, under the same id.

These are the doors, each also to be awaited; ``going_on`` decides which calls are to be made and hands them to a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tracekeeper.evaluation.executors.executor import Executor
from tracekeeper.evaluation.experiment import Experiment
from tracekeeper.evaluation.given_again import Given
from tracekeeper.evaluation.going_on import FAILED, CallOutcome, rerun, resumed
from tracekeeper.evaluation.options import ExecutorName
from tracekeeper.evaluation.plan import GivenMetric
from tracekeeper.evaluation.whole import RunMetric, run_metrics


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
    given = Given(task, metrics, data, mapping, run_metrics(experiment_metrics), progress, executor)
    return resumed(experiment, given).done()


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
    given = Given(task, metrics, data, mapping, run_metrics(experiment_metrics), progress, executor)
    return await (await asyncio.to_thread(resumed, experiment, given)).adone()


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
    given = Given(task, metrics, data, mapping, run_metrics(experiment_metrics), progress, executor)
    return rerun(experiment, given, outcomes).done()


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
    given = Given(task, metrics, data, mapping, run_metrics(experiment_metrics), progress, executor)
    return await (await asyncio.to_thread(rerun, experiment, given, outcomes)).adone()
