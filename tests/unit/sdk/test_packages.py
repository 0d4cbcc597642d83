"""Packages: what own code imports, with versions and origins, in real virtual folders of packages."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest


class Site:
    """A site-packages folder made by hand, and a project beside it, captured by a fresh interpreter."""

    def __init__(self, base: Path) -> None:
        self.site = base / "lib/site-packages"
        self.project = base / "project"
        self.site.mkdir(parents=True)
        self.project.mkdir()
        self.variables: dict[str, str] = {}

    def install(
        self, name: str, version: str, files: dict[str, str], origin: dict[str, object] | None = None
    ) -> None:
        info = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        record = [f"{path},," for path in files]
        (info / "RECORD").write_text("\n".join([*record, f"{info.name}/METADATA,,", ""]))
        if origin is not None:
            (info / "direct_url.json").write_text(json.dumps(origin))
        for path, text in files.items():
            target = self.site / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)

    def write(self, path: str, text: str) -> Path:
        file = self.project / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def capture(self, script: str, **files: str) -> list[str]:
        """Lines after the first for a script that imports, then captures itself at its end."""
        for name, text in files.items():
            self.write(f"{name}.py", text)
        path = self.write("train.py", script + "\n" + CAPTURE)
        return self.run(str(path))

    def run(self, *arguments: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.project,
            env={"PYTHONPATH": str(self.site), "HOME": str(self.project), **self.variables},
            capture_output=True,
            text=True,
            check=True,
        )
        first, *rest = done.stdout.splitlines()
        assert first.startswith(f"# Python {platform.python_version()} ")
        return [line for line in rest if not line.startswith(("# taskloom==", "# index file:"))]


CAPTURE = """
if __name__ == "__main__":
    from pathlib import Path
    from taskloom.sdk.capture.packages import capture_packages
    print(capture_packages(Path(__file__)), end="")
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.install("alpha", "1.2.3", {"alpha/__init__.py": "import hidden\n", "alpha/deep.py": ""})
    made.install("hidden", "9.9", {"hidden.py": ""})
    made.install("Py-Beta", "2.0+local.1", {"beta.py": ""})
    return made


def test_direct_imports_are_listed_and_their_own_needs_are_not(site: Site):
    assert site.capture("import alpha, beta, os, json") == ["alpha==1.2.3", "Py-Beta==2.0+local.1"]


def test_imports_inside_functions_and_branches_count(site: Site):
    script = """
def later():
    try:
        from alpha.deep import nothing
    except ImportError:
        pass
    match 1:
        case 2:
            import beta
"""
    assert site.capture(script) == ["alpha==1.2.3", "Py-Beta==2.0+local.1"]


def test_imports_for_type_checkers_do_not_count(site: Site):
    assert site.capture("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import alpha\n") == []


def test_what_runs_when_nobody_checks_types_counts(site: Site):
    """The other branch, a negated test, and what comes after them."""
    either = "import typing\nif typing.TYPE_CHECKING:\n    import alpha\nelse:\n    import beta\n"
    assert [line.partition("==")[0] for line in site.capture(either)] == ["Py-Beta"]
    negated = "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    import alpha\nfrom beta import *\n"
    assert [line.partition("==")[0] for line in site.capture(negated)] == ["alpha", "Py-Beta"]


def test_own_modules_are_followed_and_not_listed(site: Site):
    site.write("parts/__init__.py", "from . import one\n")
    site.write("parts/one.py", "from .sub.two import x\n")
    site.write("parts/sub/__init__.py", "")
    site.write("parts/sub/two.py", "from ..three import y\nx = 1\n")
    site.write("parts/three.py", "import beta\ny = 1\n")
    assert site.capture("import parts") == ["Py-Beta==2.0+local.1"]


def test_own_modules_that_are_imported_later_are_followed(site: Site):
    assert site.capture("def run():\n    import helper_code", helper_code="import alpha\n") == ["alpha==1.2.3"]


def test_a_dynamic_import_counts(site: Site):
    assert site.capture("import importlib\nx = importlib.import_module('alpha')") == ["alpha==1.2.3"]


def test_a_module_start_is_followed_too(site: Site):
    site.write("pkg/__init__.py", "")
    site.write("pkg/other.py", "import beta\n")
    site.write("pkg/train.py", "from . import other\n" + CAPTURE)
    assert site.run("-m", "pkg.train") == ["Py-Beta==2.0+local.1"]


def test_a_package_that_is_not_installed_is_left_out(site: Site):
    assert site.capture("try:\n    import nowhere\nexcept ImportError:\n    pass") == []


def test_packages_that_share_a_folder_are_told_apart(site: Site):
    site.install("shared-one", "1.0", {"shared/one/__init__.py": ""})
    site.install("shared-two", "2.0", {"shared/two/__init__.py": ""})
    assert site.capture("import shared.two") == ["shared-two==2.0"]
    assert site.capture("from shared import one") == ["shared-one==1.0"]


