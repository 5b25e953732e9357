"""What can be wrong with the database, beyond ``StoreError`` itself: two conditions that a caller handles apart."""

from __future__ import annotations

from tracekeeper.types import StoreError


class StoreLocked(StoreError):
    """Somebody else held the write lock for the whole ``busy_timeout``. Nothing was done; try again later."""


class StaleCursor(StoreError):
    """The journal's cursor is not where the batch expected it: somebody else stored frames of it, or the row is gone.

    Nothing was done. Read the journal's row again and plan from the cursor that it holds.
    """
