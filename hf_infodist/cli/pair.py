"""Commands about two models."""

import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_infodist.cli.comparing import code_complexity, compare_pair, prepare
from hf_infodist.cli.options import Coding, K, ModelA, ModelB, Output, Report, Run, command
from hf_infodist.cli.terminal import check_file, duration, say, speaks
from hf_infodist.errors import UsageError
from hf_infodist.images.request import DEFAULT_K, Sample
from hf_infodist.results.words import Unit

if TYPE_CHECKING:
    from hf_infodist.distances.cost import Estimate
    from hf_infodist.pair import Pair
    from hf_infodist.results.distance import InformationDistance


@dataclass(frozen=True)
class Extras:
    """What a comparison adds to the distance.

    Attributes:
        baselines: Other measures of the two models.
        complexities: What both cost from fresh networks.
        plot: Where both curves are drawn.
    """

    baselines: Annotated[bool, typer.Option("--baselines", help="Add what 'infodist baselines' says.")] = False
    complexities: Annotated[
        bool,
        typer.Option("--complexities", help="Code both from fresh networks too, and tell the share that is left."),
    ] = False
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw both curves there, as PNG and SVG.")] = None

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
    """Measure the information distance between two models.

    It is measured on the images of a dataset. A comparison that is cut off goes on where it stood when the same
    command is typed again; one that was finished is found in the store.

    Example: infodist compare demo:cnn demo:vit -i digits -k 400
    """
    if context.args:
        what, why = f"{2 + len(context.args)} models are named", "infodist compare tells all about two"
        nearest = shlex.join(["infodist", "nearest", a, b, *context.args])
        raise UsageError(what, why, f"to rank the others by their distance from {a}: {nearest}")
    result = compare_pair(context, (a, b), sample, coding, run)
    fields, text = result.to_dict(), [lambda: report.text(result)]
    if extras.baselines:
        rows, table = measure_baselines(prepare(a, b, sample))
        fields["baselines"] = rows
        text += [lambda: "", table]
    if extras.complexities:
        fields["complexities"], line = _against_nothing(context, result, (a, b), sample, coding, run, report.unit)
        text += [lambda: line]
    if extras.plot and speaks():
        from hf_infodist.results.pictures import save

        say(f"wrote {' and '.join(map(str, save(result.plot(), extras.plot)))}")
    next = "'--plot curves.png' draws what both directions cost; 'infodist nearest A B OTHER…' ranks several models"
    brief = report.number(result.nats, result.images.k)
    report.show_fields(fields, lambda: "\n".join(part() for part in text), brief, next, found=result)


@command
def baselines(a: ModelA, b: ModelB, sample: Sample, report: Output) -> None:
    """Measure two models by CKA, KL and other measures.

    These are of weights, features and outputs; nothing is learnt.

    Example: infodist baselines demo:cnn demo:vit -i digits -k 400
    """
    pair = prepare(a, b, sample)
    rows, table = measure_baselines(pair)
    fields = {"schema": "infodist.baselines/1"} | _describe(pair) | {"baselines": rows}
    brief = "\n".join("n/a" if row["value"] is None else f"{row['value']:.6g}" for row in rows)
    report.show_fields(fields, table, brief, f"'infodist compare {a} {b}' measures the information distance")


@command
def demo(context: typer.Context, report: Report) -> None:
    """Compare two built-in models on handwritten digits.

    This works offline and takes seconds.

    Example: infodist demo
    """
    result = compare_pair(context, ("demo:cnn", "demo:vit"), Sample("digits", k=1000), Coding())
    next = "'infodist compare A B -i DATASET' compares two models of your own; 'infodist show' opens the page"
    report.show(result, report.number(result.nats, result.images.k), next)


@command
def estimate(a: ModelA, b: ModelB, coding: Coding, report: Output, k: K = None) -> None:
    """Estimate what a comparison would cost.

    It tells operations, seconds, memory and disk; no weights are downloaded.

    Example: infodist estimate timm:resnet50 torchvision:resnet18 -k 1000
    """
    say(f"building {a} and {b} with fresh weights")
    from hf_infodist.distances.cost import estimate_cost
    from hf_infodist.models.load import load_classifier
    from hf_infodist.processes import make_accelerator

    settings, sample = coding.resolve(0), Sample(k=k)
    random = [load_classifier(name if name.startswith("random:") else f"random:{name}") for name in (a, b)]
    cost = estimate_cost(random, sample.k or DEFAULT_K, settings, make_accelerator().device)
    next = f"'infodist compare {a} {b}' with the same options does it"
    report.show_fields(cost.to_dict(), _cost_table(cost), f"{cost.seconds:.1f}", next)


def _against_nothing(
    context: typer.Context,
    result: "InformationDistance",
    names: tuple[str, str],
    sample: Sample,
    coding: Coding,
    run: Run,
    unit: Unit,
) -> tuple[dict[str, Any], str]:
    """Return both complexities and the distance as a share of the larger, as JSON types and as text."""
    a, b = (code_complexity(context, name, sample, coding, run).codes[1, 0] for name in names)
    from hf_infodist.results.words import percent

    share = result.share_of_complexity(a, b)
    rate_a, rate_b = (unit.rate(code.nats, code.stderr_nats, result.images.k) for code in (a, b))
    fields = {"a_nats": a.nats, "b_nats": b.nats, "normalised": share if math.isfinite(share) else None}
    return fields, (
        f"Made from fresh networks instead, {names[0]} takes {rate_a} and {names[1]} {rate_b}: "
        f"the distance is {percent(share)} of the larger."
    )


def measure_baselines(pair: "Pair") -> tuple[list[dict[str, Any]], Any]:
    """Return the baselines of a pair as JSON types, and what makes a text of them."""
    from hf_infodist.baselines import baselines, format_table

    say("measuring weights, features and outputs")
    results = baselines(pair)
    sample = f"{len(pair.images)} images of {pair.images.id}, seed {pair.images.seed}"
    heading = f"A is {pair.a.id}, B is {pair.b.id}, on {sample}"
    return [vars(row).copy() for row in results], lambda: f"{heading}\n{format_table(results)}"


def _describe(pair: "Pair") -> dict[str, Any]:
    from hf_infodist.results.records import package_versions

    models = {"model_a": vars(pair.a.record).copy(), "model_b": vars(pair.b.record).copy()}
    return models | {"images": vars(pair.images.record), "versions": package_versions()}


def _cost_table(cost: "Estimate") -> str:
    rows = [
        f"{m.id}: {m.parameters / 1e6:.1f} M weights, {m.forward_flops / 1e9:.3g} GFLOP forward, "
        f"{m.training_flops / 1e9:.3g} GFLOP forward and backward"
        for m in cost.models
    ]
    total = (
        f"{cost.k:,} images, {cost.work}, {cost.flops / 1e12:.3g} TFLOP: "
        f"about {duration(cost.seconds)} on {cost.device}, "
        f"{cost.memory_bytes / 1e9:.1f} GB of memory besides the models, {cost.disk_bytes / 1e9:.1f} GB of disk"
    )
    return "\n".join([*rows, total])
