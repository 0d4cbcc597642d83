"""An environment, written so that it says the same to both packages: see PACKAGE, which the test puts in front."""

import asyncio

from pydantic import BaseModel

env = Environment("world", version="1.2")  # noqa: F821  (of the package that serves it)
events = []


class Point(BaseModel):
    x: int
    y: int = 0


@env.initialize
async def start_echo():
    async def echo(reader, writer):
        writer.write((await reader.read()).upper())
        writer.write_eof()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    env.add_capability(
        Capability(name="raw", protocol="echo/1", url=f"echo://me@127.0.0.1:{port}/deep?x=1", params={"k": 1})  # noqa: F821
    )
    env.kept = server


@env.template(description="add two numbers")
async def add(a: int, b: int = 2):
    try:
        answer = yield f"What is {a} + {b}?"
        yield float(answer == str(a + b))
    finally:
        events.append(f"add {a} closed")


@env.template()
async def seen():
    yield None
    yield {"score": 1.0, "events": list(events)}


@env.template()
async def chat(messages: list[dict]):
    answer = yield [*messages, {"role": "user", "content": "and now?"}]
    yield EvaluationResult(  # noqa: F821
        reward=0.5,
        content=f"heard {answer}",
        subscores=[SubScore(name="tone", value=1.0, weight=0.5), SubScore(name="fact", value=0.0, weight=0.5)],  # noqa: F821
        info={"turns": len(messages)},
    )


@env.template(returns=Point)
async def typed():
    answer = yield {"prompt": "where?", "hint": "a point"}
    good = isinstance(answer.content, Point)
    yield {"score": float(good), "x": answer.content.x if good else None, "raw": answer.raw}


@env.template()
async def fails(where: str):
    if where == "start":
        raise RuntimeError("no world today")
    yield "go"
    if where == "grade":
        raise ValueError("no grade today")
    yield float("nan")


@env.template()
async def hangs(where: str):
    try:
        if where == "start":
            await asyncio.sleep(600)
        yield "go"
        await asyncio.sleep(600)
    finally:
        events.append(f"hangs {where} closed")


@env.template()
async def large(size: int):
    answer = yield "x" * size
    yield {"score": 1.0, "length": len(answer)}
