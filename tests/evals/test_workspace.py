"""A workspace over SSH, with its sandbox and without: commands, shells, files, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import asyncssh
import psutil
import pytest
from tests.evals.doors import PATIENCE, Door, connect, opened

from taskloom.evals.capabilities import Capability
from taskloom.evals.workspace import Mount, Workspace
from taskloom.evals.workspace.files import MAX_OPEN
from taskloom.evals.workspace.served import MAX_SESSIONS

pytestmark = pytest.mark.evals

Isolation = Literal["required", "none"]


@pytest.fixture(params=["required", "none"])
def isolation(request: pytest.FixtureRequest) -> Isolation:
    return request.param


@pytest.fixture
async def workspace(tmp_path: Path, isolation: Isolation) -> AsyncIterator[Workspace]:
    made = Workspace(tmp_path / "root", isolation=isolation, env={"COLOUR": "blue"})
    yield made
    await made.stop()


@pytest.fixture
async def capability(workspace: Workspace) -> Capability:
    return await workspace.start()


@pytest.fixture
async def door(capability: Capability) -> AsyncIterator[Door]:
    async with opened(capability) as door:
        yield door


def test_the_capability_says_how_to_get_in(capability: Capability, workspace: Workspace, isolation: str) -> None:
    assert capability.protocol == "ssh/2"
    assert capability.params["user"] == "agent"
    assert capability.params["cwd"] == str(workspace.root) == workspace.cwd
    assert (
        capability.params["isolation"] == {"required": "bwrap", "none": "none"}[isolation] == workspace.isolation
    )
    assert capability.params["shell"] == "bash"


async def test_a_command_runs_in_the_root_with_a_clean_environment(
    door: Door, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKLOOM_API_KEY", "very secret")
    assert await door.say("pwd") == str(workspace.root)
    assert await door.say("echo $COLOUR $USER") == "blue agent"
    assert "secret" not in await door.say("env")


async def test_exit_codes_errors_and_signals_come_back(door: Door) -> None:
    done = await door.run("echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.exit_status) == ("out\n", "err\n", 7)
    died = await door.run("kill -KILL $$")
    assert died.exit_status == 128 + signal.SIGKILL or died.exit_signal[0] == "KILL"


async def test_input_and_output_are_bytes(door: Door) -> None:
    sent = bytes(range(256)) * 4096
    done = await door.run("cat", input=sent, encoding=None)
    assert done.stdout == sent


async def test_a_signal_reaches_a_command_that_reads_no_input(door: Door) -> None:
    process = await door.connection.create_process(
        "trap 'echo caught; exit 9' TERM; echo up; while :; do sleep 0.05; done"
    )
    assert await process.stdout.readline() == "up\n"
    process.stdin.write("never read\n" * 1000)
    process.send_signal("TERM")
    done = await process.wait(timeout=PATIENCE)
    assert (done.stdout, done.exit_status) == ("caught\n", 9)


async def test_a_command_that_is_killed_ends_at_once(door: Door) -> None:
    process = await door.connection.create_process("echo up; sleep 1000", stdin=asyncssh.DEVNULL)
    assert await process.stdout.readline() == "up\n"
    process.kill()
    done = await process.wait(timeout=PATIENCE)
    assert done.exit_status == 128 + signal.SIGKILL or done.exit_signal[0] == "KILL"


async def test_an_interactive_shell_has_a_terminal_with_its_size(door: Door) -> None:
    process = await door.connection.create_process(term_type="xterm", term_size=(101, 37))
    process.stdin.write("stty size; echo term=$TERM; echo rea''dy\n")
    await _heard(process, "37 101", "term=xterm", "ready")
    process.change_terminal_size(55, 22)
    process.stdin.write("stty size; exit 5\n")
    done = await process.wait(timeout=PATIENCE)
    assert "22 55" in str(done.stdout)
    assert done.exit_status == 5


async def _heard(process: asyncssh.SSHClientProcess[str], *texts: str) -> None:
    heard = ""
    while not all(text in heard for text in texts):
        piece = await asyncio.wait_for(process.stdout.read(1000), PATIENCE)
        assert piece, heard
        heard += piece


async def test_many_sessions_run_side_by_side_and_share_the_folder(door: Door, capability: Capability) -> None:
    async with opened(capability) as other:
        said = await asyncio.gather(
            *(one.say(f"echo {n} > f{n}; echo {n}") for n, one in enumerate([door, other] * 6))
        )
    assert said == [str(n) for n in range(12)]
    assert len((await door.say("ls f*")).split()) == 12


async def test_the_shells_of_a_workspace_share_a_scratch_folder_of_their_own(door: Door, isolation: str) -> None:
    scratch = "/tmp" if isolation == "required" else "$TMPDIR"
    await door.say(f"echo kept > {scratch}/note; echo kept > ~/note")
    assert await door.say(f"cat {scratch}/note ~/note") == "kept\nkept"
    assert not Path("/tmp/note").exists()
    assert not (Path.home() / "note").exists()


async def test_a_flood_waits_in_the_command_until_somebody_reads(door: Door, workspace: Workspace) -> None:
    process = await door.connection.create_process("head -c 60000000 /dev/zero", encoding=None)
    first = await process.stdout.read(1)
    before = psutil.Process().memory_info().rss
    assert await door.say("echo others are served") == "others are served"
    assert psutil.Process().memory_info().rss - before < 30_000_000
    total = len(first)
    while chunk := await process.stdout.read(1 << 20):
        total += len(chunk)
    assert total == 60_000_000


async def _gone(mark: str) -> None:
    """Returns once no process has the mark in its command line."""
    async with asyncio.timeout(PATIENCE):
        while any(mark in " ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])):
            await asyncio.sleep(0.02)


async def test_what_a_command_leaves_running_ends_with_it(door: Door) -> None:
    done = await door.run("(setsid sleep 31415926 & ) ; setsid nohup sleep 31415926 > /dev/null & echo left")
    assert done.stdout == "left\n"
    await _gone("31415926")


async def test_a_client_that_goes_takes_its_commands_along(capability: Capability) -> None:
    async with opened(capability) as door:
        process = await door.connection.create_process("setsid sleep 27182818 & echo up; sleep 27182818")
        assert await process.stdout.readline() == "up\n"
    await _gone("27182818")


async def test_stopping_ends_every_process_of_every_session(workspace: Workspace, capability: Capability) -> None:
    async with opened(capability) as door:
        for _ in range(3):
            process = await door.connection.create_process("setsid sleep 16180339 & echo up; sleep 16180339")
            assert await process.stdout.readline() == "up\n"
        await workspace.stop()
        left = [
            one for one in psutil.process_iter(["cmdline"]) if "16180339" in " ".join(one.info["cmdline"] or [])
        ]
        assert left == []
        await door.connection.wait_closed()
    with pytest.raises(OSError):
        await connect(capability)
    await workspace.stop()


async def test_it_starts_again_with_another_key(workspace: Workspace, capability: Capability) -> None:
    with pytest.raises(RuntimeError, match="started already"):
        await workspace.start()
    await workspace.stop()
    again = await workspace.start()
    assert again.params["client_key"] != capability.params["client_key"]
    with pytest.raises(asyncssh.PermissionDenied):
        await connect(again, client_keys=[asyncssh.import_private_key(capability.params["client_key"])])


async def test_only_the_key_and_its_user_are_let_in(capability: Capability) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    for options in ({"client_keys": [other]}, {"client_keys": None, "password": "x"}, {"username": "root"}):
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(capability, **options)


async def test_nothing_is_forwarded(door: Door, tmp_path: Path) -> None:
    with pytest.raises(asyncssh.ChannelOpenError):
        await door.connection.open_connection("127.0.0.1", 22)
    with pytest.raises(asyncssh.ChannelOpenError):
        await door.connection.open_unix_connection("/var/run/docker.sock")
    with pytest.raises(asyncssh.ChannelListenError):
        await door.connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
    with pytest.raises(asyncssh.ChannelListenError):
        await door.connection.forward_remote_path(str(tmp_path / "socket"), "/x")
    assert await door.say("echo [$SSH_AUTH_SOCK$DISPLAY]") == "[]"


async def test_there_is_an_end_to_the_number_of_sessions(door: Door) -> None:
    running = [await door.connection.create_process("echo up; cat") for _ in range(MAX_SESSIONS)]
    for process in running:
        assert await process.stdout.readline() == "up\n"
    refused = await door.run("echo no")
    assert refused.exit_status == 255
    assert "sessions are open" in str(refused.stderr)
    for process in running:
        process.stdin.write_eof()
    for process in running:
        assert (await process.wait(timeout=PATIENCE)).exit_status == 0
    assert await door.say("echo yes") == "yes"


async def test_a_shell_that_is_not_there_says_so(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "root", shell="/no/such/shell", isolation="none")
    async with opened(await workspace.start()) as door:
        done = await door.run("true")
    await workspace.stop()
    assert done.exit_status == 126
    assert "/no/such/shell" in str(done.stderr)


# --- files --------------------------------------------------------------------------------------------------


async def test_files_go_in_and_out(door: Door, workspace: Workspace, tmp_path: Path) -> None:
    sent = os.urandom(3_000_000)
    (tmp_path / "sent").write_bytes(sent)
    async with door.connection.start_sftp_client() as sftp:
        await sftp.mkdir("data")
        await sftp.put(str(tmp_path / "sent"), "data/file")
        assert await door.say("sha256sum < data/file") == await door.say(f"sha256sum < {workspace.cwd}/data/file")
        await sftp.get(f"{workspace.cwd}/data/file", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == sent
        assert await sftp.realpath(".") == workspace.cwd
        assert sorted(await sftp.listdir("data")) == [".", "..", "file"]
        await sftp.rename("data/file", "data/other")
        await sftp.chmod("data/other", 0o4755)
        assert (workspace.root / "data" / "other").stat().st_mode & 0o7777 == 0o755
        await sftp.truncate("data/other", 5)
        assert await sftp.getsize("data/other") == 5
        await sftp.symlink("other", "data/link")
        assert await sftp.readlink("data/link") == "other"
        async with sftp.open("data/link", "rb") as file:
            assert await file.read() == sent[:5]
        await sftp.rmtree("data")
        assert await sftp.listdir(".") == [".", ".."]


async def test_no_file_outside_is_reached(door: Door, workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    await door.say("ln -s /etc etc; ln -s ../secret link; ln -s .. up; mkdir sub; ln -s /proc/self/root all")
    ways = [
        "/etc/passwd",
        "../secret",
        "etc/passwd",
        "link",
        "up/secret",
        "sub/../../secret",
        "all/etc/passwd",
        str(tmp_path),
    ]
    async with door.connection.start_sftp_client() as sftp:
        for way in ways:
            for attempt in (sftp.stat, sftp.listdir, sftp.realpath, _reading(sftp), _writing(sftp)):
                with pytest.raises(asyncssh.SFTPPermissionDenied):
                    await attempt(way)
        for attempt in (sftp.mkdir, sftp.remove, sftp.rmdir, lambda way: sftp.rename("sub", way)):
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await attempt("up/secret")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["root", "secret"]
    assert (tmp_path / "secret").read_text() == "secret"


def _reading(sftp: asyncssh.SFTPClient):
    async def read(way: str) -> None:
        async with sftp.open(way, "rb") as file:
            await file.read()

    return read


def _writing(sftp: asyncssh.SFTPClient):
    async def write(way: str) -> None:
        async with sftp.open(way, "wb") as file:
            await file.write(b"x")

    return write


async def test_there_is_an_end_to_the_number_of_open_files(door: Door) -> None:
    await door.say("echo x > x")
    async with door.connection.start_sftp_client() as sftp:
        held = [await sftp.open("x", "rb") for _ in range(MAX_OPEN)]
        with pytest.raises(asyncssh.SFTPFailure, match="files are open"):
            await sftp.open("x", "rb")
        await held[0].close()
        await (await sftp.open("x", "rb")).close()


async def test_a_grader_reads_what_is_inside(door: Door, workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "expected").write_text("42")
    await door.say("echo 42 > answer; ln -s ../expected cheat")
    assert workspace.read("answer") == b"42\n"
    with pytest.raises(PermissionError):
        workspace.read("cheat")


async def test_mounts_and_another_path_for_the_root(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows").write_text("rows")
    (tmp_path / "out").mkdir()
    mounts = [Mount(tmp_path / "data", "/data"), Mount(tmp_path / "out", "/out", writable=True), tmp_path / "data"]
    workspace = Workspace(tmp_path / "root", isolation="required", mounts=mounts, guest_path="/srv/repo")
    async with opened(await workspace.start()) as door:
        assert await door.say("pwd; cat /data/rows; echo made > /out/made; echo here > here") == "/srv/repo\nrows"
        assert "Read-only" in str((await door.run("echo x > /data/rows")).stderr)
        async with door.connection.start_sftp_client() as sftp:
            assert await sftp.realpath("here") == "/srv/repo/here"
            assert await sftp.exists("/srv/repo/here")
    await workspace.stop()
    assert (tmp_path / "out" / "made").read_text() == "made\n"
    assert (tmp_path / "root" / "here").read_text() == "here\n"
