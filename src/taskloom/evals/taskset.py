"""A taskset: a named, ordered collection of eval tasks, each under a slug of its own. Source: seed 002.

    Taskset("sums", [add(1, 2), add(3, 4)])
    Taskset.from_file("rows.jsonl")
    await taskset.run(agent, group=4)

Reading and writing files stands in `sources`, running in `engine`, where rows run in `runtimes.choosing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from taskloom.evals.task import METADATA, Task

if TYPE_CHECKING:
    from taskloom.evals.engine import Progress
    from taskloom.evals.job import Job
    from taskloom.evals.limits import Limits

NEAR = 3  # slugs that an unknown one is told with
MORE_DIGITS = 24  # of the arguments' digest, where eight are the same by chance
SEARCHED = 20_000  # slugs among which near ones are looked for

_encode = msgspec.json.Encoder(enc_hook=str, order="sorted").encode


class Taskset:
    """ValueError for two rows with one slug, naming both; TypeError for what is no Task.

    id, version: of the taskset on a server that it was read from; '' and 0 otherwise
    """

    def __init__(self, name: str, tasks: Iterable[Task] = (), *, id: str = "", version: int = 0) -> None:
        if not name:
            raise ValueError("a taskset needs a name")
        self.name, self.id, self.version = name, id, version
        self._tasks: list[Task] = []
        self._places: dict[str, int] = {}
        for task in tasks:
            self._add(task)

    def _add(self, task: Task) -> None:
        if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"taskset {self.name!r}: a {type(task).__name__} among its rows: expected a Task")
        slug, place = task.slug or task.default_slug(), len(self._tasks)
        first = self._places.setdefault(slug, place)
        if first != place and self._by_chance(self._tasks[first], task):
            task.slug = slug = task.default_slug(MORE_DIGITS)
            first = self._places.setdefault(slug, place)
        if first != place:
            other = self._tasks[first]
            raise ValueError(
                f"taskset {self.name!r}: rows {first + 1} ({other.env}/{other.id}) and {place + 1} "
                f"({task.env}/{task.id}) both have the slug {slug!r}; give one of them another"
            )
        self._tasks.append(task)

    @staticmethod
    def _by_chance(first: Task, second: Task) -> bool:
        """Whether two different rows have one default slug: of a million, some hundred have."""
        differ = (first.env, first.args) != (second.env, second.args)
        return differ and bool(second.args) and second.slug == second.default_slug()

    # --- sources ------------------------------------------------------------------------------------------

    @classmethod
    def from_file(cls, path: str | Path, *, name: str = "") -> Self:
        """The rows of a Python file, a folder of them, a .json or a .jsonl; its name is the file's.

        ValueError says which row or line is wrong and what was expected; FileNotFoundError for a path without a file.
        """
        from taskloom.evals.sources import read_rows

        path = Path(path)
        with closing(read_rows(path, Taskset)) as rows:
            return cls(name or path.resolve().stem, rows)

    @classmethod
    def from_module(cls, path: str | Path, *, name: str = "") -> Self:
        """The public tasks and tasksets of a Python source: a file, a folder, or the name of a module."""
        from taskloom.evals.sources import module_rows, read_module_rows

        place = Path(path)
        if place.exists():
            return cls(name or place.resolve().stem, read_module_rows(place, Taskset))
        return cls(name or str(path).rpartition(".")[2], module_rows(str(path), Taskset))

    @classmethod
    def from_api(cls, name: str, version: int | None = None) -> Self:
        """A taskset of the server, by name or id; the newest version unless one is given. Errors of `domain.errors`."""
        from taskloom.evals.sources import fetch_rows

        info, found, rows = fetch_rows(name, version or 0)
        return cls(info.name, rows, id=info.id, version=found)

    def to_file(self, path: str | Path) -> Path:
        """Write .json, .jsonl, or .csv (slug, id, env and arguments alone: nothing reads it back)."""
        from taskloom.evals.sources import write_rows

        return write_rows(Path(path), self._tasks)

    # --- collection ---------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    def __contains__(self, slug: object) -> bool:
        return slug in self._places

    def __getitem__(self, slug: str) -> Task:
        place = self._places.get(slug)
        if place is None:
            raise KeyError(f"taskset {self.name!r} has no task {slug!r}{self._near(slug)}")
        return self._tasks[place]

    def __repr__(self) -> str:
        return f"Taskset({self.name!r}, {len(self)} tasks)"

    def items(self) -> Iterator[tuple[str, Task]]:
        """Slugs with their rows, in order."""
        return zip(self._places, self._tasks, strict=True)

    def filter(self, slugs: Iterable[str]) -> Self:
        """The rows with these slugs, in the order of this set; unknown ones are ignored."""
        wanted = _slugs(slugs)
        return self._some(task for slug, task in self.items() if slug in wanted)

    def exclude(self, slugs: Iterable[str]) -> Self:
        """The other rows."""
        unwanted = _slugs(slugs)
        return self._some(task for slug, task in self.items() if slug not in unwanted)

    def environment_names(self) -> list[str]:
        """The environments that its rows name, each once, in order."""
        return list(dict.fromkeys(task.env for task in self._tasks))

    def digest(self) -> str:
        """SHA-256 over the rows in their order: whether a resumed job has the same set."""
        whole = hashlib.sha256()
        for slug, task in self.items():
            whole.update(
                _encode([slug, task.env, task.id, task.args, *(getattr(task, name) for name in METADATA)])
            )
            whole.update(b"\n")
        return whole.hexdigest()

    def _some(self, tasks: Iterable[Task]) -> Self:
        return type(self)(self.name, tasks, id=self.id, version=self.version)

    def _near(self, slug: str) -> str:
        from difflib import get_close_matches

        near = get_close_matches(str(slug), list(self._places), n=NEAR) if len(self) <= SEARCHED else []
        return f"; near ones: {', '.join(near)}" if near else ""

    # --- running ------------------------------------------------------------------------------------------

    async def run(
        self,
        agent: Any,
        runtime: Any = None,
        group: int | None = None,
        max_concurrent: int | None = None,
        job: Job | None = None,
        *,
        limits: Limits | None = None,
        retries: int = 0,
        name: str = "",
        project: str = "",
        keep_traces: bool = True,
        progress: Progress | None = None,
        resume: str = "",
        spec: dict[str, Any] | None = None,
    ) -> Job:
        """Run every row `group` times under an agent; the job holds the graded runs, in the order of the rows.

        agent           an async callable that takes the run
        runtime         a provider, called with the row, for a fresh substrate for every run; None: what is known of
                        the rows decides, and a line on standard error says what (see `runtimes.choosing`)
        group           tries of each row; None: the job's when one is given, else 1
        max_concurrent  runs at a time, from provisioning to taking down; None: all, but at most
                        `engine.MOST_AT_ONCE`
        job             an open job to add to; a resumed one runs what is missing or failed alone
        limits          of one run; `max_steps`, `timeout_seconds`, `max_tokens` and `max_cost` of a row's `agent_config` win
        retries         further attempts of a run that failed for its infrastructure alone
        keep_traces     False: steps are recorded and then forgotten, for very large jobs
        progress        called with the job and every run that ended
        resume          id of a job of the server to go on with, instead of `job`
        spec            what the job keeps of how to run it again

        A failed run is data: it stands in the job with its `error` and the `boundary` it crossed. ValueError and
        TypeError tell of wrong calls, before anything runs. Cancelled, it takes every substrate down, ends the
        job as aborted and raises CancelledError.
        """
        import asyncio

        from taskloom.evals.engine import Plan, run_tasks
        from taskloom.evals.job import Job
        from taskloom.evals.runtimes.choosing import choose_runtime

        if resume and job is not None:
            raise ValueError("resume and job: expected one of them")
        if runtime is None:
            runtime = await asyncio.to_thread(choose_runtime, self._tasks, from_server=bool(self.id))
        plan = Plan(
            name=name or self.name,
            taskset=self.name,
            version=self.version,
            digest=self.digest,
            tasks=self._tasks,
            agent=agent,
            provider=runtime,
            group=group,
            max_concurrent=max_concurrent,
            limits=limits,
            retries=retries,
            project=project,
            keep_traces=keep_traces,
            progress=progress,
            spec=spec or {},
        )
        if not resume:
            return await run_tasks(plan, job)
        async with await Job.resume(resume) as again:
            return await run_tasks(plan, again)


def _slugs(slugs: Iterable[str]) -> frozenset[str]:
    return frozenset((slugs,)) if isinstance(slugs, str) else frozenset(slugs)
