"""The results of verifiers: the folder of `results.jsonl` and `metadata.json`, both ways, and the `traces.jsonl` of its
version 1, read.

In the folder a line is a run; lines of one `example_id` are tries at one eval task. In `traces.jsonl` a line is an
episode of one or more traces, whose messages form a tree: the branch that ends last is the run's.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from taskloom.domain.evaluation import (
    EvalJob,
    EvalRun,
    Grade,
    RunStatus,
    Step,
    StopReason,
    SubScore,
    TaskCall,
    TokenSample,
    ToolCall,
    ToolResult,
    Usage,
)
from taskloom.evals.formats.contract import (
    MOST_RUNS,
    ReadLog,
    an_object,
    fields_of,
    make_id,
    number_of,
    objects_of,
    plain,
    text_of_content,
    whole_of,
)
from taskloom.evals.formats.dataset import conversation
from taskloom.evals.formats.files import read_json_file, read_lines

RESULTS = "results.jsonl"
METADATA = "metadata.json"
TRACES = "traces.jsonl"


def read_verifiers(path: Path) -> ReadLog:
    """A folder, or one of its files."""
    folder = path if path.is_dir() else path.parent
    if path.name == TRACES or (path.is_dir() and (path / TRACES).is_file()):
        return _read_traces(path if path.name == TRACES else path / TRACES)
    results = folder / RESULTS
    if not results.is_file():
        raise ValueError(f"{path}: expected a folder with {RESULTS} or {TRACES}")
    metadata = an_object(read_json_file(folder / METADATA), METADATA) if (folder / METADATA).is_file() else {}
    rows = [(number, an_object(row, f"{RESULTS}, line {number}")) for number, row in _bounded(results)]
    env = str(
        metadata.get("env_id") or next((row["task"] for _, row in rows if isinstance(row.get("task"), str)), "env")
    )
    group = max(1, whole_of(metadata.get("rollouts_per_example")))
    job = EvalJob(
        id=make_id("verifiers", folder.name, json.dumps(metadata, sort_keys=True, default=str)),
        name=env,
        taskset=env,
        group=group,
        agent="verifiers",
        model=str(metadata.get("model") or ""),
        expected=whole_of(metadata.get("num_examples")) * group,
        spec={"imported": "verifiers", "metadata": plain(metadata)},
        created=number_of(metadata.get("created")),
    )
    order: dict[str, int] = {}
    tries: dict[str, int] = {}
    runs: list[tuple[EvalRun, list[Step]]] = []
    for number, row in rows:
        # A folder that we wrote tells the slug; example_id is a number.
        slug = str(fields_of(row.get("info")).get("slug") or row.get("example_id", number))
        place, attempt = order.setdefault(slug, len(order)), tries.get(slug, 0)
        tries[slug] = attempt + 1
        runs.append(_read_row(row, job, slug, place * group + attempt, attempt))
    runs.sort(key=lambda pair: pair[0].position)
    return ReadLog(job, runs)


def _bounded(path: Path) -> Iterator[tuple[int, Any]]:
    for count, pair in enumerate(read_lines(path)):
        if count >= MOST_RUNS:
            raise ValueError(f"{path.name} has more than {MOST_RUNS} lines: expected at most as many")
        yield pair


def _read_row(
    row: dict[str, Any], job: EvalJob, slug: str, position: int, attempt: int
) -> tuple[EvalRun, list[Step]]:
    error = row.get("error")
    reward = number_of(row.get("reward"), math.nan)
    metrics = {key: number_of(value) for key, value in fields_of(row.get("metrics")).items()}
    grade = (
        None if error or math.isnan(reward) else Grade(reward=reward, info={"metrics": metrics} if metrics else {})
    )
    tokens = fields_of(row.get("token_usage"))
    usage = Usage(whole_of(tokens.get("input_tokens")), whole_of(tokens.get("output_tokens")))
    completion = row.get("completion")
    steps = [
        Step(source="task", task_call=TaskCall("setup", job.name)),
        *_message_steps(_as_messages(row.get("prompt"), "user")),
        *_message_steps(_as_messages(completion, "assistant")),
    ]
    if grade is not None:
        steps.append(Step(source="task", task_call=TaskCall("evaluate", job.name, result={"score": reward})))
    agents = [step for step in steps if step.source == "agent"]
    run = EvalRun(
        id=make_id(job.id, slug, attempt),
        job=job.id,
        task=job.id,
        position=position,
        group=make_id(job.id, slug),
        slug=slug,
        env=job.name,
        template=str(row.get("task") or job.name) if not isinstance(row.get("task"), dict) else job.name,
        args={"answer": plain(row.get("answer")), "info": plain(row.get("info"))},
        status="error" if error else "completed",
        error=_error_text(error),
        stop_reason=_stop_reason(row.get("stop_condition"), bool(error)),
        answer=agents[-1].content if agents else None,
        grade=grade,
        usage=usage,
        steps=len(steps),
        agent=job.agent,
        model=job.model,
    )
    return run, steps


def _error_text(error: Any) -> str:
    if isinstance(error, dict):
        found = cast("dict[str, Any]", error)
        return ": ".join(str(found[key]) for key in ("type", "error", "message") if found.get(key)) or "error"
    return str(error) if error else ""


def _stop_reason(condition: Any, failed: bool) -> StopReason:
    text = str(condition or "")
    if "timeout" in text:
        return "timeout"
    if "max_turns" in text:
        return "max_steps"
    if "tokens" in text:
        return "max_tokens"
    if "length" in text or "prompt_too_long" in text:
        return "length"
    return "" if failed else "done"


def _as_messages(value: Any, role: str) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return objects_of(value)


def _message_steps(messages: Sequence[dict[str, Any]]) -> list[Step]:
    steps: list[Step] = []
    asked: dict[str, ToolCall] = {}
    for message in messages:
        step = message_step(message, asked)
        asked |= {call.id: call for call in step.tool_calls}
        steps.append(step)
    return steps


def message_step(message: dict[str, Any], asked: dict[str, ToolCall]) -> Step:
    """A chat message, as OpenAI's chat completions have them, as a step; `asked`: the tool calls so far, by id."""
    role, content = str(message.get("role") or "user"), message.get("content")
    if role == "assistant":
        calls = tuple(_read_call(call) for call in objects_of(message.get("tool_calls")))
        reasoning = str(message.get("reasoning_content") or "")
        return Step(source="agent", content=text_of_content(content), reasoning=reasoning, tool_calls=calls)
    if role == "tool":
        call_id = str(message.get("tool_call_id") or "")
        call = asked.get(call_id) or ToolCall(call_id, str(message.get("name") or ""))
        return Step(
            source="tool", call=call, result=ToolResult(({"type": "text", "text": text_of_content(content)},))
        )
    entry = {"role": role, "content": plain(content)}
    return Step(source="system" if role == "system" else "user", messages=(entry,))


