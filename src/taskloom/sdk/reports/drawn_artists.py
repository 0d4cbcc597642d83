"""Matplotlib's artists as plotly's traces and shapes, where those say the same.

Whatever cannot be said in plotly raises `Unfaithful`, which names it: the whole figure is then an image. Matplotlib
is not imported here: artists are known by the names of their classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, cast

MAX_POINTS = 100_000  # of one figure
Values = Callable[[Iterable[float]], list[Any]]

DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}
NOTHING = frozenset({"None", "none", " ", "", None})
STEPS = {"default": "linear", "steps": "vh", "steps-pre": "vh", "steps-post": "hv", "steps-mid": "hvh"}
MARKERS = {
    "o": "circle", ".": "circle", ",": "circle", "s": "square", "D": "diamond", "d": "diamond-tall", "^": "triangle-up",
    "v": "triangle-down", "<": "triangle-left", ">": "triangle-right", "p": "pentagon", "h": "hexagon", "H": "hexagon2",
    "8": "octagon", "*": "star", "P": "cross", "X": "x", "+": "cross-thin-open", "x": "x-thin-open",
    "_": "line-ew-open", "|": "line-ns-open", "1": "y-down-open", "2": "y-up-open", "3": "y-left-open",
    "4": "y-right-open",
}  # fmt: skip
SIZES = {".": 0.5, ",": 0.2}  # of the size that is asked for
ALIGNED = {"left": "left", "right": "right", "center": "center"}
STANDING = {
    "top": "top",
    "bottom": "bottom",
    "center": "middle",
    "baseline": "bottom",
    "center_baseline": "middle",
}


class Unfaithful(Exception):
    """Plotly would show something else; the text says what cannot be shown."""


@dataclass
class Panel:
    """What is drawn in one axes. x, y: plotly's names of its axes; xs, ys make values of the numbers on them."""

    axes: Any
    x: str
    y: str
    xs: Values
    ys: Values
    traces: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    shapes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    notes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    bars: set[int] = field(default_factory=set[int])  # ids of patches that a container has drawn
    labels: dict[int, str] = field(default_factory=dict[int, str])  # of lines that a container speaks for

    def draw(self) -> None:
        """Everything that the axes hold, below before above."""
        axes = self.axes
        for container in axes.containers:
            if is_a(container, "BarContainer"):
                self._draw_bars(container)
            elif is_a(container, "ErrorbarContainer") or is_a(container, "StemContainer"):
                self.labels[id(container[0])] = str(container.get_label())
        for artist in sorted((*axes.collections, *axes.lines), key=lambda one: one.get_zorder()):
            if artist.get_visible():
                self._draw(artist)
        for patch in axes.patches:
            if patch.get_visible() and id(patch) not in self.bars:
                raise Unfaithful(type(patch).__name__)
        for text in axes.texts:
            if text.get_visible() and text.get_text():
                self._draw_text(text)
        for kind in ("images", "tables", "artists"):
            if any(one.get_visible() for one in getattr(axes, kind)):
                raise Unfaithful(kind)

    def _draw(self, artist: Any) -> None:
        """By its very class: what a subclass draws is another thing (a field of arrows is a collection of areas)."""
        match type(artist).__name__:
            case "Line2D":
                self._draw_line(artist)
            case "PathCollection":
                self._draw_points(artist)
            case "LineCollection":
                self._draw_segments(artist)
            case "PolyCollection" | "FillBetweenPolyCollection":
                self._draw_areas(artist)
            case name:
                raise Unfaithful(name)

    # --- kinds --------------------------------------------------------------------------------------------

    def _draw_line(self, line: Any) -> None:
        xs, ys = list(line.get_xdata(orig=False)), list(line.get_ydata(orig=False))
        if not xs:
            return
        style, marker = line.get_linestyle(), line.get_marker()
        if self._draw_across(line, xs, ys):
            return
        _in_data(line, self.axes)
        trace = self._trace("scatter", xs, ys, self.labels.get(id(line), line.get_label()))
        modes: list[str] = []
        if style not in NOTHING:
            modes.append("lines")
            trace["line"] = _stroke(line) | {"shape": STEPS.get(line.get_drawstyle(), "linear")}
        if marker not in NOTHING:
            modes.append("markers")
            trace["marker"] = self._marker(line, marker)
            if line.get_markevery() is not None:
                raise Unfaithful("markers at some points only")
        if modes:
            self.traces.append(trace | {"mode": "+".join(modes)})

    def _draw_across(self, line: Any, xs: list[Any], ys: list[Any]) -> bool:
        """`axhline` and `axvline`: from edge to edge, wherever the edges are."""
        if len(xs) != 2:
            return False
        transform = line.get_transform()
        if transform == self.axes.get_yaxis_transform(which="grid"):
            place = {"xref": f"{self.x} domain", "yref": self.y, "x0": float(xs[0]), "x1": float(xs[1])}
            place |= dict(zip(("y0", "y1"), self.ys(ys), strict=True))
        elif transform == self.axes.get_xaxis_transform(which="grid"):
            place = {"xref": self.x, "yref": f"{self.y} domain", "y0": float(ys[0]), "y1": float(ys[1])}
            place |= dict(zip(("x0", "x1"), self.xs(xs), strict=True))
        else:
            return False
        label = str(line.get_label())
        shown = {} if label.startswith("_") else {"name": label, "showlegend": True}
        self.shapes.append({"type": "line", **place, "line": _stroke(line), **shown})
        return True

    def _draw_points(self, points: Any) -> None:
        if points.get_offset_transform() != self.axes.transData:
            raise Unfaithful("points that are not placed by values")
        offsets = _filled(points.get_offsets())
        trace = self._trace("scatter", [p[0] for p in offsets], [p[1] for p in offsets], points.get_label())
        symbol = _symbol(points)
        points.update_scalarmappable()
        faces = [colour(one) for one in points.get_facecolors()]
        edges = [colour(one) for one in points.get_edgecolors()]
        sizes = [round(float(size) ** 0.5, 2) for size in points.get_sizes()]
        marker: dict[str, Any] = {"symbol": symbol, "size": _one(sizes) if sizes else 6}
        marker["color"] = _one(faces or edges) if faces or edges else colour("black")
        if not faces:
            marker["symbol"] = f"{symbol}-open" if not symbol.endswith("-open") else symbol
        elif edges and edges != faces:
            marker["line"] = {
                "color": _one(edges),
                "width": _one([float(w) for w in points.get_linewidths()] or [0.0]),
            }
        if points.colorbar is not None:
            marker |= _scale(points)
        self.traces.append(trace | {"mode": "markers", "marker": marker})

    def _draw_segments(self, lines: Any) -> None:
        _in_data(lines, self.axes)
        if lines.get_array() is not None:
            raise Unfaithful("lines coloured by values")
        xs: list[Any] = []
        ys: list[Any] = []
        for segment in lines.get_segments():
            xs += [*(point[0] for point in segment), float("nan")]
            ys += [*(point[1] for point in segment), float("nan")]
        if not xs:
            return
        colours = {colour(one) for one in lines.get_colors()}
        widths = {float(one) for one in lines.get_linewidths()}
        dashes = {_dash(one) for one in lines.get_linestyles()}
        if len(colours) > 1 or len(widths) > 1 or len(dashes) > 1:
            raise Unfaithful("lines of several colours, widths or dashes in one collection")
        trace = self._trace("scatter", xs, ys, lines.get_label())
        trace["line"] = {"color": colours.pop(), "width": widths.pop(), "dash": dashes.pop()}
        self.traces.append(trace | {"mode": "lines"})

    def _draw_areas(self, areas: Any) -> None:
        _in_data(areas, self.axes)
        if areas.get_array() is not None or areas.get_hatch():
            raise Unfaithful("areas coloured by values or hatched")
        faces = [colour(one) for one in areas.get_facecolors()]
        edges = [colour(one) for one in areas.get_edgecolors()]
        for number, path in enumerate(areas.get_paths()):
            outline = path.vertices
            trace = self._trace("scatter", [p[0] for p in outline], [p[1] for p in outline], areas.get_label())
            width = float(areas.get_linewidths()[0]) if edges and len(areas.get_linewidths()) else 0.0
            line = {"color": edges[number % len(edges)], "width": width} if edges else {"width": 0}
            fill = {"fill": "toself", "fillcolor": faces[number % len(faces)]} if faces else {}
            self.traces.append(trace | {"mode": "lines", "line": line, "hoverinfo": "skip", **fill})

    def _draw_bars(self, container: Any) -> None:
        patches = [patch for patch in container.patches if patch.get_visible()]
        self.bars |= {id(patch) for patch in container.patches}
        if not patches:
            return
        if any(patch.get_hatch() for patch in patches):
            raise Unfaithful("hatched bars")
        flat = container.orientation == "horizontal"
        boxes = [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in patches]
        if flat:
            places, bases, wides, tops = zip(*((y + h / 2, x, h, w) for x, y, w, h in boxes), strict=True)
        else:
            places, bases, wides, tops = zip(*((x + w / 2, y, w, h) for x, y, w, h in boxes), strict=True)
        across, along = (self.ys, self.xs) if flat else (self.xs, self.ys)
        if along([0.0]) != [0.0] and along([0.0]) != [0]:
            raise Unfaithful("bars along dates")
        trace = self._trace("bar", [], [], container.get_label())
        trace |= {"y": across(places), "x": numbers(tops)} if flat else {"x": across(places), "y": numbers(tops)}
        trace |= {"orientation": "h"} if flat else {}
        if any(bases):
            trace["base"] = numbers(bases)
        days = (
            86_400_000.0 if isinstance(trace["y" if flat else "x"][0], str) else 1.0
        )  # a date's unit is a millisecond
        trace["width"] = [float(one) * days for one in wides]
        trace["marker"] = {"color": _one([colour(p.get_facecolor()) for p in patches])}
        if any(p.get_linewidth() and p.get_edgecolor()[3] for p in patches):
            edges = _one([colour(p.get_edgecolor()) for p in patches])
            trace["marker"]["line"] = {"color": edges, "width": _one([float(p.get_linewidth()) for p in patches])}
        self.traces.append(trace)

    def _draw_text(self, text: Any) -> None:
        if is_a(text, "Annotation") and text.arrow_patch is not None:
            raise Unfaithful("arrows")
        x, y = text.get_position()
        transform = text.get_transform()
        if transform == self.axes.transAxes:
            place = {"xref": f"{self.x} domain", "yref": f"{self.y} domain", "x": float(x), "y": float(y)}
        elif transform == self.axes.transData and not is_a(text, "Annotation"):
            x, y = float(self.axes.convert_xunits(x)), float(self.axes.convert_yunits(y))
            place = {"xref": self.x, "yref": self.y, "x": self.xs([x])[0], "y": self.ys([y])[0]}
        else:
            raise Unfaithful("text that is placed by something else than values")
        if "$" in text.get_text():
            raise Unfaithful("formulas")
        standing = STANDING.get(text.get_verticalalignment(), "middle")
        self.notes.append(
            {
                **place,
                "text": plain_text(text.get_text()),
                "showarrow": False,
                "xanchor": ALIGNED.get(text.get_horizontalalignment(), "center"),
                "yanchor": standing,
                "textangle": -float(text.get_rotation()),
                "font": {"color": colour(text.get_color()), "size": float(text.get_fontsize())},
            }
        )

    # --- pieces -------------------------------------------------------------------------------------------

    def _trace(self, kind: str, xs: Sequence[Any], ys: Sequence[Any], label: Any) -> dict[str, Any]:
        name = str(label)
        return {
            "type": kind,
            "x": self.xs(xs),
            "y": self.ys(ys),
            "xaxis": self.x,
            "yaxis": self.y,
            "name": "" if name.startswith("_") else plain_text(name),
        }

    def _marker(self, line: Any, marker: Any) -> dict[str, Any]:
        if marker not in MARKERS:
            raise Unfaithful(f"the marker {marker!r}")
        size = float(line.get_markersize()) * SIZES.get(marker, 1.0)
        alpha, width = line.get_alpha(), float(line.get_markeredgewidth())
        face, edge = line.get_markerfacecolor(), colour(line.get_markeredgecolor(), alpha)
        symbol = MARKERS[marker]
        if symbol.endswith("-open"):
            return {"symbol": symbol, "size": size, "color": edge, "line": {"width": width, "color": edge}}
        if str(face) in NOTHING:
            return {"symbol": f"{symbol}-open", "size": size, "color": edge}
        filled = {"symbol": symbol, "size": size, "color": colour(face, alpha)}
        return filled if filled["color"] == edge else {**filled, "line": {"color": edge, "width": width}}


