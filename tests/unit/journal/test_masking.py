"""Secrets do not leave the machine, wherever a stream is cut and whoever ships it."""

from __future__ import annotations

import base64
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.conftest import House

from taskloom.domain.errors import NotFound
from taskloom.domain.evaluation import EvalRun, Grade, Step, ToolCall, Usage
from taskloom.domain.parameters import Parameter
from taskloom.domain.task import TaskEdit
from taskloom.journal import layout
from taskloom.journal.masking import Masks, read_masks, write_masks
from taskloom.journal.writer import Writer
from taskloom.sdk.identity import new_id
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.records import Edited, Ended, Opened, Plotted, RunStored, StepsTaken


def pieces(masks: Masks, data: bytes, cuts: list[int], limit: int) -> bytes:
    """The stream as it is shipped while it grows to each of the lengths `cuts`."""
    sent = b""
    for length in [*cuts, len(data)]:
        grown = data[:length]

        def read(start: int, count: int, grown: bytes = grown) -> bytes:
            return grown[start : start + count]

        while piece := masks.cut(read, len(sent), limit, final=False):
            sent += piece
    while piece := masks.cut(lambda start, count: data[start : start + count], len(sent), limit, final=True):
        sent += piece
    return sent


def test_a_value_that_is_cut_at_any_byte_is_hidden_whole_at_its_own_length() -> None:
    masks = Masks(["s3cr3t-välue"])
    data = "before s3cr3t-välue, s3cr3t-välues3cr3t-välue s3cr3t-väl".encode()
    hidden = "before " + "*" * 13 + ", " + "*" * 26 + " s3cr3t-väl"
    for cut in range(len(data)):
        for limit in (1, 2, 7, 1000):
            assert pieces(masks, data, [cut], limit).decode() == hidden


def test_values_that_overlap_are_hidden_however_the_stream_is_cut() -> None:
    masks = Masks(["xxab", "abcd", "cdcdcd", "aaaa"])
    dice = random.Random(5)
    for _ in range(300):
        data = bytes(dice.choice(b"abcdx\n") for _ in range(60))
        whole = masks._masked(data)
        cuts = sorted(dice.randrange(60) for _ in range(5))
        assert pieces(masks, data, cuts, dice.choice([1, 3, 64])) == whole


def test_a_tail_is_held_back_only_as_long_as_it_may_be_the_beginning_of_a_value() -> None:
    masks = Masks(["token-1234"])

    def cut(text: str, *, final: bool = False) -> bytes:
        return masks.cut(lambda start, count: text.encode()[start : start + count], 0, 100, final=final)

    assert cut("go toke") == b"go "
    assert cut("go toke", final=True) == b"go toke"
    assert cut("go token\n") == b"go token\n"
    assert cut("go token-1234") == b"go **********"


def test_lines_and_other_ways_to_write_a_value_are_hidden_and_short_ones_are_not() -> None:
    masks = Masks(["first line\nab\nlast&line", "x/y z+1#"])
    assert masks.hide("first line ab last&line") == f"{'*' * 10} ab {'*' * 9}"
    for before in (b"", b"u:", b"abc"):
        coded = base64.b64encode(before + b"x/y z+1#" + b"!").decode()
        assert "eC95IHorMS" not in masks.hide(coded)
        assert masks.hide(coded).count("*") >= 8
    assert set(masks.hide("x%2Fy%20z%2B1%23")) == {"*"}
    assert masks.hide('"last&line"') == f'"{"*" * 9}"'


def test_what_a_script_tells_of_itself_is_hidden_but_not_the_words_of_the_protocol() -> None:
    masks = Masks(["hunter22", "completed", "edited"])
    edit = TaskEdit(parameters={"General": {"key": Parameter("is hunter22", "str")}}, comment="hunter22")
    told = masks.record(Edited(edit=edit, time=1.0))
    assert isinstance(told, Edited)
    assert told.edit.comment == "********"
    assert told.edit.parameters == {"General": {"key": Parameter("is ********", "str")}}
    ended = Ended(status="completed", time=1.0, message="hunter22")
    assert masks.record(ended) == ended  # the state would be lost; the worker tells the end of an attempt
    failed = masks.record(Ended(status="failed", time=1.0, message="KeyError: hunter22"))
    assert isinstance(failed, Ended)
    assert failed.message == "KeyError: ********"
    plot = masks.record(Plotted(title="t", series="s", iteration=1, time=1.0, kind="table", figure='["hunter22"]'))
    assert isinstance(plot, Plotted)
    assert plot.figure == '["********"]'


