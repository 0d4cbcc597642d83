"""Inspect's logs, read: `.eval` archives and `.json`. A sample is an eval task, an epoch a try at it.

What a score is worth stands in `reward_of`. Inspect's logs do not say whose an error was: such a run has no boundary, and
counts as neither.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

from taskloom.domain.evaluation import (
    EvalJob,
    EvalRun,
    Grade,
    RunStatus,
    Step,
    StopReason,
    SubScore,
    TaskCall,
    ToolCall,
    ToolResult,
    Usage,
)
from taskloom.evals.formats.contract import (
    MOST_RUNS,
    ReadLog,
    a_list,
    an_object,
    fields_of,
    make_id,
    number_of,
    objects_of,
    plain,
    seconds_of,
    text_of_content,
    whole_of,
)
from taskloom.evals.formats.files import Archive, read_json_file

_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
_LIMITS: dict[str, StopReason] = {
    "context": "length",
    "time": "timeout",
    "working": "timeout",
    "message": "max_steps",
    "turn": "max_steps",
    "token": "max_tokens",
    "cost": "max_cost",
}
_ATTACHMENT = "attachment://"


def read_inspect(path: Path) -> ReadLog:
    """A log of either kind."""
    if path.suffix == ".json":
        log = an_object(read_json_file(path), path.name)
        return _read(log, [an_object(one, "a sample") for one in a_list(log.get("samples") or [], "samples")])
    with Archive(path) as archive:
        names = [name for name in archive.names if name.startswith("samples/") and name.endswith(".json")]
        if len(names) > MOST_RUNS:
            raise ValueError(f"{path.name} has {len(names)} samples: expected at most {MOST_RUNS}")
        # A log whose process was killed has no header: what it began with has the same `eval`.
        header = "header.json" if "header.json" in archive.names else "_journal/start.json"
        return _read(an_object(archive.json(header), header), [an_object(archive.json(one), one) for one in names])


def _read(log: dict[str, Any], samples: list[dict[str, Any]]) -> ReadLog:
    spec = an_object(log.get("eval"), "eval")
    if len(samples) > MOST_RUNS:
        raise ValueError(f"the log has {len(samples)} samples: expected at most {MOST_RUNS}")
    task, model = str(spec.get("task") or "task"), str(spec.get("model") or "")
    job_id = make_id("inspect", spec.get("eval_id") or spec.get("run_id"), task, spec.get("created"))
    dataset, config = fields_of(spec.get("dataset")), fields_of(spec.get("config"))
    group = max(1, whole_of(config.get("epochs")))
    order = {_key(one): place for place, one in enumerate(_ids(dataset, samples))}
    agent = str(spec.get("solver") or "inspect")
    job = EvalJob(
        id=job_id,
        name=task,
        taskset=str(dataset.get("name") or task),
        group=group,
        agent=agent,
        model=model,
        expected=len(order) * group,
        spec={"imported": "inspect", "status": str(log.get("status") or ""), "eval": plain(spec)},
        created=seconds_of(spec.get("created")),
    )
    headline = str(fields_of(fields_of(log.get("results")).get("headline")).get("score") or "")
    runs = [_read_sample(one, job, order[_key(one.get("id"))], headline) for one in samples]
    runs.sort(key=lambda pair: (pair[0].position, pair[0].id))
    return ReadLog(job, runs)


def _ids(dataset: dict[str, Any], samples: list[dict[str, Any]]) -> list[Any]:
    """Ids in the order of the dataset; ids of samples that it does not name behind."""
    named = dataset.get("sample_ids")
    both = [*(cast("list[Any]", named) if isinstance(named, list) else []), *(one.get("id") for one in samples)]
    return list({_key(one): one for one in both}.values())


def _key(sample_id: Any) -> str:
    """1 and "1" are two samples."""
    return f"{type(sample_id).__name__}:{sample_id}"


def _read_sample(sample: dict[str, Any], job: EvalJob, place: int, headline: str) -> tuple[EvalRun, list[Step]]:
    epoch = max(1, whole_of(sample.get("epoch")))
    sample = _with_attachments(sample)
    grade = _read_scores(fields_of(sample.get("scores")), headline)
    error, limit = fields_of(sample.get("error")), fields_of(sample.get("limit"))
    limit_type = str(limit.get("type") or "")
    status: RunStatus = "error" if error else "cancelled" if limit_type == "operator" else "completed"
    steps = _read_steps(sample, job.name, grade)
    usage = Usage()
    for one in fields_of(sample.get("model_usage")).values():
        usage = usage + read_usage(fields_of(one))
    columns = plain(fields_of(sample.get("metadata")))
    ours = fields_of(columns.pop("taskloom", None))  # what `inspect_writing` noted of the row
    args = {"input": plain(sample.get("input")), "target": plain(sample.get("target"))}
    run = EvalRun(
        id=make_id(job.id, _key(sample.get("id")), epoch),
        job=job.id,
        task=job.id,
        position=place * job.group + epoch - 1,
        group=make_id(job.id, _key(sample.get("id"))),
        slug=str(sample.get("id")),
        env=str(ours.get("env") or job.name),
        template=str(ours.get("id") or job.name),
        args=fields_of(ours.get("args")) if ours else args,
        columns=columns,
        status=status,
        error=str(error.get("message") or "") if error else "",
        stop_reason=_LIMITS.get(limit_type, "" if error or limit_type else "done"),
        answer=_answer(sample),
        grade=grade,
        usage=usage,
        steps=len(steps),
        agent=job.agent,
        model=job.model,
        started=seconds_of(sample.get("started_at")),
        ended=seconds_of(sample.get("completed_at")),
        extra={"uuid": str(sample["uuid"])} if sample.get("uuid") else {},
    )
    return run, steps


def read_usage(usage: dict[str, Any]) -> Usage:
    """Inspect counts what came from a cache, or went into one, beside the input."""
    cached = whole_of(usage.get("input_tokens_cache_read"))
    written = whole_of(usage.get("input_tokens_cache_write"))
    prompt = whole_of(usage.get("input_tokens")) + cached + written
    return Usage(
        prompt, whole_of(usage.get("output_tokens")), cached, max(0.0, number_of(usage.get("total_cost")))
    )


def _answer(sample: dict[str, Any]) -> Any:
    output = fields_of(sample.get("output"))
    if output.get("completion"):
        return str(output["completion"])
    choices = objects_of(output.get("choices"))
    return text_of_content(fields_of(choices[0].get("message")).get("content")) if choices else None


# --- scores -----------------------------------------------------------------------------------------------------


def reward_of(value: Any) -> float | None:
    """C, P, I and N are 1, 0.5, 0 and 0; numbers and bools themselves; of several values the mean; others are none."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        known = _LETTERS.get(value, _LETTERS.get(value.lower()))
        try:
            value = float(value) if known is None else known
        except ValueError:
            return None
    if isinstance(value, int | float):
        number = number_of(value, math.nan)
        return None if math.isnan(number) else number
    parts = list(cast("dict[Any, Any]", value).values()) if isinstance(value, dict) else value
    if isinstance(parts, list):
        found = [reward for reward in map(reward_of, cast("list[Any]", parts)) if reward is not None]
        return sum(found) / len(found) if found else None
    return None


