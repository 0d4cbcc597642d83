"""Which parameters of a command line are recorded: all but secrets, or what `auto_connect_arg_parser` chooses.

A parameter is secret when its name says so (`--api-key`, `db.password`); whoever names it with True has it recorded
all the same. Nothing here looks at values, since a secret cannot be told from other text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskloom.domain.parameters import Parameter

_SECRET = re.compile(
    r"(^|_)(password|passwd|secret|credentials?|(api|access|secret|private)_?key"
    r"|((access|auth|api|hf|hub|bearer|refresh|wandb|github|gitlab)_)token)$|^token$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Chosen:
    """`options`: names with True or False, `*` for all others; the last part of `train/lr` or `db.user` will do."""

    options: Mapping[str, bool]

    @staticmethod
    def of(switch: bool | Mapping[str, bool]) -> Chosen:
        return Chosen({"*": switch} if isinstance(switch, bool) else dict(switch))

    @property
    def nothing(self) -> bool:
        return not any(self.options.values()) and not self.options.get("*", True)

    def takes(self, name: str, *, secret: bool | None = None) -> bool:
        """`secret`: when that is known from elsewhere than the name."""
        short = last_part(name)
        for known in (name, short):
            if known in self.options:
                return self.options[known]
        return self.options.get("*", True) and not (is_secret(short) if secret is None else secret)

    def among(self, parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
        return {name: one for name, one in parameters.items() if self.takes(name, secret=_may_tell(name, one))}


def last_part(name: str) -> str:
    return re.split(r"[./]", name)[-1]


def is_secret(name: str) -> bool:
    return _SECRET.search(name.lstrip("-+~").replace("-", "_")) is not None


def names_a_secret(argv: Sequence[str]) -> bool:
    """Whether something on this command line should be kept by nobody: `--api-key x`, `db.password=x`."""
    words = (word.partition("=") for word in argv if word.startswith("-") or "=" in word)
    return any(is_secret(last_part(name)) for name, _, _ in words)


def _may_tell(name: str, one: Parameter) -> bool:
    """Numbers tell no secret."""
    return is_secret(last_part(name)) and one.type in {"", "str", "none"}
