"""The trainer: one student taught by one teacher, on the device and in the precision that Accelerate owns."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn

from hf_infodist.coding.adapted import AdaptedKernel, Reader, wanted_by
from hf_infodist.coding.checkpoints import Checkpoints
from hf_infodist.coding.finetuned import FineTuned
from hf_infodist.coding.interfaces import AnyLearner, RemoteLearner
from hf_infodist.coding.kernels import Kernel, factors_of
from hf_infodist.coding.label_learners import MOST_PERMUTED, ClassMap, Permutation
from hf_infodist.coding.learners import Corrections, KernelLearner, Start, Static, TeacherRegression, Uniform
from hf_infodist.coding.loop import prequential
from hf_infodist.coding.mixture import Mixture
from hf_infodist.coding.nats import kl_nats
from hf_infodist.coding.targets import Targets, draw_labels
from hf_infodist.errors import ResourceError, UnfitError
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.heads import match_labels, named
from hf_infodist.outputs.arrays import Outputs, resident
from hf_infodist.pair import Execution, Pair
from hf_infodist.processes import ProcessTeam, make_accelerator, one_thread
from hf_infodist.protocol import CodingProtocol, LearnerSpec
from hf_infodist.results.codelength import Codelength


def train_codelength(
    pair: Pair,
    direction: str,
    protocol: CodingProtocol,
    *,
    order: int = 0,
    accelerator: Accelerator | None = None,
    execution: Execution | None = None,
    on_block: Callable[[int, float], None] | None = None,
    team: ProcessTeam | None = None,
    checkpoints: Checkpoints | None = None,
) -> Codelength:
    """Teach a copy of the student its teacher's outputs and return what each image cost while it was new.

    L'(teacher | student), equation (6), for one order of the images.

    Args:
        pair: Models, images and outputs; no model is changed.
        direction: ``a_given_b`` or ``b_given_a``: whose outputs are learnt, and where learning starts.
        protocol: Everything that changes the number.
        order: Number of the order in which the images are coded; 0 is that of the sample.
        accelerator: Device and precision; `make_accelerator` if None.
        execution: How it is carried out.
        on_block: Called after each block with images priced and nats so far.
        team: Processes that share the work; this one alone if None.
        checkpoints: Where the run is kept and gone on from.

    Raises:
        ResourceError: If memory runs out.
        UnfitError: If training diverges, or a checkpoint is damaged.
    """
    accelerator, team = accelerator or make_accelerator(), team or ProcessTeam()
    execution = execution or Execution()
    (student, student_outputs), (teacher, teacher_outputs) = pair.ends(direction)
    protocol = protocol.order(order)
    if order:
        rows = np.random.default_rng([protocol.seed, 3]).permutation(teacher_outputs.logits.shape[0])
        student_outputs, teacher_outputs = student_outputs.reordered(rows), teacher_outputs.reordered(rows)
    labels = draw_labels(teacher_outputs.logits, protocol.seed) if protocol.targets == "labels" else None
    targets = Targets(teacher_outputs.logits, labels)
    start = _start(student, student_outputs, teacher, accelerator.device)
    specs = _applicable(protocol, start)
    if not specs:
        raise UnfitError(
            f"{student.id} cannot be taught by {teacher.id} under protocol {protocol.name!r}",
            f"it has no learner for {start.outputs.shape[1]} classes that become {start.num_classes}",
            "use --protocol standard",
        )
    share = team if execution.data_parallel else ProcessTeam()
    members = ProcessTeam() if execution.data_parallel else team
    threads = one_thread(accelerator.device) if any(spec.trained for spec in specs) else nullcontext()
    with threads, _explained(student, teacher, protocol, accelerator.device):
        code = prequential(
            _learners(specs, protocol, student_outputs, start, accelerator, members, share, execution.chunk),
            targets,
            protocol.blocks(targets.num_images),
            protocol,
            mixture=Mixture([_prior(spec, start) for spec in specs], protocol.switching, protocol.pooling),
            on_block=on_block,
            team=members,
            keeper=checkpoints,
            block_by_block=execution.block_by_block,
        )
    return replace(code, static_nats=_static_nats(targets, start), marginal_nats=_marginal_nats(targets))


def _start(student: Classifier, outputs: Outputs, teacher: Classifier, device: torch.device) -> Start:
    def network(rows: Sequence[int] | None) -> nn.Module:
        copy = student.student(teacher.num_classes, rows).to(device)
        return copy.to(memory_format=torch.channels_last) if device.type == "cuda" else copy

    labels = student.labels, teacher.labels
    rows, heads = match_labels(*labels), student.student_heads
    return Start(outputs.logits, teacher.num_classes, rows, named(*labels), network, heads)


def _applicable(protocol: CodingProtocol, start: Start) -> list[LearnerSpec]:
    """Return the learners that a pair of label spaces allows.

    An order of the classes is looked for where they are as many, and names do not tell it; and a start from nothing
    is another one only where the student has a start.
    """
    known = start.named and start.rows is not None
    finds = any(spec.kind == "permuted" for spec in protocol.learners)
    orders = finds and start.outputs.shape[1] == start.num_classes <= MOST_PERMUTED and not known
    allowed = {"permuted": orders, "nothing": start.rows is not None, "student": True}
    return [spec for spec in protocol.learners if allowed["permuted" if spec.kind == "permuted" else spec.start]]


def _prior(spec: LearnerSpec, start: Start) -> float:
    return spec.prior if start.rows is None or spec.prior_if_named is None else spec.prior_if_named


def _learners(
    specs: Sequence[LearnerSpec],
    protocol: CodingProtocol,
    outputs: Outputs,
    start: Start,
    accelerator: Accelerator,
    members: ProcessTeam,
    share: ProcessTeam,
    chunk: int,
) -> list[AnyLearner]:
    """Make the learners: the cheap ones on every process of the team, those that are trained on one each."""
    as_they_are = start.rows or tuple(range(start.num_classes))
    ordered = any(spec.kind == "permuted" for spec in specs)
    permutation = Permutation(outputs.logits, as_they_are) if ordered else None
    owners = itertools.cycle(range(members.size))
    kernels = tuple(dict.fromkeys(_kernel(spec) for spec in specs if spec.kind == "kernel"))
    drawn = protocol.targets == "labels"
    trains = any(spec.trained for spec in specs)
    pixels = resident(outputs.pixels, accelerator.device) if trains else outputs.pixels

    adapted = [wanted_by(spec) for spec in specs if spec.kind == "adapted"]
    reader = Reader(adapted, _exact_device(accelerator), drawn=drawn)

    @functools.cache
    def corrections(first: str) -> Corrections:
        return Corrections(replace(start, rows=None) if first == "nothing" else start, drawn=drawn)

    @functools.cache
    def regression(kernel: Kernel, first: str) -> TeacherRegression:
        factors = factors_of(outputs, kernels, _exact_device(accelerator))
        order = permutation if first == "permuted" else None
        return TeacherRegression(factors, kernel, corrections(first), permutation=order)

    def make(spec: LearnerSpec) -> AnyLearner:
        if spec.trained and next(owners) != members.index:
            return RemoteLearner(spec.name, costs_gradients=True)
        match spec.kind:
            case "uniform":
                return Uniform(start.num_classes)
            case "static":
                return Static(start.logits)
            case "map":
                return ClassMap(outputs.logits, start.num_classes)
            case "permuted":
                assert permutation is not None
                return permutation
            case "kernel":
                return KernelLearner(regression(_kernel(spec), spec.start), spec)
            case "adapted":
                return AdaptedKernel(reader, spec)
        return FineTuned(
            pixels, start, spec, protocol, permutation, autocast=accelerator.autocast, chunk=chunk, share=share
        )

    return [make(spec) for spec in specs]


def _kernel(spec: LearnerSpec) -> Kernel:
    return Kernel(spec.features, spec.gamma, spec.noise)


def _exact_device(accelerator: Accelerator) -> torch.device:
    """Return where closed forms are worked out in float64: Apple's GPUs have none."""
    return accelerator.device if accelerator.device.type == "cuda" else torch.device("cpu")


