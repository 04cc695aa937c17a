"""Every measure of a prepared pair, as rows and as text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_infodist.baselines import parameter
from hf_infodist.baselines.measures import MEASURES, Measure, Space
from hf_infodist.baselines.result import BaselineResult, Inapplicable
from hf_infodist.models.heads import match_labels
from hf_infodist.outputs.arrays import Rows, StartLogits
from hf_infodist.pair import Pair
from hf_infodist.table import text_table


def baselines(pair: Pair) -> tuple[BaselineResult, ...]:
    """Return what every measure says of a pair, from the outputs that it has at hand.

    Args:
        pair: From `prepare_pair`.
    """
    return tuple(measure_pair(measure, pair) for measure in MEASURES)


def format_table(results: Sequence[BaselineResult]) -> str:
    """Return the results as text, with an arrow towards the more similar."""
    rows = [
        (
            row.space,
            row.name,
            "n/a" if row.value is None else f"{row.value:.4g}",
            "↑" if row.larger_is_more_similar else "↓",
            row.reason or row.meaning,
        )
        for row in results
    ]
    table = text_table(("space", "measure", "value", "", "meaning"), rows, left=(0, 1, 3, 4))
    return "\n".join([table, "↑ larger is more similar, 1 is the same; ↓ smaller is more similar, 0 is the same"])


def measure_pair(measure: Measure, pair: Pair) -> BaselineResult:
    """Return what one measure says of a pair.

    Args:
        measure: Which.
        pair: From `prepare_pair`.
    """
    value, reason = None, None
    try:
        value = measure.compute(*_both(measure.space, pair))
    except Inapplicable as error:
        reason = str(error)
    return BaselineResult(measure.name, measure.space, value, reason, measure.larger_is_more_similar, measure.meaning)


def _both(space: Space, pair: Pair) -> tuple[Any, Any]:
    """Return what a space holds of A and of B."""
    match space:
        case "parameter":
            return _weights(pair)
        case "representation":
            return _features(pair)
        case "output":
            return _logits(pair)


def _weights(pair: Pair) -> tuple[parameter.Weights, parameter.Weights]:
    a, b = (parameter.read_weights(classifier.network.module) for classifier in (pair.a, pair.b))
    parameter.check_same_layers(a, b)
    return a, b


def _features(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    a, b = (np.asarray(outputs.features[:]) for outputs in (pair.outputs_a, pair.outputs_b))
    for name, features in (("A", a), ("B", b)):
        if not np.isfinite(features).all():
            raise Inapplicable(f"the features of {name} are not finite")
    return a, b


def _logits(pair: Pair) -> tuple[Rows, Rows]:
    """Return logits with A's classes in B's order."""
    if pair.a.num_classes != pair.b.num_classes:
        raise Inapplicable(f"A has {pair.a.num_classes} classes, B has {pair.b.num_classes}")
    rows = match_labels(pair.a.labels, pair.b.labels)
    if rows is None:
        raise Inapplicable("the classes of A and B have different names")
    return StartLogits(pair.outputs_a.logits, rows, pair.b.num_classes), pair.outputs_b.logits
