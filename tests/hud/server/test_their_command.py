"""hud's own command and client against our server: tasksets synced, runs reported, jobs and traces shown."""

from __future__ import annotations

import csv
import json

from tests.conftest import House
from tests.hud.server.conftest import Hud

from taskloom.wire.messages import RowsQuery, RunQuery, StepsQuery
from taskloom.wire.operations import GET_JOB, GET_RUN, GET_STEPS, LIST_ROWS, LIST_RUNS, LIST_VERSIONS


def test_tasksets_are_synced(house: House, hud: Hud) -> None:
    dry = hud.told("sync", "tasks", "sums", "tasks.py", "--dry-run")
    assert (dry["create_count"], dry["dry_run"]) == (2, True)
    assert hud.told("sync", "tasks", "sums", "tasks.py", "--yes")["tasks_created"] == 2
    assert hud.told("sync", "tasks", "sums", "tasks.py", "--yes")["status"] == "up_to_date"
    source = hud.folder / "tasks.py"
    source.write_text(source.read_text().replace('"easy"', '"hard"'))
    changed = hud.told("sync", "tasks", "sums", "tasks.py", "--yes")
    assert (changed["tasks_created"], changed["tasks_updated"], changed["unchanged_count"]) == (0, 1, 1)
    rows = house.client.call(LIST_ROWS, RowsQuery(), taskset="sums").rows
    assert [(row.env, row.id, row.args) for row in rows] == [
        ("sums", "add", {"a": 1, "b": 2}),
        ("sums", "add", {"a": 3, "b": 4}),
    ]
    assert rows[0].columns == {"level": "hard"}
    assert len(house.client.call(LIST_VERSIONS, taskset="sums").versions) == 2
    hud.command("sync", "tasks", "sums", "tasks.py", "--export", "out.csv")
    hud.command("sync", "tasks", "sums", "tasks.py", "--export", "out.json")
    with (hud.folder / "out.csv").open() as file:
        assert [row["arg:a"] for row in csv.DictReader(file)] == ["1", "3"]
    assert json.loads((hud.folder / "out.json").read_text())[0]["columns"] == {"level": "hard"}


def test_a_local_run_of_a_taskset_is_reported_and_shown(house: House, hud: Hud) -> None:
    hud.command("sync", "tasks", "sums", "tasks.py", "--yes")
    told = hud.script("evaluate.py", "local")
    assert told["reward"] == 0.5 and not told["errors"]

    job = house.client.call(GET_JOB, job=told["job"])
    assert (job.runs, job.counts, job.reward, job.graded) == (4, {"completed": 4}, 0.5, 0.5)
    assert (job.job.taskset, job.job.group, job.user) == ("sums", 2, "ada")
    runs = house.client.call(LIST_RUNS, RunQuery(), job=told["job"]).runs
    assert {run.id: run.reward for run in runs} == {run["trace"]: run["reward"] for run in told["runs"]}
    assert {run.columns.get("level") for run in runs} == {"easy", None}
    steps = house.client.call(GET_STEPS, StepsQuery(), run=told["runs"][0]["trace"]).steps
    assert [step.source for step in steps] == ["task", "user", "agent", "task"]

    shown = hud.told("jobs", "list")
    assert [(one["taskset_name"], one["trace_count"]) for one in shown] == [("sums", 4)]
    traces = hud.told("jobs", "get", shown[0]["id"])
    assert sorted(trace["reward"] for trace in traces) == [0.0, 0.0, 1.0, 1.0]
    assert hud.told("trace", "get", traces[0]["id"])[0]["text"] == "3"
    hud.command("jobs", "get", "0" * 32, code=1)
    assert "no job" in hud.errors


def test_an_evaluation_by_the_command_asks_its_models_through_the_gateway(
    house: House, gateway: None, hud: Hud
) -> None:
    assert [model["model_name"] for model in hud.told("models", "list")] == ["adder"]
    hud.command("eval", "tasks.py", "adder", "--all", "--yes")
    (job,) = hud.told("jobs", "list")
    traces = hud.told("jobs", "get", job["id"])
    assert [trace["reward"] for trace in traces] == [1.0, 1.0]
    run = house.client.call(GET_RUN, run=traces[0]["id"].replace("-", ""))
    assert (run.model, run.usage.prompt_tokens) == ("adder", 7)


def test_a_wrong_key_and_a_viewers_are_refused_in_words(house: House, hud: Hud) -> None:
    hud._key = "tl_0000000000000000_" + "0" * 48
    hud.command("sync", "tasks", "sums", "tasks.py", "--yes", code=1)
    assert "API key" in hud.errors
    hud._key = house.make_key("viewer")
    hud.command("sync", "tasks", "sums", "tasks.py", "--yes", code=1)
    assert "role" in hud.errors


def test_what_is_not_served_is_said_in_words(hud: Hud) -> None:
    hud.command("jobs", "cancel", "0" * 32, "--yes", code=1)
    assert "no job" in hud.errors
