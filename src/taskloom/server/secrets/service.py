"""Secrets: who sets them, who sees that they are there, and which a task is given.

The value goes in and comes out in one place, the lease of a task that names it. A user's own are hers, a project's
are for the tasks at and below it; of one name the user's wins, then the nearest project's. They go with their user
or project, and stay with a project that is renamed. The key of a running task may not look at them: a script
gets what its execution names, and cannot plant anything for the next one.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, Forbidden, NotFound, TooLarge
from taskloom.domain.execution import Execution
from taskloom.domain.project import ancestors, check_project, check_text
from taskloom.server.call import Caller
from taskloom.server.db import Database
from taskloom.server.projects.service import ProjectService
from taskloom.server.secrets import store
from taskloom.server.secrets.addresses import addresses, check_address, is_for
from taskloom.server.secrets.store import Owner, SecretRow
from taskloom.server.secrets.vault import Vault
from taskloom.server.settings import Clock
from taskloom.wire.messages import Credential, SecretInfo, SecretPlace, SecretPut

MAX_VALUE = 64 * 1024  # bytes
MAX_OF_ONE = 1000  # secrets of one user or project
MAX_TEXT = 1024  # characters of a description
MAX_USERNAME = 256
GITHUB_TOKEN = "_GITHUB_PAT_TOKEN"  # noqa: S105 - a name that Transformer Lab gives its meaning
GITHUB, GITHUB_USER = "https://github.com", "x-access-token"
ANY_USER = "git"  # servers that ask for a token take any
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class SecretService:
    def __init__(self, db: Database, clock: Clock, projects: ProjectService, vault: Vault) -> None:
        self._db, self._clock, self._projects, self._vault = db, clock, projects, vault

    # --- people -----------------------------------------------------------------------------------------

    async def list_secrets(self, caller: Caller) -> list[SecretInfo]:
        _own_person(caller)
        rows = await self._db.read(lambda tx: store.list_seen(tx, caller.user_id))
        return [_info(row) for row in rows]

    async def put_secret(self, caller: Caller, name: str, wanted: SecretPut) -> SecretInfo:
        _own_person(caller)
        _check_name(name)
        _check_value(wanted.value)
        description = check_text(wanted.description.strip(), "description")
        username = check_text(wanted.username.strip(), "username")
        if len(description) > MAX_TEXT or len(username) > MAX_USERNAME:
            raise BadInput(
                f"expected a description of at most {MAX_TEXT} and a username of {MAX_USERNAME} characters"
            )
        url = check_address(wanted.url)
        _check_place(wanted.scope, wanted.project)

        def work(tx: Connection) -> SecretRow:
            owner = self._owner(tx, caller, wanted.scope, wanted.project, make=True)
            there = store.find(tx, owner, name)
            if there is None and store.count(tx, owner) >= MAX_OF_ONE:
                raise TooLarge(f"there are {MAX_OF_ONE} secrets already; no owner has more")
            now = self._clock()
            identifier = there.id if there else uuid.uuid4().hex
            row = SecretRow(
                id=identifier,
                name=name,
                user_id=owner.user_id,
                project_id=owner.project_id,
                value=self._vault.seal(identifier, wanted.value),
                description=description,
                url=url,
                username=username,
                created=there.created if there else now,
                changed=now,
                changed_by=caller.user,
            )
            (store.change if there else store.add)(tx, row)
            return _known(tx, owner, name)

        return _info(await self._db.write(work))

    async def delete_secret(self, caller: Caller, name: str, place: SecretPlace) -> SecretInfo:
        _own_person(caller)
        _check_place(place.scope, place.project)

        def work(tx: Connection) -> SecretRow:
            row = _known(tx, self._owner(tx, caller, place.scope, place.project), name)
            store.remove(tx, row.id)
            return row

        return _info(await self._db.write(work))

    async def rotate_secrets(self, caller: Caller) -> int:
        """Every value under a new key. Cut short anywhere, all of them can still be read: older keys go last."""
        _own_person(caller)

        def work(tx: Connection) -> int:
            rows = store.list_all(tx)
            for row in rows:
                store.change_value(tx, row.id, self._vault.seal(row.id, self._vault.open(row.id, row.value)))
            return len(rows)

        def add_key(_: Connection) -> None:
            self._vault.add_key()

        await self._db.write(add_key)  # on the writer's thread, so that two rotations do not cross
        done = await self._db.write(work)
        await self._db.write(lambda _: self._vault.forget_older_keys())
        return done

    # --- tasks ------------------------------------------------------------------------------------------

    def missing(self, tx: Connection, names: Collection[str], user: str, project: str) -> list[str]:
        """Which of the names no secret has that a task of this user in this project would be given."""
        there = self._seen(tx, names, user, project)
        return [name for name in dict.fromkeys(names) if name not in there]

    def for_lease(
        self, tx: Connection, names: Collection[str], user: str, project: str, execution: Execution
    ) -> tuple[dict[str, str], tuple[Credential, ...]]:
        """The values of these names, and what git may answer where the execution's code comes from."""
        rows = self._seen(tx, names, user, project)
        values = {name: self._vault.open(row.id, row.value) for name, row in rows.items()}
        return values, self._credentials(tx, addresses(execution), user, project)

    def _credentials(
        self, tx: Connection, wanted: Sequence[str], user: str, project: str
    ) -> tuple[Credential, ...]:
        """The longest address first: that is the one which git is to use."""
        if not wanted:
            return ()
        found = nearest(store.find_with_address(tx, user, ancestors(project), GITHUB_TOKEN), project).values()
        told = [(row, *_access(row)) for row in found]
        fitting = [entry for entry in told if any(is_for(entry[1], address) for address in wanted)]
        return tuple(
            Credential(url=url, username=username, password=self._vault.open(row.id, row.value))
            for row, url, username in sorted(fitting, key=lambda entry: (-len(entry[1]), entry[0].name))
        )

    def _seen(self, tx: Connection, names: Collection[str], user: str, project: str) -> dict[str, SecretRow]:
        return nearest(store.find_named(tx, names, user, ancestors(project)), project) if names else {}

    def _owner(self, tx: Connection, caller: Caller, scope: str, project: str, *, make: bool = False) -> Owner:
        if scope == "user":
            return Owner(user_id=caller.user_id)
        path = check_project(project)
        if make:
            return Owner(project_id=self._projects.ensure_project(tx, path, caller.user)[0])
        found = self._projects.find_project(tx, path)
        if found is None:
            raise NotFound(f"no project {path!r}")
        return Owner(project_id=found)


