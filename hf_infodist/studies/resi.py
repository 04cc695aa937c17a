"""ReSi's tests of similarity measures, for whole models (Klabunde et al. 2024, arXiv 2408.00531).

``infodist study resi --work FOLDER [--scale small|paper] [--architecture NAME …] [--workers 2] [--output FOLDER]``

Measures of similarity are asked what is known of networks, each architecture for itself:

- accuracy, output: ten networks that differ in the seed alone. Spearman's correlation of the distance of a pair with
  the difference of their accuracies, and with their Jensen-Shannon divergence and disagreement, on all test pictures.
  The measures themselves see other pictures, so that those of outputs are not compared with themselves.
- labels: five groups of five networks, of whose training labels a growing share is drawn anew.
- shortcuts: five groups, of whose training pictures a growing share has a dot in the colour of the class, all others
  in that of any class. Pairs are compared on pictures whose dots say nothing.
- augmentation: five groups, whose training pictures get growing noise, drawn anew in each epoch.
- run: in place of ReSi's sixth test, by which layers of one network should be the less alike the farther apart they
  are. A distance of whole models says nothing of layers. Checkpoints of one run take their place: of those after 0, 1,
  2, 4 and 8 epochs, the farther along the run should be the farther away. Training may wander, so 1 is no must.

In groups, pairs within should be nearer than pairs across. Scores as in ReSi, of each group and averaged: the area
under the precision-recall curve (AUPRC), of the pairs that have a network in the group, and conformity, how often a
pair within is nearer than one across. No two networks have first weights, order or random labels in common. Intervals:
95 % by a bootstrap that draws networks from each group, and of runs whole runs; means over architectures.

Networks and what was measured of them are kept in the work folder, codelengths in the store: a rerun computes what is
missing.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from hf_infodist.errors import UsageError
from hf_infodist.processes import make_accelerator, one_thread
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.studies.measures import populations as measures
from hf_infodist.studies.measures.known import Known, known, table
from hf_infodist.studies.measures.populations import Measured
from hf_infodist.studies.networks import populations
from hf_infodist.studies.networks.populations import GROUPED, SETTINGS, Kind, Origin, Setting
from hf_infodist.studies.networks.scale import Data, classifier, load
from hf_infodist.studies.report.options import Repeated, Seeds, one_of, typed
from hf_infodist.studies.report.output import show, write

TESTS = ("seeds", *GROUPED, "run")
_JUDGED = 2000  # test pictures of the accuracies of groups


@dataclass(frozen=True)
class Options(Repeated):
    """What is measured.

    Attributes:
        seeds: Networks of each group, and runs.
        architectures: Networks of the scale; all if None.
        tests: Of `TESTS`; all if None.
        groups: Places of the levels that make groups, from 0; all if None.
        workers: Processes, of which each takes an architecture.
    """

    seeds: Seeds = 5
    architectures: Annotated[list[str] | None, typer.Option("--architecture", help="networks of the scale")] = None
    tests: Annotated[list[str] | None, one_of(TESTS, "--test", what="tests")] = None
    groups: Annotated[list[int] | None, typer.Option("--group", min=0, max=4, help="places of levels, from 0")] = None
    workers: Annotated[int, typer.Option("--workers", help="processes, each for an architecture")] = 1

    @property
    def setting(self) -> Setting:
        """Sizes of everything."""
        setting = SETTINGS[self.scale]
        chosen = tuple(sorted({*self.groups})) if self.groups else setting.chosen
        scale = setting.scale.sized(self.train, self.k)
        return replace(setting, scale=scale, chosen=chosen, members=self.seeds)

    def named(self) -> list[str]:
        """Return the architectures that are asked for.

        Raises:
            UsageError: If the scale does not have one of them.
        """
        there = list(SETTINGS[self.scale].scale.networks)
        if wrong := [name for name in self.architectures or () if name not in there]:
            raise UsageError(
                f"there is no network {wrong[0]!r}",
                f"those of this scale are {', '.join(there)}",
                f"type --architecture {there[0]}",
            )
        return self.architectures or there


def measure(options: Options, architecture: str) -> Known:
    """Train and measure what is missing of an architecture, and return all of it."""
    setting, tests = options.setting, options.tests or TESTS
    with one_thread(make_accelerator().device):
        data = load(setting.scale)
        take = partial(_measured, setting, architecture, data, options.work / architecture)
        seeds = take("clean", populations.seeds(setting)) if "seeds" in tests else None
        groups: dict[str, Measured] = {
            kind: take(kind, populations.groups(setting, kind)) for kind in GROUPED if kind in tests
        }
        numbers = range(setting.members if "run" in tests else 0)
        return Known(seeds, groups, [take("clean", populations.run(setting, number)) for number in numbers])


def _measured(
    setting: Setting, architecture: str, data: Data, folder: Path, kind: Kind, origins: Sequence[Origin]
) -> Measured:
    """Return a population, read from its file if the folder has it."""
    protocol = PROTOCOLS[setting.scale.protocol]
    decides = (setting.scale.to_dict(), setting.training, protocol, protocol.coding, origins)
    digest = hashlib.sha256(repr(decides).encode()).hexdigest()[:12]
    file = folder / f"{kind}-{len(origins)}-{digest}.json"
    if not file.exists():
        networks = [populations.network(one, architecture, data, setting, folder) for one in origins]
        _measure(setting, data, kind, origins, networks).write(file)
    return Measured.read(file)


def _measure(
    setting: Setting, data: Data, kind: Kind, origins: Sequence[Origin], networks: Sequence[nn.Module]
) -> Measured:
    models = [classifier(network, one.name, data) for network, one in zip(networks, origins, strict=True)]
    tests = [measures.first(data.test, _JUDGED)] * 2
    if kind == "shortcuts":
        tests = [populations.with_dots(tests[0], len(data.classes), share, 0) for share in (0, 1)]
    right, helped = ([measures.accuracy(network, test) for network in networks] for test in tests)
    same_data = kind == "clean" and origins[0].epochs is None
    return Measured(
        [one.level if one.epochs is None else float(one.epochs) for one in origins],
        right,
        helped,
        measures.truths(networks, data.test) if same_data else {},
        measures.distances(models, populations.pictures(kind, data), setting.scale.protocol),
    )


def measure_all(options: Options) -> dict[str, Known]:
    """Measure architectures, several at a time if there are several workers."""
    names = options.named()
    one, workers = partial(measure, options), min(options.workers, len(names))
    if workers < 2:
        return {name: one(name) for name in names}
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def main(context: typer.Context, options: Options) -> None:
    """Train what is missing, measure what is missing, and show how each measure does in each test."""
    found = measure_all(options)
    columns, output = known(found), options.output
    figures: dict[str, Any] = {"setting": options.setting.to_dict(), "tests": columns}
    figures["networks"] = {name: one.facts() for name, one in found.items()}
    write("resi", typed(context), figures, output)
    if output:
        from hf_infodist.studies.report.resi_plot import draw

        draw(columns, output)
    show(*(table(columns, what) for what in ("score", "ahead")))
