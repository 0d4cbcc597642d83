"""Jobs, runs and traces: recorded once however they come, kept with their job, told in pages and figures."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import pytest
from tests.conftest import House
from tests.contracts.eval_rig import Evaluation, finished
from tests.journals import fresh_id

from taskloom.domain.errors import BadInput, NotFound, TaskloomError
from taskloom.domain.evaluation import EvalJob, EvalRun, Grade, Step, SubScore, Usage
from taskloom.domain.task import ARCHIVED_TAG, TaskEdit
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.records import JobStored, Record, RunStored, StepsTaken

LOST = "the job ended before the run did"


# --- recording --------------------------------------------------------------------------------------------


def test_a_job_its_runs_and_their_traces_are_told_as_they_were_recorded(lasting_house: House) -> None:
    told = (
        Evaluation(lasting_house)
        .open(name="nightly", project="evals/nightly")
        .job(taskset="questions", model="m-1")
    )
    first = told.whole(
        1.0, position=0, slug="first", args={"n": 1}, columns={"level": "hard"}, answer={"text": "4"}
    )
    second = told.whole(0.25, position=1, slug="second")
    failed = told.whole(None, position=2, slug="third", boundary="environment", error="no such file")
    going = told.begin(position=3, slug="fourth")
    told.took(going, "thinking")
    told.ship()
    record = told.record()
    assert (record.job.taskset, record.job.model, record.project, record.task_name) == (
        *("questions", "m-1"),
        *("evals/nightly", "nightly"),
    )
    assert (record.status, record.user, record.runs) == ("running", "admin", 4)
    assert record.counts == {"completed": 2, "error": 1, "running": 1}
    assert record.failures == {"environment": 1}
    assert (record.reward, record.graded) == (pytest.approx(1.25 / 3), 0.625)
    assert [run.slug for run in told.runs()] == ["first", "second", "third", "fourth"]
    assert lasting_house.client.call(op.GET_RUN, run=first.id) == msgspec.structs.replace(first, task=told.task)
    assert told.trace(second) == ["thinking", "done"]
    assert (told.trace(failed), told.trace(going)) == (["thinking", "done"], ["thinking"])


def test_a_journal_that_comes_in_pieces_and_twice_leaves_the_same(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    runs = [told.whole(n / 10, position=n, slug=f"slug-{n % 3}") for n in range(12)]
    dice = random.Random(3)
    sent = 0
    while sent < len(told.records):
        start, end = max(sent - dice.randrange(4), 0), min(sent + dice.randrange(1, 9), len(told.records))
        batch = told.cut((start, end))
        told.send(batch)
        told.send(batch)
        sent = end
    assert [run.reward for run in told.runs()] == [n / 10 for n in range(12)]
    assert all(told.trace(run) == ["thinking", "done"] for run in runs)
    assert told.record().counts == {"completed": 12}


def test_the_newest_attempt_of_a_run_wins_and_has_only_its_own_steps(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    run = told.begin()
    told.took(run, "first", "second", "third")
    told.ship()
    again = told.begin(run.id, attempt=2)
    told.took(again, "other")
    told.ship()
    assert told.trace(run) == ["other"]
    told.told(finished(run, None, boundary="infrastructure"))  # what the first attempt says comes too late
    told.ship()
    assert told.runs()[0].attempt == 2
    assert told.record().counts == {"running": 1}


def test_a_run_is_told_anew_when_it_changes_within_an_attempt(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    run = told.begin()
    told.ship()
    told.told(finished(run, None, boundary="agent"))
    told.ship()
    told.told(finished(run, 0.5))
    told.ship()
    assert [one.reward for one in told.runs()] == [0.5]


def test_steps_with_numbers_ahead_wait_for_those_before_them(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    run = told.begin()
    told.took(run, "zero")
    told.took(run, "two", start=2)
    told.ship()
    page = lasting_house.client.call(op.GET_STEPS, query=m.StepsQuery(), run=run.id)
    assert ([step.content for step in page.steps], page.total) == (["zero"], 3)
    told.took(run, "one", start=1)
    told.ship()
    assert told.trace(run) == ["zero", "one", "two"]
    page = lasting_house.client.call(op.GET_STEPS, query=m.StepsQuery(start=1, limit=1), run=run.id)
    assert ([step.content for step in page.steps], page.start, page.total) == (["one"], 1, 3)


def test_large_steps_come_back_whole(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    run = told.begin()
    texts = ["a" * 200_000, random.Random(1).randbytes(3000).hex(), ""]
    told.took(run, *texts)
    told.ship()
    assert told.trace(run) == texts


# --- the job's end, reset and deletion ----------------------------------------------------------------------


def test_runs_that_a_job_leaves_behind_are_failures_of_the_infrastructure(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    whole, left = told.whole(1.0), told.begin(position=1)
    told.end("failed").ship()
    runs = {run.id: run for run in told.runs()}
    assert (runs[whole.id].status, runs[whole.id].reward) == ("completed", 1.0)
    assert (runs[left.id].status, runs[left.id].boundary, runs[left.id].error) == ("error", "infrastructure", LOST)
    late = told.begin(position=2)  # its process had more to tell, and is gone by now
    told.ship()
    assert {run.id: run.error for run in told.runs()}[late.id] == LOST
    assert told.record().counts == {"completed": 1, "error": 2}


def test_what_a_script_tells_with_its_end_stands(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    told.whole(1.0)
    told.begin(position=1)
    told.end().ship()
    assert told.record().counts == {"completed": 1, "error": 1}


def test_an_aborted_job_takes_its_running_runs_along_and_a_continued_one_goes_on(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    run = told.begin()
    told.ship()
    lasting_house.client.call(op.ABORT_TASK, m.MoveRequest(), task=told.task)
    assert told.record().failures == {"infrastructure": 1}
    again = Evaluation(lasting_house, told.task, "w2").open("resume").job(name="a job, continued")
    again.told(finished(msgspec.structs.replace(run, attempt=2), 1.0))
    again.ship()
    assert (again.record().job.name, again.record().counts) == ("a job, continued", {"completed": 1})


def test_a_job_that_begins_anew_has_none_of_its_former_runs(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    old = told.whole(1.0)
    told.end().ship()
    again = Evaluation(lasting_house, told.task, "w2").open("reset").job()
    again.ship()
    assert (again.record().runs, again.runs()) == (0, [])
    again.told(finished(old, 0.0))  # of the same id: nothing of its former trace is there
    again.ship()
    assert again.trace(old) == []


def test_a_reset_task_is_no_job_any_more(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    run = told.whole(1.0)
    told.end().ship()
    lasting_house.client.call(op.RESET_TASK, m.MoveRequest(), task=told.task)
    asked: list[tuple[Any, dict[str, str]]] = [(op.GET_JOB, {"job": told.task}), (op.GET_RUN, {"run": run.id})]
    for call, path in asked:
        with pytest.raises(NotFound):
            lasting_house.client.call(call, **path)


def test_a_deleted_job_takes_its_runs_and_traces_along(lasting_house: House) -> None:
    told, other = Evaluation(lasting_house).open().job(), Evaluation(lasting_house).open().job()
    run, kept = told.whole(1.0), other.whole(0.5)
    for one in (told, other):
        one.end().ship()
    lasting_house.client.call(op.DELETE_TASK, query=m.TaskDelete(), task=told.task)
    with pytest.raises(NotFound):
        lasting_house.client.call(op.GET_STEPS, query=m.StepsQuery(), run=run.id)
    with pytest.raises(NotFound):
        told.record()
    assert other.trace(kept) == ["thinking", "done"]
    again = Evaluation(lasting_house).open().job()
    again.told(msgspec.structs.replace(finished(run), job=again.task))
    again.ship()
    assert again.trace(run) == []


# --- hosted runs --------------------------------------------------------------------------------------------


def test_a_hosted_run_belongs_to_its_job_and_stays_when_its_own_task_goes(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    told.ship()
    hosted = Evaluation(lasting_house).open(name="hosted run")
    run = hosted.whole(0.75, job=told.task)
    hosted.end().ship()
    assert [(one.id, one.task) for one in told.runs()] == [(run.id, hosted.task)]
    assert told.trace(run) == ["thinking", "done"]
    lasting_house.client.call(op.DELETE_TASK, query=m.TaskDelete(), task=hosted.task)
    assert told.record().graded == 0.75
    told.end().ship()
    lasting_house.client.call(op.DELETE_TASK, query=m.TaskDelete(), task=told.task)
    with pytest.raises(NotFound):
        lasting_house.client.call(op.GET_RUN, run=run.id)


def test_a_hosted_run_may_be_heard_of_before_its_job(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    hosted = Evaluation(lasting_house).open()
    run = hosted.whole(1.0, job=told.task)
    hosted.ship()
    told.ship()
    assert [one.id for one in told.runs()] == [run.id]
    assert told.trace(run) == ["thinking", "done"]


def test_a_run_for_a_job_that_never_came_goes_with_the_task_that_told_it(lasting_house: House) -> None:
    hosted = Evaluation(lasting_house).open()
    run = hosted.whole(1.0, job=fresh_id())
    hosted.end().ship()
    assert lasting_house.client.call(op.GET_RUN, run=run.id).reward == 1.0
    lasting_house.client.call(op.DELETE_TASK, query=m.TaskDelete(), task=hosted.task)
    with pytest.raises(NotFound):
        lasting_house.client.call(op.GET_RUN, run=run.id)


def test_what_is_told_of_a_deleted_job_passes_by(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    told.end().ship()
    lasting_house.client.call(op.DELETE_TASK, query=m.TaskDelete(), task=told.task)
    hosted = Evaluation(lasting_house).open()
    run = hosted.whole(1.0, job=told.task)
    assert hosted.ship().events == len(hosted.records)
    with pytest.raises(NotFound):
        lasting_house.client.call(op.GET_RUN, run=run.id)


def test_a_hosted_run_reports_after_its_job_ended_and_that_counts(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    told.ship()
    hosted = Evaluation(lasting_house).open()
    run = hosted.begin(job=told.task)
    hosted.ship()
    told.end().ship()
    assert told.runs()[0].error == LOST
    hosted.told(finished(run, 1.0))
    hosted.ship()
    assert told.record().counts == {"completed": 1}


def test_a_hosted_run_whose_task_ends_without_a_word_is_a_failure_of_the_infrastructure(
    lasting_house: House,
) -> None:
    told = Evaluation(lasting_house).open().job()
    told.ship()
    hosted = Evaluation(lasting_house).open()
    hosted.begin(job=told.task)
    hosted.ship()
    hosted.end("failed").ship()
    (run,) = told.runs()
    assert (run.status, run.boundary, run.error) == (
        *("error", "infrastructure"),
        "the task that ran it ended before the run did",
    )


# --- lists --------------------------------------------------------------------------------------------------


def test_runs_are_found_by_state_and_slug_and_ordered(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    for n, (reward, seconds, cost) in enumerate(
        [(0.5, 3.0, 0.2), (1.0, 1.0, 0.1), (None, 2.0, 0.3), (0.0, 4.0, 0.0)]
    ):
        usage = Usage(cost_usd=cost)
        boundary = "grader" if reward is None else ""
        slug = f"Part-{n % 2}/{n}"
        told.whole(
            reward, seconds=seconds, position=n, slug=slug, usage=usage, boundary=boundary, started=20.0 - n
        )
    told.begin(position=4, slug="last_one", started=30.0)
    told.ship()

    def positions(**query: Any) -> list[int]:
        return [run.position for run in told.runs(**query)]

    assert positions() == [0, 1, 2, 3, 4]
    assert positions(order="-reward") == [1, 0, 3, 2, 4]
    assert positions(order="reward") == [3, 0, 1, 2, 4]
    assert positions(order="-seconds")[:4] == [3, 0, 2, 1]
    assert positions(order="-cost")[:3] == [2, 0, 1]
    assert positions(order="-started") == [4, 0, 1, 2, 3]
    assert positions(status="error") == positions(boundary="grader") == [2]
    assert positions(search="part-1/") == [1, 3]
    assert positions(search="part_1") == []
    assert positions(slug="last_one") == [4]
    page = lasting_house.client.call(op.LIST_RUNS, query=m.RunQuery(limit=2, offset=1), job=told.task)
    assert ([run.position for run in page.runs], page.total) == ([1, 2], 5)


def test_jobs_are_found_and_the_newest_comes_first(any_house: House) -> None:
    made = [
        Evaluation(any_house)
        .open(project=project)
        .job(name=name, taskset=taskset, agent=agent, model=model, created=float(n))
        for n, (project, name, taskset, agent, model) in enumerate(
            [
                ("one", "Nightly 1", "questions", "a", "m-1"),
                ("one/sub", "nightly 2", "questions", "b", "m-1"),
                ("other", "by hand", "sums", "a", "m-2"),
            ],
            1,
        )
    ]
    for job in made:
        job.ship()

    def found(**query: Any) -> list[str]:
        return [one.job.name for one in any_house.client.call(op.LIST_JOBS, query=m.JobQuery(**query)).jobs]

    assert found() == ["by hand", "nightly 2", "Nightly 1"]
    assert found(search="NIGHT") == found(taskset="questions") == found(model="m-1") == ["nightly 2", "Nightly 1"]
    assert found(project="one") == ["nightly 2", "Nightly 1"]
    assert found(project="one/sub", agent="b") == ["nightly 2"]
    assert found(agent="a", limit=1) == ["by hand"]
    assert found(offset=2) == ["Nightly 1"]
    archived = m.TaskEditRequest(edit=TaskEdit(system_tags=(ARCHIVED_TAG,)))
    any_house.client.call(op.EDIT_TASK, archived, task=made[0].task)
    assert found(taskset="questions") == ["nightly 2"]


# --- figures ------------------------------------------------------------------------------------------------


def test_a_report_tells_figures_also_by_a_column(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    for n in range(8):
        told.whole(
            float(n % 2),
            position=n,
            slug=f"slug-{n // 2}",
            columns={"level": "hard" if n < 4 else 5},
            usage=Usage(10, 1),
        )
    told.whole(None, position=8, slug="broken", boundary="infrastructure")
    told.told(finished(told.begin(position=9, slug="odd"), 1.0, grade=Grade(is_error=True, reward=1.0)))
    told.ship()
    report = lasting_house.client.call(op.REPORT_JOB, query=m.ReportQuery(column="level"), job=told.task)
    figures = report.figures
    assert (figures.runs, figures.counted, figures.excluded) == (10, 8, {"infrastructure": 1, "grader": 1})
    assert figures.reward is not None
    assert (figures.reward.mean, figures.usage.prompt_tokens, len(figures.by_slug)) == (0.5, 80, 6)
    assert figures.pass_at[2].mean == 1.0
    assert figures.reward_all == pytest.approx(0.4) == told.record().reward
    assert {value: part.runs for value, part in report.by_column.items()} == {"hard": 4, "5": 4, "(not set)": 2}
    assert not report.by_column["hard"].by_slug


def test_two_jobs_are_compared_on_what_both_have(lasting_house: House) -> None:
    jobs = [Evaluation(lasting_house).open().job() for _ in range(2)]
    for better, job in enumerate(jobs):
        for n in range(6):
            job.whole(float(n < 3 + better), position=n, slug=f"slug-{n + better}")
        job.ship()
    query = m.CompareQuery(first=jobs[0].task, second=jobs[1].task)
    told = lasting_house.client.call(op.COMPARE_JOBS, query=query)
    assert (told.first.job.id, told.second.job.id, told.comparison.paired) == (jobs[0].task, jobs[1].task, 5)
    assert (told.comparison.only_first, told.comparison.only_second) == (["slug-0"], ["slug-6"])
    assert told.comparison.better == 2
    with pytest.raises(BadInput):
        lasting_house.client.call(op.COMPARE_JOBS, query=m.CompareQuery(first=jobs[0].task, second=jobs[0].task))


def test_a_leaderboard_ranks_agents_and_models_on_a_taskset(lasting_house: House) -> None:
    def job(agent: str, model: str, reward: float, created: float, version: int = 1) -> str:
        told = Evaluation(lasting_house).open()
        told.job(taskset="a board", taskset_version=version, agent=agent, model=model, created=created)
        for n in range(4):
            told.whole(reward, position=n, slug=f"slug-{n}", columns={"level": n % 2})
        told.ship()
        return told.task

    old = job("one", "m-1", 1.0, 1.0)
    new = job("one", "m-1", 0.25, 2.0, version=2)
    other = job("two", "m-1", 0.5, 3.0)
    Evaluation(lasting_house).open().job(taskset="sums").ship()

    def ranked(**query: Any) -> list[tuple[str, float, list[str]]]:
        board = lasting_house.client.call(op.LEADERBOARD, query=m.LeaderboardQuery(taskset="a board", **query))
        return [
            (one.agent, one.figures.reward.mean if one.figures.reward else -1.0, one.jobs) for one in board.entries
        ]

    assert ranked() == [("two", 0.5, [other]), ("one", 0.25, [new])]
    assert ranked(newest=False) == [("one", 0.625, [new, old]), ("two", 0.5, [other])]
    assert ranked(version=1) == [("one", 1.0, [old]), ("two", 0.5, [other])]
    assert ranked(limit=1) == [("two", 0.5, [other])]
    board = lasting_house.client.call(op.LEADERBOARD, query=m.LeaderboardQuery(taskset="a board", column="level"))
    assert {value: part.runs for value, part in board.entries[0].by_column.items()} == {"0": 2, "1": 2}
    assert lasting_house.client.call(op.LEADERBOARD, query=m.LeaderboardQuery(taskset="nobody's")).entries == []


# --- what is refused ------------------------------------------------------------------------------------------

ID = "0" * 32

NONSENSE: list[tuple[Record, str]] = [
    (JobStored(job=EvalJob(id="1" * 32)), "expected the id of its task"),
    (JobStored(job=EvalJob(id=ID, name="n" * 300)), "name"),
    (JobStored(job=EvalJob(id=ID, created=math.inf)), "created"),
    (RunStored(run=EvalRun(id="no id", job=ID)), "run 'no id'"),
    (RunStored(run=EvalRun(id=ID, job="F" * 32)), "job"),
    (RunStored(run=EvalRun(id=ID, job=ID, slug="a\0b")), "NUL"),
    (RunStored(run=EvalRun(id=ID, job=ID, attempt=0)), "attempt"),
    (RunStored(run=EvalRun(id=ID, job=ID, position=-1)), "position"),
    (RunStored(run=EvalRun(id=ID, job=ID, started=math.nan)), "started"),
    (RunStored(run=EvalRun(id=ID, job=ID, usage=Usage(prompt_tokens=-1))), "prompt_tokens"),
    (RunStored(run=EvalRun(id=ID, job=ID, usage=Usage(cost_usd=math.nan))), "cost_usd"),
    (RunStored(run=EvalRun(id=ID, job=ID, grade=Grade(reward=math.nan))), "reward"),
    (RunStored(run=EvalRun(id=ID, job=ID, grade=Grade(reward=1e200))), "reward"),
    (
        RunStored(
            run=EvalRun(
                id=ID,
                job=ID,
                grade=Grade(
                    subscores=(SubScore(name="s", value=1, children=(SubScore(name="deep", value=-math.inf),)),)
                ),
            )
        ),
        "deep",
    ),
    (RunStored(run=EvalRun(id=ID, job=ID, answer=msgspec.msgpack.Ext(5, b"x"))), "cannot be stored"),
    (StepsTaken(run=ID, job="", start=0, steps=(Step(source="agent"),)), "job"),
    (StepsTaken(run=ID, job=ID, start=-1, steps=(Step(source="agent"),)), "start"),
    (StepsTaken(run=ID, job=ID, start=2**63 - 1, steps=(Step(source="agent"),)), "start"),
    (StepsTaken(run=ID, job=ID, start=4, steps=(Step(source="agent", ended=-1.0),)), "step 4: ended"),
]


def test_a_record_that_says_nonsense_is_refused_by_its_number(lasting_house: House) -> None:
    told = Evaluation(lasting_house, ID).open()
    for record, expected in NONSENSE:
        told.say(record)
        with pytest.raises(TaskloomError, match=f"record 1: .*{expected}") as refused:
            told.send(told.cut((0, 2)))
        assert refused.value.http_status in {400, 413}
        del told.records[1]
    told.job().ship()  # nothing of the batches was taken
    assert (told.record().runs, told.marks.events) == (0, 2)


OUT_OF_BOUNDS: list[tuple[Any, Any]] = [
    (op.LIST_JOBS, m.JobQuery(limit=0)),
    (op.LIST_JOBS, m.JobQuery(offset=-1)),
    (op.LIST_RUNS, m.RunQuery(limit=10**6)),
    (op.GET_STEPS, m.StepsQuery(start=-1)),
    (op.REPORT_JOB, m.ReportQuery(level=1.0)),
    (op.REPORT_JOB, m.ReportQuery(threshold=math.nan)),
    (op.LEADERBOARD, m.LeaderboardQuery(taskset="x", limit=0)),
    (op.LEADERBOARD, m.LeaderboardQuery(taskset="x", version=-1)),
]


def test_questions_out_of_bounds_are_refused(lasting_house: House) -> None:
    told = Evaluation(lasting_house).open().job()
    run = told.begin()
    told.ship()
    known = {"job": told.task, "run": run.id}
    for operation, query in OUT_OF_BOUNDS:
        path = {name: known[name] for name in known if f"{{{name}}}" in operation.path}
        with pytest.raises(BadInput, match="expected"):
            lasting_house.client.call(operation, query=query, **path)


def test_a_task_without_a_job_and_an_unknown_run_are_not_found(lasting_house: House) -> None:
    plain = Evaluation(lasting_house).open()
    plain.ship()
    asked: list[tuple[Any, dict[str, str]]] = [
        (op.GET_JOB, {"job": plain.task}),
        (op.LIST_RUNS, {"job": plain.task}),
        (op.REPORT_JOB, {"job": fresh_id()}),
        (op.GET_RUN, {"run": "nonsense"}),
        (op.GET_STEPS, {"run": fresh_id()}),
    ]
    for operation, path in asked:
        query = None if operation.query is None else operation.query()
        with pytest.raises(NotFound):
            lasting_house.client.call(operation, query=query, **path)
