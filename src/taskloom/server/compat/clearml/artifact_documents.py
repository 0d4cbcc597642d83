"""ClearML's artifact and ours, both ways.

Both systems choose the reader of an artifact by its kind, its content type and the extension of its file, so
those are translated such that each reads what the other wrote. What has no field of ours stays under
`metadata["clearml"]` and comes back as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from taskloom.domain.artifact import Artifact, StoredFile
from taskloom.server.artifacts.paths import path_of
from taskloom.server.compat.clearml.addresses import artifact_url
from taskloom.server.compat.clearml.call import table, text

KEPT = "clearml"
AUDITED = "data-audit-table"  # a table whose first column is no index
_KINDS = {
    "dict": "dict",
    "JSON": "dict",
    "pandas": "pandas",
    AUDITED: "pandas",
    "numpy": "numpy",
    "image": "image",
    "string": "text",
    "archive": "folder",
    "pickle": "object",
}
_PICKLED = "application/x-python-pickle"
_TABLE = "text/csv; index=1; header=1"
_PLAIN_TABLE = "text/csv; index=0; header=1"
_TABLES = {".parquet": "application/parquet", ".feather": "application/feather", ".pickle": "application/pickle"}


# --- ClearML's -> ours ------------------------------------------------------------------------------------


def artifact_of(document: Mapping[str, Any], found: StoredFile | None = None) -> Artifact:
    """`found`: the file of ours that its address names, when that is known already."""
    kind = text(document, "type")
    about = table(document, "type_data")
    uri = text(document, "uri")
    content_type = text(about, "content_type")
    kept = {name: value for name, value in document.items() if name in {"mode", "hash", "type"} and value}
    kept |= {name: about[name] for name in ("content_type", "data_hash") if about.get(name)}
    if kept.get("mode") == "output":
        del kept["mode"]
    size = document.get("content_size")
    created = document.get("timestamp")
    path = path_of(uri)
    return Artifact(
        name=text(document, "key"),
        kind=_KINDS.get(kind, "file"),
        digest=found.digest if found else "",
        size=found.size if found else size if isinstance(size, int) and 0 <= size < 2**63 else 0,
        filename=(path or uri.partition("?")[0]).rpartition("/")[2],
        media_type=_media_type(kind, content_type),
        uri=uri,
        metadata={**_shown(document.get("display_data")), KEPT: kept},
        preview=text(about, "preview"),
        created=float(created) if isinstance(created, int | float) and 0 <= created < 2**40 else 0.0,
    )


def is_input(artifact: Artifact) -> bool:
    """ClearML tells artifacts that a task was given from those that it made."""
    return artifact_mode(artifact) == "input"


def artifact_mode(artifact: Artifact) -> str:
    return str(_kept(artifact).get("mode") or "output")


def _media_type(kind: str, content_type: str) -> str:
    if kind == AUDITED:
        return _PLAIN_TABLE
    if kind == "pandas" and content_type == "text/csv":
        return _TABLE
    return _PICKLED if kind == "pickle" else content_type


def _shown(pairs: object) -> dict[str, Any]:
    """`[[name, text], ...]` as a dictionary."""
    found: dict[str, Any] = {}
    for pair in cast("list[Any]", pairs) if isinstance(pairs, list) else []:
        if isinstance(pair, list | tuple) and len(cast("list[Any]", pair)) == 2:
            name, value = cast("list[Any]", pair)
            found[str(name)] = value if isinstance(value, str) else str(value)
    return found


# --- ours -> ClearML's ------------------------------------------------------------------------------------


def artifact_document(artifact: Artifact, origin: str) -> dict[str, Any]:
    kept = _kept(artifact)
    kind, content_type = _told(artifact)
    type_data = {
        "preview": artifact.preview,
        "content_type": str(kept.get("content_type", "" if kept else content_type)) or None,
        "data_hash": kept.get("data_hash"),
    }
    return {
        "key": artifact.name,
        "type": str(kept.get("type", "" if KEPT in artifact.metadata else kind)),
        "mode": artifact_mode(artifact),
        "uri": artifact_url(origin, artifact) or None,
        "content_size": artifact.size,
        "hash": str(kept.get("hash") or artifact.digest) or None,
        "timestamp": int(artifact.created),
        "type_data": type_data,
        "display_data": [[name, _text(value)] for name, value in artifact.metadata.items() if name != KEPT],
    }


def _kept(artifact: Artifact) -> dict[str, Any]:
    kept = artifact.metadata.get(KEPT)
    return cast("dict[str, Any]", kept) if isinstance(kept, dict) else {}


def _told(artifact: Artifact) -> tuple[str, str]:
    """Type and content type by which ClearML's reader opens what our SDK wrote; `custom` gives a path."""
    name = artifact.filename.lower()
    match artifact.kind:
        case "dict":
            return "dict", "application/yaml" if name.endswith((".yaml", ".yml")) else "application/json"
        case "text":
            return "string", "text/plain"
        case "image":
            return "image", artifact.media_type
        case "folder":
            return "archive", "application/zip"
        case "object":
            return "pickle", "application/pickle"
        case "numpy" if name.endswith(".npz"):
            return "numpy", "application/numpy"
        case "numpy" if name.endswith((".csv", ".csv.gz")):
            return "numpy", "text/csv"
        case "pandas":
            return _told_table(name, artifact.media_type)
        case _:
            return "custom", artifact.media_type


def _told_table(name: str, media_type: str) -> tuple[str, str]:
    extension = "." + name.rpartition(".")[2].replace("pkl", "pickle")
    if extension in _TABLES:
        return "pandas", _TABLES[extension]
    told = dict(part.strip().split("=", 1) for part in media_type.split(";")[1:] if "=" in part)
    if told.get("header", "1") != "1":
        return "custom", "text/csv"
    index = told.get("index", "0")
    return ("pandas" if index == "1" else AUDITED if index == "0" else "custom"), "text/csv"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
