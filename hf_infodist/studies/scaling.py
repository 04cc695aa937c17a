"""Wall time of a matrix with two workers against one, and peak memory against the number of images."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.pair import Execution
from hf_infodist.studies.report.options import Images, Protocol

MODELS = ["demo:cnn", "demo:vit", "random:demo:cnn", "random:demo:vit"]


def matrix_seconds(workers: int, k: int, protocol: str) -> float:
    """Return the wall time of a matrix of four small models, from an empty store on."""
    with tempfile.TemporaryDirectory() as home:
        started = time.perf_counter()
        execution = Execution(home=Path(home))
        pairwise_distances(MODELS, "digits", k=k, protocol=protocol, workers=workers, execution=execution)
        return time.perf_counter() - started


def scaling(k: int, protocol: str, rounds: int) -> dict[str, Any]:
    """Measure one and two workers in turns.

    Args:
        k: Images.
        protocol: Name of a preset.
        rounds: How often.
    """
    matrix_seconds(1, 16, "standard")  # imports the libraries
    seconds = [(matrix_seconds(1, k, protocol), matrix_seconds(2, k, protocol)) for _ in range(rounds)]
    one, two = (median(column) for column in zip(*seconds, strict=True))
    ratio = median(both / alone for alone, both in seconds)
    return {"k": k, "protocol": protocol, "one_worker_s": one, "two_workers_s": two, "ratio": ratio, "rounds": rounds}


def code_and_measure(k: int) -> int:
    """Code ``k`` random images of 8 × 8 pixels with ``standard``; return the peak memory of this process, in KiB."""
    import datasets
    import numpy as np

    from hf_infodist.distances.distance import codelength

    def images() -> Any:
        rng = np.random.default_rng(0)
        for _ in range(k):
            yield {"image": rng.integers(0, 256, (8, 8), dtype=np.uint8)}

    with tempfile.TemporaryDirectory() as home:
        features = datasets.Features({"image": datasets.Image()})
        sample = datasets.Dataset.from_generator(images, features=features, cache_dir=f"{home}/images")
        codelength("demo:cnn", "demo:vit", sample, k=k, protocol="standard", execution=Execution(home=Path(home)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory(sizes: list[int]) -> dict[str, Any]:
    """Measure the peak memory of each number of images in a process of its own."""
    peaks = {}
    for k in sizes:
        code = f"from hf_infodist.studies.scaling import code_and_measure; print(code_and_measure({k}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        peaks[str(k)] = int(done.stdout.split()[-1]) / 1024
    first, last = (peaks[str(k)] for k in (min(sizes), max(sizes)))
    return {"peak_mib": peaks, "ratio": last / first}


def main(
    k: Images = 300,
    protocol: Protocol = "standard",
    rounds: Annotated[int, typer.Option("--rounds", help="how often both are timed")] = 3,
    memories: Annotated[list[int], typer.Option("--memory", help="peak memory at so many images")] = [],
) -> None:
    """Measure and print."""
    figures: dict[str, Any] = {"cores": os.cpu_count()}
    if rounds:
        figures["workers"] = scaling(k, protocol, rounds)
    if memories:
        figures["memory"] = memory(memories)
    json.dump(figures, sys.stdout, indent=2)
