"""From a name or a module to a classifier."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hf_infodist.errors import UnfitError, UsageError
from hf_infodist.models.build import build
from hf_infodist.models.classifier import Classifier, GreyNetwork, Network, bytes_of, channels_of
from hf_infodist.models.folders import check_classes, check_problem
from hf_infodist.models.headless import Tower
from hf_infodist.models.heads import find_heads
from hf_infodist.models.labels import labels_of
from hf_infodist.models.names import locate
from hf_infodist.models.preprocessing import Preprocessing, grey, preprocessing_of
from hf_infodist.models.source import Source, refusing
from hf_infodist.models.weights import fetch_weights


@dataclass(frozen=True, eq=False)
class Renamed:
    """A model whose classes go by other names than its own.

    Attributes:
        model: As `load_classifier` takes it.
        labels: A name per class.
    """

    model: str | os.PathLike[str] | nn.Module | Classifier | Renamed
    labels: tuple[str, ...]


def load_classifier(
    name: str | os.PathLike[str] | nn.Module | Classifier | Renamed,
    *,
    transform: Callable[[Image.Image], Tensor] | None = None,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    pickles: bool = True,
    headless: bool = False,
) -> Classifier:
    """Load an image classifier.

    Args:
        name: ``org/name[@revision]`` on the Hub, ``timm:NAME``, ``torchvision:NAME[@WEIGHTS]``, a local folder,
            ``random:NAME`` (same architecture, fresh weights), ``demo:cnn``, ``demo:vit``, a loaded module, or one of
            these `Renamed`.
        transform: RGB image → pixels ``[3, H, W]``. Needed for plain modules; elsewhere instead of the model's own.
        labels: A name per class, instead of the model's own.
        seed: Seed of the fresh weights of ``random:NAME``.
        pickles: Whether weights that are not safetensors are read, if they hold nothing but tensors.
        headless: Whether a network without classes will do: its features are then in the place of logits, it has no
            labels and no heads.

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
    if isinstance(name, Renamed):
        return load_classifier(name.model, pickles=pickles).renamed(name.labels)
    if isinstance(name, nn.Module):
        name = _unwrapped(name)
        source, module = replace(_recognise(name), headless=headless), _copied(name).cpu()
    else:
        name = text_of(name)
        source = fetch_weights(locate(name, has_transform=transform is not None, headless=headless), pickles=pickles)
        module = build(source, seed)
    return _describe(source, module, transform, labels)


def text_of(name: Any) -> str:
    """Return a name, or a path, as text.

    Raises:
        UsageError: If it is neither.
    """
    if isinstance(name, str | os.PathLike):
        return os.fsdecode(name)
    what = f"no model can be loaded from a {type(name).__name__}"
    raise UsageError(what, "a model is a name, a path, a module or a Classifier", "pass one of these")


def check_name(name: Any, *, headless: bool = False) -> None:
    """Raise what `load_classifier` would raise about a name before it fetches any weights; of a module, nothing."""
    if not isinstance(name, Classifier | nn.Module):
        locate(text_of(name), has_transform=True, headless=headless)


