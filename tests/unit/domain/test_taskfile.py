"""task.yaml: every form of the reference, every mistake with its place, and what a hostile text cannot do."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from taskloom.domain.errors import BadInput
from taskloom.domain.execution import Resources, Retries, Sweep
from taskloom.domain.parameters import Parameter, decode
from taskloom.domain.task import TaskType
from taskloom.domain.taskfile import TaskFile, WrongTaskFile, check_parameters, check_values, parse, schemas_of
from taskloom.domain.taskfile.nodes import MAX_BYTES, place_of
from taskloom.domain.taskfile.schema import json_schema

SEED = """\
name: unsloth-grpo-train-task
resources:
  accelerators: "A100-80GB:1"
envs:
  WANDB_PROJECT: unsloth-grpo-training
  PYTHONUNBUFFERED: 1
  HF_TOKEN: ENTER YOUR HF_TOKEN HERE
setup: uv pip install trl==0.15.2 bitsandbytes==0.45.4 unsloth== 2025.12.9 transformerlab datasets jinja2
run: cd ~/unsloth-grpo-train && python train.py
git_repo: "https://github.com/transformerlab/transformerlab-examples"
git_repo_directory: unsloth-grpo-train
parameters:
  - model_name: "HuggingFaceTB/SmolLM-135M-Instruct"
  - dataset: "Trelis/touch-rugby-rules"
  - lr: "2e-5"
  - num_train_epochs: "1"
  - batch_size: "8"
  - gradient_accumulation_steps: "1"
  - warmup_ratio: "0.03"
  - weight_decay: "0.01"
  - max_seq_length: "512"
