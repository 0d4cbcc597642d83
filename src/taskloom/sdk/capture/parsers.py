"""Reading one `argparse` parser: which arguments it has, what a run gave, and how an edited text becomes a value.

An edited text goes through the argument's own type, count and choices, so that the parser means by it what it means
by the same text on a command line. Whose parser it is and when it is looked at: see arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import msgspec

from taskloom.domain.errors import BadInput
from taskloom.domain.parameters import Parameter, cast_like, decode, encode, items

COMMAND = "command"  # the parameter that names a subcommand whose parser keeps it in no variable
_PLAIN = (str, int, float, bool, None)

# --- reading a parser --------------------------------------------------------------------------------------

_TALK = (
    argparse._HelpAction,  # pyright: ignore[reportPrivateUsage]
    argparse._VersionAction,  # pyright: ignore[reportPrivateUsage]
)
Given = dict[argparse.Action, list[str]]


def actions_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Those that leave a value behind; help and version do not."""
    actions: list[argparse.Action] = cast("Any", parser)._actions
    return [a for a in actions if is_subparsers(a) or not (a.dest == argparse.SUPPRESS or isinstance(a, _TALK))]


def is_subparsers(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)  # pyright: ignore[reportPrivateUsage]


def name_of(action: argparse.Action) -> str:
    return COMMAND if action.dest == argparse.SUPPRESS else action.dest


@contextmanager
def watched(parser: argparse.ArgumentParser) -> Generator[Given]:
    """Note which arguments the command line gives, and their texts, while it is parsed."""
    given: Given = {}
    seam = cast("Any", parser)
    inner = seam._get_values

    def get_values(action: argparse.Action, texts: list[str]) -> Any:
        if texts or action.option_strings:
            given.setdefault(action, []).extend(text for text in texts if text != "--")
        return inner(action, texts)

    seam._get_values = get_values
    try:
        yield given
    finally:
        if vars(parser).get("_get_values") is get_values:
            del seam._get_values


@contextmanager
def relaxed(parser: argparse.ArgumentParser, overrides: Mapping[str, Parameter]) -> Generator[None]:
    """A required argument that was edited need not be on the command line."""
    groups: list[Any] = cast("Any", parser)._mutually_exclusive_groups
    known = [action for action in actions_of(parser) if action.required and name_of(action) in overrides]
    met = [g for g in groups if g.required and any(name_of(a) in overrides for a in g._group_actions)]
    for one in (*known, *met):
        one.required = False
    try:
        yield
    finally:
        for one in (*known, *met):
            one.required = True


def parameter(action: argparse.Action, value: Any, given: list[str] | None) -> Parameter:
    """The value as text that the argument's own type would read again."""
    help_text = action.help if action.help and action.help != argparse.SUPPRESS else ""
    told = encode(value, help_text)
    if action.type in _PLAIN or given is None or not action.type:
        if told.type == "str" and not isinstance(value, str) and isinstance(action.default, str):
            told = msgspec.structs.replace(told, value=action.default)  # read by its type when it was parsed
        return told
    if isinstance(value, list | tuple) and not (action.nargs is None and len(given) == 1):
        return Parameter(json.dumps(given), "list", help_text)
    return msgspec.structs.replace(told, value=given[-1] if given else told.value)


def was_given(action: argparse.Action, present: Any) -> bool:
    """Whether the command line gave it, of a parse that nobody watched."""
    if not action.option_strings:
        return present != action.default
    words = [word.partition("=")[0] for word in sys.argv[1:] if word.startswith("-")]
    short = tuple(option for option in action.option_strings if len(option) == 2)
    return any(w in action.option_strings or (w.startswith(short) and not w.startswith("--")) for w in words)


def raw_texts(action: argparse.Action, edited: Parameter) -> list[str]:
    single = action.nargs in {None, "?"} and not isinstance(action, _APPEND)
    return [edited.value] if single else items(edited.value)


# --- giving edited values back -----------------------------------------------------------------------------

_APPEND = argparse._AppendAction  # pyright: ignore[reportPrivateUsage]
_EXTEND = argparse._ExtendAction  # pyright: ignore[reportPrivateUsage] - a kind of append


def cast_text(parser: argparse.ArgumentParser, action: argparse.Action, edited: Parameter, present: Any) -> Any:
    """The edited text through the argument's own type, count and choices. Raises ArgumentError, or BadInput."""
    text = edited.value
    if text in {"", "None"} and (
        edited.type == "none" or (action.default is None and action.type not in {None, str})
    ):
        return None
    if isinstance(action, argparse._StoreConstAction):  # pyright: ignore[reportPrivateUsage]
        return _constant(action, text)
    if isinstance(action, argparse._CountAction):  # pyright: ignore[reportPrivateUsage]
        return cast_like(text, 0)
    if action.type is bool and action.nargs in {None, "?"}:
        return cast_like(text, False)  # bool("False") is True, which nobody who types it means
    if action.nargs == 0:
        return cast_like(text, decode(edited) if edited.type and not isinstance(present, bool) else present)
    read = cast("Any", parser)

    def one(word: str) -> Any:
        value = read._get_value(action, word)
        if action.choices is not None:
            read._check_value(action, value)
        return value

    if isinstance(action, _APPEND) and not isinstance(action, _EXTEND) and action.nargs is not None:
        return [[one(word) for word in items(row)] for row in items(text)]
    if isinstance(action, _APPEND):
        return [one(word) for word in items(text)]
    if action.nargs in {None, "?"}:
        return one(text)
    words = items(text)
    if isinstance(action.nargs, int) and len(words) != action.nargs:
        raise argparse.ArgumentError(action, f"expected {action.nargs} arguments, got {len(words)}")
    if action.nargs == "+" and not words:
        raise argparse.ArgumentError(action, "expected at least one argument")
    return [one(word) for word in words]


def cast_by_any(
    parser: argparse.ArgumentParser, actions: list[argparse.Action], edited: Parameter, present: Any
) -> Any:
    """Several arguments may share one variable (`--fast`, `--slow`): the first that takes the text reads it."""
    for action in actions[:-1]:
        try:
            return cast_text(parser, action, edited, present)
        except (argparse.ArgumentError, BadInput):
            continue
    return cast_text(parser, actions[-1], edited, present)


def _constant(action: argparse.Action, text: str) -> Any:
    for value in (action.const, action.default):
        if encode(value).value == text:
            return value
    if isinstance(action.const, bool):
        return cast_like(text, action.const)
    raise argparse.ArgumentError(
        action, f"invalid choice: {text!r} (choose from {action.const!r}, {action.default!r})"
    )


def choose_command(parser: argparse.ArgumentParser, action: Any, command: str, result: Any) -> None:
    """Enter the subcommand as if the command line had named it."""
    cast("Any", parser)._check_value(action, command)
    action(parser, result, [command], None)


@contextmanager
def told_by(
    parser: argparse.ArgumentParser | None, action: argparse.Action | None, edited: Parameter, name: str = ""
) -> Generator[None]:
    """A value that does not fit ends the program in argparse's own way."""
    try:
        yield
    except (argparse.ArgumentError, BadInput) as error:
        problem = (
            error if isinstance(error, argparse.ArgumentError) else argparse.ArgumentError(action, str(error))
        )
        where = "" if action else f"argument {name}: "
        message = f"{where}{problem} (the value {edited.value!r} was edited in the task)"
        if parser is None:
            sys.stderr.write(f"error: {message}\n")
            sys.exit(2)
        if not getattr(parser, "exit_on_error", True):
            raise problem from None
        parser.error(message)
