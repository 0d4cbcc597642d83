"""An unmodified hud client drives an environment that Taskloom serves."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.hud.channel.conftest import SOURCES, variables

Seen = dict[str, Any]


@pytest.fixture(scope="module")
def seen(our_port: int, hud_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What the client saw, for all tests of this file at once: hud takes seconds to import."""
    done = subprocess.run(
        [str(hud_python), str(SOURCES / "drive.py"), f"tcp://127.0.0.1:{our_port}"],
        capture_output=True,
        text=True,
        timeout=240,
        env=variables(),
        cwd=tmp_path_factory.mktemp("client"),
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULTS ")]
    assert lines, done.stderr[-4000:]
    return json.loads(lines[-1].removeprefix("RESULTS "))


def test_a_run_is_graded(seen: Seen) -> None:
    run = seen["add"]
    assert (run["reward"], run["prompt"], run["status"]) == (1.0, "What is 1 + 2?", "completed")


def test_eight_at_once_keep_their_prompts_and_grades(seen: Seen) -> None:
    assert seen["concurrent"]["runs"] == 80
    assert seen["concurrent"]["reward"] == 1.0
    assert seen["concurrent"]["prompts"] == ["What is 0 + 5?", "What is 0 + 5?", "What is 1 + 5?"]


def test_messages_and_results_with_parts_arrive(seen: Seen) -> None:
    run = seen["chat"]
    assert run["prompt"] == [{"role": "user", "content": "hi"}, {"role": "user", "content": "and now?"}]
    assert (run["reward"], run["content"]) == (0.5, 'heard {"x": 4}')
    assert [(part["name"], part["value"]) for part in run["evaluation"]["subscores"]] == [
        ("tone", 1.0),
        ("fact", 0.0),
    ]


def test_typed_answers_are_parsed(seen: Seen) -> None:
    assert seen["typed"]["reward"] == 1.0
    assert seen["typed"]["evaluation"]["x"] == 4


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        ("fails_start", "no world today"),
        ("fails_grade", "no grade today"),
        ("nan", "expected a finite number"),
        ("missing", "missing a"),
    ],
)
def test_templates_that_fail_are_failed_runs(seen: Seen, scenario: str, words: str) -> None:
    run = seen[scenario]
    assert run["status"] == "error"
    assert words in json.dumps(run)


def test_a_run_that_takes_too_long_is_torn_down_here(seen: Seen) -> None:
    assert seen["timeout"]["status"] == "error"
    assert "hangs grade closed" in seen["seen"]["events"]


def test_capabilities_are_reached_through_the_control_port(seen: Seen) -> None:
    assert seen["tunnel"] == {
        "whole": [2] * 8,
        "url": "echo://me@127.0.0.1:PORT/deep?x=1",
        "params": {"k": 1},
        "protocol": "echo/1",
    }


def test_parked_tasks_are_resumed_and_adopted(seen: Seen) -> None:
    parked = seen["parked"]
    assert parked["resumed"] == parked["adopted"] == {"score": 1.0}
    assert parked["empty"] == [-32600, "no task in progress"]
    assert parked["unknown"] == [-32602, "unknown task: 'nothing'"]
    assert "add 3 closed" in seen["seen"]["events"]


def test_the_manifest_is_read(seen: Seen) -> None:
    assert seen["parked"]["environment"] == ["world", "1.2"]
    listed = {entry["id"]: entry for entry in seen["parked"]["templates"]}
    assert listed["add"]["description"] == "add two numbers"
    assert listed["add"]["args"]["required"] == ["a"]
    assert listed["typed"]["returns"]["properties"]["x"]["type"] == "integer"


def test_megabytes_go_both_ways(seen: Seen) -> None:
    assert seen["large"] == {"prompt": 5_000_000, "grade": {"score": 1.0, "length": 5_000_000}}
