"""The table of other measures: every declared property holds, and every property not declared fails."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from networks import SmallNet, noise_images, permuted, rescaled, transform
from scipy.stats import ortho_group

from hf_infodist.baselines import MEASURES, BaselineResult, baselines, format_table
from hf_infodist.distances.distance import distance_of_pair
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import prepare_pair
from hf_infodist.protocol import PROTOCOLS

HIDDEN = 12  # features of a SmallNet
SMALL = 1e-9  # round-off
LARGE = 1e-6  # far above round-off: what has moved by this has moved


def classifier(net, labels=None):
    return load_classifier(net, transform=transform, labels=labels)


def make_pair(a, b, labels_a=None, labels_b=None, k=160):
    return prepare_pair(classifier(a, labels_a), classifier(b, labels_b), noise_images(k))


def values(pair):
    return {(row.space, row.name): row.value for row in baselines(pair)}


def reasons(pair):
    return {(row.space, row.name): row.reason for row in baselines(pair)}


def of_space(space, rows):
    return {row for (found, _), row in rows.items() if found == space}


def with_net(change):
    return lambda pair: make_pair(change(pair.a.network.module), pair.b.network.module)


def with_outputs(name, change):
    def changed(pair):
        values = change(np.array(getattr(pair.outputs_a, name)))
        outputs = dataclasses.replace(pair.outputs_a, **{name: values})
        return dataclasses.replace(pair, run=lambda model: outputs if model is pair.a else pair.run(model))

    return changed


ROTATION = ortho_group.rvs(HIDDEN, random_state=0)
SHIFT = 3 * np.random.default_rng(0).random(HIDDEN)
LINEAR = np.random.default_rng(1).standard_normal((HIDDEN, HIDDEN))
IN_EVERY_SPACE = {"permutation": with_net(permuted), "rescaling": with_net(lambda net: rescaled(net, 3.0))}
CHANGES = {
    "parameter": IN_EVERY_SPACE,
    "representation": IN_EVERY_SPACE
    | {
        "rotation": with_outputs("features", lambda f: f @ ROTATION),
        "shift": with_outputs("features", lambda f: f + SHIFT),
        "linear map": with_outputs("features", lambda f: f @ LINEAR),
    },
    "output": IN_EVERY_SPACE | {"temperature": with_outputs("logits", lambda logits: 3 * logits)},
}
CASES = [(measure, change) for measure in MEASURES for change in CHANGES[measure.space]]


def named(value):
    return value if isinstance(value, str) else f"{value.space} {value.name}"


def exchanged(pair):
    return dataclasses.replace(pair, a=pair.b, b=pair.a)


def with_itself(pair):
    return dataclasses.replace(pair, b=pair.a)


@torch.no_grad()
def with_noise(pair):
    twin, generator = SmallNet(), torch.Generator().manual_seed(0)
    for parameter in twin.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return make_pair(pair.a.network.module, twin)


@pytest.fixture(scope="module", autouse=True)
def module_store(tmp_path_factory):
    """The store that fixtures of the module use, before any test has its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INFODIST_HOME", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture(scope="module")
def pair(module_store):
    return make_pair(SmallNet(), SmallNet(seed=1))


@pytest.fixture(scope="module")
def before(pair):
    return values(pair)


@pytest.fixture(scope="module")
def after(pair):
    """All values after each change of the pair."""
    changes = {name: change for space in CHANGES.values() for name, change in space.items()}
    changes |= {change.__name__: change for change in (exchanged, with_itself, with_noise)}
    return {name: values(change(pair)) for name, change in changes.items()}


@pytest.mark.parametrize(("measure", "change"), CASES, ids=named)
def test_what_is_declared_invariant_holds_and_nothing_else_does(before, after, measure, change):
    old, new = (rows[measure.space, measure.name] for rows in (before, after[change]))
    moved = abs(new - old)
    assert moved < SMALL * max(1, abs(old)) if change in measure.invariant_to else moved > LARGE * abs(old)


def test_every_declared_change_is_tried():
    assert all(measure.invariant_to <= CHANGES[measure.space].keys() for measure in MEASURES)


@pytest.mark.parametrize("measure", MEASURES, ids=named)
def test_what_is_declared_symmetric_is_and_nothing_else(before, after, measure):
    old, new = (rows[measure.space, measure.name] for rows in (before, after["exchanged"]))
    assert abs(new - old) < SMALL if measure.symmetric else abs(new - old) > LARGE


@pytest.mark.parametrize("measure", MEASURES, ids=named)
def test_a_model_is_nearest_to_itself_then_to_itself_with_noise_then_to_another(before, after, measure):
    key = measure.space, measure.name
    itself, noisy, another = after["with_itself"][key], after["with_noise"][key], before[key]
    if measure.larger_is_more_similar:
        assert itself == pytest.approx(1, abs=SMALL) and another + LARGE < noisy < 1 - SMALL
    else:
        assert itself == pytest.approx(0, abs=SMALL) and another - LARGE > noisy > SMALL


