"""Preprocessing: what each library does to an image before its network sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from hf_infodist.errors import UsageError
from hf_infodist.models.source import Source, quiet, refusing


@dataclass(frozen=True)
class Preprocessing:
    """How a classifier wants to see an image.

    Attributes:
        transform: RGB image → normalised pixels ``[3, H, W]``, float32.
        mean: Mean of the normalisation, per channel; zeros if there is none, or none known.
        std: Standard deviation of the normalisation; ones likewise.
        settings: JSON description, ``input_size`` (``[3, H, W]``, of a square image) in it. Two preprocessings with
            equal settings give equal pixels.
    """

    transform: Callable[[Image.Image], Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    settings: dict[str, Any]


# Preprocessing


@dataclass(frozen=True)
class _Processor:
    """An image processor of transformers as a function from an image to pixels."""

    processor: Any

    def __call__(self, image: Image.Image) -> Tensor:
        return self.processor(image, return_tensors="pt")["pixel_values"][0]


def preprocessing_of(source: Source, module: nn.Module, transform: Any) -> Preprocessing:
    """Describe the preprocessing that was given, or else the model's own."""
    if transform is not None and callable(getattr(transform, "preprocess", None)):
        return _of_processor(transform)
    if transform is not None:
        return _of_transform(transform)
    if source.library == "timm":
        return _of_timm(module)
    if source.library == "torchvision":
        return _of_torchvision(source.weights.transforms())
    if source.folder is not None:
        return _of_processor(_read_processor(source))
    why = "nothing in it says how images are resized and normalised"
    fix = "pass transform=..., a function from an RGB image to a tensor [3, height, width], or an image processor"
    raise UsageError(f"the module {source.id} comes without preprocessing", why, fix)


@dataclass(frozen=True)
class _Grey:
    """A transform of a model for grey images: of colours it sees the grey level, in three channels that are alike."""

    transform: Callable[[Image.Image], Tensor]

    def __call__(self, image: Image.Image) -> Tensor:
        pixels = self.transform(image.convert("L").convert("RGB"))
        return pixels.expand(3, -1, -1) if len(pixels) == 1 else pixels


def grey(preprocessing: Preprocessing) -> Preprocessing:
    """Return the preprocessing of a model that takes grey images."""
    return replace(
        preprocessing, transform=_Grey(preprocessing.transform), settings=preprocessing.settings | {"grey": True}
    )


def _read_processor(source: Source) -> Any:
    from transformers import AutoImageProcessor

    with quiet(), refusing(source, "its image processor cannot be read"):
        return AutoImageProcessor.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True)


def _of_timm(module: nn.Module) -> Preprocessing:
    from timm.data import create_transform, resolve_model_data_config

    config = resolve_model_data_config(module)
    transform = create_transform(**config, is_training=False)
    return _normalising(transform, config["mean"], config["std"], {"library": "timm", **config})


def _of_torchvision(transform: Any) -> Preprocessing:
    own = {key: value for key, value in vars(transform).items() if not key.startswith("_") and key != "training"}
    return _normalising(transform, transform.mean, transform.std, {"library": "torchvision", **own})


def _of_processor(processor: Any) -> Preprocessing:
    normalises = getattr(processor, "do_normalize", False)
    mean, std = (processor.image_mean, processor.image_std) if normalises else (0.0, 1.0)
    settings = {"library": "transformers", "class": type(processor).__name__, **processor.to_dict()}
    return _normalising(_Processor(processor), mean, std, settings)


def _of_transform(transform: Callable[[Image.Image], Tensor]) -> Preprocessing:
    last = getattr(transform, "transforms", [transform])[-1]
    settings = {"library": "torch", "transform": without_addresses(repr(transform))}
    return _normalising(transform, getattr(last, "mean", 0.0), getattr(last, "std", 1.0), settings)


def _normalising(transform: Callable, mean: Any, std: Any, settings: dict[str, Any]) -> Preprocessing:
    plain = json.loads(json.dumps(settings, default=str, sort_keys=True))
    return Preprocessing(transform, _three(mean), _three(std), plain)


def _three(value: Any) -> tuple[float, float, float]:
    """Read a number per channel from a number, a sequence or a tensor."""
    red, green, blue = np.resize(np.asarray(value, dtype=float), 3).tolist()  # other models than of 1 or 3 are refused
    return red, green, blue


def without_addresses(text: str) -> str:
    """Return the text of an object without addresses in memory, which differ from run to run."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)
