"""What a task says of its models: those that it made and used, their labels and design, and lineage.

Models themselves are `models` and `registry`, what frameworks save is `weights`. Names follow ClearML's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from taskloom.domain.artifact import DESIGN, LABELS
from taskloom.domain.errors import BadInput
from taskloom.sdk.document import TaskDocument

if TYPE_CHECKING:
    from taskloom.sdk.models import ModelsOfTask, OutputModel
    from taskloom.wire.messages import Lineage


class TaskModels(TaskDocument):
    """The part of a task that is about models."""

    @property
    def models(self) -> ModelsOfTask:
        """`models['input']` and `models['output']`, oldest first; each works as a list and by name."""
        from taskloom.sdk.models import models_of

        return models_of(self._recorder)

    def get_models(self) -> ModelsOfTask:
        """The same as `models`."""
        return self.models

    @property
    def input_models_id(self) -> dict[str, str]:
        """The ids of the models that it uses, by the names under which it refers to them."""
        return {name: model.id for name, model in self.models.input.items()}

    @property
    def output_models_id(self) -> dict[str, str]:
        return {name: model.id for name, model in self.models.output.items()}

    def connect(self, mutable: Any, name: str | None = None, ignore_remote_overrides: bool = False) -> Any:
        registry: Any = sys.modules.get("taskloom.sdk.registry")
        if registry is not None and isinstance(mutable, registry.Model):
            model: Any = mutable
            if not hasattr(model, "connect"):
                raise BadInput("connect: a task uses an InputModel; make one with InputModel(model_id)")
            model.connect(self, name)
            return model
        return super().connect(mutable, name, ignore_remote_overrides)

    connect.__doc__ = TaskDocument.connect.__doc__

    def set_input_model(
        self,
        model_id: str | None = None,
        model_name: str | None = None,
        update_task_design: bool = True,
        update_task_labels: bool = True,
        name: str | None = None,
    ) -> None:
        """Tell that this task uses a model, by id or by name (the newest). `name`: under which it refers to it.

        update_task_design, update_task_labels: take over the model's, where the task has none. NotFound, BadInput.
        """
        from taskloom.sdk.models import InputModel

        model = InputModel(model_id, name=model_name)
        model.connect(self, name)
        if update_task_design and model.config_text and not self.get_model_config_text():
            self.set_model_config(config_text=model.config_text)
        if update_task_labels and model.labels and not self.get_labels_enumeration():
            self.set_model_label_enumeration(model.labels)

    def update_output_model(
        self,
        model_path: str | Path,
        name: str | None = None,
        comment: str | None = None,
        tags: Sequence[str] | None = None,
        model_name: str | None = None,
        iteration: int | None = None,
        auto_delete_file: bool = False,
    ) -> str:
        """Store weights, a file or a folder, as the task's output model; returns the model's id.

        name: under which the task refers to it, by default the task's name; model_name: that of the model itself.
        auto_delete_file: remove the given file as soon as the copy is safe. BadInput when there is none.
        """
        from taskloom.sdk.models import OutputModel

        model: OutputModel = OutputModel(
            task=self, name=name or model_name, tags=list(tags) if tags else None, comment=comment
        )
        if model_name and model_name != model.name:
            model.set_name(model_name)
        model.update_weights(str(model_path), iteration=iteration)
        if auto_delete_file:
            _remove(Path(model_path))
        return model.id

    # --- labels and design, which the models that it makes take over -----------------------------------------

    def connect_label_enumeration(
        self, enumeration: Mapping[str, int], ignore_remote_overrides: bool = False
    ) -> dict[str, int]:
        """Names of classes with their numbers; models that are made from now on have them.

        Run by a worker, what stands on the server is given back instead. BadInput for other values.
        """
        edited = None if ignore_remote_overrides else self._edited_elsewhere()
        if edited is not None and LABELS in edited.configuration:
            return self.get_labels_enumeration()
        self.set_model_label_enumeration(enumeration)
        return dict(enumeration)

    def set_model_label_enumeration(self, enumeration: Mapping[str, int] | None = None) -> None:
        from taskloom.sdk.registry import label_numbers

        self.set_configuration_object(LABELS, config_dict=label_numbers(enumeration or {}))

    def get_labels_enumeration(self) -> dict[str, int]:
        """Empty when none were connected."""
        found = self.get_configuration_object_as_dict(LABELS)
        return cast("dict[str, int]", found) if isinstance(found, dict) else {}

    def set_model_config(
        self, config_text: str | None = None, config_dict: Mapping[str, Any] | None = None
    ) -> None:
        """The design of the models that this task makes, as text or as a dictionary."""
        from taskloom.sdk.registry import design_text

        kind = "json" if config_dict is not None else ""
        self.set_configuration_object(DESIGN, config_text=design_text(config_text, config_dict), config_type=kind)

    def get_model_config_text(self) -> str:
        return self.get_configuration_object(DESIGN) or ""

    def get_model_design(self) -> str:
        return self.get_model_config_text()

    def get_model_config_dict(self) -> dict[str, Any]:
        """Empty when the design is not JSON."""
        from taskloom.sdk.registry import design_dict

        return design_dict(self.get_model_config_text())

    # --- lineage ------------------------------------------------------------------------------------------

    def get_lineage(
        self,
        direction: Literal["both", "upstream", "downstream"] = "both",
        depth: int = 20,
        limit: int = 200,
    ) -> Lineage:
        """What this task came from and what came of it, as `nodes` and `edges`; `complete` tells whether it is all.

        depth: steps each way, 1 to 100. limit: nodes in all, 1 to 1000. Of the live task, what it recorded so far
        is brought to the server first.
        """
        from taskloom.wire.messages import LineageQuery
        from taskloom.wire.operations import TASK_LINEAGE

        query = LineageQuery(direction=direction, depth=depth, limit=limit)
        return self._reading_client().call(TASK_LINEAGE, query=query, task=self.id)


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
