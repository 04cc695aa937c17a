"""Whether the distance from a fresh network tells how well a network generalises (figure 7, table 3).

``infodist study generalization --work FOLDER [--scale small] [--seeds 3] [--output FOLDER]``

The nine configurations of the paper: a default, and eight that differ from it in one respect each. All are trained
until their loss on the training set, without augmentation, is the same. Of each: the gap, which is the loss on test
images less that on the training set; d_p(f, 0) from a fresh network of the same architecture; and every baseline
between the same two. A seed draws other examples, first weights, and fresh networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from hf_infodist.analysis.placing import place_names
from hf_infodist.processes import make_accelerator, one_thread
from hf_infodist.studies.measures.complexity import Complexity, complexity
from hf_infodist.studies.measures.statistics import Interval, Nested, mean, nested
from hf_infodist.studies.networks.fit import Fitted, Goal, Score, Training, log_probabilities, score
from hf_infodist.studies.networks.scale import PAPER, SMALL, Data, Scale, fresh, load, trained
from hf_infodist.studies.report import output as report
from hf_infodist.studies.report.options import Repeated, typed
from hf_infodist.table import text_table

SCALES = {
    "small": (SMALL, Training(epochs=100), 0.1),
    "paper": (
        replace(PAPER, data="uoft-cs/cifar10", test_split="test", train=40_000, validation=0),
        Training(epochs=200),
        0.1,
    ),
}
INFODIST = "infodist"


@dataclass(frozen=True)
class Configuration:
    """A row of table 3: what differs from the default."""

    name: str
    network: str
    training: Training


def configurations(default: Training) -> tuple[Configuration, ...]:
    """Return the nine configurations around a default; a low rate may take twice the epochs."""
    return (
        Configuration("default", "deep", default),
        Configuration("lr=0.0002", "deep", replace(default, rate=2e-4, epochs=2 * default.epochs)),
        Configuration("lr=0.02", "deep", replace(default, rate=2e-2)),
        Configuration("bs=8", "deep", replace(default, batch=8)),
        Configuration("bs=128", "deep", replace(default, batch=128)),
        Configuration("opt=SGD", "deep", replace(default, optimizer="sgd", rate=0.2)),
        Configuration("arch=shallow", "shallow", default),
        Configuration("arch=LeNet", "lenet", default),
        Configuration("data_aug=on", "deep", replace(default, augment=True)),
    )


@dataclass(frozen=True, eq=False)
class Row:
    """A trained network of a configuration and a seed."""

    fitted: Fitted
    train: Score
    test: Score
    complexity: Complexity

    @property
    def gap(self) -> float:
        """Loss on test images less that on the training set, nats."""
        return self.test.loss - self.train.loss

    @property
    def measures(self) -> dict[str, float]:
        """What the distance and every baseline say of it and a fresh network."""
        return {INFODIST: self.complexity.nats, **self.complexity.baselines}


def row(one: Configuration, scale: Scale, goal: Goal, data: Data, seed: int, work: Path) -> Row:
    """Train a configuration, and judge and measure the network."""
    examples, build = data.draw(scale.train, seed), scale.networks[one.network]
    network = fresh(build, data.classes, seed)
    done = trained(network, examples, one.training, work, seed=seed, goal=goal, watched=examples)
    device = make_accelerator().device
    train, test = (
        score(log_probabilities(network, part.images, device), part.targets) for part in (examples, data.test)
    )
    return Row(done.fitted, train, test, complexity(done, build, data, scale, name=one.name, seed=seed))


Table = Sequence[Sequence[Row]]  # by seed and configuration


def column(table: Table, name: str) -> NDArray[np.float64]:
    """Return a measure, or ``gap``, ``[seeds, configurations]``."""
    return np.array([[one.gap if name == "gap" else one.measures[name] for one in seed] for seed in table])


def correlations(table: Table, *, reached: bool = False) -> dict[str, Nested]:
    """Correlate the gap with every measure, over those configurations for which the measure has a value.

    Args:
        table: Of all seeds.
        reached: Whether to leave out configurations of which a seed did not reach the common training loss.
    """
    gap, answers = column(table, "gap"), {}
    usable = np.array([[one.fitted.reached or not reached for one in seed] for seed in table]).all(0)
    for name in table[0][0].measures:
        values = column(table, name)
        there = np.isfinite(values).all(0) & usable
        answers[name] = nested(values[:, there], gap[:, there])
    return answers


def figures(table: Table, names: Sequence[str]) -> dict[str, Any]:
    """Return everything that is told of the seeds so far."""
    per_configuration = zip(*table, strict=True)
    return {
        "table": {
            name: {
                "gap": mean([one.gap for one in seeds]),
                "nats": mean([one.complexity.nats for one in seeds]),
                "normalised": mean([one.complexity.normalised for one in seeds]),
                "per_seed": [
                    {
                        "gap": one.gap,
                        "train": one.train,
                        "test": one.test,
                        "fitted": one.fitted,
                        "stderr_nats": one.complexity.stderr_nats,
                        "final_nats": one.complexity.final_nats,
                        "measures": one.measures,
                    }
                    for one in seeds
                ],
            }
            for name, seeds in zip(names, per_configuration, strict=True)
        },
        "correlations": correlations(table),
        "correlations_of_those_that_reached": correlations(table, reached=True),
    }


def draw(table: Table, names: Sequence[str], output: Path | None) -> None:
    """Draw figure 7: the gap against the distance from a fresh network."""
    from hf_infodist.results.pictures import COLOURS

    figure = report.new_figure(6.5, 4.5)
    axes = figure.add_subplot()
    nats, gap = column(table, INFODIST), column(table, "gap")
    axes.plot(nats, gap, "o", color=COLOURS[5], markersize=3, alpha=0.7)
    spread = {"xerr": nats.std(0, ddof=1), "yerr": gap.std(0, ddof=1)} if len(table) > 1 else {}
    axes.errorbar(
        nats.mean(0), gap.mean(0), **spread, fmt="s", color=COLOURS[0], ecolor="#cccccc", elinewidth=0.8, markersize=5
    )
    axes.set(xlabel="d_p(f, 0), nats", ylabel="generalisation gap, nats")
    axes.margins(0.15)
    figure.draw_without_rendering()
    place_names(axes, np.stack([nats.mean(0), gap.mean(0)], 1), names, axes.bbox)
    report.save(figure, output, "generalization")


def summary(table: Table, names: Sequence[str]) -> str:
    """Show both columns of table 3, and the correlations."""
    lines = []
    for name, seeds in zip(names, zip(*table, strict=True), strict=True):
        gap, nats = mean([one.gap for one in seeds]), mean([one.complexity.nats for one in seeds])
        right = mean([one.test.accuracy for one in seeds]).value
        lines.append((name, str(gap), _nats(nats), f"{right:.3f}"))
    figures = text_table(("configuration", "gap", "d_p(f, 0), nats", "test accuracy"), lines)
    those = correlations(table, reached=True)
    answers = [(name, str(one.of_means), str(those[name].of_means)) for name, one in correlations(table).items()]
    head = ("correlation with the gap", "of all", "of those that reached")
    return f"{figures}\n\n{text_table(head, answers)}"


def _nats(interval: Interval) -> str:
    return f"{interval.value:.0f} [{interval.low:.0f}, {interval.high:.0f}]"


def main(context: typer.Context, options: Repeated) -> None:
    """Train and measure what is missing, and show what the distance tells of generalisation."""
    scale, default, loss = SCALES[options.scale]
    scale = scale.sized(options.train, options.k)
    goal = Goal(loss, every=scale.train // 2)
    all_of_them = configurations(default)
    names = [one.name for one in all_of_them]
    settings = {"scale": scale.to_dict(), "configurations": all_of_them, "goal": goal, "seeds": options.seeds}
    table: list[list[Row]] = []
    with one_thread(make_accelerator().device):
        data = load(scale)
        for seed in range(options.seeds):
            table.append([row(one, scale, goal, data, seed, options.work) for one in all_of_them])
            report.write(
                "generalization", typed(context), {"settings": settings, **figures(table, names)}, options.output
            )
    draw(table, names, options.output)
    report.show(summary(table, names))
