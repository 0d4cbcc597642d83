"""What the program of an attempt does first when it runs in a container: packages, for the Python that is there.

Nothing of the image is known on the host, so it is decided inside: the generated script looks for a Python and
hands it an order. Environments are kept on the host, keyed by the image and what was asked for, and bounded
with the others. How a container is started is not here: see `providers`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from taskloom.worker.overlay import make_overlay, requirements
from taskloom.worker.packages import Wish, uv_program, wanted
from taskloom.worker.script import Script
from taskloom.worker.steps import PrepareFailed
from taskloom.worker.values import write_private

HELPER, ORDER = "inside_container.py", "packages.json"
OWN = "venv"


@dataclass(frozen=True)
class Inside:
    """An environment as the container will see it.

    place     its folder; `key` names the shared one among the worker's
    mounts    folders that it writes; readonly: what it only reads
    """

    place: Path
    mounts: tuple[Path, ...]
    readonly: tuple[Path, ...]


def environment_key(image: str, wish: Wish, private: str) -> str:
    told = (image, wanted(wish.packages), wish.constraints, wish.lock, private)
    return hashlib.sha256(repr(("container", *told)).encode("utf-8", "surrogateescape")).hexdigest()[:40]


def order_packages(
    script: Script, folder: Path, shared: Path, overlays: Path, wish: Wish, *, own: bool, needed: str
) -> Inside:
    """Adds the lines to the script.

    shared: the folder that keeps the environment. own: the task gets one above it that it may change. needed: why
    there has to be a Python; empty: where there is none, or none that can have environments, it goes without.
    """
    shared.mkdir(parents=True, exist_ok=True, mode=0o700)
    package = Path(__file__).parents[1]
    overlay = make_overlay(overlays, dependencies=False)
    uv = _uv()
    install: list[str] = []
    for name, text in (("requirements.txt", "\n".join(wanted(wish.packages))), ("pylock.toml", wish.lock)):
        if text:
            write_private(folder / f"image-{name}", f"{text}\n")
            install += ["-r", str(folder / f"image-{name}")]
    if wish.constraints and install:
        write_private(folder / "image-constraints.txt", f"{wish.constraints}\n")
        install += ["-c", str(folder / "image-constraints.txt")]
    place = folder / OWN if own else shared / "env"
    order = {
        "folder": str(shared),
        "shared": str(shared / "env"),
        "own": str(folder / OWN) if own else "",
        "uv": str(uv) if uv else "",
        "install": install,
        "brought": str(overlay),
        "needs": requirements(),
    }
    write_private(folder / ORDER, json.dumps(order))
    helper = folder / HELPER
    helper.write_bytes((Path(__file__).parent / HELPER).read_bytes())
    _write_lines(script, helper, folder / ORDER, place, needed)
    readonly = (overlay, package, *((uv,) if uv else ()))
    return Inside(place, (shared,), readonly)


def _write_lines(script: Script, helper: Path, order: Path, place: Path, needed: str) -> None:
    script.line("taskloom_python=$(command -v python3 || command -v python || true)")
    run = f'"$taskloom_python" {quote(str(helper))} {quote(str(order))}'
    if needed:
        words = f"taskloom: the image has no python3, and {needed}"
        script.line(f'if [ -z "$taskloom_python" ]; then echo {quote(words)} >&2; exit 127; fi')
        script.line(f"{run} || exit $?")
    else:
        words = "taskloom: no environment in this image; the task uses its own Python"
        script.line(f'if [ -n "$taskloom_python" ]; then {run} || echo {quote(words)} >&2; fi')
    found = quote(str(place))
    script.line(
        f"if [ -x {found}/bin/python ]; then VIRTUAL_ENV={found}; PATH={found}/bin:$PATH; export VIRTUAL_ENV PATH; fi"
    )
    script.line(
        'if [ -z "${SUDO+x}" ]; then if [ "$(id -u)" = 0 ]; then SUDO=; else SUDO=sudo; fi; export SUDO; fi'
    )


def _uv() -> Path | None:
    try:
        return Path(uv_program()).resolve()
    except PrepareFailed:
        return None
