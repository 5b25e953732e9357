"""What the tests of clients share: a keeper that is looked into, the local server, and which library is traced."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.support.fake_keeper import FakeKeeper, faked

import tracekeeper as tk
from tracekeeper.integrations import registry
from tracekeeper.tracing import capture

OFFLINE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "",
    "OTEL_SDK_DISABLED": "",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_TESTING": "true",
    "DO_NOT_TRACK": "1",
    "ANONYMIZED_TELEMETRY": "False",
    "AWS_EC2_METADATA_DISABLED": "true",
    "PYTHON_DOTENV_DISABLED": "1",
}
"""Libraries neither phone home nor look into the network while they are tested."""


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OFFLINE.items():
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name, raising=False)


@contextmanager
def traced(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[FakeKeeper]:
    """The libraries' calls go to a keeper whose frames the test reads; none of them may leave a span open."""
    with faked(monkeypatch) as keeper:
        shown = {row.name: row for row in tk.instrument(*names)}
        assert shown[names[0]].state == "active", shown
        assert {row.state for row in shown.values()} <= {"active", "waiting"}, shown
        try:
            yield keeper
            gc.collect()
        finally:
            registry.forget()


def fixture(*names: str) -> Callable[..., Any]:
    """A pytest fixture of ``traced``."""

    @pytest.fixture
    def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKeeper]:
        offline(monkeypatch)
        with traced(monkeypatch, *names) as keeper:
            yield keeper

    return seen


def tree(keeper: FakeKeeper) -> list[str]:
    """Every span as ``parent > name kind status``, in the order in which they began."""
    names = {start.span_id: start.name for start in keeper.starts}
    ends = {end.span_id: end.status for end in keeper.ends}
    return [
        f"{names.get(start.parent_id, '') if start.parent_id else ''} > {start.name} {start.kind} "
        f"{ends.get(start.span_id, 'open')}"
        for start in keeper.starts
    ]


def kinds(keeper: FakeKeeper) -> list[str]:
    return [start.kind for start in keeper.starts]


def attributes(keeper: FakeKeeper, name: str = "") -> dict[str, Any]:
    """Of the one span whose name ends so: what was said at the beginning and at the end."""
    start, end = keeper.start(name), keeper.end(name)
    found: dict[str, Any] = {}
    for data in (start.attributes, end.attributes):
        if data is not None:
            found.update(capture.decode(data))
    return found
