"""`{{secret.NAME}}` and `{{param.NAME}}` in the texts of an execution: which names stand there, and their values.

Only these exact forms, without spaces, are placeholders; other braces belong to the text. A parameter's name is
looked up in the section `General`, or in another one as `SECTION/NAME`. Where a value goes into shell text it is
quoted as one word, so that it can be no more than a value. Source: Transformer Lab's secret placeholders.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping

from taskloom.domain.execution import Execution
from taskloom.domain.parameters import Sections, flatten, split_name

_ANY = re.compile(
    r"\{\{secrets?\.(?P<secret>[A-Za-z_][A-Za-z0-9_]*)\}\}|\{\{param(?:eter)?s?\.(?P<parameter>[^\s{}]+)\}\}"
)


def secret_names(execution: Execution, parameters: Sections) -> tuple[str, ...]:
    """The secrets that the task needs, each once, in the order in which they are met."""
    found = dict.fromkeys(execution.secrets)
    for text in _texts(execution, parameters):
        found.update(dict.fromkeys(match["secret"] for match in _ANY.finditer(text) if match["secret"]))
    return tuple(found)


def parameter_names(execution: Execution) -> tuple[str, ...]:
    """The parameters that stand in the execution's texts, as `SECTION/NAME`."""
    found: dict[str, None] = {}
    for text in _texts(execution, {}):
        named = (match["parameter"] for match in _ANY.finditer(text))
        found.update(dict.fromkeys("/".join(split_name(name)) for name in named if name))
    return tuple(found)


def fill(text: str, secrets: Mapping[str, str], parameters: Mapping[str, str], *, shell: bool = False) -> str:
    """The text with values instead of placeholders; `parameters` by `SECTION/NAME`. A name without a value stays.

    shell: the text is a shell's; every value becomes one quoted word of it. What a value brings along is not looked
    at again: who gives parameters whose values name secrets fills those first.
    """

    def value(match: re.Match[str]) -> str:
        name = match["secret"]
        found = secrets.get(name) if name else parameters.get("/".join(split_name(match["parameter"])))
        return match[0] if found is None else shlex.quote(found) if shell else found

    return _ANY.sub(value, text)


def parameter_texts(parameters: Sections) -> dict[str, str]:
    """Values by `SECTION/NAME`, as `fill` takes them."""
    return {name: parameter.value for name, parameter in flatten(parameters).items()}


def _texts(execution: Execution, parameters: Sections) -> Iterator[str]:
    yield execution.run
    yield execution.setup
    yield from execution.variables.values()
    yield from execution.command
    yield from execution.arguments
    yield execution.image
    yield execution.image_arguments
    for names in parameters.values():
        for parameter in names.values():
            yield parameter.value
