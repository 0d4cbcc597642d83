"""Command lines of click: what a command read is told as parameters, and edited values become the words that it reads.

`Args/lr` is a parameter of the outermost command, `Args/train/lr` one of its command `train`, and `Args/command` says
which command runs (`train`, or `db init` for nested ones). Under a worker the outermost command gets a command line
made of these; words that the worker's own command line gives win. click reads them as ever, so types,
choices and prompts mean what they mean, and a wrong value ends in click's own usage error.

A command whose function belongs to an installed package is not the user's, and is left alone. A Typer that uses click
is seen, too; one that carries a changed copy of it is not, and its command line is kept as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from taskloom.domain.errors import BadInput
from taskloom.domain.parameters import Parameter, cast_like, items
from taskloom.sdk.binding import Hooks
from taskloom.sdk.capture.chosen import is_secret
from taskloom.sdk.capture.click_values import (
    Words,
    cast_raw,
    default_of,
    is_said,
    long_name,
    must_say,
    option_words,
    same,
    told,
    value_of,
)
from taskloom.sdk.capture.whose import is_users, is_users_line

COMMAND = "command"
_OURS = "taskloom.recorded"  # in `Context.meta`, which the contexts of a command line share
_SOURCES = frozenset({"COMMANDLINE", "ENVIRONMENT", "PROMPT"})


class _Call(msgspec.Struct):
    """One command that a command line names, with what it says for that command."""

    command: Any
    ctx: Any
    path: tuple[str, ...]
    raw: dict[str, Any] = msgspec.field(
        default_factory=dict[str, Any]
    )  # texts, tuples and lists of them, flags, counts
    rest: Words = msgspec.field(default_factory=list[str])

    def prefixed(self, name: str) -> str:
        return "/".join((*self.path, name))

    def named(self) -> dict[str, list[Any]]:
        """Its parameters by name: several flags may stand for one."""
        found: dict[str, list[Any]] = {}
        for param in self.command.params:
            if param.name and param.expose_value:
                found.setdefault(param.name, []).append(param)
        return found


class ClickLines:
    """`core`: the module `core` of click, or of Typer's copy."""

    def __init__(self, hooks: Hooks, core: Any) -> None:
        self._hooks = hooks
        self._core = core
        self._package = core.__name__.rpartition(".")[0]
        self._errors: Any = sys.modules[f"{self._package}.exceptions"]

    def make_context(
        self,
        original: Callable[..., Any],
        command: Any,
        info_name: str | None,
        args: Words,
        *more: Any,
        **extra: Any,
    ) -> Any:
        parent = more[0] if more else extra.get("parent")
        words, refused, ours = list(args), None, False
        with self._hooks.guard():
            ours = self._is_ours(command, args, parent, extra)
            if ours and parent is None and self._hooks.line.edited():
                try:
                    words = self._edited(command, info_name, words)
                except self._errors.UsageError as error:
                    refused = error
        if refused is not None:
            raise refused
        ctx = original(command, info_name, list(words) if ours else args, *more, **extra)
        if ours:
            with self._hooks.guard():
                ctx.meta[_OURS] = True
                self._tell(command, ctx, words)
        return ctx

    def _is_ours(self, command: Any, args: Words, parent: Any, extra: Mapping[str, Any]) -> bool:
        if parent is not None:
            return _OURS in parent.meta
        top = self._package.partition(".")[0]
        return not extra.get("resilient_parsing") and is_users_line(list(args), top) and self._is_users(command)

    def _is_users(self, command: Any) -> bool:
        """A group need have no function of its own; then its commands tell."""
        if command.callback is not None:
            return is_users(command.callback)
        return any(self._is_users(one) for one in getattr(command, "commands", {}).values())

    # --- what is told -------------------------------------------------------------------------------------

    def _tell(self, command: Any, ctx: Any, words: Words) -> None:
        call = _Call(command, ctx, _path(ctx))
        self._parse(call, words)
        found: dict[str, Parameter] = {}
        edited = self._hooks.line.edited()
        for name, params in call.named().items():
            if name not in ctx.params or self._is_hidden(name, params):
                continue
            one = told(params[0], value_of(params[0], ctx), call.raw.get(name))
            source = ctx.get_parameter_source(name)
            known = edited.get(call.prefixed(name))
            given = (source is not None and source.name in _SOURCES) or (known is not None and known.given)
            found[call.prefixed(name)] = msgspec.structs.replace(one, given=given)
        if not call.path and _is_group(command):
            calls = self._read(command, ctx.info_name, words)
            if said := " ".join(one.path[-1] for one in calls[1:]):
                found[_key(command)] = Parameter(said, "str", "which command runs", given=True)
        elif call.rest and not _is_group(command) and not _in_chain(ctx):
            self._hooks.line.keep(call.rest)
        self._hooks.line.report(found)

    def _is_hidden(self, name: str, params: list[Any]) -> bool:
        """A secret by its name, or typed without being seen; unless it was asked for."""
        secret = is_secret(name) or any(getattr(one, "hide_input", False) for one in params)
        return secret and not self._hooks.line.chosen.takes(name, secret=True)

    # --- reading command lines ----------------------------------------------------------------------------

    def _read(self, root: Any, info_name: str | None, words: Words) -> list[_Call]:
        """The commands that these words name, outermost first. Raises click's UsageError."""
        calls = [self._open(root, info_name, None, ())]
        self._parse(calls[0], words)
        at, rest = calls[0], calls[0].rest
        while rest and _is_group(at.command):
            name, command, rest = at.command.resolve_command(at.ctx, list(rest))
            if command is None:
                break
            call = self._open(command, name, at.ctx, (*at.path, name))
            self._parse(call, list(rest))
            calls.append(call)
            rest = call.rest
            at = at if at.command.chain else call
        return calls

    def _walk(self, root: Any, info_name: str | None, names: Sequence[str]) -> list[_Call]:
        """The commands of these names, with nothing said for them."""
        calls = [self._open(root, info_name, None, ())]
        at = calls[0]
        for name in names:
            if not _is_group(at.command):
                at.ctx.fail(f"{at.command.name!r} has no commands, {name!r} was edited in the task")
            _, command, _ = at.command.resolve_command(at.ctx, [name])
            if command is None:
                at.ctx.fail(f"No such command {name!r}.")
            call = self._open(command, name, at.ctx, (*at.path, name))
            calls.append(call)
            at = at if at.command.chain else call
        return calls

    def _open(self, command: Any, name: str | None, parent: Any, path: tuple[str, ...]) -> _Call:
        kind = getattr(command, "context_class", self._core.Context)
        settings = {**command.context_settings, "resilient_parsing": True}
        if parent is not None and getattr(parent.command, "chain", False):
            settings |= {"allow_extra_args": True, "allow_interspersed_args": False}
        ctx = kind(command, info_name=name, parent=parent, **settings)
        ctx.resilient_parsing = False  # it is for reading only, but says what is wrong
        return _Call(command, ctx, path)

    def _parse(self, call: _Call, words: Words) -> None:
        texts, call.rest, _ = call.command.make_parser(call.ctx).parse_args(args=list(words))
        call.raw = {name: raw for name, raw in texts.items() if is_said(raw)}

    # --- edited values ------------------------------------------------------------------------------------

    def _edited(self, root: Any, info_name: str | None, words: Words) -> Words:
        """The command line of the task's values, with what `words` give instead."""
        edited = self._hooks.line.edited()
        own = self._read(root, info_name, words)
        names = [one.path[-1] for one in own[1:]] or _names(root, edited)
        given = {one.path: one for one in own}
        calls = self._walk(root, info_name, names)
        for call in calls:
            before = given.get(call.path)
            call.raw = dict(before.raw) if before else {}
            call.rest = before.rest if before else []
            for name, params in call.named().items():
                one = edited.get(call.prefixed(name))
                if name not in call.raw and one is not None and (must_say(params[0], call.ctx) or not same(
                    one, default_of(params[0], call.ctx), None
                )):  # fmt: skip
                    self._set(call, name, params, one)
        return self._spell(calls)

    def look_back(self) -> None:
        """A command that is running already: told, and begun again when its values were edited."""
        globals_: Any = sys.modules[f"{self._package}.globals"]
        ctx: Any = globals_.get_current_context(silent=True)
        if ctx is None or _OURS in ctx.meta:
            return
        root = ctx.find_root()
        words = sys.argv[1:]
        if not self._is_users(root.command):
            return
        root.meta[_OURS] = True
        chain: list[Any] = []
        while ctx is not None:
            chain.insert(0, ctx)
            ctx = ctx.parent
        calls = self._read(root.command, root.info_name, words)
        if self._hooks.line.edited():
            try:
                again = self._changed(root, calls)
            except self._errors.UsageError as error:
                error.show()
                sys.exit(error.exit_code)
            if again is not None:
                self._hooks.line.restart(again)
        rest = words
        for one, call in zip(chain, calls, strict=False):
            self._tell(one.command, one, rest)
            rest = call.rest[1:]
        self._hooks.line.keep(self._public(words, calls))

    def _public(self, words: Words, calls: list[_Call]) -> Words:
        """The command line without what is secret."""
        hidden = [
            (call, name)
            for call in calls
            for name, params in call.named().items()
            if name in call.raw and self._is_hidden(name, params)
        ]
        for call, name in hidden:
            del call.raw[name]
        return self._spell(calls) if hidden else words

    def _changed(self, root: Any, calls: list[_Call]) -> Words | None:
        """The edited command line; None when the script has these values already."""
        edited = self._hooks.line.edited()
        given = {one.path: one for one in calls}
        names = _names(root.command, edited) or [one.path[-1] for one in calls[1:]]
        wanted = self._walk(root.command, root.info_name, names)
        changed = [one.path for one in wanted] != [one.path for one in calls]
        for call in wanted:
            before = given.get(call.path)
            call.raw = dict(before.raw) if before else {}
            for name, params in call.named().items():
                one, raw = edited.get(call.prefixed(name)), call.raw.get(name)
                if one is None:
                    continue
                now = (
                    default_of(params[0], call.ctx)
                    if raw is None
                    else told(params[0], cast_raw(params[0], call.ctx, raw), raw)
                )
                if not same(one, now, raw):
                    self._set(call, name, params, one)
                    changed = True
        return self._spell(wanted) if changed else None

    # --- writing command lines ----------------------------------------------------------------------------

    def _set(self, call: _Call, name: str, params: list[Any], edited: Parameter) -> None:
        """The edited text in the form in which click's parser would leave it."""
        param, text = params[0], edited.value
        if edited.type == "none" and text in {"", "None"}:
            call.raw.pop(name, None)
            return
        try:
            if getattr(param, "count", False):
                call.raw[name] = cast_like(text, 0)
            elif getattr(param, "is_bool_flag", False):
                call.raw[name] = cast_like(text, False)
            elif getattr(param, "multiple", False):
                call.raw[name] = [items(row) if param.nargs != 1 else row for row in items(text)]
            elif param.nargs != 1:
                call.raw[name] = items(text)
            else:
                call.raw[name] = text
        except BadInput as error:
            raise self._errors.BadParameter(f"{error.message} (edited in the task)", call.ctx, param) from None

    def _spell(self, calls: list[_Call]) -> Words:
        words: Words = []
        for call in calls:
            if call.path:
                words.append(call.path[-1])
            options: Words = []
            arguments: Words = []
            for name, params in call.named().items():
                if name not in call.raw:
                    continue
                if params[0].param_type_name == "argument":
                    raw = call.raw[name]
                    arguments += [raw] if isinstance(raw, str) else list(raw)
                else:
                    options += self._option(params, call.raw[name], call.ctx)
            arguments += [] if _is_group(call.command) or _in_chain(call.ctx) else call.rest
            dashed = any(word.startswith("-") for word in arguments)
            words += [*options, "--", *arguments] if dashed else [*options, *arguments]
        return words

    def _option(self, params: list[Any], raw: Any, ctx: Any) -> Words:
        param = params[0]
        name = long_name(param.opts)
        if getattr(param, "count", False):
            return [name] * int(raw)
        if getattr(param, "is_flag", False):
            return self._flag(params, raw, ctx)
        if getattr(param, "multiple", False):
            return [word for one in raw for word in option_words(name, one)]
        return option_words(name, raw)

    def _flag(self, params: list[Any], raw: Any, ctx: Any) -> Words:
        for param in params:
            if getattr(param, "is_bool_flag", False) and isinstance(raw, bool):
                if raw:
                    return [long_name(param.opts)]
                if param.secondary_opts:
                    return [long_name(param.secondary_opts)]
                if not param.get_default(ctx):
                    return []
                raise self._errors.BadParameter("there is no option that switches it off", ctx, param)
            if str(param.flag_value) == str(raw):
                return [long_name(param.opts)]
        if str(default_of(params[0], ctx).value) == str(raw):
            return []
        known = ", ".join(str(one.flag_value) for one in params)
        raise self._errors.BadParameter(f"{raw!r} is not one of {known} (edited in the task)", ctx, params[0])


def _is_group(command: Any) -> bool:
    return hasattr(command, "resolve_command")


def _in_chain(ctx: Any) -> bool:
    """Then the words behind a command are the next commands."""
    return ctx.parent is not None and bool(getattr(ctx.parent.command, "chain", False))


def _path(ctx: Any) -> tuple[str, ...]:
    names: list[str] = []
    while ctx.parent is not None:
        names.insert(0, str(ctx.info_name))
        ctx = ctx.parent
    return tuple(names)


def _key(root: Any) -> str:
    """The parameter that says which command runs; '' for a command without commands."""
    taken = any(param.name == COMMAND for param in root.params)
    return "" if not _is_group(root) else f"sub{COMMAND}" if taken else COMMAND


def _names(root: Any, edited: Mapping[str, Parameter]) -> list[str]:
    key = _key(root)
    return edited[key].value.split() if key in edited else []
