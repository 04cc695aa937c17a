"""Of which architecture models are, by what their names and configurations say, without their weights."""

import json
import re
from collections.abc import Sequence

from hf_infodist.models.declared import card_source, read_text
from hf_infodist.models.source import Source

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
    try:
        fields = json.loads(read_text(source, _CONFIG))
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
