"""Hydra: what was composed is told, overrides edited on the server reach a worker's run, and sweeps stay sweeps."""

from __future__ import annotations

from pathlib import Path

from tests.frameworks.conftest import Bench
from tests.scenarios.stage import wait_for

from taskloom.domain.status import ENDED
from taskloom.domain.task import ConfigurationObject, Task
from taskloom.wire import messages as m
from taskloom.wire import operations as ops

APP = Path("02-command-lines/hydra_app.py")
JOBS = Path("02-command-lines/hydra_multirun.py")
COMPOSED = """\
db:
  driver: postgresql
  port: 5432
  user: root
  password: ${oc.env:DB_PASSWORD,""}
lr: 0.1
epochs: 3
note: first
"""
TOLD = {
    "Hydra/db": ("postgresql", "str"),
    "Hydra/db.user": ("root", "str"),
    "Hydra/note": ("first", "str"),
    "Hydra/_allow_omegaconf_edit_": ("False", "bool"),
}


def trained(bench: Bench, task: Task) -> list[str]:
    return [line for line in bench.console(task.id).splitlines() if line.startswith("train")]


def tasks(bench: Bench, project: str, count: int) -> list[Task]:
    """So many tasks of a project, ended, by name."""
    query = m.TaskQuery(project=project)

    def found() -> list[Task]:
        return [one for one in bench.client.call(ops.QUERY_TASKS, query).tasks if one.status in ENDED]

    wait_for(lambda: len(found()) >= count, f"{count} tasks in {project}")
    assert len(found()) == count
    return sorted((bench.task(one.id) for one in found()), key=lambda task: task.name)


def test_overrides_are_told_and_edited_ones_reach_the_worker(bench: Bench):
    words = ["db=postgresql", "db.user=root", "+note=first", "hydra.job.name=mine", "db.password=hunter2"]
    task = bench.record(APP, *words, project="hydra/edits", PROJECT="hydra/edits")
    assert trained(bench, task) == ["train lr=0.1 db=postgresql:5432 as root"]
    assert bench.parameters(task) == TOLD
    assert {name for name, one in task.parameters["Hydra"].items() if one.given} == {"db", "db.user", "note"}
    marked = COMPOSED.replace('${oc.env:DB_PASSWORD,""}', "???")
    assert task.configuration == {
        "OmegaConf": ConfigurationObject(
            marked, "OmegaConf YAML", "read-only, unless Hydra/_allow_omegaconf_edit_ is True"
        )
    }
    assert task.execution.arguments == ("hydra.job.name=mine",)
    assert bench.bindings(task)["hydra"]["hooks"] == ["hydra.main (Hydra.run)", "hydra.main (Hydra.multirun)"]

    edits = {
        "Hydra/db.user": "marie, the first",
        "Hydra/lr": "0.5",
        "Hydra/deep.er": "[1, 2]",
        "Hydra/db": "mysql",
    }
    copy = bench.clone(task, edits)
    assert trained(bench, copy) == ["train lr=0.5 db=mysql:3306 as marie, the first"]
    assert bench.parameters(copy) == {
        "Hydra/db": ("mysql", "str"),
        "Hydra/db.user": ('"marie, the first"', "str"),
        "Hydra/note": ("first", "str"),
        "Hydra/lr": ("0.5", "float"),
        "Hydra/deep.er": ("[1, 2]", "list"),
        "Hydra/_allow_omegaconf_edit_": ("False", "bool"),
    }
    assert "deep:\n  er:\n  - 1\n  - 2\n" in copy.configuration["OmegaConf"].value


def test_the_edited_configuration_itself_is_used_when_that_is_allowed(bench: Bench):
    task = bench.record(APP, "db.user=root", project="hydra/whole", PROJECT="hydra/whole")
    text = "db:\n  driver: sqlite\n  port: 1\n  user: me\n  password: ???\nlr: 0.7\nnew: true\n"
    copy = bench.clone(
        task, {"Hydra/_allow_omegaconf_edit_": "True", "Hydra/db.user": "ignored"}, {"OmegaConf": text}
    )
    assert trained(bench, copy) == ["train lr=0.7 db=sqlite:1 as me"]
    assert "with {'db': {'driver': 'sqlite', 'port': 1, 'user': 'me', 'password': " in bench.console(copy.id)
    assert copy.configuration["OmegaConf"].value == text


def test_a_sweep_that_began_after_the_task_is_one_task(bench: Bench):
    words = ["--multirun", "lr=0.1,0.2", "db=postgresql"]
    task = bench.record(APP, *words, project="hydra/sweep", PROJECT="hydra/sweep")
    assert bench.parameters(task) == {
        "Hydra/lr": ("0.1,0.2", "str"),
        "Hydra/db": ("postgresql", "str"),
        "Hydra/_allow_omegaconf_edit_": ("False", "bool"),
    }
    assert task.execution.arguments == ("--multirun",)
    assert "driver: postgresql" in task.configuration["OmegaConf"].value
    copy = bench.clone(task, {"Hydra/lr": "0.3,0.4"})
    assert trained(bench, copy) == [
        "train lr=0.3 db=postgresql:5432 as postgres",
        "train lr=0.4 db=postgresql:5432 as postgres",
    ]


def test_every_job_of_a_sweep_is_a_task_when_task_init_stands_inside(bench: Bench):
    done = bench.script(JOBS, "--multirun", "lr=0.1,-1", "db=postgresql", PROJECT="hydra/jobs")
    assert done.returncode == 1
    failed, good = tasks(bench, "hydra/jobs", 2)
    assert (failed.name, failed.status.value) == ("lr -1", "failed")
    assert "a learning rate is positive" in failed.status_message
    assert (good.name, good.status.value) == ("lr 0.1", "completed")
    assert bench.parameters(good) == {
        "Hydra/lr": ("0.1", "float"),
        "Hydra/db": ("postgresql", "str"),
        "Hydra/_allow_omegaconf_edit_": ("False", "bool"),
    }
    assert good.execution.arguments == ("lr=0.1", "db=postgresql")

    copy = bench.clone(good, {"Hydra/lr": "0.6", "Hydra/db": "mysql"})
    assert trained(bench, copy) == ["train lr=0.6 db=mysql:3306 as omry"]
    assert "taskloom: edited values: the script begins again" in bench.console(copy.id)
    whole = good.configuration["OmegaConf"].value.replace("0.1", "0.9")
    edited = bench.clone(good, {"Hydra/_allow_omegaconf_edit_": "True"}, {"OmegaConf": whole})
    assert trained(bench, edited) == ["train lr=0.9 db=postgresql:5432 as postgres"]
