"""Neighbours' logs: those that Inspect itself wrote (in `data`), verifiers' files, Harbor's folders, and hostile ones."""

from __future__ import annotations

import json
import os
import random
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskloom.domain.evaluation import (
    EvalJob,
    EvalRun,
    Grade,
    Step,
    SubScore,
    TaskCall,
    TokenSample,
    ToolCall,
    ToolResult,
    Usage,
)
from taskloom.domain.statistics import summarise
from taskloom.evals.failures import EnvironmentFailure, GraderFailure
from taskloom.evals.formats import FORMATS, ReadLog, read_log, to_dataset, write_log
from taskloom.evals.formats import files as files_module
from taskloom.evals.formats.harbor import Trial, read_harbor, write_environment, write_harbor
from taskloom.evals.formats.inspect_reading import reward_of
from taskloom.evals.run import Run
from taskloom.evals.task import Task

DATA = Path(__file__).parent / "data"
INSPECT_PYTHON = os.environ.get("TASKLOOM_TEST_INSPECT", "")


# --- Inspect ----------------------------------------------------------------------------------------------------


def test_an_archive_of_inspect_is_a_job_with_runs_and_steps():
    log = read_log(DATA / "sums.eval")
    job = log.job
    assert (job.name, job.model, job.group, job.expected) == ("sums", "mockllm/model", 2, 6)
    told = [(run.slug, run.position, run.status, run.reward) for run, _ in log.runs]
    assert told == [
        ("one", 0, "completed", 1.0),
        ("one", 1, "completed", 0.0),
        ("2", 2, "completed", 0.0),
        ("2", 3, "completed", 1.0),
        ("broken", 4, "error", None),
        ("broken", 5, "error", None),
    ]
    assert log.runs[0][0].group == log.runs[1][0].group != log.runs[2][0].group
    assert "the world fell over" in log.runs[4][0].error
    assert summarise([run for run, _ in log.runs]).excluded == {"unknown": 2}


def test_its_messages_are_steps_with_tools_and_usage():
    run, steps = read_log(DATA / "sums.eval").runs[0]
    assert [step.source for step in steps] == ["task", "system", "user", "agent", "tool", "agent", "task"]
    asked, tool, said = steps[3], steps[4], steps[5]
    assert asked.tool_calls == (ToolCall("call-1", "add", {"x": 1, "y": 2}),)
    assert (tool.call, tool.result) == (asked.tool_calls[0], ToolResult(({"type": "text", "text": "3"},)))
    assert (said.content, said.usage, said.finish_reason) == ("The answer is 3", Usage(14, 5, 4), "stop")
    assert said.started > 0
    assert run.usage == Usage(28, 10, 8)
    assert run.columns == {"level": "easy"}
    assert run.answer == "The answer is 3"
    assert run.grade is not None
    assert [(part.name, part.value) for part in run.grade.subscores] == [("match", 1.0), ("includes", 1.0)]


def test_a_log_of_inspect_as_one_json_file_reads_the_same():
    ((run, steps),) = read_log(DATA / "sums.json").runs
    assert (run.slug, run.reward, len(steps)) == ("one", 1.0, 7)


def test_reading_again_gives_the_same_ids():
    assert read_log(DATA / "sums.eval") == read_log(DATA / "sums.eval")


@pytest.mark.parametrize(
    ("value", "reward"),
    [("C", 1.0), ("P", 0.5), ("I", 0.0), (True, 1.0), (3, 3.0), ("0.25", 0.25), ({"a": 1, "b": "I"}, 0.5), ([], None),
     ("great", None), (float("nan"), None), (None, None), ("nan", None)],
)  # fmt: skip
def test_what_a_score_is_worth(value: Any, reward: float | None):
    assert reward_of(value) == reward


def test_without_zstd_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files_module, "_zip_module", lambda: zipfile)
    with pytest.raises(
        ValueError, match=r"is packed with zstd: expected Python 3\.14, or the package backports\.zstd"
    ):
        read_log(DATA / "sums.eval")


