"""Of which architecture models are, by what their names and configurations say, without their weights."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from hf_infodist.models.declared import card_source
from hf_infodist.models.source import Source, quiet_hub

_CONFIG = "config.json"


def read_families(models: Sequence[str]) -> tuple[str, ...]:
    """Return the family of each model: its architecture without size and variant, ``resnet`` of ``resnet18.a1_in1k``.

    Args:
        models: Names, as `load_classifier` takes them.

    Returns:
        One each; ``""`` where nothing says it.
    """
    return tuple(family_of(_architecture(model)) for model in models)


def family_of(architecture: str) -> str:
    """Return an architecture without size and variant; ``""`` of none."""
    found = re.match("[a-z]+", architecture.lower())
    return found[0] if found else ""


def _architecture(model: str) -> str:
    """Return what a model's name or its configuration calls its architecture."""
    model = model.removeprefix("random:")
    for library in ("timm:", "torchvision:"):
        if model.startswith(library):
            return model.removeprefix(library)
    source = card_source(model)
    config = _config(source) if source else {}
    return str(config.get("architecture") or config.get("model_type") or "")


def _config(source: Source) -> dict[str, object]:
    """Return the configuration of a model; an empty one if there is none, or none that can be reached."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        if source.repo:
            with quiet_hub():
                file = Path(hf_hub_download(source.repo, _CONFIG, revision=source.revision))
        elif source.folder:
            file = source.folder / _CONFIG
        else:
            return {}
        fields = json.loads(file.read_text(encoding="utf-8"))
    except (HfHubHTTPError, OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}
