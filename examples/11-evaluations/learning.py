"""A training loop that learns from rewards: a small policy, rollouts as runs of one job, a step per batch.

The policy is a table of logits over four words for each prompt; the environment knows the right one. Every round
samples a group of tries at each eval task, and moves the logits by their advantages (REINFORCE with the group's mean
as its baseline). What a trainer of a language model needs stands in the same place: the runs' token samples.
"""

import asyncio
import math
import random

from taskloom.domain.evaluation import TokenSample
from taskloom.evals import Environment, Job, LocalRuntime, Run, Step, Taskset
from taskloom.evals.formats import to_dataset

WORDS = ["red", "green", "blue", "grey"]
COLOURS = {"grass": "green", "sky": "blue", "blood": "red"}

env = Environment("colours")


@env.template(description="Name the colour of a thing")
async def colour(thing: str):
    reply = yield f"Which colour has {thing}?"
    yield float(reply == COLOURS[thing])


taskset = Taskset("colours", [colour(thing=thing) for thing in COLOURS])


class Policy:
    """An agent with weights: one row of logits a prompt."""

    name = "table of logits"

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.logits: dict[int, list[float]] = {}

    def chances(self, prompt: int) -> list[float]:
        row = self.logits.setdefault(prompt, [0.0] * len(WORDS))
        powers = [math.exp(value) for value in row]
        return [power / sum(powers) for power in powers]

    async def __call__(self, run: Run) -> None:
        prompt = list(COLOURS).index(run.task.args["thing"])
        chances = self.chances(prompt)
        token = self.dice.choices(range(len(WORDS)), chances)[0]
        sample = TokenSample((prompt,), (token,), (math.log(chances[token]),))
        run.record(Step(source="agent", content=WORDS[token], model=self.name, sample=sample))
        run.trace.content = WORDS[token]

    def learn(self, batch: list[dict], rate: float = 1.0) -> None:
        """Up with the logits of what did better than its group, down with the others."""
        groups: dict[str, list[float]] = {}
        for entry in batch:
            groups.setdefault(entry["group_id"], []).append(entry["reward"])
        for entry in batch:
            rewards = groups[entry["group_id"]]
            advantage = entry["reward"] - sum(rewards) / len(rewards)
            (sample,) = entry["samples"]
            (prompt,), (token,) = sample["prompt_token_ids"], sample["output_token_ids"]
            for index, chance in enumerate(self.chances(prompt)):
                self.logits[prompt][index] += rate * advantage * ((index == token) - chance)


async def main(rounds: int = 12, group: int = 8) -> float:
    policy = Policy(seed=1)
    reward = 0.0
    async with await Job.start("learning colours", group=group) as job:
        for number in range(rounds):
            before = len(job.runs)
            await taskset.run(policy, runtime=LocalRuntime(__file__), group=group, job=job)
            fresh = job.runs[before:]
            policy.learn(to_dataset(fresh))
            reward = sum(run.reward for run in fresh) / len(fresh)
            print(f"round {number + 1:2}: mean reward {reward:.2f}")
    return reward


if __name__ == "__main__":
    asyncio.run(main())
