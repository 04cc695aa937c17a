"""Questions answered from an atlas: nothing of it is run, and of a new model only the model itself."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from hf_infodist.analysis.atlas import load_atlas_images
from hf_infodist.coding.keys import device_of
from hf_infodist.distances.code import code_pair
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.images.sample import Images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.load import load_classifier
from hf_infodist.models.member import Member
from hf_infodist.outputs.arrays import Outputs
from hf_infodist.outputs.forward import compute_outputs, outputs_key
from hf_infodist.outputs.layers import LAYERS_VERSION
from hf_infodist.pair import Execution, Pair
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import CodingProtocol, resolve_protocol
from hf_infodist.results.atlas.folder import Atlas
from hf_infodist.results.codelength import Codelength
from hf_infodist.results.distance import InformationDistance
from hf_infodist.results.matrix import PairwiseMatrix

FIRST = 256
"""Images by which models are put in order before any of them is compared."""

_LEAST_LOG_PROB = -12.0
_OTHER = {"a_given_b": "b_given_a", "b_given_a": "a_given_b"}
logger = logging.getLogger(__name__)


def images_of(atlas: Atlas) -> Images:
    """Return the sample of an atlas without its pictures, which nobody needs who runs nothing."""
    head, rows = atlas.head, np.arange(atlas.head.images.k)
    labels = list(head.labels) if head.labels else None
    fields = {name: value for name, value in vars(head.images).items() if name != "k"}
    return Images(**fields, labels=labels, label_names=head.label_names, _pictures=None, _rows=rows, _digests=b"")


def members_of(atlas: Atlas, names: Sequence[str] = ()) -> list[Member]:
    """Return models of an atlas by name, or all of them.

    Raises:
        NotFoundError: If the atlas has none, or not that one.
        UnfitError: If layers are read otherwise by now.
    """
    atlas.require_same_images(replace(atlas.head, layers=LAYERS_VERSION), "this version of the package")
    files = [atlas.find(name) for name in names] if names else atlas.sound
    if not files:
        fix = f"add some: infodist atlas add MODEL… --atlas {atlas.folder}"
        raise NotFoundError(f"{atlas.folder} is empty", "no model of it can be read", fix)
    return [Member.of(file) for file in files]


def protocol_of(atlas: Atlas, protocol: str | CodingProtocol = "standard") -> CodingProtocol:
    """Return the protocol by which models of an atlas are compared.

    Raises:
        UsageError: If it needs more than outputs in one order.
    """
    settings = resolve_protocol(protocol, atlas.head.images.seed)
    if settings.orders > 1 or any(learner.trained for learner in settings.learners):
        why = "that takes pixels and weights, or other orders of the images, and an atlas has neither"
        raise UsageError(f"an atlas cannot answer under protocol {settings.name!r}", why, "use --protocol standard")
    return settings


def atlas_distances(
    atlas: Atlas, names: Sequence[str] = (), protocol: str | CodingProtocol = "standard", **options: Any
) -> PairwiseMatrix:
    """Compare all pairs of models of an atlas; what the store has is read from there.

    Args:
        atlas: Which.
        names: Of its models; all of them if none is named.
        protocol: How students are priced.
        **options: ``workers``, ``execution``, ``on_status`` and so on, as in `pairwise_distances`.

    Raises:
        NotFoundError: If the atlas does not have a model.
        UsageError: If less than two are left, or under another protocol.
    """
    members, settings = members_of(atlas, names), protocol_of(atlas, protocol)
    return pairwise_distances(members, images_of(atlas), protocol=settings, **options)


@dataclass(frozen=True)
class Compared:
    """How far placing a model has come.

    Attributes:
        compared: Models of the atlas that are done with.
        total: All of them.
    """

    compared: int
    total: int


def nearest_in_atlas(
    atlas: Atlas,
    model: str | Classifier,
    n: int | None = 5,
    *,
    images: Any = None,
    protocol: str | CodingProtocol = "standard",
    execution: Execution | None = None,
    on_compared: Callable[[Compared], None] = lambda compared: None,
    progress: bool = False,
) -> list[InformationDistance]:
    """Find the models of an atlas that are nearest to one; only that one is run, unless the atlas has it.

    A codelength only grows as images come. So a model whose codelength exceeds the distance of the n-th nearest so far
    is given up there; the n that are left are those that comparing all to the end would find.

    Args:
        atlas: Among which.
        model: Name of a model, of the atlas or not, or a loaded one.
        n: How many; all if None.
        images: The images of the atlas, where they lie elsewhere than it says.
        protocol: How students are priced.
        execution: How it is carried out.
        on_compared: Called after each model of the atlas.
        progress: Whether to show a bar while the model is run.

    Returns:
        The model compared with each of the nearest, which comes first.

    Raises:
        NotFoundError: If the model or the images are not there, or the atlas is empty.
        UnfitError: If the images are others than those of the atlas.
    """
    settings = protocol_of(atlas, protocol)
    execution = replace(execution or Execution(), resume=False, block_by_block=True)
    members = members_of(atlas)
    own, outputs, drawn = _own(atlas, members, model, images, execution, progress)
    others = [member for member in members if outputs_key(member, drawn) != outputs_key(own, drawn)]
    if not others:
        what, why = f"{atlas.folder} has no other model than {own.id}", "there is nobody to compare it with"
        raise NotFoundError(what, why, f"add others: infodist atlas add MODEL… --atlas {atlas.folder}")
    search = _Search(own, outputs, drawn, settings, execution)
    count = len(others) if n is None else min(n, len(others))
    ordered = search.order(others)
    search.compare(ordered[:count], count)
    on_compared(Compared(count, len(others)))
    left = []
    for number, other in enumerate(search.by_student(ordered[count:]), count + 1):
        if search.costs_no_more(other, search.dearer(other), search.limit(count)):
            left.append(other)
        on_compared(Compared(number, len(others)))
    search.compare(left, count)
    return [search.result(one) for one in search.nearest(count)]


def _own(
    atlas: Atlas, members: Sequence[Member], model: str | Classifier, images: Any, execution: Execution, progress: bool
) -> tuple[Classifier, Outputs, Images]:
    """Return the model asked about, what it makes of the images, and these; from the atlas, if it is there."""
    by_name = {member.id: member for member in members}
    own = by_name.get(model) if isinstance(model, str) else model
    bare = images_of(atlas)
    if isinstance(own, Member):
        return own, compute_outputs(own, bare), bare
    classifier = load_classifier(model)
    drawn = load_atlas_images(atlas, images)
    device = make_accelerator().device
    options: dict[str, Any] = {"device": device, "home": execution.home, "chunk": execution.chunk}
    return classifier, compute_outputs(classifier, drawn, progress=progress, **options), drawn


class _Given(Exception):
    """A codelength has become larger than matters."""


class _Search:
    """Looks for the nearest of many to one, and gives up those that are farther as early as it can.

    Attributes:
        codes: What has been coded to the end, by model and direction; the one asked about is A.
    """

    def __init__(
        self, own: Classifier, outputs: Outputs, images: Images, protocol: CodingProtocol, execution: Execution
    ):
        self._own, self._outputs, self._images = own, outputs, images
        self._protocol, self._execution = protocol, execution
        self._accelerator = make_accelerator()
        self._dearer: dict[Member, str] = {}
        self.codes: dict[tuple[Member, str], Codelength] = {}

    def order(self, others: Sequence[Member]) -> list[Member]:
        """Return models by how alike their outputs are to those of the one asked about, the most alike first.

        Which direction of each is the `dearer` one is told from the same outputs.
        """
        first = _log_probs(self._outputs.logits[:FIRST])
        own, level, alike = _gram(first), _spread_nats(first), dict[Member, float]()
        for other in others:
            log_probs = _log_probs(other.file.logits[:FIRST])
            alike[other] = float((own * _gram(log_probs)).sum())
            self._dearer[other] = "a_given_b" if level >= _spread_nats(log_probs) else "b_given_a"
        return sorted(others, key=lambda other: -alike[other])

    def dearer(self, other: Member) -> str:
        """Return which direction is likely to cost more: that in which the model that says more is told."""
        return self._dearer[other]

    def by_student(self, others: Sequence[Member]) -> list[Member]:
        """Return first those whose dearer direction starts from the one asked about, which serves all of them."""
        return sorted(others, key=self.dearer, reverse=True)

    def compare(self, others: Sequence[Member], n: int) -> None:
        """Code models in both directions, each no further than the n nearest so far."""
        ordered = self.by_student(others)
        first = [one for one in ordered if self.costs_no_more(one, self.dearer(one), self.limit(n))]
        for one in sorted(first, key=lambda one: self.codes[one, self.dearer(one)].nats):
            if self.codes[one, self.dearer(one)].nats <= self.limit(n):
                self.costs_no_more(one, _OTHER[self.dearer(one)], self.limit(n))

    def costs_no_more(self, other: Member, direction: str, limit: float) -> bool:
        """Code one direction; False as soon as it has cost more than a limit."""
        if (other, direction) in self.codes:
            return self.codes[other, direction].nats <= limit

        def on_block(name: str, images: int, nats: float) -> None:
            if nats > limit:
                raise _Given

        pair = Pair(self._own, other, self._images, self._run)
        options: dict[str, Any] = {"accelerator": self._accelerator, "execution": self._execution}
        try:
            (code,) = code_pair(pair, [direction], self._protocol, on_block=on_block, **options)
        except _Given:
            return False
        except UnfitError as error:
            if direction == "b_given_a":  # of the one asked about
                raise
            logger.warning("%s is left out: %s, %s", other.id, error.what, error.why)
            return False
        self.codes[other, direction] = code
        return True

    def limit(self, n: int) -> float:
        """Return the distance of the n-th nearest so far; infinite as long as there are fewer."""
        known = sorted(map(self._distance, self._known()))
        return known[n - 1] if len(known) >= n else np.inf

    def nearest(self, n: int) -> list[Member]:
        """Return the n nearest of those that were coded in both directions."""
        return sorted(self._known(), key=self._distance)[:n]

    def result(self, one: Member) -> InformationDistance:
        """Return one that was coded in both directions, as comparing the two alone says it."""
        codes = (self.codes[one, "a_given_b"], self.codes[one, "b_given_a"])
        ends, device = (self._own.record, one.record), device_of(self._accelerator, self._protocol)
        return InformationDistance(*codes, *ends, self._images.record, self._protocol, device)

    def _known(self) -> list[Member]:
        return [one for one, direction in self.codes if direction == "a_given_b" and (one, "b_given_a") in self.codes]

    def _distance(self, one: Member) -> float:
        return max(self.codes[one, direction].nats for direction in ("a_given_b", "b_given_a"))

    def _run(self, model: Classifier) -> Outputs:
        return self._outputs if model is self._own else self._read(model)

    @functools.lru_cache(maxsize=2)  # noqa: B019  a search is short-lived
    def _read(self, model: Classifier) -> Outputs:
        return compute_outputs(model, self._images)


def gram(logits: NDArray) -> NDArray[np.float32]:
    """Return how alike what a model says of images is, ``[n, n]``, centred, of norm 1; as linear CKA compares it."""
    return _gram(_log_probs(logits))


def _log_probs(logits: NDArray) -> NDArray[np.float32]:
    return np.asarray(log_softmax(logits.astype(np.float32), axis=1))


def _gram(log_probs: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = np.maximum(log_probs, _LEAST_LOG_PROB)
    centred -= centred.mean(1, keepdims=True)
    centred -= centred.mean(0)
    gram = centred @ centred.T
    return np.asarray(gram / max(float(np.linalg.norm(gram)), 1e-30), np.float32)


def _spread_nats(log_probs: NDArray[np.float32]) -> float:
    """Return Σ_i KL(q_i ‖ mean q): what a model says costs about that much, given one that knows nothing of it."""
    probs = np.exp(log_probs)
    return float((probs * (log_probs - np.log(np.maximum(probs.mean(0), 1e-30)))).sum())
