"""The tables, as SQLAlchemy Core sees them: one definition for SQLite and PostgreSQL.

Narrow ``span`` rows are kept apart from wide ``payload`` rows, so that lists and aggregates never read the texts. Row
ids only grow, so inserting never touches old pages. A record is a span that is a unit of judgement (see ``record``):
its row has the same id as its span row.

Times are integer nanoseconds since the Unix epoch, durations integer nanoseconds, ids lower-case hex text, JSON text.
Key columns that may be absent hold ``''`` instead of NULL, because NULLs are distinct in a unique index.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

# SQLite makes a monotone 64-bit rowid of INTEGER PRIMARY KEY only; PostgreSQL needs BIGINT.
RowId = BigInteger().with_variant(Integer(), "sqlite")

REPORTS_USAGE = "input_tokens IS NOT NULL OR output_tokens IS NOT NULL OR cost IS NOT NULL"
"""Condition of the indexes ``span_usage`` and ``record_usage``. A query must state it in these words to be served."""

CLAIMABLE = (
    "status = 'pending' AND local = 0 AND (journal_id IS NULL OR mode = 'deferred') AND (owner IS NULL OR owner = '')"
)
"""Condition of the index ``score_claim``: what waits for whoever can compute it. What is claimed is not in it, nor what
a producer is about to settle from memory, so these cost a claimer nothing, however many there are."""

OWNED = "owner IS NOT NULL AND owner <> ''"
"""Condition of the index ``score_owner``."""

SETTLED = "settled_at IS NOT NULL"
"""Condition of the index ``score_settled``."""

OF_A_RECORD = "record_id IS NOT NULL"
"""Condition of the index ``score_app``, likewise."""


def _where(condition: str) -> dict[str, Any]:
    """An index over the rows that meet a condition, on both databases."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


metadata = MetaData()

app = Table(
    "app",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("data", Text, nullable=False, server_default="{}"),
    Index("app_key", "name", "version", unique=True),
)

metric = Table(
    "metric",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("data", Text, nullable=False, server_default="{}"),
    Index("metric_key", "name", "version", unique=True),
)

