"""What a shell in the sandbox tries, and cannot."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest
from tests.evals.doors import Door, opened

from taskloom.evals.workspace import Workspace

pytestmark = pytest.mark.evals


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a key in it, and a variable with another."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "connection.json").write_text("the key")
    monkeypatch.setenv("TASKLOOM_DATA", str(folder))
    monkeypatch.setenv("TASKLOOM_API_KEY", "another key")
    return folder


@pytest.fixture
async def door(tmp_path: Path, data: Path) -> AsyncIterator[Door]:
    workspace = Workspace(tmp_path / "root", isolation="required")
    async with opened(await workspace.start()) as door:
        yield door
    await workspace.stop()


async def _refused(door: Door, command: str) -> str:
    done = await door.run(command)
    assert done.exit_status != 0, done
    return str(done.stderr)


async def test_it_reads_no_file_of_others(door: Door, data: Path) -> None:
    for path in (
        "/etc/shadow",
        data / "connection.json",
        Path.home(),
        Path(__file__),
        "/root",
        "/proc/1/root/etc/shadow",
    ):
        await _refused(door, f"cat {path} || ls {path}")
    assert await door.say("ls /home; ls -A /home/agent /tmp | grep -v root: || true") != ""
    assert "key" not in await door.say(
        "cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n' | grep -v grep || true"
    )


async def test_it_writes_nothing_but_its_folder_and_its_scratch(door: Door, tmp_path: Path) -> None:
    for path in ("/usr/bin/x", "/etc/x", "/x", "/opt/x", "/dev/x", "/run/x", "/proc/sys/x"):
        await _refused(door, f"echo x > {path}")
    await door.run(f"echo x > {tmp_path}/x")  # into its own /tmp
    assert not (tmp_path / "x").exists()
    # A test of writing alone: what `test -w` asks is answered without opening.
    found = await door.say(
        "find / -path '/proc/[0-9]*' -prune -o -type f -writable -exec test -f {} ';' -print 2>/dev/null | grep -v -e ^/proc/pressure -e ^/tmp || true"
    )
    assert found == ""


async def test_a_file_of_the_kernel_cannot_be_opened_for_writing(door: Door) -> None:
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/mtrr"):
        if os.path.exists(path):
            await _refused(door, f"(exec 3>>{path})")


async def test_it_sees_and_kills_no_process_of_others(door: Door) -> None:
    assert int(await door.say("ls -d /proc/[0-9]* | wc -l")) < 10
    await _refused(door, f"kill -9 {os.getpid()}")
    await door.run("kill -9 -1; kill -9 1")
    assert await door.say("echo alive") == "alive"


async def test_it_has_no_rights_and_gets_none(door: Door) -> None:
    assert await door.say("grep -c 'Cap.*:.0*$' /proc/self/status") == "5"
    assert await door.say("grep NoNewPrivs /proc/self/status | cut -f2") == "1"
    await _refused(door, "unshare -Ur true")
    await _refused(door, "mount -t tmpfs none /tmp")
    await _refused(door, "mknod /tmp/disk b 8 0")
    await _refused(door, "chroot /tmp true")


async def test_it_has_no_network(door: Door) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        await _refused(door, f"exec 3<>/dev/tcp/127.0.0.1/{port}")
    assert await door.say("ls /sys/class/net 2>/dev/null; grep -c : /proc/net/dev") == "1"  # its own loopback


async def test_it_has_the_network_when_asked(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "root", isolation="required", network=True)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        async with opened(await workspace.start()) as door:
            assert await door.say(f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo reached") == "reached"
    await workspace.stop()


async def test_a_variable_that_loads_code_is_the_shells_alone(door: Door, tmp_path: Path) -> None:
    """A client sets LD_PRELOAD for its session: bubblewrap itself, outside of the sandbox, must not see it."""
    done = await door.run("echo $LD_PRELOAD", env={"LD_PRELOAD": str(tmp_path / "root" / "evil.so")})
    assert "evil.so" in str(done.stdout)
    assert str(done.stderr).count("cannot be preloaded") <= 2  # by the shell in there


async def test_nothing_of_the_servers_descriptors_is_open(door: Door) -> None:
    assert await door.say("ls /proc/self/fd | wc -l") == "4"  # three, and the folder that is listed


async def test_one_workspace_does_not_see_another(door: Door, tmp_path: Path) -> None:
    other = Workspace(tmp_path / "other", isolation="required")
    async with opened(await other.start()) as there:
        await there.say("echo theirs > /tmp/note; echo theirs > note")
        await _refused(door, "cat /tmp/note")
        await _refused(door, f"cat {tmp_path}/other/note")
    await other.stop()


async def test_a_link_that_is_swapped_all_the_time_leads_sftp_nowhere(door: Door, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    await door.say("mkdir a; echo inside > a/secret")
    swapping = await door.connection.create_process(
        "echo up; while :; do mv a b; ln -s .. a; rm a; mv b a; done", stderr=asyncssh.DEVNULL
    )
    assert await swapping.stdout.readline() == "up\n"
    heard: set[bytes] = set()
    async with door.connection.start_sftp_client() as sftp:
        for _ in range(300):
            try:
                async with sftp.open("a/secret", "rb") as file:
                    heard.add(await file.read())
            except OSError:
                continue
            except Exception as error:  # what is refused is fine, what is read counts
                assert "SFTP" in type(error).__name__
    swapping.kill()
    assert heard <= {b"inside\n"}
