"""Following a task live, and waiting for it."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from taskloom.cli import follow


def later(action: Callable[[], None], after: float = 0.4) -> threading.Thread:
    """Something that happens while a command runs."""

    def run() -> None:
        time.sleep(after)
        action()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_logs_print_the_console(taskloom: Any, finished: Any) -> None:
    ran = taskloom("task", "logs", finished().task)
    assert (ran.code, ran.out) == (0, "hello\nworld\n")


def test_logs_as_json_are_lines(taskloom: Any, finished: Any) -> None:
    ran = taskloom("task", "logs", finished().task, "--json")
    entries = [json.loads(line) for line in ran.out.splitlines()]
    assert "".join(entry["text"] for entry in entries) == "hello\nworld\n"
    assert {entry["stream"] for entry in entries} == {"stdout"}


def test_logs_of_a_stream_that_said_nothing_are_empty(taskloom: Any, finished: Any) -> None:
    ran = taskloom("task", "logs", finished().task, "--stream", "stderr")
    assert (ran.code, ran.out) == (0, "")


def test_logs_follow_a_live_run_to_its_end(taskloom: Any, begin: Any) -> None:
    script = begin()
    script.prints(b"one\n")

    def go_on() -> None:
        script.prints(b"two\n")
        time.sleep(0.3)
        script.prints(b"three")
        script.ends()

    thread = later(go_on)
    ran = taskloom("task", "logs", "-f", script.task)
    thread.join()
    assert (ran.code, ran.out) == (0, "one\ntwo\nthree\n")
    assert "completed" in ran.err


def test_logs_follow_says_by_its_exit_code_that_the_run_failed(taskloom: Any, begin: Any) -> None:
    script = begin()
    thread = later(lambda: script.ends("failed", reason="the disk melted"))
    ran = taskloom("task", "logs", "-f", script.task)
    thread.join()
    assert ran.code == 1
    assert "the disk melted" in ran.err


def test_logs_follow_of_a_draft_does_not_wait_for_ever(taskloom: Any, draft: Any) -> None:
    ran = taskloom("task", "logs", "-f", draft().id)
    assert ran.code == 1
    assert "draft" in ran.err


def test_logs_strip_what_acts_on_the_terminal_even_when_it_arrives_in_pieces(taskloom: Any, begin: Any) -> None:
    script = begin()
    script.prints(b"a\x1b]0;ti")
    script.prints(b"tle\x07b\x1b[2J\x1b[31mred\x1b[0m\xff\n")
    script.ends()
    assert taskloom("task", "logs", script.task).out == "abred\ufffd\n"


def test_logs_keep_colours_on_request(taskloom: Any, begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    script = begin()
    script.prints(b"\x1b[31mred\x1b[0m\x1b[2J\n")
    script.ends()
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert taskloom("task", "logs", script.task).out == "\x1b[31mred\x1b[0m\n\x1b[0m"


def test_logs_go_on_through_a_server_that_restarts(
    taskloom: Any, begin: Any, house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "LONG_POLL", 1.0)
    monkeypatch.setattr(follow, "PAUSE", 0.1)
    script = begin()
    script.prints(b"one\n")

    def restart() -> None:
        house.restart()
        script.client = house.client
        script.prints(b"two\n")
        script.ends()

    thread = later(restart)
    ran = taskloom("task", "logs", "-f", script.task)
    thread.join()
    assert (ran.code, ran.out) == (0, "one\ntwo\n")


def test_wait_prints_changes_and_ends_with_the_task(taskloom: Any, begin: Any) -> None:
    script = begin()
    thread = later(script.ends)
    ran = taskloom("task", "wait", script.task)
    thread.join()
    assert ran.code == 0
    assert "running" in ran.out
    assert ran.out.rstrip().endswith("completed")


def test_wait_gives_the_whole_task_as_json(taskloom: Any, finished: Any) -> None:
    script = finished()
    ran = taskloom("task", "wait", script.task, "--json")
    assert (ran.code, ran.json["id"], ran.json["status"]) == (0, script.task, "completed")


def test_wait_fails_with_the_task(taskloom: Any, begin: Any) -> None:
    script = begin()
    script.ends("aborted", reason="enough")
    ran = taskloom("task", "wait", script.task)
    assert ran.code == 1
    assert "aborted: enough" in ran.out


def test_wait_gives_up_in_time(taskloom: Any, begin: Any) -> None:
    ran = taskloom("task", "wait", begin().task, "--timeout", "0.2")
    assert ran.code == 1
    assert "still running" in ran.err


def test_wait_says_why_a_task_is_pending(taskloom: Any, draft: Any) -> None:
    task = draft()
    taskloom("task", "enqueue", task.id, "--create-queue")
    ran = taskloom("task", "wait", task.id, "--timeout", "0.1")
    assert "pending: " in ran.out
    assert "worker" in ran.out
