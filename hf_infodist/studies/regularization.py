"""Whether regularisation makes networks simpler: their distance from fresh ones, by strength (figure 5).

``infodist study regularization --work FOLDER [--scale small] [--seeds 3] [--output FOLDER]``

Weight decay, rounds of self-distillation, label smoothing and dropout, each with several strengths from none upwards.
All networks are trained for the same number of epochs, while the rate falls to zero. Dropout is on every ReLU of a
network without BatchNorm, the others are on one with. A round of self-distillation is a network with new weights that
learns what the last one says of the training examples. A seed draws other examples, first weights, and fresh networks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from hf_infodist.processes import make_accelerator, one_thread
from hf_infodist.studies.measures.complexity import Complexity, complexity
from hf_infodist.studies.measures.statistics import Interval, mean, spearman
from hf_infodist.studies.networks.fit import Score, Training, log_probabilities, score
from hf_infodist.studies.networks.scale import PAPER, SMALL, Data, Scale, Trained, fresh, load, trained
from hf_infodist.studies.report import output as report
from hf_infodist.studies.report.options import Repeated, typed
from hf_infodist.table import text_table

SCALES = {
    "small": (SMALL, Training(epochs=12, anneal=True)),
    "paper": (PAPER, Training(epochs=60, anneal=True)),
}


@dataclass(frozen=True)
class Kind:
    """A kind of regularisation.

    Attributes:
        name: Which.
        strengths: From none upwards.
        field: Which setting of `Training` it is; None for self-distillation.
        network: What it is tried on.
        rate: Learning rate, as a multiple of the others'.
    """

    name: str
    strengths: tuple[float, ...]
    field: str | None
    network: str = "deep"
    rate: float = 1.0

    def training(self, base: Training, strength: float) -> Training:
        """Return the training of some strength."""
        changes: dict[str, Any] = {self.field: strength} if self.field else {}
        return replace(base, rate=self.rate * base.rate, **changes)


KINDS = (
    Kind("weight decay", (0.0, 1e-3, 1e-2, 1e-1), "weight_decay"),
    Kind("self-distillation", (0.0, 1.0, 2.0, 3.0), None),
    Kind("label smoothing", (0.0, 0.1, 0.3, 0.6), "smoothing"),
    Kind("dropout", (0.0, 0.05, 0.1, 0.2), "dropout", "plain", 2.5),  # that rate leaves the plain network too slow
)


@dataclass(frozen=True, eq=False)
class Point:
    """A trained network of a kind, a strength and a seed."""

    train: Score
    test: Score
    complexity: Complexity


def points(kind: Kind, base: Training, scale: Scale, data: Data, seed: int, work: Path) -> Iterator[Point]:
    """Train, judge and measure a network of each strength."""
    examples, build, device = data.draw(scale.train, seed), scale.networks[kind.network], make_accelerator().device
    taught = examples
    for number, strength in enumerate(kind.strengths):
        first = seed if kind.field else _seed(seed, number)
        network = fresh(build, data.classes, first)
        done = trained(network, taught, kind.training(base, strength), work, seed=first)
        said = log_probabilities(network, examples.images, device)
        taught = taught if kind.field else examples.taught_by(said)
        test = score(log_probabilities(network, data.test.images, device), data.test.targets)
        yield Point(score(said, examples.targets), test, _measured(done, kind, strength, scale, data, seed))


def _seed(seed: int, number: int) -> int:
    """Return the seed of a round of distillation; the first one is the base network, as for other kinds."""
    return seed + 1000 * number


def _measured(done: Trained, kind: Kind, strength: float, scale: Scale, data: Data, seed: int) -> Complexity:
    name = f"{kind.name} {strength:g}"
    return complexity(done, scale.networks[kind.network], data, scale, name=name, seed=seed)


Table = Sequence[dict[str, list[Point]]]  # by seed, then by kind one point per strength


def column(table: Table, kind: Kind, name: str) -> NDArray[np.float64]:
    """Return ``nats``, ``normalised`` or ``accuracy``, ``[seeds, strengths]``."""
    return np.array([[_figure(point, name) for point in seed[kind.name]] for seed in table])


def _figure(point: Point, name: str) -> float:
    return point.test.accuracy if name == "accuracy" else getattr(point.complexity, name)


def trend(kind: Kind, values: NDArray[np.float64]) -> dict[str, Interval]:
    """Return Spearman's correlation with strength, and what the strongest changes, as a share of what there was.

    Args:
        kind: Whose strengths.
        values: ``[seeds, strengths]``.
    """
    strengths = np.broadcast_to(kind.strengths, values.shape)
    return {
        "spearman": spearman(strengths.ravel(), values.ravel()),
        "strongest_over_none": mean(values[:, -1] / values[:, 0]),
    }


def figures(table: Table) -> dict[str, Any]:
    """Return everything that is told of the seeds so far."""
    told: dict[str, Any] = {}
    for kind in KINDS:
        columns = {name: column(table, kind, name) for name in ("nats", "normalised", "accuracy")}
        told[kind.name] = {
            "strengths": kind.strengths,
            "network": kind.network,
            "trend": {name: trend(kind, values) for name, values in columns.items()},
            "mean": {
                name: [mean(values[:, place]) for place in range(values.shape[1])] for name, values in columns.items()
            },
            "per_seed": columns
            | {
                "stderr_nats": [[one.complexity.stderr_nats for one in seed[kind.name]] for seed in table],
                "final_nats": [[one.complexity.final_nats for one in seed[kind.name]] for seed in table],
                "train_loss": [[one.train.loss for one in seed[kind.name]] for seed in table],
                "test_loss": [[one.test.loss for one in seed[kind.name]] for seed in table],
            },
        }
    return {"kinds": told}


def draw(table: Table, output: Path | None) -> None:
    """Draw figure 5, and accuracies below it."""
    from hf_infodist.results.pictures import COLOURS

    figure = report.new_figure(11, 5)
    rows = (("nats", "d_p(f, 0), nats", COLOURS[0]), ("accuracy", "test accuracy", COLOURS[1]))
    grid: Any = figure.subplots(2, len(KINDS), sharex="col", sharey="row")
    for axes_of_row, (name, label, colour) in zip(grid, rows, strict=True):
        axes_of_row[0].set_ylabel(label)
        for axes, kind in zip(axes_of_row, KINDS, strict=True):
            values, places = column(table, kind, name), np.arange(len(kind.strengths))
            axes.plot(places, values.T, "o", color=colour, alpha=0.35, markersize=3)
            spread = values.std(0, ddof=1) if len(table) > 1 else None
            axes.errorbar(places, values.mean(0), spread, fmt="s-", color=colour, markersize=5, elinewidth=0.8)
            axes.set_xticks(places, [f"{strength:g}" for strength in kind.strengths])
    for axes, kind in zip(grid[0], KINDS, strict=True):
        axes.set_title(kind.name + (", no BatchNorm" if kind.network == "plain" else ""), fontsize=10)
    for axes, kind in zip(grid[1], KINDS, strict=True):
        axes.set_xlabel("strength" if kind.field else "rounds")
    report.save(figure, output, "regularization")


def summary(table: Table) -> str:
    """Show nats and accuracy by strength, and the trend of the nats."""
    parts = []
    for kind in KINDS:
        nats, right = column(table, kind, "nats").mean(0), column(table, kind, "accuracy").mean(0)
        change = trend(kind, column(table, kind, "nats"))
        lines = [
            (f"{strength:g}", f"{n:.1f}", f"{a:.3f}")
            for strength, n, a in zip(kind.strengths, nats, right, strict=True)
        ]
        parts += [
            f"{kind.name}: Spearman {change['spearman']}, strongest over none {change['strongest_over_none']}",
            text_table(("strength", "d_p(f, 0), nats", "test accuracy"), lines),
        ]
    return "\n".join(parts)


def main(context: typer.Context, options: Repeated) -> None:
    """Train and measure what is missing, and show how complexity follows strength."""
    scale, base = SCALES[options.scale]
    scale = scale.sized(options.train, options.k)
    settings = {"scale": scale.to_dict(), "training": base, "kinds": KINDS, "seeds": options.seeds}
    table: list[dict[str, list[Point]]] = []
    with one_thread(make_accelerator().device):
        data = load(scale)
        for seed in range(options.seeds):
            table.append({kind.name: list(points(kind, base, scale, data, seed, options.work)) for kind in KINDS})
            report.write("regularization", typed(context), {"settings": settings, **figures(table)}, options.output)
    draw(table, options.output)
    report.show(summary(table))
