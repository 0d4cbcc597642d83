"""Models that the server has: found, read, edited, downloaded. Names follow ClearML's.

What a running task makes is the business of `models`, what it uses that of `input_models`. Files come back through
the cache of `downloads`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from taskloom.domain import artifact as domain
from taskloom.domain.artifact import LABELS
from taskloom.domain.errors import BadInput, Conflict, TaskloomError, Unavailable
from taskloom.domain.status import Status
from taskloom.sdk.downloads import Wanted, fetch
from taskloom.sdk.model_reports import ModelReports
from taskloom.sdk.session import current, required_address
from taskloom.wire.client import build_call
from taskloom.wire.connection import data_folder
from taskloom.wire.messages import Condition, Lineage, LineageQuery, ModelDelete, ModelEdit, ModelQuery
from taskloom.wire.operations import (
    DELETE_MODEL,
    EDIT_MODEL,
    GET_BLOB,
    GET_MODEL,
    MODEL_LINEAGE,
    PUBLISH_MODEL,
    QUERY_MODELS,
)

if TYPE_CHECKING:
    from taskloom.domain.task import Task
    from taskloom.sdk.recorder import Recorder
    from taskloom.wire.send import Client

PACKAGE = "package"  # system tag of weights that are a zip file of several files
PAGE = 500
SHIP_WAIT = 600.0  # seconds that may pass until the server has everything, where the caller asked to wait
LOOK_WAIT = 5.0  # the same where only a fresher answer is to be had
_ARCHIVED = "archived"
FRAMEWORKS = {
    ".pt": "PyTorch",
    ".pth": "PyTorch",
    ".h5": "Keras",
    ".keras": "Keras",
    ".pb": "TensorFlow",
    ".onnx": "ONNX",
    ".joblib": "ScikitLearn",
    ".cbm": "CatBoost",
    ".xgb": "XGBoost",
    ".ubj": "XGBoost",
}


class Model(ModelReports):
    """A model that the server has. What is known of it is read when it is first asked for."""

    def __init__(self, model_id: str) -> None:
        self._id = model_id
        self._known: domain.Model | None = None
        self._connect: Callable[[], Client] = connected

    @classmethod
    def _of(cls, known: domain.Model) -> Model:
        made = cls.__new__(cls)
        Model.__init__(made, known.id)
        made._known = known
        return made

    @property
    def _model(self) -> domain.Model:
        if self._known is None:
            self._known = self._connect().call(GET_MODEL, model=self._id)
        return self._known

    def _change(self, **fields: Any) -> None:
        """Names of `ModelEdit` with their new values."""
        self._known = self._connect().call(EDIT_MODEL, ModelEdit(**fields), model=self._id)

    def _reporting_client(self) -> Client:
        return self._connect()

    @property
    def id(self) -> str:
        return self._id

    @property
    def name(self) -> str:
        return self._model.name

    @name.setter
    def name(self, value: str) -> None:
        self._change(name=value)

    @property
    def project(self) -> str:
        """The path of its project."""
        return self._model.project

    @project.setter
    def project(self, value: str) -> None:
        self._change(project=value)

    @property
    def task(self) -> str:
        """Id of the task that made it; empty for one that was registered by hand."""
        return self._model.task

    @property
    def original_task(self) -> str:
        return self.task

    @property
    def parent(self) -> str:
        """Id of the model that it was made from, where that is known."""
        return self._model.parent

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights, by which a file that is loaded is known again; empty when it is not known."""
        return self._model.fingerprint or self._model.digest

    @property
    def size(self) -> int:
        """Bytes of the weights as they are stored."""
        return self._model.size

    @property
    def comment(self) -> str:
        return self._model.comment

    @comment.setter
    def comment(self, value: str) -> None:
        self._change(comment=value)

    @property
    def tags(self) -> list[str]:
        return list(self._model.tags)

    @tags.setter
    def tags(self, value: Sequence[str]) -> None:
        self._change(tags=tuple(dict.fromkeys(value)))

    @property
    def system_tags(self) -> list[str]:
        return list(self._model.system_tags)

    @system_tags.setter
    def system_tags(self, value: Sequence[str]) -> None:
        self._change(system_tags=tuple(dict.fromkeys(value)))

    @property
    def framework(self) -> str:
        return self._model.framework

    @framework.setter
    def framework(self, value: str) -> None:
        self._change(framework=value)

    @property
    def iteration(self) -> int | None:
        return self._model.iteration

    @property
    def labels(self) -> dict[str, int]:
        return dict(self._model.labels)

    @property
    def config_text(self) -> str:
        """The model's design (network, hyperparameters ...) as it was given."""
        return self._model.design

    @property
    def config_dict(self) -> dict[str, Any]:
        """The design as a dictionary; empty when it is not JSON."""
        return design_dict(self.config_text)

    @property
    def published(self) -> bool:
        return self._model.published

    @property
    def url(self) -> str:
        """Where the weights are: the address that was registered, else the server's; empty without weights."""
        if self._model.uri or not self._model.digest:
            return self._model.uri
        return build_call(self._connect().address, GET_BLOB, digest=self._model.digest).url

    def get_metadata(self, key: str) -> Any:
        """In the type that it was given; None when there is none."""
        return self._model.metadata.get(key)

    def get_all_metadata(self) -> dict[str, Any]:
        return dict(self._model.metadata)

    get_metadata_casted = get_metadata
    get_all_metadata_casted = get_all_metadata

    def set_metadata(self, key: str, value: Any, v_type: str | None = None) -> bool:
        """Any value that JSON holds. `v_type` is accepted for scripts that give it; values keep their own type."""
        return self.set_all_metadata({key: value}, replace=False)

    def set_all_metadata(self, metadata: Mapping[str, Any], replace: bool = True) -> bool:
        self._put_metadata(plain_metadata(metadata), replace)
        return True

    def _put_metadata(self, entries: dict[str, Any], replace: bool) -> None:
        self._change(metadata=entries if replace else {**self._model.metadata, **entries})

    def publish(self) -> None:
        """Make it read-only for ever."""
        self._known = self._connect().call(PUBLISH_MODEL, model=self._id)

    def archive(self) -> None:
        """Lists leave it out from now on."""
        self.system_tags = [*self.system_tags, _ARCHIVED]

    def unarchive(self) -> None:
        self.system_tags = [tag for tag in self.system_tags if tag != _ARCHIVED]

    def get_local_copy(
        self, extract_archive: bool | None = None, raise_on_error: bool = False, force_download: bool = False
    ) -> str | None:
        """Path of a local copy of the weights; the unpacked folder when several files were packed together.

        extract_archive: True unpacks every zip file, False none. It lies in a cache that other processes use.
        None when it could not be had, unless `raise_on_error`.
        """
        try:
            path = str(self._fetch(extract_archive, force_download))
        except (TaskloomError, OSError):
            if raise_on_error:
                raise
            return None
        current.fetched[path] = self._id  # who loads it, loads this model
        return path

    def get_lineage(
        self,
        direction: Literal["both", "upstream", "downstream"] = "both",
        depth: int = 20,
        limit: int = 200,
    ) -> Lineage:
        """What this model came from and what came of it; as of a task."""
        query = LineageQuery(direction=direction, depth=depth, limit=limit)
        return self._connect().call(MODEL_LINEAGE, query=query, model=self._id)

    def get_weights(
        self, raise_on_error: bool = False, force_download: bool = False, extract_archive: bool | None = None
    ) -> str | None:
        return self.get_local_copy(extract_archive, raise_on_error, force_download)

    def get_weights_package(
        self,
        return_path: bool = False,
        raise_on_error: bool = False,
        force_download: bool = False,
        extract_archive: bool = True,
    ) -> str | list[Path] | None:
        """The folder of a model of several files (`return_path`), or the list of its files."""
        path = self.get_local_copy(extract_archive, raise_on_error, force_download)
        if path is None or return_path:
            return path
        place = Path(path)
        return sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]

    def _fetch(self, extract: bool | None, force: bool) -> Path:
        known = self._model
        unpacked = PACKAGE in known.system_tags if extract is None else extract and known.filename.endswith(".zip")
        wanted = Wanted(
            what=f"model {known.name or known.id!r}",
            digest=known.digest,
            uri=known.uri,
            fingerprint=known.fingerprint,
            size=known.size,
            filename=known.filename,
        )
        return fetch(wanted, self._connect, data_folder() / "cache", force=force, unpacked=unpacked)

    @staticmethod
    def query_models(
        project_name: str | None = None,
        model_name: str | None = None,
        tags: Sequence[str] | None = None,
        only_published: bool = False,
        include_archived: bool = False,
        max_results: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[Model]:
        """Models by project, name, tags (the tag language of tasks) and metadata; the last made first."""
        where = [Condition(key="name", is_="=", value=model_name)] if model_name else []
        where += [Condition(key=f"metadata.{key}", is_="=", value=_word(v)) for key, v in (metadata or {}).items()]
        asked = ModelQuery(
            project=project_name or "",
            tags=list(tags or ()),
            system_tags=[] if include_archived else [f"-{_ARCHIVED}"],
            only_published=only_published,
            where=where,
            order_by=["-created"],
        )
        found = query_all(asked)
        return [Model._of(known) for known in (found if max_results is None else islice(found, max_results))]

    @staticmethod
    def remove(
        model: Model | str, delete_weights_file: bool = True, force: bool = False, raise_on_errors: bool = False
    ) -> bool:
        """Delete a model. `force`: also one that is published, or that other tasks use. False when it was refused.

        Bytes on the Taskloom server go when nothing else names them.
        """
        try:
            connected().call(DELETE_MODEL, query=ModelDelete(force=force), model=_id_of(model))
        except TaskloomError:
            if raise_on_errors:
                raise
            return False
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self._id!r})"


