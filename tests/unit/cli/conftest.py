"""The commands as a person types them, against a real server; and tasks that look as if a script had run."""

from __future__ import annotations

import json
import struct
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from taskloom.cli.main import main
from taskloom.domain.artifact import Artifact
from taskloom.domain.execution import Execution
from taskloom.domain.parameters import encode
from taskloom.domain.task import Task, TaskEdit
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.records import Edited, Ended, Opened, Record, SeriesNamed
from taskloom.wire.send import Client


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def taskloom(house: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`taskloom("task", "list")` -> exit code, standard output, standard error."""
    monkeypatch.delenv("COLUMNS", raising=False)  # parallel test runners set it
    for name, value in house.environment().items():
        if name.startswith("TASKLOOM_"):
            monkeypatch.setenv(name, value)

    def run(*words: str) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(words)
        told = capsys.readouterr()
        return Ran(int(left.value.code or 0), told.out, told.err)

    return run


@dataclass
class Script:
    """A script's journal, shipped by hand: what `Task.init` and its reports would have sent."""

    client: Client
    task: str
    writer: str
    records: int = 0
    rows: int = 0
    console: int = 0

    def tell(self, *records: Record) -> None:
        batch = m.JournalBatch(writer=self.writer, events_start=self.records, events=list(records))
        self.client.call(op.SHIP_JOURNAL, batch, task=self.task)
        self.records += len(records)

    def scalars(self, number: int, values: dict[int, float]) -> None:
        count = len(values)
        columns = m.ScalarColumns(
            start=self.rows,
            series=struct.pack(f"<{count}I", *[number] * count),
            iteration=struct.pack(f"<{count}q", *values),
            value=struct.pack(f"<{count}d", *values.values()),
            time=struct.pack(f"<{count}d", *[time.time()] * count),
        )
        batch = m.JournalBatch(writer=self.writer, events_start=self.records, scalars=columns)
        self.client.call(op.SHIP_JOURNAL, batch, task=self.task)
        self.rows += count

    def prints(self, data: bytes) -> None:
        piece = m.ConsoleBytes(stream="stdout", start=self.console, data=data, time=time.time())
        batch = m.JournalBatch(writer=self.writer, events_start=self.records, console=[piece])
        self.client.call(op.SHIP_JOURNAL, batch, task=self.task)
        self.console += len(data)

    def edits(self, **changes: Any) -> None:
        self.tell(Edited(edit=TaskEdit(**changes), time=time.time()))

    def ends(self, status: Any = "completed", reason: str = "") -> None:
        self.tell(Ended(status=status, time=time.time(), reason=reason))


Begin = Callable[..., Script]


@pytest.fixture
def begin(house: Any) -> Begin:
    """A running task, with parameters of the section Args."""

    def start(name: str = "first run", project: str = "shelf", *, id: str = "", **parameters: Any) -> Script:
        script = Script(house.client, id or uuid.uuid4().hex, uuid.uuid4().hex)
        script.tell(Opened(mode="new", name=name, project=project, time=time.time()))
        if parameters:
            script.edits(parameters={"Args": {key: encode(value) for key, value in parameters.items()}})
        return script

    return start


@pytest.fixture
def finished(begin: Begin) -> Begin:
    """A completed task with a loss that falls from 1.0 to `last` and two lines on the console."""

    def make(name: str = "first run", last: float = 0.25, **options: Any) -> Script:
        script = begin(name, **options)
        script.tell(SeriesNamed(number=0, title="loss", series="train"))
        script.scalars(0, {0: 1.0, 1: 0.5, 2: last})
        script.prints(b"hello\nworld\n")
        script.ends()
        return script

    return make


@pytest.fixture
def draft(house: Any) -> Callable[..., Task]:
    def make(name: str = "a draft", project: str = "shelf", **fields: Any) -> Task:
        fields.setdefault("execution", Execution(command=("true",)))
        return house.client.call(op.CREATE_TASK, m.TaskCreate(name=name, project=project, **fields))

    return make


@pytest.fixture
def artifact(house: Any) -> Callable[[Script, str, bytes], Artifact]:
    """Bytes on the server, named as an artifact of the task by its script."""
    import hashlib

    from taskloom.wire.client import build_call
    from taskloom.wire.records import ArtifactStored

    def store(script: Script, name: str, data: bytes, filename: str = "") -> Artifact:
        digest = hashlib.sha256(data).hexdigest()
        call = build_call(house.client.address, op.PUT_BLOB, digest=digest)
        house.client.http.request(call.method, call.url, headers=call.headers, content=data).raise_for_status()
        made = Artifact(name, "file", digest, len(data), filename or name, created=time.time())
        script.tell(ArtifactStored(artifact=made))
        return made

    return store


@pytest.fixture(autouse=True)
def _options_do_not_outlive_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--url` and `--api-key` become environment variables of this process."""
    for name in ("TASKLOOM_URL", "TASKLOOM_API_KEY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
