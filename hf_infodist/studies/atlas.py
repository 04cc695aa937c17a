"""What an atlas of the size of a Hub costs, on made-up outputs: in bytes, in seconds, in memory.

``infodist study atlas --work FOLDER [-k 2000] [--models 1000] [--classes 1000] [--all 6] [--output atlas.json]``

Made-up models come in families: the logits of a family share most of what varies, and features are the logits seen
through random layers. So a model has some near relatives and many strangers, as on the Hub. The atlas is written once
and kept; then one more model of a family is placed among all, in a process of its own whose peak of memory is told.
All pairs of a few models tell what a whole map takes: each direction costs the same whoever else is there.
"""

import functools
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from hf_infodist.analysis.atlas import pack_distances
from hf_infodist.analysis.from_atlas import atlas_distances, nearest_in_atlas
from hf_infodist.environment import keep_freed_memory
from hf_infodist.models.member import Member
from hf_infodist.outputs.arrays import Outputs, Pixels
from hf_infodist.outputs.layers import LAYERS_VERSION, Layer
from hf_infodist.pair import Execution
from hf_infodist.results.atlas.entry import AtlasEntry
from hf_infodist.results.atlas.files import open_file, write_file
from hf_infodist.results.atlas.folder import MODELS, Atlas, AtlasHead
from hf_infodist.results.atlas.packing import pack_logits
from hf_infodist.results.records import ImagesRecord, ModelRecord
from hf_infodist.studies.report.options import File, Work
from hf_infodist.studies.report.output import show_json

FAMILY, WIDTH, LAYERS, RANK = 20, 64, 8, 128
NEW = 10**9  # number of the model that is placed: of the first family, and of none of its models
_SEED = 0


def made_up_logits(number: int, k: int, classes: int) -> NDArray[np.float32]:
    """Return logits ``[k, C]``: a family weighs what a picture is in its own way, a model a bit otherwise."""
    family, own = _generators(number)
    head = family.standard_normal((RANK, classes)) + 0.3 * own.standard_normal((RANK, classes))
    return _points(k) @ (head * (4 / np.sqrt(RANK))).astype(np.float32)


def made_up_values(number: int, k: int) -> NDArray[np.float32]:
    """Return features of all layers ``[k, layers × width]``, likewise."""
    family, own = _generators(number)
    values = []
    for _ in range(LAYERS):
        mixed = family.standard_normal((RANK, WIDTH)) + 0.3 * own.standard_normal((RANK, WIDTH))
        values.append(np.tanh(_points(k) @ (mixed / np.sqrt(RANK)).astype(np.float32)))
    return np.concatenate(values, 1)


@functools.lru_cache(maxsize=1)
def _points(k: int) -> NDArray[np.float32]:
    return np.random.default_rng(_SEED).standard_normal((k, RANK)).astype(np.float32)


