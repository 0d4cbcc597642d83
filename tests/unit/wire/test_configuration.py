"""Settings: a variable wins over the file, the file over the default; what is wrong is named and left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskloom.domain.errors import BadInput
from taskloom.server.settings import read_settings
from taskloom.wire.client import Address
from taskloom.wire.configuration import (
    SETTINGS,
    Found,
    WrongSettings,
    check_settings,
    faults,
    find,
    remarks,
    setting,
    storage_sections,
)
from taskloom.wire.connection import Connection, find_address, write_connection


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"TASKLOOM_DATA": str(tmp_path)}


def write(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    file = tmp_path / "taskloom.toml"
    file.write_text(text, "utf-8")
    file.chmod(mode)
    return file


def test_without_a_file_and_variables_the_defaults_hold(environ: dict[str, str]) -> None:
    assert {key: find(key, environ) for key in SETTINGS} == {
        key: Found(entry.default, "default") for key, entry in SETTINGS.items()
    }
    assert faults(environ) == remarks(environ) == []
    assert storage_sections(environ) == {}


def test_the_file_is_below_a_variable_and_above_the_default(tmp_path: Path, environ: dict[str, str]) -> None:
    file = write(tmp_path, "[sdk]\nrandom_seed = 5\nclose_timeout_in_seconds = 2\n")
    environ["TASKLOOM_RANDOM_SEED"] = "7"
    assert find("sdk.random_seed", environ) == Found(7, "TASKLOOM_RANDOM_SEED")
    assert find("sdk.close_timeout_in_seconds", environ) == Found(2.0, str(file))
    assert find("sdk.task_reuse_time_window_in_hours", environ) == Found(72.0, "default")


def test_a_changed_file_is_read_again(tmp_path: Path, environ: dict[str, str]) -> None:
    write(tmp_path, "[sdk]\nrandom_seed = 5\n")
    assert setting("sdk.random_seed", environ) == 5
    write(tmp_path, "[sdk]\nrandom_seed = 66\n")
    assert setting("sdk.random_seed", environ) == 66
    (tmp_path / "taskloom.toml").unlink()
    assert setting("sdk.random_seed", environ) == 1337


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("sdk.offline", "yes", True),
        ("sdk.offline", "0", False),
        ("sdk.cache_bytes", "10 GiB", 10 << 30),
        ("sdk.cache_bytes", "1.5kB", 1500),
        ("sdk.cache_bytes", "4096", 4096),
        ("sdk.random_seed", "none", None),
        ("sdk.random_seed", "0", 0),
        ("sdk.debug_sample_history", "3", 3),
        ("sdk.resource_sample_seconds", "0.5", 0.5),
        ("sdk.default_output_uri", " s3://bucket/x ", "s3://bucket/x"),
        ("server.allowed_hosts", "a.org, b.org,", ("a.org", "b.org")),
    ],
)
def test_a_variable_is_read_as_its_kind(key: str, text: str, value: Any, environ: dict[str, str]) -> None:
    environ[SETTINGS[key].variable] = text
    assert find(key, environ) == Found(value, SETTINGS[key].variable)
    assert faults(environ) == []


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("sdk.offline", "perhaps"),
        ("sdk.cache_bytes", "10 apples"),
        ("sdk.cache_bytes", "-1"),
        ("sdk.cache_bytes", "GiB"),
        ("sdk.random_seed", "4294967296"),
        ("sdk.random_seed", "1.5"),
        ("sdk.debug_sample_history", "many"),
        ("sdk.close_timeout_in_seconds", "nan"),
        ("sdk.close_timeout_in_seconds", "-1"),
        ("sdk.close_timeout_in_seconds", "inf"),
    ],
)
def test_a_variable_of_another_kind_is_named_and_left_out(key: str, text: str, environ: dict[str, str]) -> None:
    entry = SETTINGS[key]
    environ[entry.variable] = text
    assert find(key, environ) == Found(entry.default, "default")
    assert faults(environ) == [f"{entry.variable} is {text!r}: expected {entry.kind.expected}"]
    with pytest.raises(WrongSettings, match=entry.variable):
        check_settings(environ)


def test_what_is_wrong_in_the_file_is_named_with_file_key_and_expectation(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    file = write(
        tmp_path,
        """
        colour = "red"
        api_key = 5
        [sdk]
        random_sed = 1
        offline = "perhaps"
        cache_bytes = true
        [server]
        allowed_hosts = [1]
        [storage]
        region = "eu"
        """,
    )
    assert faults(environ) == [
        f"{file}: there is no setting 'colour'",
        f"{file}: api_key is not usable: expected a text",
        f"{file}: there is no setting 'sdk.random_sed'; is 'sdk.random_seed' meant?",
        f"{file}: sdk.offline is 'perhaps': expected true or false",
        f'{file}: sdk.cache_bytes is True: expected bytes, as a whole number or such as "10 GiB"',
        f"{file}: server.allowed_hosts is [1]: expected a list of texts, or one with commas",
        f"{file}: there is no setting 'storage.region'",
        f"{file}: api_key is not used without url, since nobody knows whose key it is",
    ]
    assert setting("sdk.offline", environ) is False
    assert setting("server.allowed_hosts", environ) == ()


@pytest.mark.parametrize("text", ["[sdk\n", "x = \n", "\ufeff\x00"])
def test_a_file_that_is_no_toml_is_as_if_it_were_not_there(
    text: str, tmp_path: Path, environ: dict[str, str]
) -> None:
    file = write(tmp_path, text)
    assert setting("sdk.random_seed", environ) == 1337
    (fault,) = faults(environ)
    assert fault.startswith(f"{file} is not TOML: ")


def test_bytes_that_are_no_text_and_a_folder_are_told(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "taskloom.toml").write_bytes(b"\xff\xfe")
    assert setting("url", environ) == ""
    assert "is not TOML" in faults(environ)[0]
    environ["TASKLOOM_CONFIG"] = str(tmp_path)
    assert setting("url", environ) == ""
    assert faults(environ) == [f"{tmp_path} cannot be read: Is a directory"]


def test_a_named_file_that_is_not_there_is_told(tmp_path: Path, environ: dict[str, str]) -> None:
    environ["TASKLOOM_CONFIG"] = str(tmp_path / "mine.toml")
    assert faults(environ) == [f"TASKLOOM_CONFIG names {tmp_path / 'mine.toml'}, which is not there"]
    (tmp_path / "mine.toml").write_text("[sdk]\nrandom_seed = 3\n")
    assert find("sdk.random_seed", environ) == Found(3, str(tmp_path / "mine.toml"))
    assert faults(environ) == []


def test_storage_sections_are_given_as_they_are(tmp_path: Path, environ: dict[str, str]) -> None:
    write(
        tmp_path, '[storage."s3://bucket"]\nregion = "eu"\nsecure = false\n[storage."gs://b/x"]\nproject = "p"\n'
    )
    assert storage_sections(environ) == {
        "s3://bucket": {"region": "eu", "secure": False},
        "gs://b/x": {"project": "p"},
    }
    assert faults(environ) == []


@pytest.mark.parametrize(
    "text", ['url = "http://a"\napi_key = "tl_x"\n', '[storage."s3://b"]\nsecret_access_key = "s"\n']
)
def test_a_secret_that_others_can_read_is_remarked(text: str, tmp_path: Path, environ: dict[str, str]) -> None:
    file = write(tmp_path, text, 0o644)
    assert remarks(environ) == [f"{file} holds a secret and others can read it: chmod 600 {file}"]
    file.chmod(0o600)
    assert remarks(environ) == []
    write(tmp_path, 'url = "http://a"\n', 0o644)
    assert remarks(environ) == []


def test_the_files_key_goes_to_the_files_address_only(tmp_path: Path, environ: dict[str, str]) -> None:
    write_connection(tmp_path, Connection("http://127.0.0.1:9", "tl_here"))
    write(tmp_path, 'url = "https://there/"\napi_key = "tl_there"\n')
    assert find_address(environ) == Address("https://there", "tl_there")
    assert find_address({**environ, "TASKLOOM_API_KEY": "tl_me"}) == Address("https://there", "tl_me")
    assert find_address({**environ, "TASKLOOM_URL": "http://127.0.0.1:9"}) == Address(
        "http://127.0.0.1:9", "tl_here"
    )
    assert find_address({**environ, "TASKLOOM_URL": "http://x"}) == Address("http://x", "")
    write(tmp_path, 'url = "http://127.0.0.1:9"\n')
    assert find_address(environ) == Address("http://127.0.0.1:9", "tl_here")
    write(tmp_path, 'api_key = "tl_whose"\n')
    assert find_address(environ) == Address("http://127.0.0.1:9", "tl_here")


def test_an_address_that_is_none_says_where_it_was_said(tmp_path: Path, environ: dict[str, str]) -> None:
    file = write(tmp_path, 'url = "there"\n')
    with pytest.raises(BadInput, match=f"{file}: url is 'there'"):
        find_address(environ)


def test_a_server_reads_the_file_of_its_own_data_folder(tmp_path: Path, environ: dict[str, str]) -> None:
    house = tmp_path / "house"
    house.mkdir()
    write(house, '[server]\nallowed_hosts = ["Tracker.Example.org"]\ndatabase_url = "postgres://u@h/d"\n')
    settings = read_settings(house, environ=environ)
    assert settings.allowed_hosts == ("tracker.example.org",)
    assert settings.database_url == "postgresql+psycopg://u@h/d"
    write(house, "[server]\nallowed_host = []\n")
    with pytest.raises(WrongSettings, match=r"server\.allowed_hosts"):
        read_settings(house, environ=environ)
