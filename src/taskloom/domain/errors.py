"""Every error that Taskloom tells a user about, one tree, one HTTP status each.

    TaskloomError
    ├── BadInput            400  the request or argument is malformed; the message says what was expected
    ├── Unauthorized        401  no key, or one that is unknown, revoked or expired
    ├── Forbidden           403  the key is valid, its role is too low
    ├── NotFound            404  no such task, project, queue ... (also: not yours to see)
    ├── Conflict            409  the request is well formed but the present state forbids it
    │   ├── IllegalMove     409  the state table has no such move; carries the state that was found
    │   ├── StaleRevision   409  somebody edited the object since it was read
    │   ├── LeaseLost       409  the reporter does not hold the task's lease (any more)
    │   └── BlobMissing     409  an artifact was announced before its bytes arrived
    ├── Discarded           410  the results of this writer were reset or deleted; it may forget them
    ├── TooLarge            413  over a written limit
    ├── DigestMismatch      422  the bytes do not have the digest they were announced with
    ├── TooMany             429  too many wrong keys or requests; `retry_after` says when to come back
    ├── ServerFault         500  ours; recorded in the server's log under the given id
    ├── Unavailable         503  try again later
    ├── StorageFull         507  the server's disk is full; reads go on
    └── ServerAway          -    client side only: nobody answered at the address

The mapping to and from HTTP is done in `wire`; nothing here knows about requests.
"""

from __future__ import annotations

from typing import Any, ClassVar


class TaskloomError(Exception):
    """Base of all errors; `message` is written for a person, `details` for a program."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details


class BadInput(TaskloomError, ValueError):
    code = "bad_input"
    http_status = 400


class Unauthorized(TaskloomError):
    code = "unauthorized"
    http_status = 401


class Forbidden(TaskloomError):
    code = "forbidden"
    http_status = 403


class NotFound(TaskloomError, LookupError):
    code = "not_found"
    http_status = 404


class Conflict(TaskloomError):
    code = "conflict"
    http_status = 409


class IllegalMove(Conflict):
    code = "illegal_move"


class StaleRevision(Conflict):
    code = "stale_revision"


class LeaseLost(Conflict):
    code = "lease_lost"


class BlobMissing(Conflict):
    code = "blob_missing"


class Discarded(TaskloomError):
    code = "discarded"
    http_status = 410


class TooLarge(TaskloomError):
    code = "too_large"
    http_status = 413


class DigestMismatch(TaskloomError):
    code = "digest_mismatch"
    http_status = 422


class TooMany(TaskloomError):
    code = "too_many"
    http_status = 429


class ServerFault(TaskloomError):
    code = "server_fault"
    http_status = 500


class Unavailable(TaskloomError):
    code = "unavailable"
    http_status = 503


class StorageFull(TaskloomError):
    code = "storage_full"
    http_status = 507


class ServerAway(TaskloomError, ConnectionError):
    code = "server_away"
    http_status = 503


def _tree(root: type[TaskloomError]) -> list[type[TaskloomError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


BY_CODE: dict[str, type[TaskloomError]] = {error.code: error for error in _tree(TaskloomError)}
