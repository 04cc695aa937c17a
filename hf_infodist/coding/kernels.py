"""Closed-form learners: kernel ridge regression of a teacher's outputs on features of all layers of the student.

A Gaussian process with covariance K = exp(-γ D) + 1 and noise λ predicts each target from those before it. Of the
Cholesky factor L of K + λ I over all images, row i holds the prediction of image i from the images before it: with
L e = t, it is Σ_{j<i} L_ij e_j, and L_ii² - λ is the variance of the posterior there. So one factorisation, which
depends on the student and the images alone, and one triangular solve per teacher give what refitting after each image
would (Rasmussen & Williams 2006, chapter 2; Dawid 1984 on prequential prediction).
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hf_infodist.coding.features import distances_of
from hf_infodist.errors import UnfitError
from hf_infodist.outputs.arrays import Outputs

LANDMARKS = 4096
"""Images up to which kernels are exact; further ones are seen through their kernel with these (Nyström)."""

_MEAN_VARIANCE = 1.0  # prior variance of a learnt mean, in units of the kernel's
_JITTER = 1e-8  # of landmarks, some of which may be the same image


@dataclass(frozen=True)
class Kernel:
    """A covariance of images.

    Attributes:
        features: Of which features, one of `features.FEATURES`.
        gamma: γ in exp(-γ D).
        noise: λ, variance of what the kernel cannot explain.
    """

    features: str
    gamma: float
    noise: float


class Factors:
    """Factorised covariances of the images of one student, which serve all of its teachers.

    Args:
        outputs: Of the student.
        kernels: Which covariances.
        device: Where, in float64.
    """

    def __init__(self, outputs: Outputs, kernels: Sequence[Kernel], device: torch.device | str = "cpu"):
        self.distances = distances_of(outputs, device)
        self.images = self.distances.images
        self.exact = min(self.images, LANDMARKS)
        self._wanted = {kernel.features for kernel in kernels}
        within = self.distances.between(slice(0, self.exact), slice(0, self.exact), self._wanted)
        self._lower: dict[Kernel, Tensor] = {}
        self._landmarks: dict[Kernel, Tensor] = {}
        for features in list(within):
            distances = within.pop(features)
            for kernel in (kernel for kernel in kernels if kernel.features == features):
                self._lower[kernel] = _factor(distances, kernel, kernel.noise)
                if self.images > self.exact:  # one square for both: one factor below, the other, transposed, above
                    packed = distances.new_zeros(self.exact + 1, self.exact)
                    packed[1:] = self._lower.pop(kernel)
                    packed[:-1] += _factor(distances, kernel, _JITTER).T
                    self._lower[kernel], self._landmarks[kernel] = packed[1:], packed[:-1].T
        self._tile: tuple[slice, dict[str, Tensor]] | None = None

    def lower(self, kernel: Kernel) -> Tensor:
        """Return L with L Lᵀ = K + λ I over the first images, ``[exact, exact]``; only its lower half is L."""
        return self._lower[kernel]

    def landmarks(self, kernel: Kernel) -> Tensor:
        """Return the factor of the covariance of the landmarks, likewise."""
        return self._landmarks[kernel]

    def embedded(self, kernel: Kernel, rows: slice) -> Tensor:
        """Return φ(x) with φ(x)ᵀ φ(x') ≈ K(x, x') for later images, ``[exact, n]``."""
        if self._tile is None or self._tile[0] != rows:
            self._tile = rows, self.distances.between(slice(0, self.exact), rows, self._wanted)
        covariance = torch.exp(-kernel.gamma * self._tile[1][kernel.features]).add_(_MEAN_VARIANCE)
        return torch.linalg.solve_triangular(self.landmarks(kernel), covariance, upper=False)


_LAST: dict[tuple[Outputs, tuple[Kernel, ...], torch.device], Factors] = {}


def factors_of(outputs: Outputs, kernels: tuple[Kernel, ...], device: torch.device) -> Factors:
    """Return the factors of a student, which are kept for its next teacher, until another student comes."""
    key = outputs, kernels, device
    factors = _LAST.get(key)
    if factors is None:
        _LAST.clear()  # first, so that two students are never in memory
        factors = _LAST[key] = Factors(outputs, kernels, device)
    return factors


class Regression:
    """Prequential kernel ridge regression of several targets: predicts each image from those before it.

    Args:
        factors: Of the student.
        kernel: Which of its covariances.
        targets: Number of numbers to be predicted of each image.
    """

    def __init__(self, factors: Factors, kernel: Kernel, targets: int):
        self.factors, self.kernel = factors, kernel
        device = factors.distances.device
        self._whitened = torch.zeros(factors.exact, targets, dtype=torch.float64, device=device)  # e
        self._squares, self.images = 0.0, 0  # Σ e²

    def code(self, start: int, end: int, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predict images one after the other, each before its own target is read.

        Args:
            start: Number of images priced.
            end: The images are ``[start, end)``.
            targets: Theirs, ``[n, targets]``.

        Returns:
            Predicted means ``[n, targets]``; variances ``[n]``, in units of the scale; and the scale, ``[n]``: the
            mean square of what was left of each earlier target, divided by its predicted deviation.
        """
        targets = targets.to(self._whitened.device)
        middle = min(max(start, self.factors.exact), end)
        tiles = [self._exact(start, middle, targets[: middle - start])] if start < middle else []
        tiles += [self._beyond(middle, end, targets[middle - start :])] if middle < end else []
        means, variances, squares = (torch.cat(parts) for parts in zip(*tiles, strict=True))
        before = torch.cat([squares.new_tensor([self._squares]), squares]).cumsum(0)
        counts = torch.arange(start, end, dtype=torch.float64, device=before.device) * targets.shape[1]
        self._squares, self.images = float(before[-1]), end
        return means.cpu(), variances.cpu(), (before[:-1] / counts.clamp_min(1)).cpu()

    def _exact(self, start: int, end: int, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        lower = self.factors.lower(self.kernel)
        from_past = lower[start:end, :start] @ self._whitened[:start]
        means, whitened, deviations = _one_by_one(lower[start:end, start:end], from_past, targets)
        self._whitened[start:end] = whitened
        return means, deviations.square() - self.kernel.noise, whitened.square().sum(1)

    def _beyond(self, start: int, end: int, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predict with weights of the landmarks' features, whose precision is A = I + Σ φ φᵀ / λ."""
        noise, precision = self.kernel.noise, self._precision
        features = self.factors.embedded(self.kernel, slice(start, end))  # [m, n]
        factor = torch.linalg.cholesky(precision)
        ahead = torch.linalg.solve_triangular(factor, features, upper=False)
        weights = torch.linalg.solve_triangular(factor, self._explained, upper=False)
        covariance = ahead.T @ ahead
        covariance.diagonal().add_(noise)
        means, whitened, deviations = _one_by_one(torch.linalg.cholesky(covariance), ahead.T @ weights, targets)
        precision.addmm_(features, features.T, alpha=1 / noise)
        self._explained.addmm_(features, targets, alpha=1 / noise)
        novelty = (1 + _MEAN_VARIANCE - features.square().sum(0)).clamp_min(0)  # what landmarks do not see
        return means, deviations.square() - noise + novelty, whitened.square().sum(1)

    @functools.cached_property
    def _precision(self) -> Tensor:
        features = self.factors.landmarks(self.kernel).tril()  # φ of the landmarks are its rows
        precision = torch.eye(len(features), dtype=torch.float64, device=features.device)
        return precision.addmm_(features.T, features, alpha=1 / self.kernel.noise)

    @functools.cached_property
    def _explained(self) -> Tensor:
        """Σ φ(x) t / λ over the images so far, ``[m, targets]``."""
        seen = self.factors.lower(self.kernel).tril() @ self._whitened  # the targets themselves
        return self.factors.landmarks(self.kernel).tril().T @ seen / self.kernel.noise


def _one_by_one(lower: Tensor, from_past: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return predictions of a tile from the past and from its own earlier rows, what is left whitened, and deviations.

    Args:
        lower: Factor of the covariance of the tile given the past, noise included, ``[n, n]``.
        from_past: Predictions from the past alone, ``[n, targets]``.
        targets: Row i is read only for rows after i.
    """
    whitened = torch.linalg.solve_triangular(lower, targets - from_past, upper=False)
    return from_past + lower.tril(-1) @ whitened, whitened, lower.diagonal()


def _factor(distances: Tensor, kernel: Kernel, noise: float) -> Tensor:
    covariance = torch.exp(-kernel.gamma * distances).add_(_MEAN_VARIANCE)
    covariance.diagonal().add_(noise)
    try:
        return torch.linalg.cholesky(covariance, out=covariance)
    except torch.linalg.LinAlgError:
        what, why = "distances between images are none", "they belong to no features: they are damaged, or made up"
        raise UnfitError(what, why, "leave the model out; from an atlas, remove its file") from None


def flattened(logits: Tensor, variances: Tensor, scales: Tensor) -> Tensor:
    """Return logits divided by sqrt(1 + π/8 v s²): what is uncertain is said less loudly (MacKay 1992).

    Args:
        logits: ``[n, C]``.
        variances: v, ``[n]``, in units of s².
        scales: s², ``[n]``.
    """
    return logits / (1 + math.pi / 8 * variances.clamp_min(0) * scales).sqrt()[:, None]
