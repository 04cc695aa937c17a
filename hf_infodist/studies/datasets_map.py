"""Datasets as points: one network per dataset, and the distances between these (figure 4, top).

`infodist study datasets_map --work FOLDER [-k 400] [--protocol standard] [--seeds 2] [--output FOLDER]`

Fashion-MNIST, MNIST, scikit-learn's digits, and five questions about the same drawn shapes in the manner of dSprites:
position across and down, size, orientation, form. A network of one small architecture is trained on each, with as many
seeds as asked: two networks of one dataset show what is no difference between datasets.

The paper says which datasets and how many images, but not on which images two functions are compared. Its distance,
equation (9), has one distribution of inputs for both directions. Here it is the even mixture of all pictures, so that
all pairs are compared on the same ones; a network is asked about pictures of other datasets, too.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from hf_infodist.models.classifier import Classifier
from hf_infodist.processes import one_thread
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.studies.measures.matrices import Relation, all_pairs, finish, triplets
from hf_infodist.studies.networks.data import TASKS, Task, sample
from hf_infodist.studies.networks.zoo import Checkpoint, held_out_accuracy, trained

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


def main(argv: list[str] | None = None) -> None:
    """Train what is missing, measure what is missing, and show how datasets lie."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser("infodist study datasets_map", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the checkpoints")
    parser.add_argument("-k", type=int, default=400, help="images of every pair")
    parser.add_argument("--protocol", "-p", choices=PROTOCOLS, default="standard")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=2, help="networks per dataset")
    parser.add_argument("--steps", type=int, default=400, help="batches of 50 that each network is trained on")
    parser.add_argument("--output", type=Path, help="folder that receives datasets_map.json and the pictures")
    args = parser.parse_args(words)
    tasks = {name: TASKS[name]() for name in args.tasks}
    zoo = tuple(Checkpoint(f"{name}-s{seed}", "resnet10", name, seed) for name in tasks for seed in range(args.seeds))
    with one_thread("cpu"):
        models = [_trained(one, tasks[one.task], args.work, args.steps) for one in zoo]
        images = sample("mixture of all datasets", mixture(tasks, args.k), args.k)
        matrices = all_pairs(models, images, PROTOCOLS[args.protocol])
        accuracies = {
            one.name: held_out_accuracy(model, tasks[one.task].first(HELD_OUT))
            for one, model in zip(zoo, models, strict=True)
        }
    answers, groups = triplets(matrices, questions(zoo)), [_kind(one.task) for one in zoo]
    more = {"accuracy": accuracies}
    finish("datasets_map", words, matrices, answers, more, groups=groups, output=args.output)
