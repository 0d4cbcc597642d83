"""The life of tasks in real scripts: what a clearml script does to its task is what our own API tells of it."""

from __future__ import annotations

import json
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
from tests.clearml.conftest import ClearML, finish
from tests.conftest import House

from taskloom.domain.status import Status
from taskloom.domain.task import Task as OurTask
from taskloom.wire.messages import ModelQuery, MoveRequest, QueueCreate, TaskQuery
from taskloom.wire.operations import (
    ABORT_TASK,
    BLOB_STATUS,
    CREATE_QUEUE,
    GET_QUEUE,
    GET_TASK,
    QUERY_MODELS,
    QUERY_TASKS,
)

ClearMLOf = Callable[[House], ClearML]


def read(house: House, task: str) -> OurTask:
    return house.client.call(GET_TASK, task=task)


EVERYTHING = """
import argparse, enum
from clearml import Task

class Colour(enum.Enum):
    red = "red"
    blue = "blue"

task = Task.init(project_name="lives/of tasks", task_name="everything", task_type="testing",
                 tags=["one"], output_uri=None)
print("id=" + task.id)
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3, help="how often")
parser.add_argument("--name", default="net")
args = parser.parse_args(["--epochs", "5"])
options = {"rate": 0.25, "deep": {"layers": [1, 2], "flag": True}, "none": None, "colour": Colour.red}
options = task.connect(options)
options["late"] = 7
class Settings:
    width = 64
    label = "wide"
task.connect(Settings, name="Settings")
config = task.connect_configuration({"a": {"b": [1, 2.5]}, "c": None}, name="a dict")
open("settings.yaml", "w").write("model: small\\nsteps: 3\\n")
path = task.connect_configuration("settings.yaml", name="a file", description="of steps")
task.set_user_properties(owner="me", level={"value": 3, "type": "int", "description": "how high"})
task.set_parameters_as_dict({"Extra": {"size": 12}, "plain": "x"})
task.set_parameter("Extra/more", 1.5, description="more of it", value_type=float)
assert task.get_parameter("Extra/more", cast=True) == 1.5
assert task.get_parameters()["Args/epochs"] == "5"
task.delete_parameter("Extra/size", force=True)
task.set_progress(40)
assert task.get_progress() == 40
task.add_tags(["two", "three"])
task.set_comment("what it is for")
task.set_name("everything, renamed")
task.set_model_label_enumeration({"cat": 1, "dog": 2})
task.set_base_docker("python:3.11", docker_arguments=["--ipc=host", "-e A=1"], docker_setup_bash_script=["echo a", "echo b"])
task.get_logger().report_scalar("loss", "train", 0.5, 1)
task.get_logger().report_scalar("loss", "train", 0.25, 2)
task.get_logger().report_text("a line")
task.reload()
assert task.get_labels_enumeration() == {"cat": 1, "dog": 2}
assert task.get_user_properties()["level"]["value"] == "3"
assert task.get_user_properties(value_only=True)["owner"] == "me"
assert task.get_configuration_object_as_dict("a dict") == {"a": {"b": [1, 2.5]}, "c": None}
assert task.get_configuration_object("a file").startswith("model: small")
assert task.get_base_docker() == "python:3.11 --ipc=host -e A=1"
assert task.get_initial_iteration() == 0
task.flush(wait_for_uploads=True)
task.close()
again = Task.get_task(task_id=task.id)
assert again.get_status() == "completed", again.get_status()
assert again.get_last_iteration() == 2
print("last=" + repr(again.get_last_scalar_metrics()["loss"]["train"]))
print("script=" + again.data.script.entry_point)
"""


