"""Models that a task uses: looked up, registered by their address, connected. Names follow ClearML's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from taskloom.domain import artifact as domain
from taskloom.domain.artifact import ModelLink
from taskloom.domain.errors import BadInput, NotFound
from taskloom.sdk.registry import (
    FRAMEWORKS,
    PACKAGE,
    Model,
    connected,
    design_text,
    query_all,
    recorder_of,
)
from taskloom.sdk.session import Session
from taskloom.wire.messages import Condition, ModelCreate, ModelQuery
from taskloom.wire.operations import CREATE_MODEL
from taskloom.wire.records import ModelStored


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
        found = self.query_models(project, name, tags, only_published, max_results=1)
        if not found:
            raise NotFound(f"no model with name {name!r}, project {project!r}, tags {list(tags or ())}")
        super().__init__(found[0].id)

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
        """Register weights that lie somewhere else; only their address is kept.

        When a model of that address is registered already, it is given back as it is.
        """
        known = cls.load_model(weights_url)
        if known is not None:
            return known
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
        made = cast("InputModel", cls._of(connected().call(CREATE_MODEL, ModelCreate(model=wanted))))
        if create_as_published:
            made.publish()
        return made

    @classmethod
    def load_model(cls, weights_url: str, load_archived: bool = False) -> InputModel | None:
        """The model that is registered with this address of its weights, the newest of several; None without one."""
        asked = ModelQuery(
            where=[Condition(key="uri", is_="=", value=weights_url)],
            system_tags=[] if load_archived else ["-archived"],
            order_by=["-created"],
        )
        found = next(iter(query_all(asked)), None)
        return cast("InputModel", cls._of(found)) if found is not None else None

    def connect(self, task: Any, name: str | None = None, ignore_remote_overrides: bool = False) -> None:
        """Tell that a task uses this model. `name`: under which the task refers to it, by default the model's.

        Run by a worker, this becomes the model that stands on the server under that name (somebody may have chosen
        another one there), unless `ignore_remote_overrides`.
        """
        recorder = recorder_of(task)
        label = name or self._model.name or self._id
        if isinstance(recorder, Session) and recorder.identity.hosted and not ignore_remote_overrides:
            links = [link for link in recorder.document().models if link.direction == "input"]
            chosen = next((link.model for link in links if link.name == label), self._id)
            if chosen != self._id:
                self._id, self._known = chosen, None
        recorder.record(ModelStored(model=self._model, link=ModelLink(label, self._id, "input")))
