"""Artifacts of every kind, and storage destinations: a real S3 server, folders, and what goes wrong with them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.frameworks.clouds import KEYS, S3, Azurite, digest, proxy
from tests.frameworks.conftest import Bench
from tests.scenarios.stage import PATIENCE, wait_for

from taskloom.domain.status import Status
from taskloom.domain.task import TaskEdit
from taskloom.wire import messages as m
from taskloom.wire import operations as ops

HERE = "06-artifacts-and-storage"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    made = S3(tmp_path_factory.mktemp("s3"))
    yield made
    made.close()


def held_here(bench: Bench, fingerprint: str) -> bool:
    """Whether the Taskloom server has the bytes."""
    return bench.client.call(ops.BLOB_STATUS, digest=fingerprint).complete


def script(bench: Bench, name: str, text: str) -> Path:
    path = bench.work / name
    path.write_text(text)
    return path


# --- kinds -------------------------------------------------------------------------------------------------


def test_every_kind_of_artifact_arrives_and_comes_back(bench: Bench):
    task = bench.record(f"{HERE}/artifacts.py", project="examples/artifacts")
    assert bench.stdout.endswith("stored 17 artifacts\n")
    assert {a.name: (a.kind, a.filename, a.media_type, a.metadata) for a in task.artifacts} == {
        "file": ("file", "notes.txt", "text/plain", {"source": "a walk"}),
        "folder": ("folder", "folder.zip", "application/zip", {}),
        "wildcard": ("folder", "wildcard.zip", "application/zip", {}),
        "link": ("file", "", "", {}),
        "text": ("text", "text.txt", "text/plain", {}),
        "dictionary": ("dict", "dictionary.json", "application/json", {}),
        "dictionary as yaml": ("dict", "dictionary as yaml.yaml", "application/yaml", {}),
        "table": ("pandas", "table.csv.gz", "text/csv; index=1; header=1", {}),
        "table as parquet": ("pandas", "table as parquet.parquet", "application/vnd.apache.parquet", {}),
        "table as feather": ("pandas", "table as feather.feather", "application/vnd.apache.arrow.file", {}),
        "table as pickle": ("pandas", "table as pickle.pickle", "application/x-python-pickle", {}),
        "array": ("numpy", "array.npz", "application/octet-stream", {}),
        "array as csv": ("numpy", "array as csv.csv.gz", "text/csv", {}),
        "picture": ("image", "picture.png", "image/png", {}),
        "picture as jpeg": ("image", "picture as jpeg.jpg", "image/jpeg", {}),
        "object": ("object", "object.pkl", "application/x-python-pickle", {}),
        "progress": ("pandas", "progress.csv.gz", "text/csv; index=0; header=1", {"followed": True}),
    }
    by_name = {a.name: a for a in task.artifacts}
    assert by_name["picture"].preview == "red all over"
    assert by_name["progress"].preview.startswith("4 rows x 2 columns")
    for one in task.artifacts:
        if one.digest:
            assert (digest(bench.blob(one.digest)), len(bench.blob(one.digest))) == (one.digest, one.size)

    using = bench.record(f"{HERE}/use_artifacts.py", project="examples/using artifacts")
    lines = bench.stdout.splitlines()
    assert len(lines) == 17 + 8
    assert lines[17:23] == [
        "Erik",
        "2750000",
        "66.0",
        "(24, 16)",
        "['notes.txt', 'part-0.csv', 'part-1.csv', 'part-2.csv']",
        "refused: Forbidden",
    ]
    assert [a.name for a in using.artifacts] == ["summary"]


# --- destinations ------------------------------------------------------------------------------------------


def test_bytes_lie_in_the_folder_that_was_chosen(bench: Bench, tmp_path: Path):
    task = bench.record(f"{HERE}/folder_destination.py", str(tmp_path / "runs"), project="examples/folders")
    home = tmp_path / "runs" / "examples" / "folders" / f"bytes in a folder.{task.id}"
    found = {p.relative_to(home).as_posix(): p.read_bytes() for p in home.rglob("*") if p.is_file()}
    (settings,) = task.artifacts
    (model,) = bench.models(task).values()
    assert found == {
        "artifacts/settings/settings.json": b'{\n  "layers": 3,\n  "width": 64\n}',
        "models/weights.json": b"[0.1, 0.2, 0.3]",
    }
    assert (settings.uri, settings.digest, settings.fingerprint) == (
        (home / "artifacts" / "settings" / "settings.json").as_uri(),
        "",
        digest(found["artifacts/settings/settings.json"]),
    )
    assert (model.uri, model.fingerprint) == (
        (home / "models" / "weights.json").as_uri(),
        digest(b"[0.1, 0.2, 0.3]"),
    )
    assert not held_here(bench, settings.fingerprint) and not held_here(bench, model.fingerprint)
    assert bench.stdout.splitlines()[-1] == "[0.1, 0.2, 0.3]"


def test_bytes_lie_in_the_bucket_that_was_chosen(bench: Bench, s3: S3):
    destination = s3.bucket("runs")
    task = bench.record(f"{HERE}/s3_destination.py", f"{destination}/deep", project="examples/buckets", **KEYS)
    home = f"deep/examples/buckets/bytes in S3.{task.id}"
    objects = s3.objects("runs")
    (numbers,) = task.artifacts
    (model,) = bench.models(task).values()
    assert {numbers.uri: numbers.fingerprint, model.uri: model.fingerprint} == {
        f"{destination}/{name}": digest(data) for name, data in objects.items()
    }
    assert sorted(objects) == [f"{home}/artifacts/numbers/numbers.npz", f"{home}/models/weights.npy"]
    assert not held_here(bench, numbers.fingerprint) and not held_here(bench, model.fingerprint)
    assert bench.stdout.splitlines()[-2:] == ["(300000,)", "10.0"]
    assert task.status is Status.COMPLETED


def test_bytes_lie_in_the_container_that_was_chosen(bench: Bench, tmp_path: Path):
    """Azure's emulator is an npm package: TASKLOOM_TEST_AZURITE names its program `azurite-blob`."""
    program = os.environ.get("TASKLOOM_TEST_AZURITE", "")
    if not program:
        pytest.skip("TASKLOOM_TEST_AZURITE names no azurite-blob")
    azure = Azurite(program, tmp_path)
    try:
        destination = azure.container("runs")
        key = {"AZURE_STORAGE_KEY": azure.key}
        words = ("--project", "examples/containers", "--size", "6000000")
        task = bench.record(f"{HERE}/s3_destination.py", destination, *words, project="examples/containers", **key)
        wrong = {"AZURE_STORAGE_KEY": "d3Jvbmc="}
        refused = bench.record(
            script(bench, "refused.py", REFUSED), "azure/refused", destination, project="azure/refused", **wrong
        )
    finally:
        azure.close()
    assert bench.stderr.count("does not take files") == 1
    assert "refuses the access (AuthorizationFailure)" in bench.stderr
    assert all(held_here(bench, a.digest) for a in refused.artifacts)
    home = f"{destination}/examples/containers/bytes in S3.{task.id}"
    assert [a.uri for a in task.artifacts] == [f"{home}/artifacts/numbers/numbers.npz"]
    assert [one.uri for one in bench.models(task).values()] == [f"{home}/models/weights.npy"]
    assert not held_here(bench, task.artifacts[0].fingerprint)


