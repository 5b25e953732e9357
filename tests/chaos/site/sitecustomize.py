"""Run at the start of every process under chaos: stacks on demand, and a full disk where none can be mounted."""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import sqlite3

faulthandler.register(signal.SIGUSR2, all_threads=True, chain=False)

_sign = os.environ.get("CHAOS_DISK")
if _sign:
    from tracekeeper.types import faults

    def _journal() -> None:
        if os.path.exists(_sign):
            raise OSError(errno.ENOSPC, "No space left on device")

    def _store() -> None:
        if os.path.exists(_sign):
            raise sqlite3.OperationalError("database or disk is full")

    for _name in ("journal.grow", "journal.side", "journal.reserve", "file.write"):
        faults.arm(_name, _journal)
    faults.arm("store.apply.begun", _store)