def nearest(rows: Iterable[SecretRow], project: str) -> dict[str, SecretRow]:
    """Of each name the one that counts in the project: the user's, else that of the longest path."""
    found: dict[str, SecretRow] = {}
    for row in sorted(rows, key=lambda row: (row.user_id is not None, len(row.owner))):
        found[row.name] = row
    return found


def _access(row: SecretRow) -> tuple[str, str]:
    """Address and user that the password is for."""
    github = row.name == GITHUB_TOKEN and not row.url
    return row.url or GITHUB, row.username or (GITHUB_USER if github else ANY_USER)


def _known(tx: Connection, owner: Owner, name: str) -> SecretRow:
    row = store.find(tx, owner, name)
    if row is None:
        raise NotFound(f"no secret {name[:80]!r} there")
    return row


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"secret {name[:80]!r}: expected a name of 1 to 128 letters, digits and underscores that begins with no digit"
        )


def _check_value(value: str) -> None:
    size = len(value.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_VALUE:
        raise BadInput(f"the value has {size} bytes; expected 1 to {MAX_VALUE}")
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise BadInput("the value holds a NUL or half a character; expected text")


def _check_place(scope: str, project: str) -> None:
    if (scope == "project") != bool(project.strip()):
        raise BadInput("expected the scope 'user', or the scope 'project' with the path of a project")


def _own_person(caller: Caller) -> None:
    """A script is given the secrets that its task names; with its key nobody gets at others or leaves any."""
    if caller.lease:
        raise Forbidden("the key of a running task cannot see, set or delete secrets")


def _info(row: SecretRow) -> SecretInfo:
    return SecretInfo(
        name=row.name,
        scope="user" if row.user_id else "project",
        owner=row.owner,
        description=row.description,
        url=row.url,
        username=row.username,
        created=row.created,
        changed=row.changed,
        changed_by=row.changed_by,
    )
