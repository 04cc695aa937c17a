"""The atlas that comes with the package: small networks of scikit-learn's digits.

``infodist study shipped --work FOLDER --output FOLDER``

Eleven networks of five architectures, each trained on digits that are not in the atlas, two that were made from one of
them, the two demo models, and one with random weights. The output is the folder ``results/atlas/digits``.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from hf_infodist.analysis.atlas import add_models, head_of, write_outputs
from hf_infodist.images.sample import Images, load_images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.demo.train import Recipe, fit
from hf_infodist.models.load import load_classifier
from hf_infodist.outputs.forward import compute_outputs
from hf_infodist.processes import one_thread
from hf_infodist.results.atlas.folder import Atlas
from hf_infodist.studies.networks.data import SIDE, Task, digits
from hf_infodist.studies.networks.zoo import Checkpoint, tensors, trained, transform
from hf_infodist.studies.report.options import Work

K = 96  # all files together stay below 1 MB
EPOCHS = 20
ARCHITECTURES = {"resnet10": 3, "resnet10-wide": 1, "resnet18": 2, "vgg": 1, "vgg-bn": 2, "vit": 2}
OTHERS = ("demo:cnn", "demo:vit", "random:demo:cnn")
_BITS = 5  # of a rounded weight


def main(
    work: Work,
    output: Annotated[Path, typer.Option("--output", help="folder that receives the atlas")],
    k: Annotated[int, typer.Option("-k", help="images of the atlas")] = K,
    epochs: Annotated[int, typer.Option("--epochs", help="passes over the digits")] = EPOCHS,
) -> None:
    """Train what the folder does not have, run everything, and write the atlas."""
    images = load_images("digits", k=k)
    atlas = Atlas.begin(output, head_of(images))
    with one_thread("cpu"):
        for classifier, base, how in networks(digits(), images, work, epochs):
            outputs = compute_outputs(classifier, images, home=work / "store")
            claims = ("apache-2.0", (base,) if base else (), how)
            write_outputs(atlas.models, classifier, outputs, images, claims=claims)
        add_models(atlas, OTHERS, images)


def networks(task: Task, probe: Images, work: Path, epochs: int) -> Iterator[tuple[Classifier, str, str]]:
    """Yield each network, and what it was made from and how, if from another."""
    task = held_out(task, probe)
    first: dict[str, Classifier] = {}
    for architecture, count in ARCHITECTURES.items():
        for seed in range(count):
            which = Checkpoint(f"digits/{architecture}-{seed}", architecture, "digits", seed)
            made = trained(which, task, work, epochs=epochs)
            first.setdefault(architecture, made)
            yield made, "", ""
    parent = first["resnet10"]
    yield tuned(parent, task.first(600, 600)), parent.id, "fine-tune"
    parent = first["resnet18"]
    yield rounded(parent), parent.id, "quantized version"


def held_out(task: Task, probe: Images) -> Task:
    """Leave out the pictures that are in a sample."""
    from PIL import Image

    seen = {image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR).tobytes() for image in probe}
    left = np.array([picture.tobytes() not in seen for picture in task.images])
    return Task(task.name, task.images[left], task.labels[left], task.classes)


def tuned(parent: Classifier, task: Task) -> Classifier:
    """Train a copy of a network further, on fewer pictures."""
    module = copy.deepcopy(parent.network.module)
    fit(module, *tensors(task), Recipe(5, 1e-3, seed=7, batch=50, shift=0))
    return _like(parent, module.eval(), "tuned")


def rounded(parent: Classifier) -> Classifier:
    """Round the weights of a network's copy to 32 values for each tensor."""
    module = copy.deepcopy(parent.network.module)
    with torch.no_grad():
        for weights in module.parameters():
            step = weights.abs().max() / 2 ** (_BITS - 1)
            weights.copy_((weights / step).round() * step if step > 0 else weights)
    return _like(parent, module, "rounded")


def _like(parent: Classifier, module: torch.nn.Module, how: str) -> Classifier:
    return replace(load_classifier(module, transform=transform(), labels=parent.labels), id=f"{parent.id}-{how}")
