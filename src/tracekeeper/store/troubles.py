"""SQLite's errors in words: what happened, to which file, and what to do next."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tracekeeper.store.errors import StoreLocked
from tracekeeper.types import StoreError

_LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED")
_KEPT = "What was traced stays in the journal and is stored as soon as this works again."


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise errors of SQLite and of the file system that come out of the block as ``StoreError``, with their cause."""
    try:
        yield
    except DBAPIError as error:
        # The driver's own error is the cause: it tells a caller whether a value or the database is at fault.
        raise explain(error.orig or error, path) from (error.orig or error)
    except (sqlite3.Error, OSError, OverflowError) as error:
        raise explain(error, path) from error
    except PoolTimeout as error:
        raise StoreError(f"too many threads read {path} at once: {error}") from error


def explain(error: BaseException, path: Path) -> StoreError:
    """The ``StoreError`` for an error of the driver or the file system."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(_LOCKED):
        return StoreLocked(f"{path} is locked by another process or thread: {error}. {_KEPT}")
    if name.startswith("SQLITE_NOTADB"):
        return StoreError(f"{path} is not a SQLite database (or is damaged at its beginning). {_move(path)}")
    if name.startswith("SQLITE_CORRUPT"):
        return StoreError(
            f"{path} is damaged: {error}. Save what can be read with `sqlite3 {path} .recover`, or: {_move(path)}"
        )
    if name.startswith("SQLITE_READONLY"):
        return StoreError(f"{path} cannot be written: {error}. Make it and its folder writable for this user.")
    if name.startswith("SQLITE_CANTOPEN"):
        return StoreError(f"{path} cannot be opened: {error}. Check that its folder exists and may be written.")
    if name.startswith("SQLITE_FULL"):
        return StoreError(f"{path} cannot grow: {error}. Free some space on that disk. {_KEPT}")
    if name.startswith("SQLITE_IOERR"):
        return StoreError(f"{path} cannot be read or written: {error}. Check the disk and its free space. {_KEPT}")
    return StoreError(f"{path} cannot be used: {type(error).__name__}: {error}")


def _move(path: Path) -> str:
    return f"Move {path} out of the way, or set store=sqlite:///another.db; a new database is made at the next use."
