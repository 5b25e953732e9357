"""From a URL to a database that can be used: made when new, migrated when older, refused with a reason otherwise.

A new database is made from ``tables`` in one transaction and stamped with the newest revision, without Alembic (which
costs memory and time to import); Alembic is loaded only when an older database must be brought forward. A test holds
both ways to the same schema. The database names its program in SQLite's ``application_id``, so that another program's
file is told from one of a newer version of this one.

Several processes may come at once: whoever gets the write lock first makes or migrates, the others look again under
the lock and find it done.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
import time
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection

from tracekeeper.concurrency.own_work import own_work
from tracekeeper.store.connections import Connections, driver_of
from tracekeeper.store.search import create_search
from tracekeeper.store.tables import metadata
from tracekeeper.store.troubles import translated
from tracekeeper.types import StoreError, faults

log = logging.getLogger("tracekeeper")

REVISIONS = ("0001", "0002", "0003", "0004", "0005")
"""The revisions under ``migrations/versions``, oldest first (a test compares)."""

APPLICATION_ID = 0x54_52_4B_50
"""``TRKP``, in the header of the file."""

PAGE_SIZE = 8192
"""Bytes. Larger than SQLite's default, since payloads are."""

MIGRATIONS = Path(__file__).parent / "migrations"

_opening = threading.Lock()


class _Found(NamedTuple):
    application_id: int
    tables: int
    revisions: tuple[str, ...] | None
    """What ``alembic_version`` holds; ``None`` without that table."""
    journal_mode: str


def path_of(url: str) -> Path:
    """The file that a URL names.

    Raises
    ------
    StoreError
        It is not ``sqlite:///file``.

    Example
    -------
    >>> path_of("sqlite:////data/x.db")
    PosixPath('/data/x.db')
    """
    scheme, mark, rest = url.partition(":///")
    name = rest.partition("?")[0]
    if scheme.lower() != "sqlite" or not mark or name in ("", ":memory:"):
        raise StoreError(f"{url!r} cannot be used as a store: expected sqlite:///path/to/file.db")
    return Path(name).expanduser().absolute()


def prepare(path: Path, connections: Connections) -> None:
    """Make the database, or bring it to the newest revision, or find that it is there already.

    Raises
    ------
    StoreError
        It cannot be made, written or understood by this version; the message names the path and what to do.
    """
    # One at a time in this process: see _make_file.
    with _opening, own_work(), translated(path):
        _check_place(path)
        driver = sqlite3.connect(path, timeout=connections.busy_timeout, isolation_level=None)
        try:
            found = _look(driver)
            if not _is_current(found, path):
                _make_shared(driver, path, connections.busy_timeout)
                with connections.write() as connection:
                    _make_current(connection, path)
            elif found.journal_mode != "wal":
                _make_shared(driver, path, connections.busy_timeout)
        finally:
            driver.close()


def create(connection: Connection) -> None:
    """Make everything in an empty database, and say which revision that is."""
    metadata.create_all(connection, checkfirst=False)
    create_search(connection)
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    # Alembic's own table, as Alembic makes it.
    connection.exec_driver_sql(
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (REVISIONS[-1],))


def upgrade(connection: Connection) -> None:
    """Run the migrations that a database lacks, in the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _look(driver: sqlite3.Connection) -> _Found:
    # In one transaction, which sees one state: another process may be filling the file at this moment.
    own = not driver.in_transaction
    if own:
        driver.execute("BEGIN")
    try:
        (application_id,) = driver.execute("PRAGMA application_id").fetchone()
        names = {name for (name,) in driver.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        revisions = None
        if "alembic_version" in names:
            revisions = tuple(revision for (revision,) in driver.execute("SELECT version_num FROM alembic_version"))
        (journal_mode,) = driver.execute("PRAGMA journal_mode").fetchone()
        return _Found(application_id, len(names), revisions, journal_mode)
    finally:
        if own and driver.in_transaction:
            driver.execute("ROLLBACK")


def _is_current(found: _Found, path: Path) -> bool:
    """Whether nothing is to be done; raises when nothing can be."""
    if not found.tables and not found.application_id:
        return False
    if found.application_id != APPLICATION_ID or found.revisions is None:
        raise StoreError(
            f"{path} is a SQLite database of another program. It was not touched; set store=sqlite:///another.db"
        )
    unknown = [revision for revision in found.revisions if revision not in REVISIONS]
    if unknown:
        raise StoreError(
            f"{path} was written by a newer version of Tracekeeper: its revision is {unknown[0]}, this version knows "
            f"up to {REVISIONS[-1]}. Upgrade Tracekeeper here, or set store=sqlite:///another.db"
        )
    return found.revisions == REVISIONS[-1:]


def _make_current(connection: Connection, path: Path) -> None:
    found = _look(driver_of(connection))
    if _is_current(found, path):
        return  # another process was first
    if found.tables:
        log.info("%s is brought from revision %s to %s", path, found.revisions or "(none)", REVISIONS[-1])
        upgrade(connection)
    else:
        create(connection)
    faults.point("store.schema.commit")


def _make_shared(driver: sqlite3.Connection, path: Path, busy_timeout: float) -> None:
    """Switch to write-ahead logging: readers and a writer then do not wait for each other. It is kept in the file."""
    driver.execute(f"PRAGMA page_size = {PAGE_SIZE}")  # of a new file; no effect on one that has pages
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            (mode,) = driver.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            # Two processes that switch at the same moment would wait for each other, so SQLite refuses one at once,
            # without its busy handler and with nothing that could be waited on.
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
    if mode != "wal":
        log.warning("%s: this file system has no shared memory for SQLite's WAL; readers will wait for writers", path)


def _check_place(path: Path) -> None:
    """Find out before SQLite does what would fail later or only half: SQLite opens an unwritable file for reading."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        _make_file(path)
        return
    except OSError as error:
        raise _cannot_make(path, error) from error
    if stat.S_ISDIR(mode):
        raise StoreError(f"{path} is a directory; name a file in it, e.g. sqlite:///{path / 'tracekeeper.db'}")
    for place in (path, path.parent):
        if not os.access(place, os.W_OK):
            raise StoreError(
                f"{place} cannot be written by this user. Give it write permission, or set store=sqlite:///another.db"
            )


def _make_file(path: Path) -> None:
    """An empty file that only its owner can read; SQLite gives its companions (-wal, -shm) the same permissions.

    Only when there is none: closing a descriptor of a file that SQLite has open would drop SQLite's locks.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if not path.exists():  # a part of the path is a file, or a link leads nowhere
            raise StoreError(f"{path} cannot be made: part of its path is not a folder") from None
    except OSError as error:
        raise _cannot_make(path, error) from error


def _cannot_make(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path} cannot be made: {error.strerror or error}. Make its folder writable for this user, "
        "or set store=sqlite:///another.db"
    )
