"""Files that several threads write at positions of their own choosing, without a lock; and what their disk can promise.

``os.pwrite`` does just that. Where it is missing, each write borrows a descriptor of its own from a pool (seek, write,
give back), so two writers never share a file position.

A file closes its descriptors when the last reference to it goes, and not before: whoever is in the middle of a write
holds one, so a descriptor's number can never come to mean another file under a writer's hands.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from pathlib import Path
from typing import Any

from tracekeeper.types import faults
from tracekeeper.types.single import Single

# Looked up by name so that a test can take them away; both are missing on Windows.
_pwrite: Any = getattr(os, "pwrite", None)
_pread: Any = getattr(os, "pread", None)
_reserve: Any = getattr(os, "posix_fallocate", None)

_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)

RESERVING = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs", "overlay"})
"""File systems where ``posix_fallocate`` really sets space aside. Elsewhere (copy-on-write, network, FUSE) a store to
mapped memory could meet a full disk, which kills the process with SIGBUS."""


class File(Single):
    """One open file.

    Parameters
    ----------
    path:
        The file.
    create:
        Make it, readable by its owner only; an existing one is an error.
    write:
        Open it for writing as well.

    Raises
    ------
    OSError
    """

    __slots__ = ("_borrowed", "_flags", "fd", "path")

    def __init__(self, path: Path, *, create: bool = False, write: bool = True) -> None:
        self.fd = -1
        self.path = path
        self._flags = (os.O_RDWR if write else os.O_RDONLY) | _FLAGS
        self._borrowed: deque[int] = deque()
        self.fd = os.open(path, self._flags | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)

    @classmethod
    def duplicate(cls, other: File) -> File:
        """A second, independent handle on the same file, even if its name is gone by now."""
        made = cls.__new__(cls)
        made.path = other.path
        made._flags = other._flags
        made._borrowed = deque()
        made.fd = os.dup(other.fd)
        return made

    def write_at(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of ``data`` at ``offset``; ``OSError`` when not all of it could be written."""
        faults.point("file.write")
        pwrite = _pwrite
        if pwrite is None:
            self._seek_and_write(data, offset)
            return
        done = pwrite(self.fd, data, offset)
        while done < len(data):  # a full disk first writes what fits, then says so
            more = pwrite(self.fd, memoryview(data)[done:], offset + done)
            if more <= 0:
                raise OSError(errno.EIO, "nothing was written", str(self.path))
            done += more

    def read_at(self, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; fewer only at the file's end."""
        data: bytes = self._read_some(size, offset)
        while data and len(data) < size:
            more = self._read_some(size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def size(self) -> int:
        """Its length in bytes now."""
        return os.fstat(self.fd).st_size

    def sync(self) -> None:
        """Bring what was written, also through a mapping, to the disk itself."""
        getattr(os, "fdatasync", os.fsync)(self.fd)

    def abandon(self) -> None:
        """In a forked child, which has no other thread: close at once, so that an interrupted write fails."""
        self._close()
        self.path = Path(os.devnull)

    def _read_some(self, size: int, offset: int) -> bytes:
        pread = _pread
        if pread is not None:
            data: bytes = pread(self.fd, size, offset)
            return data
        fd = self._borrow()
        try:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, size)
        finally:
            self._borrowed.append(fd)

    def _seek_and_write(self, data: bytes | memoryview, offset: int) -> None:
        fd = self._borrow()
        try:
            os.lseek(fd, offset, os.SEEK_SET)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            self._borrowed.append(fd)

    def _borrow(self) -> int:
        try:
            return self._borrowed.pop()
        except IndexError:
            return os.open(self.path, self._flags)

    def _close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
        while self._borrowed:
            os.close(self._borrowed.pop())

    def __del__(self) -> None:
        self._close()


def can_reserve() -> bool:
    """Whether this system has a call that sets disk space aside."""
    return _reserve is not None


def reserve(file: File, offset: int, size: int) -> None:
    """Set disk space aside for ``size`` bytes from ``offset``, growing the file with zeros.

    Raises
    ------
    OSError
        ENOSPC, EDQUOT, EFBIG (a limit on file sizes), EIO …
    """
    faults.point("journal.reserve")
    _reserve(file.fd, offset, size)


def file_system(directory: Path) -> str:
    """The type of the file system that holds ``directory``, as Linux names it; empty where that cannot be told.

    Source: ``/proc/self/mountinfo``, see proc_pid_mountinfo(5).
    """
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        place = os.path.realpath(directory)
    except OSError:  # not Linux, or no /proc: then nothing is promised
        return ""
    best, found = -1, ""
    for line in lines:
        fields, separator, rest = line.partition(" - ")
        columns = fields.split(" ")
        if not separator or len(columns) < 5:
            continue
        mount = _unescape(columns[4])
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= best:  # of two on the same place the later one is on top
            best, found = len(mount), rest.split(" ", 1)[0]
    return found


def can_be_mapped(directory: Path) -> bool:
    """Whether a journal in ``directory`` can be mapped into memory without the danger of SIGBUS on a full disk."""
    return can_reserve() and file_system(directory) in RESERVING


def error_name(error: OSError) -> str:
    """``ENOSPC`` and the like, for counters and messages."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


def is_from_disk(error: OSError) -> bool:
    """Whether a system call raised ``error``, rather than user code that a signal ran in the middle of ours.

    A handler's ``raise TimeoutError`` is an ``OSError`` too, and has to reach the program that raised it.
    """
    return error.errno is not None and not isinstance(error, TimeoutError | InterruptedError)


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
