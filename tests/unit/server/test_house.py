"""The house as a whole: it starts, answers, stops, comes back, and shares its folder with nobody."""

from __future__ import annotations

import stat
import subprocess
import sys

from tests.conftest import House, HouseProcess

from taskloom.wire.connection import read_connection
from taskloom.wire.messages import ProjectCreate
from taskloom.wire.operations import CREATE_PROJECT, HEALTH, LIST_PROJECTS, SERVER_INFO


def test_a_fresh_house_tells_programs_on_its_machine_where_it_is(house: House) -> None:
    written = read_connection(house.data)
    assert written is not None
    assert written.url == house.url
    assert stat.S_IMODE((house.data / "connection.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(house.data.stat().st_mode) == 0o700
    info = house.client.call(SERVER_INFO)
    assert (info.user, info.role, info.database) == ("admin", "admin", "sqlite")


def test_health_needs_no_key(house: House) -> None:
    assert house.client_of("").call(HEALTH).status == "ok"
