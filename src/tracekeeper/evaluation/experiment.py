"""A run of ``evaluate`` and everything that became of it: its results, and what can still be done with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from tracekeeper.evaluation import stored
from tracekeeper.evaluation.facts import MetricFacts, RunFacts
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.results import Results
from tracekeeper.evaluation.running.task_app import PREFIX
from tracekeeper.judging import Metric, as_metrics
from tracekeeper.judging.making import check_listed
from tracekeeper.reading.rescoring import rescore
from tracekeeper.types import Score


class Experiment(Results):
    """The results of ``tk.evaluate``, from the run itself or from the store.

    What it has from ``Results``: ``items`` in dataset order, ``failures``, ``missing``, ``complete``, ``summary()``,
    ``compare(baseline)``, ``print()``, ``to_pandas()``, ``to_json()``, ``to_csv()``, ``to_markdown()``, ``to_html()``,
    ``to_junit()`` and ``raise_for_failures()``.

    Example
    -------
    >>> import tracekeeper as tk
    >>> experiment = tk.evaluate([{"question": "1 + 1?", "expected": "2"}], lambda question: "2",
    ...                          metrics=["exact_match"], name="doc-experiment")
    >>> experiment.summary().metrics["exact_match"].mean, experiment.complete
    (1.0, True)
    >>> Experiment.load("doc-experiment").items[0].output
    '2'
    """

    def __init__(
        self,
        items: Iterable[ItemResult],
        facts: RunFacts,
        *,
        metrics: Iterable[Metric] | Mapping[str, MetricFacts] = (),
        scores: Mapping[str, Score] | None = None,
        notes: Iterable[str] = (),
    ) -> None:
        super().__init__(items, facts, metrics=metrics, scores=scores)
        self.notes = list(notes)
        """Why the run ended early, in sentences; empty when it did not."""

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C, an exception or the death of its process ended the run before it was through.

        Of one that was resumed: whether that happened to the last that went on with it. A run that ``max_failures`` or
        ``budget`` stopped ended as it was told to; ``complete`` and ``missing`` say what lacks.
        """
        return self.facts.interrupted

    @classmethod
    def load(cls, wanted: str) -> Self:
        """An experiment as the store has it.

        Parameters
        ----------
        wanted:
            Its id, or its name: then the newest of that name.

        Raises
        ------
        ExperimentError
            There is none; the nearest is named.
        StoreError
            The database cannot be read.
        """
        found = stored.found(wanted)
        missing = sum(not stored.ended(one) for one in found.results)
        facts = found.defined.facts(
            missing=missing, seconds=found.seconds, interrupted=found.interrupted, notes=found.notes
        )
        return cls(found.results, facts, metrics=found.defined.metrics, scores=found.scores, notes=found.notes)

    def rescore(self, metrics: Iterable[Metric | Callable[..., Any] | str], *, again: bool = False) -> Experiment:
        """Judge the outputs that there are by other metrics, without running the task; gives the experiment anew.

        Parameters
        ----------
        metrics:
            As ``tk.rescore`` takes them. A metric of the run in a new version is another score of the same name.
        again:
            Also what the same version has judged before.

        Raises
        ------
        MetricError, StoreError
            As ``tk.rescore``.
        """
        check_listed(metrics, "rescore")
        metrics = list(metrics)
        rescore(f'tag = "{PREFIX}{self.id}"', metrics, again=again)
        fresh = Experiment.load(self.id)
        known = {name for one in as_metrics([m for m in metrics if not isinstance(m, str)]) for name in one.names}
        for name in known - fresh.metrics.keys():
            fresh.metrics[name] = MetricFacts(name=name)
        return fresh
