"""Queues: priorities, fair shares, limits, holds, places that outlive an attempt; sweeps; files of executions.

What waits keeps its order: it gets the priority 0 and wants nothing in particular, as before. What runs reserves
nothing on its worker, and waits again in front when its worker is lost.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
DOUBLE: sa.Double[float] = sa.Double()
IN_FRONT = "-1000000.0"


def upgrade() -> None:
    _queues()
    _entries()
    _leases()
    op.create_table(
        "sweeps",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("sweep_id", sa.String(length=32), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_sweeps_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_sweeps")),
    )
    op.create_index("ix_sweeps_open", "sweeps", ["sweep_id", "open"])
    op.create_index(op.f("ix_keys_lease"), "keys", ["lease"])
    op.add_column("tasks", sa.Column("files", sa.String(length=64), nullable=False, server_default=""))
    op.create_index("ix_tasks_files", "tasks", ["files"])


def _queues() -> None:
    for name in ("max_running", "max_running_per_user", "max_waiting_per_user"):
        op.add_column("queues", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("queues", sa.Column("hold_after", DOUBLE, nullable=False, server_default="300.0"))


def _entries() -> None:
    for name in ("hand", "band", "priority"):
        op.add_column("entries", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("entries", sa.Column("lane", sa.Text(), nullable=False, server_default=""))
    op.add_column("entries", sa.Column("not_before", DOUBLE, nullable=False, server_default="0.0"))
    op.add_column("entries", sa.Column("hold", sa.String(length=256), nullable=False, server_default=""))
    op.execute(sa.text('UPDATE entries SET lane = "user" || :line').bindparams(line="\n"))
    op.create_index("ix_entries_lanes", "entries", ["queue_id", "hand", "band", "lane", "rank", "task_id"])


def _leases() -> None:
    for name in ("user", "shape", "cause"):
        op.add_column("leases", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    for name in ("priority", "hand"):
        op.add_column("leases", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    for name in ("preemptible", "give_back"):
        op.add_column("leases", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("leases", sa.Column("rank", DOUBLE, nullable=False, server_default=IN_FRONT))
    op.add_column("leases", sa.Column("enqueued", DOUBLE, nullable=False, server_default="0.0"))
    op.add_column("leases", sa.Column("gpus", sa.LargeBinary(), nullable=True))
    op.execute(sa.text("UPDATE leases SET enqueued = created"))
    op.execute(
        sa.text('UPDATE leases SET "user" = (SELECT tasks."user" FROM tasks WHERE tasks.id = leases.task_id)')
    )
    op.execute(sa.text("UPDATE leases SET cause = 'lost' WHERE outcome IN ('lost', 'given back')"))
    op.drop_index("ix_leases_worker_id", "leases")
    op.create_index("ix_leases_queue", "leases", ["queue_id", "outcome", "user"])
    op.create_index("ix_leases_worker", "leases", ["worker_id", "outcome"])
