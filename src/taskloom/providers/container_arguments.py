"""What a task may ask of the command that runs containers, and what it may see of the machine.

A task's image arguments are data of whoever wrote the task. Those that change only the container itself are on a list;
what would open the machine to it (`--privileged`, `--device`, `-v`) is refused with a sentence, unless the
worker's owner trusts everybody who can queue tasks (`--allow-container-arguments`). Folders of the machine are seen
below those that the owner names, and nowhere else. Nothing here runs anything.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from taskloom.providers.contract import NoPlace

_SIZE = r"\d+(\.\d+)?[bkmgBKMG]?[bB]?"
_WORD = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_ALLOWED = {
    "--cpus": r"\d+(\.\d+)?",
    "--cpuset-cpus": r"[\d,-]+",
    "--env": r"[A-Za-z_][A-Za-z0-9_]*=.*",
    "--hostname": _WORD,
    "--ipc": r"private|host|shareable|none",
    "--label": r"[^-].*",
    "--memory": _SIZE,
    "--memory-swap": rf"-1|{_SIZE}",
    "--network": r"host|bridge|none|private|slirp4netns|pasta",
    "--pids-limit": r"-1|\d+",
    "--platform": r"[a-z0-9/]+",
    "--pull": r"always|missing|never",
    "--shm-size": _SIZE,
    "--stop-timeout": r"\d+",
    "--tmpfs": r"/[^:,]*(:[A-Za-z0-9=,]*)?",
    "--ulimit": r"[a-z]+=-?\d+(:-?\d+)?",
}
_SHORT = {"-e": "--env", "-h": "--hostname", "-l": "--label", "-m": "--memory", "--net": "--network"}
_WITHOUT_EFFECT = frozenset({"--rm", "--init", "-i", "-t", "-it", "-ti", "--interactive", "--tty"})  # as we run it
_OURS = {
    "--gpus": "the task's resources say how many GPUs it gets",
    "--entrypoint": "the task's own command is what runs",
    "--user": "it runs as the user who can read the task's folder",
    "-u": "it runs as the user who can read the task's folder",
    "--workdir": "the task's working directory is where it runs",
    "-w": "the task's working directory is where it runs",
    "--name": "the worker names its containers",
    "--detach": "the worker waits for its containers",
    "-d": "the worker waits for its containers",
    "-v": "folders of the machine are asked for as the task's mounts",
    "--volume": "folders of the machine are asked for as the task's mounts",
    "--mount": "folders of the machine are asked for as the task's mounts",
}
_IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/:@-]{0,511}")
OPTION = "--allow-container-arguments"


@dataclass(frozen=True)
class Rules:
    """What the owner of the worker lets tasks do. `mounts`: folders below which they may see everything."""

    mounts: tuple[Path, ...] = ()
    every_argument: bool = False


@dataclass(frozen=True)
class Mount:
    source: Path
    place: str
    read_only: bool = False

    @property
    def argument(self) -> str:
        """The value of `--mount`, which is a line of comma-separated values."""
        for path in (str(self.source), self.place):
            if any(c in path for c in ',"\n\r'):
                raise NoPlace(
                    f"{path!r} cannot be seen in a container: its name holds a comma, a quote or a newline"
                )
        return f"type=bind,source={self.source},target={self.place}{',readonly' if self.read_only else ''}"


def check_image(image: str) -> str:
    """Raises NoPlace for what is no name of an image; so none of them can be taken for an option."""
    if not _IMAGE.fullmatch(image):
        raise NoPlace(f"image {image[:200]!r}: expected a name such as registry.example.org/team/image:tag")
    return image


def check_arguments(text: str, rules: Rules) -> list[str]:
    """The arguments as a list of `--option=value`; NoPlace names the first that this worker does not take."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise NoPlace(f"image arguments {text[:200]!r}: {error}") from None
    if any(word.partition("=")[0] == "--pid" for word in words):  # even where everything else is trusted
        raise NoPlace("image argument --pid: a container that is stopped ends every process that it sees")
    if rules.every_argument:
        return words
    found: list[str] = []
    while words:
        word = words.pop(0)
        if word in _WITHOUT_EFFECT:
            continue
        option, has_value, value = word.partition("=")
        option = _SHORT.get(option, option)
        if option in _OURS:
            raise NoPlace(f"image argument {option}: not for a task to say; {_OURS[option]}")
        if option not in _ALLOWED:
            raise NoPlace(
                f"image argument {word[:200]}: this worker does not take it; it takes {', '.join(sorted(_ALLOWED))}, "
                f"and anything when it is started with {OPTION}"
            )
        if not has_value:
            if not words:
                raise NoPlace(f"image argument {option}: expected a value behind it")
            value = words.pop(0)
        if not re.fullmatch(_ALLOWED[option], value, re.DOTALL):
            raise NoPlace(f"image argument {option}={value[:200]}: this worker does not take that value")
        found.append(f"{option}={value}")
    return found


def check_mounts(mounts: tuple[str, ...], rules: Rules) -> list[Mount]:
    """Raises NoPlace for the first that is not below a folder which the worker's owner named."""
    return [_check_mount(text, rules) for text in mounts]


def _check_mount(text: str, rules: Rules) -> Mount:
    parts = text.split(":")
    if len(parts) not in {2, 3} or parts[2:] not in ([], ["ro"], ["rw"]):
        raise NoPlace(f"mount {text[:200]!r}: expected HOST:PLACE or HOST:PLACE:ro")
    source, place = Path(parts[0]).expanduser(), PurePosixPath(parts[1])
    if not source.is_absolute() or not place.is_absolute() or ".." in place.parts or len(place.parts) < 2:
        raise NoPlace(f"mount {text[:200]!r}: expected two absolute paths")
    try:
        real = source.resolve(strict=True)
    except (OSError, RuntimeError):
        raise NoPlace(f"mount {text[:200]!r}: there is no {source} on this machine") from None
    allowed = [folder.resolve() for folder in rules.mounts]
    if not any(real == folder or folder in real.parents for folder in allowed):
        shown = ", ".join(map(str, rules.mounts)) or "none"
        raise NoPlace(
            f"mount {text[:200]!r}: tasks see no folder of this machine but those below what the worker was started "
            f"with --allow-mount for ({shown})"
        )
    return Mount(real, str(place), parts[2:] == ["ro"])
