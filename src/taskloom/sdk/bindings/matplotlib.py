"""Matplotlib: what is shown is recorded, and what is saved where a script wishes it.

`plt.show`, `fig.show` and the inline figures of notebooks report every open figure once in each of its states. Figures
of images alone (`imshow`) are debug samples, others plots. `auto_connect_frameworks={"matplotlib": "*.png"}` also
reports the figures that `savefig` writes to files of that name. How a figure becomes a plot is `drawn_figures`.
"""

from __future__ import annotations

import hashlib
import json
import threading
import weakref
from importlib import import_module
from pathlib import PurePath
from types import ModuleType
from typing import Any

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.reports import drawn_figures

UNTITLED = 100  # figures without a title that are kept apart


class Shown:
    """The figures of one task: which states were reported, under which titles."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._lock = threading.Lock()
        self._states: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._titles: dict[
            str, tuple[int | None, int]
        ] = {}  # the last iteration, and how often it was reported there
        self._untitled = 0

    def report_open(self) -> None:
        """Every figure that pyplot knows."""
        for manager in import_module("matplotlib._pylab_helpers").Gcf.get_all_fig_managers():
            self.report(manager.canvas.figure)

    def report_saved(self, figure: Any, file: Any) -> None:
        """A figure that was saved, when files of this name are wanted."""
        if not isinstance(self._hooks.wanted, bool):
            name = str(file) if isinstance(file, str | PurePath) else ""  # an open file has none
            if self._hooks.wants_file(name):
                self.report(figure)

    def report(self, figure: Any) -> None:
        if not figure.axes:
            return
        logger = self._hooks.logger
        title = drawn_figures.title_of(figure)
        picture = drawn_figures.png_of_figure(figure) if drawn_figures.shows_only_images(figure) else b""
        made, kind = (
            ({}, "sample")
            if picture
            else drawn_figures.plot_of_figure(figure, title, interactive=not logger.choices.only_images)
        )
        state = hashlib.sha256(picture or json.dumps(made, sort_keys=True, default=str).encode()).hexdigest()
        with self._lock:
            if self._states.get(figure) == state:
                return
            self._states[figure] = state
            newest = logger.newest_iteration()
            name = self._unique(title, newest)
        iteration = None if newest is None else newest - logger.iteration_offset
        if picture:
            logger.report_media(name, "plot image", iteration, stream=picture, file_extension=".png")
        else:
            logger.report_drawn(name, "plot image" if kind == "image" else "plot", iteration, made, kind)

    def _unique(self, title: str, iteration: int | None) -> str:
        """A title again at the same iteration is another plot: `loss`, `loss/1`, `loss/2`."""
        if not title:
            self._untitled += 1
            return f"untitled {(self._untitled - 1) % UNTITLED:02d}"
        last, count = self._titles.get(title, (None, -1))
        count = count + 1 if last == iteration else 0
        self._titles[title] = (iteration, count)
        return title if count == 0 else f"{title}/{count}"


def _install(hooks: Hooks, module: ModuleType) -> None:
    shown = _shown_of(hooks)

    def before_show(figure: Any, *_args: Any, **_kwargs: Any) -> None:
        shown.report(figure)

    def after_savefig(_result: Any, figure: Any, fname: Any = "", *_args: Any, **_kwargs: Any) -> None:
        shown.report_saved(figure, fname)

    def before_show_all(*_args: Any, **_kwargs: Any) -> None:
        shown.report_open()

    if module.__name__ == "matplotlib.figure":
        hooks.before(module.Figure, "show", before_show)
        hooks.after(module.Figure, "savefig", after_savefig)
    else:  # pyplot, or the inline backend of notebooks, which shows figures at the end of a cell
        hooks.before(module, "show", before_show_all)


_of_hooks: dict[Hooks, Shown] = {}


def _shown_of(hooks: Hooks) -> Shown:
    """One for all modules of the binding, so that a figure which two of them show is told once."""
    if hooks not in _of_hooks:
        _of_hooks[hooks] = Shown(hooks)
        hooks.on_undo(lambda: _of_hooks.pop(hooks, None) and None)
    return _of_hooks[hooks]


BINDING = Binding(
    switch="matplotlib",
    modules=("matplotlib.figure", "matplotlib.pyplot", "matplotlib_inline.backend_inline"),
    package="matplotlib",
    since="3.6",
    hooks=(
        "matplotlib.pyplot.show",
        "matplotlib.figure.Figure.show",
        "matplotlib.figure.Figure.savefig",
        "matplotlib_inline.backend_inline.show",
    ),
    install=_install,
)
