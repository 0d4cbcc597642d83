"""The fields of a task file: one declaration for the parser, the JSON Schema and the docs.

Fields of Transformer Lab's format keep its names; `ours` are those that Taskloom adds. A field with a `note` is
accepted because real files carry it, and a warning says what becomes of it. Source: seed 000 and its reference.
"""

from __future__ import annotations

from dataclasses import dataclass

from taskloom.domain.taskfile import kinds
from taskloom.domain.taskfile.kinds import Kind

ELSEWHERE = "kept with the task; workers of this machine do not use it"


@dataclass(frozen=True)
class Field:
    name: str
    kind: Kind
    says: str
    synonyms: tuple[str, ...] = ()
    ours: bool = False
    note: str = ""


RESOURCES = (
    Field("cpus", kinds.CPUS, 'Processors, such as 4, 0.5 or "4+".'),
    Field("memory", kinds.BYTES, 'Memory: gigabytes, or a size such as "16GB", "512MB", "16GiB".'),
    Field("disk_space", kinds.BYTES, "Free disk, written as memory is."),
    Field("accelerators", kinds.ACCELERATORS, 'GPUs as NAME or NAME:COUNT, such as "A100-80GB:1".'),
    Field("num_nodes", kinds.NODES, "Machines that run it together; 1 without a word."),
    Field("compute_provider", kinds.LINE, "Who is to supply the place, by name."),
    Field("fleet_name", kinds.WORD, "A fleet of the provider.", note=ELSEWHERE),
    Field("instance_type", kinds.WORD, "A type of machine of a cloud.", note=ELSEWHERE),
    Field("cloud", kinds.WORD, "A cloud.", note=ELSEWHERE),
    Field("region", kinds.WORD, "A region of a cloud.", note=ELSEWHERE),
    Field("zone", kinds.WORD, "A zone of a cloud.", note=ELSEWHERE),
    Field("use_spot", kinds.BOOLEAN, "Whether a cloud may take the machine away.", note=ELSEWHERE),
    Field("image_id", kinds.WORD, 'A container image as "docker:IMAGE"; `image` of the task says the same.'),
)
SWEEPS = (
    Field("sweep_config", kinds.ANYTHING, "Values of each parameter; a task is run for every combination."),
    Field(
        "sweep_metric", kinds.LINE, "TITLE/SERIES of a scalar, or a name in the score, that says which was best."
    ),
    Field("lower_is_better", kinds.BOOLEAN, "Whether the smallest value was best; true without a word."),
)
RETRIES = (
    Field("lost", kinds.COUNT, "Further attempts when the worker falls silent.", ours=True),
    Field("preempted", kinds.COUNT, "Further attempts when a task of higher priority took its place.", ours=True),
    Field("failed", kinds.COUNT, "Further attempts when it ends with another exit code than 0.", ours=True),
)
TASK = (
    Field("name", kinds.NAME, "Name of the task, 3 to 256 characters.", ("title",)),
    Field("description", kinds.TEXT, "What it does; becomes the task's comment."),
    Field("type", kinds.LINE, "Type of the task, such as training or testing; REMOTE is accepted."),
    Field("run", kinds.RUN, "Shell text: the task itself."),
    Field("setup", kinds.SETUP, "Shell text that is run before, in the same folder; it ends the task when it fails."),
    Field("envs", kinds.ANYTHING, "Environment variables; values are taken as they are written."),
    Field("resources", kinds.ANYTHING, "What a machine must have."),
    Field("github_repo_url", kinds.REPOSITORY, "Git repository with the code; any server.", ("git_repo", "git_repo_url",
          "github_repo", "github_url")),
    Field("github_repo_dir", kinds.FOLDER, "Folder of the repository that is needed.", ("git_repo_directory",
          "git_repo_dir", "github_repo_directory", "github_directory", "git_directory")),
    Field("github_repo_branch", kinds.REFERENCE, "Branch, tag or commit; the repository's own default without a word.",
          ("git_repo_branch", "github_branch", "git_branch")),
    Field("parameters", kinds.ANYTHING, "Values that the script reads, with or without a description of each."),
    Field("sweeps", kinds.ANYTHING, "Values to try."),
    Field("minutes_requested", kinds.MINUTES, "Minutes that one attempt may run; `time_limit` says the same."),
    Field("image", kinds.LINE, "Container image to run in.", ours=True),
    Field("image_arguments", kinds.LINE, "Further arguments of the container command.", ours=True),
    Field("mounts", kinds.MOUNTS, "Folders of the worker's machine that the container sees.", ours=True),
    Field("secrets", kinds.SECRETS, "Names of secrets that the script asks for itself.", ours=True),
    Field("time_limit", kinds.SECONDS, 'Time that one attempt may run: seconds, or such as "90m".', ours=True),
    Field("priority", kinds.PRIORITY, "What a higher number has goes first in its queue.", ours=True),
    Field("preemptible", kinds.BOOLEAN, "Whether a task of higher priority may take its place.", ours=True),
    Field("retries", kinds.ANYTHING, "Further attempts after a failure: a number, or one for each cause.", ours=True),
    Field("tags", kinds.TAGS, "Tags of the task.", ours=True),
    Field("project", kinds.PROJECT, "Project of the task, such as vision/digits.", ours=True),
)  # fmt: skip

