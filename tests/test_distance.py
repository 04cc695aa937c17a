"""What the distance promises, on small real networks."""

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from networks import SmallNet, noise_images, permuted, permuted_blocks, rescaled, rescaled_blocks, transform

from hf_infodist.distances.distance import codelength, complexity, information_distance, information_transfer
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import Execution
from hf_infodist.protocol import PROTOCOLS

SOFT = [name for name, protocol in PROTOCOLS.items() if protocol.targets == "soft"]
CLOSED = {name for name in SOFT if all(spec.kind != "finetuned" for spec in PROTOCOLS[name].learners)}
EVERY = [pytest.param(name, marks=[pytest.mark.slow] if name == "sampled" else []) for name in PROTOCOLS]


@pytest.fixture(scope="module")
def images():
    return noise_images(160)  # more than the first trial of the learners


def classifier(net, labels=None):
    return load_classifier(net, transform=transform, labels=labels)


def nats(a, b, images, protocol, **options):
    return codelength(classifier(b), classifier(a), images, protocol=protocol, **options).nats


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("name", SOFT)
def test_identity_costs_nothing(images, name, batchnorm):
    nets = [SmallNet(batchnorm=batchnorm, dtype=torch.float32) for _ in range(2)]
    distance = information_distance(*map(classifier, nets), images, protocol=name).nats
    alone = len(PROTOCOLS[name].learners) == 1  # else the uniform learner has a little weight
    assert distance == 0.0 if alone else 0.0 <= distance < 1e-4


@pytest.mark.parametrize("name", SOFT)
def test_another_function_costs_something(images, name):
    assert nats(SmallNet(), SmallNet(seed=1), images, name) > 1


@pytest.mark.parametrize("name", SOFT)
def test_permuting_hidden_units_of_the_student_changes_nothing(images, name):
    a, b, bound = SmallNet(), SmallNet(seed=1), 1e-9 if name in CLOSED else 1e-6
    assert nats(permuted(a), b, images, name) == pytest.approx(nats(a, b, images, name), rel=bound)


@pytest.mark.parametrize("factor", [pytest.param(0.1, marks=pytest.mark.slow), 10.0])
@pytest.mark.parametrize("name", SOFT)
def test_rescaling_layers_of_the_student_changes_nothing(images, name, factor):
    a, b, bound = SmallNet(), SmallNet(seed=1), 1e-9 if name in CLOSED else 1e-6
    assert nats(rescaled(a, factor), b, images, name) == pytest.approx(nats(a, b, images, name), rel=bound)


@pytest.mark.parametrize(
    "twin", [permuted_blocks, lambda net: rescaled_blocks(net, 10.0)], ids=["permuted", "rescaled"]
)
def test_a_trained_network_in_float32_costs_what_its_twin_costs(twin):
    student, teacher = (load_classifier(name) for name in ("demo:cnn", "demo:vit"))
    changed = dataclasses.replace(student, id="twin", network=twin(student.network))
    plain, other = (codelength(teacher, one, "digits", k=400).nats for one in (student, changed))
    assert other != plain and other == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("twin", [permuted, lambda net: rescaled(net, 10.0)], ids=["permuted", "rescaled"])
def test_teachers_of_one_function_cost_the_same(images, twin):
    a, b = SmallNet(), SmallNet(seed=1)
    assert nats(a, twin(b), images, "paper") == pytest.approx(nats(a, b, images, "paper"), rel=1e-6)


