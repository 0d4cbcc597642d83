"""ClearML's task document and our task, both ways: what goes in by one comes back by the other."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.artifact import ModelLink
from taskloom.domain.execution import Execution
from taskloom.domain.metrics import SeriesSummary
from taskloom.domain.parameters import Parameter
from taskloom.domain.status import Status
from taskloom.domain.task import ConfigurationObject, Property, Task, TaskType, apply_edit
from taskloom.server.compat.clearml.documents import (
    OURS,
    STATUSES,
    edit_of,
    hashed,
    moment,
    seconds_of,
    task_document,
)
from taskloom.server.compat.clearml.executions import requirements_edit
from taskloom.server.compat.clearml.people import People

PEOPLE = People([("u" * 32, "ada")])
ORIGIN = "http://here:1"
BLANK = Task(id="a" * 32, name="some task", project="some/project")

words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
names = words.filter(bool)
items = st.fixed_dictionaries({"value": words, "type": words, "description": words})
values = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
scripts = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("repository", "branch", "tag", "version_num", "entry_point", "working_dir", "diff"), words
        ),
        "binary": st.sampled_from(["python3.11", "/usr/bin/python3.9", "python3", "bash", "", "python"]),
        "requirements": st.dictionaries(st.sampled_from(["pip", "conda", "org_pip", "poetry"]), names),
    },
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("another name"),
        "comment": words,
        "tags": st.lists(names, unique=True, max_size=3),
        "system_tags": st.lists(names, unique=True, max_size=3),
        "type": st.sampled_from([kind.value for kind in TaskType]),
        "parent": st.just("b" * 32),
        "script": scripts,
        "container": st.dictionaries(
            st.sampled_from(["image", "arguments", "setup_shell_script", "extra"]), names
        ),
        "hyperparams": st.dictionaries(names, st.dictionaries(names, items, min_size=1, max_size=3), max_size=3),
        "configuration": st.dictionaries(names, items, max_size=3),
        "runtime": st.dictionaries(names, values, max_size=3),
        "execution": st.dictionaries(
            st.sampled_from(["model_labels", "framework", "test_split", "dataviews"]),
            st.dictionaries(names, st.integers(0, 9), min_size=1),
        ),
        "input": st.dictionaries(names, values, min_size=1, max_size=2),
    },
)


def told(task: Task) -> dict[str, Any]:
    return task_document(task, PEOPLE, ORIGIN)


def bare(value: Any) -> Any:
    """Without what a client leaves out when it sends a document: fields that hold nothing."""
    if not isinstance(value, dict):
        return value
    return {name: bare(item) for name, item in value.items() if item is not None}


def sent_back(document: dict[str, Any]) -> dict[str, Any]:
    """What an edit takes of a whole document: `Task.import_task` sends it so."""
    fields = ("name", "comment", "tags", "system_tags", "type", "parent", "script", "container", "hyperparams")
    more = ("configuration", "runtime", "input")
    execution = {name: value for name, value in document["execution"].items() if name != "artifacts"}
    return bare({**{n: document.get(n) for n in (*fields, *more)}, "execution": execution})


@given(documents)
def test_what_is_edited_is_told(fields: dict[str, Any]) -> None:
    task = apply_edit(BLANK, edit_of(fields, BLANK))
    document = told(task)
    for name in ("name", "comment", "tags", "system_tags", "type", "parent"):
        assert fields.get(name, document[name]) == document[name]
    for name, value in fields.get("script", {}).items():
        assert document["script"][name] == value
    for name, value in fields.get("container", {}).items():
        assert document["container"][name] == value
    for name, value in fields.get("execution", {}).items():
        assert document["execution"][name] == value
    if "hyperparams" in fields:
        given_values = {
            (s, n): (i["value"], i["type"] or None)
            for s, names in fields["hyperparams"].items()
            for n, i in names.items()
        }
        told_values = {
            (s, n): (i["value"], i["type"])
            for s, names in document["hyperparams"].items()
            for n, i in names.items()
        }
        assert told_values == given_values
    if "configuration" in fields:
        assert {n: c["value"] for n, c in document["configuration"].items()} == {
            n: c["value"] for n, c in fields["configuration"].items()
        }
    if "input" in fields:
        assert document["input"] == fields["input"]


@given(documents)
def test_a_whole_document_sent_back_changes_nothing(fields: dict[str, Any]) -> None:
    task = apply_edit(BLANK, edit_of(fields, BLANK))
    edit = edit_of(sent_back(told(task)), task)
    assert apply_edit(task, edit) == task


@given(documents)
def test_a_document_makes_the_same_task_elsewhere(fields: dict[str, Any]) -> None:
    """Exported and imported: what the client sends of one task makes another that is told alike."""
    first = apply_edit(BLANK, edit_of(fields, BLANK))
    second = apply_edit(BLANK, edit_of(sent_back(told(first)), BLANK))
    assert bare(told(second)) == bare(told(first))


@given(documents)
def test_a_document_is_json(fields: dict[str, Any]) -> None:
    document = told(apply_edit(BLANK, edit_of(fields, BLANK)))
    assert msgspec.json.decode(msgspec.json.encode(document)) == document


def test_every_state_has_a_word_and_every_word_a_state() -> None:
    assert set(STATUSES) == set(Status)
    assert {OURS[word] for word in STATUSES.values()} == set(Status)
    assert OURS["closed"] is Status.COMPLETED
    for status in Status:
        assert OURS[told(msgspec.structs.replace(BLANK, status=status))["status"]] is status


def test_a_task_of_our_sdk_is_told_as_clearmls_agent_runs_it() -> None:
    execution = Execution(
        entry_point="train.py",
        diff="print(1)\n",
        packages="# Python 3.11.7 (CPython, linux x86_64)\nnumpy==1.26.4\n",
        python="3.11.7",
        arguments=("--rate", "0.1 or so"),
    )
    script = told(msgspec.structs.replace(BLANK, execution=execution))["script"]
    assert script["binary"] == "python3.11"
    assert script["entry_point"] == "train.py --rate '0.1 or so'"
    assert script["working_dir"] == "."
    assert script["diff"] == "print(1)\n"
    assert script["requirements"] == {"pip": execution.packages}
    same = edit_of({"script": script}, msgspec.structs.replace(BLANK, execution=execution))
    assert same.execution is None, "the exact version and the arguments stay"


def test_the_last_values_are_named_by_their_hash() -> None:
    series = SeriesSummary("loss", "train", 3, 0.5, 7, 0.25, 2, "NaN", 5)
    document = told(msgspec.structs.replace(BLANK, metrics=(series,)))
    value = document["last_metrics"][hashed("loss")][hashed("train")]
    assert (value["metric"], value["variant"], value["value"], value["count"]) == ("loss", "train", 0.5, 3)
    assert (value["min_value"], value["min_value_iteration"]) == (0.25, 2)
    assert value["max_value"] is None, "clients take a number or nothing"
    assert document["unique_metrics"] == ["loss/train"]


def test_progress_stands_in_the_runtime() -> None:
    task = apply_edit(BLANK, edit_of({"runtime": {"progress": "42", "other": 1}}, BLANK))
    assert (task.progress, task.runtime) == (42.0, {"other": 1})
    assert told(task)["runtime"] == {"other": 1, "progress": "42"}
    odd = apply_edit(BLANK, edit_of({"runtime": {"progress": "soon"}}, BLANK))
    assert (odd.progress, told(odd)["runtime"]) == (None, {"progress": "soon"})


def test_old_flat_parameters_are_arguments() -> None:
    old = {"execution": {"parameters": {"lr": 0.1, "Section/x": True}, "model_desc": {"design": "net"}}}
    task = apply_edit(BLANK, edit_of(old, BLANK))
    assert task.parameters["Args"]["lr"] == Parameter("0.1", "legacy")
    assert task.parameters["Section"]["x"] == Parameter("True", "legacy")
    assert task.configuration["design"] == ConfigurationObject("net", "legacy")
    assert told(task)["execution"]["parameters"] == {"lr": "0.1", "Section/x": "True"}
    assert told(task)["execution"]["model_desc"] == {"design": "net"}


def test_an_old_docker_command_is_an_image_with_arguments() -> None:
    task = apply_edit(BLANK, edit_of({"execution": {"docker_cmd": "nvcr.io/x:1 --ipc=host -e A=1"}}, BLANK))
    assert (task.execution.image, task.execution.image_arguments) == ("nvcr.io/x:1", "--ipc=host -e A=1")
    assert told(task)["container"]["image"] == "nvcr.io/x:1"


def test_user_properties_are_a_section() -> None:
    task = apply_edit(BLANK, edit_of({"hyperparams": {"properties": {"owner": {"value": "me"}}}}, BLANK))
    assert task.properties == {"owner": Property("me")}
    assert task.parameters == {}
    assert told(task)["hyperparams"]["properties"]["owner"]["value"] == "me"


def test_requirements_are_set_alone() -> None:
    task = apply_edit(BLANK, requirements_edit(BLANK, {"pip": ["a==1", "b"], "conda": "c", "org_pip": None}))
    assert task.execution.packages == "a==1\nb"
    assert task.execution.foreign == {"requirements": {"conda": "c"}}
    cleared = apply_edit(task, requirements_edit(task, {}))
    assert (cleared.execution.packages, cleared.execution.foreign) == ("", {})


def test_links_people_and_moments() -> None:
    links = (ModelLink("in", "1" * 32, "input"), ModelLink("out", "2" * 32))
    task = msgspec.structs.replace(BLANK, models=links, user="ada", created=1.5, parent="c" * 32, queue="q" * 32)
    document = told(task)
    assert document["models"] == {
        "input": [{"name": "in", "model": "1" * 32}],
        "output": [{"name": "out", "model": "2" * 32}],
    }
    assert document["output"]["model"] == "2" * 32
    assert (document["user"], document["created"]) == ("u" * 32, "1970-01-01T00:00:01.500000+00:00")
    assert document["execution"]["queue"] == "q" * 32
    assert seconds_of("1970-01-01T00:00:01.500000+00:00") == 1.5
    assert moment(0.0) is None
    assert moment(1e300) is None, "no calendar has it"
    stranger = PEOPLE.id_of("stranger")
    assert stranger == PEOPLE.id_of("stranger") != PEOPLE.id_of("other")
    assert PEOPLE.name_of("u" * 32) == "ada"
