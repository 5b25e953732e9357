"""The hot statements: defined in Core, compiled once to text, executed on tuples by the driver.

Executing Core statements costs as much again as SQLite itself; the text of the same statements on tuples does not. Each
is a ``Hot``: its text and the names of its parameters in order, checked when this module is imported, so that a tuple
can be written down beside the names it must follow.

The statements about scores are in ``score_statements``.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Table,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert

from tracekeeper.store.tables import (
    app,
    experiment,
    item,
    journal,
    metric,
    payload,
    record,
    span,
    tag,
)

_dialect = sqlite.dialect(paramstyle="qmark")


class Hot(NamedTuple):
    """A statement's text and the names of its parameters, in order."""

    text: str
    names: tuple[str, ...]


def hot(statement: Any, *names: str, column_keys: tuple[str, ...] | None = None) -> Hot:
    """Compile a statement whose parameters must be ``names``, in this order."""
    compiled = statement.compile(
        dialect=_dialect,
        column_keys=list(column_keys) if column_keys else None,
        compile_kwargs={"render_postcompile": True},
    )
    found = tuple(compiled.positiontup or ())
    if found != (names or column_keys or ()):
        raise AssertionError(f"parameters of {compiled}: {found}, not {names or column_keys}")
    return Hot(str(compiled), found)


def names_of(table: Table) -> tuple[str, ...]:
    """The columns of a table, in order."""
    return tuple(column.name for column in table.columns)


def p(name: str) -> Any:
    """A parameter."""
    return bindparam(name)


# -- journal ----------------------------------------------------------------------------------------------------------

MOVE_CURSOR: Final = hot(
    update(journal)
    .values(
        {
            "cursor": p("cursor_"),
            "cursor_version": journal.c.cursor_version + literal_column("1"),
            "damaged": journal.c.damaged + p("damaged_"),
            "dropped": func.coalesce(p("dropped_"), journal.c.dropped),
            "seen_at": p("now"),
        }
    )
    .where(journal.c.id == p("journal"), journal.c.cursor_version == p("version")),
    *("cursor_", "damaged_", "dropped_", "now", "journal", "version"),
)
COUNT_STORED: Final = hot(
    update(journal)
    .values(
        {
            "state": func.coalesce(p("state_"), journal.c.state),
            "spans_stored": journal.c.spans_stored + p("spans"),
            "scores_stored": journal.c.scores_stored + p("scores"),
            "refused": journal.c.refused + p("refused_"),
        }
    )
    .where(journal.c.id == p("journal")),
    *("state_", "spans", "scores", "refused_", "journal"),
)


# -- definitions ------------------------------------------------------------------------------------------------------


def _define(table: Any) -> Hot:
    statement = insert(table)
    known = statement.on_conflict_do_update(index_elements=["name", "version"], set_={"data": statement.excluded.data})
    return hot(known, column_keys=("name", "version", "first_seen", "data"))


DEFINE: Final = {"app": _define(app), "metric": _define(metric), "experiment": _define(experiment)}
ADD_APP: Final = hot(
    insert(app).on_conflict_do_nothing(index_elements=["name", "version"]),
    column_keys=("name", "version", "first_seen"),
)
FIND_APP: Final = hot(select(app.c.id).where(app.c.name == p("name"), app.c.version == p("version")), "name", "version")

# -- spans ------------------------------------------------------------------------------------------------------------

INSERT_SPAN: Final = hot(insert(span), column_keys=names_of(span))
INSERT_PAYLOAD: Final = hot(insert(payload), column_keys=names_of(payload))
RECORD_COLUMNS: Final = tuple(
    name for name in names_of(record) if name not in ("input_tokens", "output_tokens", "cost")
)
INSERT_RECORD: Final = hot(insert(record), column_keys=RECORD_COLUMNS)
INSERT_TAG: Final = hot(insert(tag).on_conflict_do_nothing(), column_keys=("tag", "record_id"))
DELETE_TAG: Final = hot(tag.delete().where(tag.c.tag == p("name"), tag.c.record_id == p("row")), "name", "row")

