"""TensorBoard: torch's SummaryWriter and whatever else writes through tensorboard's own event files, and TensorFlow.

Messages pass one function of the event file's writer: that is the seam for torch, Lightning, fastai and for
TensorFlow's first API. TensorFlow's second API (`tf.summary`, Keras' callback) writes by operations that never show
Python a message; there the seam is the function that makes the operation. In a `tf.function` it is called once, while
the graph is traced, so that a step of the graph is added beside it which tells the value at each run. What becomes of
a value is `summaries`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.translations.summaries import Summaries, hparams_of

NOT_TRACED = ("TPU", "ParameterServer")  # strategies whose graphs cannot call back


def _install(hooks: Hooks, module: ModuleType) -> None:
    summaries = hooks.shared(_made)
    match module.__name__:
        case "torch.utils.tensorboard.writer":
            hooks.after(module.SummaryWriter, "add_embedding", summaries.embedded)
        case "tensorflow.python.ops.summary_ops_v2":
            _Operations(hooks, summaries, module).hook()
        case _:  # the event files of tensorboard and of TensorFlow's first API
            summaries.hook(module.EventFileWriter)


def _hparams(content: bytes) -> dict[str, Any]:
    messages = import_module("tensorboard.plugins.hparams.plugin_data_pb2")
    return hparams_of(messages.HParamsPluginData.FromString(content))


def _made(hooks: Hooks) -> Summaries:
    return Summaries(hooks, _hparams)


class _Operations:
    """The operations of `tf.summary`: which writer's folder they go to, and what they write."""

    def __init__(self, hooks: Hooks, summaries: Summaries, module: Any) -> None:
        self._hooks = hooks
        self._summaries = summaries
        self._module = module
        self._folders: dict[int, tuple[Any, str]] = {}  # a writer's resource, which has no hash, by its identity

    def hook(self) -> None:
        made = self._module.gen_summary_ops
        self._hooks.after(made, "create_summary_file_writer", self._opened)
        self._hooks.after(made, "write_summary", self._written)
        self._hooks.after(made, "write_raw_proto_summary", self._written_raw)

    def _opened(self, _: Any, writer: Any, logdir: Any, *_rest: Any, **_more: Any) -> None:
        if not hasattr(logdir, "numpy"):
            return  # a writer made inside a graph of the first API: nobody reads its messages here
        folder = logdir.numpy().decode(errors="replace")
        identity = id(writer)
        forget = self._folders.pop
        self._folders[identity] = (weakref.ref(writer, lambda _: forget(identity, None)), folder)
        self._summaries.opened(folder)

    def _folder(self, writer: Any) -> str:
        return self._folders.get(id(writer), (None, ""))[1]

    def _written(
        self, _: Any, writer: Any, step: Any, tensor: Any, tag: Any, summary_metadata: Any, name: Any = None
    ) -> None:
        del name
        folder = self._folder(writer)
        metadata = _metadata(summary_metadata) if isinstance(summary_metadata, bytes) else None

        def tell(step: Any, found: Any) -> None:
            self._summaries.tensor(folder, int(step), _text(tag), metadata, found)

        self._when_run(tell, step, tensor)

    def _written_raw(self, _: Any, writer: Any, step: Any, tensor: Any, name: Any = None) -> None:
        del name
        folder = self._folder(writer)

        def tell(step: Any, found: Any) -> None:
            message = import_module("tensorboard.compat.proto.summary_pb2").Summary
            for one in found.reshape(-1).tolist():
                self._summaries.summary(folder, int(step), message.FromString(one))

        self._when_run(tell, step, tensor)

    def _when_run(self, tell: Callable[[Any, Any], None], step: Any, tensor: Any) -> None:
        """Now, when TensorFlow runs eagerly; else at each run of the graph that is being traced."""
        tensorflow: Any = import_module("tensorflow")
        if tensorflow.executing_eagerly():
            tell(_value(step), _array(tensorflow.convert_to_tensor(tensor).numpy()))
            return
        if not self._traceable(tensorflow):
            return

        def run(step: Any, found: Any) -> None:
            if self._hooks.active:  # the graph lives on when the task has ended
                with self._hooks.guard():
                    tell(step, _array(found))

        wide = tensorflow.convert_to_tensor(step, tensorflow.int64) if isinstance(step, int) else step
        tensorflow.numpy_function(run, [wide, tensor], [])

    def _traceable(self, tensorflow: Any) -> bool:
        """A graph that is saved or runs elsewhere has no way back to this process."""
        state: Any = getattr(self._module, "_summary_state", None)
        if "Trackable" in type(getattr(state, "writer", None)).__name__:
            return False
        strategy = type(tensorflow.distribute.get_strategy()).__name__
        return not any(name in strategy for name in NOT_TRACED)


@lru_cache(maxsize=1024)  # a loop writes the same few again and again
def _metadata(serialised: bytes) -> Any:
    return import_module("tensorboard.compat.proto.summary_pb2").SummaryMetadata.FromString(serialised)


def _array(found: Any) -> Any:
    """A lone text is no array; as an array of bytes it would lose zeros at its end."""
    return import_module("numpy").asarray(found, dtype=object if isinstance(found, bytes) else None)


def _value(step: Any) -> int:
    return int(step.numpy() if hasattr(step, "numpy") else step)


def _text(tag: Any) -> str:
    found = tag.numpy() if hasattr(tag, "numpy") else tag
    return found.decode(errors="replace") if isinstance(found, bytes) else str(found)


BINDING = Binding(
    switch="tensorboard",
    modules=(
        "tensorboard.summary.writer.event_file_writer",
        "torch.utils.tensorboard.writer",
        "tensorflow.python.ops.summary_ops_v2",
        "tensorflow.python.summary.writer.event_file_writer",
    ),
    package="tensorboard",
    since="2.0",
    hooks=(
        "tensorboard.summary.writer.event_file_writer.EventFileWriter.add_event",
        "torch.utils.tensorboard.SummaryWriter.add_embedding",
        "tensorflow.summary.write",
        "tensorflow.summary.experimental.write_raw_pb",
        "tensorflow.compat.v1.summary.FileWriter",
    ),
    install=_install,
)
