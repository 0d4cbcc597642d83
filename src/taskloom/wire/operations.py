"""The one table of operations: the server binds handlers to it, clients build calls from it.

The OpenAPI document and the authorisation tests are made from it too: an operation that is not here does not
exist, and one that is here cannot be reached below its role. Paths hold `{names}`; a `query` struct is read
from the query string, a `body` struct from the body (msgpack or JSON by Content-Type), `answer` is written in
the form that Accept asks for (JSON by default). `stream` marks bodies and answers that are raw bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from taskloom.domain.artifact import Artifact, Model, ModelLink
from taskloom.domain.evaluation import EvalRun
from taskloom.domain.project import Project
from taskloom.domain.queue import Queue, Waiting, WorkerInfo
from taskloom.domain.task import Task
from taskloom.wire import messages as m

Body = TypeVar("Body")
Reply = TypeVar("Reply")
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]


@dataclass(frozen=True)
class Operation(Generic[Body, Reply]):
    """`role` None: no key needed. `feature` is the server's room that handles it, `handler` its name there."""

    name: str
    method: Method
    path: str
    answer: type[Reply]
    body: type[Body] | None = None
    query: type[m.Request] | None = None
    role: m.Role | None = "viewer"
    feature: str = ""
    summary: str = ""
    stream: bool = False


def _get(
    name: str,
    path: str,
    answer: type[Reply],
    feature: str,
    summary: str,
    *,
    query: type[m.Request] | None = None,
    role: m.Role | None = "viewer",
    stream: bool = False,
) -> Operation[None, Reply]:
    return Operation(name, "GET", path, answer, None, query, role, feature, summary, stream)


def _send(
    method: Method,
    name: str,
    path: str,
    body: type[Body],
    answer: type[Reply],
    feature: str,
    summary: str,
    *,
    role: m.Role = "member",
) -> Operation[Body, Reply]:
    return Operation(name, method, path, answer, body, None, role, feature, summary)


def _act(
    method: Method,
    name: str,
    path: str,
    answer: type[Reply],
    feature: str,
    summary: str,
    *,
    query: type[m.Request] | None = None,
    role: m.Role = "member",
    stream: bool = False,
) -> Operation[None, Reply]:
    return Operation(name, method, path, answer, None, query, role, feature, summary, stream)


# Server
HEALTH = _get("health", "/health", m.Health, "app", "Whether the server answers; needs no key", role=None)
OPENAPI = _get("openapi", "/api/openapi.json", m.Done, "app", "This document", role=None, stream=True)
SERVER_INFO = _get("server_info", "/api/server", m.ServerInfo, "app", "Version, limits, and who is asking")
EVENTS = _get(
    "events",
    "/api/events",
    m.LiveEvent,
    "app",
    "Live changes as server-sent events, each data line a LiveEvent",
    query=m.EventsQuery,
    stream=True,
)

LIST_UNSERVED = _get(
    "list_unserved",
    "/api/unserved",
    m.UnservedList,
    "app",
    "Calls of other systems' clients (ClearML's) that this server does not serve, most wanted first",
)

# Accounts
LIST_KEYS = _get("list_keys", "/api/keys", m.KeyList, "accounts", "API keys: one's own; an admin sees all")
CREATE_KEY = _send(
    "POST", "create_key", "/api/keys", m.KeyCreate, m.KeyCreated, "accounts", "Make a key; its secret is told once"
)
REVOKE_KEY = _act("DELETE", "revoke_key", "/api/keys/{key}", m.KeyInfo, "accounts", "Revoke a key at once")

# Secrets
LIST_SECRETS = _get(
    "list_secrets",
    "/api/secrets",
    m.SecretList,
    "secrets",
    "One's own secrets and those of projects, without their values",
    role="member",
)
PUT_SECRET = _send(
    "PUT",
    "put_secret",
    "/api/secrets/{name}",
    m.SecretPut,
    m.SecretInfo,
    "secrets",
    "Set a secret of one's own or of a project; its value is never told again but to a task that names it",
)
DELETE_SECRET = _act(
    "DELETE",
    "delete_secret",
    "/api/secrets/{name}",
    m.SecretInfo,
    "secrets",
    "Delete a secret at once; tasks that run keep what they were given",
    query=m.SecretPlace,
)
ROTATE_SECRETS = _act(
    "POST",
    "rotate_secrets",
    "/api/secrets/rotate",
    m.SecretsRotated,
    "secrets",
    "Make a new key and encrypt every secret with it; the older keys are forgotten",
    role="admin",
)

