"""Commands about two models."""

import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_infodist.cli.options import AsJson, Coding, K, ModelA, ModelB, Processes, Report, command
from hf_infodist.cli.start import start_processes
from hf_infodist.cli.terminal import (
    Progress,
    check_file,
    duration,
    interactive,
    say,
    show,
    speaks,
)
from hf_infodist.cli.trackers import check_trackers
from hf_infodist.errors import ResourceError
from hf_infodist.images.request import DEFAULT_K, Sample

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hf_infodist.distances.cost import Estimate
    from hf_infodist.models.classifier import Classifier
    from hf_infodist.pair import Pair
    from hf_infodist.protocol import CodingProtocol
    from hf_infodist.results.codelength import Codelength
    from hf_infodist.results.distance import InformationDistance

_LONG_SECONDS = 120  # from here on it is worth saying how to be faster


@dataclass(frozen=True)
class Run:
    """How a comparison is carried out.

    Attributes:
        processes: Processes of this machine.
        data_parallel: Whether they share each batch instead of having a learner each.
        time_limit: Minutes after which it is given up.
        fresh: Whether to compute what the store has already.
        log_with: Trackers that both curves are logged to.
    """

    processes: Processes = 1
    data_parallel: Annotated[
        bool,
        typer.Option("--data-parallel", help="share each batch instead of having a learner on each process"),
    ] = False
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", help="give up (exit code 5) after so many minutes")
    ] = None
    fresh: Annotated[bool, typer.Option("--fresh", help="compute again what the store has already")] = False
    log_with: Annotated[
        list[str] | None,
        typer.Option("--log-with", help="log both curves live: tensorboard, trackio or wandb; give one or more"),
    ] = None

    def __post_init__(self) -> None:
        check_trackers(self.log_with or ())


_AS_USUAL = Run()


@dataclass(frozen=True)
class Extras:
    """What a comparison adds to the distance.

    Attributes:
        baselines: Other measures of the two models.
        complexities: What both cost from fresh networks.
        plot: Where both curves are drawn.
    """

    baselines: Annotated[bool, typer.Option("--baselines", help="add what 'infodist baselines' says")] = False
    complexities: Annotated[
        bool, typer.Option("--complexities", help="code both from fresh networks too: the share of it that is left")
    ] = False
    plot: Annotated[Path | None, typer.Option("--plot", help="draw both curves there, as PNG and SVG")] = None

    def __post_init__(self) -> None:
        check_file(self.plot and self.plot.with_suffix(".png"))


@command
def compare(
    context: typer.Context,
    a: ModelA,
    b: ModelB,
    sample: Sample,
    coding: Coding,
    run: Run,
    extras: Extras,
    report: Report,
) -> None:
    """Information distance between two models on the images of a dataset.

    A comparison that is cut off goes on where it stood when the same command is typed again; one that was finished is
    found in the store.
    """
    start_processes(run.processes, context)
    result, pair = compare_pair(a, b, sample, coding, run)
    fields, text = result.to_dict(), str(result)
    if extras.baselines:
        rows, table = measure_baselines(pair)
        fields, text = fields | {"baselines": rows}, f"{text}\n\n{table}"
    if extras.complexities:
        found, line = _against_nothing(result, (a, b), sample)
        fields, text = fields | {"complexities": found}, f"{text}\n{line}"
    if extras.plot and speaks():
        from hf_infodist.results.pictures import save

        say(f"wrote {' and '.join(map(str, save(result.plot(), extras.plot)))}")
    report.show_fields(fields, text)


@command
def baselines(a: ModelA, b: ModelB, sample: Sample, report: Report) -> None:
    """Other measures of two models: of weights, features and outputs, such as CKA and KL; learns nothing."""
    pair = prepare(a, b, sample)
    rows, table = measure_baselines(pair)
    report.show_fields({"schema": "infodist.baselines/1"} | _describe(pair) | {"baselines": rows}, table)


@command
def demo(report: Report) -> None:
    """Compare the two embedded checkpoints on handwritten digits; works offline, takes seconds."""
    report.show(compare_pair("demo:cnn", "demo:vit", Sample("digits", k=1000), Coding())[0])


@command
def estimate(a: ModelA, b: ModelB, coding: Coding, k: K = None, as_json: AsJson = False) -> None:
    """Operations, expected seconds, memory and disk of a comparison; downloads no weights."""
    from hf_infodist.distances.cost import estimate_cost
    from hf_infodist.models.load import load_classifier
    from hf_infodist.processes import make_accelerator

    settings, sample = coding.resolve(0), Sample(k=k)
    random = [load_classifier(name if name.startswith("random:") else f"random:{name}") for name in (a, b)]
    cost = estimate_cost(random, sample.k or DEFAULT_K, settings, make_accelerator().device)
    show(cost.to_dict(), _cost_table(cost), as_json)


