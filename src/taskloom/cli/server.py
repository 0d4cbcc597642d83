"""`taskloom server`: run the server in the foreground until it is told to stop.

The command only reads its arguments: the same process then goes on as `python -m taskloom.server`, so that a
server that runs for months does not carry a command line library.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def server(
    data: Annotated[Path | None, typer.Option(help="Folder that holds everything (else TASKLOOM_DATA).")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8080,
) -> None:
    """Run the server in the foreground until SIGTERM or Ctrl-C."""
    words = ["--host", host, "--port", str(port), *(["--data", str(data)] if data else [])]
    os.execv(sys.executable, [sys.executable, "-m", "taskloom.server", *words])  # noqa: S606 - our own, no shell


if __name__ == "__main__":
    typer.run(server)
