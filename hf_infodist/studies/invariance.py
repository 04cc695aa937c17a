"""Which measures stay as they are when a network is re-parameterised (figure 1, table 1).

``infodist study invariance --work FOLDER [--scale small] [--seeds 3] [--network plain] [--output FOLDER]``

θ_A and θ_B start from the same random weights and are trained on the two halves of the classes. θ_A is then changed as
appendix B.1 says, and every measure is taken between what it has become and θ_B, on held-out images of all classes:

- scaling: the second layer of each block times c, the first one by 1/c. The function stays.
- neuron swapping: a share c of the units of every layer permuted, those of the penultimate layer too. It stays.
- perturbation: noise of standard deviation c on each weight. The function changes.
- adversarial perturbation: a vector of standard deviation c that moves the penultimate features as far as it can.
- initialisation: θ_A trained from other random weights, or from a network trained on another dataset.
- architecture: θ_A trained with another width or depth.

The networks are ResNets with BatchNorm; the first four are done to ResNets without it (``plain``), too.

A measure m is as invariant as its relative change |m(c) − m| / |m| is small, m being what it says of the unmodified
pair, averaged over the coefficients c of a scenario. That of a similarity is of the value itself, as in the paper. A
measure that says much the same of any two networks is invariant, too: the last column therefore has the mean change as
a share of |m − m'|, m' being what the measure says of θ_A and a network of the same task from other first weights.

Everything is repeated with other seeds: of the first weights, the order of pictures, the noise and the images of the
pairs. Where every seed learns by chance a little more or less, so does |m(c) − m|: the column "seeds first" averages m
over seeds before it takes changes.
"""

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from torch import nn

from hf_infodist.processes import make_accelerator, one_thread
from hf_infodist.studies.measures.changed_by import as_text, change, shown, table
from hf_infodist.studies.measures.compare import (
    INFODIST,
    MEASURES,
    Comparison,
    compare,
    compare_all,
    largest_change_of_logits,
    rounded,
)
from hf_infodist.studies.networks import changes
from hf_infodist.studies.networks import setting as _setting
from hf_infodist.studies.networks.data import Task
from hf_infodist.studies.networks.resnet import Architecture
from hf_infodist.studies.networks.setting import Options, Setting
from hf_infodist.studies.networks.zoo import tensors
from hf_infodist.studies.report import curves as _curves
from hf_infodist.studies.report.curves import Panel
from hf_infodist.studies.report.options import one_of, typed
from hf_infodist.studies.report.output import provenance