FIND_OPEN: Final = hot(
    select(span.c.id, span.c.started_at)
    .where(
        span.c.trace_id == p("trace"),
        span.c.span_id == p("span"),
        span.c.journal_id == p("journal"),
        # A late end is truer than the guess that its process had died.
        span.c.status.in_([literal_column("'running'"), literal_column("'interrupted'")]),
    )
    .order_by(span.c.id),
    *("trace", "span", "journal"),
)
_END: Final = (
    "status",
    "duration",
    "model",
    "provider",
    "input_tokens",
    "output_tokens",
    "cost",
    "usage",
    "error_type",
)
END_SPAN: Final = hot(
    update(span)
    .values(
        {
            "name": func.coalesce(p("name_"), span.c.name),
            "kind": func.coalesce(p("kind_"), span.c.kind),
            **{name: p(name + "_") for name in _END},
            "chunks": func.coalesce(p("chunks_"), span.c.chunks),
            "first_chunk": p("first_chunk_"),
        }
    )
    .where(span.c.id == p("row")),
    *("name_", "kind_", *(name + "_" for name in _END), "chunks_", "first_chunk_", "row"),
)
END_RECORD: Final = hot(
    update(record)
    .values(
        {
            "app_id": func.coalesce(p("app"), record.c.app_id),
            "name": func.coalesce(p("name_"), record.c.name),
            "status": p("status_"),
            "duration": p("duration_"),
            "error_type": p("error_type_"),
            "session_id": func.coalesce(p("session"), record.c.session_id),
            "user_id": func.coalesce(p("user"), record.c.user_id),
            "tags": func.coalesce(p("tags_"), record.c.tags),
        }
    )
    .where(record.c.id == p("row")),
    *("app", "name_", "status_", "duration_", "error_type_", "session", "user", "tags_", "row"),
)
FIND_RECORD: Final = hot(select(record.c.app_id, record.c.tags).where(record.c.id == p("row")), "row")
COUNT_CHUNKS: Final = hot(
    update(span).values(chunks=func.coalesce(p("chunks_"), span.c.chunks)).where(span.c.id == p("row")),
    *("chunks_", "row"),
)


def _merge_payload() -> Hot:
    """What an end or a checkpoint says replaces what the start said; what it does not say stays."""
    statement = insert(payload)
    new = statement.excluded

    def size(column: str) -> Any:
        return case((new[column].is_(null()), payload.c[column + "_size"]), else_=new[column + "_size"])

    changes: dict[str, Any] = {
        name: func.coalesce(new[name], payload.c[name])
        for name in names_of(payload)
        if name not in ("id", "input_size", "output_size")
    }
    changes |= {"input_size": size("input"), "output_size": size("output")}
    return hot(statement.on_conflict_do_update(index_elements=["id"], set_=changes), column_keys=names_of(payload))


MERGE_PAYLOAD: Final = _merge_payload()

INTERRUPT_RECORDS: Final = hot(
    update(record)
    .values(status=literal_column("'interrupted'"))
    .where(
        record.c.id.in_(
            select(span.c.id).where(span.c.journal_id == p("journal"), span.c.status == literal_column("'running'"))
        )
    ),
    "journal",
)
INTERRUPT_SPANS: Final = hot(
    update(span)
    .values(status=literal_column("'interrupted'"))
    .where(span.c.journal_id == p("journal"), span.c.status == literal_column("'running'")),
    "journal",
)


_reports: Final = and_(
    span.c.record_span_id == record.c.span_id,
    span.c.trace_id == record.c.trace_id,
    # In the words of the index span_usage.
    or_(span.c.input_tokens.is_not(None), span.c.output_tokens.is_not(None), span.c.cost.is_not(None)),
)
_sums: Final = {
    name: select(func.sum(span.c[name])).where(_reports).correlate(record).scalar_subquery()
    for name in ("input_tokens", "output_tokens", "cost")
}
SUM_NEW_RECORDS: Final = hot(
    update(record).values(_sums).where(record.c.id >= p("first"), exists().where(_reports)), "first"
)
"""New records: their spans may have been stored before them."""
SUM_RECORD: Final = hot(
    update(record).values(_sums).where(record.c.trace_id == p("trace"), record.c.span_id == p("span")),
    *("trace", "span"),
)

# -- items ------------------------------------------------------------------------------------------------------------


def _put_item() -> Hot:
    statement = insert(item)
    new = statement.excluded
    changes = {name: new[name] for name in ("status", "at", "trace_id", "span_id", "reason")}
    return hot(
        statement.on_conflict_do_update(
            index_elements=["experiment", "item", "repeat"],
            set_={**changes, "data": func.coalesce(new.data, item.c.data)},
            where=new.at >= item.c.at,
        ),
        column_keys=tuple(name for name in names_of(item) if name != "id"),
    )


PUT_ITEM: Final = _put_item()
