"""What each learner trains, when, and in which units."""

import copy
from dataclasses import replace

import pytest
import torch
from networks import SmallNet, logits_of, noise_pixels

from hf_infodist.coding.finetuned import FineTuned, Schedule
from hf_infodist.coding.learners import Start
from hf_infodist.coding.targets import PricedTargets, Targets
from hf_infodist.protocol import PROTOCOLS, CodingProtocol, LearnerSpec

K, CLASSES = 96, 5


@pytest.fixture(scope="module")
def pixels():
    return noise_pixels(K)


def fine_tuned(pixels, protocol, net=None, **spec):
    net = net or SmallNet(batchnorm=True)
    start = Start(logits_of(net, pixels), CLASSES, tuple(range(CLASSES)), network=lambda rows: copy.deepcopy(net))
    return FineTuned(pixels, start, replace(protocol.learners[0], kind="finetuned", **spec), protocol)


def teach(learner, pixels, end=64):
    priced = PricedTargets(Targets(logits_of(SmallNet(seed=1), pixels)), end)
    learner.predict(0, end)
    return learner.learn(0, end, priced, 1.0)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_schedule_draws_only_priced_images_and_spends_what_the_protocol_says(name):
    protocol = PROTOCOLS[name]
    schedule, spent, k = Schedule(protocol), 0, 400
    protocol = replace(protocol, reduction=None)
    for start, end in protocol.blocks(k):
        steps = list(schedule.steps(start, end))
        assert all(index.max() < end for index, _ in steps)
        assert set(range(start, end)) <= {int(i) for index, _ in steps for i in index}
        spent += sum(len(index) for index, _ in steps) if end < k else 0
    learners = sum(spec.kind == "finetuned" for spec in protocol.learners)
    assert protocol.gradient_images(k) == pytest.approx(learners * spent, rel=0.1)


def test_annealed_rate_warms_up_and_falls_to_zero():
    protocol = CodingProtocol("test", (LearnerSpec("finetuned", lr=1e-3),), growth=2.0, passes=5, anneal=True)
    factors = [factor for _, factor in Schedule(protocol).steps(0, 320)]
    assert factors[0] < factors[5] > factors[-1] > 0 and max(factors) <= 1 and factors[-1] < 0.05


def test_frozen_batchnorm_keeps_its_statistics_and_learns_its_affine_part(pixels):
    learner = fine_tuned(pixels, PROTOCOLS["single"], lr=1e-2, batchnorm="frozen")
    before = copy.deepcopy(learner.network.state_dict())
    teach(learner, pixels)
    after = learner.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if "running" in key)
    assert not torch.equal(before["norm.weight"], after["norm.weight"])


def test_adapting_batchnorm_updates_its_statistics(pixels):
    learner = fine_tuned(pixels, PROTOCOLS["paper"], batchnorm="adapting")
    before = learner.network.norm.running_mean.clone()
    teach(learner, pixels)
    assert not torch.equal(before, learner.network.norm.running_mean)


def test_evaluation_leaves_no_trace(pixels):
    learner = fine_tuned(pixels, PROTOCOLS["paper"], batchnorm="adapting")
    teach(learner, pixels)
    before = copy.deepcopy(learner.network.state_dict())
    assert torch.equal(learner.predict(64, 96), learner.predict(64, 96))
    assert all(torch.equal(before[key], value) for key, value in learner.network.state_dict().items())


def test_a_restarting_learner_forgets(pixels):
    protocol = replace(PROTOCOLS["blockwise"], passes=1)
    learner = fine_tuned(pixels, protocol)
    start = copy.deepcopy(learner.network.state_dict())
    teach(learner, pixels)
    learner._start_at(learner.start)
    assert all(torch.equal(start[key], value) for key, value in learner.network.state_dict().items())
    assert not learner.steps


def test_averaged_weights_lag_behind_and_predict(pixels):
    learner = fine_tuned(pixels, PROTOCOLS["single"])
    teach(learner, pixels)
    averaged = learner.averaged.module.head.weight
    assert not torch.equal(averaged, learner.network.head.weight)
    with torch.no_grad():
        expected = learner.averaged.module.eval()(pixels.batch(slice(64, 96), "cpu", torch.float64)).log_softmax(-1)
    assert torch.allclose(learner.predict(64, 96), expected)
