"""What tasks made and used, known again by the bytes: on SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest
from tests.conftest import House
from tests.contracts.test_task_journals import upload
from tests.journals import Run, fresh_id

from taskloom.domain.artifact import Model, ModelLink
from taskloom.domain.errors import BadInput
from taskloom.wire.messages import Condition, ModelEdit, ModelQuery
from taskloom.wire.operations import EDIT_MODEL, GET_MODEL, QUERY_MODELS
from taskloom.wire.records import ModelStored, ModelUsed


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
