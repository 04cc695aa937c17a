"""What training makes of a device: nats in each precision, images a second, seconds of 10 000 images.

``infodist study device [-k K] [--images N] [--rounds N] [--data FOLDER] [--part NAME …] [--output FILE]``

1. ``precision``: nats of the same comparisons, of two pairs of Fashion-MNIST too where their folder is given, under
   protocols that train: on the CPU in float32 and in bf16, and on the GPU in both; under ``standard`` on both.
2. ``trainer``: gradient images a second of a learner of ``thorough``, of a bare loop with PyTorch's Adam and with its
   fused one, and of the learner's step replayed as a CUDA graph; batches of 8 and 32; all as shares of what the device
   makes of a product of large matrices.
3. ``together``: several learners of one network, a process each, against one.
4. ``stacked``: gradients of small fully connected networks, stacked by ``torch.func``, against one after the other.
5. ``compare``: two networks under ``standard`` and ``thorough``, everything counted.
6. ``matrix``: eleven networks under ``standard``; under ``thorough`` by the directions of ``compare``, not run.

On a GPU the networks are ResNet-50, ViT-B/16 and ConvNeXt-T at 224 pixels, with random weights, and k is 10 000;
without one they are small, k is 64, and the JSON says what was left out. Images of 2 to 6 are noise.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image

from hf_infodist.coding.trainer import train_codelength
from hf_infodist.distances.cost import estimate_cost
from hf_infodist.distances.distance import information_distance
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import DIRECTIONS, Execution, Pair, prepare_pair
from hf_infodist.processes import one_thread
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.studies.measures.speed import Racers, captured_rate, peak_flops, stacked_rates, together_rates
from hf_infodist.studies.report.options import File, one_of
from hf_infodist.studies.report.output import show_json

_LARGE = ("random:torchvision:resnet50", "random:timm:vit_base_patch16_224", "random:timm:convnext_tiny")
_MORE = (  # to make eleven
    *("torchvision:resnet18", "torchvision:resnet34", "torchvision:resnet101", "timm:vit_small_patch16_224"),
    *("timm:swin_tiny_patch4_window7_224", "timm:regnety_032", "timm:efficientnet_b0", "timm:mobilenetv3_large_100"),
)
_SMALL = ("random:demo:cnn", "random:demo:vit")
_FASHION = (("fashion-a", "fashion-b"), ("fashion-all-0", "fashion-all-1"))  # another half, another seed
_WIDTHS = (32, 128, 512)
_TRAINED = ("thorough", "single", "paper")
_NEEDS_GPU = (
    "nats of CUDA in float32 and bf16",
    "ResNet-50, ViT-B/16 and ConvNeXt-T, against the arithmetic of the card",
    "a step as a CUDA graph",
    "several learners on one card",
    "compare and eleven models at k = 10 000",
)


@dataclass(frozen=True)
class Setting:
    """What is measured where.

    Attributes:
        gpu: Whether there is one.
        k: Images of each comparison.
        images: Of a block that is learnt.
        rounds: How often learner and loop are timed.
        data: Folder that tests/realdata.py has filled, if it is there.
    """

    gpu: bool
    k: int
    images: int
    rounds: int
    data: Path | None = None

    @property
    def device(self) -> torch.device:
        """Where most of it is measured."""
        return torch.device("cuda" if self.gpu else "cpu")

    @property
    def cast(self) -> Callable[[], AbstractContextManager]:
        """The precision in which students are trained there."""
        return partial(torch.autocast, "cuda", torch.bfloat16) if self.gpu else nullcontext

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks that are trained."""
        return _LARGE if self.gpu else _SMALL


def noise(k: int) -> list[Image.Image]:
    """Return smooth coloured noise, 64 × 64."""
    coarse = np.random.default_rng(0).integers(0, 256, (k, 8, 8, 3), dtype=np.uint8)
    return [Image.fromarray(array).resize((64, 64), Image.Resampling.BILINEAR) for array in coarse]


