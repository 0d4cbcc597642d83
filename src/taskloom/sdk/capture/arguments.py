"""Command line arguments: what `argparse` read is told as parameters; edited values are given back to it.

While the hook is installed every outermost parse is reported once, whenever its parser was made, with the
arguments of the subcommands that it chose. Under a worker the edited values take the place of everything
that the worker's own command line does not give, through the argument's own type, count and choices; one
that does not fit ends the program as argparse does, naming argument, value and what was expected. A value
that was not edited stays the object that the script made.

A parse before `install` is found too, as long as its result is still a variable of a function that is
running or of its module: its values are reported, and edited values are written into that same object. The
parser, if it is a variable too, gives descriptions and types. `parsed_early` then says that the command line
itself must be kept, because a worker needs it to get through the first parse.

Left out: arguments that `options` excludes, and texts whose name says that they are secret (`--api-key`,
`--password`), unless `options` names them with True. A list of arguments that an installed package hands to
its own parser is not the user's, and is left alone.
"""

from __future__ import annotations

import argparse
import ast
import json
import logging
import re
import shlex
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, ModuleType
from typing import Any, cast

import msgspec

from taskloom.domain.errors import BadInput
from taskloom.domain.parameters import Parameter, cast_like, decode, encode

Report = Callable[[dict[str, Parameter]], None]
Overrides = Callable[[], Mapping[str, Parameter] | None]

COMMAND = "command"  # the parameter that names a subcommand whose parser keeps it in no variable
_SECRET = re.compile(
    r"(^|_)(password|passwd|secret|credentials?|(api|access|secret|private)_?key"
    r"|((access|auth|api|hf|hub|bearer|refresh|wandb|github|gitlab)_)token)$|^token$",
    re.IGNORECASE,
)
_PLAIN = (str, int, float, bool, None)
_LAUNCHERS_OWN = frozenset({"local_rank"})  # differs in every process of one run

_log = logging.getLogger("taskloom")


@dataclass
class _Parse:
    """One outermost parse with the parses of subcommands inside it."""

    overrides: Mapping[str, Parameter]
    found: dict[str, Parameter] = field(default_factory=dict[str, Parameter])


