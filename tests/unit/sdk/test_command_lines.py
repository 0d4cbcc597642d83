"""Command lines of all parsers, in scripts that run alone: what is told, and what a worker's child reads.

Each script is a process with its own journal. `ran` is a first run, as a person starts it; `again` runs it like a
worker's child does, with a task whose values were edited, with the words that the first run left to the worker.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from taskloom.domain.parameters import Parameter, Sections, flatten
from taskloom.domain.status import Status
from taskloom.domain.task import Task, apply_edit
from taskloom.journal import layout
from taskloom.journal.reader import Reader
from taskloom.wire.records import Edited

ID = "0123456789abcdef0123456789abcdef"
INIT = "from taskloom import Task\nTask.init('unit', 'lines', auto_connect_arg_parser={!r})\n"


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str
    task: Task

    @property
    def values(self) -> dict[str, str]:
        return {name: one.value for name, one in flatten(self.task.parameters).items()}

    @property
    def given(self) -> set[str]:
        return {name for name, one in flatten(self.task.parameters).items() if one.given}


class Desk:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "script.py"

    def write(self, text: str, switch: Any = True) -> None:
        """`INIT` in the text is where Task.init stands."""
        lines = [
            line.replace("INIT", INIT.format(switch).replace("\n", ";").rstrip(";")) if "INIT" in line else line
            for line in text.splitlines()
        ]
        self.script.write_text("\n".join(lines) + "\n")

    def ran(self, *words: str) -> Ran:
        return self._run(words, {"TASKLOOM_OFFLINE": "1", "TASKLOOM_TASK_ID": ID})

    def again(self, before: Ran, edits: Mapping[str, str | Parameter | None]) -> Ran:
        """A worker's child for the edited clone."""
        sections: Sections = {name: dict(inner) for name, inner in before.task.parameters.items()}
        for flat, value in edits.items():
            section, name = flat.split("/", 1)
            old = sections.setdefault(section, {}).get(name, Parameter())
            if value is None:
                del sections[section][name]
            else:
                sections[section][name] = (
                    value if isinstance(value, Parameter) else msgspec.structs.replace(old, value=value)
                )
        task = msgspec.structs.replace(before.task, parameters=sections)
        file = self.folder / "claimed"
        file.write_bytes(msgspec.msgpack.encode(task))
        environment = {
            "TASKLOOM_TASK_ID": ID,
            "TASKLOOM_LEASE": "lease",
            "TASKLOOM_TASK_FILE": str(file),
            "TASKLOOM_JOURNAL": str(self.folder / "attempt" / ID),
        }
        return self._run(before.task.execution.arguments, environment, task)

    def _run(self, words: tuple[str, ...], environment: dict[str, str], task: Task | None = None) -> Ran:
        data = self.folder / f"data{len(list(self.folder.iterdir()))}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKLOOM_")}
        done = subprocess.run(
            [sys.executable, str(self.script), *words],
            cwd=self.folder,
            env={**kept, "TASKLOOM_DATA": str(data), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        root = self.folder / "attempt"
        if task is None:
            root = data / "journal"
            with zipfile.ZipFile(root / f"{ID}.zip") as packed:
                packed.extractall(root / ID)
        told = task or Task(id=ID, name="lines", project="unit", status=Status.RUNNING)
        for folder in layout.writer_folders(root / ID):
            for record in Reader(folder).records(0):
                if isinstance(record, Edited):
                    told = apply_edit(told, record.edit)
        return Ran(done.returncode, done.stdout, done.stderr, told)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# --- click ---------------------------------------------------------------------------------------------------

CLICK = """
import click, enum, pathlib
INIT
class Size(enum.Enum):
    SMALL = 1
    BIG = 2
class Thousands(click.ParamType):
    name = "thousands"
    def convert(self, value, param, ctx):
        return value if isinstance(value, int) else int(value.removesuffix("k")) * 1000
@click.command(context_settings={"auto_envvar_prefix": "UNIT", "default_map": {"mapped": "7"}})
@click.argument("inputs", nargs=-1, type=click.Path(path_type=pathlib.Path))
@click.option("--size", type=click.Choice(Size), default=Size.SMALL)
@click.option("--rows", type=Thousands(), default="2k")
@click.option("--mapped", type=int, default=1)
@click.option("--fast", "speed", flag_value="fast", default="fast")
@click.option("--slow", "speed", flag_value="slow")
@click.option("--quiet", is_flag=True)
@click.option("-n", type=int, default=1)
@click.option("--point", type=(float, float), multiple=True)
@click.option("--when", type=click.DateTime(), default="2024-01-02")
@click.option("--note", is_flag=False, flag_value="yes", default="no")
@click.option("--log", type=click.File("w"), default="-")
@click.option("--twice", type=int, default=2, callback=lambda ctx, param, value: value * 2)
@click.option("--pass", "phrase", hide_input=True, default="hidden")
@click.version_option("1.0")
def main(**values):
    print({name: str(values[name]) for name in sorted(values) if name != "log"})
main()
"""


def test_click_options_of_every_kind_come_back_as_they_were(desk: Desk):
    desk.write(CLICK)
    words = ["a b", "-c", "--rows", "3k", "--size", "BIG", "--slow", "--quiet", "-n", "5", "--twice", "3"]
    first = desk.ran(
        *words[2:], "--point", "1", "2", "--point=3", "4", "--note", "--log", "log.txt", "--", "a b", "-c"
    )
    assert first.code == 0, first.err
    assert first.values == {
        "Args/inputs": '["a b", "-c"]',
        "Args/size": "BIG",
        "Args/rows": "3k",
        "Args/mapped": "7",
        "Args/speed": "slow",
        "Args/quiet": "True",
        "Args/n": "5",
        "Args/point": "[[1.0, 2.0], [3.0, 4.0]]",
        "Args/when": "2024-01-02 00:00:00",
        "Args/note": "yes",
        "Args/log": "log.txt",
        "Args/twice": "3",
    }
    assert first.given == set(first.values) - {"Args/mapped", "Args/when"}
    assert first.task.execution.arguments == ()
    again = desk.again(first, {})
    assert again.out == first.out, again.err
    assert again.values == first.values
    edited = desk.again(
        first, {"Args/rows": "9k", "Args/speed": "fast", "Args/point": "[[5, 6]]", "Args/size": "SMALL"}
    )
    assert "'rows': '9000'" in edited.out and "'speed': 'fast'" in edited.out
    assert "'point': '((5.0, 6.0),)'" in edited.out and "'size': 'Size.SMALL'" in edited.out


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("n", "many", ["Usage:", "'-n'", "'many' is not a valid integer"]),
        ("size", "HUGE", ["Usage:", "'--size'", "'HUGE' is not one of"]),
        ("quiet", "perhaps", ["Usage:", "'--quiet'", "expected true or false, got 'perhaps'"]),
        ("speed", "late", ["Usage:", "'late' is not one of fast, slow"]),
    ],
)
def test_a_click_value_that_does_not_fit_is_a_usage_error(desk: Desk, name: str, text: str, said: list[str]):
    desk.write(CLICK)
    first = desk.ran()
    ended = desk.again(first, {f"Args/{name}": text})
    assert ended.code == 2
    assert all(word in ended.err for word in said), ended.err
    assert "Traceback" not in ended.err


