"""`taskloom import clearml`: from a server that speaks ClearML, and from offline sessions of the real client.

A ClearML server of its own cannot be had in a test. The source is a house of ours, filled by the unmodified client and
by our SDK and spoken to through its ClearML door only; the target is another house. Both are compared through our API.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.clearml.conftest import ClearML
from tests.conftest import Clock, House
from tests.journals import Run, fresh_id

from taskloom.domain.execution import Execution
from taskloom.domain.status import Status
from taskloom.domain.task import Task, TaskEdit
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.client import build_call

# The process that reports in the background, forked while another thread starts git, can hang the client for ever.
IN_ONE_PROCESS = "sdk.development.report_use_subprocess: false\n"

FILL = """
import os, tempfile
import numpy as np
from clearml import Task, OutputModel, Logger

task = Task.init(project_name="shelf/deep", task_name="first of them", tags=["one", "two"],
                 output_uri=True, auto_resource_monitoring=False)
task.connect({"lr": 0.1, "layers": [1, 2]}, name="net")
task.connect_configuration({"depth": 3}, name="config")
task.set_user_properties(quality="good")
task.set_comment("said of it")
logger = task.get_logger()
for n in range(30):
    logger.report_scalar("loss", "train", 1.0 / (n + 1), n)
    logger.report_scalar("loss", "test", 2.0 / (n + 1), n)
logger.report_single_value("accuracy", 0.75)
logger.report_histogram("weights", "layer", iteration=3, values=[1, 2, 3])
logger.report_image("picture", "noise", iteration=2, image=(np.arange(192).reshape(8, 8, 3)).astype("uint8"))
logger.report_text("a line of the console")
task.upload_artifact("numbers", {"x": 1})
path = os.path.join(tempfile.mkdtemp(), "weights.bin")
open(path, "wb").write(b"weights" * 100)
model = OutputModel(task=task, name="the model", framework="PyTorch", label_enumeration={"cat": 1})
model.update_weights(path, auto_delete_file=False, async_enable=False)
model.publish()
task.upload_artifact("file", path)
print("task=%s" % task.id)
print("model=%s" % model.id)
task.close()

