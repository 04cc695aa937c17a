"""Names of outputs: the hash of everything that decides them."""

import hashlib
import json
import re
from typing import Any

KEY = re.compile("[0-9a-f]{32}")
"""What such a name looks like."""


def digest_of(*parts: object) -> str:
    """Return the hash of JSON types."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def pixels_key(images: str, preprocessing: dict[str, Any]) -> str:
    """Return the name of a sample, given by its fingerprint, under one preprocessing."""
    return digest_of(images, preprocessing)


def outputs_key(images: str, preprocessing: dict[str, Any], weights: str, layers: int) -> str:
    """Return the name of the outputs of a model.

    Args:
        images: Fingerprint of the sample.
        preprocessing: Of the model.
        weights: Hash of the weights.
        layers: Version of what is read of its layers.
    """
    return digest_of(pixels_key(images, preprocessing), weights, layers)
