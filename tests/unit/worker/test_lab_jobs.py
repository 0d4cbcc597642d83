"""Jobs of the `lab` package as its files tell them: half written, hostile, and after the worker began again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.unit.worker.workshop import lease_of

from taskloom.domain.execution import Execution
from taskloom.domain.parameters import Parameter
from taskloom.journal.reader import Reader
from taskloom.journal.writer import Writer
from taskloom.providers.contract import Exit
from taskloom.wire.records import ArtifactStored, Edited, Ended, ModelStored, SeriesNamed
from taskloom.worker.lab import LabJob
from taskloom.worker.lab.layout import link_experiments

GOOD = Exit(code=0)


class Job:
    """One attempt's job, and what its journal holds."""

    def __init__(self, root: Path, checkpoints: Path | None = None, **more: Any) -> None:
        self.folder, self.root = root / "attempt", root
        self.folder.mkdir(parents=True)
        self.lease = lease_of(Execution(run="true"), **more)
        self.writer = self.fresh_writer()
        self.job = LabJob.prepare(self.folder, self.lease, self.writer, checkpoints)
        workspace = Path(self.job.variables["TFL_WORKSPACE_DIR"])
        self.place = workspace / "experiments" / "vision_nets" / "jobs" / self.lease.task.id
        self.index = json.loads((self.place / "index.json").read_text())

    def fresh_writer(self) -> Writer:
        return Writer.create(self.root / "journal", self.lease.task.id, role="main", lease="t")

    def appends(self, name: str, text: str) -> None:
        with (self.place / name).open("a") as file:
            file.write(text)

    def tells(self, status: str, **data: Any) -> None:
        self.index["status"] = status
        self.index["job_data"] |= data
        (self.place / "index.json").write_text(json.dumps(self.index))

    def saves(self, kind: str, name: str, text: str = "content") -> Path:
        (self.place / kind).mkdir(exist_ok=True)
        path = self.place / kind / name
        path.write_text(text)
        return path

    def records(self, *kinds: type) -> list[Any]:
        readers = [
            Reader(path)
            for path in (self.root / "journal" / self.lease.task.id).iterdir()
            if (path / "meta.json").exists()
        ]
        return [record for reader in readers for record in reader.records(0) if isinstance(record, kinds)]

    def rows(self) -> list[tuple[str, int, float]]:
        found: list[tuple[str, int, float]] = []
        for path in (self.root / "journal" / self.lease.task.id).iterdir():
            if not (path / "meta.json").exists():
                continue
            reader = Reader(path)
            names = {r.number: f"{r.title}|{r.series}" for r in reader.records(0) if isinstance(r, SeriesNamed)}
            found += [(names[number], iteration, value) for number, iteration, value, _ in reader.rows()]
        return found


def test_a_job_begins_with_typed_parameters_and_only_its_own_secrets(tmp_path: Path) -> None:
    parameters = {
        "General": {
            "lr": Parameter("1e-4", "float"),
            "key": Parameter("{{secret.T}}", "str"),
            "n": Parameter("x", "int"),
        },
        "Args": {"b": Parameter("True", "bool")},
    }
    made = Job(tmp_path, parameters=parameters, secrets={"T": "hush"})
    assert made.index["job_data"]["parameters"] == {"lr": 1e-4, "key": "hush", "n": "x", "Args/b": True}
    secrets = Path(made.job.variables["TFL_WORKSPACE_DIR"]) / "team_secrets.json"
    assert json.loads(secrets.read_text()) == {"T": "hush"}
    assert secrets.stat().st_mode & 0o077 == 0


