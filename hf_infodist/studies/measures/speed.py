"""A fine-tuned learner and a bare training loop on the same network and images: what both make of a second."""

import functools
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from hf_infodist.coding.finetuned import FineTuned
from hf_infodist.coding.learners import Start
from hf_infodist.coding.targets import PricedTargets, Targets
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.load import load_classifier
from hf_infodist.outputs.arrays import Pixels, resident
from hf_infodist.processes import one_thread
from hf_infodist.protocol import PROTOCOLS, CodingProtocol


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call: of this process on a CPU, which others may use too, else wall time."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    _wait(device)
    started = clock()
    work()
    _wait(device)
    return clock() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True, eq=False)
class Racers:
    """A learner of a protocol and a bare loop, ready to train on the same images.

    Attributes:
        learner: Has images and targets as in a run.
        bare: Another copy of its network.
        pixels: All images on the device, normalised.
        soft: What is taught of them.
        protocol: Of the learner, in passes; its batch and passes are the loop's too.
        autocast: Context of the forward passes of both.
        plain: PyTorch's Adam of the bare network, as it comes.
        fused: The same, fused.
    """

    learner: FineTuned
    bare: nn.Module
    pixels: Tensor
    soft: Tensor
    protocol: CodingProtocol
    autocast: Callable[[], AbstractContextManager]
    plain: torch.optim.Adam
    fused: torch.optim.Adam

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        images: int,
        protocol: CodingProtocol,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ) -> "Racers":
        """Make both from a model and random images."""
        size = classifier.preprocessing.transform(Image.new("RGB", (64, 64))).shape
        rng = np.random.default_rng(0)
        values = rng.integers(0, 256, (images, *size), dtype=np.uint8)
        pixels = Pixels(values, classifier.preprocessing.mean, classifier.preprocessing.std)
        teacher = rng.normal(0, 2, (images, classifier.num_classes)).astype(np.float32)
        rows = tuple(range(classifier.num_classes))

        def copy(rows: Sequence[int] | None) -> nn.Module:
            network = classifier.student(classifier.num_classes, rows).to(device).eval()
            return network.to(memory_format=torch.channels_last) if device.type == "cuda" else network

        spec = replace(next(one for one in protocol.learners if one.trained), lr=1e-4)
        start = Start(teacher, classifier.num_classes, rows, network=copy)
        learner = FineTuned(resident(pixels, device), start, spec, protocol, autocast=autocast)
        whole = pixels.batch(slice(0, images), device, torch.float32)
        soft = torch.softmax(torch.from_numpy(teacher), -1).to(device)
        bare = copy(rows).requires_grad_(True)
        plain, fused = (torch.optim.Adam(bare.parameters(), lr=1e-4, fused=how) for how in (None, True))
        return cls(learner, bare, whole, soft, protocol, autocast, plain, fused)

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self.pixels)

    def learn(self) -> int:
        """Let the learner learn all images as one block; return the gradient images."""
        priced = PricedTargets(Targets(self.learner.initial), self.images)  # any targets that are not its own
        return self.learner.learn(0, self.images, priced, 1.0)

    def loop(self, *, fused: bool = False) -> int:
        """Train the other copy on all images as often as the learner does: forward, loss, backward, step.

        Args:
            fused: Whether by PyTorch's fused Adam; else by what it takes by default, a loop over tensors on a CPU.
        """
        optimizer, batch = self.fused if fused else self.plain, self.protocol.batch
        firsts = list(range(0, self.images, batch)) * self.protocol.passes
        for first in firsts:
            with self.autocast():
                logits = self.bare(self.pixels[first : first + batch])
            loss = nn.functional.cross_entropy(logits, self.soft[first : first + batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return self.images * self.protocol.passes

    def rates(self, rounds: int) -> tuple[float, float, float]:
        """Return gradient images per second of learner, loop and fused loop: the best of each, by turns."""
        device = self.learner.device

        def rate(work: Callable[[], int]) -> float:
            images: list[int] = []
            seconds = timed(lambda: images.append(work()), device)
            return images[0] / seconds

        works = self.learn, self.loop, functools.partial(self.loop, fused=True)
        measured = [[rate(work) for work in works] for _ in range(rounds + 1)]  # the first round warms up
        learner, bare, fused = (max(column) for column in zip(*measured[1:], strict=True))
        return learner, bare, fused


def grouped_adam(learner: FineTuned) -> torch.optim.Adam:
    """Return PyTorch's fused Adam with a group for each tensor, as learners had it until they shared a launch."""
    adam = learner.optimizer
    groups = [
        {"params": [parameter], "lr": adam.lr * unit, "eps": 1e-8 / unit}
        for parameter, unit in zip(adam.parameters, adam.units, strict=True)
    ]
    return torch.optim.Adam(groups, lr=adam.lr, fused=True)


def optimizer_seconds(learner: FineTuned, rounds: int = 5, steps: int = 10) -> tuple[float, float]:
    """Return the seconds of one step of the optimiser alone, with a group for each tensor and as it is.

    Args:
        learner: Has learnt, so that it has gradients.
        rounds: How often both are timed, by turns; the least counts.
        steps: Of each in a round.
    """
    before, adam, go_on = grouped_adam(learner), learner.optimizer, torch.zeros((), device=learner.device)
    gradients = [parameter.grad for parameter in adam.parameters]

    def old() -> None:
        for _ in range(steps):
            before.step()

    def new() -> None:
        for _ in range(steps):
            adam.step(go_on)

    adam.set_factor(0.0)  # leaves the weights as they are
    seconds = [(timed(old, learner.device), timed(new, learner.device)) for _ in range(rounds)]
    for parameter, gradient in zip(adam.parameters, gradients, strict=True):
        parameter.grad = gradient
    return tuple(min(column) / steps for column in zip(*seconds, strict=True))


def captured_rate(racers: Racers, steps: int = 50) -> float:
    """Return gradient images per second of the learner where a CUDA graph replays its step, which is then one launch.

    Args:
        racers: On a GPU.
        steps: How many are timed.
    """
    learner, batch = racers.learner, racers.protocol.batch
    images, targets = racers.pixels[:batch].clone(), racers.soft[:batch].double().log()
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            learner._update(images, targets, batch)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        learner._update(images, targets, batch)

    def replay() -> None:
        for i in range(steps):
            first = batch * (i % (racers.images // batch))
            learner.optimizer.set_factor(1 - i / steps)
            images.copy_(racers.pixels[first : first + batch])
            targets.copy_(racers.soft[first : first + batch].log())
            graph.replay()

    timed(replay, learner.device)
    return steps * batch / timed(replay, learner.device)


def peak_flops(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Return the floating-point operations a second of a product of square matrices, the best of three."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    left @ right
    return 2 * side**3 / min(timed(lambda: left @ right, device) for _ in range(3))


def learn_in_process(ready: Any, seconds: Any, number: int, name: str, images: int, kind: str, mixed: bool) -> None:
    """Learn in a process of its own, when all others are ready too; put the wall time where it is looked for."""
    device = torch.device(kind)
    cast = functools.partial(torch.autocast, kind, torch.bfloat16, enabled=mixed)
    with one_thread(device):
        racers = Racers.of(load_classifier(name), images, PROTOCOLS["thorough"], device, cast)
        racers.learn()
        _wait(device)
        ready.wait()
        started = time.perf_counter()
        racers.learn()
        _wait(device)
        seconds[number] = time.perf_counter() - started


def together_rates(name: str, learners: int, images: int, device: torch.device, mixed: bool) -> tuple[float, float]:
    """Return gradient images per second of one learner, and of several with a process each on one device, in sum."""
    rates = []
    for number in (1, learners):
        context = torch.multiprocessing.get_context("spawn")
        ready, seconds = context.Barrier(number), context.Array("d", number)
        options = (name, images, device.type, mixed)
        processes = [
            context.Process(target=learn_in_process, args=(ready, seconds, i, *options)) for i in range(number)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise RuntimeError(f"{number} learners of {name} on {device}: a process has failed")
        rates.append(number * PROTOCOLS["thorough"].passes * images / max(seconds[:]))
    return rates[0], rates[1]


def stacked_rates(width: int, learners: int, device: torch.device, rounds: int = 7, steps: int = 50) -> list[float]:
    """Return gradients a second of fully connected networks, in sum: each alone, and stacked by ``torch.func``.

    Args:
        width: Of two hidden layers, on pictures of 28 pixels and ten classes; batches of 8.
        learners: How many networks.
        device: Where.
        rounds: How often both are timed, by turns; the best counts.
        steps: Of each in a round.
    """
    sizes = (784, width, width, 10)
    networks = [_fully_connected(sizes).to(device) for _ in range(learners)]
    images, targets = torch.randn(8, 784, device=device), torch.randn(8, 10, device=device).double().softmax(1)
    weights, _ = stack_module_state(networks)

    def loss(logits: Tensor) -> Tensor:
        return -(targets * logits.double().log_softmax(1)).sum() / len(images)

    def of(weights: dict[str, Tensor]) -> Tensor:
        return loss(functional_call(networks[0], weights, (images,)))

    stacked = vmap(grad(of))

    def one_after_the_other() -> None:
        for _, network in product(range(steps), networks):
            network.zero_grad()
            loss(network(images)).backward()

    def side_by_side() -> None:
        for _ in range(steps):
            stacked(weights)

    works = one_after_the_other, side_by_side
    seconds = [[timed(work, device) for work in works] for _ in range(rounds + 1)]  # the first round warms up
    return [learners * steps / min(column) for column in zip(*seconds[1:], strict=True)]


def _fully_connected(sizes: Sequence[int]) -> nn.Module:
    layers: list[nn.Module] = []
    for wide, next_ in pairwise(sizes):
        layers += [nn.Linear(wide, next_), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
