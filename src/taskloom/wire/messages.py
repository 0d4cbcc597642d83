"""Requests and answers of the operations, beyond the values of `domain`.

Every message is sent as msgpack by our own clients and may be sent as JSON by anybody (bytes are then
base64). Unknown fields are refused in requests and ignored in answers.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from taskloom.domain.artifact import Artifact, Model, Sample
from taskloom.domain.execution import Execution
from taskloom.domain.metrics import SeriesSummary, WireNumber
from taskloom.domain.parameters import Sections
from taskloom.domain.project import Project
from taskloom.domain.queue import Machine, OnLost, Queue, QueueEntry, WorkerInfo
from taskloom.domain.status import Status
from taskloom.domain.task import ConfigurationObject, Property, Task, TaskEdit, TaskType
from taskloom.wire.records import EndStatus, Plotted, Record

Role = Literal["viewer", "member", "admin"]
"""viewer reads; member also writes, runs and deletes; admin also manages users and keys."""


class Request(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, forbid_unknown_fields=True):
    """Base of request bodies: an unknown field is a 400 that names it."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of answers: clients ignore fields they do not know."""


class Done(Answer, frozen=True, kw_only=True):
    """Nothing more to say."""


class Deleted(Answer, frozen=True, kw_only=True):
    """external: by task, addresses of bytes in its own folders at storage destinations, which nobody names any more.

    This server has no credentials for them: whoever deletes removes them, see `journal.removal`.
    """

    external: dict[str, list[str]] = {}


class Fault(Answer, frozen=True, kw_only=True):
    """Body of every error: `{"error": {"code", "message", "details"}}`."""

    error: FaultBody


class FaultBody(Answer, frozen=True, kw_only=True):
    code: str
    message: str
    details: dict[str, Any] = {}


# --- server, accounts -------------------------------------------------------------------------------------


class Health(Answer, frozen=True, kw_only=True):
    status: str
    version: str


class ServerInfo(Answer, frozen=True, kw_only=True):
    version: str
    time: float
    database: str  # sqlite or postgresql
    role: Role
    user: str
    limits: dict[str, int]


class KeyCreate(Request, frozen=True, kw_only=True):
    label: str
    role: Role = "member"
    user: str = ""  # empty: the caller's own user
    expires: float = 0.0  # epoch seconds; 0 never


class KeyInfo(Answer, frozen=True, kw_only=True):
    """`id` is the access part, shown always; the secret is told once, at creation, in `KeyCreated.key`."""

    id: str
    label: str
    user: str
    role: Role
    created: float
    last_used: float = 0.0
    expires: float = 0.0
    revoked: bool = False


class KeyCreated(Answer, frozen=True, kw_only=True):
    key: str  # `tl_<id>_<secret>`: what TASKLOOM_API_KEY holds
    info: KeyInfo


class KeyList(Answer, frozen=True, kw_only=True):
    keys: list[KeyInfo]


class UnservedCall(Answer, frozen=True, kw_only=True):
    """A call that clients of another system made and this server does not know. `last`: when, epoch seconds."""

    call: str
    count: int
    client: str = ""
    last: float = 0.0


class UnservedList(Answer, frozen=True, kw_only=True):
    calls: list[UnservedCall]


# --- projects ---------------------------------------------------------------------------------------------


class ProjectCreate(Request, frozen=True, kw_only=True):
    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    system_tags: tuple[str, ...] = ()
    output_uri: str = ""


class ProjectEdit(Request, frozen=True, kw_only=True):
    """Renaming moves the projects below it along."""

    name: str | None = None
    description: str | None = None
    tags: tuple[str, ...] | None = None
    system_tags: tuple[str, ...] | None = None
    output_uri: str | None = None


class ProjectQuery(Request, frozen=True, kw_only=True):
    """Query string of the project list. `name` is an exact path, `under` a path whose children are wanted."""

    name: str = ""
    under: str = ""
    search: str = ""
    limit: int = 500
    offset: int = 0


class ProjectList(Answer, frozen=True, kw_only=True):
    projects: list[Project]
    total: int


class ProjectDelete(Request, frozen=True, kw_only=True):
    """Query string. Without `force` only an empty project is deleted; with it its tasks go too."""

    force: bool = False


