"""Debug samples: images, sounds, videos and pages that a run shows at an iteration.

The bytes go into the journal's spool under their SHA-256, and a `Sampled` record names them: when a call has
returned they are safe on this machine. Of each title and series the newest iterations are kept, 100 unless set.
How pixels become a file is the business of `media`; who uploads it, and where, that of the shipper.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, SupportsIndex
from urllib.parse import urlsplit

from taskloom.domain.artifact import Sample
from taskloom.domain.destination import NOWHERE, SERVER, normal_destination
from taskloom.domain.errors import BadInput
from taskloom.journal import layout
from taskloom.journal.writer import Writer
from taskloom.sdk import destinations
from taskloom.sdk.notices import Notices
from taskloom.sdk.reports.reporting import Home, Reports, now, text, whole
from taskloom.wire.configuration import setting
from taskloom.wire.records import Sampled

PIECE = 1 << 20  # bytes in memory at once
MAX_BYTES = 1 << 30  # of one sample; a larger file is an artifact


class Samples(Reports):
    """The reports whose bytes are kept as files."""

    _destination = ""

    def __init__(self, writer: Writer, notices: Notices, home: Home | None = None) -> None:
        super().__init__(writer, notices, home)
        self._history: int = setting("sdk.debug_sample_history")  # iterations of one title and series
        self._slots: dict[tuple[str, str], dict[int, int]] = {}  # iterations that lie at a destination, and where

    # --- reports ------------------------------------------------------------------------------------------

    def report_image(
        self,
        title: str,
        series: str,
        iteration: SupportsIndex | None = None,
        local_path: str | Path | None = None,
        image: Any = None,
        matrix: Any = None,
        max_image_history: int | None = None,
        delete_after_upload: bool = False,
        url: str | None = None,
    ) -> None:
        """An image as a debug sample, exactly one of:

        image (or `matrix`): a numpy array, a torch or TensorFlow tensor or rows of numbers, H x W or H x W x 1 to 4
        (channels first, too), as uint8, bool, floats 0 to 1; or a Pillow image. local_path: a file, stored as it is.
        url: an address, which is only named. max_image_history: of this title and series keep so many iterations; a
        negative number keeps all. delete_after_upload: the file at `local_path` is removed as soon as a copy is safe.
        """
        with self._telling("image", title, series):
            pixels = image if image is not None else matrix
            if isinstance(pixels, str | Path):
                local_path, pixels = local_path or pixels, None
            _one_of(("image", pixels), ("local_path", local_path), ("url", url))
            if pixels is not None:
                shown = f"image {str(title)[:80]!r} / {str(series)[:80]!r}"
                from taskloom.sdk.reports.media import png_of

                made = png_of(pixels, lambda said: self._notices.once((shown, said), f"{shown} {said}"))
                self._keep(title, series, iteration, iter([made]), ".png", max_image_history)
            else:
                self._report_file(
                    title, series, iteration, local_path, url, max_image_history, delete_after_upload
                )

    def report_media(
        self,
        title: str,
        series: str,
        iteration: SupportsIndex | None = None,
        local_path: str | Path | None = None,
        stream: Any = None,
        file_extension: str | None = None,
        max_history: int | None = None,
        delete_after_upload: bool = False,
        url: str | None = None,
    ) -> None:
        """Audio, video, HTML or any other file as a debug sample, exactly one of:

        local_path: a file. stream: an open file, BytesIO, StringIO, bytes or text, with `file_extension` such as
        ".wav". url: an address, which is only named. The other arguments as of `report_image`.
        """
        with self._telling("media", title, series):
            _one_of(("local_path", local_path), ("stream", stream), ("url", url))
            if stream is None:
                self._report_file(title, series, iteration, local_path, url, max_history, delete_after_upload)
                return
            extension = (file_extension or "").strip()
            if not extension:
                raise BadInput("a stream has no name: give file_extension, such as '.wav' or '.html'")
            extension = extension if extension.startswith(".") else f".{extension}"
            self._keep(title, series, iteration, _pieces(stream), extension, max_history)

    def report_image_and_upload(
        self,
        title: str,
        series: str,
        iteration: SupportsIndex | None = None,
        path: str | Path | None = None,
        matrix: Any = None,
        max_image_history: int | None = None,
        delete_after_upload: bool = False,
    ) -> None:
        """The name of `report_image` in older scripts."""
        self.report_image(title, series, iteration, path, matrix, None, max_image_history, delete_after_upload)

    # --- settings -----------------------------------------------------------------------------------------

    def set_default_debug_sample_history(self, max_history: int) -> None:
        """How many iterations of each title and series are kept when a report does not say; negative: all."""
        with self._notices.boundary("set_default_debug_sample_history"):
            self._history = whole(max_history, "history")

    def get_default_debug_sample_history(self) -> int:
        return self._history

    def set_default_upload_destination(self, uri: str) -> None:
        """Where samples are stored from now on: a folder, `s3://`, `gs://`, `azure://`; '' is the Taskloom server."""
        with self._notices.boundary("set_default_upload_destination"):
            wanted = normal_destination(uri)
            self._destination = "" if wanted in {SERVER, NOWHERE} else wanted

    def get_default_upload_destination(self) -> str:
        """What was set; '' stands for the Taskloom server."""
        return self._destination

    # --- how ----------------------------------------------------------------------------------------------

    def _report_file(
        self,
        title: str,
        series: str,
        iteration: SupportsIndex | None,
        path: str | Path | None,
        url: str | None,
        history: int | None,
        delete: bool,
    ) -> None:
        if path is None:
            self._name(title, series, iteration, text(url, "url"), history)
            return
        file = Path(path)
        if not file.is_file():
            raise BadInput(f"{str(path)[:200]!r} is not a file")
        with file.open("rb") as source:
            self._keep(title, series, iteration, _pieces(source), file.suffix, history)
        if delete:
            file.unlink(missing_ok=True)

    def _name(
        self, title: str, series: str, iteration: SupportsIndex | None, url: str, history: int | None
    ) -> None:
        """A sample that lies elsewhere already."""
        if not url.strip():
            raise BadInput("url: expected an address")
        place = self._place(iteration)
        path = urlsplit(url).path
        self._record(
            Sample(
                title=text(title, "title"),
                series=text(series, "series"),
                iteration=place,
                time=now(),
                name=_file_name(series, place, Path(path).suffix),
                media_type=_guessed(path),
                uri=url,
            ),
            history,
        )
        self._count(iteration, place)

    def _keep(
        self,
        title: str,
        series: str,
        iteration: SupportsIndex | None,
        pieces: Iterator[bytes],
        extension: str,
        history: int | None,
    ) -> None:
        """Write the bytes down, then name them."""
        from taskloom.sdk.serialise import spooled

        title, series, place = text(title, "title"), text(series, "series"), self._place(iteration)
        if self._writer.closed:
            raise BadInput("the task is closed")
        spool = self._writer.task_folder / layout.FILES_FOLDER
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        with spooled(spool) as (out, finish):
            for piece in pieces:
                out.write(piece)
                if out.size > MAX_BYTES:
                    raise BadInput(f"a sample of more than {MAX_BYTES} bytes; upload it as an artifact")
            if not out.size:
                raise BadInput("there are no bytes in it")
            digest, size = finish()
        uri = self._elsewhere(title, series, place, extension, self._kept(history))
        self._record(
            Sample(
                title=title,
                series=series,
                iteration=place,
                time=now(),
                name=_file_name(series, place, extension),
                digest="" if uri else digest,
                fingerprint=digest if uri else "",
                size=size,
                media_type=_media_type(extension),
                uri=uri,
            ),
            history,
        )
        self._count(iteration, place)

    def _record(self, sample: Sample, history: int | None) -> None:
        self._writer.record(Sampled(sample=sample, history=self._kept(history)))

    def _kept(self, history: int | None) -> int:
        """How many iterations; 0 for all of them."""
        return max(whole(self._history if history is None else history, "history"), 0)

    def _elsewhere(self, title: str, series: str, place: int, extension: str, kept: int) -> str:
        """The address at the destination; '' for the Taskloom server.

        A file there takes the place of the oldest one that is not kept any more, as the records do: what a run
        stores stays bounded. The writer's name keeps the processes of a task apart.
        """
        if not self._destination:
            return ""
        meta = self._writer.meta
        stem = f"{_stem(series)}_{meta.writer[:8]}"
        name = f"{stem}_{self._slot(title, series, place, kept):08d}{extension}"
        kind = f"metrics/{title}/{series}"
        return destinations.place(self._destination, meta.project, meta.name, meta.task, kind, name)

    def _slot(self, title: str, series: str, place: int, kept: int) -> int:
        taken = self._slots.setdefault((title, series), {})
        if place in taken:
            return taken[place]
        if not kept or len(taken) < kept:
            taken[place] = len(taken)
            return taken[place]
        oldest = min(taken)
        if place < oldest:
            return kept  # nobody will keep it
        taken[place] = taken.pop(oldest)
        return taken[place]


def _one_of(*given: tuple[str, Any]) -> None:
    present = [name for name, value in given if value is not None]
    if len(present) != 1:
        names = ", ".join(name for name, _ in given)
        raise BadInput(f"give exactly one of {names}; {', '.join(present) if present else 'none'} was given")


def _pieces(source: Any) -> Iterator[bytes]:
    """The bytes of an open file, of a stream in memory (all of it, wherever it stands), of bytes or text."""
    if hasattr(source, "getvalue"):
        source = source.getvalue()
    if isinstance(source, str):
        source = source.encode("utf-8", "replace")
    if isinstance(source, bytes | bytearray):
        source = io.BytesIO(source)
    if not hasattr(source, "read"):
        raise BadInput(f"stream: expected an open file, BytesIO, bytes or text, got {type(source).__name__}")
    while piece := source.read(PIECE):
        yield piece.encode("utf-8", "replace") if isinstance(piece, str) else piece


def _media_type(extension: str) -> str:
    return _guessed(f"x{extension}") or "application/octet-stream"


def _guessed(path: str) -> str:
    import mimetypes

    return mimetypes.guess_type(path)[0] or ""


def _file_name(series: str, iteration: int, extension: str) -> str:
    """What a downloaded copy is called; the sample keeps its own series."""
    return f"{_stem(series)}_{iteration:08d}{extension}"


def _stem(series: str) -> str:
    return re.sub(r"[^\w.\- ]", "_", str(series)).strip(" .")[:100] or "sample"
