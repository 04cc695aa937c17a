"""How the networks of a forest come to be: which is made from which, and how."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

How = Literal[
    "root", "half", "noisy", "relabelled", "elsewhere", "distilled",
    "neurons", "rounded", "labels", "pruned", "quantised",
]  # fmt: skip
KINDS = ("resnet10", "vgg-bn", "vit", "mlp")
"""Architectures of `studies.networks.zoo` that mixed forests draw from."""


@dataclass(frozen=True)
class Birth:
    """How a network comes to be.

    Attributes:
        name: Its folder.
        parent: What it is made from; None of a root.
        how: ``root`` is trained from fresh weights. Trained on are: ``half``, on a random half of the pictures;
            ``noisy``, with three in ten labels drawn anew; ``relabelled``, asked only which pair of classes it is,
            with a new head; ``elsewhere``, on pictures of something else. ``distilled`` is trained from fresh weights
            on the outputs of its parent. Copies that compute the same: ``neurons`` in another order; weights
            ``rounded`` to half precision; ``labels`` in another order, under names that say nothing. Nearly the same:
            the smaller half of the weights of each layer ``pruned``; weights ``quantised`` to eight bits.
        architecture: One of `studies.networks.zoo`; None for that of the scale.
    """

    name: str
    parent: str | None
    how: How
    architecture: str | None = None

    @property
    def trains_on(self) -> bool:
        """Whether it starts from the weights of its parent, and is trained."""
        return self.how in ("half", "noisy", "relabelled", "elsewhere")


FOREST = (
    Birth("a", None, "root"),
    Birth("a-half", "a", "half"),
    Birth("a-half-noisy", "a-half", "noisy"),
    Birth("a-relabelled", "a", "relabelled"),
    Birth("a-distilled", "a", "distilled"),
    Birth("b", None, "root"),
    Birth("b-noisy", "b", "noisy"),
    Birth("b-noisy-half", "b-noisy", "half"),
    Birth("b-noisy-neurons", "b-noisy", "neurons"),
    Birth("b-labels", "b", "labels"),
)


def mixed(seed: int) -> tuple[Birth, ...]:
    """Return a forest of twelve networks of three architectures: five roots, two of them without relatives.

    Two roots share the first architecture, two the second. Which these are, the seed decides.
    """
    first, second, third = (str(kind) for kind in np.random.default_rng(seed).permutation(KINDS)[:3])
    copy: How = "neurons" if first == "resnet10" else "rounded"
    return (
        Birth("a", None, "root", first),
        Birth("a-half", "a", "half", first),
        Birth("a-half-noisy", "a-half", "noisy", first),
        Birth("a-distilled", "a", "distilled", first),
        Birth("b", None, "root", first),
        Birth("b-copy", "b", copy, first),
        Birth("b-labels", "b", "labels", first),
        Birth("c", None, "root", second),
        Birth("c-noisy", "c", "noisy", second),
        Birth("c-relabelled", "c", "relabelled", second),
        Birth("d", None, "root", second),
        Birth("e", None, "root", third),
    )


_MADE: tuple[How, ...] = ("neurons", "labels", "pruned", "quantised")
_TRAINED: tuple[How, ...] = ("half", "noisy", "elsewhere", "relabelled", "distilled")
HIDDEN = (
    *(Birth(name, None, "root", "resnet10") for name in "abcde"),
    *(Birth(f"a-{how}", "a", how, "resnet10") for how in (*_MADE, *_TRAINED)),
    Birth("a-distilled-vgg", "a", "distilled", "vgg-bn"),
    Birth("a-noisy-neurons", "a-noisy", "neurons", "resnet10"),
    Birth("a-noisy-hidden", "a-noisy-neurons", "labels", "resnet10"),
)
"""One network, what may be made of it to hide where it comes from, and four of the same task that it does not know."""
