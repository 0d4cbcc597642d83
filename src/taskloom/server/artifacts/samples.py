"""Debug samples: what a run showed at an iteration, with the bytes that are held for it.

The owner is a task or a model. The same title, series, iteration and name again replaces a sample.
Of a title and series only the newest iterations stay, where the record says how many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection

from taskloom.domain.artifact import Sample, check_digest
from taskloom.domain.errors import BadInput, BlobMissing, NotFound
from taskloom.domain.project import check_text
from taskloom.server.artifacts import file_store, store
from taskloom.server.artifacts.files import filled
from taskloom.server.db import Database
from taskloom.server.settings import Clock
from taskloom.wire.messages import SamplesQuery

LONGEST_NAME = 1024
LONGEST_URI = 8192
LARGEST = 2**63
SWEEP = 60.0  # seconds; a run that shows something every second drops as much as it adds


class SampleKeeper:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock
        self._pruned = False  # since bytes were last deleted
        self._swept = -math.inf

    async def put_samples(self, owner_id: str, samples: Sequence[Sample]) -> None:
        def work(tx: Connection) -> None:
            _check_owner(tx, owner_id)
            for sample in samples:
                self.store_sample(tx, owner_id, sample)

        await self._db.write(work)

    async def list_samples(self, owner_id: str, query: SamplesQuery, most: int) -> tuple[list[Sample], int]:
        if not 1 <= query.limit <= most or not 0 <= query.offset < 2**31:
            raise BadInput(f"limit: expected 1 to {most}; offset: 0 or more")
        title = check_text(query.title, "title")

        def work(tx: Connection) -> tuple[list[Sample], int]:
            _check_owner(tx, owner_id)
            newest = not query.all_iterations
            return file_store.find_samples(tx, owner_id, title, newest, query.limit, query.offset)

        return await self._db.read(work)

    def store_sample(self, tx: Connection, owner_id: str, sample: Sample, history: int = 0) -> None:
        """Inside the caller's transaction. `history`: of its title and series only so many iterations stay, the
        newest; 0 keeps all. Raises BlobMissing, BadInput.
        """
        sample = filled(tx, self._checked(sample))
        if sample.digest:
            size = store.size_of(tx, check_digest(sample.digest))
            if size is None:
                raise BlobMissing(
                    f"sample {sample.title!r}: the bytes {sample.digest} are not here; upload them first",
                    digest=sample.digest,
                )
            sample = msgspec.structs.replace(sample, size=size)
        before = file_store.sample_digest(tx, owner_id, sample)
        file_store.put_sample(tx, owner_id, sample)
        if before and before != sample.digest:
            store.unname(tx, [before])
        if history > 0 and (dropped := file_store.drop_older_samples(tx, owner_id, sample, history)):
            store.unname(tx, dropped)
            self._pruned = True

    def leaves_bytes(self, ended: bool) -> bool:
        """Whether it is time to delete what dropped samples named: now and then, and when a task has ended."""
        now = self._clock()
        if not self._pruned or (now - self._swept < SWEEP and not ended):
            return False
        self._pruned, self._swept = False, now
        return True

    def _checked(self, sample: Sample) -> Sample:
        for what in ("title", "series", "name"):
            if len(check_text(getattr(sample, what), f"sample {what}")) > LONGEST_NAME:
                raise BadInput(f"sample {what}: expected at most {LONGEST_NAME} characters")
        if len(check_text(sample.uri, "sample uri")) > LONGEST_URI:
            raise BadInput(f"sample uri: expected at most {LONGEST_URI} characters")
        if len(check_text(sample.media_type, "sample media_type")) > LONGEST_NAME:
            raise BadInput(f"sample media_type: expected at most {LONGEST_NAME} characters")
        if sample.fingerprint:
            check_digest(sample.fingerprint)
        if not -LARGEST <= sample.iteration < LARGEST:
            raise BadInput("sample iteration: expected a whole number of 64 bits")
        return sample if math.isfinite(sample.time) else msgspec.structs.replace(sample, time=self._clock())


def _check_owner(tx: Connection, owner_id: str) -> None:
    if not store.has_task(tx, owner_id) and store.find_model(tx, owner_id) is None:
        raise NotFound(f"no task or model {owner_id[:80]!r}", task=owner_id[:80])
