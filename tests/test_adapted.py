"""Kernels on adapted features: against a naive implementation, in the order of prices, on any number of processes."""

import copy
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from networks import SmallNet, logits_of, noise_images, noise_pixels, transform
from scipy.spatial.distance import cdist
from sklearn.preprocessing import StandardScaler
from test_processes import in_threads
from timm.models import save_for_hf

from hf_infodist.coding import kernels
from hf_infodist.coding.adapted import AdaptedKernel, Reader, wanted_by
from hf_infodist.coding.checkpoints import Checkpoints
from hf_infodist.coding.finetuned import FineTuned
from hf_infodist.coding.keys import codelength_key_of
from hf_infodist.coding.learners import Start
from hf_infodist.coding.loop import Coding
from hf_infodist.coding.targets import PricedTargets, Targets
from hf_infodist.coding.trainer import train_codelength
from hf_infodist.distances.cost import closed_form_flops, coding_bytes
from hf_infodist.distances.distance import codelength
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import Execution, Pair, prepare_pair
from hf_infodist.processes import ProcessTeam
from hf_infodist.protocol import CODING_VERSION, LABEL_PROTOCOLS, PROTOCOLS, CodingProtocol, LearnerSpec
from hf_infodist.results.store import CodelengthRecord, Store

K, CLASSES, START, END = 96, 5, 48, 72
THOROUGH = PROTOCOLS["thorough"]
ADAPTED = tuple(spec for spec in THOROUGH.learners if spec.kind == "adapted")
TUNED = tuple(spec for spec in THOROUGH.learners if spec.trained)
ALONE = replace(THOROUGH, name="alone", learners=TUNED[1:] + ADAPTED, reduction=None)
"""Two that are trained, which both go on, and what is read of the better of them."""


@pytest.fixture(scope="module")
def pixels():
    return noise_pixels(K)


@pytest.fixture(scope="module")
def targets(pixels):
    return Targets(logits_of(SmallNet(seed=1), pixels))


def tuned(pixels, rows=tuple(range(CLASSES)), lr=1e-2):
    net = SmallNet(batchnorm=True)
    start = Start(logits_of(net, pixels), CLASSES, rows, network=lambda rows: copy.deepcopy(net), heads=("head",))
    return FineTuned(pixels, start, replace(TUNED[0], lr=lr), THOROUGH, chunk=16)


@pytest.fixture(scope="module")
def learner(pixels, targets):
    """One that has been trained on the first images."""
    learner = tuned(pixels)
    learner.learn(0, START, PricedTargets(targets, START), 1.0)
    assert learner.steps > 0
    return learner


def predicted(learner, targets, *specs, ends=(END,)):
    """Return what kernels make of a block, whose first image is `START`, coded in tiles."""
    reader = Reader([wanted_by(spec) for spec in specs], torch.device("cpu"), drawn=targets.drawn)
    found = []
    for spec in specs:
        kernel, tiles = AdaptedKernel(reader, spec), zip((START, *ends[:-1]), ends, strict=True)
        kernel.follow(learner, START, ends[-1], PricedTargets(targets, START))
        found.append(torch.cat([kernel.code(i, j, targets.shown(slice(i, j))) for i, j in tiles]).numpy())
    return found


def penultimate(learner, pixels, end):
    """Return what the head of the fine-tuned network sees, ``[end, D]``."""
    seen = []
    hook = learner.network.head.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach().numpy()))
    logits_of(learner.network, pixels)
    hook.remove()
    return seen[0][:end]


def centred(log_probs):
    clipped = np.maximum(log_probs, -12.0)
    return clipped - clipped.mean(1, keepdims=True)


@pytest.mark.parametrize("start", ["student", "nothing"])
def test_each_image_is_predicted_from_all_before_it_by_ridge_regression_on_adapted_features(
    learner, pixels, targets, start
):
    spec = replace(ADAPTED[0], features="penultimate", start=start)
    (found,) = predicted(learner, targets, spec, ends=(60, END))
    features = StandardScaler().fit_transform(penultimate(learner, pixels, END))
    alive = penultimate(learner, pixels, END).std(0) > 0
    covariance = np.exp(-0.3 * cdist(features, features, "sqeuclidean") / alive.sum()) + 1
    logits = learner.start.logits[:END] if start == "student" else np.zeros((END, CLASSES))
    first = torch.log_softmax(torch.from_numpy(logits).double(), -1).numpy()
    wanted = centred(targets.soft(slice(0, END)).numpy()) - centred(first)
    for i in range(START, END):
        factor = np.linalg.cholesky(covariance[:i, :i] + 0.01 * np.eye(i))
        weights = np.linalg.solve(factor.T, np.linalg.solve(factor, wanted[:i]))
        expected = torch.log_softmax(torch.from_numpy(first[i] + covariance[i, :i] @ weights), -1)
        assert found[i - START] == pytest.approx(expected.numpy(), rel=1e-7, abs=1e-9)


