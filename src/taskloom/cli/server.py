"""`taskloom server`: run the server in the foreground until it is told to stop.

The only line on standard output says where it is; everything else goes to standard error.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from taskloom.domain.errors import BadInput, TaskloomError
from taskloom.wire.connection import data_folder

DONE, FAILED, WRONG_USAGE = 0, 1, 2


def server(data: Path | None = None, host: str = "127.0.0.1", port: int = 8080) -> int:
    """Serve the data folder (by default TASKLOOM_DATA, then ~/.taskloom); gives the exit code."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        from taskloom.server.serve import listen
        from taskloom.server.settings import read_settings
    except ModuleNotFoundError as error:
        print(f"taskloom server needs the package {error.name}: pip install 'taskloom[server]'", file=sys.stderr)
        return FAILED
    try:
        listen(read_settings(data or data_folder(), host, port), time.time, _say_ready)
    except BadInput as error:
        print(f"taskloom server: {error.message}", file=sys.stderr)
        return WRONG_USAGE
    except TaskloomError as error:
        print(f"taskloom server: {error.message}", file=sys.stderr)
        return FAILED
    return DONE


def _say_ready(url: str) -> None:
    print(f"Taskloom is ready at {url}", flush=True)


def _main() -> int:
    parser = argparse.ArgumentParser(prog="taskloom server", description="Run the Taskloom server.")
    parser.add_argument("--data", type=Path, default=None, help="folder that holds everything (TASKLOOM_DATA)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on; 0 takes a free one")
    wanted = parser.parse_args()
    return server(wanted.data, wanted.host, wanted.port)


if __name__ == "__main__":
    sys.exit(_main())
