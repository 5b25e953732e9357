"""What is in a data directory, and what is in the way: for ``tracekeeper status``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tracekeeper.journal import directory as journal_directory
from tracekeeper.journal.liveness import is_alive
from tracekeeper.journal.reader import JournalReader


def journals(directory: Path, left: dict[str, str]) -> list[dict[str, Any]]:
    """The journals of a directory, oldest first.

    Parameters
    ----------
    directory:
        The data directory.
    left:
        Why a journal was not adopted, by file name.

    Returns
    -------
    list
        Per journal: ``name``, ``path``, ``bytes`` on disk, ``alive``, and where its header can be read ``pid``,
        ``host``, ``started`` (nanoseconds), ``store``, ``project``, ``dropped``; ``reason`` where it is left alone.
    """
    found = []
    for path in journal_directory.journals(directory):
        entry: dict[str, Any] = {"name": path.stem, "path": str(path), "alive": is_alive(path)}
        reason = left.get(path.name)
        try:
            entry["bytes"] = sum(
                each.stat().st_blocks * 512 for each in (path, path.with_suffix(".side")) if each.exists()
            )
            reader = JournalReader(path)
        except OSError as error:  # JournalError is one; removed in the meantime is another
            entry["reason"] = reason or str(error)
            found.append(entry)
            continue
        try:
            header = reader.header
            entry.update(
                pid=header.pid,
                host=header.host,
                started=header.started,
                store=header.destination.get("store", ""),
                project=header.destination.get("project", "default"),
                dropped=reader.dropped(),
                mine=header.pid == os.getpid(),
            )
        finally:
            reader.close()
        if reason is not None:
            entry["reason"] = reason
        found.append(entry)
    return found


def set_aside(directory: Path) -> list[str]:
    """Journals that were moved aside because of damage."""
    folder = journal_directory.folder(directory)
    return sorted(str(path) for path in folder.glob("*.damaged"))


def shipping(reason: str | None, since: float | None) -> dict[str, Any]:
    """What the shipper of this process is at: why it cannot store at present, and how long its turn has taken."""
    return {
        "trouble": reason,
        "busy_seconds": None if since is None else round(time.monotonic() - since, 3),
    }