# --- tasks ------------------------------------------------------------------------------------------------


class TaskCreate(Request, frozen=True, kw_only=True):
    """A draft, made without running anything. `id`: 32 hexadecimal digits, made by the server when empty."""

    id: str = ""
    name: str
    project: str
    type: TaskType = TaskType.TRAINING
    comment: str = ""
    parent: str = ""
    tags: tuple[str, ...] = ()
    system_tags: tuple[str, ...] = ()
    execution: Execution = Execution()
    parameters: Sections = {}
    configuration: dict[str, ConfigurationObject] = {}
    properties: dict[str, Property] = {}
    runtime: dict[str, Any] = {}
    progress: float | None = None
    output_uri: str = ""


class TaskClone(Request, frozen=True, kw_only=True):
    """Name by default `Clone Of NAME`, project by default the source's. Results stay behind.

    `edit`: what else shall be different in the clone.
    """

    name: str = ""
    project: str = ""
    comment: str | None = None
    parent: str = ""  # by default the source
    edit: TaskEdit | None = None


Comparison = Literal["=", "!=", "<", "<=", ">", ">=", "contains", "exists", "matches", "in", "not in"]


class Condition(Request, frozen=True, kw_only=True):
    """A filter on one key: `parameters.Args/lr`, `metrics.loss/train` (last), `metrics.loss/train:min`, `:max`,
    `properties.NAME`, `runtime.NAME`, `execution.NAME` (repository, branch, tag, commit, entry_point, image), or a
    field of the task: `id`, `name`, `comment`, `project` (the path), `project_id`, `status`, `type`, `user`,
    `parent`, `queue` (its id), `worker`, `status_message`, `status_reason`, `output_uri`, `created`, `started`,
    `completed`, `status_changed`, `last_update`, `last_iteration`, `progress`; `tags` and `system_tags`, of which
    any may match.

    `matches` takes a regular expression (RE2: no look-around, no back-references) that may match anywhere;
    `in` and `not in` take a list, in which the empty text stands for "has none".
    """

    key: str
    is_: Comparison = msgspec.field(default="=", name="is")
    value: float | str | list[float | str] | None = None


class TaskQuery(Request, frozen=True, kw_only=True):
    """Which tasks, in which order, which page.

    ids, status, type, user, parent: any of the list. name: a part of it, case-insensitive, or the whole name
    with `exact_name`. project: a path; `subprojects` takes those below it along. tags, system_tags: the tag
    language of `domain.tagquery`. search: a part of name, comment or id. where: every condition holds; any_of:
    in every list at least one does. Archived and hidden tasks are left
    out unless `system_tags` names them or `hidden` is true or `ids` is given.
    order_by: `last_update` (default, newest first), `created`, `started`, `completed`, `status_changed`, `name`,
    `status`, `type`, `user`, `project`, `parent`, `worker`, `comment`, `id`, `last_iteration`, `progress`, or a key
    of values of `Condition`; a leading `-` reverses.
    fields: empty for whole tasks; else only these of Task's fields are filled besides id, name, project, status.
    The total is counted up to `count_to`; one more means "at least so many".
    """

    ids: list[str] = []
    project: str = ""
    subprojects: bool = False
    name: str = ""
    exact_name: bool = False
    tags: list[str] = []
    system_tags: list[str] = []
    status: list[Status] = []
    type: list[TaskType] = []
    user: list[str] = []
    parent: list[str] = []
    search: str = ""
    hidden: bool = False
    where: list[Condition] = []
    any_of: list[list[Condition]] = []
    order_by: list[str] = []
    fields: list[str] = []
    limit: int = 100  # at most 1000
    offset: int = 0
    count_to: int = 10_000


class TaskList(Answer, frozen=True, kw_only=True):
    tasks: list[Task]
    total: int


ImportStep = Literal["look", "begin", "finish"]
ImportState = Literal["new", "begun", "changed", "known"]


class TaskImport(Request, frozen=True, kw_only=True):
    """A task of another server, as it was there. `version` names its state there, up to 57 letters and digits.

    look     tells only what would have to be done
    begin    makes the task, or drops the results of an older version, and lets the journal of `writer` in
    finish   writes `task` as given: state, times, user, artifacts, links to models that are here
    """

    step: ImportStep
    version: str
    writer: str
    task: Task


