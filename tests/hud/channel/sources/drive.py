"""Run by the unmodified hud package: drive a served environment and write what it saw as JSON. Usage: drive.py URL."""

import asyncio
import json
import sys
from urllib.parse import urlsplit

import hud
from hud.agents.base import Agent
from hud.clients.client import HudProtocolError
from hud.eval import Runtime, Task, Taskset

RUNTIME = Runtime(sys.argv[1])


class Calculator(Agent):
    async def __call__(self, run):
        words = (run.prompt_text or "").rstrip("?").split()
        if "+" in words:
            run.trace.content = str(int(words[-3]) + int(words[-1]))
        else:
            run.trace.content = '{"x": 4}'


class Sleeper(Agent):
    async def __call__(self, run):
        await asyncio.sleep(600)


def row(id, **args):
    return Task(env="world", id=id, args=args)


def told(run):
    return {
        "slug": run.slug,
        "reward": run.reward,
        "prompt": run.prompt,
        "status": run.trace.status,
        "error": [step.error for step in run.trace.steps if step.error],
        "evaluation": run.evaluation,
        "content": run.grade.content,
    }


async def one(id, agent=None, **args):
    options = args.pop("options", {})
    job = await row(id, **args).run(agent or Calculator(), runtime=RUNTIME, **options)
    return told(job.runs[0])


async def concurrent():
    rows = [row("add", a=number, b=5) for number in range(40)]
    job = await Taskset("sums", rows).run(Calculator(), runtime=RUNTIME, group=2, max_concurrent=8)
    return {"reward": job.reward, "runs": len(job.runs), "prompts": [run.prompt for run in job.runs][:3]}


async def tunnel():
    async with hud.connect(RUNTIME) as client:
        binding = client.binding("raw")
        parts = urlsplit(binding.url)

        async def ask(text):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(text)
            writer.write_eof()
            heard = await reader.read()
            writer.close()
            return heard.decode()

        heard = await asyncio.gather(*(ask(f"text {number} ".encode() * 5000) for number in range(8)))
        return {
            "whole": [len(set(text.split())) for text in heard],
            "url": binding.url.replace(str(parts.port), "PORT"),
            "params": binding.params,
            "protocol": binding.protocol,
        }


async def parked():
    async with hud.connect(RUNTIME) as first:
        session = first.manifest.session_id
        await first.start_task("add", {"a": 1})
        host, port = first._endpoint
    results = {}
    reader, writer = await asyncio.open_connection(host, port)
    other = hud.HudClient(reader, writer) if hasattr(hud, "HudClient") else type(first)(reader, writer)
    await other.hello(session_id=session)
    results["resumed"] = await other.grade({"answer": "3"})
    await other.close()
    async with hud.connect(RUNTIME) as first:
        await first.start_task("add", {"a": 2})
    async with hud.connect(RUNTIME) as second:
        results["adopted"] = await second.grade({"answer": "4"})
        try:
            await second.grade({"answer": "4"})
        except HudProtocolError as error:
            results["empty"] = [error.code, error.message]
        await second.start_task("add", {"a": 3})
        await second.cancel()
        try:
            await second.start_task("nothing", {})
        except HudProtocolError as error:
            results["unknown"] = [error.code, error.message]
        results["templates"] = await second.list_tasks()
        results["environment"] = [second.manifest.server_info.name, second.manifest.server_info.version]
    return results


async def large():
    async with hud.connect(RUNTIME) as client:
        frame = await client.start_task("large", {"size": 5_000_000})
        grade = await client.grade({"answer": "y" * 5_000_000})
        return {"prompt": len(frame["prompt"]), "grade": grade}


async def main():
    results = {
        "add": await one("add", a=1),
        "concurrent": await concurrent(),
        "chat": await one("chat", messages=[{"role": "user", "content": "hi"}]),
        "typed": await one("typed"),
        "fails_start": await one("fails", where="start"),
        "fails_grade": await one("fails", where="grade"),
        "nan": await one("fails", where="later"),
        "missing": await one("add"),
        "timeout": await one("hangs", where="grade", agent=Sleeper(), options={"rollout_timeout": 1.0}),
        "tunnel": await tunnel(),
        "parked": await parked(),
        "large": await large(),
    }
    results["seen"] = (await one("seen"))["evaluation"]
    print("RESULTS " + json.dumps(results, default=str))


asyncio.run(main())
