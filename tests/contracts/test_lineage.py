"""What tasks made and used, known again by the bytes: on SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest
from tests.conftest import House
from tests.contracts.test_task_journals import upload
from tests.journals import Run, fresh_id

from taskloom.domain.artifact import Artifact, Model, ModelLink
from taskloom.domain.errors import BadInput, IllegalMove, NotFound
from taskloom.domain.evaluation import EvalJob
from taskloom.wire.messages import (
    Condition,
    Lineage,
    LineageQuery,
    ModelEdit,
    ModelQuery,
    MoveRequest,
    TaskClone,
    TaskCreate,
    TaskDelete,
)
from taskloom.wire.operations import (
    CLONE_TASK,
    CREATE_TASK,
    DELETE_TASK,
    EDIT_MODEL,
    GET_MODEL,
    LINK_MODEL,
    MODEL_LINEAGE,
    PUBLISH_TASK,
    QUERY_MODELS,
    RESET_TASK,
    TASK_LINEAGE,
)
from taskloom.wire.records import ArtifactStored, ArtifactUsed, JobStored, ModelStored, ModelUsed


def print_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def made(run: Run, name: str = "net", **fields: Any) -> Model:
    """A model that a run tells it has made."""
    model = Model(fresh_id(), name, **{"created": time.time(), **fields})
    run.say(ModelStored(model=model, link=ModelLink(name, model.id))).ship()
    return model


def used(fingerprint: str = "", uri: str = "", name: str = "", framework: str = "") -> ModelUsed:
    return ModelUsed(fingerprint=fingerprint, uri=uri, name=name, framework=framework, time=time.time())


def inputs(run: Run) -> dict[str, str]:
    return {link.name: link.model for link in run.seen().models if link.direction == "input"}


# --- models -----------------------------------------------------------------------------------------------


def test_a_loaded_file_is_the_model_with_the_same_bytes_wherever_it_lies(any_house: House) -> None:
    maker = Run(any_house.client).open(name="trains it")
    held = made(maker, "held", digest=upload(any_house, b"held by the server"))
    elsewhere = made(maker, "elsewhere", uri="file:///models/a.pt", fingerprint=print_of(b"on a disk"))
    user = Run(any_house.client).open(name="uses them")
    user.say(used(print_of(b"held by the server"), "file:///copies/x.pt", "x"))
    user.say(used(print_of(b"on a disk"), "file:///copies/y.pt", "y")).ship()
    assert inputs(user) == {"x": held.id, "y": elsewhere.id}


def test_a_folder_that_was_packed_is_known_by_its_files_and_by_the_zip_file(any_house: House) -> None:
    maker = Run(any_house.client).open()
    digest = upload(any_house, b"a zip file")
    held = made(maker, "held", digest=digest, contents=print_of(b"a folder"))
    elsewhere = made(maker, "far", uri="s3://b/x.zip", fingerprint=print_of(b"zip"), contents=print_of(b"files"))
    user = Run(any_house.client).open()
    for name, fingerprint in (("folder", print_of(b"a folder")), ("files", print_of(b"files"))):
        user.say(used(fingerprint, f"file:///{name}", name))
    user.ship()
    assert inputs(user) == {"folder": held.id, "files": elsewhere.id}
    other = Run(any_house.client).open()
    other.say(used(digest, "file:///a.zip", "a")).say(used(print_of(b"zip"), "file:///b.zip", "b")).ship()
    assert inputs(other) == {"a": held.id, "b": elsewhere.id}


def test_loading_it_again_links_it_once(any_house: House) -> None:
    model = made(Run(any_house.client).open(), uri="file:///a.pt", fingerprint=print_of(b"a"))
    user = Run(any_house.client).open()
    user.say(used(print_of(b"a"), "file:///a.pt", "a")).say(used(print_of(b"a"), "file:///b.pt", "b")).ship()
    user.say(used(print_of(b"a"), "file:///a.pt", "a")).ship()
    assert inputs(user) == {"a": model.id}


def test_of_several_models_with_the_same_bytes_the_one_at_the_address_counts_then_the_newest(
    any_house: House,
) -> None:
    run = Run(any_house.client).open()
    same = {"fingerprint": print_of(b"same")}
    there = made(run, "there", uri="file:///there.pt", created=1.0, **same)
    newest = made(run, "newest", uri="file:///newest.pt", created=3.0, **same)
    made(run, "older", uri="file:///older.pt", created=2.0, **same)
    one, two = Run(any_house.client).open(), Run(any_house.client).open()
    one.say(used(print_of(b"same"), "file:///there.pt", "m")).ship()
    two.say(used(print_of(b"same"), "file:///copy.pt", "m")).ship()
    assert (inputs(one), inputs(two)) == ({"m": there.id}, {"m": newest.id})


def test_what_a_task_made_itself_is_no_input_of_it(any_house: House) -> None:
    run = Run(any_house.client).open()
    made(run, uri="file:///mine.pt", fingerprint=print_of(b"mine"))
    run.say(used(print_of(b"mine"), "file:///mine.pt", "mine")).say(used(uri="file:///mine.pt")).ship()
    assert inputs(run) == {}


def test_weights_that_nobody_told_of_become_a_model_once(any_house: House) -> None:
    fingerprint, uri = print_of(b"from the internet"), "file:///cache/bert.safetensors"
    one = Run(any_house.client).open(project="language")
    one.say(used(fingerprint, uri, "bert", "PyTorch")).ship()
    two = Run(any_house.client).open(project="other")
    two.say(used(fingerprint, "file:///elsewhere/bert.safetensors", "bert", "PyTorch")).ship()
    assert inputs(one) == inputs(two)
    model = any_house.client.call(GET_MODEL, model=inputs(one)["bert"])
    told = (model.name, model.uri, model.framework, model.fingerprint, model.task, model.project, model.published)
    assert told == ("bert", uri, "PyTorch", fingerprint, "", "language", False)
    asked = ModelQuery(where=[Condition(key="fingerprint", is_="=", value=fingerprint)])
    assert any_house.client.call(QUERY_MODELS, asked).total == 1


def test_without_a_fingerprint_the_address_tells(any_house: House) -> None:
    known = made(Run(any_house.client).open(), uri="s3://bucket/a.pt", fingerprint=print_of(b"a"))
    user = Run(any_house.client).open()
    user.say(used(uri="s3://bucket/a.pt", name="a")).say(used(uri="s3://bucket/b.pt", name="b")).ship()
    again = Run(any_house.client).open()
    again.say(used(uri="s3://bucket/b.pt", name="b")).ship()
    assert inputs(user)["a"] == known.id
    assert inputs(again) == {"b": inputs(user)["b"]}


def test_other_bytes_at_the_same_address_are_another_model(any_house: House) -> None:
    before = made(Run(any_house.client).open(), uri="file:///a.pt", fingerprint=print_of(b"old"))
    user = Run(any_house.client).open()
    user.say(used(print_of(b"new"), "file:///a.pt", "a")).ship()
    assert inputs(user)["a"] != before.id


def test_an_address_about_whose_bytes_nothing_is_known_is_taken_for_them(any_house: House) -> None:
    unread = made(Run(any_house.client).open(), uri="file:///a.pt")
    user = Run(any_house.client).open()
    user.say(used(print_of(b"bytes"), "file:///a.pt", "a")).ship()
    assert inputs(user) == {"a": unread.id}


def test_two_files_of_one_name_are_two_inputs(any_house: House) -> None:
    run = Run(any_house.client).open()
    for number in range(3):
        run.say(used(print_of(b"%d" % number), f"file:///{number}/best.pt", "best"))
    run.ship()
    assert list(inputs(run)) == ["best", "best (2)", "best (3)"]
    assert len(set(inputs(run).values())) == 3


def test_new_weights_have_another_fingerprint(any_house: House) -> None:
    model = made(Run(any_house.client).open(), uri="file:///a.pt", fingerprint=print_of(b"a"))
    digest = upload(any_house, b"stored now")
    edited = any_house.client.call(EDIT_MODEL, ModelEdit(digest=digest, uri=""), model=model.id)
    assert edited.fingerprint == ""
    user = Run(any_house.client).open()
    user.say(used(print_of(b"a"), "", "old")).say(used(digest, "", "now")).ship()
    assert inputs(user)["now"] == model.id != inputs(user)["old"]


@pytest.mark.parametrize(
    "record",
    [
        used("not a digest", "file:///a"),
        used(),
        used(uri="file:///a\0"),
        used(uri="file:///" + "a" * 9000),
        ModelUsed(uri="file:///a", time=float("nan")),
    ],
)
def test_a_record_that_cannot_be_meant_is_refused(any_house: House, record: ModelUsed) -> None:
    run = Run(any_house.client).open()
    run.ship()
    with pytest.raises(BadInput):
        run.say(record).ship()
    assert inputs(run) == {}


# --- what a run tells of its models again and again -------------------------------------------------------


def test_a_run_changes_only_the_fields_that_it_tells(any_house: House) -> None:
    run = Run(any_house.client).open()
    model = made(run, uri="file:///a.pt", iteration=1, tags=("first",), metadata={"by": "run"})
    any_house.client.call(EDIT_MODEL, ModelEdit(tags=("mine",), comment="best so far"), model=model.id)
    later = Model(model.id, uri="file:///a.pt", iteration=2, metadata={"loss": 0.1})
    changed = ("uri", "iteration", "metadata")
    run.say(ModelStored(model=later, link=ModelLink("net", model.id), changed=changed)).ship()
    now = any_house.client.call(GET_MODEL, model=model.id)
    assert (now.iteration, now.tags, now.comment) == (2, ("mine",), "best so far")
    assert (now.name, now.metadata) == ("net", {"by": "run", "loss": 0.1})


def test_a_model_of_which_only_changes_came_is_made_of_them(any_house: House) -> None:
    run = Run(any_house.client).open()
    model = Model(fresh_id(), "net", uri="file:///a.pt", iteration=7)
    run.say(ModelStored(model=model, link=ModelLink("net", model.id), changed=("uri", "iteration"))).ship()
    now = any_house.client.call(GET_MODEL, model=model.id)
    assert (now.name, now.uri, now.iteration, now.task) == ("net", "file:///a.pt", 7, run.task)


def test_a_field_that_no_model_has_is_refused(any_house: House) -> None:
    run = Run(any_house.client).open()
    model = made(run)
    with pytest.raises(BadInput, match="has no 'weights'"):
        run.say(ModelStored(model=Model(model.id), changed=("weights",))).ship()


# --- artifacts that were read -----------------------------------------------------------------------------


def lineage(house: House, task: Run | None = None, model: str = "", **asked: Any) -> Lineage:
    query = LineageQuery(**asked)
    if task is not None:
        return house.client.call(TASK_LINEAGE, query=query, task=task.task)
    return house.client.call(MODEL_LINEAGE, query=query, model=model)


def reads(run: Run, source: Run, name: str) -> Run:
    run.say(ArtifactUsed(task=source.task, name=name, time=time.time())).ship()
    return run


def arrows(found: Lineage) -> set[str]:
    """`data -read table-> train`"""
    names = {node.id: node.name for node in found.nodes}
    return {f"{names[e.source]} -{e.relation} {e.name}-> {names[e.target]}" for e in found.edges}


def steps(found: Lineage) -> dict[str, int]:
    return {node.name: node.steps for node in found.nodes}


def data_to_evaluation(house: House) -> tuple[Run, Run, Model, Run]:
    """A table, a model trained with it, an evaluation of the model that reads the table as well."""
    data = Run(house.client).open(name="data")
    data.say(ArtifactStored(artifact=Artifact("table", digest=upload(house, b"1,2,3")))).ship()
    train = reads(Run(house.client).open(name="train"), data, "table")
    model = made(train, "net", uri="file:///net.pt", fingerprint=print_of(b"net"), framework="PyTorch")
    evaluate = Run(house.client).open(name="evaluate").say(used(print_of(b"net"), "file:///x.pt", "x"))
    reads(evaluate, data, "table")
    return data, train, model, evaluate


def test_lineage_is_walked_both_ways(any_house: House) -> None:
    data, train, model, evaluate = data_to_evaluation(any_house)
    ways = {"data -read table-> train", "train -made net-> net", "net -loaded x-> evaluate"}
    direct = "data -read table-> evaluate"
    assert arrows(lineage(any_house, data)) == {*ways, direct}
    assert arrows(lineage(any_house, train)) == ways
    assert arrows(lineage(any_house, model=model.id)) == ways
    assert arrows(lineage(any_house, evaluate)) == {*ways, direct}
    assert steps(lineage(any_house, data)) == {"data": 0, "train": 1, "net": 2, "evaluate": 1}
    assert steps(lineage(any_house, train)) == {"train": 0, "data": -1, "net": 1, "evaluate": 2}
    assert steps(lineage(any_house, model=model.id)) == {"net": 0, "train": -1, "data": -2, "evaluate": 1}
    assert steps(lineage(any_house, evaluate)) == {"evaluate": 0, "data": -1, "net": -1, "train": -2}


def test_a_node_tells_what_it_is_and_an_edge_which_bytes_were_read(any_house: House) -> None:
    data, train, model, _ = data_to_evaluation(any_house)
    found = lineage(any_house, model=model.id)
    assert (found.root, found.complete) == (model.id, True)
    nodes = {node.name: node for node in found.nodes}
    assert found.nodes[0].name == "net"
    net, task = nodes["net"], nodes["train"]
    assert (net.kind, net.id, net.project, net.type, net.gone) == ("model", model.id, "tests", "PyTorch", False)
    assert (task.kind, task.id, task.project, task.type) == ("task", train.task, "tests", "training")
    assert task.status == "running"
    (edge,) = [edge for edge in found.edges if edge.relation == "read"]
    assert (edge.source, edge.target, edge.digest) == (data.task, train.task, hashlib.sha256(b"1,2,3").hexdigest())


def test_one_direction_only(any_house: House) -> None:
    _, train, _, _ = data_to_evaluation(any_house)
    assert steps(lineage(any_house, train, direction="upstream")) == {"train": 0, "data": -1}
    assert steps(lineage(any_house, train, direction="downstream")) == {"train": 0, "net": 1, "evaluate": 2}


def test_clones_and_models_made_from_models_belong_to_it(any_house: House) -> None:
    first = Run(any_house.client).open(name="first")
    base = made(first, "base")
    first.end().ship()
    clone = any_house.client.call(CLONE_TASK, TaskClone(name="clone"), task=first.task)
    tuner = Run(any_house.client).open(name="tuner")
    made(tuner, "tuned", parent=base.id)
    assert arrows(lineage(any_house, first, direction="downstream")) == {
        "first -made base-> base",
        "first -parent -> clone",
        "base -parent -> tuned",
    }
    back = any_house.client.call(TASK_LINEAGE, query=LineageQuery(), task=clone.id)
    assert arrows(back) == {"first -parent -> clone"}


def test_circles_end(any_house: House) -> None:
    one, two = Run(any_house.client).open(name="one"), Run(any_house.client).open(name="two")
    for run in (one, two):
        run.ship()
    reads(one, two, "b")
    reads(two, one, "a")
    assert arrows(lineage(any_house, one)) == {"one -read a-> two", "two -read b-> one"}


def test_what_was_deleted_is_told_as_gone(any_house: House) -> None:
    data, train, model, evaluate = data_to_evaluation(any_house)
    any_house.client.call(DELETE_TASK, query=TaskDelete(force=True), task=data.task)
    found = lineage(any_house, train)
    gone = {node.id: (node.kind, node.gone) for node in found.nodes if node.gone}
    assert gone == {data.task: ("task", True)}
    any_house.client.call(DELETE_TASK, query=TaskDelete(force=True), task=train.task)
    left = lineage(any_house, evaluate)  # its model is used, so it stays; who made it is gone
    assert {n.id: n.gone for n in left.nodes} == {
        evaluate.task: False,
        data.task: True,
        model.id: False,
        train.task: True,
    }
    with pytest.raises(NotFound):
        lineage(any_house, train)


def test_a_reset_forgets_what_was_read_and_a_clone_has_read_nothing(any_house: House) -> None:
    data, train, _, _ = data_to_evaluation(any_house)
    train.end().ship()
    clone = any_house.client.call(CLONE_TASK, TaskClone(), task=train.task)
    upstream = any_house.client.call(
        TASK_LINEAGE, query=LineageQuery(depth=1, direction="upstream"), task=clone.id
    )
    assert [e.relation for e in upstream.edges] == ["parent"]
    any_house.client.call(RESET_TASK, MoveRequest(), task=train.task)
    assert lineage(any_house, train, direction="upstream").edges == []
    assert "train" not in steps(lineage(any_house, data))


def test_bounds_cut_it_and_say_so(any_house: House) -> None:
    first = Run(any_house.client).open(name="first")
    first.end().ship()
    for _ in range(12):
        any_house.client.call(CLONE_TASK, TaskClone(), task=first.task)
    cut = lineage(any_house, first, limit=5)
    assert (len(cut.nodes), len(cut.edges), cut.complete) == (5, 4, False)
    assert lineage(any_house, first, limit=13).complete
    chain = Run(any_house.client).open(name="chain 0")
    chain.ship()
    for number in range(1, 5):
        chain = reads(Run(any_house.client).open(name=f"chain {number}"), chain, "x")
    near = lineage(any_house, chain, depth=2)
    assert (steps(near), near.complete) == ({"chain 4": 0, "chain 3": -1, "chain 2": -2}, False)
    assert lineage(any_house, chain, depth=4).complete
    for wrong in ({"depth": 0}, {"depth": 101}, {"limit": 0}, {"limit": 1001}):
        with pytest.raises(BadInput):
            lineage(any_house, first, **wrong)  # type: ignore[arg-type]


def test_reading_ones_own_artifact_or_again_adds_nothing(any_house: House) -> None:
    data, train, _, _ = data_to_evaluation(any_house)
    reads(reads(train, data, "table"), train, "own")
    assert arrows(lineage(any_house, train, direction="upstream")) == {"data -read table-> train"}


@pytest.mark.parametrize(
    "record", [ArtifactUsed(task="no id", name="a", time=1.0), ArtifactUsed(task="a" * 32, name="", time=1.0)]
)
def test_a_use_that_cannot_be_meant_is_refused(any_house: House, record: ArtifactUsed) -> None:
    run = Run(any_house.client).open()
    run.ship()
    with pytest.raises(BadInput):
        run.say(record).ship()


# --- models that people choose ----------------------------------------------------------------------------


def test_a_draft_is_told_which_model_to_use_and_a_published_task_is_not(any_house: House) -> None:
    first = Run(any_house.client).open(name="first")
    one, two = made(first, "one"), made(first, "two")
    draft = any_house.client.call(CREATE_TASK, TaskCreate(name="a draft", project="tests"))
    for model in (one, two):
        linked = any_house.client.call(LINK_MODEL, ModelLink("start", model.id, "input"), task=draft.id)
    assert linked.models == (ModelLink("start", two.id, "input"),)
    with pytest.raises(BadInput, match="sideways"):
        any_house.client.call(LINK_MODEL, ModelLink("start", one.id, "sideways"), task=draft.id)
    with pytest.raises(NotFound):
        any_house.client.call(LINK_MODEL, ModelLink("start", fresh_id(), "input"), task=draft.id)
    first.end().ship()
    any_house.client.call(PUBLISH_TASK, MoveRequest(), task=first.task)
    with pytest.raises(IllegalMove):
        any_house.client.call(LINK_MODEL, ModelLink("start", one.id, "input"), task=first.task)


def test_an_evaluation_is_linked_to_the_task_that_trained_what_it_evaluated(any_house: House) -> None:
    trainer = Run(any_house.client).open(name="trains it")
    trainer.ship()
    job = Run(any_house.client).open(name="evaluates it")
    job.say(JobStored(job=EvalJob(id=job.task, name="evaluates it", trained_by=trainer.task))).ship()

    up = any_house.client.call(TASK_LINEAGE, query=LineageQuery(direction="upstream"), task=job.task)
    down = any_house.client.call(TASK_LINEAGE, query=LineageQuery(direction="downstream"), task=trainer.task)

    for found in (up, down):
        assert [(e.relation, e.source, e.target) for e in found.edges] == [("evaluated", trainer.task, job.task)]
        assert {node.id for node in found.nodes} == {trainer.task, job.task}