class TaskImported(Answer, frozen=True, kw_only=True):
    """new: not here yet; begun: an import of it was cut; changed: here in another version; known: here as it is."""

    state: ImportState


class TaskEditRequest(Request, frozen=True, kw_only=True):
    """Body of PATCH on a task. `force` edits what only a draft allows; for administrators and repairs."""

    edit: TaskEdit
    force: bool = False


class MoveRequest(Request, frozen=True, kw_only=True):
    """Why; free text that the task keeps. `force` lets reset and delete reach a pending or running task."""

    reason: str = ""
    message: str = ""
    force: bool = False


class TaskDelete(Request, frozen=True, kw_only=True):
    """Query string of DELETE on a task."""

    force: bool = False


# --- the journal ------------------------------------------------------------------------------------------


class ScalarColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Consecutive scalar rows of one writer, in columns of little-endian numbers.

    `start` is the row number of the first. series: uint32 numbers given by `SeriesNamed`; iteration: int64;
    value: float64; time: float64 epoch seconds. All four hold the same count of rows.
    """

    start: int
    series: bytes
    iteration: bytes
    value: bytes
    time: bytes


class ConsoleBytes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Consecutive bytes of one console stream (stdout, stderr or report) from byte `start` on.

    They are raw; the server decodes UTF-8 with replacement when it shows them. `time`: when they were read.
    """

    stream: Literal["stdout", "stderr", "report"]
    start: int
    data: bytes
    time: float


class JournalBatch(Request, frozen=True, kw_only=True):
    """What one writer has for one task since the server's marks. Applied whole or not at all, and once.

    `events_start` is the number of the first record in `events`. What lies before the server's marks is
    skipped, so a batch may be sent again, longer or shorter. A gap (start above the mark) is a 409 that
    tells the marks. `lease` is the token of the attempt that the writer ran under, empty for scripts that a
    person started. `iteration_offset` is added to every iteration (imported offline sessions).
    """

    writer: str
    lease: str = ""
    iteration_offset: int = 0
    events_start: int = 0
    events: list[Record] = []
    scalars: ScalarColumns | None = None
    console: list[ConsoleBytes] = []


class JournalMarks(Answer, frozen=True, kw_only=True):
    """How far the server has this writer's streams on its disk: records, rows, bytes of each console stream.

    `stop`: the task was aborted (or is gone); the script should be told to end.
    """

    events: int = 0
    rows: int = 0
    console: dict[str, int] = {}
    stop: bool = False


# --- metrics ----------------------------------------------------------------------------------------------


class SeriesList(Answer, frozen=True, kw_only=True):
    series: list[SeriesSummary]


class PointsQuery(Request, frozen=True, kw_only=True):
    """Query string. `points`: at most so many, thinned to keep the shape (MinMaxLTTB); 0: all of them.

    `first`, `last` bound the x axis, which is `iteration` or `time`.
    """

    title: str
    series: str
    points: int = 1000
    x: Literal["iteration", "time"] = "iteration"
    first: float | None = None
    last: float | None = None


class Points(Answer, frozen=True, kw_only=True):
    """Columns of equal length in the order of x; `count` is how many the range holds before thinning."""

    title: str
    series: str
    count: int
    iteration: list[int]
    value: list[WireNumber]
    time: list[float]


class ConsoleQuery(Request, frozen=True, kw_only=True):
    """Query string. Entries after `after` (0: from the start) up to `limit`, or the last `tail` of them.

    `wait`: seconds (at most 30) to wait for more when there is nothing after `after` and the task runs.
    """

    after: int = 0
    limit: int = 1000
    tail: int = 0
    wait: float = 0.0


class ConsoleEntry(Answer, frozen=True, kw_only=True):
    """A piece of the console as it arrived: not always whole lines. `number` grows within the task."""

    number: int
    stream: str
    time: float
    text: str


class ConsolePage(Answer, frozen=True, kw_only=True):
    entries: list[ConsoleEntry]
    ended: bool  # the task is over and nothing follows


class Plot(Answer, frozen=True, kw_only=True):
    title: str
    series: str
    iteration: int
    time: float
    kind: str
    figure: str = ""


