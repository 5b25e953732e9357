"""A plain SQLite database with the tables, and a way to put records into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, Engine, create_engine, insert, select

from tracekeeper.store import tables
from tracekeeper.store.search import create_search, match_records

AddRecord = Callable[..., int]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'store.db'}")
    tables.metadata.create_all(engine)
    with engine.begin() as connection:
        create_search(connection)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def add(connection: Connection) -> AddRecord:
    """Store a record and give back its id."""

    def add(input: object = None, output: object = None, *, status: str = "ok", raw: str | None = None) -> int:
        row = {"trace_id": "a" * 32, "span_id": "b" * 16, "name": "ask", "status": status, "started_at": 1}
        span = {**row, "kind": "task", "record_span_id": row["span_id"]}
        key = connection.execute(insert(tables.span).values(span)).inserted_primary_key
        assert key is not None
        id = int(key[0])
        texts = {"input": raw or _json(input), "output": _json(output)}
        connection.execute(insert(tables.payload).values(id=id, **texts))
        connection.execute(insert(tables.record).values(id=id, project="default", **row))
        return id

    return add


@pytest.fixture
def find(connection: Connection) -> Callable[..., list[int]]:
    """Ids of the records whose input (or output) contains a text."""

    def find(text: str, field: str = "input") -> list[int]:
        condition = match_records(field, text, record_id=tables.record.c.id)  # type: ignore[arg-type]
        return list(connection.scalars(select(tables.record.c.id).where(condition).order_by(tables.record.c.id)))

    return find


def _json(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
