"""Objects and files as artifacts: the bytes, their SHA-256, and a preview, made once and written once.

Bytes go to `spool/<sha256>`, hashed on the way; a shipper takes them from there. Equal objects give equal
bytes, so storing something again costs nothing. Previews are made here, because whoever shows them later must
not have to open anything. numpy, pandas, PIL and yaml are used when the object comes from them, and never
loaded for it.

    str, Path that exists   the file, copied, since its owner may change it    file
    folder, wildcard path   .zip                                               folder
    text address (https://) only named, not fetched                            file
    str                     .txt                                               text
    dict                    .json (default), .yaml                             dict
    list, tuple, numbers    .json where JSON can hold them                     dict
    pandas                  .csv.gz (default), .csv, .parquet, .feather, .pickle   pandas
    numpy array             .npz (default), .npy, .csv.gz, .csv                numpy
    PIL image               .png (default), whatever PIL writes                image
    anything else           .pkl, unless `auto_pickle` is False                object

JSON turns the keys of a dictionary into text, as `json.dumps` does. Reading back is the business of `rebuild`.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib
import io
import json
import mimetypes
import pickle
import re
import shutil
import stat
import sys
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from taskloom.domain.artifact import Artifact
from taskloom.domain.errors import BadInput
from taskloom.sdk.fingerprints import digest_of
from taskloom.wire.archives import folder_members, matching_members, pack, shrinks

PREVIEW = 4096  # characters of a preview that is made here
MAX_PREVIEW = 64 << 10  # characters of one that is given
_ADDRESS = re.compile(r"(https?|s3|gs|gcs|azure|file)://\S+$", re.IGNORECASE)
_WILDCARD = re.compile(r"[*?\[]")
_PICKLES = frozenset({".pkl", ".pickle"})
_NPZ_WORDS = frozenset({"file", "allow_pickle"})  # numpy's own parameters


class _Made(msgspec.Struct, frozen=True):
    """How to write one object: `write` is given the open file, or it is a file that is there to be copied."""

    kind: str
    extension: str
    media_type: str
    preview: str
    write: Callable[[IO[bytes]], None] | Path
    filename: str = ""


class _Hashed(io.RawIOBase):
    """A file that is written straight through and counted and hashed on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._file.write(view)
        self.digest.update(view)
        self.size += len(view)
        return len(view)


def prepare(
    name: str,
    obj: Any,
    *,
    spool: Path,
    extension_name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    preview: Any = None,
    auto_pickle: bool | None = None,
    serialize: Callable[[Any], bytes | bytearray] | None = None,
    sort_keys: bool = False,
) -> Artifact:
    """Write the object's bytes into the spool and return what there is to know of them.

    extension_name: the form to store it in, such as `yaml` or `.parquet`. metadata: short values for people
    and programs, as JSON holds them. auto_pickle: False refuses objects that only pickle can hold. serialize: makes
    the bytes instead of anything here. sort_keys: of dictionaries, so that their order does not count. Raises
    BadInput that names the artifact when the object cannot be stored so, OSError when the disk cannot.
    """
    if not name.strip():
        raise BadInput("the name of an artifact is empty")
    about = _plain_metadata(name, metadata or {})
    if serialize is None and isinstance(obj, str) and _ADDRESS.match(obj):
        return Artifact(name, uri=obj, metadata=about, preview=_given(preview, obj), created=time.time())
    if serialize is not None:
        made = _serialized(name, serialize(obj), _extension(extension_name))
    else:
        made = _choose(name, obj, _extension(extension_name), auto_pickle is not False, sort_keys)
    try:
        digest, size = _stored(made, spool)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
        what = f"{type(obj).__module__}.{type(obj).__qualname__}"
        raise BadInput(f"artifact {name!r}: {what} cannot be stored as {made.extension}: {error}") from error
    return Artifact(
        name=name,
        kind=made.kind,
        digest=digest,
        size=size,
        filename=made.filename or f"{_file_name(name)}{made.extension}",
        media_type=made.media_type,
        metadata=about,
        preview=_given(preview, made.preview),
        created=time.time(),
    )


