"""The images that tests/containers.sh made. A test that is asked to run in containers and cannot, fails."""

from __future__ import annotations

import os

ENV_IMAGE, ENV_PYTHON_IMAGE = "TASKLOOM_TEST_IMAGE", "TASKLOOM_TEST_PYTHON_IMAGE"


def image_for_tests() -> str:
    """An image with a shell and the small programs."""
    return _named(ENV_IMAGE)


def python_image_for_tests() -> str:
    """The same with Python."""
    return _named(ENV_PYTHON_IMAGE)


def _named(variable: str) -> str:
    image = os.environ.get(variable, "")
    assert image, f"{variable} is not set: run under tests/containers.sh"
    return image
