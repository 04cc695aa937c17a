"""Many models on the same images: all directed codelengths, or what another measure says, as one matrix."""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
from accelerate import Accelerator
from torch import nn

from hf_infodist.baselines.measures import MEASURES, Measure
from hf_infodist.baselines.table import measure_pair
from hf_infodist.coding.keys import device_of
from hf_infodist.distances.answers import Answer, Question, Watch
from hf_infodist.distances.local import work_together
from hf_infodist.distances.naming import Match, Rows, find_matches
from hf_infodist.distances.plan import Entry, Plan, Status, Tracker, Worker
from hf_infodist.distances.progress import in_notebook, watched_pairs
from hf_infodist.errors import InfodistError, UsageError
from hf_infodist.images.request import DEFAULT_IMAGES, Sample, SampleOptions
from hf_infodist.images.sample import Images, load_images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.load import Renamed, check_name, load_classifier
from hf_infodist.outputs.arrays import Outputs
from hf_infodist.outputs.forward import compute_outputs
from hf_infodist.pair import Execution, Pair
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import CodingProtocol, resolve_protocol
from hf_infodist.results.files import of_codes
from hf_infodist.results.matrix import INFODIST, PairwiseMatrix

_STATUS_SECONDS = 1.0
logger = logging.getLogger(__name__)

AnyModel = str | nn.Module | Classifier


def pairwise_distances(
    models: Sequence[AnyModel],
    images: Any = DEFAULT_IMAGES,
    *,
    protocol: str | CodingProtocol = "standard",
    orders: int = 1,
    measure: str = INFODIST,
    workers: int = 1,
    shard: tuple[int, int] = (1, 1),
    engine: str = "local",
    address: str | None = None,
    execution: Execution | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    on_status: Callable[[Status], None] | None = None,
    setup: Callable[[], None] | None = None,
    match_classes: bool = False,
    **sample: Unpack[SampleOptions],
) -> PairwiseMatrix:
    """Compare every model with every other.

    Each model is run once; then every directed codelength that the store does not have is computed. Any number of
    these calls, on any number of machines with one `Execution.home`, divide the work. A pair that fails is recorded
    with its error, and the rest goes on.

    Args:
        models: Two or more names, or loaded models.
        images: Name of a dataset, a loaded one, or a `Sample`.
        protocol: Name of a preset, which takes the seed of the sample, or a protocol, which keeps its own.
        orders: In how many orders a preset codes the images.
        measure: ``infodist``, or the name of a baseline, which is worked out in this process.
        workers: Processes of this machine, this one included; if several, names and models that can be pickled.
        shard: Number of a share of the work, from 1, and how many shares there are; the others are left to others.
        engine: ``local``, or ``ray``.
        address: Of the cluster, for Ray; one is started on this machine if None.
        execution: How it is carried out.
        on_plan: Called once it is known what is missing; nothing is computed if it raises.
        on_status: Called about every second; a bar in a notebook if None.
        setup: Called first in every other process; a function of a module.
        match_classes: Whether classes that share no names are matched before anything is counted, by what the models
            say, as `find_matches` does: who is kin of whom does not depend on names.
        **sample: How many images, in which order, and the other fields of a `Sample`.

    Raises:
        UsageError: If a setting cannot be meant.
        NotFoundError: If a name leads nowhere.
        UnfitError: If a model or the images cannot be used at all.
    """
    wanted, compute = Sample.of(images, **sample), _find_measure(measure)
    settings = resolve_protocol(protocol, wanted.seed, orders)
    _check(models, workers, shard, engine)
    for model in models:
        if isinstance(model, str):
            check_name(model)
    execution = execution or Execution()
    if compute and match_classes:
        why = "only codelengths are worked out under names that were matched"
        raise UsageError(f"no classes are matched for {measure}", why, "leave out match_classes, or the measure")
    if compute:
        return _measure_all(models, load_images(wanted), compute, make_accelerator(), execution)
    kind = "lineage" if match_classes else "matrix"
    watch = Watch(Question(tuple(models), wanted, settings, kind), execution.home)
    accelerator = make_accelerator()
    drawn = load_images(wanted)
    entries = tuple(Entry.of(model, load_classifier(model), drawn) for model in models)
    load = functools.partial(load_images, wanted)
    execution = replace(execution, home=execution.place.folder.absolute(), exclusive=True)
    where = device_of(accelerator, settings)
    plan = Plan(entries, drawn.bare(), load, settings, execution, accelerator.device, where, loaded=drawn)
    plan.choose(shard)
    plan.forget_failures()
    if on_plan:
        on_plan(plan)
    matched = _match_classes(plan) if match_classes else {}
    if matched:
        plan = replace(plan, entries=tuple(_renamed(plan, i, matched) for i in range(len(entries))), directions={})
        plan.choose(shard)
        plan.forget_failures()
    with watched_pairs(on_status, in_notebook()) as tell:
        _carry_out(plan, workers, engine, address, tell, setup)
    return _assemble(plan, watch, tuple((i, match.like) for i, match in sorted(matched.items())))


