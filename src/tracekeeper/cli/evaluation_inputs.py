"""What ``tracekeeper evaluate`` is given, looked at before the first call: task, baseline, limits, files to write."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracekeeper.cli.arguments import suggestion
from tracekeeper.evaluation.datasets.dataset import Dataset
from tracekeeper.evaluation.datasets.given import items_of_file
from tracekeeper.evaluation.datasets.listing import datasets
from tracekeeper.evaluation.experiment import Experiment
from tracekeeper.evaluation.gates import limit_of
from tracekeeper.evaluation.item import Item
from tracekeeper.evaluation.results import Results
from tracekeeper.evaluation.whole import run_metrics
from tracekeeper.judging import Metric
from tracekeeper.metrics.resolving import resolve
from tracekeeper.scoring.worker.importing import import_modules
from tracekeeper.types import ConfigurationError, DatasetError, ExperimentError

FIRST = " (a first run goes without --baseline)"


def task_of(path: str) -> Callable[..., Any]:
    """The task at ``module:name``, from the working directory or what is installed. Importing its module runs it.

    Raises
    ------
    MetricError, ConfigurationError
        There is no such module or name; the nearest is named.
    """
    module, colon, name = path.partition(":")
    if not colon or not name:
        raise ConfigurationError(f"task {path!r}: expected module:name, as in my_app:answer")
    if module.endswith(".py"):
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        raise ConfigurationError(f"task {path!r}: expected the name of a module, as in {dotted}:{name}")
    import_modules([module], option="task")
    found: Any = sys.modules[module]
    for part in name.split("."):
        inner = getattr(found, part, None)
        if inner is None:
            known = [each for each in dir(found) if not each.startswith("_") and callable(getattr(found, each, None))]
            near = difflib.get_close_matches(part, known, n=1)
            hint = f"; did you mean {f'{module}:{near[0]}'!r}?" if near else ""
            raise ConfigurationError(f"task {path!r}: {module!r} has no {part!r}{hint}")
        found = inner
    if not callable(found):
        raise ConfigurationError(f"task {path!r}: it is a {type(found).__name__}, which cannot be called")
    return found  # type: ignore[no-any-return]


def run_metrics_of(names: Sequence[str]) -> tuple[Metric, ...]:
    """Metrics of the run as a whole, at ``module:name`` as one's own metrics of calls are.

    Raises
    ------
    MetricError
        Nothing of that name (the nearest is named), or two that give the same score.
    ConfigurationError
        A built-in metric: those judge calls.
    """
    bare = next((name for name in names if ":" not in name), None)
    if bare is not None:
        raise ConfigurationError(
            f"--experiment-metric {bare}: expected module:name of a function of all results; "
            "the built-in metrics judge calls (--metric)"
        )
    return run_metrics(resolve(name) for name in names)


def data_of(wanted: str) -> Sequence[Item] | Dataset:
    """The items: a file, or else a stored dataset of that name.

    Raises
    ------
    DatasetError
        There is neither, or the file cannot be read as a whole.
    """
    if not Path(wanted).exists():
        known = [one.name for one in datasets()]
        if wanted in known:
            return Dataset(wanted)
        if not Path(wanted).suffix and os.sep not in wanted:
            near = suggestion(wanted, known)
            raise DatasetError(f"--dataset {wanted}: there is no such file or stored dataset{near}")
    return items_of_file(wanted)


def baseline_of(wanted: str) -> Results:
    """The run to compare with: a file that ``--json`` wrote, or an experiment of the store by its id or name.

    Raises
    ------
    ConfigurationError
        There is none. What is not found is never taken for "no baseline yet": a gate would be gone by a typo.
    """
    path = Path(wanted)
    try:
        if path.is_file():
            return Results.from_json(path)
        if path.suffix == ".json" or os.sep in wanted:
            raise ConfigurationError(f"--baseline {wanted}: there is no such file{FIRST}")
        return Experiment.load(wanted)
    except ValueError as error:
        raise ConfigurationError(f"--baseline {wanted}: {error}") from error
    except ExperimentError as error:
        raise ConfigurationError(f"--baseline: {error}{FIRST}") from error


def limits_of(option: str, texts: Sequence[str], names: Mapping[str, str], *, alone: bool) -> dict[str, float]:
    """Limits by metric, as they were typed; ``""`` for a number that stands ``alone``, where it may.

    ``names``: what a metric may be called, by :func:`plain_name`, and the name of its score.

    Raises
    ------
    ConfigurationError
        No limit; a metric that the run does not have (the nearest is named); two limits for one metric.
    """
    found: dict[str, float] = {}
    for text in texts:
        try:
            typed, value = limit_of(text)
        except ValueError as error:
            raise ConfigurationError(f"{option}: {error}") from error
        name = names.get(plain_name(typed)) if typed else ""
        if name is None:
            known = list(dict.fromkeys(names.values()))
            if not known:
                raise ConfigurationError(f"{option} {text}: the run has no metrics; name them by --metric")
            raise ConfigurationError(f"{option} {text}: the run has no metric {typed!r}{suggestion(typed, known)}")
        if not name and not alone:
            raise ConfigurationError(f"{option} {text}: of which metric? write {option} NAME={text}")
        if alone and value < 0:
            raise ConfigurationError(f"{option} {text}: how much is allowed cannot be negative")
        if name in found:
            raise ConfigurationError(f"{option} is given twice for {name or 'all metrics'}")
        found[name] = value
    if "" in found and len(found) > 1:
        raise ConfigurationError(f"{option}: give one number for all metrics, or NAME=NUMBER for some, not both")
    return found


def names_of(metrics: Iterable[Metric], typed: Sequence[tuple[str, Metric]]) -> dict[str, str]:
    """What a limit may call a metric: by the name of its score, or as it was typed after ``--metric``.

    >>> import tracekeeper as tk
    >>> short = tk.metric(lambda output: 1.0, name="short")
    >>> names_of([short], [("my_app.metrics:is_short", short)])
    {'short': 'short', 'isshort': 'short'}
    """
    found = {plain_name(name): name for metric in metrics for name in metric.names}
    for text, metric in typed:
        if len(metric.names) == 1:
            found.setdefault(plain_name(text), metric.names[0])
    return found


def plain_name(text: str) -> str:
    """A name without what people type in two ways: ``OverlapGroundedness`` is ``overlap_groundedness``.

    >>> plain_name("OverlapGroundedness") == plain_name("overlap_groundedness") == plain_name("m:overlap_groundedness")
    True
    """
    return text.rpartition(":")[2].replace("_", "").lower()


def pairs_of(option: str, texts: Iterable[str]) -> dict[str, str]:
    """``NAME=VALUE``, some times.

    Raises
    ------
    ConfigurationError
        One that is none.
    """
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise ConfigurationError(f"{option} {text!r}: expected NAME=VALUE, e.g. {option} reference=gold_answer")
        found[name.strip()] = value.strip()
    return found


def place_for(option: str, path: str | None) -> Path | None:
    """A file to be written when the run is over; folders above it are made now.

    Raises
    ------
    ConfigurationError
        It is a folder, or cannot be written.
    """
    if path is None:
        return None
    place = Path(path)
    if not path or place.is_dir():
        raise ConfigurationError(f"{option} {path}: expected a file to write, this is a folder")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{option} {path}: {error.strerror or error}") from error
    if not os.access(place if place.exists() else place.parent, os.W_OK):
        raise ConfigurationError(f"{option} {path}: it cannot be written")
    return place
