"""What a stream has yielded so far, at a bounded cost per chunk and in all.

Text is kept as it comes and joined when it is written. Anything else may be changed by the program afterwards, so it is
encoded at once, and the stream's output is a list. Beyond the capture limit chunks are only counted.

A long stream is checkpointed, so that a process that is killed loses little of it. A checkpoint holds everything so
far; to keep the sum of all checkpoints linear, they become rarer as the text grows.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from tracekeeper.journal.frames import SpanCheckpoint
from tracekeeper.tracing import capture, trouble

if TYPE_CHECKING:
    from tracekeeper.tracing.spans import Span
    from tracekeeper.types import SpanStatus

EVERY_SECONDS = 1.0
EVERY_BYTES = 65_536
_now = time.time_ns
_clock = time.monotonic


class Chunks:
    """The chunks of one stream. Only the stream's consumer adds; whoever ends the span reads, from any thread."""

    __slots__ = ("_limit", "_live", "_next_size", "_next_time", "_parts", "_span", "_texts", "count", "first", "size")

    def __init__(self, span: Span, *, listed: bool = False, live: bool = False) -> None:
        settings = span.settings
        self._span = span
        self._limit = settings.capture_limit if span.takes_output and settings.capture_output else 0
        self._texts: list[str] | None = None if listed else []
        self._parts: list[bytes] = []
        self._live: list[Any] | None = [] if live else None
        self._next_size: float = EVERY_BYTES
        self._next_time = _clock() + EVERY_SECONDS
        self.count = 0
        self.size = 0
        """Length of everything received: characters of text, bytes of JSON of other chunks."""
        self.first: int | None = None

    def add(self, chunk: Any) -> None:
        """One more chunk. Never raises (but lets Ctrl-C through)."""
        self.count += 1
        if self.count == 1:
            self.first = _now()
        try:
            texts = self._texts
            if texts is not None and type(chunk) is str:
                if self.size < self._limit:
                    texts.append(chunk)
                self.size += len(chunk)
            elif self.size < self._limit:
                self._add_part(chunk)
            if self._live is not None and self.size < self._limit:
                self._live.append(chunk)
            if self.size >= self._next_size or _clock() >= self._next_time:
                self._checkpoint()
        except Exception as error:  # noqa: BLE001
            trouble.note("keeping a chunk of a stream", error)

    def _add_part(self, chunk: Any) -> None:
        if self._texts is not None:
            if self._texts:
                self._parts = [self._encode(text)[0] for text in self._texts]
                self.size = sum(map(len, self._parts))
            self._texts = None
        part = self._encode(chunk)[0]
        self._parts.append(part)
        self.size += len(part) + 1

    def encoded(self) -> tuple[bytes, int] | None:
        """JSON text of what is kept, and the full size if that is not all; ``None`` when nothing is to be kept."""
        if self._limit <= 0 or not self._span.takes_payload():
            return None
        texts = self._texts
        if texts is not None:
            text = "".join(texts)
            settings = self._span.settings
            return capture.encode(
                text,
                limit=self._limit,
                mask_keys=settings.mask_keys,
                mask=self._span.mask,
                whole=self.size if self.size > len(text) else 0,
            )
        parts = list(self._parts)
        left_out = self.count - len(parts)
        data = b",".join(parts)
        if left_out <= 0:
            return b"[" + data + b"]", 0
        marker = capture.dumps(f"… [cut: {left_out} of {self.count} chunks]")
        return b"[" + data + b"," + marker + b"]", len(data) * self.count // max(len(parts), 1)

    def ending(self, status: SpanStatus) -> SpanStatus:
        """The span ends, whoever ends it: the last word on how. May run in a finaliser."""
        return status

    def sample(self) -> tuple[str, float]:
        """The text that is kept, and how many times as long all of it was."""
        text = "".join(self._texts or ())
        return text, self.size / len(text) if text else 1.0

    def live(self) -> Any:
        """What inline metrics get: the text, or the chunks themselves."""
        return "".join(self._texts) if self._texts is not None else list(self._live or ())

    def values(self) -> list[Any]:
        """Plain chunks, of a stream that is kept as a list."""
        return [capture.decode(part) for part in self._parts]

    def _encode(self, chunk: Any) -> tuple[bytes, int]:
        settings = self._span.settings
        room = max(self._limit - self.size, 16)
        return capture.encode(chunk, limit=room, mask_keys=settings.mask_keys, mask=self._span.mask)

    def _checkpoint(self) -> None:
        size = min(self.size, self._limit)
        self._next_time = _clock() + max(EVERY_SECONDS, EVERY_SECONDS * size / EVERY_BYTES)
        self._next_size = self.size + max(EVERY_BYTES, size // 4) if self.size < self._limit else math.inf
        span = self._span
        if not span.written or not span.is_recording():
            return
        output = self.encoded()
        if output is not None:
            start = span.start
            span.keeper.write(SpanCheckpoint(start.trace_id, start.span_id, _now(), output[0], output[1], self.count))
        if self._texts is not None and len(self._texts) > 1:
            self._texts = ["".join(self._texts)]
