"""The pytest plugin: a keeper of a test's own, and evaluations as tests.

Installed with the package (entry point ``pytest11``), so it is imported in every test run on the machine: it imports
nothing of Tracekeeper until a test uses a fixture or the mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tracekeeper.evaluation.experiment import Experiment
    from tracekeeper.evaluation.result import ItemResult
    from tracekeeper.tracing.runtime import Keeper

MARK = "tracekeeper_evaluate"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line(
        "markers",
        f"{MARK}(data, task, **options): a test for each item of the data, which gets the result of its call as "
        "tracekeeper_result; options are those of tracekeeper.evaluate, and allow_failures=True",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each item of a mark's data."""
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark is not None:
        from tracekeeper.testing import evaluating

        evaluating.parametrize(metafunc, mark)


@pytest.fixture
def tracekeeper_keeper() -> Iterator[Keeper]:
    """Everything traced in this test goes to a temporary directory, which is removed after it."""
    from tracekeeper.testing.temporary import temporary_keeper

    with temporary_keeper() as keeper:
        yield keeper


@pytest.fixture
def tracekeeper_result(request: pytest.FixtureRequest) -> ItemResult:
    """The result of the item that this test is for (see the mark ``tracekeeper_evaluate``).

    A call that failed, or that a metric could not judge, fails the test, unless the mark has ``allow_failures=True``.
    """
    from tracekeeper.testing import evaluating

    return evaluating.result_of(request)


@pytest.fixture
def tracekeeper_evaluate(request: pytest.FixtureRequest) -> Callable[..., Experiment]:
    """``tracekeeper_evaluate(data, task, metrics=[…])``: an experiment, whose summary is shown when the test fails.

    As ``tracekeeper.evaluate``; data may be the path of a file, too, and the name is the test's by default.
    """
    from tracekeeper.testing import evaluating

    return evaluating.evaluator(request)
