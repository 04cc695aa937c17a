"""How numbers are said: in which unit, and with as many digits as their error leaves."""

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any

_MOST_DIGITS = 4  # after the point; less is nothing to speak of


def to_bits(nats: Any) -> Any:
    """Return nats, a number or an array, in bits."""
    return nats / math.log(2)


class Unit(StrEnum):
    """What information is told in: bits to people; `BITS` where nothing else is asked for."""

    BITS = "bits"
    NATS = "nats"

    def of(self, nats: Any) -> Any:
        """Return nats, a number or an array, in this unit."""
        return to_bits(nats) if self is Unit.BITS else nats

    def each(self, nats: float, stderr_nats: float, k: int) -> tuple[str, str]:
        """Return a codelength over ``k`` images and its standard error, both per image."""
        return rounded(self.of(nats) / k, self.of(stderr_nats) / k)

    def rate(self, nats: float, stderr_nats: float, k: int) -> str:
        """Return the same in one, ``0.073 ± 0.013 bits per image``."""
        return f"{' ± '.join(filter(None, self.each(nats, stderr_nats, k)))} {self} per image"


def amount(value: float, error: float = math.nan) -> str:
    """Return a number with its standard error, ``41 ± 8``; alone where there is none."""
    return " ± ".join(filter(None, rounded(value, error)))


def rounded(value: float, error: float = math.nan) -> tuple[str, str]:
    """Return a number and its standard error as text.

    The error has two digits if they are up to 35, else one, as the Particle Data Group rounds; the number ends where
    it ends. Without an error there are three digits at least.
    """
    if not math.isfinite(value):
        return "n/a", ""
    known = math.isfinite(error) and error > 0
    digits = _digits(error, 3.55, 1) if known else max(0, _digits(value, math.inf, 2))
    say = _to_digits(min(digits, _MOST_DIGITS))
    return say(value), say(error) if known else ""


def number(value: float | None) -> str:
    """Return a number of which no error is known, with three digits; nothing for None."""
    return "" if value is None else rounded(value)[0]


def percent(share: float, error: float = math.nan) -> str:
    """Return a share, to the digits that its standard error leaves; of nothing at all there is none."""
    if not math.isfinite(share):
        return "n/a"
    return f"{rounded(100 * share, 100 * error)[0]}%"


def _digits(size: float, most: float, more: int) -> int:
    """Return how many digits after the point show a size with one digit, or ``more`` of them below ``most``."""
    if size == 0:
        return 0
    exponent = math.floor(math.log10(abs(size)))
    return more - exponent if abs(size) / 10.0**exponent < most else -exponent


def _to_digits(digits: int) -> Callable[[float], str]:
    def say(value: float) -> str:
        text = f"{round(value, digits):,.{max(digits, 0)}f}"
        return text.removeprefix("-") if not float(text.replace(",", "")) else text

    return say
