"""Names of classes."""

from __future__ import annotations

from typing import Any

from hf_infodist.models.source import Source


def labels_of(source: Source, module: Any, num_classes: int) -> tuple[str, ...]:
    """Name the classes as the library does; ``LABEL_0``, ``LABEL_1``, … where it does not."""
    if source.library == "torchvision":
        names: dict[int, str] = dict(enumerate(source.weights.meta["categories"]))
    elif source.library == "transformers":
        names = _from_zero({int(index): str(name) for index, name in module.config.id2label.items()}, num_classes)
    else:
        names = _timm_labels(getattr(module, "pretrained_cfg", {}), num_classes)
    return tuple(names.get(index, f"LABEL_{index}") for index in range(num_classes))


def _from_zero(names: dict[int, str], num_classes: int) -> dict[int, str]:
    """Return names by logit; some who name all classes count from one."""
    from_one = set(names) == {*range(1, num_classes + 1)}
    return {index - 1: name for index, name in names.items()} if from_one else names


def _timm_labels(config: dict[str, Any], num_classes: int) -> dict[int, str]:
    """Read label names of a timm configuration, in words rather than as WordNet synsets."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    given = config.get("label_names")
    if given:
        described = config.get("label_descriptions") or {}
        pairs = given.items() if isinstance(given, dict) else enumerate(given)
        return _from_zero({int(index): str(described.get(name, name)) for index, name in pairs}, num_classes)
    subset = infer_imagenet_subset({"num_classes": num_classes}) if config else None
    return dict(enumerate(ImageNetInfo(subset).label_descriptions())) if subset else {}
