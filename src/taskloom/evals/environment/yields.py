"""What a template yields and gets: its prompt, the answer, its grade, as frames. Source: HUD's template protocol.

A score may be any finite number. Usually it lies between 0 and 1, but nothing is clipped: 7 stays 7, a penalty may
lie below 0. What is no prompt and no grade is an error that says what was expected.
"""

from __future__ import annotations

import math
from typing import Any, cast

import msgspec
from pydantic import TypeAdapter, ValidationError

from taskloom.evals.encoding import encode
from taskloom.evals.results import Answer, EvaluationResult

PROMPTS = "expected a text, None, a list of messages with `role` and `content`, or a dict with `prompt`"
GRADES = "expected a finite number, an EvaluationResult, or a dict with a finite `score`"


class NoPrompt(TypeError):
    """The first value that a template yielded is no prompt."""


class NoGrade(TypeError):
    """The second value that a template yielded is no grade."""


def prompt_frame(value: Any) -> dict[str, Any]:
    """The first value as a frame; NoPrompt for what is none."""
    if isinstance(value, str) or value is None:
        return {"prompt": value}
    if isinstance(value, dict):
        frame = cast("dict[str, Any]", value)
        if "prompt" not in frame:
            raise NoPrompt(f"the template yielded a dict without `prompt` (keys: {_keys(frame)}): {PROMPTS}")
        _check_prompt(frame["prompt"])
        return frame
    _check_prompt(value)
    return {"prompt": value}


def _check_prompt(value: Any) -> None:
    if isinstance(value, str) or value is None:
        return
    if isinstance(value, list | tuple):
        for number, message in enumerate(cast("list[Any]", value), 1):
            if not _is_message(message):
                raise NoPrompt(f"message {number} of the prompt is {_shown(message)}: {PROMPTS}")
        return
    raise NoPrompt(f"the template yielded {_shown(value)} as its prompt: {PROMPTS}")


def _is_message(value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(cast("dict[str, Any]", value).get("role"), str)
    return hasattr(value, "model_dump") and hasattr(value, "role")


def grade_frame(value: Any) -> dict[str, Any]:
    """The second value as a frame; NoGrade for what is none."""
    if _is_number(value):
        return {"score": _finite(value)}
    if isinstance(value, dict):
        frame = cast("dict[str, Any]", value)
        score = frame.get("score")
        if not _is_number(score):
            raise NoGrade(f"the template graded with a dict whose score is {_shown(score)}: {GRADES}")
        number = _finite(score)
        return frame if isinstance(score, int | float) else frame | {"score": number}
    if isinstance(value, EvaluationResult):
        frame = value.model_dump(mode="json")
        frame["score"] = _finite(frame.pop("reward"))
        return frame
    reward = getattr(value, "reward", None)
    if not _is_number(reward):
        raise NoGrade(f"the template graded with {_shown(value)}: {GRADES}")
    return {"score": _finite(reward)}


def _is_number(value: Any) -> bool:
    """Also numpy's and torch's, which are numbers without being Python's."""
    return isinstance(value, int | float) or (hasattr(value, "__float__") and not isinstance(value, type))


def _finite(score: Any) -> float:
    try:
        number = float(score)
    except (OverflowError, TypeError, ValueError):
        number = math.inf
    if not math.isfinite(number):
        raise NoGrade(f"the template graded with {score!r:.80}: {GRADES}")
    return number


def typed_answer(adapter: TypeAdapter[Any], answer: Any) -> Answer[Any]:
    """An answer for a template with `returns`: parsed when it can be, otherwise as it came."""
    if not isinstance(answer, str):
        raw = "" if answer is None else encode(answer).decode()
        try:
            return Answer[Any](content=adapter.validate_python(answer), raw=raw)
        except ValidationError:
            return Answer[Any](content=answer, raw=raw, parsed=False)
    try:
        return Answer[Any](content=adapter.validate_json(answer), raw=answer)
    except ValidationError:
        return Answer[Any](content=answer, raw=answer, parsed=_is_valid(adapter, answer))


def _is_valid(adapter: TypeAdapter[Any], answer: str) -> bool:
    """Whether the text itself is a value of the type, as it is for `returns=str`."""
    try:
        adapter.validate_python(answer, strict=True)
    except ValidationError:
        return False
    return True


def _shown(value: Any) -> str:
    """A value in a message, short."""
    if value is None:
        return "nothing"
    if isinstance(value, str | int | float):
        return f"{value!r:.80}"
    if isinstance(value, msgspec.Struct | dict | list):
        return f"a {type(value).__name__}"  # pyright: ignore[reportUnknownArgumentType]
    return f"a value of type {type(value).__name__}"


def _keys(frame: dict[str, Any]) -> str:
    return ", ".join(map(str, frame)) or "none"
