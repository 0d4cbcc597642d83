"""Settings of this machine: one TOML file and environment variables, and which value came from where.

A variable wins over the file, the file over the default. The file is `taskloom.toml` in the data folder, or the one
that `TASKLOOM_CONFIG` names; without one nothing is read. Whatever is wrong in either is listed by `faults` and
otherwise as if it were not there: a setting never stops a script, and a command decides for itself. Who says the
faults, and edits the file, is not here: see `sdk/start` and `cli/config`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from taskloom.domain.errors import BadInput
from taskloom.wire.worker_protocol import ENV_API_KEY, ENV_CONFIG, ENV_DATA, ENV_URL

CONFIG_FILE = "taskloom.toml"
DEFAULT = "default"
STORAGE = "storage"  # its sections belong to places: [storage."s3://bucket"]
_ON, _OFF = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})
_SECRET = ("key", "secret", "token", "password")
_DECIMAL = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS = {**_DECIMAL, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
MAX_SEED = 2**32 - 1  # numpy's generators take no more


# --- kinds of values --------------------------------------------------------------------------------------


class Kind(msgspec.Struct, frozen=True):
    """What is expected, in words, and how it is read: from a variable's text or a value of the file. ValueError for
    what is not of this kind.
    """

    expected: str
    read: Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value.strip()


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    number = float(value)
    if not 0 <= number < float("inf"):
        raise ValueError
    return number


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError
    number = int(value)
    if number < 0:
        raise ValueError
    return number


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = _text(value).lower()
    if word not in _ON | _OFF:
        raise ValueError
    return word in _ON


def _size(value: Any) -> int:
    if not isinstance(value, str):
        return _whole(value)
    text = value.strip().lower()
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    return int(_number(digits) * _UNITS[text[len(digits) :].strip()])


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(filter(None, (one.strip() for one in value.split(","))))
    if not isinstance(value, list):
        raise ValueError
    return tuple(filter(None, (_text(one) for one in cast("list[Any]", value))))


def _seed(value: Any) -> int | None:
    if value is False or (isinstance(value, str) and value.strip().lower() in {"none", "off"}):
        return None
    seed = _whole(value)
    if seed > MAX_SEED:
        raise ValueError
    return seed


TEXT = Kind("a text", _text)
NUMBER = Kind("a number, 0 or more", _number)
WHOLE = Kind("a whole number, 0 or more", _whole)
TRUTH = Kind("true or false", _truth)
SIZE = Kind('bytes, as a whole number or such as "10 GiB"', _size)
TEXTS = Kind("a list of texts, or one with commas", _texts)
SEED = Kind(f'a whole number from 0 to {MAX_SEED}, or "none"', _seed)


# --- the table --------------------------------------------------------------------------------------------


class Entry(msgspec.Struct, frozen=True):
    """A setting. `key`: its dotted place in the file; `secret`: shown masked, and the file should be private."""

    key: str
    variable: str
    kind: Kind
    default: Any
    help: str
    secret: bool = False


SETTINGS: dict[str, Entry] = {
    entry.key: entry
    for entry in (
        Entry("url", ENV_URL, TEXT, "", "address of the server"),
        Entry("api_key", ENV_API_KEY, TEXT, "", "API key for that address", secret=True),
        Entry("sdk.offline", "TASKLOOM_OFFLINE", TRUTH, False, "record every task offline"),
        Entry(
            "sdk.close_timeout_in_seconds",
            "TASKLOOM_CLOSE_TIMEOUT",
            NUMBER,
            10.0,
            "how long `close` and the end of a script wait for the shipper",
        ),
        Entry(
            "sdk.task_reuse_time_window_in_hours",
            "TASKLOOM_TASK_REUSE_HOURS",
            NUMBER,
            72.0,
            "how old the last task of a name may be to be run over; 0 never",
        ),
        Entry(
            "sdk.default_output_uri",
            "TASKLOOM_DEFAULT_OUTPUT_URI",
            TEXT,
            "",
            "where models and artifacts go when neither the task nor its project says so; empty: the server",
        ),
        Entry(
            "sdk.random_seed", "TASKLOOM_RANDOM_SEED", SEED, 1337, "seed that `Task.init` fixes; none: leave alone"
        ),
        Entry("sdk.cache_bytes", "TASKLOOM_CACHE_BYTES", SIZE, 10 << 30, "size of the cache of downloads"),
        Entry(
            "evals.project", "TASKLOOM_EVAL_PROJECT", TEXT, "", "project of evaluations; empty: the taskset's name"
        ),
        Entry(
            "sdk.resource_sample_seconds",
            "TASKLOOM_RESOURCE_SAMPLE_SECONDS",
            NUMBER,
            10.0,
            "time between two samples of the machine; 0 takes none",
        ),
        Entry(
            "sdk.debug_sample_history",
            "TASKLOOM_DEBUG_SAMPLE_HISTORY",
            WHOLE,
            100,
            "debug samples kept for each title and series",
        ),
        Entry(
            "server.database_url",
            "TASKLOOM_DATABASE_URL",
            TEXT,
            "",
            "PostgreSQL instead of files",
            secret=True,
        ),
        Entry(
            "server.allowed_hosts",
            "TASKLOOM_ALLOWED_HOSTS",
            TEXTS,
            (),
            "names that a request's Host header may have besides its own",
        ),
        Entry(
            "evals.gateway_url",
            "TASKLOOM_EVAL_GATEWAY_URL",
            TEXT,
            "",
            "service of models that the server's gateway for HUD's clients asks, as OpenAI's clients write it",
        ),
        Entry(
            "evals.gateway_key",
            "TASKLOOM_EVAL_GATEWAY_KEY",
            TEXT,
            "",
            "key of that service",
            secret=True,
        ),
    )
}

# What a worker's own settings say to the scripts that it runs; where they report is the worker's to say.
FOR_CHILDREN = frozenset(
    {ENV_CONFIG, *(e.variable for e in SETTINGS.values() if e.key.startswith("sdk.") and e.key != "sdk.offline")}
)


class WrongSettings(BadInput):
    """A setting that is not usable; the message names all of them."""


# --- values -----------------------------------------------------------------------------------------------


class Found(msgspec.Struct, frozen=True):
    """A value and where it came from: `default`, a variable's name, or the file's path."""

    value: Any
    source: str


def setting(key: str, environ: Mapping[str, str] = os.environ) -> Any:
    """The value of a key of `SETTINGS`, in its own type."""
    return find(key, environ).value


def find(key: str, environ: Mapping[str, str] = os.environ) -> Found:
    """The value and where it came from. An unusable value is as if it were not there: see `faults`."""
    entry = SETTINGS[key]
    text = environ.get(entry.variable, "")
    if text and not isinstance(value := _read(entry, text), _Unusable):
        return Found(value, entry.variable)
    file = config_file(environ)
    value = _written(entry, file)
    return Found(entry.default, DEFAULT) if isinstance(value, _Unusable) else Found(value, str(file))


def written_setting(key: str, environ: Mapping[str, str] = os.environ) -> Any:
    """The file's own value, whatever the variables say; else the default."""
    value = _written(SETTINGS[key], config_file(environ))
    return SETTINGS[key].default if isinstance(value, _Unusable) else value


