"""What TensorBoard's writers write, as reports of the task: one decoder for all of them.

The writers differ in the classes of their protocol buffers, not in the fields, so that messages are read by the
names of their fields. Scalars are the hot path: a dictionary gives title and series of a tag that was seen before.
Images, audio and text become debug samples as they are, histograms a surface over time, precision-recall curves,
meshes and embeddings plots, hyperparameters the section `TB_hparams`. Layouts and graphs are not recorded. Which
functions are hooked is the bindings' business.
"""

from __future__ import annotations

import array
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskloom.domain.errors import BadInput
from taskloom.domain.parameters import encode
from taskloom.sdk.translations import clouds
from taskloom.sdk.translations.distributions import Bucket, Distribution, from_limits
from taskloom.sdk.translations.tags import Names, Tags

if TYPE_CHECKING:
    from taskloom.domain.parameters import Parameter
    from taskloom.sdk.binding import Hooks

HPARAMS = "TB_hparams"
SESSION_START = "_hparams_/session_start_info"
EMBEDDINGS = "Embeddings"

_CODES = {1: "f", 2: "d", 3: "i", 4: "B", 5: "h", 6: "b", 9: "q", 10: "B"}  # of TensorFlow's types, in `array`
_LISTS = ("float_val", "double_val", "int_val", "int64_val", "bool_val")
_TEXT = 7
_HALF = 19
_SIGNATURES = (
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"\xff\xd8", ".jpg"),
    (b"RIFF", ".wav"),
    (b"OggS", ".ogg"),
)

Rows = list[list[float]]
Hparams = Callable[[bytes], Mapping[str, Any]]  # the content of the plugin's message, by name


