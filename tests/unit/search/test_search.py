"""The full-text index holds every record that has ended, once, and finds it by its words in any language."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, select, text, update

from tracekeeper.store import tables
from tracekeeper.store.search import create_search, index_pending, indexing, remove_records, reset_search, waiting
from tracekeeper.store.search.indexing import INDEXED_CHARACTERS, Waiting, indexed_text
from tracekeeper.store.search.matching import phrase
from tracekeeper.store.search.schema import search_cursor
from tracekeeper.types import StoreError
from tracekeeper.types.text import terms

Add = Callable[..., int]
Find = Callable[..., list[int]]


def test_words_are_found_in_the_field_they_are_in(connection: Connection, add: Add, find: Find) -> None:
    one = add({"question": "May I have a Refund?"}, "No refunds after 30 days.")
    two = add("Where is my parcel?", "On its way")
    assert index_pending(connection) == 2
    assert find("refund") == [one]
    assert find("REFUND") == [one]
    assert find("refund", "output") == [one]  # the last word is a prefix
    assert find("parcel") == [two]
    assert find("my parcel") == [two]
    assert find("parcel my") == []
    assert find("parcel", "output") == []


def test_keys_are_not_words_and_strings_are_decoded(connection: Connection, add: Add, find: Find) -> None:
    one = add({"question": 'café\n"quoted" 3.5'}, None)
    index_pending(connection)
    assert find("question") == []
    assert find("CAFÉ quoted 3.5") == [one]
    assert find("café") == [one]  # decomposed: the same word


@pytest.mark.parametrize(
    "query",
    ["东", "东京", "京都", "东京都", "都", "京都 rain", "都 rain", "东京都 rai", "東", "ラーメン", "ｶﾞｲﾄﾞ", "한국"],
)
def test_runs_without_spaces_are_found_from_one_character_on(
    query: str, connection: Connection, add: Add, find: Find
) -> None:
    one = add("东京都 rain, 東 ラーメンガイド 한국어", None)
    add("北京 rain", None)
    index_pending(connection)
    assert find(query) == [one]


def test_other_characters_between_do_not_match(connection: Connection, add: Add, find: Find) -> None:
    add("东京都", None)
    index_pending(connection)
    assert find("东都") == []
    assert find("京东") == []


@pytest.mark.parametrize(
    "query",
    [
        '"',
        '""',
        'refund" OR input : "x',
        "a* NOT b",
        "input:refund",
        "NEAR(a b)",
        "^x",
        "{a}:b",
        "'; DROP TABLE record; --",
    ],
)
def test_search_syntax_is_only_text(query: str, connection: Connection, add: Add, find: Find) -> None:
    one = add(f"he wrote {query} yesterday", None)
    add("something else", None)
    index_pending(connection)
    assert find(query) in ([one], [])
    assert find(query) == ([one] if terms(query) else [])


def test_a_text_without_words_finds_nothing(connection: Connection, add: Add, find: Find) -> None:
    add("anything?", None)
    index_pending(connection)
    assert find("?!") == []
    assert phrase("input", " ") is None


def test_a_running_record_is_indexed_when_it_has_ended(connection: Connection, add: Add, find: Find) -> None:
    late = add("slow parcel", None, status="running")
    early = add("quick parcel", None)
    assert waiting(connection) == Waiting(ready=1, running=1)
    assert index_pending(connection) == 1
    assert find("parcel") == [early]
    assert index_pending(connection) == 0
    assert waiting(connection) == Waiting(ready=0, running=1)
    connection.execute(update(tables.record).where(tables.record.c.id == late).values(status="interrupted"))
    assert waiting(connection) == Waiting(ready=1, running=0)
    assert index_pending(connection) == 1
    assert find("parcel") == [late, early]
    assert index_pending(connection) == 0
    assert waiting(connection) == Waiting(0, 0)


def test_limits_stop_it_and_it_goes_on_where_it_was(connection: Connection, add: Add, find: Find) -> None:
    ids = [add(f"word number {i}", None, status="running" if i % 3 == 0 else "ok") for i in range(10)]
    assert index_pending(connection, limit=0) == 0
    assert index_pending(connection, limit=4) == 4
    assert waiting(connection).ready == 2
    connection.execute(update(tables.record).values(status="ok"))
    assert [index_pending(connection, limit=4) for _ in range(3)] == [4, 2, 0]
    assert find("word") == ids


def test_time_bounds_a_call_but_each_call_gets_on(
    connection: Connection, add: Add, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "CHUNK", 3)
    ids = [add("word", None) for _ in range(7)]
    assert [index_pending(connection, seconds=0) for _ in range(4)] == [3, 3, 1, 0]
    assert find("word") == ids


def test_a_call_that_is_rolled_back_loses_and_repeats_nothing(engine: Engine, add: Add, connection: Connection) -> None:
    add("word", None)
    connection.commit()
    with engine.connect() as other:
        assert index_pending(other) == 1
        other.rollback()
        assert index_pending(other) == 1
        other.commit()
        assert index_pending(other) == 0
        assert other.scalar(text("SELECT count(*) FROM search WHERE search MATCH 'word'")) == 1


def test_removed_records_are_found_no_more(connection: Connection, add: Add, find: Find) -> None:
    one, two = add("first 词语", "x"), add("second 词语", "x")
    running = add("third", None, status="running")
    index_pending(connection)
    new = add("fourth", None)
    remove_records(connection, [one, running, new])
    assert find("词语") == [two]
    assert index_pending(connection) == 1  # the new one had not been in the index
    connection.execute(text("INSERT INTO search(search) VALUES ('integrity-check')"))


def test_another_version_of_the_terms_builds_the_index_anew(connection: Connection, add: Add, find: Find) -> None:
    one = add("word", None)
    index_pending(connection)
    connection.execute(update(search_cursor).values(version=0))
    assert index_pending(connection) == 1
    assert find("word") == [one]
    reset_search(connection)
    assert find("word") == []


def test_long_damaged_and_odd_values_are_searched_as_far_as_they_go(
    connection: Connection, add: Add, find: Find
) -> None:
    long = add("begin " + "x " * INDEXED_CHARACTERS + " finish", None)
    damaged = add(raw='{"question": "begin unfinis')
    deep = add(raw="[" * 5000 + '"begin"' + "]" * 5000)
    add(raw="null")
    index_pending(connection)
    assert find("begin") == [long, damaged, deep]
    assert find("finish") == []


def test_creating_twice_changes_nothing(connection: Connection, add: Add, find: Find) -> None:
    one = add("word", None)
    index_pending(connection)
    create_search(connection)
    assert find("word") == [one]


def test_another_kind_of_database_is_refused() -> None:
    class Other:
        class dialect:
            name = "oracle"

    with pytest.raises(StoreError, match="oracle"):
        create_search(Other())  # type: ignore[arg-type]


def test_a_reader_that_becomes_the_indexer_does_not_collide(engine: Engine) -> None:
    """The first statement writes, so a deferred transaction takes the write lock before it has read anything."""
    seen: list[str] = []
    with engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.set_trace_callback(seen.append)
        index_pending(connection)
        driver.set_trace_callback(None)
        connection.rollback()
    assert next(statement for statement in seen if not statement.startswith("BEGIN")).startswith("UPDATE search_cursor")


alphabet = st.sampled_from([*list("abAÉ 1_'\"*-东京都カ°한"), "́", "ि", "ｶ", "\n"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(alphabet, max_size=12), max_size=6), query=st.text(alphabet, max_size=4))
def test_the_index_agrees_with_looking_at_the_terms(engine: Engine, texts: list[str], query: str) -> None:
    from tracekeeper.store.search import match_records

    with engine.connect() as connection:
        reset_search(connection)
        for number, value in enumerate(texts, start=1):
            row = {"trace_id": "a", "span_id": "b", "name": "n", "status": "ok", "started_at": 1}
            connection.execute(tables.span.insert().values(id=number, kind="task", record_span_id="b", **row))
            connection.execute(tables.payload.insert().values(id=number, input=msgspec.json.encode(value).decode()))
            connection.execute(tables.record.insert().values(id=number, project="p", **row))
        index_pending(connection)
        condition = match_records("input", query, record_id=tables.record.c.id)
        found = set(connection.scalars(select(tables.record.c.id).where(condition)))
        connection.rollback()
    assert found == {number for number, value in enumerate(texts, start=1) if contains(value, query)}


def contains(value: str, query: str) -> bool:
    """What the index answers, said without an index."""
    from tracekeeper.types.text import query_terms

    have, want = terms(value), query_terms(query)
    return bool(want) and any(
        have[i : i + len(want) - 1] == want[:-1] and have[i + len(want) - 1].startswith(want[-1])
        for i in range(len(have) - len(want) + 1)
    )


def test_the_text_of_a_value_is_its_leaves_in_order() -> None:
    assert indexed_text('{"a": ["x", {"b": 1}], "c": true, "d": "y"}') == "x\n1\ny"
    assert indexed_text(None) == ""