def test_all_that_a_script_says_of_its_task_arrives(clearml: ClearML) -> None:
    ran = clearml.run(EVERYTHING).ok()
    task = read(clearml.house, ran.said("id"))
    assert (task.name, task.project, task.type.value) == ("everything, renamed", "lives/of tasks", "testing")
    assert (task.status, task.comment, task.progress) == (
        Status.COMPLETED,
        "what it is for",
        100,
    )  # the client sets it at the end
    assert set(task.tags) == {"one", "two", "three"}
    assert task.system_tags == ("development",)
    assert task.completed >= task.started >= task.created > 0
    flat = {f"{s}/{n}": (p.value, p.type) for s, names in task.parameters.items() for n, p in names.items()}
    assert flat["Args/epochs"] == ("5", "int")
    assert task.parameters["Args"]["epochs"].description == "how often"
    assert flat["General/rate"] == ("0.25", "float")
    assert flat["General/deep/layers"] == ("[1, 2]", "list/int")
    assert flat["General/late"] == ("7", "int")
    assert flat["Settings/width"] == ("64", "int")
    assert flat["Extra/more"] == ("1.5", "float")
    assert "Extra/size" not in flat
    assert task.configuration["a file"].value == "model: small\nsteps: 3\n"
    assert task.configuration["a file"].description == "of steps"
    assert task.properties["owner"].value == "me"
    assert (task.properties["level"].type, task.properties["level"].description) == ("int", "how high")
    execution = task.execution
    assert (execution.image, execution.image_arguments) == ("python:3.11", "--ipc=host -e A=1")
    assert execution.setup == "echo a\necho b"
    assert execution.entry_point == "script.py"
    assert execution.python == "3.11"
    assert "clearml" in execution.packages
    assert "Task.init" in execution.diff
    assert execution.foreign["execution"]["model_labels"] == {"cat": 1, "dog": 2}
    assert "progress" not in task.runtime
    last = next(s for s in task.metrics if s.title == "loss")
    assert (last.last, last.last_iteration, last.max) == (0.25, 2, 0.5)
    told = ran.said("last")
    assert "0.25" in told
    assert "0.5" in told


# --- how runs end -----------------------------------------------------------------------------------------

QUICK = "sdk { development { worker { report_period_sec: 1, ping_period_sec: 1 } } }"  # how often it looks


def test_a_script_that_raises_has_failed_and_one_that_says_so_is_stopped(clearml: ClearML) -> None:
    failing = clearml.run(
        """
        from clearml import Task
        task = Task.init(project_name="lives", task_name="raising", auto_connect_frameworks=False)
        print("id=" + task.id, flush=True)
        raise RuntimeError("it broke")
        """
    )
    assert failing.code == 1
    task = read(clearml.house, failing.said("id"))
    assert task.status is Status.FAILED
    assert "it broke" in task.status_reason
    assert task.completed >= task.started
    stopping = clearml.run(
        """
        from clearml import Task
        task = Task.create(project_name="lives", task_name="stopping")
        print("id=" + task.id, flush=True)
        task.mark_started()
        task.mark_stopped(status_message="enough")
        """
    )
    task = read(clearml.house, stopping.said("id"))
    assert (task.status, task.status_message) == (Status.ABORTED, "enough")


def test_a_running_script_is_aborted_from_our_side(clearml: ClearML, eventually: Callable[..., None]) -> None:
    (clearml.folder / "clearml.conf").write_text(QUICK)
    running = clearml.start(
        """
        import time
        from clearml import Task
        task = Task.init(project_name="lives", task_name="endless", auto_connect_frameworks=False)
        open("id.txt", "w").write(task.id)
        while True:
            task.get_logger().report_scalar("a", "b", 1.0, 1)
            time.sleep(0.2)
        """
    )
    eventually(lambda: (clearml.folder / "id.txt").exists() and (clearml.folder / "id.txt").read_text())
    task = (clearml.folder / "id.txt").read_text()
    clearml.house.client.call(ABORT_TASK, MoveRequest(reason="by a person"), task=task)
    ran = finish(running)
    assert ran.code != 0
    assert "USER ABORTED" in ran.out + ran.err
    assert read(clearml.house, task).status is Status.ABORTED


AGAIN = """
import sys, time
from clearml import Task
task = Task.init(project_name="lives", task_name="again", auto_connect_frameworks=False,
                 continue_last_task=sys.argv[1] == "continue")
print("id=" + task.id)
open("id.txt", "w").write(task.id)
print("initial=%d" % task.get_initial_iteration())
task.connect({"how": sys.argv[1]})
for i in range(3):
    task.get_logger().report_scalar("loss", sys.argv[1], float(i), i)
task.flush(wait_for_uploads=True)
if sys.argv[1] == "killed":
    open("ready.txt", "w").write("yes")
    time.sleep(600)
"""


