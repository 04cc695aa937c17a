"""Networks without classes: what they make of an image is features, from which classes can be learnt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Tower(nn.Module):
    """A network whose outputs are features: what it pools, else its first token and the mean of all.

    Args:
        module: Of timm, transformers or torch.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute features ``[N, D]`` of pixels ``[N, 3, H, W]``."""
        output: Any = self.module(pixel_values=pixels) if hasattr(self.module, "config_class") else self.module(pixels)
        if not isinstance(output, Tensor):
            pooled = getattr(output, "pooler_output", None)
            output = output.last_hidden_state if pooled is None else pooled
        if output.ndim == 3:
            return torch.cat([output[:, 0], output.mean(1)], dim=1)  # [N, T, D] -> [N, 2 D]
        return output.flatten(2).mean(2) if output.ndim > 2 else output  # [N, D, H, W] -> [N, D]


class Headed(nn.Module):
    """A network without a head and a new one, of zeros.

    Args:
        network: Whose outputs are features, ``[N, D]``.
        features: D.
        num_classes: Outputs of the head.
    """

    def __init__(self, network: nn.Module, features: int, num_classes: int):
        super().__init__()
        self.network = network
        like = next(network.parameters())
        self.head = nn.Linear(features, num_classes, dtype=like.dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute logits ``[N, C]`` of pixels ``[N, 3, H, W]``."""
        return self.head(self.network(pixels))