other = Task.create(project_name="shelf", task_name="a draft")
other.set_parent(task.id)
print("draft=%s" % other.id)
done = Task.get_task(task_id=task.id)
done.publish()
"""


@dataclass
class Filled:
    source: House
    task: str
    draft: str
    model: str
    native: str
    archived: str


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, clearml_python: Path) -> Iterator[Filled]:
    """A source with what the real client and our SDK left there; no test changes these tasks."""
    folder = tmp_path_factory.mktemp("source")
    house = House(folder / "house", Clock())
    try:
        (folder / "clearml").mkdir()
        (folder / "clearml" / "clearml.conf").write_text(IN_ONE_PROCESS)
        ran = ClearML(house, clearml_python, folder / "clearml").run(FILL).ok()
        native = folder / "native.py"
        native.write_text(
            "from taskloom import Task\n"
            "task = Task.init(project_name='shelf/ours', task_name='by our own SDK')\n"
            "for n in range(100): task.get_logger().report_scalar('speed', 'steps', n / 3, n)\n"
            "task.upload_artifact('made here', {'a': [1, 2]})\n"
            "print('native=' + task.id)\n"
            "task.close()\n"
        )
        done = subprocess.run(
            [sys.executable, str(native)],
            env=house.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        words = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("native="))
        archived = house.client.call(
            op.CREATE_TASK, m.TaskCreate(name="put away", project="shelf", system_tags=("archived",))
        ).id
        yield Filled(house, ran.said("task"), ran.said("draft"), ran.said("model"), words["native"], archived)
    finally:
        house.stop()


@pytest.fixture
def target(house: House) -> House:
    return house


def words(source: House, *more: str) -> list[str]:
    access, _, secret = source.key.removeprefix("tl_").partition("_")
    keys = ["--access-key", access, "--secret-key", secret]
    return [sys.executable, "-m", "taskloom.cli.main", "import", "clearml", source.url, *keys, "--json", *more]


def bring(source: House, target: House, *more: str) -> dict[str, Any]:
    done = subprocess.run(
        words(source, *more), env=target.environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.stdout, f"exit code {done.returncode}\n{done.stderr}"
    account = json.loads(done.stdout)
    assert done.returncode == (1 if account["failed"] else 0), done.stderr
    return account


def task_of(house: House, task: str) -> Task:
    return house.client.call(op.GET_TASK, task=task)


def results(house: House, task: str) -> dict[str, Any]:
    """Everything that a task reported, as our API tells it."""
    client = house.client
    series = client.call(op.LIST_SERIES, task=task).series
    points = [
        client.call(op.GET_POINTS, query=m.PointsQuery(title=s.title, series=s.series, points=0), task=task)
        for s in series
    ]
    console = client.call(op.GET_CONSOLE, query=m.ConsoleQuery(limit=1000), task=task).entries
    plots = client.call(op.LIST_PLOTS, query=m.PlotsQuery(all_iterations=True), task=task).plots
    samples = client.call(op.LIST_SAMPLES, query=m.SamplesQuery(all_iterations=True), task=task).samples
    return {
        "points": {(p.title, p.series): (p.iteration, p.value) for p in points},
        "console": [(e.stream, e.text) for e in console],
        "plots": [(p.title, p.series, p.iteration, json.loads(p.figure)) for p in plots],
        "samples": [(s.title, s.series, s.iteration, contents(house, s.digest)) for s in samples],
        "times": [
            *(time for p in points for time in p.time),
            *(thing.time for things in (console, plots, samples) for thing in things),
        ],
    }


def contents(house: House, digest: str) -> bytes:
    assert digest, "the bytes are not here"
    call = build_call(house.client.address, op.GET_BLOB, digest=digest)
    return house.client.http.request(call.method, call.url, headers=call.headers).raise_for_status().content


SAME = (
    "id", "name", "project", "project_id", "type", "status_message", "status_changed", "user", "comment", "parent",
    "tags", "system_tags", "created", "started", "completed", "last_update", "last_iteration", "progress", "execution",
    "parameters", "configuration", "properties", "runtime", "output_uri", "models",
)  # fmt: skip


def told(thing: Any, name: str) -> Any:
    """Times cross ClearML's wire in microseconds, the version of Python as the name of its program, and the line
    about our own package as one that pip would understand.
    """
    value = getattr(thing, name)
    if isinstance(value, Execution):
        packages = [line for line in value.packages.splitlines() if "taskloom==" not in line]
        python = ".".join(value.python.split(".")[:2])
        return msgspec.structs.replace(value, python=python, foreign={}, packages="\n".join(packages))
    return pytest.approx(value, abs=2e-6) if isinstance(value, float) else value


def same(source: House, target: House, task: str, *, results_too: bool = True) -> None:
    there, here = task_of(source, task), task_of(target, task)
    for name in SAME:
        ours = told(here, name) if name == "execution" else getattr(here, name)
        assert ours == told(there, name), name
    assert [(a.name, a.kind, a.preview, a.media_type) for a in here.artifacts] == [
        (a.name, a.kind, a.preview, a.media_type) for a in there.artifacts
    ]
    for ours, theirs in zip(here.artifacts, there.artifacts, strict=True):
        assert contents(target, ours.digest) == contents(source, theirs.digest)
    if results_too:
        ours_told, theirs_told = results(target, task), results(source, task)
        pairs = zip(ours_told.pop("times"), theirs_told.pop("times"), strict=True)
        assert all(abs(ours - theirs) < 0.0011 for ours, theirs in pairs), "events cross the wire in milliseconds"
        assert ours_told == theirs_told
    assert {(s.title, s.series, s.count, s.last, s.min, s.max) for s in here.metrics} == {
        (s.title, s.series, s.count, s.last, s.min, s.max) for s in there.metrics
    }


def test_everything_comes_along_once(filled: Filled, target: House) -> None:
    account = bring(filled.source, target)
    assert account["failed"] == []
    assert account["tasks"]["new"] == 3
    for task in (filled.task, filled.draft, filled.native):
        same(filled.source, target, task)
    first = task_of(target, filled.task)
    assert (first.status, set(first.tags)) == (Status.PUBLISHED, {"one", "two"})
    assert [series.count for series in first.metrics if series.title == "loss"] == [30, 30]
    assert len(first.artifacts) == 2
    there = filled.source.client.call(op.GET_MODEL, model=filled.model)
    here = target.client.call(op.GET_MODEL, model=filled.model)
    for name in (
        "id",
        "name",
        "project",
        "task",
        "framework",
        "labels",
        "published",
        "user",
        "created",
        "last_update",
    ):
        assert getattr(here, name) == told(there, name), name
    assert contents(target, here.digest) == b"weights" * 100
    projects = {p.id: p for p in target.client.call(op.LIST_PROJECTS, query=m.ProjectQuery()).projects}
    for project in filled.source.client.call(op.LIST_PROJECTS, query=m.ProjectQuery()).projects:
        kept = projects[project.id]
        for name in ("name", "description", "tags", "system_tags", "created"):
            assert getattr(kept, name) == told(project, name), name
    before = {task: results(target, task) for task in (filled.task, filled.native)}
    again = bring(filled.source, target)
    assert (again["tasks"]["known"], again["tasks"]["new"], again["scalars"], again["files"]) == (3, 0, 0, 0)
    assert {task: results(target, task) for task in before} == before
    archived = [left for left in again["left_out"] if "--archived" in left["why"]]
    assert [left["count"] for left in archived] == [1]


def test_the_unmodified_client_reads_what_was_imported(
    filled: Filled, target: House, clearml_of: Callable[[House], ClearML]
) -> None:
    bring(filled.source, target)
    ran = (
        clearml_of(target)
        .run(
            """
            import sys
            from clearml import Task, InputModel
            task = Task.get_task(task_id=sys.argv[1])
            print("status=%s" % task.status)
            print("lr=%s" % task.get_parameters()["net/lr"])
            print("numbers=%s" % task.artifacts["numbers"].get())
            print("points=%d" % len(task.get_reported_scalars()["loss"]["train"]["x"]))
            print("accuracy=%s" % task.get_reported_single_value("accuracy"))
            print("weights=%d" % len(open(task.models["output"][-1].get_weights(), "rb").read()))
            """,
            filled.task,
        )
        .ok()
    )
    assert (ran.said("status"), ran.said("lr"), ran.said("numbers")) == ("published", "0.1", "{'x': 1}")
    assert (ran.said("points"), ran.said("accuracy"), ran.said("weights")) == ("30", "0.75", "700")


def test_filters_dry_runs_and_addresses_that_are_kept(filled: Filled, target: House) -> None:
    dry = bring(filled.source, target, "--dry-run", "--archived")
    assert (dry["dry_run"], dry["tasks"]["new"], dry["scalars"]) == (True, 4, 0)
    assert target.client.call(op.QUERY_TASKS, m.TaskQuery(hidden=True)).tasks == []
    assert target.client.call(op.LIST_PROJECTS, query=m.ProjectQuery()).projects == []
    some = bring(filled.source, target, "--project", "shelf/ours", "--no-files")
    assert some["tasks"]["new"] == 1
    kept = task_of(target, filled.native).artifacts
    assert [(a.digest, a.uri.startswith(filled.source.url)) for a in kept] == [("", True)]
    one = bring(filled.source, target, "--task", filled.archived, "--archived")
    assert one["tasks"]["new"] == 1
    assert task_of(target, filled.archived).system_tags == ("archived",)
    assert bring(filled.source, target, "--since", "2999-01-01")["tasks"]["new"] == 0


def test_wrong_keys_and_wrong_addresses_are_told_in_one_line(filled: Filled, target: House) -> None:
    wrong = [*words(filled.source)]
    wrong[wrong.index("--secret-key") + 1] = "wrong"
    nobody = [*words(filled.source)]
    nobody[nobody.index(filled.source.url)] = f"{filled.source.url}/api/keys"
    for argv, told in ((wrong, "refuses the access key"), (nobody, "ClearML")):
        done = subprocess.run(
            argv, env=target.environment(), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    member = {**target.environment(), "TASKLOOM_API_KEY": target.make_key("member")}
    done = subprocess.run(
        words(filled.source), env=member, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "role admin" in done.stderr


@pytest.fixture
def source(tmp_path: Path) -> Iterator[House]:
    """A source of its own, for a test that changes it."""
    running = House(tmp_path / "source", Clock())
    yield running
    running.stop()


def long_run(house: House, name: str, rows: int) -> str:
    run = Run(house.client, fresh_id()).open(name=name, project="long ones")
    for start in range(0, rows, 10_000):
        for n in range(start, min(start + 10_000, rows)):
            run.scalar(n, n / 7)
        run.print(f"line {start}\n").ship()
    run.end().ship()
    return run.task


def test_an_import_that_is_killed_goes_on_and_nothing_comes_twice(
    source: House, target: House, eventually: Callable[[Callable[[], object]], None], clearml_python: Path
) -> None:
    """It is killed as soon as it has begun a task and not finished it, three times."""
    tasks = [long_run(source, f"run {n}", 60_000) for n in range(3)]

    def begun() -> bool:
        found = target.client.call(op.QUERY_TASKS, m.TaskQuery()).tasks
        return any(task.status is Status.RUNNING for task in found)

    for _ in range(3):
        process = subprocess.Popen(
            words(source, "--jobs", "1"),
            env=target.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        eventually(lambda p=process: begun() or p.poll() is not None)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    account = bring(source, target)
    assert account["failed"] == []
    for task in tasks:
        same(source, target, task)
        assert task_of(target, task).metrics[0].count == 60_000


def test_what_changed_at_the_source_is_brought_up_to_date_and_what_was_run_here_is_not(
    source: House, target: House, clearml_python: Path
) -> None:
    ended, ours, running = long_run(source, "it ends", 10), long_run(source, "ours later", 10), fresh_id()
    live = Run(source.client, running).open(name="it runs", project="long ones").scalar(1, 1.0)
    live.ship()
    account = bring(source, target)
    assert account["tasks"]["new"] == 3
    assert task_of(target, running).status is Status.ABORTED
    assert any("still ran" in left["why"] for left in account["left_out"])
    live.scalar(2, 0.5).end().ship()
    edit = m.TaskEditRequest(edit=TaskEdit(add_tags=("later",)))
    source.client.call(op.EDIT_TASK, edit, task=ended)
    source.client.call(op.EDIT_TASK, edit, task=ours)
    target.client.call(op.RESET_TASK, m.MoveRequest(), task=ours)
    again = bring(source, target)
    assert (again["tasks"]["changed"], again["tasks"]["left"]) == (2, 1)
    same(source, target, running)
    same(source, target, ended)
    assert task_of(target, running).status is Status.COMPLETED
    assert task_of(target, ended).tags == ("later",)
    assert task_of(target, ours).status is Status.DRAFT
    target.client.call(op.DELETE_TASK, query=m.TaskDelete(force=True), task=ended)
    gone = bring(source, target)
    assert gone["tasks"]["left"] == 2
    assert any("deleted here" in left["why"] for left in gone["left_out"])


def test_a_source_that_is_away_for_a_moment_costs_nothing(
    source: House, target: House, eventually: Callable[[Callable[[], object]], None], clearml_python: Path
) -> None:
    tasks = [long_run(source, f"run {n}", 20_000) for n in range(3)]
    process = subprocess.Popen(
        words(source, "--jobs", "2"),
        env=target.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: target.client.call(op.QUERY_TASKS, m.TaskQuery()).tasks or process.poll() is not None)
    source.stop()
    time.sleep(1.0)  # long enough for it to notice
    source.start()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["failed"] == []
    for task in tasks:
        same(source, target, task)


# --- offline sessions -------------------------------------------------------------------------------------

OFFLINE = """
import numpy as np
from clearml import Task
Task.set_offline(True)
task = Task.init(project_name="offline/things", task_name="on the train", tags=["far"])
task.connect({"lr": 0.1})
task.connect_configuration({"a": 1}, name="config")
task.set_user_properties(quality="good")
task.set_comment("no network")
logger = task.get_logger()
for n in range(20):
    logger.report_scalar("loss", "train", 1.0 / (n + 1), n)