def test_a_task_is_used_again_or_continued(clearml: ClearML, eventually: Callable[..., None]) -> None:
    killed = clearml.start(AGAIN, "killed")
    eventually((clearml.folder / "ready.txt").exists)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    task = (clearml.folder / "id.txt").read_text()
    assert read(clearml.house, task).status is Status.RUNNING, "nobody told that it is gone"
    again = clearml.run(AGAIN, "again").ok()
    assert again.said("id") == task
    found = read(clearml.house, task)
    assert found.status is Status.COMPLETED
    assert {s.series for s in found.metrics if s.title == "loss"} == {"again"}
    assert found.parameters["General"]["how"].value == "again"
    assert found.last_iteration == 2
    on = clearml.run(AGAIN, "continue").ok()
    assert on.said("id") == task
    assert on.said("initial") == "3"
    found = read(clearml.house, task)
    assert found.status is Status.COMPLETED
    assert {s.series for s in found.metrics if s.title == "loss"} == {"again", "continue"}
    assert found.last_iteration == 5


# --- tasks in the hands of other scripts --------------------------------------------------------------------

MANAGED = """
from clearml import Task
base = Task.create(project_name="managed", task_name="base", task_type="training",
                   repo="https://example.com/some/repo.git", branch="main", commit="a" * 40,
                   script="train/main.py", working_directory=".", packages=["numpy==1.26.4", "attrs"],
                   docker="python:3.11", docker_args="--ipc=host", docker_bash_setup_script="echo hi",
                   argparse_args=[("lr", "0.1"), ("deep.er", "2")], add_task_init_call=False)
print("base=" + base.id)
assert base.get_status() == "created"
clone = Task.clone(base, name="a clone", comment="why", parent=base.id)
print("clone=" + clone.id)
assert clone.data.script.requirements["pip"].split() == ["numpy==1.26.4", "attrs", "clearml"]
clone.set_parameters({"Args/lr": 0.2, "General/x": "y"})
clone.set_configuration_object("net", config_dict={"layers": 2})
clone.set_system_tags(["a_tag"])
Task.enqueue(clone, queue_name="some queue")
assert clone.get_status() == "queued"
try:
    Task.enqueue(clone, queue_name="some queue")
    print("twice=allowed")
except Exception as error:
    print("twice=" + str(error).split("<")[1].split(":")[0])
told = Task.dequeue(clone)
assert told.dequeued == 1
assert clone.get_status() == "created"
clone.set_parent(None)
moved = clone.move_to_project(new_project_name="managed/elsewhere")
assert moved
clone.set_tags(["x", "y"])
data = base.export_task()
print("exported=" + data["script"]["repository"])
data["name"] = "an import"
imported = Task.import_task(data)
print("imported=" + imported.id)
assert imported.data.container["image"] == "python:3.11"
changed = imported.export_task()
changed["comment"] = "updated"
changed["hyperparams"]["Args"]["lr"]["value"] = "0.7"
assert imported.update_task(changed)
done = Task.clone(base, name="to publish")
print("done=" + done.id)
done.mark_started(force=True)
done.mark_completed(force=True)
done.publish()
assert done.get_status() == "published"
done.set_comment("still editable")
done.set_archived(True)
assert done.get_archived()
gone = Task.clone(base, name="to delete")
print("gone=" + gone.id)
gone.mark_started()
gone.mark_failed(status_reason="of course", force=True)
assert gone.delete(raise_on_error=True)
try:
    Task.get_task(task_id=gone.id)
    print("found=yes")
except ValueError:
    print("found=no")
once_more = Task.clone(base, name="reset")
once_more.mark_started()
once_more.get_logger().report_scalar("t", "s", 1.0, 1)
once_more.flush(wait_for_uploads=True)
once_more.mark_stopped(force=True)
once_more.reset(set_started_on_success=False, force=True)
print("reset=" + once_more.id)
assert [t.name for t in Task.get_tasks(project_name="managed", task_name="base")] == ["base"]
assert Task.get_task(project_name="managed/elsewhere", task_name="a clone").id == clone.id
"""


