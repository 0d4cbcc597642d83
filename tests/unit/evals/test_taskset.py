"""Tasksets: files of every kind, what is wrong in them and where, slugs, digests."""

from __future__ import annotations

import csv
import gc
import json
from pathlib import Path
from typing import Any

import pytest

from taskloom.evals import Task, Taskset


def row(**fields: Any) -> Task:
    return Task(**{"env": "e", "id": "add", **fields})


def test_two_rows_with_one_slug_are_refused_by_both_names() -> None:
    with pytest.raises(ValueError, match=r"rows 1 \(e/add\) and 3 \(other/sub\) both have the slug 'same'"):
        Taskset("some", [row(slug="same"), row(), row(env="other", id="sub", slug="same")])


def test_equal_rows_have_one_slug_and_are_refused() -> None:
    with pytest.raises(ValueError, match="both have the slug"):
        Taskset("some", [row(args={"a": 1}), row(args={"a": 1})])


def test_rows_whose_default_slugs_are_equal_by_chance_are_told_apart() -> None:
    first, second = row(args={"a": 25388, "b": 25389}), row(args={"a": 119426, "b": 119427})
    assert first.slug == second.slug == "add-fe888894"

    taskset = Taskset("some", [first, second])

    assert [task.args["a"] for task in taskset] == [25388, 119426]
    assert second.slug is not None
    assert second.slug.startswith("add-fe888894")
    assert taskset[second.slug] is second


def test_an_unknown_slug_is_told_with_near_ones() -> None:
    with pytest.raises(KeyError, match="no task 'sums-3'; near ones: sums-"):
        Taskset("some", [row(slug=f"sums-0{n}") for n in range(5)])["sums-3"]


def test_a_text_is_one_slug_and_not_its_letters() -> None:
    taskset = Taskset("some", [row(slug="ab"), row(slug="a")])

    assert [task.slug for task in taskset.filter("ab")] == ["ab"]
    assert [task.slug for task in taskset.exclude("ab")] == ["a"]


def test_what_is_no_task_is_refused() -> None:
    with pytest.raises(TypeError, match="a dict among its rows"):
        Taskset("some", [{"env": "e", "id": "x"}])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a name"):
        Taskset("")


def test_environments_are_named_once_in_order() -> None:
    taskset = Taskset("some", [row(env="b", id="1"), row(env="a", id="2"), row(env="b", id="3")])

    assert taskset.environment_names() == ["b", "a"]


def test_a_digest_changes_with_every_part_of_a_row_and_their_order() -> None:
    def digest(*rows: Task) -> str:
        return Taskset("some", rows).digest()

    base = digest(row(slug="x"), row(slug="y"))
    others = [
        digest(row(slug="y"), row(slug="x")),
        digest(row(slug="x"), row(slug="y", args={"a": 1})),
        digest(row(slug="x"), row(slug="y", env="f")),
        digest(row(slug="x"), row(slug="y", agent_config={"max_steps": 1})),
        digest(row(slug="x"), row(slug="y", columns={"level": 1})),
        digest(row(slug="x")),
    ]
    assert len({base, *others}) == 7
    assert digest(row(slug="x"), row(slug="y")) == base


# --- files --------------------------------------------------------------------------------------------------


def test_blank_lines_of_a_jsonl_are_skipped_and_unknown_keys_ignored(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('\n{"env":"e","id":"a","extra":1}\r\n\n   \n{"env":"e","id":"b"}')

    assert [task.id for task in Taskset.from_file(file)] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"env":"e"', "Invalid JSON"),
        ("[1, 2]", "expected a task"),
        ('{"env":"e"}', "id: Field required"),
        ('{"env":7,"id":"x"}', "env: Input should be a valid string"),
        ('{"env":"e","id":"x","args":[]}', "args: Input should be"),
        ('\x00{"env"', "Invalid JSON"),
        ('{"env":"\ud800","id":"x"}', "Invalid JSON"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "rows.jsonl"
    good = '{"env":"e","id":"add","args":{"a":%d}}\n'
    text = "".join(good % n for n in range(4)) + line + "\n" + good % 9
    file.write_bytes(text.encode("utf-8", "surrogatepass"))

    with pytest.raises(ValueError, match="line 5") as caught:
        Taskset.from_file(file)
    assert said in str(caught.value)
    assert 'expected a task, {"env": name' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_row_of_a_json_is_named_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"env": "e", "id": "a"}, {"env": "e"}]))
    with pytest.raises(ValueError, match=r"rows.json, row 2: id: Field required"):
        Taskset.from_file(file)
    file.write_text("{")
    with pytest.raises(ValueError, match="it is no JSON"):
        Taskset.from_file(file)


