"""Work that a script hands to a worker: itself (`execute_remotely`), or one of its functions (a function task).

Nothing is pickled. A function task is a copy of the script's own task that names the function: the worker runs the
same script, which comes to the same `create_function_task` and there calls the function, with the arguments that
stand in the section `Function` by then, and ends. What the script does before that call it does there, too.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from taskloom.domain.errors import BadInput, TaskloomError
from taskloom.domain.parameters import FUNCTION_SECTION, Parameter, cast_like, decode, encode
from taskloom.domain.task import TaskEdit
from taskloom.sdk.ending import Outcome
from taskloom.sdk.session import Session
from taskloom.wire.messages import MoveRequest, TaskClone, TaskEditRequest
from taskloom.wire.operations import CLONE_TASK, EDIT_TASK, RESET_TASK

if TYPE_CHECKING:
    from taskloom.wire.send import Client

ARRIVAL = 60.0  # seconds that the task has to reach the server before it can be queued or copied


def arrived(session: Session) -> None:
    """The server has the task with its code; TaskloomError when it does not come there."""
    if session.identity.hosted:
        return  # that is where it came from
    if session.offline:
        raise TaskloomError(f"task {session.id} is recorded offline; only a task on the server can be queued")
    if not session.wait_captured(ARRIVAL) or not session.wait_shipped(ARRIVAL):
        raise TaskloomError(f"task {session.id} has not reached the server; it cannot be queued yet")


def leave(session: Session, client: Client) -> None:
    """End the run here; what is left of it on the server is a draft with its code."""
    session.close(Outcome("aborted", "handed over to a worker (execute_remotely)"))
    arrived(session)
    client.call(RESET_TASK, MoveRequest(), task=session.id)


def is_function_run(session: Session, func: Callable[..., Any], name: str | None) -> bool:
    """Whether a worker runs this script for the sake of this very function."""
    claimed = session.identity.claimed
    return (
        session.owner
        and session.identity.hosted
        and claimed is not None
        and claimed.execution.function == _name_of(func, name)
    )


def run_function(session: Session, func: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Call it with the arguments as somebody edited them; then the task is done, and so is the script."""
    claimed = session.identity.claimed
    edited = {} if claimed is None else claimed.parameters.get(FUNCTION_SECTION, {})
    func(**_arguments(func, given, edited))
    session.close()
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(0)


def create_function_task(
    client: Client,
    session: Session,
    func: Callable[..., Any],
    func_name: str | None,
    task_name: str | None,
    given: Mapping[str, Any],
) -> str:
    """The id of a draft that runs `func`."""
    name = _name_of(func, func_name)
    if name in session.functions:
        raise BadInput(f"create_function_task: there is a function task {name!r} already; give another func_name")
    arguments: dict[str, Parameter | None] = {key: _told(key, value) for key, value in given.items()}
    _check_signature(func, given)
    arrived(session)
    copied = client.call(
        CLONE_TASK, TaskClone(name=task_name or f"{session.document().name}: {name}"), task=session.id
    )
    edit = TaskEdit(execution={"function": name}, parameters={FUNCTION_SECTION: arguments})
    client.call(EDIT_TASK, TaskEditRequest(edit=edit), task=copied.id)
    session.functions.add(name)
    return copied.id


def _name_of(func: Callable[..., Any], name: str | None) -> str:
    return name or f"{func.__module__}.{func.__qualname__}"


def _told(name: str, value: Any) -> Parameter:
    """The argument as a parameter; BadInput when it would not come back as what it is."""
    parameter = encode(value)
    if decode(parameter) != value:
        raise BadInput(
            f"create_function_task: argument {name!r} is a {type(value).__name__}; expected text, a number, a bool, "
            "None, or a list, tuple or dictionary of them (larger things: upload_artifact, and read them back there)"
        )
    return parameter


def _check_signature(func: Callable[..., Any], given: Mapping[str, Any]) -> None:
    try:
        inspect.signature(func).bind(**given)
    except TypeError as error:
        raise BadInput(f"create_function_task: {_name_of(func, None)} cannot be called so: {error}") from None
    except ValueError:
        return  # a builtin without a signature: the call itself will tell


def _arguments(
    func: Callable[..., Any], given: Mapping[str, Any], edited: Mapping[str, Parameter]
) -> dict[str, Any]:
    """The edited values in the types of the script's own; one that was added there goes along as it is told."""
    found: dict[str, Any] = {}
    for name, parameter in edited.items():
        own = name in given
        same = own and encode(given[name]).value == parameter.value
        found[name] = (
            given[name] if same else cast_like(parameter.value, given[name]) if own else decode(parameter)
        )
    _check_signature(func, found)
    return found
