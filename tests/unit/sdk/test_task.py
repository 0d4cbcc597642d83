"""`Task` against a real server, in this process: the seeds' examples of tasks, parameters, queries and moves."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.conftest import House

from taskloom import Task, TaskTypes
from taskloom.domain import task as words
from taskloom.domain.artifact import Artifact
from taskloom.domain.errors import BadInput, IllegalMove, NotFound
from taskloom.domain.parameters import Parameter
from taskloom.sdk import session as sessions
from taskloom.sdk.identity import new_id
from taskloom.wire.operations import GET_TASK
from taskloom.wire.records import ArtifactStored


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has no task before the test and none after it."""
    for name in ("TASKLOOM_TASK_ID", "TASKLOOM_LEASE", "TASKLOOM_OWNER", "TASKLOOM_JOURNAL", "TASKLOOM_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sessions.current, "seed", None)
    yield
    if sessions.current.session is not None:
        sessions.current.session.close()
    sessions.current.offline = False


@pytest.fixture
def server(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("TASKLOOM_URL", house.url)
    monkeypatch.setenv("TASKLOOM_API_KEY", house.key)
    yield house
    if sessions.current.session is not None:
        sessions.current.session.close()


def init(project: str = "examples", name: str = "a task", **more: Any) -> Task:
    """Without what watches the whole process: that is tested in processes of its own."""
    off = (
        "auto_connect_streams",
        "auto_resource_monitoring",
        "auto_connect_frameworks",
        "auto_connect_arg_parser",
    )
    return Task.init(project_name=project, task_name=name, **{**dict.fromkeys(off, False), **more})


def finished(name: str = "a task", project: str = "examples", **more: Any) -> Task:
    task = init(project, name, reuse_last_task_id=False, **more)
    task.close()
    return task


# --- beginning --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("project", "name", "said"),
    [
        ("ab", "a name", "project name 'ab'"),
        ("a project", "x", "task name 'x'"),
        ("a//b", "a name", "single slashes"),
    ],
)
def test_names_are_checked(project: str, name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        init(project, name)
    assert Task.current_task() is None


def test_a_type_is_one_of_the_seeds(server: House) -> None:
    with pytest.raises(BadInput, match="training, testing, inference"):
        init(task_type="dancing")
    for kind in TaskTypes:
        task = finished(task_type=kind.value)
        assert Task.get_task(task_id=task.id).task_type == kind


def test_a_task_reaches_the_server_with_what_was_said(server: House) -> None:
    task = Task.init(
        project_name="main_project/sub_project",
        task_name="test",
        task_type=None,
        tags=["one", "two"],
        reuse_last_task_id=True,
        continue_last_task=False,
        output_uri=None,
        auto_connect_arg_parser=True,
        auto_connect_frameworks={"matplotlib": True, "detect_repository": False},
        auto_resource_monitoring=False,
        auto_connect_streams={"stdout": False, "stderr": False, "logging": False},
    )
    assert Task.current_task() is task
    task.set_progress(0)
    task.set_progress(50)
    assert task.get_progress() == 50
    task.set_comment("a comment")
    task.close()
    assert Task.current_task() is None
    found = server.client.call(GET_TASK, task=task.id)
    assert (found.name, found.project, found.tags) == ("test", "main_project/sub_project", ("one", "two"))
    assert (found.status, found.progress, found.comment) == ("completed", 50.0, "a comment")
    assert "development" in found.system_tags


def test_init_again_gives_the_same_task_or_says_to_close_it(server: House) -> None:
    task = init("examples", "first")
    assert init("examples", "first") is task
    assert Task.init() is task
    with pytest.raises(BadInput, match=r"task\.close"):
        init("examples", "second")


def test_tasks_one_after_another_in_one_process(server: House) -> None:
    ids: list[str] = []
    for number in range(3):
        task = init("examples", "the same name")
        task.get_logger().report_scalar("loss", "train", number, iteration=number)
        task.close()
        ids.append(task.id)
    assert len(set(ids)) == 3
    for number, task_id in enumerate(ids):
        found = Task.get_task(task_id=task_id)
        assert found.get_reported_scalars() == {"loss": {"train": {"x": [number], "y": [float(number)]}}}


def test_progress_is_a_number_up_to_100(server: House) -> None:
    task = init()
    for wrong in (-1, 101, "half", True, float("nan")):
        with pytest.raises(BadInput, match="0 to 100"):
            task.set_progress(wrong)  # type: ignore[arg-type]


def test_reading_without_a_server_says_how_to_get_one() -> None:
    with pytest.raises(BadInput, match="taskloom up"):
        Task.get_task(task_id=new_id())


# --- reuse ------------------------------------------------------------------------------------------------


@pytest.fixture
def another_process(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What this process remembers of its own tasks is what a later process does not know."""

    def begin() -> None:
        monkeypatch.setattr(sessions.current, "closed_here", set[str]())

    return begin


def test_the_last_task_is_run_over(server: House, another_process: Any) -> None:
    first = init()
    first.get_logger().report_scalar("loss", "old", 1.0, iteration=1)
    first.set_parameters({"old": 1})
    first.close()
    another_process()
    second = init()
    assert second.id == first.id
    second.get_logger().report_scalar("loss", "new", 1.0, iteration=2)
    second.close()
    found = Task.get_task(task_id=first.id)
    assert list(found.get_reported_scalars()["loss"]) == ["new"]
    assert found.get_parameters() == {}


def test_a_task_with_artifacts_is_not_run_over(server: House, another_process: Any) -> None:
    first = init()
    sessions.current.session.record(ArtifactStored(artifact=Artifact("data", uri="file:///somewhere")))  # type: ignore[union-attr]
    first.close()
    another_process()
    assert init().id != first.id


def test_reuse_can_be_refused_limited_and_named(
    server: House, another_process: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    first = finished()
    another_process()
    second = finished()
    assert second.id != first.id
    another_process()
    monkeypatch.setenv("TASKLOOM_TASK_REUSE_HOURS", "0")
    third = init()
    assert third.id not in {first.id, second.id}
    third.close()
    another_process()
    fourth = init(reuse_last_task_id=first.id)
    assert fourth.id == first.id
    monkeypatch.setenv("TASKLOOM_TASK_REUSE_HOURS", "soon")
    fourth.close()
    another_process()
    sessions.current.settings_checked = False
    capfd.readouterr()
    fifth = init()
    assert fifth.id == fourth.id  # what cannot be read is left out: 72 hours
    fifth.close()
    told = capfd.readouterr().err
    assert told.count("TASKLOOM_TASK_REUSE_HOURS is 'soon': expected a number, 0 or more; it is left out") == 1


def test_a_task_whose_results_still_wait_is_not_run_over(another_process: Any) -> None:
    """There is no server: running it over would mix two runs on their way."""
    first = init()
    first.close()
    another_process()
    assert init().id != first.id


# --- continuing -------------------------------------------------------------------------------------------


def report(task: Task, *iterations: int) -> None:
    for iteration in iterations:
        task.get_logger().report_scalar("train", "loss", 1.0, iteration=iteration)


def xs(task: Task) -> list[int]:
    return Task.get_task(task_id=task.id).get_reported_scalars()["train"]["loss"]["x"]


def test_a_continued_task_goes_on_one_after_its_last_iteration(server: House) -> None:
    first = init()
    report(first, 0, 100)
    first.close()
    second = init(continue_last_task=True)
    assert second.id == first.id
    report(second, 0, 1)
    second.close()
    assert xs(first) == [0, 100, 101, 102]
    assert second.get_last_iteration() == 102
    assert Task.get_task(task_id=first.id).get_status() == "completed"


def test_a_task_is_continued_by_its_id(server: House) -> None:
    first = init(name="by its id")
    report(first, 7)
    first.close()
    second = init(name="another name", continue_last_task=first.id)
    assert second.id == first.id
    report(second, 0)  # where it ended is asked from the server: this name has no history here
    second.close()
    assert xs(first) == [7, 8]


@pytest.mark.parametrize(("offset", "expected"), [(0, [3, 3]), (10, [3, 13])])
def test_an_offset_is_given(server: House, offset: int, expected: list[int]) -> None:
    first = init()
    report(first, 3)
    first.close()
    second = init(continue_last_task=offset)
    assert second.id == first.id
    report(second, 3)
    second.close()
    assert xs(first) == expected


def test_an_offset_with_a_task_id(server: House) -> None:
    first = init(name="with an id")
    report(first, 3)
    first.close()
    second = init(name="another name", continue_last_task=100, reuse_last_task_id=first.id)
    report(second, 0)
    second.close()
    assert xs(first) == [3, 100]


def test_there_may_be_nothing_to_continue(server: House) -> None:
    task = init(continue_last_task=True)
    report(task, 0)
    task.close()
    assert xs(task) == [0]


def test_the_initial_iteration_is_added(server: House) -> None:
    task = init()
    task.set_initial_iteration(50)
    report(task, 1)
    task.close()
    assert xs(task) == [51]


# --- parameters -------------------------------------------------------------------------------------------


@pytest.fixture(params=["live", "draft"])
def task(request: pytest.FixtureRequest, server: House) -> Task:
    """The same calls on the task of this process and on one that does not run."""
    if request.param == "live":
        return init()
    return Task.create(project_name="examples", task_name="a draft")


def stored(task: Task) -> words.Task:
    task.flush(wait_for_uploads=True)
    return Task.get_task(task_id=task.id).data if task.data.status != "running" else _from_server(task)


def _from_server(task: Task) -> words.Task:
    return task._recorder.client().call(GET_TASK, task=task.id)


def test_parameters_are_replaced_and_added(task: Task) -> None:
    task.set_parameters({"Args/epochs": 7, "lr": 0.5})
    task.set_parameter(name="decay", value=0.001)
    assert task.get_parameters() == {"Args/epochs": "7", "General/lr": "0.5", "General/decay": "0.001"}
    task.set_parameters_as_dict({"my_args/lr": 0.3, "epochs": 10})
    assert task.get_parameter(name="Args/epochs") == "7"
    assert task.get_parameter(name="epochs") == "10"
    assert task.get_parameters(cast=True)["my_args/lr"] == 0.3
    assert task.get_parameters_as_dict()["my_args"] == {"lr": "0.3"}
    task.set_parameters({"only/this": True})
    assert task.get_parameters() == {"only/this": "True"}
    assert stored(task).parameters == {"only": {"this": Parameter("True", "bool")}}


def test_names_of_parameters_are_case_sensitive_and_may_be_missing(task: Task) -> None:
    task.set_parameters({"Args/LR": 1, "args/lr": 2})
    assert (task.get_parameter("Args/LR"), task.get_parameter("args/lr")) == ("1", "2")
    assert task.get_parameter("Args/lr") is None
    assert task.get_parameter("Args/lr", default=5) == 5
    assert task.delete_parameter("Args/LR")
    assert not task.delete_parameter("Args/LR")
    with pytest.raises(BadInput, match="section/name"):
        task.set_parameter("Args/", 1)


def test_a_parameter_has_a_description_and_a_type(task: Task) -> None:
    task.set_parameter("lr", "0.5", description="learning rate", value_type=float)
    assert stored(task).parameters == {"General": {"lr": Parameter("0.5", "float", "learning rate")}}
    assert task.get_parameter("lr", cast=True) == 0.5


def test_user_properties(task: Task) -> None:
    task.set_user_properties({"name": "backbone", "description": "network type", "value": "great"})
    task.set_user_properties(size=3, color={"value": "red", "type": "str"})
    task.set_user_properties([{"name": "first", "value": 1}, {"name": "second", "value": 2}])
    values = {"backbone": "great", "size": "3", "color": "red", "first": "1", "second": "2"}
    assert task.get_user_properties(value_only=True) == values
    assert task.get_user_properties()["backbone"]["description"] == "network type"
    task.delete_user_properties(["first"], [{"name": "second"}])
    assert set(stored(task).properties) == {"backbone", "size", "color"}


def test_tags_name_project_comment_and_archive(task: Task) -> None:
    task.set_tags(["a", "b"])
    task.add_tags("c")
    task.add_tags(["c", "d"])
    task.remove_tags(["a"])
    assert task.get_tags() == ["b", "c", "d"]
    task.set_name("another name")
    task.set_comment("why")
    task.move_to_project("examples/moved")
    assert not task.get_archived()
    task.set_archived(True)
    assert task.get_archived()
    task.set_archived(False)
    found = stored(task)
    assert (found.name, found.project, found.comment) == ("another name", "examples/moved", "why")
    assert found.tags == ("b", "c", "d")
    with pytest.raises(BadInput):
        task.set_name("x")


def test_configuration_objects(task: Task) -> None:
    task.set_configuration_object("net", config_text="layers: 3", config_type="yaml", description="the net")
    task.set_configuration_object("dictionary", config_dict={"a": [1, 2]})
    assert task.get_configuration_object("net") == "layers: 3"
    assert task.get_configuration_object_as_dict("dictionary") == {"a": [1, 2]}
    assert task.get_configuration_object("none") is None
    assert set(stored(task).configuration) == {"net", "dictionary"}


# --- connect ----------------------------------------------------------------------------------------------


class Person:
    species = "human"

    def __init__(self, name: str, age: int) -> None:
        self.name = name
        self.age = age
        self._hidden = 1

    def greet(self) -> str:
        return self.name

    @property
    def older(self) -> int:
        return self.age + 1


@dataclass(frozen=True)
class Frozen:
    lr: float = 0.5


class Options:
    width = 3
    deep: int = 2


def test_connected_objects_become_parameters(server: House) -> None:
    task = init()
    me = Person("Erik", 5)
    values: dict[str, Any] = {
        "epochs": 3,
        "lr": 0.4,
        "net": {"layers": [1, 2], "act": {"name": "relu"}},
        "none": None,
    }
    assert task.connect(me, name="person") is me
    assert task.connect(values) is values
    task.connect(Options, name="options")
    task.connect(Frozen(), name="frozen")
    task.connect(argparse.Namespace(batch=16))
    expected = {
        "person/species": "human",
        "person/name": "Erik",
        "person/age": "5",
        "General/epochs": "3",
        "General/lr": "0.4",
        "General/net/layers": "[1, 2]",
        "General/net/act/name": "relu",
        "General/none": "",
        "options/width": "3",
        "options/deep": "2",
        "frozen/lr": "0.5",
        "Args/batch": "16",
    }
    assert task.get_parameters() == expected
    values["lr"] = 0.1
    me.age = 6
    task.close()
    found = Task.get_task(task_id=task.id).get_parameters()
    assert found == {**expected, "General/lr": "0.1", "person/age": "6"}


def test_what_cannot_be_connected_is_told(server: House) -> None:
    task = init()
    for wrong in (3, "text", [1, 2], None):
        with pytest.raises(BadInput, match="expected a dictionary, an object or a class"):
            task.connect(wrong)
    with pytest.raises(BadInput, match="slash"):
        task.connect({"a": 1}, name="a/b")


def under_a_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **fields: Any) -> Path:
    """The environment that a worker gives (see wire.worker_protocol), for a task as it was edited."""
    document = words.Task(id=new_id(), name="edited", project="examples", status=words.Status.RUNNING, **fields)
    file = tmp_path / "task.msgpack"
    file.write_bytes(msgspec.msgpack.encode(document))
    folder = tmp_path / "attempt" / "journal" / document.id
    monkeypatch.setenv("TASKLOOM_TASK_ID", document.id)
    monkeypatch.setenv("TASKLOOM_TASK_FILE", str(file))
    monkeypatch.setenv("TASKLOOM_LEASE", "token")
    monkeypatch.setenv("TASKLOOM_JOURNAL", str(folder))
    return folder


def texts(**values: str) -> dict[str, Parameter]:
    return {name.replace("__", "/"): Parameter(value, "str") for name, value in values.items()}


def test_under_a_worker_connected_objects_get_the_edited_values(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parameters = {
        "General": texts(epochs="30", lr="1e-3", net__layers="[3, 4]", flag="false", none="7", shape="[1, 2]"),
        "person": texts(name="Ada", age="36"),
        "frozen": texts(lr="0.25"),
        "options": texts(width="9"),
    }
    folder = under_a_worker(monkeypatch, tmp_path, parameters=parameters)
    task = init("ignored", "also ignored")
    assert (task.name, task.project) == ("edited", "examples")
    values: dict[str, Any] = {
        "epochs": 3,
        "lr": 0.4,
        "net": {"layers": [1, 2]},
        "flag": True,
        "none": None,
        "shape": (5, 6),
        "new": "mine",
    }
    net = values["net"]
    same = task.connect(values)
    assert same is values
    assert values == {
        "epochs": 30,
        "lr": 0.001,
        "net": {"layers": [3, 4]},
        "flag": False,
        "none": 7,
        "shape": (1, 2),
        "new": "mine",
    }
    assert values["net"] is net
    me = task.connect(Person("Erik", 5), name="person")
    assert (me.name, me.age, me.species) == ("Ada", 36, "human")
    assert task.connect(Frozen(), name="frozen").lr == 0.25
    monkeypatch.setattr(Options, "width", 3)
    assert task.connect(Options, name="options").width == 9
    assert task.connect({}, name="person") == {"name": "Ada", "age": "36", "species": "human"}
    assert task.connect({"epochs": 1}, ignore_remote_overrides=True) == {"epochs": 1}
    assert task.get_parameters()["General/new"] == "mine"
    task.close()
    assert folder.exists()  # the worker ships it, not the script


@pytest.mark.parametrize(
    ("value", "text", "said"),
    [
        (3, "three", "a whole number"),
        (0.5, "fast", "a number"),
        (True, "maybe", "true or false"),
        ([1], "1;2", "a list"),
    ],
)
def test_under_a_worker_a_wrong_type_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: Any, text: str, said: str
) -> None:
    under_a_worker(monkeypatch, tmp_path, parameters={"General": texts(x=text)})
    task = init()
    with pytest.raises(BadInput, match=rf"parameter General/x: expected {said}"):
        task.connect({"x": value})


def test_configurations_are_recorded_and_come_back(
    server: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dictionary = {"value": 13.37, "dict": {"sub_value": "string"}, "list_of_ints": [1, 2, 3, 4]}
    file = tmp_path / "file.yaml"
    file.write_text("a: 1\n")
    task = init()
    assert task.connect_configuration(name="dictionary", configuration=dictionary) is dictionary
    assert task.connect_configuration(name="yaml file", configuration=str(file)) == str(file)
    with pytest.raises(BadInput, match="cannot be read"):
        task.connect_configuration(tmp_path / "none.yaml", name="none")
    recorded = stored(task).configuration
    assert recorded["yaml file"].value == "a: 1\n"
    task.close()

    edited = {
        "dictionary": words.ConfigurationObject('{"value": 1, "more": []}', "json"),
        "yaml file": words.ConfigurationObject("a: 2\n", "yaml"),
        "broken": words.ConfigurationObject("{", "json"),
    }
    under_a_worker(monkeypatch, tmp_path, configuration=edited)
    task = init()
    assert task.connect_configuration(dictionary, name="dictionary") is dictionary
    assert dictionary == {"value": 1, "more": []}
    path = task.connect_configuration(file, name="yaml file")
    assert isinstance(path, Path)
    assert (path.name, path.read_text(), file.read_text()) == ("file.yaml", "a: 2\n", "a: 1\n")
    with pytest.raises(BadInput, match="'broken' on the server is not valid JSON"):
        task.connect_configuration({"a": 1}, name="broken")
    assert task.connect_configuration({"a": 1}, name="new") == {"a": 1}


# --- making and finding -----------------------------------------------------------------------------------


def test_create_takes_everything_of_the_seed(server: House, tmp_path: Path) -> None:
    task = Task.create(
        project_name="example",
        task_name="task template",
        task_type="testing",
        repo="https://git.example/repo.git",
        branch="master",
        commit="abc",
        script="examples/reporting/html_reporting.py",
        working_directory=".",
        packages=["numpy==1.26.4", "pandas"],
        docker="python:3.11",
        docker_args="--ipc=host",
        docker_bash_setup_script=["apt-get update", "true"],
        argparse_args=[("lr", 0.1), ("--epochs", 3)],
        add_task_init_call=True,
    )
    found = task.data
    assert (task.get_status(), found.type, found.execution.repository) == (
        "draft",
        "testing",
        "https://git.example/repo.git",
    )
    assert found.execution.entry_point == "examples/reporting/html_reporting.py"
    assert found.execution.packages == "numpy==1.26.4\npandas\n"
    assert (found.execution.image, found.execution.setup) == ("python:3.11", "apt-get update\ntrue")
    assert task.get_parameters(cast=True) == {"Args/lr": 0.1, "Args/epochs": 3}

    script = tmp_path / "single.py"
    script.write_text("print(1)\n")
    single = Task.create(project_name="example", task_name="single", script=str(script), docker=None)
    assert (single.data.execution.entry_point, single.data.execution.diff) == ("single.py", "print(1)\n")
    module = Task.create(project_name="example", task_name="module", module="pkg.train")
    assert module.data.execution.entry_point == "-m pkg.train"
    with pytest.raises(BadInput, match="cannot be read"):
        Task.create(project_name="example", task_name="none", script=str(tmp_path / "none.py"))
    with pytest.raises(BadInput):
        Task.create(project_name="ex", task_name="none")


def test_get_task_by_id_and_by_names_takes_the_last_modified(server: House) -> None:
    first = Task.create(project_name="examples", task_name="artifacts")
    second = Task.create(project_name="examples", task_name="artifacts")
    Task.create(project_name="examples", task_name="artifacts more")
    assert Task.get_task(task_id=first.id).name == "artifacts"
    assert Task.get_task(project_name="examples", task_name="artifacts").id == second.id
    server.clock.advance(10)
    first.set_comment("touched")
    assert Task.get_task(project_name="examples", task_name="artifacts").id == first.id
    with pytest.raises(NotFound, match="no task"):
        Task.get_task(task_id=new_id())
    with pytest.raises(NotFound, match="'nothing'"):
        Task.get_task(project_name="examples", task_name="nothing")
    with pytest.raises(BadInput, match="task_id"):
        Task.get_task()


def names(tasks: list[Task]) -> set[str]:
    return {task.name for task in tasks}


def test_get_tasks_by_ids_names_and_filter(server: House) -> None:
    done = finished("done one", tags=["included_tag"])
    finished("done two", tags=["included_tag", "excluded_tag"])
    draft = Task.create(project_name="examples", task_name="a draft", task_type="testing", tags=["included_tag"])
    draft.set_comment("find this text")
    old = Task.create(project_name="other", task_name="archived one")
    old.set_archived(True)
    task_filter = {
        "tags": ["included_tag", "-excluded_tag"],
        "system_tags": ["-archived"],
        "status": ["completed", "published"],
        "type": ["training"],
        "search_text": "done",
    }
    assert names(Task.get_tasks(task_filter=task_filter)) == {"done one"}
    assert names(Task.get_tasks(task_ids=[done.id, draft.id])) == {"done one", "a draft"}
    assert Task.get_tasks(task_ids=[]) == []
    assert names(Task.get_tasks(project_name="examples", task_name="done")) == {"done one", "done two"}
    assert names(Task.get_tasks(project_name=["examples", "other"])) == {"done one", "done two", "a draft", "archived one"}  # fmt: skip
    assert names(Task.get_tasks(project_name="other", allow_archived=False)) == set()
    assert names(Task.get_tasks(task_filter={"search_text": "find this"})) == {"a draft"}
    assert Task.query_tasks(task_filter={"type": ["testing"]}) == [draft.id]
    with pytest.raises(BadInput, match="expected some of"):
        Task.get_tasks(task_filter={"tgas": ["x"]})
    with pytest.raises(BadInput, match="expected one of"):
        Task.get_tasks(task_filter={"status": ["dancing"]})


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (["a", "b", "c"], {"task a", "task b", "task c", "task ab", "task cd", "task abc", "task acd"}),
        (["__$and", "a", "b", "c"], {"task abc"}),
        (["__$not", "a", "b", "__$not", "c"], {"task b"}),
        (["-a", "b", "-c"], {"task b"}),
        (["a", "b", "__$and", "c", "d"], {"task a", "task b", "task ab", "task abc", "task cd", "task acd"}),
        (["__$and", "__$or", "a", "b", "__$and", "c", "d"], {"task acd"}),
    ],
)
def test_the_tag_language_of_the_seed(server: House, query: list[str], expected: set[str]) -> None:
    for tags in ("a", "b", "c", "ab", "cd", "abc", "acd"):
        Task.create(project_name="examples", task_name=f"task {tags}", tags=list(tags))
    assert names(Task.get_tasks(tags=query)) == expected


# --- clones and moves -------------------------------------------------------------------------------------


def test_a_clone_is_a_draft_without_results(server: House) -> None:
    task = init("examples", "original task", tags=["kept"])
    task.set_parameters({"lr": 0.5})
    report(task, 1, 2)
    task.close()
    cloned = Task.clone(source_task=task)
    assert (cloned.name, cloned.project, cloned.get_status()) == ("Clone Of original task", "examples", "draft")
    assert cloned.parent == task.id
    assert cloned.get_parameters() == {"General/lr": "0.5"}
    assert cloned.get_reported_scalars() == {}
    named = Task.clone(source_task=task.id, name="newly created task", comment="why", project="elsewhere")
    assert (named.name, named.comment, named.project) == ("newly created task", "why", "elsewhere")


def test_the_running_task_can_be_cloned(server: House) -> None:
    task = init()
    task.set_parameters({"lr": 0.5})
    assert Task.clone().get_parameters() == {"General/lr": "0.5"}


def test_a_task_is_queued_and_taken_back(server: House) -> None:
    from taskloom.wire.messages import QueueCreate
    from taskloom.wire.operations import CREATE_QUEUE

    server.client.call(CREATE_QUEUE, QueueCreate(name="gpus"))
    task = Task.create(project_name="examples", task_name="to be queued")
    assert Task.enqueue(task=task, queue_name="gpus", queue_id=None) is task
    assert task.get_status() == "pending"
    with pytest.raises(IllegalMove, match="pending"):
        Task.enqueue(task, queue_name="gpus")
    Task.dequeue(task.id)
    assert task.get_status() == "draft"
    Task.enqueue(task, queue_name="gpus")
    task.abort("not now")
    assert task.get_status() == "aborted"


def test_a_task_is_reset_published_and_deleted(server: House) -> None:
    task = finished()
    again = Task.get_task(task_id=task.id)
    again.reset()
    assert again.get_status() == "draft"
    again.mark_started()
    assert again.get_status() == "running"
    again.mark_failed(status_reason="no luck")
    assert (again.get_status(), again.data.status_reason) == ("failed", "no luck")
    assert again.publish()
    assert not again.publish(ignore_errors=True)
    with pytest.raises(IllegalMove):
        again.reset()
    gone = Task.create(project_name="examples", task_name="to be deleted")
    assert gone.delete()
    assert not gone.delete()
    with pytest.raises(NotFound):
        Task.get_task(task_id=gone.id)


def test_the_live_task_can_be_ended_with_a_status(server: House) -> None:
    task = init()
    task.mark_failed(status_reason="diverged", status_message="loss is NaN")
    found = Task.get_task(task_id=task.id)
    assert (found.get_status(), found.data.status_reason) == ("failed", "diverged")
    with pytest.raises(RuntimeError, match="diverged"):
        found.wait_for_status()
    found.wait_for_status(["failed"])


def test_results_are_read_back(server: House) -> None:
    task = init()
    logger = task.get_logger()
    for iteration, value in enumerate([3.0, 1.0, float("nan"), 2.0]):
        logger.report_scalar("loss", "train", value, iteration=iteration)
    logger.report_single_value("accuracy", 0.9)
    logger.report_text("a text", print_console=False)
    assert task.get_last_iteration() == 3
    last = task.get_last_scalar_metrics()["loss"]["train"]
    assert (last["last"], last["min"], last["max"]) == (2.0, 1.0, 3.0)
    task.close()
    found = Task.get_task(task_id=task.id)
    series = found.get_reported_scalars(x_axis="timestamp")["loss"]["train"]
    assert series["y"][0] == 3.0
    assert abs(series["x"][0] - time.time()) < 600
    assert found.get_reported_single_value("accuracy") == 0.9
    assert found.get_reported_console_output(5) == ["a text\n"]
    assert found.get_last_iteration() == 3
    assert found.get_output_log_web_page() == f"{server.url}/api/tasks/{task.id}"


def test_reports_to_a_task_that_does_not_run_here(server: House) -> None:
    draft = Task.create(project_name="examples", task_name="filled from outside")
    draft.mark_started()
    report(draft, 1, 2, 3)
    draft.close()
    assert xs(draft) == [1, 2, 3]
    draft.mark_completed()
    assert draft.get_status() == "completed"
