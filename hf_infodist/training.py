"""The trainer: one student taught by one teacher, on the device and in the precision that Accelerate owns."""

import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn

from hf_infodist.checkpoints import Checkpoints
from hf_infodist.codelength import Codelength
from hf_infodist.coding import AnyLearner, Elsewhere, Targets, draw_labels, prequential
from hf_infodist.environment import installed
from hf_infodist.errors import ResourceError, UnfitError, UsageError
from hf_infodist.heads import match_labels, named
from hf_infodist.images import Images
from hf_infodist.kernels import LANDMARKS, Kernel, factors_of
from hf_infodist.label_learners import MOST_PERMUTED, ClassMap, Permutation
from hf_infodist.learners import FineTuned, KernelLearner, Start, Static, TeacherRegression, Uniform
from hf_infodist.mixture import Mixture, kl_nats
from hf_infodist.models import Classifier
from hf_infodist.outputs import Outputs, outputs_key
from hf_infodist.processes import ProcessTeam, one_thread
from hf_infodist.protocol import CODING_VERSION, CodingProtocol, LearnerSpec


def make_accelerator() -> Accelerator:
    """Return Accelerate's view of this machine: bf16 autocast on CUDA, full precision elsewhere.

    Raises:
        UsageError: If there are more processes than GPUs.
    """
    gpus = torch.cuda.device_count()
    use_bf16 = gpus > 0 and torch.cuda.is_bf16_supported()
    accelerator = Accelerator(cpu=gpus == 0, mixed_precision="bf16" if use_bf16 else "no")
    if 0 < gpus < accelerator.num_processes:
        raise UsageError(
            f"{accelerator.num_processes} processes are too many",
            f"there are {gpus} GPUs, and each process needs one of its own",
            f"use --processes {gpus}",
        )
    return accelerator


def train_codelength(
    student: Classifier,
    student_outputs: Outputs,
    teacher: Classifier,
    teacher_outputs: Outputs,
    protocol: CodingProtocol,
    *,
    order: int = 0,
    accelerator: Accelerator | None = None,
    chunk: int = 64,
    on_block: Callable[[int, float], None] | None = None,
    team: ProcessTeam | None = None,
    data_parallel: bool = False,
    checkpoints: Checkpoints | None = None,
) -> Codelength:
    """Teach a copy of the student its teacher's outputs and return what each image cost while it was new.

    L'(teacher | student), equation (6), for one order of the images.

    Args:
        student: Where learning starts; it is not changed.
        student_outputs: What it makes of the images.
        teacher: Its outputs are learnt.
        teacher_outputs: What it makes of the same images.
        protocol: Everything that changes the number.
        order: Number of the order in which the images are coded; 0 is that of the sample.
        accelerator: Device and precision; `make_accelerator` if None.
        chunk: Images per evaluation pass; does not change the number.
        on_block: Called after each block with images priced and nats so far.
        team: Processes that share the work; this one alone if None.
        data_parallel: Whether they share the gradients of each batch instead of having a learner each.
        checkpoints: Where the run is kept and gone on from.

    Raises:
        ResourceError: If memory runs out.
        UnfitError: If training diverges, or a checkpoint is damaged.
    """
    accelerator, team = accelerator or make_accelerator(), team or ProcessTeam()
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
    share = team if data_parallel else ProcessTeam()
    members = ProcessTeam() if data_parallel else team
    threads = one_thread(accelerator.device) if any(spec.trained for spec in specs) else nullcontext()
    with threads, _explained(student, teacher, protocol, accelerator.device):
        return prequential(
            _learners(specs, protocol, student_outputs, start, accelerator, members, share, chunk),
            targets,
            protocol.blocks(targets.num_images),
            mixture=Mixture([_prior(spec, start) for spec in specs], protocol.switching, protocol.pooling),
            price=protocol.price,
            static_nats=_static_nats(targets, start),
            marginal_nats=_marginal_nats(targets),
            epsilon=protocol.epsilon,
            reduction=protocol.reduction,
            trial=protocol.trial,
            on_block=on_block,
            team=members,
            keeper=checkpoints,
        )


def codelength_key(
    student: Classifier, teacher: Classifier, images: Images, protocol: CodingProtocol, device: torch.device
) -> str:
    """Return the hash of everything that decides a codelength, 32 hexadecimal digits; known before any model is run.

    Versions of libraries are not in it: they change the number by round-off only, and are recorded beside it.
    """
    outputs = [outputs_key(student, images), outputs_key(teacher, images)]
    return lesson_key(outputs, (student.labels, teacher.labels), protocol, device)


def lesson_key(
    outputs: Sequence[str], labels: tuple[Sequence[str], Sequence[str]], protocol: CodingProtocol, device: torch.device
) -> str:
    """Return `codelength_key` from what is known of models that are not in memory.

    Args:
        outputs: Keys of the outputs of student and teacher.
        labels: Names of their classes.
        protocol: Everything else that changes the number.
        device: Where.
    """
    fields = {
        "coding": CODING_VERSION,
        "outputs": list(outputs),
        "rows": match_labels(*labels),
        "named": named(*labels),
        "landmarks": LANDMARKS,
        "protocol": protocol.to_dict() | {"name": ""},
        "device": device.type,
    }
    return _hash(fields)


def run_key(codelength: str, order: int) -> str:
    """Return the hash of everything that every bit of the state of a run depends on, 32 hexadecimal digits.

    Args:
        codelength: From `codelength_key`.
        order: Which of its orders.
    """
    return _hash([codelength, order, installed("hf-infodist"), installed("torch")])


def _hash(fields: Any) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:32]


def _start(student: Classifier, outputs: Outputs, teacher: Classifier, device: torch.device) -> Start:
    def network(rows: Sequence[int] | None) -> nn.Module:
        copy = student.student(teacher.num_classes, rows).to(device)
        return copy.to(memory_format=torch.channels_last) if device.type == "cuda" else copy

    labels = student.labels, teacher.labels
    return Start(outputs.logits, teacher.num_classes, match_labels(*labels), named(*labels), network)


def _applicable(protocol: CodingProtocol, start: Start) -> list[LearnerSpec]:
    """Return the learners that a pair of label spaces allows.

    An order of the classes is looked for where they are as many, and names do not tell it.
    """
    known = start.named and start.rows is not None
    finds = any(spec.kind == "permuted" for spec in protocol.learners)
    orders = finds and start.outputs.shape[1] == start.num_classes <= MOST_PERMUTED and not known
    permuted = [spec.kind == "permuted" or spec.start == "permuted" for spec in protocol.learners]
    return [spec for spec, wanted in zip(protocol.learners, permuted, strict=True) if orders or not wanted]


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

    @functools.cache
    def regression(kernel: Kernel, first: str) -> TeacherRegression:
        factors = factors_of(outputs, kernels, _exact_device(accelerator))
        order = permutation if first == "permuted" else None
        return TeacherRegression(factors, kernel, start, drawn=drawn, permutation=order)

    def make(spec: LearnerSpec) -> AnyLearner:
        if spec.trained and next(owners) != members.index:
            return Elsewhere(spec.name, costs_gradients=True)
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
        return FineTuned(
            outputs.pixels, start, spec, protocol, permutation, autocast=accelerator.autocast, chunk=chunk, share=share
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
