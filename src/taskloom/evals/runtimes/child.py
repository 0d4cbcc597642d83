"""What a fork of the pre-forked parent does: serve one environment until SIGTERM, and report once where.

The report is one line of JSON: `port`, or `error` with what the source raised, where. Nothing here knows how the child is
stopped or what becomes of what it started: see zygote.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import random
import sys
import traceback
from pathlib import Path
from typing import Any

from taskloom.domain.errors import TaskloomError
from taskloom.evals.environment.declaration import Environment
from taskloom.evals.environment.loading import load_environment
from taskloom.evals.serving.process import serve

MOST_TOLD = 2000  # characters of an error


def serve_run(path: Path, name: str, environment: Environment | None, report: int, output: int) -> None:
    """Serve, returns when it is over; SystemExit when it could not begin. environment None: load it here."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    vary_seeds()
    atexit._clear()  # pyright: ignore[reportPrivateUsage] - the parent's, who runs them itself
    served = False

    def announce(port: int) -> None:
        nonlocal served
        served = True
        tell(report, {"port": port})

    try:
        if environment is None:
            environment = load_environment(path, name)
        asyncio.run(serve(environment, host="127.0.0.1", port=0, announce=announce))
    except BaseException as error:
        if not served:
            tell(report, {"error": explain(error, path if path.is_dir() else path.parent)})
        traceback.print_exc()
        raise SystemExit(1) from None
    finally:
        atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
        sys.stdout.flush()
        sys.stderr.flush()


def tell(report: int, message: dict[str, Any]) -> None:
    os.write(report, json.dumps(message).encode() + b"\n")
    os.close(report)


def vary_seeds() -> None:
    """Forks of one process would otherwise throw the same dice."""
    random.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()


def explain(error: BaseException, folder: Path) -> str:
    """The exception with the line of the source that it came from."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(folder) and "site-packages" not in frame.filename
    ]
    if isinstance(error, TaskloomError):  # loading a source says where
        return error.message[:MOST_TOLD]
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if own:
        text = f"{own[-1].filename} line {own[-1].lineno}: {text}"
    return text[:MOST_TOLD]
