"""Which protocol of one learner codes a pair in the fewest nats: the paper's search for hyper-parameters.

``infodist study search STUDENT TEACHER --images digits -k 1000 --trials 30``

Optuna draws protocols of one fine-tuned learner that stay within a budget of gradient images, beginning with the
presets of that kind, and stops those that fall behind. A mixture needs no such search; this shows what it is worth.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from accelerate import Accelerator

from hf_infodist.coding.trainer import train_codelength
from hf_infodist.errors import UnfitError, UsageError
from hf_infodist.pair import Pair, prepare_pair
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import PROTOCOLS, CodingProtocol, LearnerSpec
from hf_infodist.studies import require
from hf_infodist.studies.report.options import Images

if TYPE_CHECKING:
    import optuna


BUDGET = 25.0  # gradient images per image
STARTS = ("single", "blockwise", "paper")
_PARAMETERS = ("lr", "batchnorm", "step", "first_block", "growth", "batch", "training", "passes", "replay", "restart",
               "anneal", "averaging")  # fmt: skip


@dataclass(frozen=True)
class TrialRecord:
    """One protocol that was tried.

    Attributes:
        params: What was drawn.
        outcome: Whether it priced all images, was stopped because others were ahead, or diverged.
        nats: Codelength of the images it priced.
        images: How many those are.
        gradient_images: Images it passed through a gradient.
    """

    params: dict[str, Any]
    outcome: Literal["complete", "pruned", "diverged"]
    nats: float
    images: int
    gradient_images: int


@dataclass(frozen=True)
class SearchResult:
    """What a search found: the best protocol, its codelength, and all that was tried."""

    protocol: CodingProtocol
    nats: float
    trials: tuple[TrialRecord, ...]

    @property
    def gradient_images(self) -> int:
        """Images passed through a gradient in all trials together."""
        return sum(trial.gradient_images for trial in self.trials)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return asdict(self) | {"gradient_images": self.gradient_images}


def propose(trial: "optuna.trial.BaseTrial", seed: int = 0) -> CodingProtocol:
    """Draw a protocol of one fine-tuned learner, trained in passes over the past or online with replay."""
    lr = trial.suggest_float("lr", 1e-4, 3e-2, log=True)
    batchnorm: Any = trial.suggest_categorical("batchnorm", ["frozen", "adapting"])
    step: Any = trial.suggest_categorical("step", ["relative", "mean"])
    passes = trial.suggest_categorical("training", ["passes", "replay"]) == "passes"
    return CodingProtocol(
        "search",
        (LearnerSpec("finetuned", lr=lr, batchnorm=batchnorm, step=step),),
        first_block=trial.suggest_int("first_block", 16, 128, log=True),
        growth=trial.suggest_float("growth", 1.0, 2.0, step=0.25),
        batch=trial.suggest_int("batch", 8, 64, log=True),
        passes=trial.suggest_int("passes", 1, 16, log=True) if passes else 0,
        replay=0 if passes else trial.suggest_int("replay", 0, 15),
        restart=passes and trial.suggest_categorical("restart", [False, True]),
        anneal=trial.suggest_categorical("anneal", [False, True]),
        averaging=trial.suggest_categorical("averaging", [False, True]),
        seed=seed,
    )


def search(
    pair: Pair,
    direction: Literal["a_given_b", "b_given_a"] = "b_given_a",
    *,
    trials: int = 30,
    seed: int = 0,
    budget: float = BUDGET,
    storage: str | None = None,
    accelerator: Accelerator | None = None,
) -> SearchResult:
    """Search for the protocol of one learner that codes a teacher in the fewest nats.

    Args:
        pair: Two models and the images.
        direction: ``b_given_a`` teaches A the outputs of B.
        trials: Protocols to run, those of an earlier search in the same storage included.
        seed: Of the draws, and of every protocol.
        budget: Most gradient images per image that a protocol may plan; what plans more is not run.
        storage: URL of a database that keeps the trials, such as ``sqlite:///search.db``; in memory if None.
        accelerator: Device and precision; `make_accelerator` if None.

    Raises:
        NotFoundError: If optuna is not installed.
        UnfitError: If no protocol priced all images.
        UsageError: If nothing can be tried, or nothing fits the budget.
    """
    require("optuna", "search")
    if trials < 1 or budget < 1:
        why = "at least one protocol has to run, and one pass over the images takes one gradient image each"
        raise UsageError(
            f"trials {trials} and budget {budget:g} leave nothing to search", why, "raise both to 1 or more"
        )
    (student, seen), (teacher, taught) = pair.ends(direction)
    accelerator, k = accelerator or make_accelerator(), len(pair.images)

    def code(protocol: CodingProtocol, watch: _Watch) -> None:
        train_codelength(pair, direction, protocol, accelerator=accelerator, on_block=watch)

    with _opened(storage) as database:
        study = _open_study(f"{seen.key}-{taught.key}-{budget:g}-{seed}", k, seed, budget, database)
        while len(_records(study)) < trials:
            _try_one(study, code, k, seed, budget)
        records = _records(study)
        failed = all(record.outcome != "complete" for record in records)
        best = None if failed else (propose(study.best_trial, seed), study.best_value)
    if best is None:
        why = f"all {len(records)} protocols that were tried diverged"
        raise UnfitError(f"{student.id} cannot be taught by {teacher.id}", why, "raise --trials")
    return SearchResult(*best, tuple(records))


@contextmanager
def _opened(storage: str | None) -> Iterator[Any]:
    """Open a database, and close its connections, which optuna leaves open."""
    import optuna

    if storage is None:
        yield None
        return
    database = optuna.storages.RDBStorage(storage)
    try:
        yield database
    finally:
        database.remove_session()
        database.engine.dispose()


def _open_study(name: str, k: int, seed: int, budget: float, storage: Any) -> "optuna.Study":
    """Open a study that begins with the presets.

    Cumulative nats only grow, so a pruner that takes the least of them, as the median pruner does, would never prune.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=_grid(k)[0], reduction_factor=2),
        load_if_exists=True,
    )
    if not study.trials:
        for protocol in (PROTOCOLS[start] for start in STARTS):
            if protocol.gradient_images(k) <= budget * k:
                study.enqueue_trial(_params(protocol), user_attrs={"start": protocol.name})
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))  # a search that goes on draws anew
    return study