def test_names_are_unique_within_a_space():
    assert len({(measure.space, measure.name) for measure in MEASURES}) == len(MEASURES)


def test_weights_of_another_architecture_are_not_compared():
    pair = make_pair(SmallNet(), SmallNet(seed=1, batchnorm=True))
    assert None not in of_space("parameter", values(pair))  # BatchNorm has no say
    (reason,) = of_space("parameter", reasons(make_pair(SmallNet(), torch.nn.Sequential(SmallNet()))))
    assert reason == "different architectures: only A has conv1.weight"


def test_heads_of_other_sizes_are_named_and_features_still_compared():
    pair = make_pair(SmallNet(num_classes=5), SmallNet(num_classes=3))
    assert of_space("parameter", reasons(pair)) == {"head.weight is [5, 12] in A, [3, 12] in B"}
    assert of_space("output", reasons(pair)) == {"A has 5 classes, B has 3"}
    assert of_space("representation", reasons(pair)) == {None}


def test_other_classes_have_no_common_outputs():
    pair = make_pair(SmallNet(), SmallNet(seed=1), "abcde", "vwxyz")
    assert of_space("output", reasons(pair)) == {"the classes of A and B have different names"}


def test_classes_in_another_order_are_matched_by_name(before):
    order = [3, 1, 4, 0, 2]
    b = SmallNet(seed=1)
    with torch.no_grad():
        b.head.weight.copy_(b.head.weight[order]), b.head.bias.copy_(b.head.bias[order])
    names = ["ant", "bee", "cat", "dog", "elk"]
    reordered = values(make_pair(SmallNet(), b, names, [names[i] for i in order]))
    for name in ("KL(A‖B)", "KL(B‖A)", "Jensen-Shannon", "disagreement"):
        assert reordered["output", name] == pytest.approx(before["output", name], rel=SMALL)


def test_features_of_other_widths_leave_what_needs_no_common_axes(pair):
    narrow = with_outputs("features", lambda features: features[:, :7])(pair)
    found = {name: value for (space, name), value in values(narrow).items() if space == "representation"}
    assert {name for name, value in found.items() if value is None} == {"L2", "cosine"}
    assert reasons(narrow)["representation", "L2"] == "A has 7 features, B has 12"


def test_features_that_are_not_finite_are_named(pair):
    broken = with_outputs("features", lambda features: np.where(features > 1, np.nan, features))(pair)
    assert of_space("representation", reasons(broken)) == {"the features of A are not finite"}


@pytest.mark.parametrize("k", [1, 2, 3, 4, 11, 12])
def test_few_images_give_numbers_or_reasons_but_never_nan(k):
    for row in baselines(make_pair(SmallNet(), SmallNet(seed=1), k=k)):
        assert (row.value is None) != (row.reason is None)
        assert row.value is None or np.isfinite(row.value)


def test_without_pot_transport_says_what_to_type(pair, before, monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    missing = {key: reason for key, reason in reasons(pair).items() if reason}
    assert missing == {
        (space, "EMD"): "needs POT: pip install 'hf-infodist[baselines]'" for space in ("parameter", "representation")
    }
    assert {key: value for key, value in values(pair).items() if key not in missing} == {
        key: value for key, value in before.items() if key not in missing
    }


def test_divergence_of_outputs_is_the_price_without_learning(pair, before):
    result = distance_of_pair(pair, PROTOCOLS["standard"])
    k = len(pair.images)
    assert k * before["output", "KL(B‖A)"] == pytest.approx(result.b_given_a.static_nats, rel=SMALL)
    assert k * before["output", "KL(A‖B)"] == pytest.approx(result.a_given_b.static_nats, rel=SMALL)


def test_models_are_unchanged(pair):
    state = {key: value.clone() for key, value in pair.a.network.state_dict().items()}
    baselines(pair)
    assert all(torch.equal(value, state[key]) for key, value in pair.a.network.state_dict().items())


def test_table_points_towards_the_more_similar():
    rows = [
        BaselineResult("L2", "parameter", None, "too different", False, "length"),
        BaselineResult("cosine", "parameter", 0.25, None, True, "angle"),
    ]
    _, first, second, _ = format_table(rows).splitlines()
    assert first.split() == ["parameter", "L2", "n/a", "↓", "too", "different"]
    assert second.split() == ["parameter", "cosine", "0.25", "↑", "angle"]


def test_rows_are_json(pair):
    rows = json.loads(json.dumps([vars(row) for row in baselines(pair)], allow_nan=False))
    assert rows[0].keys() == {"name", "space", "value", "reason", "larger_is_more_similar", "meaning"}
