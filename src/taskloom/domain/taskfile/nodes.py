"""YAML as nodes with places, read event by event and never as objects: what a hostile text cannot do here.

Depth and number of nodes are checked while the text is read, an alias counts as all that it stands for, so that
brackets by the thousand and aliases of aliases end with a message. Tags, aliases into themselves, a second document
and a key that stands twice are refused. PyYAML does the scanning; it is imported when the first file is read.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from taskloom.domain.taskfile.problems import Findings, Place, Unreadable

MAX_BYTES = 1 << 20
MAX_DEPTH = 50
MAX_NODES = 20_000
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Scalar:
    """`plain`: written without quotes, so that it may be a number; else it is text."""

    text: str
    plain: bool
    place: Place
    size: int = 1


@dataclass(frozen=True)
class Sequence:
    items: tuple[Node, ...]
    place: Place
    size: int


@dataclass(frozen=True)
class Mapping:
    """Keys in the order of the text, each once; merged ones (`<<`) behind the mapping's own."""

    entries: tuple[tuple[Scalar, Node], ...]
    place: Place
    size: int

    def get(self, name: str) -> Node | None:
        return next((node for key, node in self.entries if key.text == name), None)


Node = Scalar | Sequence | Mapping


@dataclass
class _Open:
    """A collection that is being read."""

    place: Place
    mapping: bool
    anchor: str
    children: list[Node] = field(default_factory=list[Node])


def read_nodes(text: str, findings: Findings) -> Node:
    """The one document of the text; raises Unreadable after it has said why."""
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        findings.wrong(
            Place(1, 1), "", f"the file has more than {MAX_BYTES} bytes; expected a description of a task"
        )
        raise Unreadable
    if found := _SURROGATE.search(text):
        findings.wrong(place_of(text, found.start()), "", "a character that is half of a pair; expected UTF-8")
        raise Unreadable
    reader = _Reader(findings)
    try:
        for event in _events(text, findings):
            reader.take(event)
    except (ValueError, OverflowError) as error:  # PyYAML's own words for numbers in escapes and directives
        findings.wrong(reader.last, "", f"cannot be read as YAML: {error}")
        raise Unreadable from None
    if reader.document is None:
        findings.wrong(Place(1, 1), "", "the file is empty; expected at least `name` and `run`")
        raise Unreadable
    return reader.document


def place_of(text: str, index: int) -> Place:
    """Line and column of a character, by the line ends that YAML knows."""
    starts = [0, *(found.end() for found in _BREAK.finditer(text))]
    line = bisect.bisect_right(starts, index)
    return Place(line, index - starts[line - 1] + 1)


def _events(text: str, findings: Findings) -> Iterator[Any]:
    import yaml
    from yaml.reader import ReaderError

    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)  # pyright: ignore[reportUnknownMemberType]
    except ReaderError as error:
        findings.wrong(
            place_of(text, min(int(error.position), len(text))), "", f"a character that YAML does not allow: "
            f"{_shown_character(error.character)}")  # fmt: skip
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        where = Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)
        context = f" ({error.context})" if error.context else ""
        findings.wrong(where, "", f"cannot be read as YAML: {error.problem or 'not understood'}{context}")
    except yaml.YAMLError as error:
        findings.wrong(Place(1, 1), "", f"cannot be read as YAML: {error}")
    else:
        return
    raise Unreadable from None


def _shown_character(character: Any) -> str:
    return f"U+{character:04X}" if isinstance(character, int) else f"U+{ord(character[0]):04X}"


class _Reader:
    """Builds the document from PyYAML's events."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}  # None: the node is still being read
        self._nodes = 0
        self.document: Node | None = None
        self.last = Place(1, 1)

    def take(self, event: Any) -> None:
        import yaml

        place = self.last = Place(event.start_mark.line + 1, event.start_mark.column + 1)
        match event:
            case yaml.ScalarEvent():
                self._refuse_tag(event, place)
                text = str(event.value)
                if _SURROGATE.search(text):
                    self._stop(place, "a character that is half of a pair")
                self._add(Scalar(text, event.style is None, place), event.anchor or "", place)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._refuse_tag(event, place)
                if len(self._stack) >= MAX_DEPTH:
                    self._stop(place, f"nested deeper than {MAX_DEPTH} levels")
                anchor = event.anchor or ""
                self._stack.append(_Open(place, isinstance(event, yaml.MappingStartEvent), anchor))
                if anchor:
                    self._anchors[anchor] = None
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                opened = self._stack.pop()
                self._add(self._closed(opened), opened.anchor, opened.place)
            case yaml.AliasEvent():
                self._add_alias(str(event.anchor), place)
            case yaml.DocumentStartEvent():
                if self.document is not None:
                    self._stop(place, "a second document; expected one")
            case _:
                pass

    def _add(self, node: Node, anchor: str, place: Place) -> None:
        if anchor:
            self._anchors[anchor] = node
        if isinstance(node, Scalar):  # collections were counted by their parts
            self._count(1, place)
        if self._stack:
            self._stack[-1].children.append(node)
        else:
            self.document = node

    def _add_alias(self, anchor: str, place: Place) -> None:
        if anchor not in self._anchors:
            self._stop(place, f"the alias *{anchor[:80]} has no anchor before it")
        node = self._anchors[anchor]
        if node is None:
            self._stop(place, f"the alias *{anchor[:80]} stands inside of what it names")
            return
        self._count(node.size, place)
        self._stack[-1].children.append(node) if self._stack else None

    def _count(self, nodes: int, place: Place) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._stop(
                place, f"more than {MAX_NODES} values, aliases written out; expected a description of a task"
            )

    def _closed(self, opened: _Open) -> Node:
        children = opened.children
        size = 1 + sum(child.size for child in children)
        self._count(1, opened.place)
        if not opened.mapping:
            return Sequence(tuple(children), opened.place, size)
        return Mapping(self._entries(children), opened.place, size)

    def _entries(self, children: list[Node]) -> tuple[tuple[Scalar, Node], ...]:
        found: dict[str, tuple[Scalar, Node]] = {}
        merged: list[Node] = []
        for key, value in zip(children[::2], children[1::2], strict=True):
            if not isinstance(key, Scalar):
                self._findings.wrong(key.place, "", "a list or map stands as a key; expected a name")
            elif key.plain and key.text == "<<":
                merged += value.items if isinstance(value, Sequence) else [value]
            elif key.text in found:
                first = found[key.text][0].place
                self._findings.wrong(key.place, "", f"{key.text[:80]!r} stands twice; first in line {first.line}")
            else:
                found[key.text] = (key, value)
        for node in merged:
            if not isinstance(node, Mapping):
                self._findings.wrong(node.place, "", "`<<` merges maps; expected a map or a list of maps")
                continue
            for key, value in node.entries:
                self._count(value.size, node.place)
                found.setdefault(key.text, (key, value))
        return tuple(found.values())

    def _refuse_tag(self, event: Any, place: Place) -> None:
        if event.tag is not None and event.tag != "!":
            self._stop(place, f"the tag {str(event.tag)[:80]!r}; expected plain values without tags")

    def _stop(self, place: Place, message: str) -> None:
        self._findings.wrong(place, "", message)
        raise Unreadable