def storage_sections(environ: Mapping[str, str] = os.environ) -> Mapping[str, Mapping[str, Any]]:
    """The tables below `storage` as the file has them, by place: {"s3://bucket": {"region": "..."}}."""
    return _content(config_file(environ)).storage


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder that holds everything Taskloom keeps on this machine; not created here."""
    chosen = environ.get(ENV_DATA, "")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".taskloom"


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the settings file is, or would be."""
    chosen = environ.get(ENV_CONFIG, "")
    return Path(chosen).expanduser().absolute() if chosen else data_folder(environ) / CONFIG_FILE


def faults(environ: Mapping[str, str] = os.environ) -> list[str]:
    """What is wrong with the settings, a sentence each: where, which key, what was expected."""
    return list(_faults(environ))


def check_settings(environ: Mapping[str, str] = os.environ) -> None:
    """For programs that had better not start with settings that say something else than their person meant."""
    if wrong := faults(environ):
        raise WrongSettings("; ".join(wrong))


def remarks(environ: Mapping[str, str] = os.environ) -> list[str]:
    """What works, and should not stay so."""
    file = config_file(environ)
    content = _content(file)
    if content.private and content.mode & 0o077:
        return [f"{file} holds a secret and others can read it: chmod 600 {file}"]
    return []


def is_secret(name: str) -> bool:
    """Whether a storage section's line of that name is shown masked."""
    return name.lower().endswith(_SECRET)


