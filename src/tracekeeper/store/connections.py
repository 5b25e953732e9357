"""Connections to one SQLite file: one that writes, guarded by a lock, and as many as are needed that read.

Invariants
----------
- A write transaction begins with BEGIN IMMEDIATE, so it has the database's write lock before it has read anything: it
  never fails half-way because somebody else wrote meanwhile, and what it reads stays true until it commits.
- A read transaction sees one state of the database from its first statement on, and cannot write (``query_only``).
- The file is never opened by anything but SQLite while this process uses it: closing any other descriptor of it would
  drop SQLite's locks (POSIX record locks belong to the process, not to the descriptor).
- In a forked child no inherited connection is used again, nor closed: closing one rolls back, and a rollback edits the
  index of the write-ahead log that is shared with the parent.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Pool, create_engine, event

from tracekeeper.concurrency.own_work import own_work
from tracekeeper.store.errors import StoreLocked
from tracekeeper.store.troubles import translated

_open: weakref.WeakSet[Connections] = weakref.WeakSet()


class Connections:
    """The connections of this process to one file. Opens none until one is needed.

    Parameters
    ----------
    path:
        Absolute path of an existing database.
    busy_timeout:
        Seconds to wait for the write lock, whether another thread or another process holds it.
    """

    def __init__(self, path: Path, *, busy_timeout: float) -> None:
        self.path = path
        self.busy_timeout = busy_timeout
        self._lock = threading.Lock()
        self._drivers: set[_Driver] = set()
        # What a connection keeps open of the file's pages, in KiB: large enough for a batch, small beside the process.
        self._writer = self._engine("BEGIN IMMEDIATE", ("cache_size = -16000",), pool_size=1, max_overflow=0)
        self._readers = self._engine("BEGIN", ("cache_size = -8000", "query_only = ON"), pool_size=4, max_overflow=-1)
        _open.add(self)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection in a write transaction: committed at the end of the block, rolled back when it raises.

        Raises
        ------
        StoreLocked
            The write lock was not to be had within ``busy_timeout``. The block was not entered.
        StoreError
            Anything else that SQLite or the disk refuses, at the beginning, in the block or at the commit. Nothing of
            the transaction is kept then, and the next one finds a usable connection.
        """
        lock = self._lock
        if not lock.acquire(timeout=self.busy_timeout):
            raise StoreLocked(f"another thread of this process has written to {self.path} for {self.busy_timeout:g} s")
        try:
            with own_work(), translated(self.path), self._writer.begin() as connection:
                yield connection
        finally:
            lock.release()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection in a read transaction: everything in the block sees one state of the database.

        Raises
        ------
        StoreError
            The database cannot be read.
        """
        with own_work(), translated(self.path), self._readers.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection. The object can be used again: it then opens new ones."""
        with self._lock:
            self._writer.dispose()
        self._readers.dispose()

    @property
    def in_use(self) -> bool:
        """Whether a connection is open; after ``close``: whether a thread is in the middle of using one."""
        return bool(self._drivers)

    def forget(self) -> None:
        """In a forked child: leave the inherited connections alone for ever, and begin with none."""
        for driver in self._drivers:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(driver))
        self._drivers.clear()
        self._lock = threading.Lock()
        self._writer.dispose(close=False)
        self._readers.dispose(close=False)

    def _engine(self, begin: str, pragmas: tuple[str, ...], **pool: Any) -> Engine:
        engine = create_engine(
            URL.create("sqlite", database=str(self.path)),
            connect_args={
                "check_same_thread": False,
                "timeout": self.busy_timeout,
                # The driver begins no transactions of its own: see the "begin" event.
                "isolation_level": None,
                "factory": _Driver,
            },
            **pool,
        )

        def connected(driver: _Driver, _: Any) -> None:
            self._drivers.add(driver)
            for pragma in ("synchronous = NORMAL", "temp_store = MEMORY", *pragmas):
                driver.execute(f"PRAGMA {pragma}")

        def closed(driver: _Driver, _: Any) -> None:
            self._drivers.discard(driver)

        def begun(connection: Connection) -> None:
            driver_of(connection).execute(begin)

        pool_of: Pool = engine.pool
        event.listen(pool_of, "connect", connected)
        event.listen(pool_of, "close", closed)
        event.listen(engine, "begin", begun)
        return engine


class _Driver(sqlite3.Connection):
    """A driver's connection that can be kept in a set."""

    __hash__ = object.__hash__


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's connection: the way of hot statements, which run on tuples."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _forget_all() -> None:
    for connections in list(_open):
        connections.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