@contextlib.contextmanager
def spooled(spool: Path) -> Generator[tuple[_Hashed, Callable[[], tuple[str, int]]]]:
    """A file to write to, and what puts it in its place and tells digest and size. Gone when that is not called."""
    fresh = spool / f".{uuid.uuid4().hex}.tmp"
    with fresh.open("xb") as file:
        hashed = _Hashed(file)

        def finish() -> tuple[str, int]:
            file.flush()
            digest = hashed.digest.hexdigest()
            fresh.replace(spool / digest)
            return digest, hashed.size

        try:
            yield hashed, finish
        finally:
            fresh.unlink(missing_ok=True)


def _stored(made: _Made, spool: Path) -> tuple[str, int]:
    if isinstance(made.write, Path):
        return copy_into(spool, made.write)
    with spooled(spool) as (out, finish):
        made.write(cast("IO[bytes]", out))
        return finish()


def copy_into(spool: Path, path: Path) -> tuple[str, int]:
    """Digest and size. The system copies, which costs a fraction of a loop; the copy is what is hashed."""
    fresh = spool / f".{uuid.uuid4().hex}.tmp"
    try:
        shutil.copyfile(path, fresh)
        digest, size = digest_of(fresh), fresh.stat().st_size
        fresh.replace(spool / digest)
        return digest, size
    finally:
        fresh.unlink(missing_ok=True)


def spool_path(what: str, path: str | Path, spool: Path) -> Artifact:
    """Copy a file, or a folder or wildcard path as a zip file, into the spool. `what` names it in errors."""
    made = _path_made(what, path)
    digest, size = _stored(made, spool)
    filename = made.filename or f"{_file_name(Path(path).name)}.zip"
    return Artifact(what, kind=made.kind, digest=digest, size=size, filename=filename)


# --- choosing a form ---------------------------------------------------------------------------------------


def _serialized(name: str, raw: Any, extension: str) -> _Made:
    if not isinstance(raw, (bytes, bytearray)):
        raise BadInput(
            f"artifact {name!r}: serialization_function gave {type(raw).__qualname__}; expected bytes or a bytearray"
        )
    data = bytes(raw)
    return _Made("file", extension or ".bin", "application/octet-stream", "", lambda out: _all(out, data))


def _choose(name: str, obj: Any, extension: str, auto_pickle: bool, sort_keys: bool = False) -> _Made:
    if isinstance(obj, Path) or (isinstance(obj, str) and _names_a_path(obj)):
        return _path_made(name, obj)
    if extension in _PICKLES and not _is_from("pandas", obj):
        return _pickled(obj, extension)
    obj = _plain_number(obj)
    if isinstance(obj, str):
        return _text(name, obj, extension or ".txt")
    for module, form in (("pandas", _pandas), ("numpy", _numpy), ("PIL.Image", _image)):
        if _is_from(module, obj):
            made = form(name, obj, extension)
            if made is not None:
                return made
    if _may_be_json(obj):
        made = _structured(name, obj, extension, sort_keys)
        if made is not None:
            return made
    if extension:
        raise BadInput(f"artifact {name!r}: {type(obj).__qualname__} cannot be stored as {extension}")
    if not auto_pickle:
        raise BadInput(
            f"artifact {name!r}: {type(obj).__qualname__} can only be stored as a pickle, and auto_pickle is False"
        )
    return _pickled(obj, ".pkl")


def _names_a_path(text: str) -> bool:
    if len(text) > 4096 or "\n" in text or "\0" in text or not text:
        return False
    try:
        return Path(text).exists() or bool(_WILDCARD.search(text) and matching_members(text))
    except OSError:
        return False


def _is_from(module_name: str, obj: Any) -> bool:
    """Whether the object is of the module's kind; a module that is not loaded can have made no object."""
    module: Any = sys.modules.get(module_name)
    names = {"pandas": ("DataFrame", "Series"), "numpy": ("ndarray",), "PIL.Image": ("Image",)}[module_name]
    return isinstance(obj, tuple(getattr(module, name) for name in names if hasattr(module, name)))


def _plain_number(obj: Any) -> Any:
    """A number of numpy as one of Python."""
    module: Any = sys.modules.get("numpy")
    return obj.item() if module is not None and isinstance(obj, module.generic) else obj


