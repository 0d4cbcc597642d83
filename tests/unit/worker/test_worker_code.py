"""Code from git: commits, branches, uncommitted changes, and everything that may not reach git."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskloom.domain.execution import Execution
from taskloom.domain.repository import without_credentials
from taskloom.domain.status import Status
from taskloom.worker.git import check_url, git_environment
from taskloom.worker.steps import PrepareFailed, redact

Git = Callable[..., str]


def head(git: Git, folder: Path) -> str:
    return git(folder, "rev-parse", "HEAD").strip()


def test_a_commit_is_checked_out_with_its_uncommitted_changes(field: Any, repository: Path, git: Git) -> None:
    commit = head(git, repository)
    (repository / "train.py").write_text("import extra\nprint('changed', extra.X)\n")
    (repository / "extra.py").write_text("X = 'ünïcode'\n")
    (repository / "blob.bin").write_bytes(bytes(range(256)))
    git(repository, "add", ".")
    diff = git(repository, "diff", "--cached", "--binary", "HEAD")
    git(repository, "reset", "--hard", "--quiet")
    field.worker()
    task = field.enqueue(Execution(repository=str(repository), commit=commit, entry_point="train.py", diff=diff))
    ended = field.ended(task)
    assert (ended.status, ended.status_reason) == (Status.COMPLETED, "")
    assert field.console(task, "stdout") == "changed ünïcode\n"


def test_one_fetch_serves_all_tasks_of_a_commit_and_a_new_one_is_fetched(
    field: Any, repository: Path, git: Git
) -> None:
    field.worker()
    url = repository.as_uri()
    first = Execution(repository=url, commit=head(git, repository), entry_point="train.py")
    tasks = [field.enqueue(first) for _ in range(2)]
    assert [field.ended(task).status for task in tasks] == [Status.COMPLETED] * 2
    assert ["fetching" in field.console(task, "report") for task in tasks] == [True, False]
    (repository / "train.py").write_text("print('second')\n")
    git(repository, "commit", "--quiet", "-am", "second")
    again = field.enqueue(Execution(repository=url, commit=head(git, repository), entry_point="train.py"))
    assert field.ended(again).status is Status.COMPLETED
    assert field.console(again, "stdout") == "second\n"


def test_a_branch_a_tag_a_module_and_a_working_directory(field: Any, repository: Path, git: Git) -> None:
    package = repository / "src" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "main.py").write_text("import os, sys; print(os.path.basename(os.getcwd()), sys.argv[1:])\n")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "package")
    git(repository, "tag", "v1")
    git(repository, "checkout", "--quiet", "-b", "other/branch")
    (repository / "train.py").write_text("print('on the branch')\n")
    git(repository, "commit", "--quiet", "-am", "branch")
    git(repository, "checkout", "--quiet", "main")
    field.worker()
    url = str(repository)
    tagged = field.enqueue(
        Execution(
            repository=url, tag="v1", entry_point="-m package.main", working_dir="src", arguments=("--x", "1")
        )
    )
    branched = field.enqueue(Execution(repository=url, branch="other/branch", entry_point="train.py"))
    default = field.enqueue(Execution(repository=url, entry_point="train.py"))
    assert [field.ended(task).status for task in (tagged, branched, default)] == [Status.COMPLETED] * 3
    said = [field.console(task, "stdout") for task in (tagged, branched, default)]
    assert said == ["src ['--x', '1']\n", "on the branch\n", "first\n"]


def test_a_workspace_is_a_repository_that_the_task_may_do_anything_to(
    field: Any, repository: Path, git: Git
) -> None:
    field.worker()
    text = (
        "import subprocess, sys\n"
        "run = lambda *w: subprocess.run(['git', *w], check=True, capture_output=True, text=True).stdout.strip()\n"
        "print(run('rev-parse', 'HEAD'), run('remote', 'get-url', 'origin'))\n"
        "subprocess.run(['rm', '-rf', '.git/objects'])\n"
    )
    diff = f"""\
