"""Checkpoints that are fine-tuned on few labels, and how good they then are on held-out pictures."""

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_infodist.models.demo.train import Recipe, fit, logits
from hf_infodist.studies.networks.data import Task
from hf_infodist.studies.networks.zoo import Checkpoint, tensors

VALIDATION, TEST = 200, 500  # the first pictures of a target, in this order; labels to learn from come after these
EPOCHS = {200: 30, 1000: 15}  # from where on more, on Fashion-MNIST, raise the loss of every start
BATCH = {200: 25, 1000: 50}


@dataclass(frozen=True)
class Reached:
    """What a fine-tuned checkpoint reaches.

    Attributes:
        validation_loss: Mean nats of a label of the validation pictures.
        loss: That of the test pictures.
        accuracy: Share of the test pictures that it gets right.
    """

    validation_loss: float
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Run:
    """One fine-tuning.

    Attributes:
        start: Which checkpoint.
        labels: How many labels of the target are learnt from.
        rate: Peak of the one-cycle learning rate.
        seed: Of the new head and of the order of the pictures.
    """

    start: Checkpoint
    labels: int
    rate: float
    seed: int

    @property
    def file(self) -> str:
        """Where a folder of a target keeps what it reaches."""
        return f"{self.start.name}-{self.labels}-{EPOCHS[self.labels]}-{self.rate:g}-{self.seed}.json"


def reached(run: Run, network: nn.Module, target: Task, work: Path) -> Reached:
    """Fine-tune all weights of a checkpoint under a new head, unless a folder says what that reaches.

    Args:
        run: How.
        network: The checkpoint; it is left as it is.
        target: Its first pictures are held out.
        work: Folder of everything that is trained.
    """
    file = work / "reached" / target.name / run.file
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".part")
        temporary.write_text(json.dumps(asdict(_fine_tune(run, network, target))))
        temporary.replace(file)
    return Reached(**json.loads(file.read_text()))


def _fine_tune(run: Run, network: nn.Module, target: Task) -> Reached:
    torch.manual_seed(run.seed)
    module: Any = copy.deepcopy(network)
    module.reset_classifier(len(target.classes))
    pixels, labels = tensors(target.first(run.labels, skip=VALIDATION + TEST), run.start.input)
    fit(module, pixels, labels, Recipe(EPOCHS[run.labels], run.rate, run.seed, batch=BATCH[run.labels], shift=0))
    return judge(module, *tensors(target.first(VALIDATION + TEST), run.start.input))


@torch.inference_mode()
def judge(module: nn.Module, pixels: Tensor, labels: Tensor) -> Reached:
    """Return how good a network is on validation pictures and on the test pictures after these, ``[N, 3, H, W]``."""
    log_probs = torch.cat([logits(module.eval(), x).double().log_softmax(1) for x in pixels.split(250)])
    losses = -log_probs[torch.arange(len(labels)), labels]
    hits = (log_probs.argmax(1) == labels)[VALIDATION:].double().mean()
    return Reached(losses[:VALIDATION].mean().item(), losses[VALIDATION:].mean().item(), hits.item())


def best_rate(runs: Sequence[Sequence[Reached]]) -> Reached:
    """Return the mean over seeds at the rate whose mean loss on the validation pictures is least.

    Args:
        runs: For each rate, one of each seed.
    """
    means = [Reached(*np.mean([list(asdict(one).values()) for one in rate], axis=0).tolist()) for rate in runs]
    return min(means, key=lambda one: one.validation_loss)
