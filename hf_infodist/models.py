"""Model name → Classifier: logits, preprocessing, labels and heads, alike for timm, transformers and torchvision."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .errors import UnfitError, UsageError
from .heads import find_heads, replace_heads
from .model_sources import Source, check_classes, check_problem, fetch_weights, locate, quiet, refusing


@dataclass(frozen=True)
class Preprocessing:
    """How a classifier wants to see an image.

    Attributes:
        transform: RGB image → normalised pixels `[3, H, W]`, float32.
        mean: Mean of the normalisation, per channel; zeros if there is none, or none known.
        std: Standard deviation of the normalisation; ones likewise.
        settings: JSON description, `input_size` (`[3, H, W]`, of a square image) in it. Two preprocessings with equal
            settings give equal pixels.
    """

    transform: Callable[[Image.Image], Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    settings: dict[str, Any]


class Network(nn.Module):
    """A module of any library, seen as a function from pixels to logits."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute logits `[N, C]` of pixels `[N, 3, H, W]`."""
        output = self.module(pixel_values=pixels) if hasattr(self.module, "config_class") else self.module(pixels)
        if isinstance(output, Tensor):
            return output
        for name in ("logits", "last_hidden_state"):  # PP-LCNet keeps its logits under the latter
            if isinstance(getattr(output, name, None), Tensor):
                return getattr(output, name)
        return output[0]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained image classifier with everything needed to ask it and to teach it.

    Attributes:
        id: The name it was loaded by.
        library: `timm`, `torchvision`, `transformers` or `torch`.
        revision: Commit of its hub repository, if it has one.
        network: In eval mode, on the CPU, in float32, or float64 where the module is.
        num_classes: Number of logits.
        labels: A name per logit.
        preprocessing: How it wants to see an image.
        heads: Names of the layers of `network` that make the logits.
    """

    id: str
    library: str
    revision: str | None
    network: Network
    num_classes: int
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    heads: tuple[str, ...]

    @cached_property
    def weights_hash(self) -> str:
        """Sha256 of everything that decides the logits: weights, buffers, layers and the settings of layers."""
        digest = hashlib.sha256(_architecture(self.network).encode())
        for name, tensor in self.network.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
        return digest.hexdigest()

    def student(self, num_classes: int, rows: Sequence[int] | None) -> Network:
        """Copy the network for a teacher with other classes; the classifier itself stays as it is.

        Args:
            num_classes: Number of the teacher's classes.
            rows: Row of this head for each of the teacher's classes, from `heads.match_labels`; -1 or None: zeros.

        Returns:
            A copy of the same dtype. Where the rows are those it has, with the very same head.
        """
        network = copy.deepcopy(self.network)
        if not any(parameter.requires_grad for parameter in network.parameters()):
            network.requires_grad_(True)
        if rows is None or tuple(rows) != tuple(range(self.num_classes)) or num_classes != self.num_classes:
            replace_heads(network, self.heads, num_classes, rows)
        return network


def load_classifier(
    name: str | nn.Module | Classifier,
    *,
    transform: Callable[[Image.Image], Tensor] | None = None,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    pickles: bool = True,
) -> Classifier:
    """Load an image classifier.

    Args:
        name: `org/name[@revision]` on the Hub, `timm:NAME`, `torchvision:NAME[@WEIGHTS]`, a local folder,
            `random:NAME` (same architecture, fresh weights), `demo:cnn`, `demo:vit`, or a loaded module.
        transform: RGB image → pixels `[3, H, W]`. Needed for plain modules; elsewhere instead of the model's own.
        labels: A name per class, instead of the model's own.
        seed: Seed of the fresh weights of `random:NAME`.
        pickles: Whether weights that are not safetensors are read, if they hold nothing but tensors.

    Returns:
        The classifier. A `Classifier` is returned as it is; a module is copied.

    Raises:
        UsageError: If the name can mean several things or has no known form.
        NotFoundError: If the name leads nowhere, or to a place that cannot be reached now.
        UnfitError: If it leads to something that is not a whole, safe image classifier.

    Examples:
        >>> load_classifier("random:timm:test_resnet.r160_in1k").num_classes
        1000
    """
    if isinstance(name, Classifier):
        return name
    if isinstance(name, nn.Module):
        source, module = _recognise(name), copy.deepcopy(name).cpu()
    else:
        source = fetch_weights(locate(name, has_transform=transform is not None), pickles=pickles)
        module = _build(source, seed)
    return _describe(source, module, transform, labels)


def check_name(name: str) -> None:
    """Raise what `load_classifier` would raise about a name before it fetches any weights."""
    locate(name, has_transform=True)


def count_parameters(name: str) -> int:
    """Count the weights of a model from its configuration alone: nothing is fetched or allocated for them.

    Args:
        name: As in `load_classifier`.
    """
    source = locate(name, has_transform=True)
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in _build(replace(source, fresh=True), 0).parameters())


# Building modules


def _build(source: Source, seed: int) -> nn.Module:
    """Build a module, with its weights or with fresh ones."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol")  # the file has passed its check
        torch.default_generator.manual_seed(seed)
        return _BUILDERS[source.library](source)