# --- there and back ---------------------------------------------------------------------------------------------


def own_log() -> ReadLog:
    """A job of ours with everything that a log should keep."""
    job = EvalJob(
        id="a" * 32, name="shop", taskset="shop", group=2, agent="mine", model="m/1", expected=4, created=1000.0
    )
    call = ToolCall("c1", "buy", {"what": "bread"})
    steps = [
        Step(source="task", task_call=TaskCall("setup", "buy", {"what": "bread"})),
        Step(source="user", messages=({"role": "user", "content": "Buy bread."},)),
        Step(source="agent", reasoning="hm", tool_calls=(call,), model="m/1", usage=Usage(10, 5, 2, 0.5)),
        Step(source="tool", call=call, result=ToolResult(({"type": "text", "text": "no money"},), is_error=True)),
        Step(source="agent", content="I cannot.", sample=TokenSample((1, 2), (3,), (-0.5,))),
    ]
    grade = Grade(reward=0.5, content="half", subscores=(SubScore(name="tried", value=1.0, weight=0.5),))
    first = EvalRun(
        id="b" * 32, job=job.id, group="g" * 32, slug="bread", env="shop", template="buy", args={"what": "bread"},
        columns={"hard": True}, status="completed", stop_reason="done", answer="I cannot.", grade=grade,
        usage=Usage(10, 5, 2, 0.5), steps=5, started=1000.0, ended=1002.0,
    )  # fmt: skip
    second = msgspec.structs.replace(
        first, id="c" * 32, position=1, status="error", boundary="agent", error="boom", grade=None
    )
    third = msgspec.structs.replace(first, id="d" * 32, position=2, slug="../milk/x", stop_reason="timeout")
    fourth = msgspec.structs.replace(
        first, id="e" * 32, position=3, slug="../milk/x", status="cancelled", grade=None
    )
    return ReadLog(job, [(first, steps), (second, steps), (third, steps), (fourth, steps)])


@pytest.mark.parametrize("format", ["inspect", "inspect-json", "verifiers"])
def test_what_is_written_reads_back(format: str, tmp_path: Path):
    log = own_log()
    path = tmp_path / {"inspect": "x.eval", "inspect-json": "x.json", "verifiers": "x"}[format]
    write_log(path, log.job, log.runs, format)
    back = read_log(path)
    assert (back.job.name, back.job.group, back.job.model) == ("shop", 2, "m/1")
    assert [(run.slug, run.position) for run, _ in back.runs] == [
        ("bread", 0),
        ("bread", 1),
        ("../milk/x", 2),
        ("../milk/x", 3),
    ]
    run, steps = back.runs[0]
    assert (run.reward, run.answer, run.usage.prompt_tokens) == (0.5, "I cannot.", 10)
    assert [step.source for step in steps[:5]] == ["task", "user", "agent", "tool", "agent"]
    assert (steps[2].reasoning, steps[2].tool_calls[0].arguments) == ("hm", {"what": "bread"})
    assert "boom" in back.runs[1][0].error
    assert sorted(one.name for one in tmp_path.iterdir()) == [path.name]


def test_inspects_log_keeps_our_row_and_the_limit(tmp_path: Path):
    log = own_log()
    write_log(tmp_path / "x.eval", log.job, log.runs, "inspect")
    runs = [run for run, _ in read_log(tmp_path / "x.eval").runs]
    assert (runs[0].env, runs[0].template, runs[0].args, runs[0].columns) == (
        "shop", "buy", {"what": "bread"}, {"hard": True},
    )  # fmt: skip
    assert [run.stop_reason for run in runs] == ["done", "", "timeout", ""]
    assert runs[3].status == "cancelled"


