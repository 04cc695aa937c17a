"""The layers that make the logits: found by probing, read through hooks, replaced for other classes."""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_infodist.errors import UnfitError

MOST_HEADS = 4  # known architectures average at most two
AGREEMENT = 0.9  # share of positions at which two spellings of one label list agree


def find_heads(network: nn.Module, example: Tensor, num_classes: int) -> tuple[str, ...]:
    """Find the layers whose outputs are the logits, whatever they are called.

    The heads are the shortest run of the last linear layers called such that zeroing them makes all logits exactly
    zero. One layer is the rule; distilled and multi-scale architectures average two.

    Args:
        network: A classifier in eval mode whose forward pass returns logits ``[N, C]``. Unchanged afterwards.
        example: Pixels ``[N, 3, H, W]``.
        num_classes: C.

    Returns:
        Names of the heads, in the order in which they are called.

    Raises:
        UnfitError: If the logits do not come from linear layers.
    """
    names = _called(network, example, num_classes)[-MOST_HEADS:]
    modules = [network.get_submodule(name) for name in names]
    with torch.no_grad(), _restored(modules):
        for module in modules:
            _randomise(module)
        for module, first in zip(reversed(modules), reversed(range(len(names))), strict=True):
            _zero(module)
            if not network(example).any():
                return names[first:]
    architecture = type(getattr(network, "module", network)).__name__
    raise UnfitError(
        f"{architecture} is not supported: its logits do not come from linear layers",
        f"no linear layer with {num_classes} outputs decides its logits, so there is no head to replace or to read",
        "choose a classifier that ends in nn.Linear or a 1x1 nn.Conv2d, and that returns logits, not probabilities",
    )


