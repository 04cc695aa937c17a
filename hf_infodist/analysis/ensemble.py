"""Which models to average: of those that are good enough, the most different ones."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from hf_infodist.analysis.averaging import Array, Gain, class_probabilities, hits_and_losses, measure_gain
from hf_infodist.analysis.geometry import check_distances
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.distances.plan import Plan, Status
from hf_infodist.errors import UnfitError, UsageError
from hf_infodist.images.request import DEFAULT_IMAGES, Sample, SampleOptions
from hf_infodist.images.sample import Images, load_images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.load import check_name, load_classifier
from hf_infodist.outputs.forward import compute_outputs
from hf_infodist.pair import Execution
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.matrix import PairwiseMatrix
from hf_infodist.results.shown import Shown
from hf_infodist.results.words import Unit, number
from hf_infodist.table import text_table

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

SCHEMA = "infodist.ensemble/1"
EXHAUSTIVE = 20_000  # choices up to which all are tried


@dataclass(frozen=True)
class Pick:
    """Some models that are as different as can be.

    Attributes:
        members: Which, in order.
        mean_distance: Over their pairs, nats.
        least_distance: The smallest of these.
        exhaustive: Whether all choices were tried; else one was added after the other.
    """

    members: tuple[int, ...]
    mean_distance: float
    least_distance: float
    exhaustive: bool


@dataclass(frozen=True)
class Candidate:
    """A model that was asked about: accuracy and log loss, None without labels, and whether it is good enough."""

    id: str
    accuracy: float | None
    log_loss: float | None
    within: bool


@dataclass(frozen=True, eq=False, repr=False)
class EnsembleChoice(Shown):
    """The models to average, and what there is to say for them.

    Attributes:
        candidates: All that were asked about.
        members: Names of those chosen.
        pick: How different they are.
        within: How much less accurate than the best a member may be.
        labelled: Number of images with a label.
        gain: Of averaging them; None without labels.
        most_accurate: Names of as many of the most accurate ones; empty without labels.
        most_accurate_gain: Of averaging those instead; None without labels.
        matrix: Of those that are good enough.
    """

    candidates: tuple[Candidate, ...]
    members: tuple[str, ...]
    pick: Pick
    within: float
    labelled: int
    gain: Gain | None
    most_accurate: tuple[str, ...]
    most_accurate_gain: Gain | None
    matrix: PairwiseMatrix = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, schema ``infodist.ensemble/1``."""
        return {
            "schema": SCHEMA,
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "within": self.within,
            "labelled": self.labelled,
            "members": list(self.members),
            "mean_distance": self.pick.mean_distance,
            "least_distance": self.pick.least_distance,
            "exhaustive": self.pick.exhaustive,
            "gain": asdict(self.gain) if self.gain else None,
            "most_accurate": list(self.most_accurate),
            "most_accurate_gain": asdict(self.most_accurate_gain) if self.most_accurate_gain else None,
            "matrix": self.matrix.to_dict(),
        }

    @property
    def summary(self) -> str:
        """Who was chosen, on what."""
        return f"{', '.join(self.members)}, {self.matrix.images}"

    def plot(self) -> "Figure":
        """Draw the matrix they were chosen from."""
        return self.matrix.plot()

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row for each candidate."""
        from hf_infodist.results.export import to_table

        rows = [asdict(one) | {"chosen": one.id in self.members} for one in self.candidates]
        return to_table(rows, self.matrix.images)

    def text(self, unit: Unit = Unit.BITS) -> str:
        """Return who was asked about, who was chosen, and what it gains."""
        images, protocol, pick = self.matrix.images, self.matrix.protocol, self.pick
        assert protocol is not None
        lines = [f"{len(self.members)} of {len(self.candidates)} models, {images}, protocol {protocol.name}"]
        rows = [(one.id, _number(one.accuracy), _number(one.log_loss), self._fate(one)) for one in self.candidates]
        lines += [
            text_table(("", "accuracy", "log loss", ""), rows, left=(0, 3), names=[one.id for one in self.candidates])
        ]
        how = (
            "the most different of all choices" if pick.exhaustive else "one after the other, each the most different"
        )
        mean, least = (number(unit.of(nats) / images.k) for nats in (pick.mean_distance, pick.least_distance))
        lines += [f"chosen: {', '.join(self.members)}"]
        lines += [f"  {how}: {mean} {unit} per image apart on average, {least} at least"]
        if self.gain is None:
            return "\n".join([*lines, "the gain is not measured, nor who is good enough: these images have no labels"])
        lines += self.gain.lines("averaged")
        if self.most_accurate_gain and set(self.most_accurate) != set(self.members):
            lines += [f"instead of them the most accurate: {', '.join(self.most_accurate)}"]
            lines += self.most_accurate_gain.lines("averaged")
        return "\n".join(lines)

    def _fate(self, candidate: Candidate) -> str:
        if candidate.id in self.members:
            return "chosen"
        return "" if candidate.within else f"more than {self.within:g} below the best"


def pick_different(distances: Array, n: int) -> Pick:
    """Choose the ``n`` models whose distances have the largest sum; among equals, whose smallest is largest.

    A sum, as that is what averaging gains in squared error: the mean squared difference over all pairs (Krogh &
    Vedelsby 1995). Up to `EXHAUSTIVE` choices all are tried; beyond, the farthest pair is taken, and then whoever
    adds most.

    Args:
        distances: ``[m, m]``, nats.
        n: How many, at least 2 and at most m.

    Raises:
        UsageError: If so many cannot be chosen.
        UnfitError: If a distance is missing.
    """
    m = len(distances)
    if not 2 <= n <= m:
        why = f"there are {m} to choose from, and one alone is no ensemble"
        raise UsageError(f"{n} models cannot be chosen", why, f"use --pick from 2 to {m}")
    d = check_distances(distances)

    def value(members: Sequence[int]) -> tuple[float, float]:
        apart = [float(d[i, j]) for i, j in itertools.combinations(members, 2)]
        return math.fsum(apart), min(apart)

    exhaustive = math.comb(m, n) <= EXHAUSTIVE
    best = max(itertools.combinations(range(m), n if exhaustive else 2), key=value)
    while len(best) < n:
        best = max(((*best, i) for i in range(m) if i not in best), key=value)
    total, least = value(best)
    return Pick(tuple(sorted(best)), total / math.comb(n, 2), least, exhaustive)


def choose_ensemble(
    models: Sequence[str | Classifier],
    n: int,
    images: Any = DEFAULT_IMAGES,
    *,
    within: float = 0.02,
    protocol: str | CodingProtocol = "standard",
    orders: int = 1,
    workers: int = 1,
    execution: Execution | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    on_status: Callable[[Status], None] | None = None,
    setup: Callable[[], None] | None = None,
    **sample: Unpack[SampleOptions],
) -> EnsembleChoice:
    """Choose the most different of the good models, and measure what averaging them gains.

    Accuracy and gain are of the same images, so those of whoever comes out best are a little too high; the distances,
    by which is chosen, know nothing of labels. Without labels all models are good enough, and no gain is measured.

    Args:
        models: Names, or loaded models; those of an atlas will do.
        n: How many to choose.
        images: Name of a dataset, a loaded one, or a `Sample`.
        within: How much less accurate than the best a member may be.
        protocol: Name of a preset, which takes the seed of the sample, or a protocol, which keeps its own.
        orders: In how many orders a preset codes the images.
        workers: Processes of this machine.
        execution: How it is carried out.
        on_plan: As in `pairwise_distances`.
        on_status: Likewise.
        setup: Likewise.
        **sample: How many images, in which order, and the other fields of a `Sample`.

    Raises:
        UsageError: If a setting cannot be meant.
        NotFoundError: If a name leads nowhere.
        UnfitError: If too few models are good enough, or one does not have the classes of the images.
    """
    if not 2 <= n <= len(set(models)):
        why = f"{len(set(models))} different models are named, and one alone is no ensemble"
        raise UsageError(f"{n} models cannot be chosen", why, "use --pick with 2 or more, and name at least as many")
    for model in models:
        if isinstance(model, str):
            check_name(model)
    names = [model if isinstance(model, str) else model.id for model in models]
    wanted, execution = Sample.of(images, **sample), execution or Execution()
    drawn = load_images(wanted)
    labels = np.array(drawn.labels if drawn.labels is not None else [], dtype=np.int64)
    known = np.flatnonzero(labels >= 0)
    probabilities = _all_probabilities(models, drawn, execution)[:, known] if len(known) else None
    candidates = _candidates(names, probabilities, labels[known], within)
    good = [i for i, candidate in enumerate(candidates) if candidate.within]
    if len(good) < n:
        raise _too_few(len(good), candidates, n, within)
    matrix = pairwise_distances(
        [models[i] for i in good],
        wanted,
        protocol=protocol,
        orders=orders,
        workers=workers,
        execution=execution,
        on_plan=on_plan,
        on_status=on_status,
        setup=setup,
    )
    pick = pick_different(matrix.distances, n)
    members = [good[i] for i in pick.members]
    best = sorted(good, key=lambda i: -(candidates[i].accuracy or 0.0))[:n] if probabilities is not None else []
    return EnsembleChoice(
        candidates=candidates,
        members=tuple(names[i] for i in members),
        pick=pick,
        within=within,
        labelled=len(known),
        gain=None if probabilities is None else measure_gain(probabilities[members], labels[known]),
        most_accurate=tuple(names[i] for i in best),
        most_accurate_gain=None if probabilities is None else measure_gain(probabilities[best], labels[known]),
        matrix=matrix,
    )


def _all_probabilities(models: Sequence[str | Classifier], images: Images, execution: Execution) -> Array:
    """Run models on images, or read what earlier runs have left; ``[models, k, C]``."""
    device, probabilities = make_accelerator().device, []
    for model in models:
        classifier = load_classifier(model)
        outputs = compute_outputs(classifier, images, device=device, home=execution.home, chunk=execution.chunk)
        probabilities.append(class_probabilities(outputs.logits, classifier, images))
    return np.stack(probabilities)


def _candidates(
    models: Sequence[str], probabilities: Array | None, labels: np.ndarray, within: float
) -> tuple[Candidate, ...]:
    """Tell how good each model is, and who is good enough."""
    if probabilities is None:
        return tuple(Candidate(model, None, None, True) for model in models)
    hits, losses = (values.mean(1) for values in hits_and_losses(probabilities, labels))
    enough = hits >= hits.max() - within - 1e-12  # round-off
    rows = zip(models, hits.tolist(), losses.tolist(), enough.tolist(), strict=True)
    return tuple(Candidate(*row) for row in rows)


def _too_few(good: int, candidates: Sequence[Candidate], n: int, within: float) -> UnfitError:
    accuracies = sorted(candidate.accuracy or 0.0 for candidate in candidates)
    need = accuracies[-1] - accuracies[-n]
    return UnfitError(
        f"{good} of {len(candidates)} models are accurate enough, fewer than {n}",
        f"a member may be {within:g} less accurate than the best; the {n} best lie within {need:.4f}",
        f"use --within {math.ceil(need * 1e4) / 1e4:g}, or choose fewer by --pick",
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
