"""A map of Fashion-MNIST networks: whether those of one task or architecture lie together (figure 4).

``infodist study zoo_map --work FOLDER [-k 2000] [--protocol standard] [--seeds 1] [--output FOLDER]``

Thirteen checkpoints: a ResNet, a VGG with BatchNorm and a vision transformer, each trained on all ten classes, on the
five tops, and on the five others; of all classes also a VGG without BatchNorm, another seed of the ResNet, a deeper
and a wider one. Each is measured against each on test images, by the information distance and by every baseline.
All of it is repeated with networks of other seeds, as often as ``--seeds`` says; pictures are of the first.
Checkpoints are kept in the work folder and codelengths in the store, so a rerun computes what is missing.
"""

from dataclasses import replace
from typing import Annotated, Any

import typer

from hf_infodist.analysis.geometry import Geometry
from hf_infodist.processes import one_thread
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.matrix import INFODIST, PairwiseMatrix
from hf_infodist.studies.measures.asked import GIVEN
from hf_infodist.studies.measures.matrices import Relation, all_pairs, finish, triplets
from hf_infodist.studies.networks.data import fashion_mnist, sample
from hf_infodist.studies.networks.zoo import Checkpoint, held_out_accuracy, trained
from hf_infodist.studies.report.options import Folder, Images, Protocol, Seeds, Work, one_of, typed

CLASSES = {"all": tuple(range(10)), "tops": (0, 2, 3, 4, 6), "rest": (1, 5, 7, 8, 9)}
ZOO = (
    *(Checkpoint(f"{network}-{task}", network, task) for network in ("resnet10", "vgg-bn", "vit") for task in CLASSES),
    Checkpoint("vgg-all", "vgg", "all"),
    Checkpoint("resnet10-all-s1", "resnet10", "all", seed=1),
    Checkpoint("resnet18-all", "resnet18", "all"),
    Checkpoint("resnet10-wide-all", "resnet10-wide", "all"),
)
NAMES = [one.name for one in ZOO]
_SEEDS = 2  # in the zoo


def questions(zoo: tuple[Checkpoint, ...]) -> dict[str, tuple[Relation, Relation]]:
    """Return who should be near whom: of an anchor's kind, and a stranger."""

    def task(a: int, b: int) -> bool:
        return zoo[a].task == zoo[b].task

    def family(a: int, b: int) -> bool:
        return zoo[a].family == zoo[b].family

    return {
        "same task": (task, lambda a, b: not task(a, b)),
        "same architecture": (family, lambda a, b: not family(a, b)),
        "task before architecture": (
            lambda a, b: task(a, b) and not family(a, b),
            lambda a, b: family(a, b) and not task(a, b),
        ),
        "architecture, one task": (
            lambda a, b: task(a, b) and family(a, b),
            lambda a, b: task(a, b) and not family(a, b),
        ),
    }


def to_resnets(matrix: PairwiseMatrix, zoo: tuple[Checkpoint, ...]) -> dict[str, float]:
    """Return the mean distance of each network of all classes to the ResNets of all classes, other than itself."""
    of_all = [i for i, one in enumerate(zoo) if one.task == "all"]
    others = {i: [j for j in of_all if zoo[j].family == "resnet" and j != i] for i in of_all}
    return {zoo[i].name: float(matrix.distances[i, resnets].mean()) for i, resnets in others.items() if resnets}


def main(
    context: typer.Context,
    work: Work,
    k: Images = 2000,
    protocol: Protocol = "standard",
    count: Annotated[int, typer.Option("--train", help="images of all classes to train on")] = 24_000,
    epochs: Annotated[int, typer.Option("--epochs", help="passes over them")] = 3,
    only: Annotated[list[str], one_of(NAMES, "--model", what="networks")] = list(NAMES),
    seeds: Seeds = 1,
    output: Folder = None,
) -> None:
    """Train what is missing, measure what is missing, and show how often families lie together."""
    zoo = tuple(one for one in ZOO if one.name in only)
    train, test = fashion_mnist("train").first(count), fashion_mnist("test")
    images = sample("Fashion-MNIST test", test.images, k)
    repeats: list[dict[str, Any]] = []
    first: Any = None
    for repeat in range(seeds):
        folder = work / f"repeat-{repeat}" if repeat else work
        again = [replace(one, seed=one.seed + _SEEDS * repeat) for one in zoo]
        with one_thread("cpu"):
            models = [trained(one, train.only(CLASSES[one.task]), folder, epochs=epochs) for one in again]
            matrices = all_pairs(models, images, PROTOCOLS[protocol])
            accuracies = {
                one.name: held_out_accuracy(model, test.only(CLASSES[one.task]))
                for one, model in zip(zoo, models, strict=True)
            }
        distances = {name: matrix.distances for name, matrix in matrices.items()}
        answers = triplets(distances | {GIVEN: matrices[INFODIST].nats}, questions(zoo))
        triangles = Geometry.of_matrix(matrices[INFODIST]).to_dict()["triangles"]
        more = {"accuracy": accuracies, "mean_nats_to_resnets": to_resnets(matrices[INFODIST], zoo)}
        repeats.append({"triplets": answers, "triangles": triangles, **more})
        first = first or (matrices, answers, more)
    groups = [one.task for one in zoo]
    finish("zoo_map", typed(context), *first, groups=groups, output=output, repeats=repeats)
