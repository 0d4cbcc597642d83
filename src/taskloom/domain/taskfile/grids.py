"""The values that a sweep tries, each in the type of its parameter, and how many combinations they make."""

from __future__ import annotations

import math
from typing import Any

from taskloom.domain.errors import BadInput
from taskloom.domain.taskfile.nodes import Mapping, Node, Scalar, Sequence
from taskloom.domain.taskfile.problems import Findings
from taskloom.domain.taskfile.scalars import plain_value, shown
from taskloom.domain.taskfile.values import Schemas, convert, nearest

MAX_COMBINATIONS = 10_000
PATH = "sweeps.sweep_config"


def read_grid(node: Mapping, schemas: Schemas, findings: Findings) -> dict[str, tuple[Any, ...]]:
    """Values by parameter, in the order of the file."""
    grid = {key.text: _tried(key, values, schemas, findings) for key, values in node.entries}
    combinations = math.prod(max(1, len(values)) for values in grid.values())
    if combinations > MAX_COMBINATIONS:
        findings.wrong(node.place, PATH, f"{combinations} combinations; expected at most {MAX_COMBINATIONS}")
    return grid


def _tried(key: Scalar, node: Node, schemas: Schemas, findings: Findings) -> tuple[Any, ...]:
    path = f"{PATH}.{key.text[:80]}"
    schema = schemas.get(key.text)
    if schema is None:
        findings.wrong(key.place, path, f"no such parameter{nearest(key.text, schemas)}")
    if not isinstance(node, Sequence) or not node.items:
        findings.wrong(node.place, path, f"expected a list of values to try, got {shown(node)}")
        return ()
    values: list[Any] = []
    for item in node.items:
        value = plain_value(item)
        try:
            written = item.text if isinstance(item, Scalar) else None
            value = convert(schema, value, written) if schema else value
        except BadInput as error:
            findings.wrong(item.place, path, error.message)
            continue
        if value in values:
            findings.odd(item.place, path, f"{shown(item)} stands twice")
        else:
            values.append(value)
    return tuple(values)