def test_metrics_are_read_on_from_where_they_were_however_they_are_written(tmp_path: Path) -> None:
    made = Job(tmp_path)
    made.appends(
        "metrics.jsonl", '{"progress": "abc", "metrics": {"a/b/c": 1, "plain": NaN, "text": "x", "on": true}}\n'
    )
    made.appends(
        "metrics.jsonl",
        'no json\n[1]\n{"progress": 250, "step": 7, "metrics": {"a/b/c": 2, "/": 3}}\n{"progress": 30, "met',
    )
    made.job.end(GOOD)
    assert [row for row in made.rows() if row[0] == "a|b/c"] == [("a|b/c", 0, 1.0), ("a|b/c", 7, 2.0)]
    assert {row[0] for row in made.rows()} == {"a|b/c", "plain|plain", "/|/"}
    assert [edit.edit.progress for edit in made.records(Edited)] == [100.0]
    made.appends("metrics.jsonl", 'rics": {"late": 1}}\n{"progress": 31, "metrics": {"late": 2}}\n')
    made.job.end(GOOD)
    assert ("late|late", 2, 2.0) in made.rows()


def test_a_worker_that_begins_again_tells_nothing_twice(tmp_path: Path) -> None:
    made = Job(tmp_path)
    made.appends("metrics.jsonl", '{"progress": 1, "metrics": {"loss": 1}}\n')
    made.appends(f"output_{made.lease.task.id}.txt", "one\nhalf")
    made.saves("artifacts", "a.txt")
    made.tells("RUNNING", artifacts=[str(made.place / "artifacts" / "a.txt")])
    for _ in range(2):  # it has to stay as it is between two looks
        made.job.look()
        made.job.close()
        made.writer.close()
        made.writer = made.fresh_writer()
        adopted = LabJob.adopt(made.folder, made.writer)
        assert adopted is not None
        made.job = adopted
    made.appends(f"output_{made.lease.task.id}.txt", " two\n")
    made.appends("metrics.jsonl", '{"progress": 2, "metrics": {"loss": 2}}\n')
    made.job.end(GOOD)
    assert made.rows() == [("loss|loss", 0, 1.0), ("loss|loss", 1, 2.0)] or sorted(made.rows()) == [
        ("loss|loss", 0, 1.0),
        ("loss|loss", 1, 2.0),
    ]
    assert [record.artifact.name for record in made.records(ArtifactStored)] == ["a.txt"]
    reports = sorted(path.read_text() for path in (tmp_path / "journal").rglob("report"))
    assert "".join(reports[::-1]).splitlines() in (["one", "half two"], ["half two", "one"])
    assert LabJob.adopt(tmp_path, made.writer) is None


def test_a_thing_is_told_when_it_is_listed_and_at_the_end_and_again_when_it_changed(tmp_path: Path) -> None:
    made = Job(tmp_path)
    made.saves("artifacts", "unlisted.txt")
    made.saves("models", f"{made.lease.task.id}_toy")
    made.saves("datasets", "index.json")
    made.job.look()
    made.job.end(GOOD)
    assert [record.artifact.name for record in made.records(ArtifactStored)] == ["unlisted.txt"]
    assert [record.model.name for record in made.records(ModelStored)] == ["toy"]
    made.saves("artifacts", "unlisted.txt", "other content")
    made.job.end(GOOD)
    assert len(made.records(ArtifactStored)) == 2
    assert len(made.records(ModelStored)) == 1
    digests = {record.artifact.digest for record in made.records(ArtifactStored)}
    assert all((tmp_path / "journal" / made.lease.task.id / "files" / digest).exists() for digest in digests)


def test_links_and_pipes_do_not_lead_the_worker_out_of_the_workspace(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "key").write_text("private key")
    made = Job(tmp_path)
    made.saves("artifacts", "good.txt")
    (made.place / "artifacts" / "link").symlink_to(outside / "key")
    os.mkfifo(made.place / "artifacts" / "pipe")
    (made.place / "eval_results").symlink_to(outside)
    (made.place / "metrics.jsonl").symlink_to(outside / "key")
    os.mkfifo(made.place / f"output_{made.lease.task.id}.txt")
    (made.place / "index.json").unlink()
    (made.place / "index.json").symlink_to(outside / "key")
    assert made.job.end(GOOD) is None
    assert [record.artifact.name for record in made.records(ArtifactStored)] == ["good.txt"]
    for file in (tmp_path / "journal").rglob("*"):
        assert not file.is_file() or b"private key" not in file.read_bytes()


