"""A run: one agent's one graded try at an eval task, live while it lasts and a receipt afterwards.

    async with Run(client, "add", {"a": 1, "b": 2}) as run:
        await agent(run)
    run.reward

Entering starts the template and has the prompt; leaving grades what the trace holds as the answer. Failures of either
are raised here, by boundary; the engine around it makes data of them, reports and retries (see engine).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, cast

import msgspec

from taskloom.domain.evaluation import Boundary, EvalRun, Grade, Step, SubScore, TaskCall
from taskloom.domain.intervals import LARGEST
from taskloom.evals.capabilities import Capability
from taskloom.evals.channel.contract import Control, Refused
from taskloom.evals.failures import EnvironmentFailure, GraderFailure, InfrastructureFailure
from taskloom.evals.limits import LimitReached, Limits
from taskloom.evals.task import Task
from taskloom.evals.trace import Trace

Sink = Callable[["Run", int, Step], None]  # the run, the step's number, the step


class Run:
    """`client` None: a run that never got that far. Ids are 32 hexadecimal digits.

    prompt      as the environment gave it: a text, a list of messages, or None
    status      of the trace; `error` and `boundary` say what failed and where
    reward      of the grade; 0.0 as long as there is none (`graded` tells the two apart)
    runtime     address that it ran at; None when it never had one
    try_number  which try at its eval task this is, from 0, where the engine says so; else its position, so that no
                two tries of a group are taken for one (by a cache of model calls, or an agent that replays)
    """

    def __init__(
        self,
        client: Control | None,
        task_id: str,
        args: dict[str, Any] | None = None,
        *,
        task: Task | None = None,
        trace_id: str = "",
        job_id: str = "",
        group_id: str = "",
        position: int = 0,
        try_number: int | None = None,
        limits: Limits | None = None,
        sink: Sink | None = None,
    ) -> None:
        self._client = client
        self.task = task or Task(env=client.env_name if client else "unknown", id=task_id, args=args or {})
        self.trace = Trace(trace_id or uuid.uuid4().hex)
        self.job_id, self.group_id, self.position = job_id, group_id, position
        self.try_number = position if try_number is None else try_number
        self.limits = limits or Limits()
        self.prompt: Any = None
        self.opening: dict[str, Any] = {}  # the whole frame that the prompt came in
        self.grade: Grade | None = None
        self.runtime: str | None = None
        self.agent = self.model = ""
        self.error = ""
        self.boundary: Boundary = ""
        self.attempt = 1
        self.started = self.ended = 0.0
        self._sink = sink

    # --- what an agent uses -------------------------------------------------------------------------------

    @property
    def client(self) -> Control:
        """The control session; InfrastructureFailure for a run that has none, or none any more."""
        if self._client is None:
            raise InfrastructureFailure("this run has no environment")
        return self._client

    @property
    def control(self) -> Control | None:
        """The same, or None."""
        return self._client

    def attach(self, client: Control) -> None:
        """Give it its environment."""
        self._client = client

    def detach(self) -> None:
        """It is over: what remains is a receipt."""
        self._client = self._sink = None

    @property
    def bindings(self) -> Sequence[Capability]:
        """The capabilities that the environment offers."""
        return self.client.bindings

    @property
    def prompt_text(self) -> str:
        """The prompt as one text; of messages the texts of their contents, a line between two."""
        if self.prompt is None or isinstance(self.prompt, str):
            return self.prompt or ""
        return "\n\n".join(text for message in self.prompt_messages for text in _texts(message.get("content")))

    @property
    def prompt_messages(self) -> list[dict[str, Any]]:
        """The prompt as chat messages, `role` and `content`; a text is one of the user's."""
        if self.prompt is None:
            return []
        if isinstance(self.prompt, str):
            return [{"role": "user", "content": self.prompt}]
        return list(cast("list[dict[str, Any]]", self.prompt))

    def record(self, step: Step) -> None:
        """Add a step to the trace and report it; LimitReached when it passes a limit of the run, after that."""
        number = len(self.trace.steps)
        self.trace.record(step)
        if self._sink is not None:
            self._sink(self, number, step)
        if step.source == "agent":
            self._check_limits()

    def _check_limits(self) -> None:
        limits, usage = self.limits, self.trace.usage
        tokens = usage.prompt_tokens + usage.completion_tokens
        if limits.max_tokens is not None and tokens > limits.max_tokens:
            raise LimitReached("max_tokens", f"{tokens} tokens used, {limits.max_tokens} are allowed")
        if limits.max_cost is not None and usage.cost_usd > limits.max_cost:
            raise LimitReached("max_cost", f"{usage.cost_usd:.4f} $ used, {limits.max_cost:g} $ are allowed")
        if limits.max_steps is not None:
            # The last step that is allowed may hold the answer: only one that would go on is cut, or one more.
            last = limits.max_steps + (not self.trace.steps[-1].tool_calls)
            if self.trace.agent_steps >= last:
                raise LimitReached("max_steps", f"{limits.max_steps} steps taken")

    # --- what became of it --------------------------------------------------------------------------------

    @property
    def trace_id(self) -> str:
        return self.trace.trace_id

    @property
    def slug(self) -> str:
        return self.task.slug or self.task.default_slug()

    @property
    def task_id(self) -> str:
        """Id of the template."""
        return self.task.id

    @property
    def status(self) -> str:
        return self.trace.status

    @property
    def graded(self) -> bool:
        """Whether it has a grade, and one that is no error of the grader."""
        return self.grade is not None and not self.grade.is_error

    @property
    def reward(self) -> float:
        return self.grade.reward if self.grade is not None and self.graded else 0.0

    @property
    def evaluation(self) -> dict[str, Any]:
        """The grade as data."""
        return {} if self.grade is None else cast("dict[str, Any]", msgspec.to_builtins(self.grade))

    def fail(self, boundary: Boundary, error: str) -> None:
        """Note the first failure; later ones follow from it."""
        self.trace.status = "error"
        if not self.error:
            self.boundary, self.error = boundary, error

    def value(self) -> EvalRun:
        """The run as it is stored."""
        task, trace = self.task, self.trace
        return EvalRun(
            id=trace.trace_id,
            job=self.job_id,
            position=self.position,
            group=self.group_id,
            slug=self.slug,
            env=task.env,
            template=task.id,
            args=task.args,
            columns=task.columns or {},
            status=trace.status,
            boundary=self.boundary,
            error=self.error,
            stop_reason=trace.stop_reason,
            answer=trace.content,
            grade=self.grade,
            usage=trace.usage,
            steps=len(trace.steps),
            attempt=self.attempt,
            agent=self.agent,
            model=self.model,
            runtime=self.runtime or "",
            started=self.started,
            ended=self.ended,
            extra=trace.extra,
        )

    # --- life ---------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, LimitReached):
            await self.finish()
            return
        self.fail("agent", describe(error))
        await self.client.cancel()

    async def begin(self) -> None:
        """Start the template; EnvironmentFailure when it says no, ChannelLost when the line breaks."""
        begun = self.started = self.started or time.time()
        try:
            frame = await self.client.start(self.task.id, self.task.args)
        except Refused as refused:
            text = refused.message or "the template raised an exception without a message"
            raise EnvironmentFailure(text) from None
        self.opening, self.prompt = frame, read_prompt(frame)
        call = TaskCall("setup", self.task.id, self.task.args)
        self.record(Step(source="task", task_call=call, started=begun, ended=time.time()))
        if self.prompt is not None:
            self.record(Step(source="user", messages=tuple(self.prompt_messages), started=time.time()))

    async def finish(self) -> None:
        """Have the answer graded; GraderFailure when the environment has no grade for it."""
        begun = time.time()
        try:
            frame = await self.client.grade(self.trace.content)
            self.grade = read_grade(frame)
        except Refused as refused:
            raise GraderFailure(refused.message or "the grader raised an exception without a message") from None
        call = TaskCall("evaluate", self.task.id, result=frame)
        self.record(Step(source="task", task_call=call, started=begun, ended=time.time()))
        if self.grade.is_error:
            raise GraderFailure(self.grade.content or "the environment says that its grading failed")


