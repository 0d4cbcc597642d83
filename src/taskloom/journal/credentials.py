"""Whose name a storage destination is reached in: what the usual places say, in their usual order.

    1  the settings file's section of the place, the longest that fits: [storage."s3://bucket"]
    2  environment variables: AWS_*, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_*
    3  AWS's own files, for the profile AWS_PROFILE: ~/.aws/credentials and ~/.aws/config
    4  what the storage library finds by itself: gcloud's file, web identities, the roles of containers and machines

Nothing here is ever logged, and nothing here contacts anybody.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskloom.domain.destination import Place
from taskloom.domain.errors import BadInput
from taskloom.wire.configuration import storage_sections

S3_WORDS = (
    "access_key", "secret_key", "session_token", "region", "endpoint", "secure", "profile", "anonymous",
)  # fmt: skip
GS_WORDS = ("service_account", "anonymous", "endpoint")
AZURE_WORDS = ("account_key", "sas_token", "secure", "anonymous")
_ROLES = (  # how a container or a cluster tells that it has a role
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_HERE = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, repr=False)
class S3Access:
    """keys: id, secret and token, or None when the library has to find a role by itself. No `repr`: secrets."""

    keys: tuple[str, str, str | None] | None
    region: str
    endpoint: str  # '' is Amazon's own
    anonymous: bool
    certificates: bytes | None


def section_of(place: Place, environ: Mapping[str, str] = os.environ) -> Mapping[str, Any]:
    """The settings of the longest address that `place` begins with; raises BadInput for words that mean nothing."""
    uri = place.uri
    fitting = [
        (name.rstrip("/"), table)
        for name, table in storage_sections(environ).items()
        if uri == name.rstrip("/") or uri.startswith(f"{name.rstrip('/')}/")
    ]
    if not fitting:
        return {}
    name, table = max(fitting, key=lambda pair: len(pair[0]))
    known = {"s3": S3_WORDS, "gs": GS_WORDS, "azure": AZURE_WORDS}.get(place.scheme, ())
    strange = [key for key in table if key not in known]
    if strange:
        raise BadInput(f'settings [storage."{name}"]: {", ".join(strange)}: expected some of {", ".join(known)}')
    return table


def s3_access(place: Place, environ: Mapping[str, str] = os.environ) -> S3Access:
    told = section_of(place, environ)
    name = str(told.get("profile") or environ.get("AWS_PROFILE") or "default")
    profile = _profile(name, environ)
    region = (
        told.get("region")
        or environ.get("AWS_REGION")
        or environ.get("AWS_DEFAULT_REGION")
        or profile.get("region")
        or "us-east-1"
    )
    return S3Access(
        keys=_keys(told, profile, name, environ),
        region=str(region),
        endpoint=_endpoint(place, told, profile, environ),
        anonymous=bool(told.get("anonymous")),
        certificates=_bundle(environ),
    )


def has_role(environ: Mapping[str, str] = os.environ) -> bool:
    return any(environ.get(name) for name in _ROLES)


def _keys(
    told: Mapping[str, Any], profile: Mapping[str, str], name: str, environ: Mapping[str, str]
) -> tuple[str, str, str | None] | None:
    if told.get("access_key") or told.get("secret_key"):
        if not (told.get("access_key") and told.get("secret_key")):
            raise BadInput("settings [storage]: access_key and secret_key belong together")
        return str(told["access_key"]), str(told["secret_key"]), str(told.get("session_token") or "") or None
    chosen = told.get("profile") or (environ.get("AWS_PROFILE") and not environ.get("AWS_ACCESS_KEY_ID"))
    if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY") and not told.get("profile"):
        return (
            environ["AWS_ACCESS_KEY_ID"],
            environ["AWS_SECRET_ACCESS_KEY"],
            environ.get("AWS_SESSION_TOKEN") or None,
        )
    if profile.get("aws_access_key_id") and profile.get("aws_secret_access_key"):
        return (
            profile["aws_access_key_id"],
            profile["aws_secret_access_key"],
            profile.get("aws_session_token") or None,
        )
    if chosen:
        raise BadInput(
            f"AWS profile {name!r} has no aws_access_key_id and aws_secret_access_key; profiles that assume a role, "
            "sign on or call a program are not followed: put their keys into the environment"
        )
    return None


def _profile(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Both files' lines about a profile; the credentials win over the configuration."""
    found: dict[str, str] = {}
    for variable, usual, section in (
        ("AWS_CONFIG_FILE", "config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name),
    ):
        path = Path(environ.get(variable) or Path.home() / ".aws" / usual).expanduser()
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        except configparser.Error:  # its message may quote a line with a secret
            raise BadInput(f"{path} cannot be read as AWS writes it") from None
        if parser.has_section(section):
            found |= {key: value.strip() for key, value in parser.items(section)}
    return found


def _endpoint(
    place: Place, told: Mapping[str, Any], profile: Mapping[str, str], environ: Mapping[str, str]
) -> str:
    named = str(
        told.get("endpoint")
        or environ.get("AWS_ENDPOINT_URL_S3")
        or environ.get("AWS_ENDPOINT_URL")
        or profile.get("endpoint_url")
        or ""
    ).rstrip("/")
    if not place.host:
        return named
    if not told.get("endpoint") and named.partition("://")[2] != place.host:
        named = ""
    return named or f"{_scheme(place, told)}://{place.host}"


def _scheme(place: Place, told: Mapping[str, Any]) -> str:
    """How a host of one's own is spoken to: as the settings say, plainly on this machine, else with TLS."""
    host, _, port = place.host.rpartition(":")
    secure = told.get("secure", host not in _HERE and port != "80")
    return "https" if secure else "http"


def _bundle(environ: Mapping[str, str]) -> bytes | None:
    path = environ.get("AWS_CA_BUNDLE") or environ.get("SSL_CERT_FILE") or ""
    try:
        return Path(path).read_bytes() if path else None
    except OSError as error:
        raise BadInput(f"the certificates at {path} cannot be read: {error.strerror}") from None


def azure_options(place: Place, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What the library is told about an account, in its own words; what it finds by itself is left to it."""
    told = section_of(place, environ)
    parts = _connection_string(environ.get("AZURE_STORAGE_CONNECTION_STRING", ""))
    if parts.get("AccountName") not in {None, place.account}:
        parts = {}
    own = environ.get("AZURE_STORAGE_ACCOUNT") or environ.get("AZURE_STORAGE_ACCOUNT_NAME") or place.account
    env: Mapping[str, str] = environ if own == place.account else {}
    key = (
        told.get("account_key")
        or env.get("AZURE_STORAGE_KEY")
        or env.get("AZURE_STORAGE_ACCOUNT_KEY")
        or env.get("AZURE_STORAGE_ACCESS_KEY")
        or parts.get("AccountKey")
    )
    token = told.get("sas_token") or env.get("AZURE_STORAGE_SAS_TOKEN") or parts.get("SharedAccessSignature")
    options: dict[str, Any] = {"account_name": place.account}
    if key:
        options["account_key"] = str(key)
    elif token:
        options["sas_token"] = str(token).lstrip("?")
    if told.get("anonymous"):
        options["skip_signature"] = True
    if ":" in place.host:
        options["endpoint"] = f"{_scheme(place, told)}://{place.host}/{place.account}"
    elif place.host and not place.host.endswith(".blob.core.windows.net"):
        options["endpoint"] = f"https://{place.host}"
    return options


def _connection_string(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(";") if "=" in part)


def gs_options(place: Place, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    told = section_of(place, environ)
    options: dict[str, Any] = {}
    account = told.get("service_account")
    if account:
        path = Path(str(account)).expanduser()
        if not path.is_file():
            raise BadInput(f"settings [storage]: there is no service_account file {path}")
        options["service_account_path"] = str(path)
    if told.get("anonymous"):
        options["skip_signature"] = True
    if told.get("endpoint"):
        options["url"] = str(told["endpoint"])
    return options
