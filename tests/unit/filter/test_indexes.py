"""Filters that name few records find them through an index: no scan of 100,000 rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, select, text

from tracekeeper.store import tables
from tracekeeper.store.filter import fields
from tracekeeper.store.filter.compile import compile_filter
from tracekeeper.store.search import create_search

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
ROWS = f"""
INSERT INTO app(id, name, version, first_seen) VALUES (1, 'rag', '1.1', 1), (2, 'rag', '1.2', 1), (3, 'x', '1.2', 1);

{NUMBERS} INSERT INTO record
    (id, trace_id, span_id, app_id, name, project, status, started_at, session_id, user_id, error_type)
    SELECT i, printf('%032x', i), printf('%016x', i), i % 3 + 1, 'ask', 'p', iif(i % 100, 'ok', 'error'), i,
        's' || (i / 10), 'u' || (i % 1000), iif(i % 100, NULL, 'ValueError') FROM n;

{NUMBERS} INSERT INTO tag(tag, record_id) SELECT 't' || (i % 500), i FROM n;

{NUMBERS} INSERT INTO score(target, trace_id, span_id, name, source, record_id, status, value, created_at)
    SELECT 'record', printf('%032x', i), printf('%016x', i), 'groundedness', 'code', i,
        iif(i % 200, 'scored', 'failed'), iif(i % 200, (i % 1000) / 1000.0, NULL), i FROM n
"""


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    path: Path = tmp_path_factory.mktemp("indexes") / "store.db"
    engine = create_engine(f"sqlite:///{path}")
    tables.metadata.create_all(engine)
    with engine.begin() as connection:
        create_search(connection)
        for statement in ROWS.split(";"):
            connection.execute(text(statement))
        yield connection
    engine.dispose()


def plan(connection: Connection, filter: str, target: str = "record", peek: bool = False) -> list[str]:
    table = tables.record if target == "record" else tables.span
    condition = compile_filter(filter, target=target, connection=connection if peek else None)  # type: ignore[arg-type]
    assert condition is not None
    statement = select(table.c.id).where(condition).order_by(table.c.id.desc()).limit(50)
    compiled = statement.compile(connection, compile_kwargs={"render_postcompile": True})
    parameters = tuple(compiled.params[name] for name in compiled.positiontup or [])
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", parameters)
    return [row[3] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("filter", "index"),
    [
        ('app = "rag"', "(app_id=?"),
        ('app.version = "1.2"', "(app_id=?"),
        ('app = "rag" and app.version = "1.2" and status = error', "record_"),
        ("status = error", "record_status (status=?)"),
        ("status in (error, interrupted)", "record_status (status=?)"),
        ('session = "s17"', "record_session (session_id=?)"),
        ('user = "u17"', "record_user (user_id=?)"),
        ("error.type = ValueError", "record_error (error_type=?)"),
        ("trace = 0000000000000000000000000000002a", "record_key (trace_id=?)"),
        ('tag = "t17"', "PRIMARY KEY (tag=?)"),
        ("score.groundedness < 0.01", "score_name (name=? AND status=? AND value>? AND value<?)"),
        ("score.groundedness = 0.5", "score_name (name=? AND status=? AND value=?"),
        ("score.groundedness.status = failed", "score_name (name=? AND status=?)"),
    ],
)
def test_records_are_found_through_an_index(connection: Connection, filter: str, index: str) -> None:
    steps = plan(connection, filter)
    assert any(index in step for step in steps), steps
    assert not any(step.startswith(("SCAN record", "SCAN score", "SCAN tag")) for step in steps), steps


def test_words_are_found_through_the_full_text_index(connection: Connection) -> None:
    steps = plan(connection, 'input ~ "refund"')
    assert any("search VIRTUAL TABLE INDEX" in step for step in steps), steps
    assert not any(step.startswith("SCAN record") for step in steps), steps


def test_what_a_record_or_span_has_is_looked_up_by_key(connection: Connection) -> None:
    assert any("span_key (trace_id=?)" in step for step in plan(connection, "kind = llm"))
    assert any("INTEGER PRIMARY KEY" in step for step in plan(connection, 'attr["k"] = 1'))
    assert any("record_key (trace_id=?" in step for step in plan(connection, 'app = "rag"', "span"))
    assert any("score_key (trace_id=? AND span_id=?" in step for step in plan(connection, "score.x < 1", "span"))


@pytest.mark.slow
def test_a_score_that_many_have_is_looked_at_record_by_record(connection: Connection) -> None:
    many, few = "score.groundedness >= 0", "score.groundedness < 0.01"
    assert any("score_record (record_id=?" in step for step in plan(connection, many, peek=True))
    assert any("score_name (name=?" in step for step in plan(connection, few, peek=True))
    for filter in (many, few):
        conditions = compile_filter(filter), compile_filter(filter, connection=connection)
        found = [
            connection.scalars(select(tables.record.c.id).where(condition)).all()  # type: ignore[arg-type]
            for condition in conditions
        ]
        assert sorted(found[0]) == sorted(found[1])


def test_the_query_around_it_may_join_any_table(connection: Connection) -> None:
    """What a subquery correlates with is explicit, so it never loses its own tables to the query around it."""
    every = " and ".join(f"not ({field.example})" for field in fields())
    table = tables.record.outerjoin(tables.app).outerjoin(tables.payload, tables.payload.c.id == tables.record.c.id)
    table = table.outerjoin(tables.score, tables.score.c.record_id == tables.record.c.id)
    table = table.outerjoin(tables.span, tables.span.c.id == tables.record.c.id)
    table = table.outerjoin(tables.tag, tables.tag.c.record_id == tables.record.c.id)
    for target in ("record", "span"):
        condition = compile_filter(every, target=target)  # type: ignore[arg-type]
        assert condition is not None
        connection.execute(select(tables.record.c.id).select_from(table).where(condition).limit(1)).all()


def test_the_rows_are_the_right_ones(connection: Connection) -> None:
    def count(filter: str) -> int:
        condition = compile_filter(filter)
        assert condition is not None
        return len(connection.scalars(select(tables.record.c.id).where(condition)).all())

    assert count("status = error") == 1000
    assert count('app = "rag" and app.version = "1.2"') == 33_334
    assert count('session = "s17"') == 10
    assert count('tag = "t17"') == 200
    assert count("score.groundedness < 0.01") == 900
    assert count("score.groundedness.status = failed") == 500
