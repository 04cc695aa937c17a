"""Datasets as points: one network per dataset, and the distances between these (figure 4, top).

``infodist study datasets_map --work FOLDER [-k 1200] [--protocol standard] [--seeds 2] [--output FOLDER]``

Fashion-MNIST, MNIST, scikit-learn's digits, and five questions about the same drawn shapes in the manner of dSprites:
position across and down, size, orientation, form. A network of one small architecture is trained on each, with as many
seeds as asked: two networks of one dataset show what is no difference between datasets.

The paper says which datasets and how many images, but not on which images two functions are compared. Its distance,
equation (9), has one distribution of inputs for both directions. Here it is the even mixture of all pictures, so that
all pairs are compared on the same ones; a network is asked about pictures of other datasets, too.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hf_infodist.models.classifier import Classifier
from hf_infodist.processes import one_thread
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.matrix import INFODIST
from hf_infodist.studies.measures.matrices import Relation, all_pairs, finish, shares_of_variance, triplets
from hf_infodist.studies.networks.data import TASKS, Task, sample
from hf_infodist.studies.networks.zoo import Checkpoint, held_out_accuracy, trained
from hf_infodist.studies.report.options import Folder, Images, Protocol, Work, one_of, typed

KINDS = {"fashion": "clothes", "mnist": "digits", "digits": "digits"}  # all others are shapes
HELD_OUT = 300  # pictures of each dataset that are not trained on


def mixture(tasks: dict[str, Task], k: int) -> np.ndarray:
    """Return ``k`` held-out pictures ``[k, 28, 28]``, as many of each source; the shapes are one source."""
    sources = {name.partition("-")[0]: task for name, task in tasks.items()}
    each = -(-k // len(sources))
    return np.concatenate([task.first(HELD_OUT).images[:each] for task in sources.values()])


def _trained(one: Checkpoint, task: Task, work: Path, steps: int) -> Classifier:
    train = task.first(6000, skip=HELD_OUT)
    epochs = max(1, round(steps * 50 / len(train.labels)))
    return trained(one, train, work, epochs=epochs)


def questions(zoo: tuple[Checkpoint, ...]) -> dict[str, tuple[Relation, Relation]]:
    """Return who should be near whom: of an anchor's kind, and a stranger."""

    def dataset(a: int, b: int) -> bool:
        return zoo[a].task == zoo[b].task

    def kind(a: int, b: int) -> bool:
        return _kind(zoo[a].task) == _kind(zoo[b].task)

    return {
        "same dataset": (dataset, lambda a, b: not dataset(a, b)),
        "same kind": (lambda a, b: kind(a, b) and not dataset(a, b), lambda a, b: not kind(a, b)),
    }


def _kind(task: str) -> str:
    return KINDS.get(task, "shapes")


def main(
    context: typer.Context,
    work: Work,
    k: Images = 1200,
    protocol: Protocol = "standard",
    names: Annotated[list[str], one_of(TASKS, "--task", what="data sets")] = list(TASKS),
    seeds: Annotated[int, typer.Option("--seeds", help="networks of a data set")] = 2,
    steps: Annotated[int, typer.Option("--steps", help="batches of 50 that each network is trained on")] = 400,
    output: Folder = None,
) -> None:
    """Train what is missing, measure what is missing, and show how datasets lie."""
    tasks = {name: TASKS[name]() for name in names}
    zoo = tuple(Checkpoint(f"{name}-s{seed}", "resnet10", name, seed) for name in tasks for seed in range(seeds))
    with one_thread("cpu"):
        models = [_trained(one, tasks[one.task], work, steps) for one in zoo]
        images = sample("mixture of all datasets", mixture(tasks, k), k)
        matrices = all_pairs(models, images, PROTOCOLS[protocol])
        accuracies = {
            one.name: held_out_accuracy(model, tasks[one.task].first(HELD_OUT))
            for one, model in zip(zoo, models, strict=True)
        }
    answers = triplets({name: one.distances for name, one in matrices.items()}, questions(zoo))
    groups = [_kind(one.task) for one in zoo]
    explained = shares_of_variance(matrices[INFODIST].nats, [one.task for one in zoo])
    more = {"accuracy": accuracies, "share of the variance of log codelengths between datasets": explained}
    finish("datasets_map", typed(context), matrices, answers, more, groups=groups, output=output)
