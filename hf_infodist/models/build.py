"""Networks from three libraries."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hf_infodist.errors import UnfitError
from hf_infodist.models.source import Source, quiet, refusing

# Building modules


def build(source: Source, seed: int) -> nn.Module:
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
        what = f"{source.id!r} contradicts itself: it has {built} or {described} classes"
        why = "num_classes and model_args in its config.json differ, so its head would stay untrained"
        raise UnfitError(what, why, "correct config.json")
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
        what = f"{source.id!r} is incomplete: {len(untrained)} of its weights are missing"
        why = f"{', '.join(untrained[:3])} would be random; a backbone without its head is not a classifier"
        fix = f"choose a fine-tuned checkpoint, or random:{source.id} if random weights are meant"
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
