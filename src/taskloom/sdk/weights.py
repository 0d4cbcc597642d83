"""Models that frameworks save and load by themselves: what is recorded of them, and where the bytes go.

A saved file becomes an output model of the task, one for each path: saved again, it is the same model at a later
iteration. With an `output_uri` the bytes are copied before the call returns and stored there; without one only the
place is told. A loaded file becomes an input model, known again by its fingerprint.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskloom.wire.records import ModelUsed

if TYPE_CHECKING:
    from taskloom.sdk.session import Session


class Weights:
    """What bindings tell of models. One per session; every method may raise, `Hooks.guard` is around it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def saved(
        self,
        path: str | Path,
        framework: str,
        *,
        name: str | None = None,
        iteration: int | None = None,
        design: str | Mapping[str, Any] | None = None,
        labels: Mapping[str, int] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """A file or folder was written. name: by default the task's and the file's; iteration: the newest reported."""
        from taskloom.sdk.models import OutputModel

        del design, metadata
        place = Path(path).absolute()
        document = self._session.document()
        model = OutputModel(
            task=self._session,
            name=name or f"{document.name} - {place.stem}",
            framework=framework,
            label_enumeration=labels,
        )
        newest = self._session.logger.newest_iteration() if iteration is None else iteration
        model.update_weights(register_uri=place.as_uri(), iteration=newest)

    def loaded(self, path: str | Path, framework: str) -> None:
        """A file or folder was read."""
        place = Path(path).absolute()
        self._session.record(ModelUsed(uri=place.as_uri(), name=place.stem, framework=framework, time=time.time()))
