"""jsonargparse (`CLI`, `ArgumentParser`, and LightningCLI on top of it): every key of the parsed configuration is a
parameter, `Args/epochs`, `Args/opt.lr`, `Args/model.init_args.width`, those of a command `Args/fit.trainer.max_epochs`,
whether it came from the command line, a configuration file or a default.

Under a worker the parser gets a command line made of these, so values are checked as ever and a wrong one ends in the
parser's own error. Configuration files are not read there: what they said stands in the parameters.
`Args/config` tells which ones were read. Linked keys are computed from others and have no parameter.
"""

from __future__ import annotations

import json
import sys
import threading
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Mapping
from types import FrameType, ModuleType
from typing import Any, cast

import msgspec

from taskloom.domain.parameters import Parameter, decode, encode, same_text
from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.capture.whose import is_installed, is_users_line

_FILES = "configuration files; their values stand in the other parameters"
_LAYERS = ("jsonargparse", "lightning", "pytorch_lightning")


class _Jsonargparse:
    def __init__(self, hooks: Hooks, module: Any) -> None:
        self._hooks = hooks
        self._module = module
        self._running = threading.local()

    def parse(self, original: Callable[..., Any], parser: Any, *more: Any, **named: Any) -> Any:
        """In place of `ArgumentParser.parse_args`; commands are parsed by parsers of their own inside it."""
        if getattr(self._running, "inside", False):
            return original(parser, *more, **named)
        given = more[0] if more else named.pop("args", None)
        words, ours = given, False
        self._running.inside = True
        try:
            with self._hooks.guard():
                ours = is_users_line(None if given is None else list(given), *_LAYERS)
                if ours:
                    words = self._with_edits(parser, list(sys.argv[1:] if given is None else given))
            result = original(parser, words, *more[1:], **named)
            if ours:
                with self._hooks.guard():
                    self._tell(parser, result)
            return result
        finally:
            self._running.inside = False

    # --- what is told -------------------------------------------------------------------------------------

    def _tell(self, parser: Any, result: Any) -> None:
        edited = self._hooks.line.edited()
        defaults = self._defaults(parser, result)
        words = _said(parser)
        found: dict[str, Parameter] = {}
        for name, one in self._read(parser, result).items():
            known = edited.get(name)
            given = (
                one.given
                or name in words
                or name not in defaults
                or defaults[name].value != one.value
                or (known is not None and known.given)
            )
            found[name] = msgspec.structs.replace(one, given=given)
        self._hooks.line.report(found)

    def _read(self, parser: Any, result: Any) -> dict[str, Parameter]:
        """Every key with its value as the parser itself would write it to a file."""
        try:
            written: Any = self._dump(parser, result)
        except (TypeError, ValueError, KeyError, ArgumentError):
            written = None  # defaults of a parser whose command is required
        actions = dict(_actions(parser, result))
        found: dict[str, Parameter] = {}
        for name, value in result.items():
            action = actions.get(name)
            if action is not None and _is_config(action):
                if value:
                    found[name] = Parameter(", ".join(map(str, value)), "str", _FILES, given=True)
            elif action is not None and _is_command(action):
                found[name] = Parameter(str(value), "str", "which command runs", given=True)
            else:
                there, plain = _look_up(written, name) if written is not None else (True, value)
                if there:
                    found[name] = encode(plain, _help(action))
        return found

    def _defaults(self, parser: Any, result: Any) -> dict[str, Parameter]:
        found = self._read(parser, parser.get_defaults())
        action = _commands(parser)
        chosen = _command(parser, result)
        if chosen:
            inner = self._defaults(action.choices[chosen], result[chosen])
            found |= {f"{chosen}.{name}": one for name, one in inner.items()}
        return found

    def _dump(self, parser: Any, result: Any) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                text = parser.dump(result, format="json", skip_unset=False, skip_validation=True)
            except TypeError:  # before 4.49 these had other names
                text = parser.dump(result, format="json", skip_none=False, skip_check=True)
        return cast("dict[str, Any]", json.loads(text))

    # --- edited values ------------------------------------------------------------------------------------

    def _with_edits(self, parser: Any, own: list[str]) -> list[str]:
        """Words for all values of the task; options that the worker's own command line gives come later and win."""
        edited = self._hooks.line.edited()
        if not edited:
            return own
        if any(not word.startswith("-") for word in own):
            self._hooks.line.leave_to(own)
            return own
        return [*self._words(parser, edited, ""), *own]

    def _words(self, parser: Any, edited: Mapping[str, Parameter], prefix: str) -> list[str]:
        defaults = self._read(parser, parser.get_defaults())
        options: list[str] = []
        places: list[str] = []
        inner: list[str] = []
        for action in parser._actions:
            if _is_command(action):
                chosen = edited.get(prefix + action.dest)
                if chosen is not None and chosen.value in action.choices:
                    command = chosen.value
                    inner = [command, *self._words(action.choices[command], edited, f"{prefix}{command}.")]
                elif chosen is not None:
                    inner = [chosen.value]  # the parser says which there are
                continue
            if _is_config(action) or type(action).__name__.startswith("_Action"):
                continue
            text = self._text(action, edited, prefix, defaults)
            if text is None:
                continue
            if action.option_strings:
                options.append(f"{_long(action.option_strings)}={text}")
            else:
                places.append(text)
        return [*options, *places, *inner]

    def _text(
        self, action: Any, edited: Mapping[str, Parameter], prefix: str, defaults: Mapping[str, Parameter]
    ) -> str | None:
        """The action's value as one word; None where it is the default."""
        name = prefix + action.dest
        below = {key: one for key, one in edited.items() if key.startswith(f"{name}.")}
        known = {**below, name: edited[name]} if name in edited else below
        if not known:
            return None
        same = all(
            key.removeprefix(prefix) in defaults and _same(one, defaults[key.removeprefix(prefix)])
            for key, one in known.items()
        )
        if same and action.option_strings:
            return None
        if below:
            return json.dumps(_nested(below, f"{name}."))
        one = edited[name]
        return "null" if one.type == "none" and one.value in {"", "None"} else one.value

    # --- a parse that is over -----------------------------------------------------------------------------

    def look_back(self) -> None:
        for parser, result in self._early():
            if list(getattr(parser, "args", None) or ()) != sys.argv[1:]:
                continue
            self._running.inside = True
            try:
                self._late(parser, result)
            finally:
                self._running.inside = False
            return

    def _late(self, parser: Any, result: Any) -> None:
        edited = self._hooks.line.edited()
        now = self._read(parser, result)
        if any(
            not _same(one, now[name]) for name, one in edited.items() if name in now and one.description != _FILES
        ):
            self._hooks.line.restart(self._words(parser, edited, ""))
        self._tell(parser, result)
        line = self._hooks.line
        line.keep(self._words(parser, line.chosen.among(now), "") if line.holds_secret else line.argv)

    def _early(self) -> list[tuple[Any, Any]]:
        """Parsers with what they read, among the variables of the functions that are running."""
        found: list[tuple[Any, Any]] = []
        frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        while frame is not None:
            if frame.f_code.co_name in {"auto_cli", "CLI"} and "jsonargparse" in frame.f_code.co_filename:
                found.append((frame.f_locals.get("parser"), frame.f_locals.get("cfg")))
            own: Any = frame.f_locals.get("self")
            if type(own).__name__.endswith("CLI"):  # LightningCLI and what derives from it
                found.append((getattr(own, "parser", None), getattr(own, "config", None)))
            if not is_installed(frame.f_code.co_filename):
                found += self._pairs({**frame.f_globals, **frame.f_locals})
            frame = frame.f_back
        kinds = (self._module.ArgumentParser, self._module.Namespace)
        return [pair for pair in found if isinstance(pair[0], kinds[0]) and isinstance(pair[1], kinds[1])]

    def _pairs(self, variables: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        values = list(variables.values())
        parsers = [one for one in values if isinstance(one, self._module.ArgumentParser)]
        results = [one for one in values if isinstance(one, self._module.Namespace)]
        return [(parser, result) for result in results for parser in parsers if _fits(parser, result)]


# --- parsers -----------------------------------------------------------------------------------------------


def _is_command(action: Any) -> bool:
    return type(action).__name__.lstrip("_") == "ActionSubCommands"


def _is_config(action: Any) -> bool:
    return type(action).__name__ == "ActionConfigFile"


def _commands(parser: Any) -> Any:
    return next((action for action in parser._actions if _is_command(action)), None)


def _command(parser: Any, result: Any) -> str:
    """The command that was chosen; '' without commands."""
    action = _commands(parser)
    return str(result.get(action.dest) or "") if action is not None else ""


def _fits(parser: Any, result: Any) -> bool:
    names = {key.partition(".")[0] for key in result.keys()}  # noqa: SIM118 - a namespace of nested keys
    return names <= {action.dest.partition(".")[0] for action in parser._actions} | {_command(parser, result)}


def _actions(parser: Any, result: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """The arguments of a parser and of the command that was chosen, by their keys in the result."""
    found = [(f"{prefix}{action.dest}", action) for action in parser._actions]
    chosen = _command(parser, result)
    if chosen:
        found += _actions(_commands(parser).choices[chosen], result[chosen], f"{prefix}{chosen}.")
    return found


def _said(parser: Any) -> set[str]:
    """The keys that stand on the command line."""
    words = list(parser.args)
    names: set[str] = set()
    prefix, at = "", parser
    for word in words:
        action = _commands(at)
        if word.startswith("-"):
            names.add(prefix + word.lstrip("-").partition("=")[0])
        elif action is not None and word in action.choices:
            prefix, at = f"{prefix}{word}.", action.choices[word]
    return names


def _help(action: Any) -> str:
    text = getattr(action, "help", None)
    return text if isinstance(text, str) and not text.startswith("==") else ""


def _long(names: list[str]) -> str:
    return next((name for name in names if name.startswith("--")), names[0])


def _look_up(written: Any, name: str) -> tuple[bool, Any]:
    at = written
    for part in name.split("."):
        if not isinstance(at, dict) or part not in at:
            return False, None
        at = cast("dict[str, Any]", at)[part]
    return True, at


def _nested(flat: Mapping[str, Parameter], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, one in flat.items():
        *parents, last = name.removeprefix(prefix).split(".")
        at = found
        for part in parents:
            at = at.setdefault(part, {})
        at[last] = decode(one)
    return found


def _same(edited: Parameter, now: Parameter) -> bool:
    return edited.value == now.value or (now.type != "str" and same_text(edited, decode(now)))


def install(hooks: Hooks, module: ModuleType) -> None:
    if not hooks.line.on:
        return
    bound = _Jsonargparse(hooks, module)
    hooks.around(cast("Any", module).ArgumentParser, "parse_args", bound.parse)
    bound.look_back()


BINDING = Binding(
    switch="jsonargparse",
    modules=("jsonargparse",),
    package="jsonargparse",
    since="4.20",
    hooks=("jsonargparse.ArgumentParser.parse_args",),
    install=install,
)
