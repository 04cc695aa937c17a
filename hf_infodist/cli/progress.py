"""Bars on a terminal, lines elsewhere: how far a comparison or a matrix has come, and what a time limit says to it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from hf_infodist.cli.terminal import duration, interactive, say
from hf_infodist.errors import ResourceError
from hf_infodist.results.words import to_bits

if TYPE_CHECKING:
    from tqdm import tqdm

    from hf_infodist.analysis.from_atlas import Compared
    from hf_infodist.distances.plan import Status

_RUNNING_SHOWN = 3


class TimeUp(BaseException):
    """The time limit is over; no ordinary exception, as those are noted as failures of a pair."""


class Progress:
    """A bar on standard error: images priced, bits so far, time left.

    Args:
        total: Images to be priced.
        time_limit: Minutes after which it raises a `ResourceError`.
    """

    def __init__(self, total: int, time_limit: float | None = None):
        self.total, self.limit, self.started = total, time_limit, time.monotonic()
        self.done = self.before = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if "bar" not in vars(self):
            return
        if kind is None:
            self.bar.update(max(0, self.total - self.bar.n))  # what was in the store, or done by others
        self.bar.close()

    @cached_property
    def bar(self) -> "tqdm":
        """Drawn once there is something to show: until then models are run, with bars of their own."""
        from tqdm import tqdm

        return tqdm(total=self.total, unit="image", disable=not interactive(), file=sys.stderr)

    def __call__(self, direction: str, images: int, nats: float) -> None:
        """Show where a direction stands, and stop when the time is up."""
        new = images - self.before if images > self.before else images  # fewer than before: a new direction or order
        self.done, self.before = self.done + new, images
        self.bar.set_description(direction.replace("_", " "), refresh=False)
        paid = f"{to_bits(nats):.1f} bits"
        self.bar.set_postfix_str(paid, refresh=False)
        self.bar.update(new)
        if self.limit and time.monotonic() - self.started > 60 * self.limit:
            raise _over(f"{self.done} of {self.total} images ({paid} in {direction})", self.limit)


@contextmanager
def live(time_limit: float | None = None) -> Iterator[Callable[["Status"], None]]:
    """Show how far a matrix has come: a bar on a terminal, else a line whenever something is new.

    Args:
        time_limit: Minutes after which it raises a `ResourceError`.
    """
    show, started, last = _Bar() if interactive() else _Lines(), time.monotonic(), ["none of it"]

    def update(status: "Status") -> None:
        show(status)
        last[0] = f"{status.done} of {status.total} codelengths"
        if time_limit and not status.over and time.monotonic() - started > 60 * time_limit:
            raise TimeUp

    try:
        yield update
    except TimeUp:
        raise _over(last[0], time_limit or 0) from None
    finally:
        show.close()


@contextmanager
def comparing(time_limit: float | None = None) -> Iterator[Callable[["Compared"], None]]:
    """Show with how many models of an atlas one has been compared: a bar on a terminal, of which nothing stays.

    Args:
        time_limit: Minutes after which it raises a `ResourceError`.
    """
    from tqdm import tqdm

    started = time.monotonic()
    with tqdm(unit="model", desc="comparing", file=sys.stderr, leave=False, disable=not interactive(), delay=1) as bar:

        def update(now: "Compared") -> None:
            bar.total = now.total
            bar.update(now.compared - bar.n)
            if time_limit and time.monotonic() - started > 60 * time_limit:
                raise _over(f"{now.compared} of {now.total} models", time_limit)

        yield update


def _over(done: str, minutes: float) -> ResourceError:
    why = f"the time limit of {duration(60 * minutes)} is over"
    fix = "type the same command again to go on from there, with a higher --time-limit or none"
    return ResourceError(f"stopped after {done}", why, fix)


class _Bar:
    """A bar, of which nothing stays when all is done."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self.bar = tqdm(unit="codelength", file=sys.stderr, leave=False, delay=1e-9)  # not before it has a total

    def __call__(self, status: "Status") -> None:
        """Show how far all workers are."""
        self.bar.total, self.bar.n = status.total, status.done + status.failed
        more = len(status.running) - _RUNNING_SHOWN
        names = [*status.running[:_RUNNING_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        self.bar.set_description(f"{status.passes[0]} of {status.passes[1]} models run", refresh=False)
        self.bar.set_postfix_str("; ".join(names) + (f"; {status.failed} failed" if status.failed else ""))

    def close(self) -> None:
        """Take it away."""
        self.bar.close()


class _Lines:
    """Plain lines, one for each change."""

    def __init__(self) -> None:
        self.last: tuple[int, ...] = ()

    def __call__(self, status: "Status") -> None:
        """Print one line if codelengths have been finished, or models run, since the last one."""
        now = (status.done, status.failed, status.passes[0])
        if now != self.last:
            self.last = now
            say(_line(status))

    def close(self) -> None:
        """Leave the lines."""


def _line(status: "Status") -> str:
    left = f", {duration(status.seconds_left)} left" if status.seconds_left and not status.over else ""
    return (
        f"{status.done} of {status.total} done, {len(status.running)} running, {status.failed} failed; "
        f"{status.passes[0]} of {status.passes[1]} models run{left}"
    )
