"""Nats against seconds for every protocol and preqtorch, and where fine-tuning overtakes closed forms.

``infodist study frontier --work FOLDER [--data FOLDER] [-k 1000 -k 2000 …] [-p NAME …] [--output FOLDER]``

B given A on two pairs: the other half of the classes, and from a random start. Seconds are those of coding, without
the forward pass of each model that all of them need. Every figure is kept in the work folder as soon as it is there.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accelerate import Accelerator

from hf_infodist.coding.trainer import train_codelength
from hf_infodist.pair import Pair
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.records import package_versions
from hf_infodist.studies.measures.preqtorch import encode
from hf_infodist.studies.networks.pairs import PAIRS, default_data, load_pair
from hf_infodist.studies.report.options import Data, Folder, Work, one_of

CODERS = ("standard", "thorough", "single", "blockwise", "paper", "preqtorch-blocks")
_PAIRS = ("other-half", "from-random")
_PREQTORCH_RATE = 3e-3  # of the five rates of `tightness`, the best on both pairs


@dataclass(frozen=True)
class Point:
    """What a coder cost.

    Attributes:
        pair: Which.
        coder: A preset, or ``preqtorch-blocks``.
        k: Images.
        nats: Codelength.
        last_nats: Mean price over the last tenth of the images; None of preqtorch, which has one for each block only.
        seconds: Wall time of coding.
    """

    pair: str
    coder: str
    k: int
    nats: float
    last_nats: float | None
    seconds: float


def measure_point(name: str, pair: Pair, coder: str, k: int, accelerator: Accelerator) -> Point:
    """Code B given A."""
    pair.ends("b_given_a")  # runs the models, whose time does not count
    started = time.perf_counter()
    if coder == "preqtorch-blocks":
        nats = encode(pair, "blocks", _PREQTORCH_RATE, batchnorm="adapting", accelerator=accelerator).nats
        return Point(name, coder, k, nats, None, time.perf_counter() - started)
    code = train_codelength(pair, "b_given_a", PROTOCOLS[coder], accelerator=accelerator)
    last = float(code.image_nats[-(k // 10) :].mean())
    return Point(name, coder, k, code.nats, last, time.perf_counter() - started)


def points(ks: Sequence[int], coders: Sequence[str], work: Path, data: Path) -> list[Point]:
    """Return all points; those that the work folder has are not measured again."""
    file, accelerator = work / "frontier.jsonl", make_accelerator()
    lines = file.read_text().splitlines() if file.exists() else []
    found = [Point(**json.loads(line)) for line in lines]
    known = {(point.pair, point.coder, point.k) for point in found}
    for setting in (setting for setting in PAIRS if setting.name in _PAIRS):
        for k in ks:
            missing = [coder for coder in coders if (setting.name, coder, k) not in known]
            pair = load_pair(replace(setting, k=k), data, seed=0, accelerator=accelerator) if missing else None
            for coder in missing:
                assert pair is not None
                found.append(measure_point(setting.name, pair, coder, k, accelerator))
                with file.open("a") as lines_file:
                    lines_file.write(json.dumps(asdict(found[-1])) + "\n")
    return [point for point in found if point.k in ks and point.coder in coders]


def draw(found: Sequence[Point], path: Path) -> None:
    """Draw nats against seconds for each k, and the price of the last images against k."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4 * len(_PAIRS)), layout="constrained")
    names = [name for name in _PAIRS if any(point.pair == name for point in found)]
    for row, name in enumerate(names):
        left, right = (figure.add_subplot(len(names), 2, 2 * row + side) for side in (1, 2))
        for number, coder in enumerate(CODERS):
            of_coder = sorted((p for p in found if (p.pair, p.coder) == (name, coder)), key=lambda p: p.k)
            if not of_coder:
                continue
            style: dict[str, Any] = {"marker": "o", "color": f"C{number}", "label": coder}
            left.plot([p.seconds for p in of_coder], [p.nats / p.k for p in of_coder], **style)
            for p in of_coder:
                left.annotate(f"{p.k:,}", (p.seconds, p.nats / p.k), (4, 4), textcoords="offset points", fontsize=7)
            priced = [(p.k, p.last_nats) for p in of_coder if p.last_nats is not None]
            right.plot([k for k, _ in priced], [last for _, last in priced], **style)
        left.set(xscale="log", yscale="log", xlabel="seconds of coding", ylabel="nats an image", title=f"{name}, by k")
        right.set(xscale="log", yscale="log", xlabel="k", ylabel="nats of each of the last tenth", title=name)
        left.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main(
    work: Work,
    data: Data = default_data(),
    k: Annotated[list[int], typer.Option("-k", help="numbers of images")] = [1000, 2000, 4000, 10_000],
    protocols: Annotated[list[str], one_of(CODERS, "--protocol", "-p", what="coders to measure")] = list(CODERS),
    output: Folder = None,
) -> None:
    """Measure what is missing, print all, and draw."""
    work.mkdir(parents=True, exist_ok=True)
    found = points(k, protocols, work, data)
    figures = {
        "threads": torch.get_num_threads(),
        "versions": package_versions(),
        "points": [asdict(point) for point in found],
    }
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / "frontier.json").write_text(json.dumps(figures, indent=1) + "\n")
        draw(found, output / "frontier.png")
    for point in found:
        last = "" if point.last_nats is None else f", last tenth {point.last_nats:.4f} each"
        sys.stdout.write(
            f"{point.pair}, k={point.k}, {point.coder}: {point.nats:.1f} nats{last}, {point.seconds:.0f} s\n"
        )
