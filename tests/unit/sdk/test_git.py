"""Code capture against real repositories with a real bare remote: what was recorded must build the same tree."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from taskloom.domain.execution import Execution
from taskloom.sdk.capture import git as capture
from taskloom.sdk.capture.git import capture_code, strip_credentials


class Repository:
    """A clone of a bare remote, and what a worker would make of a record of it."""

    def __init__(self, base: Path) -> None:
        self.remote = base / "remote.git"
        self.tree = base / "work tree"
        self.base = base
        run(base, "init", "-q", "--bare", "-b", "main", str(self.remote))
        run(base, "clone", "-q", str(self.remote), str(self.tree))
        self.git("config", "user.email", "someone@example.com")
        self.git("config", "user.name", "Someone")
        self.git("checkout", "-q", "-b", "main")
        self.write("train.py", "print('one')\n")
        self.write("lib/model.py", "".join(f"layer_{n} = {n}\n" for n in range(40)))
        self.commit("first")
        self.git("push", "-q", "-u", "origin", "main")

    def git(self, *arguments: str) -> str:
        return run(self.tree, *arguments)

    def write(self, path: str, content: str | bytes) -> Path:
        file = self.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def capture(self, script: str = "train.py", cwd: str = ".") -> dict[str, Any]:
        return capture_code(self.tree / script, self.tree / cwd)

    def rebuilt(self, found: dict[str, Any]) -> dict[str, bytes]:
        """The files that a clone on another machine has after checkout and diff."""
        fresh = self.base / f"fresh-{len(list(self.base.iterdir()))}"
        run(self.base, "clone", "-q", "--no-checkout", found["repository"], str(fresh))
        run(fresh, "checkout", "-q", found["commit"])
        if found["diff"]:
            subprocess.run(["git", "apply", "-"], cwd=fresh, input=found["diff"].encode(), check=True)
        return files(fresh)


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_a_clean_checkout_is_told_by_its_commit_alone(repo: Repository):
    found = repo.capture()
    assert found == {
        "python": platform.python_version(),
        "repository": str(repo.remote),
        "branch": "main",
        "commit": repo.git("rev-parse", "HEAD"),
        "diff": "",
        "import_paths": (),
        "entry_point": "train.py",
        "working_dir": ".",
    }
    assert msgspec.convert(found, Execution).commit == found["commit"]


def test_source_folders_on_pythons_path_are_told(repo: Repository, monkeypatch: pytest.MonkeyPatch):
    inside, elsewhere = repo.tree / "src", repo.base / "elsewhere"
    for folder in (inside, elsewhere):
        folder.mkdir()
    environment = repo.tree / "environment" / "site-packages"
    environment.mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(repo.tree / "environment"))
    monkeypatch.setattr(sys, "path", [str(repo.tree), str(elsewhere), str(inside), str(environment), *sys.path])
    assert repo.capture()["import_paths"] == ("src",)


def staged_and_unstaged(repo: Repository) -> None:
    repo.write("train.py", "print('two')\n")
    repo.git("add", "train.py")
    repo.write("train.py", "print('two')\nprint('three')\n")
    repo.write("lib/model.py", "layer = 1\n")
    repo.write("lib/new.py", "new = True\n")
    repo.git("add", "lib/new.py")


def never_pushed(repo: Repository) -> None:
    repo.write("a.py", "a = 1\n")
    repo.commit("unpushed one")
    repo.write("b.py", "b = 1\n")
    repo.commit("unpushed two")
    repo.write("train.py", "import a, b\n")


def renamed_and_deleted(repo: Repository) -> None:
    repo.git("mv", "lib/model.py", "lib/net.py")
    repo.write("old.py", "x = 1\n")
    repo.commit("to be deleted")
    repo.git("push", "-q")
    repo.git("rm", "-q", "old.py")


def binary(repo: Repository) -> None:
    repo.write("weights.bin", bytes(range(256)) * 20)
    repo.git("add", "weights.bin")
    repo.write("train.py", b"name = '\xe9t\xe9'  # latin-1\n")
    repo.write("lib/model.py", "ok = 1\n")


def strange_names(repo: Repository) -> None:
    for name in ("with space.py", "größe.py", 'quo"te.py', "tab\there.py", "-dash.py"):
        repo.write(name, f"name = {name!r}\n")
    repo.commit("strange names")
    repo.write("größe.py", "changed = 1\n")
    repo.write("with space.py", "changed = 1\r\n")


def modes(repo: Repository) -> None:
    (repo.tree / "train.py").chmod(0o755)
    os.symlink("train.py", repo.tree / "link.py")
    repo.git("add", "link.py")


def no_newline(repo: Repository) -> None:
    repo.write("train.py", "print('no newline')")
    repo.write("empty.py", "")
    repo.git("add", "empty.py")


def merged(repo: Repository) -> None:
    repo.git("checkout", "-q", "-b", "side")
    repo.write("side.py", "side = 1\n")
    repo.commit("side")
    repo.git("checkout", "-q", "main")
    repo.write("main.py", "main = 1\n")
    repo.commit("main")
    repo.git("merge", "-q", "--no-edit", "side")


def hostile_settings(repo: Repository) -> None:
    program = repo.write("evil.sh", '#!/bin/sh\ntouch "$(git rev-parse --show-toplevel)/ran"\n')
    program.chmod(0o755)
    repo.write(".gitattributes", "*.py diff=evil\n")
    repo.commit("settings")
    for name in ("diff.external", "core.fsmonitor", "diff.evil.command", "diff.evil.textconv", "core.pager"):
        repo.git("config", name, str(program))
    for name, value in (("diff.noprefix", "true"), ("diff.context", "0"), ("color.ui", "always")):
        repo.git("config", name, value)
    repo.git("config", "diff.mnemonicPrefix", "true")
    repo.write("train.py", "print('changed')\n")


@pytest.mark.parametrize(
    "change",
    [
        staged_and_unstaged,
        never_pushed,
        renamed_and_deleted,
        binary,
        strange_names,
        modes,
        no_newline,
        merged,
        hostile_settings,
    ],
)
def test_a_fresh_clone_with_the_diff_is_the_same_tree(repo: Repository, change: Callable[[Repository], None]):
    change(repo)
    found = repo.capture()
    assert found["repository"] == str(repo.remote)
    assert repo.rebuilt(found) == files(repo.tree)
    assert not (repo.tree / "ran").exists()


def test_commits_that_were_never_pushed_are_part_of_the_diff(repo: Repository):
    pushed = repo.git("rev-parse", "HEAD")
    never_pushed(repo)
    found = repo.capture()
    assert found["commit"] == pushed
    assert "unpushed" not in found["diff"]


def test_capturing_leaves_the_index_as_it_was(repo: Repository):
    staged_and_unstaged(repo)
    (repo.tree / "lib/model.py").touch()
    before = (repo.tree / ".git/index").read_bytes()
    repo.capture()
    assert (repo.tree / ".git/index").read_bytes() == before


def test_an_untracked_entry_script_is_a_new_file_in_the_diff(repo: Repository):
    repo.write("lib/größe two.py", "print('untracked')\n")
    repo.write("other.py", "untracked, and not the entry script\n")
    found = repo.capture("lib/größe two.py")
    assert found["entry_point"] == "lib/größe two.py"
    rebuilt = repo.rebuilt(found)
    assert rebuilt["lib/größe two.py"] == b"print('untracked')\n"
    assert "other.py" not in rebuilt


def test_a_module_in_use_that_git_does_not_track_is_warned_of(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    used = repo.write("lib/forgotten.py", "x = 1\n")
    repo.write("lib/unused.py", "x = 1\n")
    module = ModuleType("forgotten")
    module.__file__ = str(used)
    monkeypatch.setitem(sys.modules, "forgotten", module)
    repo.capture()
    assert "lib/forgotten.py" in caplog.text and "unused" not in caplog.text


def test_an_ignored_entry_script_is_in_the_diff_too(repo: Repository):
    repo.write(".gitignore", "scratch.py\n")
    repo.commit("ignore")
    repo.write("scratch.py", "print(1)\n")
    assert repo.rebuilt(repo.capture("scratch.py"))["scratch.py"] == b"print(1)\n"


@pytest.mark.parametrize(
    ("script", "cwd", "entry", "working_dir"),
    [
        ("train.py", ".", "train.py", "."),
        ("lib/model.py", "lib", "model.py", "lib"),
        ("lib/model.py", ".", "lib/model.py", "."),
        ("train.py", "lib", "../train.py", "lib"),
        ("lib/model.py", "..", "lib/model.py", "."),
    ],
)
def test_entry_point_is_relative_to_the_working_folder(
    repo: Repository, script: str, cwd: str, entry: str, working_dir: str
):
    found = repo.capture(script, cwd)
    assert (found["entry_point"], found["working_dir"]) == (entry, working_dir)


@pytest.mark.parametrize(("module", "file"), [("lib.model", "lib/model.py"), ("lib", "lib/__main__.py")])
def test_a_module_start_is_told_as_one(repo: Repository, module: str, file: str):
    code = (
        "import json, sys; from pathlib import Path\n"
        "from taskloom.sdk.capture.git import capture_code\n"
        "found = capture_code(Path(sys.modules['__main__'].__file__), Path.cwd())\n"
        "print(json.dumps([found['entry_point'], found['working_dir']]))\n"
    )
    repo.write(file, code)
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=repo.tree, capture_output=True, text=True, check=True
    )
    assert msgspec.json.decode(done.stdout) == [f"-m {module}", "."]


def test_a_detached_head_has_no_branch(repo: Repository):
    first = repo.git("rev-parse", "HEAD")
    repo.write("more.py", "")
    repo.commit("more")
    repo.git("push", "-q")
    repo.git("checkout", "-q", "--detach", first)
    found = repo.capture()
    assert (found["branch"], found["commit"]) == ("", first)


def test_a_shallow_clone_is_captured_like_a_whole_one(repo: Repository, tmp_path: Path):
    for n in range(3):
        repo.write("n.py", f"n = {n}\n")
        repo.commit(str(n))
    repo.git("push", "-q")
    shallow = tmp_path / "shallow"
    run(tmp_path, "clone", "-q", "--depth=1", f"file://{repo.remote}", str(shallow))
    (shallow / "train.py").write_text("print('shallow')\n")
    found = capture_code(shallow / "train.py", shallow)
    assert found["repository"] == f"file://{repo.remote}"
    assert repo.rebuilt(found) == files(shallow)


def test_the_branch_chooses_its_own_remote(repo: Repository, tmp_path: Path):
    other = tmp_path / "fork.git"
    run(tmp_path, "init", "-q", "--bare", str(other))
    repo.git("remote", "add", "fork", str(other))
    repo.write("new.py", "new = 1\n")
    commit = repo.commit("on the fork only")
    repo.git("push", "-q", "-u", "fork", "main")
    found = repo.capture()
    assert (found["repository"], found["commit"], found["diff"]) == (str(other), commit, "")


def test_without_a_remote_the_folder_itself_can_be_fetched(repo: Repository):
    repo.git("remote", "remove", "origin")
    repo.write("train.py", "print('local')\n")
    found = repo.capture()
    assert found["repository"] == str(repo.tree)
    assert found["commit"] == repo.git("rev-parse", "HEAD")
    assert repo.rebuilt(found) == files(repo.tree)


def test_a_history_that_the_remote_never_saw_is_fetched_from_here(repo: Repository):
    repo.git("checkout", "-q", "--orphan", "fresh")
    repo.commit("unrelated")
    assert repo.capture()["repository"] == str(repo.tree)


def test_a_submodule_is_left_alone(repo: Repository, tmp_path: Path):
    other = Repository(tmp_path / "other") if (tmp_path / "other").mkdir() is None else None
    assert other is not None
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other.remote), "part")
    repo.commit("submodule")
    repo.git("push", "-q")
    (repo.tree / "part/train.py").write_text("changed\n")
    assert repo.capture()["diff"] == ""


def test_changes_over_the_limit_leave_a_sentence_that_does_not_apply(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(capture, "MAX_CODE", 1000)
    repo.write("train.py", "x = 1\n" * 1000)
    diff = repo.capture()["diff"]
    assert "more than 1000" in diff and len(diff) < 1000
    assert subprocess.run(["git", "apply", "-"], cwd=repo.tree, input=diff.encode(), check=False).returncode != 0


def test_without_a_repository_the_script_is_the_code(tmp_path: Path):
    script = tmp_path / "alone.py"
    script.write_text("print('größe')\n", encoding="utf-8")
    assert capture_code(script, tmp_path.parent) == {
        "python": platform.python_version(),
        "entry_point": "alone.py",
        "working_dir": ".",
        "diff": "print('größe')\n",
    }


def test_a_script_in_an_old_encoding_becomes_utf_8(tmp_path: Path):
    script = tmp_path / "old.py"
    script.write_bytes("#!/usr/bin/python\n# -*- coding: latin-1 -*-\nprint('\xe9')\n".encode("latin-1"))
    assert capture_code(script, tmp_path)["diff"].splitlines()[1:] == ["# -*- coding: utf-8 -*-", "print('é')"]


def test_a_repository_without_a_commit_falls_back_to_the_script(tmp_path: Path):
    run(tmp_path, "init", "-q")
    (tmp_path / "train.py").write_text("print(1)\n")
    found = capture_code(tmp_path / "train.py", tmp_path)
    assert found["diff"] == "print(1)\n# Taskloom recorded this file alone: the repository has no commit yet\n"
    assert "repository" not in found


def test_git_that_cannot_be_run_falls_back_to_the_script(repo: Repository, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    found = repo.capture()
    assert found["diff"].startswith("print('one')\n# Taskloom recorded this file alone: git cannot be run")


def test_a_damaged_repository_falls_back_to_the_script(repo: Repository):
    (repo.tree / ".git/index").write_bytes(b"garbage")
    assert "Taskloom recorded this file alone" in repo.capture()["diff"]


def test_a_console_has_no_script(tmp_path: Path):
    assert capture_code(None, tmp_path) == {"python": platform.python_version()}


def test_a_script_that_is_gone_does_not_raise(tmp_path: Path):
    assert "could not be recorded" in capture_code(tmp_path / "gone.py", tmp_path)["diff"]
    assert capture_code(tmp_path / "no" / "folder.py", tmp_path)["entry_point"] == "folder.py"


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://user:secret@host.example/a/b.git", "https://host.example/a/b.git"),
        ("https://ghp_token@host.example:8443/a.git", "https://host.example:8443/a.git"),
        ("https://host.example/a.git?private_token=x", "https://host.example/a.git"),
        ("https://host.example/a.git?version=2", "https://host.example/a.git?version=2"),
        ("ssh://git:secret@host.example:22/a.git", "ssh://git@host.example:22/a.git"),
        ("git@host.example:a/b.git", "git@host.example:a/b.git"),
        ("https://u:p@[::1]:80/a.git", "https://[::1]:80/a.git"),
        ("https://u:p@host:notaport/a.git", "https://host:notaport/a.git"),
        ("/srv/git/a.git", "/srv/git/a.git"),
        ("file:///srv/a.git", "file:///srv/a.git"),
    ],
)
def test_addresses_lose_their_credentials(url: str, clean: str):
    assert strip_credentials(url) == clean


def test_a_remote_with_a_password_is_recorded_without_it(repo: Repository):
    repo.git("remote", "set-url", "origin", "https://me:hunter2@host.example/x.git")
    assert "hunter2" not in str(repo.capture())
