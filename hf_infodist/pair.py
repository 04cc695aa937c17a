"""Two models and the images between them."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

from accelerate import Accelerator
from torch import nn

from hf_infodist.home import Home
from hf_infodist.images.request import DEFAULT_IMAGES, SampleOptions
from hf_infodist.images.sample import Images, load_images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.load import check_name, load_classifier
from hf_infodist.outputs.arrays import Outputs
from hf_infodist.outputs.forward import compute_outputs
from hf_infodist.processes import make_accelerator

DIRECTIONS = ("a_given_b", "b_given_a")


@dataclass(frozen=True)
class Execution:
    """How a comparison is carried out; nothing of it changes the number.

    Attributes:
        chunk: Images per evaluation pass.
        home: Folder of the store, of outputs and of checkpoints; `Home.at` if None.
        fresh: Whether to compute what the store has already.
        resume: Whether to leave checkpoints, and to go on from those of an earlier run that was cut off.
        data_parallel: Whether several processes share each batch instead of having a learner each; for students whose
            activations are too large otherwise. Each process has all weights. Agrees with one process up to round-off,
            so the store has no part in it.
        exclusive: Whether to raise `ClaimedElsewhere` rather than to compute what another process is computing.
        block_by_block: Whether what was paid is told after each block, and not after as many as are coded at once.
    """

    chunk: int = 64
    home: Path | None = None
    fresh: bool = False
    resume: bool = True
    data_parallel: bool = False
    exclusive: bool = False
    block_by_block: bool = False

    @property
    def reads_store(self) -> bool:
        """Whether results of the store are used."""
        return not (self.fresh or self.data_parallel)

    @property
    def place(self) -> Home:
        """Where everything is kept."""
        return Home.at(self.home)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two models and the images between them; each model is run when its outputs are first asked for.

    Attributes:
        a: The first model.
        b: The second model.
        images: The images.
        run: Runs a model on the images, or reads what an earlier run has left.
    """

    a: Classifier
    b: Classifier
    images: Images
    run: Callable[[Classifier], Outputs]

    @cached_property
    def outputs_a(self) -> Outputs:
        """What the first makes of the images."""
        return self.run(self.a)

    @cached_property
    def outputs_b(self) -> Outputs:
        """What the second makes of the images."""
        return self.run(self.b)

    def ends(self, direction: str) -> tuple[tuple[Classifier, Outputs], tuple[Classifier, Outputs]]:
        """Return student and teacher of a direction, each with what it makes of the images."""
        outputs = {self.a: self.outputs_a, self.b: self.outputs_b}
        student, teacher = self.roles(direction)
        return (student, outputs[student]), (teacher, outputs[teacher])

    def roles(self, direction: str) -> tuple[Classifier, Classifier]:
        """Return student and teacher of ``a_given_b`` or ``b_given_a``; no model is run."""
        return (self.b, self.a) if direction == "a_given_b" else (self.a, self.b)


def prepare_pair(
    a: str | nn.Module | Classifier,
    b: str | nn.Module | Classifier,
    images: Any = DEFAULT_IMAGES,
    *,
    accelerator: Accelerator | None = None,
    execution: Execution | None = None,
    progress: bool = False,
    **sample: Unpack[SampleOptions],
) -> Pair:
    """Load two models and the images; each model will be run once, when its outputs are needed.

    Args:
        a: Name of a model, or a loaded one.
        b: Another.
        images: Name of a dataset, a loaded one, or a `Sample`.
        accelerator: Device; `make_accelerator` if None.
        execution: How it is carried out.
        progress: Whether to show progress bars.
        **sample: How many images, in which order, and the other fields of a `Sample`.

    Raises:
        NotFoundError: If a name leads nowhere.
        UnfitError: If models and images do not fit one another.
    """
    for name in (a, b):
        check_name(name)
    drawn = load_images(images, **sample)
    accelerator, execution = accelerator or make_accelerator(), execution or Execution()
    run = functools.partial(
        compute_outputs,
        images=drawn,
        device=accelerator.device,
        home=execution.home,
        chunk=execution.chunk,
        progress=progress and accelerator.is_main_process,
    )
    return Pair(load_classifier(a), load_classifier(b), drawn, run)
