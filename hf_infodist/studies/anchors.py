"""Anchors of the ruler that the page shows: how far are networks whose relation is known.

``infodist study anchors [--data FOLDER] [-k 400] [-p standard] [--output hf_infodist/results/anchors.json]``

On digits it trains what it needs in a minute or two: the embedded network's recipe with another seed (and so other
training images), and the same with another task, even against odd. With ``--data`` (of ``tests/realdata.py``) it also
measures ResNets trained on Fashion-MNIST: another seed, the other half of the classes.
"""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from hf_infodist.distances.distance import distance_of_pair
from hf_infodist.images.sample import load_images
from hf_infodist.models.demo.train import (
    NAMES,
    SIZE,
    Recipe,
    digit_images,
    fit,
    save_timm,
    split,
    timm_transform,
    tiny_resnet,
)
from hf_infodist.pair import prepare_pair
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.records import package_versions
from hf_infodist.results.words import to_bits
from hf_infodist.studies.report.options import File, Images, Protocol
from hf_infodist.studies.report.output import show_json

RECIPE = Recipe(epochs=25, rate=5e-3, seed=1)
PARITY = ("even", "odd")


def digit_anchors(work: Path) -> list[tuple[str, str, str]]:
    """Train the networks that are needed; return relation and both names."""
    train_digits(work / "seed", NAMES, RECIPE)
    train_digits(work / "parity", PARITY, RECIPE)
    return [
        ("same weights", "demo:cnn", "demo:cnn"),
        ("other seed", "demo:cnn", str(work / "seed")),
        ("other task", "demo:cnn", str(work / "parity")),
        ("random network", "demo:cnn", "random:demo:cnn"),
    ]


def fashion_anchors(data: Path) -> list[tuple[str, str, str]]:
    """Return relation and both names, of networks that ``tests/realdata.py`` trained."""
    whole, half = data / "fashion-all-0", data / "fashion-a"
    return [
        ("same weights", str(whole), str(whole)),
        ("other seed", str(whole), str(data / "fashion-all-1")),
        ("other task", str(half), str(data / "fashion-b")),
        ("random network", str(whole), f"random:{whole}"),
    ]


def train_digits(folder: Path, names: tuple[str, ...], recipe: Recipe) -> None:
    """Train the embedded convolutional network on the digits modulo the number of names, and save it."""
    torch.manual_seed(recipe.seed)
    model, arguments = tiny_resnet(names, size=SIZE, channels=(8, 16, 32, 64))
    images, labels = digit_images()
    pixels = torch.stack([timm_transform(model)(image) for image in images])  # [1797, 3, 32, 32]
    chosen, _ = split(len(images), recipe.seed)
    fit(model, pixels[chosen], labels[chosen] % len(names), recipe)
    save_timm(model, arguments, folder)


def measure_pairs(pairs: list[tuple[str, str, str]], title: str, images: str, k: int, protocol: str) -> dict[str, Any]:
    """Return bits an image of each relation, and under what they were measured."""
    rows = []
    sample = load_images(images, k=k)
    for relation, a, b in pairs:
        result = distance_of_pair(prepare_pair(a, b, sample), PROTOCOLS[protocol])
        bits, error = (to_bits(nats) / k for nats in (result.nats, result.stderr_nats))
        rows.append({"relation": relation, "bits_per_image": bits, "stderr_bits_per_image": error})
        sys.stderr.write(f"{images} {relation}: {bits:.4f} ± {error:.4f} bits an image\n")
    settings = PROTOCOLS[protocol].to_dict()
    what = {"images": Path(images).stem, "title": title, "k": k, "fingerprint": sample.record.fingerprint}
    return what | {"protocol": settings, "anchors": rows, "versions": package_versions()}


def main(
    data: Annotated[Path | None, typer.Option("--data", help="folder that tests/realdata.py has filled")] = None,
    k: Images = 400,
    protocol: Protocol = "standard",
    output: File = None,
) -> None:
    """Measure and print one JSON array."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        figures = [measure_pairs(digit_anchors(Path(work)), "digits", "digits", k, protocol)]
    if data:
        images = str(data / "fashion-test.parquet")
        figures.append(measure_pairs(fashion_anchors(data), "Fashion-MNIST", images, k, protocol))
    show_json(figures, output)
