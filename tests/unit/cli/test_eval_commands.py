"""`taskloom eval`: what it refuses and how, and what it tells of jobs that are on the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.conftest import House

from taskloom.cli.evals.display import Display, cost
from taskloom.cli.evals.reading import step_lines
from taskloom.cli.evals.words import whole_agent, whole_path, whole_runtime
from taskloom.cli.main import build_app
from taskloom.domain.evaluation import (
    EvalJob,
    EvalRow,
    EvalRun,
    Grade,
    Step,
    SubScore,
    TaskCall,
    ToolCall,
    ToolResult,
    Usage,
)
from taskloom.domain.task import TaskType
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.records import Ended, JobStored, Opened, Record, RunStored, StepsTaken

JOBS = ("a" * 32, "b" * 32)
STEPS = (
    Step(source="task", task_call=TaskCall("setup", "add", {"a": 1})),
    Step(source="user", messages=({"role": "user", "content": "What is 1 + 1?"},)),
    Step(
        source="agent",
        reasoning="a sum",
        content="I look",
        model="m-1",
        usage=Usage(prompt_tokens=5, completion_tokens=2),
        tool_calls=(ToolCall("1", "look", {"at": "it"}),),
        started=1.0,
        ended=3.0,
    ),
    Step(
        source="tool",
        call=ToolCall("1", "look", {"at": "it"}),
        result=ToolResult(({"type": "text", "text": "2"},)),
    ),
    Step(source="task", task_call=TaskCall("evaluate", "add", result={"score": 1.0})),
)


def ship(house: House, job: str, agent: str, rewards: list[float]) -> None:
    records: list[Record] = [
        Opened(mode="new", name=f"sums by {agent}", project="sums", type=TaskType.TESTING, time=1.0),
        JobStored(
            job=EvalJob(id=job, name=f"sums by {agent}", taskset="sums", agent=agent, model="m-1", expected=4)
        ),
    ]
    for position, reward in enumerate(rewards):
        run = f"{position:02x}{job[2:]}"
        grade = Grade(
            reward=reward,
            subscores=(SubScore(name="exact", value=reward, children=(SubScore(name="part", value=0.5),)),),
        )
        records.append(
            RunStored(
                run=EvalRun(
                    id=run,
                    job=job,
                    position=position,
                    slug=f"add-{position}",
                    env="sums",
                    template="add",
                    status="completed",
                    answer="2",
                    grade=grade,
                    steps=len(STEPS),
                    usage=Usage(prompt_tokens=5, completion_tokens=2, cost_usd=0.01),
                    started=1.0,
                    ended=2.5,
                )
            )
        )
        records.append(StepsTaken(run=run, job=job, start=0, steps=STEPS))
    broken = EvalRun(
        id=f"ff{job[2:]}",
        job=job,
        position=9,
        slug="add-9",
        env="sums",
        template="add",
        status="error",
        boundary="grader",
        error="no grade\nfor it",
    )
    records += [RunStored(run=broken), Ended(status="completed", time=9.0)]
    batch = m.JournalBatch(writer=job, events_start=0, events=records)
    house.client.call(op.SHIP_JOURNAL, batch, task=job)


@pytest.fixture
def jobs(house: House) -> None:
    ship(house, JOBS[0], "good", [1.0, 1.0, 1.0])
    ship(house, JOBS[1], "fair", [1.0, 0.0, 0.0])


WRONG = (
    (["nothing.jsonl", "--agent", "scripted:1"], 1, "there is no such file or folder"),
    (["no-such-set", "--agent", "scripted:1"], 1, "neither a file or folder here nor a taskset on the server"),
    (["rows.jsonl"], 1, "an agent is needed: --agent"),
    (["rows.jsonl", "--agent", "nobody"], 1, "expected"),
    (["rows.jsonl", "--agent", "nobody.py:solve"], 1, "nobody.py"),
    (["rows.jsonl", "--agent", "openai"], 1, "model"),
    (
        ["rows.jsonl", "--agent", "scripted:1"],
        1,
        "where the environment of these rows is (e) is not known: give --environment PATH",
    ),
    (["rows.jsonl", "--agent", "scripted:1", "--runtime", "moon:1"], 1, "expected local"),
    (["rows.jsonl", "--agent", "scripted:1", "--runtime", "local"], 1, "give --environment PATH"),
    (["rows.jsonl", "--agent", "scripted:1", "--runtime", "hosted"], 1, "give --environment PATH"),
    (["rows.jsonl", "--agent", "scripted:1", "--runtime", "tcp://h"], 1, "expected tcp://HOST:PORT"),
    (["rows.jsonl", "--agent", "scripted:1", "-r", "tcp://h:1", "-e", "x.py"], 1, "has its environment with it"),
    (["rows.jsonl", "--agent", "scripted:1", "-e", "x.py"], 1, "there is no such file or folder"),
    (
        ["rows.jsonl", "--agent", "scripted:1", "-e", ".", "--secret", "KEY"],
        1,
        "expected --runtime hosted or leased",
    ),
    (
        ["rows.jsonl", "--agent", "openai", "-m", "x", "-r", "tcp://h:1"],
        1,
        "no key for openai: set OPENAI_API_KEY",
    ),
    (["rows.jsonl", "--agent", "scripted:1", "--slug", "rox"], 1, "no task 'rox'; near ones: row"),
    (
        ["rows.jsonl", "-a", "scripted:1", "-r", "tcp://h:1", "--timeout", "1", "--agent-timeout", "2"],
        1,
        "less than",
    ),
    (["rows.jsonl", "--agent", "scripted:1", "--group", "0"], 2, "--group"),
    (["rows.csv", "--agent", "scripted:1"], 1, "written for people"),
    (["empty.jsonl", "--agent", "scripted:1"], 1, "there is no task in it"),
    (["bad.py", "--agent", "scripted:1"], 1, "line 1 of bad.py: ZeroDivisionError: division by zero"),
    (["bad.jsonl", "--agent", "scripted:1"], 1, "bad.jsonl, line 1: Invalid JSON"),
    (["ends.py", "--agent", "scripted:1"], 1, "line 2 of ends.py: SystemExit: 3"),
    (["rows.jsonl", "--agent", "ends.py:solve"], 1, "line 2 of ends.py: SystemExit: 3"),
    (["--resume", "f" * 32], 1, "f" * 8),
    (["--resume", JOBS[0]], 1, "this job was not made by `taskloom eval`"),
    (["rows.jsonl", "--resume", JOBS[0]], 2, "--resume takes everything else from the job"),
    (["run"], 2, "give a SOURCE"),
    (["rows.jsonl", "-a", "scripted:1", "-r", "tcp://h:1", "--version", "3"], 1, "is of a taskset on the server"),
    (["lst"], 1, "lst: neither a file or folder here nor a taskset on the server"),
    (["show", JOBS[0], "--status", "odd"], 1, "expected one of running, completed, error, cancelled"),
    (["show", JOBS[0], "--boundary", "odd"], 1, "expected one of infrastructure, environment, agent, grader"),
    (["show", "f" * 32], 1, "f" * 8),
    (["trace", "xyz"], 1, "expected its id"),
    (["trace", f"{JOBS[0]}:nobody"], 1, "has no run of the task 'nobody'"),
)


def test_what_cannot_be_is_one_sentence(
    taskloom: Any, jobs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    (tmp_path / "rows.jsonl").write_text('{"env": "e", "id": "row", "slug": "row"}\n')
    (tmp_path / "bad.py").write_text("1 / 0\n")
    (tmp_path / "bad.jsonl").write_text("{\n")
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "rows.csv").write_text("slug\n")
    for words, code, said in WRONG:
        ran = taskloom("eval", *words)
        assert ran.code == code, (words, ran.err)
        assert said in " ".join(ran.err.replace("│", " ").split()), words
        assert "Traceback" not in ran.err
    assert len(taskloom("eval", "list", "--json").json["jobs"]) == len(JOBS)  # nothing was begun


def test_jobs_are_listed_newest_first(taskloom: Any, jobs: None) -> None:
    told = taskloom("eval", "list", "--json").json

    assert {job["job"]["id"] for job in told["jobs"]} == set(JOBS)
    assert [job["reward"] for job in taskloom("eval", "list", "--agent", "good", "--json").json["jobs"]] == [0.75]
    shown = taskloom("eval", "list").out
    assert "good m-1" in shown
    assert "4/4" in shown


def test_a_job_is_shown_with_its_runs(taskloom: Any, jobs: None) -> None:
    told = taskloom("eval", "show", "aaaaaa", "--json").json
    assert [run["slug"] for run in told["runs"]] == ["add-0", "add-1", "add-2", "add-9"]
    shown = taskloom("eval", "show", JOBS[0]).out
    assert "0.75 (failures as 0)" in shown
    assert "grader: no grade for it" in shown
    assert "1.5 s" in shown
    only = taskloom("eval", "show", JOBS[0], "--boundary", "grader", "--json").json
    assert [run["slug"] for run in only["runs"]] == ["add-9"]
    assert "add-2" in taskloom("eval", "show", JOBS[0], "--by-slug").out


def test_a_trace_is_told_step_by_step(taskloom: Any, jobs: None) -> None:
    shown = taskloom("eval", "trace", f"{JOBS[0]}:add-1").out

    for part in (
        "[2] agent  m-1  2.0 s  5+2 tokens",
        "user: What is 1 + 1?",
        "(thinks) a sum",
        '-> look({"at":"it"})',
        'evaluate: {"score":1.0}',
        "exact: 1 (weight 1)",
        "part: 0.5 (weight 1)",
    ):
        assert part in shown
    lines = taskloom("eval", "trace", f"01{JOBS[0][2:]}", "--json").out.splitlines()
    assert [json.loads(line)["source"] for line in lines] == ["task", "user", "agent", "tool", "task"]


def test_reports_have_intervals_and_two_jobs_are_compared(taskloom: Any, jobs: None) -> None:
    one = taskloom("eval", "report", JOBS[0])
    assert "failed: grader" in one.out
    assert "reward, failures as 0" in one.out
    both = taskloom("eval", "report", JOBS[0], JOBS[1])
    assert "sums by fair minus sums by good" in both.out
    assert "p-value" in both.out
    told = taskloom("eval", "report", *JOBS, "--json").json
    assert (told["comparison"]["paired"], told["comparison"]["worse"]) == (3, 2)


def test_a_leaderboard_has_the_best_first(taskloom: Any, jobs: None) -> None:
    told = taskloom("eval", "leaderboard", "sums", "--json").json

    assert [entry["agent"] for entry in told["entries"]] == ["good", "fair"]
    shown = taskloom("eval", "leaderboard", "sums").out
    assert shown.index("good") < shown.index("fair")


def test_tasksets_are_listed_and_read(taskloom: Any, house: House) -> None:
    from taskloom.evals import Taskset

    rows = [
        EvalRow(slug=f"row-{n}", env="e", id="t", args={"n": n}, columns={"level": n % 2}) for n in range(2500)
    ]
    house.client.call(op.UPLOAD_TASKSET, m.TasksetUpload(rows=rows), taskset="many")

    assert "many" in taskloom("eval", "tasksets").out
    taskset = Taskset.from_api("many")
    assert (taskset.name, len(taskset), taskset.version) == ("many", 2500, 1)
    assert taskset.id
    assert [task.args["n"] for task in taskset] == list(range(2500))
    assert taskset["row-7"].columns == {"level": 1}


def test_a_first_word_that_is_no_command_is_a_source() -> None:
    group = typer.main.get_command(build_app("eval")).commands["eval"]  # pyright: ignore[reportAttributeAccessIssue]

    for words, command in (
        (["rows.jsonl", "--agent", "x"], "run"),
        (["--resume", "abc"], "run"),
        (["list"], "list"),
        (["run", "x.py"], "run"),
    ):
        context = group.make_context("eval", list(words))
        assert [*context._protected_args, *context.args][0] == command


def test_paths_in_words_are_made_whole_and_other_words_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("agent.py", "openai", "rows.jsonl"):
        (tmp_path / name).write_text("")

    assert whole_path("rows.jsonl") == f"{tmp_path}/rows.jsonl"
    assert whole_path("x" * 10_000) == "x" * 10_000
    assert whole_path("") == ""
    assert whole_agent("agent.py:solve") == f"{tmp_path}/agent.py:solve"
    assert whole_agent("openai") == "openai"
    assert whole_agent("scripted:agent.py") == "scripted:agent.py"
    assert whole_runtime("local:agent.py") == f"local:{tmp_path}/agent.py"
    assert whole_runtime("tcp://127.0.0.1:1") == "tcp://127.0.0.1:1"


def test_the_line_of_a_running_evaluation_says_how_it_goes() -> None:
    class Told:
        reward, runs = 0.5, ()

    display = Display(Told(), 4)  # pyright: ignore[reportArgumentType]
    assert display.words() == "reward 0.5"
    for status, boundary in (("completed", ""), ("error", "agent"), ("cancelled", "")):
        trace = type("T", (), {"usage": Usage(prompt_tokens=10, cost_usd=0.25)})
        display.ended(Told(), type("R", (), {"trace": trace, "status": status, "boundary": boundary}))  # pyright: ignore[reportArgumentType]

    words = display.words()
    assert words.startswith("reward 0.5, 2 failed (agent 1, cancelled 1), 30 tokens, $0.7500")
    assert words.endswith(" left")
    assert cost(12.345) == "$12.35"
    assert [cost(dollars) for dollars in (0.0, 3.6e-5, 0.5)] == ["$0.0000", "$0.000036", "$0.5000"]


def test_odd_steps_are_told_as_lines() -> None:
    step = Step(
        source="agent", refusal="no\nnever", error="it fell", messages=({"role": "user", "content": None},)
    )

    assert step_lines(step) == ["user: ", "refused: no", "never", "error: it fell"]


def test_a_job_goes_to_a_log_and_comes_back_as_another(
    taskloom: Any, jobs: None, house: House, tmp_path: Path
) -> None:
    for name, format in (("log.eval", "inspect"), ("log", "verifiers")):
        file = tmp_path / name
        assert taskloom("eval", "export", JOBS[0], str(file), "--json").json["format"] == format

        ran = taskloom("eval", "import", str(file), "--name", f"back from {format}", "--project", "sums", "--json")

        assert ran.code == 0, ran.err
        record = house.client.call(op.GET_JOB, job=ran.json["job"])
        assert record.runs == ran.json["runs"] == 4
        assert record.job.name == f"back from {format}"
        again = taskloom("eval", "import", str(file))
        assert again.code == 1
        assert "on the server already" in again.err

    rows = tmp_path / "rows.jsonl"
    taskloom("eval", "export", JOBS[0], str(rows))
    assert [json.loads(line)["reward"] for line in rows.read_text().splitlines()] == [1.0, 1.0, 1.0, None]
    for words, said in (
        (["export", JOBS[0], str(tmp_path / "log.xyz")], "expected --format with one of inspect"),
        (["import", str(tmp_path / "nothing.eval")], "there is no such file"),
        (["import", str(tmp_path / "rows.jsonl")], "rows.jsonl"),
    ):
        ran = taskloom("eval", *words)
        assert (ran.code, said in " ".join(ran.err.split())) == (1, True), ran.err


def test_a_folder_of_harbor_s_tasks_becomes_rows_and_an_environment(taskloom: Any, tmp_path: Path) -> None:
    task = tmp_path / "tasks" / "first"
    (task / "environment").mkdir(parents=True)
    (task / "tests").mkdir()
    (task / "task.toml").write_text('version = "1.0"\n[metadata]\ndifficulty = "easy"\n')
    (task / "instruction.md").write_text("Say hello.")
    (task / "environment" / "Dockerfile").write_text("FROM scratch\n")
    (task / "tests" / "test.sh").write_text("true\n")

    told = taskloom("eval", "import", str(tmp_path / "tasks"), "--json")

    assert told.code == 0, told.err
    assert told.json["rows"] == 1
    assert [Path(file).name for file in told.json["files"]] == ["tasks.jsonl", "environment.py"]
