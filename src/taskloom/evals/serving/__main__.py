"""`python -m taskloom.evals.serving PATH [--env NAME] [--host HOST] [--port PORT]`: serve the environment of a source.

Standard output says nothing but the announcement until that is out: what the source prints meanwhile goes to standard
error. Exit codes: 0 ended by a signal, 1 the source or the port is at fault, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from taskloom.domain.errors import TaskloomError
from taskloom.evals.environment.loading import load_environment
from taskloom.evals.serving.process import ANNOUNCEMENT, serve


class Voice:
    """Standard output, kept for the announcement; everybody else speaks on standard error meanwhile."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._real = os.dup(1)
        os.dup2(2, 1)

    def announce(self, port: int) -> None:
        """Say the port, and give standard output back."""
        sys.stdout.flush()
        os.dup2(self._real, 1)
        os.write(1, f"{ANNOUNCEMENT}{port}\n".encode())


def serve_source(path: Path, name: str, host: str, port: int) -> int:
    """Load and serve; the exit code."""
    folder = path if path.is_dir() else path.parent
    sys.path.insert(0, str(folder.resolve()))  # for what templates import when they run
    voice = Voice()
    try:
        environment = load_environment(path, name)
    except TaskloomError as error:
        print(f"taskloom: {error.message}", file=sys.stderr)
        return 1
    try:
        asyncio.run(serve(environment, host=host, port=port, announce=voice.announce))
    except OSError as error:
        print(f"taskloom: cannot serve at {host}:{port}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m taskloom.evals.serving", description="Serve an environment.")
    parser.add_argument("path", type=Path, help="a .py file or a folder that defines an environment")
    parser.add_argument("--env", default="", help="its name, when there are several")
    parser.add_argument("--host", default="127.0.0.1", help="the interface to listen on")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    options = parser.parse_args()
    return serve_source(options.path, options.env, options.host, options.port)


if __name__ == "__main__":
    raise SystemExit(main())
