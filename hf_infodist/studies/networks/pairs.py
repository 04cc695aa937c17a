"""Pairs of students and teachers that differ in one respect each, on real checkpoints and images."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from hf_infodist.errors import NotFoundError
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import Pair, prepare_pair


@dataclass(frozen=True)
class Setting:
    """A student, a teacher and images; ``{data}`` in a name is the folder that ``tests/realdata.py`` fills.

    Attributes:
        name: What is asked of the pair.
        student: Name of the model where learning starts.
        teacher: Name of the model whose outputs are learnt.
        images: Name of the dataset.
        k: Number of images.
        protocol: Preset of the mixture.
        held_out: Whether no learner's rate was chosen by this pair.
        near: Whether there is little to learn: no variants with adapting BatchNorm are tried, which start badly.
        large: Whether a gradient is dear: fewer protocols are tried.
        change_student: What is done to the student first.
        change_teacher: What is done to the teacher first.
    """

    name: str
    student: str
    teacher: str
    images: str = "{data}/fashion-test.parquet"
    k: int = 1000
    protocol: str = "standard"
    held_out: bool = False
    near: bool = False
    large: bool = False
    change_student: Callable[[Classifier], Classifier] | None = None
    change_teacher: Callable[[Classifier], Classifier] | None = None


def without_head(classifier: Classifier) -> Classifier:
    """Return a classifier with one class less and names that match no other's: only its features are of use."""
    left = classifier.num_classes - 1
    return replace(
        classifier,
        id=f"{classifier.id} without its head",
        network=classifier.student(left, range(left)),
        num_classes=left,
        labels=tuple(f"withheld {row}" for row in range(left)),
    )


def relabelled(classifier: Classifier) -> Classifier:
    """Return a classifier whose classes come in another order, under names that match no other's."""
    rows = np.random.default_rng(0).permutation(classifier.num_classes).tolist()
    return replace(
        classifier,
        id=f"{classifier.id} relabelled",
        network=classifier.student(classifier.num_classes, rows),
        labels=tuple(f"relabelled {row}" for row in range(classifier.num_classes)),
    )


_A, _B, _ALL_0, _ALL_1 = (f"{{data}}/fashion-{name}" for name in ("a", "b", "all-0", "all-1"))

PAIRS = (
    Setting("other-half", _A, _B),
    Setting("other-half-back", _B, _A),
    Setting("other-seed", _ALL_0, _ALL_1, near=True),
    Setting("head-withheld", _ALL_0, _ALL_1, near=True, change_student=without_head),
    Setting("relabelled", _ALL_0, _ALL_1, near=True, change_teacher=relabelled),
    Setting("relabelled-copy", _ALL_0, _ALL_0, near=True, change_teacher=relabelled),
    Setting("from-random", "random:{data}/fashion-all-0", _ALL_1),
    Setting("cnn-vit", "demo:cnn", "demo:vit", "digits", near=True),
    Setting("vit-cnn", "demo:vit", "demo:cnn", "digits", near=True),
    Setting("imagenet", "{data}/lite0", "{data}/lite1", "{data}/photos.parquet", 128, near=True, large=True),
    *(
        Setting(f"{a}-{b}", f"{{data}}/{a}", f"{{data}}/{b}", "{data}/photos.parquet", near=True, large=True)
        for a, b in (("lite0", "lite1"), ("lite1", "lite0"), ("lite0", "lite2"), ("lite2", "lite0"))
    ),
    Setting("half-to-whole", _A, _ALL_1, held_out=True),
    Setting("whole-to-half", _ALL_1, _B, held_out=True),
    Setting("vit-to-fashion", "demo:vit", _ALL_0, held_out=True),
)


def default_data() -> Path:
    """Return ``$INFODIST_REALDATA``, or a folder in the user's cache."""
    return Path(os.environ.get("INFODIST_REALDATA", "~/.cache/infodist-realdata")).expanduser()


def load_pair(setting: Setting, data: Path, *, seed: int, accelerator: Accelerator) -> Pair:
    """Load a pair: `Pair.a` is the student, `Pair.b` the teacher.

    Raises:
        NotFoundError: If a checkpoint or dataset is not there.
    """

    def load(name: str, change: Callable[[Classifier], Classifier] | None) -> Classifier:
        classifier = load_classifier(_located(name, data))
        return change(classifier) if change else classifier

    images = _located(setting.images, data)
    student, teacher = load(setting.student, setting.change_student), load(setting.teacher, setting.change_teacher)
    return prepare_pair(student, teacher, images, k=setting.k, seed=seed, accelerator=accelerator)


def _located(name: str, data: Path) -> str:
    path = data / name.rpartition("{data}/")[2]
    if "{data}" in name and not path.exists():
        raise NotFoundError(
            f"{path} is missing",
            "this pair is made of real checkpoints and images, which are not in the repository",
            "run tests/realdata.py to build them, say with --data where they are, or choose other --pairs",
        )
    return name.format(data=data)
