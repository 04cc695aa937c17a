"""Where memory runs out, activations are computed twice: the same bits, as if nothing had happened."""

import copy
import functools
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from networks import SmallNet, noise_images, transform
from torch import nn

from hf_infodist.coding.finetuned import FineTuned
from hf_infodist.coding.recompute import choose_parts, recomputing
from hf_infodist.coding.trainer import train_codelength
from hf_infodist.errors import ResourceError
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import Execution, prepare_pair
from hf_infodist.protocol import PROTOCOLS as PRESETS

K = 48
PROTOCOLS = PRESETS | {"adapting": replace(PRESETS["paper"], batch=8, first_block=16)}  # so that some steps are made


def resnet():
    block = timm.models.resnet.BasicBlock
    return timm.models.ResNet(block, [1, 2, 1, 1], num_classes=5, channels=(8, 8, 16, 16)).eval()


def vit():
    settings = {"img_size": 12, "patch_size": 4, "embed_dim": 24, "depth": 4, "num_heads": 2, "num_classes": 5}
    return timm.models.VisionTransformer(**settings).eval()


NETWORKS = {"resnet": resnet, "vit": vit}
LAYERS = {"resnet": ("layer1", "layer4"), "vit": ("blocks.0", "blocks.3")}  # one of the first, one of the last
BLOCKS = {"resnet": {"layer2.0", "layer2.1", "layer3", "layer4"}, "vit": {f"blocks.{i}" for i in range(4)}}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def make(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NETWORKS[name]()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    home, images = tmp_path_factory.mktemp("store"), noise_images(K)

    def pair(name):
        student, teacher = load_classifier(make(name), transform=transform), SmallNet(dtype=torch.float32)
        teacher = load_classifier(teacher, transform=transform)
        return prepare_pair(student, teacher, images, execution=Execution(home=home))

    return {name: pair(name) for name in NETWORKS}


def gradients_and_buffers(network, images, parts, precision=nullcontext):
    network = copy.deepcopy(network)
    with recomputing(network, parts):
        with precision():
            logits = network(images)
        logits.double().logsumexp(1).sum().backward()
    return [parameter.grad for parameter in network.parameters()] + list(network.buffers())


def bf16():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("precision", [nullcontext, bf16])
@pytest.mark.parametrize("adapting", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_statistics_are_the_same_and_the_blocks_are_run_again(name, adapting, precision):
    size = {"resnet": 48, "vit": 12}[name]  # with maps of one pixel, gradients in bf16 are not always numbers on a CPU
    network, images, runs = make(name), torch.randn(4, 3, size, size), []
    parts = choose_parts(network, images[:1])
    assert set(parts) >= BLOCKS[name]
    for module in network.modules():
        module.train(adapting and isinstance(module, nn.BatchNorm2d))
    wanted = gradients_and_buffers(network, images, (), precision)
    inner = next(network.get_submodule(min(BLOCKS[name])).children())
    inner.register_forward_hook(lambda *_: runs.append(1))
    found = gradients_and_buffers(network, images, parts, precision)
    assert len(runs) == 2 and len(found) == len(wanted)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


class Overwriting(nn.Module):
    """Writes over what its first block was given, once that has no need of it for gradients."""

    def __init__(self):
        super().__init__()
        blocks = (nn.Sequential(Times(3.0), nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 6)) for _ in range(3))
        self.first, self.second, self.third = blocks

    def forward(self, x):
        given = x * 1.0
        y = self.first(given)
        return self.third(self.second(y + given.mul_(2.0)))


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


class Dense(nn.Module):
    """Gives its blocks a list that grows, and one of them the other's layer."""

    def __init__(self):
        super().__init__()
        shared = nn.Linear(6, 6)
        self.blocks = nn.ModuleList(Gathering(shared) for _ in range(3))

    def forward(self, x):
        seen = [x]
        for block in self.blocks:
            seen.append(block(seen))
        return seen[-1]


class Gathering(nn.Module):
    def __init__(self, shared):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 6))
        self.shared = nn.Sequential(shared, nn.Tanh(), nn.Tanh())

    def forward(self, seen):
        return self.shared(self.layers(sum(seen)).tanh().tanh())