@pytest.mark.skipif(not INSPECT_PYTHON, reason="TASKLOOM_TEST_INSPECT names no python with inspect-ai")
@pytest.mark.parametrize("name", ["x.eval", "x.json"])
def test_inspect_itself_reads_what_is_written(name: str, tmp_path: Path):
    log = own_log()
    write_log(tmp_path / name, log.job, log.runs, "inspect" if name == "x.eval" else "inspect-json")
    code = (
        "import sys, json; from inspect_ai.log import read_eval_log, read_eval_log_sample_summaries as s; "
        "log = read_eval_log(sys.argv[1]); print(json.dumps([len(s(sys.argv[1])), log.results.scores[0].metrics['mean'].value, "
        "[[x.id, x.epoch, x.scores['reward'].value if x.scores else None, x.limit and x.limit.type, len(x.messages)] "
        "for x in log.samples]]))"
    )
    out = subprocess.run(
        [INSPECT_PYTHON, "-c", code, str(tmp_path / name)], capture_output=True, text=True, check=True
    )
    count, mean, samples = json.loads(out.stdout.splitlines()[-1])
    assert (count, mean) == (4, pytest.approx(1 / 3))
    assert sorted(samples, key=str) == [
        ["../milk/x", 1, 0.5, "time", 4],
        ["../milk/x", 2, None, "operator", 4],
        ["bread", 1, 0.5, None, 4],
        ["bread", 2, 0.0, None, 4],
    ]


def test_an_unknown_format_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="format 'xml': expected one of " + ", ".join(FORMATS)):
        write_log(tmp_path / "x", own_log().job, [], "xml")


# --- verifiers --------------------------------------------------------------------------------------------------


def test_a_folder_of_verifiers_results_is_a_job(tmp_path: Path):
    rows = [
        {"example_id": 7, "prompt": "2+2?", "completion": [{"role": "assistant", "content": "4"}], "reward": 1.0,
         "answer": "4", "task": "sums", "metrics": {"exact": 1.0}, "token_usage": {"input_tokens": 3.0}},
        {"example_id": 7, "prompt": [{"role": "user", "content": "2+2?"}], "completion": "5", "reward": 0.0},
        {"example_id": 9, "prompt": "?", "completion": None, "reward": 0.0, "error": {"error": "ModelError", "message": "x"}},
    ]  # fmt: skip
    (tmp_path / "results.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "metadata.json").write_text(
        json.dumps({"env_id": "sums", "model": "m", "rollouts_per_example": 2})
    )
    log = read_log(tmp_path)
    assert (log.job.name, log.job.model, log.job.group) == ("sums", "m", 2)
    assert [(run.slug, run.position, run.reward, run.status) for run, _ in log.runs] == [
        ("7", 0, 1.0, "completed"),
        ("7", 1, 0.0, "completed"),
        ("9", 2, None, "error"),
    ]
    assert (log.runs[0][0].answer, log.runs[0][0].usage.prompt_tokens) == ("4", 3)
    assert log.runs[2][0].error == "ModelError: x"
    assert read_log(tmp_path / "results.jsonl") == log


