"""The table of an atlas: a row for each model, readable with pandas and in the Hub's viewer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_infodist.results.atlas.entry import check_names
from hf_infodist.results.atlas.files import AtlasFile

if TYPE_CHECKING:
    import pandas

_MOST_ROWS, _MOST_BYTES = 10**5, 2**28  # of a stranger's table, and of what it unpacks to


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


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        model: Name of the model.
        file: Name of its file.
        fields: The whole row, as JSON types.
    """

    model: str
    file: str
    fields: dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Read a table, which may be a stranger's.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is something else, or too large.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            told = file.metadata
            columns = [
                told.row_group(i).column(j) for i in range(told.num_row_groups) for j in range(told.num_columns)
            ]
            unpacked = sum(column.total_uncompressed_size for column in columns)
            if told.num_rows > _MOST_ROWS or unpacked > _MOST_BYTES:
                raise ValueError(f"it has {told.num_rows} rows of {unpacked} bytes")
            rows = file.read().to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError("it is no table of parquet") from error
    for row in rows:
        check_names(row.get("model"), row.get("file"))
    return [Row(row["model"], row["file"], row) for row in rows if row.get("model") and row.get("file")]