class Summaries:
    """The summaries of all writers of one kind in one task. Every method may raise: a guard is around it."""

    def __init__(self, hooks: Hooks, hparams: Hparams) -> None:
        self._hooks = hooks
        self._hparams = hparams
        self._tags = Tags(lambda: hooks.logger.choices)
        self._report_scalar = hooks.logger.report_scalar
        self._curves: dict[tuple[str, str], Names] = {}
        self._plugins: dict[tuple[str, str], str] = {}
        self._distributions: dict[Names, Distribution] = {}
        self.opened = self._tags.opened
        hooks.on_undo(self._draw_what_is_behind)

    def hook(self, writers: Any) -> None:
        """Take the messages of a class of event files' writers."""
        take = self.event

        def around(original: Callable[..., Any], writer: Any, event: Any) -> Any:
            result = original(writer, event)
            try:
                take(writer.get_logdir(), event)
            except Exception:  # a guard around every message would cost as much as the message
                with self._hooks.guard():
                    raise
            return result

        def opened(_: None, writer: Any, *_rest: Any, **_more: Any) -> None:
            self.opened(str(writer.get_logdir()))

        self._hooks.after(writers, "__init__", opened)
        self._hooks.around(writers, "add_event", around)

    def event(self, folder: str, event: Any) -> None:
        """An `Event` message of the writer of this folder."""
        for value in event.summary.value:
            names = self._curves.get((folder, value.tag))
            number = value.simple_value  # 0.0 also when it holds something else
            if names is not None and (number or value.WhichOneof("value") == "simple_value"):
                self._report_scalar(*names, number, event.step)
            else:
                self._value(str(folder), int(event.step), value, event.summary.value)

    def summary(self, folder: str, step: int, summary: Any) -> None:
        """A `Summary` message."""
        for value in summary.value:
            self._value(folder, step, value, summary.value)

    def scalar(self, folder: str, step: int, tag: str, value: float) -> None:
        names = self._curves.get((folder, tag))
        if names is None:
            names = self._curves[folder, tag] = self._tags.of_scalar(folder, tag)
        self._report_scalar(*names, value, step)

    def tensor(self, folder: str, step: int, tag: str, metadata: Any, found: Any) -> None:
        """A value of TensorFlow's second writer: an array of numpy (numbers, or bytes) and its metadata."""
        plugin = self._plugin(folder, tag, metadata)
        if plugin == "scalars":
            self.scalar(folder, step, tag, float(found))
        elif plugin == "histograms":
            self._histogram(folder, step, tag, found.reshape(-1, 3).tolist())
        elif plugin in {"images", "audio", "text"}:
            held = [
                bytes(one) if isinstance(one, bytes) else str(one).encode() for one in found.reshape(-1).tolist()
            ]
            pairs = plugin == "audio" and found.ndim == 2
            self._texts(folder, step, tag, plugin, held[::2] if pairs else held)  # audio comes with its labels
        elif plugin == "pr_curves":
            self._curve(folder, step, tag, found.tolist())

    def embedded(
        self,
        _: None,
        writer: Any,
        mat: Any,
        metadata: Sequence[Any] | None = None,
        label_img: Any = None,
        global_step: Any = None,
        tag: str = "default",
        metadata_header: Any = None,
    ) -> None:
        """After `SummaryWriter.add_embedding`, with its arguments; it writes files, and no message."""
        del label_img, metadata_header
        title, series = self._tags.of_plot(str(writer.file_writer.get_logdir()), tag, EMBEDDINGS)
        self._hooks.logger.report_plotly(title, series, clouds.embedding(tag, mat, metadata), global_step)

    # --- one value ----------------------------------------------------------------------------------------

    def _value(self, folder: str, step: int, value: Any, all_values: Iterable[Any]) -> None:
        kind, tag = value.WhichOneof("value"), str(value.tag)
        plugin = self._plugin(folder, tag, value.metadata)
        if tag == SESSION_START:
            self._parameters(value.metadata.plugin_data.content)
        elif kind == "simple_value":
            self.scalar(folder, step, tag, value.simple_value)
        elif kind == "histo":
            held = value.histo
            self._histogram(folder, step, tag, from_limits(held.bucket_limit, held.bucket, held.min, held.max))
        elif kind == "image":
            self._sample(folder, step, tag, "Images", value.image.encoded_image_string, ".png")
        elif kind == "audio":
            self._sample(folder, step, tag, "Audio", value.audio.encoded_audio_string, ".wav")
        elif kind == "tensor":
            self._tensor(folder, step, tag, plugin, value.tensor, all_values)

    def _plugin(self, folder: str, tag: str, metadata: Any) -> str:
        """Writers tell the plugin of a tag once, some of them only the first time."""
        name = str(metadata.plugin_data.plugin_name) if metadata is not None else ""
        if name:
            self._plugins[folder, tag] = name
            return name
        return self._plugins.get((folder, tag), "")

    def _tensor(
        self, folder: str, step: int, tag: str, plugin: str, tensor: Any, all_values: Iterable[Any]
    ) -> None:
        if tensor.dtype == _TEXT:
            held = [bytes(one) for one in tensor.string_val]
            pairs = plugin == "audio" and len(tensor.tensor_shape.dim) == 2
            self._texts(folder, step, tag, plugin, held[::2] if pairs else held)
        elif plugin == "pr_curves":
            self._curve(folder, step, tag, _rows(tensor))
        elif plugin == "histograms":
            self._histogram(folder, step, tag, [(row[0], row[1], row[2]) for row in _rows(tensor)])
        elif plugin == "mesh":
            if tag.endswith("_VERTEX"):
                self._mesh(folder, step, tag.removesuffix("_VERTEX"), all_values)
        elif plugin in {"scalars", ""}:
            numbers = _numbers(tensor)
            if len(numbers) == 1:
                self.scalar(folder, step, tag, numbers[0])

    # --- what becomes of it -------------------------------------------------------------------------------

    def _texts(self, folder: str, step: int, tag: str, plugin: str, held: list[bytes]) -> None:
        if plugin == "text":
            self._sample(folder, step, tag, "Text", b"\n".join(held), ".txt")
            return
        default, extension = ("Audio", ".wav") if plugin == "audio" else ("Images", ".png")
        several = held[2:] if plugin == "images" else held  # images begin with width and height
        if plugin in {"images", "audio"}:
            for number, one in enumerate(several):
                name = tag if len(several) == 1 else f"{tag}/{number}"
                self._sample(folder, step, name, default, one, extension)

    def _sample(self, folder: str, step: int, tag: str, default: str, content: bytes, extension: str) -> None:
        title, series = self._tags.of_sample(folder, tag, default)
        if extension != ".txt":
            extension = next((known for start, known in _SIGNATURES if content.startswith(start)), extension)
        self._hooks.logger.report_media(title, series, step, stream=content, file_extension=extension)

    def _histogram(self, folder: str, step: int, tag: str, buckets: Sequence[Bucket]) -> None:
        names = self._tags.of_plot(folder, tag, "Histograms")
        distribution = self._distributions.setdefault(names, Distribution())
        distribution.add(step, buckets)
        if distribution.due:
            self._draw(names, distribution)

    def _draw(self, names: Names, distribution: Distribution) -> None:
        # without an iteration: each drawing shows all, and takes the place of the last one
        self._hooks.logger.report_plotly(*names, distribution.figure(*names))

    def _draw_what_is_behind(self) -> None:
        for names, distribution in list(self._distributions.items()):
            if distribution.behind:
                self._draw(names, distribution)

    def _curve(self, folder: str, step: int, tag: str, rows: Rows) -> None:
        title, series = self._tags.of_plot(folder, tag, tag)
        self._hooks.logger.report_plotly(title, series, clouds.precision_recall(tag, rows), step)

    def _mesh(self, folder: str, step: int, name: str, values: Iterable[Any]) -> None:
        """The parts of a mesh come as values of one message."""
        parts = {str(value.tag): _rows(value.tensor) for value in values if str(value.tag).startswith(f"{name}_")}
        title, series = self._tags.of_plot(folder, name, name)
        figure = clouds.mesh(name, parts[f"{name}_VERTEX"], parts.get(f"{name}_FACE"), parts.get(f"{name}_COLOR"))
        self._hooks.logger.report_plotly(title, series, figure, step)

    def _parameters(self, content: bytes) -> None:
        found = {name: _parameter(value) for name, value in sorted(self._hparams(content).items())}
        self._hooks.report_parameters(HPARAMS, found)


