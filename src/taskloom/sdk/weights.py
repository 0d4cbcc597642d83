"""Models that frameworks save and load by themselves: what is recorded of them, and where the bytes go.

A saved file or folder becomes an output model of the task, one for each path and framework: saved again, it is the
same model at a later iteration. With a destination (`output_uri`) the bytes are copied before the call returns and
stored there; without one only the place is told, and a thread reads the file for its fingerprint. A loaded file
becomes an input model, known again by that fingerprint; what this process saved itself is no input of it.
How files are copied is `weight_files`, how they are read `fingerprints`.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from taskloom.domain.artifact import Model, ModelLink
from taskloom.journal.weights import BYTES
from taskloom.wire.records import ModelStored, ModelUsed

if TYPE_CHECKING:
    from taskloom.sdk.fingerprints import Lying, Prints
    from taskloom.sdk.session import Session

FINISH = 5.0  # seconds that the end of a script may take for fingerprints
LONGEST_NAME = 1000
REMOVED = "removed"  # system tag of a model whose file its framework deleted


@dataclass
class _Saved:
    """A model of this process. `told`: what was recorded of it, so that only changes are."""

    id: str
    name: str
    version: int = 0
    told: dict[str, Any] = field(default_factory=dict[str, Any])
    lying: Lying | None = None


class Weights:
    """What bindings tell of models. One per session; every method may raise, `Hooks.guard` is around it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._begin()
        self._models: dict[tuple[str, str], _Saved] = {}
        self._names: set[str] = set()
        self._own: dict[str, Any] = {}  # what lay at a path when this process had saved it
        self._used: dict[str, Any] = {}  # and when it was loaded
        session.watch(self)
        session.settling.append(self.settle)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._prints: Prints | None = None

    def saved(
        self,
        path: str | Path,
        framework: str,
        *,
        name: str | None = None,
        iteration: int | None = None,
        design: str | Mapping[str, Any] | None = None,
        labels: Mapping[str, int] | None = None,
        metadata: Mapping[str, Any] | None = None,
        flat: bool = False,
    ) -> None:
        """A file or folder was written. name: by default the task's and the file's; iteration: the newest reported.

        flat: of a folder, only the files that lie directly in it.
        """
        from taskloom.sdk.destinations import chosen_destination
        from taskloom.sdk.registry import design_text, label_numbers, labels_of, plain_metadata

        place, uri = _address(path)
        lying = _look(place, flat)
        model = self._model(uri, framework, name, _called(uri, lying))
        newest = self._session.logger.newest_iteration() if iteration is None else iteration
        told: dict[str, Any] = {"framework": framework}
        if newest is not None:
            told["iteration"] = newest
        if design is not None:
            told["design"] = design_text(design, None) if isinstance(design, str) else design_text(None, design)
        known = labels if labels is not None else labels_of(self._session.document())
        if known:
            told["labels"] = label_numbers(known)
        if metadata is not None:
            told["metadata"] = plain_metadata(metadata)
        destination = chosen_destination(self._session) if lying is not None else None
        if lying is not None and destination is not None:
            told |= self._session.weight_files.store(self._session, model.id, lying, destination)
        else:
            size = lying.size if lying is not None else 0
            told |= {
                "digest": "",
                "size": size,
                "filename": _last(uri),
                "uri": uri,
                "fingerprint": "",
                "contents": "",
            }
        told["system_tags"] = _tags(lying, destination)
        with self._held():
            model.version += 1
            model.lying = lying
            version = model.version
            if lying is not None:
                self._own[str(place)] = lying.state
            self._record(model, told)
        self._session.weight_files.recorded(model.id)
        if lying is not None and (destination is None or not lying.single):
            self._ask(model, version, lying, packed=destination is not None)

    def removed(self, path: str | Path) -> None:
        """The framework itself deleted what it had saved there, since something better took its place.

        The model stays, with the tag `removed` and without weights: those that the Taskloom server holds go, as the
        script wants it for its own disk. What lies in a destination elsewhere stays there.
        """
        _, uri = _address(path)
        with self._held():
            for model in [one for (known, _), one in self._models.items() if known == uri and one.told]:
                model.lying = None
                model.version += 1
                told: dict[str, Any] = {"system_tags": (REMOVED,)}
                if model.told["digest"]:
                    # Without an address, or the shipper would bring the bytes there once more. With the name, since
                    # what was told of weights before these is not sent if it still waits.
                    told |= {"digest": "", "size": 0, "uri": "", "fingerprint": model.told["digest"]}
                    told["filename"] = model.told["filename"]
                model.told |= told
                value = Model(id=model.id, name=model.name, **told)
                self._session.record(ModelStored(model=value, changed=tuple(told)))

    def noted(self, path: str | Path, framework: str, iteration: int, metadata: Mapping[str, Any]) -> bool:
        """More of what was told as saved, whose bytes stay as they are; False when nothing was told."""
        from taskloom.sdk.registry import plain_metadata

        with self._held():
            model = self._models.get((_address(path)[1], framework))
            if model is None:
                return False
            fresh: dict[str, Any] = {"iteration": iteration}
            if metadata:
                fresh["metadata"] = plain_metadata(metadata)
            model.told |= fresh
            value = Model(id=model.id, name=model.name, **fresh)
            self._session.record(ModelStored(model=value, changed=tuple(fresh)))
        return True

    def loaded(self, path: str | Path, framework: str, *, flat: bool = False) -> None:
        """A file or folder was read. Told once, unless it changes; what this process saved itself is not told."""
        place, uri = _address(path)
        lying = _look(place, flat)
        state = lying.state if lying is not None else ()
        with self._held():
            if state and self._own.get(str(place)) == state:
                return
            if self._used.get(uri) == state:
                return
            self._used[uri] = state

        def tell(fingerprint: str) -> None:
            with self._session.notices.boundary(f"that {_last(uri)} was loaded could not be recorded"):
                called = _called(uri, lying)[:LONGEST_NAME]
                self._session.record(
                    ModelUsed(fingerprint=fingerprint, uri=uri, name=called, framework=framework, time=time.time())
                )

        fetched = self._fetched(place)
        if fetched is not None:
            self._session.record(ModelStored(model=Model(id=fetched.model), link=fetched))
        elif lying is None:
            tell("")
        else:
            self._reader().ask(("loaded", uri, state), lying, tell)

    def settle(self, timeout: float) -> None:
        """Wait until the fingerprints that were asked for so far are recorded, at most `timeout` seconds."""
        if self._prints is not None and self._pid == os.getpid():
            self._prints.wait(timeout)

    def stop(self, timeout: float) -> None:
        """Wait for fingerprints, bounded; models whose folder grew since get a new one."""
        if self._pid != os.getpid() or not (self._models or self._used):
            return
        from taskloom.sdk.fingerprints import look_at
        from taskloom.sdk.registry import PACKAGE
        from taskloom.wire.configuration import setting

        for model in list(self._models.values()):
            known = model.lying
            if known is None or known.single:
                continue
            now = look_at(known.path, known.flat)  # a tokenizer, for example, that was saved beside the weights
            if now is not None and now.state != known.state:
                model.lying = now
                self._ask(model, model.version, now, packed=PACKAGE in model.told["system_tags"])
        if self._prints is not None:
            self._prints.finish(max(timeout, min(FINISH, setting("sdk.close_timeout_in_seconds") / 2)))

    # --- how ----------------------------------------------------------------------------------------------

    def _held(self) -> threading.Lock:
        if self._pid != os.getpid():
            self._begin()  # forked: another thread of the parent may have held the lock
        return self._lock

    def _reader(self) -> Prints:
        if self._prints is None:
            from taskloom.sdk.fingerprints import Prints

            self._prints = Prints()
        return self._prints

    def _model(self, uri: str, framework: str, name: str | None, called: str) -> _Saved:
        with self._held():
            known = self._models.get((uri, framework))
            if known is None:
                document = self._session.document()
                wanted = (name or f"{document.name or self._session.id} - {called}")[:LONGEST_NAME]
                known = _Saved(uuid.uuid4().hex, self._free(wanted))
                self._models[uri, framework] = known
            return known

    def _free(self, wanted: str) -> str:
        """A task refers to its models by name: two files of one name are two models."""
        number, name = 1, wanted
        while name in self._names:
            number += 1
            name = f"{wanted} ({number})"
        self._names.add(name)
        return name

    def _record(self, model: _Saved, told: dict[str, Any]) -> None:
        """What is new of it; the first time everything."""
        first = not model.told
        changed = told if first else {key: value for key, value in told.items() if model.told.get(key) != value}
        if not first:  # weights are told whole, or a place would be taken for that of other bytes
            changed |= {key: told[key] for key in BYTES}
        model.told |= told
        session = self._session
        value = Model(
            id=model.id,
            name=model.name,
            project=session.project_name,
            task=session.id,
            created=time.time() if first else 0.0,
            **changed,
        )
        link = ModelLink(model.name, model.id, "output")
        session.record(ModelStored(model=value, link=link, changed=() if first else tuple(changed)))

    def _ask(self, model: _Saved, version: int, lying: Lying, *, packed: bool) -> None:
        """What was packed is stored as a zip file; the folder that it was is told beside."""
        what = "contents" if packed else "fingerprint"

        def tell(fingerprint: str) -> None:
            with (
                self._session.notices.boundary(f"the fingerprint of {model.name!r} could not be recorded"),
                self._held(),
            ):
                if fingerprint and model.version == version:  # else it was saved again meanwhile
                    told: dict[str, Any] = {what: fingerprint}
                    value = Model(id=model.id, name=model.name, **told)
                    self._session.record(ModelStored(model=value, changed=(what,)))

        self._reader().ask(model.id, lying, tell)

    def _fetched(self, place: Path | None) -> ModelLink | None:
        """The link to the model of which this is a local copy that the script asked for."""
        from taskloom.sdk.session import current

        if place is None or not current.fetched:
            return None
        for path in (place, *place.parents):
            model = current.fetched.get(str(path))
            if model is not None:
                return ModelLink(place.stem[:LONGEST_NAME], model, "input")
        return None


def weights_of(session: Session) -> Weights:
    """The one of this session, made when it is asked for."""
    if session.weights is None:
        session.weights = Weights(session)
    found: Weights = session.weights
    return found


def _address(path: str | Path) -> tuple[Path | None, str]:
    """Where it lies on this machine, if it does, and its address."""
    text = os.fspath(path)
    if "://" in text:
        return None, text
    place = Path(text).absolute()
    return place, place.as_uri()


def _look(place: Path | None, flat: bool) -> Lying | None:
    from taskloom.sdk.fingerprints import look_at

    return None if place is None else look_at(place, flat)


def _tags(lying: Lying | None, destination: str | None) -> tuple[str, ...]:
    from taskloom.sdk.registry import PACKAGE

    return (PACKAGE,) if lying is not None and not lying.single and destination is not None else ()


def _last(uri: str) -> str:
    """The last name of an address, as people write it."""
    last = Path(uri.rstrip("/")).name
    return unquote(last) if uri.startswith("file:") else last


def _called(uri: str, lying: Lying | None) -> str:
    """Of a file its name without the suffix; of what is no file the whole name, which may have points in it."""
    last = _last(uri)
    is_file = lying.single if lying is not None else not uri.startswith("hf:")
    return Path(last).stem if is_file else last
