"""Closed-form learners: kernel ridge regression of a teacher's outputs on features of all layers of the student.

A Gaussian process with covariance K = exp(-γ D) + 1 and noise λ predicts each target from those before it. Of the
Cholesky factor L of K + λ I over all images, row i holds the prediction of image i from the images before it: with
L e = t, it is Σ_{j<i} L_ij e_j, and L_ii² - λ is the variance of the posterior there. So one factorisation, which
depends on the student and the images alone, and one triangular solve per teacher give what refitting after each image
would (Rasmussen & Williams 2006, chapter 2; Dawid 1984 on prequential prediction).
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hf_infodist.outputs.arrays import Outputs, Rows, forget
from hf_infodist.outputs.layers import Layer, parts_of

LANDMARKS = 4096
"""Images up to which kernels are exact; further ones are seen through their kernel with these (Nyström)."""

FEATURES = ("all", "first", "second", "third", "last", "penultimate", "logits")
_QUARTERS = FEATURES[1:5]  # of the depth
_MEAN_VARIANCE = 1.0  # prior variance of a learnt mean, in units of the kernel's
_DEAD = 1e-5  # a unit that varies less than this share of its root mean square is round-off
_JITTER = 1e-8  # of landmarks, some of which may be the same image
_CHUNK = 1024  # rows standardised at once


@dataclass(frozen=True)
class Kernel:
    """A covariance of images.

    Attributes:
        features: Of which features, one of `FEATURES`.
        gamma: γ in exp(-γ D).
        noise: λ, variance of what the kernel cannot explain.
    """

    features: str
    gamma: float
    noise: float


class Distances:
    """Mean squared differences of standardised features between images: order and scale of units do not matter.

    Of a layer, D is the mean over its resolutions, and over the units of each; of several layers, their mean.

    Args:
        outputs: Of the student; features are standardised over all of its images.
        device: Where distances are computed, in float64.
    """

    def __init__(self, outputs: Outputs, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        ends = torch.tensor([layer.values for layer in outputs.layers]).cumsum(0).tolist()
        self._sources: list[tuple[Rows, slice, Layer]] = [
            (outputs.values, slice(end - layer.values, end), layer)
            for layer, end in zip(outputs.layers, ends, strict=True)
        ]
        for name, rows in (("penultimate", outputs.features), ("logits", outputs.logits)):
            width = rows.shape[1]
            self._sources.append((rows, slice(0, width), Layer(name, width, 1)))
        self.images = outputs.logits.shape[0]
        self._scales = [self._standardise(*source) for source in self._sources]

    def between(self, rows: slice, columns: slice) -> dict[str, Tensor]:
        """Return D between images of ``rows`` and of ``columns``, ``[n, m]`` for each of `FEATURES`."""
        alive = [i for i, scales in enumerate(self._scales[:-2]) if scales]
        quarters = [alive[i * len(alive) // 4 : (i + 1) * len(alive) // 4] or alive for i in range(4)]
        found = {name: self._mean(layers, rows, columns) for name, layers in zip(_QUARTERS, quarters, strict=True)}
        found["all"] = torch.zeros_like(found["last"])
        for name, layers in zip(_QUARTERS, quarters, strict=True):
            found["all"].add_(found[name], alpha=len(layers) / max(1, sum(map(len, quarters))))
        for i, name in ((-2, "penultimate"), (-1, "logits")):
            found[name] = self._of(i, rows, columns)
        return found

    def _mean(self, layers: Sequence[int], rows: slice, columns: slice) -> Tensor:
        total = torch.zeros(_length(rows), _length(columns), dtype=torch.float64, device=self.device)
        for layer in layers:
            total.add_(self._of(layer, rows, columns))
        return total.div_(max(1, len(layers)))

    def _of(self, source: int, rows: slice, columns: slice) -> Tensor:
        """Return D of one layer; 0 where none of its units varies."""
        total = torch.zeros(_length(rows), _length(columns), dtype=torch.float64, device=self.device)
        for left, right in zip(self._units(source, rows), self._units(source, columns), strict=True):
            squares = left.square().sum(1)[:, None] + right.square().sum(1)
            total.add_(torch.addmm(squares, left, right.T, alpha=-2).clamp_min_(0), alpha=1 / left.shape[1])
        return total.div_(max(1, len(self._scales[source])))

    def _units(self, source: int, rows: slice) -> Iterator[Tensor]:
        """Yield the standardised units of a layer at each resolution, ``[n, units]``."""
        array, columns, layer = self._sources[source]
        parts = parts_of(self._read(array, rows, columns), layer)
        for part, shift, scale in self._scales[source]:
            units = parts[part] - shift
            yield units[:, scale > 0] / scale[scale > 0]

    def _standardise(self, array: Rows, columns: slice, layer: Layer) -> list[tuple[int, Tensor, Tensor]]:
        """Return number, mean and standard deviation of each resolution; 0 for units that never vary."""
        shifts = [
            part[0] for part in parts_of(self._read(array, slice(0, 1), columns), layer)
        ]  # squares do not cancel
        totals = [torch.zeros(2, len(shift), dtype=torch.float64, device=self.device) for shift in shifts]
        for first in range(0, self.images, _CHUNK):
            rows = slice(first, min(first + _CHUNK, self.images))
            for part, shift, total in zip(
                parts_of(self._read(array, rows, columns), layer), shifts, totals, strict=True
            ):
                total.add_(torch.stack([(part - shift).sum(0), (part - shift).square().sum(0)]))
        found = []
        for number, (shift, total) in enumerate(zip(shifts, totals, strict=True)):
            offset, square = total / self.images
            mean, variance = shift + offset, (square - offset.square()).clamp_min(0)
            deviation = variance.sqrt()
            alive = deviation > _DEAD * (variance + mean.square()).sqrt()
            if alive.any():
                found.append((number, mean, torch.where(alive, deviation, 0.0)))
        return found

    def _read(self, array: Rows, rows: slice, columns: slice) -> Tensor:
        read = torch.from_numpy(array[rows][:, columns].astype("float64")).to(self.device)
        forget(array)
        return read


class Factors:
    """Factorised covariances of the images of one student, which serve all of its teachers.

    Args:
        outputs: Of the student.
        kernels: Which covariances.
        device: Where, in float64.
    """

    def __init__(self, outputs: Outputs, kernels: Sequence[Kernel], device: torch.device | str = "cpu"):
        self.distances = Distances(outputs, device)
        self.images = self.distances.images
        self.exact = min(self.images, LANDMARKS)
        within = self.distances.between(slice(0, self.exact), slice(0, self.exact))
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
            self._tile = rows, self.distances.between(slice(0, self.exact), rows)
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
    return torch.linalg.cholesky(covariance, out=covariance)


def _length(rows: slice) -> int:
    return rows.stop - rows.start


def flattened(logits: Tensor, variances: Tensor, scales: Tensor) -> Tensor:
    """Return logits divided by sqrt(1 + π/8 v s²): what is uncertain is said less loudly (MacKay 1992).

    Args:
        logits: ``[n, C]``.
        variances: v, ``[n]``, in units of s².
        scales: s², ``[n]``.
    """
    return logits / (1 + math.pi / 8 * variances.clamp_min(0) * scales).sqrt()[:, None]
