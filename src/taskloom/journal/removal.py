"""Removing what a deleted task left at storage destinations, in the name of whoever deletes it.

Only what lies in the task's own folder (`<destination>/.../<name>.<task id>/`) is ever touched; the rest belongs to
somebody else. What cannot be removed is told, never hidden.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from taskloom.domain.destination import Left, Place, lies_in_folder_of, parse_place
from taskloom.domain.errors import TaskloomError
from taskloom.journal.storage import Storage, open_storage, remove_empty_folders


def remove_external(task_id: str, uris: Iterable[str]) -> list[Left]:
    """Remove these files of the task; gives those that are left. What is not there any more is removed."""
    left: list[Left] = []
    storages: dict[str, Storage | TaskloomError] = {}
    for uri in dict.fromkeys(uris):
        if not lies_in_folder_of(uri, task_id):
            continue  # only named by the task, never stored by it
        place = parse_place(uri)
        try:
            storage = storages[place.root] if place.root in storages else _opened(place, storages)
            if isinstance(storage, TaskloomError):
                raise storage
            storage.remove(place.key)
            if place.scheme == "file":
                _remove_folders(place, task_id)
        except TaskloomError as error:
            storages.setdefault(place.root, error)
            left.append(Left(uri, error.message))
    return left


def _opened(place: Place, storages: dict[str, Storage | TaskloomError]) -> Storage | TaskloomError:
    try:
        storages[place.root] = open_storage(place)
    except TaskloomError as error:
        storages[place.root] = error
    return storages[place.root]


def _remove_folders(place: Place, task_id: str) -> None:
    """Those of the task that are empty now, its own folder last."""
    path = Path(place.key)
    own = next(folder for folder in path.parents if folder.name.endswith(f".{task_id}"))
    remove_empty_folders(path.parent, own)
