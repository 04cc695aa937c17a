"""Which checkpoint to start from: what the labels of a dataset cost when they are learnt from each."""

import functools
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hf_infodist.baselines.transfer import measure
from hf_infodist.coding.keys import device_of
from hf_infodist.distances.answers import Answer, Question, Watch
from hf_infodist.distances.code import ProgressCallback, code_pair, directed
from hf_infodist.distances.progress import in_notebook, watched_blocks
from hf_infodist.errors import InfodistError, UsageError
from hf_infodist.images.request import DEFAULT_IMAGES, Sample, SampleOptions
from hf_infodist.images.sample import Images, load_labelled_images
from hf_infodist.models.classifier import Classifier, Network
from hf_infodist.models.load import check_name, load_classifier
from hf_infodist.models.preprocessing import Preprocessing
from hf_infodist.outputs.arrays import LabelLogits, Outputs, Pixels
from hf_infodist.outputs.forward import compute_outputs, outputs_key
from hf_infodist.pair import Execution, Pair
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import LABEL_PROTOCOLS, CodingProtocol, resolve_protocol
from hf_infodist.results.candidate import Candidate
from hf_infodist.results.ranking import Ranking

AnyModel = str | nn.Module | Classifier


def rank_checkpoints(
    models: Sequence[AnyModel],
    images: Any = DEFAULT_IMAGES,
    *,
    label: str | None = None,
    protocol: str | CodingProtocol = "standard",
    orders: int = 1,
    baselines: bool = False,
    workers: int = 1,
    execution: Execution | None = None,
    on_block: ProgressCallback | None = None,
    on_model: Callable[[str], None] | None = None,
    setup: Callable[[], None] | None = None,
    progress: bool | None = None,
    **sample: Unpack[SampleOptions],
) -> Ranking:
    """Rank checkpoints by what the labels of a dataset cost when they are learnt from each.

    The sum of -log p(y_i | x_i, what came before), equation (2): the area under a learning curve, and a code.

    Args:
        models: Names, or loaded models; networks without a head too.
        images: Name of a labelled dataset, a loaded one, or a `Sample`.
        label: Column of the classes; by default that of class labels, or ``label``.
        protocol: ``standard``, in closed form; ``thorough``, which fine-tunes too; or a protocol that prices labels.
        orders: In how many orders a preset codes the images.
        baselines: Whether to take those of `hf_infodist.baselines.transfer`, too, from the same outputs.
        workers: Processes of this machine among which the models are shared; if several, names.
        execution: How it is carried out.
        on_block: Called with the name of a model, images priced and nats so far.
        on_model: Called with the name of each model before it is loaded.
        setup: Called first in every other process; a function of a module.
        progress: Whether to show progress bars; in a notebook if None.
        **sample: How many images, in which order, and the other fields of a `Sample`.

    Raises:
        UsageError: If a setting cannot be meant.
        NotFoundError: If a name, or a column, leads nowhere.
        UnfitError: If a model or the labels cannot be used.
    """
    wanted, execution = Sample.of(images, **sample), execution or Execution()
    settings = resolve_protocol(protocol, wanted.seed, orders, LABEL_PROTOCOLS)
    _check(models, settings, workers)
    for model in models:
        check_name(model, headless=True)
    watch = Watch(Question(tuple(models), wanted, settings, "transfer", label), execution.home)
    drawn = load_labelled_images(wanted, label)
    shown = in_notebook() if progress is None else progress
    work = _Work(drawn, settings, execution, shown)
    if workers > 1 and len(models) > 1:
        _share(models, wanted, label, work, workers, setup)
        work = replace(work, execution=replace(execution, fresh=False))
    work = replace(work, baselines=baselines)
    with watched_blocks(on_block, settings.orders * len(drawn) * len(models), shown) as tell:
        found = []
        for model in models:
            if on_model:
                on_model(model if isinstance(model, str) else type(model).__name__)
            found.append(work.code(model, tell))
    work.note(watch, found)
    candidates = [candidate for candidate, _ in found]
    return Ranking.of(candidates, drawn.record, settings, drawn.labels or (), _names(drawn), label)


class KnownLabels(nn.Module):
    """Stands for whoever has labelled the images: it holds their classes, which are so part of its hash.

    Args:
        labels: ``[k]``.
    """

    def __init__(self, labels: Sequence[int]):
        super().__init__()
        self.labels: Tensor
        self.register_buffer("labels", torch.tensor(labels))


def labels_as_teacher(images: Images) -> Classifier:
    """Return the labels of images as the classifier that they are learnt from: certain, and right."""
    names = _names(images)
    settings = {"library": "labels", "classes": len(names)}  # which decide the number, and are in no label
    preprocessing = Preprocessing(_unseen, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), settings)
    network = Network(KnownLabels(images.labels or ()))
    return Classifier(
        f"labels of {images.id}", "labels", images.revision, network, len(names), names, preprocessing, ()
    )


