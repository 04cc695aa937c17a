"""The table of an atlas: a row for each model, readable with pandas and in the Hub's viewer."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_infodist.results.atlas.files import AtlasFile

if TYPE_CHECKING:
    import pandas


def to_row(file: AtlasFile) -> dict[str, Any]:
    """Return what the table says of a model, as JSON types."""
    entry, model = file.entry, file.entry.model
    return {
        "model": model.id,
        "revision": model.revision,
        "library": model.library,
        "architecture": entry.architecture,
        "parameters": entry.parameters,
        "num_classes": model.num_classes,
        "classes": list(entry.labels),
        "accuracy": entry.accuracy,
        "licence": entry.licence,
        "base_model": list(entry.base_models),
        "relation": entry.relation,
        "bytes": file.path.stat().st_size,
        "made": entry.made,
        "versions": json.dumps(entry.versions, sort_keys=True),
        "weights": model.weights,
        "file": file.path.name,
    }


def to_table(files: Sequence[AtlasFile]) -> "pandas.DataFrame":
    """Return a row for each model."""
    import pandas

    return pandas.DataFrame([to_row(file) for file in files])
