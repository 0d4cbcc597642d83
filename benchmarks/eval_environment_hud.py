"""The same environment for HUD's package."""

from hud import Environment  # pyright: ignore[reportMissingImports]

env = Environment("noop")


@env.template(id="noop")
async def noop(number: int = 0):
    yield f"say yes {number}"
    yield 1.0
