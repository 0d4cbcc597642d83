"""Models as scripts make and use them: weights with what made them. The public names follow ClearML's.

`OutputModel` belongs to a task: what changes is recorded through the task's `Recorder`, so it reaches the
server behind a running script's back, like everything else. `Model` and `InputModel` are models that the
server already has. Weights are copied when they are given, never moved or deleted: the file that a script
wrote stays its own. Files come back through the cache of `downloads`.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
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
_BASE = "base_model_id"  # the metadata that tells lineage
_FRAMEWORKS = {
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
_log = logging.getLogger("taskloom")


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
        self._change(metadata={**kept, **_plain(metadata)})
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
            framework=framework or _FRAMEWORKS.get(Path(last).suffix, ""),
            tags=tuple(tags or ()),
            system_tags=(PACKAGE,) if is_package else (),
            comment=comment or "",
            labels=dict(label_enumeration or {}),
            design=_design(config_text, config_dict),
        )
        made = cast("InputModel", cls._of(_client().call(CREATE_MODEL, ModelCreate(model=wanted))))
        if create_as_published:
            made.publish()
        return made

    def connect(self, task: Any, name: str | None = None) -> None:
        """Tell that a task uses this model. `name`: under which name the task refers to it."""
        known = self._model
        link = ModelLink(name or known.name or known.id, known.id, "input")
        _that_runs(_recorder(task)).record(ModelStored(model=known, link=link))


class OutputModel(Model):
    """A model that a task makes; without `task` the current one. It is linked to the task at once.

    A task has one output model of a name: another OutputModel of that name goes on with it. The name is by
    default the task's. `base_model_id`: the model whose weights this one started from.
    """

    def __init__(
        self,
        task: Any = None,
        config_text: str | None = None,
        config_dict: Mapping[str, Any] | None = None,
        label_enumeration: Mapping[str, int] | None = None,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        comment: str | None = None,
        framework: str | None = None,
        base_model_id: str | None = None,
    ) -> None:
        self._recorder = _that_runs(_recorder(task))
        document = self._recorder.document()
        self._link_name = name or document.name or self._recorder.id
        links = {link.name: link.model for link in document.models if link.direction == "output"}
        super().__init__(links.get(self._link_name) or uuid.uuid4().hex)
        self._connect = self._recorder.client
        given: dict[str, Any] = {
            "tags": tuple(dict.fromkeys(tags)) if tags else None,
            "comment": comment,
            "framework": framework,
            "labels": _labels(label_enumeration) if label_enumeration else None,
            "design": _design(config_text, config_dict) or None,
            "metadata": {_BASE: base_model_id} if base_model_id else None,
        }
        known = self._continued() if self._link_name in links else None
        self._known = known or domain.Model(
            id=self._id,
            name=self._link_name,
            project=self._recorder.project_name,
            task=self._recorder.id,
            created=time.time(),
        )
        self._change(**{field: value for field, value in given.items() if value is not None})

    def _continued(self) -> domain.Model | None:
        """What is known of the task's model of this name; None when nobody can be asked now."""
        try:
            return _shipped(self._recorder, LOOK_WAIT).call(GET_MODEL, model=self._id)
        except (NotFound, Unavailable, ConnectionError, BadInput):
            return None

    def _change(self, **fields: Any) -> None:
        self._known = msgspec.structs.replace(self._model, **fields, last_update=time.time())
        link = ModelLink(self._link_name, self._id, "output")
        self._recorder.record(ModelStored(model=self._known, link=link))

    @property
    def upload_storage_uri(self) -> str:
        return self.url

    def update_weights(
        self,
        weights_filename: str | Path | None = None,
        upload_uri: str | None = None,
        target_filename: str | None = None,
        auto_delete_file: bool = True,
        register_uri: str | None = None,
        iteration: int | None = None,
        update_comment: bool = True,
        is_package: bool = False,
        async_enable: bool = True,
    ) -> str:
        """Store new weights, a file or a folder (zipped); the returned address is where they will be.

        The file is copied before this returns and uploaded behind the script's back; `async_enable=False` waits
        for that. register_uri: weights that lie somewhere else; only the address is kept. iteration: at which
        they were made. `auto_delete_file` means the copy, which goes when it is uploaded: your file is never
        deleted. `upload_uri` and `update_comment` are accepted; weights go to the Taskloom server.
        """
        if register_uri:
            return self._put(
                iteration, is_package, uri=register_uri, digest="", size=0, filename=Path(register_uri).name
            )
        if weights_filename is None:
            raise BadInput("update_weights needs weights_filename or register_uri")
        if upload_uri:
            _log.warning("taskloom: the weights are kept on the Taskloom server, not at %s", upload_uri)
        from taskloom.sdk.serialise import spool_path

        stored = spool_path(f"model {self.name}", weights_filename, self._recorder.spool)
        filename = target_filename or stored.filename
        url = self._put(
            iteration,
            is_package or stored.kind == "folder",
            uri="",
            digest=stored.digest,
            size=stored.size,
            filename=filename,
        )
        if not async_enable:
            self._recorder.wait_shipped(SHIP_WAIT)
        return url

    def update_weights_package(
        self,
        weights_filenames: Sequence[str | Path] | None = None,
        weights_path: str | Path | None = None,
        upload_uri: str | None = None,
        target_filename: str | None = None,
        auto_delete_file: bool = True,
        iteration: int | None = None,
        async_enable: bool = True,
    ) -> str:
        """Store several files as one model: a folder, or files of different names."""
        if weights_path is not None:
            return self.update_weights(
                weights_path, upload_uri, target_filename, iteration=iteration, async_enable=async_enable
            )
        from taskloom.sdk.archives import pack
        from taskloom.sdk.serialise import spooled

        members = sorted((Path(file).name, Path(file)) for file in weights_filenames or ())
        if not members or len({name for name, _ in members}) != len(members):
            raise BadInput("update_weights_package needs weights_path, or weights_filenames of different names")
        with spooled(self._recorder.spool) as (out, finish):
            pack(members, cast("Any", out))
            digest, size = finish()
        filename = target_filename or "weights.zip"
        url = self._put(iteration, True, uri="", digest=digest, size=size, filename=filename)
        if not async_enable:
            self._recorder.wait_shipped(SHIP_WAIT)
        return url

    def _put(self, iteration: int | None, package: bool, **fields: Any) -> str:
        known = self._model
        others = [tag for tag in known.system_tags if tag != PACKAGE]
        guessed = _FRAMEWORKS.get(Path(str(fields["filename"])).suffix, "")
        self._change(
            **fields,
            iteration=known.iteration if iteration is None else iteration,
            framework=known.framework or guessed,
            system_tags=(*others, PACKAGE) if package else tuple(others),
        )
        try:
            return self.url
        except BadInput:
            return str(fields["filename"])  # no server yet: the journal waits for one

    def update_design(self, config_text: str | None = None, config_dict: Mapping[str, Any] | None = None) -> bool:
        self._change(design=_design(config_text, config_dict))
        return True

    def update_labels(self, labels: Mapping[str, int]) -> None:
        """Names of classes and their numbers."""
        self._change(labels=_labels(labels))

    def set_name(self, name: str) -> None:
        self._change(name=name)

    def set_upload_destination(self, uri: str) -> None:
        """Accepted for scripts that call it: weights go to the Taskloom server."""

    def publish(self) -> None:
        """Make it read-only for ever; waits until the server has everything of it."""
        self._known = _shipped(self._recorder, SHIP_WAIT).call(PUBLISH_MODEL, model=self._id)

    def _fetch(self, extract: bool | None, force: bool) -> Path:
        if self._known is not None and self._known.digest:
            _shipped(self._recorder, SHIP_WAIT)  # the bytes may still be on their way
        return super()._fetch(extract, force)


