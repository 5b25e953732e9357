"""Writing the journal: from any thread, finaliser or signal handler, at any moment, without a lock.

A writer takes a chunk out of the pool, and nobody else has it until it is given back: so a chunk has one writer at a
time, and a writer that interrupts another one (a finaliser, a signal handler, another thread) simply takes another
chunk. What a nested writer wrote is therefore on disk when *its* ``write`` returns, not when the outer one does. Taking
and giving back are single ``pop`` and ``append`` calls on a deque, which are atomic; so is drawing a sequence number.

Exceptions can arrive in the middle of a write: Ctrl-C, a timeout raised by a signal handler. CPython runs handlers
after calls and at backward jumps only, hence:

- what a call returns can be lost between the call and its assignment. Chunks and numbers are therefore taken with
  ``for x in iterator: break``, where nothing can come in between (if it does in some other Python, a chunk or a number
  is lost, never a frame);
- a frame is put in place by plain stores after the last call, so it is there or it is not;
- if it is not, the ``except`` clause finishes it and gives the chunk back before the exception goes on.
"""

from __future__ import annotations

import errno
import logging
import os
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

from tracekeeper.journal import directory as places
from tracekeeper.journal import files, liveness, processes
from tracekeeper.journal.counters import GAPS, peek
from tracekeeper.journal.files import File, error_name
from tracekeeper.journal.layout import CHUNKS, FRAME_SIZE, Header, chunk_size_for, encode_header
from tracekeeper.journal.placing import CLOSED, FORKED, Job, Placer
from tracekeeper.journal.reader import JournalReader
from tracekeeper.journal.space import STEP
from tracekeeper.types import JournalError

_log = logging.getLogger("tracekeeper")

_AHEAD = 16
"""At most so many spare chunks are kept ready in memory."""

_NOT_SUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})

_open: weakref.WeakValueDictionary[int, Journal] = weakref.WeakValueDictionary()
"""Every journal of this process, for the child of a fork."""


