"""What kernels that begin with nothing are worth to ``standard``, and adapted features to ``thorough``.

``infodist study adaptation [--data FOLDER] [--pair NAME …] [-k K …] [--variant NAME …] [--output FILE]``

Nats of B given A, price of the last tenth of the images, seconds of the process on one thread, and gradient images for
each image.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import typer
from accelerate import Accelerator

from hf_infodist.coding.trainer import train_codelength
from hf_infodist.pair import Pair
from hf_infodist.processes import make_accelerator, one_thread
from hf_infodist.protocol import PROTOCOLS, CodingProtocol
from hf_infodist.studies.networks.pairs import PAIRS, default_data, load_pair
from hf_infodist.studies.report.options import Data, File, one_of
from hf_infodist.studies.report.output import show_json

_STANDARD, _THOROUGH, _NAMES = PROTOCOLS["standard"], PROTOCOLS["thorough"], tuple(setting.name for setting in PAIRS)
_BEGUN = tuple(learner for learner in _STANDARD.learners if learner.start != "nothing")
_AFRESH = tuple(learner for learner in _STANDARD.learners if learner.start == "nothing")
_TWINS = tuple(
    replace(learner, start="nothing", prior_if_named=_AFRESH[0].prior_if_named)
    for learner in _BEGUN
    if learner.kind == "kernel" and learner.start == "student"
)
_UNADAPTED = tuple(learner for learner in _THOROUGH.learners if learner.kind != "adapted")
VARIANTS: dict[str, CodingProtocol] = {
    "standard": _STANDARD,
    "begun": replace(_STANDARD, name="begun", learners=_BEGUN),  # the preset of version 2
    "as-likely": replace(
        _STANDARD,
        name="as-likely",
        learners=_BEGUN + tuple(replace(learner, prior_if_named=1.0) for learner in _AFRESH),
    ),
    "twins": replace(_STANDARD, name="twins", learners=_BEGUN + _TWINS),
    "unadapted": replace(_THOROUGH, name="unadapted", learners=_UNADAPTED),
    "thorough": _THOROUGH,
    "batch-16": replace(_THOROUGH, name="batch-16", batch=16),
    "batch-32": replace(_THOROUGH, name="batch-32", batch=32),
    "two-passes": replace(_THOROUGH, name="two-passes", passes=2),
}


@dataclass(frozen=True)
class Tried:
    """What a variant has cost.

    Attributes:
        pair: Which.
        k: Images.
        variant: One of `VARIANTS`.
        nats: Codelength.
        stderr_nats: Its standard error.
        last_nats: Mean price over the last tenth of the images.
        seconds: Of this process, coding alone.
        gradient_images: For each image.
    """

    pair: str
    k: int
    variant: str
    nats: float
    stderr_nats: float
    last_nats: float
    seconds: float
    gradient_images: float


def attempt(name: str, pair: Pair, variant: str, accelerator: Accelerator) -> Tried:
    """Code B given A."""
    pair.ends("b_given_a")  # runs the models, whose time does not count
    started, k = time.process_time(), len(pair.images)
    with one_thread(accelerator.device):
        code = train_codelength(pair, "b_given_a", VARIANTS[variant], accelerator=accelerator)
    seconds, last = time.process_time() - started, float(code.image_nats[-(k // 10) :].mean())
    return Tried(name, k, variant, code.nats, code.stderr_nats, last, seconds, code.gradient_images / k)


def main(
    data: Data = default_data(),
    pairs: Annotated[list[str], one_of(_NAMES, "--pair", what="which pairs")] = ["from-random", "other-half"],
    k: Annotated[list[int], typer.Option("-k", help="numbers of images")] = [1000],
    variants: Annotated[list[str], one_of(VARIANTS, "--variant", what="which, instead of all")] = list(VARIANTS),
    output: File = None,
) -> None:
    """Measure and print."""
    accelerator, found = make_accelerator(), []
    load: Callable[..., Any] = partial(load_pair, seed=0, accelerator=accelerator)
    for setting in (setting for setting in PAIRS if setting.name in pairs):
        for size in k:
            pair = load(replace(setting, k=size), data)
            found += [vars(attempt(setting.name, pair, variant, accelerator)) for variant in variants]
    show_json({"device": accelerator.device.type, "tried": found}, output)
