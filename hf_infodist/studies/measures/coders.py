"""Ways to code B given A that the mixture is compared with."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from accelerate import Accelerator

from hf_infodist.coding.trainer import train_codelength
from hf_infodist.errors import UnfitError
from hf_infodist.pair import Pair
from hf_infodist.protocol import PROTOCOLS, CodingProtocol, LearnerSpec
from hf_infodist.results.codelength import Codelength
from hf_infodist.studies.measures.preqtorch import encode
from hf_infodist.studies.measures.version_one import PROTOCOL as VERSION_ONE
from hf_infodist.studies.measures.version_one import version_one
from hf_infodist.studies.networks.pairs import Setting
from hf_infodist.studies.search import BUDGET, search

RATES = (3e-4, 1e-3, 3e-3, 1e-2)
ADAM_RATES = (1e-4, *RATES)  # for preqtorch: plain Adam's, which do not scale with the weights

Batchnorm = Literal["frozen", "adapting"]


@dataclass(frozen=True)
class Outcome:
    """What one way of coding cost.

    Attributes:
        nats: Codelength; None where training diverged.
        gradient_images: Images that the run of these nats passed through a gradient.
        spent: The same of all the runs it took to find it; 0 of a search in which every run diverged.
        details: Learners of a mixture; protocol and outcomes of a search.
    """

    nats: float | None
    gradient_images: int
    spent: int
    details: dict[str, Any]


class Coder(Protocol):
    """A way to code; its fields decide the nats."""

    def code(self, pair: Pair, accelerator: Accelerator) -> Outcome:
        """Code B given A."""
        ...


@dataclass(frozen=True)
class ByProtocol:
    """Under a protocol."""

    protocol: CodingProtocol

    def code(self, pair: Pair, accelerator: Accelerator) -> Outcome:
        """Code B given A."""
        try:
            code = train_codelength(pair, "b_given_a", self.protocol, accelerator=accelerator)
        except UnfitError:
            planned = self.protocol.gradient_images(len(pair.images))
            return Outcome(None, planned, planned, {})
        return _outcome(code)


@dataclass(frozen=True)
class ByVersionOne:
    """By the default of version 1."""

    protocol: CodingProtocol

    def code(self, pair: Pair, accelerator: Accelerator) -> Outcome:
        """Code B given A."""
        return _outcome(version_one(pair, self.protocol, accelerator))


@dataclass(frozen=True)
class BySearch:
    """Under the best protocol of one learner that a search finds."""

    trials: int
    budget: float
    seed: int

    def code(self, pair: Pair, accelerator: Accelerator) -> Outcome:
        """Code B given A."""
        try:
            found = search(pair, trials=self.trials, budget=self.budget, seed=self.seed, accelerator=accelerator)
        except UnfitError:
            return Outcome(None, 0, 0, {})
        outcomes = [trial.outcome for trial in found.trials]
        counts = {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
        details = {"protocol": found.protocol.to_dict(), "outcomes": counts}
        return Outcome(found.nats, found.protocol.gradient_images(len(pair.images)), found.gradient_images, details)


@dataclass(frozen=True)
class ByPreqtorch:
    """By an encoder of preqtorch."""

    encoder: Literal["blocks", "replay"]
    lr: float
    batchnorm: Batchnorm
    seed: int

    def code(self, pair: Pair, accelerator: Accelerator) -> Outcome:
        """Code B given A."""
        done = encode(pair, self.encoder, self.lr, batchnorm=self.batchnorm, seed=self.seed, accelerator=accelerator)
        return Outcome(_finite(done.nats), done.gradient_images, done.gradient_images, {})


def coders(setting: Setting, *, seed: int = 0, trials: int | None = None) -> dict[str, Coder]:
    """Return the ways to code a pair, by column and variant; the cheapest variant of a column is chosen in hindsight.

    A near pair gets no variants with adapting BatchNorm; a large one gets lower rates for preqtorch, and few trials.
    """
    preset, blockwise = (replace(PROTOCOLS[name], seed=seed) for name in (setting.protocol, "blockwise"))
    batchnorms: tuple[Batchnorm, ...] = ("frozen",) if setting.near else ("frozen", "adapting")
    rates, most, budget = (ADAM_RATES[:3], 6, 8.0) if setting.large else (ADAM_RATES, 30, BUDGET)
    cells: dict[str, Coder] = {"static/static": _alone(preset, LearnerSpec("static"))}
    apart = (spec for spec in preset.learners if spec.kind != "adapted")  # which takes its features from another
    alone = [spec for spec in apart if spec.start != "permuted"]  # which takes its start from another
    cells |= {f"single/{spec.name}": _alone(preset, spec) for spec in alone}
    cells[f"mixture/{preset.name}"] = ByProtocol(preset)
    cells["version-1/standard"] = ByVersionOne(replace(VERSION_ONE, seed=seed))
    for column, restart in (("retraining", True), ("continuing", False)):
        for spec in (LearnerSpec("finetuned", lr=lr, batchnorm=batchnorm) for batchnorm in batchnorms for lr in RATES):
            cells[f"{column}/{spec.name}"] = ByProtocol(replace(blockwise, learners=(spec,), restart=restart))
    for lr in rates:
        cells[f"preqtorch-blocks/{lr:g}"] = ByPreqtorch("blocks", lr, "adapting", seed)
        for batchnorm in batchnorms:
            cells[f"preqtorch-replay/{batchnorm}-{lr:g}"] = ByPreqtorch("replay", lr, batchnorm, seed)
    cells["search/best"] = BySearch(most if trials is None else trials, budget, seed)
    return cells


def _alone(preset: CodingProtocol, spec: LearnerSpec) -> ByProtocol:
    """Take the preset with one of its learners."""
    return ByProtocol(replace(preset, name=f"{spec.name} alone", learners=(spec,), reduction=None, pooling=False))


def _outcome(code: Codelength) -> Outcome:
    learners = [vars(learner) | {"nats": _finite(learner.nats)} for learner in code.learners]
    return Outcome(code.nats, code.gradient_images, code.gradient_images, {"learners": learners})


def _finite(nats: float) -> float | None:
    return nats if math.isfinite(nats) else None