# Projects
LIST_PROJECTS = _get(
    "list_projects",
    "/api/projects",
    m.ProjectList,
    "projects",
    "Projects by path, with counts",
    query=m.ProjectQuery,
)
CREATE_PROJECT = _send(
    "POST",
    "create_project",
    "/api/projects",
    m.ProjectCreate,
    Project,
    "projects",
    "Make it and the ones above it",
)
GET_PROJECT = _get("get_project", "/api/projects/{project}", Project, "projects", "One project by id")
EDIT_PROJECT = _send(
    "PATCH", "edit_project", "/api/projects/{project}", m.ProjectEdit, Project, "projects", "Rename, describe, tag"
)
IMPORT_PROJECT = _send(
    "PUT",
    "import_project",
    "/api/projects/{project}",
    Project,
    Project,
    "projects",
    "Bring a project over with its id and times; one of the same name, or changed here later, stays as it is",
    role="admin",
)
DELETE_PROJECT = _act(
    "DELETE",
    "delete_project",
    "/api/projects/{project}",
    m.Deleted,
    "tasks",
    "Delete an empty project, or with `force` one with its tasks and their bytes",
    query=m.ProjectDelete,
)

# Tasks
QUERY_TASKS = _send(
    "POST", "query_tasks", "/api/tasks/query", m.TaskQuery, m.TaskList, "tasks", "Find tasks", role="viewer"
)
CREATE_TASK = _send("POST", "create_task", "/api/tasks", m.TaskCreate, Task, "tasks", "Make a draft")
GET_TASK = _get("get_task", "/api/tasks/{task}", Task, "tasks", "One whole task by id")
EDIT_TASK = _send("PATCH", "edit_task", "/api/tasks/{task}", m.TaskEditRequest, Task, "tasks", "Change a task")
CLONE_TASK = _send(
    "POST", "clone_task", "/api/tasks/{task}/clone", m.TaskClone, Task, "tasks", "An editable copy without results"
)
RESET_TASK = _send(
    "POST", "reset_task", "/api/tasks/{task}/reset", m.MoveRequest, Task, "tasks", "Delete results, back to draft"
)
PUBLISH_TASK = _send(
    "POST", "publish_task", "/api/tasks/{task}/publish", m.MoveRequest, Task, "tasks", "Make read-only for ever"
)
DELETE_TASK = _act(
    "DELETE",
    "delete_task",
    "/api/tasks/{task}",
    m.Deleted,
    "tasks",
    "Delete the task with its results and bytes",
    query=m.TaskDelete,
)
START_TASK = _send(
    "POST",
    "start_task",
    "/api/tasks/{task}/start",
    m.MoveRequest,
    Task,
    "tasks",
    "Draft to running, without a worker",
)
END_TASK = _send(
    "POST",
    "end_task",
    "/api/tasks/{task}/end",
    m.Finish,
    Task,
    "tasks",
    "End a task that runs without a lease (a script whose own journal cannot say so)",
)
SHIP_JOURNAL = _send(
    "POST",
    "ship_journal",
    "/api/tasks/{task}/journal",
    m.JournalBatch,
    m.JournalMarks,
    "tasks",
    "Append a writer's records, scalar rows and console bytes; each is applied once",
)
IMPORT_TASK = _send(
    "PUT",
    "import_task",
    "/api/tasks/{task}",
    m.TaskImport,
    m.TaskImported,
    "tasks",
    "Bring a task over from another server with its id, times, state and user; see TaskImport",
    role="admin",
)
JOURNAL_MARKS = _get(
    "journal_marks",
    "/api/tasks/{task}/journal/{writer}",
    m.JournalMarks,
    "tasks",
    "How far the server has a writer's streams",
)

# Metrics
LIST_SERIES = _get(
    "list_series", "/api/tasks/{task}/scalars", m.SeriesList, "metrics", "A task's series with their summaries"
)
GET_POINTS = _get(
    "get_points",
    "/api/tasks/{task}/scalars/points",
    m.Points,
    "metrics",
    "One series, thinned to as many points as asked for",
    query=m.PointsQuery,
)
GET_CONSOLE = _get(
    "get_console", "/api/tasks/{task}/console", m.ConsolePage, "metrics", "Console output", query=m.ConsoleQuery
)
LIST_PLOTS = _get("list_plots", "/api/tasks/{task}/plots", m.PlotList, "metrics", "Plots", query=m.PlotsQuery)

