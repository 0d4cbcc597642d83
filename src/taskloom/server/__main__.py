"""`python -m taskloom.server`: the server as a process.

The only line on standard output says where it is; everything else goes to standard error. Exit code 0 after an
orderly stop, 1 when it could not start, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import logging
import sys
import time
from pathlib import Path

from taskloom.domain.errors import BadInput, TaskloomError
from taskloom.wire.connection import data_folder

DONE, FAILED, WRONG_USAGE = 0, 1, 2
_ARENA_MAX = -8  # glibc's M_ARENA_MAX


def main() -> int:
    parser = argparse.ArgumentParser(prog="taskloom server", description="Run the Taskloom server.")
    parser.add_argument("--data", type=Path, default=None, help="folder that holds everything (TASKLOOM_DATA)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on; 0 takes a free one")
    wanted = parser.parse_args()
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    _lean_memory()
    try:
        return _serve(wanted.data or data_folder(), wanted.host, wanted.port)
    except ModuleNotFoundError as error:
        return _say(f"the package {error.name} is missing: pip install 'taskloom[server]'", FAILED)
    except TaskloomError as error:
        return _say(error.message, WRONG_USAGE if isinstance(error, BadInput) else FAILED)
    except OSError as error:
        return _say(f"{error.filename or wanted.data}: {error.strerror or error}", FAILED)


def _serve(data: Path, host: str, port: int) -> int:
    from taskloom.server.serve import listen
    from taskloom.server.settings import read_settings

    listen(read_settings(data, host, port), time.time, _say_ready)
    return DONE


def _say(message: str, code: int) -> int:
    print(f"taskloom server: {message}", file=sys.stderr)
    return code


def _say_ready(url: str) -> None:
    print(f"Taskloom is ready at {url}", flush=True)
    _give_back_memory()


def _lean_memory() -> None:
    """One heap for all threads: with Python's lock they never allocate at once, and each heap costs megabytes."""
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def _give_back_memory() -> None:
    """What importing needed for a moment goes back to the machine; an idle server shall be small."""
    gc.collect()
    gc.freeze()  # what lives now lives for ever: later collections need not look at it
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    sys.exit(main())
