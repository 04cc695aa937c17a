"""Commands about two models."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_infodist.cli.options import (
    DEFAULT_IMAGES,
    ColumnOption,
    ConfigOption,
    DataParallelOption,
    FreshOption,
    ImagesOption,
    JsonOption,
    KOption,
    LimitOption,
    ModelA,
    ModelB,
    OrdersOption,
    OutputOption,
    ProcessesOption,
    ProtocolOption,
    SeedOption,
    SplitOption,
    StreamingOption,
)
from hf_infodist.cli.start import start_processes
from hf_infodist.cli.terminal import (
    Progress,
    duration,
    interactive,
    say,
    show,
    speaks,
)
from hf_infodist.errors import ResourceError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hf_infodist.codelength import Codelength
    from hf_infodist.distance import Pair
    from hf_infodist.estimate import Estimate
    from hf_infodist.models import Classifier
    from hf_infodist.protocol import CodingProtocol
    from hf_infodist.result import InformationDistance

_LONG_SECONDS = 120  # from here on it is worth saying how to be faster


def compare(
    context: typer.Context,
    a: ModelA,
    b: ModelB,
    images: ImagesOption = DEFAULT_IMAGES,
    config: ConfigOption = None,
    split: SplitOption = None,
    column: ColumnOption = None,
    k: KOption = None,
    seed: SeedOption = 0,
    protocol: ProtocolOption = "standard",
    orders: OrdersOption = 1,
    streaming: StreamingOption = False,
    processes: ProcessesOption = 1,
    data_parallel: DataParallelOption = False,
    time_limit: LimitOption = None,
    fresh: FreshOption = False,
    with_baselines: Annotated[bool, typer.Option("--baselines", help="add what 'infodist baselines' says")] = False,
    with_complexities: Annotated[
        bool,
        typer.Option("--complexities", help="code both from fresh networks too: the share of it that is left"),
    ] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="draw both curves there, as PNG and SVG")] = None,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Information distance between two models on the images of a dataset.

    A comparison that is cut off goes on where it stood when the same command is typed again; one that was finished is
    found in the store.
    """
    start_processes(processes, context)
    source = {"config": config, "split": split, "column": column, "streaming": streaming}
    result, pair = compare_pair(
        a,
        b,
        images,
        source,
        k=k,
        seed=seed,
        protocol=protocol,
        orders=orders,
        time_limit=time_limit,
        data_parallel=data_parallel,
        fresh=fresh,
    )
    fields, text = result.to_dict(), str(result)
    if with_baselines:
        rows, table = measure(pair)
        fields, text = fields | {"baselines": rows}, f"{text}\n\n{table}"
    if with_complexities:
        found, line = _against_nothing(result, (a, b), images, source, k, seed)
        fields, text = fields | {"complexities": found}, f"{text}\n{line}"
    if plot and speaks():
        from hf_infodist.plots import draw_curves, save

        say(f"wrote {' and '.join(map(str, save(draw_curves(result), plot)))}")
    show(fields, text, as_json, output)


