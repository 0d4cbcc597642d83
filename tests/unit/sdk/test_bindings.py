"""Hooks and frameworks: what is replaced, what is put back, and that neither faults nor odd imports hurt a script.

The package that is hooked here is written by the tests and imported as any other; its binding is a real one.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from taskloom import Task
from taskloom.sdk import frameworks
from taskloom.sdk import session as sessions
from taskloom.sdk.binding import Binding, Hooks, quiet

Told = list[tuple[Any, ...]]

SOURCE = {
    "loomworks/__init__.py": """
        from loomworks.inner import dump as dump
        from loomworks.classes import Model as Model
        __version__ = "2.1"
    """,
    "loomworks/inner.py": """
        def dump(value, *, name="x"):
            "Writes it."
            if value == "bad":
                raise ValueError("not that")
            return ("dumped", value, name)
        def outer(value):
            return dump(value, name="within")
    """,
    "loomworks/classes.py": """
        class OwnKind(classmethod):
            "As Lightning has one."
        class Base:
            def save(self, path):
                return (type(self).__name__, path)
            @classmethod
            def load(cls, path):
                return (cls.__name__, path)
            @staticmethod
            def plain(path):
                return path
            @OwnKind
            def own(cls, path):
                return (cls.__name__, path)
        class Model(Base):
            pass
    """,
    "loombroken.py": """
        import no_such_module_anywhere
    """,
}


class Bench:
    """The package on the path, and tasks that hook it with what a test wants to install."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.told: Told = []
        self.installed: list[str] = []

    def binding(
        self,
        install: Callable[[Hooks, ModuleType], None],
        module: str = "loomworks",
        file: str = "loom",
        **more: Any,
    ) -> None:
        def installing(hooks: Hooks, loaded: ModuleType) -> None:
            self.installed.append(loaded.__name__)
            install(hooks, loaded)

        declared = {
            "switch": file,
            "modules": (module,),
            "package": "loomworks",
            "since": "2.0",
            "hooks": ("all",),
        }
        holder: Any = ModuleType(f"taskloom.sdk.bindings.{file}")
        holder.BINDING = Binding(**{**declared, **more}, install=installing)
        self._patch.setitem(sys.modules, holder.__name__, holder)
        self._patch.setitem(frameworks.TRIGGERS, module, file)

    def tell(self, name: str) -> Callable[..., None]:
        return lambda result, *args, **kwargs: self.told.append((name, result, args, kwargs))

    def begin(self, **more: Any) -> Task:
        # The rest of the process is not this test's: only its own package is hooked.
        for name in [one for one in frameworks.TRIGGERS if not one.startswith("loom")]:
            self._patch.delitem(frameworks.TRIGGERS, name)
        off = ("auto_connect_streams", "auto_resource_monitoring", "auto_connect_arg_parser")
        options = {"auto_connect_frameworks": {"detect_repository": False}, **dict.fromkeys(off, False), **more}
        return Task.init("tests/bindings", "hooked", reuse_last_task_id=False, **options)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for name, text in SOURCE.items():
        file = tmp_path / "packages" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.setenv("TASKLOOM_OFFLINE", "1")
    monkeypatch.setattr(sessions.current, "seed", None)
    known = set(sys.modules)
    yield Bench(monkeypatch)
    if sessions.current.session is not None:
        sessions.current.session.close()
    for name in set(sys.modules) - known:
        if name.startswith("loom"):
            del sys.modules[name]


def bindings(task: Task) -> dict[str, Any]:
    return task._recorder.document().runtime.get("bindings", {})  # pyright: ignore[reportPrivateUsage]


def load(name: str = "loomworks") -> Any:
    return importlib.import_module(name)


# --- what is replaced, and put back ----------------------------------------------------------------------