def _build_timm(source: Source) -> nn.Module:
    import timm

    name = f"local-dir:{source.folder}" if source.folder else source.model
    with refusing(source, "its weights do not fit its architecture"):
        module: Any = timm.create_model(name, pretrained=not source.fresh)
    built, described = module.num_classes, module.pretrained_cfg["num_classes"]
    if built != described:
        what = f"{source.id!r} contradicts itself: it has {built} or {described} classes."
        why = "num_classes and model_args in its config.json differ, so its head would stay untrained."
        raise UnfitError(what, why, "Correct config.json.")
    return module


def _build_transformers(source: Source) -> nn.Module:
    import transformers

    assert source.folder is not None
    cls = getattr(transformers, source.model)
    if source.fresh:
        with quiet(), refusing(source, "its configuration cannot be built"):
            return cls(transformers.AutoConfig.from_pretrained(source.folder, trust_remote_code=False))
    options = {"dtype": torch.float32, "output_loading_info": True, "local_files_only": True}
    with quiet(), refusing(source, "its weights do not fit its architecture"):
        module, info = cls.from_pretrained(source.folder, **options)
    keys = {*map(str, info["missing_keys"]), *map(str, info["mismatched_keys"])}
    untrained = sorted(key for key in keys if not key.endswith("num_batches_tracked"))  # a counter says nothing
    if untrained:
        what = f"{source.id!r} is incomplete: {len(untrained)} of its weights are missing."
        why = f"{', '.join(untrained[:3])} would be random; a backbone without its head is not a classifier."
        fix = f"Choose a fine-tuned checkpoint, or random:{source.id} if random weights are meant."
        raise UnfitError(what, why, fix)
    return module


def _build_torchvision(source: Source) -> nn.Module:
    from torchvision import models

    if source.fresh:
        module = models.get_model(source.model, **_fresh_options(source))
    else:
        with refusing(source, "its weights do not fit its architecture"):
            module = models.get_model(source.model, weights=source.weights, progress=False)
    for auxiliary in {"aux1", "aux2", "AuxLogits"} & set(module._modules):  # heads used in training only
        setattr(module, auxiliary, None)
        module.aux_logits = False
    return module


def _fresh_options(source: Source) -> dict[str, Any]:
    """Choose the options that torchvision itself chooses when it loads the weights."""
    meta = source.weights.meta
    options: dict[str, Any] = {"num_classes": len(meta["categories"])}
    if source.model.startswith("vit_"):
        options |= {"image_size": meta["min_size"][0]}
    if source.model in ("inception_v3", "googlenet"):
        options |= {"transform_input": True, "init_weights": True}
    return options


_BUILDERS: dict[str, Callable[[Source], nn.Module]] = {
    "timm": _build_timm,
    "transformers": _build_transformers,
    "torchvision": _build_torchvision,
}


# From a module to a classifier