def compare_pair(
    a: str, b: str, sample: Sample, coding: Coding, run: Run = _AS_USUAL
) -> tuple["InformationDistance", "Pair"]:
    """Compare two models, with a bar, after a word on what it will cost."""
    settings = coding.resolve(sample.seed)
    pair = prepare(a, b, sample)
    from hf_infodist.distances.code import stored_directions
    from hf_infodist.distances.distance import distance_of_pair
    from hf_infodist.distances.tracking import Curves
    from hf_infodist.pair import DIRECTIONS, Execution
    from hf_infodist.processes import make_accelerator

    accelerator = make_accelerator()
    execution = Execution(data_parallel=run.data_parallel, fresh=run.fresh)
    known = stored_directions(pair, settings, accelerator=accelerator, execution=execution)
    students = [pair.roles(direction)[0] for direction in DIRECTIONS if direction not in known]
    runs = settings.orders * len(students)
    rounds = -(-runs // min(accelerator.num_processes, runs)) if runs else 0  # that this process takes part in
    if students:
        announce_cost(students, pair, settings, accelerator, run.time_limit)
    trackers = run.log_with if accelerator.process_index < (1 if run.data_parallel else max(runs, 1)) else None
    with (
        Progress(rounds * len(pair.images), run.time_limit) as progress,
        Curves(trackers or (), pair, settings, progress) as curves,
    ):
        result = distance_of_pair(pair, settings, accelerator=accelerator, execution=execution, on_block=curves)
        curves.complete(result)
    if "tensorboard" in (run.log_with or ()):
        say(f"to see the curves: tensorboard --logdir {shlex.quote(str(curves.folder))}")
    return result, pair


def prepare(a: str, b: str, sample: Sample) -> "Pair":
    """Load two models and the images, and say so."""
    say(f"loading {a}, {b} and {sample.images}")
    from hf_infodist.pair import prepare_pair

    return prepare_pair(a, b, sample, progress=interactive())


def code_complexity(model: str, sample: Sample, protocol: "CodingProtocol") -> tuple["Pair", "Codelength"]:
    """Code a model, the second of the pair, given a fresh network of its architecture."""
    pair = prepare(f"random:{model}", model, sample)
    from hf_infodist.distances.code import code_pair
    from hf_infodist.processes import make_accelerator

    with Progress(protocol.orders * len(pair.images)) as progress:
        return pair, code_pair(pair, ["b_given_a"], protocol, accelerator=make_accelerator(), on_block=progress)[0]


def _against_nothing(
    result: "InformationDistance", names: tuple[str, str], sample: Sample
) -> tuple[dict[str, Any], str]:
    """Return both complexities and the distance as a share of the larger, as JSON types and as text."""
    a, b = (code_complexity(name, sample, result.protocol)[1] for name in names)
    from hf_infodist.results.words import Unit, percent

    share = result.share_of_complexity(a, b)
    rate_a, rate_b = (Unit.BITS.rate(code.nats, code.stderr_nats, result.images.k) for code in (a, b))
    fields = {"a_nats": a.nats, "b_nats": b.nats, "normalised": share if math.isfinite(share) else None}
    return fields, (
        f"Made from fresh networks instead, {names[0]} takes {rate_a} and {names[1]} {rate_b}: "
        f"the distance is {percent(share)} of the larger."
    )


def measure_baselines(pair: "Pair") -> tuple[list[dict[str, Any]], str]:
    """Return the baselines of a pair as JSON types and as text."""
    from hf_infodist.baselines import baselines, format_table

    say("measuring weights, features and outputs")
    results = baselines(pair)
    sample = f"{len(pair.images)} images of {pair.images.id}, seed {pair.images.seed}"
    heading = f"A is {pair.a.id}, B is {pair.b.id}, on {sample}"
    return [vars(row).copy() for row in results], f"{heading}\n{format_table(results)}"


def _describe(pair: "Pair") -> dict[str, Any]:
    from hf_infodist.results.records import package_versions

    models = {"model_a": vars(pair.a.record).copy(), "model_b": vars(pair.b.record).copy()}
    return models | {"images": vars(pair.images.record), "versions": package_versions()}


def announce_cost(
    students: Sequence["Classifier"],
    pair: "Pair",
    protocol: "CodingProtocol",
    accelerator: "Accelerator",
    time_limit: float | None,
) -> None:
    """Say what a comparison takes, and refuse one that cannot end in time."""
    from hf_infodist.distances.cost import estimate_cost

    if not accelerator.is_main_process:
        return
    cost = estimate_cost(students, len(pair.images), protocol, accelerator.device)
    seconds = cost.seconds / min(accelerator.num_processes, len(students) * protocol.orders)
    say(f"{_work(cost)} on {cost.device}, about {duration(seconds)}")
    cores, fine_tunes = os.cpu_count() or 1, cost.gradient_images > 0
    if (
        fine_tunes
        and seconds > _LONG_SECONDS
        and accelerator.device.type == "cpu"
        and accelerator.num_processes < cores
    ):
        say(f"--processes {cores} would use all {cores} cores; fine-tuning takes one core of each process")
    if time_limit and seconds > 60 * time_limit:
        raise ResourceError(
            f"this comparison takes about {duration(seconds)} on {cost.device}",
            f"the limit is {duration(60 * time_limit)}",
            "raise --time-limit, lower -k, or use --protocol standard",
        )


def _cost_table(cost: "Estimate") -> str:
    rows = [
        f"{m.id}: {m.parameters / 1e6:.1f} M weights, {m.forward_flops / 1e9:.3g} GFLOP forward, "
        f"{m.training_flops / 1e9:.3g} GFLOP forward and backward"
        for m in cost.models
    ]
    total = (
        f"{cost.k:,} images, {_work(cost)}, {cost.flops / 1e12:.3g} TFLOP: "
        f"about {duration(cost.seconds)} on {cost.device}, "
        f"{cost.memory_bytes / 1e9:.1f} GB of memory besides the models, {cost.disk_bytes / 1e9:.1f} GB of disk"
    )
    return "\n".join([*rows, total])


def _work(cost: "Estimate") -> str:
    """Say what is done with the images."""
    if not cost.gradient_images:
        return "one forward pass of each model and no gradients"
    return f"{cost.gradient_images:,} gradient images"