def test_project_environment_and_settings_file_choose_in_that_order(bench: Bench, tmp_path: Path):
    text = "from taskloom import Task\n"
    text += "import sys\n"
    text += "task = Task.init(project_name='orders/' + sys.argv[1], task_name='chosen')\n"
    text += "task.upload_artifact('x', {'a': 1})\n"
    path = script(bench, "chosen.py", text)
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[sdk]\ndefault_output_uri = "{tmp_path}/by file"\n')

    def where(project: str, **environment: str) -> str:
        task = bench.record(path, project, project=f"orders/{project}", **environment)
        return task.artifacts[0].uri.replace("%20", " ").partition("/orders/")[0].rpartition("/")[2]

    assert where("nobody") == ""
    by_file = {"TASKLOOM_CONFIG": str(settings)}
    by_variable = {"TASKLOOM_DEFAULT_OUTPUT_URI": str(tmp_path / "by variable")}
    assert where("file", **by_file) == "by file"
    assert where("variable", **by_file, **by_variable) == "by variable"
    bench.command("project", "create", "orders/project")
    bench.command("project", "edit", "orders/project", "--output-uri", str(tmp_path / "by project"))
    assert where("project", **by_file, **by_variable) == "by project"
    assert where("project/below", **by_file, **by_variable) == "by project"


