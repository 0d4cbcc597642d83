"""Every table of the two databases, in one place, because their joins cross the features.

`main` holds what people edit and ask for: small rows, short transactions. `telemetry` holds what runs pour in:
series, console, plots. They are two SQLite files with a writer each, or one PostgreSQL database. A journal
batch touches both; each keeps its own marks, so that a crash between the two loses and doubles nothing.

Only `store` modules and the migrations use this. Times are epoch seconds; documents are msgpack bytes of the
structs in `domain`, so that what is filtered or sorted stands in columns and the rest does not.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
main = MetaData(naming_convention=NAMES)
telemetry = MetaData(naming_convention=NAMES)

# An identity that SQLite keeps as its rowid and PostgreSQL as a bigint.
Serial = BigInteger().with_variant(Integer, "sqlite")

# --- accounts ---------------------------------------------------------------------------------------------

users = Table(
    "users",
    main,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created", Double, nullable=False),
)

keys = Table(
    "keys",
    main,
    Column("id", String(32), primary_key=True),  # the access part of the key, not secret
    Column("user_id", String(32), ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("label", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("secret_hash", Text, nullable=False),  # SHA-256 of the secret part, hexadecimal
    Column("created", Double, nullable=False),
    Column("last_used", Double, nullable=False, default=0.0),
    Column("expires", Double, nullable=False, default=0.0),  # 0 never
    Column("revoked", Boolean, nullable=False, default=False),
    Column("lease", String(64), nullable=False, default="", index=True),  # the attempt that it was made for
)

# --- projects ---------------------------------------------------------------------------------------------

projects = Table(
    "projects",
    main,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False, unique=True),  # the whole path
    Column("description", Text, nullable=False, default=""),
    Column("tags", LargeBinary, nullable=False),
    Column("system_tags", LargeBinary, nullable=False),
    Column("output_uri", Text, nullable=False, default=""),
    Column("user", Text, nullable=False, default=""),
    Column("created", Double, nullable=False),
    Column("last_update", Double, nullable=False),
)

# --- secrets ----------------------------------------------------------------------------------------------

# Of a user or of a project, never of both; they go with it. On both databases NULLs differ from one another.
secrets = Table(
    "secrets",
    main,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False),
    Column("user_id", String(32), ForeignKey("users.id", ondelete="CASCADE")),
    Column("project_id", String(32), ForeignKey("projects.id", ondelete="CASCADE"), index=True),
    Column("value", LargeBinary, nullable=False),  # encrypted, see server.secrets.vault
    Column("description", Text, nullable=False, default=""),
    Column("url", Text, nullable=False, default=""),
    Column("username", Text, nullable=False, default=""),
    Column("created", Double, nullable=False),
    Column("changed", Double, nullable=False),
    Column("changed_by", Text, nullable=False, default=""),
    UniqueConstraint("user_id", "name"),
    UniqueConstraint("project_id", "name"),
)

# --- tasks ------------------------------------------------------------------------------------------------

tasks = Table(
    "tasks",
    main,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False),
    Column("project_id", String(32), ForeignKey("projects.id"), nullable=False),
    Column("type", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", Text, nullable=False, default=""),
    Column("status_message", Text, nullable=False, default=""),
    Column("status_changed", Double, nullable=False),
    Column("user", Text, nullable=False, default=""),
    Column("comment", Text, nullable=False, default=""),
    Column("parent", String(32), nullable=False, default=""),
    Column("created", Double, nullable=False),
    Column("started", Double, nullable=False, default=0.0),
    Column("completed", Double, nullable=False, default=0.0),
    Column("last_update", Double, nullable=False),
    Column("last_iteration", BigInteger),
    Column("progress", Double),
    Column("revision", Integer, nullable=False, default=0),
    Column("output_uri", Text, nullable=False, default=""),
    Column("hidden", Boolean, nullable=False, default=False),  # archived or hidden by a system tag
    Column("queue_id", String(32), nullable=False, default=""),
    Column("worker", Text, nullable=False, default=""),
    Column("attempt", Integer, nullable=False, default=0),
    Column("lease", String(64)),  # token of the attempt that runs now
    Column(
        "files", String(64), nullable=False, default=""
    ),  # digest that its execution names; the document's word
    Column("tags", LargeBinary, nullable=False),  # msgpack list; task_tags is its index
    Column("system_tags", LargeBinary, nullable=False),
    Column("document", LargeBinary, nullable=False),  # msgpack: execution, parameters, configuration, ...
    # With the id at their end they hold all that an order needs, and counting reads no row.
    Index("ix_tasks_project_update", "project_id", "hidden", "last_update", "id"),
    Index("ix_tasks_update", "hidden", "last_update", "id"),
    Index("ix_tasks_created", "hidden", "created", "id"),
    Index("ix_tasks_status", "status", "last_update"),
    Index("ix_tasks_name", "name"),
    Index("ix_tasks_parent", "parent"),
    Index("ix_tasks_files", "files"),
)

task_tags = Table(
    "task_tags",
    main,
    Column("task_id", String(32), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("system", Boolean, primary_key=True),
    Column("tag", Text, primary_key=True),
    Index("ix_task_tags_tag", "tag", "system", "task_id"),
)

# Parameters (`parameters.SECTION/NAME`), last metrics (`metrics.TITLE/SERIES`, with `:min`, `:max`) and user
# properties (`properties.NAME`) of every task, typed, for filters and sorting. The document is the truth for
# parameters and properties, telemetry for metrics.
task_values = Table(
    "task_values",
    main,
    Column("key", Text, primary_key=True),
    Column("task_id", String(32), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Double),
    Column("text", Text),
    Index("ix_task_values_task", "task_id", "key"),
    Index("ix_task_values_number", "key", "number", "task_id"),
)

# How far the records of each writer are applied to this database. `closed`: its results were reset away and
# what still comes from it is answered with Discarded.
writers = Table(
    "writers",
    main,
    Column("task_id", String(32), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("writer", String(64), primary_key=True),
    Column("events", BigInteger, nullable=False, default=0),
    Column("closed", Boolean, nullable=False, default=False),
)

# Tasks whose telemetry and blobs are still to be deleted: written in the transaction that deleted them. The row
# of a deleted task stays when that is `done`, so that a journal that comes late does not bring the task back.
deletions = Table(
    "deletions",
    main,
    Column("task_id", String(32), primary_key=True),
    Column("results_only", Boolean, nullable=False, default=False),
    Column("done", Boolean, nullable=False, default=False),
    Column("created", Double, nullable=False),
)

# --- artifacts, models, blobs -----------------------------------------------------------------------------

artifacts = Table(
    "artifacts",
    main,
    Column("task_id", String(32), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("digest", String(64), nullable=False, default="", index=True),
    Column("created", Double, nullable=False),
    Column("document", LargeBinary, nullable=False),  # msgpack of domain.artifact.Artifact
)

models = Table(
    "models",
    main,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False, index=True),
    Column("project", Text, nullable=False, default=""),
    Column("task_id", String(32), nullable=False, default="", index=True),  # what made it; may be gone
    Column("digest", String(64), nullable=False, default="", index=True),
    Column("fingerprint", String(64), nullable=False, default="", index=True),  # where none was told, the digest
    Column("contents", String(64), nullable=False, default="", index=True),
    Column("framework", Text, nullable=False, default=""),
    Column("uri", Text, nullable=False, default=""),
    Column("user", Text, nullable=False, default=""),
    Column("comment", Text, nullable=False, default=""),
    Column("parent", String(32), nullable=False, default="", index=True),
    Column("iteration", BigInteger),
    Column("published", Boolean, nullable=False, default=False),
    Column("created", Double, nullable=False),
    Column("last_update", Double, nullable=False),
    Column("document", LargeBinary, nullable=False),  # msgpack of domain.artifact.Model
)

model_tags = Table(
    "model_tags",
    main,
    Column("model_id", String(32), ForeignKey("models.id", ondelete="CASCADE"), primary_key=True),
    Column("system", Boolean, primary_key=True),
    Column("tag", Text, primary_key=True),
)

# Metadata of models as text, for filters; the document is the truth.
model_values = Table(
    "model_values",
    main,
    Column("model_id", String(32), ForeignKey("models.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("text", Text, nullable=False),
)

model_links = Table(
    "model_links",
    main,
    Column("task_id", String(32), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("direction", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("model_id", String(32), nullable=False, index=True),
    Column("position", Integer, nullable=False),
)

# Which artifacts of other tasks a task read, for lineage. The task that made them may be gone.
uses = Table(
    "uses",
    main,
    Column("task_id", String(32), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("source_task", String(32), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("digest", String(64), nullable=False, default=""),  # of what was read, where it is known
    Column("time", Double, nullable=False),
    Index("ix_uses_source_task", "source_task"),
)

blobs = Table(
    "blobs",
    main,
    Column("digest", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("created", Double, nullable=False),
)

# Bytes that a client stored under a path of its own choice (ClearML's file server). `task_id` is read from the
# path; the files of a task go with it, unless a model that stays names them.
files = Table(
    "files",
    main,
    Column("path", Text, primary_key=True),
    Column("digest", String(64), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("media_type", Text, nullable=False, default=""),
    Column("task_id", String(32), nullable=False, default="", index=True),
    Column("user", Text, nullable=False, default=""),
    Column("created", Double, nullable=False),
)

# Debug samples stand here and not in telemetry, because they name blobs. `owner_id` is a task or a model.
samples = Table(
    "samples",
    main,
    Column("owner_id", String(32), primary_key=True),
    Column("title", Text, primary_key=True),
    Column("series", Text, primary_key=True),
    Column("iteration", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("digest", String(64), nullable=False, default="", index=True),
    Column("time", Double, nullable=False),
    Column("document", LargeBinary, nullable=False),  # msgpack of domain.artifact.Sample
)

# --- clients of other systems -----------------------------------------------------------------------------

# Calls of ClearML's clients that this server does not serve, for `taskloom doctor`.
unserved = Table(
    "unserved",
    main,
    Column("call", String(128), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("client", Text, nullable=False, default=""),  # what asked last
    Column("last", Double, nullable=False),
)

# --- queues and workers -----------------------------------------------------------------------------------

queues = Table(
    "queues",
    main,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text, nullable=False, default=""),
    Column("tags", LargeBinary, nullable=False),
    Column("paused", Boolean, nullable=False, default=False),
    Column("on_lost", Text, nullable=False, default="requeue"),
    Column("max_attempts", Integer, nullable=False, default=3),
    Column("max_running", Integer, nullable=False, default=0),
    Column("max_running_per_user", Integer, nullable=False, default=0),
    Column("max_waiting_per_user", Integer, nullable=False, default=0),
    Column("hold_after", Double, nullable=False, default=300.0),
    Column("created", Double, nullable=False),
)

# What waits, by (hand, band, fair share, rank): see queues.order. A lane holds what one user has waiting of one shape
# (what it wants of a machine); a claim looks at the first entry of each lane only, by the first index. Places in the
# order are counted by the second.
entries = Table(
    "entries",
    main,
    Column("task_id", String(32), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("queue_id", String(32), ForeignKey("queues.id"), nullable=False),
    Column("hand", Integer, nullable=False, default=0),  # -1 in front and 1 behind by somebody's hand
    Column(
        "band", Integer, nullable=False, default=0
    ),  # the priority with its sign changed; 0 for those of a hand
    Column("lane", Text, nullable=False, default=""),  # the user, a line break, the shape
    Column("rank", Double, nullable=False),  # order of coming, or the one given by hand; the lowest goes first
    Column("priority", Integer, nullable=False, default=0),
    Column("user", Text, nullable=False, default=""),
    Column("enqueued", Double, nullable=False),
    Column("not_before", Double, nullable=False, default=0.0),  # a pause after a failed attempt
    Column("hold", String(256), nullable=False, default=""),  # id of the worker that keeps free for it
    Index("ix_entries_lanes", "queue_id", "hand", "band", "lane", "rank", "task_id"),
    Index("ix_entries_users", "queue_id", "hand", "band", "user", "rank", "task_id"),
    Index("ix_entries_order", "queue_id", "rank"),
)

# The tasks of a sweep that has not ended, by the task whose combinations they are.
sweeps = Table(
    "sweeps",
    main,
    Column("task_id", String(32), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("sweep_id", String(32), nullable=False),
    Column("open", Boolean, nullable=False, default=True),  # it was not seen to end yet
    Index("ix_sweeps_open", "sweep_id", "open"),
)

workers = Table(
    "workers",
    main,
    Column("id", String(256), primary_key=True),
    Column("name", Text, nullable=False),
    Column("user", Text, nullable=False, default=""),
    Column("queues", LargeBinary, nullable=False),  # msgpack list of queue ids, in the worker's order
    Column("slots", Integer, nullable=False),
    Column("version", Text, nullable=False, default=""),
    Column("machine", LargeBinary, nullable=False),  # msgpack of domain.queue.Machine
    Column("lease_seconds", Double, nullable=False, default=30.0),
    Column("draining", Boolean, nullable=False, default=False),
    Column("registered", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
    Column("notes", LargeBinary),  # msgpack of queues.store.AgentNotes; null for a worker of ours
)

leases = Table(
    "leases",
    main,
    Column("token", String(64), primary_key=True),
    Column("task_id", String(32), ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("worker_id", String(256), nullable=False),
    Column("queue_id", String(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("user", Text, nullable=False, default=""),
    Column("shape", Text, nullable=False, default=""),  # what it wants of the machine, and so reserves there
    Column("gpus", LargeBinary),  # msgpack list of indexes; null: nothing was said about GPUs
    Column("preemptible", Boolean, nullable=False, default=False),
    # Its place in the queue, where it waits again when the attempt ends too early.
    Column("priority", Integer, nullable=False, default=0),
    Column("hand", Integer, nullable=False, default=0),
    Column("rank", Double, nullable=False, default=0.0),
    Column("enqueued", Double, nullable=False, default=0.0),
    Column("seconds", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("phase", Text, nullable=False, default=""),
    Column("stop", Boolean, nullable=False, default=False),
    Column("stop_reason", Text, nullable=False, default=""),
    Column("give_back", Boolean, nullable=False, default=False),  # the stop is for a task of higher priority
    Column("said", Text, nullable=False, default=""),  # the end that the script, or somebody else, told for it
    Column("outcome", Text, nullable=False, default=""),  # empty while it is open
    Column("cause", Text, nullable=False, default=""),  # of a try that failed: lost, preempted or failed
    Column("created", Double, nullable=False),
    # The few open ones among all that ever were: of all, of a queue by users, of a worker.
    Index("ix_leases_open", "outcome", "expires"),
    Index("ix_leases_queue", "queue_id", "outcome", "user"),
    Index("ix_leases_worker", "worker_id", "outcome"),
)

# --- evaluations ------------------------------------------------------------------------------------------

# The recorded tasks that are evaluation jobs.
eval_jobs = Table(
    "eval_jobs",
    main,
    Column("task_id", String(32), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, nullable=False, default=""),
    Column("taskset", Text, nullable=False, default=""),
    Column("taskset_version", BigInteger, nullable=False, default=0),
    Column("agent", Text, nullable=False, default=""),
    Column("model", Text, nullable=False, default=""),
    Column("trained_by", String(32), nullable=False, default="", index=True),  # for lineage; may be gone
    Column("created", Double, nullable=False),
    Column("document", LargeBinary, nullable=False),  # msgpack of domain.evaluation.EvalJob
    Index("ix_eval_jobs_created", "created", "task_id"),
    Index("ix_eval_jobs_taskset", "taskset", "created", "task_id"),
)

# Their runs. No foreign key: a run that another task records may be heard of before its job is, and stays when the
# task that it ran in is deleted; with the job's task it is deleted by hand. The second index answers counts, filters
# and orders without a look at the rows, whose documents may be long.
eval_runs = Table(
    "eval_runs",
    main,
    Column("id", String(32), primary_key=True),
    Column("job_id", String(32), nullable=False),
    Column("task_id", String(32), nullable=False),  # that recorded it: the job, or a hosted run's own
    Column("position", BigInteger, nullable=False, default=0),
    Column("slug", Text, nullable=False, default=""),
    Column("env", Text, nullable=False, default=""),
    Column("status", String(16), nullable=False),
    Column("boundary", String(16), nullable=False, default=""),
    Column("stop_reason", String(32), nullable=False, default=""),
    Column("graded", Boolean, nullable=False, default=False),  # it has a grade, be it one of an error
    Column("reward", Double),  # null: not graded, or by an error
    Column("agent", Text, nullable=False, default=""),
    Column("model", Text, nullable=False, default=""),
    Column("attempt", Integer, nullable=False, default=1),
    Column("started", Double, nullable=False, default=0.0),
    Column("ended", Double, nullable=False, default=0.0),
    Column("seconds", Double, nullable=False, default=0.0),
    Column("cost", Double, nullable=False, default=0.0),
    Column("prompt_tokens", BigInteger, nullable=False, default=0),
    Column("completion_tokens", BigInteger, nullable=False, default=0),
    Column("cached_tokens", BigInteger, nullable=False, default=0),
    Column("columns", LargeBinary),  # msgpack of EvalRun.columns; null: it has none
    Column("document", LargeBinary, nullable=False),  # msgpack of domain.evaluation.EvalRun
    Index("ix_eval_runs_position", "job_id", "position", "id"),
    Index(
        "ix_eval_runs_job",
        *("job_id", "status", "boundary", "reward", "seconds", "cost", "started", "position", "slug", "id"),
    ),
    Index("ix_eval_runs_task", "task_id", "status"),
)

tasksets = Table(
    "tasksets",
    main,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text, nullable=False, default=""),
    Column("version", Integer, nullable=False, default=0),
    Column("rows", BigInteger, nullable=False, default=0),
    Column("next_position", BigInteger, nullable=False, default=0),
    Column("user", Text, nullable=False, default=""),
    Column("created", Double, nullable=False),
    Column("changed", Double, nullable=False),
)

# `next_position`: of the row that would have come next. Where it equals `rows`, positions have no holes.
taskset_versions = Table(
    "taskset_versions",
    main,
    Column("taskset_id", String(32), ForeignKey("tasksets.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("created", Double, nullable=False),
    Column("user", Text, nullable=False, default=""),
    Column("rows", BigInteger, nullable=False, default=0),
    Column("next_position", BigInteger, nullable=False, default=0),
    Column("added", BigInteger, nullable=False, default=0),
    Column("changed", BigInteger, nullable=False, default=0),
    Column("removed", BigInteger, nullable=False, default=0),
)

# A row is that of the versions from `since` on and before `until`. A changed one keeps its position. No foreign key:
# the rows of a deleted taskset go in steps.
taskset_rows = Table(
    "taskset_rows",
    main,
    Column("taskset_id", String(32), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("since", Integer, primary_key=True, autoincrement=False),
    Column("until", Integer, nullable=False),
    Column("slug", Text, nullable=False),
    Column("env", Text, nullable=False),
    Column("columns", LargeBinary),  # msgpack of EvalRow.columns; null: not set
    Column("document", LargeBinary, nullable=False),  # msgpack of domain.evaluation.EvalRow
    Index("ix_taskset_rows_slug", "taskset_id", "slug", "until"),
)

# How many rows of the newest version have a value in a column; the value as JSON.
taskset_facets = Table(
    "taskset_facets",
    main,
    Column("taskset_id", String(32), ForeignKey("tasksets.id", ondelete="CASCADE"), primary_key=True),
    Column("column", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("rows", BigInteger, nullable=False),
)

# --- telemetry --------------------------------------------------------------------------------------------

series = Table(
    "series",
    telemetry,
    Column("id", Serial, primary_key=True),
    Column("task_id", String(32), nullable=False),
    Column("title", Text, nullable=False),
    Column("series", Text, nullable=False),
    Column("count", BigInteger, nullable=False, default=0),
    Column("summary", LargeBinary, nullable=False),  # msgpack of domain.metrics.SeriesSummary
    Column("dirty", Boolean, nullable=False, default=False),  # the summary is not yet in main's task_values
    UniqueConstraint("task_id", "title", "series"),
    Index("ix_series_dirty", "dirty"),
)

# The numbers that a writer gave to its series.
series_numbers = Table(
    "series_numbers",
    telemetry,
    Column("task_id", String(32), primary_key=True),
    Column("writer", String(64), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("series_id", Serial, nullable=False),
)

chunks = Table(
    "chunks",
    telemetry,
    Column("series_id", Serial, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),  # number of its first point
    Column("count", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

console = Table(
    "console",
    telemetry,
    Column("task_id", String(32), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # from 1 on, within the task
    Column("stream", Text, nullable=False),
    Column("time", Double, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

plots = Table(
    "plots",
    telemetry,
    Column("task_id", String(32), primary_key=True),
    Column("title", Text, primary_key=True),
    Column("series", Text, primary_key=True),
    Column("iteration", BigInteger, primary_key=True, autoincrement=False),
    Column("time", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("figure", LargeBinary, nullable=False),  # zstd of the plotly JSON
)

marks = Table(
    "marks",
    telemetry,
    Column("task_id", String(32), primary_key=True),
    Column("writer", String(64), primary_key=True),
    Column("events", BigInteger, nullable=False, default=0),
    Column("rows", BigInteger, nullable=False, default=0),
    Column("stdout", BigInteger, nullable=False, default=0),
    Column("stderr", BigInteger, nullable=False, default=0),
    Column("report", BigInteger, nullable=False, default=0),
)

# Batches of events that came without a journal's numbers, by the digest of their bytes: the same batch again,
# sent by a client that missed the answer, is not applied twice. Kept for an hour.
batches = Table(
    "batches",
    telemetry,
    Column("owner_id", String(32), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("time", Double, nullable=False, index=True),
)

# Steps of the traces of evaluations' runs.
eval_steps = Table(
    "eval_steps",
    telemetry,
    Column("run_id", String(32), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # from 0 on
    Column("job_id", String(32), nullable=False, index=True),
    Column("packed", Boolean, nullable=False, default=False),  # the step is compressed with zstd
    Column("step", LargeBinary, nullable=False),  # msgpack of domain.evaluation.Step
)
