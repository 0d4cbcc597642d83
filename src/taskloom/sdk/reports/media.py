"""Pixels of every kind as the bytes of one PNG file.

    bool                          black and white
    whole numbers 0 .. 255        as they are
    floats 0 .. 1 (a little beyond is cut off), or 0 .. 255
    anything else                 stretched from its least to its greatest value, and said

    H x W                         gray
    H x W x 1, 2, 3, 4            gray, gray and alpha, RGB, RGBA; a batch of one counts as its image
    1, 3, 4 x H x W               channels first, where the last axis cannot be the channels, and of torch's tensors

Pillow writes the file, and is loaded by the first image only. What becomes of the bytes is `samples`' business.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from taskloom.domain.errors import BadInput
from taskloom.sdk.serialise import needed

MAX_PIXELS = 1 << 26  # of one image: 8192 x 8192
CHANNELS = (1, 2, 3, 4)
FIRST_CHANNELS = (1, 3, 4)
PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
WITH_ALPHA = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}

Tell = Callable[[str], None]


def png_of(image: Any, tell: Tell) -> bytes:
    """The PNG file of an array, tensor, list of rows or Pillow image. `tell` takes a word about changed values.

    BadInput for what is no image: another shape, no pixels or too many, objects, complex numbers.
    """
    pillow = needed("PIL.Image", "pillow", "an image")
    if isinstance(image, pillow.Image):
        _check_size(image.size)
        drawn: Any = image if image.mode in PNG_MODES else _converted(image, tell, pillow)
    else:
        drawn = _drawn(image, tell, pillow)
    out = io.BytesIO()
    drawn.save(out, format="PNG")
    return out.getvalue()


def _converted(image: Any, tell: Tell, pillow: Any) -> Any:
    """A Pillow image of a mode that PNG does not have: numbers as an array, colours as RGB."""
    if image.mode in {"F", "I"}:
        return _drawn(needed("numpy", "numpy", "an image of numbers").asarray(image), tell, pillow)
    return image.convert(WITH_ALPHA.get(image.mode, "RGB"))


def _drawn(image: Any, tell: Tell, pillow: Any) -> Any:
    pixels = _bytes_of(_shaped(*_array(image)), tell)
    return pillow.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _array(image: Any) -> tuple[Any, bool]:
    """A numpy array, and whether channels come first where both are possible (as torch has them)."""
    numpy = needed("numpy", "numpy", "an image")
    if hasattr(image, "detach") and hasattr(image, "cpu"):
        tensor = image.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":  # numpy has none
            tensor = tensor.float()
        return numpy.asarray(tensor.numpy()), True
    if hasattr(image, "numpy") and not isinstance(image, numpy.ndarray):
        image = image.numpy()
    try:
        array = numpy.asarray(image)
    except (TypeError, ValueError):
        raise BadInput(f"expected an image, got {type(image).__name__} whose rows differ in length") from None
    if (
        "float" in array.dtype.name and array.dtype.kind == "V"
    ):  # of eight bits or brain floats, which packages add
        array = array.astype(numpy.float32)
    if array.dtype.kind not in "biuf":
        what = f"an array of {array.dtype}" if array.ndim else type(image).__name__
        raise BadInput(f"expected an image: an array of numbers, a tensor or a Pillow image, got {what}")
    return array, False


def _shaped(array: Any, channels_first: bool) -> Any:
    """H x W or H x W x channels."""
    given = " x ".join(map(str, array.shape)) or "no axes"
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim > 3:
        raise BadInput(f"expected one image, got a batch of shape {given}: report them one by one, or as a grid")
    if array.ndim < 2:
        raise BadInput(f"expected an image of shape H x W or H x W x channels, got shape {given}")
    if array.ndim == 3:
        first, last = array.shape[0] in FIRST_CHANNELS, array.shape[2] in CHANNELS
        if first and (channels_first or not last):
            array = array.transpose(1, 2, 0)
        elif not last:
            raise BadInput(f"expected 1, 2, 3 or 4 channels in an image, got shape {given}")
    _check_size(array.shape[:2])
    return array


def _check_size(size: tuple[int, int]) -> None:
    if not size[0] * size[1]:
        raise BadInput(f"the image has no pixels: {size[0]} x {size[1]}")
    if size[0] * size[1] > MAX_PIXELS:
        raise BadInput(
            f"the image has {size[0]} x {size[1]} pixels; at most {MAX_PIXELS} are possible: make it smaller"
        )


def _bytes_of(array: Any, tell: Tell) -> Any:
    """The same pixels as uint8."""
    numpy = needed("numpy", "numpy", "an image")
    if array.dtype.kind == "b":
        return array.astype(numpy.uint8) * 255
    if array.dtype == numpy.uint8:
        return array
    values = array.astype(numpy.float64)
    finite = numpy.isfinite(values)
    if not finite.all():
        tell("holds NaN or infinite values, which are shown black and white")
    low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 1.0)
    if array.dtype.kind == "f" and low >= -0.5 and high <= 1.5:
        low, high = 0.0, 1.0  # resized or augmented images overshoot a little
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    else:
        tell(
            f"holds values from {low:g} to {high:g}, expected 0 to 1 or 0 to 255: "
            "they are stretched over black to white"
        )
    values = numpy.nan_to_num(values, nan=low, posinf=high, neginf=low)
    scaled = (values - low) * (255.0 / ((high - low) or 1.0))
    return numpy.clip(numpy.rint(scaled), 0, 255).astype(numpy.uint8)
