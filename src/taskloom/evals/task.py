"""The eval task: one row of data, an environment's name with a template's id and its arguments. Source: seed 002.

It is portable: `model_dump` gives the entry of a file, `model_validate` the row again. It knows nothing of where it runs.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SerializerFunctionWrapHandler, model_serializer

if TYPE_CHECKING:
    from taskloom.evals.job import Job

METADATA = ("columns", "validation", "agent_config")
DIGITS = 8  # of the arguments' digest in a default slug


class Task(BaseModel):
    """A row of a taskset. Unknown keys are ignored; assignments are checked.

    env           name of the environment
    id            id of the template that is registered there
    args          arguments for it
    slug          stable name in a taskset; None at construction means `default_slug()`
    columns       metadata for filters and leaderboards
    validation    metadata that is kept for other systems
    agent_config  what differs for the agent on this row, `{"max_steps": 50}`
    """

    model_config = ConfigDict(validate_assignment=True, extra="ignore")

    env: str = Field(min_length=1)
    id: str = Field(min_length=1)
    args: dict[str, Any] = Field(default_factory=dict)
    slug: str | None = Field(default=None, min_length=1)
    columns: dict[str, Any] | None = None
    validation: list[dict[str, Any]] | None = None
    agent_config: dict[str, Any] | None = None

    # Where its environment's source stands, when that is known: placement looks at it, no file has it.
    _source: str | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any, /) -> None:
        if self.slug is None:
            self.slug = self.default_slug()

    @property
    def source(self) -> str | None:
        """The file or folder that serves its environment, where that is known."""
        return self._source

    def from_source(self, path: str) -> Task:
        """This row, knowing the file or folder of its environment."""
        self._source = path
        return self

    def default_slug(self, digits: int = DIGITS) -> str:
        """The id and, when there are arguments, a digest of them: equal on every machine."""
        if not self.args:
            return self.id
        text = json.dumps(self.args, sort_keys=True, default=str)
        return f"{self.id}-{hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:digits]}"

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Metadata that is not set is left out, so that an entry holds what its author said."""
        entry: dict[str, Any] = handler(self)
        return {key: value for key, value in entry.items() if value is not None or key not in METADATA}

    async def run(
        self,
        agent: Any,
        runtime: Any = None,
        group: int | None = None,
        max_concurrent: int | None = None,
        job: Job | None = None,
        **options: Any,
    ) -> Job:
        """Run it under an agent; the single form of `Taskset.run`, whose options it takes. Never raises for a run."""
        from taskloom.evals.taskset import Taskset

        return await Taskset(self.id, [self]).run(agent, runtime, group, max_concurrent, job, **options)
