"""tensorboardX: everything that its SummaryWriter writes passes one function of its event file's writer.

Only embeddings go another way, into files of their own. What becomes of a message is `summaries`.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.translations.summaries import Summaries, hparams_of


def _install(hooks: Hooks, module: ModuleType) -> None:
    def hparams(content: bytes) -> dict[str, Any]:
        messages = import_module("tensorboardX.proto.plugin_hparams_pb2")
        return hparams_of(messages.HParamsPluginData.FromString(content))

    summaries = Summaries(hooks, hparams)
    files = import_module("tensorboardX.event_file_writer")
    summaries.hook(files.EventFileWriter)
    hooks.after(module.SummaryWriter, "add_embedding", summaries.embedded)


BINDING = Binding(
    switch="tensorboard",
    modules=("tensorboardX",),
    package="tensorboardX",
    since="2.0",
    hooks=("tensorboardX.event_file_writer.EventFileWriter.add_event", "tensorboardX.SummaryWriter.add_embedding"),
    install=_install,
)
