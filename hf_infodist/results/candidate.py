"""What the labels of a dataset cost when they are learnt from one checkpoint."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hf_infodist.results.codelength import Codelength
from hf_infodist.results.records import ModelRecord
from hf_infodist.table import text_table

LAST = 4  # share of the images, the last ones, on which accuracy and log loss are told
_SHORT = {"linear probe": "probe", "shrunk H-score": "shrunk", "parameters": "weights"}


@dataclass(frozen=True, eq=False)
class Candidate:
    """What the labels cost when they are learnt from one model.

    Attributes:
        model: Which.
        code: Σ -log p(y_i | x_i, what came before), equation (2), label by label.
        seconds: That this took, its forward passes included; next to nothing if it was in the store.
        baselines: What other measures say of it, by name, if they were asked for; None where one does not apply.
    """

    model: ModelRecord
    code: Codelength
    seconds: float
    baselines: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Name of the model."""
        return self.model.id

    @property
    def image_nats(self) -> NDArray[np.float64]:
        """Price of each label when it was new, ``[k]``."""
        return self.code.image_nats

    @property
    def nats(self) -> float:
        """Price of all labels."""
        return self.code.nats

    @property
    def tail_nats(self) -> float:
        """Price of the second half of the labels: what is left to pay after a start is warm."""
        return math.fsum(self.image_nats[len(self.image_nats) // 2 :])

    @property
    def log_loss(self) -> float:
        """Mean price of the last quarter of the labels, nats."""
        return float(self._last(self.image_nats).mean())

    @property
    def accuracy(self) -> float:
        """Share of them that was the class found likeliest."""
        assert self.code.image_hits is not None
        return float(self._last(self.code.image_hits).mean())

    def _last(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values[-max(1, len(values) // LAST) :]


def table_of_baselines(candidates: Sequence[Candidate]) -> list[str]:
    """Return what other measures say of some candidates, as a table and what it means; nothing if none was asked."""
    names = list(candidates[0].baselines)
    if not names:
        return []
    rows = [[one.id, *(_told(one.baselines[name]) for name in names)] for one in candidates]
    header = ("", *(_SHORT.get(name, name) for name in names))
    return [
        text_table(header, rows, names=[one.id for one in candidates]),
        "Other measures have neither unit nor error; larger is better. probe: linear; shrunk: H-score of a shrunk",
        "covariance; weights: how many there are without the head.",
    ]


def _told(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
