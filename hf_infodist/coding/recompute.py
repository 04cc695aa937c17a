"""Activations computed twice: parts of a network that keep only what they are given until gradients pass through."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.checkpoint import checkpoint


@dataclass
class _Kept:
    """What a module costs in memory until gradients have passed through.

    Attributes:
        inside: Bytes of what autograd keeps of all that happens within.
        given: Bytes of the tensors that it is given, which are all that is kept if it is run again.
        steady: Whether these stay as they are; if something writes over them, it cannot be run again.
    """

    inside: int = 0
    given: int = 0
    steady: bool = True


def choose_parts(network: nn.Module, images: Tensor) -> tuple[str, ...]:
    """Choose the modules to be run again in the backward pass, so that as little as possible is kept at one time.

    That is what they are given, what is kept outside of them, and all within the largest. All modules that keep no
    more than some limit are candidates, outermost first; every limit is tried. What is kept is noted in a pass that
    keeps nothing.

    Args:
        network: In eval mode.
        images: One image or a few, ``[n, channels, H, W]``.

    Returns:
        Names of modules, none within another; none at all where that would save nothing.
    """
    kept = _kept(network, images)
    limits = [0, *sorted({each.inside for each in kept.values()})]
    choices = (tuple(_within(network, "", kept, limit)) for limit in limits)
    return min(choices, key=lambda names: _most_at_once(names, kept))


@contextmanager
def recomputing(network: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Let modules keep only what they are given; they are run again when gradients need it.

    A forward pass and its backward pass are both made within.
    """
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(_checkpointed(network.get_submodule(name)))
        yield


class Statistics:
    """Buffers of BatchNorm, noted before a step and put back if it has to be made again; in few launches.

    Args:
        norms: Whose.
    """

    def __init__(self, norms: Sequence[nn.Module]):
        buffers = [buffer for norm in norms for buffer in norm.buffers()]
        own = [[b for b in buffers if b.dtype == dtype] for dtype in {buffer.dtype for buffer in buffers}]
        self._pairs = [(group, [torch.empty_like(buffer) for buffer in group]) for group in own]

    @torch.no_grad()
    def note(self) -> None:
        """Note them as they are."""
        for own, noted in self._pairs:
            torch._foreach_copy_(noted, own)

    @torch.no_grad()
    def put_back(self) -> None:
        """Make them what they were."""
        for own, noted in self._pairs:
            torch._foreach_copy_(own, noted)


@contextmanager
def _checkpointed(module: nn.Module) -> Iterator[None]:
    own, before = vars(module), vars(module).get("forward")
    own["forward"] = functools.partial(_run_twice, module, module.forward)
    try:
        yield
    finally:
        del own["forward"]
        if before is not None:
            own["forward"] = before


def _run_twice(module: nn.Module, forward: Callable, *args: Any, **kwargs: Any) -> Any:
    again = tree_map(lambda leaf: leaf, (args, kwargs))  # lists of their own: those of a DenseNet grow meanwhile
    calls = itertools.chain([(args, kwargs)], itertools.repeat(again))

    def run() -> Any:
        args, kwargs = next(calls)
        return forward(*args, **kwargs)

    return checkpoint(run, use_reentrant=False, context_fn=lambda: (nullcontext(), _same_buffers(module)))


@contextmanager
def _same_buffers(module: nn.Module) -> Iterator[None]:
    """Leave buffers as they are: the first run has moved what trains, such as the statistics of BatchNorm."""
    buffers = [buffer for part in module.modules() if part.training for buffer in part.buffers(recurse=False)]
    noted = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, noted, strict=True):
                buffer.copy_(value)


# What is chosen


def _kept(network: nn.Module, images: Tensor) -> dict[str, _Kept]:
    """Run a network and note what each of its modules would keep for gradients; nothing is."""
    kept = {name: _Kept() for name, _ in network.named_modules()}
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    running: list[_Kept] = []
    given: list[tuple[_Kept, Tensor, int]] = []

    def enter(each: _Kept, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        running.append(each)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        each.given += sum(tensor.nbytes for tensor in tensors)
        given.extend((each, tensor, tensor._version) for tensor in tensors)

    def leave(module: nn.Module, args: tuple, output: Any) -> None:
        running.pop()

    def pack(tensor: Tensor) -> None:
        if tensor.untyped_storage().data_ptr() not in own:
            for each in running:
                each.inside += tensor.nbytes

    with ExitStack() as stack:
        for name, module in network.named_modules():
            entering = module.register_forward_pre_hook(functools.partial(enter, kept[name]), with_kwargs=True)
            for hook in (entering, module.register_forward_hook(leave)):
                stack.callback(hook.remove)
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda nothing: nothing))
        network(images)
    for each, tensor, version in given:
        each.steady &= tensor._version == version
    return kept


def _within(network: nn.Module, name: str, kept: Mapping[str, _Kept], limit: int) -> list[str]:
    """Return the outermost modules that keep no more than ``limit`` bytes, if to run them again saves some of them."""
    each = kept.get(name, _Kept())
    if 0 < each.inside <= limit and each.steady:
        return [name] if each.given < each.inside else []
    children = (child for child, _ in network.get_submodule(name).named_children())
    return [part for child in children for part in _within(network, f"{name}.{child}".lstrip("."), kept, limit)]


def _most_at_once(names: Sequence[str], kept: Mapping[str, _Kept]) -> int:
    parts = [kept[name] for name in names]
    saved = sum(part.inside - part.given for part in parts)
    return kept[""].inside - saved + max((part.inside for part in parts), default=0)
