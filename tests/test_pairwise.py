"""A matrix of models: the record, and how it is filled."""

import json

import numpy as np
import pytest

from hf_infodist.errors import UnfitError
from hf_infodist.pairwise import PairwiseMatrix
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.result import ModelRecord

IMAGES = {"id": "digits", "config": None, "split": None, "k": 48, "seed": 0, "fingerprint": "f"}


def record(name):
    return ModelRecord(name, "timm", None, 10, name, {"library": "timm", "input_size": [3, 8, 8]})


def matrix(nats, errors=None, protocol=PROTOCOLS["probe"], names="abc", twins=()):
    models = tuple(record(name) for name in names)
    nats = np.array(nats, dtype=float)
    return PairwiseMatrix(models, nats, nats / 10, "infodist", IMAGES, protocol, errors or {}, twins)


NATS = [[0, 1 / 3, 5], [2, 0, np.nan], [3, 0.1, 0]]


def test_the_distance_is_the_larger_direction_and_unknown_unless_both_are_there():
    distances = matrix(NATS).distances
    assert distances[0, 1] == distances[1, 0] == 2 and distances[0, 2] == 5
    assert np.isnan(distances[1, 2]) and np.isnan(distances[2, 1]) and not np.diag(distances).any()


def test_a_matrix_comes_back_from_json_to_the_bit():
    first = matrix(NATS, {(1, 2): "it diverged"}, twins=((0, 1),))
    again = PairwiseMatrix.from_dict(json.loads(json.dumps(first.to_dict(), allow_nan=False)))
    assert np.array_equal(again.nats, first.nats, equal_nan=True)
    assert np.array_equal(again.stderr_nats, first.stderr_nats, equal_nan=True)
    assert (again.models, again.images, again.protocol, again.errors, again.twins) == (
        (first.models, first.images, first.protocol, first.errors, first.twins)
    )


def test_something_else_is_refused():
    with pytest.raises(UnfitError, match="infodist matrix"):
        PairwiseMatrix.from_dict({"schema": "infodist.result/1"})
    with pytest.raises(UnfitError, match="one row and one column"):
        matrix(NATS, names="ab")


def test_the_table_tells_a_failed_pair_from_a_missing_one():
    text = str(matrix(NATS, {(1, 2): "it diverged"}))
    assert "failed" in text and "1 given 2 failed: it diverged" in text and "missing" not in text
    assert "0 and 1 are the same network" in str(matrix(NATS, twins=((0, 1),)))
    assert "missing" in str(matrix(NATS)) and not matrix(NATS).complete