def _check(models: Sequence[AnyModel], workers: int, shard: tuple[int, int], engine: str) -> None:
    if len(models) < 2:
        raise UsageError(
            "one model makes no matrix" if models else "no model is named",
            "a distance is between two",
            "name two or more models",
        )
    twice = [model for number, model in enumerate(models) if isinstance(model, str) and model in models[:number]]
    if twice:
        raise UsageError(f"{twice[0]!r} is named twice", "it would be compared with itself", "name each model once")
    if workers < 1:
        raise UsageError(f"{workers} workers cannot work", "there has to be one at least", "use --workers 1")
    if not 1 <= shard[0] <= shard[1]:
        why = "shares are counted from 1 to their number"
        raise UsageError(f"there is no shard {shard[0]}/{shard[1]}", why, "use --shard 1/3, 2/3 and 3/3, for example")
    if engine not in ("local", "ray"):
        raise UsageError(f"there is no engine {engine!r}", "the engines are local and ray", "use --engine local")


def _carry_out(
    plan: Plan,
    workers: int,
    engine: str,
    address: str | None,
    on_status: Callable[[Status], None] | None,
    setup: Callable[[], None] | None,
) -> None:
    """Compute what is missing on the engine that was asked for."""
    tracker, last = Tracker(plan), [0.0]

    def on_block() -> None:
        if on_status and time.monotonic() - last[0] >= _STATUS_SECONDS:
            on_status(tracker.status())
            last[0] = time.monotonic()

    missing = plan.missing
    logger.info(
        "%d codelengths: %d found in the store, %d to compute; %d models, %d to run",
        len(plan.directions),
        len(plan.directions) - len(missing),
        len(missing),
        len(plan.entries),
        sum(not plan.has_outputs(model) for model in plan.passes(missing).values()),
    )
    if missing and engine == "ray":
        from hf_infodist.distances.cluster import work_on_ray

        work_on_ray(plan, address, on_block, setup)
    elif missing:
        work_together(plan, workers, on_block, setup)
    if on_status:
        on_status(tracker.status())


def _match_classes(plan: Plan) -> dict[int, Match]:
    """Find what classes are called by others; models that cannot be run are left as they are, and told of later."""
    worker = Worker(plan, make_accelerator())

    def logits(model: int) -> Rows | None:
        try:
            return np.asarray(worker.outputs(model).logits[:])
        except InfodistError:
            return None

    return find_matches([entry.labels for entry in plan.entries], logits)


def _renamed(plan: Plan, model: int, matched: dict[int, Match]) -> Entry:
    entry = plan.entries[model]
    if model not in matched:
        return entry
    own, labels = entry.model, matched[model].labels
    named = own.renamed(labels) if isinstance(own, Classifier) else Renamed(own, labels)
    return replace(entry, model=named, labels=labels)


def _assemble(plan: Plan, watch: Watch, matched: tuple[tuple[int, int], ...] = ()) -> PairwiseMatrix:
    """Read the matrix from the store, and note that it answers what was asked."""
    records, images = tuple(entry.record for entry in plan.entries), plan.images.record
    twins = {*plan.twins, *((j, i) for i, j in plan.twins)}
    keys = {
        (i, j): plan.key(i, j) for i, j in np.ndindex(len(records), len(records)) if i != j and (i, j) not in twins
    }
    found = {direction: record for direction, key in keys.items() if (record := plan.store.get(key))}
    codes, failures = {direction: record.codelength for direction, record in found.items()}, plan.failures()
    errors = {
        direction: failures[key] for direction, key in keys.items() if direction not in found and key in failures
    }
    if len(codes) == len(keys):
        watch.keep(Answer(records, images, plan.where, codes, plan.twins, matched=matched), keys)
    return replace(of_codes(records, codes, images, plan.protocol, plan.twins, matched), errors=errors)


# Baselines


def _find_measure(name: str) -> Measure | None:
    """Return a baseline by its name, or by ``space/name``; None for the information distance.

    Raises:
        UsageError: If no measure, or more than one, has that name.
    """
    if name == INFODIST:
        return None
    names = {f"{measure.space}/{measure.name}": measure for measure in MEASURES}
    found = [full for full in names if name.lower() in (full.lower(), full.partition("/")[2].lower())]
    if len(found) != 1:
        what = f"{name!r} names {len(found)} measures" if found else f"there is no measure {name!r}"
        raise UsageError(
            what, f"the measures are infodist, {', '.join(names)}", f"use --measure '{next(iter(names))}'"
        )
    return names[found[0]]


def _measure_all(
    models: Sequence[AnyModel], images: Images, measure: Measure, accelerator: Accelerator, execution: Execution
) -> PairwiseMatrix:
    """Work out a baseline between all models, which are all kept in memory."""

    def run(classifier: Classifier) -> Outputs:
        options = {"device": accelerator.device, "home": execution.home, "chunk": execution.chunk}
        return compute_outputs(classifier, images, **options)

    classifiers = [load_classifier(model) for model in models]
    values = np.zeros((len(models), len(models)))
    errors = {}
    for i, j in np.ndindex(values.shape):
        if i < j or (i > j and not measure.symmetric):
            result = measure_pair(measure, Pair(classifiers[i], classifiers[j], images, run))
            value = np.nan if result.value is None else result.value
            values[i, j] = 1 - value if measure.larger_is_more_similar else value
            if result.reason:
                errors[i, j] = result.reason
        elif i > j:
            values[i, j] = values[j, i]
            errors |= {(i, j): errors[j, i]} if (j, i) in errors else {}
    records = tuple(classifier.record for classifier in classifiers)
    unknown = np.full_like(values, np.nan)
    name = f"{measure.space}/{measure.name}"
    return PairwiseMatrix(records, values, unknown, name, images.record, None, errors)