def test_a_click_value_edited_too_late_that_does_not_fit_is_a_usage_error(desk: Desk):
    desk.write(
        "import click\n@click.command()\n@click.option('--fast', is_flag=True)\ndef main(fast):\n    INIT\nmain()"
    )
    ended = desk.again(desk.ran(), {"Args/fast": "perhaps"})
    assert ended.code == 2
    assert "'--fast': expected true or false, got 'perhaps' (edited in the task)" in ended.err


def test_names_are_chosen_for_click_as_for_argparse(desk: Desk):
    text = (
        "import click\nINIT\n@click.command()\n@click.option('--lr', default=1)\n@click.option('--n', default=2)\n"
    )
    text += "@click.option('--token', default='t')\ndef main(**values):\n    print(values)\nmain()"
    desk.write(text, {"lr": False, "token": True})
    assert desk.ran().values == {"Args/n": "2", "Args/token": "t"}
    desk.write(text, {"*": False, "lr": True})
    first = desk.ran("--n", "5")
    assert first.values == {"Args/lr": "1"}
    assert "'n': 2" in desk.again(first, {"Args/n": Parameter("9", "int")}).out
    desk.write(text, False)
    assert desk.ran("--n", "5").values == {}


def test_chained_commands_and_a_function_of_the_group_alone(desk: Desk):
    desk.write("""
import click
INIT
@click.group(chain=True, invoke_without_command=True)
@click.option("--seed", default=1)
def cli(seed):
    print("seed", seed)
@cli.command()
@click.option("--lr", default=0.1)
def fit(lr):
    print("fit", lr)
@cli.command("say-it")
@click.argument("word")
def say(word):
    print("say", word)
cli()
""")
    first = desk.ran("--seed", "2", "fit", "--lr", "0.5", "say-it", "hello")
    assert first.values == {
        "Args/seed": "2", "Args/command": "fit say-it", "Args/fit/lr": "0.5", "Args/say-it/word": "hello"
    }  # fmt: skip
    assert desk.again(first, {"Args/say-it/word": "--bye"}).out == "seed 2\nfit 0.5\nsay --bye\n"
    assert desk.again(first, {"Args/command": "say-it"}).out == "seed 2\nsay hello\n"
    none = desk.again(first, {"Args/command": "fits"})
    assert none.code == 2 and "No such command 'fits'" in none.err
    alone = desk.ran("--seed", "3")
    assert alone.values == {"Args/seed": "3"}
    assert desk.again(alone, {"Args/seed": "4"}).out == "seed 4\n"


