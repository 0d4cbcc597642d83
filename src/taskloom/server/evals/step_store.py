"""SQL of the steps of traces, in the telemetry database. A step is compressed when that saves much of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, func, select
from sqlalchemy.dialects.sqlite import Insert

from taskloom.domain.evaluation import Step
from taskloom.server.compression import compress, decompress
from taskloom.server.db import insert
from taskloom.server.prepared import Prepared
from taskloom.server.tables import eval_steps

WORTH = 1024  # bytes from which on a step is compressed
_pack = msgspec.msgpack.Encoder().encode
_step_of = msgspec.msgpack.Decoder(Step)


@dataclass(frozen=True)
class StepRow:
    run: str
    number: int
    job: str
    packed: bool
    step: bytes


def pack_step(run: str, number: int, job: str, step: Step) -> StepRow:
    data = _pack(step)
    if len(data) >= WORTH and len(small := compress(data)) < 0.9 * len(data):
        return StepRow(run, number, job, True, small)
    return StepRow(run, number, job, False, data)


def put_steps(tx: Connection, rows: Sequence[StepRow]) -> None:
    """Written over where they are there already."""
    values = [
        {"run_id": r.run, "number": r.number, "job_id": r.job, "packed": r.packed, "step": r.step} for r in rows
    ]
    if not values:
        return
    if tx.dialect.name == "sqlite":
        _PUT.run_many(tx, values)
    else:
        tx.execute(_upsert(insert(tx, eval_steps)), values)


def _upsert(fresh: Insert) -> Insert:
    keys = ["run_id", "number"]
    return fresh.on_conflict_do_update(
        index_elements=keys, set_={c.name: fresh.excluded[c.name] for c in eval_steps.c if c.name not in keys}
    )


_PUT = Prepared(_upsert(Insert(eval_steps)), [column.name for column in eval_steps.c])
_DROP = Prepared(delete(eval_steps).where(eval_steps.c.run_id == bindparam("of")))


def drop_runs(tx: Connection, run_ids: Sequence[str]) -> None:
    """All steps of these runs."""
    _DROP.run_many(tx, [{"of": run} for run in run_ids])


def drop_some(tx: Connection, job_id: str, limit: int) -> bool:
    """Delete at most about `limit` steps of a job; whether something may be left."""
    some = select(eval_steps.c.run_id).where(eval_steps.c.job_id == job_id).limit(limit)
    runs = set(tx.execute(some).scalars())
    if not runs:
        return False
    numbers = select(eval_steps.c.number).where(eval_steps.c.run_id == bindparam("of")).limit(limit)
    gone = delete(eval_steps).where(eval_steps.c.run_id == bindparam("of"))
    gone = gone.where(eval_steps.c.job_id == job_id, eval_steps.c.number.in_(numbers.scalar_subquery()))
    left = limit
    for run in runs:
        left -= tx.execute(gone, {"of": run}).rowcount
        if left <= 0:
            break
    return True


def count(tx: Connection, run_id: str) -> int:
    """How many steps a run has by now: one more than the number of the last."""
    last = tx.execute(select(func.max(eval_steps.c.number)).where(eval_steps.c.run_id == run_id)).scalar_one()
    return 0 if last is None else last + 1


def steps_from(tx: Connection, run_id: str, start: int, limit: int) -> Iterator[tuple[int, int, Step]]:
    """Number, bytes and step, in order."""
    wanted = select(eval_steps.c.number, eval_steps.c.packed, eval_steps.c.step)
    wanted = wanted.where(eval_steps.c.run_id == run_id, eval_steps.c.number >= start)
    rows: Any = tx.execute(wanted.order_by(eval_steps.c.number).limit(limit))
    for number, packed, data in rows:
        plain = decompress(data) if packed else data
        yield number, len(plain), _step_of.decode(plain)