def test_flat_ones_share_the_factor_and_say_what_is_uncertain_less_loudly(learner, targets, monkeypatch):
    read, passes = FineTuned.read, []
    monkeypatch.setattr(FineTuned, "read", lambda self, rows, layers: passes.append(rows) or read(self, rows, layers))
    plain, flat = predicted(learner, targets, *ADAPTED)
    assert passes == [slice(0, END)]
    assert (flat.max(1) <= plain.max(1) + 1e-12).all() and flat.max(1).mean() < plain.max(1).mean()


def test_until_the_first_step_they_predict_what_the_learner_starts_from(pixels, targets):
    untouched = tuned(pixels, rows=(4, 3, 2, 1, 0))
    (found,) = predicted(untouched, targets, ADAPTED[0])
    assert np.array_equal(found, untouched.predict(START, END).numpy())


def test_features_that_are_no_numbers_harm_nobody(pixels, targets):
    learner = tuned(pixels, lr=1e300)
    learner.learn(0, START, PricedTargets(targets, START), 1.0)
    assert not learner.predict(START, END).isfinite().all()
    assert np.isfinite(predicted(learner, targets, *ADAPTED)).all()


def test_beyond_the_landmarks_few_images_are_in_memory_and_the_numbers_are_those_of_all(learner, targets, monkeypatch):
    monkeypatch.setattr(kernels, "LANDMARKS", 20)
    read, longest = FineTuned.read, []
    with monkeypatch.context() as kept:
        made = lambda self, rows, layers: longest.append(rows.stop - rows.start) or read(self, rows, layers)  # noqa: E731
        kept.setattr(FineTuned, "read", made)
        kept.setattr("hf_infodist.coding.adapted.MOST_TILE", 10)
        kept.setattr("hf_infodist.coding.features._CHUNK", 10)
        found = predicted(learner, targets, ADAPTED[0], ends=(60, 66, END))
    assert max(longest) == 20 and len(longest) > 5
    monkeypatch.setattr("hf_infodist.coding.adapted.kernels.LANDMARKS", 20)
    whole = predicted(learner, targets, ADAPTED[0])
    assert np.allclose(found, whole, rtol=1e-6, atol=1e-8)
    monkeypatch.undo()
    assert not np.allclose(found, predicted(learner, targets, ADAPTED[0]), rtol=1e-6, atol=1e-8)


# In a run


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return pair_of(noise_images(K), tmp_path_factory.mktemp("store"))


def pair_of(images, home, labels=None):
    nets = [SmallNet(seed=seed, batchnorm=True, dtype=torch.float32) for seed in range(2)]
    names = (labels and "abcde", labels)
    models = [load_classifier(net, transform=transform, labels=own) for net, own in zip(nets, names, strict=True)]
    return prepare_pair(*models, images, execution=Execution(home=home))


def coded(pair, protocol=ALONE, **options):
    return train_codelength(pair, "b_given_a", protocol, **options)


@pytest.fixture(scope="module")
def alone(pair):
    return coded(pair)


@pytest.fixture(scope="module")
def thorough(pair):
    return coded(pair, THOROUGH)


def with_other_targets(pair, first):
    """Return the pair with a teacher that says something else from an image on."""
    logits = np.array(pair.outputs_b.logits)
    logits[first:] = logits[first:, ::-1] + 1
    outputs = {pair.a: pair.outputs_a, pair.b: replace(pair.outputs_b, logits=logits)}
    return Pair(pair.a, pair.b, pair.images, outputs.__getitem__)


def spliced(outputs, other, first):
    """Return outputs that are others from an image on, and so are the images."""
    pixels = replace(outputs.pixels, values=np.r_[outputs.pixels.values[:first], other.pixels.values[first:]])
    names = ("logits", "features", "values")
    arrays = {name: np.r_[getattr(outputs, name)[:first], getattr(other, name)[first:]] for name in names}
    return replace(outputs, pixels=pixels, **arrays)


