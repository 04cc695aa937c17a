"""A ruler between networks whose relation is known: where a distance lies among measured ones."""

import json
import math
from dataclasses import dataclass
from functools import cache

from hf_infodist.page.records import ANCHORS, SHIPPED


@dataclass(frozen=True)
class Anchor:
    """A measured distance between two networks of known relation, in bits an image."""

    relation: str
    bits_per_image: float


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

    def position(self, bits_per_image: float) -> float:
        """Return where a distance lies, from 0 to 1; the scale is that of square roots, for most are small."""
        end = 1.1 * self.anchors[-1].bits_per_image
        return math.sqrt(min(max(bits_per_image, 0.0) / end, 1.0))

    def sentence(self, bits_per_image: float) -> str:
        """Say between which anchors a distance lies."""
        nearer = [anchor for anchor in self.anchors if anchor.bits_per_image <= bits_per_image]
        farther = [anchor for anchor in self.anchors if anchor.bits_per_image > bits_per_image]
        if not farther:
            where = f"farther than a {nearer[-1].relation} is from a trained one"
        elif len(nearer) <= 1 and bits_per_image < 0.1 * farther[0].bits_per_image:
            where = "nearly the same function"
        else:
            near, far = nearer[-1] if nearer else self.anchors[0], farther[0]
            where = f"between {_phrase(near.relation)} and {_phrase(far.relation)}"
        return f"{bits_per_image:.3g} bits an image: {where}."


def ruler(images: str, k: int, protocol: str) -> Ruler:
    """Return the anchors measured on these images, or else on real photographs of clothes.

    Measured by ``infodist study anchors``.
    """
    sets = {fields["images"]: fields for fields in _measured()}
    fields = sets.get(images, sets["fashion-test"])
    name = {"digits": "digits", "fashion-test": "Fashion-MNIST"}[fields["images"]]
    anchors = sorted((Anchor(a["relation"], a["bits_per_image"]) for a in fields["anchors"]), key=_bits)
    same = (images, k, protocol) == (fields["images"], fields["k"], fields["protocol"]["name"])
    return Ruler(tuple(anchors), f"{fields['k']} images of {name}, {fields['protocol']['name']}", same)


def _bits(anchor: Anchor) -> float:
    return anchor.bits_per_image


def _phrase(relation: str) -> str:
    articles = {"same weights": "the same weights", "other seed": "the same training with another seed"}
    return articles.get(relation, f"{'another task' if relation == 'other task' else 'a random network'}")


@cache
def _measured() -> list[dict]:
    return json.loads((SHIPPED / ANCHORS).read_text(encoding="utf-8"))
