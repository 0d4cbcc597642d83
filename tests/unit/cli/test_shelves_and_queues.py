"""`taskloom project`, `queue` and `key` against a real server."""

import json
import time
from typing import Any

import pytest

from taskloom.domain.queue import Machine
from taskloom.wire import messages as m
from taskloom.wire import operations as op

# --- projects ---------------------------------------------------------------------------------------------


def test_projects_are_made_listed_edited_and_deleted(taskloom: Any) -> None:
    made = taskloom("project", "create", "main/sub", "--description", "words", "--tag", "one", "--json").json
    assert (made["name"], made["description"], made["tags"]) == ("main/sub", "words", ["one"])
    assert {p["name"] for p in taskloom("project", "list", "--json").json["projects"]} >= {"main", "main/sub"}
    assert "main/sub" in taskloom("project", "list").out
    assert taskloom("project", "show", made["id"], "--json").json["name"] == "main/sub"
    edited = taskloom("project", "edit", "main/sub", "--name", "main/other", "--no-tags", "--json").json
    assert (edited["id"], edited["name"], edited["tags"]) == (made["id"], "main/other", [])
    assert "words" in taskloom("project", "show", "main/other").out
    assert taskloom("project", "delete", "main/other", "--yes").code == 0
    assert taskloom("project", "show", "main/other").code == 1


def test_a_project_with_tasks_goes_only_by_force(taskloom: Any, finished: Any) -> None:
    script = finished(project="full shelf")
    assert taskloom("project", "delete", "full shelf", "--yes").code == 1
    assert taskloom("project", "delete", "full shelf", "--yes", "--force").code == 0
    assert taskloom("task", "show", script.task).code == 1


def test_a_name_too_short_is_refused_with_the_rule(taskloom: Any) -> None:
    ran = taskloom("project", "create", "ab")
    assert ran.code == 1
    assert "expected 3" in ran.err


def test_nothing_to_change_is_wrong_usage(taskloom: Any) -> None:
    assert taskloom("project", "edit", "any").code == 2
    assert taskloom("queue", "edit", "any").code == 2


# --- queues -----------------------------------------------------------------------------------------------


def test_queues_are_made_listed_edited_and_deleted(taskloom: Any) -> None:
    made = taskloom("queue", "create", "night", "--on-lost", "fail", "--max-attempts", "2", "--json").json
    assert (made["name"], made["on_lost"], made["max_attempts"]) == ("night", "fail", 2)
    assert "night" in taskloom("queue", "list").out
    assert taskloom("queue", "pause", "night", "--json").json["paused"] is True
    assert "paused" in taskloom("queue", "show", "night").out
    assert taskloom("queue", "resume", "night", "--json").json["paused"] is False
    assert taskloom("queue", "edit", "night", "--name", "day", "--json").json["name"] == "day"
    assert taskloom("queue", "delete", "day", "--yes").code == 0
    assert "day" not in {q["name"] for q in taskloom("queue", "list", "--json").json["queues"]}


def test_an_unknown_policy_is_wrong_usage(taskloom: Any) -> None:
    assert taskloom("queue", "create", "night", "--on-lost", "cry").code == 2


def test_a_queues_limits_are_set_and_shown(taskloom: Any) -> None:
    made = taskloom(
        "queue", "create", "night", "--max-running", "4", "--max-running-per-user", "2", "--hold-after", "60", "--json"
    ).json  # fmt: skip
    assert (made["max_running"], made["max_running_per_user"], made["hold_after"]) == (4, 2, 60)
    taskloom("queue", "edit", "night", "--max-waiting-per-user", "9", "--max-running", "0")
    shown = taskloom("queue", "show", "night").out
    assert "2 run of one user, 9 wait of one user" in shown
    assert "60 s" in shown
    assert taskloom("queue", "edit", "night", "--max-running", "-1").code == 2


