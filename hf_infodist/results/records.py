"""Records of what took part in a result: models, images, versions of libraries."""

import platform
from dataclasses import dataclass
from typing import Any

from hf_infodist.environment import installed

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

    @property
    def pinned(self) -> str:
        """Its name at the very commit, where a name can say that."""
        return pinned(self.id, self.revision)


@dataclass(frozen=True)
class ImagesRecord:
    """Which sample took part: enough to draw it again.

    Attributes:
        id: Name of the dataset, as it was given.
        revision: Commit of the Hub the images are from; None for other sources.
        config: Configuration of the dataset, where it has any.
        split: Split the images were drawn from, where it has any.
        column: Column that holds the images; None for images given as a list.
        k: How many.
        seed: Of their order.
        fingerprint: Hash of the images and their order.
    """

    id: str
    config: str | None
    split: str | None
    column: str | None
    k: int
    seed: int
    fingerprint: str
    revision: str | None = None  # the first records had none

    @property
    def pinned(self) -> str:
        """Its name at the very commit, where a name can say that."""
        return pinned(self.id, self.revision)

    def __str__(self) -> str:
        """Return what a person needs to know of it."""
        return f"{self.k} images of {self.id}, seed {self.seed}"


def pinned(name: str, revision: str | None) -> str:
    """Return the name of a model or dataset at its commit; timm's own models take no commit."""
    return name if revision is None or name.startswith("timm:") else f"{name.partition('@')[0]}@{revision}"


def package_versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {"python": platform.python_version()} | {name: installed(name) for name in _PACKAGES}
