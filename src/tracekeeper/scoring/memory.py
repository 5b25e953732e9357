"""How much captured text the waiting jobs of an engine keep in memory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracekeeper.scoring.jobs import Source

HELD_BYTES = 64 << 20
"""Captured text that waiting jobs keep in memory; beyond it they keep their record's key and read it back."""


class Memory:
    """Counts what is held, and lets go of what would be too much."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.held = 0
        """Bytes."""

    def take(self, source: Source) -> None:
        """Count the source's texts, or let go of them where there is no room."""
        size = source.measure()
        with self._lock:
            fits = self.held + size <= HELD_BYTES
            if fits:
                self.held += size
                source.size = size
        if not fits:
            source.spill()

    def settled(self, source: Source) -> None:
        """One of the source's jobs is settled; after the last its texts are free."""
        with self._lock:
            source.jobs -= 1
            if source.jobs == 0:
                self.held -= source.size
                source.size = 0