def test_traces_of_version_1_are_runs_with_token_samples(tmp_path: Path):
    nodes = [
        {"message": {"role": "user", "content": "2+2?"}, "token_ids": [1, 2], "mask": [False, False]},
        {"parent": 0, "message": {"role": "assistant", "content": "wrong branch"}, "sampled": True},
        {"parent": 0, "message": {"role": "assistant", "content": "4"}, "sampled": True, "token_ids": [8, 3, 4],
         "mask": [False, True, True], "logprobs": [-0.1, -0.2]},
    ]  # fmt: skip
    trace = {
        "id": "t1", "task": {"type": "Sum", "data": {"idx": 3, "prompt": "2+2?"}}, "nodes": nodes,
        "calls": [{"node": 2, "model": "m", "usage": {"prompt_tokens": 2, "completion_tokens": 2}, "finish_reason": "stop"}],
        "rewards": {"exact": {"score": 1.0, "weight": 0.5}, "none": None}, "metrics": {"turns": 1.0}, "ok": True,
        "stop_condition": "agent_completed", "timing": {"start": 5.0, "scoring": {"start": 6.0, "end": 7.0}},
    }  # fmt: skip
    failed = {
        "id": "t2",
        "task": {"data": {"idx": 3}},
        "errors": [{"type": "ProviderError", "message": "away"}],
        "nodes": [],
    }
    lines = [{"env": {"id": "sums"}, "group": {"id": "g"}, "traces": [one]} for one in (trace, failed)]
    (tmp_path / "traces.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    log = read_log(tmp_path)
    (run, steps), (other, _) = log.runs
    assert (log.job.name, log.job.group, run.slug, run.reward, run.answer, run.model) == (
        "sums",
        2,
        "3",
        0.5,
        "4",
        "m",
    )
    assert (run.started, run.ended, run.group) == (5.0, 7.0, other.group)
    assert [step.source for step in steps] == ["task", "user", "agent", "task"]
    assert steps[2].sample == TokenSample((1, 2, 8), (3, 4), (-0.1, -0.2))
    assert (other.status, other.error, other.reward) == ("error", "ProviderError: away", None)


# --- data for trainers ------------------------------------------------------------------------------------------


def test_runs_are_rows_for_a_trainer(tmp_path: Path):
    log = own_log()
    rows = to_dataset(log.runs)
    assert [row["reward"] for row in rows] == [0.5, 0.5]
    assert len(to_dataset(log.runs, graded_only=False)) == 4
    row = rows[0]
    assert row["prompt"] == [{"role": "user", "content": "Buy bread."}]
    assert [message["role"] for message in row["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert row["samples"] == [{"prompt_token_ids": [1, 2], "output_token_ids": [3], "output_logprobs": [-0.5]}]
    assert (row["group_id"], row["answer"], row["subscores"]) == ("g" * 32, "I cannot.", {"tried": 1.0})
    write_log(tmp_path / "rows.jsonl", log.job, log.runs, "dataset")
    written = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert written == to_dataset(log.runs, graded_only=False)


def test_live_runs_are_rows_too():
    run = Run(None, "add", {"a": 1})
    run.record(Step(source="user", messages=({"role": "user", "content": "1+1?"},)))
    run.record(Step(source="agent", content="2"))
    run.trace.content, run.grade = "2", Grade(reward=1.0)
    (row,) = to_dataset([run])
    assert (row["reward"], row["answer"], row["args"], len(row["messages"])) == (1.0, "2", {"a": 1}, 2)


# --- Harbor -----------------------------------------------------------------------------------------------------

TEST = (
    'grep -q hello "$TESTS_DIR/../said" && echo 1 > "$LOGS_DIR/reward.txt" || echo 0.25 > "$LOGS_DIR/reward.txt"\n'
)


def harbor_rows() -> list[Task]:
    return [
        Task(env="h", id="solve", slug="greet", args={"instruction": "Say hello.", "test": TEST, "solution": "echo hello > said"},
             columns={"difficulty": "easy", "n": 2, "bad": [1]}, agent_config={"timeout_seconds": 30.0}),
    ]  # fmt: skip


def test_rows_become_harbor_folders_and_rows_again(tmp_path: Path):
    (folder,) = write_harbor(tmp_path, harbor_rows())
    written = sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())
    assert written == [
        "environment/Dockerfile",
        "instruction.md",
        "solution/solve.sh",
        "task.toml",
        "tests/test.sh",
    ]
    for source in (tmp_path, folder):
        (row,) = read_harbor(source, env="bench")
        assert (row.env, row.id, row.slug, row.args) == ("bench", "solve", "greet", {"task": "greet"})
        assert (row.columns, row.agent_config) == ({"difficulty": "easy", "n": 2}, {"timeout_seconds": 30.0})
    with pytest.raises(ValueError, match="expected a name that is free"):
        write_harbor(tmp_path, harbor_rows())


async def test_a_trial_prompts_and_grades_by_the_tests_reward(tmp_path: Path):
    (folder,) = write_harbor(tmp_path / "tasks", harbor_rows())
    root = tmp_path / "root"
    root.mkdir()
    trial = Trial(folder, root)
    assert trial.instruction == "Say hello."
    assert not (root / "tests").exists()
    (root / "said").write_text("nothing")
    assert (await trial.grade()).reward == 0.25
    (root / "said").write_text("hello")
    result = await trial.grade()
    assert result.reward == 1.0
    assert result.subscores is not None
    assert result.subscores[0].name == "tests"


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("true", "left no reward"),
        ('echo nan > "$LOGS_DIR/reward.txt"', "expected JSON|expected finite numbers"),
        ('echo "[1]" > "$LOGS_DIR/reward.json"', "expected a JSON object"),
    ],
)
async def test_tests_that_leave_no_reward_are_the_graders_failure(test: str, said: str, tmp_path: Path):
    task = Task(env="h", id="solve", slug="t", args={"instruction": "x", "test": test})
    (folder,) = write_harbor(tmp_path / "tasks", [task])
    with pytest.raises(GraderFailure, match=said):
        await Trial(folder, tmp_path / "root").grade()