class PlotsQuery(Request, frozen=True, kw_only=True):
    """Query string. Only the newest iteration of each title and series, unless `all_iterations`."""

    title: str = ""
    all_iterations: bool = False


class PlotList(Answer, frozen=True, kw_only=True):
    plots: list[Plot]


class SamplesQuery(Request, frozen=True, kw_only=True):
    """Query string. Only the newest iteration of each title and series, unless `all_iterations`."""

    title: str = ""
    all_iterations: bool = False
    limit: int = 1000
    offset: int = 0


class SampleList(Answer, frozen=True, kw_only=True):
    """In the order of title, series, newest iteration first."""

    samples: list[Sample]
    total: int


# --- artifacts, models, blobs -----------------------------------------------------------------------------


class ArtifactList(Answer, frozen=True, kw_only=True):
    artifacts: list[Artifact]


class BlobStatus(Answer, frozen=True, kw_only=True):
    """`received` bytes of an upload that was cut; whole when `complete`."""

    digest: str
    complete: bool
    size: int = 0
    received: int = 0


class ModelQuery(Request, frozen=True, kw_only=True):
    """Which models, in which order, which page. Empty means any.

    name: a part of it, case-insensitive. tags, system_tags: the tag language of `domain.tagquery`. where: every
    condition holds; any_of: in every list at least one does; their keys are `id`, `name`, `comment`, `project`
    (a path), `task`, `user`, `framework`, `uri`, `digest`, `fingerprint`, `parent`, `published`, `created`,
    `last_update`, `iteration`, and `metadata.KEY`. order_by: the same without metadata, a leading `-` reverses;
    by default the last changed first.
    """

    ids: list[str] = []
    name: str = ""
    project: str = ""
    task: str = ""
    digest: str = ""
    tags: list[str] = []
    system_tags: list[str] = []
    framework: str = ""
    only_published: bool = False
    where: list[Condition] = []
    any_of: list[list[Condition]] = []
    order_by: list[str] = []
    limit: int = 100
    offset: int = 0


class ModelList(Answer, frozen=True, kw_only=True):
    models: list[Model]
    total: int


class ModelCreate(Request, frozen=True, kw_only=True):
    model: Model


class ModelEdit(Request, frozen=True, kw_only=True):
    """What is None stays. Of a published model only name, project, comment, tags and metadata can be changed."""

    name: str | None = None
    project: str | None = None
    comment: str | None = None
    tags: tuple[str, ...] | None = None
    system_tags: tuple[str, ...] | None = None
    task: str | None = None
    parent: str | None = None
    labels: dict[str, int] | None = None
    design: str | None = None
    framework: str | None = None
    iteration: int | None = None
    metadata: dict[str, Any] | None = None
    digest: str | None = None
    size: int | None = None
    filename: str | None = None
    uri: str | None = None
    fingerprint: str | None = None


