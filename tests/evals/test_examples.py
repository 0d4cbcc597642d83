"""The examples of evaluations, each run as a person runs it, against a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import HouseProcess

from taskloom.wire import messages as m
from taskloom.wire import operations as op

pytestmark = pytest.mark.evals

EXAMPLES = Path(__file__).parents[2] / "examples" / "11-evaluations"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy: what an example leaves beside itself is not left in the repository."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples"))


def run(folder: Path, house: HouseProcess, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=house.environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def jobs(house: HouseProcess) -> list[m.JobRecord]:
    """Oldest first."""
    return house.client.call(op.LIST_JOBS, query=m.JobQuery()).jobs[::-1]


def test_a_question_set_is_graded_by_comparison_and_told_by_kind(
    folder: Path, house_process: HouseProcess
) -> None:
    out = run(folder, house_process, "questions.py")

    assert "10 runs, mean reward 0.80" in out
    (job,) = jobs(house_process)
    assert (job.runs, job.reward, job.status) == (10, 0.8, "completed")
    report = house_process.client.call(op.REPORT_JOB, query=m.ReportQuery(column="kind"), job=job.job.id)
    means = {kind: figures.reward.mean for kind, figures in report.by_column.items() if figures.reward}
    assert {json.loads(kind) if kind.startswith('"') else kind: mean for kind, mean in means.items()} == {
        "sum": 1.0,
        "fact": 0.5,
    }


def test_the_question_set_runs_by_command(folder: Path, house_process: HouseProcess) -> None:
    words = ["-m", "taskloom.cli.main", "eval", "questions.py", "--agent", "questions.py:calculator", "--json"]

    told = json.loads(run(folder, house_process, *words))

    assert (told["runs"], told["reward"]) == (5, 0.8)


def test_a_coding_environment_gives_its_agent_a_shell(folder: Path, house_process: HouseProcess) -> None:
    out = run(folder, house_process, "coding.py")

    assert "engineer: reward 1.00" in out
    assert "careless: reward 0.20" in out
    engineer, careless = jobs(house_process)
    assert (engineer.reward, careless.reward) == (1.0, pytest.approx(0.2))
    client = house_process.client
    first = client.call(op.LIST_RUNS, query=m.RunQuery(), job=engineer.job.id).runs[0]
    assert first.grade is not None
    assert [(part.name, part.value) for part in first.grade.subscores] == [("tests", 1.0), ("short", 1.0)]
    steps = client.call(op.GET_STEPS, query=m.StepsQuery(), run=first.id).steps
    results = [step.result for step in steps if step.source == "tool"]
    assert len(results) == 2
    assert "def middle" in json.dumps(results[0].content if results[0] else None)


def test_a_conversation_is_one_job_of_graded_turns(folder: Path, house_process: HouseProcess) -> None:
    out = run(folder, house_process, "conversation.py")

    assert "waiter: soup, bread, tea: that makes 10 euros." in out
    assert "3 turns, mean reward 1.00" in out
    (job,) = jobs(house_process)
    runs = house_process.client.call(op.LIST_RUNS, query=m.RunQuery(), job=job.job.id).runs
    assert [len(one.args["messages"]) for one in runs] == [1, 3, 5]


def test_a_training_loop_learns_from_the_rewards_of_its_runs(folder: Path, house_process: HouseProcess) -> None:
    out = run(folder, house_process, "learning.py")

    rewards = [float(value) for value in re.findall(r"mean reward ([\d.]+)", out)]
    assert len(rewards) == 12
    assert rewards[0] < 0.5 < 0.9 <= min(rewards[-4:])
    (job,) = jobs(house_process)
    assert job.runs == 12 * 3 * 8
    last = house_process.client.call(
        op.LIST_RUNS, query=m.RunQuery(limit=1, offset=job.runs - 1), job=job.job.id
    ).runs[0]
    steps = house_process.client.call(op.GET_STEPS, query=m.StepsQuery(), run=last.id).steps
    (sample,) = [step.sample for step in steps if step.sample is not None]
    assert len(sample.output_token_ids) == len(sample.output_logprobs) == 1