def hparams_of(message: Any) -> dict[str, Any]:
    """The values in a plugin's `HParamsPluginData` message."""
    held = message.session_start_info.hparams
    return {str(name): getattr(held[name], held[name].WhichOneof("kind") or "string_value") for name in held}


def _parameter(value: Any) -> Parameter:
    """The message holds doubles only, so that a whole number was most likely one in the script."""
    return encode(int(value) if isinstance(value, float) and value.is_integer() else value)


def _numbers(tensor: Any) -> list[float]:
    """The numbers of a `TensorProto`, which holds them as bytes or as a list of its own for each type."""
    if tensor.tensor_content:
        if tensor.dtype == _HALF:
            return [one for (one,) in struct.iter_unpack("<e", tensor.tensor_content)]
        code = _CODES.get(int(tensor.dtype))
        if code is None:
            raise BadInput(f"a tensor of TensorFlow's type {int(tensor.dtype)} is not read")
        return list(array.array(code, tensor.tensor_content))
    held: list[Any] = next(
        (list(found) for found in (getattr(tensor, name) for name in _LISTS) if found), list[Any]()
    )
    size = math.prod(int(dim.size) for dim in tensor.tensor_shape.dim)
    return held + held[-1:] * (size - len(held))  # equal numbers at the end are told once


def _rows(tensor: Any) -> Rows:
    """The numbers of a tensor by its last dimension."""
    width = int(tensor.tensor_shape.dim[-1].size)
    numbers = _numbers(tensor)
    return [numbers[start : start + width] for start in range(0, len(numbers), width)] if width else []