def _generators(number: int) -> tuple[np.random.Generator, np.random.Generator]:
    return np.random.default_rng([_SEED, number % NEW // FAMILY]), np.random.default_rng([_SEED, 1, number])


@functools.lru_cache(maxsize=1)
def packed_squares(
    number: int, k: int, classes: int
) -> tuple[dict[str, NDArray[np.uint16]], tuple[int, int, int, int]]:
    """Return packed distances between pictures in the features of a model, and its layers in each quarter."""
    values, layers = made_up_values(number, k), tuple(Layer(f"layer{i}", WIDTH, 1) for i in range(LAYERS))
    logits, nothing = made_up_logits(number, k, classes), Pixels(np.zeros((k, 0)), (), ())
    return pack_distances(Outputs(nothing, logits, values[:, -WIDTH:], values, layers, str(number)))


def head_of(k: int) -> AtlasHead:
    """Return what an atlas of made-up pictures is of."""
    return AtlasHead(ImagesRecord("made-up", None, None, None, k, _SEED, f"made-up-{k}"), LAYERS_VERSION)


def write_model(folder: Path, number: int, k: int, classes: int) -> None:
    """Write one model into a folder, unless it is there."""
    key = f"{number:032x}"
    if (folder / f"{key}.safetensors").exists():
        return
    near = number % NEW < FAMILY  # only of these are distances read; other families have one set each
    squares, quarters = packed_squares(number if near else number // FAMILY * FAMILY, k, classes)
    model = ModelRecord(f"family-{number // FAMILY}/{number % FAMILY}", "torch", None, classes, key, {})
    labels = tuple(f"class {i}" for i in range(classes))
    entry = AtlasEntry(model, key, labels, "made-up", 0, quarters, made="2000-01-01", versions={})
    write_file(folder, entry, pack_logits(made_up_logits(number, k, classes)), squares)


def place(folder: Path, file: Path, models: int) -> dict[str, Any]:
    """Place a model among the first of an atlas; return seconds, the peak of memory, and who is nearest."""
    keep_freed_memory()
    atlas = _part(folder, range(models))
    before, started = _peak_mib(), time.perf_counter()
    with tempfile.TemporaryDirectory() as home:
        found = nearest_in_atlas(atlas, Member.of(open_file(file)), execution=Execution(home=Path(home)))
    return {
        "models": models,
        "seconds": time.perf_counter() - started,
        "peak_mib": _peak_mib(),
        "before_mib": before,
        "nearest": [{"model": one.model_b.id, "nats": one.nats, "stderr_nats": one.stderr_nats} for one in found],
    }


def all_pairs(folder: Path, models: int) -> dict[str, Any]:
    """Compare all pairs of some models, every second one of the first family; tell what those of the atlas take."""
    keep_freed_memory()
    atlas = _part(folder, [number // 2 + number % 2 * FAMILY for number in range(models)])
    started = time.process_time()  # of a core, whatever runs beside
    with tempfile.TemporaryDirectory() as home:
        atlas_distances(atlas, execution=Execution(home=Path(home)))
    each = (time.process_time() - started) / (models * (models - 1))
    of = sum(1 for _ in (folder / MODELS).iterdir())
    told = {"models": models, "seconds_each_direction": each, "peak_mib": _peak_mib()}
    return told | {"of": of, "days_of_all": each * of * (of - 1) / 86400}


def _part(folder: Path, numbers: Iterable[int]) -> Atlas:
    """Return an atlas that has only models of certain numbers."""
    atlas = Atlas.open(folder)
    atlas.__dict__["files"] = tuple(open_file(folder / MODELS / f"{number:032x}.safetensors") for number in numbers)
    return atlas


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def main(
    work: Work,
    k: Annotated[int, typer.Option("-k", help="pictures")] = 2000,
    models: Annotated[list[int], typer.Option("--models", help="so many of the atlas are asked")] = [
        100,
        1000,
    ],
    classes: Annotated[int, typer.Option("--classes", help="of every model")] = 1000,
    every: Annotated[int, typer.Option("--all", help="compare all pairs of so many, too")] = 0,
    output: File = None,
) -> None:
    """Write what the folder does not have, place one model more, and print figures."""
    folder, most = work / f"atlas-{k}-{classes}", max(models)
    atlas = Atlas.begin(folder, head_of(k))
    started = time.perf_counter()
    for number in range(most):
        write_model(atlas.models, number, k, classes)
    write_model(work / "new", NEW, k, classes)
    figures: dict[str, Any] = {"k": k, "classes": classes, "threads": torch.get_num_threads()}
    figures |= {"written_s": time.perf_counter() - started, "bytes": _bytes(folder), "placed": []}
    new = next((work / "new").glob("*.safetensors"))
    context = multiprocessing.get_context("spawn")
    for count in models:
        with ProcessPoolExecutor(1, mp_context=context) as alone:  # whose memory is that of placing alone
            figures["placed"].append(alone.submit(place, folder, new, count).result())
    if every:
        with ProcessPoolExecutor(1, mp_context=context) as alone:
            figures["all_pairs"] = alone.submit(all_pairs, folder, every).result()
    show_json(figures, output)


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in (folder / MODELS).iterdir())
