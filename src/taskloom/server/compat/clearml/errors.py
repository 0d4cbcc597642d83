"""Our errors in ClearML's words: a code, which is also the HTTP status, and a subcode that clients tell apart.

5xx, 429 and 503 make the clients try again for long, so they are only told when trying again can help.
"""

from __future__ import annotations

from taskloom.domain.errors import (
    BadInput,
    Conflict,
    Forbidden,
    IllegalMove,
    LeaseLost,
    NotFound,
    TaskloomError,
    Unauthorized,
)

BAD_REQUEST, MISSING_FIELD, BAD_FIELD, EMPTY_BATCH = 0, 11, 12, 17
NO_CREDENTIALS, WRONG_CREDENTIALS, BAD_TOKEN = 20, 22, 30
ROLE_TOO_LOW = 10
INVALID_TASK, INVALID_STATUS, EVENTS_NOT_ADDED = 101, 110, 131
INVALID_MODEL, INVALID_PROJECT, INVALID_QUEUE = 201, 401, 701
NOT_IN_QUEUE, NOT_EMPTY, ALREADY_QUEUED = 703, 704, 706
INVALID_USER = 301
NAME_EXISTS = 801
INVALID_WORKER = 901
BAD_SCROLL = 1104

_MISSING = {
    "task": INVALID_TASK,
    "model": INVALID_MODEL,
    "project": INVALID_PROJECT,
    "queue": INVALID_QUEUE,
    "worker": INVALID_WORKER,
}


class Refusal(TaskloomError):
    """An error that is only told to ClearML's clients."""

    code = "refused"
    http_status = 400

    def __init__(self, message: str, code: int = 400, subcode: int = BAD_REQUEST) -> None:
        super().__init__(message)
        self.status, self.subcode = code, subcode


def told(error: TaskloomError) -> tuple[int, int]:
    """(result_code, result_subcode) of an error."""
    if isinstance(error, Refusal):
        return error.status, error.subcode
    if isinstance(error, Unauthorized):
        return 401, WRONG_CREDENTIALS
    if isinstance(error, Forbidden):
        return 403, ROLE_TOO_LOW
    if isinstance(error, IllegalMove | LeaseLost):
        return 400, INVALID_STATUS
    if isinstance(error, NotFound):
        named = [subcode for what, subcode in _MISSING.items() if what in error.details]
        return 400, named[0] if named else BAD_REQUEST
    if isinstance(error, BadInput):
        return 400, BAD_FIELD
    if isinstance(error, Conflict):
        return 400, BAD_REQUEST
    return error.http_status, BAD_REQUEST
