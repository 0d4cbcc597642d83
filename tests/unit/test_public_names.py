"""What users may import is what `__all__` says: the package's own names, and those of the integrations."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import taskloom

INTEGRATIONS = Path(taskloom.__file__).parent / "integrations"
CLASSES = {
    "keras": ["TaskloomCallback"],
    "lightning": ["TaskloomLogger"],
    "optuna": ["TaskloomCallback"],
    "transformers": ["TaskloomCallback"],
}


def test_every_name_of_the_package_is_there_and_no_other_is_promised() -> None:
    assert taskloom.__all__ == [
        "Artifact",
        "InputModel",
        "Logger",
        "Model",
        "OutputModel",
        "Task",
        "TaskType",
        "TaskTypes",
        "TaskloomError",
        "__version__",
        "get_config",
        "get_secret",
    ]
    assert [name for name in taskloom.__all__ if not hasattr(taskloom, name)] == []
    assert dir(taskloom) == sorted(taskloom.__all__)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_an_integration_offers_its_class_alone(name: str) -> None:
    tree = ast.parse((INTEGRATIONS / f"{name}.py").read_text("utf-8"))
    said = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    )
    public = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    assert said == public == CLASSES[name]
