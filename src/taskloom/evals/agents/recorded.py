"""Where an agent that replays has its runs from: a job on the server, a job in this process, a file."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from taskloom.domain.errors import NotFound, ServerAway, TaskloomError
from taskloom.domain.evaluation import EvalRun, Step
from taskloom.evals.failures import AgentFailure
from taskloom.wire.client import Address
from taskloom.wire.connection import find_address

if TYPE_CHECKING:
    from taskloom.evals.run import Run

PAGE = 200  # runs, or steps, in one call


class Receipt(Protocol):
    """A job in this process."""

    id: str

    @property
    def runs(self) -> Sequence[Run]: ...


class Runs(Protocol):
    """Recorded runs. `origin`: for people."""

    origin: str

    async def find(self, slug: str) -> list[EvalRun]:
        """The tries at an eval task that an agent took, by position; AgentFailure when there are no runs at all."""
        ...

    async def steps(self, run: EvalRun) -> list[Step]: ...


def said_something(run: EvalRun) -> bool:
    """Runs that broke before the agent was done say nothing of what it would have answered."""
    if run.boundary in {"infrastructure", "environment"} or run.status == "cancelled":
        return False
    return run.status != "running" or run.grade is not None


class _Loaded:
    """Runs by slug, once they are read; read by the first who asks, for all."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._by_slug: dict[str, list[EvalRun]] | None = None
        self._gate = asyncio.Lock()

    async def find(self, slug: str) -> list[EvalRun]:
        async with self._gate:
            if self._by_slug is None:
                self._by_slug = _by_slug(await self._load())
        return self._by_slug.get(slug, [])

    async def _load(self) -> list[EvalRun]:
        return []


class FromServer(_Loaded):
    """A job by its id. address: None means the one that programs on this machine find."""

    def __init__(self, job: str, address: Address | None = None) -> None:
        super().__init__(f"job {job}")
        self.job = job
        self._address = address
        self._steps_gate = asyncio.Semaphore(16)

    async def _load(self) -> list[EvalRun]:
        from taskloom.wire.messages import RunQuery
        from taskloom.wire.operations import LIST_RUNS

        found: list[EvalRun] = []
        while True:
            query = RunQuery(limit=PAGE, offset=len(found))
            page = await self._ask(LIST_RUNS, query, job=self.job)
            found += page.runs
            if not page.runs or len(found) >= page.total:
                return found

    async def steps(self, run: EvalRun) -> list[Step]:
        from taskloom.wire.messages import StepsQuery
        from taskloom.wire.operations import GET_STEPS

        found: list[Step] = []
        while True:
            page = await self._ask(GET_STEPS, StepsQuery(start=len(found), limit=PAGE), run=run.id)
            found += page.steps
            if not page.steps or len(found) >= page.total:
                return found

    async def _ask(self, operation: Any, query: Any, **path: str) -> Any:
        from taskloom.wire.send import AsyncClient

        address = self._address or find_address()
        if address is None:
            raise AgentFailure(f"{self.origin}: no server is known here to read it from")
        client = AsyncClient(address)
        try:
            async with self._steps_gate:
                return await client.call(operation, query=query, **path)
        except NotFound:
            raise AgentFailure(f"{self.origin} is not on the server {address.url}") from None
        except ServerAway as error:
            raise AgentFailure(f"{self.origin}: {error}") from None
        except TaskloomError as error:
            raise AgentFailure(f"{self.origin} cannot be read: {error}") from None
        finally:
            await client.close()


class FromJob(_Loaded):
    """A job of this process, with its runs and their traces."""

    def __init__(self, job: Receipt) -> None:
        super().__init__(f"job {job.id}")
        self.job = job

    async def _load(self) -> list[EvalRun]:
        return [run.value() for run in self.job.runs]

    async def steps(self, run: EvalRun) -> list[Step]:
        return [step for one in self.job.runs if one.trace_id == run.id for step in one.trace.steps]


class RecordedRun(EvalRun, frozen=True, omit_defaults=True, kw_only=True):
    """A line of a file: the fields of a run, and its steps where they are told."""

    trace: tuple[Step, ...] = ()


class FromFile(_Loaded):
    """A `.jsonl` file, a run a line, with `trace` for its steps."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path

    async def _load(self) -> list[EvalRun]:
        return await asyncio.to_thread(self._read)

    def _read(self) -> list[EvalRun]:
        decoder = msgspec.json.Decoder(RecordedRun)
        found: list[EvalRun] = []
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        found.append(_decode(decoder, line, f"{self.path}, line {number}"))
        except OSError as error:
            raise AgentFailure(f"{self.path} cannot be read: {error.strerror or error}") from None
        return found

    async def steps(self, run: EvalRun) -> list[Step]:
        return list(run.trace) if isinstance(run, RecordedRun) else []


def _decode(decoder: msgspec.json.Decoder[RecordedRun], line: bytes, place: str) -> RecordedRun:
    try:
        return decoder.decode(line)
    except msgspec.DecodeError as error:
        raise AgentFailure(f"{place}: expected a run as JSON: {error}") from None


def _by_slug(runs: Sequence[EvalRun]) -> dict[str, list[EvalRun]]:
    found: dict[str, list[EvalRun]] = defaultdict(list)
    for run in sorted(runs, key=lambda one: one.position):
        if said_something(run):
            found[run.slug].append(run)
    return dict(found)
