"""The encoders of the PyPI package preqtorch on our students, teachers and images.

preqtorch takes any batch and any price per image, so soft targets and KL fit into it as they are. It trains by plain
Adam on the sum over a batch.
"""

import io
import math
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hf_infodist.coding.learners import log_softmax64
from hf_infodist.coding.nats import kl_nats
from hf_infodist.coding.targets import Targets
from hf_infodist.models.heads import match_labels
from hf_infodist.pair import Pair
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.studies import require

Batch = tuple[Tensor, Tensor]  # pixels [n, 3, H, W], the teacher's log-probabilities [n, C]


@dataclass(frozen=True)
class Encoding:
    """What an encoder of preqtorch makes of B given A.

    Attributes:
        nats: Codelength; not finite where training diverged.
        gradient_images: Images that went backwards through the student.
    """

    nats: float
    gradient_images: int


class _Student(nn.Module):
    """A student that takes preqtorch's batches, and counts the images it learns from."""

    def __init__(self, network: nn.Module, accelerator: Accelerator):
        super().__init__()
        self.network, self.accelerator, self.gradient_images = network, accelerator, 0

    def forward(self, batch: Batch) -> Tensor:
        """Compute logits, ``[n, C]``."""
        with self.accelerator.autocast():
            logits = self.network(batch[0])
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.gradient_images += len(gradient)


def encode(
    pair: Pair,
    encoder: Literal["blocks", "replay"],
    lr: float,
    *,
    batchnorm: Literal["frozen", "adapting"] = "adapting",
    seed: int = 0,
    accelerator: Accelerator,
) -> Encoding:
    """Code B given A, Σ_i KL(q_i ‖ p_i), with an encoder of preqtorch.

    Args:
        pair: Two models and the images.
        encoder: ``blocks`` is its `BlockEncoder` on the blocks and passes of the preset ``blockwise``, which retrains
            from the start. ``replay`` is its `MIREncoder` with the replay of the preset ``single`` and its own moving
            average of the weights; without its learnt temperature, which would not start from A.
        lr: Learning rate of Adam.
        batchnorm: Mode of BatchNorm, and of Dropout, in ``replay``, which prices in the mode it trains in. ``blocks``
            always trains in train mode and prices in eval mode.
        seed: Of its shuffles and draws.
        accelerator: Device and precision.

    Raises:
        NotFoundError: If preqtorch is not installed.
    """
    preqtorch: Any = require("preqtorch", "studies")
    rows = match_labels(pair.a.labels, pair.b.labels)
    settings = {"network": pair.a.student(pair.b.num_classes, rows), "accelerator": accelerator}
    mode = nn.Module.train if batchnorm == "adapting" else nn.Module.eval
    model = preqtorch.ModelClass(_Student, str(accelerator.device), settings, init_func=mode)
    options = {"set_name": encoder, "seed": seed, "loss_fn": _price, "learning_rate": lr}
    with redirect_stdout(io.StringIO()):  # it prints
        if encoder == "blocks":
            priced, learnt = _blocks(pair, accelerator)
            options |= {"epochs": PROTOCOLS["blockwise"].passes, "patience": math.inf}
            result = preqtorch.BlockEncoder(model, model.device).encode(learnt, priced, **options)
        else:
            options |= {"n_replay_samples": PROTOCOLS["single"].replay, "use_beta": False}
            loader = _loader(pair, accelerator, range(len(pair.images)))
            result = preqtorch.MIREncoder(model, model.device).encode(loader, **options)
    return Encoding(result.code_length, result.model.gradient_images)


def _price(batch: Batch, logits: Tensor) -> Tensor:
    """Return the nats of each image, ``[n]``."""
    return kl_nats(batch[1], log_softmax64(logits))


def _blocks(pair: Pair, accelerator: Accelerator) -> tuple[list[DataLoader], list[DataLoader]]:
    """Return loaders of the images of each block, and of all images up to its end in random order."""
    blocks = list(PROTOCOLS["blockwise"].blocks(len(pair.images)))
    return (
        [_loader(pair, accelerator, range(start, end)) for start, end in blocks],
        [_loader(pair, accelerator, range(end), shuffle=True) for _, end in blocks],
    )


def _loader(pair: Pair, accelerator: Accelerator, images: range, shuffle: bool = False) -> DataLoader:
    targets, dtype = Targets(pair.outputs_b.logits), next(pair.a.network.parameters()).dtype

    def fetch(indices: Sequence[int]) -> Batch:
        index = np.array(indices)
        pixels = pair.outputs_a.pixels.batch(index, accelerator.device, dtype)
        return pixels, targets.soft(index).to(accelerator.device)

    batch = PROTOCOLS["blockwise"].batch
    return DataLoader(images, batch_size=batch, shuffle=shuffle, collate_fn=fetch)  # type: ignore[arg-type]
