"""What commands compute: two models, or one and a fresh network, after a word on what it will cost."""

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from hf_infodist.cli.options import Coding, Run, Work
from hf_infodist.cli.progress import Progress
from hf_infodist.cli.start import alone, start_processes, words_of
from hf_infodist.cli.terminal import agrees, duration, interactive, say
from hf_infodist.errors import ResourceError
from hf_infodist.images.request import Sample

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hf_infodist.distances.answers import Answer, Question
    from hf_infodist.distances.cost import Estimate
    from hf_infodist.distances.plan import Plan
    from hf_infodist.models.classifier import Classifier
    from hf_infodist.pair import Pair
    from hf_infodist.protocol import CodingProtocol
    from hf_infodist.results.distance import InformationDistance

_LONG_SECONDS = 120  # from here on it is worth saying how to be faster
_ASKED_SECONDS = 600  # and from here on whether it is meant
_FEWER = 4  # share of the images that is proposed instead
_AS_USUAL = Run()


def compare_pair(
    context: typer.Context,
    names: tuple[str, str],
    sample: Sample,
    coding: Coding,
    run: Run = _AS_USUAL,
) -> "InformationDistance":
    """Compare two models, or find the answer in the store."""
    from hf_infodist.distances.answers import Question

    question = Question(names, sample, coding.resolve(sample.seed))
    found = _answer(context, question, run)
    from hf_infodist.results.distance import InformationDistance

    a, b = found.models
    codes = (found.codes[0, 1], found.codes[1, 0])
    return InformationDistance(*codes, a, b, found.images, question.protocol, found.device)


def code_complexity(
    context: typer.Context, model: str, sample: Sample, coding: Coding, run: Run = _AS_USUAL
) -> "Answer":
    """Code a model, the second of the answer, given a fresh network of its architecture, or find that in the store."""
    from hf_infodist.distances.answers import Question

    question = Question((f"random:{model}", model), sample, coding.resolve(sample.seed), "complexity")
    return _answer(context, question, run)


def prepare(a: str, b: str, sample: Sample) -> "Pair":
    """Load two models and the images, and say so."""
    say(f"loading {a}, {b} and {sample.images}")
    from hf_infodist.pair import prepare_pair

    return prepare_pair(a, b, sample, progress=interactive())


def _answer(context: typer.Context, question: "Question", run: Run) -> "Answer":
    """Answer a question from the store without opening anything, or compute the answer."""
    from hf_infodist.distances.answers import find_answer

    if alone() and not (run.fresh or run.data_parallel or run.log_with) and (known := find_answer(question)):
        return known
    start_processes(run.workers, context)
    return _compute(context, question, run)


