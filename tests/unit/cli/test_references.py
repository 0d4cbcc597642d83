"""Which task is meant: ids, beginnings of ids, PROJECT/NAME."""

from typing import Any


def test_a_task_is_found_by_id_and_by_the_beginning_of_its_id(taskloom: Any, begin: Any) -> None:
    script = begin("alpha")
    for reference in (script.task, script.task[:4], script.task[:20]):
        assert taskloom("task", "show", reference, "--json").json["id"] == script.task


def test_a_task_is_found_by_its_address(taskloom: Any, begin: Any, house: Any) -> None:
    script = begin("alpha")
    assert taskloom("task", "show", f"{house.url}/api/tasks/{script.task}", "--json").json["id"] == script.task


def test_an_ambiguous_beginning_lists_the_tasks(taskloom: Any, begin: Any) -> None:
    first = begin("alpha", id="abcd" + "0" * 28)
    second = begin("beta", id="abcd" + "1" * 28)
    ran = taskloom("task", "show", "abcd")
    assert ran.code == 1
    assert first.task in ran.err
    assert second.task in ran.err
    assert taskloom("task", "show", "abcd0", "--json").json["name"] == "alpha"


def test_the_beginning_of_an_id_is_not_a_part_of_a_name(taskloom: Any, begin: Any) -> None:
    begin("deadbeef in the name", id="0" * 32)
    ran = taskloom("task", "show", "deadbeef")
    assert ran.code == 1
    assert "no task whose id begins with 'deadbeef'" in ran.err


def test_too_short_and_unknown_references_say_what_is_expected(taskloom: Any) -> None:
    assert "at least 4" in taskloom("task", "show", "abc").err
    assert "PROJECT/NAME" in taskloom("task", "show", "my run").err
    assert "nowhere/at all" in taskloom("task", "show", "nowhere/at all").err


def test_project_and_name_mean_the_task_that_changed_last(taskloom: Any, begin: Any) -> None:
    older = begin("same name", project="main/sub")
    newer = begin("same name", project="main/sub")
    older.edits(comment="touched")
    assert taskloom("task", "show", "main/sub/same name", "--json").json["id"] == older.task
    newer.edits(comment="touched, too")
    assert taskloom("task", "show", "main/sub/same name", "--json").json["id"] == newer.task


def test_a_name_may_hold_slashes(taskloom: Any, begin: Any) -> None:
    script = begin("with/slash", project="main/sub")
    assert taskloom("task", "show", "main/sub/with/slash", "--json").json["id"] == script.task


def test_an_archived_task_is_found_when_there_is_no_other(taskloom: Any, finished: Any) -> None:
    script = finished("alone")
    taskloom("task", "archive", script.task)
    assert taskloom("task", "show", "shelf/alone", "--json").json["id"] == script.task