diff --git a/look.py b/look.py
new file mode 100644
--- /dev/null
+++ b/look.py
@@ -0,0 +1,{text.count(chr(10))} @@
"""
    diff += "".join(f"+{line}\n" for line in text.splitlines())
    execution = Execution(
        repository=str(repository), commit=head(git, repository), entry_point="look.py", diff=diff
    )
    tasks = [field.enqueue(execution) for _ in range(2)]
    assert [field.ended(task).status for task in tasks] == [Status.COMPLETED] * 2
    assert [field.console(task, "stdout") for task in tasks] == [f"{head(git, repository)} {repository}\n"] * 2


NOT_TO_BE_HAD = [
    ({"commit": "deadbeef" * 5}, "commit deadbeefdeadbeefdeadbeefdeadbeefdeadbeef is not in the repository"),
    ({"commit": "--help"}, "expected 7 to 64 hexadecimal digits"),
    ({"commit": "", "branch": "nowhere"}, "heads/nowhere is not in the repository"),
    ({"commit": "", "branch": "--upload-pack=x"}, "is not the name of a tag or branch"),
    ({"repository": "/no/such/repository"}, "/no/such/repository cannot be fetched"),
    ({"repository": "https://user:secret@127.0.0.1:9/x.git"}, "127.0.0.1:9/x.git cannot be fetched"),
    ({"entry_point": "missing.py"}, "entry point 'missing.py' is not in the workspace"),
    ({"working_dir": "missing"}, "working directory 'missing' is not in the repository"),
]


def test_code_that_cannot_be_had_is_named(field: Any, repository: Path, git: Git) -> None:
    field.worker("w1", "--slots", "3")
    plain = {"repository": str(repository), "commit": head(git, repository), "entry_point": "train.py"}
    tasks = [(field.enqueue(Execution(**{**plain, **change})), reason) for change, reason in NOT_TO_BE_HAD]
    for task, reason in tasks:
        ended = field.ended(task)
        assert (ended.status, reason in ended.status_reason) == (Status.FAILED, True), (
            reason,
            ended.status_reason,
        )
        assert "secret" not in ended.status_reason + field.console(task)


def test_changes_that_do_not_apply_name_their_file(field: Any, repository: Path, git: Git) -> None:
    commit = head(git, repository)
    (repository / "train.py").write_text("print('other')\n")
    git(repository, "commit", "--quiet", "-am", "other")
    (repository / "train.py").write_text("print('third')\n")
    diff = git(repository, "diff", "HEAD")
    field.worker()
    task = field.enqueue(Execution(repository=str(repository), commit=commit, entry_point="train.py", diff=diff))
    ended = field.ended(task)
    assert ended.status is Status.FAILED
    assert "do not apply" in ended.status_reason
    assert "train.py" in ended.status_reason


def test_a_diff_cannot_write_outside_of_the_workspace(
    field: Any, repository: Path, git: Git, tmp_path: Path
) -> None:
    diff = "--- /dev/null\n+++ b/../../../outside.py\n@@ -0,0 +1 @@\n+print(1)\n"
    field.worker()
    commit = head(git, repository)
    task = field.enqueue(Execution(repository=str(repository), commit=commit, entry_point="train.py", diff=diff))
    assert field.ended(task).status is Status.FAILED
    assert list(tmp_path.rglob("outside.py")) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a.git",
        "http://example.org:8080/a.git",
        "ssh://git@example.org/a.git",
        "git@example.org:group/a.git",
        "host:a.git",
        "git://example.org/a.git",
        "file:///srv/a.git",
        "/srv/a.git",
    ],
)
def test_addresses_that_git_may_be_given(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-oProxyCommand=x",
        "--upload-pack=x",
        "ext::sh -c x",
        "EXT::sh -c x",
        "fd::17",
        "https://-oProxyCommand=x/a",
        "ssh://-oProxyCommand=x/a",
        "-host:path",
        "host:-path",
        "transport::address",
        "javascript:alert(1) x\n",
        "relative/path",
        "../up",
        "https://",
        "ftp://example.org/a",
        "/srv/a\nb",
    ],
)
def test_addresses_that_git_is_never_given(url: str) -> None:
    with pytest.raises(PrepareFailed):
        check_url(url)


def test_git_asks_nobody_and_speaks_only_what_is_listed() -> None:
    remote = git_environment({"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "a.b"}, "https://example.org/a")
    assert remote["GIT_TERMINAL_PROMPT"] == "0"
    assert "file" not in remote["GIT_ALLOW_PROTOCOL"].split(":")
    assert "ext" not in remote["GIT_ALLOW_PROTOCOL"].split(":")
    assert (remote["GIT_CONFIG_KEY_0"], remote["GIT_CONFIG_COUNT"]) == ("a.b", "3")
    assert "file" in git_environment({}, "/srv/a")["GIT_ALLOW_PROTOCOL"].split(":")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://me:pw@example.org/x ok", "see https://***@example.org/x ok"),
        ("https://ghp_token@example.org/x", "https://***@example.org/x"),
        ("ssh://git@example.org/x", "ssh://git@example.org/x"),
        ("ssh://git:pw@example.org/x", "ssh://***@example.org/x"),
        ("git+https://a:b@h/x https://c:d@h/y", "git+https://***@h/x https://***@h/y"),
        ("https://h/simple?token=abc&x=1", "https://h/simple?token=***&x=1"),
        ("Authorization: Bearer abc", "Authorization: ***"),
        ("nothing here", "nothing here"),
    ],
)
def test_credentials_never_reach_a_log(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_the_workspace_keeps_no_credentials() -> None:
    assert without_credentials("https://me:pw@example.org:8443/x.git") == "https://example.org:8443/x.git"
    assert without_credentials("git@example.org:x.git") == "git@example.org:x.git"


def test_folders_that_the_script_imported_from_are_on_the_childs_path(
    field: Any, repository: Path, git: Git
) -> None:
    (repository / "src" / "helper_of_mine").mkdir(parents=True)
    (repository / "src" / "helper_of_mine" / "__init__.py").write_text("WORD = 'from the source folder'\n")
    (repository / "run.py").write_text("import helper_of_mine\nprint(helper_of_mine.WORD)\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "a source folder")
    commit = git(repository, "rev-parse", "HEAD").strip()
    field.worker()
    task = field.enqueue(
        Execution(repository=str(repository), commit=commit, entry_point="run.py", import_paths=("src",))
    )
    assert field.ended(task).status == "completed"
    assert field.console(task, "stdout") == "from the source folder\n"
    outside = field.enqueue(
        Execution(repository=str(repository), commit=commit, entry_point="run.py", import_paths=("../..",))
    )
    assert "leads out of the workspace" in field.ended(outside).status_reason
