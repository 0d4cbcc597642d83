"""Where rows run when nobody says so."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from tests.conftest import House

from taskloom.domain.execution import Execution
from taskloom.domain.task import TaskType
from taskloom.evals import Task
from taskloom.evals.runtimes import choosing
from taskloom.evals.runtimes.choosing import BySource, choose_runtime
from taskloom.evals.runtimes.leased import LeasedRuntime
from taskloom.journal.uploading import upload
from taskloom.wire import messages as m
from taskloom.wire import operations as op


def test_rows_that_know_their_source_are_served_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Task(env="e", id=f"t{n}").from_source(f"{tmp_path}/env{n}.py") for n in range(5)]

    assert isinstance(choose_runtime(rows), BySource)
    assert isinstance(choose_runtime(rows), BySource)

    said = capsys.readouterr().err
    assert said.count("\n") == 1  # once, however often it is chosen
    assert f"{tmp_path}/env0.py" in said
    assert "and 2 more" in said


def test_rows_of_a_server_are_leased_where_a_worker_brought_their_environment_up_before(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Task(env="e", id="t")]
    monkeypatch.setattr(choosing, "_told", set[str]())
    monkeypatch.delenv("TASKLOOM_URL", raising=False)
    with pytest.raises(ValueError, match="give runtime="):
        choose_runtime(rows, from_server=True)
    monkeypatch.setenv("TASKLOOM_URL", house.url)
    monkeypatch.setenv("TASKLOOM_API_KEY", house.client.address.api_key)
    with pytest.raises(ValueError, match="give runtime="):
        choose_runtime(rows, from_server=True)
    (tmp_path / "e.py").write_text("")
    source = upload([("source/e.py", tmp_path / "e.py")], 0, house.client.address).digest
    for name, files, run in (
        ("environment e", source, "python -m taskloom.evals.runtimes.lent --env e -- e.py"),
        ("environment e", "", "make"),  # newer, and none
        ("environment else", source, "python -m taskloom.evals.runtimes.lent --env else -- e.py"),
    ):
        execution = Execution(run=run, files=files)
        body = m.TaskCreate(
            id=uuid.uuid4().hex, name=name, project="sums", type=TaskType.SERVICE, execution=execution
        )
        house.client.call(op.CREATE_TASK, body)

    assert isinstance(choose_runtime(rows, from_server=True), LeasedRuntime)
    assert "workers bring the environments up" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"\(e, f\): give runtime="):
        choose_runtime([*rows, Task(env="f", id="t")], from_server=True)


def test_rows_of_which_nothing_is_known_are_named_by_their_environments() -> None:
    with pytest.raises(ValueError, match=r"\(a, b, c and 1 more\)"):
        choose_runtime([Task(env=name, id="t") for name in "abcda"])
