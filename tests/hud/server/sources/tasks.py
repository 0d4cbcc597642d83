from hud import Environment

env = Environment("sums")


@env.template()
async def add(a: int, b: int):
    answer = yield f"What is {a} + {b}?"
    yield 1.0 if str(answer).strip() == str(a + b) else 0.0


tasks = [add(a=1, b=2), add(a=3, b=4)]
tasks[0].columns = {"level": "easy"}
