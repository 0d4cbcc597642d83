"""Keys: who may make, see and revoke which, on every database."""

from __future__ import annotations

import pytest
from tests.conftest import House

from taskloom.domain.errors import BadInput, Forbidden, NotFound, Unauthorized
from taskloom.server.accounts.service import AccountService
from taskloom.wire.connection import read_connection, write_connection
from taskloom.wire.messages import KeyCreate, KeyCreated, KeyInfo, Role
from taskloom.wire.operations import CREATE_KEY, LIST_KEYS, REVOKE_KEY, SERVER_INFO


def make(house: House, role: Role, user: str = "", *, by: str = "") -> KeyCreated:
    client = house.client_of(by or house.key)
    return client.call(CREATE_KEY, KeyCreate(label=f"{user} {role}", role=role, user=user))


def seen(house: House, key: str) -> set[str]:
    return {info.id for info in house.client_of(key).call(LIST_KEYS).keys}


def test_members_see_make_and_revoke_only_their_own(any_house: House) -> None:
    house = any_house
    ada, bob = make(house, "member", "ada"), make(house, "member", "bob")
    own = make(house, "viewer", by=ada.key)
    assert (own.info.user, own.info.role) == ("ada", "viewer")
    assert seen(house, ada.key) == {ada.info.id, own.info.id}
    assert seen(house, bob.key) == {bob.info.id}
    for theirs in (ada, own):
        with pytest.raises(NotFound):
            house.client_of(bob.key).call(REVOKE_KEY, key=theirs.info.id)
    assert house.client_of(ada.key).call(REVOKE_KEY, key=own.info.id).revoked
    with pytest.raises(Unauthorized):
        house.client_of(own.key).call(SERVER_INFO)


def test_nobody_makes_a_key_above_their_own_or_for_somebody_else(any_house: House) -> None:
    ada = make(any_house, "member", "ada")
    with pytest.raises(Forbidden):
        make(any_house, "admin", by=ada.key)
    with pytest.raises(Forbidden):
        make(any_house, "viewer", "bob", by=ada.key)
    viewer = make(any_house, "viewer", "ada")
    with pytest.raises(Forbidden):
        make(any_house, "viewer", by=viewer.key)


def test_a_lower_key_does_not_reach_a_higher_one_of_the_same_person(any_house: House) -> None:
    member = make(any_house, "member", "admin")
    admins = any_house.key.split("_")[1]
    assert admins not in seen(any_house, member.key)
    with pytest.raises(NotFound):
        any_house.client_of(member.key).call(REVOKE_KEY, key=admins)


def test_an_administrator_sees_and_revokes_all(any_house: House) -> None:
    ada = make(any_house, "member", "ada")
    assert ada.info.id in seen(any_house, any_house.key)
    any_house.client.call(REVOKE_KEY, key=ada.info.id)
    shown = {info.id: info for info in any_house.client.call(LIST_KEYS).keys}
    assert shown[ada.info.id].revoked


def test_a_list_never_holds_a_secret(any_house: House) -> None:
    made = make(any_house, "member", "ada")
    assert made.key.split("_")[1] == made.info.id
    fields = set(KeyInfo.__struct_fields__)
    assert fields == {"id", "label", "user", "role", "created", "last_used", "expires", "revoked"}


def test_an_expired_key_is_refused(any_house: House) -> None:
    wanted = KeyCreate(label="short", role="member", expires=any_house.clock() + 60)
    key = any_house.client.call(CREATE_KEY, wanted).key
    assert any_house.client_of(key).call(SERVER_INFO).role == "member"
    any_house.clock.advance(61)
    with pytest.raises(Unauthorized):
        any_house.client_of(key).call(SERVER_INFO)


@pytest.mark.parametrize(
    "wrong",
    [
        KeyCreate(label=""),
        KeyCreate(label="x" * 300),
        KeyCreate(label="bell\a"),
        KeyCreate(label="past", expires=1.0),
        KeyCreate(label="never", expires=float("inf")),
        KeyCreate(label="user", user="u" * 300),
    ],
    ids=lambda wrong: wrong.label[:5] or "empty",
)
def test_a_key_that_makes_no_sense_is_refused(any_house: House, wrong: KeyCreate) -> None:
    with pytest.raises(BadInput):
        any_house.client.call(CREATE_KEY, wrong)


def test_last_use_is_told_and_survives_a_restart(any_house: House) -> None:
    made = make(any_house, "member", "ada")
    any_house.client_of(made.key).call(SERVER_INFO)

    def last_used() -> float:
        return {info.id: info for info in any_house.client.call(LIST_KEYS).keys}[made.info.id].last_used

    used = last_used()
    assert used >= made.info.created
    any_house.restart()
    assert last_used() == used


def test_the_first_key_stays_the_same_over_restarts_until_it_is_revoked(any_house: House) -> None:
    first = any_house.key
    any_house.restart()
    assert any_house.key == first
    any_house.client.call(REVOKE_KEY, key=first.split("_")[1])
    any_house.restart()
    assert any_house.key != first
    assert any_house.client.call(SERVER_INFO).role == "admin"


def test_a_connection_file_that_was_tampered_with_gets_a_fresh_key(any_house: House) -> None:
    """A member's key in the file must not make a member an administrator's stand-in."""
    member = make(any_house, "member", "ada")
    any_house.stop()
    written = read_connection(any_house.data)
    assert written is not None
    write_connection(any_house.data, type(written)(url=written.url, api_key=member.key))
    any_house.start()
    assert any_house.key != member.key
    assert any_house.client.call(SERVER_INFO).role == "admin"


# --- keys of leases ---------------------------------------------------------------------------------------


def accounts(house: House) -> AccountService:
    return house.listener.house.accounts


def lease_key(house: House, lease: str, seconds: float = 60.0) -> str:
    def work(tx: object) -> str:
        return accounts(house).create_lease_key(tx, "ada", lease, house.clock() + seconds)

    return house.listener.house.main.write_now(work)


def test_the_key_of_a_lease_works_as_long_as_the_lease(any_house: House) -> None:
    key, main = lease_key(any_house, "token"), any_house.listener.house.main
    client = any_house.client_of(key)
    info = client.call(SERVER_INFO)
    assert (info.user, info.role) == ("ada", "member")
    until = any_house.clock() + 600
    main.write_now(lambda tx: accounts(any_house).extend_lease_keys(tx, "token", until))
    any_house.clock.advance(120)
    assert client.call(SERVER_INFO).user == "ada"
    main.write_now(lambda tx: accounts(any_house).revoke_lease_keys(tx, "token"))
    any_house.clock.advance(2)
    with pytest.raises(Unauthorized):
        client.call(SERVER_INFO)


def test_the_key_of_a_lease_ends_with_it_by_itself(any_house: House) -> None:
    client = any_house.client_of(lease_key(any_house, "token"))
    any_house.clock.advance(61)
    with pytest.raises(Unauthorized):
        client.call(SERVER_INFO)


def test_user_code_cannot_make_itself_a_key_that_outlives_its_run(any_house: House) -> None:
    key = lease_key(any_house, "token")
    with pytest.raises(Forbidden):
        make(any_house, "viewer", by=key)
    with pytest.raises(Forbidden):
        any_house.client_of(key).call(LIST_KEYS)
    with pytest.raises(Forbidden):
        any_house.client_of(key).call(REVOKE_KEY, key=any_house.key.split("_")[1])
    assert key.split("_")[1] not in seen(any_house, any_house.key)
