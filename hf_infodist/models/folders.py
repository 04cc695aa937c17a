"""Folders in the layouts of timm and transformers."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_infodist.errors import NotFoundError, UnfitError
from hf_infodist.models.source import FORMS, Source, near, quiet, refusing

PROCESSOR_FILES = ["preprocessor_config.json", "processor_config.json"]
ADAPTER = "adapter_config.json"
_IN_CONFIG = "TimmWrapperForImageClassification"  # keeps its preprocessing in config.json
_TOWERS = {"vit_mae": "ViTModel"}  # a masked autoencoder hides patches at random; its encoder is a plain ViT


def check_classes(id: str, num_classes: int) -> None:
    """Refuse a model with fewer than two classes."""
    if num_classes < 2:
        why = "one class carries no information" if num_classes == 1 else "it only computes features"
        raise UnfitError(f"{id!r} has {num_classes} classes", why, "choose a classifier with at least two classes")


def check_problem(id: str, config: Any) -> None:
    """Refuse a configuration of transformers whose outputs were not trained as one softmax."""
    problem = getattr(config, "problem_type", None)
    if problem in ("multi_label_classification", "regression"):
        why = "its outputs are not one distribution over classes"
        fix = "choose a classifier whose classes exclude each other"
        raise UnfitError(f"{id!r} was made for {problem.replace('_', ' ')}", why, fix)


# Folders in the layouts of timm and transformers


def in_folder(source: Source) -> Source:
    """Let a folder's config.json decide the library, and check the configuration."""
    config = _read_config(source)
    if "auto_map" in config:
        why = "its config.json has an auto_map, and code from repositories is never run"
        fix = "load it yourself and pass the module: load_classifier(module, transform=...)"
        raise UnfitError(f"{source.id!r} needs code from its repository", why, fix)
    if "model_type" in config:
        return _check_transformers(replace(source, library="transformers"), config)
    if "architecture" in config:
        return _check_timm(replace(source, library="timm"), config)
    why = "its config.json names neither an architecture (timm) nor a model_type (transformers)"
    fix = "save it with timm.models.save_for_hf or with save_pretrained of transformers"
    raise UnfitError(f"{source.id!r} is in no known layout", why, fix)


def _read_config(source: Source) -> dict[str, Any]:
    assert source.folder is not None
    if not os.path.isdir(source.folder) and not source.repo:
        raise NotFoundError(
            f"there is no folder {str(source.folder)!r}", "the name is a path", f"check it, or {FORMS}"
        )
    try:
        config = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (source.folder / ADAPTER).is_file():
            raise _only_an_adapter(source, source.folder / ADAPTER) from None
        why = "without it nothing says which architecture the weights belong to; ONNX exports often lack it"
        fix = "choose a repository or folder that timm or transformers has saved"
        raise UnfitError(f"{source.id!r} has no config.json", why, fix) from None
    except ValueError as error:
        why = f"it is not JSON: {error}"
        raise UnfitError(f"{source.id!r} has a broken config.json", why, "save or download it anew") from None
    return config if isinstance(config, dict) else {}


def _only_an_adapter(source: Source, file: Path) -> UnfitError:
    """Say that a repository holds what is added to a model, and to which."""
    try:
        base = (
            json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
            or "a model that it does not name"
        )
    except (ValueError, AttributeError):
        base = "a model that it does not name"
    why = f"it changes {base}, and has no weights of its own"
    fix = "load both with peft, merge_and_unload() them, and pass the module or save_pretrained() it"
    return UnfitError(f"{source.id!r} is an adapter", why, fix)


def _check_timm(source: Source, config: dict[str, Any]) -> Source:
    import timm

    architecture = config["architecture"]
    if not timm.is_model(architecture):
        nearest = near(architecture, timm.list_models())
        what = f"{source.id!r} has the architecture {architecture!r}, which timm {timm.__version__} does not know"
        why = f"the nearest one it knows is {nearest[0]}" if nearest else "nothing it knows has a name like this"
        raise UnfitError(what, why, "upgrade timm, or correct config.json")
    settings = {**(config.get("pretrained_cfg") or {}), **config, **(config.get("model_args") or {})}
    if "num_classes" in settings and not source.headless:
        check_classes(source.id, settings["num_classes"])
        if source.repo.startswith("timm/"):
            check_embedding(source.id, settings["num_classes"])
    return source


def check_embedding(id: str, num_classes: int) -> None:
    """Refuse those of timm's own models whose outputs are coordinates shared with a text encoder."""
    from timm.data import infer_imagenet_subset

    if num_classes < 10_000 and not infer_imagenet_subset({"num_classes": num_classes}):
        why = f"its {num_classes} outputs are an embedding of image and text, not classes"
        fix = "choose weights that were fine-tuned on classes; their tags end in in1k, in12k or in21k"
        raise UnfitError(f"{id!r} is not a classifier", why, fix)


def _check_transformers(source: Source, config: dict[str, Any]) -> Source:
    """Find the class that makes logits; other classes of a model type leave its head untrained."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as MAPPING

    assert source.folder is not None
    known = MAPPING.get(config["model_type"], ())
    known = (known,) if isinstance(known, str) else tuple(known)
    given = (config.get("architectures") or known[:1] or ["?"])[0]
    if given not in known and source.headless and (tower := image_tower(config["model_type"])):
        return replace(source, model=tower)
    if given not in known:
        why = f"its config.json names {given} of model type {config['model_type']}, which has no trained class head"
        fix = "choose a repository tagged image-classification, whose architecture ends in ForImageClassification"
        raise UnfitError(f"{source.id!r} is not an image classifier", why, fix)
    if config["model_type"] == "siglip2":
        why = "Siglip2 (NaFlex) takes the patches of an image in its own proportions, with a mask, not an image"
        raise UnfitError(f"{source.id!r} takes no images of one size", why, "choose a SigLIP of one resolution")
    with quiet(), refusing(source, "its config.json does not fit its model type"):
        complete = AutoConfig.from_pretrained(source.folder, trust_remote_code=False)
        check_classes(source.id, complete.num_labels)
        check_problem(source.id, complete)
    return replace(source, model=given)


def check_processor(source: Source) -> None:
    """Raise UnfitError where a transformers checkpoint does not say how images are preprocessed."""
    assert source.folder is not None
    if source.model != _IN_CONFIG and not any((source.folder / file).is_file() for file in PROCESSOR_FILES):
        why = "without it nothing says how the model wants its images"
        fix = "save its image processor beside it, or pass transform=... in Python"
        raise UnfitError(f"{source.id!r} has no preprocessor_config.json", why, fix)


# Without a head


def image_tower(model_type: str) -> str | None:
    """Return the class of transformers that reads the images of a model type, without a head; None if there is none.

    Of models of images and texts it is the image tower.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    whole: Any = MODEL_MAPPING_NAMES.get(model_type, ())
    whole = whole if isinstance(whole, str) else next(iter(whole), "")
    tower = whole.removesuffix("Model") + "VisionModel"
    name = _TOWERS.get(model_type) or (tower if hasattr(transformers, tower) else whole)
    cls = getattr(transformers, name, None)
    return name if getattr(cls, "main_input_name", None) == "pixel_values" else None


def has_no_head(source: Source) -> bool:
    """Tell whether a model of transformers was found by `image_tower`."""
    return source.headless and source.library == "transformers" and source.model.endswith("Model")
