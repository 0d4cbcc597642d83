"""Digests of batches that came without a journal's numbers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
DOUBLE: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("owner_id", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("time", DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "digest", name=op.f("pk_batches")),
    )
    op.create_index(op.f("ix_batches_time"), "batches", ["time"])
