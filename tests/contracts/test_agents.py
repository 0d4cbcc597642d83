"""Agents that know no token: pulled, heard of, silent, ended, aborted; their leases by the server's clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.journals import Run

from taskloom.domain.errors import Discarded, LeaseLost, NotFound
from taskloom.domain.execution import Execution
from taskloom.domain.queue import Machine
from taskloom.domain.status import Status
from taskloom.domain.task import Task
from taskloom.server.call import Caller
from taskloom.server.queues.agents import Pulled, Report
from taskloom.server.queues.service import QueueService
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.worker_protocol import STOPPING, WORKER_LOST

ME = Caller("somebody", "u1", "member", "k1")
AGENT = "host:gpu0"
LEASE = 120.0


class Rig:
    def __init__(self, house: Any, clock: Any) -> None:
        self.house, self.clock = house, clock
        services = house.listener.house._services
        self.queues = next(s for s in services if isinstance(s, QueueService))

    def run(self, work: Any) -> Any:
        return asyncio.run(work)

    def enqueue(self, name: str = "a task", queue: str = "default") -> str:
        create = m.TaskCreate(name=name, project="agent tests", execution=Execution(command=("true",)))
        task = self.house.client.call(op.CREATE_TASK, create).id
        self.house.client.call(op.ENQUEUE_TASK, m.Enqueue(queue=queue, create=True), task=task)
        return task

    def pull(self, worker: str = "host", queue: str = "default") -> Pulled | None:
        return self.run(self.queues.agents.pull(ME, worker, queue))

    def pulled(self, worker: str = "host") -> str:
        """The id of a fresh task that an agent has pulled."""
        task = self.enqueue()
        found = self.pull(worker)
        assert found is not None
        assert found.task.id == task
        return task

    def start(self, task: str) -> Task | None:
        return self.run(self.queues.start_for_agent(ME, task))

    def end(self, task: str, outcome: Any = "completed", **more: Any) -> Task | None:
        return self.run(self.queues.end_for_agent(ME, task, m.Finish(outcome=outcome, **more)))

    def hear(self, task: str) -> None:
        self.run(self.queues.heard_of(task))

    def report(self, task: str = "", worker: str = AGENT) -> None:
        self.run(self.queues.agents.report(ME, Report(worker=worker, task=task)))

    def silence(self, seconds: float = LEASE + 1) -> None:
        self.clock.advance(seconds)
        self.run(self.queues.sweep())

    def get(self, task: str) -> Task:
        return self.house.client.call(op.GET_TASK, task=task)

    def abort(self, task: str) -> Task:
        return self.house.client.call(op.ABORT_TASK, m.MoveRequest(), task=task)


@pytest.fixture
def rig(any_house: Any, clock: Any) -> Iterator[Rig]:
    return Rig(any_house, clock)


def test_a_pull_runs_the_task_and_its_agent_is_known_from_the_first_report_on(rig: Rig) -> None:
    task = rig.pulled()
    assert (rig.get(task).status, rig.get(task).attempt, rig.get(task).worker) == (Status.RUNNING, 1, "host")
    rig.report(task)
    assert rig.get(task).worker == AGENT
    (worker,) = rig.house.client.call(op.LIST_WORKERS).workers
    assert (worker.id, worker.tasks) == (AGENT, (task,))


def test_nothing_to_pull_and_queues_that_are_not_there(rig: Rig) -> None:
    assert rig.pull() is None
    with pytest.raises(NotFound, match="no queue"):
        rig.pull(queue="nowhere")


def test_of_many_pulls_at_once_each_task_goes_to_one(rig: Rig) -> None:
    tasks = {rig.enqueue() for _ in range(8)}
    found: list[str] = []

    def agent() -> None:
        while (pulled := rig.pull()) is not None:
            found.append(pulled.task.id)

    threads = [threading.Thread(target=agent) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == sorted(tasks)


def test_an_agent_that_dies_before_it_starts_loses_nothing(rig: Rig) -> None:
    task = rig.pulled()
    rig.silence()
    assert (rig.get(task).status, rig.get(task).status_reason) == (Status.PENDING, WORKER_LOST)
    again = rig.pull("other")
    assert again is not None
    assert (again.task.id, again.task.attempt) == (task, 2)


@pytest.mark.parametrize("sign", ["hear", "report", "start"])
def test_every_sign_of_life_renews_the_lease(rig: Rig, sign: str) -> None:
    task = rig.pulled()
    for _ in range(5):
        rig.silence(LEASE - 20)
        getattr(rig, sign)(task)
    assert rig.get(task).status is Status.RUNNING
    rig.silence()
    assert rig.get(task).status is Status.PENDING


def test_hearing_much_writes_little(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskloom.server.queues import lease_store

    task, renewed = rig.pulled(), []
    real = lease_store.renew_lease
    monkeypatch.setattr(lease_store, "renew_lease", lambda *args: renewed.append(1) or real(*args))
    for _ in range(100):
        rig.hear(task)
        rig.clock.advance(0.1)  # ten seconds in all
    assert 1 <= len(renewed) <= 3


def test_hearing_of_a_task_that_no_agent_runs_does_nothing(rig: Rig) -> None:
    task = rig.enqueue()
    rig.hear(task)
    rig.hear("f" * 32)
    assert rig.start(task) is None
    assert rig.end(task) is None
    assert rig.get(task).status is Status.PENDING


def test_an_agent_ends_its_task_once(rig: Rig) -> None:
    task = rig.pulled()
    ended = rig.end(task, "failed", reason="exit code 3")
    assert ended is not None
    assert (ended.status, ended.status_reason) == (Status.FAILED, "exit code 3")
    assert rig.end(task) is None  # it holds nothing any more
    rig.silence()
    assert rig.get(task).status is Status.FAILED


def test_a_worker_of_ours_holds_its_task_alone(rig: Rig) -> None:
    task = rig.enqueue()
    body = m.WorkerRegister(id="w1", name="w1", queues=("default",), slots=1, version="0", machine=Machine())
    rig.house.client.call(op.REGISTER_WORKER, body)
    lease = rig.house.client.call(op.CLAIM_TASK, m.Claim(worker="w1", queues=("default",), wait=0)).lease
    assert rig.start(task) is None
    assert rig.end(task) is None
    rig.hear(task)
    rig.report(task)
    assert rig.get(task).worker == "w1"
    assert rig.house.client.call(op.FINISH_LEASE, m.Finish(outcome="completed"), token=lease.token)


def test_an_abort_is_a_message_until_the_agent_obeys(rig: Rig) -> None:
    task = rig.pulled()
    assert (rig.abort(task).status, rig.get(task).status_message) == (Status.RUNNING, STOPPING)
    assert rig.start(task) is not None  # a late word of the agent does not hide it
    assert rig.get(task).status_message == STOPPING
    ended = rig.end(task, "aborted", reason="task was stopped by tasks.stop")
    assert ended is not None
    assert (ended.status, ended.status_reason, ended.status_message) == (Status.ABORTED, "aborted by admin", "")


def test_a_silent_agents_aborted_task_ends_when_the_lease_runs_out(rig: Rig) -> None:
    task = rig.pulled()
    rig.abort(task)
    rig.silence()
    assert (rig.get(task).status, rig.get(task).status_reason) == (Status.ABORTED, "aborted by admin")


def test_a_task_gives_up_after_its_attempts(rig: Rig) -> None:
    rig.house.client.call(op.EDIT_QUEUE, m.QueueEdit(max_attempts=2), queue="default")
    task = rig.pulled()
    rig.silence()
    assert rig.pull() is not None
    rig.silence()
    assert (rig.get(task).status, rig.get(task).status_reason) == (Status.FAILED, WORKER_LOST)


def test_a_server_that_was_away_costs_no_agent_its_task(rig: Rig, any_house: Any) -> None:
    task = rig.pulled()
    rig.clock.advance(LEASE * 10)
    any_house.restart()
    again = Rig(any_house, rig.clock)
    again.silence(LEASE - 5)
    assert again.get(task).status is Status.RUNNING


def test_a_reset_takes_the_task_from_its_agent(rig: Rig) -> None:
    task = rig.pulled()
    rig.house.client.call(op.RESET_TASK, m.MoveRequest(force=True), task=task)
    assert rig.end(task) is None
    rig.silence()
    assert rig.get(task).status is Status.DRAFT


def test_journals_under_an_agent_bear_no_token_and_stop_when_the_lease_runs_out(rig: Rig) -> None:
    task = rig.pulled()
    script = Run(rig.house.client, task).open("resume")
    script.scalar(1, 0.5).ship()
    with pytest.raises(LeaseLost):
        Run(rig.house.client, task, "w2", lease="of another attempt").open("resume").ship()
    rig.silence()
    with pytest.raises(Discarded):
        script.scalar(2, 0.5).ship()
    assert rig.pull() is not None
    Run(rig.house.client, task, "w3").open("resume").scalar(3, 0.5).ship()
    assert rig.get(task).status is Status.RUNNING


def test_the_last_words_of_a_script_wait_for_its_agent(rig: Rig) -> None:
    task = rig.pulled()
    Run(rig.house.client, task).open("resume").end("failed", "ValueError", "it went wrong").ship()
    assert rig.get(task).status is Status.RUNNING
    ended = rig.end(task, "failed", reason="worker execution exit code 1")
    assert ended is not None
    assert (ended.status_reason, ended.status_message) == ("worker execution exit code 1", "it went wrong")


# --- ends that others tell of a task under a worker of ours ---------------------------------------------------


def claimed(rig: Rig) -> m.Lease:
    rig.enqueue()
    body = m.WorkerRegister(id="w1", name="w1", queues=("default",), slots=1, version="0", machine=Machine())
    rig.house.client.call(op.REGISTER_WORKER, body)
    lease = rig.house.client.call(op.CLAIM_TASK, m.Claim(worker="w1", queues=("default",), wait=0)).lease
    assert lease is not None
    return lease


def foretell(rig: Rig, lease: m.Lease, caller: Caller, outcome: Any) -> None:
    said = m.Finish(outcome=outcome, reason="it said so")
    assert rig.run(rig.queues.end_for_agent(caller, lease.task.id, said)) is None


@pytest.mark.parametrize(
    ("told", "outcome", "ended"),
    [
        ("failed", "completed", Status.FAILED),
        ("aborted", "completed", Status.ABORTED),
        ("completed", "completed", Status.COMPLETED),
        ("completed", "failed", Status.FAILED),
        ("completed", "aborted", Status.ABORTED),
        ("failed", "failed", Status.FAILED),
    ],
)
def test_a_success_has_to_be_one_by_the_script_and_by_its_worker(
    rig: Rig, told: Any, outcome: Any, ended: Status
) -> None:
    lease = claimed(rig)
    script = Caller("somebody", "u1", "member", "k2", lease=lease.token)
    foretell(rig, lease, script, told)
    assert rig.house.client.call(op.RENEW_LEASE, m.Renew(), token=lease.token).stop is False
    assert rig.house.client.call(op.FINISH_LEASE, m.Finish(outcome=outcome), token=lease.token).status is ended


def test_an_end_that_is_told_from_outside_stops_the_run(rig: Rig) -> None:
    lease = claimed(rig)
    foretell(rig, lease, ME, "completed")
    assert rig.house.client.call(op.RENEW_LEASE, m.Renew(), token=lease.token).stop is False
    foretell(rig, lease, ME, "failed")
    renewed = rig.house.client.call(op.RENEW_LEASE, m.Renew(), token=lease.token)
    assert (renewed.stop, renewed.reason) == (True, "it said so")
    stopped = m.Finish(outcome="aborted", reason=renewed.reason)
    ended = rig.house.client.call(op.FINISH_LEASE, stopped, token=lease.token)
    assert (ended.status, ended.status_reason) == (Status.FAILED, "it said so")
