"""A ruler between networks whose relation is known: where a distance lies among measured ones."""

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.difference import ERRORS
from hf_infodist.results.records import ImagesRecord

ANCHORS = Path(__file__).parent / "anchors.json"
_PHRASES = {
    "same weights": "the same weights",
    "other seed": "another training seed",
    "other task": "another task",
    "random network": "a network that has learnt nothing",
}


@dataclass(frozen=True)
class Anchor:
    """A measured distance between two networks of known relation, in bits an image, and its standard error."""

    relation: str
    bits_per_image: float
    stderr_bits_per_image: float = 0.0

    @property
    def phrase(self) -> str:
        """The relation in words."""
        return _PHRASES[self.relation]


@dataclass(frozen=True)
class Ruler:
    """Anchors, nearest first.

    Attributes:
        anchors: From the same weights to a random network.
        measured_on: Images, their number and protocol, in words.
        same_settings: Whether they were measured on the images, number and protocol of the comparison.
    """

    anchors: tuple[Anchor, ...]
    measured_on: str
    same_settings: bool

    @classmethod
    def of(cls, images: ImagesRecord, protocol: CodingProtocol) -> "Ruler":
        """Return the anchors measured on these images, or else on real photographs of clothes.

        Measured by ``infodist study anchors``.
        """
        measured = _measured()
        same = [m for m in measured if m["fingerprint"] == images.fingerprint and _protocol(m) == protocol]
        fields = next(iter(same), measured[images.id != "digits"])
        anchors = sorted((Anchor(**anchor) for anchor in fields["anchors"]), key=lambda anchor: anchor.bits_per_image)
        where = f"{fields['k']} images of {fields['title']}, {fields['protocol']['name']}"
        return cls(tuple(anchors), where, bool(same))

    def position(self, bits_per_image: float) -> float:
        """Return where a distance lies, from 0 to 1; the scale is that of square roots, for most are small."""
        end = 1.1 * self.anchors[-1].bits_per_image
        return math.sqrt(min(max(bits_per_image, 0.0) / end, 1.0))

    def verdict(self, bits_per_image: float, stderr: float) -> str:
        """Say what a distance is like, if it was measured as the anchors were and the errors leave one answer.

        Args:
            bits_per_image: The distance.
            stderr: Its standard error; NaN counts as 0.
        """
        if not self.same_settings:
            return ""
        own = stderr if math.isfinite(stderr) else 0.0
        alike = [
            anchor
            for anchor in self.anchors
            if abs(anchor.bits_per_image - bits_per_image) <= ERRORS * math.hypot(own, anchor.stderr_bits_per_image)
        ]
        if alike:
            return f"about as much as {' or '.join(one.phrase for one in alike)}" if len(alike) < 3 else ""
        nearer = [anchor.phrase for anchor in self.anchors if anchor.bits_per_image < bits_per_image]
        farther = [anchor.phrase for anchor in self.anchors if anchor.bits_per_image > bits_per_image]
        bounds = [f"more than {nearer[-1]}"] if len(nearer) > 1 else []
        return ", ".join([*bounds, *([f"less than {farther[0]}"] if farther else [])])


@cache
def _measured() -> list[dict[str, Any]]:
    return json.loads(ANCHORS.read_text(encoding="utf-8"))


def _protocol(fields: dict[str, Any]) -> CodingProtocol:
    return CodingProtocol.from_dict(fields["protocol"])