def test_a_command_of_an_installed_package_is_left_alone(desk: Desk):
    package = desk.folder / "site-packages" / "served"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import click\n@click.command()\n@click.argument('app')\n@click.option('--port', default=80)\n"
        "def main(app, port):\n    exec(open(app).read())\n"
    )
    app = desk.folder / "app.py"
    app.write_text(INIT.format(True))
    desk.write("import sys\nsys.path.insert(0, 'site-packages')\nimport served\nserved.main()")
    inside = desk.ran("app.py", "--port", "1")
    assert inside.values == {}
    assert inside.task.execution.arguments == ("app.py", "--port", "1")
    desk.write("import sys\nINIT\nsys.path.insert(0, 'site-packages')\nimport served\nserved.main(['/dev/null'])")
    assert desk.ran("x").values == {}


def test_a_script_that_cannot_begin_again_says_that_the_edit_did_not_reach_it(desk: Desk):
    text = "import click, sys\n@click.command()\n@click.option('--lr', default=0.1)\ndef main(lr):\n"
    desk.write(text + "    INIT\n    print('lr', lr)\nmain()")
    first = desk.ran("--lr", "0.2")
    desk.write(text + "    sys.orig_argv.append('x'); INIT\n    print('lr', lr)\nmain()")
    late = desk.again(first, {"Args/lr": "0.5"})
    assert late.out == "lr 0.2\n", late.err
    assert "values edited in the task did not reach the script" in late.err


CLICK_SECRET = """
import click
@click.command()
@click.argument('data')
@click.option('--token', default='')
@click.option('--pin', hide_input=True, default='')
def main(data, token, pin):
    INIT
    print(data, len(token), len(pin))
main()
"""
FIRE_SECRET = """
import fire
def main(data, token='', pin=''):
    INIT
    print(data, len(token), len(str(pin)))
fire.Fire(main)
"""
JSONARGPARSE_SECRET = """
from jsonargparse import CLI
def main(data: str, token: str = '', pin: str = ''):
    INIT
    print(data, len(token), len(pin))
CLI(main)
"""


