"""The first tables of the main database. Written once, never changed: later changes are revisions of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
DOUBLE: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created", DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_blobs")),
    )
    op.create_table(
        "deletions",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("results_only", sa.Boolean(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("created", DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_deletions")),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("framework", sa.Text(), nullable=False),
        sa.Column("published", sa.Boolean(), nullable=False),
        sa.Column("created", DOUBLE, nullable=False),
        sa.Column("last_update", DOUBLE, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
    )
    op.create_index(op.f("ix_models_digest"), "models", ["digest"], unique=False)
    op.create_index(op.f("ix_models_name"), "models", ["name"], unique=False)
    op.create_index(op.f("ix_models_task_id"), "models", ["task_id"], unique=False)
    op.create_table(
        "projects",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", sa.LargeBinary(), nullable=False),
        sa.Column("system_tags", sa.LargeBinary(), nullable=False),
        sa.Column("output_uri", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("created", DOUBLE, nullable=False),
        sa.Column("last_update", DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("name", name=op.f("uq_projects_name")),
    )
    op.create_table(
        "queues",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", sa.LargeBinary(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("on_lost", sa.Text(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("created", DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_queues")),
        sa.UniqueConstraint("name", name=op.f("uq_queues_name")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created", DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("queues", sa.LargeBinary(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("machine", sa.LargeBinary(), nullable=False),
        sa.Column("lease_seconds", DOUBLE, nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("registered", DOUBLE, nullable=False),
        sa.Column("last_seen", DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("created", DOUBLE, nullable=False),
        sa.Column("last_used", DOUBLE, nullable=False),
        sa.Column("expires", DOUBLE, nullable=False),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.Column("lease", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_keys_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
    )
    op.create_index(op.f("ix_keys_user_id"), "keys", ["user_id"], unique=False)
    op.create_table(
        "model_tags",
        sa.Column("model_id", sa.String(length=32), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_model_tags_model_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_id", "tag", name=op.f("pk_model_tags")),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_reason", sa.Text(), nullable=False),
        sa.Column("status_message", sa.Text(), nullable=False),
        sa.Column("status_changed", DOUBLE, nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("parent", sa.String(length=32), nullable=False),
        sa.Column("created", DOUBLE, nullable=False),
        sa.Column("started", DOUBLE, nullable=False),
        sa.Column("completed", DOUBLE, nullable=False),
        sa.Column("last_update", DOUBLE, nullable=False),
        sa.Column("last_iteration", sa.BigInteger(), nullable=True),
        sa.Column("progress", DOUBLE, nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("output_uri", sa.Text(), nullable=False),
        sa.Column("hidden", sa.Boolean(), nullable=False),
        sa.Column("queue_id", sa.String(length=32), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease", sa.String(length=64), nullable=True),
        sa.Column("tags", sa.LargeBinary(), nullable=False),
        sa.Column("system_tags", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_tasks_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
    )
    op.create_index("ix_tasks_created", "tasks", ["hidden", "created", "id"], unique=False)
    op.create_index("ix_tasks_name", "tasks", ["name"], unique=False)
    op.create_index("ix_tasks_parent", "tasks", ["parent"], unique=False)
    op.create_index(
        "ix_tasks_project_update", "tasks", ["project_id", "hidden", "last_update", "id"], unique=False
    )
    op.create_index("ix_tasks_status", "tasks", ["status", "last_update"], unique=False)
    op.create_index("ix_tasks_update", "tasks", ["hidden", "last_update", "id"], unique=False)
    op.create_table(
        "artifacts",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created", DOUBLE, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_artifacts_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "name", name=op.f("pk_artifacts")),
    )
    op.create_index(op.f("ix_artifacts_digest"), "artifacts", ["digest"], unique=False)
    op.create_table(
        "entries",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("queue_id", sa.String(length=32), nullable=False),
        sa.Column("rank", DOUBLE, nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("enqueued", DOUBLE, nullable=False),
        sa.ForeignKeyConstraint(["queue_id"], ["queues.id"], name=op.f("fk_entries_queue_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_entries_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_entries")),
    )
    op.create_index("ix_entries_order", "entries", ["queue_id", "rank"], unique=False)
    op.create_table(
        "leases",
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("worker_id", sa.String(length=64), nullable=False),
        sa.Column("queue_id", sa.String(length=32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("seconds", DOUBLE, nullable=False),
        sa.Column("expires", DOUBLE, nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("stop", sa.Boolean(), nullable=False),
        sa.Column("stop_reason", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("created", DOUBLE, nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_leases_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_leases")),
    )
    op.create_index("ix_leases_open", "leases", ["outcome", "expires"], unique=False)
    op.create_index(op.f("ix_leases_task_id"), "leases", ["task_id"], unique=False)
    op.create_index(op.f("ix_leases_worker_id"), "leases", ["worker_id"], unique=False)
    op.create_table(
        "model_links",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model_id", sa.String(length=32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("fk_model_links_task_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("task_id", "direction", "name", name=op.f("pk_model_links")),
    )
    op.create_index(op.f("ix_model_links_model_id"), "model_links", ["model_id"], unique=False)
    op.create_table(
        "task_tags",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("system", sa.Boolean(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_task_tags_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "system", "tag", name=op.f("pk_task_tags")),
    )
    op.create_index("ix_task_tags_tag", "task_tags", ["tag", "system", "task_id"], unique=False)
    op.create_table(
        "task_values",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("number", DOUBLE, nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("fk_task_values_task_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", "task_id", name=op.f("pk_task_values")),
    )
    op.create_index("ix_task_values_number", "task_values", ["key", "number", "task_id"], unique=False)
    op.create_index("ix_task_values_task", "task_values", ["task_id", "key"], unique=False)
    op.create_table(
        "writers",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("writer", sa.String(length=64), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_writers_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "writer", name=op.f("pk_writers")),
    )


def downgrade() -> None:
    op.drop_table("writers")
    op.drop_index("ix_task_values_task", table_name="task_values")
    op.drop_index("ix_task_values_number", table_name="task_values")
    op.drop_table("task_values")
    op.drop_index("ix_task_tags_tag", table_name="task_tags")
    op.drop_table("task_tags")
    op.drop_index(op.f("ix_model_links_model_id"), table_name="model_links")
    op.drop_table("model_links")
    op.drop_index(op.f("ix_leases_worker_id"), table_name="leases")
    op.drop_index(op.f("ix_leases_task_id"), table_name="leases")
    op.drop_index("ix_leases_open", table_name="leases")
    op.drop_table("leases")
    op.drop_index("ix_entries_order", table_name="entries")
    op.drop_table("entries")
    op.drop_index(op.f("ix_artifacts_digest"), table_name="artifacts")
    op.drop_table("artifacts")
    op.drop_index("ix_tasks_update", table_name="tasks")
    op.drop_index("ix_tasks_status", table_name="tasks")
    op.drop_index("ix_tasks_project_update", table_name="tasks")
    op.drop_index("ix_tasks_parent", table_name="tasks")
    op.drop_index("ix_tasks_name", table_name="tasks")
    op.drop_index("ix_tasks_created", table_name="tasks")
    op.drop_table("tasks")
    op.drop_table("model_tags")
    op.drop_index(op.f("ix_keys_user_id"), table_name="keys")
    op.drop_table("keys")
    op.drop_table("workers")
    op.drop_table("users")
    op.drop_table("queues")
    op.drop_table("projects")
    op.drop_index(op.f("ix_models_task_id"), table_name="models")
    op.drop_index(op.f("ix_models_name"), table_name="models")
    op.drop_index(op.f("ix_models_digest"), table_name="models")
    op.drop_table("models")
    op.drop_table("deletions")
    op.drop_table("blobs")
