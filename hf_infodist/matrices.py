"""Matrices from files, joined where they are of one kind, and asked who is nearest."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from hf_infodist.errors import NotFoundError, UnfitError
from hf_infodist.geometry import nearest
from hf_infodist.pairwise import INFODIST, PairwiseMatrix
from hf_infodist.result import InformationDistance


def read_matrix(file: Path) -> PairwiseMatrix:
    """Read a matrix that ``infodist matrix -o`` has written.

    Raises:
        NotFoundError: If the file is not there.
        UnfitError: If it is something else.
    """
    if not file.is_file():
        raise NotFoundError(f"{file} is missing", "a matrix is read from there", f"infodist matrix MODEL… -o {file}")
    try:
        fields = json.loads(file.read_text())
    except ValueError as error:
        raise UnfitError(f"{file} is no JSON", str(error), f"infodist matrix MODEL… -o {file}") from None
    return PairwiseMatrix.from_dict(fields if isinstance(fields, dict) else {})


def merge(matrices: Sequence[PairwiseMatrix]) -> PairwiseMatrix:
    """Return one matrix of all models; a pair that none of the matrices has is missing.

    Raises:
        UnfitError: If they differ in measure, images or protocol, or disagree on a number: no map shows both.
    """
    first, models = matrices[0], list(matrices[0].models)
    for matrix in matrices[1:]:
        _check_alike(first, matrix)
        models += [model for model in matrix.models if model not in models]
    nats, errors = (np.full((len(models), len(models)), np.nan) for _ in range(2))
    np.fill_diagonal(nats, 0)
    failures: dict[tuple[int, int], str] = {}
    twins: set[tuple[int, int]] = set()
    for matrix in matrices:
        place = [models.index(model) for model in matrix.models]
        here = np.ix_(place, place)
        known = nats[here]
        if (abs(known - matrix.nats) > 1e-6 * abs(known)).any():  # not where either is missing
            raise UnfitError(
                "two matrices have different numbers for the same models, images and protocol",
                "they come from different versions of what computes them",
                "compute all of them by one infodist matrix command",
            )
        nats[here] = np.where(np.isnan(known), matrix.nats, known)
        errors[here] = np.where(np.isnan(errors[here]), matrix.stderr_nats, errors[here])
        failures |= {(place[i], place[j]): text for (i, j), text in matrix.errors.items()}
        twins |= {(min(place[i], place[j]), max(place[i], place[j])) for i, j in matrix.twins}
    failures = {pair: text for pair, text in failures.items() if np.isnan(nats[pair])}
    return replace(
        first, models=tuple(models), nats=nats, stderr_nats=errors, errors=failures, twins=tuple(sorted(twins))
    )


def _check_alike(first: PairwiseMatrix, other: PairwiseMatrix) -> None:
    for name, a, b in (
        ("measure", first.measure, other.measure),
        ("images", first.images["fingerprint"], other.images["fingerprint"]),
        ("protocol", first.protocol, other.protocol),
    ):
        if a != b:
            raise UnfitError(
                f"two matrices differ in their {name}",
                "a distance is a number with its images and its protocol; those of others are of another space",
                "compute all of them by one infodist matrix command",
            )


def of_results(results: Sequence[InformationDistance]) -> PairwiseMatrix:
    """Return the matrix of some comparisons; pairs that were not compared are missing."""

    def one(result: InformationDistance) -> PairwiseMatrix:
        forth, back = result.a_given_b, result.b_given_a
        nats = np.array([[0, forth.nats], [back.nats, 0]])
        errors = np.array([[math.nan, forth.stderr_nats], [back.stderr_nats, math.nan]])
        models = (result.model_a, result.model_b)
        return PairwiseMatrix(models, nats, errors, INFODIST, result.images, result.protocol)

    return merge([one(result) for result in results])


@dataclass(frozen=True)
class Neighbour:
    """Another model: its distance, what it costs to make it from the model asked about, and that from it."""

    id: str
    distance: float
    from_model: float
    to_model: float


@dataclass(frozen=True)
class Neighbours:
    """The models nearest to one, nearest first.

    Attributes:
        model: Whose they are.
        neighbours: Who.
        unit: Of the distances: ``nats``, or the name of a baseline.
        matrix: Where they are from.
    """

    model: str
    neighbours: tuple[Neighbour, ...]
    unit: str
    matrix: PairwiseMatrix

    @classmethod
    def of(cls, matrix: PairwiseMatrix, model: str, n: int | None = None) -> "Neighbours":
        """Look up the ``n`` nearest of those that have been compared with a model; all if None.

        Raises:
            NotFoundError: If the matrix does not have the model.
        """
        names = [record.id for record in matrix.models]
        if model not in names:
            close = (get_close_matches(model, names, 1, 0) or names)[0]
            raise NotFoundError(
                f"the matrix has no model {model!r}",
                f"it has {len(names)}: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}",
                f"infodist nearest {close} with the same options",
            )
        i = names.index(model)
        found = nearest(matrix.distances, i, n)
        rows = (Neighbour(names[j], d, float(matrix.nats[j, i]), float(matrix.nats[i, j])) for j, d in found)
        return cls(model, tuple(rows), "nats" if matrix.measure == INFODIST else matrix.measure, matrix)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, schema ``infodist.nearest/1``."""
        protocol = self.matrix.protocol.to_dict() if self.matrix.protocol else None
        return {
            "schema": "infodist.nearest/1",
            "model": self.model,
            "unit": self.unit,
            "nearest": [asdict(neighbour) for neighbour in self.neighbours],
            "images": self.matrix.images,
            "protocol": protocol,
        }

    def __str__(self) -> str:
        """Return a table."""
        width = max(len(name) for name in ("nearest to ", *(one.id for one in self.neighbours)))
        sample = f"{self.matrix.images['k']} images of {self.matrix.images['id']}, seed {self.matrix.images['seed']}"
        protocol = f", protocol {self.matrix.protocol.name}" if self.matrix.protocol else ""
        head = f"{'':<{width}}{'distance':>15}{'it given this':>15}{'this given it':>15}"
        rows = [
            f"{one.id:<{width}}{one.distance:>15.5g}{one.from_model:>15.5g}{one.to_model:>15.5g}"
            for one in self.neighbours
        ]
        return "\n".join([f"nearest to {self.model}, {self.unit}, {sample}{protocol}", head, *rows])
