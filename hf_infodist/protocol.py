"""The coding protocol: every setting that changes the number, in one frozen record."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from hf_infodist.errors import UsageError, whole

_KERNEL_KINDS = ("kernel", "adapted")
_OF_THE_PAPER = ("adapting", 2e-3)  # its BatchNorm and its learning rate, whose steps are those of plain Adam


@dataclass(frozen=True)
class LearnerSpec:
    """How one learner predicts and learns.

    Attributes:
        kind: ``uniform`` and ``static`` never learn; ``map`` and ``permuted`` learn what the student's classes are
            called; ``kernel`` regresses on features of the student, in closed form; ``finetuned`` trains every weight;
            ``adapted`` is a ``kernel`` on features of the best of the ``finetuned``, read anew before each block.
        features: Of kernels of both kinds: which of `features.FEATURES`.
        gamma: Of kernels: γ in exp(-γ D).
        noise: Of kernels: λ, the ridge.
        flat: Of kernels: whether predictions are flattened where their variance is large.
        gain: Of kernels: factor on its corrections; drawn labels ask for large ones.
        start: Of kernels: ``student``, its head where label spaces agree, else nothing; ``permuted``, its own
            outputs in the order that ``permuted`` finds, where classes are as many but not of the same names; or
            ``nothing``, whatever the student says.
        lr: Of ``finetuned``: Adam's learning rate, in the units of `units.parameter_units`.
        batchnorm: ``frozen`` keeps running statistics as they are and lets only the affine parameters learn;
            ``adapting`` uses and updates batch statistics while training.
        step: Of ``finetuned``: ``relative`` steps are ``lr`` times the scale of each weight tensor; ``mean`` divides
            the scales by their geometric mean, so that a step is ``lr`` on average, as with plain Adam.
        prior: Share of the prior mass, before normalising over all learners.
        prior_if_named: The same where the label spaces agree, by name or by number; `prior` if None.
    """

    kind: Literal["uniform", "static", "map", "permuted", "kernel", "finetuned", "adapted"]
    features: str = ""
    gamma: float = 0.0
    noise: float = 0.0
    flat: bool = False
    gain: float = 1.0
    start: Literal["student", "permuted", "nothing"] = "student"
    lr: float = 0.0
    batchnorm: Literal["frozen", "adapting"] = "frozen"
    step: Literal["relative", "mean"] = "relative"
    prior: float = 1.0
    prior_if_named: float | None = None

    @property
    def trained(self) -> bool:
        """Whether it is trained by gradients."""
        return self.kind == "finetuned"

    @property
    def coding(self) -> int:
        """Since which version of the coding a learner of its kind predicts as it does."""
        return 3 if self.kind == "adapted" else 2

    @property
    def name(self) -> str:
        """Short unique name, as shown in results; steps are named where they are not what the presets make of them."""
        if self.kind == "finetuned":
            usual = "mean" if (self.batchnorm, self.lr) == _OF_THE_PAPER else "relative"
            return "-".join([self.kind, self.batchnorm, f"{self.lr:g}", *([self.step] if self.step != usual else [])])
        if self.kind not in _KERNEL_KINDS:  # heads of the first version, in results that are kept, differ in rates
            return f"{self.kind}-{self.lr:g}" if self.lr else self.kind
        words = [self.kind, self.features, *([self.start] if self.start != "student" else [])]
        return "-".join([*words, *(["flat"] if self.flat else []), *([f"{self.gain:g}"] if self.gain != 1 else [])])


@dataclass(frozen=True)
class CodingProtocol:
    """Everything that changes a codelength besides the two models and the images.

    Attributes:
        name: Name of the preset this protocol started from.
        learners: Who predicts; more than one are mixed by Bayes' rule.
        first_block: Images in the first block, and least growth of any later block.
        growth: Each block ends at ``growth`` times the previous end (1: blocks of ``first_block`` images).
        batch: Images per gradient step.
        passes: Passes over all priced images after each block; 0 takes the new images once, in order.
        replay: Extra steps per new batch, each on images drawn uniformly from all priced ones.
        anneal: Let the learning rate warm up and fall linearly to zero within each block's training.
        averaging: Predict from an exponential moving average of the weights, buffers included.
        restart: Start from the initial weights again in each block.
        targets: What a student is shown: the teacher's soft outputs, or labels drawn from them.
        price: What an image costs: KL(teacher ‖ prediction), or the surprise at the drawn label less the teacher's.
        switching: Allow the mixture to change its favourite as images come (fixed share).
        pooling: Mix in a pool of all learners, whose weights are learnt too.
        reduction: After ``trial`` images, and each time they have doubled again, one in this many of the fine-tuned
            learners goes on, rounded up (successive halving, Jamieson & Talwalkar 2016); None keeps all.
        trial: Images before the first reduction.
        orders: In how many orders the images are coded; the codelength is the mean over them.
        epsilon: Nats per image at which the last images count as converged, equation (4) of the paper.
        seed: Seed of replay draws, shuffles, drawn labels and further orders.
    """

    name: str
    learners: tuple[LearnerSpec, ...]
    first_block: int = 32
    growth: float = 1.0
    batch: int = 32
    passes: int = 0
    replay: int = 0
    anneal: bool = False
    averaging: bool = False
    restart: bool = False
    targets: Literal["soft", "labels"] = "soft"
    price: Literal["kl", "labels"] = "kl"
    switching: bool = False
    pooling: bool = False
    reduction: int | None = None
    trial: int = 128
    orders: int = 1
    epsilon: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        """Make whole numbers of NumPy's or of floats plain ones, and refuse settings that cannot be meant."""
        for each in fields(self):
            if each.type is int:
                object.__setattr__(self, each.name, whole(getattr(self, each.name), each.name))
        names = [learner.name for learner in self.learners]
        self._require(bool(names), "learners", "at least one learner has to predict")
        self._require(len(set(names)) == len(names), "learners", "two learners are the same")
        self._require(self.first_block >= 1 and self.batch >= 1, "first_block/batch", "blocks and batches hold images")
        self._require(self.growth >= 1, "growth", "blocks cannot shrink below the past")
        self._require(self.orders >= 1, "orders", "the images have to be coded at least once")
        self._require(not self.pooling or len(names) > 1, "pooling", "one learner makes no pool")
        self._require(self.reduction is None or self.reduction > 1, "reduction", "one of one is no reduction")
        read = [learner for learner in self.learners if learner.kind == "adapted"]
        tuned = any(learner.trained for learner in self.learners)
        self._require(tuned or not read, "learners", "adapted features are those of a fine-tuned learner")
        ordered = any(learner.start == "permuted" for learner in read)
        self._require(not ordered, "learners", "adapted kernels begin where the fine-tuned one does, or with nothing")
        self._require(self.price == "kl" or self.targets == "labels", "price", "labels are priced only where drawn")

    def _require(self, holds: bool, field: str, why: str) -> None:
        if not holds:
            raise UsageError(f"protocol {self.name!r}: {field} is not usable", why, f"change {field} of the protocol")

    @property
    def coding(self) -> int:
        """Version of the coding that its numbers are of, which is part of every key."""
        afresh = self.targets == "soft" and any(learner.start == "nothing" for learner in self.learners)
        return 4 if afresh else max(learner.coding for learner in self.learners)

    def blocks(self, k: int) -> Iterator[tuple[int, int]]:
        """Yield the half-open ranges in which ``k`` images are priced and then learnt from."""
        start, end = 0, min(self.first_block, k)
        while start < k:
            yield start, end
            start, end = end, min(k, max(end + self.first_block, round(end * self.growth)))

    def gradient_images(self, k: int) -> int:
        """Images passed through the gradients of all fine-tuned learners, in all orders, to price ``k`` images."""
        learners, next_trial, images = sum(learner.trained for learner in self.learners), self.trial, 0
        for start, end in self.blocks(k):
            if self.reduction and end >= next_trial:
                learners, next_trial = -(-learners // self.reduction), 2 * end
            if end < k:
                images += learners * self._block_gradient_images(start, end)
        return self.orders * images

    def order(self, number: int) -> "CodingProtocol":
        """Return the protocol by which the images are coded in one of the orders."""
        return replace(self, orders=1, seed=self.seed + number)

    def _block_gradient_images(self, start: int, end: int) -> int:
        if self.passes:
            return self.passes * end
        return (end - start) + self.replay * self.batch * -(-(end - start) // self.batch)

    def to_dict(self) -> dict[str, Any]:
        """Return every field, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "CodingProtocol":
        """Rebuild a protocol from `to_dict`."""
        learners = tuple(LearnerSpec(**learner) for learner in fields["learners"])
        return cls(**{**fields, "learners": learners})


_LABELS = (  # learners of what classes are called; a model costs next to nothing given itself
    LearnerSpec("uniform", prior=1e-3),
    LearnerSpec("map", prior_if_named=1e-3),
    LearnerSpec("permuted", prior_if_named=1e-3),
    LearnerSpec("static", prior_if_named=8.0),  # as likely as all that begin with it: few images leave little to learn
)


def _kernel(features: str, gamma: float = 0.3, noise: float = 0.01, **more: Any) -> LearnerSpec:
    return LearnerSpec("kernel", features=features, gamma=gamma, noise=noise, **more)


_KERNELS = (
    _kernel("all"),
    _kernel("all", flat=True),
    *(_kernel(quarter, flat=True) for quarter in ("first", "second", "third", "last")),
    _kernel("penultimate", flat=True),
    _kernel("logits", gamma=0.1, flat=True),
    _kernel("all", start="permuted", prior_if_named=1e-3),
    _kernel("all", start="nothing", prior_if_named=1e-4),  # unlikely; it is in the pool that they count
    _kernel("first", start="nothing", flat=True, prior_if_named=1e-4),
)
_LABEL_KERNELS = (  # a drawn label says little, so much is made of what it says
    *(_kernel("all", noise=0.1, gain=gain) for gain in (2.0, 4.0, 8.0)),
    *(
        _kernel(features, noise=0.1, gain=6.0)
        for features in ("first", "second", "third", "last", "penultimate", "logits")
    ),
)
_NEW_KERNELS = tuple(replace(kernel, start="nothing") for kernel in _LABEL_KERNELS)  # for classes of another task
_ADAPTED = (
    LearnerSpec("adapted", features="all", gamma=0.3, noise=0.01),
    LearnerSpec("adapted", features="all", gamma=0.3, noise=0.01, flat=True),
)
_FINE_TUNED = (
    LearnerSpec("finetuned", lr=3e-4),
    LearnerSpec("finetuned", lr=3e-3),
    LearnerSpec("finetuned", lr=1e-2, batchnorm="adapting"),
)
_STANDARD = CodingProtocol("standard", _LABELS + _KERNELS, growth=1.25, switching=True, pooling=True)
_SINGLE = CodingProtocol("single", (LearnerSpec("finetuned", lr=1e-3),), replay=7, averaging=True)
_TRAINED = _FINE_TUNED + _ADAPTED
_CYCLES = CodingProtocol("thorough", _LABELS + _KERNELS + _TRAINED, first_block=16, growth=1.5, batch=8, passes=4)

PROTOCOLS: dict[str, CodingProtocol] = {
    protocol.name: protocol
    for protocol in (
        _STANDARD,
        replace(_CYCLES, anneal=True, switching=True, pooling=True, reduction=3, trial=48),
        _SINGLE,
        CodingProtocol("paper", (LearnerSpec("finetuned", lr=_OF_THE_PAPER[1], batchnorm="adapting", step="mean"),)),
        CodingProtocol(
            "blockwise",
            (LearnerSpec("finetuned", lr=1e-3),),
            first_block=16,
            growth=2.0,
            batch=8,
            passes=10,
            anneal=True,
            restart=True,
        ),
        replace(_STANDARD, name="sampled", learners=_LABELS + _LABEL_KERNELS, targets="labels", price="labels"),
    )
}
LABEL_PROTOCOLS: dict[str, CodingProtocol] = {
    name: replace(
        PROTOCOLS[name], learners=_LABELS + _LABEL_KERNELS + _NEW_KERNELS + more, targets="labels", price="labels"
    )
    for name, more in (("standard", ()), ("thorough", _FINE_TUNED))
}
"""Presets for the labels of a dataset, which are shown and priced as they are: equation (2) of the paper."""

SUCCESSORS = {"probe": "standard", "quick": "standard"}
"""Presets of earlier versions that another one beats on every pair, and which."""

CODING_VERSION = 4
"""Raised whenever a change of the code changes the number that the same models, images and preset get.

Version 3 brought adapted features to ``thorough``; version 4 brought kernels that begin with nothing, which labels had
before, to ``standard`` and ``thorough``. Both left all other learners as they were in version 2. So
`CodingProtocol.coding` is part of every key of the store and of checkpoints: only what has changed is computed again.
"""


def coding_of_preset(protocol: CodingProtocol) -> int:
    """Return the version of the coding that the preset of a protocol's name is of now; 0 if none is called so.

    A preset may have got other learners since: what an older one has cost is told from what it costs now.
    """
    labels = protocol.price == "labels" and protocol.name in LABEL_PROTOCOLS
    presets = LABEL_PROTOCOLS if labels else PROTOCOLS
    return presets[protocol.name].coding if protocol.name in presets else 0


def resolve_protocol(
    protocol: "str | CodingProtocol",
    seed: int | None = None,
    orders: int | None = None,
    presets: Mapping[str, CodingProtocol] = PROTOCOLS,
) -> CodingProtocol:
    """Return a preset by name, with ``seed`` and ``orders`` if given; a protocol that is passed keeps its own.

    Args:
        protocol: A name, or a protocol.
        seed: Of all that is drawn.
        orders: In how many the images are coded.
        presets: `PROTOCOLS`, or `LABEL_PROTOCOLS`.

    Raises:
        UsageError: If no preset has that name.
    """
    if isinstance(protocol, CodingProtocol):
        return protocol
    if orders is not None and whole(orders, "orders") < 1:
        raise UsageError(
            f"{orders} orders cannot be coded", "the images have to be coded at least once", "use 1 or more"
        )
    if protocol in SUCCESSORS:
        better = SUCCESSORS[protocol]
        why = f"{better!r} costs less time and fewer nats than it did on every pair that was tried"
        raise UsageError(f"the protocol {protocol!r} is gone", why, f"use --protocol {better}")
    if protocol not in presets:
        raise UsageError(
            f"unknown protocol {protocol!r}",
            "a distance is defined by its protocol, so the name has to be exact",
            f"choose one of {', '.join(presets)}",
        )
    preset = presets[protocol]
    return replace(preset, seed=preset.seed if seed is None else seed, orders=orders or preset.orders)