class ArgumentHook:
    """Watches argparse from `install` to `undo`. One per task; safe with parses in several threads.

    report     gets what a parse read, by name; never called again for the parses inside it
    overrides  edited values by name, or None when nobody could have edited any
    options    False: nothing; True: everything; a dictionary switches single names, `*` the others
    """

    def __init__(self, report: Report, overrides: Overrides, options: bool | dict[str, bool] = True) -> None:
        self._report = report
        self._overrides = overrides
        self._options = {"*": options} if isinstance(options, bool) else dict(options)
        self._running = threading.local()
        self._original: Any = None
        self._hook: Any = None
        self.parsed_early = False

    def install(self) -> None:
        """Hook every parser there is or will be, and look for a parse that is already over."""
        if self._hook is not None or self._options == {"*": False}:
            return
        original = cast("Any", argparse.ArgumentParser.parse_known_args)

        def parse_known_args(
            parser: argparse.ArgumentParser, args: Sequence[str] | None = None, namespace: Any = None
        ) -> Any:
            inside = getattr(self._running, "parse", None) is not None
            if self._hook is None or not (inside or _is_users(args)):
                return original(parser, args, namespace)
            return self._parse(original, parser, args, namespace)

        self._original, self._hook = original, parse_known_args
        cast("Any", argparse.ArgumentParser).parse_known_args = parse_known_args
        self._look_back()

    def undo(self) -> None:
        """Take the hook away. Where somebody hooked on top of it, it stays in place and does nothing."""
        if cast("Any", argparse.ArgumentParser.parse_known_args) is self._hook:
            cast("Any", argparse.ArgumentParser).parse_known_args = self._original
        self._hook = None

    def _parse(self, original: Any, parser: argparse.ArgumentParser, args: Any, namespace: Any) -> Any:
        outer: _Parse | None = getattr(self._running, "parse", None)
        parse = outer or _Parse(self._edited())
        self._running.parse = parse
        try:
            with _relaxed(parser, parse.overrides), _watched(parser) as given:
                result, rest = original(parser, args, namespace)
            self._give_back(parser, result, given, parse)
            self._collect(parser, result, given, parse)
        finally:
            self._running.parse = outer
        if outer is None:
            self._tell(parse.found)
        return result, rest

    def _edited(self) -> Mapping[str, Parameter]:
        edited = self._overrides() or {}
        return {name: value for name, value in edited.items() if self._wants(name, value.value)}

    def _give_back(self, parser: argparse.ArgumentParser, result: Any, given: _Given, parse: _Parse) -> None:
        """Put the edited values where the command line was silent."""
        silent: dict[str, list[argparse.Action]] = {}
        named = {_name(action) for action in given}
        for action in _actions(parser):
            if _name(action) in parse.overrides and _name(action) not in named:
                silent.setdefault(_name(action), []).append(action)
        for name, actions in silent.items():
            edited = parse.overrides[name]
            if _is_subparsers(actions[0]):
                if edited.value:
                    given[actions[0]] = [edited.value]
                    with _told_by(parser, actions[0], edited):
                        _choose(parser, actions[0], edited.value, result)
                continue
            present = getattr(result, name, None)
            if not _same(edited, present):
                with _told_by(parser, actions[-1], edited):
                    setattr(result, name, _cast_by_any(parser, actions, edited, present))
                given[actions[-1]] = _raw(actions[-1], edited)

    def _collect(self, parser: argparse.ArgumentParser, result: Any, given: _Given, parse: _Parse) -> None:
        for action in _actions(parser):
            name, told = _name(action), None
            if _is_subparsers(action):
                told = Parameter(given[action][0], "str", "subcommand") if action in given else None
            elif hasattr(result, action.dest):
                told = _parameter(action, getattr(result, action.dest), given.get(action))
            if told is not None and self._wants(name, told.value if told.type == "str" else None):
                parse.found[name] = told

    def _wants(self, name: str, text: str | None) -> bool:
        chosen = self._options.get(name)
        if chosen is not None:
            return chosen
        return self._options.get("*", True) and not (text and _SECRET.search(name))

    def _tell(self, found: dict[str, Parameter]) -> None:
        if not found:
            return
        try:
            self._report(found)
        except Exception:  # the tracker's failure is never the script's
            _log.exception("taskloom: the command line arguments were not recorded")

    def _look_back(self) -> None:
        edited = self._edited()
        for parser, result in _early_parses():
            self.parsed_early = True
            values: dict[str, Any] = vars(result)
            actions = _actions(parser) if parser else []
            by_name = {action.dest: action for action in actions if not _is_subparsers(action)}
            found: dict[str, Parameter] = {}
            for name, present in list(values.items()):
                if callable(present) or isinstance(present, ModuleType):
                    continue
                action = by_name.get(name)
                if name in edited and name not in _LAUNCHERS_OWN and not _same(edited[name], present):
                    with _told_by(parser, action, edited[name], name):
                        present = values[name] = (  # noqa: PLW2901
                            _cast(parser, action, edited[name], present)
                            if parser and action
                            else cast_like(edited[name].value, present)
                        )
                told = _parameter(action, present, None) if action else encode(present)
                if self._wants(name, told.value if told.type == "str" else None):
                    found[name] = told
            self._tell(found)


def names_a_secret(argv: Sequence[str]) -> bool:
    """Whether an option of this command line is one whose value nobody should keep (`--api-key`)."""
    options = (word.lstrip("-").partition("=")[0] for word in argv if word.startswith("-"))
    return any(_SECRET.search(option.replace("-", "_")) for option in options)


# --- reading a parser --------------------------------------------------------------------------------------

