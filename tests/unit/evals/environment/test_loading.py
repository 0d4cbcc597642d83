"""Environments out of files and folders, and what is said of sources that have none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from taskloom.domain.errors import BadInput, NotFound
from taskloom.evals.environment.loading import load_environment

ONE = """
from taskloom.evals import Environment
env = Environment("{name}")

@env.template()
async def add(a: int):
    yield a
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_environment_of_a_file(tmp_path: Path) -> None:
    write(tmp_path, env=ONE.format(name="one"))
    path = list(sys.path)
    loaded = load_environment(tmp_path / "env.py")
    assert (loaded.name, list(loaded.templates), loaded.source) == ("one", ["add"], str(tmp_path / "env.py"))
    assert sys.path == path


def test_a_source_runs_anew_each_time(tmp_path: Path) -> None:
    write(tmp_path, env=ONE.format(name="one"))
    first = load_environment(tmp_path / "env.py")
    write(tmp_path, env=ONE.format(name="a longer name"))
    assert load_environment(tmp_path).name == "a longer name"
    assert first.name == "one"


def test_of_several_one_is_chosen_by_its_name(tmp_path: Path) -> None:
    write(
        tmp_path, two=ONE.format(name="one") + ONE.format(name="two").replace("env", "other").replace("add", "sub")
    )
    with pytest.raises(BadInput, match="several environments, choose one by its name: 'one', 'two'"):
        load_environment(tmp_path / "two.py")
    assert load_environment(tmp_path / "two.py", "two").name == "two"
    with pytest.raises(NotFound, match="no environment 'three' there; found: 'one', 'two'"):
        load_environment(tmp_path, "three")


def test_a_folder_is_scanned_and_its_modules_find_one_another(tmp_path: Path) -> None:
    write(
        tmp_path,
        world=ONE.format(name="one") + "from words import WORD\nenv.version = WORD",
        words="WORD = 'said'",
        tasks="from world import add\ntasks = [add(1)]",
        setup="raise RuntimeError('not for import')",
        needs_more="import a_package_that_nobody_has",
    )
    loaded = load_environment(tmp_path)
    assert loaded.version == "said"


def test_templates_and_rows_lead_to_their_environment(tmp_path: Path) -> None:
    write(tmp_path, lib__elsewhere=ONE.format(name="one"))
    load = "import sys; sys.path.insert(0, {lib!r})\n".format(lib=str(tmp_path / "lib"))
    write(
        tmp_path,
        by_template=load + "from elsewhere import add",
        by_rows=load + "import elsewhere\nrows = [elsewhere.add(1)]",
    )
    assert load_environment(tmp_path / "by_template.py").name == "one"
    assert load_environment(tmp_path / "by_rows.py").source == str(tmp_path / "lib" / "elsewhere.py")


def test_modules_of_two_folders_may_have_the_same_names(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(tmp_path / name, env=ONE.format(name=name) + "from tools import NAME\nenv.version = NAME")
        write(tmp_path / name, tools=f"NAME = {name!r}")
    assert [load_environment(tmp_path / name).version for name in ("first", "second", "first")] == [
        "first",
        "second",
        "first",
    ]


def test_modules_of_this_process_stay_what_they_are(tmp_path: Path) -> None:
    import json

    write(tmp_path, json=ONE.format(name="odd"))
    assert load_environment(tmp_path / "json.py").name == "odd"
    assert sys.modules["json"] is json


def test_dataclasses_and_models_with_late_annotations_work(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nimport dataclasses, pydantic\n" + ONE.format(name="one")
    text += "@dataclasses.dataclass\nclass A:\n    x: int\nclass B(pydantic.BaseModel):\n    a: A\n"
    text += "@env.template()\nasync def late(b: B):\n    yield str(b.a.x)\n"
    write(tmp_path, env=text)
    manifest = load_environment(tmp_path / "env.py").templates["late"].manifest
    assert "B" in manifest["args"]["$defs"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\nboom = 1 / 0\n", r"env.py line 2: ZeroDivisionError: division by zero"),
        ("x = 1\ndef f(:\n", r"env.py line 2: SyntaxError: "),
        ("import a_package_that_nobody_has", r"env.py line 1: ModuleNotFoundError: No module named"),
        ("import sys\n\nsys.exit(4)", r"env.py line 3: SystemExit: 4"),
        ("def f():\n    raise KeyError\n\nf()", r"env.py line 2: KeyError$"),
    ],
)
def test_a_source_that_cannot_be_run_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    write(tmp_path, env=text)
    for path in (tmp_path / "env.py", tmp_path):
        with pytest.raises(BadInput, match=words):
            load_environment(path)


def test_places_without_an_environment_are_told(tmp_path: Path) -> None:
    write(tmp_path, env="x = 1")
    (tmp_path / "note.txt").write_text("hello")
    with pytest.raises(NotFound, match="no environment there; expected `env = Environment"):
        load_environment(tmp_path / "env.py")
    with pytest.raises(BadInput, match=r"expected a .py file or a folder"):
        load_environment(tmp_path / "note.txt")
    with pytest.raises(NotFound, match="no such file or folder"):
        load_environment(tmp_path / "nothing")
