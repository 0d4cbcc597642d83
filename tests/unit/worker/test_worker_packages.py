"""Packages: an environment for each content, built once by uv from where the machine gets its packages."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskloom.domain.status import Status
from taskloom.providers.contract import Wanted
from taskloom.providers.local import LocalProvider
from taskloom.worker.indexes import index_settings
from taskloom.worker.overlay import make_overlay, needed
from taskloom.worker.packages import READY, Environment, Environments, Limits, Wish, wanted
from taskloom.worker.steps import PrepareFailed, Report, Steps

WITHOUT_NETWORK = {"UV_OFFLINE": "1", "UV_NO_INDEX": "1"}


def make_wheel(folder: Path, name: str, version: str, text: str) -> Path:
    """A pure Python distribution of one module."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for place, content in files.items():
            digest = urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
            record += f"{place},sha256={digest},{len(content)}\n"
            wheel.writestr(place, content)
        wheel.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    make_wheel(folder, "loomtest", "1.0", "WORD = 'one'\n")
    make_wheel(folder, "loomtest", "2.0", "WORD = 'two'\n")
    return folder


def test_a_task_gets_its_own_packages_and_taskloom(field: Any, wheels: Path) -> None:
    field.worker(packages="build", environ={**WITHOUT_NETWORK, "UV_FIND_LINKS": str(wheels)})
    text = (
        "import loomtest, sys, importlib.util\n"
        "import taskloom\n"
        "from taskloom import Task\n"
        "task = Task.init(project_name='worker tests', task_name='x y z')\n"
        "print(loomtest.WORD, sys.prefix != sys.base_prefix)\n"
        "print([name for name in ('sqlalchemy', 'uvicorn', 'pytest') if importlib.util.find_spec(name)])\n"
    )
    first = field.script(text, packages="# recorded\nloomtest==1.0\ntaskloom==99.0\n")
    other = field.script(text, packages="loomtest==2.0\n")
    same = field.script(text, packages="loomtest==1.0\n")
    assert [field.ended(task).status for task in (first, other, same)] == [Status.COMPLETED] * 3
    assert field.console(first, "stdout") == "one True\n[]\n"
    assert field.console(other, "stdout").startswith("two ")
    assert "building an environment" in field.console(first, "report")
    assert "has these packages already" in field.console(same, "report")


def test_a_package_that_cannot_be_installed_is_named(field: Any, wheels: Path) -> None:
    field.worker(packages="build", environ={**WITHOUT_NETWORK, "UV_FIND_LINKS": str(wheels)})
    task = field.script("print('never')", packages="loomtest==7.0\n")
    ended = field.ended(task)
    assert ended.status is Status.FAILED
    assert "loomtest==7.0" in ended.status_reason
    assert field.console(task, "stdout") == ""


def test_an_abort_ends_the_preparation(field: Any, tmp_path: Path) -> None:
    from taskloom.wire import messages as m
    from taskloom.wire import operations as op

    slow = tmp_path / "slow-0.1"
    slow.mkdir()
    (slow / "setup.py").write_text("print('building', flush=True)\nimport time\ntime.sleep(600)\n")
    (slow / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    )
    (slow / "backend.py").write_text("import time\ndef build_wheel(*a, **k): time.sleep(600)\n" * 1)
    field.worker(packages="build", environ=WITHOUT_NETWORK)
    task = field.script("print('never')", packages=f"{slow}\n")
    field.until_says(task, "uv pip install")
    field.client.call(op.ABORT_TASK, m.MoveRequest(reason="too slow"), task=task)
    ended = field.ended(task)
    assert (ended.status, ended.status_reason) == (Status.ABORTED, "too slow")
    assert field.console(task, "stdout") == ""


# --- environments by themselves ---------------------------------------------------------------------------


class Bench:
    """Environments without a worker."""

    def __init__(self, folder: Path, wheels: Path, limits: Limits) -> None:
        environ = {
            **os.environ,
            **WITHOUT_NETWORK,
            "UV_FIND_LINKS": str(wheels),
            "UV_CACHE_DIR": str(folder / "uv"),
        }
        self.folder = folder / "environments"
        self.environments = Environments(self.folder, environ, limits)
        self.steps_folder = folder / "steps"
        self.steps_folder.mkdir()

    async def use(self, packages: str, inside: Callable[[Environment], Any] = lambda e: e.folder) -> Any:
        folder = self.steps_folder / os.urandom(4).hex()
        folder.mkdir()
        place = await LocalProvider().acquire(Wanted(folder / "place"))
        steps = Steps(place, Report(folder / "report"), folder)
        async with self.environments.use(Wish(packages=packages), "", steps) as environment:
            found = inside(environment)
            if asyncio.iscoroutine(found):
                found = await found
        await place.release()
        return found

    def ready(self) -> set[Path]:
        return {path.parent for path in self.folder.glob(f"*/{READY}")}


