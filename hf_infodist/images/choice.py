"""Which column, split and configuration of a dataset are meant; what is open or missing is refused."""

import itertools
from collections.abc import Sequence
from typing import Any

from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.images.refusal import in_our_words

ALL = "all"
"""What ``--split`` is for all of them, one after the other."""


def check_enough(name: str, k: int | None, n: int) -> None:
    """Refuse a dataset of ``n`` images if that is none at all, or fewer than ``k``."""
    if n == 0:
        raise UnfitError(f"{name} is empty", "a comparison needs images", "choose another dataset or --split")
    if k is not None and k > n:
        why = "each image is priced once, so none can be used twice"
        raise UnfitError(f"{name} has {n} images, fewer than k = {k}", why, f"use -k {n} or less")


def choose_columns(name: str, data: Any, wanted: str | None) -> tuple[str, str | None, Any]:
    """Return the column of images, that of class labels if any, and all; a stream may have to show its first row."""
    import datasets

    features = data.features
    if not features:
        with in_our_words(name):
            first = list(itertools.islice(data, 1))
        check_enough(name, None, len(first))
        features = datasets.Dataset.from_list(first).features
    labels = [column for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    label = "label" if "label" in labels else next(iter(labels), None)
    return choose_column(name, features, wanted), label, features


def choose_column(name: str, features: Any, wanted: str | None) -> str:
    """Return the column of images that is meant."""
    found, listed = _image_columns(features), ", ".join(features)
    parts = _image_parts(features)
    if wanted in parts or (wanted is None and len(parts) == 1 and not found):
        return wanted or parts[0]
    if parts and not found and wanted is None:
        what, why = f"{name} has several images in a row", f"they are {', '.join(parts)}"
        raise UsageError(what, why, f"add --column {parts[0]}, or another")
    if wanted is not None and wanted not in features:
        raise NotFoundError(f"there is no column {wanted!r} in {name}", f"it has {listed}", "give one by --column")
    if not found or wanted not in (None, *found):
        what = f"{name} has no column of images" if wanted is None else f"column {wanted!r} of {name} holds no images"
        if lists := [column for column, feature in features.items() if _lists_images(feature)]:
            why = f"{', '.join(lists)} holds a list of images in each row, and which of them is meant is open"
            raise UnfitError(what, why, "make a data set with one image a row")
        raise UnfitError(what, f"its columns are {listed}", "choose a dataset of images, or another --column")
    usual = [column for column in (wanted, "image", "img") if column in found]
    if len(found) > 1 and not usual:
        why = f"they are {', '.join(found)}"
        raise UsageError(f"{name} has several columns of images", why, f"add --column {found[0]}, or another")
    return (usual or found)[0]


def _image_parts(features: Any) -> list[str]:
    """Return the images in columns of structures, by names with a dot."""
    import datasets

    inner = {column: feature for column, feature in features.items() if isinstance(feature, dict)}
    return [
        f"{column}.{part}"
        for column, feature in inner.items()
        for part, kind in feature.items()
        if isinstance(kind, datasets.Image)
    ]


def _lists_images(feature: Any) -> bool:
    import datasets

    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    return isinstance(inner, datasets.Image)


def _image_columns(features: Any) -> list[str]:
    """Return columns typed as images, or else those that hold encoded files without saying so."""
    import datasets

    def holds_files(feature: Any) -> bool:
        return (
            {"bytes"} <= feature.keys() <= {"bytes", "path"}
            if isinstance(feature, dict)
            else getattr(feature, "dtype", "").endswith("binary")
        )

    typed = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    return typed or [name for name, feature in features.items() if holds_files(feature)]


def choose_split(name: str, splits: Sequence[str], wanted: str | None) -> str | None:
    """Return the split that is meant, or `ALL`; None where there are none."""
    listed = ", ".join(splits)
    if wanted == ALL and splits and ALL not in splits:
        return ALL if len(splits) > 1 else splits[0]
    if wanted is not None and wanted not in splits:
        why = f"it has the splits {listed}" if splits else f"{name} has no named splits"
        fix = f"use --split {splits[0]}" if splits else "leave out --split"
        raise NotFoundError(f"there is no split {wanted!r} of {name}", why, fix)
    if wanted is None and len(splits) > 1 and "train" not in splits:
        raise UsageError(f"{name} has several splits", f"they are {listed}", f"add --split {splits[0]}, or another")
    return wanted or ("train" if "train" in splits else next(iter(splits), None))


def meant_by(split: str | None, splits: Sequence[str]) -> list[str]:
    """Return the splits that `choose_split` has chosen, one or all."""
    return list(splits) if split == ALL and ALL not in splits else [str(split)]


def no_config(name: str, config: str | None) -> None:
    """Refuse a configuration of what has none."""
    if config is not None:
        why = f"{name} has no configurations"
        raise NotFoundError(f"there is no configuration {config!r} of {name}", why, "leave out --config")