def precision(setting: Setting) -> dict[str, Any]:
    """Return nats, and their standard errors, of both directions, by pair, protocol and precision."""
    pairs, k = [("demo:cnn", "demo:vit", "digits")], min(setting.k, 500)
    if setting.data:
        pictures = f"{setting.data}/fashion-test.parquet"
        pairs += [(f"{setting.data}/{a}", f"{setting.data}/{b}", pictures) for a, b in _FASHION]
    named = {f"{Path(a).name}, {Path(b).name}": prepare_pair(a, b, images, k=k) for a, b, images in pairs}
    return {"k": k} | {name: _in_each_precision(pair, setting) for name, pair in named.items()}


def _in_each_precision(pair: Pair, setting: Setting) -> dict[str, dict[str, Any]]:
    figures: dict[str, dict[str, Any]] = {}
    for kind in ("cpu", "cuda") if setting.gpu else ("cpu",):
        for mixed in ("float32", "bf16"):
            for name in _TRAINED if mixed == "bf16" else ("standard", *_TRAINED):
                where: Any = _accelerator(kind, mixed)
                codes = [train_codelength(pair, way, PROTOCOLS[name], accelerator=where) for way in DIRECTIONS]
                rows = {way: (code.nats, code.stderr_nats) for way, code in zip(DIRECTIONS, codes, strict=True)}
                figures.setdefault(name, {})[f"{kind} {mixed}"] = rows
    return figures


def _accelerator(kind: str, mixed: str) -> SimpleNamespace:
    """Return what the trainer asks of Accelerate, of which one process cannot have two that differ."""
    cast = partial(torch.autocast, kind, torch.bfloat16, enabled=mixed == "bf16")
    return SimpleNamespace(device=torch.device(kind), autocast=cast, mixed_precision=mixed)


def trainer(setting: Setting) -> dict[str, Any]:
    """Return gradient images a second, and shares of the arithmetic of the device, by network and batch."""
    dtype, side = (torch.bfloat16, 8192) if setting.gpu else (torch.float32, 512)
    with one_thread(setting.device):
        peak = peak_flops(setting.device, dtype, side)
        figures: dict[str, Any] = {"peak_flops": peak, "peak_precision": str(dtype).removeprefix("torch.")}
        for name in setting.networks:
            figures[name] = {batch: _race(name, batch, setting, peak) for batch in (8, 32)}
    return figures


def _race(name: str, batch: int, setting: Setting, peak: float) -> dict[str, float]:
    classifier, protocol = load_classifier(name), replace(PROTOCOLS["thorough"], batch=batch)
    flops = estimate_cost([classifier], 1, protocol, setting.device).models[0].training_flops
    racers = Racers.of(classifier, setting.images, protocol, setting.device, setting.cast)
    learner, bare, fused = racers.rates(setting.rounds)
    figures = {"flops_per_image": float(flops), "learner": learner, "bare": bare, "bare_fused": fused}
    if setting.gpu:
        figures["captured"] = captured_rate(racers)
    ratios = {f"learner_to_{name}": learner / figures[name] for name in ("bare", "bare_fused")}
    rates = {name: figures[name] for name in ("learner", "captured") if name in figures}
    return figures | ratios | {f"{name}_share_of_peak": rate * flops / peak for name, rate in rates.items()}


def together(setting: Setting) -> dict[str, Any]:
    """Return gradient images a second of one learner and of several at once, by network."""
    figures: dict[str, Any] = {"learners": 4 if setting.gpu else 2}
    for name in setting.networks:
        one, all_ = together_rates(name, figures["learners"], setting.images, setting.device, setting.gpu)
        figures[name] = {"one": one, "together": all_, "ratio": all_ / one}
    return figures


