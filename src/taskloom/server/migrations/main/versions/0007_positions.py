"""What waits of one user, in its order: pages and places of long queues are read from it."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_index("ix_entries_users", "entries", ["queue_id", "hand", "band", "user", "rank", "task_id"])
