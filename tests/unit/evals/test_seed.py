"""The constructors and methods that the seed names, as it names them."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from taskloom.evals import Job, Runtime, Task, Taskset


def test_a_task_has_the_seeds_fields() -> None:
    task = Task(
        env="arithmetic",
        id="add",
        args={"a": 1},
        slug="one",
        columns={"level": "easy"},
        validation=[{"name": "tool"}],
        agent_config={"max_steps": 50},
    )

    assert set(Task.model_fields) == {"env", "id", "args", "slug", "columns", "validation", "agent_config"}
    assert Task.model_validate(task.model_dump()) == task
    assert Task.model_validate_json(task.model_dump_json()) == task


def test_the_portable_entry_holds_what_was_said() -> None:
    assert Task(env="arithmetic", id="add", args={"a": 1}, slug="one").model_dump() == {
        "env": "arithmetic",
        "id": "add",
        "args": {"a": 1},
        "slug": "one",
    }


def test_a_default_slug_is_the_id_and_a_digest_of_the_arguments() -> None:
    assert Task(env="e", id="add").default_slug() == "add"
    assert Task(env="e", id="add", args={"b": 2, "a": 1}).default_slug() == "add-1744f53e"
    assert Task(env="e", id="add", args={"a": 1, "b": 2}).slug == "add-1744f53e"


def test_a_row_without_environment_or_id_is_refused() -> None:
    for row in ({"env": "", "id": "x"}, {"env": "e"}, {"env": "e", "id": "x", "args": []}):
        with pytest.raises(ValidationError):
            Task.model_validate(row)


def test_a_taskset_is_a_named_and_ordered_collection() -> None:
    tasks = [Task(env="e", id=name) for name in "cab"]
    taskset = Taskset("letters", tasks)

    assert (taskset.name, len(taskset), list(taskset)) == ("letters", 3, tasks)
    assert taskset["a"] is tasks[1]
    assert [task.id for task in taskset.filter(["b", "c", "unknown"])] == ["c", "b"]
    assert [task.id for task in taskset.exclude(["b"])] == ["c", "a"]
    assert dict(taskset.items()) == {task.id: task for task in tasks}


def test_tasksets_come_from_files_and_go_to_files(tmp_path: Path) -> None:
    taskset = Taskset("letters", [Task(env="e", id=name, args={"n": 1}) for name in "cab"])
    for name in ("rows.json", "rows.jsonl"):
        written = taskset.to_file(tmp_path / name)
        read = Taskset.from_file(written)
        assert (read.name, list(read)) == ("rows", list(taskset))
    assert json.loads((tmp_path / "rows.json").read_text())[0]["id"] == "c"


def test_a_module_gives_its_public_tasks(tmp_path: Path) -> None:
    source = tmp_path / "rows.py"
    source.write_text(
        "from taskloom.evals import Task\none = Task(env='e', id='one')\n_two = Task(env='e', id='two')\n"
    )

    assert [task.id for task in Taskset.from_module(source)] == ["one"]
    assert [task.id for task in Taskset.from_file(source)] == ["one"]


def test_running_takes_the_seeds_arguments() -> None:
    for method in (Taskset.run, Task.run):
        names = list(inspect.signature(method).parameters)
        assert names[1:6] == ["agent", "runtime", "group", "max_concurrent", "job"]
    assert list(inspect.signature(Job.start).parameters)[:2] == ["name", "group"]
    assert inspect.signature(Job.start).parameters["group"].default == 1
    for name in ("id", "name", "runs", "group", "reward"):
        assert isinstance(getattr(Job, name), property)
    assert inspect.iscoroutinefunction(Task.run)


def test_a_runtime_is_an_address() -> None:
    assert Runtime("tcp://127.0.0.1:8765").url == "tcp://127.0.0.1:8765"
    assert callable(Runtime("tcp://127.0.0.1:8765"))
    for url in ("tcp://", "tcp://127.0.0.1", "http://127.0.0.1:8765", "tcp://[", "tcp://h:x"):
        with pytest.raises(ValueError, match="expected tcp://HOST:PORT"):
            Runtime(url)
