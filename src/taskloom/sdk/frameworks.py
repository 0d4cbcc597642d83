"""Which frameworks are hooked in this task: watches imports, loads the binding of what comes, undoes it at the end.

A script that imports no framework pays one look-up in a dictionary for each module it imports. What was hooked,
in which version, and what went wrong stands in the task's runtime under `bindings`.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from taskloom.domain.task import TaskEdit
from taskloom.sdk.binding import Binding, Hooks, Switches, wanted_by
from taskloom.sdk.capture.whose import UsersNames
from taskloom.sdk.imports import Imports, already_imported
from taskloom.sdk.weights import weights_of

if TYPE_CHECKING:
    from taskloom.sdk.commandline import CommandLine
    from taskloom.sdk.session import Session

# The module whose import loads a binding, and the binding's file. A file may stand behind several modules.
TRIGGERS: dict[str, str] = {
    "click.core": "click",
    "fire.core": "fire",
    "absl.flags": "absl",
    "jsonargparse": "jsonargparse",
    "hydra._internal.hydra": "hydra",
    "torch": "pytorch",
    "torch.onnx": "pytorch",
    "safetensors": "safetensors",
    "safetensors.torch": "safetensors",
    "safetensors.numpy": "safetensors",
    "safetensors.tensorflow": "safetensors",
    "safetensors.flax": "safetensors",
    "safetensors.mlx": "safetensors",
    "lightning.pytorch.trainer.trainer": "lightning",
    "lightning.pytorch.trainer.connectors.checkpoint_connector": "lightning",
    "lightning.pytorch.core.module": "lightning",
    "lightning.pytorch.core.datamodule": "lightning",
    "lightning.pytorch.strategies.strategy": "lightning",
    "pytorch_lightning.trainer.trainer": "lightning",
    "pytorch_lightning.trainer.connectors.checkpoint_connector": "lightning",
    "pytorch_lightning.core.module": "lightning",
    "pytorch_lightning.core.datamodule": "lightning",
    "pytorch_lightning.strategies.strategy": "lightning",
    "lightning.fabric.fabric": "lightning",
    "lightning.fabric.plugins.io.torch_io": "lightning",
    "lightning_fabric.fabric": "lightning",
    "lightning_fabric.plugins.io.torch_io": "lightning",
    "keras": "keras",
    "tensorflow": "tensorflow",
    "joblib": "joblib",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "fastai.learner": "fastai",
    "megengine": "megengine",
    "transformers.modeling_utils": "transformers",
    "transformers.tokenization_utils_base": "transformers",
    "transformers.processing_utils": "transformers",
    "transformers.trainer": "transformers",
    "tensorboard.summary.writer.event_file_writer": "tensorboard",
    "torch.utils.tensorboard.writer": "tensorboard",
    "tensorflow.python.ops.summary_ops_v2": "tensorboard",
    "tensorflow.python.summary.writer.event_file_writer": "tensorboard",
    "tensorboardX": "tensorboardx",
    "matplotlib.figure": "matplotlib",
    "matplotlib.pyplot": "matplotlib",
    "matplotlib_inline.backend_inline": "matplotlib",
}

# Those that a helper process of a worker's run has, too: edited values are for every rank.
COMMAND_LINES = frozenset({"click", "fire", "absl", "jsonargparse", "hydra"})
BINDINGS = tuple(sorted(set(TRIGGERS.values())))


class _State(msgspec.Struct):
    """What the task tells of one binding."""

    version: str = ""
    hooks: tuple[str, ...] = ()
    fault: str = ""
    skipped: str = ""

    def told(self) -> dict[str, Any]:
        found = {"version": self.version, "hooks": list(self.hooks), "fault": self.fault, "skipped": self.skipped}
        return {name: value for name, value in found.items() if value}


class Frameworks:
    """The bindings of one task, from `start` to `stop`.

    switches  all, none, or by name; others are on
    only      the files of bindings that come into question; None: all
    """

    def __init__(
        self, session: Session, switches: Switches, line: CommandLine, only: frozenset[str] | None = None
    ) -> None:
        self._session = session
        self._line = line
        self._only = only
        self._switches = switches
        self._weights = weights_of(session)
        self._hooks: dict[str, Hooks] = {}
        self._states: dict[str, _State] = {}
        self._imports = Imports(TRIGGERS, self._install)
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._script = UsersNames()
        self._told: dict[str, Any] = {}

    def start(self) -> None:
        """Hook what is imported already, and what will be."""
        if self._switches is False:
            return
        self._imports.start()
        for name in TRIGGERS:
            module = already_imported(name)
            if module is not None:
                self._install(name, module)

    def stop(self, timeout: float) -> None:
        del timeout
        self._imports.stop()
        for hooks in reversed(list(self._hooks.values())):
            hooks.undo()

    # --- installing ---------------------------------------------------------------------------------------

    def _install(self, name: str, module: ModuleType) -> None:
        """Never raises: it runs inside the script's own import. A module that is reloaded comes here again."""
        file = TRIGGERS[name]
        if self._only is not None and file not in self._only:
            return
        with self._session.notices.boundary(f"{file} could not be hooked"):
            with self._lock:  # never while something is imported: another thread's import may wait for it
                if name in self._busy:
                    return
                self._busy.add(name)
            try:
                self._hook(file, module)
            finally:
                self._busy.discard(name)

    def _hook(self, file: str, module: ModuleType) -> None:
        binding: Binding = importlib.import_module(f"taskloom.sdk.bindings.{file}").BINDING
        wanted = wanted_by(self._switches, binding.switch)
        if wanted is False:
            return
        state = self._states.setdefault(file, _State(_version(binding.package, module), binding.hooks))
        if older(state.version, binding.since):
            state.hooks, state.skipped = (), f"older than {binding.since}"
            self._tell()
            return
        hooks = self._hooks.setdefault(
            file,
            Hooks(
                self._session, file, self._weights, self._line, wanted, self._switches, self._faulty, self._script
            ),
        )
        hooks.begin()
        with hooks.guard():
            binding.install(hooks, module)
        self._tell()

    def _faulty(self, file: str, fault: str) -> None:
        state = self._states.setdefault(file, _State())
        if not state.fault:
            state.fault = fault[:500]
            self._tell()

    def _tell(self) -> None:
        told = {file: state.told() for file, state in sorted(self._states.items())}
        if told != self._told and not self._session.closed and self._session.owner:
            self._told = told
            self._session.edit(TaskEdit(runtime={"bindings": told}))


def _version(package: str, module: ModuleType) -> str:
    """As the framework tells it; else as the folder of metadata beside it is called, or as its distribution does."""
    top = sys.modules.get(module.__name__.partition(".")[0], module)
    told = vars(top).get("__version__")  # an attribute that is computed would look it up, in ten milliseconds
    if isinstance(told, str):
        return str(told)
    return _version_beside(package, top) or _version_installed(package)


def _version_beside(package: str, module: ModuleType) -> str:
    beginning, end = f"{package.replace('-', '_').lower()}-", ".dist-info"
    if module.__file__ is None:
        return ""
    with contextlib.suppress(OSError):
        for name in (one.name for one in Path(module.__file__).parents[1].iterdir()):
            if name.endswith(end) and name.lower().startswith(beginning):
                return name[len(beginning) : -len(end)]
    return ""


def _version_installed(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def older(version: str, since: str) -> bool:
    """Whether a version is known, and is older than the first one that a binding takes."""
    return bool(version) and _numbers(version) < _numbers(since)


def _numbers(version: str) -> tuple[int, ...]:
    import re

    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])
