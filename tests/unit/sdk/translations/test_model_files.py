"""What counts as a file that a framework was given, and what becomes of a model whose file its framework removed."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.conftest import House

from taskloom import Task
from taskloom.domain.artifact import Model
from taskloom.sdk import session as sessions
from taskloom.sdk.binding import Hooks
from taskloom.sdk.commandline import CommandLine
from taskloom.sdk.session import Session
from taskloom.sdk.translations.model_files import ModelFiles, path_of
from taskloom.sdk.weights import weights_of
from taskloom.wire.operations import GET_MODEL, GET_TASK


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, house: House) -> Iterator[None]:
    monkeypatch.setenv("TASKLOOM_URL", house.url)
    monkeypatch.setenv("TASKLOOM_API_KEY", house.key)
    monkeypatch.setattr(sessions.current, "seed", None)
    yield
    if sessions.current.session is not None:
        sessions.current.session.close()


def begin(**more: Any) -> tuple[Task, ModelFiles]:
    off = (
        "auto_connect_streams",
        "auto_resource_monitoring",
        "auto_connect_arg_parser",
        "auto_connect_frameworks",
    )
    task = Task.init("tests/models", "saves", reuse_last_task_id=False, **{**dict.fromkeys(off, False), **more})
    session = cast("Session", sessions.current.session)
    hooks = Hooks(session, "test", weights_of(session), CommandLine(session, False))
    return task, ModelFiles(hooks, "PyTorch")


def models(house: House, task: Task) -> dict[str, Model]:
    task.close()
    links = house.client.call(GET_TASK, task=task.id).models
    return {link.name.removeprefix("saves - "): house.client.call(GET_MODEL, model=link.model) for link in links}


class Named:
    name = "not/a/file.pt"


def test_a_path_is_told_by_what_was_given(tmp_path: Path) -> None:
    assert path_of("models/a.pt") == "models/a.pt"
    assert path_of(b"models/a.pt") is None, "no framework takes bytes as a path"
    assert path_of(Path("models/a.pt")) == "models/a.pt"
    assert path_of("s3://bucket/a.pt") == "s3://bucket/a.pt"
    with (tmp_path / "b.pt").open("wb") as file:
        assert path_of(file) == str(tmp_path / "b.pt")
    with gzip.open(tmp_path / "c.gz", "wb") as file:
        assert path_of(file) == str(tmp_path / "c.gz")
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        assert path_of(file) == file.name
    with os.fdopen(os.open(tmp_path / "d.pt", os.O_CREAT | os.O_WRONLY), "wb") as file:
        assert path_of(file) is None
    with tempfile.TemporaryFile() as file:
        assert path_of(file) is None
    for one in (io.BytesIO(), None, 7, "", "nul\0byte", Named(), object()):
        assert path_of(one) is None


def test_an_open_file_is_written_out_before_it_is_told(house: House, tmp_path: Path) -> None:
    task, files = begin(output_uri=True)
    with (tmp_path / "a.pt").open("wb") as file:
        file.write(b"weights")
        files.saved(file)
        file.write(b", and what came later")
    (model,) = models(house, task).values()
    assert (model.size, model.filename) == (7, "a.pt")


@pytest.mark.parametrize("opening", [gzip.open, bz2.open])
def test_a_compressed_file_is_told_when_it_is_closed_and_whole(house: House, tmp_path: Path, opening: Any) -> None:
    task, files = begin(output_uri=True)
    with opening(tmp_path / "a.pt.z", "wb") as file:
        file.write(b"weights" * 100)
        files.saved(file)
        assert task.models["output"] == []
    assert file.closed and "close" not in vars(file)
    (model,) = models(house, task).values()
    assert (model.size, model.filename) == ((tmp_path / "a.pt.z").stat().st_size, "a.pt.z")


def test_what_is_not_there_yet_is_not_told(house: House, tmp_path: Path) -> None:
    task, files = begin()
    files.saved(tmp_path / "later.ckpt")
    files.saved("s3://bucket/elsewhere.ckpt")
    assert list(models(house, task)) == ["elsewhere"]


@pytest.mark.parametrize("stored", [True, False])
def test_a_removed_model_stays_without_weights_until_it_is_saved_again(
    house: House, tmp_path: Path, stored: bool
) -> None:
    task, files = begin(output_uri=stored)
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).write_bytes(name.encode())
        files.saved(tmp_path / name, design={"of": name})
        (tmp_path / name).unlink()
        files.removed(tmp_path / name)
    (tmp_path / "b.pt").write_bytes(b"again")
    files.saved(tmp_path / "b.pt")
    files.removed(tmp_path / "never saved.pt")
    found = models(house, task)
    assert {name: (one.system_tags, one.filename, one.size) for name, one in found.items()} == {
        "a": (("removed",), "a.pt", 0 if stored else 4),
        "b": ((), "b.pt", 5),
    }
    assert bool(found["b"].digest) is stored and not found["a"].digest
    assert found["a"].design == '{\n  "of": "a.pt"\n}'
