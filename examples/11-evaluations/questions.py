"""A question set: short answers graded by comparison, in two kinds of questions, with figures by kind.

Run it, or let the command do it: `taskloom eval questions.py --agent questions.py:calculator --group 2`; with a model:
`taskloom eval questions.py --agent openai --model gpt-4o-mini`.
"""

import asyncio
import re

from taskloom.evals import Environment, EvaluationResult, Run, Taskset
from taskloom.evals.graders import exact_match, numeric_match

env = Environment("questions", version="1.0")


@env.template(description="One question with one short answer")
async def ask(question: str, answer: str, kind: str):
    reply = yield f"{question}\nAnswer with one word or one number."
    if kind == "sum":
        yield numeric_match(reply, float(answer), tolerance=1e-6)
    else:
        right = exact_match(reply, answer)
        yield EvaluationResult(reward=right, content=f"expected {answer}", info={"letters": len(answer)})


def row(question: str, answer: str, kind: str):
    task = ask(question=question, answer=answer, kind=kind)
    task.columns = {"kind": kind}
    return task


taskset = Taskset(
    "questions",
    [
        *(row(f"What is {a} + {b}?", str(a + b), "sum") for a, b in [(2, 3), (17, 25), (140, 2)]),
        row("Which planet is nearest to the sun?", "Mercury", "fact"),
        row("Which metal is liquid at room temperature?", "Mercury", "fact"),
    ],
)


async def calculator(run: Run) -> None:
    """Can add, and believes that every fact is Mercury."""
    numbers = [int(word) for word in re.findall(r"\d+", run.prompt_text)]
    run.trace.content = str(sum(numbers)) if numbers else "Venus" if "planet" in run.prompt_text else "mercury"


async def main() -> None:
    job = await taskset.run(calculator, group=2)
    figures = job.report()
    print(f"{len(job.runs)} runs, mean reward {job.reward:.2f}")
    for one in figures.by_slug:
        print(f"  {one.slug}: {one.passed} of {one.counted} passed")


if __name__ == "__main__":
    asyncio.run(main())