def test_what_is_written_over_is_not_run_again():
    network, images = Overwriting(), torch.randn(5, 6)
    parts = choose_parts(network, images)
    assert "first" not in parts and {"second", "third"} <= set(parts)
    kept, wanted = (gradients_and_buffers(network, images, names) for names in (parts, ()))
    assert all(torch.equal(a, b) for a, b in zip(kept, wanted, strict=True))
    wrong = gradients_and_buffers(network, images, ("first",))
    assert not all(torch.equal(a, b) for a, b in zip(wrong, wanted, strict=True))


def test_lists_that_grow_and_layers_that_are_shared_are_run_again_as_they_were():
    network, images = Dense(), torch.randn(5, 6)
    parts = choose_parts(network, images)
    assert set(parts) == {f"blocks.{i}" for i in range(3)}
    wanted = gradients_and_buffers(network, images, ())
    for names in (parts, [*parts[1:], "blocks.0.layers", "blocks.0.shared.0"]):
        found = gradients_and_buffers(network, images, names)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_a_network_is_left_as_it_was_and_nothing_is_chosen_where_nothing_is_saved():
    network = make("vit")
    before = {name: dict(vars(module)) for name, module in network.named_modules()}
    with recomputing(network, choose_parts(network, torch.randn(1, 3, 12, 12))):
        assert "forward" in vars(network.blocks[0])
    assert all(vars(module).keys() == before[name].keys() for name, module in network.named_modules())
    assert choose_parts(nn.Linear(3, 2), torch.randn(1, 3)) == ()


