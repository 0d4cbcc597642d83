"""The one door for logs: which format a file has, and who reads or writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from taskloom.domain.evaluation import EvalJob, EvalRun, Step
from taskloom.evals.formats.contract import ReadLog
from taskloom.evals.formats.dataset import write_dataset
from taskloom.evals.formats.inspect_reading import read_inspect
from taskloom.evals.formats.inspect_writing import write_inspect, write_inspect_json
from taskloom.evals.formats.verifiers_files import METADATA, RESULTS, TRACES, read_verifiers, write_verifiers

Writer = Callable[[Path, EvalJob, Sequence[tuple[EvalRun, Sequence[Step]]]], None]

FORMATS: dict[str, Writer] = {
    "inspect": write_inspect,
    "inspect-json": write_inspect_json,
    "verifiers": write_verifiers,
    "dataset": write_dataset,
}
"""By name what `write_log` writes; all but `dataset` are read again by `read_log`."""


def read_log(path: Path | str) -> ReadLog:
    """A log of another system: Inspect's `.eval` or `.json`, a folder of verifiers' results or its `traces.jsonl`.

    Reading the same log again gives the same ids. ValueError, with what was expected, for everything else.
    """
    path = Path(path)
    try:
        return _reader(path)(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deep: expected a log") from None


def write_log(path: Path | str, job: EvalJob, runs: Sequence[tuple[EvalRun, Sequence[Step]]], format: str) -> None:
    """Write a job's runs; `format` is one of `FORMATS`. ValueError for another one."""
    writer = FORMATS.get(format)
    if writer is None:
        raise ValueError(f"format {format!r}: expected one of {', '.join(FORMATS)}")
    writer(Path(path), job, runs)


def _reader(path: Path) -> Callable[[Path], ReadLog]:
    if path.is_dir() or path.name in (RESULTS, METADATA, TRACES) or path.suffix == ".jsonl":
        return read_verifiers
    with path.open("rb") as file:
        begin = file.read(64).lstrip()
    if begin.startswith(b"PK") or path.suffix == ".eval" or (path.suffix == ".json" and begin.startswith(b"{")):
        return read_inspect
    raise ValueError(
        f"{path.name} is no log that is known: expected Inspect's .eval or .json, or a folder with {RESULTS} or {TRACES}"
    )