def test_tasks_are_made_cloned_queued_moved_published_and_deleted(clearml: ClearML) -> None:
    house = clearml.house
    house.client.call(CREATE_QUEUE, QueueCreate(name="some queue"))
    ran = clearml.run(MANAGED).ok()
    base = read(house, ran.said("base"))
    execution = base.execution
    assert (execution.repository, execution.branch) == ("https://example.com/some/repo.git", "main")
    assert (execution.commit, execution.entry_point) == ("a" * 40, "train/main.py")
    assert execution.working_dir == "."
    assert execution.packages.split() == ["numpy==1.26.4", "attrs", "clearml"]
    assert (execution.image, execution.image_arguments) == ("python:3.11", "--ipc=host")
    assert execution.setup == "echo hi"
    assert base.parameters["Args"]["deep.er"].value == "2"
    assert (base.status, base.system_tags) == (Status.DRAFT, ("development",))
    clone = read(house, ran.said("clone"))
    assert (clone.name, clone.comment, clone.project) == ("a clone", "why", "managed/elsewhere")
    assert clone.execution == base.execution
    assert clone.parameters["Args"]["lr"].value == "0.2"
    assert "layers" in clone.configuration["net"].value
    assert (clone.tags, clone.system_tags) == (("x", "y"), ("a_tag",))
    assert ran.said("twice") == "400/706"
    assert house.client.call(GET_QUEUE, queue="some queue").entries == []
    imported = read(house, ran.said("imported"))
    assert (imported.name, imported.comment, imported.project) == ("an import", "updated", "managed")
    assert imported.execution.repository == execution.repository
    assert imported.parameters["Args"]["lr"].value == "0.7"
    done = read(house, ran.said("done"))
    assert (done.status, done.comment) == (Status.PUBLISHED, "still editable")
    assert "archived" in done.system_tags
    assert ran.said("found") == "no"
    everything = house.client.call(QUERY_TASKS, TaskQuery(hidden=True)).tasks
    assert ran.said("gone") not in {task.id for task in everything}
    draft = read(house, ran.said("reset"))
    assert (draft.status, draft.metrics, draft.started) == (Status.DRAFT, (), 0)


STORED = """
import hashlib
from clearml import Task
task = Task.init(project_name="managed", task_name="with bytes", auto_connect_frameworks=False)
print("id=" + task.id)
task.upload_artifact("numbers", {"only": "here"}, wait_on_upload=True)
open("picture.png", "wb").write(b"no real picture")
task.get_logger().report_image("shown", "here", iteration=1, local_path="picture.png")
open("weights.bin", "wb").write(b"no real weights")
task.update_output_model("weights.bin", model_name="some weights")
task.flush(wait_for_uploads=True)
url = task.artifacts["numbers"].url
local = task.artifacts["numbers"].get_local_copy()
print("digest=" + hashlib.sha256(open(local, "rb").read()).hexdigest())
task.close()
print("url=" + url)
task = Task.get_task(task_id=task.id)
assert task.models["output"][0].name == "some weights"
assert task.delete(delete_artifacts_and_models=True, raise_on_error=True)
"""


def test_deleting_a_task_deletes_what_it_stored(clearml: ClearML) -> None:
    house = clearml.house
    ran = clearml.run(STORED).ok()
    assert house.client.call(QUERY_TASKS, TaskQuery(hidden=True)).tasks == []
    assert house.client.call(QUERY_MODELS, ModelQuery()).models == []
    assert not house.client.call(BLOB_STATUS, digest=ran.said("digest")).complete
    answer = httpx.get(ran.said("url"), headers={"authorization": f"Bearer {house.key}"})
    assert answer.status_code == 404


def test_a_script_hands_itself_to_a_queue_and_leaves(clearml: ClearML) -> None:
    house = clearml.house
    ran = clearml.run(
        """
        from clearml import Task
        task = Task.init(project_name="lives", task_name="remote", auto_connect_frameworks=False)
        print("id=" + task.id, flush=True)
        task.connect({"rate": 0.5})
        task.execute_remotely(queue_name="default", exit_process=True)
        print("here=yes")
        """
    ).ok()
    assert "here=yes" not in ran.out
    task = read(house, ran.said("id"))
    assert task.status is Status.PENDING
    assert "development" not in task.system_tags
    assert task.parameters["General"]["rate"].value == "0.5"
    assert "execute_remotely" in task.execution.diff
    assert [e.task for e in house.client.call(GET_QUEUE, queue="default").entries] == [task.id]


OFFLINE = """
from clearml import Task
Task.set_offline(offline_mode=True)
task = Task.init(project_name="lives", task_name="offline", tags=["off"], auto_connect_frameworks=False)
task.connect({"rate": 0.5})
task.set_user_properties(owner="me")
task.upload_artifact("numbers", {"a": [1, 2]})
for i in range(5):
    task.get_logger().report_scalar("loss", "train", float(i), i)
task.get_logger().report_text("an offline line")
folder = task.get_offline_mode_folder()
task.close()
print("zip=%s.zip" % folder)
"""
IMPORT = """
import sys
from clearml import Task
print("id=" + Task.import_offline_session(sys.argv[1]))
"""


