"""Python Fire: what its functions and classes are called with is told as parameters, and edited values become words.

`Args/lr` is an argument of the component that Fire was given (of a class: of its constructor), `Args/train/lr` one of
its member `train`, `Args/data.load/path` one of a member of a group, and `Args/command` says which member runs. Under a
worker Fire gets a command line made of these. Fire takes any text for any argument; here a text that does not
fit the type of the argument's default ends in Fire's own error.

Fire's seams are private, but old: `_Fire` walks the command line, `_CallAndUpdateTrace` makes each call.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType, ModuleType
from typing import Any

import msgspec

from taskloom.domain.errors import BadInput
from taskloom.domain.parameters import Parameter, cast_like, decode, encode, items, same_text
from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.capture.whose import is_users_line

COMMAND = "command"
_TYPICAL: dict[str, Any] = {"int": 0, "float": 0.0, "bool": False, "list": [], "tuple": (), "dict": {}}


class _NoDefault:
    """In place of the default of an argument that must be given."""


class _Argument(msgspec.Struct, frozen=True):
    """One argument of a call and what Fire binds to it."""

    name: str
    value: Any
    default: Any
    given: bool
    several: bool = False  # *args


class _Call(msgspec.Struct, frozen=True):
    path: str  # names of members, joined by dots
    arguments: tuple[_Argument, ...]

    def named(self, argument: _Argument) -> str:
        return f"{self.path}/{argument.name}" if self.path else argument.name


class _Fire:
    def __init__(self, hooks: Hooks, core: Any) -> None:
        self._hooks = hooks
        self._core = core
        self._running = threading.local()

    def walk(self, original: Callable[..., Any], component: Any, args: Any, *more: Any, **named: Any) -> Any:
        """In place of `_Fire`: the user's own command line gets the task's values."""
        words, outer = args, getattr(self._running, "ours", False)
        with self._hooks.guard():
            # The words behind `--` are Fire's own and not among these any more.
            self._running.ours = is_users_line([*args, *_own_flags()], "fire")
            if self._running.ours:
                words = self._with_edits(component, list(args))
        try:
            return original(component, words, *more, **named)
        finally:
            self._running.ours = outer

    def call(
        self, original: Callable[..., Any], component: Any, args: Any, trace: Any, *more: Any, **named: Any
    ) -> Any:
        """In place of `_CallAndUpdateTrace`: told before the call, which may take hours."""
        refused = None
        if getattr(self._running, "ours", False):
            with self._hooks.guard():
                treatment = more[0] if more else named.get("treatment", "class")
                call = _Call(_path(trace), self._arguments(component, args, treatment))
                try:
                    self._check(call)
                except BadInput as error:
                    refused = self._core.FireError(error.message)
                else:
                    self._tell(call)
        if refused is not None:
            raise refused
        return original(component, args, trace, *more, **named)

    # --- what is told -------------------------------------------------------------------------------------

    def _arguments(self, component: Any, args: Any, treatment: str) -> tuple[_Argument, ...]:
        """What Fire will bind to each argument of this call; nothing when it will refuse."""
        core = self._core
        function = component.__call__ if treatment == "callable" else component
        spec = core.inspectutils.GetFullArgSpec(function)
        metadata = core.decorators.GetMetadata(component)
        try:
            (values, named), *_ = core._MakeParseFn(function, metadata)(list(args))
            by_name, _, loose = core._ParseKeywordArgs(list(args), spec)
        except core.FireError:
            return ()
        found: list[_Argument] = []
        first = len(spec.args) - len(spec.defaults)
        places = len(loose) if metadata.get(core.decorators.ACCEPTS_POSITIONAL_ARGS) else 0
        for index, name in enumerate(spec.args):
            default = spec.defaults[index - first] if index >= first else _NoDefault
            given = name in by_name
            if not given and places:
                given, places = True, places - 1
            found.append(_Argument(name, values[index], default, given))
        if spec.varargs:
            rest = list(values[len(spec.args) :])
            found.append(_Argument(spec.varargs, rest, [], bool(rest), several=True))
        for name in {**dict.fromkeys(spec.kwonlyargs), **named}:
            default = spec.kwonlydefaults.get(name, _NoDefault)
            found.append(_Argument(name, named.get(name, default), default, name in named))
        return tuple(one for one in found if one.given or _is_plain(one.value))

    def _tell(self, call: _Call) -> None:
        found: dict[str, Parameter] = {}
        if call.path:
            found[COMMAND] = Parameter(call.path, "str", "which member runs", given=True)
        edited = self._hooks.line.edited()
        for one in call.arguments:
            name = call.named(one)
            given = one.given
            if given and name in edited:  # under a worker every value is a word
                given = edited[name].given or one.default is _NoDefault or not _equal(one.value, one.default)
            found[name] = msgspec.structs.replace(encode(one.value), given=given)
        self._hooks.line.report(found)

    def _check(self, call: _Call) -> None:
        """Raises BadInput for an edited text that does not fit the type of the argument's default."""
        edited = self._hooks.line.edited()
        for one in call.arguments:
            known = edited.get(call.named(one))
            if known is None or one.several:
                continue
            unknown = one.default is _NoDefault or one.default is None
            example = _TYPICAL.get(known.type) if unknown else one.default
            if example is None or isinstance(example, str) or known.type == "none":
                continue
            try:
                cast_like(known.value, example)
            except BadInput as error:
                raise BadInput(f"argument {one.name}: {error.message} (edited in the task)") from None

    # --- edited values ------------------------------------------------------------------------------------

    def _with_edits(self, component: Any, args: list[str]) -> list[str]:
        """Words for all values of the task; flags that the worker's own command line gives come later and win."""
        edited = self._hooks.line.edited()
        if not edited:
            return args
        if any(not word.startswith("-") for word in args):
            self._hooks.line.leave_to(args)
            return args
        return [*self._words(component, edited), *args]

    def _words(self, component: Any, edited: Mapping[str, Parameter]) -> list[str]:
        """`--size=3 - data --root=x - load --path=y`"""
        flat = inspect.isroutine(component)  # a function has no members: `command` is an argument of it
        path = "" if flat or COMMAND not in edited else edited[COMMAND].value
        names = path.split(".") if path else []
        words: list[str] = []
        for depth in range(len(names) + 1):
            prefix = ".".join(names[:depth])
            if depth:
                words.append(names[depth - 1])
            said = self._said(component if not depth else None, prefix, edited, flat)
            words += [*said, "-"] if said and depth < len(names) else said
        return words

    def _said(self, component: Any, prefix: str, edited: Mapping[str, Parameter], flat: bool) -> list[str]:
        several = self._core.inspectutils.GetFullArgSpec(component).varargs if callable(component) else ""
        flags: list[str] = []
        loose: list[str] = []
        for name, one in edited.items():
            section, _, argument = name.rpartition("/")
            if section != prefix or (name == COMMAND and not flat):
                continue
            if argument == several:
                loose += items(one.value)
            else:
                flags.append(f"--{argument}={self._word(one)}")
        return [*flags, *loose]

    def _word(self, edited: Parameter) -> str:
        """The text that Fire reads as this value: it takes `1` for a number and `[true]` for a list of texts."""
        if edited.type in {"list", "tuple", "dict", "none"}:
            return repr(decode(edited))
        if edited.type == "str" and not isinstance(self._core.parser.DefaultParseValue(edited.value), str):
            return repr(edited.value)
        return edited.value

    # --- a call that is running already -------------------------------------------------------------------

    def look_back(self) -> None:
        frame = _frame(self._core, "_CallAndUpdateTrace")
        walk = _frame(self._core, "_Fire")
        if frame is None or walk is None or not is_users_line([*walk.f_locals["args"], *_own_flags()], "fire"):
            return
        self._running.ours = True
        calls = self._calls(walk.f_locals, frame.f_locals)
        edited = self._hooks.line.edited()
        if edited and not self._agrees(calls, edited):
            try:
                for call in calls:
                    self._check(call)
            except BadInput as error:
                sys.stderr.write(f"ERROR: {error.message}\n")
                sys.exit(2)
            self._hooks.line.restart([*self._words(walk.f_locals["initial_component"], edited), *_own_flags()])
        for call in calls:
            self._tell(call)
        line = self._hooks.line
        if not line.holds_secret:
            line.keep()
            return
        told = {call.named(one): encode(one.value) for call in calls for one in call.arguments if one.given}
        if calls[-1].path:
            told[COMMAND] = Parameter(calls[-1].path, "str")
        line.keep(self._words(walk.f_locals["initial_component"], line.chosen.among(told)))

    def _calls(self, walk: Mapping[str, Any], now: Mapping[str, Any]) -> list[_Call]:
        """The calls made so far, the one that is running at the end. Words are read again, nothing is called."""
        trace, rest, names = now["component_trace"], list(walk["args"]), list[str]()
        calls: list[_Call] = []
        before: Any = trace.elements[0].component
        for element in trace.elements[1:]:
            if element._action == self._core.trace.ACCESSED_PROPERTY:
                names.append(str(element._target))
                rest = rest[1:]
            else:
                part = rest[: rest.index(trace.separator)] if trace.separator in rest else rest
                treatment = "class" if inspect.isclass(before) else "routine"
                calls.append(_Call(".".join(names), self._arguments(before, part, treatment)))
                parse = self._core._MakeParseFn(before, self._core.decorators.GetMetadata(before))
                left = parse(list(part))[2]
                rest = [*left, *rest[len(part) + (not left) :]]
            before = element.component
        running = self._arguments(now["component"], now["args"], now["treatment"])
        return [*calls, _Call(_path(trace), running)]

    def _agrees(self, calls: list[_Call], edited: Mapping[str, Parameter]) -> bool:
        path = calls[-1].path
        if path and edited.get(COMMAND, Parameter(path)).value != path:
            return False
        return all(
            self._is(edited[name], one)
            for call in calls
            for one in call.arguments
            if (name := call.named(one)) in edited
        )

    def _is(self, edited: Parameter, one: _Argument) -> bool:
        if same_text(edited, one.value):
            return True
        if one.several:
            return items(edited.value) == [encode(value).value for value in one.value]
        return _equal(self._core.parser.DefaultParseValue(self._word(edited)), one.value)


def _path(trace: Any) -> str:
    return ".".join(str(one._target) for one in trace.elements if one._action == "Accessed property")


def _own_flags() -> list[str]:
    """`-- --verbose` at the end of the command line is for Fire itself."""
    words = sys.argv[1:]
    return words[len(words) - 1 - words[::-1].index("--") :] if "--" in words else []


def _frame(core: Any, name: str) -> FrameType | None:
    """The innermost running call of this function of Fire."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and (frame.f_code.co_name != name or frame.f_code.co_filename != core.__file__):
        frame = frame.f_back
    return frame


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) or encode(value).type != "str"


def _equal(left: Any, right: Any) -> bool:
    return type(left) is type(right) and bool(left == right)


def install(hooks: Hooks, module: ModuleType) -> None:
    if not hooks.line.on:
        return
    fire = _Fire(hooks, module)
    hooks.around(module, "_Fire", fire.walk)
    hooks.around(module, "_CallAndUpdateTrace", fire.call)
    fire.look_back()


BINDING = Binding(
    switch="fire",
    modules=("fire.core",),
    package="fire",
    since="0.4",
    hooks=("fire.core._Fire", "fire.core._CallAndUpdateTrace"),
    install=install,
)
