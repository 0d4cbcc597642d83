"""`taskloom run URL`: a task file out of a repository, the commit that runs, and addresses that smuggle."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskloom.cli.running import repositories
from taskloom.cli.running.drafts import _placed
from taskloom.domain.errors import BadInput
from taskloom.domain.repository import check_folder, check_reference, check_repository, repository_name
from taskloom.wire import operations as op

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    def run(*words: str, folder: Path = tmp_path / "repo") -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
        done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    return run


@pytest.fixture
def url(tmp_path: Path, git: Git) -> str:
    """A repository with a task file in a folder, on `main`, on `feature/x` and as the tag `v1`."""
    root = tmp_path / "repo"
    (root / "examples" / "train").mkdir(parents=True)
    (root / "bare").mkdir()
    (root / "bare" / "x.py").write_text("")
    file = root / "examples" / "train" / "task.yaml"
    git("init", "-q")
    git("config", "uploadpack.allowFilter", "true")
    for branch, text in (("main", "first"), ("feature/x", "second")):
        git("checkout", "-q", "-B", branch)
        file.write_text(f"name: {text} task\nrun: python train.py\n")
        git("add", ".")
        git("commit", "-qm", text)
    git("tag", "v1", "main")
    git("checkout", "-q", "main")
    return root.as_uri()


def fetch(house: Any, ran: Any) -> Any:
    assert ran.code == 0, ran.err
    return house.client.call(op.GET_TASK, task=ran.json["id"])


def test_the_commit_that_was_looked_at_is_what_runs(taskloom: Any, house: Any, url: str, git: Git) -> None:
    ran = taskloom("run", url, "--directory", "examples/train", "--draft", "--json")
    task = fetch(house, ran)
    commit = git("rev-parse", "main")
    assert (task.name, task.project) == ("first task", "repo")
    execution = task.execution
    assert (execution.repository, execution.commit, execution.directory) == (url, commit, "examples/train")
    assert (execution.branch, execution.files) == ("", "")
    assert task.runtime["source"]["commit"] == commit
    told = taskloom("run", url, "--directory", "examples/train", "--draft")
    assert f"commit {commit} of" in told.err


def test_branch_tag_and_commit_are_found_by_name(taskloom: Any, house: Any, url: str, git: Git) -> None:
    def run(*options: str) -> Any:
        return fetch(house, taskloom("run", url, "-d", "examples/train", "--draft", "--json", *options)).execution

    other = git("rev-parse", "feature/x")
    assert (run("-b", "feature/x").branch, run("-b", "feature/x").commit) == ("feature/x", other)
    assert (run("-b", "v1").tag, run("-b", "v1").commit) == ("v1", git("rev-parse", "main"))
    assert (run("-b", other).branch, run("-b", other).commit) == ("", other)
    assert (run("-b", "feature/x", "--no-pin").branch, run("-b", "feature/x", "--no-pin").commit) == (
        "feature/x",
        "",
    )
    assert run("--no-pin").commit == ""


def test_a_file_that_names_its_repository_is_taken_at_its_word(
    taskloom: Any, house: Any, url: str, git: Git, tmp_path: Path
) -> None:
    root = tmp_path / "repo"
    (root / "own").mkdir()
    for name, repository in (("own", "https://example.org/other"), ("same", f"{url}.git")):
        (root / name).mkdir(exist_ok=True)
        (root / name / "task.yaml").write_text(
            f"name: own task\nrun: x\ngit_repo: {repository}\ngit_repo_directory: {name}\n"
        )
    git("add", ".")
    git("commit", "-qm", "own")
    other = fetch(house, taskloom("run", url, "-d", "own", "--draft", "--json")).execution
    assert (other.repository, other.commit, other.directory) == ("https://example.org/other", "", "own")
    same = fetch(house, taskloom("run", url, "-d", "same", "--draft", "--json")).execution
    assert (same.repository, same.commit) == (f"{url}.git", git("rev-parse", "main"))


@pytest.mark.parametrize(
    ("run", "start", "placed"),
    [
        ("python train.py", "train", "cd ~/train\npython train.py"),
        ("python x.py", "my code", "cd ~/'my code'\npython x.py"),
        ("cd ~/train && python train.py", "train", ""),
        ("cd $HOME/train; x", "train", ""),
        ("cd train\nx", "train", ""),
        ("python train/train.py", "train", ""),
        ("python ~/train/train.py", "train", ""),
        ("python retrain/train.py", "train", "cd ~/train\npython retrain/train.py"),
        ("python x.py", "", ""),
        ("", "train", ""),
    ],
)
def test_shell_lines_begin_in_the_folder_unless_they_name_it(run: str, start: str, placed: str) -> None:
    assert _placed(run, start) == (placed or run)


def test_flags_replace_a_file_that_the_repository_lacks(taskloom: Any, house: Any, url: str) -> None:
    refused = taskloom("run", url, "-d", "bare")
    assert (refused.code, "has no task.yaml: say what to run with --run" in refused.err) == (1, True)
    task = fetch(house, taskloom("run", url, "-d", "bare", "--run", "python x.py", "--draft", "--json"))
    assert (task.execution.directory, task.execution.run) == ("bare", "cd ~/bare\npython x.py")
    assert "has no folder 'nowhere'" in taskloom("run", url, "-d", "nowhere").err
    missing = taskloom("run", url, "-b", "nowhere")
    assert missing.code == 1
    assert "nowhere" in missing.err


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("https://h.org/o/r/tree/main/a/b", ("https://h.org/o/r", "main/a/b")),
        ("https://h.org/o/r/blob/v1/a/task.yaml", ("https://h.org/o/r", "v1/a/task.yaml")),
        ("https://h.org/g/s/r/-/tree/feature/x/a?ref_type=heads", ("https://h.org/g/s/r", "feature/x/a")),
        ("https://h.org/o/r/src/branch/main/a%20b/", ("https://h.org/o/r", "main/a b")),
        ("https://h.org/o/r.git", ("https://h.org/o/r.git", "")),
        ("https://h.org/o/r/", ("https://h.org/o/r", "")),
        ("git@h.org:o/r.git", ("git@h.org:o/r.git", "")),
        ("ssh://git@h.org/o/r/tree/main", ("ssh://git@h.org/o/r/tree/main", "")),
    ],
)
def test_the_address_that_a_browser_shows_is_understood(address: str, parts: tuple[str, str]) -> None:
    assert repositories._split(address) == parts


def test_a_branch_with_slashes_is_told_from_the_folder_behind_it(url: str, tmp_path: Path) -> None:
    place = tmp_path / "asked"
    place.mkdir()
    subprocess.run(["git", "init", "-q", "--bare", "."], cwd=place, check=True)
    assert repositories._divided(place, url, "feature/x/examples/train", "", "") == ("feature/x", "examples/train")
    assert repositories._divided(place, url, "v1/examples/train/task.yaml", "", "") == (
        "v1",
        "examples/train/task.yaml",
    )
    assert repositories._divided(place, url, "main", "", "deep") == ("main", "deep")


SMUGGLED = ["ext::sh -c touch% /tmp/smuggled", "--upload-pack=touch", "-u", "fd::17", "file://-x", "https://-oProxy/x",
            "ssh://-oProxyCommand=touch/x", "javascript://x", "https://h/x\n--upload-pack=y", "relative/path", "",
            "transport::https://h/x", "https://[::1"]  # fmt: skip


@pytest.mark.parametrize("address", SMUGGLED)
def test_addresses_that_smuggle_are_refused(address: str) -> None:
    with pytest.raises(BadInput):
        check_repository(address)


@pytest.mark.parametrize("words", [
    ("ext::sh -c 'touch {mark}'",), ("file:///x", "--branch", "--upload-pack=touch {mark}"),
    ("file:///x", "--directory", "../../etc"), ("file:///x", "-b", "a..b"), ("https://u:secret@127.0.0.1:9/x.git",),
], ids=["ext", "branch", "directory", "range", "password"])  # fmt: skip
def test_nothing_is_started_by_a_target(taskloom: Any, tmp_path: Path, words: tuple[str, ...]) -> None:
    mark = tmp_path / "mark"
    ran = taskloom("run", *(word.format(mark=mark) for word in words))
    assert ran.code == 1
    assert not mark.exists()
    assert "secret" not in ran.err + ran.out


@pytest.mark.parametrize("folder", ["/etc", "../x", "a/../../b", "~/x", "a\\b", "a*", "-x", "a\nb"])
def test_folders_that_leave_the_repository_are_refused(folder: str) -> None:
    with pytest.raises(BadInput):
        check_folder(folder)


def test_names_of_repositories_and_references() -> None:
    assert [repository_name(url) for url in ("https://h/o/name.git", "git@h:name", "/a/name/", "https://h/o/na.me")] == [
        "name", "name", "name", "na.me",
    ]  # fmt: skip
    assert check_folder("./a//b/") == "a/b"
    assert check_reference("feature/x") == "feature/x"
    for wrong in ("", "-x", "a b", "a..b", "a:b", "a\x7f", "@{x}^"):
        with pytest.raises(BadInput):
            check_reference(wrong)
