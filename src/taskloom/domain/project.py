"""Projects are shelves of tasks, nested by `/`; names of projects and tasks have at least 3 characters."""

from __future__ import annotations

import unicodedata

import msgspec

from taskloom.domain.errors import BadInput

MIN_NAME = 3
MAX_NAME = 256
MAX_TAG = 256


class Project(msgspec.Struct, frozen=True, omit_defaults=True):
    """`name` is the whole path. Counts include the projects below it."""

    id: str
    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    system_tags: tuple[str, ...] = ()
    created: float = 0.0
    last_update: float = 0.0
    user: str = ""
    output_uri: str = ""
    task_counts: dict[str, int] = {}


def check_text(text: str, what: str) -> str:
    """Refuse what no database or page can hold safely: NUL, lone surrogates, control characters."""
    for character in text:
        if unicodedata.category(character) in {"Cc", "Cs"}:
            raise BadInput(f"{what} {text[:80]!a} holds the control character {character!a}")
    return text


def check_name(name: str, what: str = "name") -> str:
    """The name without surrounding blanks; raises BadInput when it is too short, too long or unprintable."""
    name = check_text(name.strip(), what)
    if not MIN_NAME <= len(name) <= MAX_NAME:
        raise BadInput(
            f"{what} {name[:80]!r} has {len(name)} characters; expected {MIN_NAME} to {MAX_NAME}", name=name[:80]
        )
    return name


def check_tag(tag: str) -> str:
    tag = check_text(tag, "tag")
    if not 1 <= len(tag) <= MAX_TAG:
        raise BadInput(f"tag {tag[:80]!r} has {len(tag)} characters; expected 1 to {MAX_TAG}")
    return tag


def check_project(name: str) -> str:
    """A project path: parts between slashes may not be empty; the whole obeys `check_name`."""
    name = check_name(name, "project name")
    if any(not part.strip() for part in name.split("/")):
        raise BadInput(f"project name {name!r}: expected parts joined by single slashes, such as 'main/sub'")
    return name


def ancestors(name: str) -> list[str]:
    """`'a/b/c'` -> `['a', 'a/b', 'a/b/c']`."""
    parts = name.split("/")
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]