def test_traces_and_answers_of_evaluations_are_searched_and_stay_what_they_are() -> None:
    masks = Masks(["hunter22"])
    call = ToolCall("1", "shell", {"command": "echo hunter22", "times": 2})
    step = Step(source="agent", content="it is hunter22", tool_calls=(call,), usage=Usage(prompt_tokens=3))
    told = masks.record(StepsTaken(run="r", job="j", start=4, steps=(step,)))
    hidden = msgspec.structs.replace(
        step,
        content="it is ********",
        tool_calls=(ToolCall("1", "shell", {"command": "echo ********", "times": 2}),),
    )
    assert told == StepsTaken(run="r", job="j", start=4, steps=(hidden,))
    run = EvalRun(id="r", job="j", answer={"key": ["hunter22", 1.5]}, grade=Grade(reward=0.5))
    assert masks.record(RunStored(run=run)) == RunStored(
        run=msgspec.structs.replace(run, answer={"key": ["********", 1.5]})
    )


def test_the_file_is_private_and_there_is_none_without_secrets(tmp_path: Path) -> None:
    folder = tmp_path / "journal" / "task"
    write_masks(folder, ["", "abc"])
    assert not folder.exists()
    write_masks(folder, ["a long value"])
    file = folder / layout.MASKS_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    found = read_masks(folder)
    assert found is not None
    assert found.hide("a long value") == "*" * 12
    write_masks(folder, [])
    assert read_masks(folder) is None


# --- real companions --------------------------------------------------------------------------------------


class Told:
    """A writer that is shipped by companion processes."""

    def __init__(self, house: House, root: Path, secrets: list[str]) -> None:
        self.house, self.folder = house, root / new_id()
        write_masks(self.folder, secrets)
        self.writer = Writer.create(root, self.folder.name, role="main", name="a run", project="tests")
        self.writer.record(Opened(mode="new", name="a run", project="tests", time=time.time()))
        self.companion = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "taskloom.journal.shipper", str(self.folder)]
        return subprocess.Popen(words, env=self.house.environment(), stdin=subprocess.PIPE)

    def say(self, data: bytes, stream: layout.Stream = "stdout") -> None:
        with self.writer.stream_path(stream).open("ab") as file:
            file.write(data)
        self.poke()

    def poke(self) -> None:
        assert self.companion.stdin is not None
        self.companion.stdin.write(b".")
        self.companion.stdin.flush()

    def console(self) -> str:
        query = m.ConsoleQuery(limit=100_000)
        try:
            page = self.house.client.call(op.GET_CONSOLE, query=query, task=self.folder.name)
        except NotFound:  # the companion has not told of it yet
            return ""
        return "".join(entry.text for entry in page.entries)


@pytest.fixture
def told(house: House, tmp_path: Path) -> Any:
    made = Told(house, tmp_path / "own" / "journal", ["correct horse battery"])
    yield made
    made.companion.kill()
    made.companion.wait()


def test_a_companion_hides_a_value_that_comes_in_two_writes_and_one_that_begins_again_does_too(
    told: Told, eventually: Callable[[Callable[[], object]], None]
) -> None:
    told.say(b"start correct ho")
    eventually(lambda: "start " in told.console())
    assert told.console() == "start "
    told.companion.send_signal(signal.SIGKILL)
    told.companion.wait()
    told.companion = told.start()
    told.say(b"rse battery end\ncorrect horse")
    eventually(lambda: "end" in told.console())
    assert told.console() == f"start {'*' * 21} end\n"
    told.writer.record(Ended(status="completed", time=time.time(), message="correct horse battery"))
    told.writer.close()
    told.poke()
    assert told.companion.wait(60) == 0
    assert told.console() == f"start {'*' * 21} end\ncorrect horse"
    assert told.house.client.call(op.GET_TASK, task=told.folder.name).status_message == "*" * 21
    assert not told.folder.exists()
