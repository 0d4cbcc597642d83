"""Every report as a script makes it, compared in full with what the server tells of the task."""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.frameworks.conftest import Bench

from taskloom.domain.artifact import Sample
from taskloom.domain.task import Task
from taskloom.wire import messages as m
from taskloom.wire import operations as ops

HERE = Path(__file__).parent
REPORTS = HERE / "reports"  # what is expected of the larger ones
SINGLE = -(2**31)  # the iteration of a single value


def plots_of(bench: Bench, task: Task) -> dict[str, Any]:
    """Kind, iteration and figure by `title/series`, floats to six digits."""
    found = bench.client.call(ops.LIST_PLOTS, query=m.PlotsQuery(all_iterations=True), task=task.id).plots
    return {
        f"{one.title}/{one.series}": [one.kind, one.iteration, rounded(json.loads(one.figure))] for one in found
    }


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return {name: rounded(one) for name, one in value.items()} if isinstance(value, dict) else value


def expected(name: str) -> Any:
    return json.loads((REPORTS / name).read_text())


def pixels(bench: Bench, sample: Sample) -> Any:
    return np.asarray(Image.open(io.BytesIO(bench.blob(sample.digest))))


def test_scalars_arrive_point_by_point_and_a_clone_learns_at_the_edited_rate(bench: Bench) -> None:
    task = recorded(bench, "03-reports/scalars.py", "scalars")
    assert bench.parameters(task) == {"Args/epochs": ("4", "int"), "Args/rate": ("0.5", "float")}
    assert bench.scalars(task) == {
        "loss/train": [(0, 9.0), (1, 2.25), (2, 0.5625), (3, 0.140625)],
        "loss/test": [(0, 12.25), (1, 4.0), (2, 1.5625), (3, 0.765625)],
        "weight/value": [(0, 0.0), (1, 1.5), (2, 2.25), (3, 2.625)],
        "weight/gradient": [(0, -6.0), (1, -3.0), (2, -1.5), (3, -0.75)],
        "Summary/final weight": [(SINGLE, 2.8125)],
    }
    assert bench.console(task.id) == "rate 0.5: the weight is 2.8125\n"
    edited = bench.clone(task, {"Args/rate": 0.25, "Args/epochs": 2})
    assert bench.scalars(edited) == {
        "loss/train": [(0, 9.0), (1, 5.0625)],
        "loss/test": [(0, 12.25), (1, 7.5625)],
        "weight/value": [(0, 0.0), (1, 0.75)],
        "weight/gradient": [(0, -6.0), (1, -4.5)],
        "Summary/final weight": [(SINGLE, 1.3125)],
    }


def test_every_kind_of_plot_arrives_as_it_was_made(bench: Bench) -> None:
    task = recorded(bench, "03-reports/plots.py", "plots", "--points", "3")
    assert plots_of(bench, task) == expected("plots.json")
    assert "taskloom: task" in bench.stderr
    assert len(bench.stderr.splitlines()) == 1  # nothing had to be said about any of them


def test_tables_of_every_form_arrive(bench: Bench) -> None:
    task = recorded(bench, "03-reports/tables.py", "tables")

    def table(header: list[str], columns: list[list[Any]], **more: Any) -> list[Any]:
        trace = {"type": "table", "header": {"values": header}, "cells": {"values": columns}, **more}
        return ["table", 0, {"data": [trace], "layout": {"title": {"text": "table"}}}]

    animals = [["cat", "dog", "owl"], [4.0, 9.5, 1.2]]
    assert plots_of(bench, task) == {
        "table/pandas": table(["number", "animal", "weight", "tame"], [[0, 1, 2], *animals, [True, True, False]]),
        "table/levels": table(["number", "animal", "weight", "tame"], [[0, 1, 2], *animals, [True, True, False]]),
        "table/rows": table(["x", "y"], [[1, 2], ["a", "b"]]),
        "table/columns": table(["x", "y"], [[1, 2], ["a", "b"]]),
        "table/file": table(
            ["animal", "weight", "tame"],
            [animals[0], ["4.0", "9.5", "1.2"], ["True", "True", "False"]],
            columnwidth=[200, 100],
        ),
    }


