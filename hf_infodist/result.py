"""The result of a comparison: the number, its trace, and everything needed to trust and repeat it."""

import math
import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from hf_infodist.coding import Codelength
from hf_infodist.models import Classifier
from hf_infodist.protocol import CodingProtocol

SCHEMA = "infodist.result/1"
_PACKAGES = ("hf-infodist", "torch", "timm", "torchvision", "transformers", "datasets", "accelerate")


@dataclass(frozen=True)
class ModelRecord:
    """Which model took part: enough to load it again."""

    id: str
    library: str
    revision: str | None
    num_classes: int
    weights: str
    preprocessing: dict[str, Any]

    @classmethod
    def of(cls, classifier: Classifier) -> "ModelRecord":
        """Describe a classifier."""
        return cls(
            classifier.id,
            classifier.library,
            classifier.revision,
            classifier.num_classes,
            classifier.weights_hash,
            classifier.preprocessing.settings,
        )


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
    images: dict[str, Any]
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
        return self.nats / math.log(2)

    @property
    def nats_per_image(self) -> float:
        """The distance per image of the sample."""
        return self.larger.nats_per_image

    @property
    def stderr_nats(self) -> float:
        """Standard error over the draw of the images, of the larger direction."""
        return self.larger.stderr_nats

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON types, schema ``infodist.result/1``."""
        directions = (self.a_given_b, self.b_given_a)
        return {
            "schema": SCHEMA,
            "model_a": vars(self.model_a).copy(),
            "model_b": vars(self.model_b).copy(),
            "images": self.images,
            "protocol": self.protocol.to_dict(),
            "distance": {
                "nats": self.nats,
                "bits": self.bits,
                "nats_per_image": self.nats_per_image,
                "stderr_nats": _or_none(self.stderr_nats),
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
        """Return the result as a short table."""
        a, b, images = self.model_a.id, self.model_b.id, self.images
        width = max(len(f"{a} given {b}"), len("distance"))
        lines = [
            f"{a} and {b} on {images['k']} images of {images['id']}, seed {images['seed']}, "
            f"protocol {self.protocol.name}",
            f"{'':<{width}}{'nats':>10}{'bits':>10}{'per image':>11}{'last images':>13}{'unlearnt':>10}",
        ]
        for name, code in ((f"{a} given {b}", self.a_given_b), (f"{b} given {a}", self.b_given_a)):
            lines.append(
                f"{name:<{width}}{code.nats:>10.1f}{code.nats / math.log(2):>10.1f}{code.nats_per_image:>11.4f}"
                f"{code.final_nats_per_image:>13.4f}{code.static_nats:>10.1f}"
            )
        lines.append(
            f"{'distance':<{width}}{self.nats:>10.1f}{self.bits:>10.1f}{self.nats_per_image:>11.4f}"
            f"   ± {self.stderr_nats:.1f} nats (standard error over images)"
        )
        return "\n".join(lines)

    def explain(self) -> str:
        """Say in plain words what the number means."""
        teacher, student = (
            (self.model_a.id, self.model_b.id) if self.larger is self.a_given_b else (self.model_b.id, self.model_a.id)
        )
        saved = 1 - self.nats / self.larger.static_nats if self.larger.static_nats > 0 else 0.0
        end = "has become the other model" if self.larger.converged else "is still some way from the other model"
        return (
            f"Somebody who has {student} and the images needs {self.bits:.0f} bits to know what {teacher} says about "
            f"them: {self.nats_per_image / math.log(2):.2f} bits an image. Learning on the way saved {saved:.0%} of "
            f"what {student} would have cost unchanged. By the last images the student {end} "
            f"({self.larger.final_nats_per_image:.3f} nats an image; {self.larger.epsilon:g} counts as the same). "
            f"0 would mean the same function; the number grows with every difference that has to be learnt."
        )


def _or_none(value: float) -> float | None:
    """Return None for what JSON cannot say: the error of one image, the price of a learner that diverged."""
    return value if math.isfinite(value) else None


def package_versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def _direction(codelength: Codelength) -> dict[str, Any]:
    return {
        "nats": codelength.nats,
        "nats_per_image": codelength.nats_per_image,
        "final_nats_per_image": codelength.final_nats_per_image,
        "converged": codelength.converged,
        "static_nats": codelength.static_nats,
        "stderr_nats": _or_none(codelength.stderr_nats),
        "curve": [list(point) for point in codelength.curve()],
        "learners": [vars(j) | {"nats": _or_none(j.nats)} for j in codelength.learners],
    }
