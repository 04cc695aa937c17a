"""Two models and images in, the information distance out."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from hf_infodist.checkpoints import Checkpoints
from hf_infodist.codelength import Codelength, mean_over_orders
from hf_infodist.images import DEFAULT_IMAGES, Images, load_images
from hf_infodist.models import Classifier, check_name, load_classifier
from hf_infodist.outputs import Outputs, compute_outputs, infodist_home
from hf_infodist.processes import ProcessTeam, spread
from hf_infodist.protocol import CodingProtocol, resolve_protocol
from hf_infodist.result import InformationDistance, ModelRecord
from hf_infodist.training import make_accelerator, run_key, train_codelength

ProgressCallback = Callable[[str, int, float], None]
DIRECTIONS = ("a_given_b", "b_given_a")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Execution:
    """How a comparison is carried out; nothing of it changes the number.

    Attributes:
        chunk: Images per evaluation pass.
        home: Store folder; `infodist_home` if None.
        resume: Whether to leave checkpoints, and to go on from those of an earlier run that was cut off.
        data_parallel: Whether several processes share each batch instead of having a learner each; for students that
            are too large otherwise. Agrees with one process up to round-off.
    """

    chunk: int = 64
    home: Path | None = None
    resume: bool = True
    data_parallel: bool = False


@dataclass(frozen=True, eq=False)
class Pair:
    """Two models and the images between them, with both models' outputs at hand."""

    a: Classifier
    b: Classifier
    images: Images
    outputs_a: Outputs
    outputs_b: Outputs


def prepare_pair(
    a: str | nn.Module | Classifier,
    b: str | nn.Module | Classifier,
    images: Any = DEFAULT_IMAGES,
    *,
    k: int | None = None,
    seed: int = 0,
    accelerator: Accelerator | None = None,
    execution: Execution | None = None,
    progress: bool = False,
    **source: Any,
) -> Pair:
    """Load two models and the images, and run each model once.

    Args:
        a: Name of a model, or a loaded one.
        b: Another.
        images: Name of a dataset, or a loaded one.
        k: How many images; at most 10 000 if None.
        seed: Order of the images.
        accelerator: Device; `make_accelerator` if None.
        execution: How it is carried out.
        progress: Whether to show progress bars.
        **source: ``config``, ``split``, ``column`` and ``streaming`` of `load_images`.

    Raises:
        NotFoundError: If a name leads nowhere.
        UnfitError: If models and images do not fit one another.
    """
    accelerator, execution = accelerator or make_accelerator(), execution or Execution()
    for name in (a, b):
        if isinstance(name, str):
            check_name(name)
    sample = load_images(images, k=k, seed=seed, **source)
    classifier_a, classifier_b = load_classifier(a), load_classifier(b)

    def run(classifier: Classifier, team: ProcessTeam) -> None:
        if team.lead:
            outputs(classifier, progress)

    def outputs(classifier: Classifier, progress: bool = False) -> Outputs:
        device, home, chunk = accelerator.device, execution.home, execution.chunk
        return compute_outputs(classifier, sample, device=device, home=home, chunk=chunk, progress=progress)

    spread((classifier_a, classifier_b), run, accelerator)  # then each process reads them from the store
    return Pair(classifier_a, classifier_b, sample, outputs(classifier_a), outputs(classifier_b))


def codelength(
    teacher: str | nn.Module | Classifier,
    given: str | nn.Module | Classifier,
    images: Any = DEFAULT_IMAGES,
    *,
    k: int | None = None,
    protocol: str | CodingProtocol = "standard",
    seed: int = 0,
    orders: int = 1,
    accelerator: Accelerator | None = None,
    execution: Execution | None = None,
    on_block: ProgressCallback | None = None,
    **source: Any,
) -> Codelength:
    """Return L'(teacher | given), equation (6): what it costs to turn ``given`` into ``teacher``.

    Args:
        teacher: The model whose outputs are learnt.
        given: The model where learning starts.
        images: Name of a dataset, or a loaded one.
        k: How many images.
        protocol: Name of a preset, or a protocol.
        seed: Order of the images, and seed of a preset; a protocol that is passed keeps its own.
        orders: In how many orders a preset codes the images.
        accelerator: Device and processes; `make_accelerator` if None.
        execution: How it is carried out.
        on_block: Called with ``b_given_a``, images priced and nats so far.
        **source: ``config``, ``split``, ``column``, ``streaming``, ``progress`` of `prepare_pair`.
    """
    settings, accelerator = resolve_protocol(protocol, seed, orders), accelerator or make_accelerator()
    pair = prepare_pair(given, teacher, images, k=k, seed=seed, accelerator=accelerator, execution=execution, **source)
    options = {"accelerator": accelerator, "execution": execution, "on_block": on_block}
    return code_pair(pair, ["b_given_a"], settings, **options)[0]


