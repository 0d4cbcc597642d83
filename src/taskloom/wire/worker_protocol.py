"""The contract between a worker and the server.

A worker is a daemon with an id of its own (kept on its disk, so that a restarted daemon is the same worker)
and a number of slots. It speaks six verbs, all of them operations of `wire.operations`:

REGISTER  (`register_worker`) once at start and again after a 404 from any other verb. Safe to repeat.
          With the same id it takes the older registration's place; the leases of that id that the older
          process held are NOT handed over: they run out, or the new process gives them back with FINISH if
          it still knows their tokens.
CLAIM     (`claim_task`) one free slot asks for one task. The server keeps the question open up to `wait`
          seconds and answers with a lease, or with none. Queues are looked at in the order given; in a queue
          the lowest position wins. Claiming moves the task pending -> running, makes a fresh token, counts
          the attempt: one transaction, so no two claims ever get one task. When the answer is lost on the
          way the task is leased to nobody; the lease runs out and the queue's policy decides.
RENEW     (`renew_lease`) every third of the lease's seconds. The answer says until when, and whether to stop.
          409 `lease_lost`: the attempt is void. Kill the child at once, report nothing more, keep its journal
          aside. No answer (server away): go on; the attempt stays valid until the server says otherwise, and
          a server that starts extends every lease by one period, because its own absence must cost no run.
REPORT    (`ship_journal`) the task's journals, every batch with the lease's token. Refused with 409
          `lease_lost` once the token is void, so a frozen worker that wakes cannot write into a later run.
FINISH    (`finish_lease`) once, after the child is gone and its journals are shipped. Ends the task with the
          outcome and gives the slot's lease back: one transaction. Repeated until it is answered; a second
          FINISH with the same token and outcome is answered as the first (the answer may have been lost),
          with another token it is a 409. With `requeue` the worker gives the task back unfinished (it was
          told to stop): the queue's `on_lost` and the attempts decide whether it waits again or ends with
          the outcome; a task that was aborted meanwhile is aborted.
UNREGISTER (`unregister_worker`) at an orderly stop, after the last FINISH.

Expiry. A sweeper on the server looks every 5 seconds or a sixth of the shortest lease, by the server's clock
alone. A lease that ran out is void: the queue's `on_lost` decides. `requeue`: the task goes back to the front
of its queue while attempts are left, else it fails with reason `worker lost`. `fail`: it fails at once.

Abort. `abort_task` on a running task under a lease sets its stop mark and the answer to the next RENEW (at
most a third of a lease, and at most 2 seconds: workers renew every min(lease/3, 2) seconds while a child runs)
carries it. The worker sends SIGTERM to the child's process group, waits the grace (10 s, less when the abort
has to be obeyed sooner), kills every process that descends from it, drains, and FINISHes with `aborted`. The
task shows `running` with status_message "stopping" until then; when the lease runs out first it becomes
`aborted` all the same.

What the worker gives the child, in its environment:
    TASKLOOM_TASK_ID        the task; `Task.init` attaches to it instead of making one
    TASKLOOM_TASK_FILE      path of a msgpack file with the `Lease.task` that was claimed: parameters,
                            configuration and so on are read from it, not from the network
    TASKLOOM_LEASE          the token, sent with every batch
    TASKLOOM_JOURNAL        directory of this task's journals; shipped by the worker, not by the script
    TASKLOOM_URL, TASKLOOM_API_KEY   for calls that the script makes itself, with a key that is valid only
                            while the lease is (the worker's own key never reaches the child)

Agents of other systems (ClearML's) know no token. A task that such an agent pulls is under a lease whose token
is told to nobody: it is renewed by whatever the agent or its script reports about the task, and ended by
whoever reports the task's end; when it runs out, the queue's policy decides as above. Journals of a script that
runs under it bear no token; a lease that ran out closes its writers instead (see `fence`).
"""

from __future__ import annotations

ENV_TASK_ID = "TASKLOOM_TASK_ID"
ENV_TASK_FILE = "TASKLOOM_TASK_FILE"
ENV_LEASE = "TASKLOOM_LEASE"
ENV_JOURNAL = "TASKLOOM_JOURNAL"
ENV_URL = "TASKLOOM_URL"
ENV_API_KEY = "TASKLOOM_API_KEY"
ENV_DATA = "TASKLOOM_DATA"
ENV_CONFIG = "TASKLOOM_CONFIG"

MIN_LEASE, MAX_LEASE, DEFAULT_LEASE = 2.0, 3600.0, 30.0
MAX_RENEW_INTERVAL = 2.0
MAX_WAIT = 30.0
STOPPING = "stopping"
AGENT_LEASE = "agent:"  # begins the tokens that are told to nobody
WORKER_LOST = "worker lost"


def renew_interval(lease_seconds: float) -> float:
    """Seconds between two renewals of a lease."""
    return min(lease_seconds / 3, MAX_RENEW_INTERVAL)


def fence(lease: str) -> str:
    """What a report must bear while its task is under this lease: the token, nothing under an agent's."""
    return "" if lease.startswith(AGENT_LEASE) else lease