def _read_call(call: dict[str, Any]) -> ToolCall:
    function = fields_of(call.get("function")) or call
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            arguments = {"arguments": arguments}
    return ToolCall(str(call.get("id") or ""), str(function.get("name") or ""), plain(fields_of(arguments)))


# --- version 1 --------------------------------------------------------------------------------------------------


def _read_traces(path: Path) -> ReadLog:
    found: list[tuple[str, str, dict[str, Any]]] = []
    env = ""
    for number, row in _bounded(path):
        episode = an_object(row, f"{path.name}, line {number}")
        env = env or str(fields_of(episode.get("env")).get("id") or "")
        group = str(fields_of(episode.get("group")).get("id") or "")
        for trace in objects_of(episode.get("traces")):
            data = fields_of(fields_of(trace.get("task") or episode.get("task")).get("data"))
            key = next((data[name] for name in ("id", "name", "idx") if data.get(name) is not None), number)
            found.append((str(key), group, trace))
    env = env or "env"
    job_id = make_id("verifiers", env, *(str(trace.get("id")) for _, _, trace in found))
    slugs = list(dict.fromkeys(slug for slug, _, _ in found))
    group_size = max(Counter(slug for slug, _, _ in found).values(), default=1)
    job = EvalJob(
        id=job_id, name=env, taskset=env, group=group_size, agent="verifiers", expected=len(found),
        spec={"imported": "verifiers traces"},
    )  # fmt: skip
    order = {slug: place for place, slug in enumerate(slugs)}
    found.sort(key=lambda one: order[one[0]])
    runs = [_read_trace(trace, job, slug, group, position) for position, (slug, group, trace) in enumerate(found)]
    return ReadLog(job, runs)


def _read_trace(
    trace: dict[str, Any], job: EvalJob, slug: str, group: str, position: int
) -> tuple[EvalRun, list[Step]]:
    data = fields_of(fields_of(trace.get("task")).get("data"))
    calls = {
        whole_of(call.get("node")): call for call in objects_of(trace.get("calls")) if call.get("node") is not None
    }
    steps = [
        Step(source="task", task_call=TaskCall("setup", job.name)),
        *_branch(objects_of(trace.get("nodes")), calls),
    ]
    errors = objects_of(trace.get("errors"))
    grade = None if errors else _read_rewards(fields_of(trace.get("rewards")), fields_of(trace.get("metrics")))
    if grade is not None:
        steps.append(Step(source="task", task_call=TaskCall("evaluate", job.name, result={"score": grade.reward})))
    usage = Usage()
    for call in objects_of(trace.get("calls")):
        usage = usage + _read_usage(fields_of(call.get("usage")))
    timing = fields_of(trace.get("timing"))
    agents = [step for step in steps if step.source == "agent"]
    status: RunStatus = "error" if errors else "completed"
    stop: StopReason = (
        "timeout" if trace.get("is_timeout") else _stop_reason(trace.get("stop_condition"), bool(errors))
    )
    run = EvalRun(
        id=make_id(job.id, trace.get("id"), position),
        job=job.id,
        task=job.id,
        position=position,
        group=make_id(job.id, group or slug),
        slug=slug,
        env=job.name,
        template=str(fields_of(trace.get("task")).get("type") or job.name),
        args=plain(data),
        status=status,
        error=_error_text(errors[-1]) if errors else "",
        stop_reason=stop,
        answer=agents[-1].content if agents else None,
        grade=grade,
        usage=usage,
        steps=len(steps),
        agent=job.agent,
        model=next((step.model for step in agents if step.model), ""),
        started=number_of(timing.get("start")),
        ended=number_of(fields_of(timing.get("scoring")).get("end")),
    )
    return run, steps