def recorder_of(task: Any) -> Recorder:
    """The seam of a task; None means the current one."""
    if task is None:
        if current.session is None:
            raise BadInput("there is no current task: call Task.init first, or say which task with task=")
        return current.session
    inner: Any = getattr(task, "_recorder", task)
    return inner


def that_runs(recorder: Recorder) -> Recorder:
    status = recorder.document().status
    if not recorder.live and status in {Status.DRAFT, Status.PENDING}:
        raise Conflict(f"task {recorder.id} is {status}: a task has models once it runs", status=str(status))
    return recorder


def shipped_client(recorder: Recorder, patience: float) -> Client:
    """A client, once the server knows what this process recorded so far, or soon after."""
    client = recorder.client()
    if recorder.live and not recorder.wait_shipped(patience) and patience >= SHIP_WAIT:
        raise Unavailable("the server has not got everything that this task recorded; it goes on being sent")
    return client


def connected() -> Client:
    """A client; what a live task recorded so far is there first, or soon after."""
    if current.session is not None:
        return shipped_client(current.session, LOOK_WAIT)
    from taskloom.wire.send import Client

    return Client(required_address())


def query_all(asked: ModelQuery) -> Iterable[domain.Model]:
    client, offset = connected(), 0
    while True:
        page = client.call(QUERY_MODELS, msgspec.structs.replace(asked, limit=PAGE, offset=offset))
        yield from page.models
        offset += len(page.models)
        if not page.models or offset >= page.total:
            return


