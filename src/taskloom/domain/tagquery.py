"""The tag language: `["a", "-b", "__$and", "c", "d"]` parsed into one boolean expression.

Rules, from seed 003 ("Tag Filters"): `or`, `and` apply to all tags that follow until another operator;
`not` applies to the next tag only; a leading `-` excludes. The default operator is `or`, unless the query
begins with `and`. Excluded tags always have to be absent (the seed reads `["-a", "b", "-c"]` as
NOT a AND b AND NOT c). A leading `and` joins the groups that follow it:
`["__$and", "__$or", "a", "b", "__$and", "c", "d"]` is (a OR b) AND c AND d, whereas
`["a", "b", "__$and", "c", "d"]` is a OR b OR (c AND d).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from taskloom.domain.errors import BadInput

_AND = frozenset({"__$and", "__$all"})
_OR = frozenset({"__$or", "__$any"})
_NOT = frozenset({"__$not"})
_NOP = frozenset({"__$nop"})


class TagGroup(msgspec.Struct, frozen=True):
    """Tags joined by `all` (every one) or any (at least one)."""

    every: bool
    tags: tuple[str, ...]


class TagQuery(msgspec.Struct, frozen=True):
    """`excluded` must all be absent; `groups` are joined by and (`every`) or by or. No groups: everything."""

    every: bool
    groups: tuple[TagGroup, ...]
    excluded: tuple[str, ...]

    def matches(self, tags: Sequence[str] | set[str]) -> bool:
        present = set(tags)
        if present & set(self.excluded):
            return False
        if not self.groups:
            return True
        join: Callable[..., bool] = all if self.every else any
        return join((all if group.every else any)(tag in present for tag in group.tags) for group in self.groups)


def parse_tags(query: Sequence[str]) -> TagQuery:
    """Parse the list; raises BadInput for an operator without a tag after it or an empty tag."""
    default_every = bool(query) and query[0] in _AND
    every = default_every
    negate = False
    excluded: list[str] = []
    groups: list[tuple[bool, list[str]]] = []
    fresh = True  # the next tag opens a group
    for position, word in enumerate(query):
        if word in _NOT:
            negate = True
        elif word in _AND or word in _OR or word in _NOP:
            if negate:
                raise BadInput(f"tag query {list(query)}: '__$not' must stand before a tag")
            opens = default_every if word in _NOP else word in _AND
            every, fresh = opens, True
            if position == 0 and default_every:
                every = True
        elif not word or word == "-":
            raise BadInput(f"tag query {list(query)}: a tag is empty")
        elif negate or word.startswith("-"):
            excluded.append(word if negate else word[1:])
            negate = False
        else:
            if fresh or not groups:
                groups.append((every, []))
                fresh = False
            groups[-1][1].append(word)
    if negate:
        raise BadInput(f"tag query {list(query)}: '__$not' must stand before a tag")
    return TagQuery(
        every=default_every,
        groups=tuple(TagGroup(e, tuple(t)) for e, t in groups),
        excluded=tuple(excluded),
    )