REFUSED = """
import sys
from taskloom import OutputModel, Task

task = Task.init(project_name=sys.argv[1], task_name="refused", output_uri=sys.argv[2])
task.upload_artifact("first", {"a": 1})
task.upload_artifact("second", [1, 2, 3])
with open("net.bin", "wb") as file:
    file.write(b"weights")
OutputModel(task=task, name="net").update_weights("net.bin")
OutputModel(task=task, name="net").tags = ["later"]
task.get_logger().report_scalar("loss", "train", 0.5, 1)
"""


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("no bucket", "there is no s3://"),
        ("no keys", "no credentials for s3://"),
        ("wrong keys", "refuses the access (InvalidAccessKeyId)"),
        ("a file for a folder", "Not a directory"),
        ("no library", "needs the package obstore: pip install 'taskloom[cloud]'"),
    ],
)
def test_bytes_that_a_destination_refuses_are_kept_on_the_server(
    bench: Bench, s3: S3, tmp_path: Path, case: str, said: str
):
    project = f"refused/{case}"
    (tmp_path / "obstore.py").write_text("raise ImportError('not installed')\n")
    (tmp_path / "file").write_text("")
    keys = {} if case == "no keys" else KEYS
    without = {"PYTHONPATH": str(tmp_path)} if case == "no library" else {}
    if case == "a file for a folder":
        destination = str(tmp_path / "file" / "runs")
    else:
        destination = f"s3://{s3.host}/nobodys" if case == "no bucket" else s3.bucket("refusing")
    s3.ask_for_keys(case == "wrong keys")
    try:
        path = script(bench, "refused.py", REFUSED)
        here = {"HOME": str(tmp_path), **keys, **without}
        task = bench.record(path, project, destination, project=project, **here)
    finally:
        s3.ask_for_keys(False)
    told = [line for line in bench.stderr.splitlines() if "does not take files" in line]
    assert len(told) == 1 and said in told[0]
    assert not any(secret in bench.stderr for secret in KEYS.values())
    assert {a.name: (a.uri, a.fingerprint, bench.blob(a.digest)) for a in task.artifacts} == {
        "first": ("", "", b'{\n  "a": 1\n}'),
        "second": ("", "", b"[\n  1,\n  2,\n  3\n]"),
    }
    wanted = [a.metadata["wanted_uri"].rpartition("/")[2] for a in task.artifacts]
    assert wanted == ["first.json", "second.json"]
    assert all(said in a.metadata["refusal"] for a in task.artifacts)
    (model,) = bench.models(task).values()
    assert (model.uri, bench.blob(model.digest), model.tags) == ("", b"weights", ("later",))
    assert bench.scalars(task) == {"loss/train": [(1, 0.5)]}
    assert task.status is Status.COMPLETED


HOSTED = """
import argparse
from taskloom import Task

parser = argparse.ArgumentParser()
parser.add_argument("--folder")
parser.add_argument("--a", type=int, default=1)
arguments = parser.parse_args()
task = Task.init(project_name="hosted", task_name="where", output_uri=arguments.folder)
task.upload_artifact("x", {"a": arguments.a})
"""


