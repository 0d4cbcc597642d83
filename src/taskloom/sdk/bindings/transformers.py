"""Hugging Face transformers: `save_pretrained`, `from_pretrained`, and the checkpoints of its `Trainer`.

A model is the folder, whatever files it is made of: weights, configuration, the tokenizer that is saved beside them,
in a checkpoint also the optimizer's state. Folders below it are not: a trainer puts its checkpoints and logs there.
The configuration is the design, its classes are the labels. A model of the hub is told as `hf://ORGANISATION/NAME`
(with `@REVISION` when the script asked for one); nothing is asked of the hub. A checkpoint that the trainer removes
(`save_total_limit`) stays as a model without weights.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.translations.model_files import ModelFiles, path_of

_FRAMEWORK = "PyTorch"


class _Transformers:
    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._files = ModelFiles(hooks, _FRAMEWORK)
        self._folders: dict[str, dict[str, Any]] = {}  # what was told of each
        self._checkpoints: set[str] = set()

    def hook_models(self, module: Any) -> None:
        self._hooks.outermost(module.PreTrainedModel, "save_pretrained", self._saved)
        self._hooks.outermost(module.PreTrainedModel, "from_pretrained", self._loaded)

    def hook_beside(self, owner: Any) -> None:
        self._hooks.outermost(owner, "save_pretrained", self._saved_beside)

    def hook_trainer(self, trainer: Any) -> None:
        hooks = self._hooks
        hooks.outermost(trainer, "save_model", self._saved_by_trainer)
        for name, then in (
            ("_save_checkpoint", self._kept),
            ("_load_from_checkpoint", self._resumed),
            ("_load_best_model", _nothing),
            ("_load_optimizer_and_scheduler", _nothing),
            ("_load_rng_state", _nothing),
            ("_load_scaler", _nothing),
        ):
            if hasattr(trainer, name):
                hooks.outermost(trainer, name, then)

    # --- told ---------------------------------------------------------------------------------------------

    def _saved(self, _: Any, model: Any, save_directory: Any, *rest: Any, **more: Any) -> None:
        if more.get("is_main_process", rest[0] if rest else True):
            self._tell(save_directory, model)

    def _saved_beside(self, _: Any, _tokenizer: Any, save_directory: Any, *_rest: Any, **_more: Any) -> None:
        told = self._folders.get(_whole(save_directory))
        if told is not None:
            self._files.saved(save_directory, **told)

    def _loaded(self, _: Any, _class: Any, name: Any = None, *_rest: Any, **more: Any) -> None:
        place = path_of(name)
        if place is None:
            return
        subfolder = more.get("subfolder") or ""
        if os.path.exists(place):  # noqa: PTH110 - it may be no path
            self._files.loaded(Path(place) / subfolder, flat=True)
            return
        revision = more.get("revision") or "main"
        address = place if revision == "main" else f"{place}@{revision}"
        self._files.loaded(f"hf://{address}/{subfolder}".rstrip("/"))

    def _saved_by_trainer(self, _: Any, trainer: Any, output_dir: Any = None, *_rest: Any, **_more: Any) -> None:
        if trainer.is_world_process_zero():
            self._tell(output_dir or trainer.args.output_dir, trainer.model)

    def _kept(self, _: Any, trainer: Any, _model: Any, trial: Any = None, *_rest: Any, **_more: Any) -> None:
        if not trainer.is_world_process_zero():
            return
        step = int(trainer.state.global_step)
        folder = Path(trainer._get_output_dir(trial=trial)) / f"checkpoint-{step}"
        self._tell(folder, trainer.model, iteration=step)
        gone = {one for one in self._checkpoints if not Path(one).exists()}
        for one in gone:
            self._folders.pop(one, None)
            self._files.removed(one)
        self._checkpoints -= gone
        self._checkpoints.add(_whole(folder))

    def _resumed(self, _: Any, _trainer: Any, checkpoint: Any, *_rest: Any, **_more: Any) -> None:
        self._files.loaded(checkpoint, flat=True)

    def _tell(self, folder: Any, model: Any, iteration: int | None = None) -> None:
        config: Any = getattr(model, "config", None)
        told: dict[str, Any] = {"flat": True, "iteration": iteration}
        if hasattr(config, "to_json_string"):
            told |= {"design": str(config.to_json_string()), "labels": _labels(config)}
        self._folders[_whole(folder)] = told
        self._files.saved(folder, **told)


def _labels(config: Any) -> Mapping[str, int] | None:
    """None when nobody named the classes: they are called LABEL_0 and so on then."""
    found: Any = getattr(config, "label2id", None)
    if not isinstance(found, Mapping) or all(str(name).startswith("LABEL_") for name in cast("Any", found)):
        return None
    return dict(cast("Mapping[str, int]", found))


def _whole(folder: Any) -> str:
    return str(Path(path_of(folder) or "").absolute())


def _nothing(*_: Any, **_more: Any) -> None: ...


def _install(hooks: Hooks, module: ModuleType) -> None:
    made = hooks.shared(_Transformers)
    part: Any = module
    match module.__name__.rpartition(".")[2]:
        case "modeling_utils":
            made.hook_models(part)
        case "tokenization_utils_base":
            made.hook_beside(part.PreTrainedTokenizerBase)
        case "processing_utils":
            made.hook_beside(part.ProcessorMixin)
        case _:
            made.hook_trainer(part.Trainer)


BINDING = Binding(
    switch="transformers",
    modules=(
        "transformers.modeling_utils",
        "transformers.tokenization_utils_base",
        "transformers.processing_utils",
        "transformers.trainer",
    ),
    package="transformers",
    since="4.30",
    hooks=(
        "transformers.PreTrainedModel.save_pretrained",
        "transformers.PreTrainedModel.from_pretrained",
        "transformers.PreTrainedTokenizerBase.save_pretrained",
        "transformers.ProcessorMixin.save_pretrained",
        "transformers.Trainer.save_model",
        "transformers.Trainer's checkpoints",
    ),
    install=_install,
)
