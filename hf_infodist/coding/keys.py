"""Names in the store: hashes of everything that decides a codelength."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator

from hf_infodist.coding.kernels import LANDMARKS
from hf_infodist.environment import installed
from hf_infodist.images.sample import Images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.heads import match_labels, named
from hf_infodist.outputs.forward import outputs_key
from hf_infodist.protocol import CodingProtocol

STATE_VERSION = 3
"""Of what a checkpoint holds: one that was begun with other contents is not gone on from."""


def device_of(accelerator: Accelerator, protocol: CodingProtocol) -> str:
    """Return the type of device, and the precision in which students are trained there if not in full: ``cuda bf16``.

    Both change what training costs, so both belong to the name of a number. Closed forms are worked out in float64.
    """
    mixed = accelerator.mixed_precision if any(learner.trained for learner in protocol.learners) else "no"
    return accelerator.device.type if mixed == "no" else f"{accelerator.device.type} {mixed}"


def codelength_key(
    student: Classifier, teacher: Classifier, images: Images, protocol: CodingProtocol, device: str
) -> str:
    """Return the hash of everything that decides a codelength, 32 hexadecimal digits; known before any model is run.

    Versions of libraries are not in it: they change the number by round-off only, and are recorded beside it.
    """
    outputs = [outputs_key(student, images), outputs_key(teacher, images)]
    return codelength_key_of(outputs, (student.labels, teacher.labels), protocol, device)


def codelength_key_of(
    outputs: Sequence[str], labels: tuple[Sequence[str], Sequence[str]], protocol: CodingProtocol, device: str
) -> str:
    """Return `codelength_key` from what is known of models that are not in memory.

    Args:
        outputs: Keys of the outputs of student and teacher.
        labels: Names of their classes.
        protocol: Everything else that changes the number.
        device: From `device_of`.
    """
    fields = {
        "coding": protocol.coding,
        "outputs": list(outputs),
        "rows": match_labels(*labels),
        "named": named(*labels),
        "landmarks": LANDMARKS,
        "protocol": protocol.to_dict() | {"name": ""},
        "device": device,
    }
    return _hash(fields)


def run_key(codelength: str, order: int) -> str:
    """Return the hash of everything that every bit of the state of a run depends on, 32 hexadecimal digits.

    Args:
        codelength: From `codelength_key`.
        order: Which of its orders.
    """
    return _hash([codelength, order, installed("hf-infodist"), installed("torch"), STATE_VERSION])


def _hash(fields: Any) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:32]
