"""Where the names and keys for storage destinations come from, and which of them wins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from taskloom.domain.destination import parse_place
from taskloom.domain.errors import BadInput
from taskloom.journal.credentials import S3Access, azure_options, gs_options, s3_access

Environ = Callable[..., dict[str, str]]


@pytest.fixture
def environ(tmp_path: Path) -> Environ:
    """An environment whose AWS files and settings lie in a folder of the test."""

    def made(credentials: str = "", config: str = "", settings: str = "", **more: str) -> dict[str, str]:
        for name, text in (("credentials", credentials), ("config", config), ("taskloom.toml", settings)):
            (tmp_path / name).write_text(text)
        return {
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "TASKLOOM_DATA": str(tmp_path),
            **more,
        }

    return made


BOTH = {"AWS_ACCESS_KEY_ID": "by-variable", "AWS_SECRET_ACCESS_KEY": "v"}
FILES = "[default]\naws_access_key_id = by-file\naws_secret_access_key = f\n"
FILES += "[team]\naws_access_key_id = by-team\naws_secret_access_key = t\naws_session_token = s\n"
CONFIG = "[default]\nregion = eu-west-1\n[profile team]\nregion = eu-north-1\nendpoint_url = https://s3.team\n"
SETTINGS = '[storage."s3://bucket"]\naccess_key = "by-settings"\nsecret_key = "s"\nregion = "ap-south-1"\n'


def access(uri: str, environ: dict[str, str]) -> tuple[str, str, str]:
    found = s3_access(parse_place(uri), environ)
    return (found.keys[0] if found.keys else "", found.region, found.endpoint)


def test_settings_win_over_variables_and_these_over_files(environ: Environ):
    assert access("s3://bucket/a", environ(FILES, CONFIG, SETTINGS, **BOTH)) == ("by-settings", "ap-south-1", "")
    assert access("s3://other/a", environ(FILES, CONFIG, SETTINGS, **BOTH)) == ("by-variable", "eu-west-1", "")
    assert access("s3://other/a", environ(FILES, CONFIG)) == ("by-file", "eu-west-1", "")
    assert access("s3://other/a", environ()) == ("", "us-east-1", "")


def test_a_profile_brings_its_region_its_endpoint_and_its_token(environ: Environ):
    found = s3_access(parse_place("s3://bucket"), environ(FILES, CONFIG, AWS_PROFILE="team"))
    assert (found.keys, found.region, found.endpoint) == (
        ("by-team", "t", "s"),
        "eu-north-1",
        "https://s3.team",
    )
    with pytest.raises(BadInput, match="profile 'nobody'"):
        s3_access(parse_place("s3://bucket"), environ(FILES, CONFIG, AWS_PROFILE="nobody"))


def test_the_longest_section_that_fits_counts(environ: Environ):
    settings = '[storage."s3://b"]\nregion = "one"\n[storage."s3://b/deep"]\nregion = "two"\n'
    assert access("s3://b/deep/er", environ(settings=settings))[1] == "two"
    assert access("s3://b/deeper", environ(settings=settings))[1] == "one"
    assert access("s3://bb", environ(settings=settings))[1] == "us-east-1"


def test_a_host_of_ones_own_is_spoken_to_with_tls_unless_it_is_here_or_the_settings_say_so(environ: Environ):
    def endpoint(uri: str, **more: str) -> str:
        return access(uri, environ(**more))[2]

    assert endpoint("s3://minio.lab:9000/b") == "https://minio.lab:9000"
    assert endpoint("s3://127.0.0.1:9000/b") == "http://127.0.0.1:9000"
    plain = '[storage."s3://minio.lab:9000"]\nsecure = false\n'
    assert endpoint("s3://minio.lab:9000/b", settings=plain) == "http://minio.lab:9000"
    assert endpoint("s3://minio.lab:9000/b", AWS_ENDPOINT_URL="http://minio.lab:9000") == "http://minio.lab:9000"
    assert endpoint("s3://minio.lab:9000/b", AWS_ENDPOINT_URL="http://elsewhere") == "https://minio.lab:9000"
    assert endpoint("s3://bucket/b", AWS_ENDPOINT_URL="http://elsewhere") == "http://elsewhere"


def test_words_that_mean_nothing_are_told(environ: Environ):
    with pytest.raises(BadInput, match=r"acces_key: expected some of access_key, secret_key"):
        access("s3://b", environ(settings='[storage."s3://b"]\nacces_key = "x"\n'))
    with pytest.raises(BadInput, match="belong together"):
        access("s3://b", environ(settings='[storage."s3://b"]\naccess_key = "x"\n'))


def test_a_file_that_cannot_be_read_is_told_without_its_lines(environ: Environ):
    with pytest.raises(BadInput) as told:
        access("s3://b", environ("aws_secret_access_key = hidden\n"))
    assert "hidden" not in str(told.value)


def test_secrets_are_not_in_the_text_of_what_holds_them():
    assert "hidden" not in repr(S3Access(("id", "hidden", None), "r", "", False, None))


def test_azures_account_comes_from_the_address_and_its_key_from_the_usual_places(environ: Environ):
    place = parse_place("azure://me.blob.core.windows.net/runs")
    text = "DefaultEndpointsProtocol=https;AccountName=me;AccountKey=k2==;EndpointSuffix=core.windows.net"
    assert azure_options(place, environ(AZURE_STORAGE_KEY="k1")) == {"account_name": "me", "account_key": "k1"}
    assert azure_options(place, environ(AZURE_STORAGE_CONNECTION_STRING=text))["account_key"] == "k2=="
    assert azure_options(place, environ(AZURE_STORAGE_SAS_TOKEN="?sig=x"))["sas_token"] == "sig=x"
    other = environ(AZURE_STORAGE_ACCOUNT="you", AZURE_STORAGE_KEY="k1")
    assert azure_options(place, other) == {"account_name": "me"}
    emulator = parse_place("azure://127.0.0.1:10000/me/runs")
    assert azure_options(emulator, environ())["endpoint"] == "http://127.0.0.1:10000/me"


def test_googles_account_is_a_file_that_is_there(environ: Environ, tmp_path: Path):
    place = parse_place("gs://bucket/a")
    settings = f'[storage."gs://bucket"]\nservice_account = "{tmp_path}/account.json"\n'
    with pytest.raises(BadInput, match=r"account\.json"):
        gs_options(place, environ(settings=settings))
    (tmp_path / "account.json").write_text("{}")
    assert gs_options(place, environ(settings=settings)) == {"service_account_path": f"{tmp_path}/account.json"}
    assert gs_options(place, environ()) == {}