def _check(models: Sequence[AnyModel], protocol: CodingProtocol, workers: int) -> None:
    if not models:
        raise UsageError("no model is named", "labels are learnt from a model", "name one or more")
    twice = [model for number, model in enumerate(models) if isinstance(model, str) and model in models[:number]]
    if twice:
        raise UsageError(f"{twice[0]!r} is named twice", "it would be tied with itself", "name each model once")
    if workers < 1:
        raise UsageError(f"{workers} workers cannot work", "there has to be one at least", "use --workers 1")
    if protocol.price != "labels":
        what, why = f"protocol {protocol.name!r} prices no labels", "it prices the whole output of a teacher"
        raise UsageError(what, why, f"use one of {', '.join(LABEL_PROTOCOLS)}, or price='labels'")


def _unseen(_: Any) -> Tensor:
    raise NotImplementedError("labels are known, not predicted")


def _names(images: Images) -> tuple[str, ...]:
    return images.label_names or tuple(f"LABEL_{i}" for i in range(1 + max(images.labels or (0,))))


@dataclass(frozen=True)
class _Work:
    """What is done with each candidate.

    Attributes:
        images: With labels.
        protocol: How they are learnt and priced.
        execution: How it is carried out.
        progress: Whether to show bars.
        baselines: Whether to measure it otherwise, too.
    """

    images: Images
    protocol: CodingProtocol
    execution: Execution
    progress: bool = False
    baselines: bool = False

    def code(self, model: AnyModel, on_block: ProgressCallback | None = None) -> tuple[Candidate, str]:
        """Code the labels given one model, or find that in the store; return the key that it has there, too."""
        started, accelerator = time.perf_counter(), make_accelerator()
        student, teacher = load_classifier(model, headless=True), labels_as_teacher(self.images)
        pair = Pair(student, teacher, self.images, functools.partial(self._run, teacher, accelerator))
        tell = on_block and (lambda _, images, nats: on_block(student.id, images, nats))
        options: Any = {"accelerator": accelerator, "execution": self.execution, "on_block": tell}
        (code,) = code_pair(pair, ["b_given_a"], self.protocol, **options)
        seconds = time.perf_counter() - started
        others = measure(student, pair.outputs_a, np.array(self.images.labels)) if self.baselines else {}
        candidate = Candidate(student.record, code, seconds, others)
        return candidate, directed(pair, "b_given_a", self.protocol, accelerator).key

    def note(self, watch: Watch, found: Sequence[tuple[Candidate, str]]) -> None:
        """Note the answer for whoever asks again."""
        labels, last = labels_as_teacher(self.images), len(found)
        models = (*(candidate.model for candidate, _ in found), labels.record)
        codes = {(last, i): candidate.code for i, (candidate, _) in enumerate(found)}
        keys = {(last, i): key for i, (_, key) in enumerate(found)}
        device, known = device_of(make_accelerator(), self.protocol), tuple(self.images.labels or ())
        watch.keep(Answer(models, self.images.record, device, codes, (), known, labels.labels), keys)

    def _run(self, teacher: Classifier, accelerator: Accelerator, model: Classifier) -> Outputs:
        if model is not teacher:
            execution, device = self.execution, accelerator.device
            options: Any = {"device": device, "home": execution.home, "chunk": execution.chunk}
            return compute_outputs(model, self.images, **options, progress=self.progress)
        labels = np.array(self.images.labels)
        none = np.zeros((len(labels), 0))
        pixels = Pixels(none, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        logits = LabelLogits(labels, model.num_classes)
        return Outputs(pixels, logits, none, none, (), outputs_key(model, self.images))


# Several processes


def _share(
    models: Sequence[AnyModel],
    images: Sample,
    label: str | None,
    work: _Work,
    workers: int,
    setup: Callable[[], None] | None,
) -> None:
    """Let processes of this machine put into the store what models cost; what they leave is done by this one."""
    processes = min(workers, len(models))
    threads = max(1, torch.get_num_threads() // processes)
    context, begin = multiprocessing.get_context("spawn"), (threads, setup, images, label, work.protocol)
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(*begin, work.execution)) as pool:
        for done in [pool.submit(_code_here, model) for model in models]:
            done.result()


_here: list[_Work] = []  # of this process, where it was started by `_share`


def _begin(
    threads: int,
    setup: Callable[[], None] | None,
    images: Sample,
    label: str | None,
    protocol: CodingProtocol,
    execution: Execution,
) -> None:
    if setup:
        setup()
    torch.set_num_threads(threads)
    _here.append(_Work(load_labelled_images(images, label), protocol, execution))


def _code_here(model: AnyModel) -> None:
    with suppress(InfodistError):  # which is raised again where it can be told
        _here[0].code(model)
