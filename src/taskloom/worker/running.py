"""A program that runs under a lease, whoever started it: watched to its end, which becomes what is told.

The exit code decides, unless a follower knows better; a time limit stops it; while it runs, every renewal of the
lease says how long it may go on without this process. What cuts it short from outside is the business of `oversight`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from taskloom.journal.masking import Masks
from taskloom.providers.contract import Exit, Program
from taskloom.wire.messages import Finish
from taskloom.wire.records import Ended
from taskloom.worker.followers import Follower
from taskloom.worker.lastwords import outcome
from taskloom.worker.lease import LeaseKeeper
from taskloom.worker.record import AttemptRecord, boot_time
from taskloom.worker.steps import describe, redact

LOOK_SECONDS = 0.5
TAIL_BYTES = 4096
MAX_LINE = 300


class Running:
    """`hidden`: values that no reason may show. `output`: the streams' files, for a last line."""

    def __init__(
        self,
        program: Program,
        record: AttemptRecord,
        keeper: LeaseKeeper,
        followers: Sequence[Follower],
        grace: float,
        limit: float = 0.0,
        output: Sequence[Path] = (),
        hidden: Sequence[str] = (),
    ) -> None:
        self.program = program
        self._record, self._keeper, self._followers = record, keeper, followers
        self._grace, self._limit, self._output, self._hidden = grace, limit, output, hidden
        self._phase = Path(record.phase) if record.phase else None
        self._late = False
        self.exit: Exit | None = None

    async def keep(self) -> None:
        """It may live without this process for as long as its lease does."""
        await self.program.keep(self._keeper.left())

    async def ended(self) -> Finish:
        """Watches it to its end."""
        self._keeper.when_renewed = self.keep
        try:
            end = self.exit = await self._watch()
            words = [await asyncio.to_thread(follower.end, end) for follower in self._followers]
            return self._told(end, next((word for word in words if word is not None), None))
        finally:
            for follower in self._followers:
                await asyncio.to_thread(follower.close)

    async def _watch(self) -> Exit:
        waiting = asyncio.create_task(self.program.wait())
        try:
            while True:
                self._keeper.phase = "running" if self._ran() else "setup"
                done, _ = await asyncio.wait({waiting}, timeout=min(LOOK_SECONDS, max(self._remains(), 0.01)))
                for follower in self._followers:
                    follower.look()
                if done:
                    return waiting.result()
                if self._remains() <= 0 and not self._late:
                    self._late = True
                    await self.program.stop(self._grace)
        finally:
            waiting.cancel()

    def _remains(self) -> float:
        if not self._limit or self._late:
            return LOOK_SECONDS
        return self._record.began + self._limit - boot_time()

    def _ran(self) -> bool:
        """Whether the setup lines are over."""
        try:
            return self._phase is None or self._phase.stat().st_size > 0
        except OSError:
            return False

    def _told(self, end: Exit, word: Ended | None) -> Finish:
        code = -end.signal if end.signal is not None else end.code
        if self._late:
            return Finish(outcome="failed", exit_code=code, reason=f"time limit of {self._limit:g} s reached")
        if not self._ran() and end.code != 0 and not end.lost:
            return Finish(
                outcome="failed", exit_code=code, reason=f"the setup lines failed: {self._complaint(end)}"
            )
        status, reason = outcome(end, word)
        return Finish(outcome=status, exit_code=code, reason=reason)

    def _complaint(self, end: Exit) -> str:
        line = next((line for path in self._output if (line := last_line(path))), "")
        line = Masks(self._hidden).hide(line)
        return f"{describe(end)}; {redact(line)}" if line else describe(end)


def last_line(path: Path) -> str:
    """The last line of a file that is not empty, cut where it is too long for a reason."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - TAIL_BYTES, 0))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    found = [line.strip() for line in lines if line.strip()]
    return found[-1][:MAX_LINE] if found else ""