def describe(error: BaseException | None) -> str:
    """An exception in one line, by its type."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def read_prompt(frame: dict[str, Any]) -> Any:
    """A text, messages or None; EnvironmentFailure for what no agent can be given."""
    prompt = frame.get("prompt")
    if prompt is None or isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and all(isinstance(one, dict) for one in cast("list[Any]", prompt)):
        return cast("list[dict[str, Any]]", prompt)
    raise EnvironmentFailure(f"the prompt is {prompt!r:.80}: expected a text or a list of messages")


def read_grade(frame: dict[str, Any]) -> Grade:
    """A grade from its frame; GraderFailure for one without a finite `score`, or with parts that are none."""
    score = frame.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not abs(score) <= LARGEST:
        raise GraderFailure(
            f"the grade has the score {score!r:.80}: expected a finite number, of at most {LARGEST:g}"
        )
    for part, kind in (("info", dict), ("subscores", list)):
        if not isinstance(frame.get(part), kind | None):
            raise GraderFailure(f"the grade's {part} is {frame[part]!r:.80}: expected a {kind.__name__}")
    parts = {"score", "done", "content", "info", "isError", "subscores"}
    try:
        return Grade(
            reward=float(score),
            done=bool(frame.get("done", True)),
            content=str(frame.get("content") or ""),
            info=dict(frame.get("info") or {}),
            is_error=bool(frame.get("isError", False)),
            subscores=tuple(_subscore(one) for one in frame.get("subscores") or ()),
            raw={key: value for key, value in frame.items() if key not in parts},
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise GraderFailure(f"the grade cannot be read: {describe(error)}") from None


def _subscore(entry: dict[str, Any]) -> SubScore:
    value, weight = entry.get("value", entry.get("score", 0.0)), entry.get("weight", 1.0)
    for number in (value, weight):  # NaN and infinities come as null
        if not isinstance(number, int | float) or not abs(number) <= LARGEST:
            raise ValueError(f"subscore {entry['name']!r:.80}: {number!r:.80}: expected finite numbers")
    return SubScore(
        name=str(entry["name"]),
        value=float(value),
        weight=float(weight),
        children=tuple(_subscore(one) for one in entry.get("children") or ()),
        info=dict(entry.get("info") or entry.get("metadata") or {}),
    )


def _texts(content: Any) -> list[str]:
    """The texts in a message's content, which is a text, a block, or a list of blocks."""
    if isinstance(content, str):
        return [content]
    if isinstance(content, dict):
        block = cast("dict[str, Any]", content)
        return [str(block["text"])] if "text" in block else []
    if isinstance(content, list):
        return [text for block in cast("list[Any]", content) for text in _texts(block)]
    return []
