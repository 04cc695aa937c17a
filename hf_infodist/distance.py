"""Two models and images in, the information distance out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from hf_infodist.coding import Codelength
from hf_infodist.images import DEFAULT_IMAGES, Images, load_images
from hf_infodist.models import Classifier, check_name, load_classifier
from hf_infodist.outputs import Outputs, compute_outputs
from hf_infodist.protocol import CodingProtocol, resolve_protocol
from hf_infodist.result import InformationDistance, ModelRecord
from hf_infodist.training import make_accelerator, train_codelength

ProgressCallback = Callable[[str, int, float], None]


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
    chunk: int = 64,
    home: Path | None = None,
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
        chunk: Images per forward pass; does not change the number.
        home: Store folder.
        progress: Whether to show progress bars.
        **source: ``config``, ``split``, ``column`` and ``streaming`` of `load_images`.

    Raises:
        NotFoundError: If a name leads nowhere.
        UnfitError: If models and images do not fit one another.
    """
    accelerator = accelerator or make_accelerator()
    for name in (a, b):
        if isinstance(name, str):
            check_name(name)
    sample = load_images(images, k=k, seed=seed, **source)
    classifier_a, classifier_b = load_classifier(a), load_classifier(b)

    def run(classifier: Classifier) -> Outputs:
        return compute_outputs(
            classifier, sample, device=accelerator.device, home=home, chunk=chunk, progress=progress
        )

    return Pair(classifier_a, classifier_b, sample, run(classifier_a), run(classifier_b))


def codelength(
    teacher: str | nn.Module | Classifier,
    given: str | nn.Module | Classifier,
    images: Any = DEFAULT_IMAGES,
    *,
    k: int | None = None,
    protocol: str | CodingProtocol = "standard",
    seed: int = 0,
    **options: Any,
) -> Codelength:
    """Return L'(teacher | given), equation (6): what it costs to turn ``given`` into ``teacher``.

    Args:
        teacher: The model whose outputs are learnt.
        given: The model where learning starts.
        images: Name of a dataset, or a loaded one.
        k: How many images.
        protocol: Name of a preset, or a protocol.
        seed: Order of the images, and seed of a preset; a protocol that is passed keeps its own.
        **options: As in `prepare_pair`.
    """
    settings = resolve_protocol(protocol, seed)
    pair = prepare_pair(given, teacher, images, k=k, seed=seed, **options)
    chunk, accelerator = options.get("chunk", 64), options.get("accelerator")
    return train_codelength(
        pair.a, pair.outputs_a, pair.b, pair.outputs_b, settings, accelerator=accelerator, chunk=chunk
    )


def information_distance(
    a: str | nn.Module | Classifier,
    b: str | nn.Module | Classifier,
    images: Any = DEFAULT_IMAGES,
    *,
    k: int | None = None,
    protocol: str | CodingProtocol = "standard",
    seed: int = 0,
    on_block: ProgressCallback | None = None,
    **options: Any,
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
        on_block: Called with the direction (``a_given_b`` or ``b_given_a``), images priced and nats so far.
        **options: As in `prepare_pair`.

    Raises:
        UsageError: If a setting cannot be meant.
        NotFoundError: If a name leads nowhere.
        UnfitError: If models and images do not fit one another.
        ResourceError: If memory runs out.
    """
    settings = resolve_protocol(protocol, seed)
    accelerator = options.pop("accelerator", None) or make_accelerator()
    pair = prepare_pair(a, b, images, k=k, seed=seed, accelerator=accelerator, **options)
    return distance_of_pair(pair, settings, accelerator=accelerator, on_block=on_block, chunk=options.get("chunk", 64))


def distance_of_pair(
    pair: Pair,
    protocol: CodingProtocol,
    *,
    accelerator: Accelerator | None = None,
    chunk: int = 64,
    on_block: ProgressCallback | None = None,
) -> InformationDistance:
    """Code a prepared pair in both directions."""
    accelerator = accelerator or make_accelerator()
    known = {"a": (pair.a, pair.outputs_a), "b": (pair.b, pair.outputs_b)}

    def code(teacher: str, given: str) -> Codelength:
        def report(images: int, nats: float) -> None:
            if on_block:
                on_block(f"{teacher}_given_{given}", images, nats)

        return train_codelength(
            *known[given], *known[teacher], protocol, accelerator=accelerator, chunk=chunk, on_block=report
        )

    return InformationDistance(
        a_given_b=code("a", "b"),
        b_given_a=code("b", "a"),
        model_a=ModelRecord.of(pair.a),
        model_b=ModelRecord.of(pair.b),
        images=pair.images.to_dict(),
        protocol=protocol,
        device=str(accelerator.device),
    )
