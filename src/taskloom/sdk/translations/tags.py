"""Tags of TensorBoard's writers as titles and series, so that curves that belong together share a graph.

`loss/train` is the series `train` of the graph `loss`. Two writers in folders of their own may use one tag: the
one that came second gets the part of its folder's name by which they differ. What a tag's value is, is not known here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from taskloom.sdk.reports.reporting import Choices

Names = tuple[str, str]

MOST_SERIES_PARTS = 3  # of a sample's tag; the rest is its title

_not_in_tags = re.compile(r"[^-/\w.]")


class Tags:
    """The names that the tags of one task have been given."""

    def __init__(self, choices: Callable[[], Choices]) -> None:
        self._choices = choices
        self._folders: list[str] = []
        self._taken: dict[tuple[str, Names], str] = {}  # by kind and names: the folder that came first
        self._lock = threading.Lock()

    def opened(self, folder: str) -> None:
        """A writer of this folder exists."""
        folder = _unix(folder)
        with self._lock:
            if folder not in self._folders:
                self._folders.append(folder)

    def of_scalar(self, folder: str, tag: str) -> Names:
        choices = self._choices()
        curve = self._curve_of_group(_unix(folder), tag)
        if curve is not None:
            names = _split(f"{tag}/", "", 1)[0], curve
        else:
            names = _split(tag, "Scalars" if choices.group_scalars else tag, 1)
            header = self._header("scalar", folder, names)
            if header:
                names = names[0], f"{header}: {names[1]}"
        return (f"{names[0]}/{names[1]}", names[1]) if choices.single_series else names

    def of_plot(self, folder: str, tag: str, default: str) -> Names:
        title, series = _split(tag, default, 1)
        header = self._header("plot", folder, (title, series))
        return (title, f"{series} :{header}") if header else (title, series)

    def of_sample(self, folder: str, tag: str, default: str) -> Names:
        parts = tag.count("/") + 1
        title, series = _split(tag, default, min(MOST_SERIES_PARTS, max(1, parts - 1)))
        header = self._header("sample", folder, (title, series))
        return (f"{title} {header}", series) if header else (title, series)

    def _curve_of_group(self, folder: str, tag: str) -> str | None:
        """The curve's name where `add_scalars(tag, {name: value})` gave each curve a folder of its own."""
        for parent in self._folders:
            if not folder.startswith(f"{parent}/"):
                continue
            rest = folder[len(parent) + 1 :]
            clean = _not_in_tags.sub("_", rest)  # as the tag itself was cleaned, a character for a character
            for start in (f"{tag.replace('/', '_')}_", f"{tag}/"):
                if clean.startswith(start) and len(rest) > len(start):
                    return rest[len(start) :]
        return None

    def _header(self, kind: str, folder: str, names: Names) -> str:
        """What tells this folder from the one that has these names already; empty for the first."""
        folder = _unix(folder)
        with self._lock:
            first = self._taken.setdefault((kind, names), folder)
        if first == folder:
            return ""
        others = set(first.split("/"))
        own = [part for part in folder.split("/") if part not in others]
        return "/".join(own) or folder.rsplit("/", 1)[-1] or folder


def _split(tag: str, default: str, series_parts: int) -> Names:
    parts = tag.split("/")
    title = "_".join(parts[:-series_parts])
    return title or default, "_".join(parts[-series_parts:])


def _unix(folder: str) -> str:
    return folder.replace("\\", "/").rstrip("/")
