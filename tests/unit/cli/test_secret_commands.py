"""`taskloom secret` against a real server; a value is nowhere to be seen."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest


class Typed(io.TextIOWrapper):
    """A standard input that is a pipe."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))

    def isatty(self) -> bool:
        return False


def test_a_secret_comes_from_a_file_a_variable_or_the_standard_input(
    taskloom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("from the file\n")
    said = taskloom("secret", "set", "FILED", "--from-file", str(file), "--json")
    assert (said.json["name"], said.json["scope"]) == ("FILED", "user")
    monkeypatch.setenv("MY_TOKEN", "from the variable")
    assert taskloom("secret", "set", "VARIED", "--from-env", "MY_TOKEN", "--project", "vision").code == 0
    monkeypatch.setattr("sys.stdin", Typed(b"from the pipe\n"))
    piped = taskloom("secret", "set", "PIPED", "--url", "https://git.example.org", "--username", "robot")
    listed = taskloom("secret", "list")
    assert {s["name"] for s in taskloom("secret", "list", "--json").json["secrets"]} == {
        "FILED",
        "VARIED",
        "PIPED",
    }
    assert "robot@https://git.example.org" in listed.out
    assert "project vision" in listed.out
    for ran in (said, piped, listed):
        assert "from the" not in ran.out + ran.err
    assert taskloom("secret", "rotate", "--yes", "--json").json == {"secrets": 3}
    assert taskloom("secret", "delete", "VARIED", "--project", "vision", "--yes").code == 0
    assert taskloom("secret", "delete", "VARIED", "--project", "vision", "--yes").code == 1


def test_a_value_is_never_an_argument(taskloom: Any, tmp_path: Path) -> None:
    assert taskloom("secret", "set", "TOKEN", "value").code == 2
    assert taskloom("secret", "set", "TOKEN", "--from-env", "NOT_THERE").code == 2
    assert taskloom("secret", "set", "TOKEN", "--from-env", "A", "--from-file", str(tmp_path)).code == 2
