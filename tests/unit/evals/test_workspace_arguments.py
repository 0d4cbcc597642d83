"""What a workspace refuses before it is served."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from taskloom.evals.workspace import IsolationMissing, Mount, Workspace
from taskloom.evals.workspace.sandbox import find_sandbox


@pytest.mark.parametrize(
    "guest", ["work", "/", "/proc", "/proc/x", "/usr", "/etc", "/srv/../etc", "/usr/nothing/here", ""]
)
def test_a_guest_path_that_is_the_systems_is_refused(tmp_path: Path, guest: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Workspace(tmp_path, guest_path=guest)


def test_mounts_have_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder"):
        Workspace(tmp_path, mounts=[Mount(tmp_path / "nothing")])


def test_a_variable_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a name"):
        Workspace(tmp_path, env={"A=B": "c"})


def test_the_words_of_isolation_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected auto, required or none"):
        Workspace(tmp_path, isolation="strong")  # type: ignore[arg-type]


async def test_a_folder_that_holds_the_data_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKLOOM_DATA", str(tmp_path / "data"))
    with pytest.raises(ValueError, match="a folder of its own"):
        await Workspace(tmp_path).start()
    with pytest.raises(ValueError, match="a folder of its own"):
        await Workspace("/").start()


async def test_a_mount_that_shows_the_data_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    (data / "server").mkdir(parents=True)
    monkeypatch.setenv("TASKLOOM_DATA", str(data))
    (tmp_path / "link").symlink_to(data)
    for source in (tmp_path, data, data / "server", tmp_path / "link"):
        with pytest.raises(ValueError, match="folder of its own"):
            await Workspace(tmp_path / "root", mounts=[Mount(source, "/shown")]).start()


async def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="expected a folder"):
        await Workspace(tmp_path / "file").start()


def test_without_bubblewrap_a_required_sandbox_is_refused_and_another_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(IsolationMissing, match="bubblewrap"):
        find_sandbox("required")
    with caplog.at_level(logging.WARNING):
        assert find_sandbox("auto") is None
    assert "isolation=none" in caplog.text


def test_what_is_not_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not started"):
        _ = Workspace(tmp_path).isolation
