"""absl flags (`FLAGS`, `app.run`): the script's flags are parameters of section `TF_DEFINE`, and edited values are
parsed as flags.

A flag is told when a module of the script defines it, or when the command line gives it; the forty flags that
absl and other packages define are not. Flags that were parsed before Task.init get their edited values all the same,
since `FLAGS` is asked for them when they are needed. Words that are no flags stay the task's arguments.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, cast

import msgspec

from taskloom.domain.parameters import Parameter, encode, items, same_text
from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.capture.whose import is_installed, is_users_line

SECTION = "TF_DEFINE"


class _Absl:
    def __init__(self, hooks: Hooks, flags: Any) -> None:
        self._hooks = hooks
        self._flags = flags

    def parse(self, original: Callable[..., Any], values: Any, argv: Any, *more: Any, **named: Any) -> Any:
        """In place of `FlagValues.__call__`."""
        words, ours = argv, False
        with self._hooks.guard():
            line: list[str] = list(argv) if isinstance(argv, list | tuple) else []  # pyright: ignore[reportUnknownArgumentType]
            ours = values is self._flags.FLAGS and bool(line) and is_users_line(line[1:], "absl")
            if ours:
                words = [line[0], *self._edited(line[1:]), *line[1:]]
        rest = original(values, words, *more, **named)
        if ours:
            with self._hooks.guard():
                self._tell()
                self._keep(list(rest[1:]))
        return rest

    def _keep(self, rest: list[str]) -> None:
        self._hooks.line.keep(["--", *rest] if any(word.startswith("-") for word in rest) else rest)

    def _edited(self, own: list[str]) -> list[str]:
        """Flags for what was edited; those that the worker's own command line names are left to it."""
        given = {word.lstrip("-").partition("=")[0] for word in own if word.startswith("-")}
        words: list[str] = []
        for name, edited in self._hooks.line.edited(SECTION).items():
            flag = self._known(name)
            if flag is None or given & {name, f"no{name}", flag.short_name}:
                continue
            if not _same(edited, flag):
                words += [f"--{name}={text}" for text in self._texts(flag, edited)]
        return words

    def _known(self, name: str) -> Any:
        values = self._flags.FLAGS
        if name in values:
            return values[name]
        self._hooks.session.notices.once(
            ("absl", name), f"the script defines no flag {name!r}: its value in the task is not used"
        )
        return None

    def _texts(self, flag: Any, edited: Parameter) -> list[str]:
        """One text for each time that the flag is given."""
        if edited.type == "none" and edited.value in {"", "None"}:
            return []
        if isinstance(flag, self._flags.MultiFlag):
            return items(edited.value)
        if edited.type in {"list", "tuple"} or isinstance(flag.value, list):
            return [flag.serializer.serialize(items(edited.value)) if flag.serializer else edited.value]
        return [edited.value]

    def _tell(self) -> bool:
        """Whether there was anything to tell: a library may have parsed flags for itself."""
        edited = self._hooks.line.edited(SECTION)
        found: dict[str, Parameter] = {}
        for module, flags in cast("Mapping[str, list[Any]]", self._flags.FLAGS.flags_by_module_dict()).items():
            own = _is_own(module)
            for flag in flags:
                if own or flag.present or flag.name in edited:
                    known = edited.get(flag.name)
                    given = bool(flag.present) or (known is not None and known.given)
                    found[flag.name] = msgspec.structs.replace(_told(flag), given=given)
        self._hooks.line.report(found, SECTION)
        return bool(found)

    def look_back(self) -> None:
        """Flags that are parsed already."""
        values = self._flags.FLAGS
        if not values.is_parsed():
            return
        try:
            self._give()
        except self._flags.Error as error:
            sys.stderr.write(
                f"FATAL Flags parsing error:\n  {error}\nPass --helpshort or --helpfull to see help on flags.\n"
            )
            sys.exit(1)
        if self._tell():
            self._hooks.line.keep()

    def _give(self) -> None:
        changed = False
        for name, edited in self._hooks.line.edited(SECTION).items():
            flag = self._known(name)
            if flag is None or _same(edited, flag):
                continue
            texts = self._texts(flag, edited)
            flag.unparse()
            for text in texts:
                flag.parse(text)
            flag.using_default_value = not texts
            changed = True
        if changed:
            self._flags.FLAGS.validate_all_flags()


def _is_own(module: str) -> bool:
    """absl names the main module by the script's path."""
    file = getattr(sys.modules.get(module), "__file__", None) or module
    return not is_installed(os.fspath(file)) and not module.startswith("absl.")


def _told(flag: Any) -> Parameter:
    described = encode(flag.value, flag.help or "")
    if described.type != "str" or isinstance(flag.value, str):
        return described
    texts = [line.partition("=")[2] for line in flag.serialize().splitlines()]  # an enumeration, a date
    if isinstance(flag.value, list):
        return msgspec.structs.replace(encode(texts, flag.help or ""))
    return msgspec.structs.replace(described, value=texts[0] if texts else "")


def _same(edited: Parameter, flag: Any) -> bool:
    return same_text(edited, flag.value) or _told(flag).value == edited.value


def install(hooks: Hooks, module: ModuleType) -> None:
    if not hooks.line.on:
        return
    flags: Any = module
    absl = _Absl(hooks, flags)
    hooks.around(flags.FlagValues, "__call__", absl.parse)
    absl.look_back()


BINDING = Binding(
    switch="tfdefines",
    modules=("absl.flags",),
    package="absl-py",
    since="1.0",
    hooks=("absl.flags.FlagValues.__call__",),
    install=install,
)