journal = Table(
    "journal",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("host", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # live, recovered (its process died and its frames were adopted), closed
    Column("cursor", LargeBinary, nullable=False),  # opaque: shipper's position, see shipper.cursor
    Column("cursor_version", BigInteger, nullable=False),  # compared and incremented in every batch's transaction
    Column("spans_stored", BigInteger, nullable=False, server_default="0"),
    Column("scores_stored", BigInteger, nullable=False, server_default="0"),
    Column("damaged", BigInteger, nullable=False, server_default="0"),  # frames that did not decode
    Column("refused", BigInteger, nullable=False, server_default="0"),  # score frames whose lease was taken
    Column("dropped", Text, nullable=False, server_default="{}"),  # JSON object: reason -> count
    Column("seen_at", BigInteger, nullable=False),  # last batch or heartbeat: renews the leases of its pending scores
    # The few that may have let their lease lapse, among all that ever were.
    Index("journal_live", "id", **_where("state = 'live'")),
)

span = Table(
    "span",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("trace_id", Text, nullable=False),
    Column("span_id", Text, nullable=False),
    Column("parent_id", Text),
    Column("record_span_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("duration", BigInteger),  # NULL while running, and of an interrupted span
    Column("model", Text),
    Column("provider", Text),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cost", Float),
    Column("usage", Text),  # JSON object with every reported figure, when there is more than the columns hold
    Column("error_type", Text),
    Column("chunks", BigInteger),
    Column("first_chunk", BigInteger),  # nanoseconds after the start
    Column("journal_id", BigInteger, ForeignKey("journal.id")),  # who wrote it
    Index("span_key", "trace_id", "span_id"),
    Index("span_running", "journal_id", **_where("status = 'running'")),
    # Finds the few spans of a record whose tokens and money add up, however many spans its trace has.
    Index("span_usage", "record_span_id", **_where(REPORTS_USAGE)),
)

payload = Table(
    "payload",
    metadata,
    Column("id", RowId, ForeignKey("span.id"), primary_key=True, autoincrement=False),
    Column("input", Text),
    Column("input_size", BigInteger, nullable=False, server_default="0"),
    Column("output", Text),
    Column("output_size", BigInteger, nullable=False, server_default="0"),
    Column("attributes", Text),
    Column("events", Text),
    Column("links", Text),
    Column("context", Text),
    Column("expected", Text),
    Column("metadata", Text),
    Column("error_message", Text),
    Column("error_traceback", Text),
)

record = Table(
    "record",
    metadata,
    Column("id", RowId, ForeignKey("span.id"), primary_key=True, autoincrement=False),
    Column("trace_id", Text, nullable=False),
    Column("span_id", Text, nullable=False),
    Column("app_id", BigInteger, ForeignKey("app.id")),
    Column("name", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("duration", BigInteger),
    Column("error_type", Text),
    Column("session_id", Text),
    Column("user_id", Text),
    Column("environment", Text),
    Column("release", Text),
    Column("tags", Text),  # JSON list; the tag table is its index
    Column("input_tokens", BigInteger),  # sums over the record's spans that reported usage
    Column("output_tokens", BigInteger),
    Column("cost", Float),
    Index("record_key", "trace_id", "span_id"),
    Index("record_app", "app_id", "status"),
    Index("record_status", "status"),
    # These two cover the leaderboard: means, (in the order of duration) percentiles and sums, without reading a row.
    Index("record_latency", "app_id", "duration", "status"),
    Index("record_usage", "app_id", "input_tokens", "output_tokens", "cost", **_where(REPORTS_USAGE)),
    # Covers what an alert asks of the calls of a time.
    Index("record_started", "started_at", "status", "duration", "cost"),
    Index("record_session", "session_id", **_where("session_id IS NOT NULL")),
    Index("record_user", "user_id", **_where("user_id IS NOT NULL")),
    Index("record_error", "error_type", **_where("error_type IS NOT NULL")),
)

tag = Table(
    "tag",
    metadata,
    Column("tag", Text, primary_key=True),
    Column("record_id", RowId, ForeignKey("record.id"), primary_key=True),
    sqlite_with_rowid=False,
)

score = Table(
    "score",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("target", Text, nullable=False),  # record, span, session
    Column("trace_id", Text, nullable=False, server_default=""),
    Column("span_id", Text, nullable=False, server_default=""),
    Column("session_id", Text, nullable=False, server_default=""),
    Column("name", Text, nullable=False),
    Column("metric_version", Text, nullable=False, server_default=""),
    Column("source", Text, nullable=False),
    Column("author", Text, nullable=False, server_default=""),
    Column("record_id", BigInteger, ForeignKey("record.id")),  # of a score on a record, once that is stored
    Column("app_id", BigInteger, ForeignKey("app.id")),  # that record's, so that leaderboards need no join
    Column("status", Text, nullable=False),
    Column("value", Float),
    Column("label", Text),
    Column("value_type", Text, nullable=False, server_default="number"),
    Column("reason", Text),
    Column("error", Text),
    Column("traceback", Text),
    Column("attempt", BigInteger, nullable=False, server_default="0"),
    Column("mode", Text, nullable=False, server_default="background"),
    Column("local", Integer, nullable=False, server_default="1"),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("settled_at", BigInteger),
    Column("cost", Float),
    Column("metadata", Text),
    Column("journal_id", BigInteger, ForeignKey("journal.id")),  # the producer, which holds the lease while it lives
    # Name of the journal whose process has claimed it; '': its last owner lost it, so it is to be claimed, not written.
    Column("owner", Text),
    Column("lease_until", BigInteger),
    Column("priority", BigInteger, nullable=False, server_default="0"),  # smaller is claimed first
    Column("lost", BigInteger, nullable=False, server_default="0"),  # owners that died with it or let their lease lapse
    Column("available_at", BigInteger),  # not to be claimed before: the pause after an owner was lost
    Column("rule_id", BigInteger),  # the rule that asked for it, which may have been removed since
    Column("evaluation", Text),  # trace id of the evaluation's own trace
    Index(
        "score_key",
        *("trace_id", "span_id", "session_id", "target", "name", "metric_version", "source", "author"),
        unique=True,
    ),
    Index("score_record", "record_id", "name"),
    # Covers what a filter asks of a score.
    Index("score_name", "name", "status", "value", "record_id", "target"),
    # Covers the leaderboard.
    Index("score_app", "app_id", "name", "status", "value_type", "value", "record_id", **_where(OF_A_RECORD)),
    Index("score_journal", "journal_id", "status"),
    Index("score_open", "status", "created_at", **_where("status IN ('pending', 'running')")),
    Index("score_orphan", "trace_id", "span_id", **_where("record_id IS NULL AND target = 'record'")),
    # What a claimer asks: of a metric that it can compute, an app's scores in the order of claiming.
    Index(
        "score_claim",
        # ("local" is constant here: it makes this index a better one than score_name in SQLite's eyes.)
        *("name", "metric_version", "local", "app_id", "priority", "created_at", "available_at", "mode"),
        **_where(CLAIMABLE),
    ),
    Index("score_owner", "owner", "lease_until", **_where(OWNED)),
    Index("score_rule", "rule_id", "settled_at", "cost", **_where("rule_id IS NOT NULL")),
    # Covers what an alert asks of the scores of a time.
    Index("score_settled", "name", "settled_at", "status", "value", "cost", "record_id", **_where(SETTLED)),
)

score_attempt = Table(
    "score_attempt",
    metadata,
    Column("score_id", BigInteger, ForeignKey("score.id"), primary_key=True),
    Column("attempt", BigInteger, primary_key=True),
    Column("status", Text, nullable=False),
    Column("value", Float),
    Column("label", Text),
    Column("reason", Text),
    Column("error", Text),
    Column("started_at", BigInteger),
    Column("settled_at", BigInteger),
    Column("cost", Float),
    Column("lapsed", Integer, nullable=False, server_default="0"),  # its owner lost it: a result that comes is refused
    Column("evaluation", Text),
)
"""Outcomes that a later attempt replaced: written when the row in ``score`` is overwritten by a higher attempt."""

experiment = Table(
    "experiment",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("name", Text, nullable=False),  # its id, 16 hex digits
    Column("version", Text, nullable=False),  # what people call it
    Column("first_seen", BigInteger, nullable=False),
    Column("data", Text, nullable=False, server_default="{}"),
    Index("experiment_key", "name", "version", unique=True),
    Index("experiment_name", "version", "id"),
)
"""Runs of ``evaluate``, defined as apps and metrics are: by a frame of the journal."""

item = Table(
    "item",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("experiment", Text, nullable=False),
    Column("item", Text, nullable=False),
    Column("repeat", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("trace_id", Text, nullable=False, server_default=""),
    Column("span_id", Text, nullable=False, server_default=""),
    Column("reason", Text),
    Column("data", Text),
    Index("item_key", "experiment", "item", "repeat", unique=True),
)

rule = Table(
    "rule",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("enabled", Integer, nullable=False, server_default="1"),
    Column("target", Text, nullable=False),  # record, span, session
    Column("filter", Text, nullable=False),
    Column("spans", Text, nullable=False, server_default="{}"),  # JSON: which spans, for target span
    Column("metrics", Text, nullable=False),  # JSON list of metric descriptions
    Column("sample", Float, nullable=False, server_default="1"),
    Column("daily_evaluations", BigInteger),
    Column("daily_cost", Float),
    Column("idle_after", BigInteger, nullable=False, server_default="0"),  # nanoseconds, for target session
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("cursor", BigInteger, nullable=False),  # row id of the last record that it has seen
    Column("cursor_version", BigInteger, nullable=False, server_default="0"),  # compared and incremented by each round
    Column("matched", BigInteger, nullable=False, server_default="0"),
    Column("judged", BigInteger, nullable=False, server_default="0"),
    Column("not_sampled", BigInteger, nullable=False, server_default="0"),
    Column("over_budget", BigInteger, nullable=False, server_default="0"),
    Column("error", Text),  # why it cannot be applied at present
)

rule_wait = Table(
    "rule_wait",
    metadata,
    Column("rule_id", BigInteger, ForeignKey("rule.id"), primary_key=True),
    Column("record_id", BigInteger, ForeignKey("record.id"), primary_key=True),
    sqlite_with_rowid=False,
)
"""Records that a rule's cursor has passed and that could not be decided then: still running, or not all scored."""

rule_session = Table(
    "rule_session",
    metadata,
    Column("rule_id", BigInteger, ForeignKey("rule.id"), primary_key=True),
    Column("session_id", Text, primary_key=True),
    Column("last_record_id", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),  # when it will have been idle for long enough
    Column("judged_record_id", BigInteger),  # its last record when it was judged
    Index("rule_session_due", "rule_id", "due_at"),
    sqlite_with_rowid=False,
)

rule_day = Table(
    "rule_day",
    metadata,
    Column("rule_id", BigInteger, ForeignKey("rule.id"), primary_key=True),
    Column("day", Text, primary_key=True),  # UTC, 2026-11-21
    Column("evaluations", BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
"""What a rule has spent of its daily budget of evaluations. Its money is the sum of its scores' costs."""

alert = Table(
    "alert",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("enabled", Integer, nullable=False, server_default="1"),
    Column("measure", Text, nullable=False),  # mean, failure_rate, latency, cost
    Column("score", Text),
    Column("filter", Text, nullable=False, server_default=""),
    Column("above", Float),
    Column("below", Float),
    Column("window", BigInteger, nullable=False),  # nanoseconds
    Column("min_count", BigInteger, nullable=False, server_default="1"),
    Column("webhook", Text),
    Column("secret", Text),
    Column("allow_private", Integer, nullable=False, server_default="0"),
    Column("cooldown", BigInteger, nullable=False, server_default="0"),  # nanoseconds
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False, server_default="unknown"),  # unknown, ok, firing
    Column("since", BigInteger),
    Column("value", Float),
    Column("count", BigInteger),
    Column("checked_at", BigInteger),
    Column("check_version", BigInteger, nullable=False, server_default="0"),  # compared and incremented by each check
    Column("error", Text),
)

alert_event = Table(
    "alert_event",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("alert_id", BigInteger, ForeignKey("alert.id"), nullable=False),
    Column("key", Text, nullable=False, unique=True),  # the webhook's message id: a repeated delivery is told by it
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),  # fired, resolved
    Column("value", Float),
    Column("count", BigInteger),
    Column("message", Text, nullable=False),
    Column("delivery", Text, nullable=False),  # none, pending, delivered, failed
    Column("attempts", BigInteger, nullable=False, server_default="0"),
    Column("next_at", BigInteger),
    Column("delivered_at", BigInteger),
    Column("error", Text),
    Index("alert_event_due", "next_at", **_where("delivery = 'pending'")),
    Index("alert_event_of", "alert_id", "at"),
)
"""What an alert said, and how far its webhook got: the outbox, written in the transaction that changes the state."""

worker = Table(
    "worker",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("journal", Text, nullable=False, unique=True),  # name of its journal, which is the owner it claims as
    Column("kind", Text, nullable=False),  # worker, app
    Column("host", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("data", Text, nullable=False, server_default="{}"),  # JSON: concurrency, what it can and cannot compute
)
"""Who claims scores: so that what waits can be told from what nobody alive can compute."""

copy = Table(
    "copy",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("endpoint", Text, nullable=False, unique=True),  # URL without secrets
    Column("cursor", BigInteger, nullable=False),  # row id of the last span that it has seen
    Column("version", BigInteger, nullable=False, server_default="0"),  # compared and incremented by each step
    Column("copied", BigInteger, nullable=False, server_default="0"),
    Column("dropped", Text, nullable=False, server_default="{}"),  # JSON object: reason -> count
    Column("error", Text),  # why it does not go on at present
    Column("owner", Text),  # the process that copies at present
    Column("lease_until", BigInteger),
    Column("created_at", BigInteger, nullable=False),
)
"""How far the copies of spans to another system have got."""

copy_wait = Table(
    "copy_wait",
    metadata,
    Column("copy_id", BigInteger, ForeignKey("copy.id"), primary_key=True),
    Column("span_id", BigInteger, ForeignKey("span.id"), primary_key=True),
    sqlite_with_rowid=False,
)
"""Spans that a copy's cursor has passed while they were running: they come when they have ended."""

dataset = Table(
    "dataset",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("number", BigInteger, nullable=False, server_default="0"),  # of its newest version; compared by each change
    Column("digest", Text, nullable=False, server_default="0"),  # hex: sum of its items' hashes, modulo 2**256
    Column("items", BigInteger, nullable=False, server_default="0"),
    Column("places", BigInteger, nullable=False, server_default="0"),  # places given away so far
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
)

dataset_version = Table(
    "dataset_version",
    metadata,
    Column("dataset_id", BigInteger, ForeignKey("dataset.id"), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("version", Text, nullable=False),  # hex: what its content gives, wherever and in whatever order it was made
    Column("items", BigInteger, nullable=False),
    Column("added", BigInteger, nullable=False, server_default="0"),
    Column("changed", BigInteger, nullable=False, server_default="0"),
    Column("removed", BigInteger, nullable=False, server_default="0"),
    Column("whole", Integer, nullable=False, server_default="1"),  # 0: more batches of the same insert were to follow
    Column("created_at", BigInteger, nullable=False),
    Index("dataset_version_name", "dataset_id", "version"),
)

dataset_item = Table(
    "dataset_item",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("dataset_id", BigInteger, ForeignKey("dataset.id"), nullable=False),
    Column("place", BigInteger, nullable=False),  # in the order of insertion; an item that is replaced keeps its place
    Column("item", Text, nullable=False),
    Column("since", BigInteger, nullable=False),  # number of the first version that has it so
    Column("until", BigInteger),  # number of the first version that has it so no more
    Column("hash", Text, nullable=False),  # hex SHA-256 of id, fields, tags and split
    Column("fields", Text, nullable=False),  # JSON object
    Column("tags", Text),  # JSON list
    Column("split", Text, nullable=False, server_default=""),
    # One present state of each item, whoever inserts it at the same time.
    Index("dataset_item_present", "dataset_id", "item", unique=True, **_where("until IS NULL")),
    Index("dataset_item_key", "dataset_id", "item", "since"),
    # Pages of a version, in the order of insertion.
    Index("dataset_item_place", "dataset_id", "place", "since"),
)
"""Every state that an item of a dataset has had: those of version ``n`` have ``since <= n`` and not ``until <= n``."""