def test_a_function_is_the_same_wherever_it_is_known_and_all_are_put_back(bench: Bench) -> None:
    bench.binding(lambda hooks, module: hooks.after(module, "dump", bench.tell("dump")))
    works = load()
    script = ModuleType("loomscript")
    script.__dict__.update(imported_before=works.dump, other=len, __file__="/home/somebody/loomscript.py")
    sys.modules["loomscript"] = script
    library = ModuleType("loomlibrary")
    library.__dict__.update(imported_before=works.dump, __file__="/usr/lib/python3/site-packages/loomlibrary.py")
    sys.modules["loomlibrary"] = library
    original, signature = works.dump, inspect.signature(works.dump)

    task = bench.begin()
    ours = works.dump
    assert ours is not original
    assert ours is works.inner.dump is script.__dict__["imported_before"]
    assert library.__dict__["imported_before"] is original, "what a library holds for itself is left alone"
    assert inspect.signature(ours) == signature and ours.__doc__ == "Writes it."
    assert pickle.loads(pickle.dumps(ours)) is ours and copy.deepcopy(ours) is ours
    assert ours(3, name="y") == ("dumped", 3, "y")
    assert script.__dict__["imported_before"](4) == ("dumped", 4, "x")
    assert works.inner.outer(5) == ("dumped", 5, "within")
    script.__dict__["imported_since"] = ours
    library.__dict__["dump"] = ours

    task.close()
    assert library.__dict__["dump"] is original, "a library that imported it since, too"
    assert works.dump is works.inner.dump is original
    assert script.__dict__["imported_before"] is script.__dict__["imported_since"] is original
    assert ours(6) == ("dumped", 6, "x"), "somebody may have kept ours"
    assert bench.told == [
        ("dump", ("dumped", 3, "y"), (3,), {"name": "y"}),
        ("dump", ("dumped", 4, "x"), (4,), {}),
        ("dump", ("dumped", 5, "within"), (5,), {"name": "within"}),
    ]


def test_methods_of_every_kind_are_hooked_and_put_back(bench: Bench) -> None:
    def install(hooks: Hooks, module: Any) -> None:
        for name in ("save", "load", "plain", "own"):
            hooks.after(module.Model, name, bench.tell(name))

    bench.binding(install)
    model = load().Model
    base = model.__mro__[1]
    task = bench.begin()
    made = model()
    assert (made.save("a"), model.load("b"), model.plain("c"), made.plain("d"), model.own("e")) == (
        ("Model", "a"),
        ("Model", "b"),
        "c",
        "d",
        ("Model", "e"),
    )
    assert base().save("z") == ("Base", "z")
    assert type(inspect.getattr_static(model, "own")).__name__ == "OwnKind"
    told = [
        ("save", ("Model", "a"), (made, "a"), {}),
        ("load", ("Model", "b"), (model, "b"), {}),
        ("plain", "c", ("c",), {}),
        ("plain", "d", ("d",), {}),
        ("own", ("Model", "e"), (model, "e"), {}),
    ]
    assert bench.told == told
    task.close()
    assert not {"save", "load", "plain", "own"} & set(vars(model)), "they are inherited again"
    assert (made.save("a"), model.load("b"), model.plain("c")) == (("Model", "a"), ("Model", "b"), "c")
    assert bench.told == told


def test_what_somebody_hooked_on_top_stays_and_ours_below_is_silent(bench: Bench) -> None:
    bench.binding(lambda hooks, module: hooks.after(module, "dump", bench.tell("dump")))
    works = load()
    task = bench.begin()
    ours = works.dump
    works.dump = lambda value: ("on top", ours(value))
    theirs = works.dump
    assert works.dump(1) == ("on top", ("dumped", 1, "x"))
    task.close()
    assert works.dump is theirs
    assert works.dump(2) == ("on top", ("dumped", 2, "x"))
    assert [one[2] for one in bench.told] == [(1,)]


def test_before_and_around_get_the_arguments_and_a_whole_class_can_be_replaced(bench: Bench) -> None:
    def install(hooks: Hooks, module: Any) -> None:
        hooks.before(module, "dump", lambda *args, **kwargs: bench.told.append(("before", args, kwargs)))
        hooks.around(module.Model, "save", lambda original, model, path: original(model, f"{path}, changed"))
        hooks.replace(module.classes, "Base", dict)

    bench.binding(install)
    works = load()
    base = works.classes.Base
    task = bench.begin()
    assert works.dump(1, name="n") == ("dumped", 1, "n")
    assert works.Model().save("a") == ("Model", "a, changed")
    assert works.classes.Base is dict
    assert bench.told == [("before", (1,), {"name": "n"})]
    task.close()
    assert works.classes.Base is base