def _id_of(model: Model | str) -> str:
    return model if isinstance(model, str) else model.id


def _word(value: Any) -> str:
    """A value of the metadata as the server compares it."""
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else json.dumps(value)


def design_text(text: str | None, values: Mapping[str, Any] | None) -> str:
    if text is not None and values is not None:
        raise BadInput("a model's design is given as config_text or as config_dict, not as both")
    return text or (json.dumps(dict(values), indent=2, default=str) if values is not None else "")


def design_dict(text: str) -> dict[str, Any]:
    """Empty when it is not JSON."""
    try:
        value: Any = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def labels_of(task: Task) -> dict[str, int]:
    """The labels that were connected to a task, which its models take over."""
    found = task.configuration.get(LABELS)
    value = design_dict(found.value) if found is not None else {}
    return {name: number for name, number in value.items() if isinstance(number, int)}


def label_numbers(labels: Mapping[str, int]) -> dict[str, int]:
    try:
        return {str(name): int(number) for name, number in labels.items()}
    except (TypeError, ValueError) as error:
        raise BadInput(f"labels: expected names with whole numbers: {error}") from error


def plain_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads(json.dumps(dict(metadata))))
    except (TypeError, ValueError) as error:
        raise BadInput(f"metadata of a model: not what JSON can hold: {error}") from error