def test_images_and_media_arrive_with_their_bytes_and_only_the_newest_stay(bench: Bench) -> None:
    task = recorded(bench, "03-reports/images_and_media.py", "images and media")
    samples = {(s.title, s.series, s.iteration): s for s in bench.samples(task)}
    assert {key: (s.name, s.media_type, s.uri) for key, s in samples.items()} == {
        ("arrays", "gray", 0): ("gray_00000000.png", "image/png", ""),
        ("arrays", "gray", 1): ("gray_00000001.png", "image/png", ""),
        ("arrays", "gray", 2): ("gray_00000002.png", "image/png", ""),
        ("arrays", "colours", 0): ("colours_00000000.png", "image/png", ""),
        ("arrays", "colours", 1): ("colours_00000001.png", "image/png", ""),
        ("arrays", "colours", 2): ("colours_00000002.png", "image/png", ""),
        ("arrays", "mask", 1): ("mask_00000001.png", "image/png", ""),
        ("arrays", "mask", 2): ("mask_00000002.png", "image/png", ""),
        ("drawing", "Pillow", 0): ("Pillow_00000000.png", "image/png", ""),
        ("drawing", "file", 0): ("file_00000000.gif", "image/gif", ""),
        ("sound", "tone", 0): ("tone_00000000.wav", "audio/x-wav", ""),
        ("page", "html", 0): ("html_00000000.html", "text/html", ""),
        ("far away", "video", 0): ("video_00000000.mp4", "video/mp4", "https://example.com/film.mp4"),
    }
    for step in range(3):
        gray = np.tile(np.linspace(0, 1, 16) * (step + 1) / 3, (8, 1))
        assert np.array_equal(pixels(bench, samples["arrays", "gray", step]), np.rint(gray * 255))
        planes = (np.stack([gray, gray.T.repeat(2, 1)[:8], 1 - gray]) * 255).astype(np.uint8)
        assert np.array_equal(pixels(bench, samples["arrays", "colours", step]), planes.transpose(1, 2, 0))
        if step:
            assert np.array_equal(pixels(bench, samples["arrays", "mask", step]), (gray > 0.5) * 255)
    drawn = pixels(bench, samples["drawing", "Pillow", 0])
    assert drawn.shape == (32, 64, 3)
    assert drawn[16, 32].tolist() == [0, 128, 128]
    assert Image.open(io.BytesIO(bench.blob(samples["drawing", "file", 0].digest))).format == "GIF"
    with wave.open(io.BytesIO(bench.blob(samples["sound", "tone", 0].digest))) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (8000, 400)
    page = b"<h1>Result</h1><script>document.title = 'never run by the server'</script>"
    assert bench.blob(samples["page", "html", 0].digest) == page
    assert bench.console(task.id) == "the file is deleted once a copy is safe: True\n"
    edited = bench.clone(task, {"Args/pictures": 1})
    assert sorted((s.series, s.iteration) for s in bench.samples(edited) if s.title == "arrays") == [
        ("colours", 0),
        ("gray", 0),
        ("mask", 0),
    ]


def test_text_reaches_the_console_with_its_level_and_logging_without_its_stream(bench: Bench) -> None:
    task = recorded(bench, "03-reports/text_and_logging.py", "text and logging", "--who", "you")
    assert sorted(bench.console(task.id).splitlines()) == [
        "ERROR: something is wrong",
        "INFO from training: step 1 of 2",
        "WARNING from training: the learning rate is high",
        "WARNING: only in the task's console",
        "hello, you",
        "reported and printed",
    ]
    assert "this is not recorded" in bench.stderr
    assert "WARNING from training: the learning rate is high" in bench.stderr


# --- streams ----------------------------------------------------------------------------------------------

PRINTED, COMPLAINED = ["printed", "child"], ["complained", "to stderr", "last resort", "child err"]
STREAMS = {  # stdout, stderr, logging: what the console holds besides the reported text, which always is there
    "000": [],
    "001": ["to stderr", "to stdout", "last resort"],
    "010": COMPLAINED,
    "011": [*COMPLAINED, "to stdout"],
    "100": [*PRINTED, "to stdout"],
    "101": [*PRINTED, "to stdout", "to stderr", "last resort"],
    "110": [*PRINTED, "to stdout", *COMPLAINED],
    "111": [*PRINTED, "to stdout", *COMPLAINED],
    "stdout only": [*PRINTED, "to stdout"],  # what a dictionary does not name is off
}


