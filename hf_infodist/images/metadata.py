"""Files beside images that say which of them are the rows of a dataset: ``metadata.csv``, ``.jsonl``, ``.parquet``."""

import logging
import os
from collections.abc import Sequence
from csv import reader
from io import BytesIO, StringIO
from pathlib import PurePosixPath
from typing import Any

from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.images.files import Contents, Place

logger = logging.getLogger(__name__)


def described(name: str, contents: Contents, split: str, column: str | None) -> tuple[list[Place], list[Any]]:
    """Return the images of a split that metadata name, in their order; it is said how many they leave out.

    Beside them are the rows of metadata that name them, as tables of pyarrow.

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
    tables = []
    for file in contents.metadata:
        table, rows = _read(file), []
        for row, value in enumerate(table[_column(file, table.column_names, column)].to_pylist()):
            below = os.path.normpath(PurePosixPath(file.name).parent / str(value)).replace(os.sep, "/")
            if below not in everywhere:
                what, why = f"row {row} of {file.path} names {value}", "there is no such image"
                raise UnfitError(what, why, "repair or remove these metadata")
            if below in here:
                found.append(everywhere[below])
                rows.append(row)
        if rows:
            tables.append(table.take(rows))
    if left := len(here - {place.name for place in found}):
        logger.warning("%d of %d images of %s are in no row of its metadata: left out", left, len(here), name)
    return found, tables


def read_columns(name: str, tables: Sequence[Any]) -> Any:
    """Return what metadata say of each image, as a `datasets.Dataset`.

    Raises:
        UnfitError: If a column is of one type in one file and of another in the next.
    """
    import datasets
    import pyarrow as pa

    try:
        return datasets.Dataset(pa.concat_tables(tables, promote_options="permissive"))
    except pa.ArrowException as error:
        why = str(error).partition("\n")[0]
        raise UnfitError(f"the metadata of {name} are no single table", why, "give each column one type") from error


def _read(file: Place) -> Any:
    """Return a table of pyarrow; names of files are texts in it, all else is what it looks like."""
    try:
        return _parse(PurePosixPath(file.name).suffix, file.read())
    except Exception as error:  # parsers fail in many ways
        why = str(error).partition("\n")[0]
        raise UnfitError(f"{file.path} cannot be read", why, "repair or remove it") from error


def _parse(ending: str, content: bytes) -> Any:
    import pyarrow as pa
    from pyarrow import csv, json, parquet

    whole = len(content) + 1  # one block, so that the type of a column is that of all its rows
    match ending:
        case ".csv":
            names = next(reader(StringIO(content.decode("utf-8-sig"))), [])
            texts = {one: pa.string() for one in names if one.endswith("file_name")}
            parse, convert = csv.ParseOptions(newlines_in_values=True), csv.ConvertOptions(column_types=texts)
            return csv.read_csv(BytesIO(content), csv.ReadOptions(block_size=whole), parse, convert)
        case ".jsonl":
            return json.read_json(BytesIO(content), json.ReadOptions(block_size=whole))
        case _:
            return parquet.read_table(BytesIO(content))


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
