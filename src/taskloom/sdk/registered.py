"""Tables that a script goes on changing: stored as artifacts again whenever they differ from what was stored.

They are looked at when the script asks for it (`flush`) and when the task ends; a process that is killed in between
leaves the last state that was looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskloom.domain.errors import BadInput

if TYPE_CHECKING:
    from taskloom.sdk.recorder import Recorder


@dataclass
class _Table:
    frame: Any
    metadata: dict[str, Any] | None
    columns: bool | tuple[str, ...]
    state: object = None  # of what was stored last


class RegisteredTables:
    """Of one task."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._tables: dict[str, _Table] = {}

    def register(
        self, name: str, frame: Any, metadata: Mapping[str, Any] | None, columns: bool | Sequence[str]
    ) -> None:
        if not hasattr(frame, "drop_duplicates") or not hasattr(frame, "columns"):
            raise BadInput(f"artifact {name!r}: only a pandas DataFrame can be registered; use upload_artifact")
        chosen = columns if isinstance(columns, bool) else tuple(columns)
        if not isinstance(chosen, bool):
            missing = [one for one in chosen if one not in frame.columns]
            if missing:
                raise BadInput(f"artifact {name!r}: the table has no columns {', '.join(map(str, missing))}")
        self._tables[name] = _Table(frame, dict(metadata) if metadata is not None else None, chosen)
        self._store(name)

    def unregister(self, name: str) -> None:
        if name not in self._tables:
            raise BadInput(f"no artifact {name!r} is registered; there are: {', '.join(self._tables) or 'none'}")
        self._store(name)
        del self._tables[name]

    def tables(self) -> dict[str, Any]:
        return {name: one.frame for name, one in self._tables.items()}

    def store_changed(self) -> None:
        for name in list(self._tables):
            try:
                self._store(name)
            except Exception as error:  # the script goes on, and the other tables with it
                self._recorder.tell(f"the registered table {name!r} is not stored again: {error}")

    def _store(self, name: str) -> None:
        from taskloom.sdk.artifacts import store_artifact

        table = self._tables[name]
        state = _state(table.frame)
        if state is not None and state == table.state:
            return
        store_artifact(self._recorder, name, _distinct(table), metadata=table.metadata)
        table.state = state


def _distinct(table: _Table) -> Any:
    if table.columns is False:
        return table.frame
    try:
        return table.frame.drop_duplicates(
            subset=None if table.columns is True else list(table.columns), keep="last"
        )
    except TypeError:  # a column holds lists or the like, which nobody can compare
        return table.frame


def _state(frame: Any) -> object:
    """Differs when the table does; None when that cannot be told, and it is stored every time."""
    import importlib

    pandas: Any = importlib.import_module("pandas")
    try:
        rows: Any = pandas.util.hash_pandas_object(frame, index=True)
    except TypeError:
        return None
    return frame.shape, tuple(map(str, frame.columns)), hashlib.sha256(rows.to_numpy().tobytes()).digest()
