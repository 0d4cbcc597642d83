"""Private repositories: git gets the password from the lease, and nobody else ever sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.unit.worker.git_server import GitServer
from tests.unit.worker.workshop import Done, Workshop, lease_of

from taskloom.domain.execution import Execution
from taskloom.wire.messages import Credential
from taskloom.worker.credentials import fingerprint, helper_environment

Git = Callable[..., str]
USER, PASSWORD = "robot", "p%s$w'\"`rd \\n-battery-staple"


@pytest.fixture
def server(tmp_path: Path, repository: Path, git: Git) -> Iterator[GitServer]:
    """`team/app.git`, which has `team/lib.git` as a submodule and a package in it."""
    root = tmp_path / "served"
    lib = tmp_path / "lib"
    lib.mkdir()
    git(lib, "init", "--quiet", "-b", "main")
    (lib / "word.txt").write_text("from the submodule\n")
    (lib / "loomlib.py").write_text("WORD = 'from the package'\n")
    (lib / "pyproject.toml").write_text(
        "[project]\nname = 'loomlib'\nversion = '1.0'\n"
        "[build-system]\nrequires = []\nbuild-backend = 'builder'\nbackend-path = ['.']\n"
    )
    (lib / "builder.py").write_text(BUILDER)
    git(lib, "add", ".")
    git(lib, "commit", "-qm", "lib")
    (root / "team").mkdir(parents=True)
    git(root, "clone", "--quiet", "--bare", str(lib), "team/lib.git")
    running = GitServer(root, USER, PASSWORD)
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(lib), "lib")
    git(repository, "config", "-f", ".gitmodules", "submodule.lib.url", f"{running.url}/team/lib.git")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "with a submodule")
    git(root, "clone", "--quiet", "--bare", str(repository), "team/app.git")
    yield running
    running.stop()


BUILDER = """
import base64, hashlib, os, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "loomlib-1.0-py3-none-any.whl"
    files = {
        "loomlib.py": open("loomlib.py").read(),
        "loomlib-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: loomlib\\nVersion: 1.0\\n",
        "loomlib-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = "".join(f"{place},,\\n" for place in files) + "loomlib-1.0.dist-info/RECORD,,\\n"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for place, content in files.items():
            wheel.writestr(place, content)
        wheel.writestr("loomlib-1.0.dist-info/RECORD", record)
    return name
"""


def access(server: GitServer, path: str = "", password: str = PASSWORD) -> tuple[Credential, ...]:
    return (Credential(url=f"{server.url}{path}", username=USER, password=password),)


def nowhere(done: Done, root: Path) -> None:
    """The password is in nothing that was told and in no file that stays."""
    parts = [PASSWORD, "battery-staple"]
    told = done.report + done.out + done.err + done.failed
    assert not any(part in told for part in parts)
    for file in root.rglob("*"):
        if file.is_file() and not file.is_symlink():
            assert b"battery-staple" not in file.read_bytes(), file


def test_a_repository_and_its_submodule_are_fetched_with_the_password_that_nobody_sees(
    tmp_path: Path, server: GitServer
) -> None:
    shop = Workshop(tmp_path / "shop")
    seen: list[str] = []

    async def watch() -> None:
        while True:
            for process in psutil.process_iter():
                try:
                    seen.append(" ".join(process.cmdline()))
                except psutil.Error:
                    continue
            await asyncio.sleep(0.01)

    run = "env; git remote -v; git config --list; cat lib/word.txt; cat .git/config"
    lease = lease_of(Execution(repository=f"{server.url}/team/app.git", run=run), credentials=access(server))
    (tmp_path / "shop").mkdir()
    watching = asyncio.run(_while(watch(), lambda: asyncio.to_thread(shop.run, lease)))
    assert (watching.failed, "from the submodule" in watching.out) == ("", True), watching
    assert any("git" in line for line in seen)
    assert not any("battery-staple" in line for line in seen)
    assert "LOOM_GIT" not in watching.out
    nowhere(watching, tmp_path / "shop")


async def _while(watching: object, work: Callable[[], object]) -> Done:
    task = asyncio.create_task(watching)  # type: ignore[arg-type]
    try:
        return await work()  # type: ignore[misc]
    finally:
        task.cancel()


def test_without_it_or_with_a_wrong_one_it_fails_with_the_address_and_not_the_password(
    tmp_path: Path, server: GitServer
) -> None:
    shop = Workshop(tmp_path)
    execution = Execution(repository=f"{server.url}/team/app.git", run="true")
    told = access(server)
    assert shop.run(lease_of(execution, credentials=told)).failed == ""
    for other in ((), access(server, password="wrong-password"), access(server, "/other")):
        refused = shop.run(lease_of(execution, credentials=other))  # the mirror of those who may is not for others
        assert f"{server.url}/team/app.git cannot be fetched" in refused.failed
        assert "wrong-password" not in refused.failed + refused.report


def test_the_password_goes_to_no_other_server(tmp_path: Path, server: GitServer, git: Git) -> None:
    other = GitServer(server.root, "nobody", "nothing")
    shop = Workshop(tmp_path)
    try:
        done = shop.run(
            lease_of(Execution(repository=f"{other.url}/team/app.git", run="true"), credentials=access(server))
        )
        assert "cannot be fetched" in done.failed
        assert {name for name, _ in other.asked} == {""}
    finally:
        other.stop()


def test_a_package_from_git_is_installed_with_it_and_others_do_not_get_that_environment(
    tmp_path: Path, server: GitServer
) -> None:
    shop = Workshop(tmp_path, UV_NO_INDEX="1")
    execution = Execution(
        diff="import loomlib; print(loomlib.WORD)",
        entry_point="x.py",
        packages=f"loomlib @ git+{server.url}/team/lib.git\n",
    )
    done = shop.run(lease_of(execution, credentials=access(server)))
    assert (done.failed, done.out) == ("", "from the package\n")
    nowhere(done, tmp_path / "cache")
    again = shop.run(lease_of(execution, credentials=access(server)))
    assert "has these packages already" in again.report
    stranger = Workshop(tmp_path / "stranger", UV_NO_INDEX="1")
    stranger.cache = shop.cache
    stranger.root.mkdir()
    refused = stranger.run(lease_of(execution))
    assert "cannot be installed" in refused.failed


def test_the_longest_address_wins_and_a_file_s_line_end_is_no_part_of_a_password() -> None:
    told = (
        Credential(url="https://h/team", username="a", password="long\n"),
        Credential(url="https://h", username="b", password="short"),
    )
    env = helper_environment({"GIT_CONFIG_COUNT": "1"}, told)
    assert env["GIT_CONFIG_COUNT"] == "5"
    assert [env[f"GIT_CONFIG_KEY_{n}"] for n in (2, 4)] == [
        "credential.https://h.helper",
        "credential.https://h/team.helper",
    ]
    assert "long\n" not in env.values()
    assert not any("long" in env[f"GIT_CONFIG_VALUE_{n}"] for n in range(1, 5))
    assert fingerprint("https://h/x", told) != fingerprint("https://h/x", told[1:]) != ""
    assert fingerprint("https://other/x", told) == fingerprint("git@h:x", told) == ""
