"""How the shipper's troubles are told and when it tries again: pauses that grow, and few words."""

from __future__ import annotations

import logging
import time

log = logging.getLogger("tracekeeper")

LOCKED_EVERY = 60.0
"""Seconds between two lines about a locked database."""


class Troubles:
    """What goes wrong at present. Each method returns the reason in one sentence, for those who wait."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """Why nothing is being stored at present."""
        self.retry_at = 0.0
        """Monotonic time before which nobody need try again unasked."""
        self.pause = 0.0
        self._told: dict[str, float] = {}

    def locked(self, error: Exception) -> str:
        """The database is busy: try again soon, for ever."""
        self._next(0.05, 1.0)
        self.reason = f"the database is locked by another process ({error})"
        self._tell("locked", LOCKED_EVERY, f"{self.reason}; calls go on, their spans wait in the journal")
        return self.reason

    def unusable(self, error: Exception) -> str:
        """The database cannot be used as it is: say so once, try again slowly."""
        self._next(1.0, 30.0)
        self.reason = f"the database cannot be used: {error}"
        self._tell(self.reason, float("inf"), f"{self.reason}; spans wait in the journal until it can be")
        return self.reason

    def unexpected(self, error: Exception) -> str:
        """Something that should not happen: log where."""
        self._next(0.5, 30.0)
        self.reason = f"storing failed: {type(error).__name__}: {error}"
        if self._due(self.reason, LOCKED_EVERY):
            log.error("%s; spans wait in the journal, and it is tried again", self.reason, exc_info=error)
        return self.reason

    def over(self) -> None:
        """All is well."""
        if self.reason is not None:
            log.info("storing works again")
        self.reason = None
        self.retry_at = 0.0
        self.pause = 0.0

    def _next(self, first: float, most: float) -> None:
        self.pause = min(most, max(first, self.pause * 2))
        self.retry_at = time.monotonic() + self.pause

    def _tell(self, cause: str, every: float, message: str) -> None:
        if self._due(cause, every):
            log.warning("%s", message)

    def _due(self, cause: str, every: float) -> bool:
        now = time.monotonic()
        last = self._told.get(cause)
        if last is not None and now - last < every:
            return False
        if len(self._told) > 100:  # messages that differ every time must not grow without bound
            self._told.clear()
        self._told[cause] = now
        return True
