"""Whether paired errors of ``infodist nearest`` cover what they promise.

``infodist study paired_errors --work FOLDER [-k 200] [--samples 24] [--shift 0] [--output FOLDER]``

Five networks of Fashion-MNIST are compared on disjoint samples of the training pictures that none has seen. For each
network and each two of the others, how much farther one is than the other is held against the mean over all samples:
the share within one and within two of its standard errors, which should be 68 and 95 %. The same with errors that are
told from the prices of all images, with images exchanged between the samples, so that no price depends on another, and
with unpaired errors. And how often the network that is nearest in the mean is found nearest, or tied with it.
"""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.models.classifier import Classifier
from hf_infodist.processes import one_thread
from hf_infodist.results.codelength import stderr_of_sum
from hf_infodist.results.difference import Difference, difference_of_distances
from hf_infodist.studies.measures.coverage import coverage, exchanged
from hf_infodist.studies.networks.data import Task, fashion_mnist, sample
from hf_infodist.studies.networks.zoo import Checkpoint, trained
from hf_infodist.studies.report.options import Folder, Images, Work, typed
from hf_infodist.studies.report.output import show, write
from hf_infodist.studies.zoo_map import CLASSES
from hf_infodist.table import text_table

ZOO = (
    *(Checkpoint(f"{network}-all", network, "all") for network in ("resnet10", "vgg-bn", "vit")),
    Checkpoint("resnet10-all-s1", "resnet10", "all", seed=1),
    Checkpoint("resnet10-tops", "resnet10", "tops"),
)
_EXCHANGES = 10  # whose coverage is averaged
Prices = NDArray[np.float64]  # [samples, teachers, students, images]
Ways = Sequence[NDArray[np.float64]]
Compare = Callable[[Ways, Ways], Difference]


def main(
    context: typer.Context,
    work: Work,
    k: Images = 200,
    samples: Annotated[int, typer.Option("--samples", help="disjoint ones")] = 24,
    count: Annotated[int, typer.Option("--train", help="pictures to train on, which are in no sample")] = 6000,
    epochs: Annotated[int, typer.Option("--epochs", help="passes over them")] = 3,
    shift: Annotated[int, typer.Option("--shift", help="added to the seeds of the networks")] = 0,
    output: Folder = None,
) -> None:
    """Measure what the folder does not have, and show how much the errors cover."""
    task = fashion_mnist("train")
    learnt, others = task.first(count), task.first(samples * k, skip=count)
    work = work / f"shift-{shift}" if shift else work
    with one_thread("cpu"):
        zoo = [replace(one, seed=one.seed + shift) for one in ZOO]
        models = [trained(one, learnt.only(CLASSES[one.task]), work / "networks", epochs=epochs) for one in zoo]
        prices = np.array([_prices(models, others, k, i, work / "samples") for i in range(samples)])
    rows = covered(prices)
    figures: dict[str, Any] = {
        "networks": [one.name for one in ZOO],
        "coverage": rows,
        "nearest": found_nearest(prices),
    }
    figures["mean_nats"] = prices.sum(3).mean(0)
    write("paired_errors", typed(context), figures, output)
    header = (f"{samples} samples of {k} images", *next(iter(rows.values())))
    show(
        text_table(header, [(name, *(f"{value:.3g}" for value in one.values())) for name, one in rows.items()]),
        "\n".join(f"{name}: {value:.3g}" for name, value in figures["nearest"].items()),
    )


def covered(prices: Prices) -> dict[str, dict[str, float]]:
    """Return what paired errors cover, what they cover with images exchanged, and what unpaired ones cover."""
    many = [coverage(differences(exchanged(prices, seed), difference_of_distances)) for seed in range(_EXCHANGES)]
    return {
        "paired": coverage(differences(prices, difference_of_distances)),
        "paired, from all prices": coverage(differences(prices, from_all)),
        "paired, images exchanged": {name: float(np.mean([one[name] for one in many])) for name in many[0]},
        "unpaired": coverage(differences(prices, unpaired)),
    }


def differences(prices: Prices, compare: Compare) -> list[list[Difference]]:
    """Return how much farther one model is than another from a third, ``[differences][samples]``."""
    models = range(prices.shape[1])
    triples = [(a, b, c) for a in models for b, c in itertools.combinations(models, 2) if a not in (b, c)]
    return [[compare(ways(one, a, b), ways(one, a, c)) for one in prices] for a, b, c in triples]


def from_all(ways: Ways, others: Ways) -> Difference:
    """Return the difference of two distances with the error that is told from the prices of the first images, too."""
    return difference_of_distances(ways, others, new=0)


def unpaired(ways: Ways, others: Ways) -> Difference:
    """Return the difference of two distances with the error that it would have if their images were not the same."""
    larger, other = (max(each, key=math.fsum) for each in (ways, others))
    return Difference(math.fsum(larger - other), math.hypot(stderr_of_sum(larger), stderr_of_sum(other)))


def found_nearest(prices: Prices) -> dict[str, float]:
    """Return how often the model that is nearest to another in the mean is found nearest, or tied with the nearest."""
    nats = prices.sum(3)
    distances = np.maximum(nats, nats.swapaxes(1, 2))  # [samples, models, models]
    models, right, held, ties, smallest = range(nats.shape[1]), [], [], [], []
    for a in models:
        others = [b for b in models if b != a]
        truly = min(others, key=lambda b: distances[:, a, b].mean())
        for one, d in zip(prices, distances[:, a], strict=True):
            first = min(others, key=lambda b: d[b])
            found = {b: difference_of_distances(ways(one, a, b), ways(one, a, first)) for b in others}
            right.append(first == truly)
            held.append(first == truly or found[truly].tied)
            ties.append(sum(found[b].tied for b in others if b != first))
            smallest += [found[b].smallest_nats / d[first] for b in others if b != first]
    return {
        "found nearest": float(np.mean(right)),
        "found nearest or tied": float(np.mean(held)),
        "tied with the nearest, of the others": float(np.mean(ties)) / (len(models) - 2),
        "smallest difference that counts / nearest distance": float(np.median(smallest)),
    }


def ways(prices: NDArray[np.float64], a: int, b: int) -> Ways:
    """Return both directions of two models, nats of each image, ``[images]`` each."""
    return prices[a, b], prices[b, a]


def _prices(models: Sequence[Classifier], task: Task, k: int, number: int, work: Path) -> NDArray[np.float64]:
    """Return what each image of a sample costs of each model given each, from the folder if it has that."""
    file = work / f"{k}-{number}.json"
    if not file.exists():
        matrix = pairwise_distances(models, sample("Fashion-MNIST train", task.images[number * k :][:k], k))
        rows = [[*direction, prices.tolist()] for direction, prices in matrix.image_nats.items()]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".part").write_text(json.dumps(rows))
        file.with_suffix(".part").replace(file)
    found = np.zeros((len(models), len(models), k))
    kept: Any = json.loads(file.read_text())
    for teacher, student, prices in kept:
        found[teacher, student] = prices
    return found
