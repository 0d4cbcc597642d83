"""Arguments: what argparse reads is told, and what was edited comes back in the argument's own type."""

from __future__ import annotations

import argparse
import enum
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from taskloom.domain.parameters import Parameter, encode
from taskloom.sdk.capture.arguments import ArgumentHook
from taskloom.sdk.capture.chosen import Chosen


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def true_or_false(text: str) -> bool:
    return text.lower() in {"yes", "true"}


class Watch:
    """A hook with what it told; `edited` are the values of the task under a worker."""

    def __init__(self) -> None:
        self.told: list[dict[str, Parameter]] = []
        self.edited: dict[str, Parameter] | None = None
        self.hooks: list[ArgumentHook] = []

    def overrides(self) -> Mapping[str, Parameter] | None:
        return self.edited

    def on(self, options: bool | dict[str, bool] = True, **edited: Any) -> ArgumentHook:
        if edited:
            self.edited = {n: v if isinstance(v, Parameter) else encode(v) for n, v in edited.items()}
        hook = ArgumentHook(self.told.append, self.overrides, Chosen.of(options))
        hook.install()
        self.hooks.append(hook)
        return hook

    def values(self) -> dict[str, tuple[str, str]]:
        """The only report, as text and type."""
        (told,) = self.told
        return {name: (p.value, p.type) for name, p in told.items()}


@pytest.fixture
def watch() -> Iterator[Watch]:
    original = argparse.ArgumentParser.parse_known_args
    made = Watch()
    yield made
    for hook in reversed(made.hooks):
        hook.undo()
    assert argparse.ArgumentParser.parse_known_args is original


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    made.add_argument("--lr", type=float, default=0.1, help="learning rate")
    made.add_argument("--epochs", type=int, default=3)
    made.add_argument("--name")
    made.add_argument("--fast", action="store_true")
    made.add_argument("--size", choices=["s", "m"], default="s")
    return made


def test_values_and_defaults_are_told_with_types_and_help(watch: Watch):
    watch.on()
    parser().parse_args(["--lr", "0.5", "--name", "x"])
    assert watch.told == [
        {
            "lr": Parameter("0.5", "float", "learning rate", given=True),
            "epochs": Parameter("3", "int"),
            "name": Parameter("x", "str", given=True),
            "fast": Parameter("False", "bool"),
            "size": Parameter("s", "str"),
        }
    ]


def test_a_parser_made_before_the_hook_is_watched_too(watch: Watch):
    made = parser()
    watch.on()
    made.parse_args([])
    assert watch.values()["epochs"] == ("3", "int")


def test_after_undo_nothing_is_told(watch: Watch):
    watch.on().undo()
    parser().parse_args([])
    assert watch.told == []


@pytest.mark.parametrize(
    ("definition", "line", "told"),
    [
        ({"args": ["src"]}, ["here"], ("here", "str")),
        ({"args": ["--n"], "nargs": "+", "type": int}, ["--n", "1", "2"], ("[1, 2]", "list")),
        ({"args": ["n"], "nargs": "*"}, [], ("[]", "list")),
        ({"args": ["--n"], "nargs": "?", "const": 7, "type": int}, ["--n"], ("7", "int")),
        ({"args": ["--n"], "action": "append", "type": float}, ["--n", "1", "--n", "2"], ("[1.0, 2.0]", "list")),
        ({"args": ["--n"], "action": "extend", "nargs": "+"}, ["--n", "a", "b"], ('["a", "b"]', "list")),
        ({"args": ["-n"], "action": "count", "default": 0}, ["-nnn"], ("3", "int")),
        ({"args": ["--n"], "action": "store_const", "const": 5}, ["--n"], ("5", "int")),
        ({"args": ["--n"], "action": argparse.BooleanOptionalAction}, ["--no-n"], ("False", "bool")),
        ({"args": ["--n"], "default": None}, [], ("", "none")),
        ({"args": ["--n"], "type": true_or_false}, ["--n", "yes"], ("yes", "bool")),
        ({"args": ["--n"], "type": Colour}, ["--n", "red"], ("red", "str")),
        ({"args": ["--n"], "type": Colour, "default": "blue"}, [], ("blue", "str")),
        ({"args": ["--n"], "type": Path}, ["--n", "a/b"], ("a/b", "str")),
        ({"args": ["--n"], "type": lambda text: text.split(",")}, ["--n", "a,b"], ("a,b", "list")),
        ({"args": ["--n"], "type": Colour, "nargs": 2}, ["--n", "red", "blue"], ('["red", "blue"]', "list")),
        ({"args": ["--n"], "default": [1, 2]}, [], ("[1, 2]", "list")),
        ({"args": ["n"], "nargs": "..."}, ["1", "--x"], ('["1", "--x"]', "list")),
    ],
)
def test_every_kind_comes_back_as_it_was(
    watch: Watch, definition: dict[str, Any], line: list[str], told: tuple[str, str]
):
    """Told by one run; the worker's run of the same task, without a command line, gets equal values."""

    def parse(arguments: list[str]) -> dict[str, Any]:
        options = dict(definition)
        made = argparse.ArgumentParser()
        made.add_argument(*options.pop("args"), **options)
        return vars(made.parse_args(arguments))

    first = watch.on()
    here = parse(line)
    (name,) = watch.told[0]
    assert watch.values()[name] == told or told[1] == "list"
    assert watch.told[0][name].value == told[0]
    first.undo()
    watch.on(**watch.told[0])
    there = parse([])
    assert there == here
    assert watch.told[1][name].value == told[0]


