"""`taskloom config`: which value every setting has and where it came from; edits of the settings file.

What a setting is stands in `wire/configuration`. An edit keeps comments and order, is checked before it is written,
and is written whole or not at all. Secrets are shown masked, but for `get`, which was asked for that one.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import MutableMapping
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from taskloom.cli.output import JsonFlag, hint, print_json, print_table, say
from taskloom.wire import configuration
from taskloom.wire.configuration import SETTINGS, SIZE, TEXTS, Entry, WrongSettings

KeyArgument = Annotated[str, typer.Argument(help="A setting, as `taskloom config` lists it.", show_default=False)]

app = typer.Typer(help="Settings of this machine: what holds, and where it was said.", invoke_without_command=True)


@app.callback()
def show_settings(context: typer.Context, json: JsonFlag = False) -> None:
    """Show every setting with its value and where the value came from."""
    if context.invoked_subcommand is not None:
        return
    found = {key: configuration.find(key) for key in SETTINGS}
    told = configuration.faults() + configuration.remarks()
    if json:
        print_json(
            {
                "path": str(configuration.config_file()),
                "settings": [
                    {"key": key, "value": _shown(SETTINGS[key], one.value), "source": one.source}
                    for key, one in found.items()
                ],
                "storage": {place: _masked(table) for place, table in configuration.storage_sections().items()},
                "faults": told,
            }
        )
        return
    rows = [(key, _words(_shown(SETTINGS[key], one.value)), one.source) for key, one in found.items()]
    for place, table in configuration.storage_sections().items():
        told_of = ", ".join(f"{name} = {_words(value)}" for name, value in _masked(table).items())
        rows.append((f'storage."{place}"', told_of, str(configuration.config_file())))
    print_table(["key", "value", "from"], rows)
    for fault in told:
        hint(f"taskloom: {fault}")


@app.command("get")
def get_setting(key: KeyArgument, json: JsonFlag = False) -> None:
    """Print the value of one setting, secrets too."""
    entry = _entry(key)
    found = configuration.find(entry.key)
    if json:
        print_json({"key": entry.key, "value": found.value, "source": found.source})
        return
    say(_words(found.value))


@app.command("set")
def set_setting(
    key: KeyArgument,
    value: Annotated[str, typer.Argument(help="Its value; - reads it from standard input.", show_default=False)],
    json: JsonFlag = False,
) -> None:
    """Write one setting into the settings file; `storage."s3://bucket".NAME` sets one of a storage section."""
    text = sys.stdin.readline().rstrip("\r\n") if value == "-" else value
    path = _path_of(key)
    if path[0] == configuration.STORAGE:
        if len(path) < 3:
            raise WrongSettings(f'{key}: expected storage."PLACE".NAME, such as storage."s3://bucket".region')
        _edit(path, _literal(text))
        _told(key, json)
        return
    entry = _entry(key)
    _edit(entry.key.split("."), _written(entry, text))
    _told(key, json)
    found = configuration.find(key)
    if found.source == entry.variable:
        hint(f"{entry.variable} is set in this shell and wins over the file")


@app.command("unset")
def unset_setting(key: KeyArgument, json: JsonFlag = False) -> None:
    """Take one setting out of the settings file; also one that does not exist."""
    _edit(_path_of(key), None)
    _told(key, json)


@app.command("path")
def show_path(json: JsonFlag = False) -> None:
    """Print where the settings file is, or would be."""
    file = configuration.config_file()
    if json:
        print_json({"path": str(file), "exists": file.exists()})
        return
    say(str(file))


# --- values -----------------------------------------------------------------------------------------------


def _entry(key: str) -> Entry:
    if key not in SETTINGS:
        raise WrongSettings(
            f"there is no setting {key!r}{configuration.nearest(key)}; `taskloom config` lists them"
        )
    return SETTINGS[key]


def _shown(entry: Entry, value: Any) -> Any:
    return _mask(value) if entry.secret else value


def _mask(value: Any) -> str:
    text = str(value)
    return f"{text[:3]}****" if len(text) > 12 else "****" if text else ""


def _masked(table: Any) -> dict[str, Any]:
    pairs = cast("dict[str, Any]", table).items()
    return {name: _mask(value) if configuration.is_secret(name) else value for name, value in pairs}


def _words(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(cast("tuple[str, ...]", value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _written(entry: Entry, text: str) -> Any:
    """The value as the file should have it; what a person wrote as a size stays as it was written."""
    try:
        value = entry.kind.read(text)
    except (ValueError, KeyError):
        shown = "" if entry.secret else f" {text!r}"
        raise WrongSettings(f"{entry.key}{shown}: expected {entry.kind.expected}") from None
    if value is None:
        return "none"
    if entry.kind is SIZE and not text.strip().isdigit():
        return text.strip()
    if entry.kind is TEXTS:
        return list(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _literal(text: str) -> Any:
    """What TOML reads it as (a number, true, a list), else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


# --- the file ---------------------------------------------------------------------------------------------


def _path_of(key: str) -> list[str]:
    """The parts of a dotted key, quoted ones whole."""
    try:
        table: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        raise WrongSettings(f"{key!r} is no key: expected words with dots between, quoted where needed") from None
    parts: list[str] = []
    while isinstance(table, dict):
        name, table = next(iter(cast("dict[str, Any]", table).items()))
        parts.append(name)
    return parts


def _edit(path: list[str], value: Any) -> None:
    """Set one value, or with None take it out; the rest of the file stays as it is."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    file = configuration.config_file().resolve()  # a link stays one
    old = file.read_text("utf-8") if file.exists() else ""
    try:
        document = tomlkit.parse(old)
    except TOMLKitError as error:
        raise WrongSettings(f"{file} is not TOML: {error}; correct it first") from None
    table: MutableMapping[str, Any] = document
    for name in path[:-1]:
        if name not in table:
            if value is None:
                raise WrongSettings(f"{file} has no {'.'.join(path)}")
            table[name] = tomlkit.table()
        if not isinstance(table[name], MutableMapping):
            raise WrongSettings(f"{file}: {name} is no table, so that {'.'.join(path)} cannot stand below it")
        table = table[name]
    if value is not None:
        table[path[-1]] = value
    elif path[-1] in table:
        del table[path[-1]]
    else:
        raise WrongSettings(f"{file} has no {'.'.join(path)}")
    text = tomlkit.dumps(document)  # pyright: ignore[reportUnknownMemberType]
    if tomllib.loads(text) != document.unwrap():
        raise WrongSettings(f"{file} is written in a way that this command cannot edit; edit it by hand")
    _write(file, text)


def _write(file: Path, text: str) -> None:
    """Whole or not at all; a new file is its owner's alone, an old one keeps its mode."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    fresh = file.with_suffix(f".{os.getpid()}.tmp")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as written:
        os.fchmod(written.fileno(), mode)
        written.write(text)
    fresh.replace(file)


def _told(key: str, json: bool) -> None:
    file = str(configuration.config_file())
    if json:
        print_json({"key": key, "path": file})
    else:
        hint(f"{file} is written")
    for told in configuration.faults() + configuration.remarks():
        hint(f"taskloom: {told}")
