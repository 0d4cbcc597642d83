"""`taskloom sync tasks`: uploads what differs, removes nothing by itself, writes files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taskloom.cli.main import FAILED, OK, WRONG_USAGE

ROWS = [{"env": "sums", "id": "add", "args": {"n": n}, "slug": f"s{n}"} for n in range(3)]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_a_file_goes_up_and_only_what_differs_goes_up_again(taskloom: Any, rows: Path) -> None:
    dry = taskloom("sync", "tasks", "sums", "rows.jsonl", "--dry-run")
    assert (dry.code, dry.out) == (
        OK,
        "sums: 3 to create, 0 to update, 0 unchanged, 0 on the server only\n+ s0\n+ s1\n+ s2\n",
    )
    first = taskloom("sync", "tasks", "sums", "rows.jsonl")
    assert first.out.endswith("3 created, 0 updated, 0 removed, 0 unchanged; version 1 has 3 rows\n")
    rows.write_text("".join(json.dumps({**row, "args": {}} if row is ROWS[0] else row) + "\n" for row in ROWS[:2]))
    second = taskloom("sync", "tasks", "sums", "rows.jsonl")
    assert second.out == (
        "sums: 0 to create, 1 to update, 1 unchanged, 1 on the server only\n"
        "0 created, 1 updated, 0 removed, 0 unchanged; version 2 has 3 rows\n"
    )
    assert "only on the server, where they stay: 1; --prune removes them" in second.err
    refused = taskloom("sync", "tasks", "sums", "rows.jsonl", "--prune")
    assert (refused.code, "add --yes" in refused.err) == (WRONG_USAGE, True)
    pruned = taskloom("sync", "tasks", "sums", "rows.jsonl", "--prune", "--yes", "--json").json
    assert (pruned["remote_only"], pruned["removed"], pruned["taskset"]["rows"]) == (["s2"], 1, 2)
    forced = taskloom("sync", "tasks", "sums", "rows.jsonl", "--force", "--json").json
    assert (forced["unchanged"], forced["taskset"]["version"]) == (2, 3)


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv"])
def test_a_taskset_is_written_to_a_file(taskloom: Any, rows: Path, suffix: str) -> None:
    taskloom("sync", "tasks", "sums", "rows.jsonl")
    path = rows.with_name(f"out.{suffix}")
    told = taskloom("sync", "tasks", "sums", "--export", str(path))
    assert told.out.strip().endswith("3 rows of version 1")
    text = path.read_text()
    found = json.loads(text) if suffix == "json" else text.splitlines()
    assert len(found) == {"json": 3, "jsonl": 3, "csv": 4}[suffix]
    before = taskloom("sync", "tasks", "sums", "--export", f"not.{suffix}", "--dry-run")
    assert (before.out.strip().endswith("would be written"), rows.with_name(f"not.{suffix}").exists()) == (
        True,
        False,
    )
    if suffix == "csv":
        assert found[:2] == ["slug,id,env,arg:n", "s0,add,sums,0"]


def test_a_folder_of_python_is_the_default_source(taskloom: Any, rows: Path) -> None:
    source = "from taskloom.evals import Task\nfirst = Task(env='e', id='t')\nmany = [Task(env='e', id='t', args={'n': 1})]\n"
    rows.with_name("tasks.py").write_text(source)
    assert taskloom("sync", "tasks", "mine", "--json").json["created"] == 2


def test_what_cannot_be_done_is_told_in_a_line(taskloom: Any, rows: Path) -> None:
    rows.with_name("bad.jsonl").write_text('{"env": "e", "id": "t"}\n{"env": 1}\n')
    rows.with_name("bad.py").write_text("1 / 0\n")
    rows.with_name("odd.py").write_text("\ndef f(:\n")
    for words, expected in (
        (("x", "nowhere.jsonl"), "no such file or folder"),
        (("x", "bad.jsonl"), "line 2"),
        (("x", "bad.py"), "ZeroDivisionError"),
        (("x", "odd.py"), "SyntaxError: invalid syntax (odd.py, line 2)"),
        (("0" * 32, "rows.jsonl"), "no taskset"),
        (("x", "--export", "y.json"), "no taskset 'x' on the server"),
    ):
        told = taskloom("sync", "tasks", *words)
        assert (told.code, expected in told.err, "Traceback" in told.err) == (FAILED, True, False), told.err
    assert taskloom("sync", "tasks", "x", "rows.jsonl", "--export", "y.json").code == WRONG_USAGE
    assert taskloom("sync", "tasks", "x", "rows.jsonl", "--force", "--prune").code == WRONG_USAGE
    taskloom("sync", "tasks", "x", "rows.jsonl")
    assert "suffix" in taskloom("sync", "tasks", "x", "--export", "y.txt").err
