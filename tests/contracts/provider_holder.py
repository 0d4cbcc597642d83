"""A process that holds a program, to be killed: `KIND IMAGE FOLDER KEEP ARGV...`. Prints the handle, then waits."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from taskloom.providers.container import ContainerProvider, find_engine
from taskloom.providers.contract import Launch, Provider, Wanted
from taskloom.providers.local import LocalProvider


def container_provider() -> ContainerProvider:
    engine = find_engine("podman", os.environ)
    assert engine is not None, "podman does not answer: run under tests/containers.sh"
    return ContainerProvider(engine, os.environ)


async def hold(provider: Provider, image: str, folder: Path, keep: float, argv: tuple[str, ...]) -> None:
    place = await provider.acquire(Wanted(folder / "place", image=image))
    launch = Launch(argv, folder, dict(os.environ), folder / "out", folder / "err")
    program = await place.start(launch)
    await program.keep(keep)
    print(program.handle, flush=True)
    await program.wait()
    await asyncio.sleep(600)  # until it is killed


if __name__ == "__main__":
    kind, image, folder, keep, *argv = sys.argv[1:]
    asyncio.run(
        hold(
            container_provider() if kind == "container" else LocalProvider(),
            "" if image == "-" else image,
            Path(folder),
            float(keep),
            tuple(argv),
        )
    )
