"""Texts that are allowed and are hardly what was meant: each becomes a warning, none is repaired.

Placeholders of secrets and parameters that are nearly right, words that stand for a value nobody filled in, and
blanks in a requirement, of which a shell makes two words.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from taskloom.domain.taskfile.nodes import Scalar
from taskloom.domain.taskfile.problems import Findings
from taskloom.domain.taskfile.values import nearest

_EXACT = re.compile(r"\{\{(?:secrets?\.[A-Za-z_][A-Za-z0-9_]*|param(?:eter)?s?\.(?P<name>[^\s{}]+))\}\}")
_NEAR = re.compile(r"\{\{\s*(?:secrets?|param(?:eter)?s?)\b[^{}]*\}\}", re.IGNORECASE)
_TO_FILL_IN = re.compile(
    r"\bENTER YOUR\b|\bYOUR [A-Z_ ]{1,60} HERE\b|\byour[_-][a-z_-]{1,60}[_-]here\b|"
    r"<\s{0,8}(?:your|insert|enter)[ _-][^<>]{0,80}>|\bCHANGE_?ME\b",
    re.IGNORECASE,
)
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}|\$[A-Za-z_][A-Za-z0-9_]*")
_INSTALL = re.compile(r"\bpip3?\s+install\b|\buv\s+add\b")
# Bounded and begun at a word's beginning: lines may have a million characters.
_PACKAGE = r"(?<![\w.\[\],-])[A-Za-z][\w.\[\],-]{0,80}"
_BLANK = re.compile(rf"(?P<name>{_PACKAGE})\s{{0,8}}(?P<sign>==|~=|!=)\s{{1,8}}(?P<version>[\w.*]{{1,80}})")
_REDIRECT = re.compile(rf"(?<![\"'])(?P<name>{_PACKAGE})\s?(?P<sign>>=?|<=?)\s{{0,8}}[0-9][\w.]{{0,80}}(?![\"'])")


def look_at_text(node: Scalar, path: str, findings: Findings) -> None:
    """Any text that goes to the run."""
    text = node.text
    for near in _NEAR.finditer(text):
        if not _EXACT.fullmatch(near[0]):
            findings.odd(
                node.place,
                path,
                f"{near[0][:80]!r} is left as it is: a placeholder is written {{{{secret.NAME}}}} or "
                "{{param.NAME}}, without blanks, the name of letters, digits and underscores",
            )
    if found := _TO_FILL_IN.search(text):
        findings.odd(node.place, path, f"{found[0][:80]!r} looks like a text to be filled in; a secret is named as "
                     "{{secret.NAME}}")  # fmt: skip


def look_at_parameters(node: Scalar, path: str, known: Collection[str], findings: Findings) -> None:
    """Placeholders of parameters that the file does not have."""
    if findings.crowded:
        return
    names = set(known)
    for name in dict.fromkeys(found["name"] for found in _EXACT.finditer(node.text)):
        if name and name not in names and name.removeprefix("General/") not in names:
            findings.odd(node.place, path, f"no parameter {name[:80]!r} for its placeholder{nearest(name, known)}")


def look_at_variable(node: Scalar, path: str, findings: Findings) -> None:
    """A variable's value is given as it is written, to whatever shell."""
    if found := _VARIABLE.search(node.text):
        findings.odd(node.place, path, f"{found[0][:80]!r} is not replaced in `envs`; set it in `run`: export ...")


def look_at_setup(node: Scalar, path: str, findings: Findings) -> None:
    """Lines that install packages."""
    for line in node.text.splitlines():
        if not _INSTALL.search(line):
            continue
        if found := _BLANK.search(line):
            findings.odd(
                node.place,
                path,
                f"{found[0][:80]!r} is two words for the shell; write {found['name']}{found['sign']}{found['version']}",
            )
        if found := _REDIRECT.search(line):
            findings.odd(node.place, path, f"the shell reads the {found['sign'][0]!r} in {found[0][:80]!r} as a file to "
                         "write to or read from; put the requirement in quotes")  # fmt: skip
