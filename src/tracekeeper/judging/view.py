"""What a metric may see of a record: plain data, the same in the process that made it, in a worker and in a re-score.

A view says of every field whether it is whole: ``cut`` names fields that were truncated at the capture limit and
``missing`` those that were not captured at all, so that a metric is skipped with that reason instead of judging half
a text. Spans are fetched only when something asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import msgspec

from tracekeeper.types import TracekeeperError


class CannotBind(TracekeeperError):
    """A metric cannot be computed on this record. ``reason`` says why; the score is ``skipped`` with it.

    ``unknown`` is the parameter's name when nothing in the record is called so: probably a mistake in the metric.
    """

    def __init__(self, reason: str, unknown: str | None = None) -> None:
        self.reason = reason
        self.unknown = unknown
        super().__init__(reason)


class SpanView(msgspec.Struct, frozen=True, kw_only=True):
    """One span as a selector or a metric sees it.

    Parameters
    ----------
    name, kind, status:
        As traced; ``kind`` is one of the span kinds (``llm``, ``retriever``, …).
    input, output:
        Decoded JSON: the arguments by name, and the result.
    attributes:
        Everything set on the span.
    context:
        Documents that the span retrieved, if any.
    error:
        ``Type: message`` of the exception that ended it.
    latency:
        Seconds; ``None`` while running.
    span_id, parent_id:
        Hex text.
    cut:
        Which of ``input``, ``output`` and ``context`` were truncated.
    """

    name: str
    kind: str = "task"
    status: str = "ok"
    input: Any = None
    output: Any = None
    attributes: Mapping[str, Any] = {}
    context: Sequence[Any] | None = None
    error: str | None = None
    latency: float | None = None
    model: str | None = None
    span_id: str = ""
    parent_id: str | None = None
    cut: frozenset[str] = frozenset()


class RecordView:
    """One record as a metric sees it: what a metric's parameters are bound from, and what ``record`` gives.

    Parameters
    ----------
    input:
        The call's arguments by name (a mapping), or whatever a logged record had as its input.
    output:
        The result; of a stream the joined text.
    context:
        Retrieved documents: texts, or mappings with ``content``. ``None``: nothing was retrieved; ``[]``: retrieval
        found nothing.
    expected:
        The expected output, ``None`` when there is none; the item's field ``expected`` when it is not given.
    item:
        The dataset item's fields.
    spans:
        The record's spans in the order of their start (its own span included), or a function that fetches them,
        called at most once per reader.
    latency:
        Seconds; ``None`` when the end is not known.
    error:
        ``Type: message`` of the exception that ended the call.
    cut:
        Which of ``input``, ``output``, ``context`` and ``expected`` were truncated at the capture limit.
    missing:
        Which of them were not captured.
    """

    __slots__ = (
        "_spans",
        "app",
        "attributes",
        "context",
        "cut",
        "error",
        "expected",
        "input",
        "item",
        "latency",
        "metadata",
        "missing",
        "name",
        "output",
        "session_id",
        "span_id",
        "status",
        "tags",
        "trace_id",
        "user_id",
        "version",
    )

    def __init__(
        self,
        *,
        input: Any = None,
        output: Any = None,
        context: Sequence[Any] | Mapping[str, Any] | None = None,
        expected: Any = None,
        item: Mapping[str, Any] | None = None,
        spans: Iterable[SpanView] | Callable[[], Iterable[SpanView]] = (),
        name: str = "",
        app: str | None = None,
        version: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        tags: Iterable[str] = (),
        latency: float | None = None,
        status: str = "ok",
        error: str | None = None,
        trace_id: str = "",
        span_id: str = "",
        cut: Iterable[str] = (),
        missing: Iterable[str] = (),
        attributes: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.input = input
        self.output = output
        # A single document given bare must not fall apart into characters or keys.
        self.context = [context] if isinstance(context, str | Mapping) else None if context is None else list(context)
        self.item: dict[str, Any] = dict(item or {})
        self.expected = self.item.get("expected") if expected is None else expected
        self._spans = spans if callable(spans) else tuple(spans)
        self.name = name
        self.app = app
        self.version = version
        self.session_id = session_id
        self.user_id = user_id
        self.tags = tuple(tags)
        self.latency = latency
        self.status = str(status)
        self.error = error
        self.trace_id = trace_id
        self.span_id = span_id
        self.cut = frozenset(cut)
        self.missing = frozenset(missing)
        self.attributes: dict[str, Any] = dict(attributes or {})
        self.metadata: dict[str, Any] = dict(metadata or {})

    @property
    def spans(self) -> tuple[SpanView, ...]:
        """The record's spans in the order of their start."""
        held = self._spans
        if callable(held):
            # Two readers may fetch at once; both get the same spans, so no lock is worth its cost here.
            held = tuple(held())
            self._spans = held
        return held

    def without_spans(self) -> Self:
        """The same view for a metric that does not look at spans: they are not fetched."""
        self._spans = ()
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # With its spans, because what fetches them stays in this process.
        held = {name: self.spans if name == "_spans" else getattr(self, name) for name in RecordView.__slots__}
        return _unpickled, (type(self), held)

    def __repr__(self) -> str:
        label = f"{self.app} {self.version or ''}".strip() if self.app else self.name
        return f"<RecordView {label or 'record'} {self.status} {self.trace_id[:8]}>"


class SessionView(RecordView):
    """A session as a metric sees it. Its own fields (``turns``, ``session_id``) come before its first turn's input."""

    __slots__ = ()


def _unpickled(kind: type[RecordView], held: dict[str, Any]) -> RecordView:
    made = kind.__new__(kind)
    for name, value in held.items():
        setattr(made, name, value)
    return made
