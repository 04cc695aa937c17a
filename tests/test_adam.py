"""Steps: the numbers of PyTorch's own Adam with a group for each tensor, one launch, and no wait for a device."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import SmallNet, noise_pixels
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

from hf_infodist.coding import finetuned
from hf_infodist.coding.adam import Average, UnitAdam
from hf_infodist.coding.finetuned import FineTuned, Schedule
from hf_infodist.coding.learners import Start
from hf_infodist.coding.targets import PricedTargets, RevealedTargets, Targets
from hf_infodist.coding.units import parameter_units, with_mean_one
from hf_infodist.outputs import arrays
from hf_infodist.outputs.arrays import placed
from hf_infodist.protocol import PROTOCOLS

K, CLASSES = 96, 5
UNITS = [2.0] * 10  # of ten tensors
GO_ON, SKIP = torch.tensor(0.0), torch.tensor(1.0)
TRAINED = ("thorough", "single", "paper")
SPECS = {name: [spec for spec in PROTOCOLS[name].learners if spec.trained][-1] for name in TRAINED}


@pytest.fixture(scope="module")
def pixels():
    return noise_pixels(K, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


@pytest.fixture(scope="module")
def priced():
    return PricedTargets(Targets(np.random.default_rng(0).normal(0, 2, (K, CLASSES))), 64)


def net(dtype=torch.float64, seed=0):
    return SmallNet(batchnorm=True, gain=1.0, dtype=dtype, seed=seed)


def fine_tuned(pixels, name, dtype=torch.float64, **settings):
    protocol, first = replace(PROTOCOLS[name], **settings), net(dtype)
    start = Start(np.zeros((K, CLASSES)), CLASSES, tuple(range(CLASSES)), network=lambda rows: copy.deepcopy(first))
    return FineTuned(pixels, start, SPECS[name], protocol)


def grouped(network, units, lr):
    """Return PyTorch's Adam with a group for each tensor."""
    groups = [{"params": [p], "lr": lr * u, "eps": 1e-8 / u} for p, u in zip(network.parameters(), units, strict=True)]
    return torch.optim.Adam(groups, lr=lr, fused=True)


def gradients(network, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def moved(network, step, steps=60):
    for i in range(steps):
        gradients(network, i)
        step(i)
    return [parameter.detach() for parameter in network.parameters()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_are_those_of_a_group_for_each_tensor(dtype):
    plain, one_by_one, together = (net(dtype) for _ in range(3))
    units = np.random.default_rng(1).uniform(0.01, 20, len(list(plain.parameters()))).tolist()
    reference = grouped(plain, units, 3e-3)
    before = [group["lr"] for group in reference.param_groups]

    def reference_step(i):
        for group, lr in zip(reference.param_groups, before, strict=True):
            group["lr"] = lr * (1 / (i + 1))
        reference.step()

    wanted = moved(plain, reference_step)
    for network, shared in ((one_by_one, False), (together, True)):
        ours = UnitAdam(list(network.parameters()), units, 3e-3, together=shared)
        found = moved(network, lambda i, ours=ours: (ours.set_factor(1 / (i + 1)), ours.step(GO_ON)))
        assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-7) for a, b in zip(found, wanted, strict=True))
        assert shared or all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        assert ours.steps == 60


@pytest.mark.parametrize("together", [False, True])
def test_a_skipped_step_changes_nothing(together):
    plain, skipping = net(), net()
    plain_adam, ours = (UnitAdam(list(n.parameters()), UNITS, 1e-2, together=together) for n in (plain, skipping))

    def step(i):
        ours.step(GO_ON)
        gradients(skipping, 1000 + i)
        ours.step(SKIP)

    wanted, found = moved(plain, lambda i: plain_adam.step(GO_ON), 9), moved(skipping, step, 9)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)) and ours.steps == 9


def test_parameters_without_gradients_stay():
    for together in (False, True):
        network = net()
        ours, before = UnitAdam(list(network.parameters()), UNITS, 1e-2, together=together), network.head.bias.clone()
        gradients(network, 0)
        network.head.bias.grad = None
        ours.step(GO_ON)
        assert torch.equal(network.head.bias, before) and not torch.equal(network.conv1.bias, net().conv1.bias)


def towards(averaged, current, updates):
    share = min(0.1, 8 / (int(updates) + 1))
    for mean, value in zip(averaged, current, strict=True):
        mean.lerp_(value, share) if mean.is_floating_point() else mean.copy_(value)


def test_the_average_is_that_of_pytorch_with_a_growing_horizon():
    network = net(torch.float32)
    reference = AveragedModel(network, multi_avg_fn=towards)
    one_by_one, together = (Average(network, together=together) for together in (False, True))
    for i in range(1, 130):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        reference.update_parameters(network)
        for average in (one_by_one, together):
            average.update(torch.tensor(float(i)), GO_ON)
            average.update(torch.tensor(float(i)), SKIP)
    for wanted, mine, other in zip(*(a.module.parameters() for a in (reference, one_by_one, together)), strict=True):
        assert torch.equal(mine, wanted) and torch.allclose(other, wanted, atol=1e-5)