def _path_made(name: str, given: str | Path) -> _Made:
    path = Path(given)
    if not path.exists() and _WILDCARD.search(str(path)):
        members = matching_members(str(path))
    elif path.is_dir():
        members = folder_members(path)
    elif path.exists() or path.is_symlink():
        return _file(name, path)
    else:
        members = []
        if not path.is_dir():
            raise BadInput(f"artifact {name!r}: there is no file or folder {str(path)!r}")
    if not members and _WILDCARD.search(str(path)) and not path.is_dir():
        raise BadInput(f"artifact {name!r}: no file matches {str(path)!r}")
    listing = "\n".join(f"{file.stat().st_size:>12}  {member}" for member, file in members[:200] if file.is_file())
    head = f"{sum(file.is_file() for _, file in members)} files\n{listing}"
    return _Made("folder", ".zip", "application/zip", head[:PREVIEW], lambda out: pack(members, out))


def _file(name: str, path: Path) -> _Made:
    if not stat.S_ISREG(path.stat().st_mode):
        raise BadInput(f"artifact {name!r}: {str(path)!r} is neither a file nor a folder")

    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return _Made("file", path.suffix, media_type, _head_of(path), path, path.name)


def _head_of(path: Path) -> str:
    """The beginning of a text file; nothing of others."""
    with path.open("rb") as file:
        head = file.read(PREVIEW)
    if b"\0" in head:
        return ""
    try:
        return head.decode()
    except UnicodeDecodeError as error:
        return head[: error.start].decode() if error.start > len(head) - 4 else ""


def _text(name: str, text: str, extension: str) -> _Made:
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"artifact {name!r}: the text is not valid Unicode: {error}") from error
    media_type = mimetypes.guess_type(f"x{extension}")[0] or "text/plain"
    return _Made("text", extension, media_type, text[:PREVIEW], lambda out: _all(out, raw))


def _may_be_json(obj: Any) -> bool:
    return obj is None or isinstance(obj, (dict, list, tuple, int, float))


def _structured(name: str, obj: Any, extension: str, sort_keys: bool) -> _Made | None:
    if extension in {".yaml", ".yml"}:
        text = _yaml(name, obj, sort_keys)
        media_type = "application/yaml"
    elif extension in {"", ".json"}:
        try:
            text = json.dumps(obj, ensure_ascii=False, indent=2, default=_number, sort_keys=sort_keys)
        except (TypeError, ValueError, RecursionError) as error:
            if extension or isinstance(error, RecursionError):
                raise BadInput(f"artifact {name!r}: JSON cannot hold it: {error}") from error
            return None
        media_type = "application/json"
    else:
        raise BadInput(f"artifact {name!r}: expected json or yaml for a {type(obj).__name__}, got {extension}")
    raw = text.encode("utf-8", "backslashreplace")
    return _Made("dict", extension or ".json", media_type, text[:PREVIEW], lambda out: _all(out, raw))


def _number(value: Any) -> Any:
    """A numpy number inside a dictionary is a number."""
    plain = _plain_number(value)
    if plain is not value:
        return plain
    raise TypeError(f"{type(value).__qualname__} is no value of JSON")


def _yaml(name: str, obj: Any, sort_keys: bool) -> str:
    yaml = needed("yaml", "PyYAML", f"artifact {name!r} as YAML")
    try:
        return yaml.safe_dump(obj, sort_keys=sort_keys, allow_unicode=True)
    except yaml.YAMLError as error:
        raise BadInput(f"artifact {name!r}: YAML cannot hold it: {error}") from error


def _pandas(name: str, table: Any, extension: str) -> _Made | None:
    one_column = not hasattr(table, "columns")
    frame: Any = table.to_frame() if one_column else table
    head = f"{len(frame)} rows x {frame.shape[1]} columns\n{frame.head(20).to_string(max_cols=20)}"[:PREVIEW]
    extension = extension or ".csv.gz"
    if extension in {".csv", ".csv.gz"}:
        index = 0 if _is_plain_index(frame.index) else frame.index.nlevels
        shape = f"; index={index}; header={frame.columns.nlevels}" + ("; series=1" if one_column else "")
        return _Made("pandas", extension, "text/csv" + shape, head, _csv_writer(frame, index > 0, extension))
    if extension in _PICKLES:
        made = _pickled(table, extension)
        return msgspec.structs.replace(made, kind="pandas", preview=head)
    if extension == ".parquet":
        return _Made("pandas", extension, "application/vnd.apache.parquet", head, frame.to_parquet)
    if extension == ".feather":
        return _Made("pandas", extension, "application/vnd.apache.arrow.file", head, frame.to_feather)
    raise BadInput(
        f"artifact {name!r}: expected csv.gz, csv, parquet, feather or pickle for a table, got {extension}"
    )