def _read_scores(scores: dict[str, Any], headline: str) -> Grade | None:
    """The reward is of the score that Inspect's own summary puts first, or else of the first; all stand in `raw`."""
    if not scores:
        return None
    name = headline if headline in scores else next(iter(scores))
    chosen = fields_of(scores[name])
    reward = reward_of(chosen.get("value"))
    if reward is None:
        return None
    subscores: list[SubScore] = []
    for other, score in scores.items():
        value = reward_of(fields_of(score).get("value"))
        if value is not None and 0.0 <= value <= 1.0:
            weight = 1.0 if other == name else 0.0
            info = {"explanation": str(fields_of(score).get("explanation") or "")}
            subscores.append(SubScore(name=other, value=value, weight=weight, info=info))
    content = str(chosen.get("explanation") or "")
    return Grade(reward=reward, content=content, subscores=tuple(subscores), raw={"scores": plain(scores)})


# --- steps ------------------------------------------------------------------------------------------------------


def _read_steps(sample: dict[str, Any], task: str, grade: Grade | None) -> list[Step]:
    calls = {
        str(fields_of(message).get("id")): event
        for event in objects_of(sample.get("events"))
        if event.get("event") == "model"
        for message in (fields_of(choice.get("message")) for choice in _choices(event))
    }
    steps = [Step(source="task", task_call=TaskCall("setup", task, {"id": sample.get("id")}))]
    asked: dict[str, ToolCall] = {}
    for message in objects_of(sample.get("messages")):
        role = message.get("role")
        if role == "assistant":
            step = _agent_step(message, calls.get(str(message.get("id")), {}))
            asked |= {call.id: call for call in step.tool_calls}
            steps.append(step)
        elif role == "tool":
            steps.append(_tool_step(message, asked))
        else:
            entry = {"role": str(role or "user"), "content": plain(message.get("content"))}
            steps.append(Step(source="system" if role == "system" else "user", messages=(entry,)))
    if grade is not None:
        steps.append(
            Step(source="task", task_call=TaskCall("evaluate", task, result={"score": grade.reward, **grade.raw}))
        )
    return steps