def plain_loop(learner, pixels, priced):
    """Train as `learner` has to, in the plainest way."""
    spec, protocol, network = learner.spec, learner.protocol, copy.deepcopy(learner.network)
    dtype = next(network.parameters()).dtype
    units = parameter_units(network, pixels.batch(slice(0, 32), "cpu", dtype))
    units = with_mean_one(units, network) if spec.step == "mean" else units
    optimizer = grouped(network, units.values(), spec.lr)
    rates = [group["lr"] for group in optimizer.param_groups]
    average = AveragedModel(network, use_buffers=True, multi_avg_fn=towards)
    for index, factor in Schedule(protocol).steps(0, 64):
        network.norm.train(spec.batchnorm == "adapting" and len(index) > 1)
        log_probs = network(pixels.batch(index, "cpu", dtype)).double().log_softmax(-1)
        teacher = priced[index]
        loss = -(teacher.exp() * log_probs).sum() / len(index)
        if (loss + (teacher.exp() * teacher).sum() / len(index)).item() < 1e-9:
            continue
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(network)
    return (average.module if protocol.averaging else network).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", TRAINED)
def test_a_learner_learns_what_the_plain_loop_learns(pixels, priced, name, dtype):
    learner = fine_tuned(pixels, name, dtype)
    wanted = plain_loop(learner, pixels, priced)(pixels.batch(slice(64, K), "cpu", dtype)).double().log_softmax(-1)
    learner.learn(0, 64, priced, 1.0)
    assert torch.equal(learner.predict(64, K), wanted)


@pytest.mark.parametrize("name", TRAINED)
def test_one_launch_and_images_on_the_device_give_the_same_numbers(pixels, priced, name, monkeypatch):
    learner = fine_tuned(pixels, name)
    learner.learn(0, 64, priced, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(UnitAdam.__init__, "__kwdefaults__", {"together": True})
        patch.setattr(Average.__init__, "__kwdefaults__", {"together": True})
        other = fine_tuned(placed(pixels, "cpu", chunk=20), name)
    assert other.optimizer.together and not learner.optimizer.together
    other.learn(0, 64, priced, 1.0)
    assert isinstance(other._shown(priced), RevealedTargets)
    assert torch.allclose(other.predict(64, K), learner.predict(64, K), rtol=1e-6)


def test_targets_on_a_device_are_no_numbers_before_they_are_priced():
    targets = Targets(np.random.default_rng(0).normal(0, 2, (3000, CLASSES)))
    revealed = RevealedTargets(3000, CLASSES, "cpu")
    for end in (5, 2100):
        revealed.reveal(PricedTargets(targets, end))
        assert torch.equal(revealed[torch.arange(end)], targets.shown(slice(0, end)))
        assert revealed[torch.arange(end, 3000)].isnan().all()


def test_images_lie_on_a_gpu_with_room_for_four_times_as_many(pixels, monkeypatch):
    size = pixels.values.nbytes
    monkeypatch.setattr(arrays, "placed", lambda pixels, device: device)
    for free, wanted in ((4 * size, torch.device("cuda")), (4 * size - 1, pixels)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * size))
        assert arrays.resident(pixels, torch.device("cuda")) == wanted
    assert arrays.resident(pixels, torch.device("cpu")) is pixels


@pytest.mark.parametrize("lies", ["cpu", "cuda"])
def test_what_is_sent_to_a_gpu_is_not_waited_for(lies):
    said = []

    class Sent:
        device = torch.device(lies)

        def pin_memory(self):
            said.append("pinned")
            return self

        def to(self, device, *, non_blocking=False):
            said.append(non_blocking)
            return self

    arrays.sent(Sent(), "cuda")
    assert said == (["pinned", True] if lies == "cpu" else [False])  # there already: nothing is copied


class Launches(TorchDispatchMode):
    """Notes every operation; nothing on ``meta`` can be waited for: it has no numbers."""

    def __init__(self):
        super().__init__()
        self.names, self.devices = [], set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.append(operation.overloadpacket.__name__)
        tensors = [t for a in args for t in (a if isinstance(a, list) else [a]) if isinstance(t, torch.Tensor)]
        out = None if self.names[-1] == "_fused_adam_" else operation(*args, **(kwargs or {}))  # has no meta kernel
        self.devices |= {t.device.type for t in [*tensors, out] if isinstance(t, torch.Tensor)}
        return out


@pytest.mark.parametrize("name", TRAINED)
def test_no_step_waits_for_the_device_and_each_is_one_launch_of_adam(pixels, priced, name, monkeypatch):
    alike = lambda network, images: dict.fromkeys(dict(network.named_parameters()), 2.0)  # noqa: E731
    monkeypatch.setattr(finetuned, "parameter_units", alike)
    start = Start(np.zeros((K, CLASSES)), CLASSES, tuple(range(CLASSES)), network=lambda rows: net().to("meta"))
    learner, steps = FineTuned(placed(pixels, "meta"), start, SPECS[name], PROTOCOLS[name]), []
    step = learner._step

    def counted(*args):
        with Launches() as launches:
            step(*args)
        steps.append(launches)

    monkeypatch.setattr(learner, "_step", counted)
    learner.learn(0, 64, priced, 1.0)
    assert len(steps) == len(list(Schedule(PROTOCOLS[name]).steps(0, 64)))
    waiting = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "_pin_memory"}
    for launches in steps:
        assert launches.names.count("_fused_adam_") == 1 and launches.devices == {"meta"}
        assert not waiting & set(launches.names)
    assert len({tuple(launches.names) for launches in steps[1:]}) == 1  # so that a step can be captured, and replayed
    with pytest.raises(RuntimeError, match="meta"):  # whoever wants to know a number would fail
        learner.steps.__bool__()