def test_an_edited_clone_stores_where_its_task_says_on_the_server(bench: Bench, tmp_path: Path):
    task = bench.record(
        script(bench, "hosted.py", HOSTED), "--folder", str(tmp_path / "said by the script"), project="hosted"
    )
    edit = TaskEdit(output_uri=(tmp_path / "edited").as_uri())
    bench.client.call(ops.EDIT_TASK, m.TaskEditRequest(edit=edit), task=task.id)
    clone = bench.clone(task, {"Args/a": 5})
    assert {p.relative_to(tmp_path).as_posix(): p.read_text() for p in tmp_path.rglob("*.json")} == {
        f"said by the script/hosted/where.{task.id}/artifacts/x/x.json": '{\n  "a": 1\n}',
        f"edited/hosted/where, edited.{clone.id}/artifacts/x/x.json": '{\n  "a": 5\n}',
    }


LONG = """
import os, sys
from taskloom import Task

task = Task.init(project_name=sys.argv[1], task_name="long", output_uri=sys.argv[2] or None)
task.upload_artifact("large", os.urandom(40_000_000).hex())
logger = task.get_logger()
logger.report_scalar("loss", "train", 0.25, 7)
print("said behind the artifact", flush=True)
task.upload_artifact("small", {"a": 1})
sys.stdin.readline()
"""


@pytest.mark.parametrize("where", ["bucket", "server"])
def test_a_long_upload_holds_nothing_up(bench: Bench, s3: S3, where: str):
    """What was reported behind a large artifact arrives while it is still on its way."""
    project = f"long/{where}"
    assert bench.address is not None
    port = s3.port if where == "bucket" else int(bench.address.url.rpartition(":")[2])
    with proxy(port) as between:
        between.gate.clear()
        s3.bucket("long")
        destination = f"s3://{between.host}/long" if where == "bucket" else ""
        url = {} if where == "bucket" else {"TASKLOOM_URL": f"http://{between.host}"}
        running = bench.start_script(script(bench, "long.py", LONG), project, destination, **KEYS, **url)
        task = bench.only_task(project)
        wait_for(lambda: bench.scalars(bench.task(task.id)) == {"loss/train": [(7, 0.25)]}, "the scalar")
        wait_for(lambda: "said behind the artifact" in bench.console(task.id), "the console")
        assert between.held.wait(PATIENCE)  # and the artifact is still on its way
        assert bench.task(task.id).artifacts == ()
        between.gate.set()
        assert running.stdin is not None
        running.communicate(b"\n", timeout=PATIENCE)
        ended = bench.ended(task.id)
    assert [(a.name, a.size, bool(a.digest)) for a in ended.artifacts] == [
        ("large", 80_000_000, where == "server"),
        ("small", 12, where == "server"),
    ]
    if where == "bucket":
        found = s3.objects("long")
        assert {digest(data) for data in found.values()} == {a.fingerprint for a in ended.artifacts}


def test_an_upload_that_is_cut_goes_on_and_is_never_seen_half(bench: Bench, s3: S3):
    s3.bucket("cut")
    with proxy(s3.port, cuts=5, after=3 << 20) as between:
        task = bench.record(
            f"{HERE}/s3_destination.py",
            f"s3://{between.host}/cut",
            "--size",
            "6000000",
            "--project",
            "examples/buckets cut",
            project="examples/buckets cut",
            **KEYS,
        )
        assert between.cuts == 0
    assert {digest(data) for data in s3.objects("cut").values()} == {
        task.artifacts[0].fingerprint,
        *(model.fingerprint for model in bench.models(task).values()),
    }


