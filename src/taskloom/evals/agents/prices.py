"""What model calls cost: dollars for a million tokens, by the name of the model.

A table of the user's wins. The one that is built in holds what the providers' pages said of a few well-known models
by the end of `AS_OF`, for prompts of usual length, without discounts; it may be out of date. A model that no table
knows costs 0 here, and its steps say `"price": "unknown"`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from taskloom.domain.evaluation import Usage

AS_OF = "2025-11"
MILLION = 1_000_000
# What may stand behind a model's name and does not make it another one: a date, a number of three digits, `latest`.
_VERSION = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{6,8}|\d{3}|latest)")


class Price(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Dollars for a million tokens. cached: of the prompt, read from the provider's cache (None: as input);
    cache_write: put into it (None: as input)."""

    input: float
    output: float
    cached: float | None = None
    cache_write: float | None = None

    def cost(self, usage: Usage, cache_written: int = 0) -> float:
        """In dollars. The prompt's tokens include those that were cached and written."""
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.cache_write is None else self.cache_write
        fresh = max(0, usage.prompt_tokens - usage.cached_tokens - cache_written)
        spent = fresh * self.input + usage.cached_tokens * cached + cache_written * written
        return (spent + usage.completion_tokens * self.output) / MILLION


BUILT_IN: dict[str, Price] = {
    "gpt-4o": Price(2.5, 10.0, 1.25),
    "gpt-4o-mini": Price(0.15, 0.6, 0.075),
    "gpt-4.1": Price(2.0, 8.0, 0.5),
    "gpt-4.1-mini": Price(0.4, 1.6, 0.1),
    "gpt-4.1-nano": Price(0.1, 0.4, 0.025),
    "o3": Price(2.0, 8.0, 0.5),
    "o4-mini": Price(1.1, 4.4, 0.275),
    "gpt-5": Price(1.25, 10.0, 0.125),
    "gpt-5-mini": Price(0.25, 2.0, 0.025),
    "gpt-5-nano": Price(0.05, 0.4, 0.005),
    "claude-3-5-haiku": Price(0.8, 4.0, 0.08, 1.0),
    "claude-haiku-4-5": Price(1.0, 5.0, 0.1, 1.25),
    "claude-sonnet-4": Price(3.0, 15.0, 0.3, 3.75),
    "claude-sonnet-4-5": Price(3.0, 15.0, 0.3, 3.75),
    "claude-opus-4": Price(15.0, 75.0, 1.5, 18.75),
    "claude-opus-4-1": Price(15.0, 75.0, 1.5, 18.75),
    "claude-opus-4-5": Price(5.0, 25.0, 0.5, 6.25),
    "gemini-2.5-pro": Price(1.25, 10.0, 0.125),
    "gemini-2.5-flash": Price(0.3, 2.5, 0.03),
    "gemini-2.5-flash-lite": Price(0.1, 0.4, 0.01),
}


class Prices:
    """A table. A name fits the model of that name and its dated versions; one that ends with `*` fits all models that
    begin so. The longest name that fits wins, the user's before those that are built in.
    """

    def __init__(self, table: Mapping[str, Price] | None = None, *, built_in: bool = True) -> None:
        self.table = dict(table or {})
        self._built_in = BUILT_IN if built_in else {}

    def find(self, model: str) -> Price | None:
        """None: unknown."""
        return _longest(self.table, model) or _longest(self._built_in, model)

    def config(self) -> dict[str, Any]:
        return {name: msgspec.to_builtins(price) for name, price in self.table.items()}


def read_prices(source: Prices | Mapping[str, Any] | str | Path | None) -> Prices:
    """From a table `{"my-model": {"input": 1.0, "output": 2.0}}`, or a JSON file with one.

    ValueError for what is none; OSError for a file that cannot be read.
    """
    if source is None or isinstance(source, Prices):
        return source or Prices()
    place = "prices"
    entries: Any = source
    if isinstance(source, str | Path):
        place = str(source)
        try:
            entries = msgspec.json.decode(Path(source).read_bytes())
        except msgspec.DecodeError as error:
            raise ValueError(f"{place}: expected a JSON object of prices by model: {error}") from None
    if not isinstance(entries, Mapping):
        raise ValueError(f"{place}: expected an object of prices by model, got {type(entries).__name__}")
    return Prices({name: _read_price(place, name, entry) for name, entry in cast("Any", entries).items()})


def _read_price(place: str, name: str, entry: Any) -> Price:
    try:
        price = entry if isinstance(entry, Price) else msgspec.convert(entry, Price)
    except msgspec.ValidationError as error:
        shape = '{"input": 1.0, "output": 2.0}'
        raise ValueError(f"{place}: {name}: expected dollars such as {shape}: {error}") from None
    told = (price.input, price.output, price.cached or 0.0, price.cache_write or 0.0)
    if not all(0 <= one < float("inf") for one in told):
        raise ValueError(f"{place}: {name}: expected prices from 0 on")
    return price


def _longest(table: Mapping[str, Price], model: str) -> Price | None:
    fitting = [name for name in table if _fits(name, model)]
    return table[max(fitting, key=len)] if fitting else None


def _fits(name: str, model: str) -> bool:
    if name.endswith("*"):
        return model.startswith(name[:-1])
    return model == name or (model.startswith(name) and _VERSION.fullmatch(model[len(name) :]) is not None)