def _recognise(module: nn.Module) -> Source:
    """Tell which library a loaded module is from."""
    name = type(module).__name__
    if isinstance(getattr(module, "pretrained_cfg", None), dict):
        return Source(name, "timm")
    if hasattr(module, "config_class"):
        check_problem(name, module.config)
        return Source(name, "transformers")
    return Source(name, "torch")


def _describe(source: Source, module: nn.Module, transform: Any, labels: Sequence[str] | None) -> Classifier:
    """Ask a module about one image, and describe what it turns out to be."""
    network = _at_least_float32(Network(module).eval())
    preprocessing = _preprocessing(source, module, transform)
    pixels = _example(source, preprocessing)
    preprocessing = replace(preprocessing, settings=_with_example(preprocessing.settings, pixels))
    example = torch.stack([pixels, pixels]).to(_dtype(network))  # [2, 3, H, W]
    num_classes = _count_classes(source, network, example)
    if labels is not None and len(labels) != num_classes:
        what, why = f"{len(labels)} labels were given for {source.id!r}.", f"It has {num_classes} classes."
        raise UsageError(what, why, "Give one label per class, in the order of the logits.")
    names = tuple(labels) if labels is not None else _labels(source, module, num_classes)
    heads = find_heads(network, example, num_classes)
    return Classifier(source.id, source.library, source.revision, network, num_classes, names, preprocessing, heads)


def _at_least_float32(network: Network) -> Network:
    """Widen half precision, and make dtypes one; float64 stays only if all weights are."""
    dtypes = {parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()}
    return network.double() if dtypes == {torch.float64} else network.float()


def _dtype(network: nn.Module) -> torch.dtype:
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)


def _example(source: Source, preprocessing: Preprocessing) -> Tensor:
    """Preprocess one fixed image of noise, to `[3, H, W]`."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    with refusing(source, "its preprocessing fails"):
        pixels = preprocessing.transform(Image.fromarray(noise))
    if not isinstance(pixels, Tensor) or pixels.ndim != 3 or len(pixels) != 3:
        shape = list(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
        why = f"Its preprocessing makes {shape} of an image, not a tensor [3, height, width]."
        fix = "Choose a model for colour images, or another transform."
        raise UnfitError(f"{source.id!r} does not take RGB images.", why, fix)
    return pixels


def _with_example(settings: dict[str, Any], pixels: Tensor) -> dict[str, Any]:
    """Add the size of images; and of a function, what it does to a fixed one, for code has no other identity."""
    settings = {**settings, "input_size": list(pixels.shape)}
    if settings["library"] == "torch":
        settings["sha256_of_example"] = hashlib.sha256(_bytes(pixels)).hexdigest()
    return settings


def _count_classes(source: Source, network: Network, example: Tensor) -> int:
    """Count the classes of a network that gives sound logits for images."""
    with torch.no_grad(), refusing(source, "it cannot take the images that its preprocessing makes"):
        logits = network(example)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(example):
        shape = list(getattr(logits, "shape", []))
        why = f"For {len(example)} images it returns {shape}, not [images, classes]."
        fix = "Choose a model that returns one vector of logits per image."
        raise UnfitError(f"{source.id!r} is not an image classifier.", why, fix)
    check_classes(source.id, logits.shape[1])
    if not logits.isfinite().all():
        why = "NaN or infinity has no probability."
        fix = "Check its weights; half-precision overflow during training is a common cause."
        raise UnfitError(f"{source.id!r} gives logits that are not finite.", why, fix)
    return logits.shape[1]


def _labels(source: Source, module: Any, num_classes: int) -> tuple[str, ...]:
    """Name the classes as the library does; `LABEL_0`, `LABEL_1`, … where it does not."""
    if source.library == "torchvision":
        names: dict[int, str] = dict(enumerate(source.weights.meta["categories"]))
    elif source.library == "transformers":
        names = {int(index): str(name) for index, name in module.config.id2label.items()}
    else:
        names = _timm_labels(getattr(module, "pretrained_cfg", {}), num_classes)
    return tuple(names.get(index, f"LABEL_{index}") for index in range(num_classes))


def _timm_labels(config: dict[str, Any], num_classes: int) -> dict[int, str]:
    """Read label names of a timm configuration, in words rather than as WordNet synsets."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    given = config.get("label_names")
    if given:
        described = config.get("label_descriptions") or {}
        pairs = given.items() if isinstance(given, dict) else enumerate(given)
        return {int(index): str(described.get(name, name)) for index, name in pairs}
    subset = infer_imagenet_subset({"num_classes": num_classes}) if config else None
    return dict(enumerate(ImageNetInfo(subset).label_descriptions())) if subset else {}


