"""The directory that holds the journals of many processes, and what their files are called.

``<data directory>/journal/<name>.journal``, ``.side`` and ``.lock``; ``.new`` while a journal is being made.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tracekeeper.journal.files import error_name
from tracekeeper.types import JournalError, faults

SUFFIX = ".journal"
_STRAY_AGE = 60.0
"""Seconds after which a lock without a journal is taken for the leftover of a process that died while opening."""


def folder(directory: Path) -> Path:
    """Where the journals of a data directory lie."""
    return directory / "journal"


def journal_file(path: Path) -> Path:
    return path.with_suffix(SUFFIX)


def side_file(path: Path) -> Path:
    return path.with_suffix(".side")


def lock_file(path: Path) -> Path:
    return path.with_suffix(".lock")


def prepare(directory: Path) -> None:
    """Make a data directory ready for journals: there, private (0700 if it was made here), and writable.

    Raises
    ------
    JournalError
        It cannot be made or written; the message names the path.
    """
    place = folder(directory)
    probe = place / f".probe-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        faults.point("journal.prepare")
        if not directory.exists():  # a directory that was there keeps the mode its owner gave it
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.close(descriptor)
        os.unlink(probe)
    except OSError as error:
        raise JournalError(
            f"{place} cannot be written ({error_name(error)}: {error.strerror}); "
            "make it writable, or choose another place with tk.configure(directory=…)",
        ) from error


def journals(directory: Path) -> list[Path]:
    """The journals of a data directory, oldest first; none when there is no such directory or it cannot be listed."""
    try:
        names = [entry.name for entry in os.scandir(folder(directory)) if entry.name.endswith(SUFFIX)]
    except OSError:
        # Nothing can be shipped from a directory that cannot be read; whoever opens it gets the error.
        return []
    return [folder(directory) / name for name in sorted(names, key=_age)]


def remove(path: Path) -> None:
    """Delete a journal with its side and lock files; those that are gone already do not matter.

    The lock goes last: while it is held nobody else takes the journal for abandoned.
    """
    for part in (journal_file(path), side_file(path), path.with_suffix(".adopting"), lock_file(path)):
        part.unlink(missing_ok=True)


def strays(directory: Path) -> list[Path]:
    """Lock files without a journal, old enough to be leftovers. Adopt one, then ``remove`` it."""
    place = folder(directory)
    try:
        entries = list(os.scandir(place))
    except OSError:  # as in `journals`
        return []
    names = {entry.name for entry in entries}
    limit = time.time() - _STRAY_AGE
    found = []
    for entry in entries:
        stem, _, suffix = entry.name.rpartition(".")
        if suffix in ("lock", "new", "side") and f"{stem}{SUFFIX}" not in names:
            try:
                if entry.stat().st_mtime < limit:
                    found.append(place / f"{stem}{SUFFIX}")
            except FileNotFoundError:
                continue
    return sorted(set(found))


def _age(name: str) -> tuple[int, str]:
    started = name.split("-", 1)[0]
    try:
        return int(started, 16), name
    except ValueError:  # a file that somebody else put here
        return 0, name
