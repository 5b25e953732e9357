"""All results of a run, and what can be asked of them: the base of ``Experiment``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, overload

from tracekeeper.evaluation import reports
from tracekeeper.evaluation.accounts import failing, metric_names
from tracekeeper.evaluation.comparison import Comparison, compare
from tracekeeper.evaluation.facts import MetricFacts, RunFacts, metric_facts
from tracekeeper.evaluation.failing import raise_for
from tracekeeper.evaluation.grouping import By, Groups, grouped
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.summary import Totals, totals
from tracekeeper.evaluation.tables import items_table
from tracekeeper.judging import Metric
from tracekeeper.reading.tables import Table
from tracekeeper.render import should_color
from tracekeeper.types import ItemStatus, Score

if TYPE_CHECKING:
    import pandas

    from tracekeeper.evaluation.gates import Decision


class Results:
    """The calls of a run in dataset order, with their scores, and what they say.

    It is complete data: nothing is read later, so two looks never differ.

    Parameters
    ----------
    items:
        One ``ItemResult`` for each call, in dataset order, calls of one item in the order of ``repeat``.
    facts:
        What is known of the run besides.
    metrics:
        The metrics of the run, or their facts by name. A metric that gave no score at all is in every summary because
        it is named here.
    scores:
        Of the run as a whole.

    Example
    -------
    >>> from tracekeeper.types import Score
    >>> calls = [
    ...     ItemResult(item_id="ie", status=ItemStatus.OK, output="Dublin", scores={"exact": Score(True)}),
    ...     ItemResult(item_id="fr", status=ItemStatus.OK, output="Lyon", scores={"exact": Score(False)}),
    ...     ItemResult(item_id="at", status=ItemStatus.TIMED_OUT, reason="no answer within 10 s"),
    ... ]
    >>> results = Results(calls, RunFacts(name="capitals"))
    >>> exact = results.summary().metrics["exact"]
    >>> exact.mean, exact.counts
    (0.5, {'scored': 2, 'skipped': 1})
    >>> [call.item_id for call in results.failures], results.complete
    (['at'], True)
    """

    def __init__(
        self,
        items: Iterable[ItemResult],
        facts: RunFacts | None = None,
        *,
        metrics: Iterable[Metric] | Mapping[str, MetricFacts] = (),
        scores: Mapping[str, Score] | None = None,
    ) -> None:
        self._items = tuple(items)
        self.facts = facts if facts is not None else RunFacts(missing=_open(self._items))
        self.metrics = dict(metrics) if isinstance(metrics, Mapping) else metric_facts(metrics)
        self.scores = dict(scores or {})
        """Of the run as a whole: what its ``experiment_metrics`` gave, by name."""

    @classmethod
    def from_json(cls, path: str | Path) -> Results:
        """Read what ``to_json`` wrote, e.g. the baseline of a build that another machine made.

        Raises
        ------
        ValueError
            When the file holds no results, or those of a newer format.
        OSError
            When it cannot be read.
        """
        items, facts, metrics, scores = reports.files.from_json(Path(path).read_bytes())
        return Results(items, facts, metrics=metrics, scores=scores)

    # What there is.

    @property
    def items(self) -> Sequence[ItemResult]:
        """One result for each call, in dataset order."""
        return self._items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[ItemResult]:
        return iter(self._items)

    @property
    def id(self) -> str:
        """Of the experiment; ``""``: none."""
        return self.facts.id

    @property
    def name(self) -> str:
        """Of the experiment; ``""``: none."""
        return self.facts.name

    @property
    def missing(self) -> int:
        """Calls that have no final state."""
        return max(self.facts.missing, _open(self._items))

    @property
    def complete(self) -> bool:
        """Whether every call has ended, one way or another."""
        return self.missing == 0

    @property
    def failures(self) -> list[ItemResult]:
        """The calls that ended other than well, or that a metric could not judge (declining is no failure)."""
        return [result for result in self._items if failing(result)]

    @property
    def metric_names(self) -> list[str]:
        """The run's metrics, then those that scores name besides."""
        return metric_names(self._items, self.metrics)

    # What it says.

    @overload
    def summary(self, by: None = None) -> Totals: ...
    @overload
    def summary(self, by: By) -> Groups: ...
    def summary(self, by: By | None = None) -> Totals | Groups:
        """Sum up, as a whole or by group.

        Parameters
        ----------
        by:
            ``"tags"`` (an item with several tags is in several groups), ``"split"``, ``"status"``, the name of a
            field of the items (``"a.b"`` for one within a field), or a function of an ``ItemResult``.

        Raises
        ------
        ValueError
            When no item has the field.
        """
        if by is None:
            return self._totals
        name, groups, note = grouped(self._items, by)
        names = self.metric_names
        return Groups(name, {group: totals(found, self.metrics, names) for group, found in groups.items()}, note)

    @cached_property
    def _totals(self) -> Totals:
        return totals(self._items, self.metrics)

    def compare(self, baseline: Results) -> Comparison:
        """What is different from an earlier run, item by item, and whether that is more than noise.

        Items are matched by id; those whose fields changed are named and left out of the differences. Positive
        differences mean that this run has the higher values.

        Raises
        ------
        TypeError
            The baseline is no results, such as a name: ``tk.Experiment.load(name)`` has those of an experiment.
        """
        given: object = baseline
        if not isinstance(given, Results):
            hint = f": tk.Experiment.load({given!r}) reads them" if isinstance(given, str) else ""
            raise TypeError(f"compare: expected the results of an earlier run, got {type(given).__name__}{hint}")
        return compare(self, baseline)

    def raise_for_failures(self) -> None:
        """Raise if there are failures or calls without a final state.

        Raises
        ------
        ItemsFailedError
            Names the first of them with what went wrong; has all in ``failures``.
        """
        raise_for(self.failures, missing=self.missing, calls=len(self._items), facts=self.facts)

    # For people.

    def text(self, *, rows: int | None = None, width: int | None = None, color: bool | None = None) -> str:
        """What ``print`` prints; of the calls at most ``rows``."""
        return reports.terminal.text(self, rows=rows, width=width, color=color)

    def print(self, *, file: IO[str] | None = None, width: int | None = None, color: bool | None = None) -> None:
        """Print the summary and the failures.

        Parameters
        ----------
        file:
            Default: standard output.
        width:
            Characters a line may have; default: that of the terminal.
        color:
            Default: when the output is a terminal.
        """
        file = file or sys.stdout
        print(self.text(width=width, color=should_color(file) if color is None else color), file=file)

    def __repr__(self) -> str:
        return self.text(rows=5, color=False)

    def _repr_html_(self) -> str:
        return reports.terminal.notebook(self)

    # For programs.

    @property
    def table(self) -> Table[ItemResult]:
        """A row for each call: status, input, output, and for each metric its value, status and reason."""
        return items_table(self._items, self.metric_names, self.facts.note)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each call, with nullable types: what is missing is ``<NA>`` beside a status, never NaN.

        Raises
        ------
        MissingExtraError
            When pandas is not installed.
        """
        return self.table.to_pandas()

    def to_csv(self, path: str | Path | None = None, *, formulas: bool = False) -> str | None:
        """Write a CSV file (RFC 4180, UTF-8), a row for each call; without ``path`` return its text.

        Parameters
        ----------
        path:
            Where to.
        formulas:
            ``True``: text that a spreadsheet would compute, such as ``=1+1``, without the apostrophe before it.
        """
        return _given(reports.files.as_csv(self, formulas=formulas), path)

    def to_json(self, path: str | Path | None = None, *, indent: int = 0) -> str | None:
        """Write facts, summary and calls as one JSON object; without ``path`` return its text.

        The format is documented in ``docs/results.md``. It has no NaN: what is missing is ``null`` beside its status.
        """
        return _given(reports.files.as_json(self, indent=indent), path)

    def to_markdown(self, path: str | Path | None = None) -> str | None:
        """Write the summary and the failures as Markdown, e.g. for a pull request; without ``path`` return its text."""
        return _given(reports.markdown.results(self), path)

    def to_html(self, path: str | Path | None = None, *, baseline: Results | None = None) -> str | None:
        """Write one page that opens without a server and without a network; without ``path`` return its text.

        Parameters
        ----------
        path:
            Where to.
        baseline:
            An earlier run: then the page compares, regressed items first.
        """
        return _given(reports.page.html(self, baseline), path)

    def to_junit(
        self,
        path: str | Path | None = None,
        *,
        thresholds: Mapping[str, float] | None = None,
        decision: Decision | None = None,
    ) -> str | None:
        """Write JUnit XML, a test for each call; without ``path`` return its text.

        A call that failed and a metric that could not judge are *errors*; a value on the wrong side of its threshold
        is a *failure*; what never ran is *skipped*.

        Parameters
        ----------
        path:
            Where to.
        thresholds:
            By metric: the worst value that passes (the highest one of a metric to be minimized).
        decision:
            Of ``gates.decide``: then a second suite has a test for each gate, which fails when the gate does.

        Raises
        ------
        ValueError
            When a metric of that name is not there.
        """
        return _given(reports.junit.xml(self, thresholds or {}, decision), path)


def _open(results: Iterable[ItemResult]) -> int:
    return sum(result.status in (ItemStatus.PENDING, ItemStatus.RUNNING) for result in results)


def _given(text: str, path: str | Path | None) -> str | None:
    if path is None:
        return text
    Path(path).write_text(text, encoding="utf-8", newline="")
    return None
