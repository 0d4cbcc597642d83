"""Storage destinations: addresses under which bytes are kept elsewhere than on the Taskloom server.

    /shared/runs, file:///shared/runs              a folder
    s3://bucket/prefix                             Amazon's S3
    s3://host:9000/bucket/prefix                   an S3 of one's own, as ClearML writes it (MinIO and the like)
    gs://bucket/prefix                             Google Cloud Storage
    azure://ACCOUNT.blob.core.windows.net/container/prefix
    azure://host:10000/ACCOUNT/container/prefix    Azure's emulator

Keys are taken literally: nothing in them is decoded. Two words stand for themselves: `taskloom:` is the Taskloom
server, chosen on purpose (`output_uri=True`), `nowhere:` says that no default shall be used (`output_uri=False`).
Nothing here reads or writes: see `journal.storage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import msgspec

from taskloom.domain.errors import BadInput

SERVER = "taskloom:"
NOWHERE = "nowhere:"
CLOUDS = ("s3", "gs", "azure")
EXPECTED = (
    "expected True, a folder, file:///folder, s3://bucket/prefix, s3://host:port/bucket/prefix, "
    "gs://bucket/prefix or azure://account.blob.core.windows.net/container/prefix"
)
_SAFE = "'[]{}()$^,.; _+-="  # what ClearML leaves as it is
_PART, _PROJECT, _TASK = 128, 256, 128  # bytes of one part of a path


class Place(msgspec.Struct, frozen=True):
    """An address, taken apart. Of a folder `key` is its absolute path, of a cloud the key without a first slash.

    host: where an S3 of one's own or an emulator listens, `HOST:PORT`. account: Azure's.
    """

    scheme: str
    bucket: str = ""
    key: str = ""
    host: str = ""
    account: str = ""

    @property
    def root(self) -> str:
        """The address of the whole bucket, container or file system: what credentials are asked for."""
        if self.scheme == "file":
            return "file:///"
        if self.scheme == "azure":
            return f"azure://{self.host}/" + (f"{self.account}/" if ":" in self.host else "") + self.bucket
        return f"{self.scheme}://{self.host}/{self.bucket}" if self.host else f"{self.scheme}://{self.bucket}"

    @property
    def uri(self) -> str:
        if self.scheme == "file":
            return Path(self.key).as_uri()
        return f"{self.root}/{self.key}" if self.key else self.root

    def below(self, parts: Sequence[str]) -> Place:
        inner = "/".join(parts)
        return msgspec.structs.replace(self, key=f"{self.key.rstrip('/')}/{inner}" if self.key else inner)


class Left(msgspec.Struct, frozen=True):
    """Bytes that are still where they were."""

    uri: str
    reason: str


def parse_place(uri: str) -> Place:
    """Raises BadInput for what is no destination."""
    text = uri.strip()
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme == "file":
        return _folder(text if not separator else unquote(urlsplit(text).path), text)
    if any(ord(letter) < 32 for letter in text):
        raise BadInput(f"destination {text[:200]!a}: {EXPECTED}")
    place = None
    netloc, _, path = rest.partition("/")
    if "@" in netloc:
        raise BadInput(
            "destination: credentials do not belong into an address; see docs/settings.md for their place"
        )
    if scheme == "s3":
        place = _own_s3(netloc, path) if ":" in netloc else Place("s3", netloc, _key(path))
    elif scheme == "gs":
        place = Place("gs", netloc, _key(path))
    elif scheme == "azure":
        place = _azure(netloc, path)
    if place is None or not place.bucket:
        raise BadInput(f"destination {text[:200]!r}: {EXPECTED}")
    return place


def _folder(path: str, text: str) -> Place:
    if not path or "\0" in path or (":" in path.partition("/")[0] and not Path(path).is_absolute()):
        raise BadInput(f"destination {text[:200]!a}: {EXPECTED}")
    return Place("file", key=str(Path(path).expanduser().absolute()))


def _own_s3(netloc: str, path: str) -> Place:
    bucket, _, key = path.partition("/")
    return Place("s3", bucket, _key(key), host=netloc)


def _azure(netloc: str, path: str) -> Place:
    account, _, rest = path.partition("/") if ":" in netloc else (netloc.partition(".")[0], "", path)
    container, _, key = rest.partition("/")
    return Place("azure", container if account else "", _key(key), host=netloc, account=account)


def _key(path: str) -> str:
    parts = path.strip("/").split("/") if path.strip("/") else []
    if any(part in {"", ".", ".."} for part in parts):
        raise BadInput(f"destination: the path {path[:200]!r} has an empty part, '.' or '..'")
    return "/".join(parts)


def normal_destination(wanted: str | bool | None) -> str:
    """What a user gave as `output_uri`, as it is kept: '' for nothing said. Raises BadInput."""
    if wanted is None or wanted == "":
        return ""
    if isinstance(wanted, bool):
        return SERVER if wanted else NOWHERE
    text = str(wanted).strip()
    return text if text in {SERVER, NOWHERE} else parse_place(text).uri


def uri_root(uri: str) -> str:
    """The bucket or container of an address, for people; of a file the folder of its task."""
    if uri.startswith("file:"):
        return uri.rpartition("/artifacts/")[0] or uri.rpartition("/models/")[0] or uri.rpartition("/")[0]
    try:
        return parse_place(uri).root
    except BadInput:
        return uri


# --- the layout below a destination ------------------------------------------------------------------------


def task_folder(destination: str, project: str, task_name: str, task_id: str) -> Place:
    """`<destination>/<project>/<name>.<id>`: everything of a task lies below, and nothing else does."""
    root = parse_place(destination)
    shelves = [_part(shelf, _PROJECT, root) for shelf in (project or "unknown").split("/") if shelf]
    return root.below([*shelves, f"{_part(task_name, _TASK, root)}.{task_id}"])


def place_below(folder: Place, kind: str, filename: str) -> str:
    """The address of a file: `kind` is a path of names, such as `models` or `artifacts/NAME`."""
    names = [part for part in kind.split("/") if part]
    return folder.below([_part(name, _PART, folder) for name in (*names, filename)]).uri


def lies_in_folder_of(uri: str, task_id: str) -> bool:
    """Whether a file lies in the folder of that task, by the layout above."""
    try:
        key = parse_place(uri).key
    except BadInput:
        return False
    return any(part.endswith(f".{task_id}") and len(task_id) == 32 for part in key.split("/")[:-1])


def _part(text: str, limit: int, root: Place) -> str:
    """One part of a path that the storage takes; what is cut off is told apart by its digest."""
    clean = text.encode("utf-8", "replace").decode()
    if root.scheme == "file":
        quoted = "".join(f"%{ord(one):02X}" if one in "/%" or ord(one) < 32 else one for one in clean)
    else:
        quoted = quote(clean, safe=_SAFE)
    if quoted.strip(". ") == "":
        quoted = quoted.replace(".", "%2E").replace(" ", "%20") or "_"
    if len(quoted.encode()) <= limit:
        return quoted
    stem, dot, extension = quoted.rpartition(".")
    tail = f".{extension}" if dot and len(extension.encode()) < 16 else ""
    head = (stem if tail else quoted).encode()[: limit - len(tail.encode()) - 13].decode(errors="ignore")
    import hashlib

    return f"{head}.{hashlib.sha256(clean.encode()).hexdigest()[:12]}{tail}"
