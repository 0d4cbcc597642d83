"""Hydra: the composed configuration is the configuration object `OmegaConf`, each override a parameter of section
`Hydra`, and overrides that are edited or added in the task reach a worker's run.

`Hydra/db.user` stands for `db.user=...`, whether the key is new or not; `Hydra/db` chooses an option of the group `db`.
Words of the command line that are no overrides of the script's configuration (`--config-name`, `hydra.run.dir=...`,
`--multirun`) stay the task's arguments. With `Hydra/_allow_omegaconf_edit_` = True a worker ignores the overrides
and uses the text of `OmegaConf` itself; secrets, which are `???` there, keep the values of the composed configuration.

`auto_connect_arg_parser=False` leaves the overrides out; the configuration is recorded all the same.

Task.init before the decorated function: one task, for a whole multirun too. Task.init inside it: the composition is
over, so edited overrides make the script begin again; each job of a multirun is a task of its own, ended with it.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, ModuleType
from typing import Any, cast

from taskloom.domain.parameters import Parameter, encode
from taskloom.domain.task import ConfigurationObject, TaskEdit
from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.capture.chosen import is_secret, names_a_secret
from taskloom.sdk.capture.whose import caller_outside, is_installed

SECTION = "Hydra"
CONFIGURATION = "OmegaConf"
KIND = "OmegaConf YAML"
ALLOW = "_allow_omegaconf_edit_"
_ALLOW_HELP = f"True: a worker ignores these overrides and uses the text of the configuration {CONFIGURATION}"
_MULTIRUN = ("-m", "--multirun")
_SWEEPS = "the jobs of a multirun are composed from overrides; Hydra/_allow_omegaconf_edit_ is not used"


class _Hydra:
    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    # --- Task.init came first -----------------------------------------------------------------------------

    def run(self, original: Callable[..., Any], hydra: Any, *more: Any, **named: Any) -> Any:
        """In place of `Hydra.run`: edited overrides in, what was composed out."""
        call = inspect.signature(original).bind(hydra, *more, **named)
        with self._hooks.guard():
            if _is_users():
                call.arguments["overrides"] = self._begin(hydra.config_loader, call.arguments)
                call.arguments["task_function"] = self._told(hydra.config_loader, call.arguments["task_function"])
        return original(*call.args, **call.kwargs)

    def multirun(self, original: Callable[..., Any], hydra: Any, *more: Any, **named: Any) -> Any:
        """In place of `Hydra.multirun`: the sweep's overrides; jobs may run elsewhere, so they are not watched."""
        call = inspect.signature(original).bind(hydra, *more, **named)
        with self._hooks.guard():
            if _is_users():
                if self._is_edited_whole():
                    self._hooks.session.notices.say(_SWEEPS)
                overrides = self._begin(hydra.config_loader, call.arguments, sweep=True)
                call.arguments["overrides"] = overrides
                task = [word for word in overrides if not _is_hydras(word)]
                self._tell_overrides(hydra.config_loader, task)
                config = _composed(hydra.config_loader, call.arguments["config_name"], _single(task), "MULTIRUN")
                self._tell_configuration(config)
        return original(*call.args, **call.kwargs)

    def _begin(self, loader: Any, arguments: Mapping[str, Any], *, sweep: bool = False) -> list[str]:
        """The overrides with the task's; what is no parameter is kept as the command line."""
        own = list(arguments["overrides"])
        hydras = [word for word in own if _is_hydras(word) and word in sys.argv]  # Hydra adds some of its own
        self._hooks.line.keep([*_flags(own, multirun=True), *hydras])
        if self._is_edited_whole() and not sweep:
            return own
        edited = self._edited()
        if not edited:
            return own
        mode = "MULTIRUN" if sweep else "RUN"
        try:
            config = _composed(loader, arguments["config_name"], hydras, mode)
        except Exception:  # Hydra itself will say what is wrong, in its own words
            config = None
        return [*self._words(loader, edited, config, sweep=sweep), *own]

    def _told(self, loader: Any, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def told(config: Any) -> Any:
            with self._hooks.guard():
                from hydra.core.hydra_config import HydraConfig  # pyright: ignore[reportMissingImports]

                overrides = list(cast("Any", HydraConfig).get().overrides.task)
                self._tell(loader, overrides, config)
            return function(config)

        return told

    # --- what is told -------------------------------------------------------------------------------------

    def _tell(self, loader: Any, overrides: Sequence[str], config: Any) -> None:
        if self._is_edited_whole():
            text = self._hooks.session.document().configuration[CONFIGURATION].value
            _replace_content(config, text)
            self._hooks.session.notices.say(
                f"the configuration is the text of {CONFIGURATION}, as edited in the task"
            )
            self._hooks.line.reported = True
            return
        self._tell_overrides(loader, overrides)
        self._tell_configuration(config)

    def _tell_overrides(self, loader: Any, overrides: Sequence[str]) -> None:
        found = _named(loader, overrides)
        if ALLOW not in self._hooks.line.edited(SECTION):
            found[ALLOW] = Parameter("False", "bool", _ALLOW_HELP)
        self._hooks.line.report(found, SECTION)

    def _tell_configuration(self, config: Any) -> None:
        from omegaconf import OmegaConf  # pyright: ignore[reportMissingImports]

        if not self._hooks.session.owner:
            return
        text = cast("Any", OmegaConf).to_yaml(self._without_secrets(config), resolve=False)
        told = ConfigurationObject(text, KIND, f"read-only, unless {SECTION}/{ALLOW} is True")
        if self._hooks.session.document().configuration.get(CONFIGURATION) != told:
            self._hooks.session.edit(TaskEdit(configuration={CONFIGURATION: told}))

    def _without_secrets(self, config: Any) -> Any:
        """A copy in which plain texts of secret names are marked as missing; interpolations stay."""
        from omegaconf import OmegaConf  # pyright: ignore[reportMissingImports]

        omega: Any = OmegaConf
        plain = omega.to_container(config, resolve=False)

        def clean(value: Any, path: tuple[str, ...]) -> Any:
            if isinstance(value, dict):
                inner = cast("dict[Any, Any]", value)
                return {key: clean(one, (*path, str(key))) for key, one in inner.items()}
            secret = path and isinstance(value, str) and value and is_secret(path[-1]) and "${" not in value
            return "???" if secret and not self._hooks.line.chosen.takes(".".join(path)) else value

        return omega.create(clean(plain, ()))

    # --- edited overrides ---------------------------------------------------------------------------------

    def _is_edited_whole(self) -> bool:
        allowed = self._hooks.line.edited(SECTION).get(ALLOW)
        wanted = allowed is not None and allowed.value.strip().lower() in {"true", "1", "yes", "on"}
        return wanted and CONFIGURATION in self._hooks.session.document().configuration

    def _edited(self) -> dict[str, Parameter]:
        return {name: one for name, one in self._hooks.line.edited(SECTION).items() if name != ALLOW}

    def _words(
        self, loader: Any, edited: Mapping[str, Parameter], config: Any, *, sweep: bool = False
    ) -> list[str]:
        return [_word(loader, name, one, config, sweep) for name, one in edited.items()]

    # --- Task.init inside the decorated function ----------------------------------------------------------

    def look_back(self) -> None:
        frame = _frame("hydra.core.utils", "run_job")
        if frame is None:
            return
        config, inner = frame.f_locals["config"], frame.f_locals.get("task_cfg")
        context = frame.f_locals["hydra_context"]
        loader = context.config_loader
        overrides = list(config.hydra.overrides.task)
        multirun = str(config.hydra.mode).endswith("MULTIRUN")
        own = [*overrides, *(word for word in sys.argv[1:] if not word.startswith("-") and "=" in word)]
        hydras = [word for word in config.hydra.overrides.hydra if word in sys.argv]
        rest = [*_flags(own, multirun=False), *hydras]
        edited = self._edited()
        if edited and not self._is_edited_whole() and _texts(_named(loader, overrides)) != _texts(edited):
            words = [*rest, *self._words(loader, edited, inner)]
            self._hooks.line.restart(words, str(config.hydra.runtime.cwd))
        self._tell(loader, overrides, inner)
        self._hooks.line.keep([word for word in (*rest, *overrides) if not names_a_secret([word])])
        if multirun:
            self._end_with(context.callbacks.callbacks)

    def _end_with(self, callbacks: list[Any]) -> None:
        """The next job of a multirun begins a task of its own."""
        from hydra.experimental.callback import Callback  # pyright: ignore[reportMissingImports]

        session = self._hooks.session

        class End(cast("type[Any]", Callback)):
            def on_job_end(self, config: Any, job_return: Any, **more: Any) -> None:
                from taskloom.sdk.ending import Outcome

                del config, more
                failed = job_return.status.name == "FAILED"
                error = job_return._return_value if failed else None
                session.close(Outcome("failed", "the job raised an exception", repr(error)) if failed else None)

        callback = End()
        callbacks.append(callback)
        self._hooks.on_undo(lambda: callbacks.remove(callback))


# --- overrides ---------------------------------------------------------------------------------------------


def _is_users() -> bool:
    frame = caller_outside("hydra")
    return frame is None or not is_installed(frame.f_code.co_filename)


def _frame(module: str, function: str) -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and (
        frame.f_code.co_name != function
        or frame.f_globals.get("__name__") != module
        or "ret" not in frame.f_locals
    ):
        frame = frame.f_back
    return frame


def _flags(overrides: Sequence[str], *, multirun: bool) -> list[str]:
    """The command line without its overrides; `multirun`: the flag that asks for one, too."""
    return [word for word in sys.argv[1:] if word not in overrides and (multirun or word not in _MULTIRUN)]


def _key(word: str) -> str:
    """`+db@here=mysql` -> `db`"""
    return word.partition("=")[0].lstrip("+~").partition("@")[0]


def _is_hydras(word: str) -> bool:
    return _key(word).startswith(("hydra.", "hydra/"))


def _is_group(loader: Any, key: str) -> bool:
    return bool(loader.repository.group_exists(key))


def _named(loader: Any, overrides: Sequence[str]) -> dict[str, Parameter]:
    """`['db.user=root', '+x=1', '~y']` by name: `db.user`, `x`, `~y`; of a group the sign stays (`+db`)."""
    found: dict[str, Parameter] = {}
    for word in overrides:
        name, _, text = word.partition("=")
        if not name.startswith("~") and not _is_group(loader, _key(word)):
            name = name.lstrip("+")
        found[name] = Parameter(text, _kind(word), "", given=True)
    return found


def _kind(word: str) -> str:
    """The type of the value as Hydra's grammar reads it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # pyright: ignore[reportMissingImports]

    (override,) = cast("Any", OverridesParser).create().parse_overrides([word])
    if override.value_type is None or override.is_sweep_override():
        return "str"
    return encode(override.value()).type


def _single(overrides: Sequence[str]) -> list[str]:
    """Those that have one value in all jobs of a sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # pyright: ignore[reportMissingImports]

    parser = cast("Any", OverridesParser).create()
    return [word for word in overrides if not parser.parse_overrides([word])[0].is_sweep_override()]


def _word(loader: Any, name: str, edited: Parameter, config: Any, sweep: bool) -> str:
    if name.startswith("~"):
        return f"{name}={edited.value}" if edited.value else name
    text = "null" if edited.type == "none" and edited.value in {"", "None"} else edited.value
    if not _is_group(loader, _key(name)):
        name = name.lstrip("+")
        if not _has(config, name):
            name = f"++{name}"
    return f"{name}={text if _reads(name, text, sweep) else _quoted(text)}"


def _reads(name: str, text: str, sweep: bool) -> bool:
    """Whether Hydra's grammar takes it, for several values in a sweep: what a person types into a form need not."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # pyright: ignore[reportMissingImports]
    from hydra.errors import OverrideParseException  # pyright: ignore[reportMissingImports]

    try:
        (override,) = cast("Any", OverridesParser).create().parse_overrides([f"{name}={text}"])
    except cast("Any", OverrideParseException):
        return False
    return sweep or not override.is_sweep_override()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if "\\" not in text else "'" + text.replace("'", "\\'") + "'"


def _has(config: Any, name: str) -> bool:
    at = config
    for part in name.split("."):
        keys: Any = getattr(at, "keys", None)
        if keys is None or part not in keys():
            return False
        at = at._get_node(part)
    return True


def _texts(named: Mapping[str, Parameter]) -> dict[str, str]:
    return {name: one.value for name, one in named.items()}


# --- configurations ----------------------------------------------------------------------------------------


def _composed(loader: Any, name: str | None, overrides: Sequence[str], mode: str) -> Any:
    """The script's configuration with these overrides, without Hydra's own part."""
    from hydra.types import RunMode  # pyright: ignore[reportMissingImports]
    from omegaconf import open_dict, read_write  # pyright: ignore[reportMissingImports]

    config = loader.load_configuration(
        config_name=name, overrides=list(overrides), run_mode=cast("Any", RunMode)[mode]
    )
    with cast("Any", read_write)(config), cast("Any", open_dict)(config):
        del config["hydra"]
    return config


def _replace_content(config: Any, text: str) -> None:
    """In place: the script holds this object. What is missing in the text (`???`) stays as it was composed."""
    from omegaconf import OmegaConf, open_dict, read_write  # pyright: ignore[reportMissingImports]

    omega: Any = OmegaConf
    edited = omega.to_container(omega.create(text), resolve=False)

    def put(target: Any, values: dict[str, Any]) -> None:
        for key in list(target.keys()):
            if key not in values:
                del target[key]
        for key, value in values.items():
            node: Any = target._get_node(key) if key in target.keys() else None  # noqa: SIM118 - a missing value is a key
            if value == "???" and node is not None:
                continue
            if isinstance(value, dict) and node is not None and omega.is_dict(node) and not node._is_none():
                put(node, cast("dict[str, Any]", value))
            else:
                target[key] = value

    with cast("Any", read_write)(config), cast("Any", open_dict)(config):
        put(config, edited)


def install(hooks: Hooks, module: ModuleType) -> None:
    hydra = _Hydra(hooks)
    hooks.around(cast("Any", module).Hydra, "run", hydra.run)
    hooks.around(cast("Any", module).Hydra, "multirun", hydra.multirun)
    hydra.look_back()


BINDING = Binding(
    switch="hydra",
    modules=("hydra._internal.hydra",),
    package="hydra-core",
    since="1.3",
    hooks=("hydra.main (Hydra.run)", "hydra.main (Hydra.multirun)"),
    install=install,
)
