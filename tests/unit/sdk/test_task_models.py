"""A live task's models, as scripts handle them by hand: destinations, labels, inputs, artifacts that it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import House
from tests.unit.sdk.test_task import init

from taskloom import InputModel, Model, OutputModel, Task
from taskloom.domain.artifact import Artifact, ModelLink
from taskloom.domain.errors import BadInput, NotFound
from taskloom.sdk import session as sessions
from taskloom.wire.messages import Enqueue, ModelQuery, PlotsQuery, PointsQuery, TaskClone
from taskloom.wire.operations import (
    CLONE_TASK,
    ENQUEUE_TASK,
    GET_POINTS,
    GET_TASK,
    LIST_PLOTS,
    LIST_SERIES,
    QUERY_MODELS,
    TASK_LINEAGE,
)
from taskloom.wire.records import ModelStored

Live = Callable[..., Task]


@pytest.fixture
def live(house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Live]:
    for name, value in (("TASKLOOM_URL", house.url), ("TASKLOOM_API_KEY", house.key)):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sessions.current, "seed", None)
    monkeypatch.setattr(sessions.current, "fetched", {})
    monkeypatch.setattr(OutputModel, "_default_destination", None)
    monkeypatch.chdir(tmp_path)

    def begin(name: str = "train", **more: object) -> Task:
        return init("by hand", name, reuse_last_task_id=False, **more)

    yield begin
    if sessions.current.session is not None:
        sessions.current.session.close()


def weights(name: str = "net.pt", text: str = "weights") -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


# --- where the weights go ---------------------------------------------------------------------------------


def test_weights_lie_below_the_destination_of_the_task(live: Live, tmp_path: Path) -> None:
    task = live(output_uri=tmp_path / "out")
    model = OutputModel(name="net")
    url = model.update_weights(weights(), iteration=3)
    task.close()
    place = tmp_path / "out" / "by hand" / f"train.{task.id}" / "models" / "net.pt"
    assert (url, task.output_uri) == (place.as_uri(), (tmp_path / "out").as_uri())
    assert place.read_text() == "weights"
    found = Model(model.id)
    assert (found.url, found.iteration, found.get_local_copy()) == (place.as_uri(), 3, str(place))


def test_models_with_files_of_one_name_do_not_overwrite_one_another(live: Live, tmp_path: Path) -> None:
    task = live(output_uri=str(tmp_path / "out"))
    for name in ("a", "b"):
        OutputModel(name=name).update_weights(weights(f"{name}/net.pt", name))
    OutputModel(name="a").update_weights(weights("a/net.pt", "a again"))
    task.close()
    folder = tmp_path / "out" / "by hand" / f"train.{task.id}" / "models"
    assert {file.name: file.read_text() for file in folder.iterdir()} == {"net.pt": "a again", "net-2.pt": "b"}


def test_a_destination_of_the_model_of_all_models_and_of_one_call(live: Live, tmp_path: Path) -> None:
    task = live(output_uri=True)
    one, two, three = (OutputModel(name=name) for name in ("one", "two", "three"))
    OutputModel.set_default_upload_uri(str(tmp_path / "all"))
    two.set_upload_destination(str(tmp_path / "two"))
    assert (one.upload_storage_uri, two.upload_storage_uri) == (
        (tmp_path / "all").as_uri(),
        (tmp_path / "two").as_uri(),
    )
    urls = [
        one.update_weights(weights()),
        two.update_weights(weights()),
        three.update_weights(weights(), upload_uri=str(tmp_path / "call")),
    ]
    OutputModel.set_default_upload_uri(None)
    assert OutputModel(name="four").update_weights(weights()).startswith("http")
    with pytest.raises(BadInput, match="destination"):
        one.update_weights(weights(), upload_uri="gopher://hole")
    OutputModel.wait_for_uploads()
    assert [(tmp_path / part).as_uri() in url for part, url in zip(("all", "two", "call"), urls, strict=True)] == [
        True
    ] * 3
    assert len(list((tmp_path / "two").rglob("net.pt"))) == 1
    task.close()


def test_a_folder_at_a_destination_comes_back_as_a_folder(live: Live, tmp_path: Path) -> None:
    task = live(output_uri=str(tmp_path / "out"))
    model = OutputModel(name="net")
    weights("saved/model.bin")
    model.update_weights("saved")
    task.close()
    copy = Path(Model(model.id).get_local_copy(raise_on_error=True) or "")
    assert [file.name for file in copy.iterdir()] == ["model.bin"]


def test_output_uri_is_what_was_given_and_can_be_changed(live: Live, tmp_path: Path) -> None:
    task = live(output_uri=True)
    assert task.output_uri == "taskloom:"
    task.output_uri = tmp_path / "later"
    assert task.output_uri == (tmp_path / "later").as_uri()
    task.output_uri = False
    assert task.output_uri == "nowhere:"
    task.output_uri = "http://files.example:8081"
    assert task.output_uri == "taskloom:"
    task.output_uri = None
    assert task.output_uri == ""
    with pytest.raises(BadInput):
        task.output_uri = "s3://"
    task.close()
    with pytest.raises(BadInput):
        live(output_uri="ftp://nowhere")


def test_update_output_model_names_and_removes_the_file_only_when_it_is_told_to(house: House, live: Live) -> None:
    task = live()
    first = task.update_output_model(weights(), name="net", model_name="the net", comment="c", tags=["t"])
    assert Path("net.pt").exists()
    assert task.update_output_model(weights(), name="net", iteration=2, auto_delete_file=True) == first
    assert not Path("net.pt").exists()
    task.close()
    found = task.models.output["net"]
    assert (found.name, found.comment, found.tags, found.iteration) == ("the net", "c", ["t"], 2)
    assert task.output_models_id == {"net": first}


# --- labels, design, inputs -------------------------------------------------------------------------------


def test_models_take_over_the_labels_that_are_connected(live: Live) -> None:
    task = live()
    assert task.get_labels_enumeration() == {}
    assert task.connect_label_enumeration({"cat": 0, "dog": 1}) == {"cat": 0, "dog": 1}
    assert OutputModel(name="a").labels == {"cat": 0, "dog": 1}
    assert OutputModel(name="b", label_enumeration={"bird": 2}).labels == {"bird": 2}
    with pytest.raises(BadInput, match="labels"):
        task.connect_label_enumeration({"cat": "zero"})  # type: ignore[dict-item]
    task.set_model_config(config_dict={"layers": 3})
    assert (task.get_model_config_dict(), '"layers"' in task.get_model_design()) == ({"layers": 3}, True)


def test_an_input_is_set_by_id_by_name_or_connected(house: House, live: Live) -> None:
    first = live()
    made = OutputModel(name="net", config_text="a design", label_enumeration={"cat": 0})
    made.update_weights(weights())
    first.close()
    task = live("use")
    task.set_input_model(model_id=made.id, name="by id")
    task.set_input_model(model_name="net", name="by name")
    assert task.connect(InputModel(made.id), name="connected").id == made.id
    assert (task.get_model_config_text(), task.get_labels_enumeration()) == ("a design", {"cat": 0})
    with pytest.raises(NotFound):
        task.set_input_model(model_name="no such net")
    with pytest.raises(BadInput, match="InputModel"):
        task.connect(Model(made.id))
    assert task.connect({"lr": 0.1}) == {"lr": 0.1}
    task.close()
    assert task.input_models_id == {"by id": made.id, "by name": made.id, "connected": made.id}


def test_weights_that_are_registered_already_are_given_back(live: Live) -> None:
    live()
    first = InputModel.import_model("s3://bucket/net.pt", name="net", project="by hand")
    again = InputModel.import_model("s3://bucket/net.pt", name="ignored")
    assert (again.id, again.name) == (first.id, "net")
    found = InputModel.load_model("s3://bucket/net.pt")
    assert found is not None
    assert InputModel.load_model("s3://bucket/other.pt") is None
    found.archive()
    assert InputModel.load_model("s3://bucket/net.pt") is None
    assert Model.query_models(model_name="net") == []
    assert [model.id for model in Model.query_models(model_name="net", include_archived=True)] == [first.id]
    found.unarchive()
    assert [model.id for model in Model.query_models(project_name="by hand")] == [first.id]


def test_a_model_in_use_is_removed_by_force_only(live: Live) -> None:
    task = live()
    made = OutputModel(name="net")
    made.update_weights(weights())
    task.close()
    user = live("use")
    InputModel(made.id).connect(user)
    user.close()
    assert Model.remove(made.id) is False
    with pytest.raises(Exception, match="used by 1 tasks"):
        Model.remove(made.id, raise_on_errors=True)
    assert Model.remove(made.id, force=True) is True


def test_run_by_a_worker_a_connected_model_is_the_one_chosen_on_the_server(
    house: House, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = live()
    nets = [OutputModel(name=name) for name in ("net", "better net")]
    first.close()
    task = live("use")
    InputModel(nets[0].id).connect(task, name="start")
    task.close()
    clone = house.client.call(CLONE_TASK, TaskClone(), task=task.id)
    assert clone.models == (ModelLink("start", nets[0].id, "input"),)
    house.client.call(ENQUEUE_TASK, Enqueue(), task=clone.id)
    session = live("as if claimed")._recorder
    assert isinstance(session, sessions.Session)
    monkeypatch.setattr(type(session.identity), "hosted", True)
    session.record(ModelStored(model=nets[1]._model, link=ModelLink("start", nets[1].id, "input")))
    mine, kept = InputModel(nets[0].id), InputModel(nets[0].id)
    mine.connect(session, name="start")
    kept.connect(session, name="other", ignore_remote_overrides=True)
    assert (mine.id, mine.name, kept.id) == (nets[1].id, "better net", nets[0].id)
    monkeypatch.undo()


# --- artifacts that are read ------------------------------------------------------------------------------


def test_reading_an_artifact_of_another_task_is_told_once(house: House, live: Live) -> None:
    data = live("data")
    data.upload_artifact("table", {"a": 1})
    assert data.flush(wait_for_uploads=True)
    assert data.artifacts["table"].get() == {"a": 1}
    data.close()
    user = live("use")
    for _ in range(2):
        assert Task.get_task(data.id).artifacts["table"].get() == {"a": 1}
    assert Path(Task.get_task(data.id).artifacts["table"].get_local_copy() or "").exists()
    user.close()
    stored: Artifact = house.client.call(GET_TASK, task=data.id).artifacts[0]
    (edge,) = house.client.call(TASK_LINEAGE, task=user.id).edges
    assert (edge.relation, edge.source, edge.target) == ("read", data.id, user.id)
    assert (edge.name, edge.digest) == ("table", stored.digest)
    assert house.client.call(QUERY_MODELS, ModelQuery()).total == 0


# --- reports about a model --------------------------------------------------------------------------------


def test_a_model_has_curves_values_and_plots_of_its_own(
    house: House, live: Live, capsys: pytest.CaptureFixture[str]
) -> None:
    live()
    model = OutputModel(name="net")
    for iteration, value in enumerate((0.5, 0.75, float("nan"))):
        model.report_scalar("accuracy", "test", value, iteration)
    model.report_single_value("f1", 0.9)
    model.report_confusion_matrix("confusion", "test", [[3, 1], [0, 4]], iteration=1)
    Model(model.id).report_table("rows", "test", table_plot=[["a"], [1]])
    points = house.client.call(GET_POINTS, query=PointsQuery(title="accuracy", series="test"), task=model.id)
    assert (points.iteration, points.value) == ([0, 1, 2], [0.5, 0.75, "NaN"])
    series = {(one.title, one.series): one.last for one in house.client.call(LIST_SERIES, task=model.id).series}
    assert series["Summary", "f1"] == 0.9
    plots = house.client.call(LIST_PLOTS, query=PlotsQuery(), task=model.id).plots
    assert [(one.title, one.kind) for one in plots] == [("confusion", "confusion_matrix"), ("rows", "table")]
    model.publish()
    capsys.readouterr()
    for _ in range(2):
        model.report_scalar("accuracy", "test", 1.0, 3)
    assert capsys.readouterr().err.count("is published") == 1
    model.report_single_value("f1", "high")  # type: ignore[arg-type]
    assert "expected a number" in capsys.readouterr().err
