"""Lineage: models are known again by their fingerprint, and tasks keep which artifacts they read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
DOUBLE: sa.Double[float] = sa.Double()


def upgrade() -> None:
    with op.batch_alter_table("models") as batch:
        for name in ("fingerprint", "contents"):
            batch.add_column(sa.Column(name, sa.String(length=64), nullable=False, server_default=""))
        batch.create_index(batch.f("ix_models_fingerprint"), ["fingerprint"])
        batch.create_index(batch.f("ix_models_contents"), ["contents"])
        batch.create_index(batch.f("ix_models_parent"), ["parent"])
    op.execute(sa.text("UPDATE models SET fingerprint = digest"))  # no document told one before
    op.create_table(
        "uses",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("source_task", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("time", DOUBLE, nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_uses_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "source_task", "name", name=op.f("pk_uses")),
    )
    op.create_index("ix_uses_source_task", "uses", ["source_task"])
