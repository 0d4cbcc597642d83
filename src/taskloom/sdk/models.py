"""Models that a task makes, and the models of a task. The public names follow ClearML's.

What changes is recorded through the task's `Recorder`, so it reaches the server behind a running script's
back, like everything else. Weights are copied when they are given, never moved or deleted: the file that a
script wrote stays its own. What the server already has is the business of `registry`, what frameworks save by
themselves that of `weights`.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from taskloom.domain import artifact as domain
from taskloom.domain.artifact import ModelLink
from taskloom.domain.destination import NOWHERE, SERVER, normal_destination
from taskloom.domain.errors import BadInput, NotFound, TaskloomError, Unavailable
from taskloom.sdk.fingerprints import Lying, fingerprint, listed, look_at
from taskloom.sdk.input_models import InputModel
from taskloom.sdk.registry import (
    FRAMEWORKS,
    LOOK_WAIT,
    PACKAGE,
    SHIP_WAIT,
    Model,
    design_text,
    label_numbers,
    labels_of,
    recorder_of,
    shipped_client,
    that_runs,
)
from taskloom.sdk.session import Session, current
from taskloom.wire.operations import GET_MODEL, GET_TASK, PUBLISH_MODEL
from taskloom.wire.records import ModelStored

if TYPE_CHECKING:
    from taskloom.sdk.recorder import Recorder
    from taskloom.wire.send import Client

__all__ = ["InputModel", "Model", "ModelList", "OutputModel", "models_of"]

_BASE = "base_model_id"  # the metadata that tells lineage
_ID = re.compile(r"[0-9a-f]{32}")


class OutputModel(Model):
    """A model that a task makes; without `task` the current one. It is linked to the task at once.

    A task has one output model of a name: another OutputModel of that name goes on with it. The name is by
    default the task's. `base_model_id`: the model whose weights this one started from.
    """

    _default_destination: str | None = None

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
        self._recorder = that_runs(recorder_of(task))
        document = self._recorder.document()
        self._link_name = name or document.name or self._recorder.id
        links = {link.name: link.model for link in document.models if link.direction == "output"}
        super().__init__(links.get(self._link_name) or uuid.uuid4().hex)
        self._connect = self._recorder.client
        self._destination: str | None = None
        self._reported = False
        given: dict[str, Any] = {
            "tags": tuple(dict.fromkeys(tags)) if tags else None,
            "comment": comment,
            "framework": str(framework) if framework else None,
            "labels": label_numbers(label_enumeration or labels_of(document)) or None,
            "design": design_text(config_text, config_dict) or None,
            "metadata": {_BASE: base_model_id} if base_model_id else None,
            "parent": base_model_id if base_model_id and _ID.fullmatch(base_model_id) else None,
        }
        known = self._continued() if self._link_name in links else None
        self._known = known or domain.Model(
            id=self._id,
            name=self._link_name,
            project=self._recorder.project_name,
            task=self._recorder.id,
            created=time.time(),
        )
        told = {field: value for field, value in given.items() if value is not None}
        if self._link_name in links:
            self._change(**told)
        else:
            self._tell(told, ())

    def _continued(self) -> domain.Model | None:
        """What is known of the task's model of this name; None when nobody can be asked now."""
        try:
            return shipped_client(self._recorder, LOOK_WAIT).call(GET_MODEL, model=self._id)
        except (NotFound, Unavailable, ConnectionError, BadInput):
            return None

    def _change(self, **fields: Any) -> None:
        self._tell(fields, tuple(fields) or ("id",))

    def _tell(self, fields: Mapping[str, Any], changed: tuple[str, ...]) -> None:
        """`changed`: the fields that differ from what the server has, or () for all of them."""
        self._known = msgspec.structs.replace(self._model, **fields, last_update=time.time())
        link = ModelLink(self._link_name, self._id, "output")
        self._recorder.record(ModelStored(model=self._known, link=link, changed=changed))

    def _put_metadata(self, entries: dict[str, Any], replace: bool) -> None:
        if replace:
            self._tell({"metadata": entries}, ())
            return
        # The record tells the new entries only: others may have been added on the server meanwhile.
        known = self._model
        self._tell({"metadata": entries}, ("metadata",))
        self._known = msgspec.structs.replace(self._model, metadata={**known.metadata, **entries})

    # --- where the weights go -----------------------------------------------------------------------------

    @property
    def upload_storage_uri(self) -> str:
        """The destination of the next weights; empty for the Taskloom server."""
        return self._chosen(None)

    def set_upload_destination(self, uri: str) -> None:
        """Where weights are stored from now on: a folder, `s3://bucket/prefix` and the like. BadInput for others."""
        self._destination = _usable(uri)

    @classmethod
    def set_default_upload_uri(cls, output_uri: str | None) -> None:
        """For every OutputModel that has no destination of its own; None: what the task says."""
        OutputModel._default_destination = _usable(output_uri) if output_uri else None

    def _chosen(self, upload_uri: str | None) -> str:
        from taskloom.sdk.destinations import destination_of

        if upload_uri:
            return _usable(upload_uri)
        for found in (self._destination, OutputModel._default_destination):
            if found is not None:
                return found
        return destination_of(self._recorder)

    @classmethod
    def wait_for_uploads(cls, timeout: float | None = None, max_num_uploads: int | None = None) -> None:
        """Wait until everything that the current task stored is where it belongs, at most `timeout` seconds (600)."""
        if current.session is not None:
            current.session.wait_shipped(SHIP_WAIT if timeout is None else timeout)

    # --- weights ------------------------------------------------------------------------------------------

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
        for that. upload_uri: the destination, by default this model's or the task's. register_uri: weights that lie
        somewhere else; only the address is kept. iteration: at which they were made. `auto_delete_file` means the
        copy, which goes when it is uploaded: your file is never deleted. `update_comment` is accepted. BadInput
        when there is no such file, OSError when it cannot be copied.
        """
        if register_uri:
            name = Path(register_uri.rstrip("/")).name
            return self._put(
                iteration,
                is_package,
                uri=register_uri,
                digest="",
                size=0,
                filename=name,
                fingerprint="",
                contents="",
            )
        if weights_filename is None:
            raise BadInput("update_weights needs weights_filename or register_uri")
        path = Path(weights_filename)
        lying = look_at(path) if path.exists() else None
        if lying is None:
            raise BadInput(f"model {self.name!r}: there is no file, or no folder with files, {str(path)!r}")
        return self._store(lying, upload_uri, target_filename or "", iteration, is_package, async_enable)

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
        members = sorted((Path(file).name, Path(file)) for file in weights_filenames or ())
        if not members or len({name for name, _ in members}) != len(members):
            raise BadInput("update_weights_package needs weights_path, or weights_filenames of different names")
        missing = [str(file) for _, file in members if not file.is_file()]
        if missing:
            raise BadInput(f"model {self.name!r}: there is no file {missing[0]!r}")
        lying = listed(Path("weights"), members)
        return self._store(lying, upload_uri, target_filename or "", iteration, True, async_enable)

    def _store(
        self,
        lying: Lying,
        upload_uri: str | None,
        filename: str,
        iteration: int | None,
        package: bool,
        later: bool,
    ) -> str:
        destination = self._chosen(upload_uri)
        files = self._recorder.weight_files
        fields = files.store(self._recorder, self._id, lying, destination, filename)
        url = self._put(iteration, package or not lying.single, **fields)
        files.recorded(self._id)
        if not lying.single:  # the stored bytes are a zip file; a folder is known again by what it holds
            found = fingerprint(lying)
            if found:
                self._change(contents=found)
        if not later:
            self._recorder.wait_shipped(SHIP_WAIT)
        return url

    def _put(self, iteration: int | None, package: bool, **fields: Any) -> str:
        known = self._model
        others = [tag for tag in known.system_tags if tag != PACKAGE]
        guessed = FRAMEWORKS.get(Path(str(fields["filename"])).suffix, "")
        if iteration is not None:
            fields["iteration"] = iteration
        if not known.framework and guessed:
            fields["framework"] = guessed
        tags = (*others, PACKAGE) if package else tuple(others)
        if tags != known.system_tags:
            fields["system_tags"] = tags
        self._change(**fields)
        try:
            return self.url
        except BadInput:
            return str(fields["filename"])  # no server yet: the journal waits for one

    # --- about it -----------------------------------------------------------------------------------------

    def update_design(self, config_text: str | None = None, config_dict: Mapping[str, Any] | None = None) -> bool:
        self._change(design=design_text(config_text, config_dict))
        return True

    def update_labels(self, labels: Mapping[str, int]) -> None:
        """Names of classes and their numbers."""
        self._change(labels=label_numbers(labels))

    def set_name(self, name: str) -> None:
        self._change(name=name)

    def connect(self, task: Any, name: str | None = None) -> None:
        """Accepted for the model's own task, to which it belongs already; `name`: another name there. Else BadInput."""
        if recorder_of(task).id != self._recorder.id:
            raise BadInput(
                f"model {self._id} is made by task {self._recorder.id}; another task uses an InputModel"
            )
        if name:
            self._link_name = name
            self._change()

    def _reporting_client(self) -> Client:
        """The first report waits until the server has the model."""
        if self._reported:
            return self._recorder.client()
        self._reported = True
        return shipped_client(self._recorder, LOOK_WAIT)

    def publish(self) -> None:
        """Make it read-only for ever; waits until the server has everything of it."""
        self._known = shipped_client(self._recorder, SHIP_WAIT).call(PUBLISH_MODEL, model=self._id)

    def _fetch(self, extract: bool | None, force: bool) -> Path:
        if self._known is not None and (self._known.digest or self._known.uri):
            shipped_client(self._recorder, SHIP_WAIT)  # the bytes may still be on their way
        return super()._fetch(extract, force)


