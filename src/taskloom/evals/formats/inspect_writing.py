"""Inspect's logs, written: what an unmodified Inspect reads, shows, and makes data frames of.

A run is a sample's epoch, its slug the sample's id; the reward is a score of the name `reward`, sub-scores beside it. A
run without a grade has no score. Archives are packed with deflate, which every Python unpacks.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from taskloom.domain.evaluation import EvalJob, EvalRun, Step, ToolCall, Usage
from taskloom.domain.statistics import standing, summarise
from taskloom.domain.version import VERSION
from taskloom.evals.formats.contract import plain, text_of_content
from taskloom.evals.graders.text import text_of

Runs = Sequence[tuple[EvalRun, Sequence[Step]]]

_LIMITS = {
    "max_steps": "message",
    "max_tokens": "token",
    "max_cost": "cost",
    "length": "context",
    "timeout": "time",
}
_STOPS = {"stop", "max_tokens", "model_length", "tool_calls", "content_filter"}
_SUMMARY = (
    "id",
    "epoch",
    "input",
    "target",
    "metadata",
    "scores",
    "model_usage",
    "started_at",
    "completed_at",
    "uuid",
)


def write_inspect(path: Path, job: EvalJob, runs: Runs) -> None:
    """An `.eval` archive."""
    header, samples = _header(job, runs), _samples(job, runs)
    reductions = header.pop("reductions")
    start = {"version": 2, "eval": header["eval"], "plan": header["plan"]}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        _put(archive, "_journal/start.json", start)
        for sample in samples:
            _put(archive, f"samples/{sample['id']}_epoch_{sample['epoch']}.json", sample)
        _put(archive, "summaries.json", [_summary(sample) for sample in samples])
        _put(archive, "reductions.json", reductions)
        _put(archive, "header.json", header)


def write_inspect_json(path: Path, job: EvalJob, runs: Runs) -> None:
    """The same as one JSON file."""
    path.write_text(json.dumps({**_header(job, runs), "samples": _samples(job, runs)}), encoding="utf-8")


def _put(archive: zipfile.ZipFile, name: str, value: Any) -> None:
    archive.writestr(name, json.dumps(value))


def _header(job: EvalJob, runs: Runs) -> dict[str, Any]:
    values = [run for run, _ in runs]
    figures = summarise(values)
    status = "started" if figures.running else "cancelled" if figures.cancelled == len(values) > 0 else "success"
    started = min((run.started for run in values if run.started), default=job.created)
    ended = max((run.ended for run in values), default=0.0)
    mean = figures.reward.mean if figures.reward is not None else 0.0
    error = (figures.reward.stderr if figures.reward is not None else None) or 0.0
    slugs = [one.slug for one in figures.by_slug]
    metrics: dict[str, Any] = {
        name: {"name": name, "value": value, "params": {}} for name, value in (("mean", mean), ("stderr", error))
    }
    score: dict[str, Any] = {
        "name": "reward",
        "scorer": "reward",
        "scored_samples": figures.counted,
        "unscored_samples": len(values) - figures.counted,
        "params": {},
        "metrics": metrics,
    }
    return {
        "version": 2,
        "status": status,
        "eval": {
            "eval_id": job.id,
            "run_id": job.id,
            "created": _iso(job.created or started),
            "task": job.name or job.taskset or "task",
            "task_id": job.id,
            "task_version": job.taskset_version,
            "task_args": {},
            "solver": job.agent or None,
            "dataset": {
                "name": job.taskset or None,
                "samples": len(slugs),
                "sample_ids": slugs,
                "shuffled": False,
            },
            "model": job.model or next((run.model for run in values if run.model), "") or "none/none",
            "config": {"epochs": max(1, job.group)},
            "packages": {"taskloom": VERSION},
            "metadata": {"taskloom_job": job.id},
        },
        "plan": {"name": "plan", "steps": [{"solver": job.agent or "agent", "params": {}}], "config": {}},
        "results": {
            "total_samples": len(values),
            "completed_samples": sum(run.status == "completed" for run in values),
            "scores": [score],
        },
        "stats": {
            "started_at": _iso(started),
            "completed_at": _iso(ended),
            "model_usage": {job.model or "none/none": _usage(figures.usage)},
        },
        "reductions": [
            {
                "scorer": "reward",
                "samples": [
                    {"sample_id": one.slug, "value": one.mean} for one in figures.by_slug if one.mean is not None
                ],
            }
        ],
    }


def _samples(job: EvalJob, runs: Runs) -> list[dict[str, Any]]:
    epochs: dict[str, int] = {}
    samples: list[dict[str, Any]] = []
    for run, steps in runs:
        epochs[run.slug] = epochs.get(run.slug, 0) + 1
        samples.append(_sample(job, run, steps, epochs[run.slug]))
    return samples


def _sample(job: EvalJob, run: EvalRun, steps: Sequence[Step], epoch: int) -> dict[str, Any]:
    messages = [message for step in steps for message in _messages(step)]
    model = run.model or job.model or "none/none"
    answer = text_of(run.answer)
    last = next((step for step in reversed(steps) if step.source == "agent"), None)
    reason = last.finish_reason if last is not None and last.finish_reason in _STOPS else "stop"
    choice = {"message": {"role": "assistant", "content": answer, "model": model}, "stop_reason": reason}
    sample: dict[str, Any] = {
        "id": run.slug,
        "epoch": epoch,
        "input": _input(run, steps),
        "target": _target(run.args.get("target", "")),
        "messages": messages,
        "output": {"model": model, "choices": [choice], "completion": answer, "usage": _usage(run.usage)},
        "scores": _scores(run, answer),
        "metadata": plain(
            {**run.columns, "taskloom": {"run": run.id, "env": run.env, "id": run.template, "args": run.args}}
        ),
        "store": {},
        "events": [],
        "model_usage": {model: _usage(run.usage)},
        "uuid": run.id,
        "attachments": {},
    }
    if run.started:
        sample["started_at"] = _iso(run.started)
    if run.ended:
        sample |= {"completed_at": _iso(run.ended), "total_time": max(0.0, run.ended - run.started)}
    if run.status == "error":
        text = f"[{run.boundary}] {run.error}" if run.boundary else run.error
        sample["error"] = {"message": text, "traceback": "", "traceback_ansi": ""}
    limit = _LIMITS.get(run.stop_reason) or ("operator" if run.status == "cancelled" else "")
    if limit:
        sample["limit"] = {"type": limit, "limit": 0.0}
    return sample


def _summary(sample: dict[str, Any]) -> dict[str, Any]:
    summary = {key: sample[key] for key in _SUMMARY if key in sample}
    error = sample.get("error", {}).get("message")
    return {**summary, "completed": True, "message_count": len(sample["messages"])} | (
        {"error": error} if error else {}
    )


def _scores(run: EvalRun, answer: str) -> dict[str, Any]:
    how, reward = standing(run)
    if reward is None or how != "counted":
        return {}
    explanation = run.grade.content if run.grade is not None else run.error
    scores: dict[str, Any] = {"reward": {"value": reward, "answer": answer, "explanation": explanation or None}}
    for part in run.grade.subscores if run.grade is not None else ():
        scores.setdefault(
            part.name, {"value": part.value, "metadata": plain({"weight": part.weight, **part.info})}
        )
    return scores


def _input(run: EvalRun, steps: Sequence[Step]) -> str | list[dict[str, Any]]:
    opening: list[dict[str, Any]] = []
    for step in steps:
        if step.source in ("system", "user"):
            opening += _messages(step)
        elif step.source != "task":
            break
    if len(opening) == 1 and opening[0]["role"] == "user" and isinstance(opening[0]["content"], str):
        return opening[0]["content"]
    return opening or text_of(run.args.get("input", ""))


def _target(target: Any) -> str | list[str]:
    return [text_of(one) for one in plain(target)] if isinstance(target, list | tuple) else text_of(target)


def _messages(step: Step) -> list[dict[str, Any]]:
    """A step as Inspect's chat messages; the environment's calls are none."""
    if step.source in ("user", "system"):
        roles = ("user", "system", "assistant")
        return [
            {
                "role": message["role"] if message.get("role") in roles else step.source,
                "content": text_of_content(message.get("content")),
            }
            for message in step.messages
        ]
    if step.source == "agent":
        content: Any = step.content
        if step.reasoning:
            content = [{"type": "reasoning", "reasoning": step.reasoning}, {"type": "text", "text": step.content}]
        message: dict[str, Any] = {"role": "assistant", "content": content, "source": "generate"}
        if step.model:
            message["model"] = step.model
        if step.tool_calls:
            message["tool_calls"] = [_tool_call(call) for call in step.tool_calls]
        return [message]
    if step.source == "tool" and step.call is not None:
        text = text_of_content(list(step.result.content)) if step.result is not None else step.error
        message = {"role": "tool", "content": text, "tool_call_id": step.call.id, "function": step.call.name}
        if step.error or (step.result is not None and step.result.is_error):
            message["error"] = {"type": "unknown", "message": step.error or text}
        return [message]
    return []


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "function": call.name, "arguments": plain(call.arguments), "type": "function"}


def _usage(usage: Usage) -> dict[str, Any]:
    fresh = max(0, usage.prompt_tokens - usage.cached_tokens)
    told: dict[str, Any] = {
        "input_tokens": fresh,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if usage.cached_tokens:
        told["input_tokens_cache_read"] = usage.cached_tokens
    return told | ({"total_cost": usage.cost_usd} if usage.cost_usd else {})


def _iso(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC).isoformat()
