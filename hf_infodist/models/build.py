"""Networks from three libraries."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from hf_infodist.errors import UnfitError
from hf_infodist.models.folders import has_no_head
from hf_infodist.models.source import Source, quiet, refusing
from hf_infodist.models.weights import prefix_of, weight_files

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
    if built != described and not (source.headless and built == 0):
        what = f"{source.id!r} contradicts itself: it has {built} or {described} classes"
        why = "num_classes and model_args in its config.json differ, so its head would stay untrained"
        raise UnfitError(what, why, "correct config.json")
    return module


def _build_transformers(source: Source) -> nn.Module:
    import transformers

    assert source.folder is not None
    cls = getattr(transformers, source.model)
    bare = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(cls).parameters else {}
    if source.fresh:
        with quiet(), refusing(source, "its configuration cannot be built"):
            config = cls.config_class if has_no_head(source) else transformers.AutoConfig
            return cls(config.from_pretrained(source.folder, trust_remote_code=False), **bare)
    options: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True, "local_files_only": True, **bare}
    options["ignore_mismatched_sizes"] = True  # to say which do not fit
    with quiet(), refusing(source, "its weights do not fit its architecture"):
        module, info = cls.from_pretrained(source.folder, **options)
        if info["missing_keys"] and (prefix := prefix_of(weight_files(source, source.folder))):
            options["key_mapping"] = {f"^{re.escape(prefix)}": ""}
            module, info = cls.from_pretrained(source.folder, **options)
    _check_sizes(source, module, info["mismatched_keys"])
    keys = {key for key in map(str, info["missing_keys"]) if not (has_no_head(source) and "pooler" in key)}
    untrained = sorted(key for key in keys if not key.endswith("num_batches_tracked"))  # a counter says nothing
    if untrained:
        what = f"{source.id!r} is incomplete: {len(untrained)} of its weights are missing"
        why = f"{', '.join(untrained[:3])} would be random; a backbone without its head is not a classifier"
        fix = f"choose a fine-tuned checkpoint, or random:{source.id} if random weights are meant"
        raise UnfitError(what, why, fix)
    return module


def _check_sizes(source: Source, module: Any, mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Refuse weights of other shapes than the configuration asks for; a head of other classes is the usual case."""
    for name, saved, wanted in sorted(mismatched):
        there, meant = f"{name} is {list(saved)} in its weights", f"{list(wanted)} by its config.json"
        if saved[1:] == wanted[1:] and wanted[0] == module.config.num_labels:
            there, meant = f"its weights have {saved[0]} classes", f"its config.json names {wanted[0]}"
        what = f"{source.id!r} contradicts itself: {there}, {meant}"
        raise UnfitError(what, "what does not fit would stay untrained", "correct id2label or sizes in config.json")


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