class ModelPoint(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A point of a curve of a model; told again for the same iteration, the new one counts."""

    title: str
    series: str
    iteration: int
    value: WireNumber
    time: float


class ModelReport(Request, frozen=True, kw_only=True):
    """What is told of a model itself. Plots as of a task: the same title, series and iteration replaces one."""

    points: list[ModelPoint] = []
    plots: list[Plotted] = []


class ModelDelete(Request, frozen=True, kw_only=True):
    """Query string. `force`: also a published one, and one that other tasks use as an input."""

    force: bool = False


# --- lineage ----------------------------------------------------------------------------------------------


class LineageQuery(Request, frozen=True, kw_only=True):
    """Query string. How many steps to go at most (1 to 100), and how many nodes to find (1 to 1000)."""

    direction: Literal["both", "upstream", "downstream"] = "both"
    depth: int = 20
    limit: int = 200


class LineageNode(Answer, frozen=True, kw_only=True):
    """A task or a model. `gone`: it was deleted; only its id is known.

    steps: how far it is from the one that was asked about: below 0 upstream, above 0 downstream.
    status of a task its state, of a model `published` or empty. type: of a task its type, of a model its framework.
    """

    kind: Literal["task", "model"]
    id: str
    name: str = ""
    project: str = ""
    status: str = ""
    type: str = ""
    created: float = 0.0
    steps: int = 0
    gone: bool = False


class LineageEdge(Answer, frozen=True, kw_only=True):
    """What went from `source` to `target`, which are ids of nodes.

    made     a task made a model; `name`: under which it refers to it
    loaded   a model went into a task; `name` likewise
    read     the artifact `name` of a task was read by a task; `digest`: its bytes then, where that is known
    parent   a task was cloned from, or begun under, a task; a model was made from a model
    """

    relation: Literal["made", "loaded", "read", "parent"]
    source: str
    target: str
    name: str = ""
    digest: str = ""


class Lineage(Answer, frozen=True, kw_only=True):
    """What something came from and what came of it: upstream only ways that lead to it, downstream those from it.

    nodes: the one that was asked about first, then by their steps. complete: False when a bound cut it.
    """

    root: str
    nodes: list[LineageNode]
    edges: list[LineageEdge]
    complete: bool = True


# --- queues and workers -----------------------------------------------------------------------------------


class QueueCreate(Request, frozen=True, kw_only=True):
    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    on_lost: OnLost = "requeue"
    max_attempts: int = 3


class QueueEdit(Request, frozen=True, kw_only=True):
    name: str | None = None
    description: str | None = None
    tags: tuple[str, ...] | None = None
    paused: bool | None = None
    on_lost: OnLost | None = None
    max_attempts: int | None = None


class QueueList(Answer, frozen=True, kw_only=True):
    queues: list[Queue]


class QueueEntries(Answer, frozen=True, kw_only=True):
    queue: Queue
    entries: list[QueueEntry]


class EntryMove(Request, frozen=True, kw_only=True):
    """Where a waiting task goes inside its queue: 1 is the front; -1 the back."""

    task: str
    position: int


class Enqueue(Request, frozen=True, kw_only=True):
    """By name or id of the queue; both empty: `default`. A queue that is not there is made when `create`."""

    queue: str = ""
    create: bool = False


class WorkerRegister(Request, frozen=True, kw_only=True):
    id: str
    name: str
    queues: tuple[str, ...]
    slots: int
    machine: Machine
    version: str
    create_queues: bool = False


class WorkerList(Answer, frozen=True, kw_only=True):
    workers: list[WorkerInfo]


class Claim(Request, frozen=True, kw_only=True):
    """Ask for one task. `wait`: seconds (at most 30) that the server may keep the question open."""

    worker: str
    queues: tuple[str, ...]
    lease: float = 30.0  # seconds between 2 and 3600
    wait: float = 20.0
    machine: Machine | None = None


class Lease(Answer, frozen=True, kw_only=True):
    token: str
    expires: float  # server's clock
    seconds: float
    attempt: int
    queue: str
    task: Task
    user: str
    key: str  # an API key for the child, valid only while the lease is


class Claimed(Answer, frozen=True, kw_only=True):
    lease: Lease | None = None


class Renew(Request, frozen=True, kw_only=True):
    """`phase` is shown to people: preparing, running, uploading."""

    phase: str = ""
    machine: Machine | None = None


class Renewed(Answer, frozen=True, kw_only=True):
    """`stop`: somebody aborted the task; end it and call finish with `aborted`."""

    expires: float
    stop: bool = False
    reason: str = ""


class Finish(Request, frozen=True, kw_only=True):
    """`requeue` (of a lease only): the worker gives the task back unfinished; it waits again when its queue's
    policy and the attempts allow it, else it ends with `outcome`.
    """

    outcome: EndStatus
    exit_code: int | None = None
    reason: str = ""
    message: str = ""
    requeue: bool = False


class WorkerDrain(Request, frozen=True, kw_only=True):
    drain: bool = True


# --- live events ------------------------------------------------------------------------------------------


class EventsQuery(Request, frozen=True, kw_only=True):
    """Query string of the event stream: only what concerns one task or project, or everything."""

    task: str = ""
    project: str = ""


class LiveEvent(Answer, frozen=True, kw_only=True):
    """One server-sent event. `kind`: task, metrics, console, plots, artifacts, samples, queue, worker, project.

    It says that something changed, not how: the page asks again for what it shows.
    """

    kind: str
    task: str = ""
    project: str = ""
    queue: str = ""
    status: str = ""
    time: float = 0.0