@pytest.mark.parametrize(
    ("status", "data", "exit", "word"),
    [
        ("FAILED", {"completion_status": "failed", "completion_details": "why\nmore"}, GOOD, ("failed", "lab.error: why")),
        ("COMPLETE", {"completion_status": "success", "completion_details": "well"}, GOOD, ("completed", "")),
        ("COMPLETE", {"completion_status": "success"}, Exit(code=3), None),
        ("RUNNING", {"completion_status": "failed"}, GOOD, None),  # a parameter of that name
        ("COMPLETE", {"completion_details": {"no": "text"}}, GOOD, ("completed", "")),
    ],
)  # fmt: skip
def test_the_last_word(
    tmp_path: Path, status: str, data: dict[str, Any], exit: Exit, word: tuple[str, str] | None
) -> None:
    made = Job(tmp_path)
    made.tells(status, **data)
    said = made.job.end(exit)
    assert (None if said is None else (said.status, said.reason)) == word
    assert len(made.records(Ended)) == (word is not None)


def test_a_score_is_told_once_with_its_numbers_as_single_values(tmp_path: Path) -> None:
    made = Job(tmp_path)
    made.tells("COMPLETE", score={"accuracy": 0.5, "note": "x", "bad": float("nan"), "discard": False})
    made.job.look()
    made.job.end(GOOD)
    assert [row[0] for row in made.rows()] == ["Summary|accuracy", "Summary|bad"]
    told = [edit.edit.runtime for edit in made.records(Edited)]
    assert told == [{"score": {"accuracy": 0.5, "note": "x", "bad": "NaN"}}]


def test_checkpoints_outlive_the_attempt_and_the_next_one_is_told_of_the_newest(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first = Job(tmp_path / "1", kept)
    assert "parent_job_id" not in first.index["job_data"]
    empty = Job(tmp_path / "0", tmp_path / "empty")
    empty.job.end(GOOD)
    assert list((tmp_path / "empty").iterdir()) == []  # nothing to keep for the next attempt
    first.saves("checkpoints", "checkpoint-1")
    os.utime(kept / "lab" / "checkpoint-1", (1, 1))
    first.saves("checkpoints", "checkpoint-2")
    first.job.end(GOOD)
    assert {record.artifact.name for record in first.records(ArtifactStored)} == {
        f"checkpoints/checkpoint-{n}" for n in (1, 2)
    }
    second = Job(tmp_path / "2", kept)
    data = second.index["job_data"]
    assert data["resumed_from_checkpoint"] == "checkpoint-2"
    assert (second.place.parent / data["parent_job_id"] / "checkpoints" / "checkpoint-2").read_text() == "content"


def test_names_of_experiments_in_the_code_lead_to_the_job(tmp_path: Path) -> None:
    made = Job(tmp_path)
    code = tmp_path / "code"
    (code / "deep").mkdir(parents=True)
    (code / "a.py").write_text("lab.init()\nlab.init(experiment_id=\"alpha\")\nlab.init('two words')\n")
    (code / "deep" / "b.py").write_text(
        "lab . init( 'beta-1' )\nlab.init('../up')\nlab.init('vision_nets')\nlab.init(name)\n"
    )
    link_experiments(made.folder, code, "python -c \"lab.init('gamma')\"")
    names = {path.name for path in made.place.parents[1].parent.iterdir()}
    assert names == {"alpha", "two_words", "beta-1", "gamma", "vision_nets", "up"}
    assert (made.place.parents[1].parent / "alpha" / "jobs" / made.lease.task.id / "index.json").exists()
    link_experiments(tmp_path / "nothing", code)