def test_a_queue_is_shown_by_priority_and_by_pages(taskloom: Any, draft: Any) -> None:
    tasks = [draft(f"task {n}") for n in range(3)]
    for number, task in enumerate(tasks):
        taskloom("task", "enqueue", task.id, "--priority", str(number))
    entries = taskloom("queue", "show", "default", "--json").json["entries"]
    assert [entry["task"] for entry in entries] == [task.id for task in reversed(tasks)]
    page = taskloom("queue", "show", "default", "--limit", "1")
    assert tasks[2].id[:8] in page.out
    assert tasks[1].id[:8] not in page.out
    assert "2 more wait; --offset 1" in page.out + page.err
    assert taskloom("task", "enqueue", tasks[0].id, "--priority", "1001").code == 2


def test_a_worker_is_drained_by_its_name_and_takes_tasks_again(taskloom: Any, house: Any) -> None:
    machine = Machine(host="here", cpus=8, memory=2**33, gpus=("Tesla T4",) * 2)
    body = m.WorkerRegister(id="w1", name="box", queues=("default",), slots=2, machine=machine, version="0")
    house.client.call(op.REGISTER_WORKER, body)
    assert "takes no new tasks" in taskloom("queue", "drain", "box").out
    told = taskloom("queue", "workers").out
    for word in ("default", "draining", "0 of 2", "0 of 8"):
        assert word in told
    assert taskloom("queue", "drain", "w1", "--off", "--json").json.get("draining", False) is False
    assert taskloom("queue", "drain", "nobody").code == 1


def test_tasks_are_moved_inside_a_queue(taskloom: Any, draft: Any) -> None:
    taskloom("queue", "create", "night")
    tasks = [draft(f"number {n}") for n in range(3)]
    for task in tasks:
        taskloom("task", "enqueue", task.id, "--queue", "night")

    def order() -> list[str]:
        entries = taskloom("queue", "show", "night", "--json").json["entries"]
        assert [entry["position"] for entry in entries] == [1, 2, 3]
        return [entry["task_name"] for entry in entries]

    assert order() == ["number 0", "number 1", "number 2"]
    assert "number 2" in taskloom("queue", "move", "night", tasks[2].id, "--front").out
    assert order() == ["number 2", "number 0", "number 1"]
    assert taskloom("queue", "move", "night", tasks[2].id, "--back").code == 0
    assert order() == ["number 0", "number 1", "number 2"]
    assert taskloom("queue", "move", "night", tasks[2].id, "2").code == 0
    assert order() == ["number 0", "number 2", "number 1"]
    assert taskloom("queue", "move", "night", tasks[2].id).code == 2


def test_workers_are_listed(taskloom: Any) -> None:
    assert taskloom("queue", "workers", "--json").json == {"workers": []}
    assert "taskloom worker" in taskloom("queue", "workers").out


# --- keys -------------------------------------------------------------------------------------------------


def test_a_key_is_made_used_and_revoked(taskloom: Any, house: Any) -> None:
    before = time.time()
    made = taskloom("key", "create", "notebook", "--role", "viewer", "--expires", "2h", "--json").json
    assert made["info"]["role"] == "viewer"
    assert before + 7200 <= made["info"]["expires"] <= time.time() + 7200
    assert "notebook" in taskloom("key", "list").out
    asked = ("--api-key", made["key"], "task", "list")
    assert taskloom(*asked).code == 0
    refused = taskloom("--api-key", made["key"], "queue", "create", "night")
    assert refused.code == 1
    assert "role" in refused.err
    admin = ("--api-key", house.key)
    assert taskloom(*admin, "key", "revoke", made["info"]["id"], "--yes", "--json").json["revoked"] is True
    assert taskloom(*asked).code == 1


def test_the_secret_is_the_only_line_on_standard_output(taskloom: Any) -> None:
    ran = taskloom("key", "create", "notebook")
    assert ran.out.startswith("tl_")
    assert ran.out.count("\n") == 1
    assert "not shown again" in ran.err


@pytest.mark.parametrize("words", [("--role", "king"), ("--expires", "soon")])
def test_a_key_without_sense_is_wrong_usage(taskloom: Any, words: tuple[str, str]) -> None:
    assert taskloom("key", "create", "notebook", *words).code == 2


def test_errors_as_json_carry_the_code(taskloom: Any) -> None:
    ran = taskloom("key", "revoke", "nobody", "--yes", "--json")
    assert ran.code == 1
    assert json.loads(ran.err)["error"]["code"] == "not_found"
