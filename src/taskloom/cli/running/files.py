"""Task files on this disk: found, read as text, and written where there was none."""

from __future__ import annotations

from pathlib import Path

from taskloom.domain.errors import BadInput, NotFound
from taskloom.domain.taskfile import FILE_NAME, Problem, WrongTaskFile
from taskloom.domain.taskfile.nodes import MAX_BYTES, place_of

FILE_NAMES = (FILE_NAME, "task.yml")


def find_file(place: Path) -> Path | None:
    """The task file that is meant by a file or a folder; None when the folder has none."""
    if place.is_dir():
        return next((place / name for name in FILE_NAMES if (place / name).is_file()), None)
    if place.is_file():
        return place
    if place.exists():
        raise BadInput(f"{place}: expected a task.yaml or a folder")
    raise NotFound(f"{place}: no such file or folder")


def read_file(path: Path) -> str:
    """The text; WrongTaskFile with the place when it is not UTF-8."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(data) > MAX_BYTES:  # cut in the middle of a character; the parser says what is wrong
            return data.decode("utf-8", "replace")
        before = data[: error.start].decode("utf-8", "replace")
        where = place_of(before, len(before))
        problem = Problem(where.line, where.column, "", f"byte 0x{data[error.start]:02x}: expected UTF-8")
        raise WrongTaskFile(str(path), (problem,)) from None


def write_new(path: Path, text: str) -> None:
    """Never over a file that is there."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise BadInput(f"{path} is there already; it is not overwritten") from None


def quoted(text: str) -> str:
    """The text as YAML: a block when it has several lines."""
    import yaml

    style = "|" if "\n" in text else None
    node = yaml.ScalarNode("tag:yaml.org,2002:str", text, style=style)
    written = yaml.serialize(node, Dumper=yaml.SafeDumper, allow_unicode=True, width=1 << 20)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return str(written).removesuffix("\n").removesuffix("\n...").rstrip("\n")  # pyright: ignore[reportUnknownArgumentType]
