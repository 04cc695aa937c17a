"""The line is bounded, fair, and left by those who stop."""

import asyncio

import pytest

from hf_infodist.errors import ResourceError
from hf_infodist.page.waiting import WaitingList


def test_the_line_is_full_with_one_served_and_some_waiting():
    line = WaitingList(waiting=2, per_visitor=1)
    for visitor in ("x", "y", "z"):
        line.enter(visitor, visitor)
    with pytest.raises(ResourceError, match="queue is full"):
        line.enter("w", "w")


def test_a_visitor_has_so_many_places_and_gets_one_back():
    line = WaitingList(waiting=10, per_visitor=2)
    place, _ = line.enter("x", "1"), line.enter("x", "2")
    with pytest.raises(ResourceError, match="2 comparisons in the queue already"):
        line.enter("x", "3")
    line.leave(place)
    line.enter("x", "3")


def test_everybody_comes_in_order_and_is_told_of_each_step():
    async def scenario():
        line, served, heard = WaitingList(waiting=10, per_visitor=1), [], {}

        async def visit(name):
            place = line.enter(name, name)
            heard[name] = [ahead async for ahead in line.turn(place)]
            served.append(name)
            await asyncio.sleep(0)
            line.leave(place)

        await asyncio.gather(*(visit(name) for name in "abcd"))
        return served, heard

    served, heard = asyncio.run(scenario())
    assert served == list("abcd")
    assert heard == {"a": [], "b": [1], "c": [2, 1], "d": [3, 2, 1]}


def test_who_stops_leaves_before_the_turn():
    async def scenario():
        line = WaitingList(waiting=10, per_visitor=1)
        first, second = line.enter("a", "window a"), line.enter("b", "window b")
        turn = line.turn(second)
        assert await anext(turn) == 1
        line.stop("window b")
        assert [ahead async for ahead in turn] == [] and second.stopped and not first.stopped

    asyncio.run(scenario())