_TALK = (
    argparse._HelpAction,  # pyright: ignore[reportPrivateUsage]
    argparse._VersionAction,  # pyright: ignore[reportPrivateUsage]
)
_Given = dict[argparse.Action, list[str]]


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Those that leave a value behind; help and version do not."""
    actions: list[argparse.Action] = cast("Any", parser)._actions
    return [a for a in actions if _is_subparsers(a) or not (a.dest == argparse.SUPPRESS or isinstance(a, _TALK))]


def _is_subparsers(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)  # pyright: ignore[reportPrivateUsage]


def _name(action: argparse.Action) -> str:
    return COMMAND if action.dest == argparse.SUPPRESS else action.dest


@contextmanager
def _watched(parser: argparse.ArgumentParser) -> Generator[_Given]:
    """Note which arguments the command line gives, and their texts, while it is parsed."""
    given: _Given = {}
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
def _relaxed(parser: argparse.ArgumentParser, overrides: Mapping[str, Parameter]) -> Generator[None]:
    """A required argument that was edited need not be on the command line."""
    groups: list[Any] = cast("Any", parser)._mutually_exclusive_groups
    known = [action for action in _actions(parser) if action.required and _name(action) in overrides]
    met = [g for g in groups if g.required and any(_name(a) in overrides for a in g._group_actions)]
    for one in (*known, *met):
        one.required = False
    try:
        yield
    finally:
        for one in (*known, *met):
            one.required = True


def _parameter(action: argparse.Action, value: Any, given: list[str] | None) -> Parameter:
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


def _raw(action: argparse.Action, edited: Parameter) -> list[str]:
    single = action.nargs in {None, "?"} and not isinstance(action, _APPEND)
    return [edited.value] if single else _items(edited.value)


# --- giving edited values back -----------------------------------------------------------------------------

_APPEND = argparse._AppendAction  # pyright: ignore[reportPrivateUsage]
_EXTEND = argparse._ExtendAction  # pyright: ignore[reportPrivateUsage] - a kind of append


def _same(edited: Parameter, present: Any) -> bool:
    """Whether the text is what `present` was told as: then nobody edited it."""
    told = encode(present)
    return told.value == edited.value and (edited.type in {"", told.type} or told.type == "str")


def _cast(parser: argparse.ArgumentParser, action: argparse.Action, edited: Parameter, present: Any) -> Any:
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
        return [[one(word) for word in _items(row)] for row in _items(text)]
    if isinstance(action, _APPEND):
        return [one(word) for word in _items(text)]
    if action.nargs in {None, "?"}:
        return one(text)
    words = _items(text)
    if isinstance(action.nargs, int) and len(words) != action.nargs:
        raise argparse.ArgumentError(action, f"expected {action.nargs} arguments, got {len(words)}")
    if action.nargs == "+" and not words:
        raise argparse.ArgumentError(action, "expected at least one argument")
    return [one(word) for word in words]


def _cast_by_any(
    parser: argparse.ArgumentParser, actions: list[argparse.Action], edited: Parameter, present: Any
) -> Any:
    """Several arguments may share one variable (`--fast`, `--slow`): the first that takes the text reads it."""
    for action in actions[:-1]:
        try:
            return _cast(parser, action, edited, present)
        except (argparse.ArgumentError, BadInput):
            continue
    return _cast(parser, actions[-1], edited, present)


def _constant(action: argparse.Action, text: str) -> Any:
    for value in (action.const, action.default):
        if encode(value).value == text:
            return value
    if isinstance(action.const, bool):
        return cast_like(text, action.const)
    raise argparse.ArgumentError(
        action, f"invalid choice: {text!r} (choose from {action.const!r}, {action.default!r})"
    )


def _items(text: str) -> list[str]:
    """`["a", 1]`, `[a, 1]`, `a, 1` and `a 1` are all the words a and 1."""
    for read in (json.loads, ast.literal_eval):
        try:
            value: Any = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list | tuple):
            return [w if isinstance(w, str) else encode(w).value for w in cast("list[Any]", value)]
    inner = text.strip().removeprefix("[").removesuffix("]")
    try:
        return shlex.split(inner.replace(",", " "))
    except ValueError:
        return inner.split()


def _choose(parser: argparse.ArgumentParser, action: Any, command: str, result: Any) -> None:
    """Enter the subcommand as if the command line had named it."""
    cast("Any", parser)._check_value(action, command)
    action(parser, result, [command], None)


@contextmanager
def _told_by(
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


# --- whose parse it is -------------------------------------------------------------------------------------


def _is_users(args: Sequence[str] | None) -> bool:
    """Whether the list of arguments is the user's: the command line, or one that own code made."""
    if args is None or list(args) == sys.argv[1:]:
        return True
    frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_code.co_filename == argparse.__file__:
        if frame.f_code.co_name == "__call__":
            return False  # a subcommand of a parse that was left alone
        frame = frame.f_back
    return frame is None or not _is_installed(frame)


def _is_installed(frame: FrameType) -> bool:
    return bool({"site-packages", "dist-packages"} & set(re.split(r"[\\/]", frame.f_code.co_filename)))


def _early_parses() -> list[tuple[argparse.ArgumentParser | None, argparse.Namespace]]:
    """Results of parses that are over, among the variables of the functions that are running now."""
    parsers: list[argparse.ArgumentParser] = []
    results: list[argparse.Namespace] = []
    seen: set[int] = set()
    frame: FrameType | None = sys._getframe(3)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if _is_installed(frame):
            frame = frame.f_back
            continue
        scopes = [frame.f_globals] if frame.f_locals is frame.f_globals else [frame.f_locals, frame.f_globals]
        for value in [value for scope in scopes for value in list(scope.values())]:
            if id(value) in seen:
                continue
            if isinstance(value, argparse.ArgumentParser):
                seen.add(id(value))
                parsers.append(value)
            elif isinstance(value, argparse.Namespace):
                seen.add(id(value))
                results.append(value)
        frame = frame.f_back
    return [(_made_by(parsers, result), result) for result in results]


def _made_by(parsers: list[argparse.ArgumentParser], result: argparse.Namespace) -> argparse.ArgumentParser | None:
    names = set(vars(result))
    fitting = [p for p in parsers if {a.dest for a in _actions(p) if a.dest != argparse.SUPPRESS} <= names]
    return max(fitting, key=lambda parser: len(_actions(parser)), default=None)