# Preprocessing


@dataclass(frozen=True)
class _Processor:
    """An image processor of transformers as a function from an image to pixels."""

    processor: Any

    def __call__(self, image: Image.Image) -> Tensor:
        return self.processor(image, return_tensors="pt")["pixel_values"][0]


def _preprocessing(source: Source, module: nn.Module, transform: Any) -> Preprocessing:
    """Describe the preprocessing that was given, or else the model's own."""
    if transform is not None and callable(getattr(transform, "preprocess", None)):
        return _of_processor(transform)
    if transform is not None:
        return _of_transform(transform)
    if source.library == "timm":
        return _of_timm(module)
    if source.library == "torchvision":
        return _of_torchvision(source.weights.transforms())
    if source.folder is not None:
        return _of_processor(_read_processor(source))
    why = "Nothing in it says how images are resized and normalised."
    fix = "Pass transform=..., a function from an RGB image to a tensor [3, height, width], or an image processor."
    raise UsageError(f"The module {source.id} comes without preprocessing.", why, fix)


def _read_processor(source: Source) -> Any:
    from transformers import AutoImageProcessor

    with quiet(), refusing(source, "its image processor cannot be read"):
        return AutoImageProcessor.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True)


def _of_timm(module: nn.Module) -> Preprocessing:
    from timm.data import create_transform, resolve_model_data_config

    config = resolve_model_data_config(module)
    transform = create_transform(**config, is_training=False)
    return _normalising(transform, config["mean"], config["std"], {"library": "timm", **config})


def _of_torchvision(transform: Any) -> Preprocessing:
    own = {key: value for key, value in vars(transform).items() if not key.startswith("_") and key != "training"}
    return _normalising(transform, transform.mean, transform.std, {"library": "torchvision", **own})


def _of_processor(processor: Any) -> Preprocessing:
    normalises = getattr(processor, "do_normalize", False)
    mean, std = (processor.image_mean, processor.image_std) if normalises else (0.0, 1.0)
    settings = {"library": "transformers", "class": type(processor).__name__, **processor.to_dict()}
    return _normalising(_Processor(processor), mean, std, settings)


def _of_transform(transform: Callable[[Image.Image], Tensor]) -> Preprocessing:
    last = getattr(transform, "transforms", [transform])[-1]
    settings = {"library": "torch", "transform": _without_addresses(repr(transform))}
    return _normalising(transform, getattr(last, "mean", 0.0), getattr(last, "std", 1.0), settings)


def _normalising(transform: Callable, mean: Any, std: Any, settings: dict[str, Any]) -> Preprocessing:
    plain = json.loads(json.dumps(settings, default=str, sort_keys=True))
    return Preprocessing(transform, _three(mean), _three(std), plain)


def _three(value: Any) -> tuple[float, float, float]:
    """Read a number per channel from a number, a sequence or a tensor."""
    red, green, blue = np.broadcast_to(np.asarray(value, dtype=float), 3).tolist()
    return red, green, blue


# What hashes are made of


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _architecture(network: nn.Module) -> str:
    """Write down layers and their plain settings: numbers of attention heads and the like are in no weight."""
    kinds, hidden = (bool, int, float, str, tuple), ("training", "name_or_path")
    settings = {
        name: {k: v for k, v in vars(m).items() if isinstance(v, kinds) and k[0] != "_" and k not in hidden}
        for name, m in network.named_modules()
    }
    return _without_addresses(f"{network}\n{settings}")


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)
