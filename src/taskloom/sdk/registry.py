"""Models that the server has: found, read, edited, downloaded, and told as used. Names follow ClearML's.

What a running task makes is the business of `models`. Files come back through the cache of `downloads`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from taskloom.domain import artifact as domain
from taskloom.domain.artifact import ModelLink
from taskloom.domain.errors import BadInput, Conflict, NotFound, TaskloomError, Unavailable
from taskloom.domain.status import Status
from taskloom.sdk.downloads import Cache, local_path
from taskloom.sdk.session import current, required_address
from taskloom.wire.client import build_call
from taskloom.wire.connection import data_folder
from taskloom.wire.messages import ModelCreate, ModelEdit, ModelQuery
from taskloom.wire.operations import (
    CREATE_MODEL,
    DELETE_MODEL,
    EDIT_MODEL,
    GET_BLOB,
    GET_MODEL,
    PUBLISH_MODEL,
    QUERY_MODELS,
)
from taskloom.wire.records import ModelStored

if TYPE_CHECKING:
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


class Model:
    """A model that the server has. What is known of it is read when it is first asked for."""

    def __init__(self, model_id: str) -> None:
        self._id = model_id
        self._known: domain.Model | None = None
        self._connect: Callable[[], Client] = _client

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

    @property
    def task(self) -> str:
        """Id of the task that made it; empty for one that was registered by hand."""
        return self._model.task

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
        try:
            value: Any = json.loads(self.config_text)
        except ValueError:
            return {}
        return cast("dict[str, Any]", value) if isinstance(value, dict) else {}

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
        return self._model.metadata.get(key)

    def get_all_metadata(self) -> dict[str, Any]:
        return dict(self._model.metadata)

    def set_metadata(self, key: str, value: Any, v_type: str | None = None) -> bool:
        """Any value that JSON holds. `v_type` is accepted for scripts that give it; values keep their own type."""
        return self.set_all_metadata({key: value}, replace=False)

    def set_all_metadata(self, metadata: Mapping[str, Any], replace: bool = True) -> bool:
        kept = {} if replace else self._model.metadata
        self._change(metadata={**kept, **plain_metadata(metadata)})
        return True

    def publish(self) -> None:
        """Make it read-only for ever."""
        self._known = self._connect().call(PUBLISH_MODEL, model=self._id)

    def get_local_copy(
        self, extract_archive: bool | None = None, raise_on_error: bool = False, force_download: bool = False
    ) -> str | None:
        """Path of a local copy of the weights; the unpacked folder when several files were packed together.

        extract_archive: True unpacks every zip file, False none. It lies in a cache that other processes use.
        None when it could not be had, unless `raise_on_error`.
        """
        try:
            return str(self._fetch(extract_archive, force_download))
        except (TaskloomError, OSError):
            if raise_on_error:
                raise
            return None

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
        what = f"model {known.name or known.id!r}"
        if not known.digest:
            return local_path(known.uri, what)
        unpacked = PACKAGE in known.system_tags if extract is None else extract and known.filename.endswith(".zip")
        return Cache(data_folder() / "cache").fetch(
            self._connect, known.digest, size=known.size, filename=known.filename, force=force, unpacked=unpacked
        )

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
        """Models by project, part of the name, tags (the tag language of tasks) and metadata; newest first."""
        asked = ModelQuery(
            project=project_name or "",
            name=model_name or "",
            tags=list(tags or ()),
            only_published=only_published,
        )
        wanted = (metadata or {}).items()
        found: list[Model] = []
        for known in _query(asked):
            if _ARCHIVED in known.system_tags and not include_archived:
                continue
            if any(key not in known.metadata or known.metadata[key] != value for key, value in wanted):
                continue
            found.append(Model._of(known))
            if max_results is not None and len(found) >= max_results:
                break
        return found

    @staticmethod
    def remove(model: Model | str, delete_weights_file: bool = True, force: bool = False) -> bool:
        """Delete a model with its bytes. The other arguments are accepted: bytes go when nothing names them."""
        _client().call(DELETE_MODEL, model=model if isinstance(model, str) else model.id)
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self._id!r})"


class InputModel(Model):
    """A model that a task uses, by id or by name and project (the newest that fits)."""

    def __init__(
        self,
        model_id: str | None = None,
        name: str | None = None,
        project: str | None = None,
        tags: Sequence[str] | None = None,
        only_published: bool = False,
    ) -> None:
        if model_id:
            super().__init__(model_id)
            return
        if not (name or project or tags):
            raise BadInput("InputModel needs model_id, or some of name, project and tags")
        asked = ModelQuery(
            name=name or "", project=project or "", tags=list(tags or ()), only_published=only_published
        )
        found = next((known for known in _query(asked) if not name or known.name == name), None)
        if found is None:
            raise NotFound(f"no model with name {name!r}, project {project!r}, tags {list(tags or ())}")
        super().__init__(found.id)
        self._known = found

    @classmethod
    def import_model(
        cls,
        weights_url: str,
        config_text: str | None = None,
        config_dict: Mapping[str, Any] | None = None,
        label_enumeration: Mapping[str, int] | None = None,
        name: str | None = None,
        project: str | None = None,
        tags: Sequence[str] | None = None,
        comment: str | None = None,
        is_package: bool = False,
        create_as_published: bool = False,
        framework: str | None = None,
    ) -> InputModel:
        """Register weights that lie somewhere else; only their address is kept."""
        last = Path(weights_url).name
        wanted = domain.Model(
            id="",
            name=name or last,
            project=project or "",
            uri=weights_url,
            filename=last,
            framework=framework or FRAMEWORKS.get(Path(last).suffix, ""),
            tags=tuple(tags or ()),
            system_tags=(PACKAGE,) if is_package else (),
            comment=comment or "",
            labels=dict(label_enumeration or {}),
            design=design_text(config_text, config_dict),
        )
        made = cast("InputModel", cls._of(_client().call(CREATE_MODEL, ModelCreate(model=wanted))))
        if create_as_published:
            made.publish()
        return made

    def connect(self, task: Any, name: str | None = None) -> None:
        """Tell that a task uses this model. `name`: under which name the task refers to it."""
        known = self._model
        link = ModelLink(name or known.name or known.id, known.id, "input")
        that_runs(recorder_of(task)).record(ModelStored(model=known, link=link))


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


def _client() -> Client:
    if current.session is not None:
        return shipped_client(current.session, LOOK_WAIT)
    from taskloom.wire.send import Client

    return Client(required_address())


def _query(asked: ModelQuery) -> Iterable[domain.Model]:
    client, offset = _client(), 0
    while True:
        page = client.call(QUERY_MODELS, msgspec.structs.replace(asked, limit=PAGE, offset=offset))
        yield from page.models
        offset += len(page.models)
        if not page.models or offset >= page.total:
            return


def design_text(text: str | None, values: Mapping[str, Any] | None) -> str:
    if text is not None and values is not None:
        raise BadInput("a model's design is given as config_text or as config_dict, not as both")
    return text or (json.dumps(dict(values), indent=2, default=str) if values is not None else "")


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
