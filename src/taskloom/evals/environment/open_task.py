"""An eval task that is open: its template has begun, and waits for the answer or works on it.

The generator's whole life is one asyncio task, from the first line to the last `finally`: timeouts, task groups and
context variables may reach across its yields, and a task that was parked by one connection goes on for another. What
becomes of prompt and grade is told by callbacks, so that an answer that is there at once costs no other task. ORDER
start -> grade, with `stop` at any time; the generator is closed and the hooks of `teardown` have run before the grade
is told, and before `stop` returns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from taskloom.evals.environment.template import Template
from taskloom.evals.environment.yields import NoPrompt, grade_frame, prompt_frame, typed_answer

Told = Callable[[dict[str, Any] | Exception], None]  # a frame, or what the template raised
log = logging.getLogger("taskloom.evals.environment")


class Stopped(Exception):
    """The task was stopped, or cancelled itself, before it had a prompt or a grade."""

    def __init__(self) -> None:
        super().__init__("the task was stopped before its end")


class OpenTask:
    """TypeError at once when the arguments do not bind."""

    __slots__ = ("_answer", "_ending", "_generator", "_outcome", "_told", "_work", "template")

    def __init__(self, template: Template[Any], args: Mapping[str, Any]) -> None:
        self.template = template
        self._generator = template.call(args)
        self._answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._told: Told | None = None
        self._outcome: dict[str, Any] | Exception | None = None  # that came before anybody asked
        self._ending = False
        self._work: asyncio.Task[None] | None = None

    def start(self, told: Told, after: OpenTask | None = None) -> None:
        """Run up to the prompt; first wait until the task that it follows is gone."""
        self._told = told
        self._work = asyncio.get_running_loop().create_task(self._live(after))
        self._work.add_done_callback(self._ended)

    def grade(self, answer: Any, told: Told) -> None:
        """Send the answer in, wait for the grade and for the end."""
        if self._outcome is not None:
            told(self._outcome)
            return
        self._told = told
        if not self._answer.done():
            self._answer.set_result(answer)

    def when_closed(self, told: Callable[[OpenTask], object]) -> None:
        """Call this when a started task has closed."""
        if self._work is not None:
            self._work.add_done_callback(lambda _: told(self))

    def cancel(self) -> None:
        """Begin to stop. What closes already is left in peace."""
        if self._work is not None and not self._ending:
            self._ending = True
            self._work.cancel()

    async def stop(self) -> None:
        """Cut it off wherever it is; returns when it is closed."""
        self.cancel()
        if self._work is not None:
            await asyncio.wait([self._work])

    async def _live(self, after: OpenTask | None) -> None:
        outcome: dict[str, Any] | Exception = Stopped()
        try:
            if after is not None:
                await after.stop()
            self._tell(await self._prompt())
            outcome = await self._grade()
        except asyncio.CancelledError:
            pass
        except SystemExit as error:
            outcome = RuntimeError(f"the template called for the end of the process (SystemExit: {error})")
        except Exception as error:
            log.info("template %r failed", self.template.id, exc_info=error)
            outcome = error
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # what libraries of other languages raise, and those of tests to leave one
            outcome = RuntimeError(f"{type(error).__name__}: {error}")
        finally:
            await self._close()
            self._tell(outcome)

    async def _prompt(self) -> dict[str, Any]:
        try:
            return prompt_frame(await anext(self._generator))
        except StopAsyncIteration:
            raise NoPrompt(f"template {self.template.id!r} ended without a prompt: it has to yield one") from None

    async def _grade(self) -> dict[str, Any]:
        try:
            return grade_frame(await self._send_answer())
        except StopAsyncIteration:
            return {"score": 0.0}

    async def _send_answer(self) -> Any:
        """Wait for the answer; what the template yields for it."""
        try:
            answer = await self._answer
        except asyncio.CancelledError as cancelled:
            if self._ending:
                raise
            # By a timeout or a task group around the yield, which have to hear of it to say what happened.
            return await self._generator.athrow(cancelled)
        adapter = self.template.answers
        return await self._generator.asend(answer if adapter is None else typed_answer(adapter, answer))

    async def _close(self) -> None:
        self._ending = True
        await _close_generator(self._generator)
        await self.template.environment.end_task()

    def _ended(self, work: asyncio.Task[None]) -> None:
        """Tell those who still wait: it was cut off before its first line, or while it closed."""
        self._tell(Stopped())
        if not work.cancelled() and (error := work.exception()) is not None:
            log.error("an eval task of template %r failed", self.template.id, exc_info=error)

    def _tell(self, outcome: dict[str, Any] | Exception) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(outcome)
        elif self._outcome is None:
            self._outcome = outcome


async def _close_generator(generator: AsyncGenerator[Any, Any]) -> None:
    try:
        await generator.aclose()
    except BaseExceptionGroup as group:
        # A task group around the yield makes a group of the exit itself.
        if group.split(GeneratorExit)[1] is not None:
            log.exception("closing a template failed")
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise
    except BaseException:
        log.exception("closing a template failed")
