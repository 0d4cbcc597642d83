"""One task, from where it is to our server: begun, its results sent as they are read, finished.

An import that is cut leaves a task that is begun; the next one drops what came and begins anew, so nothing of a
task comes twice. Only one page of its results is in memory at a time.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from taskloom.cli.clearml import translating
from taskloom.cli.clearml.files import Files
from taskloom.cli.clearml.origins import Origin
from taskloom.cli.clearml.patience import ENDS_ALL, Patience
from taskloom.cli.clearml.report import Report
from taskloom.cli.clearml.target import Shipment, Target
from taskloom.cli.clearml.translating import Document
from taskloom.domain.artifact import Artifact, Model, Sample
from taskloom.domain.errors import TaskloomError
from taskloom.domain.task import Task
from taskloom.server.compat.clearml import event_lines
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.records import Plotted, Sampled

IDS = 100  # models in one question
ROUNDED = 1e-5  # seconds that a time loses on its way
KINDS = (event_lines.SCALAR, event_lines.VECTOR, event_lines.PLOT, event_lines.IMAGE, event_lines.LOG)


@dataclass(frozen=True)
class Bringing:
    target: Target
    origin: Origin
    files: Files
    report: Report
    patience: Patience
    advance: Callable[[int], None]
    """Told of every event that came along."""

    def look(self, task: Task, version: str) -> m.ImportState:
        return self.target.step("look", task, version, "look")

    def bring(
        self, task: Task, version: str, artifacts: Sequence[Document], models: Callable[[], Sequence[Model]]
    ) -> m.ImportState:
        """The whole task; what had to be done for it. `models`: those that it made or names, asked for when needed."""
        shipment = Shipment(self.target, task.id)
        state = self.target.step("begin", task, version, shipment.writer)
        if state == "known":
            return state
        for kind in KINDS:
            for page in self.origin.events(task.id, kind):
                self.patience.check()
                self._results(task.id, page, shipment)
        shipment.flush()
        self.bring_models(models())
        stored = tuple(self._artifact(document) for document in artifacts if document.get("key"))
        self.target.step("finish", msgspec.structs.replace(task, artifacts=stored), version, shipment.writer)
        return state

    def bring_models(self, models: Sequence[Model]) -> None:
        """Those that are not here as they are there, with their bytes when they lie at the source."""
        for at in range(0, len(models), IDS):
            some = models[at : at + IDS]
            found = self.target.call(op.QUERY_MODELS, m.ModelQuery(ids=[model.id for model in some], limit=IDS))
            here = {model.id: model for model in found.models}
            for model in some:
                self.patience.check()
                if not self._known(model, here.get(model.id)):
                    self._bring_model(model)

    def _known(self, model: Model, here: Model | None) -> bool:
        if here is None or here.last_update < model.last_update - ROUNDED:
            return False
        return bool(here.digest) or not model.uri or not self.files.would_come(model.uri)

    def _bring_model(self, model: Model) -> None:
        found = self.files.bring(model.uri, "models' files") if model.uri else None
        if found is not None:
            filename = model.uri.partition("?")[0].rpartition("/")[2]
            model = msgspec.structs.replace(model, digest=found.digest, size=found.size, filename=filename, uri="")
        try:
            self.target.call(op.IMPORT_MODEL, model, model=model.id)
        except ENDS_ALL:
            raise
        except TaskloomError as error:
            self.report.leave_out("models", f"refused: {error.message}", model.id)
            return
        self.report.add("models")

    def _results(self, task: str, page: bytes, shipment: Shipment) -> None:
        batch = event_lines.read(page, time.time())
        for wrong, count in batch.wrong.items():
            self.report.leave_out("events", f"they cannot be read: {wrong}", task, count)
        for owner, share in batch.shares.items():
            if owner.id != task:
                self.report.leave_out("events", "they belong to another task or model", owner.id, share.count)
                continue
            plots, share.plots = share.plots, []
            shipment.add(share)
            for plot in plots:
                shipment.plot(self._plot(plot))
            for sample in share.samples:
                shipment.sample(Sampled(sample=self._sample(sample)))
            self.report.add("scalars", sum(len(told.value) for told in share.points.values()))
            self.report.add("console", len(share.lines))
            self.report.add("plots", len(plots))
            self.report.add("samples", len(share.samples))
            self.advance(share.count)

    def _sample(self, sample: Sample) -> Sample:
        found = self.files.bring(sample.uri, "debug samples' files") if sample.uri else None
        if found is None:
            return sample
        name = sample.name or sample.uri.partition("?")[0].rpartition("/")[2]
        return msgspec.structs.replace(
            sample, name=name, digest=found.digest, size=found.size, media_type=found.media_type, uri=""
        )

    def _artifact(self, document: Document) -> Artifact:
        uri, digest = str(document.get("uri") or ""), str(document.get("hash") or "")
        told = document.get("content_size")
        size = told if isinstance(told, int) else -1
        found = self.files.bring(uri, "artifacts' files", digest, size) if uri else None
        return translating.artifact(document, found)

    def _plot(self, plot: Plotted) -> Plotted:
        """Pictures that a plot names by an address at the source are put into it: nobody could fetch them later."""
        if '"images"' not in plot.figure:
            return plot
        try:
            figure: Any = json.loads(plot.figure)
            images = figure["layout"]["images"]
        except (ValueError, KeyError, TypeError):
            return plot
        changed = False
        for image in cast("list[Any]", images) if isinstance(images, list) else []:
            address = cast(Document, image).get("source") if isinstance(image, dict) else None
            if isinstance(address, str) and address and not address.startswith("data:"):
                found = self.files.read(address, "plots' pictures")
                if found is not None:
                    data, media_type = found
                    image["source"] = f"data:{media_type or 'image/png'};base64,{base64.b64encode(data).decode()}"
                    changed = True
        return msgspec.structs.replace(plot, figure=json.dumps(figure)) if changed else plot
