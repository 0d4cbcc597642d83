"""Models and lineage on the command line, against a real server."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.unit.cli.conftest import Begin, Run, Script

from taskloom.domain.artifact import Model, ModelLink
from taskloom.wire.records import ArtifactUsed, ModelStored, ModelUsed

PRINT = "f" * 64
DATA, TRAIN, TEST, NET = ("da" * 16, "12" * 16, "7e" * 16, "be" * 16)


@pytest.fixture
def family(begin: Begin) -> dict[str, Script]:
    """A table, a model made of it, a test of the model that reads the table as well."""
    data = begin("data", id=DATA)
    train = begin("train", id=TRAIN)
    train.tell(ArtifactUsed(task=DATA, name="table", time=1.0))
    net = Model(NET, "net", framework="PyTorch", uri="file:///net.pt", fingerprint=PRINT, size=1500, iteration=3)
    train.tell(ModelStored(model=net, link=ModelLink("net", NET)))
    test = begin("test", id=TEST)
    test.tell(ModelUsed(fingerprint=PRINT, uri="file:///copy.pt", name="copy", time=time.time()))
    test.tell(ArtifactUsed(task=DATA, name="table", time=2.0))
    train.ends("failed")
    return {"data": data, "train": train, "test": test}


def test_lineage_of_a_task_is_drawn_both_ways(taskloom: Run, family: dict[str, Script]) -> None:
    told = taskloom("task", "lineage", "shelf/train")
    assert (told.code, told.err) == (0, "")
    assert told.out.splitlines() == [
        "task 12121212 shelf/train (training, failed)",
        "",
        "came from",
        "└─ read table: task dadadada shelf/data (training, running)",
        "",
        "what came of it",
        "└─ made net: model bebebebe shelf/net (PyTorch)",
        "   └─ loaded by copy: task 7e7e7e7e shelf/test (training, running)",
    ]


def test_what_was_drawn_is_not_drawn_again(taskloom: Run, family: dict[str, Script]) -> None:
    assert taskloom("task", "lineage", TEST).out.splitlines() == [
        "task 7e7e7e7e shelf/test (training, running)",
        "",
        "came from",
        "├─ loaded copy: model bebebebe shelf/net (PyTorch)",
        "│  └─ made by net: task 12121212 shelf/train (training, failed)",
        "│     └─ read table: task dadadada shelf/data (training, running)",
        "└─ read table: task dadadada shelf/data (training, running)",
    ]


def test_lineage_of_a_model_one_way_and_bounded(taskloom: Run, family: dict[str, Script]) -> None:
    assert taskloom("model", "lineage", "net", "--downstream").out.splitlines() == [
        "model bebebebe shelf/net (PyTorch)",
        "",
        "what came of it",
        "└─ loaded by copy: task 7e7e7e7e shelf/test (training, running)",
    ]
    cut = taskloom("model", "lineage", "bebe", "--upstream", "--depth", "1")
    assert cut.out.splitlines()[-1] == "└─ made by net: task 12121212 shelf/train (training, failed)"
    assert "there is more" in cut.err


def test_lineage_as_json(taskloom: Run, family: dict[str, Script]) -> None:
    told = taskloom("task", "lineage", DATA, "--json").json
    assert (told["root"], told["complete"]) == (DATA, True)
    assert {(node["id"], node["steps"]) for node in told["nodes"]} == {(DATA, 0), (TRAIN, 1), (TEST, 1), (NET, 2)}
    edges = {(edge["relation"], edge["source"], edge["target"]) for edge in told["edges"]}
    assert edges == {("read", DATA, TRAIN), ("read", DATA, TEST), ("made", TRAIN, NET), ("loaded", NET, TEST)}


def test_a_task_without_any_lineage_says_so(taskloom: Run, begin: Begin) -> None:
    begin("alone", id=DATA)
    assert "nothing is known" in taskloom("task", "lineage", DATA).out


def test_models_are_listed_and_shown(taskloom: Run, family: dict[str, Script]) -> None:
    listed = taskloom("model", "list", "--project", "shelf")
    (line,) = [line for line in listed.out.splitlines() if "bebebebe" in line]
    assert line.split()[:6] == ["bebebebe", "shelf/net", "PyTorch", "3", "1.5", "kB"]
    assert [one["id"] for one in taskloom("model", "list", "--task", "shelf/train", "--json").json["models"]] == [
        NET
    ]
    assert taskloom("model", "list", "--published", "--json").json["models"] == []
    shown: Any = taskloom("model", "show", "shelf/net", "--json").json
    assert (shown["id"], shown["fingerprint"], shown["task"]) == (NET, PRINT, TRAIN)
    text = taskloom("model", "show", "net").out
    assert "file:///net.pt" in text
    assert PRINT in text


def test_a_published_model_and_one_in_use_are_deleted_by_force_only(
    taskloom: Run, family: dict[str, Script]
) -> None:
    used = taskloom("model", "delete", "net", "--yes")
    assert (used.code, "used by 1 tasks" in used.err) == (1, True)
    assert taskloom("model", "publish", "net", "--json").json["published"] is True
    assert taskloom("model", "delete", "net", "--yes").code == 1
    assert taskloom("model", "delete", "net", "--yes", "--force", "--json").code == 0
    assert taskloom("model", "show", NET).code == 1


def test_an_unknown_or_doubtful_model_is_told(taskloom: Run, family: dict[str, Script]) -> None:
    assert "no model 'other'" in taskloom("model", "show", "other").err
    family["data"].tell(ModelStored(model=Model("bebe" + "0" * 28, "twin"), link=ModelLink("twin", "")))
    assert "2 model ids" in taskloom("model", "show", "bebe").err
    assert taskloom("model", "show", "shelf/twin", "--json").json["name"] == "twin"
