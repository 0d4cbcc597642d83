"""Of weights that were replaced before they were sent only the newest travel; what else was told of the model stays."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.conftest import House
from tests.unit.journal.test_shipping import Script, address

from taskloom.domain.artifact import Model, ModelLink
from taskloom.domain.status import Status
from taskloom.journal import layout
from taskloom.journal.post import Post
from taskloom.journal.shipping import Shipping
from taskloom.journal.weights import BYTES as WEIGHTS
from taskloom.journal.weights import newest_weights
from taskloom.sdk.identity import new_id
from taskloom.wire.operations import BLOB_STATUS, GET_MODEL, GET_TASK
from taskloom.wire.records import ModelStored, Record


def spooled(script: Script, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    files = script.folder / layout.FILES_FOLDER
    files.mkdir(exist_ok=True)
    (files / digest).write_bytes(data)
    return digest


def first(model: str, digest: str) -> ModelStored:
    told = Model(model, "net", digest=digest, framework="PyTorch", comment="a comment", iteration=0)
    return ModelStored(model=told, link=ModelLink("net", model))


def later(model: str, digest: str, iteration: int) -> ModelStored:
    told = Model(model, "net", digest=digest, iteration=iteration)
    return ModelStored(model=told, link=ModelLink("net", model), changed=(*WEIGHTS, "iteration"))


def test_only_the_newest_weights_of_a_model_stay_in_a_batch() -> None:
    a, b = new_id(), new_id()
    comment = ModelStored(model=Model(a, "net", comment="later"), changed=("comment",))
    records: list[Record] = [first(a, "1" * 64), first(b, "2" * 64), later(a, "3" * 64, 1), comment]
    found = newest_weights(records)
    assert found[1:] == records[1:]
    bare = found[0]
    assert isinstance(bare, ModelStored)
    assert bare.model == Model(a, "net", framework="PyTorch", comment="a comment", iteration=0)
    assert set(bare.changed).isdisjoint(WEIGHTS)
    assert {"name", "framework", "comment"} <= set(bare.changed)


def test_a_record_of_nothing_but_weights_does_not_come_to_mean_everything() -> None:
    model = new_id()
    one = ModelStored(model=Model(model, digest="1" * 64), changed=WEIGHTS)
    bare = newest_weights([one, later(model, "2" * 64, 1)])[0]
    assert isinstance(bare, ModelStored)
    assert bare.changed
    assert set(bare.changed).isdisjoint(WEIGHTS)


def test_weights_that_were_removed_before_they_were_sent_do_not_travel() -> None:
    model = new_id()
    removed = ModelStored(
        model=Model(model, "net", fingerprint="1" * 64, system_tags=("removed",)),
        changed=("digest", "uri", "fingerprint", "system_tags"),
    )
    bare = newest_weights([first(model, "1" * 64), removed])[0]
    assert isinstance(bare, ModelStored)
    assert (bare.model.digest, bare.model.comment) == ("", "a comment")


def test_replaced_weights_are_not_sent_and_nothing_else_is_lost(house: House, tmp_path: Path) -> None:
    script, model = Script(tmp_path / "journal").open(), new_id()
    digests = [spooled(script, f"epoch {n}".encode()) for n in range(5)]
    script.writer.record(first(model, digests[0]))
    for number, digest in enumerate(digests[1:], 1):
        script.writer.record(later(model, digest, number))
    (script.folder / layout.FILES_FOLDER / digests[0]).unlink()  # who wrote the next ones removed it
    script.end()
    going = Shipping(script.folder, Post(address(house)))
    assert not going.step().waiting
    found = house.client.call(GET_MODEL, model=model)
    assert (found.digest, found.iteration, found.comment) == (digests[4], 4, "a comment")
    assert [house.client.call(BLOB_STATUS, digest=d).complete for d in digests] == [False] * 4 + [True]
    assert going.clean()


def test_a_model_whose_weights_are_gone_is_told_without_them(house: House, tmp_path: Path) -> None:
    script, model = Script(tmp_path / "journal").open(), new_id()
    script.writer.record(first(model, "0" * 64))
    script.edit(comment="after").end()
    notes: list[str] = []
    assert not Shipping(script.folder, Post(address(house)), notes.append).step().waiting
    task = house.client.call(GET_TASK, task=script.task)
    assert (task.comment, task.status) == ("after", Status.COMPLETED)
    found = house.client.call(GET_MODEL, model=model)
    assert (found.name, found.digest, found.framework) == ("net", "", "PyTorch")
    assert any("weights" in note for note in notes)