def stacked(setting: Setting) -> dict[str, Any]:
    """Return gradients a second of as many networks as ``thorough`` trains, by their width, and the ratio."""
    learners, figures = sum(one.trained for one in PROTOCOLS["thorough"].learners), {}
    with one_thread(setting.device):
        for width in _WIDTHS:
            alone, stack = stacked_rates(width, learners, setting.device, setting.rounds)
            figures[f"width {width}"] = {"one after the other": alone, "stacked": stack, "ratio": stack / alone}
    return {"learners": learners, **figures}


def compare(setting: Setting) -> dict[str, Any]:
    """Return the seconds of one comparison of two networks, from an empty store on."""
    (a, b, *_), pictures = setting.networks, noise(setting.k)
    figures: dict[str, Any] = {"k": setting.k, "models": (a, b)}
    for protocol in ("standard", "thorough"):
        with tempfile.TemporaryDirectory() as home:
            started, execution = time.perf_counter(), Execution(home=Path(home))
            found = information_distance(a, b, pictures, protocol=protocol, execution=execution, k=setting.k)
            seconds = time.perf_counter() - started
        codes = found.a_given_b.seconds, found.b_given_a.seconds
        figures[protocol] = {"seconds": seconds, "coding_seconds": codes, "precision": found.device}
    return figures


def matrix(setting: Setting, thorough_direction: float | None = None) -> dict[str, Any]:
    """Return the seconds of a matrix under ``standard``, and what one under ``thorough`` is to take.

    Args:
        setting: Where.
        thorough_direction: Seconds of a direction under ``thorough``, if they are known.
    """
    models = (*_LARGE, *(f"random:{name}" for name in _MORE)) if setting.gpu else (*_SMALL, "demo:cnn", "demo:vit")
    with tempfile.TemporaryDirectory() as home:
        started = time.perf_counter()
        pairwise_distances(models, noise(setting.k), execution=Execution(home=Path(home)), k=setting.k)
        seconds = time.perf_counter() - started
    directions = len(models) * (len(models) - 1)
    figures = {"k": setting.k, "models": len(models), "directions": directions, "standard_seconds": seconds}
    if thorough_direction is not None:
        figures["thorough_seconds_expected"] = seconds + directions * thorough_direction
    return figures


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    part.__name__: part for part in (precision, trainer, together, stacked, compare, matrix)
}


def measure(setting: Setting, parts: Sequence[str]) -> dict[str, Any]:
    """Return the figures of some parts; one that fails says why, and stops no other."""
    figures: dict[str, Any] = {}
    for name in (name for name in PARTS if name in parts):
        try:
            coding = figures.get("compare", {}).get("thorough", {}).get("coding_seconds")
            more = {"thorough_direction": sum(coding) / 2} if coding and name == "matrix" else {}
            figures[name] = PARTS[name](setting, **more)
        except (RuntimeError, ValueError, OSError) as error:
            figures[name] = {"failed": str(error)}
    return figures


def main(
    k: Annotated[int | None, typer.Option("-k", help="images of every comparison")] = None,
    images: Annotated[int | None, typer.Option("--images", help="images of a block that is learnt")] = None,
    rounds: Annotated[int, typer.Option("--rounds", help="how often learner and loop are timed")] = 3,
    data: Annotated[Path | None, typer.Option("--data", help="folder that tests/realdata.py has filled")] = None,
    parts: Annotated[list[str], one_of(PARTS, "--part", what="which, instead of all")] = list(PARTS),
    output: File = None,
) -> None:
    """Measure and print."""
    gpu = torch.cuda.is_available()
    setting = Setting(gpu, k or (10_000 if gpu else 64), images or (512 if gpu else 32), rounds, data)
    where = torch.cuda.get_device_name() if gpu else f"CPU, {torch.backends.cpu.get_cpu_capability()}"
    figures = {"device": where, "torch": torch.__version__, **measure(setting, parts)}
    show_json(figures if gpu else figures | {"not_measured_without_a_gpu": _NEEDS_GPU}, output)