def _choices(event: dict[str, Any]) -> list[dict[str, Any]]:
    return objects_of(fields_of(event.get("output")).get("choices"))


def _agent_step(message: dict[str, Any], event: dict[str, Any]) -> Step:
    content = message.get("content")
    blocks = objects_of(content)
    reasoning = "\n".join(
        str(block.get("reasoning") or "") for block in blocks if block.get("type") == "reasoning"
    )
    output, choices = fields_of(event.get("output")), _choices(event)
    usage = output.get("usage")
    return Step(
        source="agent",
        content=text_of_content(content),
        reasoning=reasoning,
        tool_calls=tuple(
            ToolCall(
                str(call.get("id") or ""), str(call.get("function") or ""), plain(fields_of(call.get("arguments")))
            )
            for call in objects_of(message.get("tool_calls"))
        ),
        model=str(message.get("model") or ""),
        usage=read_usage(fields_of(usage)) if usage else None,
        cached=event.get("cache") == "read",
        finish_reason=str(choices[0].get("stop_reason") or "") if choices else "",
        error=str(event.get("error") or ""),
        started=seconds_of(event.get("timestamp")),
        ended=seconds_of(event.get("completed")),
    )


def _tool_step(message: dict[str, Any], asked: dict[str, ToolCall]) -> Step:
    call_id = str(message.get("tool_call_id") or "")
    call = asked.get(call_id) or ToolCall(call_id, str(message.get("function") or ""))
    error = str(fields_of(message.get("error")).get("message") or "")
    text = error or text_of_content(message.get("content"))
    result = ToolResult(({"type": "text", "text": text},), is_error=bool(error))
    return Step(source="tool", call=call, result=result, error=error)


def _with_attachments(sample: dict[str, Any]) -> dict[str, Any]:
    """Long texts stand once, beside the messages, which name them by their digest: put back where they were."""
    attachments = fields_of(sample.get("attachments"))
    if not attachments:
        return sample

    def back(value: Any) -> Any:
        if isinstance(value, str) and value.startswith(_ATTACHMENT):
            return attachments.get(value.removeprefix(_ATTACHMENT), value)
        if isinstance(value, dict):
            return {key: back(one) for key, one in cast("dict[str, Any]", value).items()}
        if isinstance(value, list):
            return [back(one) for one in cast("list[Any]", value)]
        return value

    whole = ("input", "messages", "output", "target", "scores")
    return {key: back(value) if key in whole else value for key, value in sample.items()}