# --- small things -----------------------------------------------------------------------------------------


def is_a(artist: Any, name: str) -> bool:
    return any(one.__name__ == name for one in type(artist).__mro__)


def numbers(values: Iterable[Any]) -> list[Any]:
    """Numbers as JSON takes them; what is masked or no number becomes a gap."""
    found: list[Any] = []
    for value in values:
        number = float(value) if is_number(value) else float("nan")
        found.append(number if number - number == 0 else None)
    return found


def is_number(value: Any) -> bool:
    return not (getattr(value, "mask", False) is True or type(value).__name__ == "MaskedConstant")


def plain_text(text: str) -> str:
    """Plotly reads a few HTML tags in text; a script's text has none."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", "<br>")


def colour(value: Any, alpha: float | None = None) -> str:
    """`alpha` counts more than the colour's own."""
    red, green, blue, own = import_module("matplotlib.colors").to_rgba(value, alpha)
    return f"rgba({round(red * 255)},{round(green * 255)},{round(blue * 255)},{round(float(own), 3):g})"


def _one(values: list[Any]) -> Any:
    """A single value where all are the same."""
    return values[0] if values and all(value == values[0] for value in values) else values


def _stroke(line: Any) -> dict[str, Any]:
    style = line.get_linestyle()
    if style not in DASHES:
        raise Unfaithful(f"the line style {style!r}")
    own = getattr(line, "_unscaled_dash_pattern", (0, None))[1]
    if (
        style == "--"
        and own is not None
        and list(own) != import_module("matplotlib").rcParams["lines.dashed_pattern"]
    ):
        raise Unfaithful("a line style of one's own")  # it calls itself dashed
    shown = colour(line.get_color(), line.get_alpha())
    return {"color": shown, "width": float(line.get_linewidth()), "dash": DASHES[style]}