def count_parameters(name: str, *, headless: bool = False) -> int:
    """Count the weights of a model from its configuration alone: nothing is fetched or allocated for them.

    Args:
        name: As in `load_classifier`.
        headless: As in `load_classifier`.
    """
    source = locate(name, has_transform=True, headless=headless)
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(replace(source, fresh=True), 0).parameters())


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


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return what `torch.compile`, DataParallel and the like were given: it knows its preprocessing and its labels."""
    from torch.nn.parallel import DistributedDataParallel

    while True:
        if isinstance(module, nn.DataParallel | DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


def _copied(module: nn.Module) -> nn.Module:
    """Copy a module; what it has computed from its parameters, as weight_norm does, is no part of any graph."""
    computed = [
        value
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    return copy.deepcopy(module, {id(value): value.detach().clone() for value in computed})


def _describe(source: Source, module: nn.Module, transform: Any, labels: Sequence[str] | None) -> Classifier:
    """Ask a module about one image, and describe what it turns out to be."""
    bare = source.headless and _is_bare(source, module)
    preprocessing, kind = preprocessing_of(source, module, transform), Network
    if bare:
        module = Tower(module)
    channels = channels_of(module)
    if channels not in (None, 3) and not _takes_colours(source, module, preprocessing):
        if channels != 1:
            raise _no_colours(source, f"it takes images of {channels} channels")
        preprocessing, kind = grey(preprocessing), GreyNetwork
    pixels = _example(source, preprocessing)
    network = _at_least_float32(kind(module).eval())
    preprocessing = replace(preprocessing, settings=_with_example(preprocessing.settings, pixels))
    example = torch.stack([pixels, pixels]).to(_dtype(network))  # [2, 3, H, W]
    num_classes = _count_classes(source, network, example)
    if labels is not None and len(labels) != num_classes:
        what, why = f"{len(labels)} labels were given for {source.id!r}", f"it has {num_classes} classes"
        raise UsageError(what, why, "give one label per class, in the order of the logits")
    names = tuple(labels or (() if bare else labels_of(source, module, num_classes)))
    heads = () if bare else find_heads(network, example, num_classes)
    return Classifier(source.id, source.library, source.revision, network, num_classes, names, preprocessing, heads)


def _is_bare(source: Source, module: nn.Module) -> bool:
    """Tell whether a module has no head: those of timm say so, of transformers it is in the name of the class."""
    if source.library == "transformers":
        return type(module).__name__.endswith("Model")
    return source.library == "timm" and getattr(module, "num_classes", None) == 0


def _at_least_float32(network: Network) -> Network:
    """Widen half precision, and make dtypes one; float64 stays only if all weights are."""
    dtypes = {parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()}
    return network.double() if dtypes == {torch.float64} else network.float()


def _dtype(network: nn.Module) -> torch.dtype:
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)


def _example(source: Source, preprocessing: Preprocessing) -> Tensor:
    """Preprocess one fixed image of noise, to ``[3, H, W]``."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    with refusing(source, "its preprocessing fails"):
        pixels = preprocessing.transform(Image.fromarray(noise))
    if not isinstance(pixels, Tensor) or pixels.ndim != 3 or len(pixels) != 3:
        shape = list(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
        raise _no_colours(source, f"its preprocessing makes {shape} of an image, not a tensor [3, height, width]")
    return pixels


def _takes_colours(source: Source, module: nn.Module, preprocessing: Preprocessing) -> bool:
    """Try it: a first convolution of other channels may see what was made of colours, as in TResNet."""
    network = _at_least_float32(Network(module).eval())
    try:
        with torch.no_grad():
            network(_example(source, preprocessing)[None].to(_dtype(network)))
    except Exception:  # whatever a network raises of a shape
        return False
    return True


def _no_colours(source: Source, why: str) -> UnfitError:
    fix = "choose a model for colour or grey images, or another transform"
    return UnfitError(f"{source.id!r} does not take RGB images", why, fix)


def _with_example(settings: dict[str, Any], pixels: Tensor) -> dict[str, Any]:
    """Add the size of images; and of a function, what it does to a fixed one, for code has no other identity."""
    settings = {**settings, "input_size": list(pixels.shape)}
    if settings["library"] == "torch":
        settings["sha256_of_example"] = hashlib.sha256(bytes_of(pixels)).hexdigest()
    return settings


def _count_classes(source: Source, network: Network, example: Tensor) -> int:
    """Count the classes of a network that gives sound logits for images."""
    with torch.no_grad(), refusing(source, "it cannot take the images that its preprocessing makes"):
        logits = network(example)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(example):
        shape = list(getattr(logits, "shape", []))
        why = f"for {len(example)} images it returns {shape}, not [images, classes]"
        fix = "choose a model that returns one vector of logits per image"
        raise UnfitError(f"{source.id!r} is not an image classifier", why, fix)
    check_classes(source.id, logits.shape[1])
    if not logits.isfinite().all():
        why = "NaN or infinity has no probability"
        fix = "check its weights; half-precision overflow during training is a common cause"
        raise UnfitError(f"{source.id!r} gives logits that are not finite", why, fix)
    return logits.shape[1]
