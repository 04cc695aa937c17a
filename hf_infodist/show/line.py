"""The one line in which comparisons wait for their turn: bounded, first come, first served."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from hf_infodist.errors import ResourceError


@dataclass(eq=False)
class Place:
    """A place in the line.

    Attributes:
        visitor: Whose it is.
        session: The visitor's window.
        stopped: Whether it is no longer wanted.
    """

    visitor: str
    session: str
    stopped: bool = False


class Line:
    """The line; its first place is the one that is served.

    Args:
        waiting: Most places that wait.
        per_visitor: Most places of one visitor.
    """

    def __init__(self, waiting: int, per_visitor: int):
        self.waiting, self.per_visitor = waiting, per_visitor
        self._places: list[Place] = []
        self._moved = asyncio.Event()

    def enter(self, visitor: str, session: str) -> Place:
        """Take a place at the end.

        Raises:
            ResourceError: If the line is full, or the visitor has enough places.
        """
        if len(self._places) > self.waiting:
            what, fix = "the queue is full", "try again in a few minutes, or type infodist compare on your own machine"
            raise ResourceError(what, f"{self.waiting} comparisons are waiting already", fix)
        if sum(place.visitor == visitor for place in self._places) >= self.per_visitor:
            what = f"you have {self.per_visitor} comparisons in the queue already"
            raise ResourceError(what, "everybody has a turn", "wait until one of them is done, or stop one")
        place = Place(visitor, session)
        self._places.append(place)
        return place

    async def turn(self, place: Place) -> AsyncIterator[int]:
        """Yield how many are first, each time that changes, until it is this place's turn or it is stopped."""
        before = -1
        while True:
            moved, ahead = self._moved, self._places.index(place)  # what moves from here on is not missed
            if not ahead or place.stopped:
                return
            if ahead != before:
                yield ahead
            before = ahead
            await moved.wait()

    def stop(self, session: str) -> None:
        """Mark what a window has asked for as no longer wanted."""
        for place in self._places:
            place.stopped |= place.session == session
        self._move()

    def leave(self, place: Place) -> None:
        """Give a place up."""
        self._places.remove(place)
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
