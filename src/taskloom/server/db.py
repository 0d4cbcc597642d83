"""A database: works go in, results come out; SQLite with one writer, or PostgreSQL.

A *work* is a function of an open connection. A write work runs in one transaction: when it raises, nothing of
it stays and the caller gets the exception; when the caller gets a result, it is on the disk. A work may be run
again (a conflict on PostgreSQL, a neighbour that broke the shared transaction on SQLite), so it touches nothing
but its connection: events are published and caches changed after `write` returned. It never commits or rolls
back itself.

SQLite: all writes and all checkpoints happen on the one connection of the one writer thread, because versions
before 3.51.3 can damage a WAL that two connections write or checkpoint at once. Works that wait are run
together, each in a savepoint, and share one commit (one fsync). Readers are read-only connections.
PostgreSQL: works run in threads in SERIALIZABLE transactions, so that what is written as read-then-write for
one writer stays right for many, and are repeated when PostgreSQL finds a conflict.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import ColumnElement, Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from taskloom.domain.errors import BadInput, StorageFull, Unavailable
from taskloom.server.patterns import FUNCTION, matches_text

log = logging.getLogger("taskloom.server.db")

T = TypeVar("T")
Work = Callable[[Connection], T]

READERS = 6
GROUP_WORKS = 256  # works that share a commit at most
GROUP_SECONDS = 0.05  # no new work joins a group that is older
BUSY_MS = 10_000
WAL_LIMIT = 64 * 2**20  # bytes the log is cut back to after a checkpoint
NEARLY_FULL = 2**20
RETRIES = 40
RETRY_STATES = frozenset({"40001", "40P01"})  # serialization failure, deadlock
FULL_STATES = frozenset({"53100"})
PASSING_CODES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
PASSING_CLASSES = frozenset({"", "08", "53", "57"})  # no connection, connection, resources, operator
DATA_STATES = frozenset({"22003", "22021"})  # number out of range, character not in the repertoire


class Database:
    """One of the two databases. `open` it, then any thread may read and write."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.dialect = make_url(url).get_backend_name()
        self._backend: _Sqlite | _Postgres = _Sqlite(url) if self.dialect == "sqlite" else _Postgres(url)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="db-read")

    async def read(self, work: Work[T]) -> T:
        """Run a work that only reads; it sees one consistent state."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._backend.read, work)

    async def write(self, work: Work[T]) -> T:
        """Run a work in a transaction; returns when it is on the disk."""
        return await asyncio.wrap_future(self._backend.submit(work))

    def read_now(self, work: Work[T]) -> T:
        return self._backend.read(work)

    def write_now(self, work: Work[T]) -> T:
        """The same for start-up code and threads; never call it on the event loop."""
        return self._backend.submit(work).result()

    def close(self) -> None:
        """Finish what was handed in, then close. Readers go first: the writer does the last checkpoint."""
        self._readers.shutdown(wait=True)
        self._backend.close()


def insert(connection: Connection, table: Table) -> Insert:
    """INSERT with `on_conflict_do_update` and `on_conflict_do_nothing` in the connection's dialect.

    Typed as SQLite's; PostgreSQL's has the same methods.
    """
    if connection.dialect.name == "sqlite":
        return Insert(table)
    from sqlalchemy.dialects.postgresql import insert as postgres_insert

    return cast(Insert, postgres_insert(table))


def like(text: str, *, prefix: bool = False) -> str:
    """A LIKE pattern that finds `text` literally, anywhere or at the start; use it with `escape='!'`."""
    literal = text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f"{literal}%" if prefix else f"%{literal}%"


def compare(column: ColumnElement[Any], comparison: str, value: Any) -> ColumnElement[bool]:
    """`=`, `<` and so on; what has no value differs from every value."""
    match comparison:
        case "=":
            return column == value
        case "!=":
            return column.is_(None) | (column != value)
        case "<":
            return column < value
        case "<=":
            return column <= value
        case ">":
            return column > value
        case _:
            return column >= value


@dataclass(frozen=True)
class _Job(Generic[T]):
    work: Work[T]
    future: Future[T]


# --- SQLite -----------------------------------------------------------------------------------------------


class _Sqlite:
    def __init__(self, url: str) -> None:
        path = make_url(url).database
        if not path or path == ":memory:":
            raise ValueError(f"{url}: expected a file, readers are connections of their own")
        self._path = Path(path)
        self._writer_engine = sqlite_engine(
            lambda: connect_sqlite(self._path, writer=True), "BEGIN IMMEDIATE", pool=None
        )
        self._reader_engine = sqlite_engine(
            lambda: connect_sqlite(self._path, writer=False), "BEGIN", pool=READERS + 2
        )
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._connection: Connection | None = self._writer_engine.connect()  # makes the file and its WAL
        self._thread = threading.Thread(target=self._write_loop, name=f"db-write-{self._path.stem}", daemon=True)
        self._thread.start()

    def read(self, work: Work[T]) -> T:
        try:
            with self._reader_engine.connect() as connection:
                return work(connection)
        except (DBAPIError, sqlite3.Error, OverflowError) as error:
            raise _told(error, self._path) from error

    def submit(self, work: Work[T]) -> Future[T]:
        future: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise Unavailable("the server is stopping")
            self._jobs.put(_Job(work, future))
        return future

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        self._reader_engine.dispose()
        if self._connection is not None:
            self._connection.close()
        self._writer_engine.dispose()

    def _write_loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            group = [job]
            last = self._collect(group)
            self._run(group)
            if last:
                return

    def _collect(self, group: list[_Job[Any]]) -> bool:
        """Works that already wait join the first; they run while no more than a moment is spent on them."""
        while len(group) < GROUP_WORKS:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return False
            if job is None:
                return True
            group.append(job)
        return False

    def _run(self, group: list[_Job[Any]]) -> None:
        live = [job for job in group if job.future.set_running_or_notify_cancel()]
        while live:
            done, live = self._transaction(live)
            for job, result, error in done:
                if error is None:
                    job.future.set_result(result)
                else:
                    job.future.set_exception(error)

    def _transaction(
        self, jobs: list[_Job[Any]]
    ) -> tuple[list[tuple[_Job[Any], Any, BaseException | None]], list[_Job[Any]]]:
        """Run jobs under one commit; gives what is settled and what has to be run again.

        When the transaction itself broke, a single job gets the error; of several each runs again alone, so
        that one job's trouble never becomes its neighbour's.
        """
        settled: list[tuple[_Job[Any], Any, BaseException | None]] = []
        started = time.monotonic()
        count = 0
        try:
            connection = self._open()
            with connection.begin():
                raw = cast(sqlite3.Connection, connection.connection.driver_connection)
                for job in jobs:
                    if count and time.monotonic() - started > GROUP_SECONDS:
                        break
                    count += 1
                    settled.append(self._one(job, connection, raw))
        except BaseException as error:  # handed to the callers, none is lost
            self._drop()
            if len(jobs) == 1:
                return [(jobs[0], None, _told(error, self._path))], []
            done: list[tuple[_Job[Any], Any, BaseException | None]] = []
            for job in jobs:
                done += self._transaction([job])[0]
            return done, []
        return settled, jobs[count:]

    def _one(
        self, job: _Job[Any], connection: Connection, raw: sqlite3.Connection
    ) -> tuple[_Job[Any], Any, BaseException | None]:
        raw.execute("SAVEPOINT work")
        try:
            result = job.work(connection)
        except BaseException as error:
            if not raw.in_transaction:  # SQLite gave the whole transaction up, the neighbours' part too
                raise
            raw.execute("ROLLBACK TO work")
            raw.execute("RELEASE work")
            return job, None, _told(error, self._path)
        raw.execute("RELEASE work")
        return job, result, None

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = self._writer_engine.connect()
        return self._connection

    def _drop(self) -> None:
        """After a broken transaction: a fresh connection, whatever state the old one was left in."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except (SQLAlchemyError, sqlite3.Error):
                return


