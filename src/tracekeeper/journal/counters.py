"""Counts of what was lost, exact without a lock and readable after a kill.

``itertools.count`` advances atomically, and its ``repr`` shows where it stands without advancing it. The total is
stored in the journal's own slot after each change. Two threads may store in the wrong order; each therefore looks again
after it stored, and stores anew until the slot holds the total: whoever stored last has seen the last total.
"""

from __future__ import annotations

import itertools

from tracekeeper.journal.files import File, is_from_disk
from tracekeeper.journal.layout import COUNTER, COUNTER_SLOTS, COUNTERS, encode_counter

GAPS = "\0gaps"
"""Reason under which sequence numbers are counted that were drawn and then not used; not shown as a drop."""


def peek(counter: itertools.count[int]) -> int:
    """The number that the next ``next`` will give. (Copying or pickling a count is deprecated, its repr is not.)"""
    return int(repr(counter)[6:-1])


class Counters:
    """Totals by reason. Lock-free: a finaliser or a signal handler may count in the middle of another count."""

    __slots__ = ("_slots", "_totals", "_unsaved")

    def __init__(self) -> None:
        self._totals: dict[str, tuple[itertools.count[int], int]] = {}
        self._slots = itertools.count()
        self._unsaved: set[str] = set()

    def add(self, reason: str, n: int, file: File | None) -> None:
        """Add ``n`` under ``reason``, and store the total in ``file``; never raises."""
        if n <= 0:
            return
        entry = self._totals.get(reason)
        if entry is None:
            # Of two threads here at once one wins; the other's slot stays blank.
            entry = self._totals.setdefault(reason, (itertools.count(), next(self._slots)))
        total, slot = entry
        next(itertools.islice(total, n - 1, n), None)  # takes n steps, atomically for n == 1 and without loss for more
        if file is not None:
            self._store(reason, total, slot, file)

    def save(self, file: File) -> None:
        """Store the totals that could not be stored when they changed."""
        for reason in list(self._unsaved):
            self._store(reason, *self._totals[reason], file)

    def _store(self, reason: str, total: itertools.count[int], slot: int, file: File) -> None:
        if slot >= COUNTER_SLOTS:
            return
        self._unsaved.discard(reason)
        try:
            stored = -1
            while stored != (now := peek(total)):
                file.write_at(encode_counter(reason, now), COUNTERS + slot * COUNTER.size)
                stored = now
        except OSError as error:
            if not is_from_disk(error):
                raise
            self._unsaved.add(reason)  # it stands in memory, and `save` tries again

    def get(self, reason: str) -> int:
        """The total under ``reason``."""
        entry = self._totals.get(reason)
        return peek(entry[0]) if entry is not None else 0

    def totals(self) -> dict[str, int]:
        """Every reason but the internal one."""
        return {reason: peek(total) for reason, (total, _) in list(self._totals.items()) if reason != GAPS}
