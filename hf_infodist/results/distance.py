"""The result of a comparison: the number, its trace, and everything needed to trust and repeat it."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.codelength import Codelength, to_bits
from hf_infodist.table import text_table

if TYPE_CHECKING:
    pass
from hf_infodist.results.records import ImagesRecord, ModelRecord, package_versions

SCHEMA = "infodist.result/1"
_COLUMNS = ("", "nats", "bits", "per image", "first 256", "last ones", "unlearnt", "of all")


@dataclass(frozen=True, eq=False)
class InformationDistance:
    """d_p(A, B) = max(L'(A|B), L'(B|A)), equation (7).

    Attributes:
        a_given_b: Codelength of A for somebody who knows B: teacher A, student started at B.
        b_given_a: Codelength of B for somebody who knows A: teacher B, student started at A.
        model_a: The first model.
        model_b: The second model.
        images: The sample: id, split, k, seed, fingerprint.
        protocol: How the students were trained and priced.
        device: Where.
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

    def __str__(self) -> str:
        """Return the result as a short table, and as a sentence."""
        a, b = self.model_a.id, self.model_b.id
        orders = f", mean of {self.protocol.orders} orders" if self.protocol.orders > 1 else ""
        rows = [
            [f"{a} given {b}", *_direction_cells(self.a_given_b)],
            [f"{b} given {a}", *_direction_cells(self.b_given_a)],
            ["distance", *_total_cells(self.larger)],
        ]
        errors = f"± {self.stderr_nats:.1f} nats over images"
        if self.protocol.orders > 1:
            errors += f", ± {self.larger.stderr_orders_nats:.1f} over orders"
        what = f"{a} and {b} on {self.images}, protocol {self.protocol.name}{orders}"
        table = text_table(_COLUMNS, rows)
        return f"{what}\n{table}   {errors} (standard error)\n\n{self.explain()}"

    def explain(self) -> str:
        """Say in one plain sentence what the number means."""
        a, b = self.model_a.id, self.model_b.id
        teacher, student = (a, b) if self.larger is self.a_given_b else (b, a)
        saved = 1 - self.nats / self.larger.static_nats if self.larger.static_nats > 0 else 0.0
        became = "has become" if self.larger.converged else "has not become"
        an_image = f"{to_bits(self.nats_per_image):.2f} bits an image"
        return (
            f"Who has {student} needs {self.bits:.0f} bits to know what {teacher} says about these images "
            f"({an_image}, {percent(self.normalised)} of what it takes without any model), "
            f"learning on the way saved {saved:.0%}, and by the last images {student} {became} {teacher} "
            f"({self.larger.final_nats_per_image:.3f} nats an image; {self.larger.epsilon:g} counts as the same)."
        )


@dataclass(frozen=True, eq=False)
class ComplexityTable:
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

    def __str__(self) -> str:
        """Return a table, one row per model."""
        rows = [
            [model.id, *_total_cells(code), f"{code.final_nats_per_image:.4f}", f"{code.stderr_nats:.1f}"]
            for model, code in zip(self.models, self.codelengths, strict=True)
        ]
        table = text_table(("", "nats", "bits", "per image", "last ones", "±"), rows)
        return f"complexity on {self.images}, protocol {self.protocol.name}\n{table}"


def _total_cells(code: Codelength) -> tuple[str, ...]:
    return f"{code.nats:.1f}", f"{to_bits(code.nats):.1f}", f"{code.nats_per_image:.4f}"


def _direction_cells(code: Codelength) -> tuple[str, ...]:
    last, static = f"{code.final_nats_per_image:.4f}", f"{code.static_nats:.1f}"
    return *_total_cells(code), f"{code.head_nats:.1f}", last, static, percent(code.normalised, 1)


def percent(share: float, digits: int = 0) -> str:
    """Return a share as text; of nothing at all there is none."""
    return f"{share:.{digits}%}" if math.isfinite(share) else "n/a"


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
