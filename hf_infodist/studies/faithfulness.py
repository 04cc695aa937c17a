"""Whether measures follow what happens to a network: interpolation and training (figures 2, 3, 8, 9).

``infodist study faithfulness --work FOLDER [--scale small] [--seeds 3] [--output FOLDER]``

Interpolation: from θ(c) = (1 − c) θ_A + c θ_B to θ_B, running statistics of BatchNorm mixed like the weights,

- two tasks: θ_A and θ_B start from the same weights and are trained on the two halves of the classes. θ(c) has the
  class names of θ_B throughout, so that at c = 1 both are the same classifier. The distance should fall with c.
- two starts: both are trained on all classes, from different weights. Halfway the network is broken, as its accuracy
  tells: the distance should rise up to where accuracy is lowest, and fall from there.

Training: from the network f_i after i epochs to the initial one, f_0, which should grow with i, and to the final one,
f_n, which should shrink.

Measures that grow with similarity are taken as 1 less their value. Two questions are asked of each measure:

- trend: the share of neighbouring places between which its mean over seeds moves as it should; and of each seed.
- identified: the share of networks whose place is found from the measure alone, as that of the nearest value on the
  mean curve of the other seeds. The place of distance 0 is left out. Guessing finds one of as many as there are left.
"""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray
from torch import nn

from hf_infodist.models.classifier import Classifier
from hf_infodist.processes import make_accelerator, one_thread
from hf_infodist.studies.measures.compare import INFODIST, MEASURES, SIMILARITIES, Comparison, compare_all
from hf_infodist.studies.networks import changes
from hf_infodist.studies.networks import setting as _setting
from hf_infodist.studies.networks.data import Task
from hf_infodist.studies.networks.setting import Options, Setting
from hf_infodist.studies.report import curves as _curves
from hf_infodist.studies.report.curves import Panel
from hf_infodist.studies.report.options import typed
from hf_infodist.studies.report.output import provenance
from hf_infodist.table import text_table

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SCENARIOS = ("two tasks", "two starts", "to the initial network", "to the final network")
logger = logging.getLogger(__name__)
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Experiment:
    """One seed."""

    setting: Setting
    work: Path
    train: Task
    test: Task
    seed: int

    def run(self) -> dict[str, Any]:
        """Measure everything; return JSON types."""
        first, second = _setting.halves(self.train)
        tests = self.test, _setting.halves(self.test)[1]
        a, b = (self._trained(f"half{number}", task, 0) for number, task in enumerate((first, second)))
        two_tasks = self._interpolation("two tasks", a, b, second.classes, tests[1])
        a, b = (self._trained(f"all-{start}", self.train, 1000 * start) for start in (0, 1))
        two_starts = self._interpolation("two starts", a, b, self.train.classes, tests[0])
        return {"seed": self.seed, "scenarios": {**two_tasks, **two_starts, **self._training()}}

    def _trained(self, name: str, task: Task, start: int) -> nn.Module:
        architecture = self.setting.network
        network = architecture.drawn(len(task.classes), self.seed + start)
        name = f"{architecture.name}-{name}-s{self.seed}"
        return _setting.trained(name, network, task, self.setting, self.work, seed=self.seed)

    def _interpolation(
        self, scenario: str, a: nn.Module, b: nn.Module, labels: tuple[str, ...], test: Task
    ) -> dict[str, list[dict[str, Any]]]:
        """Compare θ(c) with θ_B."""
        images = _setting.sample(self.setting, self.test, self.seed)
        goal = _setting.classifier(b, labels, self.test, "θ_B")
        networks = [changes.interpolated(a, b, share) for share in SHARES]
        models = [
            _setting.classifier(network, labels, self.test, f"θ({share:g})")
            for share, network in zip(SHARES, networks, strict=True)
        ]
        comparisons = compare_all(models, goal, images, self.setting.coding)
        return {
            scenario: [
                self._row(scenario, f"{share:g}", _setting.held_out_accuracy(network, test), found)
                for share, network, found in zip(SHARES, networks, comparisons, strict=True)
            ]
        }

    def _training(self) -> dict[str, list[dict[str, Any]]]:
        """Compare the networks of all epochs with the first and the last."""
        network = self.setting.network.drawn(len(self.train.classes), self.seed)
        name, models, accuracies = f"{self.setting.network.name}-progress-s{self.seed}", [], []
        for epoch, after in enumerate(
            _setting.watched(name, network, self.train, self.setting, self.work, seed=self.seed)
        ):
            models.append(_setting.classifier(after, self.train.classes, self.test, f"f_{epoch}"))
            accuracies.append(_setting.held_out_accuracy(after, self.test))
        return {
            scenario: self._against(scenario, models, goal, accuracies)
            for scenario, goal in (("to the initial network", models[0]), ("to the final network", models[-1]))
        }

    def _against(
        self, scenario: str, models: Sequence[Classifier], goal: Classifier, accuracies: Sequence[float]
    ) -> list[dict[str, Any]]:
        images = _setting.sample(self.setting, self.test, self.seed)
        comparisons = compare_all(models, goal, images, self.setting.coding)
        return [
            self._row(scenario, str(epoch), accuracy, found)
            for epoch, (accuracy, found) in enumerate(zip(accuracies, comparisons, strict=True))
        ]

    def _row(self, scenario: str, place: str, accuracy: float, found: Comparison) -> dict[str, Any]:
        nats = found.values[INFODIST]
        logger.info("seed %d, %s, %s: %.1f nats, accuracy %.3f", self.seed, scenario, place, nats, accuracy)
        return {"place": place, "accuracy": accuracy, **found.to_dict()}