@pytest.mark.parametrize("first", [60, *(pytest.param(first, marks=pytest.mark.slow) for first in (48, 72))])
def test_what_a_teacher_says_later_changes_no_earlier_price(pair, thorough, first):
    """Nor what it says of later images of the same block."""
    before, after = thorough.image_nats, coded(with_other_targets(pair, first), THOROUGH).image_nats
    assert np.allclose(before[:first], after[:first], rtol=1e-12, atol=0)
    assert not np.isclose(before[first:], after[first:]).any()


def test_what_is_seen_in_later_blocks_changes_no_earlier_price(pair, alone, tmp_path):
    other = pair_of(noise_images(K, seed=1), tmp_path)
    outputs = {pair.a: spliced(pair.outputs_a, other.outputs_a, 72), pair.b: pair.outputs_b}
    changed = Pair(pair.a, pair.b, pair.images, outputs.__getitem__)
    before, after = alone.image_nats, coded(changed).image_nats
    assert np.array_equal(before[:72], after[:72]) and not np.isclose(before[72:], after[72:]).any()


def test_they_follow_what_has_cost_least_over_the_last_half(pair, monkeypatch):
    follow, seen = AdaptedKernel.follow, []

    def followed(self, learner, start, end, priced):
        seen.append((learner.name, start))
        follow(self, learner, start, end, priced)

    runs, init = [], Coding.__init__
    monkeypatch.setattr(AdaptedKernel, "follow", followed)
    monkeypatch.setattr(
        Coding, "__init__", lambda run, *args, **options: runs.append(run) or init(run, *args, **options)
    )
    coded(pair)
    (run,), names = runs, [spec.name for spec in TUNED[1:]]
    for name, start in seen:
        costs = run.learner_nats[: len(names), start // 2 : start].sum(1)
        assert name == names[int(costs.argmin())]
    assert len({name for name, _ in seen}) == 2  # the best of them changes


def test_they_take_part_and_cost_no_gradients(pair, thorough):
    code, plain = thorough, coded(pair, older(THOROUGH))
    records = {record.name: record for record in code.learners}
    assert code.gradient_images == plain.gradient_images and code.nats != plain.nats
    for spec in ADAPTED:
        assert records[spec.name].images == K and records[spec.name].gradient_images == 0
        assert 0 < records[spec.name].weight < 1 and records[spec.name].nats < records["static"].nats
    assert sum(record.weight for record in code.learners) == pytest.approx(1)


def test_only_where_the_best_learner_is_features_are_read_and_the_bits_are_the_same(pair, alone, monkeypatch):
    read, passes = FineTuned.read, []
    monkeypatch.setattr(FineTuned, "read", lambda self, rows, layers: passes.append(rows) or read(self, rows, layers))
    for code in in_threads(2, lambda team: coded(pair, team=team)):
        assert np.array_equal(code.image_nats, alone.image_nats) and code.learners == alone.learners
    assert passes == [slice(0, end) for _, end in ALONE.blocks(K)][1:]  # once each, from the first step on


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1), (1, 2)])
def test_a_run_cut_off_ends_with_the_same_bits(pair, alone, tmp_path, monkeypatch, before, after):
    class Cut(Exception):
        pass

    def begin(team):
        def on_block(images, nats):
            if images >= 48:
                raise Cut

        with pytest.raises(Cut):
            coded(pair, team=team, checkpoints=Checkpoints(tmp_path / "run", "key", team), on_block=on_block)

    def go_on(team):
        return coded(pair, team=team, checkpoints=Checkpoints(tmp_path / "run", "key", team), on_block=priced.append)

    class Priced(list):
        def append(self, images, nats):
            super().append(images)

    priced = Priced()
    monkeypatch.setattr("hf_infodist.coding.checkpoints._LEAST_SECONDS", 0.0)
    monkeypatch.setattr("hf_infodist.coding.checkpoints._SHARE", 0.0)
    run = [lambda work: [work(ProcessTeam())], lambda work: in_threads(2, work)]
    run[before - 1](begin)
    resumed, *_ = run[after - 1](go_on)
    assert min(priced) > 48
    assert np.array_equal(resumed.image_nats, alone.image_nats) and resumed.learners == alone.learners


def test_orders_read_the_images_in_their_order(pair, alone):
    """As if they had come so."""
    rows = np.random.default_rng([ALONE.seed + 1, 3]).permutation(K)
    other = {model: outputs.reordered(rows) for model, outputs in ((pair.a, pair.outputs_a), (pair.b, pair.outputs_b))}
    so = coded(Pair(pair.a, pair.b, pair.images, other.__getitem__), replace(ALONE, seed=1)).image_nats
    assert np.array_equal(coded(pair, order=1).image_nats, so)
    assert not np.isclose(so[48:], alone.image_nats[48:]).any()


