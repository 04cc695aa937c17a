"""Files beside images that say which of them are the rows of a dataset: ``metadata.csv``, ``.jsonl``, ``.parquet``."""

import logging
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.images.files import Contents, Place

logger = logging.getLogger(__name__)


def described(name: str, contents: Contents, split: str, column: str | None) -> list[Place]:
    """Return the images of a split that metadata name, in their order; it is said how many they leave out.

    Args:
        name: Of the dataset.
        contents: What there is.
        split: One of its splits.
        column: Of images, where a row has several.

    Raises:
        UnfitError: If metadata cannot be read, or name a file that is not there.
        UsageError: If rows name several images and no column says which is meant.
        NotFoundError: If no column is called so.
    """
    everywhere = {place.name: place for places in contents.images.values() for place in places}
    here = {place.name for place in contents.images[split]}
    found: list[Place] = []
    for file in contents.metadata:
        for row, value in enumerate(_file_names(file, column)):
            below = os.path.normpath(PurePosixPath(file.name).parent / str(value)).replace(os.sep, "/")
            if below not in everywhere:
                what, why = f"row {row} of {file.path} names {value}", "there is no such image"
                raise UnfitError(what, why, "repair or remove these metadata")
            if below in here:
                found.append(everywhere[below])
    if left := len(here - {place.name for place in found}):
        logger.warning("%d of %d images of %s are in no row of its metadata: left out", left, len(here), name)
    return found


def _file_names(file: Place, column: str | None) -> Sequence[Any]:
    """Return the file of each row."""
    try:
        table = _read(file)
    except Exception as error:  # parsers fail in many ways
        why = str(error).partition("\n")[0]
        raise UnfitError(f"{file.path} cannot be read", why, "repair or remove it") from error
    return list(table[_column(file, list(map(str, table.columns)), column)])


def _read(file: Place) -> Any:
    import pandas as pd

    content = BytesIO(file.read())
    match PurePosixPath(file.name).suffix:
        case ".csv":
            return pd.read_csv(content, dtype=str)
        case ".jsonl":
            return pd.read_json(content, lines=True, dtype=False)
        case _:
            return pd.read_parquet(content)


def _column(file: Place, columns: Sequence[str], wanted: str | None) -> str:
    """Return the column of files that is meant: ``file_name`` is that of ``image``, ``x_file_name`` that of ``x``."""
    files = [one for one in columns if one.endswith("file_name")]
    by_name = {one.removesuffix("file_name").removesuffix("_") or "image": one for one in files}
    listed = ", ".join(by_name)
    if not by_name:
        why = f"its columns are {', '.join(columns)}, and none is file_name"
        raise UnfitError(f"{file.path} names no images", why, "add that column, or remove the file")
    if wanted is None and len(by_name) > 1 and "image" not in by_name:
        what, why = f"a row of {file.path} names several images", f"they are {listed}"
        raise UsageError(what, why, f"add --column {next(iter(by_name))}, or another")
    if wanted is not None and wanted not in by_name:
        raise NotFoundError(
            f"there is no column {wanted!r} in {file.path}", f"it has {listed}", "give one by --column"
        )
    return by_name[wanted or ("image" if "image" in by_name else next(iter(by_name)))]
