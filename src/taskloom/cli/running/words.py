"""What an execution asks for, in words: for `taskloom task show` and for a dry run."""

from __future__ import annotations

from taskloom.domain.execution import Resources, Retries, Sweep
from taskloom.domain.quantities import size


def resources_told(wanted: Resources) -> str:
    """Only what is asked for: `2 cpus, 16.0 GB memory, 1 GPU A100`."""
    words = [f"{wanted.cpus:g} cpus"] if wanted.cpus else []
    words += [
        f"{size(count)} {name}" for name, count in (("memory", wanted.memory), ("disk", wanted.disk)) if count
    ]
    if wanted.gpus is not None:
        gpus = f"{wanted.gpus} GPU{'' if wanted.gpus == 1 else 's'} {wanted.gpu_type}".strip()
        words.append(gpus if wanted.gpus else "no GPU")
    if wanted.nodes > 1:
        words.append(f"{wanted.nodes} machines")
    return ", ".join(words)


def retries_told(retries: Retries) -> str:
    """For people: `2 after a failure, 1 after a lost worker`."""
    words = ((retries.failed, "after a failure"), (retries.lost, "after a lost worker"),
             (retries.preempted, "after a preemption"))  # fmt: skip
    return ", ".join(f"{count} {when}" for count, when in words if count)


def sweep_told(sweep: Sweep | None) -> str:
    """`lr: 0.1, 0.2; momentum: 0, 0.9; best by the lowest eval/loss`."""
    if sweep is None:
        return ""
    grid = "; ".join(f"{name}: {', '.join(map(str, values))}" for name, values in sweep.grid.items())
    return f"{grid}; best by the {'lowest' if sweep.lower_is_better else 'highest'} {sweep.metric}"
