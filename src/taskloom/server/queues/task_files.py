"""Before a task that was made from a task file waits: whether its parameters are still what the file allows.

Clones are edited by people and programs that never saw the file. What is found is told before anything starts, and
outside of any transaction, because reading YAML takes its time.
"""

from __future__ import annotations

from taskloom.domain.errors import BadInput
from taskloom.domain.parameters import DEFAULT_SECTION
from taskloom.domain.task import Task


def check_values(task: Task) -> None:
    """BadInput that lists every value which does not fit; the parameters of a sweep are checked by each combination."""
    kept = task.configuration.get("task.yaml")
    if kept is None:
        return
    from taskloom.domain.taskfile import check_parameters, schemas_of

    swept = task.execution.sweep.grid if task.execution.sweep is not None else {}
    schemas = {name: schema for name, schema in schemas_of(kept.value).items() if name not in swept}
    wrong = check_parameters(schemas, {DEFAULT_SECTION: task.parameters.get(DEFAULT_SECTION, {})})
    if wrong:
        raise BadInput("; ".join(wrong), parameters=wrong)
