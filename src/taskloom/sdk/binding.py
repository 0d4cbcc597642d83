"""What a binding declares, and the tools it hooks a framework with.

A binding is a file of `bindings/` with a `BINDING`. Its `install` is called once for each of its modules that gets
imported, and replaces functions of the framework through `Hooks`, which knows how to put them back. The rules
that every hook keeps, whoever wrote it:

* the framework's own function is called exactly once, with the caller's arguments, and what it returns or raises
  is what the caller gets;
* what a hook does besides runs inside `guard`: a fault is told once, listed in the task, and goes no further;
* after `undo` the framework is as it was; a function that somebody hooked on top of ours stays, and ours inside it
  does nothing any more.

Where a framework's function calls another one that is hooked too (a trainer that calls `torch.save`), only the
outermost is told: see `outermost`.

A function of a module is replaced in that module, in the one where it is defined (it could not be pickled else), and
in the script's own modules that imported it by name before: `from joblib import dump`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from taskloom.sdk.capture.whose import UsersNames, names_of_modules

if TYPE_CHECKING:
    from taskloom.domain.parameters import Parameter
    from taskloom.sdk.commandline import CommandLine
    from taskloom.sdk.reports.logger import Logger
    from taskloom.sdk.session import Session
    from taskloom.sdk.weights import Weights

Made = TypeVar("Made")
Then = Callable[..., None]
Around = Callable[..., Any]
_KINDS: tuple[Any, ...] = (staticmethod, classmethod)
Wanted = bool | str | Sequence[str]
Switches = bool | Mapping[str, Wanted]

_inside = threading.local()  # how deep this thread is in hooked functions that save or load


class Binding(msgspec.Struct, frozen=True):
    """The declaration of one file of `bindings/`.

    switch    its name in `auto_connect_frameworks`
    modules   the modules whose import calls `install(hooks, module)`, once each
    package   the distribution that holds the framework, for its version
    since     the oldest version that is hooked, such as "2.0"; an older one is left alone, and the task says so
    hooks     dotted names of what is replaced, for people
    install   puts the hooks in
    """

    switch: str
    modules: tuple[str, ...]
    package: str
    since: str
    hooks: tuple[str, ...]
    install: Callable[[Hooks, ModuleType], None]


class _Replaced(msgspec.Struct):
    owner: Any
    name: str
    ours: Any
    before: Any
    inherited: bool  # the owner itself did not have it
    turn: int


@dataclass(eq=False)
class Hooks:
    """What one binding has to work with during one task."""

    session: Session
    name: str
    weights: Weights
    line: CommandLine
    wanted: Wanted = True  # False never gets here; text or a list: wildcards of model files
    switches: Switches = True  # of all bindings: joblib's files are those of scikit-learn, XGBoost ...
    faulty: Callable[[str, str], None] = lambda _name, _fault: None
    script: UsersNames = field(default_factory=UsersNames)
    active: bool = True
    _turn: int = 0
    _shared: dict[Any, Any] = field(default_factory=dict[Any, Any])
    _replaced: list[_Replaced] = field(default_factory=list[_Replaced])
    _undoing: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    # --- what a binding tells -----------------------------------------------------------------------------

    @property
    def logger(self) -> Logger:
        return self.session.logger

    def wants_file(self, path: str | Path, switch: str = "") -> bool:
        """Whether models of this file are recorded: `auto_connect_frameworks={'pytorch': ['*.pt']}`.

        switch: another one that has a say, too.
        """
        both = (self.wanted, wanted_by(self.switches, switch) if switch else True)
        return all(_fits(path, wanted) for wanted in both)

    def report_parameters(self, section: str, found: Mapping[str, Parameter]) -> None:
        from taskloom.domain.task import TaskEdit

        if self.session.owner and found:
            self.session.edit(TaskEdit(parameters={section: dict(found)}))

    def edited_parameters(self, section: str) -> Mapping[str, Parameter]:
        """What stands on the server, when a worker or agent runs this; else nothing."""
        return self.session.document().parameters.get(section, {}) if self.session.identity.hosted else {}

    @contextlib.contextmanager
    def guard(self) -> Generator[None]:
        """The tracker's failure is never the script's."""
        try:
            yield
        except Exception as error:  # the boundary of the bindings
            fault = f"{type(error).__name__}: {error}"
            self.session.notices.once(
                ("binding", self.name), f"what {self.name} did was not recorded: {fault} (the script goes on)"
            )
            with self.session.notices.boundary(f"the fault of {self.name} could not be recorded"):
                self.faulty(self.name, fault)

    # --- replacing functions ------------------------------------------------------------------------------

    def after(self, owner: Any, name: str, then: Then, also: Sequence[Any] = ()) -> None:
        """Call `then(result, *args, **kwargs)` when `owner.name(*args, **kwargs)` has returned; also: as of `around`."""

        def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            with self.guard():
                then(result, *args, **kwargs)
            return result

        self.around(owner, name, around, also)

    def before(self, owner: Any, name: str, first: Then) -> None:
        """Call `first(*args, **kwargs)` before `owner.name(*args, **kwargs)` is called."""

        def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            with self.guard():
                first(*args, **kwargs)
            return original(*args, **kwargs)

        self.around(owner, name, around)

    def outermost(self, owner: Any, name: str, then: Then, also: Sequence[Any] = ()) -> None:
        """As `after`, but only where no other function hooked so is running in this thread: for what saves or
        loads models, since frameworks save through one another.
        """

        def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            with quiet() as alone:
                result = original(*args, **kwargs)
            if alone:
                with self.guard():
                    then(result, *args, **kwargs)
            return result

        self.around(owner, name, around, also)

    def around(self, owner: Any, name: str, wrapper: Around, also: Sequence[Any] = ()) -> None:
        """Replace `owner.name` by what calls `wrapper(original, *args, **kwargs)`, which must call `original` once and
        guard what it does besides. For where arguments or results have to change. `original` of a method is a
        function that takes the object first. also: modules that hold the same function under the same name, since
        they imported it; all get one and the same.
        """
        held: Any = inspect.getattr_static(owner, name)
        kind: Any = held.__class__ if isinstance(held, _KINDS) else None  # Lightning has a class of its own
        original: Any = held.__func__ if kind else held

        @functools.wraps(original)
        def ours(*args: Any, **kwargs: Any) -> Any:
            return wrapper(original, *args, **kwargs) if self.active else original(*args, **kwargs)

        self.replace(owner, name, kind(ours) if kind else ours, also)

    def replace(self, owner: Any, name: str, ours: Any, also: Sequence[Any] = ()) -> None:
        """Put `ours` in the place of `owner.name`, until `undo`; it has to ask `active` itself. also: as of `around`."""
        held = inspect.getattr_static(owner, name)
        if any(one.ours is held and one.turn != self._turn for one in self._replaced):
            return  # the module was imported again, and got what hangs elsewhere already
        places = [(owner, name), *((one, name) for one in also)]
        if isinstance(owner, ModuleType):
            places += _home(held)
        for place, attribute in places:
            if inspect.getattr_static(place, attribute, None) is held:
                inherited = attribute not in getattr(place, "__dict__", {})
                setattr(place, attribute, ours)
                self._replaced.append(_Replaced(place, attribute, ours, held, inherited, self._turn))
        if isinstance(owner, ModuleType):
            self._swap_in_script(held, ours)

    def _swap_in_script(self, old: Any, new: Any) -> None:
        """In the script's own modules, under whatever name they imported it."""
        for names in self.script.now():
            for name, value in list(names.items()):  # at once: another thread may import meanwhile
                if value is old:
                    names[name] = new

    def shared(self, make: Callable[[Hooks], Made]) -> Made:
        """What a binding of several modules keeps for all of them: made when it is first asked for."""
        if make not in self._shared:
            self._shared[make] = make(self)
        return self._shared[make]

    def begin(self) -> None:
        """A module comes to be hooked: for the first time, or again since it was reloaded."""
        self._turn += 1

    def on_undo(self, undo: Callable[[], None]) -> None:
        """For what is not a replaced function: a registered callback, an environment variable."""
        self._undoing.append(undo)

    def undo(self) -> None:
        self.active = False
        for undo in reversed(self._undoing):
            with self.guard():
                undo()
        modules = list(names_of_modules()) if self._replaced else []
        for one in reversed(self._replaced):
            if isinstance(one.owner, ModuleType):
                self._swap_in_script(one.ours, one.before)
                for names in modules:  # who imported it since
                    if names.get(one.name) is one.ours:
                        names[one.name] = one.before
            if inspect.getattr_static(one.owner, one.name, None) is not one.ours:
                continue  # somebody hooked on top of us; ours is inactive now
            if one.inherited:
                delattr(one.owner, one.name)
            else:
                setattr(one.owner, one.name, one.before)
        self._replaced.clear()
        self._undoing.clear()


def wanted_by(switches: Switches, name: str) -> Wanted:
    return switches if isinstance(switches, bool) else switches.get(name, True)


def _fits(path: str | Path, wanted: Wanted) -> bool:
    if isinstance(wanted, bool):
        return wanted
    patterns = [wanted] if isinstance(wanted, str) else wanted
    return any(fnmatch(str(path), one) or fnmatch(Path(path).name, one) for one in patterns)


def _home(function: Any) -> Iterator[tuple[Any, str]]:
    """The module that defines a function, which is where pickle looks for it."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    name = getattr(function, "__qualname__", "")
    if module is not None and inspect.getattr_static(module, name, None) is function:
        yield module, name


@contextlib.contextmanager
def quiet() -> Generator[bool]:
    """While it is open no `outermost` hook of this thread tells anything; yields whether it was the first one."""
    depth = getattr(_inside, "depth", 0)
    _inside.depth = depth + 1
    try:
        yield depth == 0
    finally:
        _inside.depth = depth
