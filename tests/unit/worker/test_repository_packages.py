"""Packages of a repository when none were recorded, an attempt's own environments, and those inside an image."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.worker.test_worker_packages import WITHOUT_NETWORK, make_wheel
from tests.unit.worker.workshop import Done, Workshop, lease_of

from taskloom.domain.execution import Execution
from taskloom.worker.packages import READY, uv_program, wanted
from taskloom.worker.requirements import project_dependencies
from taskloom.worker.steps import PrepareFailed
from taskloom.worker.venvs import copy_environment

Git = Callable[..., str]
PROJECT = "[project]\nname = 'mine'\nversion = '1'\nrequires-python = '>=3.11'\ndependencies = ['loomtest==1.0']\n"
SHOW = "import loomtest; print(loomtest.WORD)\n"


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    for version, word in (("1.0", "one"), ("2.0", "two")):
        make_wheel(tmp_path / "wheels", "loomtest", version, f"WORD = {word!r}\n")
    make_wheel(tmp_path / "wheels", "loomextra", "1.0", "WORD = 'extra'\n")
    return Workshop(tmp_path, **WITHOUT_NETWORK, UV_FIND_LINKS=str(tmp_path / "wheels"))


def committed(repository: Path, git: Git, files: dict[str, str]) -> Execution:
    for name, text in files.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(text)
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "files")
    return Execution(repository=str(repository), entry_point="show.py")


def out(done: Done) -> str:
    assert (done.failed, done.exit and done.exit.code) == ("", 0), done
    return done.out


def test_a_requirements_file_includes_others_of_the_repository(shop: Workshop, repository: Path, git: Git) -> None:
    files = {
        "requirements.txt": "# all\n-r deep/more.txt\n-c bounds.txt\n-e .\nloomtest\n",
        "deep/more.txt": "--requirement ../last.txt\n",
        "last.txt": "loomextra  # the extra one\n",
        "bounds.txt": "loomtest<2\n",
        "pyproject.toml": "[project]\nname='mine'\nversion='1'\n",
        "src/mine/__init__.py": "WORD = 'own code'\n",
        "show.py": "import loomextra, loomtest, mine; print(loomextra.WORD, loomtest.WORD, mine.WORD)\n",
    }
    done = shop.run(lease_of(committed(repository, git, files)))
    assert out(done) == "extra one own code\n"
    assert "using the repository's requirements.txt" in done.report
    assert (
        "has these packages already"
        in shop.run(lease_of(Execution(repository=str(repository), entry_point="show.py"))).report
    )


@pytest.mark.parametrize(
    ("line", "said"), [("-r ../../out.txt", "leads out"), ("-r none.txt", "are not in the repository")]
)
def test_an_inclusion_that_leads_nowhere_is_named(
    shop: Workshop, repository: Path, git: Git, line: str, said: str
) -> None:
    assert (
        said in shop.run(lease_of(committed(repository, git, {"requirements.txt": line, "show.py": SHOW}))).failed
    )


def test_a_project_gives_its_dependencies_and_other_tools_files_are_not_read(
    shop: Workshop, repository: Path, git: Git
) -> None:
    files = {"pyproject.toml": PROJECT, "poetry.lock": "", "environment.yml": "", "show.py": SHOW}
    done = shop.run(lease_of(committed(repository, git, files)))
    assert out(done) == "one\n"
    assert (
        "using the repository's pyproject.toml; poetry.lock environment.yml of other tools are not read"
        in done.report
    )


def test_a_lock_file_of_uv_wins_over_its_project(shop: Workshop, repository: Path, git: Git) -> None:
    execution = committed(repository, git, {"pyproject.toml": PROJECT.replace("==1.0", ""), "show.py": SHOW})
    lock = [uv_program(), "lock", "--quiet", "--python", sys.executable]
    subprocess.run(
        lock, cwd=repository, check=True, env={**shop.environ, "UV_NO_INDEX": "", "UV_OFFLINE": "1"} | LOCKING
    )
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "locked")
    make_wheel(shop.root / "wheels", "loomtest", "3.0", "WORD = 'three'\n")
    done = shop.run(lease_of(execution))
    assert out(done) == "two\n"
    assert "using the repository's uv.lock" in done.report


LOCKING = {"UV_NO_INDEX": "1"}


def test_a_pylock_is_installed_as_it_is(shop: Workshop, repository: Path, git: Git) -> None:
    wheel = shop.root / "wheels" / "loomtest-1.0-py3-none-any.whl"
    lock = (
        "lock-version = '1.0'\ncreated-by = 'a test'\n[[packages]]\nname = 'loomtest'\nversion = '1.0'\n"
        f"wheels = [{{ path = '{wheel}', hashes = {{}} }}]\n"
    )
    done = shop.run(lease_of(committed(repository, git, {"pylock.toml": lock, "show.py": SHOW})))
    assert out(done) == "one\n"


def test_what_is_no_project_is_said(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.poetry]\n")
    assert project_dependencies(path) is None
    path.write_text("[project]\nname = 'x'\ndependencies = 'a'\n")
    with pytest.raises(PrepareFailed, match="expected a list of texts"):
        project_dependencies(path)
    path.write_text("[[[")
    with pytest.raises(PrepareFailed, match="cannot be read"):
        project_dependencies(path)


def test_hashes_stay_with_their_requirement_and_go_with_taskloom() -> None:
    text = "numpy==1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\ntaskloom==1 \\\n    --hash=sha256:cc\n"
    assert [line.split() for line in wanted(text)] == [["numpy==1", "--hash=sha256:aa", "--hash=sha256:bb"]]


# --- an environment of one's own --------------------------------------------------------------------------


def test_setup_lines_change_a_copy_and_the_shared_environment_stays(shop: Workshop) -> None:
    setup = "uv pip install --offline loomextra; pip uninstall -y -q loomtest"
    show = "import importlib.util as u; print([bool(u.find_spec(n)) for n in ('loomextra', 'loomtest')])"
    plain = Execution(diff=show, entry_point="x.py", packages="loomtest==1.0")
    changing = Execution(diff=show, entry_point="x.py", packages="loomtest==1.0", setup=setup)
    for _ in range(2):
        assert out(shop.run(lease_of(changing))).endswith("[True, False]\n")
        assert out(shop.run(lease_of(plain))) == "[False, True]\n"


def test_a_copy_of_an_environment_is_one_in_its_own_place(tmp_path: Path, shop: Workshop) -> None:
    source = tmp_path / "source"
    subprocess.run([uv_program(), "venv", "-q", "--python", sys.executable, source], check=True, env=shop.environ)
    (source / "bin" / "tool").write_text(f"#!{source}/bin/python\nimport sys\nprint(sys.prefix)\n")
    (source / "bin" / "tool").chmod(0o755)
    (source / READY).touch()
    target = tmp_path / "target"
    copy_environment(source, target)
    shutil.rmtree(source)
    assert not (target / READY).exists()
    ran = subprocess.run([target / "bin" / "tool"], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str(target)
    assert str(source) not in (target / "bin" / "activate").read_text()


# --- inside an image, whose Python is this machine's -------------------------------------------------------


def test_packages_of_an_image_are_installed_once_by_the_program_itself(shop: Workshop) -> None:
    execution = Execution(diff=SHOW, entry_point="x.py", packages="loomtest==1.0", image="some/image")
    lease = lease_of(execution)
    shop.environ |= {"UV_FIND_LINKS": (shop.root / "wheels").as_uri()}
    first, second = shop.run(lease, image="sha256:1"), shop.run(lease, image="sha256:1")
    assert (out(first), out(second)) == ("one\n", "one\n")
    assert ["the environment took" in done.err for done in (first, second)] == [True, False]
    other = shop.run(lease, image="sha256:2")
    assert "the environment took" in other.err
    assert first.prepared is not None
    assert first.prepared.argv == ("/bin/sh", str(first.folder / "program.sh"))
    assert "PATH" not in first.prepared.env  # the image has its own
    assert not any("TASKLOOM_" in name for name in first.prepared.env)
    shared = first.prepared.mounts[0]
    assert (shared / READY).exists()
    assert all(path.exists() for path in (*first.prepared.mounts, *first.prepared.readonly))


def test_a_run_in_an_image_has_an_environment_above_it_and_goes_without_python_too(
    shop: Workshop, tmp_path: Path
) -> None:
    run = 'echo "$VIRTUAL_ENV" "$HOME"; command -v python || echo none'
    done = shop.run(lease_of(Execution(run=run, image="i")), image="sha256:1")
    assert out(done).splitlines() == [f"{done.folder}/venv {done.home}", f"{done.folder}/venv/bin/python"]
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cat", "echo", "id", "sh"):
        (tools / name).symlink_to(str(shutil.which(name)))
    shop.environ["PATH"] = str(tools)
    assert (
        out(shop.run(lease_of(Execution(run="command -v python || echo none", image="i")), image="sha256:1"))
        == "none\n"
    )
    needing = shop.run(lease_of(Execution(diff=SHOW, entry_point="x.py", image="i")), image="sha256:1")
    assert needing.exit is not None
    assert needing.exit.code == 127
    assert "the image has no python3, and the task's entry point is a Python script" in needing.err
    assert os.environ["PATH"] != shop.environ["PATH"]
