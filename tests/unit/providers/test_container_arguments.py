"""What reaches the command of a container engine: arguments, mounts, limits and GPUs, for docker as for podman."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskloom.domain.execution import Resources
from taskloom.providers.container import Engine, engine_commands, gpu_options, limits
from taskloom.providers.container_arguments import Mount, Rules, check_arguments, check_image, check_mounts
from taskloom.providers.contract import NoPlace

EVERYTHING = Rules(every_argument=True)


def test_arguments_of_the_list_are_passed_on_as_one_word_each() -> None:
    given = "--ipc=host --shm-size 8g -e 'A=b c' -m 2g --network none -it --rm --ulimit nofile=100:200"
    assert check_arguments(given, Rules()) == [
        "--ipc=host", "--shm-size=8g", "--env=A=b c", "--memory=2g", "--network=none", "--ulimit=nofile=100:200",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--privileged", "does not take it"),
        ("--device=/dev/sda", "does not take it"),
        ("--cap-add SYS_ADMIN", "does not take it"),
        ("--security-opt seccomp=unconfined", "does not take it"),
        ("--ipc=container:other", "does not take that value"),
        ("--network=container:other", "does not take that value"),
        ("--tmpfs /x:exec,/etc", "does not take that value"),
        ("--env=LD_PRELOAD", "does not take that value"),
        ("-v /:/host", "asked for as the task's mounts"),
        ("--mount type=bind,source=/,target=/host", "asked for as the task's mounts"),
        ("--gpus all", "the task's resources say"),
        ("--entrypoint sh", "the task's own command"),
        ("--user 0", "it runs as the user"),
        ("--memory", "expected a value behind it"),
        ("image --privileged", "does not take it"),
        ("--env 'unclosed", "No closing quotation"),
        ("--pid=host", "ends every process that it sees"),
    ],
)
def test_what_would_open_the_machine_is_refused_with_a_sentence(given: str, said: str) -> None:
    with pytest.raises(NoPlace, match=said):
        check_arguments(given, Rules())


def test_an_owner_who_trusts_everybody_passes_everything_on_but_what_a_stop_would_turn_on_the_machine() -> None:
    assert check_arguments("--privileged -v /:/host", EVERYTHING) == ["--privileged", "-v", "/:/host"]
    for given in ("--pid=host", "--pid host"):
        with pytest.raises(NoPlace, match="--pid"):
            check_arguments(given, EVERYTHING)


@pytest.mark.parametrize("image", ["--privileged", "-v", "", "a b", "x;y", "../x", "a" * 513])
def test_what_is_no_name_of_an_image_is_refused(image: str) -> None:
    with pytest.raises(NoPlace, match="expected a name such as"):
        check_image(image)


def test_mounts_lie_below_what_the_owner_named_also_through_links(tmp_path: Path) -> None:
    (tmp_path / "data" / "set").mkdir(parents=True)
    (tmp_path / "data" / "out").symlink_to("/etc")
    (tmp_path / "data-2").mkdir()
    rules = Rules(mounts=(tmp_path / "data",))
    wanted = (f"{tmp_path}/data/set:/set", f"{tmp_path}/data:/all:ro")
    assert check_mounts(wanted, rules) == [
        Mount(tmp_path / "data" / "set", "/set"), Mount(tmp_path / "data", "/all", read_only=True),
    ]  # fmt: skip
    for refused in (
        f"{tmp_path}/data/out:/x", f"{tmp_path}/data-2:/x", f"{tmp_path}/data/../data-2:/x", "/:/x",
        f"{tmp_path}/data:relative", f"{tmp_path}/data:/", f"{tmp_path}/data", f"{tmp_path}/data:/x:rx",
        f"{tmp_path}/data/none:/x",
    ):  # fmt: skip
        with pytest.raises(NoPlace, match="mount"):
            check_mounts((refused,), rules)


def test_what_a_task_reserved_is_what_its_container_gets() -> None:
    reserved = limits(Resources(cpus=1.5, memory=4 << 30), [])
    assert reserved == ["--cpus=1.5", f"--memory={4 << 30}b", f"--shm-size={2 << 30}b"]
    assert limits(Resources(cpus=2), ["--ipc=host"]) == ["--cpus=2"]


def test_gpus_are_named_as_each_engine_wants_them() -> None:
    assert gpu_options("docker", ("0", "3")) == ["--gpus", '"device=0,3"']
    assert gpu_options("podman", ("0", "GPU-12")) == [
        "--device=nvidia.com/gpu=0",
        "--device=nvidia.com/gpu=GPU-12",
    ]
    assert gpu_options("docker", ()) == gpu_options("podman", ()) == []


def test_a_container_is_ended_and_removed_by_its_name() -> None:
    docker = engine_commands(Engine("docker", "/usr/bin/docker", "0:0"), "taskloom-1", {})
    podman = engine_commands(Engine("podman", "/usr/bin/podman", "0:0"), "taskloom-1", {})
    assert docker.ask == ("/usr/bin/docker", "kill", "--signal=TERM", "--", "taskloom-1")
    assert docker.clear == ("/usr/bin/docker", "rm", "--force", "--volumes", "--", "taskloom-1")
    assert podman.clear == ("/usr/bin/podman", "rm", "--force", "--time=0", "--volumes", "--", "taskloom-1")