"""
PLAIN = "name: a task\nrun: python train.py\n"
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def read(more: str, *, start: str = PLAIN) -> TaskFile:
    return parse(start + textwrap.dedent(more))


def refused(text: str) -> list[str]:
    with pytest.raises(WrongTaskFile) as caught:
        parse(text)
    return caught.value.message.split("\n")


def warned(file: TaskFile) -> list[str]:
    return [warning.told("task.yaml") for warning in file.warnings]


def plain(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)


# --- the seed ---------------------------------------------------------------------------------------------


def test_the_seeds_own_long_example_parses_to_what_it_says() -> None:
    file = parse(SEED)
    assert file.name == "unsloth-grpo-train-task"
    execution = file.execution
    assert execution.resources == Resources(gpus=1, gpu_type="A100-80GB")
    assert execution.variables == {
        "WANDB_PROJECT": "unsloth-grpo-training",
        "PYTHONUNBUFFERED": "1",
        "HF_TOKEN": "ENTER YOUR HF_TOKEN HERE",
    }
    assert execution.setup.endswith("unsloth== 2025.12.9 transformerlab datasets jinja2")
    assert execution.run == "cd ~/unsloth-grpo-train && python train.py"
    assert execution.repository == "https://github.com/transformerlab/transformerlab-examples"
    assert execution.directory == "unsloth-grpo-train"
    assert list(file.parameters["General"].items())[2] == ("lr", Parameter("2e-5", "str"))
    assert file.parameters["General"]["batch_size"] == Parameter("8", "str")
    assert warned(file) == [
        "task.yaml:7:13: envs.HF_TOKEN: 'ENTER YOUR' looks like a text to be filled in; a secret is named as "
        "{{secret.NAME}}",
        "task.yaml:8:8: setup: 'unsloth== 2025.12.9' is two words for the shell; write unsloth==2025.12.9",
    ]


# --- every field and odd form of the reference ------------------------------------------------------------

FORMS = [
    ("task:\n  name: a task\n  run: x\n", {"name": "a task", "execution.run": "x"}),
    ("title: a title\nrun: x\n", {"name": "a title"}),
    ("name: 'tâche 日本'\nrun: x\n", {"name": "tâche 日本"}),
    (PLAIN + "description: of two\n", {"description": "of two"}),
    (PLAIN + "type: REMOTE\n", {"type": TaskType.TRAINING}),
    (PLAIN + "type: testing\n", {"type": TaskType.TESTING}),
    (PLAIN + "minutes_requested: 90\n", {"execution.time_limit": 5400.0}),
    (PLAIN + "minutes_requested: 90\ntime_limit: 2h\n", {"execution.time_limit": 7200.0}),
    (PLAIN + "setup:\n", {"execution.setup": ""}),
    (PLAIN + "setup: |\n\n", {"execution.setup": ""}),
    (PLAIN + "setup: uv pip install x;\n", {"execution.setup": "uv pip install x"}),
    (PLAIN + "setup: '; x; ; '\n", {"execution.setup": "; x"}),
    (PLAIN + "setup: case a in b) c ;;\n", {"execution.setup": "case a in b) c ;;"}),
    (PLAIN + "setup: >\n  a\n  b\n", {"execution.setup": "a b"}),
    (PLAIN + "setup: |\n  a\n  b\n", {"execution.setup": "a\nb"}),
    (
        PLAIN + "envs: {A: 1, B: true, C: null, D: , E: 2e-5, F: 010, G: yes, H: '${HOME}', _I: 'a b'}\n",
        {
            "execution.variables": {
                "A": "1",
                "B": "true",
                "C": "",
                "D": "",
                "E": "2e-5",
                "F": "010",
                "G": "yes",
                "H": "${HOME}",
                "_I": "a b",
            }
        },
    ),
    (PLAIN + "envs:\n", {"execution.variables": {}}),
    (PLAIN + "resources:\n", {"execution.resources": Resources()}),
    (PLAIN + "resources: {cpus: 4}\n", {"execution.resources.cpus": 4.0}),
    (PLAIN + "resources: {cpus: '4+'}\n", {"execution.resources.cpus": 4.0}),
    (PLAIN + "resources: {cpus: 0.5, memory:}\n", {"execution.resources": Resources(cpus=0.5)}),
    (PLAIN + "resources: {memory: 16}\n", {"execution.resources.memory": 16 * 10**9}),
    (PLAIN + "resources: {memory: 16+}\n", {"execution.resources.memory": 16 * 10**9}),
    (PLAIN + "resources: {memory: '4GB'}\n", {"execution.resources.memory": 4 * 10**9}),
    (PLAIN + "resources: {memory: 2.5GiB}\n", {"execution.resources.memory": 5 << 29}),
    (PLAIN + "resources: {memory: 512MB}\n", {"execution.resources.memory": 512 * 10**6}),
    (PLAIN + "resources: {disk_space: '50 g'}\n", {"execution.resources.disk": 50 * 10**9}),
    (PLAIN + "resources: {disk_space: 100}\n", {"execution.resources.disk": 100 * 10**9}),
    (PLAIN + "resources: {num_nodes: '2'}\n", {"execution.resources.nodes": 2}),
    (PLAIN + "resources: {accelerators: 'A100'}\n", {"execution.resources": Resources(gpus=1, gpu_type="A100")}),
    (PLAIN + "resources: {accelerators: RTX3090:2}\n", {"execution.resources": Resources(gpus=2, gpu_type="RTX3090")}),
    (PLAIN + "resources: {accelerators: 1xA100}\n", {"execution.resources": Resources(gpus=1, gpu_type="A100")}),
    (PLAIN + "resources: {accelerators: GPU:2}\n", {"execution.resources": Resources(gpus=2)}),
    (PLAIN + "resources: {accelerators: none}\n", {"execution.resources": Resources(gpus=0)}),
    (
        PLAIN + "resources: {compute_provider: 'RTX3090:1'}\n",
        {"execution.resources": Resources(gpus=1, gpu_type="RTX3090"), "provider": ""},
    ),
    (
        PLAIN + "resources: {compute_provider: lab, region: eu, use_spot: true}\n",
        {
            "provider": "lab",
            "execution.foreign": {"task.yaml": {"region": "eu", "use_spot": True, "compute_provider": "lab"}},
        },
    ),
    (PLAIN + "resources: {image_id: 'docker:python:3.12'}\n", {"execution.image": "python:3.12"}),
    (
        PLAIN + "github_repo_url: https://host/a/b\ngithub_repo_dir: ./c/d/\ngithub_repo_branch: main\n",
        {"execution.repository": "https://host/a/b", "execution.directory": "c/d", "execution.branch": "main"},
    ),
    (
        PLAIN + "git_repo: git@host:a/b.git\ngit_repo_branch: 1234567\n",
        {"execution.repository": "git@host:a/b.git", "execution.commit": "1234567", "execution.branch": ""},
    ),
    (
        PLAIN + "github_repo_url: https://host/a/b\ngithub_directory: c\ngithub_branch: 1.0\n",
        {"execution.directory": "c", "execution.branch": "1.0"},
    ),
    (
        PLAIN + "git_repo: https://host/a/b\ngithub_repo_url: https://host/a/b\n",
        {"execution.repository": "https://host/a/b"},
    ),
    (PLAIN + "parameters:\n", {"parameters": {}}),
    (PLAIN + "parameters: {}\n", {"parameters": {}}),
    (PLAIN + "image: python:3.12\nimage_arguments: --ipc=host\nmounts: [/a:/b, '/c:/d:ro']\n",
     {"execution.image": "python:3.12", "execution.mounts": ("/a:/b", "/c:/d:ro")}),
    (PLAIN + "mounts: /a:/b\nimage: x\n", {"execution.mounts": ("/a:/b",)}),
    (PLAIN + "priority: 5\npreemptible: true\nretries: 2\n",
     {"execution.priority": 5, "execution.preemptible": True, "execution.retries": Retries(failed=2)}),
    (PLAIN + "retries: {lost: 1, preempted: 2, failed: 3}\n", {"execution.retries": Retries(1, 2, 3)}),
    (PLAIN + "time_limit: 90m\n", {"execution.time_limit": 5400.0}),
    (PLAIN + "time_limit: 1d 12h\n", {"execution.time_limit": 129600.0}),
    (PLAIN + "time_limit: 30\n", {"execution.time_limit": 30.0}),
    (PLAIN + "secrets: [HF_TOKEN]\ntags: [a, 2024]\nproject: vision/digits\n",
     {"execution.secrets": ("HF_TOKEN",), "tags": ("a", "2024"), "project": "vision/digits"}),
    (PLAIN + "envs: {<<: {A: 1, B: 2}, A: 3}\n",
     {"execution.variables": {"A": "3", "B": "2"}}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "meaning"), FORMS, ids=lambda value: value[-40:] if isinstance(value, str) else ""
)
def test_every_form_of_the_reference_parses_to_what_it_says(text: str, meaning: dict[str, Any]) -> None:
    file = parse(text)
    for path, expected in meaning.items():
        found: Any = file
        for part in path.split("."):
            found = getattr(found, part)
        assert found == expected, path
    VALIDATOR.validate(plain(text))


PARAMETERS = [
    ("lr: 2e-5", 2e-5),
    ("lr: '2e-5'", "2e-5"),
    ("n: 1_000", 1000),
    ("n: 0x1F", 31),
    ("flag: yes", True),
    ("old: 010", "010"),
    ("clock: 12:30", "12:30"),
    ("day: 2024-01-01", "2024-01-01"),
    ("nothing: null", None),
    ("words: [a, 1]", ["a", 1]),
    ("net: {depth: 3, kind: deep}", {"depth": 3, "kind": "deep"}),
    ("lr: {type: float, default: 3e-5}", 3e-5),
    ("lr: {type: float, default: '3e-5'}", 3e-5),
    ("n: {type: int, default: '8', min: 1, max: 10}", 8),
    ("n: {type: integer, default: 8, minimum: 1, maximum: 10, step: 1}", 8),
    ("name: {type: string, default: 5}", "5"),
    ("kind: {type: enum, options: [a, b], default: b}", "b"),
    ("kind: {enum: [1, 2], default: 2}", 2),
    ("flag: {type: bool, default: no, ui_widget: switch, title: A flag, required: true}", False),
    ("n: {type: int, default: 32, multipleOf: 8, description: of eight}", 32),
    ("optimizer: {default: {type: adam}}", {"type": "adam"}),
    (
        "token: {field_name: Token, env_var: HF_TOKEN, field_type: text, placeholder: hf_..., help_text: yours}",
        None,
    ),
]


@pytest.mark.parametrize(("text", "value"), PARAMETERS, ids=[text for text, _ in PARAMETERS])
def test_parameters_as_a_map_and_as_a_list_have_the_same_values(text: str, value: Any) -> None:
    name = text.partition(":")[0]
    for written in (f"parameters:\n  {text}\n", f"parameters:\n  - {text}\n"):
        file = read(written)
        found = decode(file.parameters["General"][name])
        assert (found, type(found)) == (value, type(value))
        VALIDATOR.validate(plain(PLAIN + written))


def test_a_heading_of_a_form_is_no_parameter() -> None:
    assert read("parameters: {part: {type: header, title: Part}, n: 1}").parameters["General"].keys() == {"n"}


def test_a_form_field_becomes_an_environment_variable() -> None:
    file = read("parameters:\n- {field_name: Token, env_var: HF_TOKEN, password: true}\n- n: 1\n")
    assert file.execution.variables == {"HF_TOKEN": "{{param.HF_TOKEN}}"}
    assert file.schemas["HF_TOKEN"].hidden
    assert list(file.parameters["General"]) == ["HF_TOKEN", "n"]


def test_a_sweep_has_values_in_the_types_of_its_parameters() -> None:
    file = read("""\
        parameters: {lr: {type: float, default: 0.1}, batch: 8, name: "x"}
        sweeps:
          sweep_config: {lr: [1, 2e-2], batch: [8, 16], name: [1e-4, b]}
          sweep_metric: eval/accuracy
          lower_is_better: false
        """)
    grid = {"lr": (1.0, 0.02), "batch": (8, 16), "name": ("1e-4", "b")}
    assert file.execution.sweep == Sweep(grid, "eval/accuracy", False)
    assert read("parameters: {a: 1}\nsweeps: {sweep_config: {a: [1]}}\n").execution.sweep == Sweep({"a": (1,)})


# --- what is only odd -------------------------------------------------------------------------------------

ODD = [
    ("envs: {A: '{{ secret.X }}'}", "{{ secret.X }}"),
    ("envs: {A: '{{secret.1}}'}", "{{secret.1}}"),
    ("setup: echo {{secrets.}}", "{{secrets.}}"),
    ("envs: {A: '<your_token>'}", "<your_token>"),
    ("envs: {A: '${HOME}/x'}", "${HOME}"),
    ("envs: {A: '{{param.leaning_rate}}'}\nparameters: {learning_rate: 1}", "did you mean 'learning_rate'"),
    ("setup: pip install trl>=0.15", "reads the '>'"),
    ("resources: {accelerators: 1xA100}", 'read as "A100:1"'),
    ("resources: {compute_provider: 'RTX3090:1'}", 'write accelerators: "RTX3090:1"'),
    ("resources: {region: eu}", "do not use it"),
    ("resources: {image_id: ami-123}", "no container image"),
    ("resources: {num_nodes: 2}", "several machines"),
    ("minutes_requested: 5", "time limit"),
    ("title: another", "not used beside `name`"),
    ("git_repo: https://h/a\ngithub_repo_url: https://h/a", "says the same as `git_repo`"),
    ("github_repo_dir: a", "`github_repo_url` is missing"),
    ("mounts: [/a:/b]", "there is no `image`"),
    ("parameters: {n: 010}", "is text here"),
    ("parameters: {t: {field_name: T, password: true, default: abc}}", "stands readable"),
]


@pytest.mark.parametrize(("more", "told"), ODD, ids=[more for more, _ in ODD])
def test_what_is_hardly_meant_is_warned_of_and_taken(more: str, told: str) -> None:
    found = warned(read(more))
    assert len(found) == 1, found
    assert told in found[0]


@pytest.mark.parametrize(
    "more",
    [
        "envs: {A: '{{ question }}', B: '{{secret.HF_TOKEN}}', C: '{{secrets._HF_TOKEN}}'}",
        "setup: |\n  pip install 'trl>=0.15' torch==2.1.0\n  if [ \"$A\" == b ]; then echo; fi",
        "parameters: {template: 'Question: {{ question }}', lr: 2e-5}\nsetup: echo {{param.lr}}",
    ],
)
def test_ordinary_texts_are_not_warned_of(more: str) -> None:
    assert warned(read(more)) == []


# --- what is wrong ----------------------------------------------------------------------------------------

WRONG = [
    ("name: a task\n", ["task.yaml:1:1: run: is missing; expected such as `run: python train.py`"]),
    ("run: x\n", ["task.yaml:1:1: name: is missing; expected such as `name: my-task`"]),
    ("name: a task\nrun: ''\n", ["task.yaml:2:6: run: is empty; expected shell text such as `python train.py`"]),
    ("name: 123\nrun: x\n", ["task.yaml:1:7: name: expected text, got the number 123; in quotes it is text"]),
    ("name: ab\nrun: x\n", ["task.yaml:1:7: name: the name 'ab' has 2 characters; expected 3 to 256"]),
    (PLAIN + "resources:\n  cpus: many\n",
     ["task.yaml:4:9: resources.cpus: expected a number such as 4 or 0.5, or \"4+\", got 'many'"]),
    (PLAIN + "resources:\n  cpus: 0\n  memory: 4x\n  num_nodes: 0\n", [
        "task.yaml:4:9: resources.cpus: expected a number such as 4 or 0.5, or \"4+\", got '0'",
        "task.yaml:5:11: resources.memory: expected gigabytes such as 16, or a size such as \"16GB\", \"512MB\" or "
        "\"16GiB\", got '4x'",
        "task.yaml:6:14: resources.num_nodes: expected a whole number from 1, got the number 0"]),
    (PLAIN + "resources: {accelerators: {A100: 1}}\n", ["got a map; write \"A100:1\""]),
    (PLAIN + "resources: {accelerators: 1}\n", ["got the number 1"]),
    (PLAIN + "resources: {accelerators: [A100]}\n", ["got a list"]),
    (PLAIN + "resources: {accelerators: 'A100:x'}\n", ["got 'A100:x'"]),
    (PLAIN + "resources: {accelerators: 'H100:0.5'}\n", ["a task gets whole GPUs"]),
    (PLAIN + "resources: {accelerators: 'A100:1,L4:1'}\n", ["one type a task"]),
    (PLAIN + "script: x\n", ["task.yaml:3:1: script: no such field; the shell text is called `run`"]),
    (PLAIN + "env: {}\n", ["environment variables are called `envs`"]),
    (PLAIN + "resources: {disk_size: 5}\n", ["it is called `disk_space`"]),
    (PLAIN + "resources: {provider: x}\n", ["it is called `compute_provider`"]),
    (PLAIN + "provider: x\n", ["it is `compute_provider` below `resources`"]),
    (PLAIN + "workdir: .\n", ["uploaded by `taskloom run FOLDER`"]),
    (PLAIN + "file_mounts: {}\n", ["uploaded by `taskloom run FOLDER`"]),
    (PLAIN + "paramters: {}\n", ["no such field; did you mean 'parameters'?"]),
    (PLAIN + "resources: {acelerators: x}\n", ["resources.acelerators: no such field; did you mean 'accelerators'?"]),
    (PLAIN + "zzz: 1\n", ["no such field; expected one of name, description, type, run"]),
    (PLAIN + "envs: [A]\n", ["expected a map of names and texts, got a list"]),
    (PLAIN + "envs: {A: [1]}\n", ["envs.A: expected a text, got a list"]),
    (PLAIN + "envs: {1A: x, 'a b': y}\n", ["envs.1A: not a name", "envs.a b: not a name"]),
    (PLAIN + "envs: {LD_PRELOAD: x, PYTHONPATH: y, GIT_SSH: z, TASKLOOM_URL: u}\n", ["not for a task to set"] * 4),
    (PLAIN + "git_repo: https://h/a\ngithub_repo_url: https://h/b\n", ["is the same field as `git_repo`"]),
    (PLAIN + "git_repo: --upload-pack=touch\n", ["not an address"]),
    (PLAIN + "git_repo: 'ext::sh -c touch'\n", ["expected a URL"]),
    (PLAIN + "git_repo: https://h/a\ngit_repo_branch: --help\n", ["not the name of a tag or branch"]),
    (PLAIN + "git_repo: https://h/a\ngit_repo_directory: ../x\n", ["expected a path inside the repository"]),
    (PLAIN + "parameters: [a]\n", ["expected `- name: value`, got 'a'"]),
    (PLAIN + "parameters: [{a: 1}, {a: 2}]\n", ["parameters.a: stands twice"]),
    (PLAIN + "parameters: [{a: 1, b: 2}]\n", ["got a map of 2 names"]),
    (PLAIN + "parameters: text\n", ["expected a map of names and values, got 'text'"]),
    (PLAIN + "parameters: {a: {type: flaot, default: 1}}\n", ["got 'flaot'; did you mean 'float'?"]),
    (PLAIN + "parameters: {a: {type: int, default: x}}\n", ["parameters.a.default: expected a whole number, got 'x'"]),
    (PLAIN + "parameters: {a: {type: int, default: 5, max: 4}}\n", ["expected a number up to 4, got the number 5"]),
    (PLAIN + "parameters: {a: {type: int, default: 5, min: x}}\n", ["parameters.a.min: expected a number, got 'x'"]),
    (PLAIN + "parameters: {a: {default: 9, multiple_of: 4}}\n", ["expected a multiple of 4"]),
    (PLAIN + "parameters: {a: {options: [x, y], default: z}}\n", ["expected one of x, y, got 'z'"]),
    (PLAIN + "parameters: {a: {default: 5, minimun: 1}}\n", ["did you mean 'minimum'?"]),
    (PLAIN + "sweeps: {sweep_config: {lr: [1]}}\nparameters: {lrr: 1}\n", ["no such parameter; did you mean 'lrr'?"]),
    (PLAIN + "sweeps: {sweep_config: {a: []}}\nparameters: {a: 1}\n", ["expected a list of values to try"]),
    (PLAIN + "sweeps: {sweep_config: {a: 1}}\nparameters: {a: 1}\n", ["expected a list of values to try"]),
    (PLAIN + "sweeps: {sweep_config: {a: [1, x]}}\nparameters: {a: {type: int, default: 1}}\n", ["got 'x'"]),
    (PLAIN + "sweeps: {}\n", ["sweeps.sweep_config: is missing"]),
    (PLAIN + "sweeps: {lower_is_better: 5, sweep_config: {a: [1]}}\nparameters: {a: 1}\n", ["expected true or false"]),
    (PLAIN + f"sweeps: {{sweep_config: {{a: {list(range(101))}, b: {list(range(101))}}}}}\nparameters: {{a: 1, b: 1}}\n",
     ["10201 combinations; expected at most 10000"]),
    (PLAIN + "type: trianing\n", ["did you mean 'training'?"]),
    (PLAIN + "retries: -1\n", ["expected a whole number from 0"]),
    (PLAIN + "retries: {fialed: 1}\n", ["did you mean 'failed'?"]),
    (PLAIN + "time_limit: soon\n", ["expected seconds, or a time such as"]),
    (PLAIN + "mounts: [a:b]\nimage: x\n", ["expected /FOLDER/OF/THE/WORKER:/PLACE"]),
    (PLAIN + "secrets: [my-token]\n", ["expected the name of a secret"]),
    (PLAIN + "project: a//b\n", ["expected parts joined by single slashes"]),
    (PLAIN + "image: a\nresources: {image_id: 'docker:b'}\n", ["names another image"]),
    ("- a\n", ["expected the fields of a task, such as `name: ...`, got a list"]),
    ("just words\n", ["got 'just words'"]),
    ("", ["the file is empty"]),
    ("# only a comment\n", ["the file is empty"]),
    ("name: a task\nname: another\nrun: x\n", ["task.yaml:2:1: 'name' stands twice; first in line 1"]),
    ("name: [\n", ["cannot be read as YAML"]),
    ("name: a\tb: c\n", ["cannot be read as YAML"]),
    ("name: a\x00b\n", ["task.yaml:1:8: a character that YAML does not allow: U+0000"]),
    ("a: !!python/object/apply:os.system [x]\n", ["without tags"]),
    ("a: 1\n---\nb: 2\n", ["task.yaml:2:1: a second document; expected one"]),
    ("a: &x [*x]\n", ["stands inside of what it names"]),
    ("a: *x\n", ["has no anchor before it"]),
    (PLAIN + "? [a]\n: b\n", ["a list or map stands as a key"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), WRONG, ids=[text[-45:] for text, _ in WRONG])
def test_what_is_wrong_is_told_with_its_place(text: str, told: list[str]) -> None:
    lines = refused(text)
    assert [sentence in line for sentence, line in zip(told, lines, strict=False)] == [True] * len(told), lines
    assert all(line.startswith("task.yaml:") for line in lines)


def test_everything_is_told_at_once_in_the_order_of_the_text() -> None:
    lines = refused("nam: x\nresources:\n  cpus: many\n  memory: lots\nenvs: {PYTHONPATH: x}\nrun: [a]\n")
    assert [line.split(": ")[1] for line in lines] == [
        "nam", "name", "resources.cpus", "resources.memory", "envs.PYTHONPATH", "run",
    ]  # fmt: skip


# --- hostile texts ----------------------------------------------------------------------------------------


def bomb(levels: int = 9) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (bomb(), "more than 20000 values, aliases written out"),
        ("[" * 200_000, "nested deeper than 50 levels"),
        ("{a: " * 200_000, "nested deeper than 50 levels"),
        ("- " * 200_000, "nested deeper than 50 levels"),
        ("? " * 200_000, "nested deeper than 50 levels"),
        ("x: [" + "1, " * 30_000 + "1]", "more than 20000 values"),
        ("#" * (MAX_BYTES + 1), f"more than {MAX_BYTES} bytes"),
        ("a: '" + "é" * (MAX_BYTES // 2) + "'", f"more than {MAX_BYTES} bytes"),
        ("%YAML 1." + "9" * 5000 + "\n---\na: b\n", "cannot be read as YAML"),
        ('a: "\\UFFFFFFFF"', "cannot be read as YAML"),
        ('a: "\\ud800"', "half of a pair"),
        ("a: \ud800", "half of a pair"),
    ],
    ids=["aliases", "brackets", "braces", "dashes", "questions", "values", "bytes", "utf8", "version", "escape",
         "surrogate escape", "surrogate"],
)  # fmt: skip
def test_a_hostile_text_ends_with_a_message(text: str, told: str) -> None:
    assert told in refused(text)[0]


def test_reading_ends_when_nobody_would_read_on() -> None:
    lines = refused(PLAIN + "".join(f"wrong{n}: 1\n" for n in range(5000)))
    assert len(lines) == 51
    assert lines[-1] == "... and 150 more problems"


WORDS = st.sampled_from(
    ["name", "run", "setup", "envs", "resources", "cpus", "parameters", "sweeps", "sweep_config", "type", "default",
     "options", "min", "env_var", "task", "a", "1", "2e-5", "true", "~", "'", '"', "{", "}", "[", "]", ": ", ":", ", ",
     "\n", "\n  ", "\n- ", "- ", "&a ", "*a", "<<: ", "!", "!!", "|\n", ">\n", "#", "%", "---\n", "? ", "\t", "é", "\x85",
     "\u2028", "\ufeff", "\\", "{{secret.A}}", "{{ param.x }}", ".nan", ".inf", "1e999", "0x", "git_repo", "https://h"]
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.text(max_size=300), st.lists(WORDS, max_size=40).map("".join)))
@example("name: abc\nrun: x\nparameters: {a: {type: int, default: .inf}}")
@example("name: abc\nrun: x\nparameters: {a: {type: int, min: .nan, default: 1}}")
@example("name: abc\nrun: x\nsweeps: {sweep_config: {a: [[1]]}}\nparameters: {a: 1}")
def test_any_text_parses_or_is_refused_with_places_inside_of_it(text: str) -> None:
    try:
        file = parse(text)
    except WrongTaskFile as wrong:
        places = [*wrong.problems, *wrong.warnings]
        assert wrong.problems
        json.dumps(wrong.details)
    else:
        places = list(file.warnings)
    end = place_of(text, len(text))
    for found in places:
        assert 1 <= found.line <= end.line, found
        assert found.column >= 1


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["name", "run", "setup", "envs", "resources", "parameters", "sweeps", "retries",
                                        "image", "tags", "mounts", "type"]), st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(
        ["a", "type", "default", "min", "cpus", "memory", "accelerators", "sweep_config", "lost", "options"]), inner,
        max_size=3)), max_leaves=8)))  # fmt: skip
def test_any_json_document_parses_or_is_refused(document: dict[str, Any]) -> None:
    try:
        parse(json.dumps(document))
    except WrongTaskFile as wrong:
        assert wrong.problems


# --- values -----------------------------------------------------------------------------------------------

DESCRIBED = """\
parameters:
  lr: {type: float, default: 0.1, min: 0, max: 1}
  epochs: {type: int, default: 3, min: 1}
  kind: {options: [adam, sgd], default: adam}
  shuffle: {type: bool, default: true}
  text: "2e-5"
  count: 8
  nothing: null
  words: [a]
  needed: {type: string, required: true}
