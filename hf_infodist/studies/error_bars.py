"""Whether the error bars cover what they promise: over orders, over images, and over drawn labels.

``infodist study error_bars STUDENT TEACHER --images NAME [-k 500] [--runs 10] [--output error_bars.json]``

1. The same images in several orders: the spread of the codelengths against the standard error over images.
2. Several samples of the same dataset: the same, and the number that the error bar is about.
3. Several draws of labels, under `sampled`: the sampled codelength, equation (3), against the rigorous expected form
   (the student sees the same labels, the price is the exact KL), and information transfer, equation (8), against both.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Annotated, Any

import typer

from hf_infodist.distances.code import code_pair
from hf_infodist.pair import Pair, prepare_pair
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import PROTOCOLS, CodingProtocol
from hf_infodist.results.codelength import Codelength
from hf_infodist.results.records import package_versions
from hf_infodist.studies.report.options import File, Images, Protocol
from hf_infodist.studies.report.output import show_json


def spread(codes: Sequence[Codelength]) -> dict[str, float]:
    """Return mean and standard deviation of some codelengths, and how many lie within two reported standard errors."""
    nats, errors = [code.nats for code in codes], [code.stderr_nats for code in codes]
    mean = fmean(nats)
    return {
        "nats": mean,
        "standard_deviation": stdev(nats),
        "reported_standard_error": fmean(errors),
        "within_one_error_of_the_mean": fmean(abs(n - mean) <= e for n, e in zip(nats, errors, strict=True)),
        "within_two_errors_of_the_mean": fmean(abs(n - mean) <= 2 * e for n, e in zip(nats, errors, strict=True)),
    }


def difference(a: Sequence[float], b: Sequence[float]) -> dict[str, float]:
    """Return the mean of paired differences, nats, and its standard error."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    return {"mean_nats": fmean(differences), "standard_error": stdev(differences) / math.sqrt(len(differences))}


def over_orders(pair: Pair, protocol: CodingProtocol, runs: int) -> dict[str, Any]:
    """Code the same images in several orders."""
    many = _code(pair, replace(protocol, orders=runs))
    return {
        "nats": many.nats,
        "standard_deviation": stdev(many.order_nats),
        "reported_standard_error": many.stderr_nats,
        "within_one_error_of_the_mean": fmean(abs(n - many.nats) <= many.stderr_nats for n in many.order_nats),
        "standard_error_of_the_mean_over_orders": many.stderr_orders_nats,
    }


def over_draws(pair: Pair, protocol: CodingProtocol, runs: int) -> dict[str, Any]:
    """Draw labels several times, and price them as labels and by the exact KL."""
    labels = replace(protocol, targets="labels", price="labels")
    same = Pair(pair.b, pair.b, pair.images, pair.run)
    priced_as_labels, priced_by_kl, transfers = [], [], []
    for seed in range(runs):
        sampled = _code(pair, replace(labels, seed=seed)).nats
        priced_as_labels.append(sampled)
        priced_by_kl.append(_code(pair, replace(labels, price="kl", seed=seed)).nats)
        transfers.append(sampled - _code(same, replace(labels, seed=seed)).nats)
    return {
        "sampled_nats": fmean(priced_as_labels),
        "expected_nats": fmean(priced_by_kl),
        "information_transfer_nats": fmean(transfers),
        "sampled_less_expected": difference(priced_as_labels, priced_by_kl),
        "transfer_less_expected": difference(transfers, priced_by_kl),
    }


def _code(pair: Pair, protocol: CodingProtocol) -> Codelength:
    return code_pair(pair, ["b_given_a"], protocol, accelerator=make_accelerator())[0]


def main(
    student: Annotated[str, typer.Argument(metavar="STUDENT", help="name of a model: where learning starts")],
    teacher: Annotated[str, typer.Argument(metavar="TEACHER", help="name of a model: its outputs are learnt")],
    images: Annotated[str, typer.Option("--images", "-i", help="name of a dataset")],
    k: Images = 500,
    protocol: Protocol = "standard",
    runs: Annotated[int, typer.Option("--runs", help="orders, samples, and half of the draws")] = 10,
    output: File = None,
) -> None:
    """Measure and print one JSON object."""
    coding = PROTOCOLS[protocol]

    def sample(seed: int) -> Pair:
        return prepare_pair(student, teacher, images, k=k, seed=seed)

    pair = sample(0)
    figures = {
        "models": [pair.a.id, pair.b.id],
        "k": k,
        "runs": runs,
        "protocol": coding.name,
        "orders": over_orders(pair, coding, runs),
        "samples": spread([_code(sample(seed), replace(coding, seed=seed)) for seed in range(runs)]),
        "draws": over_draws(pair, PROTOCOLS["sampled"], 2 * runs),
        "versions": package_versions(),
    }
    show_json(figures, output)