@contextmanager
def _explained(
    student: Classifier, teacher: Classifier, protocol: CodingProtocol, device: torch.device
) -> Iterator[None]:
    """Say what to do about memory that runs out and training that diverges."""
    try:
        yield
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        raise ResourceError(
            f"{device} ran out of memory while {student.id} was trained in batches of {protocol.batch}",
            str(error).splitlines()[0],
            "use --protocol standard, which trains nothing, or a device with more memory",
        ) from error
    except FloatingPointError as error:
        raise UnfitError(
            f"{student.id} cannot be taught by {teacher.id} under protocol {protocol.name!r}",
            str(error),
            "use --protocol standard, which trains nothing",
        ) from error


def _static_nats(targets: Targets, start: Start) -> float:
    static = Static(start.logits)
    return math.fsum(
        float(kl_nats(targets.soft(slice(i, j)), static.predict(i, j)).sum()) for i, j in _chunks(targets.num_images)
    )


def _marginal_nats(targets: Targets) -> float:
    """Return Σ_i KL(q_i ‖ mean_j q_j)."""
    chunks = [slice(i, j) for i, j in _chunks(targets.num_images)]
    mean = torch.stack([targets.soft(chunk).exp().sum(0) for chunk in chunks]).sum(0) / targets.num_images
    return math.fsum(float(kl_nats(targets.soft(chunk), mean.log()).sum()) for chunk in chunks)


def _chunks(k: int, size: int = 1024) -> Iterator[tuple[int, int]]:
    return ((i, min(i + size, k)) for i in range(0, k, size))