def _dash(style: Any) -> str:
    """Of a collection's (offset, lengths)."""
    lengths: Any = cast("tuple[Any, Any]", style)[1] if isinstance(style, tuple) else None
    return "solid" if lengths is None or len(lengths) == 0 else ",".join(f"{float(one):g}px" for one in lengths)


def _in_data(artist: Any, axes: Any) -> None:
    if artist.get_transform() != axes.transData:
        raise Unfaithful(f"{type(artist).__name__} that is not placed by values")


def _filled(offsets: Any) -> Any:
    return offsets.filled(float("nan")) if hasattr(offsets, "filled") else offsets


def _symbol(points: Any) -> str:
    """Of a scatter, which keeps only the outline of its marker."""
    paths = points.get_paths()
    if len(paths) != 1:
        raise Unfaithful("markers of several kinds in one scatter")
    style = import_module("matplotlib.markers").MarkerStyle
    for marker, symbol in MARKERS.items():
        known = style(marker)
        outline = known.get_path().transformed(known.get_transform())
        if (
            outline.vertices.shape == paths[0].vertices.shape
            and abs(outline.vertices - paths[0].vertices).max() < 1e-9
        ):
            return symbol
    raise Unfaithful("a marker of one's own")


def _scale(points: Any) -> dict[str, Any]:
    """Colours by values, where a bar tells which value is which."""
    if type(points.norm).__name__ != "Normalize":
        raise Unfaithful("colours by values on another than a linear scale")
    steps = [step / 10 for step in range(11)]
    return {
        "color": numbers(points.get_array()),
        "cmin": float(points.norm.vmin),
        "cmax": float(points.norm.vmax),
        "colorscale": [[step, colour(points.cmap(step))] for step in steps],
        "colorbar": {"title": {"text": plain_text(points.colorbar.ax.get_ylabel())}},
        "showscale": True,
    }
