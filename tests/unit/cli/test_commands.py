"""What holds for every command: help, exit codes, one line for an error, JSON where it is asked for."""

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from taskloom.cli.main import COMMANDS, build_app, main, wanted_command

DAEMONS = {"up", "server", "worker", "agent"}  # they run until they are stopped and have no answer to print


def commands(app: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for info in app.registered_commands:
        yield (*path, str(info.name)), info.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, (*path, str(group.name)))


ALL = dict(commands(build_app()))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(words)
    told = capsys.readouterr()
    return int(left.value.code or 0), told.out, told.err


def test_every_command_of_the_table_is_there() -> None:
    assert {path[0] for path in ALL} == set(COMMANDS)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_and_option_explains_itself(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect.getdoc(ALL[path]), f"{path} has no docstring"
    code, out, _ = run(capsys, *path, "--help")
    assert code == 0
    assert "Usage: taskloom" in out


@pytest.mark.parametrize("path", [path for path in ALL if path[0] not in DAEMONS], ids=" ".join)
def test_every_command_speaks_json(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--json" in run(capsys, *path, "--help")[1]


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "tusk")
    assert code == 2
    assert "tusk" in err


def test_a_missing_argument_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "task", "show")[0] == 2


def test_without_a_server_the_message_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "task", "list")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "taskloom up" in err
    assert "TASKLOOM_URL" in err


def test_with_json_the_error_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "task", "list", "--json")
    assert code == 1
    assert json.loads(err)["error"]["code"] == "server_away"


def test_a_server_that_does_not_answer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--url", "http://127.0.0.1:9", "--api-key", "tl_a_b", "task", "list")
    assert code == 1
    assert "127.0.0.1:9" in err
    assert "taskloom up" in err


def test_an_address_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--url", "ftp://host", "task", "list")
    assert code == 1
    assert "ftp://host" in err


def test_a_wrong_key_says_how_to_get_one(house: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--url", house.url, "--api-key", "tl_wrong_key", "key", "list")
    assert code == 1
    assert "TASKLOOM_API_KEY" in err


def test_options_before_the_command_choose_the_server(house: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--data", str(house.data), "version", "--server")
    assert code == 0
    assert house.url in out


def test_versions(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert run(capsys, "--version")[1] == f"taskloom {version('taskloom')}\n"
    assert json.loads(run(capsys, "version", "--json")[1]) == {"version": version("taskloom")}


def test_an_interruption_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        """Stands where a command would be."""
        raise KeyboardInterrupt

    monkeypatch.setattr("taskloom.cli.version.version", interrupted)
    assert run(capsys, "version")[0] == 130


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["task", "list"], "task"),
        (["--url", "task", "queue"], "queue"),
        (["--data=x", "key"], "key"),
        (["--help"], ""),
        ([], ""),
    ],
)
def test_the_wanted_command_is_found_behind_the_options(words: list[str], wanted: str) -> None:
    assert wanted_command(words) == wanted


def test_only_the_wanted_command_is_loaded() -> None:
    import subprocess
    import sys

    script = (
        "import sys; from taskloom.cli.main import build_app; build_app('version'); "
        "print([n for n in sys.modules if n in ('httpx', 'rich.table', 'taskloom.cli.task', 'taskloom.sdk')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
