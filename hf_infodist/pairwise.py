"""Many models on the same images: all directed codelengths, or what another measure says, as one matrix."""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from hf_infodist.baselines.measures import MEASURES, Measure
from hf_infodist.baselines.table import measure_pair
from hf_infodist.errors import UnfitError, UsageError
from hf_infodist.images import DEFAULT_IMAGES, Images, load_images
from hf_infodist.models import Classifier, check_name, load_classifier
from hf_infodist.outputs import Outputs, compute_outputs
from hf_infodist.pair import Execution, Pair
from hf_infodist.plan import Entry, Plan, Status, Tracker
from hf_infodist.protocol import CodingProtocol, resolve_protocol
from hf_infodist.result import ModelRecord, package_versions
from hf_infodist.training import make_accelerator
from hf_infodist.workers import work_together

SCHEMA = "infodist.matrix/1"
INFODIST = "infodist"  # the measure of this package; any other is a baseline's name
_STATUS_SECONDS = 1.0
_LOG = logging.getLogger(__name__)

AnyModel = str | nn.Module | Classifier


@dataclass(frozen=True, eq=False)
class PairwiseMatrix:
    """All pairs of ``n`` models.

    Attributes:
        models: Which, in the order of rows and columns.
        nats: ``[n, n]``, L'(teacher i | student j) in nats, 0 on the diagonal, NaN where it failed or is missing. Of a
            baseline its value, as a distance: 1 less the value where larger is more similar.
        stderr_nats: ``[n, n]``, standard error of each over the draw of the images; NaN where there is none.
        measure: ``infodist``, or a baseline as ``space/name``.
        images: The sample: id, split, k, seed, fingerprint.
        protocol: How students were trained and priced; None of a baseline, for which nobody learns.
        errors: What went wrong, by (teacher, student), one line each.
        twins: Pairs (i, j), i < j, with identical weights, preprocessing and labels: one network under two names. They
            are at distance 0 without being run, and have their numbers with third models in common.
    """

    models: tuple[ModelRecord, ...]
    nats: NDArray[np.float64]
    stderr_nats: NDArray[np.float64]
    measure: str
    images: dict[str, Any]
    protocol: CodingProtocol | None = None
    errors: dict[tuple[int, int], str] = field(default_factory=dict)
    twins: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit the models."""
        n = len(self.models)
        for name, array in (("nats", self.nats), ("stderr_nats", self.stderr_nats)):
            if array.shape != (n, n):
                why = f"{n} models have {n} rows and {n} columns"
                raise UnfitError(f"{name} has the shape {array.shape}", why, "give one row and one column per model")

    @property
    def distances(self) -> NDArray[np.float64]:
        """d(i, j) = max(nats[i, j], nats[j, i]), equation (7), ``[n, n]``; NaN unless both directions are there."""
        return np.maximum(self.nats, self.nats.T)

    @property
    def complete(self) -> bool:
        """Whether every pair has its number."""
        return bool(np.isfinite(self.nats).all())

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, schema ``infodist.matrix/1``."""
        return {
            "schema": SCHEMA,
            "measure": self.measure,
            "models": [vars(model).copy() for model in self.models],
            "nats": _to_lists(self.nats),
            "stderr_nats": _to_lists(self.stderr_nats),
            "distances": _to_lists(self.distances),
            "twins": [list(pair) for pair in self.twins],
            "errors": [{"teacher": i, "student": j, "error": text} for (i, j), text in sorted(self.errors.items())],
            "images": self.images,
            "protocol": self.protocol.to_dict() if self.protocol else None,
            "versions": package_versions(),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "PairwiseMatrix":
        """Rebuild a matrix from `to_dict`, to the bit.

        Raises:
            UnfitError: If it is something else.
        """
        if fields.get("schema") != SCHEMA:
            what = f"this is no matrix of distances: its schema is {fields.get('schema')!r}"
            raise UnfitError(what, f"a matrix has the schema {SCHEMA!r}", "make one: infodist matrix … -o matrix.json")
        return cls(
            tuple(ModelRecord(**model) for model in fields["models"]),
            np.array(fields["nats"], dtype=np.float64),  # None becomes NaN
            np.array(fields["stderr_nats"], dtype=np.float64),
            fields["measure"],
            fields["images"],
            CodingProtocol.from_dict(fields["protocol"]) if fields["protocol"] else None,
            {(error["teacher"], error["student"]): error["error"] for error in fields["errors"]},
            tuple((i, j) for i, j in fields["twins"]),
        )

    def __str__(self) -> str:
        """Return a table: a row per teacher, a column per student."""
        names = [f"{i} {model.id}" for i, model in enumerate(self.models)]
        width = max(map(len, names))
        protocol = f", protocol {self.protocol.name}" if self.protocol else ""
        sample = f"{self.images['k']} images of {self.images['id']}, seed {self.images['seed']}{protocol}"
        what = "nats to make the column's model into the row's" if self.protocol else self.measure
        lines = [f"{what}, {sample}", f"{'':<{width}}" + "".join(f"{j:>10}" for j in range(len(names)))]
        lines += [f"{name:<{width}}" + self._row(i) for i, name in enumerate(names)]
        lines += [f"{i} and {j} are the same network" for i, j in self.twins]
        lines += [f"{i} given {j} failed: {text}" for (i, j), text in sorted(self.errors.items())]
        return "\n".join(lines)

    def _row(self, i: int) -> str:
        return "".join(self._cell(i, j) for j in range(len(self.models)))

    def _cell(self, i: int, j: int) -> str:
        value = self.nats[i, j]
        if not np.isfinite(value):
            return f"{'failed' if (i, j) in self.errors else 'missing':>10}"
        return f"{value:>10.1f}" if self.protocol else f"{value:>10.4g}"


def _to_lists(array: NDArray[np.float64]) -> list[list[float | None]]:
    """Return rows of numbers; None where JSON has no number."""
    return [[value if np.isfinite(value) else None for value in row] for row in array.tolist()]


def pairwise_distances(
    models: Sequence[AnyModel],
    images: Any = DEFAULT_IMAGES,
    *,
    k: int | None = None,
    protocol: str | CodingProtocol = "standard",
    seed: int = 0,
    orders: int = 1,
    measure: str = INFODIST,
    workers: int = 1,
    shard: tuple[int, int] = (1, 1),
    engine: str = "local",
    address: str | None = None,
    execution: Execution | None = None,
    on_status: Callable[[Status], None] | None = None,
    setup: Callable[[], None] | None = None,
    **source: Any,
) -> PairwiseMatrix:
    """Compare every model with every other.

    Each model is run once; then every directed codelength that the store does not have is computed. Any number of
    these calls, on any number of machines with one `Execution.home`, divide the work. A pair that fails is recorded
    with its error, and the rest goes on.

    Args:
        models: Two or more names, or loaded models.
        images: Name of a dataset, or a loaded one.
        k: How many images; at most 10 000 if None.
        protocol: Name of a preset, or a protocol.
        seed: Order of the images, and seed of a preset; a protocol that is passed keeps its own.
        orders: In how many orders a preset codes the images.
        measure: ``infodist``, or the name of a baseline, which is worked out in this process.
        workers: Processes of this machine, this one included; if several, names and models that can be pickled.
        shard: Number of a share of the work, from 1, and how many shares there are; the others are left to others.
        engine: ``local``, or ``ray``.
        address: Of the cluster, for Ray; one is started on this machine if None.
        execution: How it is carried out.
        on_status: Called about every second.
        setup: Called first in every other process; a function of a module.
        **source: ``config``, ``split``, ``column`` and ``streaming`` of `load_images`.

    Raises:
        UsageError: If a setting cannot be meant.
        NotFoundError: If a name leads nowhere.
        UnfitError: If a model or the images cannot be used at all.
    """
    settings, compute = resolve_protocol(protocol, seed, orders), _find_measure(measure)
    _check(models, workers, shard, engine)
    for model in models:
        if isinstance(model, str):
            check_name(model)
    accelerator, execution = make_accelerator(), execution or Execution()
    sample = load_images(images, k=k, seed=seed, **source)
    if compute:
        return _measure_all(models, sample, compute, accelerator, execution)
    entries = tuple(Entry.of(model, load_classifier(model), sample) for model in models)
    load = functools.partial(load_images, images, k=k, seed=seed, **source)
    execution = replace(execution, home=execution.folder.absolute(), exclusive=True)
    plan = Plan(entries, sample.bare(), load, settings, execution, accelerator.device, loaded=sample)
    plan.choose(shard)
    plan.forget_failures()
    _carry_out(plan, workers, engine, address, on_status, setup)
    return _assemble(plan)


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
    _LOG.info(
        "%d codelengths: %d found in the store, %d to compute; %d models, %d to run",
        len(plan.lessons),
        len(plan.lessons) - len(missing),
        len(missing),
        len(plan.entries),
        sum(not plan.has_outputs(model) for model in plan.passes(missing).values()),
    )
    if missing and engine == "ray":
        from hf_infodist.ray_engine import work_on_ray

        work_on_ray(plan, address, on_block, setup)
    elif missing:
        work_together(plan, workers, on_block, setup)
    if on_status:
        on_status(tracker.status())


def _assemble(plan: Plan) -> PairwiseMatrix:
    """Read the matrix from the store."""
    n, failures = len(plan.entries), plan.failures()
    nats, stderr_nats = np.full((2, n, n), np.nan)
    errors = {}
    for i, j in np.ndindex(n, n):
        if i == j or {(i, j), (j, i)} & set(plan.twins):
            nats[i, j] = 0.0
            continue
        key = plan.key(i, j)
        if record := plan.execution.store.get(key):
            nats[i, j], stderr_nats[i, j] = record.codelength.nats, record.codelength.stderr_nats
        elif key in failures:
            errors[i, j] = failures[key]
    records = tuple(entry.record for entry in plan.entries)
    images = plan.images.to_dict()
    return PairwiseMatrix(records, nats, stderr_nats, INFODIST, images, plan.protocol, errors, plan.twins)


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
    records = tuple(ModelRecord.of(classifier) for classifier in classifiers)
    unknown = np.full_like(values, np.nan)
    name = f"{measure.space}/{measure.name}"
    return PairwiseMatrix(records, values, unknown, name, images.to_dict(), None, errors)
