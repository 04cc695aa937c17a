"""Made-up models of an atlas, for tests that run none."""

import hashlib

import numpy as np

from hf_infodist.results.atlas.entry import AtlasEntry
from hf_infodist.results.atlas.files import write_file
from hf_infodist.results.atlas.folder import Atlas
from hf_infodist.results.atlas.head import AtlasHead
from hf_infodist.results.atlas.keys import outputs_key
from hf_infodist.results.atlas.packing import SQUARES, pack_logits, pack_square
from hf_infodist.results.records import ImagesRecord, ModelRecord

LAYERS = 1
SETTINGS = {"library": "none", "input_size": [3, 8, 8]}


def head_of(k, classes, fingerprint="images"):
    images = ImagesRecord("digits", None, None, "image", k, 0, fingerprint)
    labels, names = tuple(i % classes for i in range(k)), tuple(f"class {c}" for c in range(classes))
    return AtlasHead(images, LAYERS, labels, names)


def entry_of(name, k, classes, fingerprint="images"):
    """Describe a model that is made up of its name."""
    weights = hashlib.sha256(name.encode()).hexdigest()
    model = ModelRecord(name, "timm", None, classes, weights, SETTINGS)
    key = outputs_key(fingerprint, SETTINGS, weights, LAYERS)
    names = tuple(f"class {c}" for c in range(classes))
    return AtlasEntry(model, key, names, "Net", 1000, (1, 1, 1, 1), 0.5, "apache-2.0", ("acme/base",), "fine-tune")


def arrays_of(name, k, classes):
    """Return packed logits and distances between images, of features that are made up of the name."""
    rng = np.random.default_rng(list(name.encode()))
    points = rng.normal(size=(len(SQUARES), k, 4))
    squares = {
        square: pack_square(((own[:, None] - own) ** 2).mean(2)) for square, own in zip(SQUARES, points, strict=True)
    }
    return pack_logits(rng.normal(size=(k, classes)) * 3), squares


def add(atlas, name):
    """Put a made-up model into an atlas."""
    images, classes = atlas.head.images, len(atlas.head.label_names)
    entry = entry_of(name, images.k, classes, images.fingerprint)
    return write_file(atlas.models, entry, *arrays_of(name, images.k, classes))


def fill(folder, names, k, classes, fingerprint="images"):
    """Make an atlas of made-up models."""
    atlas = Atlas.begin(folder, head_of(k, classes, fingerprint))
    for name in names:
        add(atlas, name)
    atlas.write_index()
    return atlas


def told(refused):
    """Return the lines of an error that is told."""
    return str(refused.value).splitlines()
