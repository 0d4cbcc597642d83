"""`taskloom clearml-config`: the file for ClearML's clients, with a key of its own, and nothing lost."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import Run

from taskloom.cli.clearml import conf
from taskloom.wire import operations as op


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("CLEARML_CONFIG_FILE", "TRAINS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_it_writes_the_file_with_a_key_of_its_own(taskloom: Run, house: Any, home: Path) -> None:
    told = taskloom("clearml-config", "--json").json
    path = home / "clearml.conf"
    assert (told["path"], told["url"], told["kept"]) == (str(path), house.url, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = conf.read_conf({}, path)
    assert (found.api_server, found.web_server) == (house.url, house.url)
    assert found.files_server == f"{house.url}/files"
    key = f"tl_{found.access_key}_{found.secret_key}"
    assert house.client_of(key).call(op.SERVER_INFO).role == "member"
    made = [k for k in house.client.call(op.LIST_KEYS).keys if k.id == found.access_key]
    assert [(k.label, k.role) for k in made] == [("clearml", "member")]


def test_a_file_that_is_there_is_not_touched_and_no_key_is_made(taskloom: Run, house: Any, home: Path) -> None:
    path = home / "clearml.conf"
    path.write_text("mine")
    ran = taskloom("clearml-config")
    assert ran.code == 1
    assert "--force" in ran.err
    assert path.read_text() == "mine"
    assert [k.label for k in house.client.call(op.LIST_KEYS).keys] == ["first start"]


def test_force_keeps_what_was_there_however_often(taskloom: Run, home: Path) -> None:
    path = home / "clearml.conf"
    path.write_text("mine")
    assert taskloom("clearml-config", "--force").code == 0
    first = path.read_text()
    assert taskloom("clearml-config", "--force").code == 0
    assert (home / "clearml.conf.before-taskloom").read_text() == "mine"
    assert (home / "clearml.conf.before-taskloom.2").read_text() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_print_writes_nothing_and_output_chooses_the_place(taskloom: Run, home: Path, tmp_path: Path) -> None:
    printed = taskloom("clearml-config", "--print", "--role", "viewer")
    assert printed.out.startswith("api {\n")
    assert list(home.iterdir()) == []
    place = tmp_path / "deep" / "other.conf"
    assert taskloom("clearml-config", "--output", str(place)).code == 0
    assert place.read_text().startswith("api {\n")
    assert taskloom("clearml-config", "--output", str(tmp_path), "--force").code == 1
    assert taskloom("clearml-config", "--role", "king").code == 2


def test_a_file_as_people_write_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "clearml.conf"
    path.write_text(
        """
        # api_server: http://not.this
        api {
            api_server: https://api.example.org   // the cloud
            web_server = http://localhost:8080
            files_server: "http://localhost:8081"
            files_server: ${?FILES}
            credentials { "access_key" = "A#1", "secret_key" = "S//2" }
        }
        """
    )
    found = conf.read_conf({}, path)
    assert (found.api_server, found.web_server) == ("https://api.example.org", "http://localhost:8080")
    assert (found.files_server, found.access_key, found.secret_key) == ("http://localhost:8081", "A#1", "S//2")
    other = conf.read_conf({"FILES": "http://elsewhere", "CLEARML_API_HOST": "http://new"}, path)
    assert (other.files_server, other.api_server) == ("http://elsewhere", "http://new")
    assert other.source("api_server") == "CLEARML_API_HOST"
    assert conf.read_conf({}, tmp_path / "missing") == conf.Conf()
