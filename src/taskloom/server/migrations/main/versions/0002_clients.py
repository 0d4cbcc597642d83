"""Files, debug samples and unserved calls of other systems' clients; longer ids of workers, notes of agents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
DOUBLE: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("created", DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_files")),
    )
    op.create_index(op.f("ix_files_digest"), "files", ["digest"])
    op.create_index(op.f("ix_files_task_id"), "files", ["task_id"])
    op.create_table(
        "samples",
        sa.Column("owner_id", sa.String(length=32), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("iteration", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("time", DOUBLE, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "title", "series", "iteration", "name", name=op.f("pk_samples")),
    )
    op.create_index(op.f("ix_samples_digest"), "samples", ["digest"])
    op.create_table(
        "unserved",
        sa.Column("call", sa.String(length=128), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("last", DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("call", name=op.f("pk_unserved")),
    )
    for table, column in (("workers", "id"), ("leases", "worker_id")):
        with op.batch_alter_table(table) as batch:
            batch.alter_column(column, existing_type=sa.String(length=64), type_=sa.String(length=256))
    with op.batch_alter_table("leases") as batch:
        batch.add_column(sa.Column("said", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("workers") as batch:
        batch.add_column(sa.Column("notes", sa.LargeBinary(), nullable=True))
