"""Pixels of every kind: which shapes and types are images, and what their bytes become."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from taskloom.domain.errors import BadInput
from taskloom.sdk.reports.media import MAX_PIXELS, png_of

RAMP = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10


def drawn(image: Any) -> tuple[Any, list[str]]:
    """The pixels of the PNG file, and what was told."""
    told: list[str] = []
    return np.asarray(Image.open(io.BytesIO(png_of(image, told.append)))), told


class Tensor:
    """What torch's tensors offer; channels come first in them."""

    dtype = "torch.float32"

    def __init__(self, values: Any) -> None:
        self.values = values

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        return self.values


class Brain(Tensor):
    """Of a type that numpy does not have."""

    dtype = "torch.bfloat16"

    def float(self) -> Tensor:
        return Tensor(self.values / 255)

    def numpy(self) -> Any:
        raise TypeError("Got unsupported ScalarType BFloat16")


class Eager:
    """What TensorFlow's tensors offer."""

    def numpy(self) -> Any:
        return RAMP


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (RAMP, RAMP),
        (RAMP[:, :, None], RAMP),
        (RAMP[None], RAMP),
        (RAMP[None, None], RAMP),
        (RAMP[None, :, :, None], RAMP),
        (RAMP.tolist(), RAMP),
        (RAMP.astype(np.int64), RAMP),
        (RAMP.astype(np.float16), RAMP),
        (RAMP[:, ::-1], RAMP[:, ::-1]),
        (RAMP / 255, RAMP),
        (np.stack([RAMP, RAMP // 2, 255 - RAMP], axis=2), np.stack([RAMP, RAMP // 2, 255 - RAMP], axis=2)),
        (np.stack([RAMP, RAMP // 2, 255 - RAMP]), np.stack([RAMP, RAMP // 2, 255 - RAMP], axis=2)),
        (np.stack([RAMP] * 4, axis=2), np.stack([RAMP] * 4, axis=2)),
        (np.stack([RAMP] * 2, axis=2), np.stack([RAMP] * 2, axis=2)),
        (RAMP > 100, (RAMP > 100) * 255),
        (Tensor(np.stack([RAMP, RAMP // 2, RAMP])), np.stack([RAMP, RAMP // 2, RAMP], axis=2)),
        (Brain(RAMP.astype(np.float32)), RAMP),
        (Eager(), RAMP),
        (Image.fromarray(RAMP), RAMP),
        (Image.fromarray(RAMP.astype(np.float32) / 255), RAMP),
    ],
)
def test_pixels_arrive_as_they_were(image: Any, expected: Any) -> None:
    found, told = drawn(image)
    assert np.array_equal(found, expected)
    assert told == []


def test_of_an_array_the_last_axis_is_the_channels_and_of_a_tensor_the_first() -> None:
    either = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert np.array_equal(drawn(either)[0], either)
    assert np.array_equal(drawn(Tensor(either))[0], either.transpose(1, 2, 0))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "F", "CMYK", "YCbCr", "HSV", "PA", "La"]
)
def test_pillow_images_of_every_mode_are_written(mode: str) -> None:
    found, _ = drawn(Image.new(mode, (5, 3)))
    assert found.shape[:2] == (3, 5)


@pytest.mark.parametrize(
    ("image", "expected", "said"),
    [
        (np.array([[-1.0, 3.0]]), [[0, 255]], "values from -1 to 3, expected 0 to 1 or 0 to 255"),
        (np.array([[0, 1000, 500]]), [[0, 255, 128]], "values from 0 to 1000"),
        (np.array([[np.nan, 0.5, np.inf, -np.inf]]), [[0, 128, 255, 0]], "NaN or infinite"),
        (np.full((1, 2), np.nan), [[0, 0]], "NaN or infinite"),
        (np.array([[-7.0, -7.0]]), [[0, 0]], "values from -7 to -7"),
    ],
)
def test_values_beyond_what_an_image_holds_are_stretched_and_told(image: Any, expected: Any, said: str) -> None:
    found, told = drawn(image)
    assert found.tolist() == expected
    assert len(told) == 1
    assert said in told[0]


def test_a_little_beyond_one_is_cut_off_without_a_word() -> None:
    found, told = drawn(np.array([[-0.02, 0.5, 1.03]]))
    assert (found.tolist(), told) == ([[0, 128, 255]], [])


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros(4), "got shape 4"),
        (np.float32(1), "got shape no axes"),
        (np.zeros((2, 5, 5, 3)), "a batch of shape 2 x 5 x 5 x 3"),
        (np.zeros((5, 6, 7)), "1, 2, 3 or 4 channels in an image, got shape 5 x 6 x 7"),
        (np.zeros((0, 6)), "no pixels: 0 x 6"),
        (np.broadcast_to(np.uint8(0), (2, MAX_PIXELS)), f"at most {MAX_PIXELS}"),
        (np.zeros((2, 2), dtype=complex), "an array of complex128"),
        (np.array([["a"]]), "an array of <U1"),
        (np.array([[None]]), "an array of object"),
        (object(), "got object"),
        (None, "got NoneType"),
        ([[1], [1, 2]], "whose rows differ in length"),
    ],
)
def test_what_is_no_image_says_what_was_expected(image: Any, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        drawn(image)
    assert said in str(refused.value)


def test_without_pillow_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(BadInput, match="an image needs the package pillow, which is not installed"):
        drawn(RAMP)