MISUSED = {
    "": {
        "script": "the shell text is called `run`",
        "command": "the shell text is called `run`",
        "cmd": "the shell text is called `run`",
        "env": "environment variables are called `envs`",
        "env_vars": "environment variables are called `envs`",
        "environment": "environment variables are called `envs`",
        "params": "it is called `parameters`",
        "cpus": "it stands below `resources`",
        "memory": "it stands below `resources`",
        "accelerators": "it stands below `resources`",
        "disk_space": "it stands below `resources`",
        "disk_size": "it is `disk_space` below `resources`",
        "gpus": 'it is `accelerators` below `resources`, such as "A100:1"',
        "num_nodes": "it stands below `resources`",
        "compute_provider": "it stands below `resources`",
        "provider": "it is `compute_provider` below `resources`",
        "workdir": "the folder is uploaded by `taskloom run FOLDER`; a folder of a repository is `github_repo_dir`",
        "working_dir": "the script starts in its home folder: write `cd FOLDER` into `run`",
        "file_mounts": "the folder with the task.yaml is uploaded by `taskloom run FOLDER`; folders of the worker's "
        "machine are `mounts`",
        "volumes": "folders of the worker's machine are `mounts`",
        "ports": "nothing is opened to the network; `image_arguments` may hold `--publish`",
        "docker": "the container's image is called `image`",
        "container": "the container's image is called `image`",
        "timeout": "it is called `time_limit`",
        "run_sweeps": "values to try stand in `sweeps`",
        "sweep_config": "it stands below `sweeps`",
        "sweep_metric": "it stands below `sweeps`",
        "lower_is_better": "it stands below `sweeps`",
        "service": "a script that goes on for ever is an ordinary `run`",
        "interactive": "tasks that are talked to are not run from a task file",
        "subtype": "tasks that are talked to are not run from a task file",
        "interactive_type": "tasks that are talked to are not run from a task file",
    },
    "resources": {
        "disk_size": "it is called `disk_space`",
        "disk": "it is called `disk_space`",
        "provider": "it is called `compute_provider`",
        "gpus": 'it is called `accelerators`, such as "A100:1"',
        "gpu": 'it is called `accelerators`, such as "A100:1"',
        "cpu": "it is called `cpus`",
        "mem": "it is called `memory`",
        "ram": "it is called `memory`",
        "nodes": "it is called `num_nodes`",
        "image": "it stands at the top, beside `run`",
        "any_of": "one machine is described; queues hold what fits none yet",
        "ordered": "one machine is described; queues hold what fits none yet",
        "infra": "clouds are not used by workers of this machine",
        "ports": "nothing is opened to the network",
        "job_recovery": "further attempts are `retries`, beside `run`",
    },
    "sweeps": {
        "parameters": "the values to try are called `sweep_config`",
        "config": "the values to try are called `sweep_config`",
        "grid": "the values to try are called `sweep_config`",
        "metric": "it is called `sweep_metric`",
        "direction": "it is `lower_is_better`: true or false",
    },
    "retries": {},
}
