"""What a record was: the fields of a call, from its frames while this process has them, else from the store.

Read when they are asked for. Texts are kept as they were captured and decoded at each question.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tracekeeper.scoring import stored
from tracekeeper.tracing import capture, runtime
from tracekeeper.types.single import Single

if TYPE_CHECKING:
    from tracekeeper.scoring.stored import StoredRecord
    from tracekeeper.tracing.state import RecordState


class Fields(Single):
    """The fields of one record, by the ids of its trace and of its span."""

    __slots__ = ("__weakref__", "_state", "_stored", "span", "trace")

    # Set by the handle: one is made for every call of an app, and a second constructor would cost half of that again.
    trace: bytes
    span: bytes
    _state: RecordState | None
    _stored: StoredRecord | None

    @property
    def key(self) -> bytes:
        """Identity within the process."""
        return self.trace + self.span

    @property
    def trace_id(self) -> str:
        """Hex text, 32 characters (empty when tracing is disabled)."""
        return self.trace.hex()

    @property
    def span_id(self) -> str:
        """Hex text, 16 characters."""
        return self.span.hex()

    @property
    def enclosing_span_id(self) -> str | None:
        """The span id of the record around this one, when an app was called inside an app."""
        parent = self._state.parent if self._state is not None else None
        return parent.span_id.hex() if parent is not None else None

    @property
    def name(self) -> str:
        """Name of the app or of the traced call."""
        return self._word("name") or ""

    @property
    def app(self) -> str | None:
        """Name of the app, ``None`` outside apps."""
        return self._word("app")

    @property
    def version(self) -> str | None:
        """Version of the app."""
        return self._word("version")

    @property
    def status(self) -> str:
        """How the call ended (see ``SpanStatus``), or ``running``."""
        return self._word("status") or "running"

    @property
    def started(self) -> datetime | None:
        """When the call began, in UTC."""
        at: int | None = self._read("started_at", None)
        return None if at is None else datetime.fromtimestamp(at / 1e9, UTC)

    @property
    def latency(self) -> float | None:
        """Duration of the call in seconds; ``None`` while it runs, and when its process died."""
        duration: int | None = self._read("duration", None)
        return None if duration is None else duration / 1e9

    @property
    def input(self) -> Any:
        """The arguments by name, as captured (after masks and limits)."""
        return self._text("input")

    @property
    def output(self) -> Any:
        """The result, as captured; of a stream the text received."""
        return self._text("output")

    @property
    def context(self) -> list[Any]:
        """The documents that retriever spans of the record returned."""
        return self._text("context") or []

    @property
    def expected(self) -> Any:
        """The expected output, of imported records and experiments."""
        return self._text("expected")

    @property
    def metadata(self) -> dict[str, Any]:
        """What the program attached to the record."""
        return self._text("metadata") or {}

    @property
    def error(self) -> str | None:
        """``Type: message`` of the exception that ended the call."""
        return self._word("error")

    @property
    def traceback(self) -> str | None:
        """The exception's traceback, formatted."""
        return self._word("traceback")

    @property
    def session_id(self) -> str | None:
        """The conversation it belongs to."""
        return self._word("session_id")

    @property
    def user_id(self) -> str | None:
        """Whose call it was."""
        return self._word("user_id")

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags in force when it was made."""
        return tuple(self._read("tags", ()))

    @property
    def url(self) -> str | None:
        """Address of its page; ``None`` as long as no server is known."""
        return None

    # Where its fields come from.

    def _read(self, field: str, default: Any) -> Any:
        if not self.trace:
            return default
        state = self._state
        if state is not None and state.start is not None:
            return stored.from_frames(state.start, state.end, field)
        return getattr(self._row(), field, default)

    def _word(self, field: str) -> str | None:
        word: str | None = self._read(field, None)
        return word

    def _text(self, field: str) -> Any:
        text = self._read(field, None)
        return None if text is None else capture.decode(text)

    def _row(self) -> StoredRecord | None:
        if self._stored is None and self.trace:
            keeper = runtime.keeper()
            keeper.ship(timeout=5)
            self._stored = stored.load(keeper, self.trace_id, self.span_id)
        return self._stored
