"""What is known of a run besides its items: which metrics it had, over what, and when."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tracekeeper.judging import Metric


class MetricFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What reading scores needs to know of the metric that gave them.

    Attributes
    ----------
    name:
        Of the score: ``metric``, or ``metric.part`` for one that gives several.
    version:
        Of the metric; ``""``: unknown.
    direction:
        ``maximize``: higher is better. ``minimize``: lower is. ``None``: not said.
    low, high:
        The bounds of its values, where it has any.
    """

    name: str
    version: str = ""
    direction: str | None = None
    low: float | None = None
    high: float | None = None

    @property
    def lower_is_better(self) -> bool:
        """Whether a smaller value is the better one. A direction that is not said is taken as higher is better."""
        return self.direction == "minimize"


def metric_facts(metrics: Iterable[Metric]) -> dict[str, MetricFacts]:
    """The facts of metrics by the names of their scores, in order.

    Example
    -------
    >>> import tracekeeper as tk
    >>> facts = metric_facts([tk.metric(len, name="length", direction="minimize", version="1")])
    >>> facts["length"].lower_is_better
    True
    """
    found = {}
    for metric in metrics:
        low, high = metric.range or (None, None)
        for name in metric.names:
            found[name] = MetricFacts(name=name, version=metric.version, direction=metric.direction, low=low, high=high)
    return found


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run besides its items.

    Attributes
    ----------
    id, name:
        Of the experiment.
    dataset, dataset_version:
        ``""``: a plain list.
    task, task_version:
        The app.
    started:
        Unix time in seconds; ``None``: unknown.
    seconds:
        How long it took so far.
    missing:
        Calls that have no final state, as far as the run knows; results count their own besides.
    interrupted:
        Whether Ctrl-C, an exception or the death of its process ended it before it was through.
    project, note:
        Where it belongs, and what its reader must know (e.g. that something could not be stored in time).
    """

    id: str = ""
    name: str = ""
    dataset: str = ""
    dataset_version: str = ""
    task: str = ""
    task_version: str = ""
    started: float | None = None
    seconds: float | None = None
    missing: int = 0
    interrupted: bool = False
    project: str = ""
    note: str | None = None

    @property
    def title(self) -> str:
        """How people call it."""
        return self.name or self.id or "results"