def lacking(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Shortage:
    """Memory that runs out in some training passes: after a late layer, or on the way back to an early one."""

    def __init__(self, name, where, passes):
        self.layer, self.where, self.passes, self.seen = LAYERS[name][where == "forward"], where, passes, 0

    def __call__(self, module, args, output):
        if torch.is_grad_enabled():
            self.seen += 1
            if self.seen in self.passes:
                lacking() if self.where == "forward" else output.register_hook(lacking)


@pytest.fixture
def short(monkeypatch):
    """Return a function that lets memory run out, and the learners made."""
    learners = []

    def begin(shortage):
        new = FineTuned._new_network

        def with_hook(learner):
            network = new(learner)
            network.module.get_submodule(shortage.layer).register_forward_hook(shortage)
            learners.append(learner)
            return network

        monkeypatch.setattr(FineTuned, "_new_network", with_hook)
        return learners

    return begin


RESTARTING = pytest.param("resnet", "blockwise", marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def undisturbed(pairs):
    """Return what a run costs where memory suffices."""
    return functools.cache(lambda name, protocol: train_codelength(pairs[name], "b_given_a", PROTOCOLS[protocol]))


@pytest.mark.parametrize(("where", "number"), [("forward", 1), ("backward", 2)])
@pytest.mark.parametrize(
    ("name", "protocol"), [("resnet", "single"), ("resnet", "adapting"), ("vit", "single"), RESTARTING]
)
def test_memory_that_runs_out_in_a_step_leaves_no_trace(pairs, undisturbed, short, name, protocol, where, number):
    wanted = undisturbed(name, protocol)
    learners = short(shortage := Shortage(name, where, {number}))
    found = train_codelength(pairs[name], "b_given_a", PROTOCOLS[protocol])
    assert shortage.seen > number and learners[-1].recomputed
    assert np.array_equal(found.image_nats, wanted.image_nats)
    assert found.learners == wanted.learners


@pytest.mark.slow
def test_each_of_several_learners_goes_on_by_itself(pairs, short):
    wanted = train_codelength(pairs["resnet"], "b_given_a", PROTOCOLS["thorough"])
    learners = short(Shortage("resnet", "backward", {2}))
    found = train_codelength(pairs["resnet"], "b_given_a", PROTOCOLS["thorough"])
    assert sorted(bool(learner.recomputed) for learner in learners) == [False, False, True]
    assert np.array_equal(found.image_nats, wanted.image_nats) and found.learners == wanted.learners


def test_memory_that_runs_out_again_ends_the_run(pairs, short):
    short(Shortage("vit", "backward", {1, 3}))  # the second pass chooses what is run again
    with pytest.raises(ResourceError, match=r"ran out of memory while .* was trained") as stopped:
        train_codelength(pairs["vit"], "b_given_a", PROTOCOLS["single"])
    assert "use --protocol standard" in str(stopped.value)


def test_a_network_that_cannot_be_run_in_parts_ends_the_run_for_want_of_memory(pairs, short, monkeypatch):
    def refusing(*_, **__):
        raise RuntimeError("a tensor was written over")

    short(Shortage("vit", "forward", {1}))
    monkeypatch.setattr("hf_infodist.coding.recompute.checkpoint", refusing)
    with pytest.raises(ResourceError, match="CUDA out of memory"):
        train_codelength(pairs["vit"], "b_given_a", PROTOCOLS["single"])


def test_another_error_is_not_taken_for_it(pairs, monkeypatch):
    def broken(*_):
        raise RuntimeError("another one")

    monkeypatch.setattr(timm.models.vision_transformer.Block, "forward", broken)
    with pytest.raises(RuntimeError, match="another one"):
        train_codelength(pairs["vit"], "b_given_a", PROTOCOLS["single"])


def test_where_memory_runs_out_in_a_prediction_half_as_many_images_are_predicted_at_once(pairs, monkeypatch):
    wanted = train_codelength(pairs["vit"], "b_given_a", PROTOCOLS["single"])
    sizes, forward = [], timm.models.VisionTransformer.forward

    def scarce(network, images):
        if not torch.is_grad_enabled():
            sizes.append(len(images))
            if len(images) > 5:
                lacking()
        return forward(network, images)

    new = FineTuned._new_network

    def from_now_on(learner):
        network = new(learner)
        monkeypatch.setattr(timm.models.VisionTransformer, "forward", scarce)
        return network

    monkeypatch.setattr(FineTuned, "_new_network", from_now_on)
    found = train_codelength(pairs["vit"], "b_given_a", PROTOCOLS["single"], execution=Execution(chunk=16))
    assert set(sizes) == {16, 8, 4} and sizes[-4:] == [4] * 4
    assert found.nats == pytest.approx(wanted.nats, rel=1e-6)


REAL = """
import resource, sys, numpy, timm, torch
from hf_infodist.coding.finetuned import FineTuned
from hf_infodist.coding.learners import Start
from hf_infodist.coding.targets import PricedTargets, Targets
from hf_infodist.models.classifier import Network
from hf_infodist.outputs.arrays import Pixels
from hf_infodist.protocol import PROTOCOLS

torch.backends.mkldnn.set_flags(False)  # its own shortage of memory is told as "could not create a primitive"
torch.manual_seed(0)
network = Network(timm.models.VisionTransformer(112, embed_dim=192, depth=24, num_heads=3, num_classes=5).eval())
rng = numpy.random.default_rng(0)
pixels = Pixels(rng.integers(0, 256, (32, 3, 112, 112), dtype=numpy.uint8), (0.5,) * 3, (0.2,) * 3)
start = Start(numpy.zeros((32, 5)), 5, tuple(range(5)), network=lambda rows: network)
learner = FineTuned(pixels, start, PROTOCOLS["single"].learners[0], PROTOCOLS["single"])
shown = PricedTargets(Targets(rng.normal(0, 2, (32, 5))), 32)
learner._step(numpy.arange(1), shown)
assert not learner.recomputed
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
room = int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room)) if room else None
for _ in range(2):
    learner._step(numpy.arange(8), shown)
print(len(learner.recomputed), float(sum(parameter.double().sum() for parameter in network.parameters())).hex())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
def test_a_student_learns_in_memory_that_is_too_small_for_it():
    """It gets 30 MiB for the activations of a batch: half of what they take, unless they are computed twice."""

    def run(room):
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # so that what is freed can be had again
        return subprocess.run([sys.executable, "-c", REAL, str(room)], capture_output=True, text=True, env=environment)

    plenty, scarce = run(0), run(30)
    assert plenty.returncode == 0 and scarce.returncode == 0, scarce.stderr
    assert plenty.stdout.split()[0] == "0" and int(scarce.stdout.split()[0]) >= 24
    assert plenty.stdout.split()[1] == scarce.stdout.split()[1]
