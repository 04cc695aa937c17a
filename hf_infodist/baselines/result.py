"""What a measure says of a pair, or why it says nothing."""

from dataclasses import dataclass


class Inapplicable(ValueError):
    """A measure has no value for this pair; the message is the reason, in one line."""


@dataclass(frozen=True)
class BaselineResult:
    """One row of the table.

    Attributes:
        name: The measure; unique within its space.
        space: ``parameter``, ``representation`` or ``output``.
        value: What it says of the pair; None where it does not apply.
        reason: Why it does not apply; None where it does.
        larger_is_more_similar: Whether two equal models have 1, the largest value, rather than 0, the smallest.
        meaning: One line.
    """

    name: str
    space: str
    value: float | None
    reason: str | None
    larger_is_more_similar: bool
    meaning: str
