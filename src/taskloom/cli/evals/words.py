"""What `taskloom eval` is told in words: sources, agents, runtimes, limits. Each becomes the thing that is meant.

The words stay with the job, as its `spec`, so that `--resume` finds them; what they make is built anew.
"""

from __future__ import annotations

import sys
import traceback
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from taskloom.domain.errors import BadInput, NotFound, ServerAway, TaskloomError

if TYPE_CHECKING:
    from taskloom.evals.limits import Limits
    from taskloom.evals.taskset import Taskset

EXPECTED_AGENT = (
    "openai, openai-responses, anthropic or gemini (with --model), scripted:ANSWER, replay:JOB, FILE.py:NAME"
)
QUEUED = ("hosted", "leased")  # runtimes that a worker of a queue brings up
DEFAULT_QUEUE = "default"
EXPECTED_RUNTIME = "local, local:PATH, docker:IMAGE, tcp://HOST:PORT, hosted[:QUEUE] or leased[:QUEUE]"


class Wish(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One evaluation as it was asked for. `source` is a path, or the name or id of a taskset on the server."""

    source: str
    version: int = 0
    agent: str = ""
    model: str = ""
    runtime: str = ""
    environment: str = ""
    setup: str = ""
    secrets: tuple[str, ...] = ()
    group: int = 1
    max_concurrent: int = 0
    slugs: tuple[str, ...] = ()
    limit: int = 0
    run_timeout: float = 0.0
    agent_timeout: float = 0.0
    max_steps: int = 0
    max_tokens: int = 0
    max_cost: float = 0.0
    retries: int = 0
    name: str = ""
    project: str = ""
    trained_by: str = ""


def read_wish(spec: dict[str, Any]) -> Wish:
    """The words that a job was made with; BadInput for a job that a script made."""
    words = spec.get("command")
    if not isinstance(words, dict):
        raise BadInput(
            "this job was not made by `taskloom eval`: in its script, give `job=await Job.resume(ID)` to `run`"
        )
    try:
        return msgspec.convert(words, Wish)
    except msgspec.ValidationError as error:
        raise BadInput(f"the words that this job was made with cannot be read: {error}") from None


def whole_path(words: str, before: str = "", after: str = "") -> str:
    """The words with the path between `before` and `after` made absolute: a job is resumed from any folder."""
    try:
        path = Path(words)
        return f"{before}{path.resolve() if words and path.exists() else words}{after}"
    except OSError:  # longer than a path may be
        return f"{before}{words}{after}"


def whole_agent(words: str) -> str:
    path, colon, name = words.rpartition(":")
    return whole_path(path, after=f":{name}") if colon and path.endswith(".py") else words


def whole_runtime(words: str) -> str:
    kind, colon, path = words.partition(":")
    return whole_path(path, before="local:") if colon and kind == "local" else words


def script_of(wish: Wish) -> Path | None:
    """The Python file that a job's code is: of the tasks, else of the environment, else of the agent."""
    words = (wish.source, wish.environment, wish.runtime.removeprefix("local:"), wish.agent.rpartition(":")[0])
    return next((Path(one) for one in words if one.endswith(".py") and Path(one).is_file()), None)


def load_taskset(wish: Wish) -> Taskset:
    """The rows, without those that were not asked for."""
    taskset = _load(wish)
    if wish.slugs:
        unknown = [slug for slug in wish.slugs if slug not in taskset]
        if unknown:
            try:
                taskset[unknown[0]]
            except KeyError as error:
                raise NotFound(str(error.args[0])) from None
        taskset = taskset.filter(wish.slugs)
    if wish.limit:
        taskset = taskset.filter(slug for slug, _ in islice(taskset.items(), wish.limit))
    if not len(taskset):
        raise BadInput(f"{wish.source}: there is no task in it")
    return taskset


def _load(wish: Wish) -> Taskset:
    from taskloom.evals.taskset import Taskset

    path = Path(wish.source)
    if path.exists():
        if wish.version:
            raise BadInput(f"--version {wish.version} is of a taskset on the server, and {wish.source} is a file")
        try:
            return Taskset.from_file(path)
        except (ValueError, TypeError) as error:
            raise BadInput(str(error)) from None
        except (Exception, SystemExit) as error:  # code of the user's, which is executed to find its tasks
            raise BadInput(f"{path}: {_where(error)}{type(error).__name__}: {error}") from None
    if path.suffix or "/" in wish.source.strip("/") or wish.source.startswith("."):
        raise NotFound(f"{wish.source}: there is no such file or folder")
    try:
        return Taskset.from_api(wish.source, wish.version or None)
    except NotFound as error:
        where = f" ({error.message})" if wish.version else ""
        raise NotFound(
            f"{wish.source}: neither a file or folder here nor a taskset on the server{where}"
        ) from None
    except (BadInput, ServerAway) as error:
        raise BadInput(f"{wish.source}: there is no such file or folder; as a taskset: {error.message}") from None


def _where(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:  # it names its own place
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    return f"line {frames[-1].lineno} of {Path(frames[-1].filename).name}: " if frames else ""


def make_agent(words: str, model: str) -> Any:
    """The agent that `--agent` and `--model` name; BadInput for one that cannot be made."""
    from taskloom.evals.agents import parse_agent

    if not words:
        raise BadInput(f"an agent is needed: --agent with {EXPECTED_AGENT}")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)  # an agent's module may import what stands beside it, as a script's does
    try:
        return parse_agent(words, model or None)
    except TaskloomError:
        raise
    except (ValueError, TypeError) as error:
        raise BadInput(f"agent {words!r}: {error}") from None
    except (Exception, SystemExit) as error:  # code of the user's
        raise BadInput(f"agent {words!r}: {_where(error)}{type(error).__name__}: {error}") from None


def make_runtime(wish: Wish, taskset: Taskset) -> Any:
    """The provider that `--runtime` and `--environment` name; without words what is known of the rows decides."""
    kind, _, rest = wish.runtime.partition(":")
    if kind in {"tcp", "docker"} and wish.environment:
        raise BadInput(f"--environment: a {kind} runtime has its environment with it")
    if (wish.secrets or wish.setup) and kind not in QUEUED:
        raise BadInput(f"--secret and --setup are for workers: expected --runtime {' or '.join(QUEUED)}")
    try:
        provider = _make_runtime(wish, kind, rest, taskset)
    except ValueError as error:
        raise error if isinstance(error, BadInput) else BadInput(str(error)) from None
    if provider is None:
        raise BadInput(f"runtime {wish.runtime!r}: expected {EXPECTED_RUNTIME}")
    return provider


def _make_runtime(wish: Wish, kind: str, rest: str, taskset: Taskset) -> Any:
    source = wish.environment or None
    known = source is not None or all(task.source for task in taskset)
    if wish.runtime.startswith("tcp://"):
        from taskloom.evals.runtimes.contract import Runtime

        return Runtime(wish.runtime)
    if kind in {"", "local"} and (rest or source):
        from taskloom.evals.runtimes.local import LocalRuntime

        return LocalRuntime(rest or wish.environment)
    if kind in {"", "local"}:
        from taskloom.evals.runtimes.choosing import choose_runtime

        if known or (not kind and taskset.id):
            try:
                return choose_runtime(list(taskset), from_server=bool(taskset.id))
            except ValueError:
                raise _unknown(taskset) from None
        raise _unknown(taskset)
    if kind == "hosted" and not known:
        raise _unknown(taskset)
    if kind == "docker" and rest:
        from taskloom.evals.runtimes.container import DockerRuntime

        return DockerRuntime(rest)
    if kind == "hosted":
        from taskloom.evals.runtimes.hosted import HostedRuntime

        return HostedRuntime(rest or DEFAULT_QUEUE, source=source, setup=wish.setup, secrets=wish.secrets)
    if kind == "leased":
        from taskloom.evals.runtimes.leased import LeasedRuntime

        return LeasedRuntime(rest or DEFAULT_QUEUE, source, setup=wish.setup, secrets=wish.secrets)
    return None


def _unknown(taskset: Taskset) -> BadInput:
    names = ", ".join(taskset.environment_names()[:3])
    return BadInput(f"where the environment of these rows is ({names}) is not known: give --environment PATH")


def check_key(agent: Any, wish: Wish) -> None:
    """BadInput when each run would fail for want of a key; a run that is done elsewhere finds its key there."""
    from taskloom.evals.failures import AgentFailure

    check = getattr(agent, "check", None)
    if not callable(check) or wish.runtime.partition(":")[0] == "hosted":
        return
    try:
        check()
    except AgentFailure as error:
        raise BadInput(str(error)) from None


def make_limits(wish: Wish) -> Limits:
    from taskloom.evals.limits import Limits

    try:
        return Limits(
            run_timeout=wish.run_timeout or None,
            agent_timeout=wish.agent_timeout or None,
            max_steps=wish.max_steps or None,
            max_tokens=wish.max_tokens or None,
            max_cost=wish.max_cost or None,
        )
    except ValueError as error:
        raise BadInput(str(error)) from None
