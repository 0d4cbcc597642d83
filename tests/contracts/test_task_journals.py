"""Journals arrive exactly once: however they are cut, repeated, interleaved or refused."""

from __future__ import annotations

import hashlib
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import House
from tests.journals import Run, columns, fresh_id

from taskloom.domain.artifact import Artifact, Model, ModelLink
from taskloom.domain.errors import BadInput, BlobMissing, Conflict, Discarded, IllegalMove, LeaseLost, NotFound
from taskloom.domain.parameters import Parameter
from taskloom.domain.queue import Machine
from taskloom.domain.status import Status
from taskloom.domain.task import Property, TaskEdit, TaskType
from taskloom.wire.messages import (
    Claim,
    Condition,
    ConsoleBytes,
    ConsoleQuery,
    Enqueue,
    JournalBatch,
    JournalMarks,
    ModelQuery,
    MoveRequest,
    PlotsQuery,
    TaskCreate,
    TaskDelete,
    TaskQuery,
    WorkerRegister,
)
from taskloom.wire.operations import (
    ABORT_TASK,
    CLAIM_TASK,
    CREATE_TASK,
    DELETE_TASK,
    ENQUEUE_TASK,
    GET_CONSOLE,
    GET_TASK,
    JOURNAL_MARKS,
    LIST_PLOTS,
    PUBLISH_TASK,
    QUERY_MODELS,
    QUERY_TASKS,
    REGISTER_WORKER,
    RESET_TASK,
    SHIP_JOURNAL,
)
from taskloom.wire.records import (
    ArtifactRemoved,
    ArtifactStored,
    Edited,
    EndStatus,
    ModelStored,
    Opened,
    Plotted,
    SeriesNamed,
)

BIG = 2**63 - 1


def console_of(house: House, task: str) -> str:
    page = house.client.call(GET_CONSOLE, query=ConsoleQuery(limit=10_000), task=task)
    return "".join(entry.text for entry in page.entries)


