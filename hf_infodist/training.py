"""The trainer: one student taught by one teacher, on the device and in the precision that Accelerate owns."""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils.memory import should_reduce_batch_size

from hf_infodist.coding import Codelength, Learner, Targets, draw_labels, kl_nats, prequential
from hf_infodist.errors import ResourceError, UnfitError
from hf_infodist.heads import match_labels
from hf_infodist.learners import FineTuned, Head, Static, Uniform
from hf_infodist.mixture import Mixture
from hf_infodist.models import Classifier
from hf_infodist.outputs import Outputs, StartLogits
from hf_infodist.protocol import CodingProtocol, LearnerSpec


def make_accelerator() -> Accelerator:
    """Return Accelerate's view of this machine: bf16 autocast on CUDA, full precision elsewhere."""
    use_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return Accelerator(mixed_precision="bf16" if use_bf16 else "no")


def train_codelength(
    student: Classifier,
    student_outputs: Outputs,
    teacher: Classifier,
    teacher_outputs: Outputs,
    protocol: CodingProtocol,
    *,
    accelerator: Accelerator | None = None,
    chunk: int = 64,
    on_block: Callable[[int, float], None] | None = None,
) -> Codelength:
    """Teach a copy of the student its teacher's outputs and return what each image cost while it was new.

    L'(teacher | student), equation (6).

    Args:
        student: Where learning starts; it is not changed.
        student_outputs: What it makes of the images.
        teacher: Its outputs are learnt.
        teacher_outputs: What it makes of the same images.
        protocol: Everything that changes the number.
        accelerator: Device and precision; `make_accelerator` if None.
        chunk: Images per evaluation pass; does not change the number.
        on_block: Called after each block with images priced and nats so far.

    Raises:
        ResourceError: If memory runs out.
        UnfitError: If training diverges.
    """
    accelerator = accelerator or make_accelerator()
    rows = match_labels(student.labels, teacher.labels)
    start = StartLogits(student_outputs.logits, rows, teacher.num_classes)
    labels = draw_labels(teacher_outputs.logits, protocol.seed) if protocol.targets == "labels" else None
    targets = Targets(teacher_outputs.logits, labels)
    learners: list[Learner] = []
    try:
        for spec in protocol.learners:
            learners.append(_learner(spec, protocol, student, student_outputs, start, rows, accelerator, chunk))
        return prequential(
            learners,
            targets,
            protocol.blocks(targets.num_images),
            mixture=Mixture([spec.prior for spec in protocol.learners], protocol.switching),
            price=protocol.price,
            static_nats=_static_nats(targets, start),
            epsilon=protocol.epsilon,
            survivors=protocol.survivors,
            trial=protocol.trial,
            on_block=on_block,
        )
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        raise ResourceError(
            f"{accelerator.device} ran out of memory while {student.id} was trained in batches of {protocol.batch}",
            str(error).splitlines()[0],
            "use --protocol probe, which trains only heads, or a device with more memory",
        ) from error
    except FloatingPointError as error:
        raise UnfitError(
            f"{student.id} cannot be taught by {teacher.id} under protocol {protocol.name!r}",
            str(error),
            "use --protocol probe, which trains only heads",
        ) from error


def _learner(
    spec: LearnerSpec,
    protocol: CodingProtocol,
    student: Classifier,
    outputs: Outputs,
    start: StartLogits,
    rows: tuple[int, ...] | None,
    accelerator: Accelerator,
    chunk: int,
) -> Learner:
    num_classes = start.shape[1]
    match spec.kind:
        case "uniform":
            return Uniform(num_classes)
        case "static":
            return Static(start)
        case "head":
            return Head(outputs.features, start, spec, protocol)
    network = student.student(num_classes, rows).to(accelerator.device)
    if accelerator.device.type == "cuda":
        network = network.to(memory_format=torch.channels_last)
    return FineTuned(network, outputs.pixels, start, spec, protocol, autocast=accelerator.autocast, chunk=chunk)


def _static_nats(targets: Targets, start: StartLogits, chunk: int = 1024) -> float:
    static = Static(start)
    pieces = [(i, min(i + chunk, targets.num_images)) for i in range(0, targets.num_images, chunk)]
    return float(sum(kl_nats(targets.soft(slice(i, j)), static.predict(i, j)).sum() for i, j in pieces))
