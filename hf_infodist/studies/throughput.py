"""How much of a bare training loop's speed a fine-tuned learner reaches.

``infodist study throughput [MODEL…] [--images N] [--rounds N]``

Both train the same network with Adam on the same pixels in memory, batch 32, in turns; the learner also replays,
averages its weights and takes its loss in float64. Prints one JSON object; a ratio of 1 means that nothing is lost.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor, nn

from hf_infodist.coding.finetuned import FineTuned
from hf_infodist.coding.learners import Start
from hf_infodist.coding.targets import PricedTargets, Targets
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.load import load_classifier
from hf_infodist.outputs.arrays import Pixels
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import PROTOCOLS


def bare_loop(network: nn.Module, pixels: Tensor, targets: Tensor, batch: int) -> None:
    """Train on all images once: forward, loss, backward, step."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    for first in range(0, len(pixels), batch):
        logits = network(pixels[first : first + batch])
        loss = nn.functional.cross_entropy(logits, targets[first : first + batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def rates(classifier: Classifier, size: tuple[int, ...], images: int, rounds: int) -> list[tuple[float, float]]:
    """Return gradient images per second of (learner, bare loop) in each round."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (images, *size), dtype=np.uint8)
    pixels = Pixels(values, classifier.preprocessing.mean, classifier.preprocessing.std)
    teacher = rng.normal(0, 2, (images, classifier.num_classes)).astype(np.float32)
    protocol, accelerator = PROTOCOLS["single"], make_accelerator()
    spec = replace(next(j for j in protocol.learners if j.kind == "finetuned"), lr=1e-4)
    rows = tuple(range(classifier.num_classes))

    def copy(rows: Sequence[int] | None) -> nn.Module:
        return classifier.student(classifier.num_classes, rows).to(accelerator.device).eval()

    start = Start(teacher, classifier.num_classes, rows, network=copy)
    learner, bare = FineTuned(pixels, start, spec, protocol, autocast=accelerator.autocast), copy(rows)
    in_memory = pixels.batch(slice(0, images), accelerator.device, torch.float32)
    soft = torch.softmax(torch.from_numpy(teacher), -1).to(accelerator.device)
    priced = PricedTargets(Targets(teacher), images)

    def learn() -> int:
        return learner.learn(0, images, priced, 1.0)

    def loop() -> int:
        with accelerator.autocast():
            bare_loop(bare, in_memory, soft, protocol.batch)
        return images

    return [(_rate(learn, accelerator.device), _rate(loop, accelerator.device)) for _ in range(rounds)]


def _rate(run: Callable[[], int], device: torch.device) -> float:
    started = time.perf_counter()
    images = run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - started)


def main(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...")] = ["random:demo:cnn", "random:demo:vit"],
    images: Annotated[int, typer.Option("--images", help="images of a round")] = 320,
    rounds: Annotated[int, typer.Option("--rounds", help="how often both are timed")] = 5,
) -> None:
    """Measure and print."""
    figures = {}
    for name in models:
        classifier = load_classifier(name)
        size = classifier.preprocessing.transform(Image.new("RGB", (64, 64))).shape
        measured = rates(classifier, tuple(size), images, rounds + 1)[1:]  # the first round warms up
        figures[name] = {
            "learner_images_per_second": median(learner for learner, _ in measured),
            "bare_images_per_second": median(bare for _, bare in measured),
            "ratio": median(learner / bare for learner, bare in measured),
        }
    json.dump({"threads": torch.get_num_threads(), "images": images, "models": figures}, sys.stdout, indent=2)