def test_only_the_outermost_of_saving_functions_is_told_in_each_thread(bench: Bench) -> None:
    def install(hooks: Hooks, module: Any) -> None:
        hooks.outermost(module.inner, "dump", bench.tell("dump"))
        hooks.outermost(module.inner, "outer", bench.tell("outer"))

    bench.binding(install)
    works = load()
    bench.begin()
    works.inner.outer(1)
    with pytest.raises(ValueError, match="not that"):
        works.inner.outer("bad")
    works.inner.dump(2)
    with quiet() as alone:
        assert alone
        works.inner.dump(3)
        other = threading.Thread(target=works.inner.dump, args=(4,))
        other.start()
        other.join()
    assert [(name, args) for name, _, args, _ in bench.told] == [("outer", (1,)), ("dump", (2,)), ("dump", (4,))]


# --- faults -----------------------------------------------------------------------------------------------


def test_a_fault_is_told_once_listed_and_the_result_stays(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("what nobody foresaw")

    bench.binding(lambda hooks, module: hooks.after(module, "dump", broken))
    task = bench.begin()
    works = load()
    assert [works.dump(n) for n in range(3)] == [("dumped", n, "x") for n in range(3)]
    with pytest.raises(ValueError, match="not that"):
        works.dump("bad")
    fault = "KeyError: 'what nobody foresaw'"
    assert bindings(task) == {"loom": {"version": "2.1", "hooks": ["all"], "fault": fault}}
    task.close()
    said = [line for line in capsys.readouterr().err.splitlines() if "what nobody foresaw" in line]
    assert said == [f"taskloom: what loom did was not recorded: {fault} (the script goes on)"]


def test_a_journal_that_cannot_be_written_does_not_reach_the_script_through_a_fault(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.binding(lambda hooks, module: hooks.after(module, "dump", lambda *_, **__: 1 / 0))
    task = bench.begin()
    works = load()

    def full(_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(task._recorder, "record", full)  # pyright: ignore[reportPrivateUsage]
        assert works.dump(1) == ("dumped", 1, "x")


def test_an_installation_that_fails_half_way_is_listed_and_undone(bench: Bench) -> None:
    def install(hooks: Hooks, module: Any) -> None:
        hooks.after(module, "dump", bench.tell("dump"))
        hooks.after(module, "no_such_function", bench.tell("none"))

    bench.binding(install)
    task = bench.begin()
    works = load()
    assert works.dump(1) == ("dumped", 1, "x")
    assert [name for name, *_ in bench.told] == ["dump"]
    assert bindings(task)["loom"]["fault"] == "AttributeError: no_such_function"
    task.close()
    works.dump(2)
    assert len(bench.told) == 1


def test_a_binding_that_cannot_be_loaded_leaves_the_framework_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(frameworks.TRIGGERS, "loomworks", "no_such_binding")
    task = bench.begin()
    assert load().dump(1) == ("dumped", 1, "x")
    assert bindings(task) == {}
    assert "no_such_binding could not be hooked: ModuleNotFoundError" in capsys.readouterr().err


def test_what_fails_while_it_is_undone_does_not_keep_the_rest(bench: Bench) -> None:
    def install(hooks: Hooks, module: Any) -> None:
        hooks.after(module, "dump", bench.tell("dump"))
        hooks.on_undo(lambda: bench.told.append(("undone",)))
        hooks.on_undo(lambda: 1 / 0)

    bench.binding(install)
    works = load()
    original = works.dump
    bench.begin().close()
    assert works.dump is original
    assert bench.told == [("undone",)]


# --- imports ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [True, False])
def test_a_framework_is_hooked_once_whether_it_was_imported_before_or_after(bench: Bench, before: bool) -> None:
    bench.binding(lambda hooks, module: hooks.after(module, "dump", bench.tell("dump")))
    if before:
        load()
    task = bench.begin()
    works = load()
    load()
    works.dump(1)
    assert len(bench.told) == 1 and bench.installed == ["loomworks"]
    assert bindings(task) == {"loom": {"version": "2.1", "hooks": ["all"]}}
    assert "exec_module" not in vars(works.__spec__.loader)


def test_an_import_that_fails_fails_as_ever_and_can_succeed_later(bench: Bench, tmp_path: Path) -> None:
    bench.binding(lambda hooks, module: None, module="loombroken")
    task = bench.begin()
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError) as failed:
            load("loombroken")
        assert failed.value.name == "no_such_module_anywhere"
        assert "loombroken" not in sys.modules and bench.installed == []
    (tmp_path / "packages" / "no_such_module_anywhere.py").write_text("")
    importlib.invalidate_caches()
    load("loombroken")
    del sys.modules["no_such_module_anywhere"]
    assert bench.installed == ["loombroken"]
    task.close()
    assert not any(type(one).__name__ == "Imports" for one in sys.meta_path)


def test_a_framework_that_is_not_there_is_missing_as_ever(bench: Bench) -> None:
    bench.binding(lambda hooks, module: None, module="loomnowhere")
    bench.begin()
    assert importlib.util.find_spec("loomnowhere") is None
    with pytest.raises(ModuleNotFoundError):
        load("loomnowhere")


def test_a_lazy_module_is_hooked_when_it_is_used_and_not_loaded_for_us(bench: Bench) -> None:
    bench.binding(lambda hooks, module: hooks.after(module, "dump", bench.tell("dump")))
    spec = importlib.util.find_spec("loomworks")
    assert spec is not None and spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    sys.modules["loomlazy"] = lazy
    spec.loader.exec_module(lazy)
    bench.begin()
    load()
    assert type(lazy).__name__ == "_LazyModule", "looking for names of the script does not load it"


def test_a_reloaded_module_is_hooked_again_and_still_once(bench: Bench) -> None:
    def install(hooks: Hooks, module: Any) -> None:
        hooks.after(module, "dump", bench.tell("dump"))
        hooks.after(module, "outer", bench.tell("outer"))

    bench.binding(install, module="loomworks.inner")
    task = bench.begin()
    works = load()
    importlib.reload(works.inner)
    importlib.reload(works)
    assert works.dump is works.inner.dump
    works.inner.outer(1)
    assert [name for name, *_ in bench.told] == ["dump", "outer"]
    task.close()
    works.inner.outer(2)
    assert len(bench.told) == 2
    assert not hasattr(works.inner.dump, "__wrapped__")


def test_frameworks_that_are_imported_by_two_threads_at_once_are_hooked_once_each(bench: Bench) -> None:
    bench.binding(lambda hooks, module: hooks.after(module, "dump", bench.tell("dump")))
    bench.binding(
        lambda hooks, module: hooks.after(module, "outer", bench.tell("outer")), "loomworks.inner", "loin"
    )
    bench.begin()
    threads = [threading.Thread(target=load, args=(name,)) for name in ("loomworks", "loomworks.inner") * 4]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    load().inner.outer(1)
    assert sorted(name for name, *_ in bench.told) == ["dump", "outer"]


# --- tasks and switches -----------------------------------------------------------------------------------


def test_two_tasks_in_one_process_each_get_their_own(bench: Bench) -> None:
    def install(hooks: Hooks, module: Any) -> None:
        hooks.after(module, "dump", lambda *_, **__: bench.told.append((hooks.session.id,)))

    bench.binding(install)
    works = load()
    original = works.dump
    first = bench.begin()
    by_name = works.dump
    script = ModuleType("loomscript")
    script.__dict__.update(by_name=by_name, __file__="/home/somebody/loomscript.py")
    sys.modules["loomscript"] = script
    works.dump(1)
    first.close()
    works.dump(2)
    second = bench.begin()
    works.dump(3)
    script.__dict__["by_name"](4)
    second.close()
    assert works.dump is original
    assert bench.told == [(first.id,), (second.id,), (second.id,)]


@pytest.mark.parametrize("switches", [False, {"loom": False, "detect_repository": False}])
def test_a_framework_that_is_switched_off_is_not_touched(bench: Bench, switches: Any) -> None:
    bench.binding(lambda hooks, module: hooks.after(module, "dump", bench.tell("dump")))
    works = load()
    original = works.dump
    task = bench.begin(auto_connect_frameworks=switches)
    assert works.dump is original
    assert bench.installed == [] and bindings(task) == {}


def test_an_older_framework_is_left_alone_and_the_task_says_so(bench: Bench) -> None:
    bench.binding(lambda hooks, module: hooks.after(module, "dump", bench.tell("dump")), since="2.2")
    task = bench.begin()
    load().dump(1)
    assert bench.told == []
    assert bindings(task) == {"loom": {"version": "2.1", "skipped": "older than 2.2"}}


@pytest.mark.parametrize(
    ("wanted", "path", "yes"),
    [
        (True, "models/a.bin", True),
        ("*.pt", "models/a.pt", True),
        ("*.pt", "models/a.bin", False),
        (["*.pt", "best*"], "models/best.bin", True),
        (["models/*.bin"], "models/a.bin", True),
        (["models/*.bin"], "other/a.bin", False),
        ([], "models/a.pt", False),
    ],
)
def test_wildcards_choose_model_files(bench: Bench, wanted: Any, path: str, yes: bool) -> None:
    found: list[bool] = []
    bench.binding(lambda hooks, module: found.append(hooks.wants_file(path)))
    bench.begin(auto_connect_frameworks={"loom": wanted, "detect_repository": False})
    load()
    assert found == [yes]


def test_another_switch_has_a_say_about_a_file(bench: Bench) -> None:
    found: list[bool] = []

    def install(hooks: Hooks, module: Any) -> None:
        found.extend(hooks.wants_file("a.pt", switch) for switch in ("", "scikit", "other", "few"))

    bench.binding(install)
    bench.begin(auto_connect_frameworks={"scikit": False, "few": "*.bin", "detect_repository": False})
    load()
    assert found == [True, False, True, False]


def test_what_modules_of_a_binding_share_is_made_once_for_each_task(bench: Bench) -> None:
    class Shared:
        def __init__(self, hooks: Hooks) -> None:
            self.hooks = hooks

    made: list[Shared] = []
    for module in ("loomworks", "loomworks.inner"):
        bench.binding(lambda hooks, _: made.append(hooks.shared(Shared)), module)
    load()
    for _ in range(2):
        bench.begin().close()
    assert len(made) == 4
    assert made[0] is made[1] and made[2] is made[3] and made[0] is not made[2]


def test_a_forked_child_has_the_hooks_and_is_not_the_owner(bench: Bench) -> None:
    bench.binding(
        lambda hooks, module: hooks.after(module, "dump", lambda *_, **__: seen.append(hooks.session.owner))
    )
    seen: list[bool] = []
    bench.begin()
    works = load()
    pid = os.fork()
    if pid == 0:
        fine = works.dump(1) == ("dumped", 1, "x") and seen == [False]
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    works.dump(2)
    assert seen == [True]


def test_a_script_without_a_framework_loads_nothing_of_this(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from taskloom import Task
        task = Task.init("tests/bindings", "nothing", auto_connect_streams=False, auto_resource_monitoring=False)
        rooms = ("taskloom.sdk.bindings.", "taskloom.sdk.translations.model_files", "taskloom.sdk.fingerprints", "joblib", "torch")
        found = [name for name in sys.modules if name.startswith(rooms)]
        assert found == [], found
        task.close()
        assert "bindings" not in task._recorder.document().runtime
        """)
    )
    environment = {**os.environ, "TASKLOOM_OFFLINE": "1", "TASKLOOM_DATA": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