def _params(protocol: CodingProtocol) -> dict[str, Any]:
    """Return what `propose` would have to draw for a protocol of one learner."""
    (learner,) = protocol.learners
    fields = {**vars(protocol), **vars(learner), "training": "passes" if protocol.passes else "replay"}
    return {name: fields[name] for name in _PARAMETERS}


def _try_one(
    study: "optuna.Study",
    code: Callable[[CodingProtocol, "_Watch"], None],
    k: int,
    seed: int,
    budget: float,
) -> None:
    """Draw a protocol; run it if it fits the budget."""
    import optuna

    trial = study.ask()
    protocol = propose(trial, seed)
    if protocol.gradient_images(k) > budget * k:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)  # says nothing of its nats, so no draw learns from it
        return
    watch = _Watch(trial, k, spared="start" in trial.user_attrs)
    outcome: Literal["complete", "pruned", "diverged"] = "complete"
    try:
        code(protocol, watch)
    except optuna.TrialPruned:
        outcome = "pruned"
    except UnfitError:
        outcome = "diverged"
    spent = protocol.gradient_images(min(watch.images + 1, k))  # each block is learnt from before it is reported
    record = TrialRecord(trial.params, outcome, watch.nats, watch.images, spent)
    trial.set_user_attr("record", asdict(record))
    if outcome == "complete":
        study.tell(trial, watch.nats)
    else:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)


def _grid(k: int) -> list[int]:
    """Return the numbers of images after which the worse half stops."""
    return sorted({max(1, k // share) for share in (4, 2)})


class _Watch:
    """Reports the nats of a trial at numbers of images common to all trials, and stops it when it falls behind.

    Args:
        trial: Of optuna.
        k: All images; trials are compared after a quarter and half of them, interpolated within a block.
        spared: Compare, but do not stop.
    """

    def __init__(self, trial: "optuna.Trial", k: int, *, spared: bool = False):
        self.trial, self.k, self.spared = trial, k, spared
        self.images, self.nats = 0, 0.0

    def __call__(self, images: int, nats: float) -> None:
        """Note that ``images`` have cost ``nats``."""
        import optuna

        start, start_nats = self.images, self.nats
        self.images, self.nats = images, nats
        for point in _grid(self.k):
            if start < point <= images:
                self.trial.report(start_nats + (nats - start_nats) * (point - start) / (images - start), point)
                if self.trial.should_prune() and images < self.k and not self.spared:
                    raise optuna.TrialPruned


def _records(study: "optuna.Study") -> list[TrialRecord]:
    """Return what has been run so far."""
    return [TrialRecord(**trial.user_attrs["record"]) for trial in study.trials if "record" in trial.user_attrs]


def main(
    student: Annotated[str, typer.Argument(metavar="STUDENT", help="name of a model: where learning starts")],
    teacher: Annotated[str, typer.Argument(metavar="TEACHER", help="name of a model: its outputs are learnt")],
    images: Annotated[str, typer.Option("--images", "-i", help="name of a dataset")] = "digits",
    split: Annotated[str | None, typer.Option("--split", help="split of the dataset")] = None,
    k: Images = 1000,
    trials: Annotated[int, typer.Option("--trials", help="protocols to run")] = 30,
    seed: Annotated[int, typer.Option("--seed", help="order of the images, and every draw")] = 0,
    budget: Annotated[float, typer.Option("--budget", help="most gradient images per image")] = BUDGET,
    storage: Annotated[str | None, typer.Option("--storage", help="keep the trials: sqlite:///search.db")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Search and print."""
    require("optuna", "search")
    pair = prepare_pair(student, teacher, images, k=k, seed=seed, split=split)
    result = search(pair, trials=trials, seed=seed, budget=budget, storage=storage)
    sys.stdout.write(f"{json.dumps(result.to_dict()) if as_json else _text(result)}\n")


def _text(result: SearchResult) -> str:
    drawn = ", ".join(f"{name} {value}" for name, value in _params(result.protocol).items())
    outcomes = [trial.outcome for trial in result.trials]
    counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in sorted(set(outcomes)))
    return f"{result.nats:.1f} nats: {drawn}\n{result.gradient_images:,} gradient images in all trials: {counts}"
