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
import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType, ModuleType
from typing import Any, cast

import msgspec

from taskloom.domain.parameters import Parameter, cast_like, encode, same_text
from taskloom.sdk.capture.chosen import Chosen
from taskloom.sdk.capture.parsers import (
    Given,
    actions_of,
    cast_by_any,
    cast_text,
    choose_command,
    is_subparsers,
    name_of,
    parameter,
    raw_texts,
    relaxed,
    told_by,
    was_given,
    watched,
)
from taskloom.sdk.capture.whose import OTHER_PARSERS, is_installed, package_of

Report = Callable[[dict[str, Parameter]], None]
Overrides = Callable[[], Mapping[str, Parameter] | None]

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
    chosen     which arguments
    """

    def __init__(self, report: Report, overrides: Overrides, chosen: Chosen) -> None:
        self._report = report
        self._overrides = overrides
        self._chosen = chosen
        self._running = threading.local()
        self._original: Any = None
        self._hook: Any = None
        self.parsed_early = False

    def install(self) -> None:
        """Hook every parser there is or will be, and look for a parse that is already over."""
        if self._hook is not None or self._chosen.nothing:
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

    def stop(self, timeout: float) -> None:
        del timeout
        self.undo()

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
            with relaxed(parser, parse.overrides), watched(parser) as given:
                result, rest = original(parser, args, namespace)
            self._give_back(parser, result, given, parse)
            self._collect(parser, result, given, parse)
        finally:
            self._running.parse = outer
        if outer is None:
            self._tell(parse.found)
        return result, rest

    def _edited(self) -> Mapping[str, Parameter]:
        return self._chosen.among(self._overrides() or {})

    def _give_back(self, parser: argparse.ArgumentParser, result: Any, given: Given, parse: _Parse) -> None:
        """Put the edited values where the command line was silent."""
        silent: dict[str, list[argparse.Action]] = {}
        named = {name_of(action) for action in given}
        for action in actions_of(parser):
            if name_of(action) in parse.overrides and name_of(action) not in named:
                silent.setdefault(name_of(action), []).append(action)
        for name, actions in silent.items():
            edited = parse.overrides[name]
            if is_subparsers(actions[0]):
                if edited.value:
                    given[actions[0]] = [edited.value]
                    with told_by(parser, actions[0], edited):
                        choose_command(parser, actions[0], edited.value, result)
                continue
            present = getattr(result, name, None)
            if not same_text(edited, present):
                with told_by(parser, actions[-1], edited):
                    setattr(result, name, cast_by_any(parser, actions, edited, present))
                given[actions[-1]] = raw_texts(actions[-1], edited)

    def _collect(self, parser: argparse.ArgumentParser, result: Any, given: Given, parse: _Parse) -> None:
        said = {name_of(action) for action in given}
        for action in actions_of(parser):
            name, told = name_of(action), None
            if is_subparsers(action):
                told = Parameter(given[action][0], "str", "subcommand") if action in given else None
            elif hasattr(result, action.dest):
                told = parameter(action, getattr(result, action.dest), given.get(action))
            if told is not None:
                known = parse.overrides.get(name)
                was = name in said or (known is not None and known.given)
                parse.found[name] = msgspec.structs.replace(told, given=was)

    def _tell(self, read: dict[str, Parameter]) -> None:
        found = self._chosen.among(read)
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
            actions = actions_of(parser) if parser else []
            by_name = {action.dest: action for action in actions if not is_subparsers(action)}
            found: dict[str, Parameter] = {}
            for name, present in list(values.items()):
                if callable(present) or isinstance(present, ModuleType):
                    continue
                action = by_name.get(name)
                if name in edited and name not in _LAUNCHERS_OWN and not same_text(edited[name], present):
                    with told_by(parser, action, edited[name], name):
                        present = values[name] = (  # noqa: PLW2901
                            cast_text(parser, action, edited[name], present)
                            if parser and action
                            else cast_like(edited[name].value, present)
                        )
                told = parameter(action, present, None) if action else encode(present)
                found[name] = msgspec.structs.replace(
                    told, given=action is not None and was_given(action, present)
                )
            self._tell(found)


# --- whose parse it is -------------------------------------------------------------------------------------


def _is_users(args: Sequence[str] | None) -> bool:
    """Whether the list of arguments is the user's: the command line, or one that own code made."""
    frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_code.co_filename == argparse.__file__:
        if frame.f_code.co_name == "__call__":
            return False  # a subcommand of a parse that was left alone
        frame = frame.f_back
    if frame is not None and package_of(frame) in OTHER_PARSERS:
        return False
    own = args is None or list(args) == sys.argv[1:]
    return own or frame is None or not is_installed(frame.f_code.co_filename)


def _early_parses() -> list[tuple[argparse.ArgumentParser | None, argparse.Namespace]]:
    """Results of parses that are over, among the variables of the functions that are running now."""
    parsers: list[argparse.ArgumentParser] = []
    results: list[argparse.Namespace] = []
    seen: set[int] = set()
    frame: FrameType | None = sys._getframe(3)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if is_installed(frame.f_code.co_filename) or package_of(frame) in OTHER_PARSERS:
            frame = frame.f_back
            continue
        scopes = [frame.f_globals] if frame.f_locals is frame.f_globals else [frame.f_locals, frame.f_globals]
        for value in [value for scope in scopes for value in list(scope.values())]:
            if id(value) in seen or type(value).__module__.partition(".")[0] in OTHER_PARSERS:
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
    fitting = [p for p in parsers if {a.dest for a in actions_of(p) if a.dest != argparse.SUPPRESS} <= names]
    return max(fitting, key=lambda parser: len(actions_of(parser)), default=None)
