"""Runs as data for trainers: a row a run, with prompt, answer, reward, messages, and what token-level training needs.

Advantages are the trainer's business; `group_id` tells which runs are tries at the same eval task in the same call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from taskloom.domain.evaluation import EvalJob, EvalRun, Step
from taskloom.evals.formats.contract import plain, text_of_content


@runtime_checkable
class LiveRun(Protocol):
    """What is needed of a `Run`; its trace has the steps."""

    def value(self) -> EvalRun: ...

    @property
    def trace(self) -> Any: ...


Recorded = LiveRun | tuple[EvalRun, Sequence[Step]]


def to_dataset(runs: Iterable[Recorded], *, graded_only: bool = True) -> list[dict[str, Any]]:
    """A row for each run, from `job.runs` or from runs with their steps as `read_log` gives them.

    prompt      the messages before the first answer; `messages`: all of them, as chat completions have them
    answer      what was graded; `reward`: a float, None without a grade
    samples     one for each model call that told its tokens: prompt_token_ids, output_token_ids, output_logprobs
    group_id, trace_id, job_id, slug, env, id, args, columns, status, stop_reason, error, model, usage, subscores

    graded_only: leave out what has no reward, as nothing can be learned from it.
    """
    rows: list[dict[str, Any]] = []
    for one in runs:
        run, steps = _parts(one)
        if run.reward is not None or not graded_only:
            rows.append(_row(run, steps))
    return rows


def write_dataset(path: Path, job: EvalJob, runs: Sequence[tuple[EvalRun, Sequence[Step]]]) -> None:
    """The same as lines of JSON, runs without a grade among them."""
    with path.open("w", encoding="utf-8") as file:
        for one in runs:
            file.write(json.dumps(_row(*one)) + "\n")


def conversation(steps: Sequence[Step]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The messages before the first answer, and those from it on."""
    first = next((place for place, step in enumerate(steps) if step.source == "agent"), len(steps))
    return (
        [message for step in steps[:first] for message in chat_messages(step)],
        [message for step in steps[first:] for message in chat_messages(step)],
    )


def chat_messages(step: Step) -> list[dict[str, Any]]:
    """A step as messages of OpenAI's chat completions; none of the environment's own calls."""
    if step.source in ("user", "system"):
        return [plain(message) for message in step.messages]
    if step.source == "agent":
        message: dict[str, Any] = {"role": "assistant", "content": step.content}
        if step.reasoning:
            message["reasoning_content"] = step.reasoning
        if step.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(plain(call.arguments))},
                }
                for call in step.tool_calls
            ]
        return [message]
    if step.source == "tool" and step.call is not None:
        text = text_of_content(list(step.result.content)) if step.result is not None else step.error
        return [{"role": "tool", "tool_call_id": step.call.id, "content": text}]
    return []


def _parts(one: Recorded) -> tuple[EvalRun, Sequence[Step]]:
    if isinstance(one, tuple):
        return one
    return one.value(), cast("Sequence[Step]", one.trace.steps)


def _row(run: EvalRun, steps: Sequence[Step]) -> dict[str, Any]:
    prompt, completion = conversation(steps)
    samples = [step.sample for step in steps if step.sample is not None]
    return plain(
        {
            "prompt": prompt,
            "messages": [*prompt, *completion],
            "answer": run.answer,
            "reward": run.reward,
            "samples": [
                {
                    "prompt_token_ids": one.prompt_token_ids,
                    "output_token_ids": one.output_token_ids,
                    "output_logprobs": one.output_logprobs,
                }
                for one in samples
            ],
            "group_id": run.group,
            "trace_id": run.id,
            "job_id": run.job,
            "slug": run.slug,
            "env": run.env,
            "id": run.template,
            "args": run.args,
            "columns": run.columns,
            "status": run.status,
            "stop_reason": run.stop_reason,
            "error": run.error,
            "model": run.model,
            "usage": {
                "prompt_tokens": run.usage.prompt_tokens,
                "completion_tokens": run.usage.completion_tokens,
                "cached_tokens": run.usage.cached_tokens,
                "cost_usd": run.usage.cost_usd,
            },
            "subscores": {part.name: part.value for part in run.grade.subscores} if run.grade else {},
        }
    )
