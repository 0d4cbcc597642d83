"""An attempt's journals on their way: the worker's own writer, and the companion that ships them all.

The child writes its standard output and error straight into the stream files of the worker's writer, and its
own journal beside it; the worker at first (see `near`), then a companion (see `journal.shipper`) sends everything with
the lease's token. What is
delivered disappears from the disk once the worker lets go of it; what is refused stays for the attempt to keep aside.

The writer's lock is inherited by whatever holds the program, so that its journal counts as alive although this process
died. A worker that adopts the program writes what it has to say into a journal of its own beside that one.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from taskloom.domain.task import TaskEdit
from taskloom.journal import layout
from taskloom.journal.writer import Writer
from taskloom.wire.client import Address
from taskloom.wire.records import Edited
from taskloom.wire.worker_protocol import ENV_API_KEY, ENV_URL
from taskloom.worker.near import NearDelivery
from taskloom.worker.record import AttemptFolder
from taskloom.worker.steps import Report

AGAIN_FIRST, AGAIN_LAST = 1.0, 15.0


class Console:
    """Open from the claim to the end of the attempt; or, `again`, from a restart of the worker on."""

    def __init__(self, folder: AttemptFolder, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = environ
        self._writer: Writer | None = None
        self._shipper: asyncio.subprocess.Process | None = None
        self._near: NearDelivery | None = None
        self._handing: asyncio.Task[None] | None = None

    @property
    def _address(self) -> Address:
        return Address(self._environ.get(ENV_URL, ""), self._environ.get(ENV_API_KEY, ""))

    async def open(self, *, again: bool = False) -> None:
        """Raises OSError when the disk does not take a journal."""
        record = self._folder.record
        role: layout.Role = "child" if again else "main"
        self._writer = Writer.create(
            self._folder.journal_root, record.task, role=role, lease=record.token, name=record.name
        )
        (self._folder.journal / layout.HELD_FILE).touch(mode=0o600)
        for stream in layout.STREAMS:
            self._writer.stream_path(stream).touch(mode=0o600)
        if again:
            await self._ship()
            return
        self._near = NearDelivery(self._folder.journal, self._address)
        self._handing = asyncio.create_task(self._hand_over(self._near))

    @property
    def writer(self) -> Writer:
        assert self._writer is not None
        return self._writer

    def stream(self, name: layout.Stream) -> Path:
        assert self._writer is not None
        return self._writer.stream_path(name)

    @property
    def report(self) -> Report:
        return Report(self.stream("report"))

    def edit(self, edit: TaskEdit) -> None:
        """What the worker has to tell of the task itself."""
        assert self._writer is not None
        self._writer.record(Edited(edit=edit, time=time.time()))

    def close(self) -> None:
        """Nothing more is written by the worker."""
        if self._writer is not None:
            self._writer.close()

    def poke(self) -> None:
        """What is there is sent at once instead of at the next turn."""
        if self._near is not None:
            self._near.poke()
        if self._shipper is not None and self._shipper.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._shipper.stdin.write(b".")

    async def drain(self) -> bool:
        """Returns when everything is delivered (True) or refused (False); tries for as long as it takes."""
        self.close()
        (self._folder.journal / layout.HELD_FILE).unlink(missing_ok=True)
        await self._end_handing_over()
        if self._near is not None:
            near, self._near = self._near, None
            if await near.finish():
                return True
        pause = AGAIN_FIRST
        while layout.writer_folders(self._folder.journal):
            if self._shipper is None or self._shipper.returncode is not None:
                await self._ship()
            self.poke()
            assert self._shipper is not None
            await self._shipper.wait()
            if self._refused():
                return False
            if layout.writer_folders(self._folder.journal):
                await asyncio.sleep(pause)
                pause = min(pause * 2, AGAIN_LAST)
        return True

    async def end(self) -> None:
        """Nobody sends any more, delivered or not."""
        self.close()
        await self._end_handing_over()
        if self._near is not None:
            await self._near.hand_over()
            self._near = None
        if self._shipper is not None and self._shipper.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._shipper.kill()
            await self._shipper.wait()

    async def leave(self) -> None:
        """The worker goes before everything is delivered: a companion goes on alone."""
        self.close()
        await self._end_handing_over()
        if self._near is not None:
            await self._near.hand_over()
            self._near = None
            await self._ship()

    async def _hand_over(self, near: NearDelivery) -> None:
        """To a companion, as soon as this process has done its part."""
        await near.wait()
        self._near = None
        await near.hand_over()
        await self._ship()

    async def _end_handing_over(self) -> None:
        """Not in the middle of it: a companion that is being started is known afterwards."""
        handing, self._handing = self._handing, None
        if handing is not None:
            if self._near is not None:
                handing.cancel()
            await asyncio.wait({handing})

    async def _ship(self) -> None:
        self._shipper = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the folder that the worker was started in holds no modules of ours
            "-m",
            "taskloom.journal.shipper",
            str(self._folder.journal),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(self._environ),
            start_new_session=True,
        )

    def _refused(self) -> bool:
        """Whether the server refuses a writer and nothing else is left to send."""
        marks = [layout.read_marks(path) for path in layout.writer_folders(self._folder.journal)]
        return bool(marks) and all(mark.refused for mark in marks)
