"""Where the name of a model leads: a library, a folder, a repository."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_infodist.errors import InfodistError, NotFoundError, UnfitError, UsageError
from hf_infodist.hub import plain_name
from hf_infodist.models.folders import (
    ADAPTER,
    PROCESSOR_FILES,
    check_classes,
    check_embedding,
    check_processor,
    in_folder,
)
from hf_infodist.models.source import FORMS, Source, did_you_mean, near, quiet
from hf_infodist.models.weights import snapshot

DEMO = Path(__file__).parent / "demo"


def locate(name: str, *, has_transform: bool, headless: bool = False) -> Source:
    """Resolve a name, and check all that can be checked without weights.

    Args:
        name: A name as `load_classifier` takes it.
        has_transform: Whether preprocessing is given, so that the model may lack it.
        headless: Whether a network without classes will do.

    Raises:
        UsageError: If the name can mean several things or has no known form.
        NotFoundError: If the name leads nowhere, or to a place that cannot be reached now.
        UnfitError: If it leads to something that is not an image classifier.
    """
    fresh = name.strip().startswith("random:")
    name = f"{'random:' * fresh}{plain_name(name.strip().removeprefix('random:'))}"
    bare = name.removeprefix("random:")
    if bare.startswith("random:"):
        raise UsageError(f"{name!r} is random twice", "fresh weights cannot get fresher", f"use {bare}")
    source = _follow(Source(name, fresh=bare != name, headless=headless), bare)
    if source.library == "transformers" and not has_transform:
        check_processor(source)
    return source


# Where a name leads


def _follow(source: Source, name: str) -> Source:
    prefix, colon, rest = name.partition(":")
    if name.startswith((".", "/", "~")) or os.path.isdir(name):
        return in_folder(replace(source, folder=Path(name).expanduser()))
    if not colon:
        return _on_hub(source, name)
    if prefix == "demo":
        return in_folder(replace(source, folder=_demo_folder(rest)))
    if prefix == "timm":
        return _in_timm(replace(source, library="timm", model=rest))
    if prefix == "torchvision":
        return _in_torchvision(replace(source, library="torchvision"), rest)
    nearest = near(prefix, ["timm", "torchvision", "random", "demo"], suffix=f":{rest}")
    why = "a name before the colon says which library or collection is meant"
    raise UsageError(f"unknown prefix in model name {name!r}: {prefix!r}", why, did_you_mean(nearest, FORMS))


def _demo_folder(name: str) -> Path:
    if (DEMO / name / "config.json").is_file():
        return DEMO / name
    names = ", ".join(f"demo:{path.parent.name}" for path in sorted(DEMO.glob("*/config.json")))
    raise NotFoundError(f"there is no demo model {name!r}", "only a few tiny models are built in", f"use {names}")


def _in_timm(source: Source) -> Source:
    """Check a timm name; weights that live on the Hub are found like any repository's."""
    import timm

    architecture, _, tag = source.model.partition(".")
    if architecture not in timm.list_models() or (tag and source.model not in timm.list_pretrained()):
        tags = [name for name in timm.list_pretrained() if name.startswith(f"{architecture.casefold()}.")]
        raise _unknown("timm", source.model, tags or timm.list_models(), "timm.list_models(pretrained=True)")
    config: Any = timm.get_pretrained_cfg(source.model)
    if not source.headless:
        check_classes(source.id, config.num_classes)
        check_embedding(source.id, config.num_classes)
    if source.fresh:
        return source
    if config.hf_hub_id:
        return _on_hub(source, config.hf_hub_id)
    if not config.url:
        why = "only its architecture is published"
        fix = f"use random:timm:{source.model} for fresh weights, or one of timm.list_models(pretrained=True)"
        raise NotFoundError(f"timm has no trained weights for {source.model!r}", why, fix)
    return replace(source, url=config.url)


def _in_torchvision(source: Source, name: str) -> Source:
    """Check a torchvision name and its weights' name."""
    from torchvision import models

    model, _, chosen = name.partition("@")
    classifiers = models.list_models(module=models)
    if model not in classifiers and model in models.list_models():
        why = "detection, segmentation, video, optical flow and quantised models do not map an image to logits"
        fix = "choose a classification model, such as torchvision:resnet18"
        raise UnfitError(f"torchvision's {model!r} is not an image classifier", why, fix)
    if model not in classifiers:
        raise _unknown("torchvision", model, classifiers, "torchvision.models.list_models()")
    known = models.get_model_weights(model)
    choices = [weights.name for weights in known]
    if chosen and chosen not in [*choices, "DEFAULT"]:
        nearest = near(chosen, choices, prefix=f"torchvision:{model}@")
        why, fix = f"it has {', '.join(choices)}", did_you_mean(nearest, f"use torchvision:{model}@ with one of these")
        raise NotFoundError(f"torchvision's {model!r} has no weights {chosen!r}", why, fix)
    weights = known[chosen or "DEFAULT"]
    return replace(source, model=model, weights=weights, url=weights.url)


def _on_hub(source: Source, name: str) -> Source:
    """Resolve a repository to a commit and fetch its configuration, not its weights."""
    repo, _, revision = name.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise _ambiguous(repo)
    with quiet():
        folder = snapshot(repo, revision or None, ["config.json", ADAPTER, *PROCESSOR_FILES])
    return in_folder(replace(source, repo=repo, revision=folder.name, asked=revision or None, folder=folder))


def _ambiguous(name: str) -> InfodistError:
    """Say what a bare name could mean."""
    import timm
    from torchvision import models

    names = {"timm": timm.list_models(), "torchvision": models.list_models(module=models)}
    meant = [f"{library}:{name}" for library, known in names.items() if name.partition(".")[0] in known]
    if meant:
        why = "models of one name differ between libraries in weights and preprocessing"
        fix = f"use {' or '.join(meant)}, or org/name for a repository of the Hub, or ./{name} for a folder"
        return UsageError(f"{name!r} could come from several places", why, fix)
    nearest = [n for library, known in names.items() for n in near(name, known, prefix=f"{library}:")]
    hint = f"{did_you_mean(nearest, '')} {FORMS}".strip()
    return NotFoundError(f"there is no model {name!r}", "it is no folder, and no library is named", hint)


def _unknown(library: str, name: str, names: Sequence[str], listing: str) -> NotFoundError:
    """Say that a library has no such model, and which names are nearest."""
    spellings = (near(spelling, names, 3, prefix=f"{library}:") for spelling in (name, name.split(".")[0]))
    fix = did_you_mean(next(filter(None, spellings), []), f"{listing} lists them all")
    return NotFoundError(f"{library} has no model {name!r}", "the name is not in its list of classifiers", fix)
