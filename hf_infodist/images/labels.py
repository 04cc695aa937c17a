"""The classes of images: which column holds them, and what they are called; what is no class is refused."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_infodist.errors import NotFoundError, UnfitError, UsageError

logger = logging.getLogger(__name__)

UNLABELLED = -1
LABEL = "label"
"""What the column of classes is called where nobody has named one: of folders by class, of lists, of ``digits``."""

_LISTED = 8  # columns that are named


@dataclass(frozen=True)
class LabelColumn:
    """Which column of a dataset holds classes.

    Attributes:
        wanted: Its name; None leaves the choice open.
    """

    wanted: str | None = None

    def choose(self, name: str, features: Mapping[str, Any]) -> str:
        """Return the column that is meant.

        Raises:
            NotFoundError: If there is none of that name.
            UnfitError: If no column, or not this one, holds one class for each image.
            UsageError: If several may be meant.
        """
        if self.wanted is not None:
            if self.wanted not in features:
                listed = ", ".join(list(features)[:_LISTED])
                fix = "give one of these by --label"
                raise NotFoundError(f"there is no column {self.wanted!r} in {name}", f"it has {listed}", fix)
            _check(name, self.wanted, features[self.wanted])
            return self.wanted
        declared = [column for column, feature in features.items() if _is_class_label(feature)]
        usual = [column for column in (LABEL, "labels") if column in features]
        found = usual[:1] or declared
        if not found:
            fix = "give the column of classes by --label"
            listed = ", ".join(list(features)[:_LISTED])
            raise UnfitError(f"{name} has no labels", f"none of its columns ({listed}) is one of classes", fix)
        if len(found) > 1:
            raise UsageError(
                f"{name} has several columns of classes", f"they are {', '.join(found)}", f"add --label {found[0]}"
            )
        _check(name, found[0], features[found[0]])
        return found[0]

    def check_unnamed(self, name: str, labels: Sequence[int] | None) -> None:
        """Refuse what has no columns, if it has no classes either, or another column is asked for.

        Raises:
            NotFoundError: If a column is named.
            UnfitError: If there are no classes.
        """
        if labels is None:
            why = "its images are in no folders by class, and no column says what they show"
            fix = "put the images of each class into a folder of its own, or choose a dataset with a column of labels"
            raise UnfitError(f"{name} has no labels", why, fix)
        if self.wanted not in (None, LABEL):
            why = f"its only column of classes is {LABEL!r}"
            raise NotFoundError(f"there is no column {self.wanted!r} in {name}", why, "leave out --label")


def read_classes(
    name: str, column: str, feature: Any, values: Sequence[Any]
) -> tuple[list[int], tuple[str, ...] | None]:
    """Return the class of each row, -1 where there is none, and the names of classes.

    Numbers and texts are classes in their order, ``1, 2, 10`` or ``cat, dog``.

    Args:
        name: Of the dataset.
        column: That was chosen.
        feature: Its type, as `datasets` has it.
        values: What is in its rows.

    Raises:
        UnfitError: If values are no classes.
    """
    if _is_class_label(feature):
        return [UNLABELLED if value is None else value for value in values], tuple(feature.names)
    given = {value for value in values if not _missing(value)}
    if numbers := [value for value in given if isinstance(value, float)]:
        raise _regression(name, column, f"such as {numbers[0]:g}")
    classes = sorted(given)
    number = {value: i for i, value in enumerate(classes)}
    return [number.get(value, UNLABELLED) for value in values], tuple(map(str, classes)) or None


def check_classes(name: str, labels: Sequence[int], names: Sequence[str] | None) -> None:
    """Refuse labels that nothing can be learnt from.

    Args:
        name: Of the dataset.
        labels: Of the sample, all known.
        names: Of classes.

    Raises:
        UnfitError: If there is one class, or there are fewer images than classes.
    """
    there = set(labels)
    classes = len(names) if names else 1 + max(there, default=0)
    if len(there) == 1:
        only = names[next(iter(there))] if names else str(next(iter(there)))
        fix = "choose labels of two classes or more; of a dataset sorted by class, do not --streaming"
        raise UnfitError(f"all {len(labels)} images of {name} are of one class, {only!r:.40}", "it tells nothing", fix)
    if len(labels) < classes:
        what = f"{len(labels)} labelled images of {name} are fewer than its {classes} classes"
        why = "most classes are not seen once, so this is no learning curve"
        raise UnfitError(what, why, f"use -k {classes} or more, or labels of fewer classes")


def check_labelled(name: str, k: int | None, labelled: int) -> None:
    """Refuse images of which none, or fewer than ``k``, have a label."""
    if labelled == 0:
        raise UnfitError(f"no image of {name} has a label", "nothing can be learnt from it", "choose another --label")
    if k is not None and labelled < k:
        why = "each label is priced once, so none can be used twice"
        raise UnfitError(
            f"{name} has {labelled} labelled images, fewer than k = {k}", why, f"use -k {labelled} or less"
        )


def tell_left_out(name: str, left_out: int, rows: int) -> None:
    """Say how many images have no label."""
    if left_out:
        logger.warning("%d of %d images of %s have no label: left out", left_out, rows, name)


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, int) and not isinstance(value, bool) and value < 0)


def _is_class_label(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.ClassLabel)


def _check(name: str, column: str, feature: Any) -> None:
    """Refuse a column by its type, before a large download."""
    import datasets

    if _is_class_label(feature):
        return
    if not isinstance(feature, datasets.Value):
        kind = "an image" if isinstance(feature, datasets.Image) else "several values"
        why = f"each row has {kind} in it, as masks and boxes are: one class for each image is learnt"
        raise UnfitError(f"column {column!r} of {name} holds no classes", why, "give another column by --label")
    if feature.dtype.startswith(("float", "double", "decimal")):
        raise _regression(name, column, f"of type {feature.dtype}")
    if not feature.dtype.startswith(("int", "uint", "bool", "string", "large_string", "null")):
        why = f"its values are of type {feature.dtype}, neither names nor numbers of classes"
        raise UnfitError(f"column {column!r} of {name} holds no classes", why, "give another column by --label")


def _regression(name: str, column: str, what: str) -> UnfitError:
    why = f"its values are numbers {what}, and a codelength is one of classes"
    fix = "cut the values into classes in a new column, or give another column by --label"
    return UnfitError(f"column {column!r} of {name} is a target of regression", why, fix)
