"""`taskloom env`, as somebody types it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.evals.served_sources import ADD, PATIENCE, Process, serving, taskloom

pytestmark = pytest.mark.evals


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("sums")
    (folder / "sums.py").write_text(ADD)
    with serving(str(folder / "sums.py"), folder=folder) as process:
        yield process


def test_a_task_is_started_left_and_graded(sums: Process, tmp_path: Path) -> None:
    started = taskloom("env", "start", sums.url, "add", "--args", '{"a": 1}', data=tmp_path)
    assert started.returncode == 0, started.stderr
    session = started.stdout.split()[1]
    assert session.startswith("sess-") and "What is 1 + 2?" in started.stdout
    graded = taskloom("env", "grade", sums.url, "--session", session, "--answer", "3", data=tmp_path)
    assert graded.returncode == 0, graded.stderr
    assert graded.stdout.split() == ["score", "1.0", "content", "checked"]
    again = taskloom("env", "grade", sums.url, "--session", session, data=tmp_path)
    assert again.returncode == 1
    assert again.stderr == f"taskloom: unknown session: '{session}'\n"


def test_json_and_answers_out_of_files(sums: Process, tmp_path: Path) -> None:
    started = taskloom("env", "start", sums.url, "add", "--args", '{"a": 5}', "--json", data=tmp_path)
    told = json.loads(started.stdout)
    assert told == {"session": told["session"], "template": "add", "prompt": "What is 5 + 2?"}
    graded = taskloom(
        "env",
        "grade",
        sums.url,
        "--session",
        told["session"],
        "--answer-file",
        "-",
        "--json",
        data=tmp_path,
        text="7",
    )
    assert json.loads(graded.stdout) == {"score": 1.0, "content": "checked"}


def test_messages_are_shown_as_text(sums: Process, tmp_path: Path) -> None:
    started = taskloom("env", "start", sums.url, "chat", data=tmp_path)
    assert "system: be brief\n\nuser: hi\n" in started.stdout
    adopted = taskloom("env", "grade", sums.url, data=tmp_path)
    assert adopted.stdout.split() == ["score", "0.5"]


def test_templates_are_listed_from_an_address_and_from_a_file(sums: Process, tmp_path: Path) -> None:
    (tmp_path / "sums.py").write_text(ADD)
    for place in (sums.url, str(tmp_path / "sums.py")):
        listed = taskloom("env", "list", place, data=tmp_path / "data")
        assert "a: integer, b: integer = 2" in listed.stdout and "add two numbers" in listed.stdout
        (found,) = json.loads(taskloom("env", "list", place, "--json", data=tmp_path / "data").stdout)[
            "environments"
        ]
        assert [entry["id"] for entry in found["templates"]] == ["add", "chat"]
        assert (found["name"], found["version"]) == ("sums", "2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("start", "URL", "nothing"), "unknown task: 'nothing'"),
        (("start", "URL", "add"), "missing a"),
        (("start", "URL", "add", "--args", "[1]"), "expected a JSON object"),
        (("start", "http://x:1", "add"), "expected tcp://HOST:PORT"),
        (("start", "tcp://127.0.0.1:1", "add", "--timeout", "0.1"), "was not ready in 0.1 s: Connection refused"),
        (("grade", "URL"), "no task in progress"),
        (("grade", "URL", "--answer", "x", "--answer-file", "y"), "expected one of them"),
        (("grade", "URL", "--answer-file", "/nothing"), "/nothing: No such file"),
        (("list", "nowhere.py"), "expected tcp://HOST:PORT"),
    ],
)
def test_what_is_wrong_is_one_line(sums: Process, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = taskloom("env", *(sums.url if word == "URL" else word for word in words), data=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_serve_goes_on_as_the_serving_process(tmp_path: Path) -> None:
    (tmp_path / "sums.py").write_text(ADD)
    process = subprocess.Popen(
        [sys.executable, "-m", "taskloom.cli.main", "env", "serve", "sums.py", "--port", "0", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = int(process.stdout.readline().removeprefix("HUD_SERVE_PORT="))
    told = json.loads(process.stdout.readline())
    assert told == {"environment": "sums", "version": "2", "url": f"tcp://127.0.0.1:{port}", "port": port}
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert f"environment 'sums' is served at tcp://127.0.0.1:{port}" in errors and "Traceback" not in errors