class ModelList(list[Model]):
    """Models in the order of their making; `models['name']` works like `models[0]`, `keys()` tells the names."""

    def __init__(self, named: Iterable[tuple[str, Model]]) -> None:
        pairs = list(named)
        super().__init__(model for _, model in pairs)
        self._names = [name for name, _ in pairs]

    def keys(self) -> list[str]:
        return list(self._names)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if key not in self._names:
                raise KeyError(f"no model {key!r}; there are: {', '.join(self._names) or 'none'}")
            key = self._names.index(key)
        return cast("Any", super()).__getitem__(key)


def models_of(recorder: Recorder) -> dict[str, list[Model]]:
    """`{'input': [...], 'output': [...]}`: what a task's links lead to; nothing is asked of the server yet."""

    def made(link: ModelLink) -> Model:
        model = Model(link.model)
        model._connect = lambda: _shipped(recorder, LOOK_WAIT)  # pyright: ignore[reportPrivateUsage]
        return model

    links = recorder.document().models
    return {
        direction: ModelList((link.name, made(link)) for link in links if link.direction == direction)
        for direction in ("input", "output")
    }


def _recorder(task: Any) -> Recorder:
    """The seam of a task; None means the current one."""
    if task is None:
        if current.session is None:
            raise BadInput("there is no current task: call Task.init first, or say which task with task=")
        return current.session
    inner: Any = getattr(task, "_recorder", task)
    return inner


def _that_runs(recorder: Recorder) -> Recorder:
    status = recorder.document().status
    if not recorder.live and status in {Status.DRAFT, Status.PENDING}:
        raise Conflict(f"task {recorder.id} is {status}: a task has models once it runs", status=str(status))
    return recorder


def _shipped(recorder: Recorder, patience: float) -> Client:
    """A client, once the server knows what this process recorded so far, or soon after."""
    client = recorder.client()
    if recorder.live and not recorder.wait_shipped(patience) and patience >= SHIP_WAIT:
        raise Unavailable("the server has not got everything that this task recorded; it goes on being sent")
    return client


def _client() -> Client:
    if current.session is not None:
        return _shipped(current.session, LOOK_WAIT)
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


def _design(text: str | None, values: Mapping[str, Any] | None) -> str:
    if text is not None and values is not None:
        raise BadInput("a model's design is given as config_text or as config_dict, not as both")
    return text or (json.dumps(dict(values), indent=2, default=str) if values is not None else "")


def _labels(labels: Mapping[str, int]) -> dict[str, int]:
    try:
        return {str(name): int(number) for name, number in labels.items()}
    except (TypeError, ValueError) as error:
        raise BadInput(f"labels: expected names with whole numbers: {error}") from error


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads(json.dumps(dict(metadata))))
    except (TypeError, ValueError) as error:
        raise BadInput(f"metadata of a model: not what JSON can hold: {error}") from error