@pytest.mark.slow
def test_classes_of_other_names_and_number_are_learnt(tmp_path):
    """The student's head is found to be in another order, or is a new one."""
    code = coded(pair_of(noise_images(K), tmp_path, labels="vwxyz"), THOROUGH)
    nats = {record.name: record.nats for record in code.learners}
    assert nats["adapted-all-flat"] < nats["uniform"]


@pytest.mark.slow
def test_a_network_without_a_head_gets_one_whose_input_is_read(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_for_hf(timm.create_model("test_vit", num_classes=0), tmp_path / "model")
    student = load_classifier(str(tmp_path / "model"), headless=True)
    teacher = load_classifier(SmallNet(seed=1), transform=transform)
    protocol = replace(ALONE, learners=(TUNED[1], replace(ADAPTED[0], features="penultimate")))
    code = coded(prepare_pair(student, teacher, noise_images(48)), protocol)
    assert code.image_nats[16:].sum() < code.static_nats
    heads = [name for name, module in student.student(5, None).named_modules() if isinstance(module, torch.nn.Linear)]
    assert heads[-1:] == list(student.student_heads)


@pytest.mark.slow
def test_processes_code_what_one_codes_to_the_bit():
    def curve(*words):
        command = [sys.executable, "-m", "hf_infodist.cli", "compare", "demo:cnn", "demo:vit", "-i", "digits"]
        done = subprocess.run([*command, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["b_given_a"]["curve"]

    words = ("-k", "150", "-p", "thorough", "--json", "--fresh")
    assert curve(*words) == curve(*words, "--workers", "2") == curve(*words, "--workers", "4")


# Versions and costs


def test_only_what_has_changed_has_another_version():
    versions = {name: protocol.coding for name, protocol in PROTOCOLS.items()}
    assert versions.pop("standard") == versions.pop("thorough") == CODING_VERSION == 4
    assert set(versions.values()) == {2} == {protocol.coding for protocol in LABEL_PROTOCOLS.values()}
    assert replace(THOROUGH, learners=TUNED).coding == 2 and replace(THOROUGH, learners=TUNED + ADAPTED).coding == 3


def older(protocol):
    """Return a preset as version 2 had it."""
    kept = (spec for spec in protocol.learners if spec.kind != "adapted" and spec.start != "nothing")
    return replace(protocol, learners=tuple(kept))


def test_numbers_of_the_older_learners_count_as_older_and_are_computed_again(pair, store, capsys):
    images, before = noise_images(48), older(THOROUGH)
    old = codelength(pair.b, pair.a, images, protocol=before)
    (record,) = Store().records()
    assert record.coding == 2 and not record.current and "version 2, not comparable" in str(record)
    assert replace(record, protocol=replace(before, name="before")).current
    new = codelength(pair.b, pair.a, images, protocol="thorough")
    records = sorted(Store().records(), key=lambda record: record.coding)
    assert new.nats != old.nats and [(one.coding, one.current) for one in records] == [(2, False), (4, True)]
    assert records[0].codelength.nats == old.nats  # kept where it was
    again = CodelengthRecord.from_dict(records[1].to_dict())
    assert again.current and again.coding == 4


def test_the_version_is_in_the_key(monkeypatch):
    keys = [codelength_key_of(["a", "b"], ("xy", "xy"), THOROUGH, "cpu")]
    monkeypatch.setattr(CodingProtocol, "coding", property(lambda protocol: 5))
    assert codelength_key_of(["a", "b"], ("xy", "xy"), THOROUGH, "cpu") not in keys


@pytest.mark.parametrize(
    ("learners", "why"),
    [((LearnerSpec("static"), *ADAPTED), "fine-tuned"), ((*TUNED, replace(ADAPTED[0], start="permuted")), "begin")],
)
def test_what_cannot_be_read_is_refused(learners, why):
    with pytest.raises(ValueError, match="learners is not usable") as error:
        CodingProtocol("test", learners)
    assert why in error.value.why


def test_costs_count_every_time_that_features_are_read():
    flops = [closed_form_flops(2000, 10, 5000, protocol) for protocol in (older(THOROUGH), THOROUGH)]
    ends = [end for _, end in THOROUGH.blocks(2000)]
    pairs_compared = sum(end**2 for end in ends)
    assert flops[1] - flops[0] >= 2 * 5000 * pairs_compared + sum(end**3 for end in ends) // 3
    assert coding_bytes(10**5, 10, THOROUGH) - coding_bytes(10**4, 10, THOROUGH) < 50e6
