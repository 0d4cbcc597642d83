"""Secrets: set by people, seen by nobody, given to the tasks that name them; on every database."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.conftest import House

from taskloom.domain.errors import BadInput, Forbidden, NotFound, ServerFault, TooLarge
from taskloom.domain.execution import Execution
from taskloom.domain.queue import Machine
from taskloom.server import tables
from taskloom.server.events import EventBus
from taskloom.server.projects.service import ProjectService
from taskloom.server.secrets import service as secret_service
from taskloom.server.secrets.service import SecretService
from taskloom.server.secrets.vault import KEYS_FILE, Vault
from taskloom.wire import messages as m
from taskloom.wire import operations as op


def put(house: House, name: str, value: str, *, key: str = "", project: str = "", **more: Any) -> m.SecretInfo:
    body = m.SecretPut(value=value, scope="project" if project else "user", project=project, **more)
    return house.client_of(key or house.key).call(op.PUT_SECRET, body, name=name)


def delete(house: House, name: str, *, key: str = "", project: str = "") -> m.SecretInfo:
    query = m.SecretPlace(scope="project" if project else "user", project=project)
    return house.client_of(key or house.key).call(op.DELETE_SECRET, query=query, name=name)


def listed(house: House, key: str = "") -> list[tuple[str, str, str]]:
    told = house.client_of(key or house.key).call(op.LIST_SECRETS)
    return [(info.scope, info.owner, info.name) for info in told.secrets]


def service(house: House) -> SecretService:
    """The service as the server builds it, on the same database and key file."""
    inner = house.listener.house
    projects = ProjectService(inner.main, EventBus(), inner.clock, inner.settings)
    return SecretService(inner.main, inner.clock, projects, Vault(inner.settings.folder / KEYS_FILE))


def given(house: House, *names: str, user: str = "admin", project: str = "vision") -> dict[str, str]:
    secrets = service(house)
    return house.listener.house.main.read_now(
        lambda tx: secrets.for_lease(tx, names, user, project, Execution())[0]
    )


def credentials(house: House, execution: Execution, user: str = "admin", project: str = "vision") -> Any:
    secrets = service(house)
    return house.listener.house.main.read_now(lambda tx: secrets.for_lease(tx, (), user, project, execution)[1])


def missing(house: House, *names: str, user: str = "admin", project: str = "vision") -> list[str]:
    secrets = service(house)
    return house.listener.house.main.read_now(lambda tx: secrets.missing(tx, names, user, project))


def test_a_users_secret_wins_over_a_projects_and_the_nearest_project_over_those_above(any_house: House) -> None:
    put(any_house, "TOKEN", "of vision", project="vision")
    put(any_house, "TOKEN", "of nets", project="vision/nets")
    assert given(any_house, "TOKEN", project="vision") == {"TOKEN": "of vision"}
    assert given(any_house, "TOKEN", project="vision/nets/deep") == {"TOKEN": "of nets"}
    assert given(any_house, "TOKEN", project="visionary") == {}
    ada = any_house.make_key(user="ada")
    put(any_house, "TOKEN", "of ada", key=ada)
    assert given(any_house, "TOKEN", user="ada", project="vision/nets") == {"TOKEN": "of ada"}
    assert given(any_house, "TOKEN", user="bob", project="vision/nets") == {"TOKEN": "of nets"}


def test_what_a_task_would_lack_is_named_in_order_and_once(any_house: House) -> None:
    put(any_house, "HERE", "x")
    assert missing(any_house, "B", "HERE", "A", "B") == ["B", "A"]
    assert missing(any_house, "HERE", user="nobody") == ["HERE"]


def test_a_value_never_comes_back_and_lies_encrypted(any_house: House) -> None:
    told = put(any_house, "TOKEN", "correct horse battery", description="of the staple", project="vision")
    assert (told.owner, told.scope, told.changed_by) == ("vision", "project", "admin")
    assert "value" not in m.SecretInfo.__struct_fields__
    inner = any_house.listener.house
    rows = inner.main.read_now(lambda tx: tx.execute(select(tables.secrets)).all())
    assert all("horse" not in repr(row) for row in rows)
    for file in inner.settings.folder.rglob("*"):
        assert not file.is_file() or b"correct horse" not in file.read_bytes(), file
    key = inner.settings.folder / KEYS_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_members_see_their_own_and_those_of_projects_and_nobody_elses(any_house: House) -> None:
    ada, bob = any_house.make_key(user="ada"), any_house.make_key(user="bob")
    put(any_house, "MINE", "a", key=ada)
    put(any_house, "OURS", "b", key=ada, project="vision")
    assert listed(any_house, ada) == [("user", "ada", "MINE"), ("project", "vision", "OURS")]
    assert listed(any_house, bob) == [("project", "vision", "OURS")]
    with pytest.raises(NotFound):
        delete(any_house, "MINE", key=bob)
    assert delete(any_house, "OURS", key=bob, project="vision").name == "OURS"
    assert delete(any_house, "MINE", key=ada).name == "MINE"
    assert listed(any_house, ada) == []


def test_a_viewer_and_the_key_of_a_running_task_reach_nothing(any_house: House) -> None:
    put(any_house, "TOKEN", "x")
    worker = m.WorkerRegister(
        id="w", name="w", queues=("default",), slots=1, machine=Machine(), version="1", create_queues=True
    )
    any_house.client.call(op.REGISTER_WORKER, worker)
    task = any_house.client.call(op.CREATE_TASK, m.TaskCreate(name="one", project="vision")).id
    any_house.client.call(op.ENQUEUE_TASK, m.Enqueue(), task=task)
    lease = any_house.client.call(op.CLAIM_TASK, m.Claim(worker="w", queues=("default",), wait=0)).lease
    assert lease is not None
    for key in (lease.key, any_house.make_key("viewer")):
        for call in (
            lambda key=key: listed(any_house, key),
            lambda key=key: put(any_house, "TOKEN", "y", key=key),
            lambda key=key: delete(any_house, "TOKEN", key=key),
        ):
            with pytest.raises(Forbidden):
                call()
    with pytest.raises(Forbidden):
        any_house.client_of(any_house.make_key()).call(op.ROTATE_SECRETS)


def test_a_secret_that_is_set_again_has_its_new_value_and_its_first_time(any_house: House) -> None:
    first = put(any_house, "TOKEN", "one")
    any_house.clock.advance(60)
    second = put(any_house, "TOKEN", "two", description="newer")
    assert (second.created, second.changed > first.changed) == (first.created, True)
    assert given(any_house, "TOKEN") == {"TOKEN": "two"}


def test_secrets_go_along_when_a_project_is_renamed_and_away_when_it_is_deleted(any_house: House) -> None:
    put(any_house, "TOKEN", "x", project="vision/nets")
    project = any_house.client.call(op.LIST_PROJECTS, query=m.ProjectQuery(name="vision")).projects[0].id
    any_house.client.call(op.EDIT_PROJECT, m.ProjectEdit(name="sight"), project=project)
    assert given(any_house, "TOKEN", project="sight/nets") == {"TOKEN": "x"}
    assert given(any_house, "TOKEN", project="vision/nets") == {}
    any_house.client.call(op.DELETE_PROJECT, query=m.ProjectDelete(force=True), project=project)
    assert listed(any_house) == []


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("1ST", {"value": "x"}),
        ("a-b", {"value": "x"}),
        ("N" * 129, {"value": "x"}),
        ("EMPTY", {"value": ""}),
        ("BIG", {"value": "x" * (64 * 1024 + 1)}),
        ("NUL", {"value": "a\0b"}),
        ("URL", {"value": "x", "url": "https://me:pw@example.org"}),
        ("URL", {"value": "x", "url": "ext::sh -c x"}),
        ("URL", {"value": "x", "url": "https://example.org:port"}),
        ("WHOSE", {"value": "x", "scope": "project"}),
        ("WHOSE", {"value": "x", "project": "vision"}),
        ("SHORT", {"value": "x", "scope": "project", "project": "ab"}),
    ],
)
def test_what_is_no_secret_is_refused(any_house: House, name: str, body: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as refused:
        any_house.client.call(op.PUT_SECRET, m.SecretPut(**body), name=name)
    assert body["value"] not in str(refused.value) or len(body["value"]) < 2


def test_an_owner_has_a_bounded_number_of_them(any_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_service, "MAX_OF_ONE", 2)
    put(any_house, "A", "x")
    put(any_house, "B", "x")
    with pytest.raises(TooLarge):
        put(any_house, "C", "x")
    put(any_house, "B", "changed")
    put(any_house, "C", "x", project="vision")


def test_a_password_is_told_only_to_the_servers_that_its_address_names(any_house: House) -> None:
    put(any_house, "ALL", "1", url="https://Git.Example.org/")
    put(any_house, "TEAM", "2", url="https://git.example.org/team", username="robot")
    put(any_house, "_GITHUB_PAT_TOKEN", "3")

    def told(repository: str, **more: Any) -> list[tuple[str, str, str]]:
        found = credentials(any_house, Execution(repository=repository, **more))
        return [(one.url, one.username, one.password) for one in found]

    everywhere = ("https://Git.Example.org", "git", "1")
    assert told("https://git.example.org/team/a.git") == [
        ("https://git.example.org/team", "robot", "2"),
        everywhere,
    ]
    assert told("https://git.example.org/team-b/a.git") == [everywhere]
    assert told("https://git.example.org:444/team/a.git") == []
    assert told("http://git.example.org/team/a.git") == []
    assert told("https://git.example.org.evil.net/team/a.git") == []
    assert told("https://evil.net/https://git.example.org/team") == []
    assert told("git@git.example.org:team/a.git") == []
    assert told("https://github.com/o/r") == [("https://github.com", "x-access-token", "3")]
    installed = "pip install git+https://git.example.org/other/lib.git@v2#egg=lib"
    assert told("", setup=installed) == [everywhere]


def test_a_rotation_encrypts_everything_anew_and_forgets_the_older_key(any_house: House) -> None:
    for number in range(3):
        put(any_house, f"S{number}", f"value {number}")
    file = any_house.listener.house.settings.folder / KEYS_FILE
    before = file.read_text()
    assert any_house.client.call(op.ROTATE_SECRETS).secrets == 3
    after = file.read_text()
    assert len(after.split()) == 1
    assert after != before
    assert given(any_house, "S0", "S1", "S2") == {f"S{n}": f"value {n}" for n in range(3)}
    put(any_house, "S0", "fresh")
    assert given(any_house, "S0") == {"S0": "fresh"}


def test_a_lost_key_is_said_and_a_value_does_not_open_in_another_row(any_house: House, tmp_path: Path) -> None:
    put(any_house, "TOKEN", "x")
    put(any_house, "OTHER", "y")
    inner = any_house.listener.house
    rows = inner.main.read_now(lambda tx: {r.name: r for r in tx.execute(select(tables.secrets))})
    with pytest.raises(ServerFault, match="cannot be decrypted"):
        Vault(inner.settings.folder / KEYS_FILE).open(rows["TOKEN"].id, rows["OTHER"].value)
    with pytest.raises(ServerFault, match="not there any more"):
        Vault(tmp_path / KEYS_FILE).open(rows["TOKEN"].id, rows["TOKEN"].value)


def test_a_rotation_that_was_cut_short_leaves_everything_readable(tmp_path: Path) -> None:
    vault = Vault(tmp_path / KEYS_FILE)
    old = vault.seal("1" * 32, "old")
    vault.add_key()
    new = vault.seal("1" * 32, "new")
    again = Vault(tmp_path / KEYS_FILE)
    assert [again.open("1" * 32, sealed) for sealed in (old, new)] == ["old", "new"]
