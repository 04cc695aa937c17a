"""Checkpoints to start from, and the pictures whose labels are then learnt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from hf_infodist.images.sample import Images, load_labelled_images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.load import load_classifier
from hf_infodist.studies.networks import finetune
from hf_infodist.studies.networks.data import TASKS, Task, fashion_mnist, shapes
from hf_infodist.studies.networks.zoo import ARCHITECTURES, Checkpoint, Input, trained, transform

STEPS = 400  # as in `datasets_map`
SOURCES = tuple(TASKS)
RANDOM, IMAGENET = "random", "imagenet"
_NETWORKS = 2  # of each source
_HELD_OUT = 300  # pictures of each source that are not trained on
_LITE = Input(side=64, mean=0.5, std=0.5)  # pictures of 28 pixels, enlarged as far as fine-tuning can be paid for

Rivals = Sequence[tuple[Checkpoint, Classifier]]


@dataclass(frozen=True)
class Starts:
    """Two small networks of each data set and two random ones, and EfficientNet-Lites where they are at hand.

    Attributes:
        work: Folder that keeps what is trained.
        steps: Batches of 50 that each network is trained on.
        lites: How many EfficientNet-Lites.
        data: Folder that has them.
    """

    work: Path
    steps: int = STEPS
    lites: int = 0
    data: Path | None = None

    def rivals(self, name: str) -> Rivals:
        """Return the candidates for a target: all but those of its own data set."""
        names = [
            Checkpoint(f"{task}-s{seed}", "resnet10", task, seed)
            for task in (*SOURCES, RANDOM)
            for seed in range(_NETWORKS)
        ]
        names += [Checkpoint(f"lite{i}", f"lite{i}", IMAGENET, input=_LITE) for i in range(self.lites)]
        return [(one, self.candidate(one)) for one in names if one.task != name]

    def candidate(self, one: Checkpoint) -> Classifier:
        """Return a candidate; one of a data set is trained first if the folder does not have it."""
        if one.task in SOURCES:
            task = _source(one.task).first(6000, skip=_HELD_OUT)
            epochs = max(1, round(self.steps * 50 / len(task.labels)))
            return trained(one, task, self.work / "networks", epochs=epochs)
        module: Any
        if one.task == RANDOM:
            torch.manual_seed(one.seed)
            module = ARCHITECTURES[one.architecture](tuple(f"LABEL_{i}" for i in range(10)))
        else:
            assert self.data
            module = load_classifier(str(self.data / one.architecture)).network.module
        labels = [f"LABEL_{i}" for i in range(module.num_classes)]
        loaded = load_classifier(module.eval(), transform=transform(one.input), labels=labels)
        return replace(loaded, id=one.name)


@cache
def _source(name: str) -> Task:
    return TASKS[name]()


@cache
def target(name: str) -> Task:
    """Return the pictures of a target: where there are others than those that sources are trained on, these."""
    if name == "fashion":
        return fashion_mnist("test")
    return shapes(name.partition("-")[2], seed=1) if name.startswith("shapes-") else _source(name)


@cache
def labelled(name: str, count: int, skip: int = finetune.VALIDATION + finetune.TEST) -> Images:
    """Return pictures whose labels are learnt from, as a labelled sample: those after the first ``skip``."""
    import datasets

    task = target(name).first(count, skip=skip)
    columns = {"image": [Image.fromarray(one).convert("RGB") for one in task.images], "label": task.labels.tolist()}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(task.classes))})
    return replace(load_labelled_images(datasets.Dataset.from_dict(columns, features), k=count), id=name)
