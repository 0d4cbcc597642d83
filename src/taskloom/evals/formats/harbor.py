"""Harbor's task folders: read as rows, served by an environment module, and written from rows that hold as much.

    name/task.toml  instruction.md  environment/Dockerfile  tests/test.sh  solution/solve.sh

The tests of such a task stand in its image under /tests and leave their reward in /logs/verifier/reward.txt (or reward.json):
the environment has to be served inside that image (`DockerRuntime`), where `Trial` does what Harbor's verifier does.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskloom.evals.failures import EnvironmentFailure, GraderFailure
from taskloom.evals.formats.contract import an_object, fields_of, number_of, objects_of, plain
from taskloom.evals.formats.files import read_json
from taskloom.evals.graders.scores import as_subscore
from taskloom.evals.graders.shell import TIMEOUT, BashGrader
from taskloom.evals.results import EvaluationResult
from taskloom.evals.task import Task

TEMPLATE = "solve"
MOST_TEXT = 2**20  # bytes of an instruction, a script, a task.toml, a reward's file
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_MODULE = '''"""Serves the Harbor tasks beside this file; run it inside the image of each task (see docs, formats)."""

from pathlib import Path

from taskloom.evals import Environment
from taskloom.evals.formats.harbor import Trial

FOLDER = Path(__file__).parent
env = Environment({name!r})
env.workspace("/")


@env.template(id={template!r}, description="One of Harbor's tasks, by the name of its folder.")
async def solve(task: str):
    trial = Trial(FOLDER / task)
    yield trial.instruction
    yield await trial.grade()
'''


def read_harbor(path: Path | str, *, env: str = "") -> list[Task]:
    """The rows of a folder of tasks, or of one task, sorted by name. `env`: the folder's name when left out.

    args         `task`, the folder's name
    columns      what its metadata says, and `docker_image`, `cpus`, `memory_mb` where they are told
    agent_config `timeout_seconds`, where the agent's time is told
    """
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"{path}: expected a folder with Harbor tasks")
    if (path / "task.toml").is_file():
        return [_row(path, env or path.resolve().parent.name or "harbor")]
    folders = sorted(one for one in path.iterdir() if (one / "task.toml").is_file())
    if not folders:
        raise ValueError(f"{path}: expected folders with a task.toml each")
    return [_row(one, env or path.resolve().name or "harbor") for one in folders]


def write_environment(path: Path | str, *, env: str = "") -> Path:
    """Write `environment.py` into a folder of tasks, which serves them; its path. One that is there is not replaced."""
    path = Path(path)
    read_harbor(path)
    target = path / "environment.py"
    with target.open("x", encoding="utf-8") as file:
        file.write(_MODULE.format(name=env or path.resolve().name or "harbor", template=TEMPLATE))
    return target


def write_harbor(path: Path | str, tasks: Iterable[Task]) -> list[Path]:
    """A task folder for each row; their paths. Rows whose `args` hold the texts `instruction` and `test` (a shell script that
    writes the reward), and may hold `dockerfile` and `solution`; ValueError with the slug for others, before anything is written."""
    path, made = Path(path), [_parts(task) for task in tasks]
    for name, _ in made:
        if (path / name).exists():
            raise ValueError(f"{path / name} is there: expected a name that is free")
    for name, files in made:
        for relative, text in files.items():
            target = path / name / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            if target.suffix == ".sh":
                target.chmod(0o755)
    return [path / name for name, _ in made]


def _row(folder: Path, env: str) -> Task:
    config = _config(folder)
    _text(folder, "instruction.md")
    place, metadata = fields_of(config.get("environment")), fields_of(config.get("metadata"))
    told = {key: place[key] for key in ("docker_image", "cpus", "memory_mb", "gpus") if place.get(key) is not None}
    timeout = number_of(fields_of(config.get("agent")).get("timeout_sec"))
    columns = plain({**metadata, **told})
    return Task(
        env=env,
        id=TEMPLATE,
        args={"task": folder.resolve().name},
        slug=folder.resolve().name,
        columns=columns or None,
        agent_config={"timeout_seconds": timeout} if timeout > 0 else None,
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = tomllib.loads(_text(folder, "task.toml"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{folder.name}/task.toml: expected TOML, {error}") from None
    if objects_of(config.get("steps")):
        raise ValueError(f"{folder.name}/task.toml has several steps: expected a task of one")
    return config


def _text(folder: Path, name: str) -> str:
    path = folder / name
    # A link out of the folder would bring a file of this machine into a prompt.
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder.name}: expected a file {name} in it")
    if path.stat().st_size > MOST_TEXT:
        raise ValueError(f"{folder.name}/{name}: expected at most {MOST_TEXT} bytes")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{folder.name}/{name}: expected text in UTF-8") from None


def _parts(task: Task) -> tuple[str, dict[str, str]]:
    slug, args = task.slug or task.default_slug(), task.args
    if not _NAME.fullmatch(slug):
        raise ValueError(f"slug {slug!r}: expected a name that can be a folder's (letters, digits, . _ -)")
    for key in ("instruction", "test"):
        if not isinstance(args.get(key), str):
            raise ValueError(f"{slug} has no text `{key}` in its args: expected `instruction` and `test`")
    timeout = number_of((task.agent_config or {}).get("timeout_seconds"))
    settings = ['schema_version = "1.2"', "", "[metadata]"]
    settings += [
        f"{json.dumps(key)} = {json.dumps(value)}" for key, value in (task.columns or {}).items() if _simple(value)
    ]
    settings += ["", "[agent]", *([f"timeout_sec = {timeout}"] if timeout > 0 else []), "", "[environment]"]
    files = {
        "task.toml": "\n".join(settings) + "\n",
        "instruction.md": args["instruction"],
        "environment/Dockerfile": str(args.get("dockerfile") or "FROM python:3.12-slim\nWORKDIR /app\n"),
        "tests/test.sh": args["test"],
    }
    if args.get("solution"):
        files["solution/solve.sh"] = str(args["solution"])
    return slug, files


def _simple(value: Any) -> bool:
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


@dataclass
class Trial:
    """One task's prompt and its verifier. `root`: of the image; the tests find `TESTS_DIR` and `LOGS_DIR`, too.

    The tests are laid out only for grading, so that no agent reads them before.
    """

    folder: Path
    root: Path = Path("/")
    instruction: str = field(init=False)

    def __post_init__(self) -> None:
        try:
            self.instruction = _text(self.folder, "instruction.md")
            self._config = _config(self.folder)
        except ValueError as error:
            raise EnvironmentFailure(str(error)) from None

    async def grade(self) -> EvaluationResult:
        """Run tests/test.sh and read the reward that it leaves; GraderFailure when it leaves none, or runs out of time."""
        tests, logs = self.root / "tests", self.root / "logs" / "verifier"
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.folder / "tests", tests, dirs_exist_ok=True)
        verifier = fields_of(self._config.get("verifier"))
        workdir = fields_of(self._config.get("environment")).get("workdir")
        given = {str(key): os.path.expandvars(str(value)) for key, value in fields_of(verifier.get("env")).items()}
        shell = BashGrader(
            'bash "$TESTS_DIR/test.sh"',
            cwd=str(workdir) if workdir else None,
            env={**given, "TESTS_DIR": str(tests), "LOGS_DIR": str(logs)},
            timeout=number_of(verifier.get("timeout_sec"), TIMEOUT) or TIMEOUT,
            name="tests",
        )
        ran = await shell()
        if (ran.info or {}).get("timed_out"):
            raise GraderFailure(f"the tests of {self.folder.name} ran out of time after {shell.timeout:g} s")
        rewards = _read_rewards(self.folder.name, logs)
        reward = rewards.get("reward", sum(rewards.values()) / len(rewards))
        shown = as_subscore("tests", 1.0, (min(1.0, max(0.0, reward)), ran.info))
        return EvaluationResult(reward=reward, subscores=[shown], info={"rewards": rewards})


def _read_rewards(name: str, logs: Path) -> dict[str, float]:
    """By name; a single number is `reward`."""
    for file in ("reward.json", "reward.txt"):
        path = logs / file
        if path.is_file() and path.stat().st_size <= MOST_TEXT:
            try:
                value = read_json(path.read_bytes(), file)
                rewards = {"reward": value} if file.endswith(".txt") else an_object(value, file)
            except ValueError as error:
                raise GraderFailure(f"the tests of {name} left {error}") from None
            numbers = {key: number_of(one, math.nan) for key, one in rewards.items()}
            if numbers and not any(map(math.isnan, numbers.values())):
                return numbers
            raise GraderFailure(f"the tests of {name} left {value!r:.80} in {file}: expected finite numbers")
    raise GraderFailure(f"the tests of {name} left no reward: expected reward.txt or reward.json in {logs}")
