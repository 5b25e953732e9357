"""A keeper that keeps frames in a list: tracing without a journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tracekeeper.journal import frames
from tracekeeper.journal.frames import Definition, SpanCheckpoint, SpanEnd, SpanStart
from tracekeeper.tracing import capture, runtime, trouble


class Full:
    """A journal near its cap."""

    accepts_payloads = False

    def __init__(self) -> None:
        self.drops: list[str] = []

    def count_drop(self, reason: str) -> None:
        self.drops.append(reason)


class FakeKeeper:
    """Takes frames as the keeper does: each must survive its encoding."""

    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.journal: Any = None

    def write(self, frame: Any) -> bool:
        self.frames.append(frames.decode(frames.encode(frame)))
        return True

    def define(self, definition: Definition) -> None:
        self.write(definition)

    def of(self, kind: type) -> list[Any]:
        return [frame for frame in self.frames if type(frame) is kind]

    @property
    def starts(self) -> list[SpanStart]:
        return self.of(SpanStart)

    @property
    def ends(self) -> list[SpanEnd]:
        return self.of(SpanEnd)

    @property
    def checkpoints(self) -> list[SpanCheckpoint]:
        return self.of(SpanCheckpoint)

    def start(self, name: str = "") -> SpanStart:
        """The one start (of a span whose name ends so)."""
        [found] = [start for start in self.starts if start.name.endswith(name)]
        return found

    def end(self, name: str = "") -> SpanEnd:
        """The one end (of a span whose name ends so)."""
        [found] = [end for end in self.ends if end.span_id == self.start(name).span_id]
        return found

    def input(self, name: str = "") -> Any:
        data = self.start(name).input
        return None if data is None else capture.decode(data)

    def output(self, name: str = "") -> Any:
        data = self.end(name).output
        return None if data is None else capture.decode(data)

    @property
    def statuses(self) -> list[str]:
        return [end.status for end in self.ends]

    def forget(self) -> None:
        self.frames.clear()


@contextmanager
def faked(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKeeper]:
    """Tracing writes to a fake keeper inside; at the end nothing of tracing may have failed or been left open."""
    made = FakeKeeper()
    monkeypatch.setattr(runtime, "keeper", lambda: made)
    trouble.forget()
    runtime.open_spans.clear()
    yield made
    left = list(runtime.open_spans.values())
    runtime.open_spans.clear()
    failed = trouble.counts()
    trouble.forget()
    assert failed == {}
    assert left == []
    assert len({end.span_id for end in made.ends}) == len(made.ends), "a span was ended twice"
