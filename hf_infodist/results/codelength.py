"""The record of one direction: what each image cost, and what that says."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_infodist.results.words import Unit

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

HEAD_IMAGES = 256  # the first images, on which most of a new head is paid for


@dataclass(frozen=True)
class LearnerRecord:
    """What one learner would have cost alone, and the weight the mixture gave it in the end.

    A learner that was dropped has weight 0, and priced only the first ``images``.
    """

    name: str
    nats: float
    images: int
    weight: float
    gradient_images: int


@dataclass(frozen=True, eq=False, repr=False)
class Codelength:
    """L'(B|A): what teaching a student its teacher's outputs cost, image by image.

    Attributes:
        image_nats: Price of each image when it was new, ``[k]``, nats; by position, the mean over orders.
        static_nats: Price of all images without any learning, nats.
        marginal_nats: Σ_i KL(q_i ‖ q̄), nats: the price for somebody who knows nothing but the mean output q̄.
        learners: One record per learner.
        block_ends: Number of images priced after each block.
        epsilon: Nats per image below which the last images count as converged.
        seconds: Time spent pricing and learning.
        order_nats: Total of each order in which the images were coded; empty if there was one.
        order_stderr_nats: `stderr_nats` of each of them.
        image_hits: Whether the class found likeliest was the label, ``[k]``, by position the mean over orders; None
            where no labels are shown.
    """

    image_nats: NDArray[np.float64]
    static_nats: float
    marginal_nats: float
    learners: tuple[LearnerRecord, ...]
    block_ends: tuple[int, ...]
    epsilon: float
    seconds: float
    order_nats: tuple[float, ...] = ()
    order_stderr_nats: tuple[float, ...] = ()
    image_hits: NDArray[np.float64] | None = None

    @cached_property
    def nats(self) -> float:
        """Total codelength, equation (6)."""
        return math.fsum(self.image_nats)

    @property
    def nats_per_image(self) -> float:
        """Mean price of an image."""
        return self.nats / len(self.image_nats)

    @property
    def final_nats_per_image(self) -> float:
        """Mean price over the last block, or over the last tenth of the images where that is longer."""
        last_block = self.block_ends[-1] - (self.block_ends[-2] if len(self.block_ends) > 1 else 0)
        return float(self.image_nats[-max(last_block, len(self.image_nats) // 10) :].mean())

    @property
    def converged(self) -> bool:
        """Whether the student has become the teacher up to epsilon, equation (4)."""
        return self.final_nats_per_image <= self.epsilon

    @property
    def excess_nats(self) -> float:
        """What was paid above the final price: for being taught, not for what is never learnt."""
        return self.nats - len(self.image_nats) * self.final_nats_per_image

    @property
    def head_nats(self) -> float:
        """Price of the first 256 images: where label spaces differ, mostly of learning the new head."""
        return math.fsum(self.image_nats[:HEAD_IMAGES])

    @property
    def normalised(self) -> float:
        """`nats` as a share of `marginal_nats`: 1 if the student helps no more than knowing how frequent classes are.

        NaN if the teacher says the same of every image.
        """
        return self.nats / self.marginal_nats if self.marginal_nats > 0 else math.nan

    @property
    def stderr_nats(self) -> float:
        """Standard error of `nats` over the draw of the images.

        Prices fall as the student learns, so the spread is taken between neighbours, not around a common mean
        (von Neumann's mean square successive difference). Other orders of the same images do not lower it.
        """
        if self.order_stderr_nats:
            return float(np.mean(self.order_stderr_nats))
        return stderr_of_sum(self.image_nats)

    @property
    def stderr_orders_nats(self) -> float:
        """Standard error of `nats` over the order of the images and the draws of the protocol; NaN for one order."""
        if not self.order_nats:
            return math.nan
        return float(np.std(self.order_nats, ddof=1)) / math.sqrt(len(self.order_nats))

    @property
    def gradient_images(self) -> int:
        """Images passed through a gradient, all learners together."""
        return sum(learner.gradient_images for learner in self.learners)

    def rate(self, unit: Unit = Unit.BITS) -> str:
        """Return what an image costs on average, in words, with its standard error."""
        return unit.rate(self.nats, self.stderr_nats, len(self.image_nats))

    def __repr__(self) -> str:
        """Return the number and of how many images."""
        return f"<Codelength: {self.rate()}, {len(self.image_nats)} images>"

    def curve(self, points: int = 200) -> list[tuple[int, float]]:
        """Return (images, cumulative nats) at up to ``points`` block ends, the last one included."""
        cumulative = np.cumsum(self.image_nats)
        ends = self.block_ends[:: -(-len(self.block_ends) // points)]
        ends = ends if ends[-1] == self.block_ends[-1] else (*ends, self.block_ends[-1])
        return [(end, float(cumulative[end - 1])) for end in ends]

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row for each image, in the order in which they were coded: its price and the sum so far, nats."""
        import pandas

        return pandas.DataFrame({"nats": self.image_nats, "cumulative_nats": np.cumsum(self.image_nats)})

    def plot(self) -> "Figure":
        """Draw what has been paid after so many images."""
        from hf_infodist.results.pictures import draw_curves

        return draw_curves({self.rate(): self.curve()})

    def _repr_html_(self) -> str:
        """Return text and picture, for notebooks."""
        from hf_infodist.results.pictures import to_html

        return to_html(repr(self), self.plot())

    def to_dict(self) -> dict[str, Any]:
        """Return every field as JSON types; what JSON has no number for is a text that `float` reads."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields |= {"image_nats": self.image_nats.tolist(), "learners": [vars(record) for record in self.learners]}
        hits = fields.pop("image_hits")
        return _plain(fields if hits is None else fields | {"image_hits": hits.tolist()})

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Codelength":
        """Rebuild a codelength from `to_dict`, to the bit."""
        record = {name: _numbers(value) for name, value in fields.items()}
        for name in {"image_nats", "image_hits"} & record.keys():
            record[name] = np.array(record[name], dtype=np.float64)
        record["learners"] = tuple(
            LearnerRecord(**learner | {name: float(learner[name]) for name in ("nats", "weight")})
            for learner in fields["learners"]
        )
        return cls(**record)


def stderr_of_sum(prices: NDArray[np.float64], skipped: int = 0) -> float:
    """Return the standard error of the sum of prices ``[n]`` that change slowly; NaN of less than two.

    It is von Neumann's: half of the mean square of what each price is away from the one before.

    Args:
        prices: Of all images.
        skipped: So many of the first are left out of that mean, as if they varied like the others.
    """
    told = prices[skipped:]
    if len(told) < 2:
        return math.nan
    return math.sqrt(len(prices) * float((np.diff(told) ** 2).mean()) / 2)


def mean_over_orders(orders: Sequence[Codelength]) -> Codelength:
    """Return the mean of codelengths of the same images in several orders; costs are added up."""
    if len(orders) == 1:
        return orders[0]
    first, hits = orders[0], [order.image_hits for order in orders if order.image_hits is not None]
    return replace(
        first,
        image_nats=np.mean([order.image_nats for order in orders], axis=0),
        image_hits=np.mean(hits, axis=0) if hits else None,
        learners=tuple(_mean_record(records) for records in zip(*(order.learners for order in orders), strict=True)),
        seconds=sum(order.seconds for order in orders),
        order_nats=tuple(order.nats for order in orders),
        order_stderr_nats=tuple(order.stderr_nats for order in orders),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(value: Any) -> Any:
    """Turn lists into tuples, and text into the numbers it stands for."""
    if isinstance(value, list):
        return tuple(_numbers(part) for part in value)
    return float(value) if isinstance(value, str) else value


def _mean_record(records: Sequence[LearnerRecord]) -> LearnerRecord:
    """Average one learner over orders; it may have been dropped at different times."""
    count = len(records)
    return LearnerRecord(
        name=records[0].name,
        nats=sum(record.nats for record in records) / count,
        images=round(sum(record.images for record in records) / count),
        weight=sum(record.weight for record in records) / count,
        gradient_images=sum(record.gradient_images for record in records),
    )