def test_a_killed_shipper_is_followed_by_one_that_goes_on_where_it_stopped(bench: Bench):
    """`kill -9` of the script and its companion in the middle of an upload to the server."""
    project = "long/killed"
    assert bench.address is not None
    with proxy(int(bench.address.url.rpartition(":")[2]), after=30 << 20) as between:
        between.gate.clear()
        running = bench.start_script(
            script(bench, "long.py", LONG), project, "", TASKLOOM_URL=f"http://{between.host}"
        )
        task = bench.only_task(project)
        assert between.held.wait(PATIENCE)
        shipper = next(
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and f"journal/{task.id}".encode() in _command_line(entry)
        )
        os.kill(running.pid, signal.SIGKILL)
        os.kill(shipper, signal.SIGKILL)
        running.wait(PATIENCE)
        before = between.passed
        between.gate.set()
    with proxy(int(bench.address.url.rpartition(":")[2])) as between:
        bench.command("journal", "ship", TASKLOOM_URL=f"http://{between.host}")
        assert between.passed < 80_000_000 - before + (8 << 20)  # what had arrived was not sent again
    ended = bench.ended(task.id)
    assert [(a.name, a.size) for a in ended.artifacts] == [("large", 80_000_000), ("small", 12)]
    assert all(held_here(bench, a.digest) for a in ended.artifacts)
    assert ended.status is Status.FAILED


def _command_line(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def test_an_offline_session_brings_its_bytes_to_the_bucket_when_it_is_imported(bench: Bench, s3: S3):
    destination = s3.bucket("offline")
    text = "from taskloom import Task\nimport sys\n"
    text += "task = Task.init(project_name='offline/bucket', task_name='away', output_uri=sys.argv[1])\n"
    text += "task.upload_artifact('x', 'kept for later')\n"
    done = bench.script(script(bench, "away.py", text), destination, TASKLOOM_OFFLINE="1", **KEYS)
    assert done.returncode == 0, done.stderr.decode()
    (archive,) = (bench.data / "offline").glob("*.zip")
    assert s3.objects("offline") == {}
    bench.command("journal", "import", str(archive), **KEYS)
    task = bench.ended(bench.only_task("offline/bucket").id)
    assert {f"{destination}/{name}": data for name, data in s3.objects("offline").items()} == {
        task.artifacts[0].uri: b"kept for later"
    }
    archive.unlink()


# --- deleting ----------------------------------------------------------------------------------------------


def test_bytes_elsewhere_go_with_their_task_and_nothing_else_does(bench: Bench, s3: S3, tmp_path: Path):
    destination = s3.bucket("deleted")
    text = "from taskloom import OutputModel, Task\nimport sys\n"
    text += "task = Task.init(project_name=sys.argv[1], task_name='goes', output_uri=sys.argv[2])\n"
    text += "task.upload_artifact('x', 'one')\n"
    text += "task.upload_artifact('y', 'two')\n"
    text += "task.upload_artifact('named', sys.argv[2] + '/somebody/elses.txt')\n"
    path = script(bench, "goes.py", text)
    in_bucket = bench.record(path, "gone/bucket", destination, project="gone/bucket", **KEYS)
    in_folder = bench.record(path, "gone/folder", str(tmp_path), project="gone/folder")
    neighbour = tmp_path / "gone" / "folder" / "neighbour.txt"
    neighbour.write_text("mine")
    assert len(s3.objects("deleted")) == 2

    refused = json.loads(
        bench.command("task", "delete", in_bucket.id, "--yes", "--json", HOME=str(tmp_path)).stdout
    )
    assert refused["removed"] == []
    left = sorted(one["uri"] for one in refused["left"])
    assert left == sorted(a.uri for a in in_bucket.artifacts if a.fingerprint)
    assert all("no credentials for s3://" in one["reason"] for one in refused["left"])
    assert len(s3.objects("deleted")) == 2

    again = bench.record(path, "gone/bucket", destination, project="gone/bucket", **KEYS)
    bench.command("task", "delete", again.id, "--yes", **KEYS)
    assert not any(again.id in name for name in s3.objects("deleted"))
    bench.command("task", "delete", in_folder.id, "--yes")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == [
        "gone",
        "gone/folder",
        "gone/folder/neighbour.txt",
    ]
