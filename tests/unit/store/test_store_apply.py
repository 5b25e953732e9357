"""Storing batches: spans, records, tags, tokens, cursors."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from tests.support.rows import SECOND, START, Writer, end, key_of, record, span_id, start

from tracekeeper.journal.frames import Definition, ErrorInfo, ItemFrame, SpanCheckpoint
from tracekeeper.store.errors import StaleCursor
from tracekeeper.store.rows import Batch, SpanWrite
from tracekeeper.store.store import Store
from tracekeeper.types import Usage


def only(store: Store) -> Any:
    (row,) = store.records()
    return row


def test_a_whole_record_is_stored_with_its_payload_and_app(store: Store, journal: Writer) -> None:
    write = record(
        seconds=2.5,
        input=b'{"q": "why?"}',
        output=b'"because"',
        error=ErrorInfo("ValueError", "no", "Traceback"),
        status="error",
        tags=("a", "b"),
        session_id="s",
        user_id="u",
        environment="prod",
        release="r",
        project="bot",
    )
    assert journal.apply(write) == (1, 0, 0, 1)
    row = only(store)
    assert (row.app, row.version, row.name, row.project, row.status) == ("rag", "1", "ask", "bot", "error")
    assert (row.started_at, row.duration, row.error_type) == (START, 2_500_000_000, "ValueError")
    assert (row.session_id, row.user_id, row.environment, row.release) == ("s", "u", "prod", "r")
    assert json.loads(row.tags) == ["a", "b"]
    payload = store.payloads([row.id])[row.id]
    assert (payload.input, payload.output) == ('{"q": "why?"}', '"because"')
    assert (payload.error_message, payload.error_traceback) == ("no", "Traceback")
    with store.read() as connection:
        tags = connection.exec_driver_sql("SELECT tag FROM tag WHERE record_id = ? ORDER BY tag", (row.id,)).all()
    assert [tag for (tag,) in tags] == ["a", "b"]


def test_what_the_end_says_overrides_the_start(store: Store, journal: Writer) -> None:
    begun = start(tags=("old",), session_id="old", user_id="old", input=b'"old"', app="old", app_version="1")
    said: dict[str, Any] = {
        "name": "new",
        "kind": "agent",
        "tags": ("new",),
        "session_id": "new",
        "user_id": "new",
        "input": b'"new"',
        "app": "new",
        "app_version": "2",
    }
    later = start(tags=("old",), session_id="old", user_id="old", input=b'"old"', app="old", app_version="1")
    journal.apply(SpanWrite(begun, end(begun, **said)), SpanWrite(later))
    journal.apply(ends=[end(later, **said)])
    rows = store.records()
    assert len(rows) == 2
    for row in rows:
        assert (row.name, row.session_id, row.user_id, row.tags) == ("new", "new", "new", '["new"]')
        assert (row.app, row.version) == ("new", "2")
        assert store.payloads([row.id])[row.id].input == '"new"'
        assert store.spans_of(row.trace_id)[0].kind == "agent"
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT DISTINCT tag FROM tag").scalars().all() == ["new"]


def test_a_running_record_shows_its_progress_and_then_ends(store: Store, journal: Writer) -> None:
    begun = start(app="rag", input=b'"q"', tags=("t",))
    journal.apply(SpanWrite(begun))
    assert (only(store).status, only(store).duration) == ("running", None)
    assert store.running_spans(journal.id) == [(begun.trace_id, begun.span_id)]
    progress = SpanCheckpoint(begun.trace_id, begun.span_id, START + 1, b'"so f"', 99, 3)
    journal.apply(checkpoints=[progress])
    payload = store.payloads([only(store).id])[only(store).id]
    assert (payload.input, payload.output, payload.output_size) == ('"q"', '"so f"', 99)
    applied = journal.apply(ends=[end(begun, 3, first_chunk=START + 7, chunks=9, output=b'"so far"')])
    assert applied.spans == 0
    row = only(store)
    assert (row.status, row.duration, row.app, row.tags) == ("ok", 3 * SECOND, "rag", '["t"]')
    payload = store.payloads([row.id])[row.id]
    assert (payload.input, payload.output, payload.output_size) == ('"q"', '"so far"', 0)
    (span,) = store.spans_of(row.trace_id)
    assert (span.chunks, span.first_chunk, span.status) == (9, 7, "ok")
    assert store.running_spans(journal.id) == []


def test_an_end_without_output_keeps_the_text_so_far(store: Store, journal: Writer) -> None:
    begun = start()
    progress = SpanCheckpoint(begun.trace_id, begun.span_id, START + 1, b'"so f"', 0, 3)
    journal.apply(SpanWrite(begun))
    journal.apply(checkpoints=[progress], ends=[end(begun, status="abandoned")])
    whole = start()
    journal.apply(SpanWrite(whole, end(whole), checkpoint=progress))
    for row in store.records():
        assert store.payloads([row.id])[row.id].output == '"so f"'


def test_a_clock_that_went_back_gives_no_negative_duration(store: Store, journal: Writer) -> None:
    begun, running = start(), start()
    journal.apply(SpanWrite(begun, end(begun, -5, first_chunk=START - 9)), SpanWrite(running))
    journal.apply(ends=[end(running, -5)])
    assert [row.duration for row in store.records()] == [0, 0]
    assert store.spans_of(begun.trace_id.hex())[0].first_chunk == 0


def test_two_spans_of_one_key_are_both_kept(store: Store, journal: Writer) -> None:
    begun = start()
    journal.apply(SpanWrite(begun, end(begun)), SpanWrite(begun, end(begun)))
    assert len(store.records()) == 2


def test_a_second_end_changes_nothing(store: Store, journal: Writer) -> None:
    begun = start()
    journal.apply(SpanWrite(begun))
    journal.apply(ends=[end(begun, 1)])
    journal.apply(ends=[end(begun, 9, status="error")])
    assert (only(store).status, only(store).duration) == ("ok", SECOND)


def test_an_end_whose_row_was_deleted_is_kept(store: Store, journal: Writer) -> None:
    begun = start()
    journal.apply(SpanWrite(begun))
    with store.write() as connection:
        for table in ("record", "span"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    applied = journal.apply(ends=[end(begun, name="ask", output=b'"x"')])
    assert applied.spans == 1
    assert (only(store).name, only(store).status) == ("ask", "ok")


def test_tokens_of_all_spans_add_up_on_the_record(store: Store, journal: Writer) -> None:
    root = start(app="rag")
    calls = [start(root.trace_id, parent_id=root.span_id, record_id=root.span_id) for _ in range(3)]
    other = start(root.trace_id)  # another record of the same trace
    used = Usage(input_tokens=10, output_tokens=2, cost=0.5)
    # A child is stored before its record, one with it, one after it.
    journal.apply(SpanWrite(calls[0], end(calls[0], usage=used)))
    journal.apply(
        SpanWrite(root),
        SpanWrite(calls[1], end(calls[1], usage=used)),
        SpanWrite(other, end(other, usage=Usage(input_tokens=7))),
        SpanWrite(calls[2]),
    )
    journal.apply(ends=[end(calls[2], usage=Usage(output_tokens=1, cache_read_tokens=4))])
    rows = {row.span_id: row for row in store.records()}
    whole, second = rows[root.span_id.hex()], rows[other.span_id.hex()]
    assert (whole.input_tokens, whole.output_tokens, whole.cost) == (20, 5, 1.0)
    assert (second.input_tokens, second.output_tokens, second.cost) == (7, None, None)
    usages = [span.usage for span in store.spans_of(root.trace_id.hex(), root.span_id.hex()) if span.usage]
    assert [json.loads(usage) for usage in usages] == [{"output_tokens": 1, "cache_read_tokens": 4, "estimated": False}]


def test_figures_that_no_column_can_hold_become_not_reported(store: Store, journal: Writer) -> None:
    journal.apply(record(usage=Usage(input_tokens=2**63, output_tokens=3, cost=float("nan"))))
    assert (only(store).input_tokens, only(store).output_tokens, only(store).cost) == (None, 3, None)


def test_the_spans_of_one_record_are_told_from_the_trace(store: Store, journal: Writer) -> None:
    root = start()
    child = start(root.trace_id, parent_id=root.span_id, record_id=root.span_id, started=START + 5)
    other = start(root.trace_id, started=START + 9)
    journal.apply(*(SpanWrite(each, end(each)) for each in (other, child, root)))
    trace = root.trace_id.hex()
    ids = [each.span_id.hex() for each in (root, child, other)]
    assert [span.span_id for span in store.spans_of(trace)] == ids
    assert [span.span_id for span in store.spans_of(trace, root.span_id.hex())] == ids[:2]


def test_an_interrupted_journal_leaves_nothing_running(store: Store, journal: Writer) -> None:
    running, held = start(input=b'"q"'), start()
    child = start(running.trace_id, record_id=running.span_id)
    bystander = Writer(store, "other")
    elsewhere = start()
    bystander.apply(SpanWrite(elsewhere))
    journal.apply(SpanWrite(running), SpanWrite(child))
    journal.apply(SpanWrite(held, status="interrupted"), interrupt=True)
    rows = {row.span_id: row.status for row in store.records()}
    assert rows == {
        running.span_id.hex(): "interrupted",
        held.span_id.hex(): "interrupted",
        elsewhere.span_id.hex(): "running",
    }
    assert {span.status for span in store.spans_of(running.trace_id.hex())} == {"interrupted"}
    row = store.journal_row("j")
    assert row is not None
    assert row.state == "recovered"


def test_a_stale_cursor_stores_nothing(store: Store, journal: Writer) -> None:
    batch = journal.batch(record())
    store.apply(journal.id, batch)
    with pytest.raises(StaleCursor, match="version 1, not 0"):
        store.apply(journal.id, batch)
    assert len(store.records()) == 1
    with pytest.raises(StaleCursor, match="register"):
        store.apply(4711, Batch())


def test_the_journals_row_keeps_the_account(store: Store, journal: Writer) -> None:
    journal.apply(record(), damaged=2, dropped={"journal full": 3})
    journal.apply(record(), damaged=1)
    row = store.journal_row("j")
    assert row is not None
    assert (row.spans_stored, row.damaged, row.dropped, row.cursor, row.cursor_version) == (
        2,
        3,
        {"journal full": 3},
        b"c",
        2,
    )
    ledger = store.ledger("j")
    assert ledger is not None
    assert (ledger.journal, ledger.running) == (row, 0)
    assert store.ledger("unknown") is None
    counts = store.counts()
    assert (counts.records, counts.spans, counts.damaged, counts.dropped) == (2, 2, 3, {"journal full": 3})
    store.close_journal(journal.id)
    assert [each.state for each in store.journal_rows()] == ["closed"]


def test_definitions_are_kept_and_renewed(store: Store, journal: Writer) -> None:
    first = [Definition("app", "rag", "1", b'{"a": 1}'), Definition("metric", "m", "v", b"{}"), Definition("?", "", "")]
    journal.apply(record(), definitions=first)
    journal.apply(definitions=[Definition("app", "rag", "1", b'{"a": 2}')])
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT name, data FROM app").all() == [("rag", '{"a": 2}')]
        assert connection.exec_driver_sql("SELECT name, version FROM metric").all() == [("m", "v")]


def test_an_item_keeps_its_latest_status(store: Store, journal: Writer) -> None:
    def item(status: str, at: int, data: bytes | None = None) -> ItemFrame:
        return ItemFrame("e", "i", 0, status, at, span_id=span_id(), data=data)

    journal.apply(items=[item("running", 1, b"{}"), item("ok", 5)])
    journal.apply(items=[item("running", 2)])
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT status, at, data FROM item").all() == [("ok", 5, "{}")]


def test_apps_are_not_remembered_from_a_batch_that_was_rolled_back(store: Store, journal: Writer) -> None:
    from tracekeeper.types import faults

    with faults.armed("store.apply.commit", faults.failing(28)), pytest.raises(Exception, match="No space"):
        journal.apply(record(app="ghost"))
    journal.apply(record(app="other"))
    journal.apply(record(app="ghost"))
    assert [row.app for row in store.records()] == ["ghost", "other"]


def test_threads_store_at_once(store: Store) -> None:
    writers = [Writer(store, f"j{number}") for number in range(4)]
    errors: list[BaseException] = []

    def work(writer: Writer) -> None:
        try:
            for _ in range(10):
                writer.apply(record(), record())
                store.records(limit=5)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.counts().records == 80


def test_records_are_paged_by_row_id(store: Store, journal: Writer) -> None:
    writes = [record() for _ in range(5)]
    journal.apply(*writes)
    newest = store.records(limit=2)
    assert [row.span_id for row in newest] == [key_of(write)[1] for write in (writes[4], writes[3])]
    following = store.records(limit=2, before=newest[-1].id)
    assert [row.span_id for row in following] == [key_of(write)[1] for write in (writes[2], writes[1])]
    assert [row.id for row in store.records(limit=2, after=2, oldest_first=True)] == [3, 4]
    assert len(store.records(limit=None)) == 5
    assert store.records(limit=0) == []
    found = store.records_by_key([key_of(writes[0]), key_of(writes[3]), ("no", "such")])
    assert [row.span_id for row in found] == [key_of(writes[0])[1], key_of(writes[3])[1]]