def curves(runs: list[dict[str, Any]], scenario: str) -> dict[str, Values]:
    """Return every measure as a distance, ``[seeds, places]``; NaN where it does not apply."""

    def distance(row: dict[str, Any], measure: str) -> float:
        value = row["values"][measure]
        return np.nan if value is None else 1 - value if measure in SIMILARITIES else value

    rows = [run["scenarios"][scenario] for run in runs]
    return {measure: np.array([[distance(row, measure) for row in one] for one in rows]) for measure in MEASURES}


def directions(runs: list[dict[str, Any]], scenario: str) -> Values:
    """Return whether a distance should rise (1) or fall (-1) between neighbouring places, ``[places - 1]``."""
    rows = runs[0]["scenarios"][scenario]
    steps = np.full(len(rows) - 1, 1.0 if scenario == "to the initial network" else -1.0)
    if scenario == "two starts":
        accuracy = np.mean([[row["accuracy"] for row in run["scenarios"][scenario]] for run in runs], axis=0)
        steps[: accuracy.argmin()] = 1.0
    return steps


def right_steps(values: Values, expected: Values) -> float:
    """Return the share of neighbouring places between which values move as they should.

    Args:
        values: ``[places]``.
        expected: 1 or -1, ``[places - 1]``.
    """
    return float((np.sign(np.diff(values)) == expected).mean())


def identified(values: Values) -> float:
    """Return the share of values that are nearest to the mean of the other seeds at their own place.

    Args:
        values: ``[seeds, places]``, two seeds at least.
    """
    seeds, places = values.shape
    hits = 0
    for seed in range(seeds):
        others = np.delete(values, seed, axis=0).mean(0)  # [places]
        hits += int((abs(values[seed][:, None] - others).argmin(1) == np.arange(places)).sum())
    return hits / values.size


def verdicts(runs: list[dict[str, Any]], scenario: str) -> dict[str, dict[str, Any]]:
    """Return trend and identification by measure; those that do not apply are left out."""
    expected, found = directions(runs, scenario), {}
    itself = 0 if scenario == "to the initial network" else -1
    for measure, values in curves(runs, scenario).items():
        if np.isfinite(values).all():
            found[measure] = {
                "right_steps": right_steps(values.mean(0), expected),
                "right_steps_of_seeds": [right_steps(one, expected) for one in values],
                "identified": identified(np.delete(values, itself, axis=1)) if len(runs) > 1 else None,
            }
    return found


def panels(runs: list[dict[str, Any]], scenarios: Sequence[str]) -> list[Panel]:
    """Return a panel per scenario: each measure as a share of the largest value of its mean."""
    found = []
    for scenario in scenarios:
        rows = runs[0]["scenarios"][scenario]
        scaled = {name: values / (values.mean(0).max() or 1.0) for name, values in curves(runs, scenario).items()}
        xlabel = "c" if scenario.startswith("two") else "epoch"
        found.append(Panel(scenario, xlabel, tuple(row["place"] for row in rows), scaled))
    return found


def _numbers(asked: Sequence[dict[str, dict[str, Any]]]) -> dict[str, tuple[str, ...]]:
    """Return right steps, then identification, of each scenario, as texts by measure."""
    return {
        measure: tuple(
            _text(found.get(measure, {}).get(question))
            for question in ("right_steps", "identified")
            for found in asked
        )
        for measure in MEASURES
    }


def _text(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def draw(runs: list[dict[str, Any]], folder: Path) -> None:
    """Write figures 2 and 8 (interpolation), 3 and 9 (training): the paper's measures, then all of them."""
    for numbers, scenarios in (((2, 8), SCENARIOS[:2]), ((3, 9), SCENARIOS[2:])):
        shown, texts = panels(runs, scenarios), _numbers([verdicts(runs, scenario) for scenario in scenarios])
        columns = [f"{question}\n{side}" for question in ("trend", "identified") for side in ("left", "right")]
        for number, rows in zip(numbers, ({"": _curves.PAPER}, None), strict=True):
            figure = _curves.draw_grid(shown, texts, columns, ylabel="share of the largest", top=1.15, rows=rows)
            _curves.save(figure, folder / f"figure{number}")


def as_text(answers: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Show the answers: a row per measure, trend and identification per scenario."""
    lines = []
    for measure in MEASURES:
        cells = [found.get(measure, {}) for found in answers.values()]
        texts = [f"{_text(cell.get('right_steps'))}, {_text(cell.get('identified'))}" for cell in cells]
        lines.append((measure, *texts))
    return text_table(("trend, identified", *answers), lines)


def finish(command: str, setting: Setting, runs: list[dict[str, Any]], output: Path | None) -> str:
    """Write figures and pictures of the seeds so far into a folder; return the answers as text."""
    answers = {scenario: verdicts(runs, scenario) for scenario in SCENARIOS}
    if output:
        output.mkdir(parents=True, exist_ok=True)
        fields = {**provenance(command), "setting": setting.to_dict(), "answers": answers, "runs": runs}
        (output / "faithfulness.json").write_text(json.dumps(fields, indent=1) + "\n")
        draw(runs, output)
    return as_text(answers)


def main(context: typer.Context, options: Options) -> None:
    """Train and measure what is missing, seed by seed, and show which measures follow."""
    setting = options.setting()
    train, test = _setting.load_data(setting)
    runs: list[dict[str, Any]] = []
    text = ""
    with one_thread(make_accelerator().device):
        for seed in range(options.seeds):
            runs.append(Experiment(setting, options.work, train, test, seed).run())
            text = finish(typed(context), setting, runs, options.output)
    sys.stdout.write(text + "\n")