def _compute(context: typer.Context, question: "Question", run: Run) -> "Answer":
    """Load models and images, code what the store does not have, and note what was asked."""
    from hf_infodist.distances.answers import Answer, Watch

    watch = Watch(question)
    a, b = question.names
    pair, protocol = prepare(a, b, question.sample), question.protocol
    from hf_infodist.coding.keys import device_of
    from hf_infodist.distances.code import code_pair, directed, stored_directions
    from hf_infodist.distances.tracking import Curves
    from hf_infodist.pair import Execution
    from hf_infodist.processes import make_accelerator

    accelerator = make_accelerator()
    names = {"a_given_b": (0, 1), "b_given_a": (1, 0)} if question.kind == "pair" else {"b_given_a": (1, 0)}
    options: Any = {
        "accelerator": accelerator,
        "execution": Execution(data_parallel=run.data_parallel, fresh=run.fresh),
    }
    known = stored_directions(pair, protocol, **options)
    students = [pair.roles(name)[0] for name in names if name not in known]
    runs = protocol.orders * len(students)
    rounds = -(-runs // min(accelerator.num_processes, runs)) if runs else 0  # that this process takes part in
    if students:
        announce_cost(context, students, pair, protocol, accelerator, run)
    logs = accelerator.process_index < (1 if run.data_parallel else max(runs, 1))
    with (
        Progress(rounds * len(pair.images), run.time_limit) as progress,
        Curves(run.log_with or () if logs else (), pair, protocol, progress) as curves,
    ):
        codes = code_pair(pair, list(names), protocol, on_block=curves, **options)
        curves.complete(dict(zip(names, codes, strict=True)))
    if "tensorboard" in (run.log_with or ()):
        say(f"to see the curves: tensorboard --logdir {shlex.quote(str(curves.folder))}")
    answer = Answer(
        (pair.a.record, pair.b.record),
        pair.images.record,
        device_of(accelerator, protocol),
        dict(zip(names.values(), codes, strict=True)),
    )
    if accelerator.is_main_process and not run.data_parallel:
        keys = {names[name]: directed(pair, name, protocol, accelerator).key for name in names}
        watch.keep(answer, keys)
    return answer


def announce_cost(
    context: typer.Context,
    students: Sequence["Classifier"],
    pair: "Pair",
    protocol: "CodingProtocol",
    accelerator: "Accelerator",
    run: Run,
) -> None:
    """Say what a comparison takes, refuse one that cannot end in time, and ask before a long one.

    Raises:
        ResourceError: If it takes longer than the time limit.
        Exit: If it is not meant.
    """
    from accelerate.utils import broadcast_object_list

    from hf_infodist.distances.cost import estimate_cost

    meant = True
    if accelerator.is_main_process:
        cost = estimate_cost(students, len(pair.images), protocol, accelerator.device)
        share = min(accelerator.num_processes, len(students) * protocol.orders)
        seconds = cost.seconds / share
        say(f"{cost.work} on {cost.device}, about {duration(seconds)}")
        _advise_workers(cost, seconds, accelerator)
        if run.time_limit and seconds > 60 * run.time_limit:
            raise ResourceError(
                f"this comparison takes about {duration(seconds)} on {cost.device}",
                f"the limit is {duration(60 * run.time_limit)}",
                "raise --time-limit, lower -k, or use --protocol standard",
            )
        meant = run.yes or _meant(context, cost, protocol, share)
    if not broadcast_object_list([meant])[0]:
        say("nothing was computed")
        raise typer.Exit(1)


def ask_before(context: typer.Context, work: Work) -> Callable[["Plan"], None]:
    """Return what asks before a long matrix; it takes all directions to cost what the first one does.

    Raises:
        Exit: If it is not meant.
    """

    def on_plan(plan: "Plan") -> None:
        missing = plan.missing
        if work.yes or not missing or not interactive():
            return
        from hf_infodist.distances.cost import estimate_cost
        from hf_infodist.models.load import load_classifier

        first = [load_classifier(plan.entries[model].model) for model in plan.directions[missing[0]]]
        cost = estimate_cost(first, len(plan.images), plan.protocol, plan.device)
        if not _meant(context, cost, plan.protocol, 2 * work.workers / len(missing)):
            say("nothing was computed")
            raise typer.Exit(1)

    return on_plan


def _meant(context: typer.Context, cost: "Estimate", protocol: "CodingProtocol", share: float) -> bool:
    """Ask before what takes long, after a word on what is cheaper; a comparison is divided by a share."""
    seconds = cost.seconds / share
    if seconds < _ASKED_SECONDS:
        return True
    _advise_cheaper(context, cost, protocol, share)
    return agrees(f"Begin what takes about {duration(seconds)}?")


def _advise_workers(cost: "Estimate", seconds: float, accelerator: "Accelerator") -> None:
    cores = os.cpu_count() or 1
    idle = accelerator.device.type == "cpu" and accelerator.num_processes < cores
    if cost.gradient_images and seconds > _LONG_SECONDS and idle:
        say(f"--workers {cores} would use all {cores} cores; fine-tuning takes one core of each worker")


def _advise_cheaper(context: typer.Context, cost: "Estimate", protocol: "CodingProtocol", share: float) -> None:
    """Say the same command with the protocol that takes no gradients, or with fewer images, and what it takes."""
    from hf_infodist.distances.cost import total_cost
    from hf_infodist.protocol import PROTOCOLS

    cheaper, k, words = protocol, cost.k, words_of(context)
    if cost.gradient_images:
        cheaper = replace(PROTOCOLS["standard"], orders=protocol.orders)
        words = [*_without(words, "-p", "--protocol"), "-p", "standard"]
    else:
        k = max(1, k // _FEWER)
        words = [*_without(words, "-k"), "-k", str(k)]
    seconds = total_cost(cost.models, k, cheaper, cost.device).seconds / share
    say(f"cheaper, about {duration(seconds)}: {shlex.join(['infodist', *words])}")


def _without(words: list[str], *options: str) -> list[str]:
    """Leave an option and its value out of a command line."""
    return [
        word
        for before, word in zip(["", *words], words, strict=False)
        if word not in options and before not in options
    ]
