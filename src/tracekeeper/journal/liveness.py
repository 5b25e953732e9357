"""Does a journal's process live? A record lock on its ``.lock`` file answers, even after ``kill -9``.

The process that writes a journal holds the lock for as long as it lives; whoever gets the lock later knows that it is
dead, and holds it while shipping what is left ("adopts" the journal).

``fcntl.lockf`` is used and not ``flock``, because a forked child keeps the latter: the child of a dead parent would
keep its journal from being adopted. Record locks have one trap: they vanish when the process closes *any* descriptor
of the file. Hence the registry ``_mine``: a lock file that this process has open is never opened a second time.

Where there is no ``fcntl``, ``msvcrt.locking`` does the same on Windows. Where there is neither, and when somebody
deleted the lock file, the journal's header tells the process number and when that process began; adopters then exclude
each other by creating a file.
"""

from __future__ import annotations

import importlib
import logging
import os
from pathlib import Path
from typing import Any

from tracekeeper.journal import directory, processes
from tracekeeper.journal.files import error_name
from tracekeeper.journal.layout import COUNTERS, Header, decode_header
from tracekeeper.types import JournalError, faults


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


fcntl: Any = _optional("fcntl")
msvcrt: Any = _optional("msvcrt") if fcntl is None else None

_log = logging.getLogger("tracekeeper")
_FLAGS = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)