def connect_sqlite(path: Path, *, writer: bool) -> sqlite3.Connection:
    mode = "rwc" if writer else "ro"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,  # the driver begins nothing by itself: see sqlite_engine
        check_same_thread=False,
        cached_statements=256,
    )
    connection.create_function(FUNCTION, 2, matches_text, deterministic=True)
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    if writer:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT}")
    else:
        connection.execute("PRAGMA query_only=ON")
    return connection


def sqlite_engine(creator: Callable[[], sqlite3.Connection], begin: str, pool: int | None) -> Engine:
    """SQLAlchemy over our own connections; transactions begin with an explicit statement.

    Python's driver would otherwise begin late and never for reads, so that two reads of one work could see
    two states.
    """
    if pool is None:
        engine = create_engine("sqlite://", creator=creator, poolclass=NullPool)
    else:
        engine = create_engine("sqlite://", creator=creator, poolclass=QueuePool, pool_size=pool, max_overflow=0)

    def begin_now(connection: Connection) -> None:
        cast(sqlite3.Connection, connection.connection.driver_connection).execute(begin)

    event.listen(engine, "begin", begin_now)
    return engine


# --- PostgreSQL -------------------------------------------------------------------------------------------


class _Postgres:
    def __init__(self, url: str) -> None:
        self._engine = create_engine(
            url,
            pool_size=READERS + 2,
            max_overflow=4,
            pool_pre_ping=True,
            isolation_level="SERIALIZABLE",
        )
        self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._writers = ThreadPoolExecutor(READERS, thread_name_prefix="db-write")

    def read(self, work: Work[T]) -> T:
        try:
            with self._reading.connect() as connection:
                return work(connection)
        except (DBAPIError, OverflowError) as error:
            raise _told(error, None) from error

    def submit(self, work: Work[T]) -> Future[T]:
        try:
            return self._writers.submit(self._write, work)
        except RuntimeError:
            raise Unavailable("the server is stopping") from None

    def close(self) -> None:
        self._writers.shutdown(wait=True)
        self._engine.dispose()

    def _write(self, work: Work[T]) -> T:
        for attempt in range(RETRIES):
            try:
                with self._engine.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                if _state(error) not in RETRY_STATES:
                    raise _told(error, None) from error
            time.sleep(random.uniform(0, min(0.002 * 2**attempt, 0.25)))  # noqa: S311 - spreading, not secrecy
        raise Unavailable("the database is too busy with the same rows; try again")


