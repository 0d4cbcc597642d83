"""What a hostile console may do to a reader's terminal: nothing but text and colours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.cli.terminal import LONGEST_SEQUENCE, EscapeFilter, plain, plain_lines

RED, RESET = "\x1b[31m", "\x1b[0m"


def shown(text: str, *, colours: bool = True) -> str:
    screen = EscapeFilter(colours)
    return screen.feed(text) + screen.flush()


@pytest.mark.parametrize(
    "attack",
    [
        "\x1b]0;new title\x07",
        "\x1b]52;c;ZXZpbA==\x1b\\",  # writes to the clipboard
        "\x1b]8;;http://evil\x1b\\",
        "\x1b[2J",
        "\x1b[1A",
        "\x1b[6n",  # asks the terminal to type its cursor position
        "\x1b[?1049h",
        "\x1bP$q\x1b\\",
        "\x1b_payload\x1b\\",
        "\x1bc",
        "\x1b(0",
        "\x9b2J",
        "\x9d0;title\x9c",
        "\x07",
        "\x08",
        "\x00",
        "\u202e",
    ],
)
def test_a_sequence_that_acts_on_the_terminal_is_gone(attack: str) -> None:
    left = shown(f"before {attack}after")
    assert "\x1b" not in left
    assert left.startswith("before ")
    assert left.endswith("after")
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in left)


def test_colours_stay_where_they_can_be_seen_and_go_where_they_cannot() -> None:
    text = f"{RED}loss{RESET} 0.1\n"
    assert shown(text) == text
    assert shown(text, colours=False) == "loss 0.1\n"


def test_line_ends_tabs_and_carriage_returns_stay() -> None:
    assert shown("a\tb\r\n 50 %\r100 %\n") == "a\tb\r\n 50 %\r100 %\n"


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_sequence_cut_into_two_pieces_is_still_seen_whole(cut: int) -> None:
    text = "a\x1b]0;evil\x07b"
    screen = EscapeFilter(colours=True)
    assert screen.feed(text[:cut]) + screen.feed(text[cut:]) + screen.flush() == "ab"


def test_an_endless_sequence_holds_back_only_so_much() -> None:
    screen = EscapeFilter(colours=True)
    out = screen.feed("\x1b]" + "x" * (LONGEST_SEQUENCE + 10)) + screen.feed("and on\n") + screen.flush()
    assert out.endswith("and on\n")
    assert "\x1b" not in out


@given(st.lists(st.text(alphabet="\x1b[]0m;\x07P\\\x9b\x9d\x9cab\n\x00?(", max_size=12), max_size=8))
def test_no_escape_but_a_colour_ever_comes_out(pieces: list[str]) -> None:
    screen = EscapeFilter(colours=True)
    out = "".join(screen.feed(piece) for piece in pieces) + screen.flush()
    import re

    rest = re.sub(r"\x1b\[[0-9;:]*m", "", out)
    assert not re.search("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f]", rest)


def test_plain_is_one_line_without_controls() -> None:
    assert plain("  a\nb\t\x1b[31mred\x1b[0m\x07 ") == "a b red"
    assert plain_lines("a\r\n\x1b[2Jb\n") == "a\nb\n"