class Hold:
    """A lock that this process holds until ``release`` or its death."""

    __slots__ = ("_fd", "_marker", "adopted", "path")

    def __init__(self, path: Path, *, adopted: bool) -> None:
        self.path = path
        """The lock file."""
        self.adopted = adopted
        self._fd = -1
        self._marker: Path | None = None

    def release(self) -> None:
        """Let others have it. May be called again."""
        if self._marker is not None:
            self._marker.unlink(missing_ok=True)
            self._marker = None
        self.forget()

    def renew(self) -> bool:
        """Take the lock again if this process lost it because something in it opened and closed the file (a backup).

        ``False`` when somebody else has taken it in the meantime.
        """
        return self._fd >= 0 and _lock(self._fd)

    def forget(self) -> None:
        """In a forked child: the lock is the parent's, and closing the child's descriptor does not release it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if _mine.get(str(self.path)) is self:
            del _mine[str(self.path)]

    def _take(self, *, create: bool) -> bool:
        """Open the lock file and lock it. ``False``: somebody else has it, or it was deleted in between."""
        self._fd = os.open(self.path, _FLAGS | (os.O_CREAT if create else 0), 0o600)
        return _lock(self._fd) and _same(self._fd, self.path)


_mine: dict[str, Hold] = {}
"""The lock files that this process has open. ``setdefault`` claims an entry atomically, without a lock."""


def hold(path: Path) -> Hold:
    """Make and take the lock of a new journal.

    Parameters
    ----------
    path:
        The journal (or its lock file).

    Raises
    ------
    JournalError
        The file cannot be made, or another process, or this one, has the lock.
    """
    lock = directory.lock_file(path).absolute()
    held = Hold(lock, adopted=False)
    if _mine.setdefault(str(lock), held) is not held:
        raise JournalError(f"{lock} is held by this process already")
    try:
        faults.point("journal.lock")
        if held._take(create=True):
            return held
    except OSError as error:
        held.release()
        raise JournalError(f"{lock} cannot be made ({error_name(error)}: {error.strerror})") from error
    held.release()
    raise JournalError(f"{lock} is held by another process")


def adopt(path: Path) -> Hold | None:
    """The lock of a dead process's journal, for as long as it takes to ship it.

    ``None`` when its process lives, when somebody else is at it, when the journal is gone or another user's, or when
    this process wrote it.
    """
    lock = directory.lock_file(path).absolute()
    held = Hold(lock, adopted=True)
    if _mine.setdefault(str(lock), held) is not held:
        return None
    taken = False
    try:
        taken = _adopted(held, directory.journal_file(path))
    except OSError as error:
        _log.debug("%s cannot be adopted (%s)", path, error_name(error))
    finally:
        if not taken:
            held.release()
    return held if taken else None


def is_alive(path: Path) -> bool:
    """Whether the process that writes this journal may still run. When in doubt it does."""
    lock = directory.lock_file(path).absolute()
    probe = Hold(lock, adopted=True)
    other = _mine.setdefault(str(lock), probe)
    if other is not probe:
        # Ours, or a dead one's that this process is adopting (or probing) at this moment.
        return not (other.adopted and other._fd >= 0)
    try:
        if _has_locks() and lock.exists():
            return not probe._take(create=False)
        return _header_says_alive(directory.journal_file(path))
    except FileNotFoundError:
        return False
    except OSError as error:
        _log.debug("%s cannot be probed (%s)", path, error_name(error))
        return True
    finally:
        probe.release()


def sweep(data_directory: Path) -> int:
    """Delete the lock files of processes that died before their journal came to be; how many there were."""
    removed = 0
    for path in directory.strays(data_directory):
        lock = directory.lock_file(path).absolute()
        held = Hold(lock, adopted=True)
        if _mine.setdefault(str(lock), held) is not held:
            continue
        try:
            if held._take(create=True) and not directory.journal_file(path).exists():
                directory.remove(path)
                path.with_suffix(".new").unlink(missing_ok=True)
                removed += 1
        except OSError as error:
            _log.debug("%s cannot be removed (%s)", lock, error_name(error))
        finally:
            held.release()
    return removed


def _adopted(held: Hold, journal: Path) -> bool:
    if not journal.exists():
        return False
    if _has_locks() and held.path.exists():
        # After the lock was had, look again: an adopter before us may have shipped and removed it all.
        return held._take(create=False) and journal.exists()
    if _header_says_alive(journal):
        return False
    if _has_locks():
        return held._take(create=True) and journal.exists()
    return _mark(held, journal)


def _mark(held: Hold, journal: Path) -> bool:
    """Adopt without locks: the file can be created once only. One left by an adopter that died itself is replaced."""
    marker = held.path.with_suffix(".adopting")
    me = f"{os.getpid()} {processes.started(os.getpid())} {processes.boot_id()}"
    try:
        owner = marker.read_text(encoding="utf-8").split(" ")
    except FileNotFoundError:
        owner = []
    if owner and owner[0].isdigit():
        pid, *rest = owner
        header = Header(
            name="", pid=int(pid), host=processes.host(), started=0, chunk_size=0,
            process_started=rest[0] if rest else "", boot_id=rest[1] if len(rest) > 1 else "",
        )  # fmt: skip
        if processes.may_run(header):
            return False
        marker.unlink(missing_ok=True)
    try:
        descriptor = os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    held._marker = marker
    held._fd = descriptor
    os.write(descriptor, me.encode())
    return journal.exists()


def _header_says_alive(journal: Path) -> bool:
    with journal.open("rb") as file:
        start = file.read(COUNTERS)
    try:
        header = decode_header(start, journal)
    except JournalError:
        # Nobody can be asked. A journal is renamed into place whole, so its process is not just making it.
        return False
    return processes.may_run(header)


def _has_locks() -> bool:
    return fcntl is not None or msvcrt is not None


def _lock(fd: int) -> bool:
    try:
        if fcntl is not None:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            os.lseek(fd, 0, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    except OSError:
        # EACCES or EAGAIN: somebody else has it. Anything else (no locks on this file system) must count as "alive",
        # since adopting a living process's journal would be worse than adopting late.
        return False
    return True


def _same(fd: int, path: Path) -> bool:
    """Whether ``path`` still names the file that ``fd`` has open."""
    try:
        found, opened = os.stat(path), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)


def _after_fork_in_child() -> None:
    for held in list(_mine.values()):
        held.forget()
    _mine.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
