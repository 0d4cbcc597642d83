"""Models that a task makes, and the models of a task. The public names follow ClearML's.

What changes is recorded through the task's `Recorder`, so it reaches the server behind a running script's
back, like everything else. Weights are copied when they are given, never moved or deleted: the file that a
script wrote stays its own. What the server already has is the business of `registry`.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from taskloom.domain import artifact as domain
from taskloom.domain.artifact import ModelLink
from taskloom.domain.errors import BadInput, NotFound, Unavailable
from taskloom.sdk.registry import (
    FRAMEWORKS,
    LOOK_WAIT,
    PACKAGE,
    SHIP_WAIT,
    InputModel,
    Model,
    design_text,
    label_numbers,
    recorder_of,
    shipped_client,
    that_runs,
)
from taskloom.wire.operations import GET_MODEL, PUBLISH_MODEL
from taskloom.wire.records import ModelStored

if TYPE_CHECKING:
    from taskloom.sdk.recorder import Recorder

__all__ = ["InputModel", "Model", "ModelList", "OutputModel", "models_of"]

_BASE = "base_model_id"  # the metadata that tells lineage
_log = logging.getLogger("taskloom")


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
        self._recorder = that_runs(recorder_of(task))
        document = self._recorder.document()
        self._link_name = name or document.name or self._recorder.id
        links = {link.name: link.model for link in document.models if link.direction == "output"}
        super().__init__(links.get(self._link_name) or uuid.uuid4().hex)
        self._connect = self._recorder.client
        given: dict[str, Any] = {
            "tags": tuple(dict.fromkeys(tags)) if tags else None,
            "comment": comment,
            "framework": framework,
            "labels": label_numbers(label_enumeration) if label_enumeration else None,
            "design": design_text(config_text, config_dict) or None,
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
            return shipped_client(self._recorder, LOOK_WAIT).call(GET_MODEL, model=self._id)
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
        guessed = FRAMEWORKS.get(Path(str(fields["filename"])).suffix, "")
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
        self._change(design=design_text(config_text, config_dict))
        return True

    def update_labels(self, labels: Mapping[str, int]) -> None:
        """Names of classes and their numbers."""
        self._change(labels=label_numbers(labels))

    def set_name(self, name: str) -> None:
        self._change(name=name)

    def set_upload_destination(self, uri: str) -> None:
        """Accepted for scripts that call it: weights go to the Taskloom server."""

    def publish(self) -> None:
        """Make it read-only for ever; waits until the server has everything of it."""
        self._known = shipped_client(self._recorder, SHIP_WAIT).call(PUBLISH_MODEL, model=self._id)

    def _fetch(self, extract: bool | None, force: bool) -> Path:
        if self._known is not None and self._known.digest:
            shipped_client(self._recorder, SHIP_WAIT)  # the bytes may still be on their way
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
        model._connect = lambda: shipped_client(recorder, LOOK_WAIT)  # pyright: ignore[reportPrivateUsage]
        return model

    links = recorder.document().models
    return {
        direction: ModelList((link.name, made(link)) for link in links if link.direction == direction)
        for direction in ("input", "output")
    }