# --- reading ----------------------------------------------------------------------------------------------


class _Content(msgspec.Struct, frozen=True):
    """values   by dotted key, as TOML gave them; what no setting is called is in it, too"""

    values: Mapping[str, Any]
    storage: Mapping[str, Mapping[str, Any]]
    fault: str = ""
    private: bool = False
    mode: int = 0


class _Unusable:
    """Marks a value that is not of its kind."""


def _read(entry: Entry, raw: Any) -> Any:
    try:
        return entry.kind.read(raw)
    except (ValueError, KeyError):
        return _Unusable()


def _written(entry: Entry, file: Path) -> Any:
    values = _content(file).values
    return _read(entry, values[entry.key]) if entry.key in values else _Unusable()


def _content(file: Path) -> _Content:
    """A file that is not there is empty, and costs one look at the disk."""
    try:
        status = file.stat()
    except OSError:
        return _EMPTY
    return _parse(str(file), (status.st_mtime_ns, status.st_size, status.st_mode))


@functools.lru_cache(maxsize=4)
def _parse(path: str, stamp: tuple[int, int, int]) -> _Content:
    """Parsed once for each state of the file: `stamp` holds its time, size and mode."""
    import tomllib

    try:
        with Path(path).open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        return _Content({}, {}, f"{path} cannot be read: {error.strerror}")
    except ValueError as error:  # not TOML, or not UTF-8
        return _Content({}, {}, f"{path} is not TOML: {error}")
    storage: dict[str, Mapping[str, Any]] = {}
    sections = document.pop(STORAGE, {})
    if isinstance(sections, dict):
        pairs = cast("dict[str, Any]", sections).items()
        storage = {place: cast("dict[str, Any]", table) for place, table in pairs if isinstance(table, dict)}
        document.update({f"{STORAGE}.{place}": value for place, value in pairs if place not in storage})
    else:
        document[STORAGE] = sections
    values = dict(_flat(document))
    named = [key for key, entry in SETTINGS.items() if entry.secret and key in values]
    private = bool(named) or any(is_secret(key) for t in storage.values() for key, _ in _flat(t))
    return _Content(values, storage, private=private, mode=stamp[2])


_EMPTY = _Content({}, {})


def _flat(table: Mapping[str, Any], above: str = "") -> Generator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(cast("dict[str, Any]", value), f"{above}{name}.")
        else:
            yield above + name, value


def _faults(environ: Mapping[str, str]) -> Generator[str]:
    for entry in SETTINGS.values():
        text = environ.get(entry.variable, "")
        if text and isinstance(_read(entry, text), _Unusable):
            yield f"{entry.variable} is {_shown(entry, text)}: expected {entry.kind.expected}"
    file = config_file(environ)
    content = _content(file)
    if environ.get(ENV_CONFIG, "") and not file.exists():
        yield f"{ENV_CONFIG} names {file}, which is not there"
    if content.fault:
        yield content.fault
    for key, value in content.values.items():
        entry = SETTINGS.get(key)
        if entry is None:
            yield f"{file}: there is no setting {key!r}{nearest(key)}"
        elif isinstance(_read(entry, value), _Unusable):
            yield f"{file}: {key} is {_shown(entry, value)}: expected {entry.kind.expected}"
    if content.values.get("api_key") and not content.values.get("url"):
        yield f"{file}: api_key is not used without url, since nobody knows whose key it is"


def _shown(entry: Entry, value: Any) -> str:
    return "not usable" if entry.secret else repr(value)[:80]


def nearest(key: str) -> str:
    """A question to ask somebody who wrote an unknown key; empty when nothing is near."""
    from difflib import get_close_matches

    near = get_close_matches(key, SETTINGS, n=1) or [k for k in SETTINGS if k.rpartition(".")[2] == key]
    return f"; is {near[0]!r} meant?" if near else ""