def test_an_argument_without_default_is_told_only_when_given(watch: Watch):
    watch.on()
    made = argparse.ArgumentParser()
    made.add_argument("--n", default=argparse.SUPPRESS)
    made.parse_args([])
    made.parse_args(["--n", "1"])
    assert watch.told == [{"n": Parameter("1", "str", given=True)}]


def test_edited_values_take_the_arguments_own_type(watch: Watch):
    watch.on(lr="0.25", epochs="7", name="new", fast="yes", size="m")
    result = parser().parse_args([])
    assert vars(result) == {"lr": 0.25, "epochs": 7, "name": "new", "fast": True, "size": "m"}
    assert watch.values()["fast"] == ("True", "bool")


def test_the_workers_own_command_line_wins(watch: Watch):
    watch.on(lr=0.25, epochs=9)
    result = parser().parse_args(["--lr", "0.75"])
    assert (result.lr, result.epochs) == (0.75, 9)


def test_required_arguments_come_from_the_task(watch: Watch):
    made = argparse.ArgumentParser()
    made.add_argument("source")
    made.add_argument("targets", nargs="+")
    made.add_argument("--rate", type=float, required=True)
    group = made.add_mutually_exclusive_group(required=True)
    group.add_argument("--left", action="store_true")
    group.add_argument("--right", action="store_true")
    watch.on(source="a", targets=["b", "c"], rate=2.0, left=True, right=False)
    result = made.parse_args([])
    assert (result.source, result.targets, result.rate, result.left) == ("a", ["b", "c"], 2.0, True)
    watch.edited = None
    with pytest.raises(SystemExit):
        made.parse_args([])


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("lr", "fast", ["--lr", "float", "'fast'"]),
        ("epochs", "0.5", ["--epochs", "int", "'0.5'"]),
        ("size", "xl", ["--size", "'xl'", "s", "m"]),
        ("fast", "perhaps", ["--fast", "true or false", "'perhaps'"]),
    ],
)
def test_a_value_that_does_not_fit_ends_the_program(
    watch: Watch, capsys: pytest.CaptureFixture[str], name: str, text: str, expected: list[str]
):
    watch.on(**{name: text})
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert all(word in said for word in expected), said


def test_a_count_that_does_not_fit_names_both_numbers(watch: Watch, capsys: pytest.CaptureFixture[str]):
    made = argparse.ArgumentParser()
    made.add_argument("--pair", nargs=2, type=int)
    watch.on(pair=[1, 2, 3])
    with pytest.raises(SystemExit):
        made.parse_args([])
    assert "expected 2 arguments, got 3" in capsys.readouterr().err


def test_lists_are_read_as_people_write_them(watch: Watch):
    for text in ("[4, 5]", "(4, 5)", "4, 5", "4 5"):
        made = argparse.ArgumentParser()
        made.add_argument("--n", nargs="*", type=int, default=[1])
        hook = watch.on(n=text)
        assert made.parse_args([]).n == [4, 5]
        hook.undo()


def test_none_edited_to_a_number_and_back(watch: Watch):
    made = argparse.ArgumentParser()
    made.add_argument("--limit", type=int)
    watch.on(limit=Parameter("12", "none"))
    assert made.parse_args([]).limit == 12
    watch.edited = {"limit": Parameter("None", "int")}
    assert made.parse_args([]).limit is None


def test_values_that_were_not_edited_stay_the_scripts_own_objects(watch: Watch):
    marker = Colour.RED
    made = argparse.ArgumentParser()
    made.add_argument("--colour", type=Colour, default=marker)
    watch.on(colour=encode(marker))
    assert made.parse_args([]).colour is marker


def test_bool_means_what_was_typed(watch: Watch):
    made = argparse.ArgumentParser()
    made.add_argument("--flag", type=bool, default=True)
    watch.on(flag="False")
    assert made.parse_args([]).flag is False


def test_arguments_that_share_a_variable(watch: Watch):
    def made() -> argparse.ArgumentParser:
        shared = argparse.ArgumentParser()
        shared.add_argument("--adam", dest="optimiser", action="store_const", const="adam", default="sgd")
        shared.add_argument("--rms", dest="optimiser", action="store_const", const="rms")
        return shared

    watch.on(optimiser="adam")
    assert made().parse_args([]).optimiser == "adam"
    assert made().parse_args(["--rms"]).optimiser == "rms"