def information_distance(
    a: str | nn.Module | Classifier,
    b: str | nn.Module | Classifier,
    images: Any = DEFAULT_IMAGES,
    *,
    k: int | None = None,
    protocol: str | CodingProtocol = "standard",
    seed: int = 0,
    orders: int = 1,
    accelerator: Accelerator | None = None,
    execution: Execution | None = None,
    on_block: ProgressCallback | None = None,
    **source: Any,
) -> InformationDistance:
    """Return the information distance between two classifiers.

    d_p(A, B) = max(L'(A|B), L'(B|A)), equation (7).

    Args:
        a: Name of a model (``org/name``, ``timm:NAME``, ``torchvision:NAME``, a folder, …), or a loaded one.
        b: Another; any architecture, any label space.
        images: Name of a dataset, ``digits``, a folder, a `datasets.Dataset`, or a list of PIL images.
        k: How many images; at most 10 000 if None.
        protocol: Name of a preset, or a protocol.
        seed: Order of the images, and seed of a preset; a protocol that is passed keeps its own.
        orders: In how many orders a preset codes the images; more give a second error bar.
        accelerator: Device and processes; `make_accelerator` if None.
        execution: How it is carried out.
        on_block: Called with the direction (``a_given_b`` or ``b_given_a``), images priced and nats so far.
        **source: ``config``, ``split``, ``column``, ``streaming``, ``progress`` of `prepare_pair`.

    Raises:
        UsageError: If a setting cannot be meant.
        NotFoundError: If a name leads nowhere.
        UnfitError: If models and images do not fit one another.
        ResourceError: If memory runs out.
    """
    settings, accelerator = resolve_protocol(protocol, seed, orders), accelerator or make_accelerator()
    pair = prepare_pair(a, b, images, k=k, seed=seed, accelerator=accelerator, execution=execution, **source)
    return distance_of_pair(pair, settings, accelerator=accelerator, execution=execution, on_block=on_block)


def complexity(
    model: str,
    images: Any = DEFAULT_IMAGES,
    *,
    seed: int = 0,
    on_block: ProgressCallback | None = None,
    **options: Any,
) -> Codelength:
    """Return d_p(f, 0) = L'(f | 0), sections 4.2 and 4.4: what it costs to make a model from a fresh one.

    0 is a network of the same architecture with random weights.

    Args:
        model: Name of a model.
        images: Name of a dataset, or a loaded one.
        seed: As in `codelength`.
        on_block: Called with ``b_given_a``, images priced and nats so far.
        **options: As in `codelength`.
    """
    return codelength(model, f"random:{model}", images, seed=seed, on_block=on_block, **options)


def information_transfer(teacher: str | Classifier, given: str | Classifier, *args: Any, **options: Any) -> float:
    """Return L_IT, equation (8), in nats: how much shorter the teacher's labels become once it is known.

    The labels y_i ~ f_B(x_i) are coded once by a student started at A and once by one started at B, with the same
    draws; the difference is L_IT, and its expectation that of L_k(B|A), equation (3).

    Args:
        teacher: B.
        given: A.
        *args: As in `codelength`.
        **options: As in `codelength`, but for the protocol, which is ``sampled``.
    """
    from_a, from_b = (codelength(teacher, start, *args, protocol="sampled", **options) for start in (given, teacher))
    return from_a.nats - from_b.nats  # the surprise of the teacher itself is the same in both, and cancels


def distance_of_pair(
    pair: Pair,
    protocol: CodingProtocol,
    *,
    accelerator: Accelerator | None = None,
    execution: Execution | None = None,
    on_block: ProgressCallback | None = None,
) -> InformationDistance:
    """Code a prepared pair in both directions."""
    accelerator = accelerator or make_accelerator()
    a_given_b, b_given_a = code_pair(
        pair, DIRECTIONS, protocol, accelerator=accelerator, execution=execution, on_block=on_block
    )
    return InformationDistance(
        a_given_b=a_given_b,
        b_given_a=b_given_a,
        model_a=ModelRecord.of(pair.a),
        model_b=ModelRecord.of(pair.b),
        images=pair.images.to_dict(),
        protocol=protocol,
        device=accelerator.device.type,
    )


def code_pair(
    pair: Pair,
    directions: Sequence[str],
    protocol: CodingProtocol,
    *,
    accelerator: Accelerator,
    execution: Execution | None = None,
    on_block: ProgressCallback | None = None,
) -> list[Codelength]:
    """Code a prepared pair in the given directions, in all orders of the protocol, spread over the processes.

    Args:
        pair: Models, images and outputs.
        directions: Some of ``a_given_b`` and ``b_given_a``.
        protocol: Everything that changes the number.
        accelerator: Device and processes.
        execution: How it is carried out.
        on_block: As in `information_distance`.
    """
    execution = execution or Execution()
    known = {"a": (pair.a, pair.outputs_a), "b": (pair.b, pair.outputs_b)}
    kept: dict[str, Checkpoints] = {}

    def code(task: tuple[str, int], team: ProcessTeam) -> Codelength:
        direction, order = task
        lesson = (*known[direction[-1]], *known[direction[0]], protocol)  # the student first
        key = run_key(*lesson, order, accelerator.device)
        checkpoints = _claim(execution, key, team, kept) if execution.resume else None
        return train_codelength(
            *lesson,
            order=order,
            accelerator=accelerator,
            chunk=execution.chunk,
            on_block=functools.partial(on_block, direction) if on_block else None,
            team=team,
            data_parallel=execution.data_parallel,
            checkpoints=checkpoints,
        )

    try:
        tasks = [(direction, order) for direction in directions for order in range(protocol.orders)]
        results = spread(tasks, code, accelerator, together=execution.data_parallel)
        for checkpoints in kept.values():
            checkpoints.remove()
    finally:
        for checkpoints in kept.values():
            checkpoints.release()
    per_direction = [results[i : i + protocol.orders] for i in range(0, len(results), protocol.orders)]
    return [mean_over_orders(orders) for orders in per_direction]


def _claim(execution: Execution, key: str, team: ProcessTeam, kept: dict[str, Checkpoints]) -> Checkpoints | None:
    """Return the checkpoints of a run; None while another process has them."""
    if key not in kept:
        checkpoints = Checkpoints((execution.home or infodist_home()) / "runs" / key, key, team)
        if not checkpoints.claim():
            _LOG.warning("the same comparison is running elsewhere; this one leaves no checkpoints")
            return None
        kept[key] = checkpoints
    return kept[key]
