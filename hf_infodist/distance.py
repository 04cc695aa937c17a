"""Two models and images in, the information distance out."""

from typing import Any

from accelerate import Accelerator
from torch import nn

from hf_infodist.codelength import Codelength
from hf_infodist.images import DEFAULT_IMAGES
from hf_infodist.models import Classifier
from hf_infodist.pair import DIRECTIONS, Execution, Pair, ProgressCallback, code_pair, prepare_pair
from hf_infodist.protocol import CodingProtocol, resolve_protocol
from hf_infodist.result import InformationDistance, ModelRecord
from hf_infodist.training import make_accelerator


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
