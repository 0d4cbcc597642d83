"""What deleted tasks left at storage destinations: removed with this person's credentials, and what stays is listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from taskloom.cli.output import hint, plain
from taskloom.domain.destination import Left


class Removal(msgspec.Struct, frozen=True):
    """What a deletion did elsewhere: addresses that are gone, and those that are left, with the reason."""

    removed: list[str] = []
    left: list[Left] = []


def remove_elsewhere(external: Mapping[str, Sequence[str]]) -> Removal:
    """`external` by task, as the server told it."""
    if not external:
        return Removal()
    from taskloom.journal.removal import remove_external

    left = [one for task, uris in external.items() for one in remove_external(task, uris)]
    stay = {one.uri for one in left}
    return Removal([uri for uris in external.values() for uri in uris if uri not in stay], left)


def tell_left(removal: Removal) -> None:
    if removal.left:
        hint(f"not removed, {len(removal.left)} files at their destinations:")
    for one in removal.left:
        hint(plain(f"  {one.uri}: {one.reason}"))