"""


def test_values_of_a_command_line_are_typed_by_the_file() -> None:
    schemas = read(DESCRIBED).schemas
    given_values = {
        "lr": "1e-4", "epochs": "5", "kind": "sgd", "shuffle": "no", "text": "1e-4", "count": "16", "nothing": "7",
        "words": '["b", 2]', "General/needed": "x",
    }  # fmt: skip
    typed = check_values(schemas, given_values)["General"]
    assert {name: decode(value) for name, value in typed.items()} == {
        "lr": 1e-4, "epochs": 5, "kind": "sgd", "shuffle": False, "text": "1e-4", "count": 16, "nothing": 7,
        "words": ["b", 2], "needed": "x",
    }  # fmt: skip
    assert all(value.given for value in typed.values())


def test_wrong_values_are_told_all_at_once() -> None:
    schemas = read(DESCRIBED).schemas
    with pytest.raises(BadInput) as caught:
        check_values(schemas, {"lr": "2", "epochs": "many", "kind": "adm", "learning": "1", "ephocs": "2"})
    assert caught.value.details["problems"] == [
        "parameter lr: expected a number from 0 to 1, got the number 2.0",
        "parameter epochs: expected a whole number, got 'many'",
        "parameter kind: expected one of adam, sgd, got 'adm'; did you mean 'adam'?",
        "no parameter 'learning' (there are lr, epochs, kind, shuffle, text, count, nothing, words, needed)",
        "no parameter 'ephocs'; did you mean 'epochs'? (there are lr, epochs, kind, shuffle, text, count, nothing, "
        "words, needed)",
    ]


def test_a_server_checks_edited_parameters_by_the_text_that_the_task_keeps() -> None:
    file = read(DESCRIBED)
    schemas = schemas_of(file.text)
    assert check_parameters(schemas, file.parameters) == ["parameter needed: expected a value; it has no default"]
    edited = {"General": {**file.parameters["General"], "needed": Parameter("x"), "lr": Parameter("7", "float"),
                          "own": Parameter("y")}}  # fmt: skip
    assert check_parameters(schemas, edited) == ["parameter lr: expected a number from 0 to 1, got the number 7.0"]
    assert schemas_of("no: [task file") == {}


def test_the_schema_refuses_what_editors_can_tell() -> None:
    for text in (PLAIN + "script: x\n", "name: a task\n", PLAIN + "resources: {cpu: 1}\n", PLAIN + "parameters: x\n",
                 PLAIN + "resources: {accelerators: [A100]}\n", PLAIN + "parameters: {a: {type: int, mim: 1}}\n"):  # fmt: skip
        assert not VALIDATOR.is_valid(plain(text)), text
    VALIDATOR.check_schema(json_schema())
    VALIDATOR.validate(plain(SEED))
