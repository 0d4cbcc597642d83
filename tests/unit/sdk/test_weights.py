"""Weights that frameworks save and load: what is recorded of them, against a real server, in this process."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import House
from tests.unit.sdk.test_task import init

from taskloom import Model, Task
from taskloom.domain import artifact as domain
from taskloom.sdk import session as sessions
from taskloom.sdk.fingerprints import Prints, fingerprint, look_at
from taskloom.sdk.weights import Weights
from taskloom.wire.messages import ModelEdit
from taskloom.wire.operations import EDIT_MODEL, GET_MODEL, GET_TASK


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- fingerprints -----------------------------------------------------------------------------------------


def print_at(path: Path) -> str:
    lying = look_at(path)
    assert lying is not None
    return fingerprint(lying)


def test_a_file_has_the_fingerprint_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"bytes" * 1_000_000)
    (tmp_path / "empty").touch()
    assert print_at(tmp_path / "a") == sha(b"bytes" * 1_000_000)
    assert print_at(tmp_path / "empty") == sha(b"")


def test_a_folder_has_that_of_the_list_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "net/deep").mkdir(parents=True)
    (tmp_path / "net/deep/b").write_bytes(b"2")
    (tmp_path / "net/a").write_bytes(b"1")
    assert print_at(tmp_path / "net") == sha(f"{sha(b'1')}  a\n{sha(b'2')}  deep/b\n".encode())


def test_the_beginning_of_names_stands_for_the_files(tmp_path: Path) -> None:
    (tmp_path / "ckpt-1.index").write_bytes(b"1")
    (tmp_path / "ckpt-1.data").write_bytes(b"2")
    (tmp_path / "ckpt-10.index").write_bytes(b"3")
    expected = sha(f"{sha(b'2')}  ckpt-1.data\n{sha(b'1')}  ckpt-1.index\n".encode())
    assert print_at(tmp_path / "ckpt-1") == expected


def test_nothing_has_no_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert look_at(tmp_path / "folder") is None
    assert look_at(tmp_path / "missing") is None
    assert look_at(tmp_path / "no folder" / "missing") is None


def test_what_changed_since_somebody_looked_has_none(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"before")
    lying = look_at(file)
    assert lying is not None
    file.write_bytes(b"afterwards")
    assert fingerprint(lying) == ""
    file.unlink()
    assert fingerprint(lying) == ""


def test_of_wishes_with_one_key_the_newest_counts_and_the_end_answers_the_rest(tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    with endless.open("wb") as file:
        file.truncate(1 << 40)
    small = tmp_path / "small"
    small.write_bytes(b"small")
    prints, told = Prints(), list[tuple[str, str]]()
    looked = {path: look_at(path) for path in (endless, small)}

    def ask(key: str, path: Path, name: str) -> None:
        lying = looked[path]
        assert lying is not None
        prints.ask(key, lying, lambda found: told.append((name, found)))

    ask("first", endless, "endless")
    ask("a", small, "replaced")
    ask("a", small, "newest")
    prints.finish(0.1)
    assert sorted(told) == [("endless", ""), ("newest", "")]


# --- a live task ------------------------------------------------------------------------------------------


@pytest.fixture
def live(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., tuple[Task, Weights]]]:
    for name, value in (("TASKLOOM_URL", house.url), ("TASKLOOM_API_KEY", house.key)):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sessions.current, "seed", None)
    monkeypatch.setattr(sessions.current, "fetched", {})
    monkeypatch.chdir(tmp_path)

    def begin(name: str = "train", **more: object) -> tuple[Task, Weights]:
        task = init("weights", name, reuse_last_task_id=False, **more)
        assert sessions.current.session is not None
        return task, Weights(sessions.current.session)

    yield begin
    if sessions.current.session is not None:
        sessions.current.session.close()


Live = Callable[..., tuple[Task, Weights]]


def models(house: House, task: Task, direction: str = "output") -> dict[str, domain.Model]:
    links = house.client.call(GET_TASK, task=task.id).models
    return {x.name: house.client.call(GET_MODEL, model=x.model) for x in links if x.direction == direction}


def test_a_path_is_one_model_and_its_place_is_told(house: House, live: Live, tmp_path: Path) -> None:
    task, weights = live()
    for number in range(3):
        Path("net.pt").write_text(f"epoch {number}")
        weights.saved("net.pt", "PyTorch", iteration=number)
    task.close()
    ((name, model),) = models(house, task).items()
    assert name == model.name == "train - net"
    assert (model.uri, model.filename, model.size) == ((tmp_path / "net.pt").as_uri(), "net.pt", 7)
    assert (model.framework, model.iteration, model.task, model.project) == ("PyTorch", 2, task.id, "weights")
    assert (model.digest, model.fingerprint) == ("", sha(b"epoch 2"))


def test_files_of_one_name_and_other_frameworks_are_models_of_their_own(house: House, live: Live) -> None:
    task, weights = live()
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "net.pt").write_text(folder)
        weights.saved(Path(folder, "net.pt"), "PyTorch")
    weights.saved("b/net.pt", "Other")
    weights.saved("a/net.pt", "PyTorch", name="ignored, since it has one")
    weights.saved("s3://bucket/far.pt", "PyTorch", name="far")
    task.close()
    found = models(house, task)
    assert list(found) == ["train - net", "train - net (2)", "train - net (3)", "far"]
    assert found["far"].uri == "s3://bucket/far.pt"


def test_design_labels_and_metadata_are_told_once_and_what_people_change_stays(house: House, live: Live) -> None:
    task, weights = live()
    task.connect_label_enumeration({"cat": 0, "dog": 1})
    Path("net.pt").write_text("1")
    weights.saved("net.pt", "PyTorch", design={"layers": 2}, metadata={"epoch": 1, "best": True})
    assert task.flush(wait_for_uploads=True)
    (before,) = models(house, task).values()
    assert (before.labels, before.metadata) == ({"cat": 0, "dog": 1}, {"epoch": 1, "best": True})
    house.client.call(EDIT_MODEL, ModelEdit(design="mine", comment="keep it", tags=("best",)), model=before.id)
    Path("net.pt").write_text("22")
    weights.saved("net.pt", "PyTorch", design={"layers": 2}, metadata={"epoch": 2})
    task.close()
    (model,) = models(house, task).values()
    assert (model.design, model.comment, model.tags) == ("mine", "keep it", ("best",))
    assert (model.metadata, model.size) == ({"epoch": 2, "best": True}, 2)


def test_with_a_destination_the_bytes_are_copied_before_it_returns(house: House, live: Live) -> None:
    task, weights = live(output_uri=True)
    Path("net.pt").write_bytes(b"precious")
    weights.saved("net.pt", "PyTorch")
    Path("net.pt").unlink()
    task.close()
    (model,) = models(house, task).values()
    assert (model.digest, model.uri) == (sha(b"precious"), "")
    assert Path(Model(model.id).get_local_copy(raise_on_error=True) or "").read_bytes() == b"precious"


def test_copies_do_not_pile_up_while_the_server_is_away(house: House, live: Live) -> None:
    task, weights = live(output_uri=True)
    session = sessions.current.session
    assert session is not None
    house.stop()
    for number in range(100):
        Path("net.pt").write_bytes(b"%d" % number * 1000)
        weights.saved("net.pt", "PyTorch", iteration=number)
        Path("same.pt").write_bytes(b"always the same")
        weights.saved("same.pt", "PyTorch")
    assert {path.name for path in session.spool.iterdir()} == {sha(b"99" * 1000), sha(b"always the same")}
    house.start()
    task.close()
    found = models(house, task)
    assert (found["train - net"].digest, found["train - net"].iteration) == (sha(b"99" * 1000), 99)
    assert found["train - same"].digest == sha(b"always the same")


def test_the_bytes_of_another_model_are_not_removed_with_replaced_ones(house: House, live: Live) -> None:
    task, weights = live(output_uri=True)
    house.stop()
    for name in ("a.pt", "b.pt"):
        Path(name).write_bytes(b"shared")
        weights.saved(name, "PyTorch")
    Path("a.pt").write_bytes(b"newer")
    weights.saved("a.pt", "PyTorch")
    house.start()
    task.close()
    assert {name: model.digest for name, model in models(house, task).items()} == {
        "train - a": sha(b"newer"),
        "train - b": sha(b"shared"),
    }


def test_threads_may_save_at_the_same_time(house: House, live: Live) -> None:
    task, weights = live(output_uri=True)

    def save(number: int) -> None:
        for turn in range(20):
            Path(f"{number}.pt").write_text(f"{number} {turn}")
            weights.saved(f"{number}.pt", "PyTorch", iteration=turn)
            weights.loaded(f"{number}.pt", "PyTorch")

    threads = [threading.Thread(target=save, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    task.close()
    found = models(house, task)
    assert {name: model.digest for name, model in found.items()} == {
        f"train - {number}": sha(f"{number} 19".encode()) for number in range(6)
    }
    assert models(house, task, "input") == {}


def test_a_forked_process_saves_for_itself(house: House, live: Live) -> None:
    task, weights = live(output_uri=True)
    Path("parent.pt").write_text("parent")
    weights.saved("parent.pt", "PyTorch")
    child = os.fork()
    if child == 0:
        try:
            Path("child.pt").write_text("child")
            weights.saved("child.pt", "PyTorch")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    task.close()
    assert {name: model.digest for name, model in models(house, task).items()} == {
        "train - parent": sha(b"parent"),
        "train - child": sha(b"child"),
    }


# --- loading ----------------------------------------------------------------------------------------------


def test_what_this_process_saved_is_no_input_until_somebody_changed_it(house: House, live: Live) -> None:
    task, weights = live()
    Path("net.pt").write_text("mine")
    weights.saved("net.pt", "PyTorch")
    weights.loaded("net.pt", "PyTorch")
    assert task.flush(wait_for_uploads=True)
    assert task.models.input == []
    Path("net.pt").write_text("somebody else's")
    weights.loaded("net.pt", "PyTorch")
    assert [model.fingerprint for model in task.models.input] == [sha(b"somebody else's")]
    task.close()


def test_a_file_of_an_earlier_task_is_known_again(house: House, live: Live) -> None:
    first, weights = live("train")
    Path("net.pt").write_text("weights")
    weights.saved("net.pt", "PyTorch")
    first.close()
    Path("net.pt").rename("moved.pt")
    second, weights = live("use")
    for _ in range(3):
        weights.loaded("moved.pt", "PyTorch")
    second.close()
    (made,), (used,) = models(house, first).values(), models(house, second, "input").values()
    assert used.id == made.id
    (node,) = [node for node in Task.get_task(second.id).get_lineage().nodes if node.kind == "task" and node.steps]
    assert (node.id, node.steps) == (first.id, -2)


def test_a_copy_that_the_script_asked_for_is_that_very_model(house: House, live: Live) -> None:
    first, weights = live("train", output_uri=True)
    for name in ("a.pt", "b.pt"):
        Path(name).write_text("the same bytes")
        weights.saved(name, "PyTorch")
    first.close()
    older = models(house, first)["train - a"]
    second, weights = live("use")
    copy = Model(older.id).get_local_copy(raise_on_error=True)
    weights.loaded(str(copy), "PyTorch")
    second.close()
    assert [one.id for one in models(house, second, "input").values()] == [older.id]


def test_a_file_that_is_being_read_at_the_end_is_told_without_its_fingerprint(
    house: House, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKLOOM_CLOSE_TIMEOUT", "1")
    task, weights = live()
    with Path("huge.pt").open("wb") as file:
        file.truncate(1 << 40)
    weights.saved("huge.pt", "PyTorch")
    weights.loaded("huge2.pt", "PyTorch")
    weights.loaded(Path("huge.pt").rename("huge3.pt"), "PyTorch")
    task.close()
    monkeypatch.setenv("TASKLOOM_CLOSE_TIMEOUT", "10")
    other, _ = live("look")
    other.close()
    (made,) = models(house, task).values()
    assert (made.size, made.fingerprint) == (1 << 40, "")
    assert sorted(models(house, task, "input")) == ["huge2", "huge3"]