FACTORS, SHARES = (0.3, 3.0, 10.0), (0.5, 1.0)  # powers of two would round nothing
_ATTACKED = 2000  # pictures by which adversarial perturbations are chosen
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """One seed: the data, how networks are trained, and the pair that everything is compared with."""

    setting: Setting
    work: Path
    train: Task
    test: Task
    seed: int
    architecture: Architecture

    def half(self, number: int, architecture: Architecture | None = None, start: str = "") -> nn.Module:
        """Return a network trained on one half of the classes.

        Args:
            number: 0 or 1.
            architecture: Its shape, if not that of all others.
            start: ``seed`` for other first weights, or the name of a task on which it is trained first.
        """
        architecture = architecture or self.architecture
        task = _setting.halves(self.train)[number]
        network = architecture.drawn(len(task.classes), self.seed + 1000 * (start == "seed"))
        name = f"{architecture.name}-half{number}{start and '-' + start.rpartition('/')[2]}-s{self.seed}"
        if start not in ("", "seed"):
            self._pretrain(network, start)
        return _setting.trained(name, network, task, self.setting, self.work, seed=self.seed)

    def _pretrain(self, network: nn.Module, start: str) -> None:
        """Train a network on another task, and keep all of it but the head."""
        task = _setting.load_task(start).first(self.setting.train)
        other = self.architecture.drawn(len(task.classes), self.seed)
        name = f"{self.architecture.name}-{start.rpartition('/')[2]}-s{self.seed}"
        other = _setting.trained(name, other, task, self.setting, self.work, seed=self.seed)
        state = {key: tensor for key, tensor in other.state_dict().items() if not key.startswith("fc.")}
        network.load_state_dict(state, strict=False)

    def changed(self, network: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
        """Yield scenario, coefficient and network of everything that θ_A becomes."""
        for factor in FACTORS:
            yield "scaling", f"{factor:g}", changes.scaled(network, factor)
        for share in SHARES:
            yield "neuron swapping", f"{share:g}", changes.swapped(network, share, self.seed)
        for std in self.setting.noise:
            yield "perturbation", f"{std:g}", changes.perturbed(network, std, self.seed)
        pixels, _ = tensors(_setting.halves(self.train)[0].first(_ATTACKED))
        for std in self.setting.attack:
            yield (
                "adversarial perturbation",
                f"{std:g}",
                changes.perturbed_adversarially(network, std, pixels, self.seed),
            )
        if self.architecture.batch_norm:
            yield from self._retrained()

    def _retrained(self) -> Iterator[tuple[str, str, nn.Module]]:
        for start in ("seed", *self.setting.pretraining):
            yield "initialisation", start.rpartition("/")[2], self.half(0, start=start)
        for width in self.setting.widths:
            other = replace(self.architecture, width=width)
            yield "architecture", f"width {width}", self.half(0, other)
        for blocks in self.setting.depths:
            other = replace(self.architecture, blocks=blocks)
            yield "architecture", f"depth {6 * blocks + 2}", self.half(0, other)

    def run(self) -> dict[str, Any]:
        """Measure everything; return JSON types."""
        images = _setting.sample(self.setting, self.test, self.seed)
        tests = _setting.halves(self.test)
        names = [task.classes for task in tests]
        networks = [self.half(number) for number in (0, 1)]
        a, b = (
            _setting.classifier(network, labels, self.test, f"half {number}")
            for number, (network, labels) in enumerate(zip(networks, names, strict=True))
        )
        unmodified = self._row(
            "unmodified", "", networks[0], compare(a, b, images, self.setting.coding), tests[0], 0.0
        )
        other = self.half(0, start="seed")
        twin = _setting.classifier(other, names[0], self.test, "half 0, other first weights")
        same_task = self._row("same task", "", other, compare(twin, a, images, self.setting.coding), tests[0], 0.0)
        changed = list(self.changed(networks[0]))
        models = [
            _setting.classifier(network, names[0], self.test, f"{scenario} {coefficient}")
            for scenario, coefficient, network in changed
        ]
        rows = [
            self._row(*one, found, tests[0], largest_change_of_logits(model, a, images))
            for one, model, found in zip(
                changed, models, compare_all(models, b, images, self.setting.coding), strict=True
            )
        ]
        return {
            "seed": self.seed,
            "network": self.architecture.name,
            "accuracy_b": _setting.held_out_accuracy(networks[1], tests[1]),
            "unmodified": unmodified,
            "same task": same_task,
            "rows": rows,
        }

    def _row(
        self, scenario: str, coefficient: str, network: nn.Module, found: Comparison, test: Task, moved: float
    ) -> dict[str, Any]:
        accuracy = _setting.held_out_accuracy(network, test)
        logger.info(
            "seed %d, %s, %s %s: %.1f nats, accuracy %.3f, logits moved by at most %.2g",
            self.seed, self.architecture.name, scenario, coefficient, found.values[INFODIST], accuracy, moved,
        )  # fmt: skip
        extra = {"accuracy": accuracy, "largest_change_of_logits": rounded(moved)}
        return {"scenario": scenario, "coefficient": coefficient, **extra, **found.to_dict()}


def panels(runs: list[dict[str, Any]]) -> list[Panel]:
    """Return a panel per scenario: each measure as a multiple of what it says of the unmodified pair."""
    first, found = runs[0]["rows"], []
    for scenario in dict.fromkeys(row["scenario"] for row in first):
        places = [place for place, row in enumerate(first) if row["scenario"] == scenario]
        curves = {
            measure: 1
            + np.array([[0, *(change(run["rows"][place], run, measure) for place in places)] for run in runs])
            for measure in MEASURES
        }
        names = ("none", *(first[place]["coefficient"] for place in places))
        xlabel = "" if scenario in ("initialisation", "architecture") else "c"
        found.append(Panel(scenario, xlabel, names, curves))
    return found


def finish(command: str, setting: Setting, kinds: dict[str, list[dict[str, Any]]], output: Path | None) -> str:
    """Write figures and pictures of the seeds so far into a folder; return the tables as text."""
    tables = {name: table(runs) for name, runs in kinds.items() if runs}
    if output:
        output.mkdir(parents=True, exist_ok=True)
        fields = {**provenance(command), "setting": setting.to_dict(), "relative_change": tables}
        (output / "invariance.json").write_text(json.dumps({**fields, "runs": kinds}, indent=1) + "\n")
        for name in tables:
            means = {measure: (shown(cells.get("mean")),) for measure, cells in tables[name].items()}
            figure = _curves.draw_grid(panels(kinds[name]), means, ("mean change",), ylabel="of unmodified", top=2.0)
            _curves.save(figure, output / f"figure1-{name}")
    return "\n\n".join(f"{name}\n{as_text(rows)}" for name, rows in tables.items())


def main(
    context: typer.Context,
    options: Options,
    networks: Annotated[list[str], one_of(("batchnorm", "plain"), "--network", what="with BatchNorm or without")] = [
        "batchnorm",
        "plain",
    ],
) -> None:
    """Train and measure what is missing, seed by seed, and show by how much each measure changes."""
    setting = options.setting()
    train, test = _setting.load_data(setting)
    shapes = {"batchnorm": setting.network}
    if setting.plain:
        shapes["plain"] = replace(setting.network, batch_norm=False)
    shapes = {name: shape for name, shape in shapes.items() if name in networks}
    kinds: dict[str, list[dict[str, Any]]] = {name: [] for name in shapes}
    text = ""
    with one_thread(make_accelerator().device):
        for name, shape in shapes.items():
            for seed in range(options.seeds):
                kinds[name].append(Experiment(setting, options.work, train, test, seed, shape).run())
                text = finish(typed(context), setting, kinds, options.output)
    sys.stdout.write(text + "\n")