# --- errors -----------------------------------------------------------------------------------------------


def _told(error: BaseException, path: Path | None) -> BaseException:
    """The same error, or the domain's word for a full disk or an absent database."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}:
        return _full()
    if isinstance(error, OverflowError):
        return BadInput("a whole number is beyond 64 bits")
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return _full()
        if code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN} and path is not None and _nearly_full(path):
            return _full()
        return _away(cause) if code in PASSING_CODES else error
    if isinstance(error, DBAPIError):
        if _state(error) in FULL_STATES:
            return _full()
        if _state(error) in DATA_STATES or "NUL (0x00)" in str(cause):
            return BadInput("a text or number cannot be stored: a NUL character, or beyond 64 bits")
        if error.connection_invalidated or (
            isinstance(error, OperationalError) and _state(error)[:2] in PASSING_CLASSES
        ):
            return _away(error)
    return error


def _full() -> StorageFull:
    return StorageFull("the server's disk is full; nothing was stored, what is stored can still be read")


def _away(cause: BaseException) -> Unavailable:
    """What may pass by itself: a lock, an error of the disk, a database that restarts."""
    log.warning("the database failed: %s", cause)
    return Unavailable("the database cannot do it now; try again")


def _nearly_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < NEARLY_FULL
    except OSError:
        return False


def _state(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""
