"""An atlas of real checkpoints: what placing one more takes, and whether the numbers are the same.

``infodist study placing --work FOLDER [--data FOLDER] [-k 300] [--output placing.json]``

Sixty-four checkpoints on photographs: two networks of each data set of `datasets_map`, the thirteen of `zoo_map`, two
forests of known descent, fresh networks of twelve architectures of torchvision, and three EfficientNet-Lites. Each of
some is left out in turn and placed among the others, whose weights are not there any more: seconds from its pixels on,
beside those of its forward passes alone, in one run; and its nearest as the atlas tells them, beside what comparing
the two models themselves tells.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from hf_infodist.analysis.atlas import head_of, write_outputs
from hf_infodist.analysis.from_atlas import nearest_in_atlas
from hf_infodist.distances.distance import information_distance
from hf_infodist.images.sample import Images, load_images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.load import load_classifier
from hf_infodist.outputs.forward import compute_outputs
from hf_infodist.pair import Execution
from hf_infodist.processes import one_thread
from hf_infodist.results.atlas.folder import MODELS, Atlas
from hf_infodist.results.distance import InformationDistance
from hf_infodist.studies import datasets_map, zoo_map
from hf_infodist.studies.cost import forward_seconds
from hf_infodist.studies.networks.data import TASKS, fashion_mnist
from hf_infodist.studies.networks.forest import FOREST, SCALES, grow
from hf_infodist.studies.networks.pairs import default_data
from hf_infodist.studies.networks.zoo import Checkpoint, trained
from hf_infodist.studies.report.options import Data, File, Work
from hf_infodist.studies.report.output import show_json

FRESH = (
    *("resnet18", "resnet34", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "squeezenet1_1"),
    *("shufflenet_v2_x1_0", "mnasnet0_5", "efficientnet_b0", "regnet_y_400mf", "googlenet", "densenet121"),
)
PLACED = ("lite0", "random:torchvision:resnet18", "resnet18-all")
STEPS, SHOWN = 400, 5


def checkpoints(work: Path, data: Path) -> Iterator[Classifier]:
    """Yield all of them; what the folder does not have is trained first."""
    for name, load in TASKS.items():
        task = load()
        for seed in range(2):
            checkpoint = Checkpoint(f"{name}-s{seed}", "resnet10", name, seed)
            train = task.first(6000, skip=datasets_map.HELD_OUT)
            yield trained(checkpoint, train, work / "datasets", epochs=max(1, round(STEPS * 50 / len(train.labels))))
    train = fashion_mnist("train").first(24_000)
    for checkpoint in zoo_map.ZOO:
        yield trained(checkpoint, train.only(zoo_map.CLASSES[checkpoint.task]), work / "zoo", epochs=3)
    scale = SCALES["small"]
    for seed in range(2):
        for one in grow(FOREST, scale.load()[0].first(scale.train), work / f"forest-{seed}", scale, seed):
            yield replace(one, id=f"forest-{seed}/{one.id}")
    for name in FRESH:
        yield load_classifier(f"random:torchvision:{name}")
    for number in range(3):
        yield replace(load_classifier(str(data / f"lite{number}")), id=f"lite{number}")


def build(work: Path, data: Path, images: Images) -> tuple[Atlas, float]:
    """Return the atlas, and the seconds that running what it lacked has taken; trained networks are there before."""
    atlas, seconds = Atlas.begin(work / f"atlas-{len(images)}", head_of(images)), 0.0
    with one_thread("cpu"):
        models = list(checkpoints(work, data))
    there = {file.entry.id for file in atlas.files}
    for model in models:
        if model.id not in there:
            started = time.perf_counter()
            with tempfile.TemporaryDirectory() as home:
                write_outputs(atlas.models, model, compute_outputs(model, images, home=Path(home)), images)
            seconds += time.perf_counter() - started
    atlas.write_index()
    return Atlas.open(atlas.folder), seconds


def without(atlas: Atlas, name: str, folder: Path) -> Atlas:
    """Return an atlas of all other models."""
    (folder / MODELS).mkdir(parents=True)
    for file in atlas.files:
        if file.entry.id != name:
            shutil.copy(file.path, folder / MODELS)
    return Atlas.begin(folder, atlas.head)


def place(atlas: Atlas, model: Classifier, images: Images) -> dict[str, Any]:
    """Place a model among the others; return seconds, its forward passes' alone, and who is nearest."""
    with tempfile.TemporaryDirectory() as place:
        others, execution = without(atlas, model.id, Path(place, "atlas")), Execution(home=Path(place, "store"))
        started = time.perf_counter()
        found = nearest_in_atlas(others, model, SHOWN, images=images, execution=execution)
        seconds = time.perf_counter() - started
        pixels = compute_outputs(model, images, home=execution.home).pixels
        alone = forward_seconds(model, pixels)
    return {
        "model": model.id,
        "seconds": seconds,
        "forward_passes_s": alone,
        "ratio": seconds / alone,
        "nearest": [{"model": one.model_b.id, "nats": one.nats, "stderr_nats": one.stderr_nats} for one in found],
    }


def away(found: list[dict[str, Any]], model: Classifier, models: dict[str, Classifier], images: Images) -> list[float]:
    """Return by which share each distance differs from that of the two models themselves."""
    with tempfile.TemporaryDirectory() as home:
        execution = Execution(home=Path(home))
        exact: list[InformationDistance] = [
            information_distance(model, models[one["model"]], images, execution=execution) for one in found
        ]
    return [one["nats"] / it.nats - 1 for one, it in zip(found, exact, strict=True)]


def main(
    work: Work,
    data: Data = default_data(),
    k: Annotated[int, typer.Option("-k", help="photographs")] = 300,
    placed: Annotated[list[str], typer.Option("--placed", help="checkpoint that is left out and placed")] = list(
        PLACED
    ),
    output: File = None,
) -> None:
    """Build the atlas, place some checkpoints, and print figures."""
    images = load_images(str(data / "photos.parquet"), k=k)
    atlas, seconds = build(work, data, images)
    figures: dict[str, Any] = {"k": k, "models": len(atlas.files), "threads": torch.get_num_threads()}
    figures |= {"built_s": seconds, "bytes": sum(file.path.stat().st_size for file in atlas.files), "placed": []}
    with one_thread("cpu"):
        models = {model.id: model for model in checkpoints(work, data)}
    for name in placed:
        told = place(atlas, models[name], images)
        figures["placed"].append(told | {"away": away(told["nearest"], models[name], models, images)})
    show_json(figures, output)