def test_an_environment_module_is_written_beside_the_tasks(tmp_path: Path):
    write_harbor(tmp_path, harbor_rows())
    module = write_environment(tmp_path, env="bench")
    compile(module.read_text(), str(module), "exec")
    assert "Environment('bench')" in module.read_text()
    with pytest.raises(FileExistsError):
        write_environment(tmp_path)


def test_harbor_folders_that_are_none_say_what_was_expected(tmp_path: Path):
    with pytest.raises(ValueError, match=r"expected folders with a task\.toml each"):
        read_harbor(tmp_path)
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "task.toml").write_text("= 1")
    with pytest.raises(ValueError, match="expected TOML"):
        read_harbor(tmp_path)
    (tmp_path / "t" / "task.toml").write_text("")
    (tmp_path / "t" / "instruction.md").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match=r"expected a file instruction\.md in it"):
        read_harbor(tmp_path)
    with pytest.raises(EnvironmentFailure, match=r"expected a file instruction\.md"):
        Trial(tmp_path / "t")
    with pytest.raises(ValueError, match="expected a name that can be a folder's"):
        write_harbor(tmp_path, [Task(env="h", id="s", slug="../x", args={"instruction": "", "test": ""})])
    with pytest.raises(ValueError, match="expected `instruction` and `test`"):
        write_harbor(tmp_path, [Task(env="h", id="s", slug="x")])


# --- hostile files ----------------------------------------------------------------------------------------------


def archive(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in members.items():
            file.writestr(name.replace("__", "/"), text)
    return path


EVAL = json.dumps({"eval": {"task": "t", "model": "m", "dataset": {}, "config": {}, "created": ""}})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.eval", b"PK\x03\x04 and no more", "expected a whole zip archive"),
        ("a.eval", b"", "expected a whole zip archive"),
        ("a.json", b"{", "expected JSON"),
        ("a.json", b"[" * 200_000, "no log that is known"),
        ("a.json", b'{"a":' * 200_000, "nested too deep"),
        ("a.json", b'{"eval": 3}', "eval is int: expected a JSON object"),
        ("a.json", b'{"eval": {}, "samples": {"a": 1}}', "samples is dict: expected a JSON array"),
        ("a.json", b'{"eval": {}, "samples": [1]}', "a sample is int: expected a JSON object"),
        ("a.txt", b"hello", "no log that is known: expected Inspect's .eval or .json"),
        ("results.jsonl", b'{"reward": 1}\n{oops}\n', "results.jsonl, line 2: expected JSON"),
        ("results.jsonl", b"[]\n", "line 1 is list: expected a JSON object"),
        ("traces.jsonl", b"\xff\xfe\n", "line 1: expected JSON"),
    ],
)
def test_a_file_that_is_no_log_says_what_was_expected(name: str, content: bytes, said: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_log(tmp_path / name)


def test_a_log_that_is_not_there_is_an_error_that_names_it(tmp_path: Path):
    with pytest.raises(ValueError, match=r"nowhere\.eval cannot be read"):
        read_log(tmp_path / "nowhere.eval")
    with pytest.raises(ValueError, match=r"expected a folder with results\.jsonl or traces\.jsonl"):
        read_log(tmp_path)


def test_an_archive_without_a_header_or_with_a_bomb_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"_journal/start.json: expected such a member"):
        read_log(archive(tmp_path / "a.eval", x="1"))
    bomb = archive(tmp_path / "b.eval", **{"header.json": EVAL, "samples__x_epoch_1.json": " " * 30_000_000})
    with pytest.raises(ValueError, match="this is no log"):
        read_log(bomb)