def _is_plain_index(index: Any) -> bool:
    """0, 1, 2 ... without a name: says nothing and is not stored."""
    plain = (getattr(index, part, None) for part in ("start", "step"))
    return list(plain) == [0, 1] and index.name is None


def _csv_writer(frame: Any, index: bool, extension: str) -> Callable[[IO[bytes]], None]:
    def write(out: IO[bytes]) -> None:
        if extension == ".csv":
            frame.to_csv(out, index=index, mode="wb")
            return
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=out, mtime=0) as packed:
            frame.to_csv(packed, index=index, mode="wb")

    return write


def _numpy(name: str, array: Any, extension: str) -> _Made | None:
    numpy: Any = sys.modules["numpy"]
    array = numpy.asarray(array)
    if array.dtype.hasobject:
        return None  # numpy itself could only pickle it
    extension = extension or ".npz"
    head = f"shape {array.shape}, dtype {array.dtype}\n{numpy.array2string(array, threshold=200)}"[:PREVIEW]

    def write(out: IO[bytes]) -> None:
        if extension == ".npz":
            sample = numpy.ascontiguousarray(array.reshape(-1)[: 1 << 14]).tobytes()
            save = numpy.savez_compressed if shrinks(sample) else numpy.savez
            # Under the artifact's name, by which ClearML's readers look for it, where numpy can write it so.
            save(out, array) if name in _NPZ_WORDS else save(out, **{name: array})
        elif extension == ".npy":
            numpy.save(out, array, allow_pickle=False)
        elif extension == ".csv":
            numpy.savetxt(out, array, delimiter=",")
        else:
            with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=out, mtime=0) as packed:
                numpy.savetxt(packed, array, delimiter=",")

    if extension not in {".npz", ".npy", ".csv", ".csv.gz"}:
        raise BadInput(f"artifact {name!r}: expected npz, npy, csv or csv.gz for an array, got {extension}")
    media_type = "text/csv" if extension.startswith(".csv") else "application/octet-stream"
    return _Made("numpy", extension, media_type, head, write)


def _image(name: str, image: Any, extension: str) -> _Made | None:
    extension = (extension or ".png").lower()
    known: dict[str, str] = sys.modules["PIL.Image"].registered_extensions()
    form = known.get(extension, "")
    writable: Mapping[str, Any] = sys.modules["PIL.Image"].SAVE
    if form not in writable:
        raise BadInput(f"artifact {name!r}: {extension} is no kind of image that PIL can write")

    def write(out: IO[bytes]) -> None:
        whole = io.BytesIO()  # some kinds of image are not written from front to back
        image.save(whole, format=form)
        _all(out, whole.getbuffer())

    media_type = mimetypes.guess_type(f"x{extension}")[0] or "application/octet-stream"
    head = f"{form} image, {image.width} x {image.height} pixels, mode {image.mode}"
    return _Made("image", extension, media_type, head, write)


def _pickled(obj: Any, extension: str) -> _Made:
    head = f"{type(obj).__module__}.{type(obj).__qualname__}, a pickled Python object"
    return _Made("object", extension, "application/x-python-pickle", head, lambda out: pickle.dump(obj, out))


# --- small things ------------------------------------------------------------------------------------------


def needed(module: str, package: str, what: str) -> Any:
    """An optional module, or an error that says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BadInput(f"{what} needs the package {package}, which is not installed") from error


def _all(out: IO[bytes], data: bytes | memoryview) -> None:
    out.write(data)


def _extension(given: str | None) -> str:
    text = (given or "").strip()
    return text if not text or text.startswith(".") else f".{text}"


def _file_name(name: str) -> str:
    """A name of a file that every system takes; the artifact keeps its own name."""
    return re.sub(r"[^\w.\- ]", "_", name).strip(" .")[:150] or "artifact"


def _given(preview: Any, made: str) -> str:
    text = made if preview is None else preview if isinstance(preview, str) else str(preview)
    return text.encode("utf-8", "replace").decode()[:MAX_PREVIEW]


def _plain_metadata(name: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(dict(metadata), default=_number))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"artifact {name!r}: the metadata is not what JSON can hold: {error}") from error