def upload(house: House, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    answer = httpx.put(
        f"{house.url}/api/blobs/{digest}", content=data, headers={"Authorization": f"Bearer {house.key}"}
    )
    assert answer.status_code == 200, answer.text
    return digest


def has_bytes(house: House, digest: str) -> bool:
    headers = {"Authorization": f"Bearer {house.key}"}
    return httpx.get(f"{house.url}/api/blobs/{digest}", headers=headers).status_code == 200


def run_of_everything(house: House) -> Run:
    """Records of every kind that needs no bytes, rows of two series, console."""
    run = Run(house.client).open(project="main/sub", tags=("first",))
    run.edit(parameters={"Args": {"lr": Parameter("0.1", "float")}}, add_tags=("second",))
    for step in range(20):
        run.scalar(step, 1 / (step + 1)).scalar(step, float(step), title="acc", series="test")
        run.print(f"step {step}\n")
    run.say(Plotted(title="p", series="s", iteration=3, time=1.0, kind="plotly", figure='{"data":[]}'))
    run.edit(properties={"note": Property("good")})
    return run.end("completed", reason="done")


def check_everything(house: House, run: Run) -> None:
    task = run.seen()
    assert (task.name, task.project, task.status, task.status_reason) == (
        "test run",
        "main/sub",
        Status.COMPLETED,
        "done",
    )
    assert task.tags == ("first", "second")
    assert task.parameters["Args"]["lr"].value == "0.1"
    assert task.properties["note"].value == "good"
    assert task.revision == 2  # both edits, each once
    assert task.last_iteration == 19
    assert run.points().iteration == list(range(20))
    assert run.points("acc", "test").value == [float(n) for n in range(20)]
    assert console_of(house, run.task) == "".join(f"step {n}\n" for n in range(20))
    plots = house.client.call(LIST_PLOTS, query=PlotsQuery(), task=run.task).plots
    assert [(p.title, p.iteration) for p in plots] == [("p", 3)]


# --- once, in any cut -------------------------------------------------------------------------------------


def test_a_whole_run_in_one_batch(any_house: House) -> None:
    run = run_of_everything(any_house)
    marks = run.ship()
    assert (marks.events, marks.rows) == (len(run.records), 40)
    check_everything(any_house, run)
    assert any_house.client.call(JOURNAL_MARKS, task=run.task, writer=run.writer) == marks


def test_sending_everything_again_changes_nothing(any_house: House) -> None:
    run = run_of_everything(any_house)
    whole = run.rest()
    first = run.send(whole)
    before = run.seen()
    for _ in range(3):
        assert run.send(whole) == first
    check_everything(any_house, run)
    assert run.seen().revision == before.revision


@given(data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cuts_and_repeats_give_the_same_run(any_house: House, data: st.DataObject) -> None:
    """Overlapping, repeated, longer and shorter cuts; the three streams each at its own pace."""
    run = run_of_everything(any_house)
    lengths = {"events": len(run.records), "rows": len(run.rows), "console": len(run.stdout)}
    marks = dict.fromkeys(lengths, 0)
    rounds = 0
    while marks != lengths:
        rounds += 1
        if rounds > 12:
            reach = {name: (mark, lengths[name]) for name, mark in marks.items()}  # enough: now all of it
        else:
            reach = {
                name: (
                    data.draw(st.integers(0, mark), label=f"{name} from"),
                    data.draw(st.integers(mark, lengths[name]), label=f"{name} to"),
                )
                for name, mark in marks.items()
            }
        if reach["events"][1] < lengths["events"] - 3:
            reach["rows"] = (marks["rows"], marks["rows"])  # rows follow the records that name their series
        if marks["events"] == 0 and reach["events"][1] == 0:
            reach["events"] = (0, 1)  # a task begins with its first record
        answer = run.send(run.cut(**reach))
        got = {"events": answer.events, "rows": answer.rows, "console": answer.console.get("stdout", 0)}
        assert got == {name: max(mark, reach[name][1]) for name, mark in marks.items()}
        marks = got
    check_everything(any_house, run)


def test_a_gap_is_refused_with_the_marks_and_leaves_no_trace(any_house: House) -> None:
    run = run_of_everything(any_house)
    run.send(run.cut((0, 4), (0, 6), (0, 10)))
    for stream, batch in {
        "events": run.cut((5, 6), (6, 7), (10, 12)),
        "rows": run.cut((4, 5), (7, 8), (10, 12)),
        "stdout": run.cut((4, 5), (6, 7), (11, 12)),
    }.items():
        with pytest.raises(Conflict) as refused:
            run.send(batch)
        assert refused.value.details["stream"] == stream
        told = msgspec.convert(refused.value.details["marks"], JournalMarks)
        assert (told.events, told.rows, told.console) == (4, 6, {"stdout": 10})
    marks = any_house.client.call(JOURNAL_MARKS, task=run.task, writer=run.writer)
    assert (marks.events, marks.rows, marks.console) == (4, 6, {"stdout": 10})


def test_writers_of_one_task_do_not_disturb_one_another(any_house: House) -> None:
    main = Run(any_house.client, writer="main").open().scalar(0, 1.0)
    main.ship()
    child = Run(any_house.client, main.task, writer="child").scalar(5, 2.0).print("from the child")
    assert child.ship().rows == 1
    assert main.scalar(1, 3.0).ship().rows == 2
    assert sorted(main.points().iteration) == [0, 1, 5]
    assert main.seen().status is Status.RUNNING


def test_eight_writers_at_once_lose_and_double_nothing(any_house: House) -> None:
    main = Run(any_house.client, writer="main").open()
    main.ship()

    def write(number: int) -> None:
        run = Run(any_house.client_of(any_house.key), main.task, writer=f"w{number}")
        for part in range(10):
            for step in range(50):
                run.scalar(part * 50 + step, float(number), series=f"s{number}").scalar(number, step, series="all")
            run.print(f"{number}.{part}\n").edit(parameters={"P": {f"{number}.{part}": Parameter("1", "int")}})
            batch = run.rest()
            run.send(batch)  # the answer is lost; it is sent again
            run.marks = run.send(batch)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    task = main.seen()
    assert {m.series: m.count for m in task.metrics} == {**{f"s{n}": 500 for n in range(8)}, "all": 4000}
    assert set(task.parameters["P"]) == {f"{n}.{p}" for n in range(8) for p in range(10)}
    assert task.revision == 80
    assert sorted(console_of(any_house, main.task).split()) == sorted(
        f"{n}.{p}" for n in range(8) for p in range(10)
    )
    for n in range(8):
        assert main.points(series=f"s{n}").iteration == list(range(500))


def test_the_same_batch_from_many_senders_at_once_counts_once(any_house: House) -> None:
    run = run_of_everything(any_house)
    whole = run.rest()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: run.send(whole), range(12)))
    assert len(set(map(str, answers))) == 1
    check_everything(any_house, run)