# Artifacts, models, blobs
LIST_ARTIFACTS = _get("list_artifacts", "/api/tasks/{task}/artifacts", m.ArtifactList, "artifacts", "Artifacts")
LIST_SAMPLES = _get(
    "list_samples",
    "/api/tasks/{task}/samples",
    m.SampleList,
    "artifacts",
    "Debug samples: images, sounds, pages",
    query=m.SamplesQuery,
)
PUT_ARTIFACT = _send(
    "POST",
    "put_artifact",
    "/api/tasks/{task}/artifacts",
    Artifact,
    m.ArtifactList,
    "tasks",
    "Name bytes that are already uploaded as an artifact of a task that is not running here",
)
DELETE_ARTIFACT = _act(
    "DELETE",
    "delete_artifact",
    "/api/tasks/{task}/artifacts/{name:path}",
    m.ArtifactList,
    "tasks",
    "Remove an artifact; its bytes go when nothing else names them",
)
LINK_MODEL = _send(
    "POST",
    "link_model",
    "/api/tasks/{task}/models",
    ModelLink,
    Task,
    "tasks",
    "Have a task refer to a model that is there, by a name; a draft, too, so that its run uses another one",
)
BLOB_STATUS = _get(
    "blob_status",
    "/api/blobs/{digest}/status",
    m.BlobStatus,
    "artifacts",
    "Whether the bytes are here, or how many of them",
)
PUT_BLOB = _act(
    "PUT",
    "put_blob",
    "/api/blobs/{digest}",
    m.BlobStatus,
    "artifacts",
    "Upload bytes, whole or from `Content-Range: bytes FIRST-LAST/SIZE` on; checked by their SHA-256",
    stream=True,
)
GET_BLOB = _get(
    "get_blob", "/api/blobs/{digest}", m.Done, "artifacts", "Download bytes; `Range` is honoured", stream=True
)
QUERY_MODELS = _send(
    "POST",
    "query_models",
    "/api/models/query",
    m.ModelQuery,
    m.ModelList,
    "artifacts",
    "Find models",
    role="viewer",
)
CREATE_MODEL = _send(
    "POST", "create_model", "/api/models", m.ModelCreate, Model, "artifacts", "Register a model by hand"
)
GET_MODEL = _get("get_model", "/api/models/{model}", Model, "artifacts", "One model")
IMPORT_MODEL = _send(
    "PUT",
    "import_model",
    "/api/models/{model}",
    Model,
    Model,
    "artifacts",
    "Bring a model over with its id, times and user; one that was changed here later stays as it is",
    role="admin",
)
EDIT_MODEL = _send(
    "PATCH", "edit_model", "/api/models/{model}", m.ModelEdit, Model, "artifacts", "Change an unpublished model"
)
PUBLISH_MODEL = _act("POST", "publish_model", "/api/models/{model}/publish", Model, "artifacts", "Make read-only")
REPORT_MODEL = _send(
    "POST",
    "report_model",
    "/api/models/{model}/report",
    m.ModelReport,
    m.Done,
    "tasks",
    "Report points and plots of a model itself; read them as those of a task, with the model's id",
)
DELETE_MODEL = _act(
    "DELETE",
    "delete_model",
    "/api/models/{model}",
    m.Done,
    "artifacts",
    "Delete with its bytes; one that is published, or that other tasks use, only with `force`",
    query=m.ModelDelete,
)

# Lineage
TASK_LINEAGE = _get(
    "task_lineage",
    "/api/tasks/{task}/lineage",
    m.Lineage,
    "lineage",
    "What a task came from and what came of it: models, artifacts that were read, tasks",
    query=m.LineageQuery,
)
MODEL_LINEAGE = _get(
    "model_lineage",
    "/api/models/{model}/lineage",
    m.Lineage,
    "lineage",
    "What a model came from and what came of it",
    query=m.LineageQuery,
)

