"""Calls are built and answers read without a network."""

import msgspec
import pytest

from taskloom.domain.errors import BadInput, IllegalMove, NotFound, ServerFault, Unavailable
from taskloom.wire import messages as m
from taskloom.wire import operations as ops
from taskloom.wire.client import MSGPACK, Address, build_call, read_answer
from taskloom.wire.connection import Connection, data_folder, find_address, write_connection

HERE = Address("http://127.0.0.1:1", "tl_key")


def test_path_values_cannot_reach_another_route() -> None:
    call = build_call(HERE, ops.GET_TASK, task="../keys?x=1#y")
    assert call.url == "http://127.0.0.1:1/api/tasks/..%2Fkeys%3Fx%3D1%23y"


def test_a_missing_path_value_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="get_task"):
        build_call(HERE, ops.GET_TASK)


def test_the_query_leaves_out_what_has_its_default() -> None:
    call = build_call(HERE, ops.GET_POINTS, query=m.PointsQuery(title="a b", series="c&d"), task="t")
    assert call.url.endswith("/scalars/points?title=a+b&series=c%26d")
    call = build_call(HERE, ops.DELETE_TASK, query=m.TaskDelete(force=True), task="t")
    assert call.url.endswith("?force=true")


def test_the_key_travels_in_a_header_only() -> None:
    call = build_call(HERE, ops.LIST_KEYS)
    assert call.headers["Authorization"] == "Bearer tl_key"
    assert "tl_key" not in call.url


def test_errors_come_back_as_their_classes() -> None:
    body = msgspec.msgpack.encode(
        m.Fault(error=m.FaultBody(code="illegal_move", message="no", details={"status": "draft"}))
    )
    with pytest.raises(IllegalMove, match="no") as caught:
        read_answer(ops.GET_TASK, 409, body, MSGPACK)
    assert caught.value.details == {"status": "draft"}
    with pytest.raises(NotFound):
        read_answer(ops.GET_TASK, 404, b'{"error":{"code":"not_found","message":"x"}}', "application/json")


@pytest.mark.parametrize(("status", "kind"), [(502, Unavailable), (429, Unavailable), (500, ServerFault)])
def test_a_proxys_page_is_told_apart(status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        read_answer(ops.GET_TASK, status, b"<html>", "text/html")


def test_an_answer_of_another_shape_is_a_fault_not_a_crash() -> None:
    with pytest.raises(ServerFault, match="get_task"):
        read_answer(ops.GET_TASK, 200, b"[]", "application/json")


def test_the_server_is_found_by_variables_then_by_the_file(tmp_path) -> None:
    environ = {"TASKLOOM_DATA": str(tmp_path)}
    assert find_address(environ) is None
    path = write_connection(tmp_path, Connection("http://127.0.0.1:9", "tl_file"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert find_address(environ) == Address("http://127.0.0.1:9", "tl_file")
    assert find_address({**environ, "TASKLOOM_API_KEY": "tl_env"}) == Address("http://127.0.0.1:9", "tl_env")
    elsewhere = {**environ, "TASKLOOM_URL": "https://there:1/"}
    assert find_address(elsewhere) == Address("https://there:1", "")
    assert data_folder(environ) == tmp_path
    with pytest.raises(BadInput, match="TASKLOOM_URL"):
        find_address({"TASKLOOM_URL": "ftp://x"})


def test_every_operation_has_its_own_route_and_a_summary() -> None:
    routes = [(o.method, o.path) for o in ops.OPERATIONS.values()]
    assert len(routes) == len(set(routes))
    assert all(o.summary and o.feature for o in ops.OPERATIONS.values())
    open_ones = {name for name, o in ops.OPERATIONS.items() if o.role is None}
    assert open_ones == {"health", "openapi"}
    writes = [o for o in ops.OPERATIONS.values() if o.method != "GET"]
    assert {o.name for o in writes if o.role == "viewer"} == {"query_tasks", "query_models"}
