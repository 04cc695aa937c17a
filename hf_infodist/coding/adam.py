"""Adam in units of each tensor, for a loop that never waits for the device."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_BETAS = (0.9, 0.999)
_EPS = 1e-8
_FIXED: dict[str, Any] = {"beta1": _BETAS[0], "beta2": _BETAS[1], "weight_decay": 0.0}
_FIXED |= {"amsgrad": False, "maximize": False, "grad_scale": None}


class UnitAdam:
    """Plain Adam on θ/u, each tensor in its own unit u (Kingma & Ba 2015, with the moments of u ∇θ).

    θ ← θ + u δ with δ = −lr m̂ / (√v̂ + ε), where all tensors share one rate: one fused launch for all of them, wherever
    launches cost. On a CPU they do not, and each tensor has its own rate: θ ← θ − (lr u) m̂ / (√v̂ + ε/u) with the
    moments of ∇θ, the same up to round-off, and the weights are read and written once.

    Args:
        parameters: What is trained, all on one device.
        units: Scale of each.
        lr: Learning rate, in these units.
        together: Whether all tensors share a launch; None does so where they are of one type, but on a CPU.

    Attributes:
        steps: How many have been made, on the device.
        rate: Learning rate of the next step, on the device, where a captured step reads it.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], units: Sequence[float], lr: float, *, together: bool | None = None
    ):
        self.parameters, self.units, self.lr = list(parameters), list(units), lr
        device = self.parameters[0].device
        alike = len({parameter.dtype for parameter in self.parameters}) == 1
        self.together = device.type != "cpu" and alike if together is None else together
        self.steps, self.rate = torch.zeros(2, dtype=torch.float32, device=device).unbind()
        self.means, self.squares = ([torch.zeros_like(p) for p in self.parameters] for _ in range(2))
        self._moves = [torch.zeros_like(p) for p in self.parameters] if self.together else []
        self.set_factor(1.0)

    def set_factor(self, factor: float) -> None:
        """Say at which share of the learning rate the next steps are made; never part of a captured step."""
        self._factor = factor
        if self.together:
            self.rate.fill_(self.lr * factor)

    @torch.no_grad()
    def step(self, skip: Tensor) -> None:
        """Move all parameters that have gradients, which are spent thereby.

        Args:
            skip: 1.0 where this step is not to be made, else 0.0: a float32 on the device, which nobody waits for.
        """
        self.steps += 1 - skip
        moved = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        if self.together:
            self._move_together(moved, skip)
        else:
            for i in moved:
                self._move_one(i, skip)

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return steps and moments."""
        return {"steps": self.steps, "means": self.means, "squares": self.squares}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.steps.copy_(state["steps"])
        for name in ("means", "squares"):
            for own, kept in zip(getattr(self, name), state[name], strict=True):
                own.copy_(kept)

    def _move_one(self, i: int, skip: Tensor) -> None:
        parameter, unit = self.parameters[i], self.units[i]
        assert parameter.grad is not None
        lr, eps = self.lr * unit * self._factor, _EPS / unit
        self._fused([parameter], [parameter.grad], [i], lr, eps, skip)

    def _move_together(self, moved: list[int], skip: Tensor) -> None:
        parameters: Any = [self.parameters[i] for i in moved]
        units, moves = [self.units[i] for i in moved], [self._moves[i] for i in moved]
        gradients = [parameter.grad for parameter in parameters]
        torch._foreach_mul_(gradients, units)
        torch._foreach_zero_(moves)
        self._fused(moves, gradients, moved, self.rate, _EPS, skip)
        torch._foreach_mul_(moves, units)
        torch._foreach_add_(parameters, moves)

    def _fused(
        self, moved: list[Any], gradients: list[Tensor], places: list[int], lr: Any, eps: float, skip: Tensor
    ) -> None:
        means, squares = [self.means[i] for i in places], [self.squares[i] for i in places]
        steps = [self.steps] * len(places)
        torch._fused_adam_(moved, gradients, means, squares, [], steps, lr=lr, eps=eps, found_inf=skip, **_FIXED)


class Average:
    """An exponential moving average of weights and buffers, whose horizon grows to an eighth of the steps made.

    Args:
        network: Of this network.
        together: Whether all tensors share launches; None does so everywhere but on a CPU.

    Attributes:
        module: A copy of the network, with the average.
    """

    def __init__(self, network: nn.Module, *, together: bool | None = None):
        self.module = copy.deepcopy(network).requires_grad_(False)
        pairs = list(zip(_state(self.module), _state(network), strict=True))
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]
        moving = [pair for pair in pairs if pair[0].is_floating_point()]
        self._means, self._values = ([pair[side] for pair in moving] for side in (0, 1))
        self.together = self._means[0].device.type != "cpu" if together is None else together

    @torch.no_grad()
    def update(self, steps: Tensor, skip: Tensor) -> None:
        """Move towards the network, all the way after its first step.

        Args:
            steps: How many have been made, on the device.
            skip: 1.0 where the last one was not, else 0.0.
        """
        share = (8 / steps.double()).clamp_max(0.1).maximum((steps <= 1).double()) * (1 - skip.double())
        if self.together:
            moves = torch._foreach_sub(self._values, self._means)
            torch._foreach_mul_(moves, share.to(moves[0].dtype))
            torch._foreach_add_(self._means, moves)
        else:
            shares = {dtype: share.to(dtype) for dtype in {mean.dtype for mean in self._means}}
            torch._foreach_lerp_(self._means, self._values, [shares[mean.dtype] for mean in self._means])
        for mean, value in self._counts:
            mean.copy_(value)


def _state(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
