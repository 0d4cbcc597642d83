"""Where rows run when nobody says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskloom.evals import Task
from taskloom.evals.runtimes import choosing
from taskloom.evals.runtimes.choosing import BySource, choose_runtime
from taskloom.evals.runtimes.leased import LeasedRuntime


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


def test_rows_of_a_server_are_leased_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Task(env="e", id="t")]
    with pytest.raises(ValueError, match="give runtime="):
        choose_runtime(rows, from_server=True)
    monkeypatch.setenv("TASKLOOM_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(choosing, "_told", set[str]())

    assert isinstance(choose_runtime(rows, from_server=True), LeasedRuntime)
    assert "workers bring its environments up" in capsys.readouterr().err


def test_rows_of_which_nothing_is_known_are_named_by_their_environments() -> None:
    with pytest.raises(ValueError, match=r"\(a, b, c and 1 more\)"):
        choose_runtime([Task(env=name, id="t") for name in "abcda"])
