"""Files of artifacts as objects again, without trusting them.

What a file is read as depends on what the artifact says it is, and no reader here runs code that the file
holds: JSON, safe YAML, CSV, numpy without pickles, images. A pickle is opened only when the caller says so,
in the call; a file that says it is something else and is a pickle fails to be read as what it says.
Depth and growth are bounded. Files and folders come back as paths.
"""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskloom.domain.artifact import Artifact
from taskloom.domain.errors import BadInput, Forbidden, TooLarge
from taskloom.sdk.serialise import needed

MAX_DEPTH = 200  # of nested brackets in YAML; its parser's time grows with the square of them
MAX_TEXT = 1 << 30  # bytes of a JSON, YAML or text file that is read at once
MAX_RATIO, FREE_BYTES = 400, 256 << 20  # how far a packed table may grow


def rebuild(artifact: Artifact, path: Path, *, allow_pickle: bool = False) -> Any:
    """The object that was stored, or `path` itself for files and folders.

    Raises Forbidden for a pickle without `allow_pickle`, BadInput when the bytes are not what they should be.
    """
    check_allowed(artifact, allow_pickle)
    reader = _reader(artifact)
    if reader is None:
        return path
    try:
        return reader(path)
    except (ValueError, KeyError, EOFError, RecursionError, SyntaxError, OSError, pickle.UnpicklingError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"artifact {artifact.name!r} cannot be read as {artifact.kind} ({artifact.filename}): {error}"
        ) from error


def check_allowed(artifact: Artifact, allow_pickle: bool) -> None:
    """Refuse a pickle that the caller did not ask for, before a byte of it is fetched."""
    if _is_pickle(artifact) and not allow_pickle:
        raise Forbidden(
            f"artifact {artifact.name!r} is a pickled Python object; opening it runs code that it holds. "
            "If you trust who made it, say get(allow_pickle=True); get_local_copy() gives the file as it is"
        )


def _is_pickle(artifact: Artifact) -> bool:
    pickled_table = artifact.kind == "pandas" and artifact.filename.lower().endswith((".pickle", ".pkl"))
    return artifact.kind == "object" or pickled_table


def _reader(artifact: Artifact) -> Callable[[Path], Any] | None:
    name = artifact.filename.lower()
    if _is_pickle(artifact):
        return _unpickled
    match artifact.kind:
        case "dict":
            return _yaml if name.endswith((".yaml", ".yml")) else _json
        case "text":
            return _text
        case "pandas":
            return lambda path: _table(path, name, artifact.media_type)
        case "numpy":
            return lambda path: _array(path, name, artifact.name)
        case "image":
            return _image
        case _:
            return None


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_TEXT:
        raise TooLarge(f"{path.name} has more than {MAX_TEXT} bytes; get_local_copy() gives its path")
    return path.read_bytes().decode()


def _json(path: Path) -> Any:
    return json.loads(_text(path))


def _yaml(path: Path) -> Any:
    yaml = needed("yaml", "PyYAML", path.name)
    text = _text(path)
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth = max(depth - 1, 0)
    if deepest > MAX_DEPTH:
        raise BadInput(f"{path.name} nests {deepest} brackets; more than {MAX_DEPTH} are not read")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{path.name} is not YAML: {error}") from error


def _table(path: Path, name: str, media_type: str) -> Any:
    pandas = needed("pandas", "pandas", path.name)
    if name.endswith(".parquet"):
        return pandas.read_parquet(path)
    if name.endswith(".feather"):
        return pandas.read_feather(path)
    told = dict(part.strip().split("=", 1) for part in media_type.split(";")[1:] if "=" in part)
    index, header = int(told.get("index", 0)), int(told.get("header", 1))
    with _opened(path, name) as file:
        frame = pandas.read_csv(
            file,
            index_col=list(range(index)) if index > 1 else 0 if index else None,
            header=list(range(header)) if header > 1 else 0,
        )
    return frame.iloc[:, 0] if told.get("series") else frame


def _array(path: Path, name: str, key: str) -> Any:
    numpy = needed("numpy", "numpy", path.name)
    if name.endswith((".csv", ".csv.gz")):
        with _opened(path, name) as file:
            return numpy.loadtxt(file, delimiter=",")
    loaded = numpy.load(path, allow_pickle=False)
    if not hasattr(loaded, "files"):
        return loaded
    with loaded:
        names: list[str] = loaded.files
        return loaded[names[0]] if names in (["arr_0"], [key]) else {one: loaded[one] for one in names}


def _image(path: Path) -> Any:
    image = needed("PIL.Image", "pillow", path.name).open(path)
    image.load()
    return image


def _unpickled(path: Path) -> Any:
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - the caller said allow_pickle=True


class _Bounded(gzip.GzipFile):
    """Unpacks as much as an honest file would hold, and no more."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self._left = max(FREE_BYTES, path.stat().st_size * MAX_RATIO)
        self._name = path.name

    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(min(size, self._left + 1) if size is not None and size >= 0 else self._left + 1)
        self._left -= len(piece)
        if self._left < 0:
            raise TooLarge(f"{self._name} unpacks to far more than its size; get_local_copy() gives its path")
        return piece

    def read1(self, size: int = -1) -> bytes:
        return self.read(size if size >= 0 else 1 << 16)

    def readinto(self, buffer: Any) -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _opened(path: Path, name: str) -> Any:
    return _Bounded(path) if name.endswith(".gz") else path.open("rb")
