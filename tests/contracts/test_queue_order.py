"""Who is served next: priority, fair shares between users, places given by hand, limits, pages."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contracts.queue_rig import Rig

from taskloom.domain.errors import BadInput, Conflict
from taskloom.wire import messages as m
from taskloom.wire import operations as op


@pytest.fixture
def rig(any_house: Any, clock: Any) -> Rig:
    return Rig(any_house, clock)


def claimed(rig: Rig, number: int) -> list[str]:
    return [rig.claim().task.id for _ in range(number)]


# --- priority ---------------------------------------------------------------------------------------------


def test_a_higher_priority_goes_first_and_the_one_given_at_enqueue_wins(rig: Rig) -> None:
    low = rig.enqueue("low", priority=-5)
    plain = rig.enqueue("plain")
    own = rig.enqueue("own", **{"priority": 0})
    urgent = rig.put(rig.task("urgent", priority=7), priority=50).id
    high = rig.put(rig.task("high", priority=7)).id
    assert rig.order() == [urgent, high, plain, own, low]
    entries = rig.client.call(op.GET_QUEUE, queue="default").entries
    assert [entry.priority for entry in entries] == [50, 7, 0, 0, -5]
    rig.register(slots=8)
    assert claimed(rig, 5) == [urgent, high, plain, own, low]


@pytest.mark.parametrize("priority", [-1001, 1001])
def test_a_priority_beyond_its_bounds_is_refused(rig: Rig, priority: int) -> None:
    with pytest.raises(BadInput, match="-1000 to 1000"):
        rig.put(rig.task(), priority=priority)
    with pytest.raises(BadInput, match="-1000 to 1000"):
        rig.task(priority=priority)


# --- fair shares ------------------------------------------------------------------------------------------


def test_users_take_turns_however_much_one_of_them_brings(rig: Rig) -> None:
    many = [rig.enqueue(f"ann {n}", user="ann") for n in range(4)]
    few = [rig.enqueue(f"bob {n}", user="bob") for n in range(2)]
    wanted = [many[0], few[0], many[1], few[1], many[2], many[3]]
    assert rig.order() == wanted
    assert [rig.waiting(task).position for task in wanted] == [1, 2, 3, 4, 5, 6]
    assert rig.why(many[1]).startswith("no worker serves queue default; 2 tasks are ahead (1 by fair share)")
    rig.register(slots=8)
    assert claimed(rig, 6) == wanted


def test_what_runs_counts_so_the_one_with_the_fewest_is_next(rig: Rig) -> None:
    rig.register(slots=8)
    for n in range(3):
        rig.enqueue(f"ann runs {n}", user="ann")
    running = [rig.claim() for _ in range(3)]
    first = rig.enqueue("ann's next", user="ann")
    others = [rig.enqueue(f"bob {n}", user="bob") for n in range(3)]
    assert rig.order() == [*others, first]
    for lease in running:
        rig.finish(lease)
    assert rig.order() == [first, *others]


def test_a_higher_priority_counts_for_its_users_share(rig: Rig) -> None:
    urgent = rig.enqueue("ann, urgent", user="ann", priority=5)
    ann, bob = rig.enqueue("ann", user="ann"), rig.enqueue("bob", user="bob")
    assert rig.order() == [urgent, bob, ann]


# --- by hand ----------------------------------------------------------------------------------------------


def test_what_is_moved_forward_keeps_what_stands_before_it(rig: Rig) -> None:
    a, b, c, d = (rig.enqueue(f"task {n}") for n in range(4))
    assert rig.move(d, 3) == [a, b, d, c]
    urgent = rig.enqueue("urgent", priority=1000)
    assert rig.order() == [a, b, d, urgent, c], "what was placed by hand stands before every priority"
    assert "(3 moved by hand)" in rig.why(urgent)
    assert rig.move(c, 1) == [c, a, b, d, urgent]
    assert rig.move(c, 2) == [a, c, b, d, urgent]


def test_what_is_moved_to_the_back_stays_behind_what_comes_later(rig: Rig) -> None:
    a, b = (rig.enqueue(f"task {n}") for n in range(2))
    assert rig.move(a, -1) == [b, a]
    late = rig.enqueue("late", priority=-1000)
    assert rig.order() == [b, late, a]
    assert rig.move(b, -2) == [late, b, a]
    assert rig.move(a, 1) == [a, late, b]


def test_every_move_lands_where_it_was_sent(rig: Rig) -> None:
    tasks = [rig.enqueue(f"task {n}", user=("ann", "bob")[n % 2], priority=n % 3) for n in range(7)]
    for step in range(60):
        before, task, place = rig.order(), tasks[(step * 5) % 7], (step * 3) % 7
        after = rig.move(task, place + 1)
        assert after[place] == task, f"step {step}"
        if place <= before.index(task):
            assert after[:place] == before[:place], f"step {step}"


def test_ranks_never_run_out_between_two_neighbours(rig: Rig) -> None:
    a, b, c = (rig.enqueue(f"task {n}") for n in range(3))
    rig.move(c, 1)
    rig.move(b, 1)
    for _ in range(70):  # more halvings than a number has bits
        first, second, third = rig.order()
        assert rig.move(third, 2) == [first, third, second]
    assert set(rig.order()) == {a, b, c}


# --- limits -----------------------------------------------------------------------------------------------


def test_a_queue_runs_no_more_than_its_limit(rig: Rig) -> None:
    rig.edit(max_running=2)
    rig.register(slots=8)
    tasks = [rig.enqueue(f"task {n}", user="ann") for n in range(3)]
    first = rig.claim()
    rig.claim()
    assert rig.ask() is None
    assert rig.why(tasks[2]) == "queue default runs 2 tasks at once: 2 of ann; next in line"
    rig.finish(first)
    assert rig.claim().task.id == tasks[2]


def test_a_user_runs_no_more_than_the_limit_and_the_others_go_on(rig: Rig) -> None:
    rig.edit(max_running_per_user=1)
    rig.register(slots=8)
    ann = [rig.enqueue(f"ann {n}", user="ann") for n in range(2)]
    bob = rig.enqueue("bob", user="bob", priority=-1)
    assert claimed(rig, 2) == [ann[0], bob]
    assert rig.ask() is None
    assert rig.why(ann[1]) == "queue default runs 1 task of one user at once: ann has 1 running; next in line"


def test_a_user_has_no_more_waiting_than_the_limit(rig: Rig) -> None:
    rig.edit(max_waiting_per_user=2)
    for n in range(2):
        rig.enqueue(f"ann {n}", user="ann")
    third = rig.task("ann's third", "ann")
    with pytest.raises(Conflict, match="lets 2 tasks of one user wait; ann has 2 waiting"):
        rig.put(third, user="ann")
    assert rig.get(third).status.value == "draft"
    rig.enqueue("bob", user="bob")


@pytest.mark.parametrize(
    "edit",
    [
        m.QueueEdit(max_running=-1),
        m.QueueEdit(max_running_per_user=-1),
        m.QueueEdit(max_waiting_per_user=-1),
        m.QueueEdit(hold_after=-1.0),
        m.QueueEdit(hold_after=float("nan")),
    ],
)
def test_limits_that_make_no_sense_are_refused(rig: Rig, edit: m.QueueEdit) -> None:
    with pytest.raises(BadInput):
        rig.client.call(op.EDIT_QUEUE, edit, queue="default")


# --- pages ------------------------------------------------------------------------------------------------


def test_a_queue_is_shown_by_pages(rig: Rig) -> None:
    tasks = [rig.enqueue(f"task {n}") for n in range(5)]

    def page(limit: int, offset: int) -> list[tuple[int, str]]:
        told = rig.client.call(op.GET_QUEUE, query=m.QueuePage(limit=limit, offset=offset), queue="default")
        assert told.queue.waiting == 5
        return [(entry.position, entry.task) for entry in told.entries]

    assert page(2, 0) == [(1, tasks[0]), (2, tasks[1])]
    assert page(2, 4) == [(5, tasks[4])]
    assert page(2, 6) == []
    for limit, offset in ((0, 0), (1001, 0), (10, -1)):
        with pytest.raises(BadInput):
            page(limit, offset)