# --- opened -----------------------------------------------------------------------------------------------


def test_a_task_that_was_never_opened_is_not_known(any_house: House) -> None:
    run = Run(any_house.client).edit(comment="too early")
    with pytest.raises(NotFound, match=run.task):
        run.ship()
    with pytest.raises(NotFound):
        any_house.client.call(JOURNAL_MARKS, task=run.task, writer="w1")


def test_opening_makes_the_task_with_what_the_record_tells(any_house: House) -> None:
    key = any_house.make_key("member", user="ada")
    parent = fresh_id()
    run = Run(any_house.client_of(key)).open(
        name="  my run ",
        project="a lot/of/shelves",
        type=TaskType.TESTING,
        tags=("t", "t"),
        system_tags=("development",),
        parent=parent,
        comment="why",
        output_uri="s3://there",
        runtime={"host": "here"},
        time=1000.0,
    )
    run.ship()
    task = run.seen()
    assert (task.name, task.project, task.type, task.user) == ("my run", "a lot/of/shelves", "testing", "ada")
    assert (task.tags, task.system_tags, task.parent, task.comment) == (("t",), ("development",), parent, "why")
    assert (task.created, task.started, task.status) == (1000.0, 1000.0, Status.RUNNING)
    assert (task.output_uri, task.runtime) == ("s3://there", {"host": "here"})


def test_opening_anew_what_is_there_changes_nothing(any_house: House) -> None:
    run = Run(any_house.client).open()
    run.ship()
    Run(any_house.client, run.task, writer="copy").open(name="another name").ship()
    assert run.seen().name == "test run"


def test_a_second_run_of_a_script_takes_the_place_of_the_first(any_house: House) -> None:
    digest = upload(any_house, b"old result")
    old = (
        Run(any_house.client, writer="old")
        .open()
        .edit(parameters={"Args": {"lr": Parameter("1", "int"), "gone": Parameter("1", "int")}})
    )
    old.scalar(100, 1.0).print("old").say(ArtifactStored(artifact=Artifact("a", digest=digest))).ship()
    new = Run(any_house.client, old.task, writer="new").open("reset", name="new name")
    new.edit(parameters={"Args": {"lr": Parameter("2", "int")}}).scalar(0, 5.0).print("new")
    assert new.ship().rows == 1
    task = new.seen()
    assert (task.name, task.status, task.artifacts, task.last_iteration) == ("new name", Status.RUNNING, (), None)
    assert {name: p.value for name, p in task.parameters["Args"].items()} == {"lr": "2"}
    assert new.points().value == [5.0]
    assert console_of(any_house, old.task) == "new"
    assert not has_bytes(any_house, digest)
    with pytest.raises(Discarded):
        old.scalar(101, 1.0).ship()
    assert new.end().ship().rows == 1
    assert new.seen().status is Status.COMPLETED


def test_a_reset_that_was_cut_off_in_the_middle_is_finished_by_the_next_batch(any_house: House) -> None:
    """The record arrives again although it was applied: nothing of the new run is deleted the second time."""
    old = Run(any_house.client, writer="old").open().scalar(1, 1.0).end()
    old.ship()
    new = Run(any_house.client, old.task, writer="new").open("reset").scalar(0, 5.0)
    whole = new.rest()
    for _ in range(3):
        new.marks = new.send(whole)
    assert new.points().value == [5.0]


def test_a_continued_run_keeps_its_results_and_outlives_the_old_writers_end(any_house: House) -> None:
    old = Run(any_house.client, writer="old").open().scalar(0, 1.0).end("failed")
    old.send(old.cut((0, 2), (0, 1)))  # its end has not come yet
    new = Run(any_house.client, old.task, writer="new").open("resume", tags=("again",)).scalar(1, 2.0)
    new.ship()
    assert old.send(old.cut((2, 3))).events == 3
    task = new.seen()
    assert (task.status, task.tags) == (Status.RUNNING, ("again",))
    assert new.points().iteration == [0, 1]
    new.end().ship()
    assert new.seen().status is Status.COMPLETED


