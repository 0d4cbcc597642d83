"""`taskloom doctor`: every check finds its own thing, and none keeps another from looking."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.cli.conftest import Run

from taskloom.cli import doctor
from taskloom.cli.main import main
from taskloom.journal.layout import journal_root
from taskloom.journal.writer import Writer
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.connection import data_folder
from taskloom.wire.records import Opened


@pytest.fixture(autouse=True)
def _no_clearml_of_the_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("API_HOST", "WEB_HOST", "FILES_HOST", "API_ACCESS_KEY", "API_SECRET_KEY", "CONFIG_FILE"):
        monkeypatch.delenv(f"CLEARML_{name}", raising=False)
        monkeypatch.delenv(f"TRAINS_{name}", raising=False)


def states(ran: Any) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for finding in ran.json["findings"]:
        found.setdefault(finding["check"], set()).add(finding["state"])
    return found


def messages(ran: Any, check: str) -> str:
    return "\n".join(f["message"] for f in ran.json["findings"] if f["check"] == check)


def test_a_healthy_house_has_nothing_broken(taskloom: Run) -> None:
    ran = taskloom("doctor", "--json")
    assert ran.code == 0
    assert ran.json["healthy"] is True
    found = states(ran)
    assert found["server"] == found["key"] == found["journals"] == {"ok"}
    assert found["clearml"] == found["workers"] == {"note"}
    assert "Nothing is broken." in taskloom("doctor").out


def test_without_a_server_it_says_how_to_get_one_and_looks_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    told = capsys.readouterr()
    assert left.value.code == 1
    assert "taskloom up" in told.out
    assert "git version" in told.out
    assert "Traceback" not in told.out + told.err


def test_a_server_that_is_away_and_a_key_that_is_wrong(taskloom: Run, house: Any) -> None:
    away = taskloom("--url", "http://127.0.0.1:9", "--api-key", "tl_a_b", "doctor", "--json")
    assert away.code == 1
    assert states(away)["server"] == {"broken"}
    assert states(away)["key"] == {"note"}
    wrong = taskloom("--url", house.url, "--api-key", "tl_a_b", "doctor", "--json")
    assert wrong.code == 1
    assert states(wrong)["server"] == {"ok"}
    assert states(wrong)["key"] == {"broken"}


def test_tasks_that_wait_for_nobody_are_told(taskloom: Run, house: Any, draft: Callable[..., Any]) -> None:
    house.client.call(op.ENQUEUE_TASK, m.Enqueue(queue="gpu", create=True), task=draft().id)
    ran = taskloom("doctor", "--json")
    assert ran.code == 1
    assert "1 tasks wait in 'gpu' and no worker looks there" in messages(ran, "workers")
    queue = house.client.call(op.GET_QUEUE, queue="gpu").queue
    house.client.call(op.EDIT_QUEUE, m.QueueEdit(paused=True), queue=queue.id)
    assert taskloom("doctor").code == 0


def test_journals_that_wait_are_told(taskloom: Run, tmp_path: Path) -> None:
    writer = Writer.create(journal_root(data_folder()), "a" * 32, role="main", name="a task", project="a project")
    writer.record(Opened(mode="new", name="a task", project="a project", time=1.0))
    writer.close()
    ran = taskloom("doctor", "--json")
    assert states(ran)["journals"] == {"warning"}
    assert "1 journals" in messages(ran, "journals")


def test_a_check_that_fails_by_itself_stops_no_other(taskloom: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_place: doctor.Place) -> doctor.Findings:
        yield doctor.Finding("data folder", "ok", "so far")
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setitem(doctor.CHECKS, "data folder", fails)
    ran = taskloom("doctor", "--json")
    assert ran.code == 1
    assert states(ran)["data folder"] == {"ok", "broken"}
    assert "nobody foresaw this" in messages(ran, "data folder")
    assert states(ran)["programs"] == {"ok"}


def test_it_sees_where_clearmls_clients_go(
    taskloom: Run, house: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert taskloom("clearml-config").code == 0
    assert states(taskloom("doctor", "--json"))["clearml"] == {"ok"}
    monkeypatch.setenv("CLEARML_FILES_HOST", "http://elsewhere:8081")
    ran = taskloom("doctor", "--json")
    assert "their files go to http://elsewhere:8081" in messages(ran, "clearml")
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "wrong")
    assert taskloom("doctor").code == 1
    monkeypatch.setenv("CLEARML_API_HOST", "https://api.example.org")
    ran = taskloom("doctor", "--json")
    assert "https://api.example.org (said by CLEARML_API_HOST)" in messages(ran, "clearml")
    assert ran.code == 0


def test_the_calls_that_clients_missed_are_listed(taskloom: Run, house: Any) -> None:
    headers = {"Authorization": f"Bearer {house.key}", "X-ClearML-Client": "clearml-9.9.9"}
    for _ in range(3):
        httpx.post(f"{house.url}/v2.30/reports.get_all_ex", json={}, headers=headers)
    ran = taskloom("doctor", "--json")
    assert [(c["call"], c["count"], c["client"]) for c in ran.json["missed"]] == [
        ("reports.get_all_ex", 3, "clearml-9.9.9")
    ]
    assert "reports.get_all_ex" in taskloom("doctor").out


def test_the_frameworks_of_this_environment_are_listed_with_what_is_hooked(taskloom: Run) -> None:
    found = [item for item in taskloom("doctor", "--json").json["findings"] if item["check"] == "frameworks"]
    told = {item["message"].partition(":")[0]: item for item in found}
    version = metadata.version("joblib")
    assert told[f"joblib {version}"]["state"] == "ok"
    assert "joblib.dump" in told[f"joblib {version}"]["message"]
    assert told["not installed here"]["state"] == "note"
    assert "megengine" in told["not installed here"]["message"]
    assert (
        told[f"xgboost {metadata.version('xgboost-cpu')}"]["state"] == "ok"
    )  # whatever its distribution is called
