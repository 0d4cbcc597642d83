"""What fits where, by arithmetic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.execution import Execution, Resources
from taskloom.domain.placement import (
    Wanted,
    choose_gpus,
    fits,
    lacks,
    read_shape,
    shape_of,
    wanted_by,
    whole_place,
    without,
)
from taskloom.domain.queue import Machine

GIB = 2**30
A100, T4 = "NVIDIA A100-SXM4-80GB", "Tesla T4"
MACHINE = Machine(
    cpus=16, memory=64 * GIB, disk_free=500 * GIB, gpus=(T4, A100, A100, A100), gpu_memory=(0, 0, 0, 0),
    containers="podman",
)  # fmt: skip
PLACE = whole_place(MACHINE, slots=4)


def wanted(**resources: object) -> Wanted:
    return wanted_by(Execution(resources=Resources(**resources)))  # type: ignore[arg-type]


def test_a_task_that_wants_nothing_fits_wherever_a_slot_is_free() -> None:
    nothing = whole_place(Machine(), slots=1)
    assert fits(wanted(), nothing)
    assert [lack.kind for lack in lacks(wanted(), without(nothing, Wanted(), ()))] == ["slots"]


def test_what_a_worker_does_not_tell_it_does_not_have() -> None:
    silent = whole_place(Machine(), slots=1)
    assert [lack.kind for lack in lacks(wanted(cpus=1, memory=1, disk=1, gpus=1), silent)] == [
        "gpus",
        "memory",
        "cpus",
        "disk",
    ]


def test_each_running_task_leaves_less() -> None:
    left = without(PLACE, wanted(cpus=10, memory=32 * GIB), ())
    assert fits(wanted(cpus=6, memory=32 * GIB), left)
    assert [lack.kind for lack in lacks(wanted(cpus=6.5), left)] == ["cpus"]


def test_gpus_are_counted_by_type_and_given_by_their_place() -> None:
    task = wanted(gpus=2, gpu_type="A100")
    assert choose_gpus(task, PLACE, PLACE) == (1, 2)
    left = without(PLACE, task, (1, 2))
    assert choose_gpus(wanted(gpus=1, gpu_type="A100"), left, PLACE) == (3,)
    assert not fits(task, left)
    assert not fits(wanted(gpus=4, gpu_type="A100"), PLACE)
    assert fits(wanted(gpu_type="T4"), PLACE), "a type without a number is one GPU"


def test_who_says_nothing_about_gpus_gets_its_slots_share_and_waits_for_none() -> None:
    assert choose_gpus(wanted(), PLACE, PLACE) == (0,)
    alone = whole_place(MACHINE, slots=1)
    assert choose_gpus(wanted(), alone, alone) == (0, 1, 2, 3)
    none_left = without(PLACE, wanted(gpus=4), (0, 1, 2, 3))
    assert fits(wanted(), none_left)
    assert choose_gpus(wanted(), none_left, PLACE) == ()
    assert choose_gpus(wanted(gpus=0), PLACE, PLACE) == ()
    bare = whole_place(Machine(), slots=1)
    assert choose_gpus(wanted(), bare, bare) is None


def test_several_nodes_and_images_are_places_of_their_own() -> None:
    assert [lack.kind for lack in lacks(wanted(nodes=2), PLACE)] == ["nodes"]
    image = wanted_by(Execution(image="python:3.12"))
    assert fits(image, PLACE)
    assert [lack.kind for lack in lacks(image, whole_place(Machine(cpus=4), 1))] == ["containers"]


@given(
    st.builds(
        Wanted,
        cpus=st.floats(0, 1000),
        memory=st.integers(0, 2**60),
        disk=st.integers(0, 2**60),
        gpus=st.none() | st.integers(0, 1024),
        gpu_type=st.text(max_size=64),
        nodes=st.integers(1, 100),
        container=st.booleans(),
    )
)
def test_a_shape_is_one_text_for_all_that_want_the_same(task: Wanted) -> None:
    assert read_shape(shape_of(task)) == task
    assert "\n" not in shape_of(task)
