"""A coding environment with a shell: a function is wrong, the agent mends it in a sandbox, and the tests decide.

The workspace is served over SSH through the control channel, so that the agent may be anywhere. This agent is a
script that plays a good engineer and a careless one; a model gets the same shell as its tool:
`taskloom eval coding.py --agent anthropic --model claude-sonnet-4-5`.
"""

import asyncio
import tempfile
from pathlib import Path

from taskloom.evals import Environment, Taskset
from taskloom.evals.agents import ScriptedAgent
from taskloom.evals.graders import ShellGrader, combine

env = Environment("coding")
folder = Path(tempfile.mkdtemp(prefix="coding-"))
env.workspace(folder)

CODE = "def middle(values):\n    return sorted(values)[len(values) // 2 + 1]\n"
TESTS = """\
from statistics_of import middle

assert middle([3, 1, 2]) == 2, middle([3, 1, 2])
assert middle([5]) == 5
"""


@env.template(description="Mend a function until its tests pass")
async def mend(hint: bool = False):
    (folder / "statistics_of.py").write_text(CODE)
    (folder / "check.py").write_text(TESTS)
    text = f"`python3 check.py` fails in {folder}. Mend statistics_of.py; do not touch check.py."
    yield text + (" The index is off by one." if hint else "")
    (folder / "check.py").write_text(TESTS)  # whatever became of it
    yield await combine(
        ShellGrader("python3 check.py", cwd=folder, name="tests", weight=0.8)(),
        ShellGrader("test $(wc -l < statistics_of.py) -le 3", cwd=folder, name="short", weight=0.2)(),
    )


taskset = Taskset("coding", [mend(), mend(hint=True)])

engineer = ScriptedAgent(
    steps=[
        "Let me look first.",
        {"tool": "shell", "arguments": {"command": "cat statistics_of.py"}},
        {"tool": "shell", "arguments": {"command": "sed -i 's/ + 1//' statistics_of.py && python3 check.py"}},
        {"answer": "The index was one too high."},
    ]
)
careless = ScriptedAgent(answer="It works on my machine.")


async def main() -> None:
    for name, agent in {"engineer": engineer, "careless": careless}.items():
        job = await taskset.run(agent, name=name)
        print(f"{name}: reward {job.reward:.2f}")
        for run in job.runs:
            parts = (
                ", ".join(f"{part.name} {part.value:g}" for part in run.grade.subscores)
                if run.grade
                else run.error
            )
            print(f"  {run.slug}: {parts}")


if __name__ == "__main__":
    asyncio.run(main())
