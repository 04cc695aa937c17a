"""What every measure says of all pairs of a population, beside what is known of its networks; kept in a file."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hf_infodist.baselines.measures import MEASURES
from hf_infodist.baselines.output import disagreement, jensen_shannon
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.images.sample import Images
from hf_infodist.models.classifier import Classifier
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.matrix import INFODIST
from hf_infodist.studies.networks.fit import Examples, log_probabilities, score

DISTANCE = "d_p"
NAMES = (DISTANCE, *(f"{one.space}/{one.name}" for one in MEASURES if one.name != "KL(B‖A)"))
"""Of all measures; a directed one is the larger of both ways, so that one of two directions is left out."""
TRUTHS = ("accuracy", "Jensen-Shannon", "disagreement")
logger = logging.getLogger(__name__)
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measured:
    """A population as measured.

    Attributes:
        levels: ``[n]``, what differs, by network.
        accuracy: ``[n]``, on test pictures.
        helped: ``[n]``, the same where dots have the colour of the class; equal to it where there are none.
        truths: By `TRUTHS`: how far apart the networks are on all test pictures, ``[n, n]``; empty if not asked for.
        distances: By measure, ``[n, n]``; NaN where it does not apply.
    """

    levels: list[float]
    accuracy: list[float]
    helped: list[float]
    truths: dict[str, Values]
    distances: dict[str, Values]

    def write(self, file: Path) -> None:
        """Write it as JSON, whole or not at all."""
        fields: dict[str, Any] = vars(self).copy()
        for name in ("truths", "distances"):
            fields[name] = {key: _lists(matrix) for key, matrix in fields[name].items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".part").write_text(json.dumps(fields) + "\n")
        file.with_suffix(".part").replace(file)

    @classmethod
    def read(cls, file: Path) -> "Measured":
        """Read what `write` has written."""
        fields = json.loads(file.read_text())
        for name in ("truths", "distances"):
            fields[name] = {key: np.array(rows, dtype=np.float64) for key, rows in fields[name].items()}
        return cls(**fields)


def _lists(matrix: Values) -> list[list[float | None]]:
    return [[value if np.isfinite(value) else None for value in row] for row in matrix.tolist()]


def distances(models: Sequence[Classifier], images: Images, protocol: str) -> dict[str, Values]:
    """Measure all pairs by the information distance and by every baseline, ``[n, n]`` each."""
    found = {}
    for name in NAMES:
        logger.info("measuring %d networks by %s", len(models), name)
        measure = INFODIST if name == DISTANCE else name
        found[name] = pairwise_distances(models, images, protocol=PROTOCOLS[protocol], measure=measure).distances
    return found


def accuracy(network: nn.Module, test: Examples) -> float:
    """Return the share of pictures that a network gets right."""
    return score(log_probabilities(network, test.images), test.targets).accuracy


def truths(networks: Sequence[nn.Module], test: Examples) -> dict[str, Values]:
    """Return how far apart networks are on test pictures by `TRUTHS`, ``[n, n]`` each."""
    logs = [log_probabilities(network, test.images) for network in networks]
    right = np.array([score(one, test.targets).accuracy for one in logs])
    found = {name: np.zeros((len(logs), len(logs))) for name in TRUTHS}
    for i, j in combinations(range(len(logs)), 2):
        pair = _far(logs[i], logs[j])
        for name, value in zip(TRUTHS, (abs(right[i] - right[j]), *pair), strict=True):
            found[name][i, j] = found[name][j, i] = value
    return found


def _far(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Return Jensen-Shannon divergence and disagreement of log-probabilities ``[N, C]``."""
    rows = a.numpy(), b.numpy()
    return jensen_shannon(*rows), disagreement(*rows)


def first(examples: Examples, count: int) -> Examples:
    """Return the first examples, all where there are no more."""
    return examples.rows(torch.arange(min(count, len(examples))))
