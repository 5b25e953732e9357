"""Experiments: runs of ``evaluate``."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "experiment",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("experiment_key", "experiment", ["name", "version"], unique=True)
    op.create_index("experiment_name", "experiment", ["version", "id"])


def downgrade() -> None:
    raise NotImplementedError("Tracekeeper's databases are only brought forward; restore a backup instead")