def logits_and_features(network: nn.Module, heads: Sequence[str], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Compute logits and penultimate features in one forward pass.

    Args:
        network: A classifier whose forward pass returns logits.
        heads: Names of its heads, from `find_heads`; none if it has no classes: its features then stand for both.
        pixels: ``[N, 3, H, W]``.

    Returns:
        Logits ``[N, C]``, and features ``[N, D]``: what the heads are given, averaged over positions or tokens and
        concatenated over heads.
    """
    if not heads:
        features = network(pixels)
        return features, features
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, args: seen.update({name: _pooled(module, args[0], len(pixels))})

    hooks = [network.get_submodule(name).register_forward_pre_hook(keep(name)) for name in heads]
    try:
        logits = network(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return logits, torch.cat([seen[name] for name in heads], dim=1)  # [N, C], [N, D]


def replace_heads(network: nn.Module, heads: Sequence[str], num_classes: int, rows: Sequence[int] | None) -> None:
    """Give a network heads for other classes, in place.

    New rows are zero, so that without `rows` the first prediction is exactly uniform. SqueezeNet rectifies its head's
    output, where a zero row would never learn: wherever a row starts at zero, that ReLU goes.

    Args:
        network: The network to change.
        heads: Names of its heads, from `find_heads`.
        num_classes: Number of outputs wanted.
        rows: Which old row becomes row j; -1 for a fresh row. None: all rows are fresh.

    Raises:
        ValueError: If `rows` has not one entry per class.
    """
    rows = [-1] * num_classes if rows is None else list(rows)
    if len(rows) != num_classes:
        raise ValueError(f"rows has {len(rows)} entries for {num_classes} classes; give one old row, or -1, per class")
    for name in heads:
        head: Any = network.get_submodule(name)
        old_classes = _outputs(head)
        head.weight = nn.Parameter(_rearranged(head.weight, rows))
        if head.bias is not None:
            head.bias = nn.Parameter(_rearranged(head.bias, rows))
        setattr(head, "out_features" if isinstance(head, nn.Linear) else "out_channels", num_classes)
        if -1 in rows:
            _unrectify(network, name)
    _tell_classes(network, old_classes, num_classes)


def match_labels(student: Sequence[str], teacher: Sequence[str]) -> tuple[int, ...] | None:
    """Find the student's row for each of the teacher's classes.

    Names are compared without regard to case, hyphens, underscores and spacing; then by the first of their
    comma-separated synonyms. Names that occur twice (ImageNet has two cranes) are matched in order. Numbers in order
    are no names.

    Args:
        student: Label names of the student's rows.
        teacher: Label names of the teacher's classes.

    Returns:
        Row of the student's head per teacher class, or None where the label spaces do not match.

    Examples:
        >>> match_labels(["cat", "dog", "great white shark, man-eater"], ["Great-White_shark", "cat"])
        (2, 0)
        >>> match_labels(["LABEL_0", "LABEL_1"], ["cat", "dog"])
        (0, 1)
        >>> match_labels(["cat", "dog"], ["dog", "mouse"]) is None
        True
    """
    return _match(tuple(student), tuple(teacher))


def named(student: Sequence[str], teacher: Sequence[str]) -> bool:
    """Tell whether both label lists are names, by which `match_labels` can find that classes come in another order."""
    return not (_meaningless(tuple(student)) or _meaningless(tuple(teacher)))


# Probing


def _called(network: nn.Module, example: Tensor, num_classes: int) -> tuple[str, ...]:
    """Name the layers that could be heads, in the order of their last calls."""
    calls: dict[str, None] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda *_: calls.update({name: calls.pop(name, None)})

    candidates = [(name, module) for name, module in network.named_modules() if _outputs(module) == num_classes]
    hooks = [module.register_forward_hook(note(name)) for name, module in candidates]
    try:
        with torch.no_grad():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(calls)


def _outputs(module: nn.Module) -> int | None:
    """Count the outputs of a linear layer; None for any other layer."""
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1:
        return module.out_channels
    return None


@contextmanager
def _restored(modules: Sequence[Any]) -> Iterator[None]:
    """Put weights and biases back afterwards."""
    parameters = [p for module in modules for p in (module.weight, module.bias) if p is not None]
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        for parameter, old in zip(parameters, kept, strict=True):
            parameter.data.copy_(old)


def _randomise(module: Any) -> None:
    """Make sure that a layer says something: many heads are zero before training."""
    module.weight.normal_(generator=torch.Generator(module.weight.device).manual_seed(0))
    if module.bias is not None:
        module.bias.fill_(1.0)


def _zero(module: Any) -> None:
    module.weight.zero_()
    if module.bias is not None:
        module.bias.zero_()


def _pooled(module: nn.Module, inputs: Tensor, images: int) -> Tensor:
    """Average a head's input over positions or tokens to ``[N, D]``."""
    if isinstance(module, nn.Conv2d):
        return inputs.flatten(2).mean(2)  # [N, D, H, W] -> [N, D]
    return inputs.reshape(images, -1, inputs.shape[-1]).mean(1)  # [N, ..., D] -> [N, D]


# Replacing


def _rearranged(old: Tensor, rows: Sequence[int]) -> Tensor:
    """Copy rows of a weight or bias; zeros where the row is -1."""
    index = torch.tensor(rows, device=old.device)
    new = old.detach()[index.clamp(min=0)]
    new[index < 0] = 0
    return new


def _unrectify(network: nn.Module, head: str) -> None:
    """Remove a ReLU that directly follows a head in a sequence."""
    parent_name, _, child = head.rpartition(".")
    parent = network.get_submodule(parent_name)
    if isinstance(parent, nn.Sequential):
        names = list(parent._modules)
        following = names[names.index(child) + 1 :][:1]
        if following and isinstance(parent._modules[following[0]], nn.ReLU):
            parent._modules[following[0]] = nn.Identity()


def _tell_classes(network: nn.Module, old: int | None, new: int) -> None:
    """Update the class counts that modules keep for themselves: some reshape by them."""
    for module in network.modules():
        for attribute in ("num_classes", "num_labels"):
            if module.__dict__.get(attribute) == old:
                setattr(module, attribute, new)


# Names of labels


def _full_name(label: str) -> str:
    return re.sub(r"[\s_-]+", " ", label.casefold()).strip()


def _first_synonym(label: str) -> str:
    return _full_name(label.split(",")[0])


@functools.lru_cache(maxsize=1024)  # many models of an atlas have the same classes
def _match(student: tuple[str, ...], teacher: tuple[str, ...]) -> tuple[int, ...] | None:
    same_count = len(student) == len(teacher)
    identity = tuple(range(len(teacher)))
    if _meaningless(student) or _meaningless(teacher):
        return identity if same_count else None
    for key in (_full_name, _first_synonym):
        rows = _look_up([key(name) for name in student], [key(name) for name in teacher])
        if rows is not None:
            return rows
    agreeing = sum(_first_synonym(a) == _first_synonym(b) for a, b in zip(student, teacher, strict=False))
    return identity if same_count and agreeing >= AGREEMENT * len(teacher) else None


@functools.lru_cache(maxsize=1024)
def _meaningless(labels: tuple[str, ...]) -> bool:
    """Tell whether labels are missing, or count upwards as ``LABEL_0``, ``LABEL_1`` do."""
    matches = [re.fullmatch(r"(?:label|class)?[\s_-]*(\d+)", label.casefold().strip()) for label in labels]
    offsets = {int(match[1]) - index if match else None for index, match in enumerate(matches)}
    return not labels or (len(offsets) == 1 and None not in offsets)


def _look_up(student: Sequence[str], teacher: Sequence[str]) -> tuple[int, ...] | None:
    """Find each teacher name among the student's, every row used once; None where one is missing."""
    rows: dict[str, deque[int]] = defaultdict(deque)
    for row, name in enumerate(student):
        rows[name].append(row)
    if any(count > len(rows[name]) for name, count in Counter(teacher).items()):
        return None
    return tuple(rows[name].popleft() for name in teacher)
