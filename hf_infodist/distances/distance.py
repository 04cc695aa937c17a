"""Two models and images in, the information distance out."""

from typing import Any, Unpack

from accelerate import Accelerator
from torch import nn

from hf_infodist.coding.keys import device_of
from hf_infodist.distances.code import ProgressCallback, code_pair
from hf_infodist.distances.progress import in_notebook, watched_blocks
from hf_infodist.images.request import DEFAULT_IMAGES, Sample, SampleOptions
from hf_infodist.models.classifier import Classifier
from hf_infodist.pair import DIRECTIONS, Execution, Pair, prepare_pair
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import CodingProtocol, resolve_protocol
from hf_infodist.results.codelength import Codelength
from hf_infodist.results.distance import InformationDistance


def codelength(
    teacher: str | nn.Module | Classifier,
    given: str | nn.Module | Classifier,
    images: Any = DEFAULT_IMAGES,
    *,
    protocol: str | CodingProtocol = "standard",
    orders: int = 1,
    accelerator: Accelerator | None = None,
    execution: Execution | None = None,
    on_block: ProgressCallback | None = None,
    progress: bool | None = None,
    **sample: Unpack[SampleOptions],
) -> Codelength:
    """Return L'(teacher | given), equation (6): what it costs to turn ``given`` into ``teacher``.

    Args:
        teacher: The model whose outputs are learnt.
        given: The model where learning starts.
        images: Name of a dataset, a loaded one, or a `Sample`.
        protocol: Name of a preset, which takes the seed of the sample, or a protocol, which keeps its own.
        orders: In how many orders a preset codes the images.
        accelerator: Device and processes; `make_accelerator` if None.
        execution: How it is carried out.
        on_block: Called with ``b_given_a``, images priced and nats so far.
        progress: Whether to show progress bars; in a notebook if None.
        **sample: How many images, in which order, and the other fields of a `Sample`: ``k``, ``seed``, ``split``, ….
    """
    wanted, accelerator = Sample.of(images, **sample), accelerator or make_accelerator()
    settings = resolve_protocol(protocol, wanted.seed, orders)
    shown = in_notebook() if progress is None else progress
    pair = prepare_pair(given, teacher, wanted, accelerator=accelerator, execution=execution, progress=shown)
    with watched_blocks(on_block, settings.orders * len(pair.images), shown) as tell:
        options = {"accelerator": accelerator, "execution": execution, "on_block": tell}
        return code_pair(pair, ["b_given_a"], settings, **options)[0]


def information_distance(
    a: str | nn.Module | Classifier,
    b: str | nn.Module | Classifier,
    images: Any = DEFAULT_IMAGES,
    *,
    protocol: str | CodingProtocol = "standard",
    orders: int = 1,
    accelerator: Accelerator | None = None,
    execution: Execution | None = None,
    on_block: ProgressCallback | None = None,
    progress: bool | None = None,
    **sample: Unpack[SampleOptions],
) -> InformationDistance:
    """Return the information distance between two classifiers.

    d_p(A, B) = max(L'(A|B), L'(B|A)), equation (7).

    Args:
        a: Name of a model (``org/name``, ``timm:NAME``, ``torchvision:NAME``, a folder, …), or a loaded one.
        b: Another; any architecture, any label space.
        images: Name of a dataset, ``digits``, a folder, a `datasets.Dataset`, a list of PIL images, or a `Sample`.
        protocol: Name of a preset, which takes the seed of the sample, or a protocol, which keeps its own.
        orders: In how many orders a preset codes the images; more give a second error bar.
        accelerator: Device and processes; `make_accelerator` if None.
        execution: How it is carried out.
        on_block: Called with the direction (``a_given_b`` or ``b_given_a``), images priced and nats so far.
        progress: Whether to show progress bars; in a notebook if None.
        **sample: How many images, in which order, and the other fields of a `Sample`: ``k``, ``seed``, ``split``, ….

    Raises:
        UsageError: If a setting cannot be meant.
        NotFoundError: If a name leads nowhere.
        UnfitError: If models and images do not fit one another.
        ResourceError: If memory runs out.
    """
    wanted, accelerator = Sample.of(images, **sample), accelerator or make_accelerator()
    settings = resolve_protocol(protocol, wanted.seed, orders)
    shown = in_notebook() if progress is None else progress
    pair = prepare_pair(a, b, wanted, accelerator=accelerator, execution=execution, progress=shown)
    with watched_blocks(on_block, 2 * settings.orders * len(pair.images), shown) as tell:
        return distance_of_pair(pair, settings, accelerator=accelerator, execution=execution, on_block=tell)


def complexity(
    model: str,
    images: Any = DEFAULT_IMAGES,
    **options: Any,
) -> Codelength:
    """Return d_p(f, 0) = L'(f | 0), sections 4.2 and 4.4: what it costs to make a model from a fresh one.

    0 is a network of the same architecture with random weights.

    Args:
        model: Name of a model.
        images: Name of a dataset, or a loaded one.
        **options: As in `codelength`.
    """
    return codelength(model, f"random:{model}", images, **options)


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
        model_a=pair.a.record,
        model_b=pair.b.record,
        images=pair.images.record,
        protocol=protocol,
        device=device_of(accelerator, protocol),
    )
