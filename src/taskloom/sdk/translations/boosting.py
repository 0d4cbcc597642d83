"""Trainings of boosted trees: where their metrics and importances go, the same for every library.

The graph is the evaluation set, the curve the metric, as the libraries themselves name them (`validation_0`,
`logloss`). A script may train more than once: the second training that reports has ` - 1` behind its sets' names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskloom.sdk.binding import Hooks

IMPORTANCE = "feature importance"
MOST_FEATURES = 50


class Trainings:
    """All trainings of one library in one task."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks
        self.reported = 0

    def begin(self) -> Training:
        return Training(self)

    def file(self, given: Any) -> Path | None:
        """The file that a function was given, when its models are recorded; None for bytes, streams and addresses."""
        if not isinstance(given, str | os.PathLike):
            return None
        path = os.fspath(given)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        if not isinstance(path, str) or "://" in path or not self.hooks.wants_file(path):
            return None
        return Path(path)


@dataclass(eq=False)
class Training:
    """One call of a training function; it gets its number when it has something to report."""

    _all: Trainings
    _number: int | None = None

    def point(self, dataset: str, metric: str, value: float, iteration: int, spread: float | None = None) -> None:
        """One metric of one evaluation set; `spread`: its standard deviation over the folds."""
        report = self._all.hooks.logger.report_scalar
        title = f"{dataset}{self._suffix()}"
        report(title, metric, value, iteration)
        if spread is not None:
            report(title, f"{metric} std", spread, iteration)

    def importance(self, kind: str, features: Mapping[str, float]) -> None:
        """Bars of the features that count most; `kind` is the measure, such as gain."""
        if not features:
            return
        ordered = sorted(features.items(), key=lambda one: (-one[1], one[0]))[:MOST_FEATURES]
        self._all.hooks.logger.report_histogram(
            f"{IMPORTANCE}{self._suffix() if self._number is not None else ''}",
            kind,
            [value for _, value in ordered],
            xlabels=[name for name, _ in ordered],
            xaxis="feature",
            yaxis=kind,
        )

    def _suffix(self) -> str:
        if self._number is None:
            self._number = self._all.reported
            self._all.reported += 1
        return f" - {self._number}" if self._number else ""
