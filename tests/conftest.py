"""Shared by all tests: a clean configuration for each, and the two sizes of the repeated ones."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fake_keeper import FakeKeeper, faked

from tracekeeper import configuration
from tracekeeper.tracing import runtime, trouble

FULL = os.environ.get("TRACEKEEPER_COUNTS") == "full"
"""``make guarantees`` runs the repeated tests at their stated counts, ``make test`` in a short, seeded form."""


def pytest_configure() -> None:
    # A shell's background job ignores Ctrl-C, and so would every program that a test starts and interrupts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if FULL:
        return
    for item in items:
        if item.get_closest_marker("counts"):
            item.add_marker(pytest.mark.skip(reason="only at the stated counts: make guarantees"))


@pytest.fixture(autouse=True)
def _clean_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reads the settings, the environment or the data directory of another or of the machine."""
    before = set(runtime.keepers())
    for name in list(os.environ):
        if name.startswith("TRACEKEEPER_") and name != "TRACEKEEPER_COUNTS":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    configuration.reset()
    trouble.forget()  # what other tests brought about on purpose
    yield
    for left in set(runtime.keepers()) - before:  # of a test that traced without a keeper of its own
        runtime.discard(left, timeout=5)
    configuration.reset()


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[object]:
    """A keeper of the test's own: real journal, real database, all shipped and closed at the end."""
    from tracekeeper.testing import temporary_keeper

    with temporary_keeper(tmp_path / "data") as made:
        yield made


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKeeper]:
    """What tracing wrote: it goes to a keeper that keeps frames, without a journal."""
    with faked(monkeypatch) as made:
        yield made
