"""What a recorded text may do to a reader's terminal: show itself, and colours; nothing else.

Console output and names come from scripts that other people ran. An escape sequence in them could rename the
window, move the cursor over an earlier line, or make the terminal type an answer into the shell. `EscapeFilter`
takes a stream in pieces (a sequence may be cut anywhere); `plain` cleans one short text, such as a name.
"""

from __future__ import annotations

import re

_SGR = re.compile(r"\x1b\[[0-9;:]*m")
_WHOLE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, modes
    r"|\x1b\][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC: titles, links, clipboard
    r"|\x1b[PX^_][^\x1b\x9c]*(?:\x1b\\|\x9c)"  # DCS, SOS, PM, APC: device strings
    r"|\x1b[ -/]+[0-~]"  # character sets and the like
    r"|\x1b[0-OQ-WYZ\\`-~]"  # other two-character sequences
    r"|\x9b[0-?]*[ -/]*[@-~]"  # CSI as one C1 byte
)
_CUT = re.compile(
    r"(?:\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b\x9c]*\x1b?|[PX^_][^\x1b\x9c]*\x1b?|[ -/]*)|\x9b[0-?]*[ -/]*)\Z"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
LONGEST_SEQUENCE = 4096  # characters that an unfinished sequence may hold back


class EscapeFilter:
    """Feed pieces of one stream; returns what may be shown of them. Line ends, tabs and `\\r` stay."""

    def __init__(self, colours: bool) -> None:
        self._colours = colours
        self._held = ""

    def feed(self, piece: str) -> str:
        text = self._held + piece
        cut = _CUT.search(text)
        self._held = ""
        if cut is not None and cut.group() and len(cut.group()) <= LONGEST_SEQUENCE:
            text, self._held = text[: cut.start()], cut.group()
        return self._clean(text)

    def flush(self) -> str:
        """What was held back, when nothing follows: an unfinished sequence without its power."""
        text, self._held = self._held, ""
        return _CONTROL.sub("", text)

    def _clean(self, text: str) -> str:
        kept: list[str] = []
        position = 0
        for found in _WHOLE.finditer(text):
            kept.append(_CONTROL.sub("", text[position : found.start()]))
            if self._colours and _SGR.fullmatch(found.group()):
                kept.append(found.group())
            position = found.end()
        kept.append(_CONTROL.sub("", text[position:]))
        return "".join(kept)


def plain(text: str) -> str:
    """One line without any control character: for names, tags, messages in tables."""
    screen = EscapeFilter(colours=False)
    cleaned = screen.feed(text) + screen.flush()
    return " ".join(cleaned.split())


def plain_lines(text: str) -> str:
    """Several lines without control characters: for diffs, packages, previews."""
    screen = EscapeFilter(colours=False)
    return (screen.feed(text) + screen.flush()).replace("\r", "")