def baselines(
    a: ModelA,
    b: ModelB,
    images: ImagesOption = DEFAULT_IMAGES,
    config: ConfigOption = None,
    split: SplitOption = None,
    column: ColumnOption = None,
    k: KOption = None,
    seed: SeedOption = 0,
    streaming: StreamingOption = False,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Other measures of two models: of weights, features and outputs, such as CKA and KL; learns nothing."""
    source = {"config": config, "split": split, "column": column, "streaming": streaming}
    pair = prepare(a, b, images, source, k, seed)
    rows, table = measure(pair)
    fields = {"schema": "infodist.baselines/1"} | _describe(pair) | {"baselines": rows}
    show(fields, table, as_json, output)


def demo(as_json: JsonOption = False, output: OutputOption = None) -> None:
    """Compare the two embedded checkpoints on handwritten digits; works offline, takes seconds."""
    result, _ = compare_pair("demo:cnn", "demo:vit", "digits", {}, k=1000, seed=0, protocol="standard")
    show(result.to_dict(), str(result), as_json, output)


def estimate(
    a: ModelA,
    b: ModelB,
    k: KOption = None,
    protocol: ProtocolOption = "standard",
    as_json: JsonOption = False,
) -> None:
    """Operations, expected seconds, memory and disk of a comparison; downloads no weights."""
    from hf_infodist.estimate import estimate_cost
    from hf_infodist.images import DEFAULT_K, check_sample
    from hf_infodist.models import load_classifier
    from hf_infodist.protocol import resolve_protocol
    from hf_infodist.training import make_accelerator

    settings = resolve_protocol(protocol)
    check_sample(k, seed=0)
    random = [load_classifier(name if name.startswith("random:") else f"random:{name}") for name in (a, b)]
    cost = estimate_cost(random, k or DEFAULT_K, settings, make_accelerator().device)
    show(cost.to_dict(), _cost_table(cost), as_json)


def compare_pair(
    a: str,
    b: str,
    images: str,
    source: dict[str, Any],
    *,
    k: int | None,
    seed: int,
    protocol: str,
    orders: int = 1,
    time_limit: float | None = None,
    data_parallel: bool = False,
    fresh: bool = False,
) -> tuple["InformationDistance", "Pair"]:
    """Compare two models, with a bar, after a word on what it will cost."""
    from hf_infodist.protocol import resolve_protocol

    settings = resolve_protocol(protocol, seed, orders)
    pair = prepare(a, b, images, source, k, seed)
    from hf_infodist.distance import Execution, distance_of_pair
    from hf_infodist.pair import stored_directions
    from hf_infodist.training import make_accelerator

    accelerator, execution = make_accelerator(), Execution(data_parallel=data_parallel, fresh=fresh)
    known = stored_directions(pair, settings, accelerator=accelerator, execution=execution)
    students = [student for direction, student in pair.students.items() if direction not in known]
    runs = orders * len(students)
    rounds = -(-runs // min(accelerator.num_processes, runs)) if runs else 0  # that this process takes part in
    if students:
        announce_cost(students, pair, settings, accelerator, time_limit)
    with Progress(rounds * len(pair.images), time_limit) as progress:
        result = distance_of_pair(pair, settings, accelerator=accelerator, execution=execution, on_block=progress)
    return result, pair


def prepare(a: str, b: str, images: str, source: dict[str, Any], k: int | None, seed: int) -> "Pair":
    """Load two models and the images, and say so."""
    say(f"loading {a}, {b} and {images}")
    from hf_infodist.distance import prepare_pair

    return prepare_pair(a, b, images, k=k, seed=seed, progress=interactive(), **source)


def code_complexity(
    model: str, images: str, source: dict[str, Any], k: int | None, seed: int, protocol: "CodingProtocol"
) -> tuple["Pair", "Codelength"]:
    """Code a model, the second of the pair, given a fresh network of its architecture."""
    pair = prepare(f"random:{model}", model, images, source, k, seed)
    from hf_infodist.distance import code_pair
    from hf_infodist.training import make_accelerator

    with Progress(protocol.orders * len(pair.images)) as progress:
        return pair, code_pair(pair, ["b_given_a"], protocol, accelerator=make_accelerator(), on_block=progress)[0]


def _against_nothing(
    result: "InformationDistance",
    names: tuple[str, str],
    images: str,
    source: dict[str, Any],
    k: int | None,
    seed: int,
) -> tuple[dict[str, Any], str]:
    """Return both complexities and the distance as a share of the larger, as JSON types and as text."""
    a, b = (code_complexity(name, images, source, k, seed, result.protocol)[1] for name in names)
    from hf_infodist.result import percent

    share = result.share_of_complexity(a, b)
    fields = {"a_nats": a.nats, "b_nats": b.nats, "normalised": share if math.isfinite(share) else None}
    return fields, (
        f"Made from fresh networks instead, {names[0]} costs {a.nats:.1f} nats and {names[1]} {b.nats:.1f}: "
        f"the distance is {percent(share)} of the larger."
    )


def measure(pair: "Pair") -> tuple[list[dict[str, Any]], str]:
    """Return the baselines of a pair as JSON types and as text."""
    from hf_infodist.baselines import baselines, format_table

    say("measuring weights, features and outputs")
    results = baselines(pair)
    sample = f"{len(pair.images)} images of {pair.images.id}, seed {pair.images.seed}"
    heading = f"A is {pair.a.id}, B is {pair.b.id}, on {sample}"
    return [vars(row).copy() for row in results], f"{heading}\n{format_table(results)}"


def _describe(pair: "Pair") -> dict[str, Any]:
    from hf_infodist.result import ModelRecord, package_versions

    models = {"model_a": vars(ModelRecord.of(pair.a)).copy(), "model_b": vars(ModelRecord.of(pair.b)).copy()}
    return models | {"images": pair.images.to_dict(), "versions": package_versions()}


def announce_cost(
    students: Sequence["Classifier"],
    pair: "Pair",
    protocol: "CodingProtocol",
    accelerator: "Accelerator",
    time_limit: float | None,
) -> None:
    """Say what a comparison takes, and refuse one that cannot end in time."""
    from hf_infodist.estimate import estimate_cost

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