# Queues and workers
LIST_QUEUES = _get("list_queues", "/api/queues", m.QueueList, "queues", "Queues with what waits and runs")
CREATE_QUEUE = _send("POST", "create_queue", "/api/queues", m.QueueCreate, Queue, "queues", "Make a queue")
GET_QUEUE = _get(
    "get_queue",
    "/api/queues/{queue}",
    m.QueueEntries,
    "queues",
    "One queue by id or name, with a page of its entries in order",
    query=m.QueuePage,
)
EDIT_QUEUE = _send(
    "PATCH", "edit_queue", "/api/queues/{queue}", m.QueueEdit, Queue, "queues", "Pause, rename, policy"
)
DELETE_QUEUE = _act("DELETE", "delete_queue", "/api/queues/{queue}", m.Done, "queues", "Delete an empty queue")
MOVE_ENTRY = _send(
    "POST",
    "move_entry",
    "/api/queues/{queue}/move",
    m.EntryMove,
    m.QueueEntries,
    "queues",
    "Reorder a waiting task",
)
ENQUEUE_TASK = _send(
    "POST", "enqueue_task", "/api/tasks/{task}/enqueue", m.Enqueue, Task, "queues", "Draft to pending"
)
DEQUEUE_TASK = _send(
    "POST", "dequeue_task", "/api/tasks/{task}/dequeue", m.MoveRequest, Task, "queues", "Pending to draft"
)
ABORT_TASK = _send(
    "POST",
    "abort_task",
    "/api/tasks/{task}/abort",
    m.MoveRequest,
    Task,
    "queues",
    "Stop a pending or running task; under a worker it ends when the worker has stopped it",
)
WAITING = _get("waiting", "/api/tasks/{task}/waiting", Waiting, "queues", "Position in the queue and why it waits")
LIST_WORKERS = _get("list_workers", "/api/workers", m.WorkerList, "queues", "Workers and what they run")
REGISTER_WORKER = _send(
    "POST", "register_worker", "/api/workers", m.WorkerRegister, WorkerInfo, "queues", "See wire.worker_protocol"
)
UNREGISTER_WORKER = _act("DELETE", "unregister_worker", "/api/workers/{worker}", m.Done, "queues", "Orderly stop")
DRAIN_WORKER = _send(
    "POST", "drain_worker", "/api/workers/{worker}/drain", m.WorkerDrain, WorkerInfo, "queues", "Take no new tasks"
)
CLAIM_TASK = _send("POST", "claim_task", "/api/claim", m.Claim, m.Claimed, "queues", "See wire.worker_protocol")
RENEW_LEASE = _send(
    "POST", "renew_lease", "/api/leases/{token}/renew", m.Renew, m.Renewed, "queues", "See wire.worker_protocol"
)
FINISH_LEASE = _send(
    "POST", "finish_lease", "/api/leases/{token}/finish", m.Finish, Task, "queues", "See wire.worker_protocol"
)

# Evaluations
LIST_JOBS = _get("list_jobs", "/api/evals/jobs", m.JobList, "evals", "Jobs, newest first", query=m.JobQuery)
GET_JOB = _get("get_job", "/api/evals/jobs/{job}", m.JobRecord, "evals", "One job with the counts of its runs")
LIST_RUNS = _get(
    "list_runs", "/api/evals/jobs/{job}/runs", m.RunList, "evals", "The runs of a job", query=m.RunQuery
)
GET_RUN = _get("get_run", "/api/evals/runs/{run}", EvalRun, "evals", "One run")
GET_STEPS = _get(
    "get_steps",
    "/api/evals/runs/{run}/steps",
    m.StepPage,
    "evals",
    "The trace of a run, step by step",
    query=m.StepsQuery,
)
REPORT_JOB = _get(
    "report_job",
    "/api/evals/jobs/{job}/report",
    m.JobReport,
    "evals",
    "What the runs of a job come to, with intervals; failures of the infrastructure apart",
    query=m.ReportQuery,
)
COMPARE_JOBS = _get(
    "compare_jobs",
    "/api/evals/compare",
    m.JobComparison,
    "evals",
    "Two jobs on the eval tasks that both have, paired",
    query=m.CompareQuery,
)
LEADERBOARD = _get(
    "leaderboard",
    "/api/evals/leaderboard",
    m.Leaderboard,
    "evals",
    "Agents and models on a taskset, best first",
    query=m.LeaderboardQuery,
)
LIST_TASKSETS = _get(
    "list_tasksets", "/api/evals/tasksets", m.TasksetList, "evals", "Tasksets by name", query=m.TasksetQuery
)
GET_TASKSET = _get(
    "get_taskset",
    "/api/evals/tasksets/{taskset}",
    m.TasksetInfo,
    "evals",
    "One taskset by id or name, with the values of its columns",
)
LIST_ROWS = _get(
    "list_rows",
    "/api/evals/tasksets/{taskset}/rows",
    m.RowPage,
    "evals",
    "The eval tasks of a taskset in order, of any version",
    query=m.RowsQuery,
)
LIST_VERSIONS = _get(
    "list_versions", "/api/evals/tasksets/{taskset}/versions", m.VersionList, "evals", "A taskset's versions"
)
UPLOAD_TASKSET = _send(
    "POST",
    "upload_taskset",
    "/api/evals/tasksets/{taskset}/rows",
    m.TasksetUpload,
    m.TasksetChanged,
    "evals",
    "Add, change and remove eval tasks of a taskset, which is made when there is none of that name",
)
DELETE_TASKSET = _act(
    "DELETE", "delete_taskset", "/api/evals/tasksets/{taskset}", m.Done, "evals", "Delete a taskset; jobs stay"
)

# Tunnels
GET_TUNNEL = _get(
    "get_tunnel",
    "/api/tunnels/{task}",
    m.TunnelState,
    "tunnels",
    "Whether the process of a running task listens for connections; its web sockets: see wire.messages.tunnels",
    query=m.TunnelQuery,
    role="member",
)

OPERATIONS: dict[str, Operation[Any, Any]] = {
    value.name: value  # pyright: ignore[reportUnknownMemberType]
    for value in list(globals().values())
    if isinstance(value, Operation)
}