logger.report_single_value("accuracy", 0.5)
logger.report_table("tab", "t", iteration=1, table_plot=[["a", "b"], [1, 2]])
logger.report_image("picture", "one", iteration=2, image=(np.arange(192).reshape(8, 8, 3)).astype("uint8"))
logger.report_text("hello from far away")
task.upload_artifact("numbers", {"x": 1})
task.close()
print("zip=%s.zip" % task.get_offline_mode_folder())
"""


def bring_zip(target: House, *paths: str) -> dict[str, Any]:
    argv = [sys.executable, "-m", "taskloom.cli.main", "import", "clearml", *paths, "--json"]
    done = subprocess.run(argv, env=target.environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def test_an_offline_session_becomes_what_the_client_itself_makes_of_it(
    target: House, clearml_of: Callable[[House], ClearML]
) -> None:
    client = clearml_of(target)
    (client.folder / "clearml.conf").write_text(IN_ONE_PROCESS)
    path = client.run(OFFLINE).ok().said("zip")
    account = bring_zip(target, path)
    assert (account["tasks"]["new"], account["failed"]) == (1, [])
    (ours,) = target.client.call(op.QUERY_TASKS, m.TaskQuery(project="offline/things")).tasks
    theirs = (
        client.run(
            """
            import sys
            from clearml import Task
            print("task=%s" % Task.import_offline_session(sys.argv[1]))
            """,
            path,
        )
        .ok()
        .said("task")
    )
    here, there = task_of(target, ours.id), task_of(target, theirs)
    for name in (
        "name",
        "project_id",
        "type",
        "status",
        "comment",
        "tags",
        "parameters",
        "configuration",
        "properties",
    ):
        assert getattr(here, name) == getattr(there, name), name
    for name in ("entry_point", "diff", "packages", "working_dir"):
        assert getattr(here.execution, name) == getattr(there.execution, name), name
    ours_told, theirs_told = results(target, here.id), results(target, there.id)
    for name in ("points", "plots", "samples"):
        assert ours_told[name] == theirs_told[name], name
    said = "".join(text for _, text in ours_told["console"])
    assert said in "".join(text for _, text in theirs_told["console"])
    assert "hello from far away" in said
    assert [contents(target, a.digest) for a in here.artifacts] == [
        contents(target, a.digest) for a in there.artifacts
    ]
    again = bring_zip(target, path)
    assert again["tasks"]["known"] == 1


def test_archives_that_are_no_sessions_are_refused_and_the_others_come(target: House, tmp_path: Path) -> None:
    import zipfile

    def archive(name: str, **members: str) -> str:
        path = tmp_path / f"{name}.zip"
        with zipfile.ZipFile(path, "w") as file:
            for member, text in members.items():
                file.writestr(member.replace("__", "."), text)
        return str(path)

    task = {"id": f"offline-{'a' * 32}", "name": "fine", "project_name": "offline", "offline_folder": "/x"}
    event = {"type": "training_debug_image", "task": task["id"], "metric": "m", "variant": "v", "iter": 1,
             "timestamp": 1_700_000_000_000, "url": "/x/data/../../../etc/passwd", "key": "../../etc/passwd"}  # fmt: skip
    figure = {
        "data": [],
        "layout": {"images": [{"source": "/x/data/a/b.png"}, {"source": "http://elsewhere/c.png"}]},
    }
    plot = {"type": "plot", "task": task["id"], "metric": "m", "variant": "v", "iter": 1,
            "timestamp": 1_700_000_001_000, "plot_str": json.dumps(figure)}  # fmt: skip
    lines = json.dumps([event, plot]) + "\n{half"
    good = archive("good", task__json=json.dumps(task), metrics__jsonl=lines, **{"data/a/b__png": "picture"})
    evil = tmp_path / "evil.zip"
    with zipfile.ZipFile(evil, "w") as file:
        file.writestr("../outside.txt", "x")
        file.writestr("task.json", json.dumps(task))
    noise = tmp_path / "noise.zip"
    noise.write_bytes(b"no zip at all")
    empty, list_ = archive("empty", other__txt="x"), archive("list", task__json="[1]")
    account = bring_zip(target, good, str(evil), str(noise), empty, list_, str(tmp_path / "missing.zip"))
    assert account["tasks"]["new"] == 1
    assert len(account["failed"]) == 5
    assert not (tmp_path.parent / "outside.txt").exists()
    assert task_of(target, "a" * 32).status is Status.COMPLETED
    samples = target.client.call(op.LIST_SAMPLES, query=m.SamplesQuery(), task="a" * 32).samples
    assert [s.digest for s in samples] == [""]
    (told,) = target.client.call(op.LIST_PLOTS, query=m.PlotsQuery(), task="a" * 32).plots
    pictures = [image["source"] for image in json.loads(told.figure)["layout"]["images"]]
    assert pictures == ["data:image/png;base64,cGljdHVyZQ==", "http://elsewhere/c.png"]