@pytest.mark.parametrize("script", [CLICK_SECRET, FIRE_SECRET, JSONARGPARSE_SECRET])
def test_a_command_line_that_was_parsed_already_is_kept_without_its_secrets(desk: Desk, script: str):
    desk.write(script)
    words = ["--token=hunter2", "--pin=#+#+", "digits"] if "click" in script else ["--token=hunter2", "digits"]
    first = desk.ran(*words)
    assert first.out == f"digits 7 {4 if 'click' in script else 0}\n"
    assert first.values == {"Args/data": "digits"} | ({} if "click" in script else {"Args/pin": ""})
    assert "hunter2" not in repr(first.task) and "#+#+" not in repr(first.task)
    assert desk.again(first, {}).out == "digits 0 0\n"
    assert desk.again(first, {"Args/data": "faces"}).out == "faces 0 0\n"


def test_a_parameter_that_is_called_command_is_no_command(desk: Desk):
    text = "import click\nINIT\n@click.command()\n@click.option('--command')\ndef main(command):\n    print(command)\nmain()"
    desk.write(text)
    first = desk.ran("--command", "a b")
    assert first.values == {"Args/command": "a b"}
    assert desk.again(first, {"Args/command": "c d"}).out == "c d\n"
    group = "@main.command()\ndef sub():\n    print('sub')\nmain()"
    desk.write(text.replace("@click.command()", "@click.group()").removesuffix("main()") + group)
    second = desk.ran("--command", "a", "sub")
    assert second.values == {"Args/command": "a", "Args/subcommand": "sub"}
    assert desk.again(second, {"Args/command": "b"}).out == "b\nsub\n"


# --- Fire ----------------------------------------------------------------------------------------------------


def test_fire_reads_texts_as_the_types_that_they_had(desk: Desk):
    desk.write("""
import fire
INIT
def main(a="1", b=1, c=None, d=(1, "2"), e={"k": True}, *rest, kw=1.5, **more):
    print(repr((a, b, c, d, e, rest, kw, more)))
fire.Fire(main)
""")
    first = desk.ran("--a='7'", "--d=[3,x]", "--extra=[true]", "--kw", "2", "--c=None")
    assert first.code == 0, first.err
    assert first.values == {
        "Args/a": "7",
        "Args/b": "1",
        "Args/c": "",
        "Args/d": '[3, "x"]',
        "Args/e": '{"k": true}',
        "Args/rest": "[]",
        "Args/kw": "2",
        "Args/extra": '["true"]',
    }
    again = desk.again(first, {})
    assert again.out == first.out
    edited = desk.again(first, {"Args/a": "8", "Args/b": "2", "Args/e": '{"k": false}', "Args/rest": "[5, 6]"})
    assert edited.out == "('8', 2, None, [3, 'x'], {'k': False}, (5, 6), 2, {'extra': ['true']})\n"


@pytest.mark.parametrize("late", [False, True])
def test_a_fire_value_that_does_not_fit_is_fires_own_error(desk: Desk, late: bool):
    first, inside = ("", "INIT") if late else ("INIT", "pass")
    desk.write(f"import fire\n{first}\ndef main(epochs=3):\n    {inside}\n    print(epochs)\nfire.Fire(main)")
    ended = desk.again(desk.ran(), {"Args/epochs": "many"})
    assert ended.code == 2
    assert "ERROR: " in ended.err and "argument epochs: expected a whole number, got 'many'" in ended.err
    assert "Traceback" not in ended.err


def test_fire_members_one_after_the_other_and_its_own_flags(desk: Desk):
    desk.write("""
import fire
class Sum:
    def __init__(self, start=0):
        self.total = start
    def add(self, number):
        self.total += number
        return self
    def show(self, word="is"):
        INIT
        print(word, self.total)
fire.Fire(Sum)
""")
    first = desk.ran("add", "2", "-", "show", "--word=now", "--start=5", "--", "--separator=-")
    if first.code:  # arguments of the constructor come first
        first = desk.ran("--start=5", "-", "add", "2", "-", "show", "--word=now", "--", "--separator=-")
    assert first.out == "now 7\n", first.err
    assert first.values == {
        "Args/start": "5",
        "Args/add/number": "2",
        "Args/command": "add.show",
        "Args/add.show/word": "now",
    }
    assert desk.again(first, {}).out == "now 7\n"
    assert desk.again(first, {"Args/add/number": "10"}).out == "now 15\n"


