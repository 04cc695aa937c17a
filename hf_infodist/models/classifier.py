"""A classifier: a network, its preprocessing and its classes."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn

from hf_infodist.models.headless import Headed
from hf_infodist.models.heads import replace_heads
from hf_infodist.models.preprocessing import Preprocessing, without_addresses
from hf_infodist.results.records import ModelRecord


class Network(nn.Module):
    """A module of any library, seen as a function from pixels to logits."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute logits ``[N, C]`` of pixels ``[N, 3, H, W]``."""
        output = self.module(pixel_values=pixels) if hasattr(self.module, "config_class") else self.module(pixels)
        if isinstance(output, Tensor):
            return output
        for name in ("logits", "last_hidden_state"):  # PP-LCNet keeps its logits under the latter
            if isinstance(getattr(output, name, None), Tensor):
                return getattr(output, name)
        return output[0]


class GreyNetwork(Network):
    """One that takes a single channel: of pixels whose three are alike, the first."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute logits ``[N, C]`` of pixels ``[N, 3, H, W]``."""
        return super().forward(pixels[:, :1])


def channels_of(module: nn.Module) -> int | None:
    """Return how many channels a module takes, as its configuration or first convolution tells; None if neither."""
    told = getattr(getattr(module, "config", None), "num_channels", None)
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    return told if isinstance(told, int) else None if first is None else first.in_channels


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained image classifier with everything needed to ask it and to teach it.

    Attributes:
        id: The name it was loaded by.
        library: `timm`, `torchvision`, `transformers` or `torch`.
        revision: Commit of its hub repository, if it has one.
        network: In eval mode, on the CPU, in float32, or float64 where the module is.
        num_classes: Number of logits; of features where there are no classes.
        labels: A name per logit; none where there are no classes.
        preprocessing: How it wants to see an image.
        heads: Names of the layers of `network` that make the logits; none where there are no classes.
        own_labels: What its classes are called, where ``labels`` are names that they were given; else None.
    """

    id: str
    library: str
    revision: str | None
    network: Network
    num_classes: int
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    heads: tuple[str, ...]
    own_labels: tuple[str, ...] | None = None

    def renamed(self, labels: tuple[str, ...]) -> Self:
        """Return the same with other names for its classes."""
        return replace(self, labels=labels, own_labels=self.own_labels or self.labels)

    @cached_property
    def weights_hash(self) -> str:
        """Sha256 of everything that decides the logits: weights, buffers, layers and the settings of layers."""
        digest = hashlib.sha256(_architecture(self.network).encode())
        for name, tensor in self.network.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(bytes_of(tensor))
        return digest.hexdigest()

    @property
    def record(self) -> ModelRecord:
        """What a result says of it: enough to load it again."""
        return ModelRecord(
            self.id,
            self.library,
            self.revision,
            self.num_classes,
            self.weights_hash,
            self.preprocessing.settings,
        )

    @property
    def student_heads(self) -> tuple[str, ...]:
        """Names of the layers of its `student` that make the logits."""
        return self.heads or ("module.head",)

    def student(self, num_classes: int, rows: Sequence[int] | None) -> Network:
        """Copy the network for a teacher with other classes; the classifier itself stays as it is.

        Args:
            num_classes: Number of the teacher's classes.
            rows: Row of this head for each of the teacher's classes, from `heads.match_labels`; -1 or None: zeros.

        Returns:
            A copy of the same dtype. Where the rows are those it has, with the very same head.
        """
        network = copy.deepcopy(self.network)
        if not any(parameter.requires_grad for parameter in network.parameters()):
            network.requires_grad_(True)
        if not self.heads:
            return Network(Headed(network, self.num_classes, num_classes))
        if rows is None or tuple(rows) != tuple(range(self.num_classes)) or num_classes != self.num_classes:
            replace_heads(network, self.heads, num_classes, rows)
        return network


# What hashes are made of


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor, from which hashes are made."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _architecture(network: nn.Module) -> str:
    """Write down layers and their plain settings: numbers of attention heads and the like are in no weight."""
    kinds, hidden = (bool, int, float, str, tuple), ("training", "name_or_path")
    settings = {
        name: {k: v for k, v in vars(m).items() if isinstance(v, kinds) and k[0] != "_" and k not in hidden}
        for name, m in network.named_modules()
    }
    return without_addresses(f"{network}\n{settings}")
