"""One function applies an edit, on the server and in a running script's own copy."""

import msgspec
import pytest

from taskloom.domain.errors import BadInput
from taskloom.domain.parameters import Parameter
from taskloom.domain.project import ancestors, check_name, check_project, check_tag
from taskloom.domain.task import ConfigurationObject, Property, Task, TaskEdit, apply_edit

TASK = Task(
    id="0" * 32,
    name="first",
    project="main/sub",
    tags=("a", "b"),
    parameters={"Args": {"lr": Parameter("0.1", "float")}, "General": {"seed": Parameter("1", "int")}},
    configuration={"net": ConfigurationObject("{}")},
    properties={"note": Property("x")},
)


def test_an_empty_edit_changes_nothing() -> None:
    assert apply_edit(TASK, TaskEdit()) == TASK


def test_parameters_are_added_overwritten_and_removed() -> None:
    edit = TaskEdit(
        parameters={"Args": {"lr": Parameter("1"), "epochs": Parameter("3")}, "General": {"seed": None}}
    )
    assert apply_edit(TASK, edit).parameters == {"Args": {"lr": Parameter("1"), "epochs": Parameter("3")}}


def test_replacing_parameters_drops_the_others() -> None:
    edit = TaskEdit(parameters={"New": {"x": Parameter("1")}}, replace_parameters=True)
    assert apply_edit(TASK, edit).parameters == {"New": {"x": Parameter("1")}}


def test_tags_keep_their_order_and_are_kept_once() -> None:
    assert apply_edit(TASK, TaskEdit(add_tags=("c", "a"), remove_tags=("b",))).tags == ("a", "c")
    assert apply_edit(TASK, TaskEdit(tags=("z", "z"))).tags == ("z",)


def test_execution_is_edited_field_by_field() -> None:
    once = apply_edit(TASK, TaskEdit(execution={"commit": "abc", "resources": {"gpus": 2}}))
    again = apply_edit(once, TaskEdit(execution={"diff": "+"}))
    assert (again.execution.commit, again.execution.diff, again.execution.resources.gpus) == ("abc", "+", 2)


def test_an_execution_of_wrong_types_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="commit"):
        apply_edit(TASK, TaskEdit(execution={"commit": 3}))


def test_only_what_is_run_needs_a_draft() -> None:
    assert TaskEdit(execution={}).needs_draft()
    assert TaskEdit(replace_parameters=True).needs_draft()
    assert not TaskEdit(name="new", tags=("a",), properties={"p": Property("1")}, progress=3.0).needs_draft()


def test_edits_do_not_touch_the_task_they_are_applied_to() -> None:
    before = msgspec.msgpack.encode(TASK)
    apply_edit(TASK, TaskEdit(parameters={"Args": {"lr": None}}, properties={"note": None}))
    assert msgspec.msgpack.encode(TASK) == before


@pytest.mark.parametrize("name", ["ab", "", "  a ", "x" * 257, "bad\x00name", "new\nline", "lone\ud800"])
def test_names_too_short_too_long_or_unprintable_are_refused(name: str) -> None:
    with pytest.raises(BadInput):
        check_name(name)


def test_project_paths() -> None:
    assert check_project(" main/sub ") == "main/sub"
    assert ancestors("a/b/c") == ["a", "a/b", "a/b/c"]
    for bad in ("main//sub", "/main", "main/", "a/b\x1b"):
        with pytest.raises(BadInput):
            check_project(bad)
    assert check_tag("x") == "x"
    with pytest.raises(BadInput):
        check_tag("")