# --- ended ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["completed", "failed", "aborted"])
def test_the_end_of_a_script_ends_its_task(any_house: House, outcome: EndStatus) -> None:
    run = Run(any_house.client).open(time=50.0)
    run.end(outcome, "why", "how\0\n" + "x" * 100_000)
    run.ship()
    task = run.seen()
    assert (task.status.value, task.status_reason) == (outcome, "why")
    assert task.completed >= task.started == 50.0
    assert task.status_message.startswith("how\ufffd\n") and len(task.status_message) <= 64 * 1024


def test_what_was_aborted_here_stays_aborted_and_tells_the_script_to_stop(any_house: House) -> None:
    run = Run(any_house.client).open()
    assert not run.ship().stop
    any_house.client.call(ABORT_TASK, MoveRequest(reason="enough"), task=run.task)
    assert run.scalar(1, 1.0).ship().stop
    assert run.end("completed", message="bye").ship().stop
    task = run.seen()
    assert (task.status, task.status_reason, task.status_message) == (Status.ABORTED, "enough", "bye")
    assert run.points().value == [1.0]


def test_the_last_values_can_be_filtered_by_as_soon_as_the_task_has_ended(any_house: House) -> None:
    run = Run(any_house.client).open().scalar(1, 3.0).scalar(2, 1.0).scalar(3, 2.0).end()
    run.ship()
    for key, value in (
        ("metrics.loss/train", 2.0),
        ("metrics.loss/train:min", 1.0),
        ("metrics.loss/train:max", 3.0),
    ):
        query = TaskQuery(where=[Condition(key=key, value=value)], fields=["last_iteration"])
        found = any_house.client.call(QUERY_TASKS, query).tasks
        assert [(t.id, t.last_iteration) for t in found] == [(run.task, 3)], key


# --- numbers ----------------------------------------------------------------------------------------------


def test_odd_numbers_are_kept_and_every_answer_is_valid_json(any_house: House) -> None:
    run = Run(any_house.client).open()
    values = [math.nan, math.inf, -math.inf, 1.0, -0.0, 5e-324]
    for step, value in enumerate(values):
        run.scalar(step, value)
    run.scalar(0, math.nan, title="only nan").end().ship()
    told = run.points().value
    assert [float(v) for v in told][1:] == values[1:] and math.isnan(float(told[0]))
    headers = {"Authorization": f"Bearer {any_house.key}"}
    text = httpx.get(f"{any_house.url}/api/tasks/{run.task}", headers=headers).text
    assert "NaN" in text and msgspec.json.decode(text)["metrics"][0]["count"] == 6
    query = TaskQuery(where=[Condition(key="metrics.only nan/train", value="NaN")])
    assert [t.id for t in any_house.client.call(QUERY_TASKS, query).tasks] == [run.task]


def test_iterations_reach_to_the_ends_of_64_bits(any_house: House) -> None:
    run = Run(any_house.client).open().scalar(BIG, 1.0).scalar(-BIG - 1, 2.0)
    run.end().ship()
    assert sorted(run.points().iteration) == [-BIG - 1, BIG]
    assert run.seen().last_iteration == BIG
    moved = Run(any_house.client, offset=1).open().scalar(BIG, 1.0)
    with pytest.raises(BadInput, match="64 bits"):
        moved.ship()


def test_an_imported_session_is_moved_by_its_offset(any_house: House) -> None:
    run = Run(any_house.client, offset=1000).open().scalar(0, 1.0).scalar(1, 2.0)
    run.say(Plotted(title="p", series="s", iteration=7, time=1.0, kind="table", figure="{}")).end().ship()
    assert run.points().iteration == [1000, 1001]
    plots = any_house.client.call(LIST_PLOTS, query=PlotsQuery(), task=run.task).plots
    assert [p.iteration for p in plots] == [1007]
    assert run.seen().last_iteration == 1001


def test_machine_metrics_and_single_values_do_not_move_the_last_iteration(any_house: House) -> None:
    run = Run(any_house.client).open().scalar(7, 1.0).scalar(900, 1.0, title=":monitor:machine")
    run.scalar(-(2**31), 5.0, title="Summary").end().ship()
    assert run.seen().last_iteration == 7


