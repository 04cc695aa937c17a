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
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_infodist.errors import UsageError
from hf_infodist.processes import make_accelerator, one_thread
from hf_infodist.protocol import CODING_VERSION, PROTOCOLS
from hf_infodist.studies.measures import populations as measures
from hf_infodist.studies.measures.known import Known, known, table
from hf_infodist.studies.measures.populations import Measured
from hf_infodist.studies.networks import populations
from hf_infodist.studies.networks.populations import GROUPED, SETTINGS, Kind, Origin, Setting
from hf_infodist.studies.networks.scale import Data, classifier, load
from hf_infodist.studies.report.options import Examples, Folder, OtherImages, Scale, Work, typed
from hf_infodist.studies.report.output import show, write

_JUDGED = 2000  # test pictures of the accuracies of groups


@dataclass(frozen=True)
class Task:
    """What one process does.

    Attributes:
        scale: Name of a scale.
        architecture: Name of a network of that scale.
        train: Pictures to train on, instead of the scale's.
        k: Images of every pair, instead of the scale's.
        chosen: Places of the levels that make groups, instead of all.
        members: Networks of each group, and runs, instead of the scale's.
        work: Folder of what is kept.
    """

    scale: str
    architecture: str
    train: int | None
    k: int | None
    chosen: tuple[int, ...]
    members: int | None
    work: Path

    @property
    def setting(self) -> Setting:
        """Sizes of everything."""
        setting = SETTINGS[self.scale]
        chosen, members = self.chosen or setting.chosen, self.members or setting.members
        return replace(setting, scale=setting.scale.sized(self.train, self.k), chosen=chosen, members=members)


def measure(task: Task) -> Known:
    """Train and measure what is missing of an architecture, and return all of it."""
    setting, found = task.setting, {}
    with one_thread(make_accelerator().device):
        data = load(setting.scale)
        found["seeds"] = _measured(task, "clean", populations.seeds(setting), data)
        for kind in GROUPED:
            found[kind] = _measured(task, kind, populations.groups(setting, kind), data)
        runs = [_measured(task, "clean", populations.run(setting, seed), data) for seed in range(setting.members)]
    return Known(found["seeds"], {kind: found[kind] for kind in GROUPED}, runs)


def _measured(task: Task, kind: Kind, origins: Sequence[Origin], data: Data) -> Measured:
    """Return a population, read from its file if the folder has it."""
    setting = task.setting
    decides = (setting.scale.to_dict(), setting.training, PROTOCOLS[setting.scale.protocol], CODING_VERSION, origins)
    digest = hashlib.sha256(repr(decides).encode()).hexdigest()[:12]
    file = task.work / task.architecture / f"{kind}-{len(origins)}-{digest}.json"
    if not file.exists():
        _measure(task, kind, origins, data).write(file)
    return Measured.read(file)


def _measure(task: Task, kind: Kind, origins: Sequence[Origin], data: Data) -> Measured:
    setting, classes = task.setting, len(data.classes)
    networks = [populations.network(one, task.architecture, data, setting, task.work) for one in origins]
    models = [classifier(network, one.name, data) for network, one in zip(networks, origins, strict=True)]
    tests = [measures.first(data.test, _JUDGED)] * 2
    if kind == "shortcuts":
        tests = [populations.with_dots(tests[0], classes, share, 0) for share in (0, 1)]
    right, helped = ([measures.accuracy(network, test) for network in networks] for test in tests)
    same_data = kind == "clean" and origins[0].epochs is None
    return Measured(
        [one.level if one.epochs is None else float(one.epochs) for one in origins],
        right,
        helped,
        measures.truths(networks, data.test) if same_data else {},
        measures.distances(models, populations.pictures(kind, data), setting.scale.protocol),
    )


def measure_all(tasks: Sequence[Task], workers: int) -> list[Known]:
    """Measure architectures, several at a time if there are several workers."""
    if min(workers, len(tasks)) < 2:
        return [measure(task) for task in tasks]
    with ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn")) as pool:
        return list(pool.map(measure, tasks))


def main(
    context: typer.Context,
    work: Work,
    scale_name: Scale = "small",
    architectures: Annotated[list[str] | None, typer.Option("--architecture", help="networks of the scale")] = None,
    chosen: Annotated[
        list[int] | None, typer.Option("--group", min=0, max=4, help="places of the levels that are compared, from 0")
    ] = None,
    members: Annotated[int | None, typer.Option("--seeds", help="networks of each group, and runs")] = None,
    train: Examples = None,
    k: OtherImages = None,
    workers: Annotated[int, typer.Option("--workers", help="processes, of which each takes an architecture")] = 1,
    output: Folder = None,
) -> None:
    """Train what is missing, measure what is missing, and show how each measure does in each test."""
    names = _architectures(scale_name, architectures)
    tasks = [Task(scale_name, name, train, k, tuple(sorted({*(chosen or ())})), members, work) for name in names]
    found = dict(zip(names, measure_all(tasks, workers), strict=True))
    columns = known(found)
    figures: dict[str, Any] = {"setting": tasks[0].setting.to_dict(), "architectures": names}
    figures |= {"tests": columns, "networks": {name: one.facts() for name, one in found.items()}}
    write("resi", typed(context), figures, output)
    if output:
        from hf_infodist.studies.report.resi_plot import draw

        draw(columns, output)
    show(*(table(columns, what) for what in ("score", "ahead")))


def _architectures(scale_name: str, names: list[str] | None) -> list[str]:
    """Return the networks that are asked for; by default all of the scale."""
    there = list(SETTINGS[scale_name].scale.networks)
    if wrong := [name for name in names or () if name not in there]:
        raise UsageError(
            f"there is no network {wrong[0]!r}",
            f"those of this scale are {', '.join(there)}",
            f"type --architecture {there[0]}",
        )
    return names or there
