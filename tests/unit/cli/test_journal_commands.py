"""`taskloom journal`: what is on this machine and not on the server yet."""

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from taskloom.journal.writer import Writer
from taskloom.wire import operations as op
from taskloom.wire.records import Ended, Opened


@pytest.fixture
def written(house: Any) -> Writer:
    """The journal of a script that is over and that nobody shipped."""
    writer = Writer.create(
        house.data / "journal", uuid.uuid4().hex, role="main", name="left over", project="shelf"
    )
    writer.record(Opened(mode="new", name="left over", project="shelf", time=time.time()))
    number = writer.name_series("loss", "train")
    for step in range(1000):
        writer.scalar(number, step, 1.0 / (step + 1), time.time())
    writer.record(Ended(status="completed", time=time.time()))
    writer.close()
    return writer


def test_a_journal_that_waits_is_listed(taskloom: Any, written: Writer) -> None:
    told = taskloom("journal", "list", "--json").json["journals"]
    assert [(j["task"], j["name"], j["writing"], j["refused"]) for j in told] == [
        (written.meta.task, "left over", False, "")
    ]
    assert told[0]["bytes"] >= 32_000
    assert "waiting" in taskloom("journal", "list").out


def test_shipping_brings_everything_and_leaves_nothing(taskloom: Any, written: Writer, house: Any) -> None:
    told = taskloom("journal", "ship", "--json").json["journals"]
    assert told == [{"task": written.meta.task, "state": "shipped", "message": ""}]
    series = house.client.call(op.LIST_SERIES, task=written.meta.task).series
    assert [(s.title, s.count) for s in series] == [("loss", 1000)]
    assert taskloom("task", "show", written.meta.task, "--json").json["status"] == "completed"
    assert taskloom("journal", "list", "--json").json == {"journals": []}
    assert "nothing to ship" in taskloom("journal", "ship").err


def test_shipping_says_what_waits_when_the_server_is_away(taskloom: Any, written: Writer, house: Any) -> None:
    house.stop()
    ran = taskloom("journal", "ship", written.meta.task[:6], "--timeout", "0")
    assert ran.code == 1
    assert "waiting" in ran.out
    house.start()
    assert taskloom("journal", "ship").code == 0


def test_a_journal_being_written_is_shipped_so_far(taskloom: Any, house: Any) -> None:
    writer = Writer.create(house.data / "journal", uuid.uuid4().hex, role="main", name="alive", project="shelf")
    writer.record(Opened(mode="new", name="alive", project="shelf", time=time.time()))
    try:
        assert "being written" in taskloom("journal", "list").out
        assert "still writes" in taskloom("journal", "ship").out
        assert taskloom("task", "show", writer.meta.task, "--json").json["status"] == "running"
    finally:
        writer.close()


def test_paths(taskloom: Any, written: Writer, house: Any) -> None:
    assert taskloom("journal", "path").out == f"{house.data / 'journal'}\n"
    told = taskloom("journal", "path", written.meta.task[:5], "--json").json
    assert Path(told["path"]) == house.data / "journal" / written.meta.task
    assert taskloom("journal", "path", "ffff").code == 1


def test_an_offline_session_is_imported_and_continues_a_task(
    taskloom: Any, house: Any, finished: Any, tmp_path: Path
) -> None:
    script = (
        "from taskloom import Task; Task.set_offline(True); "
        "t = Task.init(project_name='shelf', task_name='far away', auto_resource_monitoring=False); "
        "t.get_logger().report_scalar('loss', 'train', 0.5, 7); t.close()"
    )
    environ = {**os.environ, "TASKLOOM_DATA": str(tmp_path / "far")}
    environ.pop("TASKLOOM_URL")
    environ.pop("TASKLOOM_API_KEY")
    subprocess.run([sys.executable, "-c", script], env=environ, check=True, timeout=60, cwd=tmp_path)
    (archive,) = (tmp_path / "far" / "offline").glob("*.zip")
    made = taskloom("journal", "import", str(archive), "--json").json["task"]
    shown = taskloom("task", "show", made, "--json").json
    assert (shown["name"], shown["last_iteration"]) == ("far away", 7)
    earlier = finished("earlier run")
    ran = taskloom(
        *("journal", "import", str(archive), "--previous-task-id", earlier.task[:8], "--iteration-offset", "100"),
        "--json",
    )
    assert ran.code == 0, ran.err
    assert ran.json["task"] == earlier.task
    assert taskloom("task", "show", earlier.task, "--json").json["last_iteration"] == 107


def test_what_is_no_session_is_refused(taskloom: Any, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.zip"
    wrong.write_bytes(b"not a zip")
    ran = taskloom("journal", "import", str(wrong), "--json")
    assert ran.code == 1
    assert json.loads(ran.err)["error"]["code"] == "bad_input"
    assert "gone.zip" in taskloom("journal", "import", str(tmp_path / "gone.zip")).err
