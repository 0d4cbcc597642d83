"""What a claim hands over: GPUs, secrets and passwords of git; and what becomes of a task whose secrets are gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.contracts.queue_rig import Rig

from taskloom.domain.execution import Resources, Sweep
from taskloom.domain.parameters import Parameter
from taskloom.domain.queue import Machine
from taskloom.domain.status import Status
from taskloom.domain.task import TaskEdit
from taskloom.server.secrets.vault import KEYS_FILE
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.messages import Credential, LiveEvent

GPUS = Machine(host="here", gpus=("NVIDIA A100-SXM4-80GB",) * 4, gpu_memory=(80 * 2**30,) * 4)
ASKS_FOR_TOKEN = {"variables": {"KEY": "{{secret.TOKEN}}"}}


@pytest.fixture
def rig(any_house: Any, clock: Any) -> Rig:
    return Rig(any_house, clock)


@pytest.fixture
def heard(rig: Rig) -> list[LiveEvent]:
    """Every live event of the house, as it comes."""
    told: list[LiveEvent] = []
    ready = threading.Event()

    async def listen() -> None:
        async with rig.house.listener.house.bus.subscribe() as live:
            ready.set()
            async for event in live:
                told.append(event)

    threading.Thread(target=lambda: asyncio.run(listen()), daemon=True).start()
    assert ready.wait(10)
    return told


def put(rig: Rig, name: str, value: str, user: str = "", **more: Any) -> None:
    rig.user(user).call(op.PUT_SECRET, m.SecretPut(value=value, **more), name=name)


def delete(rig: Rig, name: str) -> None:
    rig.client.call(op.DELETE_SECRET, query=m.SecretPlace(), name=name)


def test_a_lease_brings_the_gpus_and_the_secrets_of_the_one_who_enqueued(rig: Rig) -> None:
    put(rig, "TOKEN", "the administrator's")
    put(rig, "TOKEN", "ann's", user="ann")
    put(rig, "HOST", "b's", user="ann", url="https://git.example.org/team", username="robot")
    rig.enqueue("hers", user="ann", resources=Resources(gpus=3), **ASKS_FOR_TOKEN)
    rig.enqueue("of git", user="ann", repository="https://git.example.org/team/a.git")
    rig.enqueue("in its setup", user="ann", setup="pip install git+https://git.example.org/team/lib.git")
    rig.enqueue("of nobody", resources=Resources(gpus=0))
    rig.register(machine=GPUS)
    leases = {lease.task.name: lease for lease in (rig.claim() for _ in range(4))}
    hers, cloned, setup, nobodys = (leases[name] for name in ("hers", "of git", "in its setup", "of nobody"))
    assert (hers.gpus, hers.secrets, hers.credentials) == ((0, 1, 2), {"TOKEN": "ann's"}, ())
    git = Credential(url="https://git.example.org/team", username="robot", password="b's")
    assert (cloned.secrets, cloned.credentials) == ({}, (git,))
    assert setup.credentials == (git,)
    assert (nobodys.gpus, nobodys.secrets, nobodys.credentials) == ((), {}, ())


def test_a_task_whose_secrets_are_gone_fails_and_says_so_and_the_next_one_runs(
    rig: Rig, heard: list[LiveEvent], eventually: Callable[[Callable[[], object]], None]
) -> None:
    put(rig, "TOKEN", "1")
    task = rig.enqueue("asks", **ASKS_FOR_TOKEN)
    after = rig.enqueue("does not ask")
    delete(rig, "TOKEN")
    rig.register()
    assert rig.claim().task.id == after
    failed = rig.get(task)
    assert (failed.status, failed.status_reason) == (Status.FAILED, "secrets are not there any more: TOKEN")
    assert len(rig.client.call(op.LIST_WORKERS).workers[0].tasks) == 1, "the failed one holds no slot"
    eventually(lambda: [e.status for e in heard if e.kind == "task" and e.task == task][-1:] == ["failed"])


def test_a_lost_key_of_the_secrets_does_not_stop_the_queue(rig: Rig) -> None:
    put(rig, "TOKEN", "1")
    task = rig.enqueue("asks", **ASKS_FOR_TOKEN)
    after = rig.enqueue("does not ask")
    rig.house.stop()
    (rig.house.listener.house.settings.folder / KEYS_FILE).unlink()
    rig.house.start()
    rig.register()
    assert rig.claim().task.id == after
    failed = rig.get(task)
    assert failed.status is Status.FAILED
    assert failed.status_reason.startswith(f"secrets cannot be read: {KEYS_FILE}")


def test_a_sweep_ends_with_a_task_that_could_not_be_given_its_secrets(rig: Rig) -> None:
    put(rig, "TOKEN", "1")
    parameters = {"General": {"x": Parameter("0", "int")}}
    draft = rig.task("sweep", sweep=Sweep(grid={"x": (1, 2)}), **ASKS_FOR_TOKEN)
    rig.client.call(op.EDIT_TASK, m.TaskEditRequest(edit=TaskEdit(parameters=parameters)), task=draft)
    rig.put(draft)
    delete(rig, "TOKEN")
    rig.register()
    assert rig.ask() is None
    assert (rig.get(draft).status, rig.get(draft).status_message) == (Status.COMPLETED, "2 failed")


def test_who_waits_for_a_task_is_woken_by_what_comes_and_not_by_what_others_take(
    rig: Rig, heard: list[LiveEvent], eventually: Callable[[Callable[[], object]], None]
) -> None:
    rig.register()
    rig.enqueue()
    rig.claim()
    eventually(lambda: [e.status for e in heard if e.kind == "queue"] == ["", "taken"])
