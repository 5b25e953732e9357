"""Recordings in force: who is told of each record that begins here."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from tracekeeper.tracing.state import AppLink, RecordState


class RecordSink(Protocol):
    """A recording in force. It forces sampling: what is called inside is written whatever ``sample`` says."""

    def begun(self, state: RecordState) -> None:
        """A record begins. Lock-free: it may be called anywhere."""
        ...


active: ContextVar[tuple[RecordSink, ...]] = ContextVar("tracekeeper_recordings", default=())

__all__ = ["AppLink", "RecordSink", "RecordState", "active"]