def test_directions_differ_and_are_named(images):
    a, b = classifier(SmallNet()), classifier(SmallNet(seed=1, gain=5.0))
    result = information_distance(a, b, images, protocol="paper")
    assert result.b_given_a.nats == codelength(b, a, images, protocol="paper").nats
    assert result.a_given_b.nats == codelength(a, b, images, protocol="paper").nats
    assert result.a_given_b.nats != result.b_given_a.nats
    assert result.nats == max(result.a_given_b.nats, result.b_given_a.nats)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_models_passed_in_are_unchanged(images, name):
    nets = [SmallNet(batchnorm=True), SmallNet(seed=1, num_classes=3, batchnorm=True)]
    before = [{key: value.clone() for key, value in net.state_dict().items()} for net in nets]
    information_distance(*map(classifier, nets), images[:64], protocol=name)
    for net, state in zip(nets, before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
        assert not any(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("name", EVERY)
def test_same_seed_same_nats_and_another_order_another_number(images, name):
    a, b = classifier(SmallNet()), classifier(SmallNet(seed=1))
    fresh = Execution(fresh=True)
    first, again, other = (codelength(b, a, images, protocol=name, seed=seed, execution=fresh) for seed in (0, 0, 1))
    assert np.array_equal(first.image_nats, again.image_nats)
    assert first.nats != other.nats


@pytest.mark.parametrize("name", EVERY)
def test_size_of_evaluation_passes_does_not_change_the_number(images, name, tmp_path):
    a, b = classifier(SmallNet()), classifier(SmallNet(seed=1))
    numbers = [
        codelength(b, a, images, protocol=name, execution=Execution(chunk=c, home=tmp_path / str(c))).nats
        for c in (3, 64)
    ]
    assert numbers == pytest.approx([numbers[0]] * 2, rel=1e-9)


def test_global_random_state_neither_matters_nor_changes(images):
    a, b = classifier(SmallNet()), classifier(SmallNet(seed=1))
    state = torch.random.get_rng_state()
    first = codelength(b, a, images, protocol="standard").nats
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    np.random.seed(99)
    assert codelength(b, a, images, protocol="standard", execution=Execution(fresh=True)).nats == first


def test_new_label_space_starts_uniform(images):
    result = codelength(
        classifier(SmallNet(num_classes=3), "abc"), classifier(SmallNet(num_classes=5), "vwxyz"), images
    )
    q = torch.cat([SmallNet(num_classes=3)(transform(image)[None].double()) for image in images]).softmax(-1)
    uniform = (q * (q * 3).log()).sum().item()
    assert result.static_nats == pytest.approx(uniform, rel=1e-6)
    assert result.nats < uniform


def test_classes_in_another_order_are_mapped_by_name(images):
    a = SmallNet(dtype=torch.float32)
    b = SmallNet(dtype=torch.float32)
    order = torch.tensor([3, 1, 4, 0, 2])
    with torch.no_grad():
        b.head.weight.copy_(a.head.weight[order]), b.head.bias.copy_(a.head.bias[order])
    names = ["ant", "bee", "cat", "dog", "elk"]
    result = information_distance(classifier(a, names), classifier(b, [names[i] for i in order]), images)
    assert result.nats < 1e-6


def test_result_is_json_with_the_promised_fields(images):
    result = information_distance(classifier(SmallNet()), classifier(SmallNet(seed=1)), images[:64], protocol="paper")
    fields = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert fields["schema"] == "infodist.result/1"
    assert {"id", "library", "revision", "num_classes"} <= fields["model_a"].keys() & fields["model_b"].keys()
    assert {"id", "config", "split", "k", "seed", "fingerprint"} <= fields["images"].keys()
    assert set(map(lambda f: f.name, dataclasses.fields(PROTOCOLS["paper"]))) == fields["protocol"].keys()
    assert {"nats", "bits", "nats_per_image", "stderr_nats"} <= fields["distance"].keys()
    assert {"gradient_images", "seconds", "device"} <= fields["cost"].keys() and "torch" in fields["versions"]
    for direction in (fields["a_given_b"], fields["b_given_a"]):
        assert {"nats", "nats_per_image", "final_nats_per_image", "converged", "static_nats"} <= direction.keys()
        assert {"stderr_nats", "curve", "learners"} <= direction.keys()
        assert {"excess_nats", "head_nats", "marginal_nats", "normalised", "order_nats"} <= direction.keys()
        assert direction["curve"][-1] == [64, pytest.approx(direction["nats"])]
        assert {"name", "nats", "weight"} <= direction["learners"][0].keys()
    assert fields["distance"]["bits"] == pytest.approx(fields["distance"]["nats"] / np.log(2))


def test_a_single_image_has_a_price_and_no_error_bar(images):
    result = information_distance(classifier(SmallNet()), classifier(SmallNet(seed=1)), images[:1])
    assert result.nats > 0
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["distance"]["stderr_nats"] is None


def test_learning_beats_standing_still(images):
    a, b = SmallNet(), SmallNet(seed=1)
    result = codelength(classifier(b), classifier(a), images * 3, protocol="standard")
    assert result.nats < 0.8 * result.static_nats


def test_permuted_classes_cost_little_more_than_the_logarithm_of_their_number(images):
    a, b = SmallNet(gain=5.0), SmallNet(seed=1, gain=5.0)
    twin = copy.deepcopy(b)
    order = [3, 0, 4, 1, 2]
    with torch.no_grad():
        twin.head.weight.copy_(b.head.weight[order]), twin.head.bias.copy_(b.head.bias[order])
    plain = codelength(classifier(b), classifier(a), images).nats
    permuted = codelength(classifier(twin, "vwxyz"), classifier(a, "abcde"), images).nats
    assert permuted < 1.1 * plain + math.lgamma(6)


def test_orders_code_the_same_images_in_other_orders(images):
    a, b = classifier(SmallNet()), classifier(SmallNet(seed=1))
    result = information_distance(a, b, images, protocol="standard", orders=3, k=96)
    code = result.b_given_a
    assert len(set(code.order_nats)) == 3 and code.nats == pytest.approx(np.mean(code.order_nats))
    single = codelength(b, a, images, protocol="standard", k=96)
    assert code.order_nats[0] == single.nats
    assert code.static_nats == single.static_nats and code.marginal_nats == single.marginal_nats
    assert code.gradient_images == pytest.approx(3 * single.gradient_images, rel=0.2)
    fields = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert fields["protocol"]["orders"] == 3 and fields["distance"]["stderr_orders_nats"] > 0
    assert "± orders" in str(result) and "mean of 3 orders" in str(result)


def test_marginal_nats_are_the_price_of_knowing_how_frequent_classes_are(images):
    b = SmallNet(seed=1)
    q = torch.cat([b(transform(image)[None].double()) for image in images]).softmax(-1).detach()
    expected = (q * (q / q.mean(0)).log()).sum().item()
    code = codelength(classifier(b), classifier(SmallNet()), images, protocol="paper")
    assert code.marginal_nats == pytest.approx(expected, rel=1e-7)


def test_complexity_is_the_price_of_a_model_for_a_fresh_network_of_its_kind():
    options = {"k": 64, "protocol": "standard", "execution": Execution(fresh=True)}
    assert complexity("demo:cnn", "digits", **options).nats == (
        codelength("demo:cnn", "random:demo:cnn", "digits", **options).nats
    )


def test_information_transfer_is_what_a_known_model_saves_on_its_labels(images):
    a, b = classifier(SmallNet()), classifier(SmallNet(seed=1))
    known = codelength(b, b, images[:48], protocol="sampled").nats
    assert information_transfer(b, a, images[:48]) == codelength(b, a, images[:48], protocol="sampled").nats - known


def test_a_student_that_is_sure_overpays_less_for_a_teacher_that_is_not_as_a_kernel_may_begin_with_nothing():
    standard = PROTOCOLS["standard"]
    kept = tuple(spec for spec in standard.learners if spec.start != "nothing")
    without, images = dataclasses.replace(standard, name="without", learners=kept), noise_images(400)

    def both(factor):
        sure = SmallNet()
        with torch.no_grad():
            for parameter in sure.head.parameters():
                parameter.mul_(factor)
        return [nats(sure, SmallNet(seed=1), images, protocol) for protocol in (standard, without)]

    now, before = both(10.0)
    assert now < 0.95 * before
    now, before = both(1.0)
    assert now == pytest.approx(before, rel=0.01)