def subcommands(dest: str | None = None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("folder")
    commands = made.add_subparsers(required=True, **({"dest": dest} if dest else {}))
    train = commands.add_parser("train")
    train.add_argument("--lr", type=float, default=0.1)
    train.add_argument("data")
    train.set_defaults(run="train!")
    commands.add_parser("test").add_argument("--limit", type=int)
    return made


@pytest.mark.parametrize("dest", [None, "what"])
def test_a_subcommand_is_told_once_with_its_arguments_and_entered_again(watch: Watch, dest: str | None):
    first = watch.on()
    here = vars(subcommands(dest).parse_args(["here", "train", "--lr", "0.5", "digits"]))
    (told,) = watch.told
    assert {n: p.value for n, p in told.items()} == {
        "seed": "1",
        "folder": "here",
        dest or "command": "train",
        "lr": "0.5",
        "data": "digits",
    }
    first.undo()
    watch.on(**{**told, "lr": Parameter("0.9", "float")})
    there = subcommands(dest).parse_args([])
    assert vars(there) == {**here, "lr": 0.9}


def test_a_subcommand_that_does_not_exist_is_refused(watch: Watch, capsys: pytest.CaptureFixture[str]):
    watch.on(folder="x", command="tarin")
    with pytest.raises(SystemExit):
        subcommands().parse_args([])
    assert "'tarin'" in capsys.readouterr().err


def test_names_can_be_switched_off_and_on(watch: Watch):
    watch.on({"lr": False})
    parser().parse_args([])
    assert "lr" not in watch.told[0] and "epochs" in watch.told[0]
    watch.hooks[0].undo()
    watch.on({"*": False, "lr": True})
    parser().parse_args([])
    assert set(watch.told[1]) == {"lr"}


def test_a_name_that_is_off_is_not_edited_either(watch: Watch):
    watch.on({"lr": False}, lr=0.5)
    assert parser().parse_args([]).lr == 0.1


def test_secrets_are_left_out_unless_asked_for(watch: Watch):
    made = argparse.ArgumentParser()
    for name in ("--password", "--api-key", "--hf_token", "--token", "--max-tokens", "--pad-token"):
        made.add_argument(name, default="hunter2")
    watch.on()
    made.parse_args([])
    assert set(watch.told[0]) == {"max_tokens", "pad_token"}
    watch.hooks[0].undo()
    watch.on({"password": True})
    made.parse_args([])
    assert "password" in watch.told[1]


def test_parse_known_and_intermixed(watch: Watch):
    watch.on()
    made = argparse.ArgumentParser()
    made.add_argument("--n", type=int)
    made.add_argument("rest", nargs="*")
    assert made.parse_known_args(["--n", "1", "--other"])[1] == ["--other"]
    result = made.parse_intermixed_args(["a", "--n", "2", "b"])
    assert result.rest == ["a", "b"]
    assert watch.told[-1]["rest"].value == '["a", "b"]'


def test_a_failing_report_never_reaches_the_script(caplog: pytest.LogCaptureFixture):
    def refuse(found: dict[str, Parameter]) -> None:
        raise OSError("no room")

    hook = ArgumentHook(refuse, lambda: None, Chosen.of(True))
    hook.install()
    try:
        assert parser().parse_args([]).epochs == 3
    finally:
        hook.undo()
    assert "were not recorded" in caplog.text


def test_a_parser_of_an_installed_package_is_left_alone(watch: Watch, tmp_path: Path):
    package = tmp_path / "site-packages/somebody.py"
    package.parent.mkdir()
    package.write_text("def main(parser, args):\n    return parser.parse_args(args)\n")
    namespace: dict[str, Any] = {}
    exec(compile(package.read_text(), str(package), "exec"), namespace)
    watch.on()
    namespace["main"](parser(), ["--lr", "5"])
    assert watch.told == []


def test_a_parse_that_is_over_is_found_and_edited_in_place(watch: Watch):
    made = parser()
    result = made.parse_args(["--lr", "0.5"])
    hook = watch.on(lr=0.75, epochs="9")
    assert hook.parsed_early
    assert watch.told[0]["lr"] == Parameter("0.75", "float", "learning rate")
    assert (result.lr, result.epochs) == (0.75, 9)


def test_a_parse_that_is_over_is_found_without_its_parser(watch: Watch):
    def parse() -> argparse.Namespace:
        return parser().parse_args(["--epochs", "4"])

    result = parse()
    watch.on(epochs="5")
    assert watch.told[0]["epochs"] == Parameter("5", "int")
    assert result.epochs == 5


def test_without_an_early_parse_the_command_line_is_not_needed(watch: Watch):
    assert not watch.on().parsed_early


def test_a_real_command_line(tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text(
        "import argparse\n"
        "from taskloom.sdk.capture.arguments import ArgumentHook\n"
        "from taskloom.sdk.capture.chosen import Chosen\n"
        "hook = ArgumentHook(lambda found: print({n: p.value for n, p in found.items()}), lambda: None, Chosen.of(True))\n"
        "hook.install()\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--größe', type=int)\n"
        "parser.parse_args()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), "--größe", "3"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "{'größe': '3'}\n"
