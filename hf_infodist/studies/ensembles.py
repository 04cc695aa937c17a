"""Whether the distance between two networks tells how good they are together (figure 6, table 2).

``infodist study ensembles --work FOLDER [--scale small] [--seeds 3] [--output FOLDER]``

Networks with two initialisations are trained on five halves of the same examples, which share 0 to 100 % with the
first, each until its loss on a validation set is the same. Of all pairs of the ten, other than a network and itself:
loss and accuracy of the mean of both outputs on test images, the information distance, and every baseline. A repeat
draws other examples and other initialisations. A network that misses the loss begins again with its examples in
another order.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from hf_infodist.analysis.placing import place_names
from hf_infodist.baselines.measures import MEASURES
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.models.classifier import Classifier
from hf_infodist.processes import make_accelerator, one_thread
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.matrix import INFODIST
from hf_infodist.studies.measures.statistics import Nested, mean, nested
from hf_infodist.studies.networks.fit import Examples, Fitted, Goal, Score, Training, log_probabilities, score
from hf_infodist.studies.networks.scale import PAPER, SMALL, Data, Scale, Trained, classifier, fresh, load, trained
from hf_infodist.studies.report import output as report
from hf_infodist.studies.report.options import Repeated, typed
from hf_infodist.table import text_table

HALVES = {100: "0123", 75: "0124", 50: "0145", 25: "0456", 0: "4567"}  # which eighths, by overlap with the first half
SCALES = {
    "small": (replace(SMALL, train=4000), Training(epochs=10), Goal(0.6, every=96)),  # who gets there does so in seven
    "paper": (PAPER, Training(epochs=100), Goal(2.6, every=8000)),
}
_JUDGED = ("loss", "accuracy", "gain")
_ATTEMPTS = 5


@dataclass(frozen=True)
class Member:
    """One network of a repeat: which initialisation, and which half of the examples."""

    start: int
    half: int

    @property
    def name(self) -> str:
        """Initialisation and overlap with the first half."""
        return f"init{self.start}-half{self.half}"

    def examples(self, pool: Examples) -> Examples:
        """Return its half."""
        eighths = torch.arange(len(pool)).chunk(8)
        return pool.rows(torch.cat([eighths[int(part)] for part in HALVES[self.half]]))

    def condition(self, other: "Member") -> tuple[str, int]:
        """Return whether both began alike, and what share of its examples each has in common with the other, %."""
        return ("same", "different")[self.start != other.start], 25 * len({*HALVES[self.half]} & {*HALVES[other.half]})


MEMBERS = tuple(Member(start, half) for start in range(2) for half in HALVES)
PAIRS = tuple(combinations(range(len(MEMBERS)), 2))
CONDITIONS = tuple(MEMBERS[i].condition(MEMBERS[j]) for i, j in PAIRS)
ROWS = (*(("same", share) for share in (0, 25, 50, 75)), *(("different", share) for share in (0, 25, 50, 75, 100)))


@dataclass(frozen=True, eq=False)
class Repeat:
    """One draw of examples and initialisations.

    Attributes:
        fitted: How the training of each member ended.
        alone: Each member on the test images.
        together: By `_JUDGED`: loss and accuracy of each pair, and by how much its loss is below its members' mean.
        measures: What the distance and each baseline says of each pair; NaN where it does not apply.
    """

    fitted: list[Fitted]
    alone: list[Score]
    together: dict[str, NDArray[np.float64]]
    measures: dict[str, NDArray[np.float64]]


def repeat(scale: Scale, training: Training, goal: Goal, data: Data, seed: int, work: Path) -> Repeat:
    """Train the ten networks of a repeat, and judge and measure all pairs."""
    pool, models, logs, fitted = data.draw(scale.train, seed), [], [], []
    for number, member in enumerate(MEMBERS):
        start = functools.partial(fresh, scale.networks["deep"], data.classes, 2 * seed + member.start)
        order = len(MEMBERS) * seed + number
        one = _until_reached(start, member.examples(pool), training, work, order, goal, data.validation)
        fitted.append(one.fitted)
        logs.append(log_probabilities(one.network, data.test.images, make_accelerator().device))
        models.append(classifier(one.network, member.name, data))
    alone, together = judge(logs, data.test.targets)
    return Repeat(fitted, alone, together, measure_distances(models, scale, data))


def _until_reached(
    start: Callable[[], nn.Module],
    examples: Examples,
    training: Training,
    work: Path,
    order: int,
    goal: Goal,
    watched: Examples,
) -> Trained:
    """Train a network; one that misses the goal, and overfits, begins again with its examples in another order."""
    for attempt in range(_ATTEMPTS):
        seed = order + 1000 * attempt
        one = trained(start(), examples, training, work, seed=seed, goal=goal, watched=watched)
        if one.fitted.reached:
            break
    return one


def judge(logs: Sequence[Tensor], labels: Tensor) -> tuple[list[Score], dict[str, NDArray[np.float64]]]:
    """Score each network alone and each pair by the mean of both outputs.

    Args:
        logs: Log-probabilities of each, ``[N, C]``.
        labels: ``[N]``.
    """
    alone = [score(one, labels) for one in logs]
    pairs = [score((logs[i].exp() + logs[j].exp()).div(2).log(), labels) for i, j in combinations(range(len(logs)), 2)]
    apart = [(alone[i].loss + alone[j].loss) / 2 for i, j in combinations(range(len(logs)), 2)]
    columns = (
        [one.loss for one in pairs],
        [one.accuracy for one in pairs],
        [members - one.loss for members, one in zip(apart, pairs, strict=True)],
    )
    return alone, dict(zip(_JUDGED, map(np.array, columns), strict=True))


def measure_distances(models: Sequence[Classifier], scale: Scale, data: Data) -> dict[str, NDArray[np.float64]]:
    """Return what every measure says of every pair, as a distance."""
    pairs = tuple(np.array(list(combinations(range(len(models)), 2))).T)
    names = [INFODIST, *(f"{one.space}/{one.name}" for one in MEASURES if one.name != "KL(B‖A)")]
    protocol = PROTOCOLS[scale.protocol]
    return {
        name: pairwise_distances(models, data.coded, protocol=protocol, measure=name).distances[pairs]
        for name in names
    }


def by_condition(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each condition of `ROWS`, of a figure ``[…, pairs]``: ``[…, 9]``."""
    places = [[pair for pair, condition in enumerate(CONDITIONS) if condition == row] for row in ROWS]
    return np.stack([values[..., place].mean(-1) for place in places], -1)


