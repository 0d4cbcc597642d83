"""`taskloom config`: what holds and where it was said; edits that keep what they do not touch."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run

from taskloom.wire.configuration import SETTINGS

KEPT = """\
# Ours, do not touch.
[sdk]  # the scripts
random_seed = 5 # five
"""


@pytest.fixture
def file(tmp_path: Path, taskloom: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    named = tmp_path / "conf" / "taskloom.toml"
    named.parent.mkdir()
    monkeypatch.setenv("TASKLOOM_CONFIG", str(named))
    return named


def test_every_setting_is_listed_with_its_source_and_secrets_masked(taskloom: Run, file: Path) -> None:
    file.write_text(KEPT + '[storage."s3://b"]\nregion = "eu"\nsecret_access_key = "0123456789abcdef"\n')
    file.chmod(0o600)
    told = taskloom("config", "--json").json
    assert [one["key"] for one in told["settings"]] == list(SETTINGS)
    by_key = {one["key"]: one for one in told["settings"]}
    assert by_key["sdk.random_seed"] == {"key": "sdk.random_seed", "value": 5, "source": str(file)}
    assert by_key["url"]["source"] == "TASKLOOM_URL"
    assert by_key["api_key"]["value"].startswith("tl_")
    assert by_key["api_key"]["value"].endswith("****")
    assert by_key["sdk.cache_bytes"]["source"] == "default"
    assert told["storage"] == {"s3://b": {"region": "eu", "secret_access_key": "012****"}}
    assert told["faults"] == []
    shown = taskloom("config").out
    assert "0123456789abcdef" not in shown
    assert all(key in shown for key in SETTINGS)


def test_an_edit_keeps_comments_and_the_mode(taskloom: Run, file: Path) -> None:
    file.write_text(KEPT)
    file.chmod(0o640)
    assert taskloom("config", "set", "sdk.cache_bytes", "20 GiB").code == 0
    assert taskloom("config", "set", "server.allowed_hosts", "a.org,b.org").code == 0
    assert taskloom("config", "set", "url", "http://127.0.0.1:1").code == 0
    assert taskloom("config", "set", "sdk.random_seed", "none").code == 0
    assert taskloom("config", "set", 'storage."s3://b".secure', "false").code == 0
    assert file.read_text() == (
        '# Ours, do not touch.\nurl = "http://127.0.0.1:1"\n\n[sdk]  # the scripts\nrandom_seed = "none" # five\n'
        'cache_bytes = "20 GiB"\n\n[server]\nallowed_hosts = ["a.org", "b.org"]\n\n'
        '[storage."s3://b"]\nsecure = false\n'
    )
    assert file.stat().st_mode & 0o777 == 0o640
    assert taskloom("config", "get", "sdk.cache_bytes").out == f"{20 << 30}\n"
    assert taskloom("config", "get", "sdk.random_seed", "--json").json == {
        "key": "sdk.random_seed",
        "value": None,
        "source": str(file),
    }
    assert taskloom("config", "unset", "sdk.cache_bytes").code == 0
    assert taskloom("config", "get", "sdk.cache_bytes").out == f"{10 << 30}\n"
    assert taskloom("config", "unset", "sdk.cache_bytes").code == 2


def test_a_new_file_is_its_owners_alone_and_a_key_can_come_from_standard_input(
    taskloom: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.parent.rmdir()
    monkeypatch.setattr("sys.stdin", io.StringIO("tl_a_secret\n"))
    ran = taskloom("config", "set", "api_key", "-")
    assert ran.code == 0
    assert "TASKLOOM_API_KEY is set in this shell and wins over the file" in ran.err
    assert file.read_text() == 'api_key = "tl_a_secret"\n'
    assert file.stat().st_mode & 0o777 == 0o600
    assert taskloom("config", "path", "--json").json == {"path": str(file), "exists": True}


def test_a_value_or_key_that_cannot_be_is_refused_before_it_is_written(taskloom: Run, file: Path) -> None:
    file.write_text(KEPT)
    for words, said in (
        (("sdk.random_seed", "many"), "sdk.random_seed 'many': expected a whole number"),
        (("sdk.random_sed", "1"), "is 'sdk.random_seed' meant?"),
        (("sdk", "1"), "there is no setting 'sdk'"),
        (("a b", "1"), "'a b' is no key"),
    ):
        ran = taskloom("config", "set", *words)
        assert (ran.code, said in ran.err) == (2, True), ran.err
    assert taskloom("config", "set", "storage.region", "eu").code == 2
    assert file.read_text() == KEPT
    file.write_text("[sdk")
    assert taskloom("config", "set", "sdk.random_seed", "1").code == 2
    assert file.read_text() == "[sdk"


def test_commands_refuse_wrong_settings_and_those_that_help_do_not(taskloom: Run, file: Path) -> None:
    file.write_text("[sdk]\nrandom_sed = 1\n")
    refused = taskloom("task", "list", "--json")
    assert refused.code == 2
    assert "there is no setting 'sdk.random_sed'; is 'sdk.random_seed' meant?" in refused.err
    assert taskloom("version").code == 0
    assert taskloom("config").code == 0
    ill = taskloom("doctor", "--json")
    assert ill.code == 1
    assert [f["message"] for f in ill.json["findings"] if f["check"] == "settings"] == [
        f"{file}: there is no setting 'sdk.random_sed'; is 'sdk.random_seed' meant?"
    ]
    assert taskloom("config", "unset", "sdk.random_sed").code == 0
    assert taskloom("task", "list", "--json").code == 0


def test_a_readable_secret_is_told_on_standard_error(taskloom: Run, file: Path) -> None:
    file.write_text('url = "http://127.0.0.1:9"\napi_key = "tl_a_b"\n')
    file.chmod(0o644)
    ran = taskloom("task", "list", "--json")
    assert ran.code == 0
    assert ran.json["tasks"] == []
    assert f"chmod 600 {file}" in ran.err