def test_a_source_that_does_not_parse_is_passed_over(site: Site):
    assert site.capture("def later():\n    import broken, alpha", broken="def :\n") == ["alpha==1.2.3"]


def test_a_large_source_is_read_by_lines(site: Site):
    large = "import beta\n" + "x = [1, 2, 3]\n" * 20_000
    assert site.capture("def later():\n    import large", large=large) == ["Py-Beta==2.0+local.1"]


def test_a_package_from_git_names_its_commit_without_credentials(site: Site):
    origin = {
        "url": "https://user:secret@host.example/gamma.git",
        "vcs_info": {"vcs": "git", "commit_id": "c" * 40, "requested_revision": "main"},
        "subdirectory": "python",
    }
    site.install("gamma", "0.1", {"gamma.py": ""}, origin)
    expected = f"gamma @ git+https://host.example/gamma.git@{'c' * 40}#subdirectory=python"
    assert site.capture("import gamma") == [expected]


def test_a_package_from_an_address_is_written_with_it(site: Site):
    url = "https://host.example/gamma-0.1-py3-none-any.whl"
    site.install("gamma", "0.1", {"gamma.py": ""}, {"url": url, "archive_info": {}})
    assert site.capture("import gamma") == [f"gamma @ {url}"]


def test_a_wheel_that_lay_on_this_machine_is_pinned(site: Site):
    site.install("gamma", "0.1", {"gamma.py": ""}, {"url": "file:///tmp/gamma.whl", "archive_info": {}})
    assert site.capture("import gamma") == ["gamma==0.1"]


def editable(site: Site, project: Path) -> None:
    (project / "src").mkdir(parents=True)
    (project / "src/gamma.py").write_text("import alpha\n")
    site.install("gamma", "0.1", {}, {"url": project.as_uri(), "dir_info": {"editable": True}})
    site.variables["PYTHONPATH"] = f"{site.site}:{project / 'src'}"


def test_an_editable_project_is_a_comment_because_nobody_else_has_it(site: Site, tmp_path: Path):
    project = tmp_path / "gamma project"
    editable(site, project)
    assert site.capture("import gamma") == [f"# editable: gamma==0.1 from {project}"]


def test_an_editable_checkout_is_installed_from_its_pushed_commit(site: Site, tmp_path: Path):
    project, remote = tmp_path / "gamma", tmp_path / "gamma.git"
    editable(site, project)

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=project, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "-q")
    git("init", "-q", "--bare", str(remote))
    git("remote", "add", "origin", str(remote))
    git("add", ".")
    git("commit", "-qm", "first")
    assert site.capture("import gamma") == [f"# editable: gamma==0.1 from {project}"]
    git("push", "-q", "origin", "HEAD")
    pushed = git("rev-parse", "HEAD")
    git("commit", "-qm", "second", "--allow-empty")
    lines = site.capture("import gamma")
    assert lines[0].startswith(f"# editable: gamma==0.1 from {project}; changes after")
    assert lines[1:] == [f"gamma @ git+file://{remote}@{pushed}"]


def test_an_editable_package_of_the_scripts_own_repository_is_named_with_its_place(site: Site):
    (site.project / ".git").mkdir()
    editable(site, site.project / "lib")
    assert site.capture("import gamma") == [
        "alpha==1.2.3",
        "# editable: gamma==0.1 from lib in the repository of the script",
    ]


def test_indexes_are_noted_without_credentials(site: Site):
    site.write(".config/pip/pip.conf", "[global]\nextra-index-url = https://u:p@one.example/simple\n")
    site.variables["UV_INDEX"] = "inner=https://token@two.example/simple"
    lines = site.capture("import alpha")
    assert lines == ["# index https://two.example/simple", "# index https://one.example/simple", "alpha==1.2.3"]


def test_taskloom_itself_is_only_mentioned(site: Site):
    path = site.write("train.py", "import taskloom.sdk\n" + CAPTURE)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True)
    version = importlib.metadata.version("taskloom")
    assert f"# taskloom=={version} (a worker brings its own)" in done.stdout.splitlines()


def test_names_of_modules_and_packages_may_differ(tmp_path: Path):
    path = tmp_path / "train.py"
    path.write_text("import yaml, PIL.Image\n" + CAPTURE)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True)
    expected = {f"{name}=={importlib.metadata.version(name)}" for name in ("PyYAML", "pillow")}
    assert expected <= set(done.stdout.splitlines())


def test_a_console_is_told_by_what_it_holds(site: Site):
    code = (
        "import alpha\n"
        "from taskloom.sdk.capture.packages import capture_packages\n"
        "print(capture_packages(None), end='')"
    )
    assert site.run("-c", code) == ["alpha==1.2.3"]