def within_initialisation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return figures of the conditions, ``[…, 9]``, less their mean over those that begin alike, or not alike."""
    kinds = np.array([row[0] for row in ROWS])
    means = np.stack([values[..., kinds == kind].mean(-1) for kind in kinds], -1)
    return values - means


def correlations(repeats: Sequence[Repeat]) -> dict[str, dict[str, dict[str, Nested]]]:
    """Correlate every measure with every judgement.

    Over the nine conditions of the table; over the same, but within each kind of initialisation, which leaves the
    overlap; and over all pairs, which are not independent: each network is in nine of them.
    """
    answers: dict[str, dict[str, dict[str, Nested]]] = {}
    for name in repeats[0].measures:
        x = np.stack([one.measures[name] for one in repeats])
        y = {judged: np.stack([one.together[judged] for one in repeats]) for judged in _JUDGED}
        rows_x, rows_y = by_condition(x), {judged: by_condition(values) for judged, values in y.items()}
        less_y = {judged: within_initialisation(values) for judged, values in rows_y.items()}
        over = {"conditions": (rows_x, rows_y), "overlap": (within_initialisation(rows_x), less_y), "pairs": (x, y)}
        answers[name] = {
            what: {judged: nested(values, others[judged]) for judged in _JUDGED}
            for what, (values, others) in over.items()
        }
    return answers


def rows(repeats: Sequence[Repeat]) -> list[dict[str, Any]]:
    """Return table 2: a row per condition, each figure the mean over repeats with Student's interval."""
    columns = {judged: np.stack([by_condition(one.together[judged]) for one in repeats]) for judged in _JUDGED}
    columns["nats"] = np.stack([by_condition(one.measures[INFODIST]) for one in repeats])
    return [
        {"initialisation": row[0], "overlap": row[1], "pairs": CONDITIONS.count(row)}
        | {name: mean(values[:, place]) for name, values in columns.items()}
        for place, row in enumerate(ROWS)
    ]


