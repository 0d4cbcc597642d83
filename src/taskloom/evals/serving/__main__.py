"""`python -m taskloom.evals.serving PATH [--env NAME] [--host HOST] [--port PORT] [--json]`: serve an environment.

Standard output says nothing but the announcement until that is out (with --json an object on the line behind it): what
the source prints meanwhile goes to standard error, and so does what people should know. Exit codes: 0 ended by a
signal, 1 the source or the port is at fault, 2 wrong usage. TASKLOOM_SERVE_HOST and TASKLOOM_SERVE_PORT win over the
options: by them a container is told where it may listen.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import sys
from pathlib import Path

from taskloom.domain.errors import TaskloomError
from taskloom.evals.encoding import encode
from taskloom.evals.environment.declaration import Environment
from taskloom.evals.environment.loading import load_environment
from taskloom.evals.serving.process import ANNOUNCEMENT, ENV_HOST, ENV_PORT, serve


class Voice:
    """Standard output, kept for the announcement; everybody else speaks on standard error meanwhile."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._real = os.dup(1)
        os.dup2(2, 1)

    def announce(self, lines: bytes) -> None:
        """Say it, and give standard output back."""
        sys.stdout.flush()
        os.dup2(self._real, 1)
        os.close(self._real)
        os.write(1, lines)


def serve_source(path: Path, name: str, host: str, port: int, *, as_json: bool) -> int:
    """Load and serve; the exit code."""
    folder = path if path.is_dir() else path.parent
    sys.path.insert(0, str(folder.resolve()))  # for what templates import when they run
    voice = Voice()
    try:
        environment = load_environment(path, name)
    except TaskloomError as error:
        return _fail(error.message)
    if not is_loopback(host):
        _tell("warning: whoever can reach this port can run and grade tasks; the channel has no authentication")

    def announce(port: int) -> None:
        lines = f"{ANNOUNCEMENT}{port}\n".encode()
        voice.announce(lines + _description(environment, host, port) if as_json else lines)
        _tell(f"environment {environment.name!r} is served at tcp://{host}:{port}")

    try:
        asyncio.run(serve(environment, host=host, port=port, announce=announce))
    except OSError as error:
        return _fail(f"{host}:{port} cannot be served: {error.strerror or error}")
    except Exception as error:
        import traceback

        traceback.print_exc()
        return _fail(f"environment {environment.name!r} cannot be served: {type(error).__name__}: {error}")
    return 0


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _description(environment: Environment, host: str, port: int) -> bytes:
    told = {"environment": environment.name, "version": environment.version, "url": f"tcp://{host}:{port}"}
    return encode(told | {"port": port}) + b"\n"


def _tell(text: str) -> None:
    print(f"taskloom: {text}", file=sys.stderr, flush=True)


def _fail(text: str) -> int:
    _tell(text)
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m taskloom.evals.serving", description="Serve an environment.")
    parser.add_argument("path", type=Path, help="a .py file or a folder that defines an environment")
    parser.add_argument("--env", default="", help="its name, when there are several")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--json", action="store_true", help="say more, as a JSON object on the next line")
    options = parser.parse_args()
    host, port = os.environ.get(ENV_HOST) or options.host, os.environ.get(ENV_PORT) or str(options.port)
    if not port.isdecimal():
        parser.error(f"{ENV_PORT} is {port!r}: expected a port")
    return serve_source(options.path, options.env, host, int(port), as_json=options.json)


if __name__ == "__main__":
    raise SystemExit(main())