def test_members_over_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files_module, "MOST_MEMBER", 1000)
    big = archive(tmp_path / "a.eval", **{"header.json": EVAL, "samples__x.json": json.dumps({"id": "x" * 2000})})
    with pytest.raises(ValueError, match="expected at most 1000 bytes"):
        read_log(big)
    (tmp_path / "results.jsonl").write_text(json.dumps({"prompt": "x" * 2000}))
    with pytest.raises(ValueError, match="line 1: expected at most 1000 bytes"):
        read_log(tmp_path / "results.jsonl")


def test_a_name_that_points_elsewhere_writes_nothing(tmp_path: Path):
    log = read_log(
        archive(tmp_path / "a.eval", **{"header.json": EVAL, "samples__..__..__x.json": '{"id": "../../x"}'})
    )
    assert [run.slug for run, _ in log.runs] == ["../../x"]
    assert [one.name for one in tmp_path.iterdir()] == ["a.eval"]


def test_a_killed_log_without_a_header_reads_what_is_there(tmp_path: Path):
    path = archive(
        tmp_path / "a.eval", **{"_journal__start.json": EVAL, "samples__x.json": '{"id": 1, "epoch": 1}'}
    )
    assert len(read_log(path).runs) == 1


def test_half_a_letter_can_be_stored(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"eval": {}, "samples": [{"id": "a\\ud83d", "input": "\\ud83d\\ude00"}]}')
    ((run, _),) = read_log(tmp_path / "a.json").runs
    assert (run.slug, run.args["input"]) == ("a\ufffd", "😀")
    assert msgspec.json.decode(msgspec.json.encode(run), type=EvalRun) == run


def test_every_damaged_archive_is_a_value_error_or_a_log(tmp_path: Path):
    whole, generator = (DATA / "sums.eval").read_bytes(), random.Random(1)
    for turn in range(40):
        data = bytearray(whole)
        for _ in range(generator.randint(1, 8)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        path = tmp_path / "damaged.eval"
        path.write_bytes(bytes(data[: generator.randrange(len(data))] if turn % 3 == 0 else data))
        try:
            assert isinstance(read_log(path), ReadLog)
        except ValueError as error:
            assert str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
FIELDS = (
    "id", "epoch", "messages", "scores", "output", "metadata", "error", "limit", "model_usage", "events", "attachments",
    "started_at", "completion", "prompt", "reward", "token_usage", "metrics", "info", "example_id", "task", "traces", "nodes",
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.dictionaries(st.sampled_from(FIELDS), JSON), second=st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_fields_of_any_shape_make_a_log_or_a_value_error(
    first: dict[str, Any], second: dict[str, Any], tmp_path: Path
):
    for name, text in (
        ("log.json", json.dumps({"eval": {}, "samples": [first, second]})),
        ("results.jsonl", json.dumps(first) + "\n" + json.dumps(second)),
        ("traces.jsonl", json.dumps({"traces": [first, second]})),
    ):
        (tmp_path / name).write_text(text)
        try:
            log = read_log(tmp_path / name)
        except ValueError:
            continue
        msgspec.json.encode([run for run, _ in log.runs])
        summarise([run for run, _ in log.runs])