def _usable(uri: str) -> str:
    """A destination as it is kept; '' for the Taskloom server. Raises BadInput."""
    if uri.startswith(("http://", "https://")):
        return ""  # ClearML's way to name the server's file store
    found = normal_destination(uri)
    return "" if found in {SERVER, NOWHERE} else found


class ModelList(list[Model]):
    """Models in the order of their making; `models['name']` works like `models[0]`, `keys()` tells the names."""

    def __init__(self, named: Iterable[tuple[str, Model]]) -> None:
        pairs = list(named)
        super().__init__(model for _, model in pairs)
        self._names = [name for name, _ in pairs]

    def keys(self) -> list[str]:
        return list(self._names)

    def items(self) -> list[tuple[str, Model]]:
        return list(zip(self._names, self, strict=True))

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self._names else default

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if key not in self._names:
                raise KeyError(f"no model {key!r}; there are: {', '.join(self._names) or 'none'}")
            key = self._names.index(key)
        return cast("Any", super()).__getitem__(key)


class ModelsOfTask(dict[str, ModelList]):
    """`{'input': [...], 'output': [...]}`, the lists as attributes, too."""

    @property
    def input(self) -> ModelList:
        return self["input"]

    @property
    def output(self) -> ModelList:
        return self["output"]


def models_of(recorder: Recorder) -> ModelsOfTask:
    """What a task's links lead to.

    The server is only asked where it alone knows which models these are: what a live task loaded from files.
    """

    def made(link: ModelLink) -> Model:
        model = Model(link.model)
        model._connect = lambda: shipped_client(recorder, LOOK_WAIT)  # pyright: ignore[reportPrivateUsage]
        return model

    links = recorder.document().models
    if isinstance(recorder, Session):
        recorder.settle(LOOK_WAIT)
    if isinstance(recorder, Session) and recorder.loaded_models:
        with contextlib.suppress(TaskloomError):  # nobody answers: what is known here
            links = shipped_client(recorder, LOOK_WAIT).call(GET_TASK, task=recorder.id).models
    return ModelsOfTask(
        {
            direction: ModelList((link.name, made(link)) for link in links if link.direction == direction)
            for direction in ("input", "output")
        }
    )
