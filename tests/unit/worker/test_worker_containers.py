"""Tasks with an image on a real worker, in a real podman."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.containers import image_for_tests, python_image_for_tests

from taskloom.domain.execution import Execution, Resources
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op

pytestmark = pytest.mark.containers


def podman(*words: str) -> str:
    """What it says; nothing about a container that has just gone."""
    return subprocess.run(["podman", *words], capture_output=True, text=True, check=False).stdout


def containers(field: Any) -> list[str]:
    """Names of the containers, running or not, that see a folder of this test."""
    names = podman("ps", "--all", "--format", "{{.Names}}").split()
    return [name for name in names if str(field.folder) in podman("inspect", name)]


def worker(field: Any, *words: str, name: str = "w1", lease: float = 30.0) -> Any:
    return field.worker(name, "--containers", "podman", *words, lease=lease)


def inside(*command: str, **more: Any) -> Execution:
    return Execution(command=command, image=image_for_tests(), **more)


def test_a_command_runs_in_its_image_and_nothing_is_left(field: Any) -> None:
    worker(field)
    task = field.enqueue(
        inside("sh", "-c", "echo $COLOUR; ls -d /root/* /usr; id -u; exit 5", variables={"COLOUR": "a 'b'"})
    )
    ended = field.ended(task)
    assert (ended.status, ended.status_reason) == (Status.FAILED, "exit code 5")
    assert field.console(task, "stdout") == "a 'b'\n0\n"  # no /usr: it is not this machine
    assert containers(field) == []
    assert list((field.folder / "w1" / "worker" / "w1" / "attempts").iterdir()) == []


def test_a_script_reports_from_inside_through_its_journal_and_the_server(field: Any) -> None:
    worker(field)
    script = "import os, sys, urllib.request\nprint(sys.version_info[0], 'inside')\nurllib.request.urlopen(os.environ['TASKLOOM_URL'] + '/health')\n"
    task = field.script(script, image=python_image_for_tests())
    ended = field.ended(task)
    assert (ended.status, ended.status_reason) == (Status.COMPLETED, ""), field.console(task)
    assert field.console(task, "stdout") == "3 inside\n"


def test_an_abort_ends_a_stubborn_container(field: Any) -> None:
    worker(field)
    task = field.enqueue(inside("sh", "-c", "trap '' TERM; echo begun; while :; do sleep 0.1; done"))
    field.until_says(task, "begun")
    assert len(containers(field)) == 1
    field.client.call(op.ABORT_TASK, m.MoveRequest(reason="enough"), task=task)
    assert field.ended(task).status is Status.ABORTED
    assert containers(field) == []


def test_a_container_goes_on_under_the_next_process_of_its_worker(field: Any, tmp_path: Path) -> None:
    first = worker(field)
    folder = tmp_path / "seen"
    folder.mkdir()
    task = field.enqueue(
        inside("sh", "-c", "echo begun; while ! [ -e $TASKLOOM_CHECKPOINTS/go ]; do sleep 0.1; done; echo over")
    )
    field.until_says(task, "begun")
    names = containers(field)
    first.kill9()
    worker(field)
    field.until_says(task, "goes on with the task")
    assert containers(field) == names
    (attempt,) = (field.folder / "w1" / "worker" / "w1" / "attempts").iterdir()
    (attempt / "checkpoints" / "go").touch()
    ended = field.ended(task)
    assert (ended.status, ended.attempt) == (Status.COMPLETED, 1)
    assert field.console(task, "stdout") == "begun\nover\n"
    assert containers(field) == []


def test_a_container_whose_worker_does_not_come_back_is_removed_before_its_lease_ends(field: Any) -> None:
    first = worker(field, lease=5.0)
    task = field.enqueue(inside("sh", "-c", "echo begun; sleep 600"))
    field.until_says(task, "begun")
    watching = field.supervisors()
    assert watching
    first.kill9()
    assert psutil.wait_procs(watching, timeout=60)[1] == []
    assert containers(field) == []
    field.until(lambda: field.get(task).status is Status.PENDING)


def test_what_is_left_when_the_supervisor_was_killed_too_is_removed_by_the_next_start(field: Any) -> None:
    first = worker(field, lease=600.0)
    task = field.enqueue(inside("sh", "-c", "echo begun; sleep 600"))
    field.until_says(task, "begun")
    for process in (psutil.Process(first.process.pid), *field.supervisors()):
        process.suspend()
    for process in (*field.supervisors(), psutil.Process(first.process.pid)):
        process.kill()
    first.process.wait(60)
    assert len(containers(field)) == 1
    before = containers(field)
    worker(field, lease=600.0)
    field.until(lambda: not set(before) & set(containers(field)))
    field.until(lambda: field.get(task).attempt == 2)
    field.client.call(op.ABORT_TASK, m.MoveRequest(), task=task)
    assert field.ended(task).status is Status.ABORTED


def test_a_task_sees_a_folder_that_the_owner_of_the_worker_allowed(field: Any, tmp_path: Path) -> None:
    data = tmp_path / "data" / "set"
    data.mkdir(parents=True)
    (data / "rows").write_text("seven rows\n")
    worker(field, "--allow-mount", str(tmp_path / "data"))
    task = field.enqueue(inside("sh", "-c", "cat /set/rows; echo x >/set/new", mounts=(f"{data}:/set:ro",)))
    ended = field.ended(task)
    assert field.console(task, "stdout") == "seven rows\n"
    assert (ended.status, (data / "new").exists()) == (Status.FAILED, False)


def test_resources_are_limits_and_arguments_of_the_list_are_passed_on(field: Any) -> None:
    worker(field)
    task = field.enqueue(
        inside(
            "sh", "-c", "echo $WITH; df -k /dev/shm | tail -n 1 | awk '{print $2}'; "
            "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; hostname",
            image_arguments="--rm -e WITH='two words' --shm-size=32m --hostname inside",
            resources=Resources(cpus=1, memory=256 << 20),
        )
    )  # fmt: skip
    field.ended(task)
    said = field.console(task, "stdout").splitlines()
    assert said[:2] == ["two words", str(32 << 10)]
    assert said[-1] == "inside"
    assert set(said[2:-1]) <= {str(256 << 20), "max"}


REFUSED = [
    (Execution(command=("true",), image="--privileged"), "expected a name such as"),
    (Execution(command=("true",), image="localhost/no/such:1"), "the image localhost/no/such:1 cannot be had"),
    ({"image_arguments": "--privileged"}, "image argument --privileged: this worker does not take it"),
    ({"image_arguments": "-e TASKLOOM_API_KEY"}, "does not take that value"),
    ({"image_arguments": "--network=container:other"}, "does not take that value"),
    ({"image_arguments": "-v /:/host"}, "folders of the machine are asked for as the task's mounts"),
    ({"mounts": ("/etc:/etc2",)}, "--allow-mount"),
]


def test_what_a_worker_does_not_take_is_named(field: Any) -> None:
    worker(field, "--slots", "3")
    tasks = [
        (field.enqueue(inside("true", **what) if isinstance(what, dict) else what), reason)
        for what, reason in REFUSED
    ]
    for task, reason in tasks:
        ended = field.ended(task)
        assert (ended.status, reason in ended.status_reason) == (Status.FAILED, True), ended.status_reason
    assert containers(field) == []


def test_a_program_that_is_not_in_the_image_is_named(field: Any) -> None:
    worker(field)
    task = field.enqueue(inside("no-such-program"))
    assert field.ended(task).status_reason == "exit code 127"
    assert "no-such-program" in field.console(task, "stderr")