@pytest.mark.parametrize(
    "broken",
    [
        JournalBatch(writer="w1", events_start=-1),
        JournalBatch(writer="../../etc"),
        JournalBatch(writer=""),
        JournalBatch(writer="w1", scalars=msgspec.structs.replace(columns(0, [(0, 1, 1.0, 1.0)]), value=b"short")),
        JournalBatch(writer="w1", scalars=msgspec.structs.replace(columns(0, [(0, 1, 1.0, 1.0)]), series=b"abc")),
        JournalBatch(writer="w1", scalars=columns(-5, [(0, 1, 1.0, 1.0)])),
        JournalBatch(writer="w1", console=[ConsoleBytes("stdout", -1, b"x", 1.0)]),
        JournalBatch(writer="w1", console=[ConsoleBytes("stdout", 0, b"x", math.nan)]),
        JournalBatch(writer="w1", events=[Edited(edit=TaskEdit(), time=math.inf)]),
        JournalBatch(writer="w1", events=[Edited(edit=TaskEdit(name="ab"), time=1.0)]),
        JournalBatch(writer="w1", events=[Edited(edit=TaskEdit(progress=101), time=1.0)]),
        JournalBatch(writer="w1", events=[Edited(edit=TaskEdit(execution={"brunch": "x"}), time=1.0)]),
        JournalBatch(writer="w1", events=[Edited(edit=TaskEdit(execution={"branch": 5}), time=1.0)]),
        JournalBatch(writer="w1", events=[SeriesNamed(number=-1, title="a", series="b")]),
        JournalBatch(writer="w1", scalars=columns(0, [(99, 1, 1.0, 1.0)])),
    ],
)
def test_a_malformed_batch_is_refused_and_leaves_the_task_as_it_was(house: House, broken: JournalBatch) -> None:
    run = Run(house.client, writer="good").open().scalar(0, 1.0)
    run.ship()
    before = run.seen()
    with pytest.raises(BadInput) as refused:
        run.send(broken)
    assert re.search("expected|did you mean|never named|edit: ", refused.value.message.lower())
    after = run.seen()
    assert (after.name, after.execution, after.metrics) == (before.name, before.execution, before.metrics)
    assert run.scalar(1, 1.0).ship().rows == 2


# --- artifacts and models ---------------------------------------------------------------------------------


def test_an_artifact_waits_for_its_bytes_and_the_whole_batch_with_it(any_house: House) -> None:
    data = b"weights" * 100
    digest = hashlib.sha256(data).hexdigest()
    run = Run(any_house.client).open().scalar(0, 1.0).say(ArtifactStored(artifact=Artifact("a", digest=digest)))
    with pytest.raises(BlobMissing, match=digest):
        run.ship()
    with pytest.raises(NotFound):
        run.seen()
    upload(any_house, data)
    run.ship()
    (artifact,) = run.seen().artifacts
    assert (artifact.name, artifact.digest, artifact.size) == ("a", digest, len(data))
    run.say(ArtifactRemoved(name="a", time=time.time())).ship()
    assert run.seen().artifacts == ()


def test_models_come_with_their_task(any_house: House) -> None:
    digest = upload(any_house, b"some weights")
    model = Model(fresh_id(), "net", digest=digest, framework="torch")
    run = Run(any_house.client).open(project="deep/down")
    run.say(ModelStored(model=model, link=ModelLink("net", model.id))).ship()
    assert run.seen().models == (ModelLink("net", model.id, "output"),)
    (found,) = any_house.client.call(QUERY_MODELS, ModelQuery(task=run.task)).models
    assert (found.name, found.project, found.task, found.digest) == ("net", "deep/down", run.task, digest)


# --- who may still write ----------------------------------------------------------------------------------


