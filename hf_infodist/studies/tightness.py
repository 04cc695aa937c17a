"""What the mixture costs against its learners alone, a search, retraining, preqtorch, and version 1.

``infodist study tightness --work FOLDER [--pair NAME …] [--column NAME …] [--output tightness.json]``

The same images of each pair are coded in every way, B given A. Of a column with several variants, as many rates, the
cheapest counts: it is chosen in hindsight, which the mixture never is. Every figure is kept in the work folder as soon
as it is there; a rerun computes only what is missing, or what other settings decide.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import geometric_mean
from typing import Annotated, Any

import torch
import typer
from accelerate import Accelerator
from tqdm import tqdm

from hf_infodist.processes import make_accelerator
from hf_infodist.results.records import package_versions
from hf_infodist.studies import require
from hf_infodist.studies.measures.coders import Coder, Outcome, coders
from hf_infodist.studies.networks.pairs import PAIRS, Setting, default_data, load_pair
from hf_infodist.studies.report.options import Data, File, OtherImages, OtherProtocol, Work, one_of
from hf_infodist.table import text_table

COLUMNS = (
    "static",
    "single",
    "search",
    "retraining",
    "continuing",
    "preqtorch-blocks",
    "preqtorch-replay",
    "version-1",
    "mixture",
)
SETTINGS = {setting.name: setting for setting in PAIRS}
_NEEDS = {"search": "optuna", "preqtorch-blocks": "preqtorch", "preqtorch-replay": "preqtorch"}


@dataclass(frozen=True)
class Cell(Outcome):
    """What one way of coding cost on one pair.

    Attributes:
        name: Column and variant.
        key: Hash of everything that decides the nats.
        seconds: Wall time.
    """

    name: str
    key: str
    seconds: float


@dataclass(frozen=True)
class Row:
    """A pair and its cells."""

    setting: Setting
    cells: Sequence[Cell]

    def column(self, name: str) -> list[Cell]:
        """Return the cells of a column that priced all images, the cheapest first."""
        cells = [cell for cell in self.cells if _column(cell.name) == name and cell.nats is not None]
        return sorted(cells, key=lambda cell: cell.nats or 0.0)

    def ratio(self, name: str) -> float | None:
        """Return the nats of the mixture divided by the least of a column."""
        mixture, others = self.column("mixture"), self.column(name)
        return mixture[0].nats / others[0].nats if mixture and others and mixture[0].nats and others[0].nats else None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        names = ("name", "student", "teacher", "images", "k", "protocol", "held_out")
        return {name: getattr(self.setting, name) for name in names} | {
            "columns": {name: self._summary(cells) for name in COLUMNS if (cells := self.column(name))},
            "ratios": mean_ratios([self]),
            "cells": [asdict(cell) for cell in self.cells],
        }

    def _summary(self, cells: list[Cell]) -> dict[str, Any]:
        tried = [cell for cell in self.cells if _column(cell.name) == _column(cells[0].name)]
        return {
            "best": cells[0].name,
            "nats": cells[0].nats,
            "gradient_images_per_image": cells[0].gradient_images / self.setting.k,
            "spent_per_image": sum(cell.spent for cell in tried) / self.setting.k,
            "seconds": sum(cell.seconds for cell in tried),
        }


def measure_cells(
    setting: Setting, wanted: dict[str, Coder], work: Path, data: Path, *, seed: int, accelerator: Accelerator
) -> Row:
    """Return a pair with the wanted cells; those that the work folder does not have are measured and added to it.

    Args:
        setting: The pair.
        wanted: Ways to code it.
        work: Folder with one file of JSON lines per pair.
        data: Folder of checkpoints and images.
        seed: Order of the images.
        accelerator: Device and precision.
    """
    pair = load_pair(setting, data, seed=seed, accelerator=accelerator)
    file = work / f"{setting.name}.jsonl"
    known, cells = {cell.key: cell for cell in _read(file)}, []
    for name, way in tqdm(wanted.items(), desc=setting.name, disable=not sys.stderr.isatty()):
        key = _key(pair.outputs_a.key, pair.outputs_b.key, name, vars(way))
        if key not in known:
            started = time.perf_counter()
            outcome = way.code(pair, accelerator)
            known[key] = Cell(**vars(outcome), name=name, key=key, seconds=time.perf_counter() - started)
            _append(file, known[key])
            tqdm.write(f"{setting.name}, {_line(known[key], setting.k)}", file=sys.stderr)
        cells.append(known[key])
    return Row(setting, cells)


def mean_ratios(rows: Iterable[Row]) -> dict[str, float]:
    """Return the geometric mean over pairs of mixture / column, for each column."""
    rows = list(rows)
    found = {name: [r for row in rows if (r := row.ratio(name))] for name in COLUMNS if name != "mixture"}
    return {name: geometric_mean(ratios) for name, ratios in found.items() if ratios}


def _means(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    return {
        "all": mean_ratios(rows),
        "not held out": mean_ratios(row for row in rows if not row.setting.held_out),
        "held out": mean_ratios(row for row in rows if row.setting.held_out),
    }


def _column(name: str) -> str:
    return name.partition("/")[0]


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=vars).encode()).hexdigest()[:16]


def _read(file: Path) -> Iterator[Cell]:
    """Yield the cells of a file; cut off a last line that was not written to its end."""
    if file.exists():
        whole, newline, torn = file.read_text().rpartition("\n")
        if torn:
            file.write_text(whole + newline)
        for line in whole.splitlines():
            yield Cell(**json.loads(line))


def _append(file: Path, cell: Cell) -> None:
    with file.open("a") as lines:
        lines.write(json.dumps(asdict(cell)) + "\n")
        lines.flush()
        os.fsync(lines.fileno())


def _line(cell: Cell, k: int) -> str:
    nats = "diverged" if cell.nats is None else f"{cell.nats:.1f} nats"
    return f"{cell.name}: {nats}, {cell.spent / k:.1f} gradient images an image, {cell.seconds:.0f} s"


def _table(rows: Sequence[Row]) -> str:
    """Show nats and gradient images per image of each pair and column, then the mean ratios."""

    def cheapest(row: Row, name: str) -> str:
        return "".join(f"{c.nats:.1f} ({c.gradient_images / row.setting.k:.0f})" for c in row.column(name)[:1])

    lines = [(row.setting.name, *(cheapest(row, name) for name in COLUMNS)) for row in rows]
    ratios = [
        (name, *(f"{means[column]:.3f}" if column in means else "" for column in COLUMNS))
        for name, means in _means(rows).items()
    ]
    return (
        f"nats (gradient images per image) of the cheapest in each column\n{text_table(('', *COLUMNS), lines)}\n"
        f"nats of the mixture / column, geometric mean over pairs\n{text_table(('', *COLUMNS), ratios)}"
    )


def main(
    work: Work,
    data: Data = default_data(),
    names: Annotated[list[str], one_of(SETTINGS, "--pair", what="pairs")] = list(SETTINGS),
    columns: Annotated[list[str], one_of(COLUMNS, "--column", what="coders")] = list(COLUMNS),
    protocol: OtherProtocol = None,
    k: OtherImages = None,
    trials: Annotated[
        int | None, typer.Option("--trials", help="protocols that a search runs, instead of 30 (large pairs: 6)")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="order of the images, and every draw")] = 0,
    output: File = None,
) -> None:
    """Measure what is missing and print the table."""
    packages = sorted({_NEEDS[column] for column in columns if column in _NEEDS})
    for package in packages:
        require(package, "studies")
    work.mkdir(parents=True, exist_ok=True)
    accelerator, rows = make_accelerator(), []
    for setting in (SETTINGS[name] for name in names):
        setting = replace(setting, k=k or setting.k, protocol=protocol or setting.protocol)
        every = coders(setting, seed=seed, trials=trials)
        wanted = {name: way for name, way in every.items() if _column(name) in columns}
        rows.append(measure_cells(setting, wanted, work, data, seed=seed, accelerator=accelerator))
    if output:
        figures = {
            "seed": seed,
            "device": str(accelerator.device),
            "threads": torch.get_num_threads(),
            "versions": package_versions() | {package: version(package) for package in packages},
            "geometric_means": _means(rows),
            "pairs": [row.to_dict() for row in rows],
        }
        output.write_text(json.dumps(figures, indent=1) + "\n")
    sys.stdout.write(_table(rows) + "\n")
