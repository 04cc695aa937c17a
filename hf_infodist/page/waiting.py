"""The one queue in which comparisons wait for their turn: bounded, first come, first served."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from hf_infodist.errors import ResourceError


@dataclass(eq=False)
class Ticket:
    """A place in the queue.

    Attributes:
        visitor: Whose it is.
        session: The visitor's window.
        stopped: Whether it is no longer wanted.
    """

    visitor: str
    session: str
    stopped: bool = False


class WaitingList:
    """The queue; its first ticket is the one that is served.

    Args:
        waiting: Most comparisons that wait.
        per_visitor: Most of one visitor.
    """

    def __init__(self, waiting: int, per_visitor: int):
        self.waiting, self.per_visitor = waiting, per_visitor
        self._tickets: list[Ticket] = []
        self._moved = asyncio.Event()

    def enter(self, visitor: str, session: str) -> Ticket:
        """Queue up.

        Raises:
            ResourceError: If the queue is full, or the visitor has enough in it.
        """
        if len(self._tickets) > self.waiting:
            what, fix = "the queue is full", "try again in a few minutes, or type infodist compare on your own machine"
            raise ResourceError(what, f"{self.waiting} comparisons are waiting already", fix)
        if sum(ticket.visitor == visitor for ticket in self._tickets) >= self.per_visitor:
            what = f"you have {self.per_visitor} comparisons in the queue already"
            raise ResourceError(what, "everybody has a turn", "wait until one of them is done, or stop one")
        ticket = Ticket(visitor, session)
        self._tickets.append(ticket)
        return ticket

    async def turn(self, ticket: Ticket) -> AsyncIterator[int]:
        """Yield how many are first, each time that changes, until it is the turn of this one or it is stopped."""
        before = -1
        while True:
            moved, ahead = self._moved, self._tickets.index(ticket)  # what moves from here on is not missed
            if not ahead or ticket.stopped:
                return
            if ahead != before:
                yield ahead
            before = ahead
            await moved.wait()

    def stop(self, session: str) -> None:
        """Mark what a window has asked for as no longer wanted."""
        for ticket in self._tickets:
            ticket.stopped |= ticket.session == session
        self._move()

    def leave(self, ticket: Ticket) -> None:
        """Leave the queue."""
        self._tickets.remove(ticket)
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
