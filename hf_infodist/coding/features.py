"""Distances between images, in features of all layers of a student."""

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from hf_infodist.outputs.arrays import Outputs, Rows, forget
from hf_infodist.outputs.known import KnownOutputs
from hf_infodist.outputs.layers import Layer, parts_of

FEATURES = ("all", "first", "second", "third", "last", "penultimate", "logits")
_QUARTERS = FEATURES[1:5]  # of the depth
_DEAD = 1e-5  # a unit that varies less than this share of its root mean square is round-off
_CHUNK = 1024  # rows standardised at once

_Scales = list[tuple[int, Tensor, Tensor]]  # number, mean and standard deviation of each resolution; 0 for dead units


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
        self._scales = self._standardise()

    def between(self, rows: slice, columns: slice, wanted: Collection[str] = FEATURES) -> dict[str, Tensor]:
        """Return D between images of ``rows`` and of ``columns``, ``[n, m]`` for each of the features wanted."""
        quarters = _QUARTERS if "all" in wanted else [name for name in _QUARTERS if name in wanted]
        depth = dict(zip(_QUARTERS, self._depth(), strict=True))
        found = {name: self._mean(depth[name], rows, columns) for name in quarters}
        if "all" in wanted:
            found["all"] = _mean_of(found, self.quarters)
        for i, name in ((-2, "penultimate"), (-1, "logits")):
            if name in wanted:
                found[name] = self._of(i, rows, columns)
        return {name: distances for name, distances in found.items() if name in wanted}

    @property
    def quarters(self) -> tuple[int, ...]:
        """Number of layers in each quarter of the depth."""
        return tuple(map(len, self._depth()))

    def _depth(self) -> list[list[int]]:
        """Return the layers of each quarter of the depth; all of them where there are too few to divide."""
        alive = [i for i, scales in enumerate(self._scales[:-2]) if scales]
        return [alive[i * len(alive) // 4 : (i + 1) * len(alive) // 4] or alive for i in range(4)]

    def _mean(self, layers: Sequence[int], rows: slice, columns: slice) -> Tensor:
        total = torch.zeros(length(rows), length(columns), dtype=torch.float64, device=self.device)
        for layer in layers:
            total.add_(self._of(layer, rows, columns))
        return total.div_(max(1, len(layers)))

    def _of(self, source: int, rows: slice, columns: slice) -> Tensor:
        """Return D of one layer; 0 where none of its units varies."""
        total = torch.zeros(length(rows), length(columns), dtype=torch.float64, device=self.device)
        others = self._units(source, columns) if columns != rows else None
        for left in self._units(source, rows):
            right = next(others) if others else left
            squares = left.square().sum(1)[:, None] + right.square().sum(1)
            total.add_(torch.addmm(squares, left, right.T, alpha=-2).clamp_min_(0), alpha=1 / left.shape[1])
        return total.div_(max(1, len(self._scales[source])))

    def _units(self, source: int, rows: slice) -> Iterator[Tensor]:
        """Yield the standardised units of a layer at each resolution, ``[n, units]``."""
        parts = self._parts(source, rows)
        for part, shift, scale in self._scales[source]:
            units = parts[part] - shift
            yield units[:, scale > 0] / scale[scale > 0]

    def _standardise(self) -> list[_Scales]:
        """Return the scales of each source, from one pass over the images: they may be worked out when asked for."""
        shifts = [[part[0] for part in self._parts(i, slice(0, 1))] for i in range(len(self._sources))]
        totals = [  # of units less those of the first image: so squares do not cancel
            [torch.zeros(2, len(part), dtype=torch.float64, device=self.device) for part in parts] for parts in shifts
        ]
        for first in range(0, self.images, _CHUNK):
            rows = slice(first, min(first + _CHUNK, self.images))
            for i in range(len(self._sources)):
                for part, shift, total in zip(self._parts(i, rows), shifts[i], totals[i], strict=True):
                    total.add_(torch.stack([(part - shift).sum(0), (part - shift).square().sum(0)]))
        return [self._scales_of(*moments) for moments in zip(shifts, totals, strict=True)]

    def _scales_of(self, shifts: Sequence[Tensor], totals: Sequence[Tensor]) -> _Scales:
        found = []
        for number, (shift, total) in enumerate(zip(shifts, totals, strict=True)):
            offset, square = total / self.images
            mean, variance = shift + offset, (square - offset.square()).clamp_min(0)
            deviation = variance.sqrt()
            alive = deviation > _DEAD * (variance + mean.square()).sqrt()
            if alive.any():
                found.append((number, mean, torch.where(alive, deviation, 0.0)))
        return found

    def _parts(self, source: int, rows: slice) -> list[Tensor]:
        """Return a layer of some images at each resolution, ``[n, units]`` each."""
        array, columns, layer = self._sources[source]
        return parts_of(self._read(array, rows, columns), layer)

    def _read(self, array: Rows, rows: slice, columns: slice) -> Tensor:
        read = torch.from_numpy(array[rows][:, columns].astype("float64")).to(self.device)
        forget(array)
        return read


class KnownDistances:
    """The same of a student whose features are not at hand, as an atlas has them.

    Args:
        outputs: Of the student.
        device: Where distances are used, in float64.
    """

    def __init__(self, outputs: KnownOutputs, device: torch.device | str = "cpu"):
        self.device, self.images = torch.device(device), outputs.logits.shape[0]
        self._outputs = outputs

    def between(self, rows: slice, columns: slice, wanted: Collection[str] = FEATURES) -> dict[str, Tensor]:
        """Return D between images of ``rows`` and of ``columns``, ``[n, m]`` for each of the features wanted."""
        found = {
            name: torch.from_numpy(self._outputs.distances(name)[rows, columns]).to(self.device)
            for name in FEATURES
            if name != "all"
        }
        found["all"] = _mean_of(found, self._outputs.quarters)
        return {name: distances for name, distances in found.items() if name in wanted}


def _mean_of(found: dict[str, Tensor], quarters: Sequence[int]) -> Tensor:
    """Return D of all layers, the mean of that of the quarters of the depth."""
    mean = torch.zeros_like(found["last"])
    for name, layers in zip(_QUARTERS, quarters, strict=True):
        mean.add_(found[name], alpha=layers / max(1, sum(quarters)))
    return mean


def distances_of(outputs: Outputs, device: torch.device | str = "cpu") -> Distances | KnownDistances:
    """Return distances between images in the features of a model, or those that an atlas has."""
    return KnownDistances(outputs, device) if isinstance(outputs, KnownOutputs) else Distances(outputs, device)


def length(rows: slice) -> int:
    """Return the number of rows of a slice."""
    return rows.stop - rows.start
