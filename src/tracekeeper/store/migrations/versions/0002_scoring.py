"""Scoring in production: claims, priorities and lost owners; rules, alerts and workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alert",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Integer(), server_default="1", nullable=False),
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("score", sa.Text(), nullable=True),
        sa.Column("filter", sa.Text(), server_default="", nullable=False),
        sa.Column("above", sa.Float(), nullable=True),
        sa.Column("below", sa.Float(), nullable=True),
        sa.Column("window", sa.BigInteger(), nullable=False),
        sa.Column("min_count", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("webhook", sa.Text(), nullable=True),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("allow_private", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cooldown", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="unknown", nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=True),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("count", sa.BigInteger(), nullable=True),
        sa.Column("checked_at", sa.BigInteger(), nullable=True),
        sa.Column("check_version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "rule",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Integer(), server_default="1", nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("spans", sa.Text(), server_default="{}", nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("sample", sa.Float(), server_default="1", nullable=False),
        sa.Column("daily_evaluations", sa.BigInteger(), nullable=True),
        sa.Column("daily_cost", sa.Float(), nullable=True),
        sa.Column("idle_after", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("cursor_version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("matched", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("judged", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("not_sampled", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("over_budget", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "worker",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("journal", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("journal"),
    )
    op.create_table(
        "alert_event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("alert_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("count", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("delivery", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["alert_id"],
            ["alert.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_index(
        "alert_event_due",
        "alert_event",
        ["next_at"],
        unique=False,
        sqlite_where=sa.text("delivery = 'pending'"),
        postgresql_where=sa.text("delivery = 'pending'"),
    )
    op.create_index("alert_event_of", "alert_event", ["alert_id", "at"], unique=False)
    op.create_table(
        "rule_day",
        sa.Column("rule_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("evaluations", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["rule_id"],
            ["rule.id"],
        ),
        sa.PrimaryKeyConstraint("rule_id", "day"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rule_session",
        sa.Column("rule_id", sa.BigInteger(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("last_record_id", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("judged_record_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["rule_id"],
            ["rule.id"],
        ),
        sa.PrimaryKeyConstraint("rule_id", "session_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("rule_session_due", "rule_session", ["rule_id", "due_at"], unique=False)
    op.create_table(
        "rule_wait",
        sa.Column("rule_id", sa.BigInteger(), nullable=False),
        sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["record_id"],
            ["record.id"],
        ),
        sa.ForeignKeyConstraint(
            ["rule_id"],
            ["rule.id"],
        ),
        sa.PrimaryKeyConstraint("rule_id", "record_id"),
        sqlite_with_rowid=False,
    )
    op.add_column("score", sa.Column("priority", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("score", sa.Column("lost", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("score", sa.Column("available_at", sa.BigInteger(), nullable=True))
    op.add_column("score", sa.Column("rule_id", sa.BigInteger(), nullable=True))
    op.add_column("score", sa.Column("evaluation", sa.Text(), nullable=True))
    waits = (
        "status = 'pending' AND local = 0 AND (journal_id IS NULL OR mode = 'deferred')"
        " AND (owner IS NULL OR owner = '')"
    )
    op.create_index(
        "score_claim",
        "score",
        ["name", "metric_version", "local", "app_id", "priority", "created_at", "available_at", "mode"],
        unique=False,
        sqlite_where=sa.text(waits),
        postgresql_where=sa.text(waits),
    )
    op.create_index(
        "journal_live",
        "journal",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.create_index(
        "score_owner",
        "score",
        ["owner", "lease_until"],
        unique=False,
        sqlite_where=sa.text("owner IS NOT NULL AND owner <> ''"),
        postgresql_where=sa.text("owner IS NOT NULL AND owner <> ''"),
    )
    op.create_index(
        "score_rule",
        "score",
        ["rule_id", "settled_at", "cost"],
        unique=False,
        sqlite_where=sa.text("rule_id IS NOT NULL"),
        postgresql_where=sa.text("rule_id IS NOT NULL"),
    )
    op.create_index(
        "score_settled",
        "score",
        ["name", "settled_at", "status", "value", "cost", "record_id"],
        unique=False,
        sqlite_where=sa.text("settled_at IS NOT NULL"),
        postgresql_where=sa.text("settled_at IS NOT NULL"),
    )
    op.create_index("record_started", "record", ["started_at", "status", "duration", "cost"], unique=False)
    op.add_column("score_attempt", sa.Column("lapsed", sa.Integer(), server_default="0", nullable=False))
    op.add_column("score_attempt", sa.Column("evaluation", sa.Text(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("Tracekeeper's databases are only brought forward; restore a backup instead")
