"""The tables of the full-text index.

``search`` is an FTS5 table without content of its own (``content=''``): it holds terms and positions, the texts stay in
``payload``. Its rows have the ids of their records. Terms are cut in Python and handed over separated by spaces, so the
tokenizer only has to split at them: ``ascii`` takes every character beyond ASCII as part of a token.

``search_cursor`` has one row: every record with an id up to ``position`` is in the index, or in ``search_deferred``
because it was still running when the cursor passed it. Record ids only grow, and on SQLite they become visible in that
order (one writer), so nothing can appear behind the cursor.

Source: SQLite FTS5, https://www.sqlite.org/fts5.html (nothing newer than 3.40 is used).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, Table, column, table
from sqlalchemy.exc import OperationalError

from tracekeeper.types import StoreError
from tracekeeper.types.text import TERMS_VERSION

metadata = MetaData()

search_cursor = Table(
    "search_cursor",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),  # of the terms, see tracekeeper.types.text
)

search_deferred = Table(
    "search_deferred",
    metadata,
    Column("record_id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
)

search = table("search", column("rowid", Integer), column("input"), column("output"))
"""The FTS5 table as queries see it. (It cannot be made from a ``Table``.)"""


def create_search(connection: Connection) -> None:
    """Make the tables where they are missing. Called when a database is made or migrated; safe to call again.

    Raises
    ------
    StoreError
        When this SQLite was built without FTS5, or the database is of another kind.
    """
    if connection.dialect.name != "sqlite":
        raise StoreError(f"full-text search is not there yet for {connection.dialect.name} databases")
    try:
        connection.exec_driver_sql(
            "CREATE VIRTUAL TABLE IF NOT EXISTS search USING fts5(input, output, content='', tokenize='ascii')"
        )
    except OperationalError as error:
        if "fts5" in str(error.orig):
            raise StoreError(
                "this Python's SQLite has no FTS5, which Tracekeeper's search needs: use another build"
            ) from error
        raise
    metadata.create_all(connection)
    if connection.execute(search_cursor.select()).first() is None:
        connection.execute(search_cursor.insert().values(id=1, position=0, version=TERMS_VERSION))


def reset_search(connection: Connection) -> None:
    """Empty the index, so that the next calls of ``index_pending`` build it anew. Needs a write transaction."""
    connection.exec_driver_sql("INSERT INTO search(search) VALUES ('delete-all')")
    connection.execute(search_deferred.delete())
    connection.execute(search_cursor.update().values(position=0, version=TERMS_VERSION))
