"""An environment of one attempt's own: a copy of a shared one, which its shell lines may change as they like.

An environment knows its place, so a copy is not only a copy: the scripts in `bin` name their interpreter by its path,
and these paths are written anew. Packages are linked hard where the disk allows it, which makes a copy a matter of
milliseconds; installers replace files and never write into them, so that the shared ones stay as they are.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

SCRIPT_BYTES = 1 << 20  # a larger file in `bin` is a program
_LEFT_OUT = frozenset({".ready", "requirements.txt", "constraints.txt", "pylock.toml", ".lock"})


def copy_environment(source: Path, target: Path) -> None:
    """`source` as a fresh environment at `target`. Raises OSError when the disk has no place."""
    target.mkdir(mode=0o700)
    for entry in source.iterdir():
        if entry.name in _LEFT_OUT:
            continue
        place = target / entry.name
        if entry.name in {"bin", "pyvenv.cfg"}:
            _copy_written(entry, place, source, target)
        elif entry.is_symlink() or entry.is_file():
            _link(entry, place)
        else:
            _link_tree(entry, place)


def _copy_written(entry: Path, place: Path, source: Path, target: Path) -> None:
    """A small text that may name the old place, or a folder of such."""
    if entry.is_dir() and not entry.is_symlink():
        place.mkdir()
        for inner in entry.iterdir():
            _copy_written(inner, place / inner.name, source, target)
        return
    if entry.is_symlink() or entry.stat().st_size > SCRIPT_BYTES:
        _link(entry, place)
        return
    data = entry.read_bytes()
    place.write_bytes(data.replace(os.fsencode(source), os.fsencode(target)) if b"\0" not in data else data)
    shutil.copymode(entry, place)


def _link_tree(source: Path, target: Path) -> None:
    target.mkdir()
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _link_tree(Path(entry.path), target / entry.name)
            else:
                _link(Path(entry.path), target / entry.name)


def _link(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    try:
        target.hardlink_to(source)
    except OSError:  # another disk, or one without hard links
        shutil.copy2(source, target)