def test_an_offline_session_is_imported_by_script_and_by_command(clearml: ClearML) -> None:
    archive = clearml.run(OFFLINE).ok().said("zip")
    assert Path(archive).is_file()
    with zipfile.ZipFile(archive) as opened:  # its threads write this file together; what it kept is what can come
        kept = json.loads(opened.read("task.json"))["hyperparams"].get("properties", {})
    first = clearml.run(IMPORT, archive).ok().said("id")
    clearml.command("clearml-task", "--import-offline-session", archive).ok()
    found = clearml.house.client.call(QUERY_TASKS, TaskQuery(project="lives", name="offline")).tasks
    assert len(found) == 2
    assert first in {task.id for task in found}
    for task in (read(clearml.house, one.id) for one in found):
        assert (task.status, task.tags) == (Status.COMPLETED, ("off",))
        assert task.parameters["General"]["rate"].value == "0.5"
        assert {name: p.value for name, p in task.properties.items()} == {n: p["value"] for n, p in kept.items()}
        loss = next(s for s in task.metrics if s.title == "loss")
        assert (loss.count, loss.last, task.last_iteration) == (5, 4.0, 4)
        (artifact,) = task.artifacts
        assert (artifact.name, bool(artifact.digest)) == ("numbers", True)


# --- a task of our own SDK, read by theirs --------------------------------------------------------------------

OURS = """
import argparse
from taskloom.sdk.task import Task
task = Task.init(project_name="ours/deep", task_name="made by us", tags=["one", "two"])
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
parser.parse_args([])
task.connect({"rate": 0.25, "list": [1, 2]}, name="Extra")
task.connect_configuration({"a": {"b": 1}}, name="settings")
task.set_user_properties(owner="me")
task.get_logger().report_scalar("loss", "train", 0.5, 1)
task.get_logger().report_scalar("loss", "train", 0.125, 2)
task.get_logger().report_single_value("best", 7.0)
task.upload_artifact("numbers", {"a": 1})
print("id=" + task.id)
task.close()
"""
THEIRS = """
import json, sys
from clearml import Task
task = Task.get_task(task_id=sys.argv[1])
same = Task.get_task(project_name="ours/deep", task_name="made by us")
assert same.id == task.id
print("told=" + json.dumps({
    "status": task.get_status(), "name": task.name, "project": task.get_project_name(),
    "tags": sorted(task.get_tags()), "parameters": task.get_parameters(cast=True),
    "configuration": task.get_configuration_object_as_dict("settings"),
    "owner": task.get_user_properties(value_only=True)["owner"],
    "scalars": task.get_last_scalar_metrics(), "iteration": task.get_last_iteration(),
    "single": task.get_reported_single_values(), "numbers": task.artifacts["numbers"].get(),
    "entry": task.data.script.entry_point, "binary": task.data.script.binary,
    "diff": task.data.script.diff, "pip": task.data.script.requirements["pip"],
}))
"""


def test_a_task_of_our_sdk_is_read_by_clearmls(clearml: ClearML, tmp_path: Path) -> None:
    import subprocess
    import sys

    script = tmp_path / "ours.py"
    script.write_text(OURS)
    ran = subprocess.run(
        [sys.executable, str(script)],
        env=clearml.house.environment() | {"TASKLOOM_DATA": str(tmp_path / "own")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    task = next(line for line in ran.stdout.splitlines() if line.startswith("id=")).removeprefix("id=")
    told = json.loads(clearml.run(THEIRS, task).ok().said("told"))
    assert (told["status"], told["name"], told["project"]) == ("completed", "made by us", "ours/deep")
    assert told["tags"] == ["one", "two"]
    assert told["parameters"]["Args/epochs"] == 3
    assert told["parameters"]["Extra/rate"] == 0.25
    assert told["parameters"]["Extra/list"] == [1, 2]
    assert told["configuration"] == {"a": {"b": 1}}
    assert told["owner"] == "me"
    assert told["scalars"]["loss"]["train"] == {"last": 0.125, "min": 0.125, "max": 0.5}
    assert (told["iteration"], told["single"], told["numbers"]) == (2, {"best": 7.0}, {"a": 1})
    assert (told["entry"], told["diff"]) == ("ours.py", OURS)
    assert told["binary"] == f"python{sys.version_info[0]}.{sys.version_info[1]}"
    assert told["pip"].startswith("# Python")