# --- absl ----------------------------------------------------------------------------------------------------

ABSL = """
import enum
from absl import app, flags
INIT_FIRST
class Size(enum.Enum):
    SMALL = 1
    BIG = 2
flags.DEFINE_integer("epochs", 3, "passes", upper_bound=10)
flags.DEFINE_enum_class("size", Size.SMALL, Size, "how big")
flags.DEFINE_string("api_key", "", "secret")
flags.DEFINE_multi_string("tag", [], "tags", short_name="t")
def main(argv):
    INIT_INSIDE
    print(argv[1:], flags.FLAGS.epochs, flags.FLAGS.size, flags.FLAGS.tag, len(flags.FLAGS.api_key))
app.run(main)
"""


def absl(*, inside: bool) -> str:
    return ABSL.replace("INIT_FIRST", "" if inside else "INIT").replace(
        "INIT_INSIDE", "INIT" if inside else "pass"
    )


@pytest.mark.parametrize("inside", [False, True])
def test_absl_flags_without_secrets_and_of_odd_kinds(desk: Desk, inside: bool):
    desk.write(absl(inside=inside))
    first = desk.ran("--size=big", "-t", "a", "--tag=b", "--", "--left")
    assert first.out == "['--left'] 3 Size.BIG ['a', 'b'] 0\n", first.err
    assert first.values == {
        "TF_DEFINE/epochs": "3", "TF_DEFINE/size": "big", "TF_DEFINE/tag": '["a", "b"]'
    }  # fmt: skip
    again = desk.again(first, {"TF_DEFINE/epochs": "9", "TF_DEFINE/size": "small", "TF_DEFINE/tag": '["c"]'})
    assert again.out == "['--left'] 9 Size.SMALL ['c'] 0\n", again.err
    unknown = desk.again(first, {"TF_DEFINE/gone": Parameter("1", "int")})
    assert "the script defines no flag 'gone'" in unknown.err
    wrong = desk.again(first, {"TF_DEFINE/epochs": "11"})
    assert wrong.code == 1
    assert (
        "FATAL Flags parsing error:" in wrong.err and "--epochs=11" in wrong.err and "Traceback" not in wrong.err
    )


def test_a_secret_flag_on_the_command_line_is_recorded_nowhere(desk: Desk):
    desk.write(absl(inside=True))
    first = desk.ran("--api_key=hunter2")
    assert first.task.execution.arguments == ()
    assert "hunter2" not in repr(first.task)
    assert "the command line is not recorded, since it holds a secret" in first.err


def test_flags_that_a_library_parsed_for_itself_do_not_keep_the_command_line(desk: Desk):
    package = desk.folder / "site-packages" / "flagged"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from absl import flags\nflags.FLAGS(['flagged'])\n")
    desk.write(
        "import argparse, sys\nsys.path.insert(0, 'site-packages')\nimport flagged\nINIT\n"
        "parser = argparse.ArgumentParser()\nparser.add_argument('--lr', type=float)\nprint(parser.parse_args().lr)"
    )
    first = desk.ran("--lr", "1")
    assert first.values == {"Args/lr": "1.0"}
    assert first.task.execution.arguments == ()
    assert desk.again(first, {"Args/lr": "2"}).out == "2.0\n"


def test_a_rank_below_a_worker_reads_the_edited_values_too(desk: Desk):
    text = "import fire, os\nINIT\nfire.Fire(lambda lr=0.1: print(lr))"
    desk.write(text)
    first = desk.ran()
    desk.write("import os\nos.environ['RANK'] = '1'\n" + text)
    assert desk.again(first, {"Args/lr": "0.5"}).out == "0.5\n"


# --- jsonargparse --------------------------------------------------------------------------------------------


