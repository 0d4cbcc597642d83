"""Evaluations: jobs, their runs, and tasksets with their versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
DOUBLE: sa.Double[float] = sa.Double()


def upgrade() -> None:
    _jobs()
    _runs()
    _tasksets()
    _rows()


def _jobs() -> None:
    op.create_table(
        "eval_jobs",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("taskset", sa.Text(), nullable=False),
        sa.Column("taskset_version", sa.BigInteger(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("trained_by", sa.String(length=32), nullable=False),
        sa.Column("created", DOUBLE, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_eval_jobs_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_eval_jobs")),
    )
    op.create_index("ix_eval_jobs_created", "eval_jobs", ["created", "task_id"])
    op.create_index("ix_eval_jobs_trained_by", "eval_jobs", ["trained_by"])
    op.create_index("ix_eval_jobs_taskset", "eval_jobs", ["taskset", "created", "task_id"])


def _runs() -> None:
    op.create_table(
        "eval_runs",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("boundary", sa.String(length=16), nullable=False),
        sa.Column("stop_reason", sa.String(length=32), nullable=False),
        sa.Column("graded", sa.Boolean(), nullable=False),
        sa.Column("reward", DOUBLE, nullable=True),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started", DOUBLE, nullable=False),
        sa.Column("ended", DOUBLE, nullable=False),
        sa.Column("seconds", DOUBLE, nullable=False),
        sa.Column("cost", DOUBLE, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("columns", sa.LargeBinary(), nullable=True),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_eval_runs")),
    )
    op.create_index("ix_eval_runs_position", "eval_runs", ["job_id", "position", "id"])
    figures = ["job_id", "status", "boundary", "reward", "seconds", "cost", "started", "position", "slug", "id"]
    op.create_index("ix_eval_runs_job", "eval_runs", figures)
    op.create_index("ix_eval_runs_task", "eval_runs", ["task_id", "status"])


def _tasksets() -> None:
    op.create_table(
        "tasksets",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("next_position", sa.BigInteger(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("created", DOUBLE, nullable=False),
        sa.Column("changed", DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasksets")),
        sa.UniqueConstraint("name", name=op.f("uq_tasksets_name")),
    )
    op.create_table(
        "taskset_versions",
        sa.Column("taskset_id", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("created", DOUBLE, nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("next_position", sa.BigInteger(), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=False),
        _of_taskset("taskset_versions"),
        sa.PrimaryKeyConstraint("taskset_id", "version", name=op.f("pk_taskset_versions")),
    )


def _rows() -> None:
    op.create_table(
        "taskset_rows",
        sa.Column("taskset_id", sa.String(length=32), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("since", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("until", sa.Integer(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("columns", sa.LargeBinary(), nullable=True),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("taskset_id", "position", "since", name=op.f("pk_taskset_rows")),
    )
    op.create_index("ix_taskset_rows_slug", "taskset_rows", ["taskset_id", "slug", "until"])
    op.create_table(
        "taskset_facets",
        sa.Column("taskset_id", sa.String(length=32), nullable=False),
        sa.Column("column", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        _of_taskset("taskset_facets"),
        sa.PrimaryKeyConstraint("taskset_id", "column", "value", name=op.f("pk_taskset_facets")),
    )


def _of_taskset(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["taskset_id"], ["tasksets.id"], name=op.f(f"fk_{table}_taskset_id"), ondelete="CASCADE"
    )