def test_at_the_same_time_an_environment_is_built_once(tmp_path: Path, wheels: Path) -> None:
    bench = Bench(tmp_path, wheels, Limits())

    async def story() -> None:
        folders = await asyncio.gather(*(bench.use("loomtest==1.0") for _ in range(4)))
        assert len(set(folders)) == 1
        reports = [path.read_text() for path in bench.steps_folder.rglob("report")]
        assert sum("building" in text for text in reports) == 1

    asyncio.run(story())


def test_a_build_that_was_killed_is_built_anew(tmp_path: Path, wheels: Path) -> None:
    bench = Bench(tmp_path, wheels, Limits())

    async def story() -> None:
        folder = await bench.use("loomtest==1.0")
        (folder / READY).unlink()
        (folder / "bin" / "python").unlink()
        assert await bench.use("loomtest==1.0") == folder
        assert (folder / "bin" / "python").exists()

    asyncio.run(story())


def test_the_least_recently_used_goes_but_never_one_in_use(tmp_path: Path, wheels: Path) -> None:
    bench = Bench(tmp_path, wheels, Limits(count=2))

    async def story() -> None:
        async def others(_: Environment) -> None:
            two, three = await bench.use("loomtest==2.0"), await bench.use("loomtest")
            four = await bench.use("# nothing")
            assert _.folder in bench.ready()  # the oldest, in use
            assert {three, four} <= bench.ready()
            assert two not in bench.ready()

        await bench.use("loomtest==1.0", others)
        await bench.use("# nothing")
        assert len(bench.ready()) == 2

    asyncio.run(story())


def test_a_python_that_is_not_here_is_replaced_by_the_workers_own(tmp_path: Path, wheels: Path) -> None:
    bench = Bench(tmp_path, wheels, Limits())

    async def story() -> str:
        place = await LocalProvider().acquire(Wanted(tmp_path / "place"))
        steps = Steps(place, Report(tmp_path / "report"), bench.steps_folder)
        async with bench.environments.use(Wish(), "3.2.1", steps) as environment:
            assert environment.python.exists()
        return (tmp_path / "report").read_text()

    assert "Python 3.2 is not on this machine" in asyncio.run(story())


def test_a_failed_build_leaves_nothing_that_looks_ready(tmp_path: Path, wheels: Path) -> None:
    bench = Bench(tmp_path, wheels, Limits())

    async def story() -> None:
        with pytest.raises(PrepareFailed, match="nowhere-to-be-found"):
            await bench.use("nowhere-to-be-found==1.0")

    asyncio.run(story())
    assert bench.ready() == set()


# --- what the environment is made of ----------------------------------------------------------------------


def test_taskloom_itself_is_never_asked_of_an_index() -> None:
    text = "# origin: git\nnumpy==1.0\nTaskloom==0.1\ntaskloom @ file:///x\n-e git+https://h/taskloom#egg=taskloom\n\n"
    assert wanted(text) == ["numpy==1.0"]
    assert wanted("taskloom-extras==1\n--find-links x") == ["taskloom-extras==1", "--find-links x"]


def test_the_overlay_holds_taskloom_and_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    overlay = make_overlay(tmp_path, dependencies=True)
    assert overlay == make_overlay(tmp_path, dependencies=True)
    names = {path.name for path in overlay.iterdir()}
    assert {"taskloom", "msgspec", "httpx", "psutil"} <= names
    assert not names & {"sqlalchemy", "uvicorn", "pytest", "starlette"}
    assert "sqlalchemy" not in needed()
    assert {path.name for path in make_overlay(tmp_path, dependencies=False).iterdir()} == {"taskloom", ".ready"}


def test_pips_settings_are_told_to_uv_unless_it_has_its_own(tmp_path: Path) -> None:
    own = {"PIP_CONFIG_FILE": os.devnull}
    assert index_settings(own, tmp_path) == {}
    environ = {
        **own,
        "PIP_INDEX_URL": "https://index/simple",
        "PIP_EXTRA_INDEX_URL": "https://a/simple https://b/simple",
        "PIP_FIND_LINKS": "/x /y",
    }
    assert index_settings(environ, tmp_path) == {
        "UV_DEFAULT_INDEX": "https://index/simple",
        "UV_INDEX": "https://a/simple https://b/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/x,/y",
    }
    assert index_settings({**environ, "UV_DEFAULT_INDEX": "https://other"}, tmp_path) == {}
    written = tmp_path / "pip.conf"
    written.write_text("[global]\nindex-url = https://from-a-file/simple\n[install]\nno-index = true\n")
    told = index_settings({"PIP_CONFIG_FILE": str(written), "SSL_CERT_FILE": "x"}, tmp_path)
    assert (told["UV_DEFAULT_INDEX"], told["UV_NO_INDEX"]) == ("https://from-a-file/simple", "1")


def test_the_workers_own_interpreter_can_be_reused() -> None:
    own = Environment(Path(sys.executable), None)
    assert own.variables("/bin") == {"PATH": f"{Path(sys.executable).parent}{os.pathsep}/bin"}
