"""Evaluations as tests: what the fixtures and the mark of the pytest plugin do.

A mark makes a test for each item of a dataset. The calls are made as one experiment when the first of these tests runs,
many at a time, and each test gets the result of its own item: so a thousand tests take as long as the evaluation does,
and what they show is what is stored. Only the items whose tests were selected (``-k``, ``file::test[id]``) are called.

Under pytest-xdist it is one experiment, too: the worker that comes first runs it, the others wait for a file lock,
which ends with its process, and read the results. When that process died before the end, the next one runs it anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tracekeeper.evaluation.datasets.given import items_of_file
from tracekeeper.evaluation.datasets.items import items_of
from tracekeeper.evaluation.evaluate import evaluate
from tracekeeper.evaluation.experiment import Experiment
from tracekeeper.evaluation.item import Item
from tracekeeper.evaluation.options import checked
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.results import Results
from tracekeeper.types import TracekeeperError

MARK = "tracekeeper_evaluate"
FIXTURE = "tracekeeper_result"
SECTION = "tracekeeper"
OWN = ("allow_failures",)
"""Options of the mark besides those of ``evaluate``."""


class Group:
    """The tests of one mark: its items, and the experiment once it was run."""

    def __init__(self, key: str, name: str, args: Sequence[Any], options: dict[str, Any]) -> None:
        data, self.task = args
        self.key = key
        self.allow_failures = bool(options.pop("allow_failures", False))
        self.options = {"name": name, **options}
        options = checked(self.options)
        for one in ("filter", "sample", "seed"):
            if one in self.options:
                raise TracekeeperError(
                    f"{one}= is not for a test of each item; select tests by -k, or give fewer items"
                )
        self.repeats: int = options["repeats"]
        self.items = items_of_file(data) if isinstance(data, str | Path) else list(items_of(data))
        if not self.items:
            raise TracekeeperError("there are no items to evaluate: the dataset is empty")
        self.results: Results | None = None
        self.error: TracekeeperError | None = None


class Place(NamedTuple):
    """What a test gets: which call of which experiment."""

    group: Group
    item: str
    repeat: int


def group_of(definition: pytest.Function | Any, mark: pytest.Mark) -> Group:
    """The tests of a mark.

    Raises
    ------
    TracekeeperError
        What is wrong with it, in one sentence.
    """
    if len(mark.args) != 2:
        raise TracekeeperError(f"expected @pytest.mark.{MARK}(data, task, metrics=[…]), not {len(mark.args)} arguments")
    return Group(definition.nodeid, definition.nodeid, mark.args, dict(mark.kwargs))


def parametrize(metafunc: pytest.Metafunc, mark: pytest.Mark) -> None:
    """A test for each call. A mark that cannot work is an error of collection, in one sentence."""
    if FIXTURE not in metafunc.fixturenames:
        raise pytest.Collector.CollectError(
            f"{metafunc.definition.nodeid}: @pytest.mark.{MARK} makes a test for each item, which gets its result as "
            f"the argument {FIXTURE}; this test has no such argument"
        )
    try:
        group = group_of(metafunc.definition, mark)
    except TracekeeperError as error:
        raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {error}") from error
    places = [Place(group, item.id, repeat) for item in group.items for repeat in range(group.repeats)]
    ids = [one.item if not one.repeat else f"{one.item}[{one.repeat + 1}]" for one in places]
    metafunc.parametrize(FIXTURE, places, ids=ids, indirect=True)


def result_of(request: pytest.FixtureRequest) -> ItemResult:
    """The result of a test's item; the experiment is run when there is none yet."""
    place: Place | None = getattr(request, "param", None)
    if place is None:
        raise pytest.UsageError(f"{FIXTURE} is for tests with @pytest.mark.{MARK}(data, task, metrics=[…])")
    group = place.group
    if group.error is not None:
        raise group.error
    if group.results is None:
        try:
            group.results = _run_once(request, group)
        except TracekeeperError as error:
            group.error = error
            raise
    [result] = [one for one in group.results if (one.item_id, one.repeat) == (place.item, place.repeat)]
    one = Results([result], metrics=group.results.metrics)
    request.node.add_report_section("call", SECTION, _said(group.results, result))
    if not group.allow_failures:
        one.raise_for_failures()
    return result


def _said(results: Results, result: ItemResult) -> str:
    lines = [f"experiment {results.name!r} ({results.id})", f"input: {dict(result.fields)!r}"]
    lines.append(f"output: {result.output!r}" if result.ok else f"{result.status}: {result.error or result.reason}")
    for name, score in result.scores.items():
        why = score.error or score.reason
        value = score.status if score.value is None else score.value
        lines.append(f"{name}: {value}" + (f" ({why})" if why else ""))
    return "\n".join(lines)


def _selected(session: pytest.Session, group: Group) -> list[Item]:
    wanted = {
        place.item
        for test in session.items
        if isinstance(place := getattr(getattr(test, "callspec", None), "params", {}).get(FIXTURE), Place)
        and place.group is group
    }
    return [item for item in group.items if item.id in wanted]


def _run_once(request: pytest.FixtureRequest, group: Group) -> Results:
    run = _run_of_workers(request)
    if run is None:
        return _evaluated(request, group)
    name = hashlib.sha256(group.key.encode()).hexdigest()[:16]
    kept = run / f"tracekeeper-{name}.json"
    with _alone(run / f"tracekeeper-{name}.lock"):
        if not kept.exists():
            made = run / f"tracekeeper-{name}.{os.getpid()}"
            _evaluated(request, group).to_json(made)
            made.replace(kept)
    return Results.from_json(kept)


def _evaluated(request: pytest.FixtureRequest, group: Group) -> Results:
    return evaluate(_selected(request.session, group), group.task, **group.options)


def _run_of_workers(request: pytest.FixtureRequest) -> Path | None:
    """A folder that the workers of this run share; ``None``: it has no workers."""
    if os.environ.get("PYTEST_XDIST_WORKER") is None:
        return None
    factory = request.getfixturevalue("tmp_path_factory")
    return Path(factory.getbasetemp()).parent


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the system lets go of it when its holder dies."""
    with path.open("ab") as file:
        try:
            import fcntl
        except ImportError:
            import msvcrt

            file.seek(0)
            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]
                    break
                except OSError:  # it gives up after ten seconds
                    continue
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def evaluator(request: pytest.FixtureRequest) -> Callable[..., Experiment]:
    """``tk.evaluate`` for a test: named by the test, its summary among what pytest shows of a test that failed."""

    def run(data: Any, task: Callable[..., Any], **options: Any) -> Experiment:
        items = items_of_file(data) if isinstance(data, str | Path) else data
        experiment = evaluate(items, task, **{"name": request.node.nodeid, **options})
        request.node.add_report_section("call", SECTION, experiment.text(color=False, width=100))
        return experiment

    return run