def test_a_lease_fences_off_everybody_else(any_house: House) -> None:
    client = any_house.client
    script = Run(client, writer="script").open().end()
    script.ship()
    client.call(RESET_TASK, MoveRequest(), task=script.task)
    client.call(ENQUEUE_TASK, Enqueue(), task=script.task)
    worker = WorkerRegister(id="wk", name="wk", queues=("default",), slots=1, machine=Machine(), version="1")
    client.call(REGISTER_WORKER, worker)
    lease = client.call(CLAIM_TASK, Claim(worker="wk", queues=("default",), wait=0)).lease
    assert lease is not None
    attempt = Run(client, script.task, writer="attempt", lease=lease.token).scalar(0, 1.0)
    assert attempt.ship().rows == 1
    for token in ("", "another"):
        stranger = Run(client, script.task, writer="stranger", lease=token).scalar(0, 2.0)
        with pytest.raises(LeaseLost):
            stranger.ship()
    attempt.end("completed", "script says so", "its words").ship()
    task = attempt.seen()
    assert (task.status, task.status_reason, task.status_message) == (
        Status.RUNNING,
        "script says so",
        "its words",
    )
    client.call(RESET_TASK, MoveRequest(force=True), task=script.task)
    with pytest.raises((LeaseLost, Discarded)):
        attempt.scalar(1, 1.0).ship()
    assert attempt.seen().metrics == ()


def test_a_reset_closes_its_writers_also_those_that_had_no_record_yet(any_house: House) -> None:
    client = any_house.client
    run = Run(client).open()
    run.ship()
    prints = Run(client, run.task, writer="prints").print("words")
    prints.ship()
    client.call(RESET_TASK, MoveRequest(force=True), task=run.task)
    for late in (run.scalar(0, 1.0), prints.print("more"), Run(client, run.task, writer="unheard").print("x")):
        with pytest.raises(Discarded):
            late.ship()
    with pytest.raises(Discarded):
        client.call(JOURNAL_MARKS, task=run.task, writer="prints")
    assert console_of(any_house, run.task) == ""
    assert run.seen().metrics == ()


def test_a_deleted_task_swallows_what_still_comes_and_asks_to_stop(any_house: House) -> None:
    run = Run(any_house.client).open().scalar(0, 1.0)
    whole = run.rest()
    run.ship()
    any_house.client.call(DELETE_TASK, query=TaskDelete(force=True), task=run.task)
    marks = run.scalar(1, 1.0).print("more").ship()
    assert (marks.stop, marks.rows, marks.console) == (True, 2, {"stdout": 4})
    assert run.send(whole).stop  # from the very start, too
    with pytest.raises(NotFound):
        run.seen()
    with pytest.raises(Conflict):
        any_house.client.call(CREATE_TASK, TaskCreate(id=run.task, name="again", project="tests"))


def test_a_published_task_takes_nothing_new_but_hears_old_batches_again(any_house: House) -> None:
    run = run_of_everything(any_house)
    whole = run.rest()
    marks = run.ship()
    any_house.client.call(PUBLISH_TASK, MoveRequest(), task=run.task)
    assert run.send(whole) == marks
    for late in (run.cut(console=(0, 0)), run.rest()):
        assert run.send(late).events == marks.events
    with pytest.raises(IllegalMove) as refused:
        run.scalar(99, 1.0).ship()
    assert refused.value.details["status"] == "published"


def test_a_viewer_cannot_write_and_a_task_belongs_to_who_opened_it(any_house: House) -> None:
    viewer = any_house.client_of(any_house.make_key("viewer"))
    with pytest.raises(Exception, match="viewer"):
        Run(viewer).open().ship()


def test_a_stream_without_records_writes_main_only_now_and_then(any_house: House) -> None:
    """The first batch of a writer makes its row; those that follow at once only read."""
    run = Run(any_house.client).open().scalar(0, 1.0)
    run.ship()
    before = any_house.client.call(GET_TASK, task=run.task).last_update
    run.print("a").ship()
    assert any_house.client.call(GET_TASK, task=run.task).last_update - before < 5
    any_house.clock.advance(60)
    run.print("b").ship()
    assert any_house.client.call(GET_TASK, task=run.task).last_update - before > 50


def test_what_an_earlier_server_left_is_finished_by_the_next_one(house: House) -> None:
    run = Run(house.client).open().scalar(0, 1.0).print("x")
    run.ship()
    house.restart()
    run.client = house.client
    assert run.scalar(1, 2.0).ship().rows == 2
    assert run.points().value == [1.0, 2.0]
    assert house.client.call(SHIP_JOURNAL, run.cut((0, len(run.records)), (0, 2)), task=run.task).rows == 2
    opened = run.records[0]
    assert isinstance(opened, Opened)