def figures(repeats: Sequence[Repeat]) -> dict[str, Any]:
    """Return everything that is told of the repeats so far."""
    return {
        "repeats": len(repeats),
        "table": rows(repeats),
        "correlations": correlations(repeats),
        "members": {
            member.name: {
                "validation_loss": [one.fitted[place].loss for one in repeats],
                "reached": [one.fitted[place].reached for one in repeats],
                "examples": [one.fitted[place].examples for one in repeats],
                "test_loss": [one.alone[place].loss for one in repeats],
                "test_accuracy": [one.alone[place].accuracy for one in repeats],
            }
            for place, member in enumerate(MEMBERS)
        },
        "pairs": [[MEMBERS[i].name, MEMBERS[j].name] for i, j in PAIRS],
        "together": {judged: [one.together[judged] for one in repeats] for judged in _JUDGED},
        "measures": {name: [one.measures[name] for one in repeats] for name in repeats[0].measures},
    }


def draw(repeats: Sequence[Repeat], output: Path | None) -> None:
    """Draw figure 6: loss and accuracy of pairs against their distance."""
    from hf_infodist.results.pictures import COLOURS

    figure = report.new_figure(9, 4)
    nats = np.stack([by_condition(one.measures[INFODIST]) for one in repeats])
    for place, (judged, unit) in enumerate((("loss", "test loss, nats"), ("accuracy", "test accuracy"))):
        axes = figure.add_subplot(1, 2, place + 1)
        values = np.stack([by_condition(one.together[judged]) for one in repeats])
        for start, colour, marker in (("same", COLOURS[0], "o"), ("different", COLOURS[1], "s")):
            chosen = [number for number, row in enumerate(ROWS) if row[0] == start]
            axes.plot(nats[:, chosen].T, values[:, chosen].T, marker, color=colour, alpha=0.3, markersize=3)
            label = f"{start} initialisation, overlap"
            axes.plot(nats[:, chosen].mean(0), values[:, chosen].mean(0), marker, color=colour, label=label)
        axes.set(xlabel="information distance, nats", ylabel=f"of both together: {unit}")
        axes.margins(0.08)
        figure.draw_without_rendering()  # limits are known from here on
        means = np.stack([nats.mean(0), values.mean(0)], 1)
        place_names(axes, means, [f"{row[1]} %" for row in ROWS], axes.bbox)
    figure.axes[0].legend(frameon=False, fontsize=8)
    report.save(figure, output, "ensembles")


def summary(repeats: Sequence[Repeat]) -> str:
    """Show table 2, and the correlations: a row per measure."""
    columns = ("loss", "accuracy", "gain", "nats")
    lines = [
        (row["initialisation"], f"{row['overlap']} %", *(f"{row[name].value:.4g}" for name in columns))
        for row in rows(repeats)
    ]
    tables = [text_table(("initialisation", "overlap", *columns), lines)]
    for over, title in (("conditions", "correlation over these nine"), ("overlap", "within an initialisation")):
        answers = correlations(repeats).items()
        lines = [(name, *(str(answer[over][judged].of_means) for judged in _JUDGED)) for name, answer in answers]
        tables.append(text_table((title, *_JUDGED), lines))
    return "\n\n".join(tables)


def main(context: typer.Context, options: Repeated) -> None:
    """Train and measure what is missing, and show what the distance tells of ensembles."""
    scale, training, goal = SCALES[options.scale]
    scale = scale.sized(options.train, options.k)
    settings = {"scale": scale.to_dict(), "training": training, "goal": goal, "seeds": options.seeds}
    repeats: list[Repeat] = []
    with one_thread(make_accelerator().device):
        data = load(scale)
        for seed in range(options.seeds):
            repeats.append(repeat(scale, training, goal, data, seed, options.work))
            report.write("ensembles", typed(context), {"settings": settings, **figures(repeats)}, options.output)
    draw(repeats, options.output)
    report.show(summary(repeats))
