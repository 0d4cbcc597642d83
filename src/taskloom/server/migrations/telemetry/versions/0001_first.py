"""The first tables of the telemetry database. Written once, never changed: later changes are revisions of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
DOUBLE: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.create_table(
        "chunks",
        sa.Column(
            "series_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("series_id", "position", name=op.f("pk_chunks")),
    )
    op.create_table(
        "console",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("time", DOUBLE, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "number", name=op.f("pk_console")),
    )
    op.create_table(
        "marks",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("writer", sa.String(length=64), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("stdout", sa.BigInteger(), nullable=False),
        sa.Column("stderr", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "writer", name=op.f("pk_marks")),
    )
    op.create_table(
        "plots",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("iteration", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", DOUBLE, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("figure", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "title", "series", "iteration", name=op.f("pk_plots")),
    )
    op.create_table(
        "series",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("summary", sa.LargeBinary(), nullable=False),
        sa.Column("dirty", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("task_id", "title", "series", name=op.f("uq_series_task_id_title_series")),
    )
    op.create_index("ix_series_dirty", "series", ["dirty"], unique=False)
    op.create_table(
        "series_numbers",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("writer", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("series_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "writer", "number", name=op.f("pk_series_numbers")),
    )


def downgrade() -> None:
    op.drop_table("series_numbers")
    op.drop_index("ix_series_dirty", table_name="series")
    op.drop_table("series")
    op.drop_table("plots")
    op.drop_table("marks")
    op.drop_table("console")
    op.drop_table("chunks")
