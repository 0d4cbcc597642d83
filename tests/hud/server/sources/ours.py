from taskloom.evals import Environment

env = Environment("sums")


@env.template()
async def add(a: int, b: int):
    answer = yield f"What is {a} + {b}?"
    yield float(str(answer).strip() == str(a + b))
