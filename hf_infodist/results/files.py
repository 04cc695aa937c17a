"""Matrices from files and from results, joined where they are of one kind."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hf_infodist.errors import NotFoundError, UnfitError
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.codelength import Codelength
from hf_infodist.results.distance import InformationDistance
from hf_infodist.results.matrix import INFODIST, PairwiseMatrix
from hf_infodist.results.records import ImagesRecord, ModelRecord


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
    matched: dict[tuple[int, int], None] = {}
    prices: dict[tuple[int, int], NDArray[np.float64]] = {}
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
        prices = {(place[i], place[j]): each for (i, j), each in matrix.image_nats.items()} | prices
        twins |= {(min(place[i], place[j]), max(place[i], place[j])) for i, j in matrix.twins}
        matched |= {(place[i], place[j]): None for i, j in matrix.matched}
    failures = {pair: text for pair, text in failures.items() if np.isnan(nats[pair])}
    return replace(
        first,
        models=tuple(models),
        nats=nats,
        stderr_nats=errors,
        errors=failures,
        twins=tuple(sorted(twins)),
        matched=tuple(matched),
        image_nats=prices,
    )


def _check_alike(first: PairwiseMatrix, other: PairwiseMatrix) -> None:
    for name, a, b in (
        ("measure", first.measure, other.measure),
        ("images", first.images.fingerprint, other.images.fingerprint),
        ("protocol", first.protocol, other.protocol),
    ):
        if a != b:
            raise UnfitError(
                f"two matrices differ in their {name}",
                "a distance is a number with its images and its protocol; those of others are of another space",
                "compute all of them by one infodist matrix command",
            )


def of_codes(
    models: Sequence[ModelRecord],
    codes: Mapping[tuple[int, int], Codelength],
    images: ImagesRecord,
    protocol: CodingProtocol,
    twins: Sequence[tuple[int, int]] = (),
    matched: Sequence[tuple[int, int]] = (),
) -> PairwiseMatrix:
    """Return the matrix of codelengths by teacher and student; others are missing, but for those of twins."""
    nats, errors = (np.full((len(models), len(models)), np.nan) for _ in range(2))
    np.fill_diagonal(nats, 0)
    prices = {direction: code.image_nats for direction, code in codes.items()}
    for i, j in twins:
        nats[i, j] = nats[j, i] = 0
        prices[i, j] = prices[j, i] = np.zeros(images.k)
    for direction, code in codes.items():
        nats[direction], errors[direction] = code.nats, code.stderr_nats
    return PairwiseMatrix(
        tuple(models),
        nats,
        errors,
        INFODIST,
        images,
        protocol,
        twins=tuple(twins),
        matched=tuple(matched),
        image_nats=prices,
    )


def of_results(results: Sequence[InformationDistance]) -> PairwiseMatrix:
    """Return the matrix of some comparisons; pairs that were not compared are missing."""

    def one(result: InformationDistance) -> PairwiseMatrix:
        forth, back = result.a_given_b, result.b_given_a
        nats = np.array([[0, forth.nats], [back.nats, 0]])
        errors = np.array([[math.nan, forth.stderr_nats], [back.stderr_nats, math.nan]])
        models = (result.model_a, result.model_b)
        prices = {(0, 1): forth.image_nats, (1, 0): back.image_nats}
        return PairwiseMatrix(models, nats, errors, INFODIST, result.images, result.protocol, image_nats=prices)

    return merge([one(result) for result in results])
