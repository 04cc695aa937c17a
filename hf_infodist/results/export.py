"""Results as tables of pandas, and as files: JSON, CSV or parquet."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_infodist.results.records import ImagesRecord

if TYPE_CHECKING:
    import pandas

TABLES = (".csv", ".parquet")  # endings of files that hold a table


def to_table(rows: Sequence[Mapping[str, Any]], images: ImagesRecord) -> "pandas.DataFrame":
    """Return one number or name a cell: what is a list or a record of its own is left out, and in nats if not said.

    Args:
        rows: Fields by name.
        images: The sample, which is the same for all; named in three columns.
    """
    import pandas

    kept = [{name: value for name, value in row.items() if not isinstance(value, list | tuple | dict)} for row in rows]
    return pandas.DataFrame(kept).assign(images=images.id, k=images.k, seed=images.seed)


def write(found: Any, file: Path) -> None:
    """Write a result as its ending says: ``.csv`` and ``.parquet`` hold its table, everything else all of it as JSON.

    Args:
        found: Has ``to_dict``, and ``to_pandas`` where it has a table.
        file: Where to.
    """
    if file.suffix == ".csv":
        found.to_pandas().to_csv(file, index=False)
    elif file.suffix == ".parquet":
        found.to_pandas().to_parquet(file, index=False)
    else:
        file.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")
