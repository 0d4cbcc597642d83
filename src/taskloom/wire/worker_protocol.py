"""The contract between a worker and the server.

A worker is a daemon with an id of its own (kept on its disk, so that a restarted daemon is the same worker)
and a number of slots. It speaks six verbs, all of them operations of `wire.operations`:

REGISTER  (`register_worker`) once at start and again after a 404 from any other verb. Safe to repeat.
          With the same id it takes the older registration's place; the leases of that id that the older
          process held stay valid: the new process, which reads their tokens from its disk, adopts what still
          runs under them, tells the end of what ended meanwhile, or gives back what it cannot go on with.
CLAIM     (`claim_task`) one free slot asks for one task. The server keeps the question open up to `wait`
          seconds and answers with a lease, or with none. Queues are looked at in the order given; in a queue
          the first task wins that fits what the worker's machine has and its other leases leave of it: the server
          counts, by the resources of the open leases, and says which GPUs are the attempt's. Claiming moves the task pending -> running, makes a fresh token, counts
          the attempt: one transaction, so no two claims ever get one task. When the answer is lost on the
          way the task is leased to nobody; the lease runs out and the queue's policy decides.
RENEW     (`renew_lease`) every third of the lease's seconds. The answer says until when, and whether to stop.
          409 `lease_lost`: the attempt is void. Kill the child at once, report nothing more, keep its journal
          aside. No answer (server away): go on; the attempt stays valid until the server says otherwise, and
          a server that starts extends every lease by one period, because its own absence must cost no run.
          With `keep` a worker that is about to restart asks for a longer life of its leases. The child is told
          how long it may live without its worker: never longer than its lease does.
REPORT    (`ship_journal`) the task's journals, every batch with the lease's token. Refused with 409
          `lease_lost` once the token is void, so a frozen worker that wakes cannot write into a later run.
FINISH    (`finish_lease`) once, after the child is gone and its journals are shipped. Ends the task with the
          outcome and gives the slot's lease back: one transaction. Repeated until it is answered; a second
          FINISH with the same token and outcome is answered as the first (the answer may have been lost),
          with another token it is a 409. With `requeue` the worker gives the task back unfinished (it was
          told to stop): the task's retries, else the queue's `on_lost` and the attempts decide whether it waits
          again or ends with the outcome; a task that was aborted meanwhile is aborted. A task that failed by its
          exit code waits again, too, while its retries for that are left.
UNREGISTER (`unregister_worker`) at an orderly stop, after the last FINISH.

Expiry. A sweeper on the server looks every 5 seconds or a sixth of the shortest lease, by the server's clock
alone. A lease that ran out is void: the queue's `on_lost` decides. `requeue`: the task waits again at the place in
its queue that it had while attempts are left, else it fails with reason `worker lost`. `fail`: it fails at once. The
task's own `retries.lost` wins over both.

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
    TASKLOOM_CHECKPOINTS    folder for what the next attempt should find; see above
    TASKLOOM_PARAM_NAME     each parameter of the section General: NAME in capitals, what is no letter or digit as _
    TASKLOOM_SECRETS        path of a JSON file with the values of the secrets that the task names
    TASKLOOM_URL, TASKLOOM_API_KEY   for calls that the script makes itself, with a key that is valid only
                            while the lease is (the worker's own key never reaches the child)

Preemption. When a task of higher priority fits no worker but would in the place of a preemptible one, the server
sets that one's stop mark with `give_back`. The worker stops the child as for an abort, keeps its checkpoint folder
as the artifact `checkpoints`, and FINISHes with `requeue`.

Checkpoints. TASKLOOM_CHECKPOINTS names a folder that outlives the attempt: the worker stores it before it gives a
task back or tells a failure, and the next attempt, on whatever machine, finds the same files there.

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
ENV_CHECKPOINTS = "TASKLOOM_CHECKPOINTS"
ENV_SECRETS = "TASKLOOM_SECRETS"
ENV_PARAMETER = "TASKLOOM_PARAM_"
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
CHECKPOINTS = "checkpoints"  # name of the artifact that holds the checkpoint folder


def renew_interval(lease_seconds: float) -> float:
    """Seconds between two renewals of a lease."""
    return min(lease_seconds / 3, MAX_RENEW_INTERVAL)


def fence(lease: str) -> str:
    """What a report must bear while its task is under this lease: the token, nothing under an agent's."""
    return "" if lease.startswith(AGENT_LEASE) else lease
