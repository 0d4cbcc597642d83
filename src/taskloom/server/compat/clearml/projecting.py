"""What of a document a client asked for (`only_fields`), and which page of a list.

A page is counted from the front; a scroll continues behind the last id that was told, so that tasks that change
in between neither come twice nor get lost, unless an order was asked for. The scroll's id tells all of it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from taskloom.server.compat.clearml.call import Data, flag, number
from taskloom.server.compat.clearml.errors import BAD_SCROLL, Refusal

PAGE = 500  # of a client that names no size
MAX_PAGE = 10_000
FARTHEST = 2**31

Tree = dict[str, "Tree"]


def only(document: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """The fields (dotted paths) of a document, and always its id; no fields: all of it.

    A parent that is there stays when the leaf is missing; in a list each entry is cut. A field with a leading `-`
    is left out of what the others give.
    """
    wanted = [field for field in fields if not field.startswith("-")]
    found: dict[str, Any] = _cut(document, _tree(["id", *wanted])) if wanted else dict(document)
    for field in fields:
        if field.startswith("-"):
            found = _without(found, field[1:])
    return found


def roots(fields: Sequence[str]) -> frozenset[str]:
    """The first words of the paths: what of a document has to be made at all. Empty: everything."""
    return frozenset(field.partition(".")[0] for field in fields)


@dataclass(frozen=True)
class Paging:
    """`limit` entries from `offset` on. In a scroll without an order: those behind the id `after`."""

    limit: int
    offset: int = 0
    scrolls: bool = False
    after: str = ""

    def next(self, ids: Sequence[str]) -> str:
        """The scroll's id behind these entries; at the end it stays where it is."""
        position = f"{self.offset + len(ids)}:{ids[-1] if ids else self.after}"
        return base64.urlsafe_b64encode(position.encode()).decode()


def paging(body: Data) -> Paging:
    """From `page` and `page_size`, or `size` and `scroll_id` (with `refresh_scroll` again from the start)."""
    if body.get("size") is None and body.get("scroll_id") is None:
        limit = number(body, "page_size", PAGE, 0, MAX_PAGE) or PAGE
        return Paging(limit, min(number(body, "page", 0, 0, FARTHEST) * limit, FARTHEST))
    limit = number(body, "size", PAGE, 1, MAX_PAGE)
    scroll = body.get("scroll_id")
    offset, after = _unpacked(scroll) if scroll else (0, "")
    if flag(body, "refresh_scroll"):
        return Paging(min(max(limit, offset), MAX_PAGE), scrolls=True)
    return Paging(limit, offset, scrolls=True, after=after)


def _unpacked(scroll: object) -> tuple[int, str]:
    if isinstance(scroll, str) and len(scroll) <= 512:
        try:
            offset, colon, after = base64.b64decode(scroll.encode(), b"-_", validate=True).decode().partition(":")
        except ValueError:
            offset = colon = after = ""
        if colon and offset.isdecimal() and len(offset) <= 9 and (not after or after.isalnum()):
            return int(offset), after
    raise Refusal("bad scroll id: it is none that this server gave", 400, BAD_SCROLL)


def _tree(fields: Sequence[str]) -> Tree:
    """Nested names; an empty node means the whole of what stands there, so short paths go first."""
    tree: Tree = {}
    for field in sorted(fields, key=len):
        node = tree
        *parents, leaf = field.split(".")
        for part in parents:
            if part in node and not node[part]:
                break
            node = node.setdefault(part, {})
        else:
            node.setdefault(leaf, {})
    return tree


def _without(found: Mapping[str, Any], path: str) -> dict[str, Any]:
    head, _, rest = path.partition(".")
    kept = {name: value for name, value in found.items() if name != head or rest}
    if rest and isinstance(kept.get(head), Mapping):
        kept[head] = _without(kept[head], rest)
    return kept


def _cut(value: Any, tree: Tree) -> Any:
    if not tree:
        return value
    if isinstance(value, Mapping):
        found = cast("Mapping[str, Any]", value)
        return {name: _cut(found[name], below) for name, below in tree.items() if name in found}
    if isinstance(value, list):
        return [_cut(entry, tree) for entry in cast("list[Any]", value)]
    return value
