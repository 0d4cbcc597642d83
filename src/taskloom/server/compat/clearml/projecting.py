"""What of a document a client asked for (`only_fields`), and which page of a list.

A page is counted from the front; a scroll continues behind the last id that was told, so that tasks that change
in between neither come twice nor get lost, unless an order was asked for. The scroll's id tells all of it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from taskloom.server.compat.clearml.call import Data, number
from taskloom.server.compat.clearml.errors import BAD_SCROLL, Refusal

PAGE = 500  # of a client that names no size
MAX_PAGE = 10_000
FARTHEST = 2**31

Tree = dict[str, "Tree"]


def only(document: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """The fields (dotted paths) of a document, and always its id; no fields: all of it.

    A parent that is there stays when the leaf is missing; in a list each entry is cut.
    """
    if not fields:
        return dict(document)
    return _cut(document, _tree(["id", *fields]))


def roots(fields: Sequence[str]) -> frozenset[str]:
    """The first words of the paths: what of a document has to be made at all. Empty: everything."""
    return frozenset(field.partition(".")[0] for field in fields)


@dataclass(frozen=True)
class Paging:
    """`limit` entries from `offset` on; in a scroll behind `after` when it is not empty."""

    limit: int
    offset: int = 0
    scrolls: bool = False
    after: str = ""

    def next(self, ids: Sequence[str], *, ordered: bool = False) -> str:
        """The scroll's id behind these entries of the page; at the end it stays where it is."""
        if ordered:
            return _packed("at", str(self.offset + len(ids)))
        return _packed("id", ids[-1] if ids else self.after)


def paging(body: Data, *, ordered: bool = False) -> Paging:
    """From `page` and `page_size`, or `size` and `scroll_id`. `ordered`: a scroll counts, as pages do."""
    scroll = body.get("scroll_id")
    if body.get("size") is None and scroll is None:
        limit = number(body, "page_size", PAGE, 0, MAX_PAGE) or PAGE
        return Paging(limit, min(number(body, "page", 0, 0, FARTHEST) * limit, FARTHEST))
    limit = number(body, "size", PAGE, 1, MAX_PAGE)
    if scroll is None or scroll == "":
        return Paging(limit, scrolls=True)
    kind, value = _unpacked(scroll)
    if (kind == "at") is not ordered:
        raise _bad_scroll("it belongs to a query with another order")
    if kind == "id":
        return Paging(limit, scrolls=True, after=value)
    return Paging(limit, int(value), scrolls=True)


def _packed(kind: str, value: str) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{value}".encode()).decode()


def _unpacked(scroll: object) -> tuple[str, str]:
    if not isinstance(scroll, str) or len(scroll) > 256:
        raise _bad_scroll("expected a text that this server gave")
    try:
        kind, _, value = base64.b64decode(scroll.encode(), b"-_", validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise _bad_scroll("it is none of this server") from None
    known = kind == "id" and value.isascii() and (value.isalnum() or not value)
    if not known and not (kind == "at" and value.isdecimal() and len(value) < 12):
        raise _bad_scroll("it is none of this server")
    return kind, value


def _bad_scroll(why: str) -> Refusal:
    return Refusal(f"bad scroll id: {why}", 400, BAD_SCROLL)


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


def _cut(value: Any, tree: Tree) -> Any:
    if not tree:
        return value
    if isinstance(value, Mapping):
        found = cast("Mapping[str, Any]", value)
        return {name: _cut(found[name], below) for name, below in tree.items() if name in found}
    if isinstance(value, list):
        return [_cut(entry, tree) for entry in cast("list[Any]", value)]
    return value
