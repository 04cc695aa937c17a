"""What happens on the way to a result, as it is told to a visitor."""

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Waiting:
    """Others are first."""

    ahead: int


@dataclass(frozen=True)
class Stage:
    """What is being done, in words."""

    text: str


@dataclass(frozen=True)
class Block:
    """A block of images has been priced.

    Attributes:
        direction: ``a_given_b`` or ``b_given_a``; of labels the name of the model.
        images: Priced so far in this direction.
        nats: Paid so far in this direction.
        seconds_left: Until all directions are done.
    """

    direction: str
    images: int
    nats: float
    seconds_left: float


@dataclass(frozen=True)
class Stopped:
    """The run was ended before its end; why, in words."""

    why: str


@dataclass(frozen=True)
class Failed:
    """The run cannot be done.

    Attributes:
        what: As in `InfodistError`, without anything of this machine.
        why: As in `InfodistError`.
        fix: As in `InfodistError`.
        field: The box it comes from, if it comes from one.
    """

    what: str
    why: str
    fix: str
    field: str = ""


@dataclass(frozen=True)
class Checked:
    """What an answer would cost.

    Attributes:
        parameters: Weights of each model.
        flops: Operations in all.
        seconds: Expected on this device.
        device: Which.
        fits: Whether it ends within the budget.
        instead: What would fit, in words, if it does not.
    """

    parameters: tuple[int, ...]
    flops: float
    seconds: float
    device: str
    fits: bool
    instead: str


@dataclass(frozen=True)
class Done:
    """The result is there: the fields of a `Record`, or of `candidates.to_record`."""

    record: dict[str, Any]


Event = Waiting | Stage | Block | Stopped | Failed | Checked | Done
_KINDS = {kind.__name__: kind for kind in (Waiting, Stage, Block, Stopped, Failed, Checked, Done)}


def to_line(event: Event) -> str:
    """Write an event as one line of JSON."""
    fields = {"record": event.record} if isinstance(event, Done) else asdict(event)
    return json.dumps({"kind": type(event).__name__} | fields)


def from_line(line: str | bytes) -> Event:
    """Read an event that `to_line` has written."""
    fields = json.loads(line)
    return _KINDS[fields.pop("kind")](**fields)
