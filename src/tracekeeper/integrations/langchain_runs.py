"""The runs of LangChain and LangGraph that are under way, and how each of them ends once.

LangChain says of most runs how they end. Of some it never does: an async generator whose loop is closed, a task that
is dropped. Its run manager lives in the frame of the run's own code, so a run belongs to its run manager here, and
ends with it at the latest.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from tracekeeper.conventions.langchain import ChunkReader, plain, text_of
from tracekeeper.integrations.runs import Entered
from tracekeeper.tracing.chunks import Chunks
from tracekeeper.tracing.responses import Received
from tracekeeper.tracing.spans import Span
from tracekeeper.types import SpanStatus


class Run:
    """One run.

    ``span`` is ``None`` before it has begun, and for what LangGraph hides; ``above`` is what its children get.
    """

    __slots__ = ("__weakref__", "above", "entered", "left", "reader", "span")

    def __init__(self) -> None:
        self.span: Span | None = None
        self.above: Span | None = None
        self.entered: Entered | None = None
        self.left = False
        """Whether the consumer of its stream has gone."""
        self.reader: ChunkReader | None = None

    def leave(self) -> None:
        """Its span is no longer current here."""
        if self.entered is not None:
            self.entered.leave()

    def chunk(self, chunk: Any) -> None:
        """A model's run gives a piece of its answer."""
        self.leave()  # what follows is the consumer's
        span = self.span
        if span is None or not span.is_open():
            return
        if self.reader is None:
            self.reader = ChunkReader()
            span.chunks = Received(span, self.reader)
        received = span.chunks
        if isinstance(received, Received):
            received.take(chunk)

    def piece(self, piece: Any) -> None:
        """A chain's run gives a piece of its result. Its usage is the model's, which has a run of its own."""
        span = self.span
        if span is None or not span.is_open():
            return
        if span.chunks is None:
            span.chunks = Chunks(span)
        text = text_of(piece if isinstance(piece, str) else getattr(piece, "content", None))
        span.chunks.add(plain(piece) if text is None else text)

    def __del__(self) -> None:
        span = self.span
        if span is not None:
            span.close(SpanStatus.ABANDONED, quiet=True)


class Runs:
    """By their ids. A run that has no manager yet, or never gets one, is held until it ends."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[UUID, Run] = WeakValueDictionary()
        self._unowned: dict[UUID, Run] = {}

    def begin(self, run_id: UUID) -> Run:
        """The run that begins."""
        run = self._known.get(run_id)
        if run is None:
            run = self._known[run_id] = self._unowned[run_id] = Run()
        return run

    def own(self, manager: Any, run_id: UUID) -> None:
        """The run lives as long as its manager, or another one of its managers."""
        run = self._unowned.pop(run_id, None) or self._known.get(run_id)
        if run is None:
            run = self._known[run_id] = Run()  # an async manager is made before the handlers are told
        manager._tracekeeper_run = run

    def get(self, run_id: UUID | None) -> Run | None:
        """A run under way."""
        return None if run_id is None else self._known.get(run_id)

    def end(self, run_id: UUID) -> Run | None:
        """The run that ends here."""
        self._unowned.pop(run_id, None)
        return self._known.get(run_id)


RUNS = Runs()
"""Of this process."""
elsewhere: ContextVar[bool] = ContextVar("tracekeeper_callbacks_elsewhere", default=False)
"""Whether LangChain calls handlers in a thread of its own just now."""
