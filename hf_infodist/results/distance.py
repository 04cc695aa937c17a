"""The result of a comparison: the number, its trace, and everything needed to trust and repeat it."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.codelength import HEAD_IMAGES, Codelength
from hf_infodist.results.difference import ERRORS
from hf_infodist.results.records import ImagesRecord, ModelRecord, package_versions
from hf_infodist.results.ruler import Ruler
from hf_infodist.results.shown import Shown
from hf_infodist.results.words import Unit, amount, number, percent, rounded, to_bits
from hf_infodist.table import text_table

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

SCHEMA = "infodist.result/1"
_NOTHING = 1e-4  # nats an image: round-off of closed forms, for one and the same network


@dataclass(frozen=True, eq=False, repr=False)
class InformationDistance(Shown):
    """d_p(A, B) = max(L'(A|B), L'(B|A)), equation (7).

    Attributes:
        a_given_b: Codelength of A for somebody who knows B: teacher A, student started at B.
        b_given_a: Codelength of B for somebody who knows A: teacher B, student started at A.
        model_a: The first model.
        model_b: The second model.
        images: The sample: id, split, k, seed, fingerprint.
        protocol: How the students were trained and priced.
        device: Where, and in which precision students were trained, if it was not full.
    """

    a_given_b: Codelength
    b_given_a: Codelength
    model_a: ModelRecord
    model_b: ModelRecord
    images: ImagesRecord
    protocol: CodingProtocol
    device: str

    @property
    def larger(self) -> Codelength:
        """The direction that is the distance."""
        return max(self.a_given_b, self.b_given_a, key=lambda codelength: codelength.nats)

    @property
    def nats(self) -> float:
        """The distance."""
        return self.larger.nats

    @property
    def bits(self) -> float:
        """The distance in bits."""
        return to_bits(self.nats)

    @property
    def nats_per_image(self) -> float:
        """The distance per image of the sample."""
        return self.larger.nats_per_image

    @property
    def stderr_nats(self) -> float:
        """Standard error over the draw of the images, of the larger direction."""
        return self.larger.stderr_nats

    @property
    def normalised(self) -> float:
        """The distance as a share of what the larger direction costs without any student (`Codelength.normalised`)."""
        return self.larger.normalised

    def share_of_complexity(self, complexity_a: Codelength, complexity_b: Codelength) -> float:
        """Return the distance as a share of the larger complexity, ``max L'(·|·) / max L'(·|0)``.

        About 1 where neither model is of more help in making the other than a fresh network would be; NaN where both
        complexities are 0.

        Args:
            complexity_a: L'(A | 0), of the same images and protocol.
            complexity_b: L'(B | 0).
        """
        larger = max(complexity_a.nats, complexity_b.nats)
        return self.nats / larger if larger > 0 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON types, schema ``infodist.result/1``."""
        directions = (self.a_given_b, self.b_given_a)
        return {
            "schema": SCHEMA,
            "model_a": vars(self.model_a).copy(),
            "model_b": vars(self.model_b).copy(),
            "images": vars(self.images).copy(),
            "protocol": self.protocol.to_dict(),
            "distance": {
                "nats": self.nats,
                "bits": self.bits,
                "nats_per_image": self.nats_per_image,
                "stderr_nats": _or_none(self.stderr_nats),
                "stderr_orders_nats": _or_none(self.larger.stderr_orders_nats),
                "normalised": _or_none(self.normalised),
            },
            "a_given_b": _direction(self.a_given_b),
            "b_given_a": _direction(self.b_given_a),
            "cost": {
                "gradient_images": sum(codelength.gradient_images for codelength in directions),
                "seconds": sum(codelength.seconds for codelength in directions),
                "device": self.device,
            },
            "versions": package_versions(),
        }

    def text(self, unit: Unit = Unit.BITS) -> str:
        """Return the result as a short table, and as a sentence."""
        a, b = self.model_a.id, self.model_b.id
        orders = f", mean of {self.protocol.orders} orders" if self.protocol.orders > 1 else ""
        what = f"{a} and {b} on {self.images}, protocol {self.protocol.name}{orders}"
        rows = [
            (f"{a} given {b}", *_cells(self.a_given_b, unit, self._new_head)),
            (f"{b} given {a}", *_cells(self.b_given_a, unit, self._new_head)),
        ]
        table = text_table(_columns(self.larger, unit, self._new_head), rows, names=(a, b))
        return f"{what}\n{table}\n\n{self.explain(unit)}"

    @property
    def _new_head(self) -> bool:
        """Whether the price of a new head is worth a column of its own."""
        return self.model_a.num_classes != self.model_b.num_classes and self.images.k > HEAD_IMAGES

    def explain(self, unit: Unit = Unit.BITS) -> str:
        """Say in one plain sentence what the number means, and nothing that its error leaves open."""
        code, k = self.larger, self.images.k
        teacher, student = (self.model_a, self.model_b) if code is self.a_given_b else (self.model_b, self.model_a)
        if _same(teacher, student) and code.nats < k * _NOTHING:
            return f"{student.id} and {teacher.id} are the same weights: 0 {unit}."
        total = amount(unit.of(code.nats), unit.of(code.stderr_nats))
        verdict = Ruler.of(self.images, self.protocol).verdict(
            to_bits(code.nats_per_image), to_bits(code.stderr_nats) / k
        )
        return (
            f"Turning {student.id} into {teacher.id} takes {code.rate(unit)}, {total} over {k} images"
            f"{_share(code)}{verdict and f'; {verdict}'}."
        )

    @property
    def summary(self) -> str:
        """Models and distance."""
        return f"{self.model_a.id} and {self.model_b.id}, {self.larger.rate()}, {self.images}"

    def plot(self, unit: Unit = Unit.BITS) -> "Figure":
        """Draw what both directions have cost after so many images."""
        from hf_infodist.results.pictures import draw_curves, footer, shortened

        a, b = shortened([self.model_a.id, self.model_b.id])
        codes = {f"{a}\n given {b}": self.a_given_b, f"{b}\n given {a}": self.b_given_a}
        curves = {f"{name}: {code.rate(unit)}": code.curve() for name, code in codes.items()}
        return draw_curves(curves, footer(self.images, self.protocol), unit)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row for each direction."""
        from hf_infodist.results.export import to_table

        models = (self.model_a.id, self.model_b.id)
        rows = [
            {"teacher": teacher, "student": student, **_direction(code)}
            for (teacher, student), code in ((models, self.a_given_b), (models[::-1], self.b_given_a))
        ]
        return to_table(rows, self.images)


@dataclass(frozen=True, eq=False, repr=False)
class ComplexityTable(Shown):
    """Complexities of several models on the same images under the same protocol.

    Attributes:
        models: Which.
        codelengths: L'(f | 0) of each.
        images: The sample: id, split, k, seed, fingerprint.
        protocol: How the students were trained and priced.
    """

    models: tuple[ModelRecord, ...]
    codelengths: tuple[Codelength, ...]
    images: ImagesRecord
    protocol: CodingProtocol

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, schema ``infodist.complexity/1``."""
        pairs = zip(self.models, self.codelengths, strict=True)
        rows = [vars(model) | _direction(code) for model, code in pairs]
        return {
            "schema": "infodist.complexity/1",
            "models": rows,
            "images": vars(self.images).copy(),
            "protocol": self.protocol.to_dict(),
            "versions": package_versions(),
        }

    def text(self, unit: Unit = Unit.BITS) -> str:
        """Return a table, one row per model."""
        rows = [(model.id, *_cells(code, unit)) for model, code in zip(self.models, self.codelengths, strict=True)]
        table = text_table(_columns(self.codelengths[0], unit), rows, names=[model.id for model in self.models])
        return f"complexity on {self.images}, protocol {self.protocol.name}\n{table}"

    @property
    def summary(self) -> str:
        """How many models, on what."""
        return f"{len(self.models)} models, {self.images}"

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row for each model."""
        from hf_infodist.results.export import to_table

        pairs = zip(self.models, self.codelengths, strict=True)
        return to_table([{"model": model.id, **_direction(code)} for model, code in pairs], self.images)


def _columns(code: Codelength, unit: Unit, new_head: bool = False) -> list[str]:
    """Return the head of a table of codelengths: what, and its unit below."""
    first = [f"first {HEAD_IMAGES}\n{unit}"] if new_head else []
    orders = [f"± orders\n{unit}/image"] if code.order_nats else []
    return [
        "",
        f"codelength\n{unit}/image",
        *orders,
        f"total\n{unit}",
        *first,
        f"last images\n{unit}/image",
        f"untaught\n{unit}",
        "of scratch\n%",
    ]


def _cells(code: Codelength, unit: Unit, new_head: bool = False) -> list[str]:
    """Return the row of a table of codelengths."""
    k = len(code.image_nats)
    first = [number(unit.of(code.head_nats))] if new_head else []
    orders = [number(unit.of(code.stderr_orders_nats) / k)] if code.order_nats else []
    last, untaught = (number(unit.of(nats)) for nats in (code.final_nats_per_image, code.static_nats))
    total = rounded(unit.of(code.nats), unit.of(code.stderr_nats))[0]
    each = amount(unit.of(code.nats) / k, unit.of(code.stderr_nats) / k)
    return [each, *orders, total, *first, last, untaught, _percent_of(code)]


def _percent_of(code: Codelength) -> str:
    return percent(code.normalised, _normalised_error(code)).removesuffix("%")


def _share(code: Codelength) -> str:
    """Say which share of its teacher a codelength is."""
    share, error = code.normalised, _normalised_error(code)
    if not math.isfinite(share):
        return ""
    if share - ERRORS * error > 1:
        return f", more than describing it from scratch ({percent(share, error)})"
    if share + ERRORS * error >= 1:
        return ", as much as describing it from scratch"
    return f", {percent(share, error)} of describing it from scratch"


def _normalised_error(code: Codelength) -> float:
    """Return the standard error of `Codelength.normalised`, of its numerator; 0 if unknown."""
    error = code.stderr_nats / code.marginal_nats if code.marginal_nats > 0 else math.nan
    return error if math.isfinite(error) else 0.0


def _same(a: ModelRecord, b: ModelRecord) -> bool:
    """Tell whether two models are one network, under whatever names."""
    return (a.weights, a.preprocessing, a.num_classes) == (b.weights, b.preprocessing, b.num_classes)


def _or_none(value: float) -> float | None:
    """Return None for what JSON cannot say: the error of one image, the price of a learner that diverged."""
    return value if math.isfinite(value) else None


def _direction(codelength: Codelength) -> dict[str, Any]:
    return {
        "nats": codelength.nats,
        "nats_per_image": codelength.nats_per_image,
        "final_nats_per_image": codelength.final_nats_per_image,
        "converged": codelength.converged,
        "excess_nats": codelength.excess_nats,
        "head_nats": codelength.head_nats,
        "static_nats": codelength.static_nats,
        "marginal_nats": codelength.marginal_nats,
        "normalised": _or_none(codelength.normalised),
        "stderr_nats": _or_none(codelength.stderr_nats),
        "stderr_orders_nats": _or_none(codelength.stderr_orders_nats),
        "order_nats": list(codelength.order_nats),
        "curve": [list(point) for point in codelength.curve()],
        "learners": [vars(j) | {"nats": _or_none(j.nats)} for j in codelength.learners],
    }