def _read_rewards(rewards: dict[str, Any], metrics: dict[str, Any]) -> Grade | None:
    """The reward is the sum of its parts, each score times its weight; None without one."""
    parts = {name: fields_of(part) for name, part in rewards.items() if isinstance(part, dict)}
    if not parts:
        return None
    scores = {
        name: (number_of(part.get("score")), number_of(part.get("weight"), 1.0)) for name, part in parts.items()
    }
    subscores = [SubScore(name=name, value=score, weight=weight) for name, (score, weight) in scores.items()]
    return Grade(
        reward=sum(score * weight for score, weight in scores.values()),
        info={"metrics": plain(metrics)} if metrics else {},
        subscores=tuple(one for one in subscores if 0.0 <= one.value <= 1.0),
    )


def _read_usage(usage: dict[str, Any]) -> Usage:
    return Usage(
        whole_of(usage.get("prompt_tokens")),
        whole_of(usage.get("completion_tokens")),
        whole_of(usage.get("cached_input_tokens")),
        max(0.0, number_of(usage.get("cost"))),
    )


def _branch(nodes: Sequence[dict[str, Any]], calls: dict[int, dict[str, Any]]) -> list[Step]:
    """From the last message up to the root, as steps from the root down. A parent always stands before its children."""
    chain: list[int] = []
    place: int | None = len(nodes) - 1 if nodes else None
    while place is not None:
        chain.append(place)
        parent = nodes[place].get("parent")
        place = parent if isinstance(parent, int) and 0 <= parent < place else None
    steps: list[Step] = []
    asked: dict[str, ToolCall] = {}
    prompt: list[int] = []
    for index in reversed(chain):
        node, call = nodes[index], calls.get(index, {})
        step = message_step(fields_of(node.get("message")), asked)
        asked |= {one.id: one for one in step.tool_calls}
        tokens = [token for token in node.get("token_ids") or () if isinstance(token, int)]
        if step.source == "agent":
            step = _with_call(step, node, call, prompt, tokens)
        prompt += tokens
        steps.append(step)
    return steps


def _with_call(
    step: Step, node: dict[str, Any], call: dict[str, Any], prompt: list[int], tokens: list[int]
) -> Step:
    """The model's own tokens are those that the mask marks; what stands before them belongs to the prompt."""
    mask = [bool(one) for one in node.get("mask") or ()] or [True] * len(tokens)
    first = mask.index(True) if True in mask else len(mask)
    output = tokens[first:]
    logprobs = [number_of(one) for one in node.get("logprobs") or ()][-len(output) :] if output else []
    sample = None
    if output and len(logprobs) == len(output):
        sample = TokenSample((*prompt, *tokens[:first]), tuple(output), tuple(logprobs))
    time = fields_of(call.get("time"))
    usage = fields_of(call.get("usage"))
    return msgspec.structs.replace(
        step,
        model=str(call.get("model") or ""),
        usage=_read_usage(usage) if usage else None,
        finish_reason=str(call.get("finish_reason") or ""),
        sample=sample,
        started=number_of(time.get("start")),
        ended=number_of(time.get("end")),
    )


# --- written ----------------------------------------------------------------------------------------------------


def write_verifiers(path: Path, job: EvalJob, runs: Sequence[tuple[EvalRun, Sequence[Step]]]) -> None:
    """A folder with `results.jsonl` and `metadata.json`. A run without a grade has the reward 0 and its error."""
    path.mkdir(parents=True, exist_ok=True)
    slugs = {slug: place for place, slug in enumerate(dict.fromkeys(run.slug for run, _ in runs))}
    rewards = [run.reward or 0.0 for run, _ in runs]
    metadata: dict[str, Any] = {
        "env_id": job.name or job.taskset,
        "model": job.model,
        "num_examples": len(slugs),
        "rollouts_per_example": job.group,
        "sampling_args": {},
        "avg_reward": sum(rewards) / len(rewards) if rewards else 0.0,
        "created": job.created,
    }
    (path / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    with (path / RESULTS).open("w", encoding="utf-8") as file:
        for run, steps in runs:
            prompt, completion = conversation(steps)
            row = {
                "example_id": slugs[run.slug],
                "prompt": prompt,
                "completion": completion,
                "answer": run.args.get("answer", ""),
                "task": run.template,
                "reward": run.reward or 0.0,
                "info": {"slug": run.slug, "args": run.args},
                "metrics": {part.name: part.value for part in run.grade.subscores} if run.grade else {},
                "token_usage": {
                    "input_tokens": run.usage.prompt_tokens,
                    "output_tokens": run.usage.completion_tokens,
                },
                "stop_condition": run.stop_reason,
                "error": run.error or None,
            }
            file.write(json.dumps(plain(row)) + "\n")