def test_the_collector_goes_on_after_a_file_that_was_wrong(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"env": "e", "id": "a"}\n' * 2)

    with pytest.raises(ValueError, match="both have the slug"):
        Taskset.from_file(file)
    assert gc.isenabled()


def test_one_object_is_a_set_of_one_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text('{"env": "e", "id": "a"}')

    assert [task.id for task in Taskset.from_file(file)] == ["a"]


def test_other_suffixes_are_refused_with_a_sentence(tmp_path: Path) -> None:
    for name, said in (("rows.csv", "written for people"), ("rows.yaml", "expected a folder or one of")):
        (tmp_path / name).write_text("")
        with pytest.raises(ValueError, match=said):
            Taskset.from_file(tmp_path / name)
    with pytest.raises(ValueError, match="expected one of"):
        Taskset("some", [row()]).to_file(tmp_path / "rows.txt")
    with pytest.raises(FileNotFoundError):
        Taskset.from_file(tmp_path / "nothing.json")


def test_an_empty_set_is_an_empty_file_of_lines(tmp_path: Path) -> None:
    assert Taskset("none").to_file(tmp_path / "rows.jsonl").read_bytes() == b""
    assert len(Taskset.from_file(tmp_path / "rows.jsonl")) == 0


def test_a_table_has_a_column_for_every_argument(tmp_path: Path) -> None:
    tasks = [row(slug="x", args={"b": [1, "é"], "a": 1}), row(slug="y", args={"c": "text, with comma"})]
    file = Taskset("some", tasks).to_file(tmp_path / "rows.csv")

    with file.open(newline="") as lines:
        assert list(csv.reader(lines)) == [
            ["slug", "id", "env", "arg:a", "arg:b", "arg:c"],
            ["x", "add", "e", "1", '[1, "é"]', ""],
            ["y", "add", "e", "", "", "text, with comma"],
        ]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    Taskset("some", [row(slug="x")]).to_file(file)
    with pytest.raises(Exception, match="serialize"):
        Taskset("some", [row(slug="y", args={"value": object()})]).to_file(file)

    assert [task.slug for task in Taskset.from_file(file)] == ["x"]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


# --- Python -------------------------------------------------------------------------------------------------

SOURCE = """
from taskloom.evals import Environment, Task, Taskset
import beside
env = Environment("sums")
@env.template()
async def add(a: int, b: int):
    yield f"{a} + {b}"
    yield 1.0
zulu = [add(1, 2), add(3, 4)]
alpha = Taskset("more", [add(5, 6)])
again = zulu
_hidden = add(7, 8)
number = beside.VALUE
"""


def test_public_tasks_lists_and_tasksets_are_found_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "rows.py").write_text(SOURCE)
    (tmp_path / "beside.py").write_text("VALUE = 1\n")

    taskset = Taskset.from_file(tmp_path / "rows.py")

    # alphabetical by name, each once: `again` comes before `alpha`
    assert [task.args["a"] for task in taskset] == [1, 3, 5]
    assert {task.source for task in taskset} == {str((tmp_path / "rows.py").resolve())}


def test_a_folder_skips_what_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from taskloom.evals import Task\none = Task(env='e', id='one')\n")
    (tmp_path / "b.py").write_text("import a_package_that_is_not_there\n")
    (tmp_path / "conftest.py").write_text("raise RuntimeError('not looked at')\n")

    assert [task.id for task in Taskset.from_file(tmp_path)] == ["one"]
    (tmp_path / "a.py").unlink()
    with pytest.raises(ValueError, match=r"not imported: b\.py: No module named 'a_package"):
        Taskset.from_file(tmp_path)


def test_a_source_that_raises_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        Taskset.from_file(tmp_path / "a.py")


def test_a_module_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows_of_mine.py").write_text("from taskloom.evals import Task\none = Task(env='e', id='one')\n")
    monkeypatch.syspath_prepend(tmp_path)

    taskset = Taskset.from_module("rows_of_mine")

    assert (taskset.name, [task.id for task in taskset]) == ("rows_of_mine", ["one"])
    with pytest.raises(FileNotFoundError):
        Taskset.from_module("no_module_of_mine")


def test_rows_that_other_editors_wrote_are_read(tmp_path: Path) -> None:
    text = '{"env": "e", "id": "t", "args": {"n": 1}}\r\n\r\n  \r\n{"env": "e", "id": "t", "args": {"n": 2}}'
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [row.args for row in Taskset.from_file(tmp_path / "rows.jsonl")] == [{"n": 1}, {"n": 2}]


def test_a_document_that_is_nested_too_deeply_is_named(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(ValueError, match=r"deep\.json: it is no JSON"):
        Taskset.from_file(tmp_path / "deep.json")