class Journal(Placer):
    """One process's journal. Make it with ``Journal.open``.

    ``accepts_payloads`` is ``False`` while more than 90 % of the limit is in use: spans are then to be written without
    their payloads. ``on_write`` is called after each frame; it must be lock-free and must not raise. ``mode`` says
    whether frames are stored to mapped memory (``mmap``) or by system calls (``write``).
    """

    name: str
    path: Path
    mode: Literal["mmap", "write"]
    accepts_payloads: bool
    on_write: Callable[[], None] | None

    def __init__(self, path: Path, header: Header, file: File, side: File, hold: liveness.Hold, *,
                 mapped: bool, limit: int, sync: float | None) -> None:  # fmt: skip
        super().__init__(header, file, side, mapped=mapped, limit=limit)
        self.name = header.name
        self.path = path
        self.mode = "mmap" if mapped else "write"
        self.on_write = None
        self._sync = sync
        self._synced = time.monotonic()
        self._hold = hold
        self._taken_before = 0
        self._warned: set[str] = set()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        destination: Mapping[str, str],
        limit: int = 1 << 30,
        sync: float | None = None,
        mode: Literal["auto", "mmap", "write"] = "auto",
    ) -> Journal:
        """Make a journal for this process.

        Parameters
        ----------
        directory:
            The data directory; the journal's files go into ``journal`` in it.
        destination:
            What a stranger needs to know to ship it (the store's URL without secrets, the project).
        limit:
            Bytes of disk it may take.
        sync:
            Seconds between ``fdatasync`` calls of ``maintain``; ``None``: never (frames survive the death of the
            process, not a power failure).
        mode:
            ``auto`` maps the file where disk space can truly be reserved, and writes elsewhere.

        Raises
        ------
        JournalError
            The directory cannot be written, the disk is full. The message names the path.
        """
        places.prepare(directory)
        folder = places.folder(directory)
        now = time.time_ns()
        name = f"{now:x}-{os.getpid()}-{os.urandom(4).hex()}"
        path = folder / f"{name}{places.SUFFIX}"
        header = Header(
            name=name, pid=os.getpid(), host=processes.host(), boot_id=processes.boot_id(), started=now,
            chunk_size=chunk_size_for(limit), destination=dict(destination),
            process_started=processes.started(os.getpid()),
        )  # fmt: skip
        start = encode_header(header)
        mapped = mode == "mmap" or (mode == "auto" and files.can_be_mapped(folder))
        if mapped and not files.can_reserve():
            raise JournalError(f"{path}: this system cannot reserve disk space, so mode='mmap' is not possible")
        hold = liveness.hold(path)
        made = path.with_suffix(".new")
        try:
            file = File(made, create=True)
            side = File(places.side_file(path), create=True)
            file.write_at(start.ljust(CHUNKS, b"\0"), 0)
            journal = cls(path, header, file, side, hold, mapped=mapped, limit=limit, sync=sync)
            try:
                journal._begin()
            except OSError as error:
                if mode != "auto" or not mapped or error.errno not in _NOT_SUPPORTED:
                    raise
                journal = cls(path, header, file, side, hold, mapped=False, limit=limit, sync=sync)
                journal._begin()
            os.rename(made, path)  # whoever sees a journal sees a whole header
            file.path = path
        except OSError as error:
            for part in (made, places.side_file(path), places.lock_file(path)):
                part.unlink(missing_ok=True)
            hold.release()
            raise JournalError(f"{path} cannot be made ({error_name(error)}: {error.strerror})") from error
        _open[id(journal)] = journal
        return journal

    def write(self, payload: bytes) -> bool:
        """Append one frame; when this returns ``True``, it survives the death of the process.

        Lock-free, and may be called by a finaliser or a signal handler in the middle of another ``write``. Exceptions
        of signal handlers pass through it after the frame was completed; it raises none of its own.

        Returns
        -------
        bool
            ``False`` when the frame could not be kept (journal full, disk full, closed); that is counted.
        """
        job: Job | None = None
        chunk: Any = None
        start = -1
        sequence = 0
        try:
            try:
                for chunk in self._from_pool:  # noqa: B007  see the module's docstring
                    break
            except IndexError:  # every chunk is with another writer, or the journal is closed
                chunk = None
            if chunk is None:
                job = Job(payload)
                kept = self._write_carefully(job)
            else:
                start = chunk.used
                size = len(payload)
                end = start + FRAME_SIZE + size
                if end > chunk.end or size > self._inline:
                    job = Job(payload, chunk)
                    chunk = None
                    kept = self._write_carefully(job)
                else:
                    for sequence in self._sequence:  # noqa: B007
                        break
                    checksum = crc32(payload, sequence ^ start ^ chunk.mixed)
                    # From here to the end of the frame nothing is called: no handler can run in between.
                    index = start >> 3
                    words = chunk.words
                    words[index + 1] = sequence
                    chunk.map[start + FRAME_SIZE : end] = payload
                    words[index] = checksum << 32 | (end - start)
                    chunk.used = (end + 7) & -8
                    mine = chunk
                    chunk = None
                    self._give_back(mine)
                    kept = True
        except BaseException as error:
            try:
                if job is None and (chunk is not None or start < 0):
                    job = Job(payload, chunk, start, sequence)
                kept = self._write_carefully(job) if job is not None else True
            except (
                BaseException
            ):  # a second one, before the job was made: once more (`_write_carefully` sees to its own)
                if job is None and (chunk is not None or start < 0):
                    job = Job(payload, chunk, start, sequence)
                    self._write_carefully(job)
                raise
            if not isinstance(error, MemoryError) and isinstance(payload, bytes):
                raise
        if kept:
            hook = self.on_write
            if hook is not None:
                hook()
        return kept

    def dropped(self) -> dict[str, int]:
        """What could not be kept so far, by reason."""
        return self._counters.totals()

    def frames_written(self) -> int:
        """How many frames were kept so far."""
        return max(0, peek(self._sequence) - 1 - self._counters.get(GAPS))

    def reader(self) -> JournalReader:
        """A reader of this journal, which works even if its files were deleted under it.

        Raises
        ------
        JournalError
            The journal is closed.
        """
        file, side = self._file, self._side
        if file is None or side is None:
            raise JournalError(f"{self.path} is closed")
        return JournalReader.of(self.path, File.duplicate(file), File.duplicate(side.file))

    def maintain(self) -> None:
        """Do what writers should not have to: grow the file, touch its pages, sync. For the shipper's thread.

        Logs, once each, reasons for drops and files that were deleted or cut short by somebody else.
        """
        file, side = self._file, self._side
        if self._shut or file is None or side is None:
            return
        taken = peek(self._taken)
        ahead = min(_AHEAD, 2 + taken - self._taken_before)
        self._taken_before = taken
        self._grow_after = 0.0
        try:
            if self._space.restore():
                self._warn(
                    "cut short", "%s was cut short by somebody else; the frames in that part are lost", self.path
                )
            if len(self._space.spare) < ahead:
                self._grow(STEP)
            self._space.touch(ahead)
            self._counters.save(file)
            if self._sync is not None and time.monotonic() - self._synced >= self._sync:
                side.file.sync()
                file.sync()
                self._synced = time.monotonic()
        except OSError as error:
            self._warn(error_name(error), "%s: %s; frames are kept as long as there is room", self.path, error)
        if not self._hold.renew():
            self._warn("lock", "%s: another process has taken its lock", self.path)
        if os.fstat(file.fd).st_nlink == 0:
            self._warn("deleted", "%s was deleted while in use; its frames are lost if this process dies", self.path)
        for reason, count in self.dropped().items():
            self._warn(f"drop {reason}", "%s: %d dropped so far (%s)", self.path, count, reason)
        self._refresh()

    def close(self, *, remove: bool) -> None:
        """Write no more, and let others have what is left.

        Parameters
        ----------
        remove:
            Delete the files if everything is stored: every frame lies before the cursor that was last given to
            ``release``, and that cursor holds nothing. Otherwise they stay, to be adopted like a dead process's.
        """
        if self._shut:
            return
        self._shut = CLOSED
        for chunk in self._space.chunks:
            chunk.end = 0  # sends every writer to the careful path, which refuses
        stored = self._all_back() and self._all_stored()
        self._drop_files()
        _open.pop(id(self), None)
        if remove and stored:
            places.remove(self.path)
        self._hold.release()

    def forget(self) -> None:
        """In a forked child: let go of the parent's journal without touching it. May be called again."""
        self._shut = FORKED
        self._space.forget()
        if self._side is not None:
            self._side.file.abandon()
        self._pool.clear()
        self._full.clear()
        self._drop_files()
        self._hold.forget()

    def _warn(self, key: str, message: str, *values: Any) -> None:
        if key not in self._warned:
            self._warned.add(key)
            _log.warning(message, *values)


def _forget_all() -> None:
    for journal in list(_open.values()):
        journal.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