def test_a_jsonargparse_function_that_calls_task_init_begins_again(desk: Desk):
    desk.write("""
from jsonargparse import CLI
def main(data: str, lr: float = 0.1, sizes: list[int] = [1], name: str = "true", api_key: str = ""):
    INIT
    print(data, lr, sizes, name)
CLI(main)
""")
    first = desk.ran("digits", "--lr", "0.2")
    assert first.values == {"Args/data": "digits", "Args/lr": "0.2", "Args/sizes": "[1]", "Args/name": "true"}
    assert first.given == {"Args/data", "Args/lr"}
    assert first.task.execution.arguments == ("digits", "--lr", "0.2")
    assert desk.again(first, {}).out == "digits 0.2 [1] true\n"
    edited = desk.again(first, {"Args/sizes": "[2, 3]", "Args/name": "7", "Args/data": "faces"})
    assert edited.out == "faces 0.2 [2, 3] 7\n"
    assert "the script begins again with the command line" in edited.err
    wrong = desk.again(first, {"Args/lr": "fast"})
    assert wrong.code == 2
    assert "error: " in wrong.err and "lr" in wrong.err and "fast" in wrong.err and "Traceback" not in wrong.err


def test_a_jsonargparse_parser_with_nested_keys_and_a_class_that_is_changed(desk: Desk):
    desk.write("""
from dataclasses import dataclass
from jsonargparse import ArgumentParser
INIT
class Base: pass
class Small(Base):
    def __init__(self, width: int = 1): self.text = f"small {width}"
class Deep(Base):
    def __init__(self, depth: int = 2): self.text = f"deep {depth}"
@dataclass
class Data:
    rows: int = 3
    split: float | None = None
parser = ArgumentParser()
parser.add_argument("--config", action="config")
parser.add_argument("--data", type=Data, default=Data())
parser.add_argument("--model", type=Base, required=True)
build = getattr(parser, "instantiate", None) or parser.instantiate_classes  # its name before 4.49
made = build(parser.parse_args())
print(made.data, made.model.text)
""")
    first = desk.ran("--model=Small", "--model.width=4", "--data.rows", "9")
    assert first.code == 0, first.err
    assert first.values == {
        "Args/data.rows": "9",
        "Args/data.split": "",
        "Args/model.class_path": "__main__.Small",
        "Args/model.init_args.width": "4",
    }
    assert desk.again(first, {}).out == first.out == "Data(rows=9, split=None) small 4\n"
    other = {"Args/model.class_path": "__main__.Deep", "Args/model.init_args.width": None}
    depth = {"Args/model.init_args.depth": Parameter("5", "int"), "Args/data.split": "0.5"}
    edited = desk.again(first, {**other, **depth})
    assert edited.out == "Data(rows=9, split=0.5) deep 5\n", edited.err


@pytest.mark.parametrize(
    ("framework", "body"),
    [
        ("click", "click.command()(click.option('--n', default=1)(lambda n: print('n', n))).main([])"),
        ("fire", "fire.Fire(lambda n=1: print('n', n))"),
    ],
)
def test_a_fault_of_a_binding_is_listed_and_never_reaches_the_script(desk: Desk, framework: str, body: str):
    break_it = "CommandLine.report = lambda self, found, section='': 1 / 0"
    desk.write(f"import {framework}\nfrom taskloom.sdk.commandline import CommandLine\n{break_it}\nINIT\n{body}")
    done = desk.ran()
    assert (done.code, done.out) == (0, "n 1\n"), done.err
    assert done.err.count(f"what {framework} did was not recorded: ZeroDivisionError") == 1
    assert done.task.runtime["bindings"][framework]["fault"] == "ZeroDivisionError: division by zero"


# --- argparse --------------------------------------------------------------------------------------------------


def test_flags_that_hydra_and_fire_read_with_argparse_are_not_the_scripts(desk: Desk):
    desk.write("import fire\nINIT\nfire.Fire({'run': lambda n=1: print('n', n)})")
    assert desk.ran("run", "--n=2").values == {"Args/command": "run", "Args/run/n": "2"}


def test_switches_of_frameworks_turn_each_binding_off(desk: Desk):
    desk.write(
        "from taskloom import Task\nimport fire\n"
        "Task.init('unit', 'lines', auto_connect_frameworks={'fire': False})\nfire.Fire(lambda n=1: print(n))"
    )
    off = desk.ran("--n=2")
    assert off.values == {}
    assert off.task.execution.arguments == ("--n=2",)  # nothing else stands for it
