"""Who looks at a running program from outside: what it writes, and what it says of its own end.

A follower keeps on the disk whatever it must not do twice, because another process of the worker may go on following
the same program.
"""

from __future__ import annotations

from typing import Protocol

from taskloom.providers.contract import Exit
from taskloom.wire.records import Ended


class Follower(Protocol):
    """Follows one program of one attempt."""

    def look(self) -> None:
        """Called about every half second while the program runs; cheap."""
        ...

    def end(self, exit: Exit) -> Ended | None:
        """After the program, in a thread, for it may take long: a word about how it ended, when there is one that
        knows better than the exit code.
        """
        ...

    def close(self) -> None:
        """Nothing is followed any more; may come without `end`."""
        ...
