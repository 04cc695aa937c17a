"""Models put into an atlas, and run again to be compared with what it says."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hf_infodist.analysis.averaging import class_probabilities
from hf_infodist.coding.features import Distances
from hf_infodist.coding.kernels import LANDMARKS
from hf_infodist.errors import InfodistError, UnfitError
from hf_infodist.images.request import Sample
from hf_infodist.images.sample import Images, load_images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.declared import read_claims
from hf_infodist.models.load import load_classifier
from hf_infodist.outputs.arrays import Outputs
from hf_infodist.outputs.forward import compute_outputs, outputs_key
from hf_infodist.outputs.layers import LAYERS_VERSION
from hf_infodist.pair import Execution
from hf_infodist.processes import make_accelerator
from hf_infodist.results.atlas.entry import AtlasEntry, printable
from hf_infodist.results.atlas.files import AtlasFile, write_file
from hf_infodist.results.atlas.folder import Atlas, AtlasHead
from hf_infodist.results.atlas.packing import SQUARES, pack_logits, pack_square
from hf_infodist.results.claims import Claim

SAME = 0.02
"""Largest difference of a centred logit between two runs of one model: half precision and round-off are below it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Added:
    """What came of adding models, by name.

    Attributes:
        new: Run and written.
        there: In the atlas already, with the same weights on the same images.
        elsewhere: Being added by another process.
        failed: What went wrong with each of the others, in one line.
    """

    new: tuple[str, ...]
    there: tuple[str, ...]
    elsewhere: tuple[str, ...]
    failed: dict[str, str]


def head_of(images: Images) -> AtlasHead:
    """Describe the images of an atlas.

    Raises:
        UnfitError: If they are more than distances between all of them can be kept of.
    """
    if len(images) > LANDMARKS:
        why = f"an atlas keeps distances between all pairs of images, of {LANDMARKS} at most"
        raise UnfitError(f"{len(images)} images are too many for an atlas", why, f"use -k {LANDMARKS} or less")
    return AtlasHead(images.record, LAYERS_VERSION, tuple(images.labels or ()), images.label_names)


def sample_of(head: AtlasHead) -> Sample:
    """Return the sample that an atlas is of, as it was asked for."""
    images = head.images
    return Sample(images.pinned, images.config, images.split, images.column, images.k, images.seed)


def load_atlas_images(atlas: Atlas, images: Any = None) -> Images:
    """Load the images of an atlas, from where it says, or from where they are said to be.

    Args:
        atlas: Of which.
        images: Their name or the loaded images, where the atlas has them under another.

    Raises:
        UnfitError: If they are others.
        NotFoundError: If they are not there.
    """
    wanted = sample_of(atlas.head)
    if isinstance(images, Sample) and (images.k not in (None, wanted.k) or images.seed not in (0, wanted.seed)):
        what = f"{images.k or wanted.k} images, seed {images.seed}, are not those of {atlas.folder}"
        raise UnfitError(what, f"it is of {atlas.head.images}", "leave out -k and --seed")
    drawn = load_images(wanted if images is None else Sample.of(images, k=wanted.k, seed=wanted.seed))
    if drawn.fingerprint != atlas.head.images.fingerprint:
        why = f"the atlas is of images with the fingerprint {atlas.head.images.fingerprint[:12]}"
        what = f"{drawn.id} has other images than {atlas.folder}: {drawn.fingerprint[:12]}"
        raise UnfitError(what, why, "give the images of the atlas by --images, or begin another atlas of these")
    return drawn


def add_models(
    atlas: Atlas,
    models: Sequence[str | nn.Module | Classifier],
    images: Images,
    *,
    execution: Execution | None = None,
    on_model: Callable[[str], None] = lambda name: None,
) -> Added:
    """Run models on the images of an atlas, and put what is needed of each into it; a model that fails is told.

    Several processes may add to one folder: each takes models that no other is at.

    Args:
        atlas: Where to.
        models: Names, or loaded models.
        images: Those of the atlas, with their pictures.
        execution: How they are run.
        on_model: Called with the name of each before it is loaded.
    """
    found: dict[str, list[str]] = {"new": [], "there": [], "elsewhere": []}
    failed: dict[str, str] = {}
    try:
        for model in models:
            name = model if isinstance(model, str) else str(getattr(model, "id", type(model).__name__))
            on_model(name)
            try:
                found[_add(atlas, model, images, execution or Execution())].append(name)
            except InfodistError as error:
                failed[name] = " ".join(str(error).splitlines()[:2])
    finally:
        atlas.write_index()  # once, as it reads what all files say
    return Added(tuple(found["new"]), tuple(found["there"]), tuple(found["elsewhere"]), failed)


