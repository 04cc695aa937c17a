"""What the cards of models say they were made from."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_infodist.errors import InfodistError
from hf_infodist.hub import plain_name
from hf_infodist.models.names import DEMO, locate
from hf_infodist.models.source import Source, quiet_hub
from hf_infodist.results.atlas.folder import Atlas

_CARD = "README.md"
_RELATIONS = {"finetune": "fine-tune", "adapter": "adapter", "merge": "merge", "quantized": "quantized version"}


@dataclass(frozen=True)
class Declared:
    """What a card says.

    Attributes:
        bases: Names of what the model was made from, as the card has them.
        relation: In words: fine-tune, adapter, merge, quantized version.
        among: Which of the models asked about these are.
    """

    bases: tuple[str, ...]
    relation: str
    among: tuple[str, ...]

    def __str__(self) -> str:
        """Return it as said of the model: ``fine-tune of org/name``."""
        return f"{self.relation} of {' and '.join(self.bases)}"


def read_declared(models: Sequence[str]) -> dict[str, Declared]:
    """Read ``base_model`` of the cards of models: of their repositories on the Hub, or of their folders.

    A card that is missing, cannot be reached or cannot be read says nothing.

    Args:
        models: Names, as `load_classifier` takes them.

    Returns:
        By name; without those whose cards say nothing.
    """
    sources = {model: source for model in models if (source := card_source(model))}
    found = {}
    for model, source in sources.items():
        bases, relation = _base_models(_head(read_text(source, _CARD)))
        among = tuple(
            other
            for other, its in sources.items()
            if other != model and any(_is_meant(base, other, its, source) for base in bases)
        )
        if bases:
            found[model] = Declared(bases, _relation(relation), among)
    return found


def read_claims(model: str) -> tuple[str | None, tuple[str, ...], str]:
    """Return what the card of a model says: licence, names of what it was made from, and how, in words."""
    source = card_source(model)
    fields = _head(read_text(source, _CARD)) if source else {}
    bases, relation = _base_models(fields)
    licence = fields.get("license")
    return str(licence) if licence else None, bases, _relation(relation) if bases else ""


def declared_among(bases: Mapping[str, tuple[str, ...]], relations: Mapping[str, str]) -> dict[str, Declared]:
    """Return what cards say that are known already, by name of the model; without those that say nothing.

    Args:
        bases: Names of what each model was made from.
        relations: How, in words.
    """

    def plain(name: str) -> str:
        return name.partition("@")[0]

    return {
        model: Declared(
            names, relations[model], tuple(other for other in bases if other != model and plain(other) in names)
        )
        for model, names in bases.items()
        if names
    }


def declared_in_atlas(atlas: Atlas, name: str) -> Declared | None:
    """Return what the card of a model declares, or an atlas that has the model says of it, and who is meant there."""
    entries = {file.entry.id: file.entry for file in atlas.files}
    one = entries.get(name)
    bases, relation = (one.base_models, one.relation) if one else read_claims(name)[1:]
    return declared_among({**dict.fromkeys(entries, ()), name: bases}, {name: relation}).get(name)


def _relation(word: str) -> str:
    return _RELATIONS.get(word, _RELATIONS["finetune"])


def card_source(model: str) -> Source | None:
    """Return where the card of a model lies; None if it has none: names in a file may be of models that are gone."""
    if model.startswith("random:"):
        return None
    if model.startswith(("timm:", "torchvision:")):
        try:
            return locate(model, has_transform=True)
        except InfodistError:
            return None
    if model.startswith("demo:"):
        return Source(model, folder=DEMO / model.removeprefix("demo:"))
    if model.startswith((".", "/", "~")) or os.path.isdir(model):
        return Source(model, folder=Path(model).expanduser())
    repo, _, revision = plain_name(model).partition("@")
    return Source(model, repo=repo, revision=revision or None)


def read_text(source: Source, name: str) -> str:
    """Return the text of a file beside a model's weights; nothing if there is none, or none that can be reached."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        if source.repo:
            with quiet_hub():
                file = hf_hub_download(source.repo, name, revision=source.revision)
            return Path(file).read_text(encoding="utf-8")
        return (source.folder / name).read_text(encoding="utf-8") if source.folder else ""
    except (HfHubHTTPError, OSError, ValueError):  # of a name that no repository can have, of text that is none
        return ""


def _head(card: str) -> dict[str, Any]:
    """Return the fields at the head of a card; none where it has no such head, or a broken one."""
    import yaml
    from huggingface_hub import ModelCard

    try:
        with quiet_hub():
            return dict(ModelCard(card, ignore_metadata_errors=True).data.to_dict())
    except (ValueError, yaml.YAMLError):
        return {}


def _base_models(fields: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    """Return names and relation from the fields of a card."""
    bases = fields.get("base_model") or ()
    names = (bases,) if isinstance(bases, str) else tuple(bases) if isinstance(bases, list) else ()
    return tuple(map(str, names)), str(fields.get("base_model_relation") or "")


def _is_meant(base: str, other: str, its: Source, card: Source) -> bool:
    """Tell whether a name in a card is that of another model: its name, its repository, or the path of its folder."""
    if base in (other, other.partition("@")[0], its.repo):
        return True
    if its.folder is None or its.repo:
        return False
    starts = [Path(), *([card.folder, card.folder.parent] if card.folder else [])]
    return any((start / base).resolve() == its.folder.resolve() for start in starts)