def test_each_stream_is_recorded_by_itself_and_nothing_twice(bench: Bench) -> None:
    done = bench.script(HERE / "scripts" / "streams.py")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines()[-1] == "undone: True"
    found = bench.client.call(ops.QUERY_TASKS, m.TaskQuery(project="tests/streams")).tasks
    consoles = {task.name.removeprefix("streams "): bench.console(task.id).splitlines() for task in found}
    reported = ["reported", "ERROR: only reported"]
    assert {name: sorted(lines) for name, lines in consoles.items()} == {
        name: sorted([*lines, *reported]) for name, lines in STREAMS.items()
    }


def test_text_reported_below_the_task_is_recorded_once(bench: Bench) -> None:
    task = bench.record(HERE / "scripts" / "reported_below.py", project="tests/reported below")
    assert sorted(bench.console(task.id).splitlines()) == [
        "from a fork",
        "from a process whose output is read",
        "from a subprocess",
    ]
    assert bench.stdout.splitlines() == ["from a subprocess", "from a fork"]


# --- destinations -----------------------------------------------------------------------------------------


def test_samples_lie_where_the_script_wishes_and_take_no_more_room_than_their_history(bench: Bench) -> None:
    folder = bench.work / "seen"
    task = elsewhere(bench, folder, "kept")
    assert bench.stdout == f"{folder.as_uri()}\n"
    held = {s.iteration: s for s in bench.samples(task) if s.series == "a/b"}
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    (writer,) = {name[-21:-13] for name in files}
    place = f"tests/samples elsewhere/kept.{task.id}/metrics/seen/a/b/a_b_{writer}"
    assert sorted(files) == [f"{place}_0000000{slot}.png" for slot in range(3)]
    for step, slot in ((4, 1), (5, 2), (6, 0)):
        file = files[f"{place}_0000000{slot}.png"]
        assert np.asarray(Image.open(file)).tolist() == [[step] * 4] * 4
        assert (held.pop(step).uri, held == {}) == (file.as_uri(), step == 6)


def test_samples_that_a_destination_refuses_lie_on_the_server(bench: Bench) -> None:
    blocked = bench.work / "a file and no folder"
    blocked.write_text("")
    task = elsewhere(bench, blocked, "refused")
    assert [(s.series, s.iteration, s.uri) for s in bench.samples(task)] == [
        ("a/b", 6, ""),
        ("a/b", 5, ""),
        ("a/b", 4, ""),
        ("here", 0, ""),
    ]
    shown = [pixels(bench, sample).tolist() for sample in bench.samples(task)]
    assert shown == [[[value] * 4] * 4 for value in (6, 5, 4, 99)]
    assert "does not take files, they are kept on the Taskloom server" in bench.stderr


def elsewhere(bench: Bench, destination: Path, name: str) -> Task:
    done = bench.script(HERE / "scripts" / "samples_elsewhere.py", str(destination), name)
    assert done.returncode == 0, done.stderr.decode()
    bench.stdout, bench.stderr = done.stdout.decode(), done.stderr.decode()
    query = m.TaskQuery(project="tests/samples elsewhere", name=name, exact_name=True)
    (found,) = bench.client.call(ops.QUERY_TASKS, query).tasks
    return bench.ended(found.id)


# --- bad input --------------------------------------------------------------------------------------------


def test_what_cannot_be_reported_is_told_once_and_the_script_goes_on(bench: Bench) -> None:
    task = bench.record(HERE / "scripts" / "bad_reports.py", project="tests/bad reports")
    told = [line.removeprefix("taskloom: ") for line in bench.stderr.splitlines()[1:]]
    assert told == (REPORTS / "bad_reports.txt").read_text().splitlines()
    assert bench.scalars(task) == {"after/all": [(1, 1.0)]}
    assert sorted((s.title, s.series) for s in bench.samples(task)) == [("odd", "beyond"), ("odd", "nan")]
    assert sorted(plots_of(bench, task)) == ["long/curve", "long/table"]
    assert bench.stdout.splitlines()[-1] == "the script goes on"


def recorded(bench: Bench, example: str, name: str, *arguments: str) -> Task:
    """Run an example; its task, ended and wholly shipped."""
    done = bench.script(example, *arguments)
    assert done.returncode == 0, f"{done.stdout.decode()}\n{done.stderr.decode()}"
    bench.stderr, bench.stdout = done.stderr.decode(), done.stdout.decode()
    (found,) = bench.client.call(
        ops.QUERY_TASKS, m.TaskQuery(project="examples/reports", name=name, exact_name=True)
    ).tasks
    return bench.ended(found.id)
