"""Run inside a container, by whatever Python it has: environments on top of the image's own packages.

    python3 inside_container.py ORDER       (a JSON file, see `containers.Order`)

Alone in its folder: only the standard library, and a Python as old as 3.7. The shared environment lies in a folder of
the worker's machine that is mounted at the same path, so that the next container of the same image finds it. It is
built under a lock, and the folder holds `.ready` once it is whole. uv builds it when the worker's own runs there, else
the image's pip. A task whose shell lines install more gets an environment of its own above the shared one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any, Dict, Generator, List

READY = ".ready"


def say(text: str) -> None:
    sys.stderr.write("taskloom: " + text + "\n")
    sys.stderr.flush()


def works(argv: List[str]) -> bool:
    try:
        return subprocess.call(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


@contextlib.contextmanager
def locked(path: str) -> Generator[None, None, None]:
    import fcntl

    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make(place: str, uv: str) -> None:
    """The empty environment, on top of what the image has."""
    shutil.rmtree(place, ignore_errors=True)
    words = ["--quiet", "--no-project", "--no-config", "--system-site-packages", "--python", sys.executable]
    if uv and works([uv, "venv", *words, place]):
        return
    plain = [sys.executable, "-m", "venv", "--system-site-packages", place]
    if works(plain) or works([*plain, "--without-pip"]):
        return
    raise SystemExit(
        "taskloom: the image's Python can make no virtual environment (on Debian: install python3-venv)"
    )


def install(place: str, uv: str, words: List[str]) -> int:
    python = os.path.join(place, "bin", "python")
    if uv and works([uv, "--version"]):
        return subprocess.call([uv, "pip", "install", "--python", python, *words])
    return subprocess.call([python, "-m", "pip", "install", "--disable-pip-version-check", *words])


def sites(place: str) -> List[str]:
    found = [at for at, _, _ in os.walk(os.path.join(place, "lib")) if os.path.basename(at) == "site-packages"]
    return sorted(found, key=len)[:1]


def write_path(place: str, lines: List[str]) -> None:
    for site in sites(place):
        with open(os.path.join(site, "taskloom.pth"), "w") as file:
            file.write("".join(line + "\n" for line in lines))


def link(place: str, order: Dict[str, Any]) -> None:
    """taskloom itself is the worker's; what it needs is installed. Without it the task runs, but records less."""
    if tuple(sys.version_info) < (3, 11):
        say(f"the image has Python {sys.version_info[0]}.{sys.version_info[1]}; `import taskloom` needs 3.11")
    elif order["needs"] and install(place, order["uv"], ["-q", *order["needs"]]) != 0:
        say("what `import taskloom` needs cannot be installed in this image")
    else:
        write_path(place, [order["brought"]])


def build(order: Dict[str, Any]) -> int:
    """The shared environment, once; gives the exit code."""
    ready = os.path.join(order["folder"], READY)
    if os.path.exists(ready):
        return 0
    began = time.monotonic()
    make(order["shared"], order["uv"])
    if order["install"]:
        code = install(order["shared"], order["uv"], order["install"])
        if code:
            say("the packages cannot be installed in this image")
            return code
    if order["brought"]:
        link(order["shared"], order)
    place: str = order["shared"]
    size = sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(place) for name in names)
    with open(ready + ".tmp", "w") as file:
        json.dump({"size": size, "python": sys.executable}, file)
    os.replace(ready + ".tmp", ready)
    say(f"the environment took {time.monotonic() - began:.1f} s")
    return 0


def main(words: List[str]) -> int:
    with open(words[0]) as file:
        order = json.load(file)
    with locked(os.path.join(order["folder"], "lock")):
        code = build(order)
    if code == 0 and order["own"]:
        make(order["own"], order["uv"])
        write_path(order["own"], [f"import site; site.addsitedir({site!r})" for site in sites(order["shared"])])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