def _add(atlas: Atlas, model: str | nn.Module | Classifier, images: Images, execution: Execution) -> str:
    classifier = load_classifier(model)
    key = outputs_key(classifier, images)
    claim = Claim(atlas.models / key)
    if atlas.file(key):
        return "there"
    if not claim.take():
        return "elsewhere"
    try:
        if atlas.file(key):
            return "there"
        outputs = compute_outputs(
            classifier, images, device=make_accelerator().device, home=execution.home, chunk=execution.chunk
        )
        write_outputs(atlas.models, classifier, outputs, images)
        return "new"
    finally:
        claim.release()


def write_outputs(
    folder: Path,
    classifier: Classifier,
    outputs: Outputs,
    images: Images,
    claims: tuple[str | None, tuple[str, ...], str] | None = None,
) -> Path:
    """Pack the outputs of a model into a file of a folder.

    Args:
        folder: Of the files of an atlas.
        classifier: The model.
        outputs: What it makes of the images.
        images: Those of the atlas.
        claims: Licence, what it was made from and how; as its card has them if None.
    """
    squares, quarters = pack_distances(outputs)
    licence, bases, relation = claims or read_claims(classifier.id)
    entry = AtlasEntry(
        classifier.record,
        outputs.key,
        tuple(map(printable, classifier.labels)),
        architecture_of(classifier),
        sum(weights.numel() for weights in classifier.network.parameters()),
        quarters,
        accuracy_of(outputs, classifier, images),
        licence and printable(licence),
        tuple(map(printable, bases)),
        relation,
    )
    return write_file(folder, entry, pack_logits(outputs.logits[:]), squares)


def pack_distances(outputs: Outputs) -> tuple[dict[str, NDArray[np.uint16]], tuple[int, int, int, int]]:
    """Return distances between all images, packed, by name of their features; and the layers of each quarter."""
    distances = Distances(outputs)
    everything = slice(0, distances.images)
    found, (a, b, c, d) = distances.between(everything, everything), distances.quarters
    return {name: pack_square(found[name].numpy()) for name in SQUARES}, (a, b, c, d)


def architecture_of(classifier: Classifier) -> str:
    """Return what the library of a model calls its architecture."""
    module = getattr(classifier.network, "module", classifier.network)
    told = (getattr(module, "pretrained_cfg", None) or {}).get("architecture")
    return str(told or type(module).__name__)


def accuracy_of(outputs: Outputs, classifier: Classifier, images: Images) -> float | None:
    """Return how often a model is right about the labels of images; None without labels or with other classes."""
    labels = np.array(images.labels if images.labels is not None else [], dtype=np.int64)
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        return None
    try:
        probabilities = class_probabilities(outputs.logits, classifier, images)
    except UnfitError:
        return None
    return float((probabilities[known].argmax(1) == labels[known]).mean())


@dataclass(frozen=True)
class Verified:
    """A model of an atlas beside what running it again says.

    Attributes:
        model: Its name.
        same: Whether the atlas says the same.
        why: What differs.
    """

    model: str
    same: bool
    why: str = ""


def verify_member(file: AtlasFile, images: Images, *, execution: Execution | None = None) -> Verified:
    """Load a model of an atlas, run it again, and compare.

    Raises:
        InfodistError: If it cannot be loaded.
    """
    entry, execution = file.entry, execution or Execution()
    classifier = load_classifier(entry.model.pinned)
    if classifier.weights_hash != entry.model.weights:
        return Verified(entry.id, False, "its weights are others now")
    outputs = compute_outputs(
        classifier, images, device=make_accelerator().device, home=execution.home, chunk=execution.chunk
    )
    if outputs.key != entry.outputs:
        return Verified(entry.id, False, "its preprocessing or the images are others now")
    theirs, ours = file.logits.astype(np.float64), pack_logits(outputs.logits[:]).astype(np.float64)
    if tuple(map(printable, classifier.labels)) != entry.labels:
        return Verified(entry.id, False, "its classes have other names now")
    apart = float(abs(theirs - ours).max()) if theirs.shape == ours.shape else np.inf
    if apart > SAME:
        return Verified(entry.id, False, f"its logits differ by up to {apart:.3g}")
    squares, quarters = pack_distances(outputs)
    if quarters != entry.quarters:
        return Verified(entry.id, False, "other layers of it are read now")
    for name, square in squares.items():
        if not _same_square(file.square(name), square):
            return Verified(entry.id, False, f"distances between images differ, of its features {name!r}")
    return Verified(entry.id, True)


def _same_square(theirs: np.ndarray, ours: np.ndarray) -> bool:
    return bool((np.abs(theirs.astype(np.int64) - ours.astype(np.int64)) <= _STEPS_APART).all())


_STEPS_APART = 32  # of 65535: round-off of float32 features, half of a thousandth
