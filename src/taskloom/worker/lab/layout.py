"""What the `lab` package finds on a machine: a workspace of one job's own, below the attempt's folder.

    <attempt>/lab/marks.json                                what was told already (see `job`)
    <attempt>/lab/home/                                     its own settings
    <attempt>/lab/workspace/team_secrets.json               values of the secrets that the task names, no others
    <attempt>/lab/workspace/experiments/<project>/jobs/<task>/index.json    written once, before the script begins
    <attempt>/lab/workspace/experiments/<other> -> <project>                for scripts that name an experiment
    <attempt>/lab/workspace/experiments/<project>/jobs/<task>-before/checkpoints    of the attempt before

The package looks for its job under the experiment that the script names, and ends the script when it is not there;
scripts name whatever their author's was called. So every name that stands in the code as a literal leads to this job.
Checkpoints lie in the folder that outlives the attempt, where there is one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskloom.domain.parameters import DEFAULT_SECTION, Sections, decode
from taskloom.domain.placeholders import fill
from taskloom.wire.messages import Lease
from taskloom.worker.values import write_private

FOLDER, WORKSPACE, EXPERIMENTS = "lab", "workspace", "experiments"
INDEX, METRICS = "index.json", "metrics.jsonl"
KEPT = "lab"  # name of our part of the checkpoint folder
MAX_SCANNED = 2000  # files of code that are looked through for names of experiments
MAX_CODE = 1 << 20
_LITERAL = re.compile(r"\blab\s*\.\s*init\s*\(\s*(?:experiment_id\s*=\s*)?([\"'])([^\"'\\\n]{1,200})\1")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Places:
    """The folders of one job. `checkpoints`: where its checkpoints are; below the job unless they outlive it."""

    root: Path
    experiment: str
    job: str

    @property
    def workspace(self) -> Path:
        return self.root / WORKSPACE

    @property
    def folder(self) -> Path:
        return self.workspace / EXPERIMENTS / self.experiment / "jobs" / self.job

    @property
    def log(self) -> Path:
        return self.folder / f"output_{self.job}.txt"

    def variables(self) -> dict[str, str]:
        return {
            "_TFL_JOB_ID": self.job,
            "_TFL_EXPERIMENT_ID": self.experiment,
            "TFL_EXPERIMENT_ID": self.experiment,
            "TFL_STORAGE_PROVIDER": "localfs",
            "TFL_WORKSPACE_DIR": str(self.workspace),
            "TFL_HOME_DIR": str(self.root / "home"),
            "TRACKIO_DIR": str(self.root / "trackio"),
        }


def make_places(folder: Path, lease: Lease, checkpoints: Path | None) -> Places:
    """Everything that has to be there before the script begins."""
    task = lease.task
    places = Places(folder / FOLDER, experiment_name(task.project), task.id)
    places.folder.mkdir(parents=True, mode=0o700)
    (places.root / "home").mkdir(mode=0o700)
    if lease.secrets:
        write_private(places.workspace / "team_secrets.json", json.dumps(lease.secrets))
    data: dict[str, Any] = {
        "task_id": task.id,
        "task_name": task.name,
        "parameters": plain_parameters(task.parameters, lease.secrets),
        **_checkpoints(places, checkpoints),
    }
    index = {
        "id": task.id,
        "experiment_id": places.experiment,
        "type": "REMOTE",
        "status": "LAUNCHING",
        "progress": 0,
        "job_data": data,
    }
    write_private(places.folder / INDEX, json.dumps(index))
    return places


def plain_parameters(parameters: Sections, secrets: dict[str, str]) -> dict[str, Any]:
    """What `lab.get_config()` gives: values in their types, by name; those of other sections as `SECTION/NAME`."""
    found: dict[str, Any] = {}
    for section, names in parameters.items():
        for name, parameter in names.items():
            text = fill(parameter.value, secrets, {})
            value = decode(parameter) if text == parameter.value else text
            found[name if section == DEFAULT_SECTION else f"{section}/{name}"] = value
    return json.loads(json.dumps(found, default=str))


def experiment_name(project: str) -> str:
    """The project as a name of a folder that the package leaves as it is."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", project).strip("_.-") or "taskloom"


def link_experiments(folder: Path, code: Path, text: str = "") -> None:
    """Names of experiments that the code, or a text such as the shell lines, mentions lead to the job's own. Does nothing for an attempt without one."""
    experiments = folder / FOLDER / WORKSPACE / EXPERIMENTS
    own = next(iter(sorted(experiments.iterdir())), None) if experiments.is_dir() else None
    if own is None:
        return
    for name in dict.fromkeys([*_named(text), *experiment_literals(code)]):
        for spelled in {name, re.sub(r"[^A-Za-z0-9_.-]", "", "_".join(name.split())).strip("._")}:
            place = experiments / spelled
            if _PLAIN.fullmatch(spelled) and not place.exists() and not place.is_symlink():
                place.symlink_to(own.name)


def experiment_literals(code: Path) -> Iterator[str]:
    """What `lab.init("...")` and `lab.init(experiment_id="...")` name in the Python files below a folder."""
    seen = 0
    for at, folders, names in os.walk(code):
        folders[:] = [n for n in folders if not n.startswith(".") and n not in {"node_modules", "site-packages"}]
        for name in sorted(names):
            if not name.endswith((".py", ".ipynb", ".sh", ".yaml")):
                continue
            seen += 1
            if seen > MAX_SCANNED:
                return
            try:
                with open(os.path.join(at, name), "rb") as file:  # noqa: PTH118
                    text = file.read(MAX_CODE).decode("utf-8", "replace")
            except OSError:
                continue
            yield from _named(text)


def _named(text: str) -> Iterator[str]:
    return (match[2] for match in _LITERAL.finditer(text))


def _checkpoints(places: Places, kept: Path | None) -> dict[str, str]:
    """Checkpoints of this job lie where the next attempt finds them; those of the one before under a job's name."""
    if kept is None:
        return {}
    own = kept / KEPT
    own.mkdir(parents=True, exist_ok=True, mode=0o700)
    (places.folder / "checkpoints").symlink_to(own)
    there = sorted(own.iterdir(), key=lambda path: path.lstat().st_mtime)
    if not there:
        return {}
    before = places.folder.with_name(f"{places.job}-before")
    before.mkdir(mode=0o700)
    (before / "checkpoints").symlink_to(own)
    return {"parent_job_id": before.name, "resumed_from_checkpoint": there[-1].name}
